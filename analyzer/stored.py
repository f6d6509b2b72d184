"""Stored events → what correlation and reductions read of them.

Correlation needs a few columns of all events, a reduction all columns of a few events. So the few columns are read
first (`outline`), in chunks, each row knowing where it stands, and the rows of one batch of conversations later
(`whole`): memory grows neither with the number of events nor with what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path

import polars as pl

from analyzer.addresses import tells_apart
from analyzer.catalogue import EVENTS
from analyzer.events.correlate import IDS, NEEDED, PLACE, Chunks, narrowed
from analyzer.events.duplicates import LOOKED_AT, Deliveries, Look, said
from analyzer.events.ids import NUMBER, numbered, worded
from analyzer.events.links import Chunk
from analyzer.events.meetings import ENDPOINTS
from analyzer.events.thin import READ, thin
from analyzer.parts import Part
from analyzer.reductions.facts import sides
from analyzer.reductions.samples import COURSE
from analyzer.reductions.seen_candidates import CANDIDATE_KINDS, candidate_rows
from analyzer.refusals import Row
from analyzer.tables import slices
from analyzer.tables.words import Words, spelled

#: events looked at together while they are correlated
CHUNK_EVENTS = 200_000
#: so many events are kept in memory between one reading and the next; more are laid aside
HELD_EVENTS = 400_000
#: of so many rows not all columns are read at once
FEW_ROWS = 150_000
COLUMNS_AT_ONCE = 8
#: parts are read together as long as they have no more rows, nor are more files
GROUP_ROWS = 5_000
GROUP_PARTS = 200


def _groups(parts: Sequence[Part], numbers: Iterable[int]) -> Iterator[Sequence[int]]:
    """Put small parts together, by their numbers: to read many at once takes a fraction of the time."""
    return slices.groups(numbers, lambda number: parts[number].rows, GROUP_ROWS, GROUP_PARTS)


def _read(parts: Sequence[Part], group: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Columns of all events of some parts, one part behind the other."""
    return slices.read([parts[number].place for number in group], columns)


def _scoped(parts: Sequence[Part], group: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Columns of all events of some parts, and the `scope` of each."""
    stored = _read(parts, group, columns)
    scopes = pl.DataFrame([(parts[number].scope, parts[number].rows) for number in group], orient="row")
    each = scopes.select(pl.col("column_0").cast(pl.UInt32).repeat_by("column_1").explode(empty_as_null=False))
    return stored.with_columns(each.to_series().alias("scope"))


def duplicates(parts: Sequence[Part]) -> dict[int, pl.Series]:
    """Tell which rows of parts, by number, say what another row said before: true for those; most parts have none."""
    look = Look()
    last = {part.scope: number for number, part in enumerate(parts)}
    for group in _groups(parts, range(len(parts))):
        goes_on = {parts[number].scope for number in group if last[parts[number].scope] > group[-1]}
        look.at(_scoped(parts, group, LOOKED_AT), goes_on)
    doubtful = look.found()
    if doubtful is None:
        return {}
    found: dict[int, pl.Series] = {}
    deliveries, scopes = Deliveries(doubtful), set(doubtful.scopes["scope"])
    asked = sorted((part.scope, number) for number, part in enumerate(parts) if part.scope in scopes)
    for group in _groups(parts, [number for _, number in asked]):
        again = deliveries.again(_scoped(parts, group, said()))
        ends = accumulate((parts[number].rows for number in group), initial=0)
        for number, begin in zip(group, ends, strict=False):
            rows = again.slice(begin, parts[number].rows)
            if rows.any():
                found[number] = rows
    return found


def _outline(parts: Sequence[Part], group: Sequence[int], left_out: Mapping[int, pl.Series]) -> pl.DataFrame:
    """What correlation needs of the events of some parts; what is `left_out`, and mere repetitions, are not among them.

    Beside `NEEDED`: whether a row is `in_series` or `series_only`, whether it names no tube but what a tube can be told
    by (`by_name`), how many `candidates` it tells of, its `part`, a place in the parts, and `at`, a row in its file.
    """
    series = (name for names in COURSE.values() for name in names)
    columns = list(dict.fromkeys((*NEEDED, *READ, "sdp_candidates", *series)))
    stored = _read(parts, group, [name for name in columns if name != "scope"])
    places = pl.DataFrame(
        [(number, parts[number].scope, parts[number].rows) for number in group],
        schema={"part": pl.UInt32, "scope": pl.UInt32, "rows": pl.UInt32},
        orient="row",
    )
    rows = places.with_columns(at=pl.int_ranges("rows", dtype=pl.get_index_type())).explode("at", empty_as_null=False)
    placed = pl.concat([stored, rows.drop("rows")], how="horizontal")
    if not left_out.keys().isdisjoint(group):
        none = pl.Series([False])
        gone = [left_out.get(number, none.new_from_index(0, parts[number].rows)) for number in group]
        placed = placed.filter(~pl.concat(gone))
    return _narrow(placed, *(("part",) if len(group) > 1 else ()))


def _narrow(placed: pl.DataFrame, *apart: str) -> pl.DataFrame:
    further = {
        "in_series": pl.col("kind").is_in(list(COURSE)),
        "by_name": pl.col("tube_id").is_null()
        & pl.any_horizontal(pl.col("conversation_id", "channel_label").is_not_null()),
        "candidates": pl.when(pl.col("kind").is_in(CANDIDATE_KINDS))
        .then(pl.col("sdp_candidates").list.len().fill_null(1))
        .otherwise(0)
        .cast(pl.UInt16),
    }
    return narrowed(thin(placed, COURSE, *apart).select(*NEEDED, "at", "series_only", "part", **further))


def outline(parts: Sequence[Part], words: Words, left_out: Mapping[int, pl.Series]) -> Chunks:
    """Give what correlation needs of all events, in chunks; `parts` stand in the order in which they were written.

    Those that are `left_out` (see `duplicates`) are not among them.
    There is at least one chunk, were it empty. The ids of its events go to `words`, and are numbers from there on.
    """
    last = {part.scope: number for number, part in enumerate(parts)}

    def read() -> Iterator[Chunk]:
        waiting: list[pl.DataFrame] = []
        begun: set[int] = set()
        seq = 0
        if not parts:
            place = {"part": pl.lit(0, pl.UInt32), "scope": pl.lit(0, pl.UInt32)}
            none = _narrow(EVENTS.empty().with_row_index("at").with_columns(**place)).with_row_index("seq")
            yield Chunk(none.with_columns(numbered(pl.col(IDS))), ())
        for group in _groups(parts, range(len(parts))):
            waiting.append(_outline(parts, group, left_out))
            begun |= {parts[number].scope for number in group}
            if sum(map(len, waiting)) >= CHUNK_EVENTS or group[-1] == len(parts) - 1:
                events = pl.concat(waiting).with_row_index("seq", seq)
                words.add(seq, worded(*events.select(IDS)))
                seq += len(events)
                waiting = []
                begun = {scope for scope in begun if last[scope] > group[-1]}
                yield Chunk(events.with_columns(numbered(pl.col(IDS))), sorted(begun))

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
    return lambda: (Chunk(pl.read_parquet(path, glob=False), goes_on) for path, goes_on in files)


def contents(parts: Sequence[Part]) -> pl.DataFrame:
    """What each part of the events is, by its number: `part`, `digest`, and `log`, the first part of its scope.

    Rows that stood in a log of their own and now stand in the middle of one may mean something else.
    """
    first = {part.scope: part.digest for part in reversed(parts)}
    return pl.DataFrame(
        {
            "part": range(len(parts)),
            "digest": [part.digest for part in parts],
            "log": [first[part.scope] for part in parts],
        },
        schema={"part": pl.UInt32, "digest": pl.UInt64, "log": pl.UInt64},
    )


def beyond(parts: Sequence[Part], left_out: pl.DataFrame) -> dict[str, list[Row]]:
    """Rows of `refusals` for what is left out of some parts (`together.added`), by the identity of their source."""
    found: dict[str, dict[str, Row]] = {}
    for number, reason, first, last, lines in left_out.rows():
        stored = slices.read([parts[number].place.some(first, last - first + 1)], ["line"])
        line, last_line = stored["line"].gather([0, last - first])
        told = found.setdefault(parts[number].identity, {})
        # parts stand in the order of their source
        begin, before = (told[reason]["line"], told[reason]["lines"]) if reason in told else (line, 0)
        place = {"line": begin, "last_line": last_line, "offset": None}
        told[reason] = {"reason": reason, **place, "lines": before + lines, "bytes": None, "records": 0}
    return {identity: list(told.values()) for identity, told in found.items()}


def _stored(parts: Sequence[Part], wanted: pl.DataFrame, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Columns of what is stored of some events of the outline, which stand in the order of the parts, in frames."""
    sizes = dict(wanted.group_by("part", maintain_order=True).agg(pl.len()).rows())
    taken = 0
    for group in _groups(parts, sizes):
        at = wanted["at"].slice(taken, sum(sizes[number] for number in group))
        taken += len(at)
        if len(group) == 1:
            yield slices.read([parts[group[0]].place.some(at[0], at[-1] - at[0] + 1)], columns)[at - at[0]]
            continue
        stored = _read(parts, group, columns)
        ends = accumulate((parts[number].rows for number in group), initial=0)
        begins = [begin for begin, number in zip(ends, group, strict=False) for _ in range(sizes[number])]
        yield stored[at + pl.Series(begins, dtype=at.dtype)]


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames as one without seams, a column after the other: each is taken out of them, so that none is held twice."""
    names = frames[0].columns
    return pl.DataFrame([pl.concat([some.drop_in_place(name) for some in frames], rechunk=True) for name in names])


def _spared(frame: pl.DataFrame) -> pl.DataFrame:
    """The same frame; a column that no row has a value in is one null: most kinds of events have few columns."""
    rows = len(frame)
    empty = [name for name, count in zip(frame.columns, frame.null_count().row(0), strict=True) if count == rows]
    return frame.with_columns(pl.lit(None, frame.schema[name]).alias(name) for name in empty) if rows else frame


def whole(parts: Sequence[Part], wanted: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Give some events of the outline `columns` of what is stored, in its order, with the place found for each.

    `source` is the identity of it; `name` is what it is called.
    """
    kept = [name for name in columns if name not in (*PLACE, "name")]
    # what rows are put together from takes as much memory as they do: of many, some columns are read at a time
    step = len(kept) if len(wanted) < FEW_ROWS else COLUMNS_AT_ONCE

    def some(names: Sequence[str]) -> pl.DataFrame:
        # of these there are few, however many rows: as words they take more memory than all else
        few = pl.col([name for name in names if name in ("kind", "location")]).cast(pl.Categorical)
        # one frame at a time: what is picked out of a part are views that keep all of its words in memory
        frames = chain([EVENTS.empty().select(names)], _stored(parts, wanted, names))
        # those in lists are not copied where they are put together
        lists = pl.col([name for name in names if EVENTS.schema[name] == pl.List(pl.String)])
        own = lists.list.eval(pl.element() + pl.lit(""))
        return _spared(_joined([frame.with_columns(few, own) for frame in frames]))

    found = pl.concat([some(kept[first : first + step]) for first in range(0, len(kept), step)], how="horizontal")
    # two inputs may share a name, never their bytes
    identities = pl.Series([part.identity for part in parts], dtype=pl.String)
    source = identities.gather(wanted["part"]).alias("source")
    named = [pl.col("source").cast(pl.Categorical).alias("name")] if "name" in columns else []
    return found.with_columns(source, *named, *wanted.select("seq", "by_name", *PLACE))


#: what of an event tells a candidate or a side
_TELLING = (
    "kind", "ts", "origin", "candidate", "sdp_candidates", "candidate_type", "address", "port", "transport", "priority",
    "direction", "is_server_mode", "signaling_state", "reported_side",
)  # fmt: skip
_IDENTITY = ("transport", "address", "port", "priority", "candidate_type")


def endpoints(
    parts: Sequence[Part], tubes: pl.DataFrame, chunks: Iterable[pl.DataFrame], words: Words
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates and sides of some `tubes`, from the placed events of all, a part at a time.

    Out: `ENDPOINTS`, and `tube_id`, `side`; ids are words.
    """
    found = [pl.DataFrame(schema={**ENDPOINTS, "tube_id": NUMBER})]
    told = [pl.DataFrame(schema={"tube_id": NUMBER, "side": pl.String})]
    # an address of which a class or a network is left is no evidence of who was met
    known = pl.col("address").is_not_null() & (
        tells_apart(pl.col("address")) | (pl.col("candidate_type") == "relay").fill_null(False)
    )
    scopes = pl.Series([part.scope for part in parts], dtype=pl.UInt32)
    # a tube is looked at in each part by itself
    part, tube = (
        pl.col("tube_id").str.splitn(":", 2).struct.field(f"field_{place}").cast(dtype)
        for place, dtype in enumerate((pl.UInt32(), NUMBER))
    )
    for events in chunks:
        wanted = events.join(tubes, on="tube_id", how="semi", maintain_order="left")
        in_part = pl.format("{}:{}", "part", "tube_id").alias("tube_id")
        taken = 0
        for stored in _stored(parts, wanted, _TELLING):
            rows = wanted.slice(taken, len(stored))
            taken += len(stored)
            own = rows.select("seq", in_part, "generation", conversation_id=pl.lit(None))
            telling = pl.concat([stored, own], how="horizontal")
            candidates = candidate_rows(telling).filter(known, pl.col("port") > 0)
            places = candidates.select(part=part)["part"]
            found.append(
                candidates.select(
                    scopes.gather(places).alias("scope"),
                    tube_id=tube,
                    local=pl.col("direction") == "local",
                    key=pl.struct(_IDENTITY).hash(),
                    endpoint=pl.struct("address", "port").hash(),
                    public=pl.col("address_class") == "public",
                    ts="ts",
                ).select(found[0].columns)
            )
            told.append(sides(telling).drop_nulls("side").sort(part).select(tube_id=tube, side="side"))
    # a hash of the same values is the same in every frame
    frames = pl.concat(found), pl.concat(told).unique("tube_id", keep="first", maintain_order=True)
    named = words.anywhere(*(frame["tube_id"] for frame in frames))
    ends, sided = (spelled(frame, named, "tube_id").cast({"tube_id": pl.String}) for frame in frames)
    return ends, sided
