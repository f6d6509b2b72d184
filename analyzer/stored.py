"""Stored events → what correlation and reductions read of them.

Correlation needs a few columns of all events, a reduction all columns of a few events. So the few columns are read
first (`outline`), in chunks, each row knowing where it stands, and the rows of one batch of conversations later
(`whole`): memory grows neither with the number of events nor with what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from analyzer.addresses import tells_apart
from analyzer.catalogue import EVENTS
from analyzer.events.correlate import NEEDED, PLACE, Chunks, narrowed
from analyzer.events.links import Chunk
from analyzer.events.meetings import ENDPOINTS
from analyzer.events.thin import READ, thin
from analyzer.reductions.facts import candidate_rows, sides
from analyzer.reductions.samples import COURSE

#: events looked at together while they are correlated
CHUNK_EVENTS = 200_000
#: so many events are kept in memory between one reading and the next; more are laid aside
HELD_EVENTS = 400_000


@dataclass(frozen=True, slots=True)
class Part:
    """One file of events: where it is, what it says (`digest`), its rows, its source, and the log that is a part of."""

    path: Path
    digest: str
    rows: int
    identity: str
    scope: int


def _outline(number: int, part: Part) -> pl.DataFrame:
    """What correlation needs of the events of a part, mere repetitions left out.

    Beside `NEEDED`: whether a row is `in_series` or `series_only`; `part`, a place in the parts, and `at`, a row in its
    file.
    """
    columns = list(dict.fromkeys((*NEEDED, *READ, *(name for names in COURSE.values() for name in names))))
    return _narrow(
        pl.read_parquet(part.path, columns=[name for name in columns if name != "scope"]), number, part.scope
    )


def _narrow(stored: pl.DataFrame, number: int, scope: int) -> pl.DataFrame:
    kept = thin(stored.with_columns(scope=pl.lit(scope, pl.UInt32)).with_row_index("at"), COURSE)
    in_series = pl.col("kind").is_in(list(COURSE))
    return narrowed(kept.select(*NEEDED, "at", "series_only", in_series=in_series, part=pl.lit(number, pl.UInt32)))


def outline(parts: Sequence[Part]) -> Chunks:
    """Give what correlation needs of all events, in chunks; `parts` stand in the order in which they were written.

    There is at least one chunk, were it empty.
    """
    last = {part.scope: number for number, part in enumerate(parts)}

    def read() -> Iterator[Chunk]:
        waiting: list[pl.DataFrame] = []
        begun: set[int] = set()
        seq = 0
        if not parts:
            yield Chunk(_narrow(EVENTS.empty(), 0, 0).with_row_index("seq"), ())
        for number, part in enumerate(parts):
            waiting.append(_outline(number, part))
            begun.add(part.scope)
            if sum(map(len, waiting)) >= CHUNK_EVENTS or number == len(parts) - 1:
                events = pl.concat(waiting).with_row_index("seq", seq)
                seq += len(events)
                waiting = []
                begun = {scope for scope in begun if last[scope] > number}
                yield Chunk(events, sorted(begun))

    return read


def held(chunks: Chunks, parts: Sequence[Part], folder: Path, name: str) -> Chunks:
    """The same chunks, made only once: kept where they are few, else in files of `folder` that begin with `name`."""
    if sum(part.rows for part in parts) <= HELD_EVENTS:
        kept = list(chunks())
        return lambda: kept
    files: list[tuple[Path, Sequence[int]]] = []
    for number, chunk in enumerate(chunks()):
        path = folder / f"{name}-{number}.chunk"
        chunk.events.write_parquet(path, compression="lz4", statistics=False)
        files.append((path, chunk.goes_on))
    return lambda: (Chunk(pl.read_parquet(path), goes_on) for path, goes_on in files)


def contents(parts: Sequence[Part]) -> pl.DataFrame:
    """What each part of the events is, by its number: `part`, `digest`, and `log`, the first part of its scope.

    Rows that stood in a log of their own and now stand in the middle of one may mean something else.
    """
    first = {part.scope: part.digest for part in reversed(parts)}
    return pl.DataFrame(
        {
            "part": range(len(parts)),
            "digest": [int(part.digest[:16], 16) for part in parts],
            "log": [int(first[part.scope][:16], 16) for part in parts],
        },
        schema={"part": pl.UInt32, "digest": pl.UInt64, "log": pl.UInt64},
    )


def whole(parts: Sequence[Part], wanted: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Give some events of the outline `columns` of what is stored, in its order, with the place found for each."""
    kept = [name for name in columns if name not in PLACE]
    frames = [EVENTS.empty().select(kept)]
    for (number,), rows in wanted.partition_by("part", as_dict=True, maintain_order=True).items():
        part, first, last = parts[number], rows["at"][0], rows["at"][-1]
        stored = pl.scan_parquet(part.path).select(kept).slice(first, last - first + 1).collect()
        # two inputs may share a name, never their bytes
        frames.append(stored[rows["at"] - first].with_columns(source=pl.lit(part.identity)))
    return pl.concat(frames).with_columns(*wanted.select("seq", *PLACE), pl.col("kind").cast(pl.Categorical))


#: what of an event tells a candidate or a side
_TELLING = (
    "kind", "ts", "origin", "candidate", "sdp_candidates", "candidate_type", "address", "port", "transport", "priority",
    "direction", "is_server_mode", "signaling_state", "reported_side",
)  # fmt: skip
_IDENTITY = ("transport", "address", "port", "priority", "candidate_type")


def endpoints(
    parts: Sequence[Part], tubes: pl.DataFrame, chunks: Iterable[pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates and sides of some `tubes`, from the placed events of all, a part at a time.

    Out: `ENDPOINTS`, and `tube_id`, `side`.
    """
    found, told = [pl.DataFrame(schema=ENDPOINTS)], [pl.DataFrame(schema={"tube_id": pl.String, "side": pl.String})]
    # an address of which a class or a network is left is no evidence of who was met
    known = pl.col("address").is_not_null() & (
        tells_apart(pl.col("address")) | (pl.col("candidate_type") == "relay").fill_null(False)
    )
    for events in chunks:
        wanted = events.join(tubes, on="tube_id", how="semi", maintain_order="left")
        for (number,), rows in wanted.partition_by("part", as_dict=True, maintain_order=True).items():
            part, first, last = parts[number], rows["at"][0], rows["at"][-1]
            stored = pl.scan_parquet(part.path).select(_TELLING).slice(first, last - first + 1).collect()
            own = rows.select("seq", pl.col("tube_id").cast(pl.String), "generation", conversation_id=pl.lit(None))
            telling = pl.concat([stored[rows["at"] - first], own], how="horizontal")
            candidates = candidate_rows(telling).filter(known, pl.col("port") > 0)
            found.append(
                candidates.select(
                    "tube_id",
                    scope=pl.lit(part.scope, pl.UInt32),
                    local=pl.col("direction") == "local",
                    key=pl.struct(_IDENTITY).hash(),
                    endpoint=pl.struct("address", "port").hash(),
                    public=pl.col("address_class") == "public",
                    ts="ts",
                )
            )
            told.append(sides(telling).drop_nulls("side").select("tube_id", "side"))
    # a hash of the same values is the same in every frame
    return pl.concat(found), pl.concat(told).unique("tube_id", keep="first", maintain_order=True)
