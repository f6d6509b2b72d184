"""Stored events → what correlation and reductions read of them.

Correlation needs a few columns of all events, a reduction all columns of a few events. So the few columns are read
first (`outline`), each row knowing where it stands, and the rows of one batch of conversations later (`whole`): memory
grows with the number of events, by some ten bytes each, and not with what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from analyzer.addresses import tells_apart
from analyzer.catalogue import EVENTS
from analyzer.events.correlate import NEEDED, PLACE
from analyzer.events.meetings import ENDPOINTS
from analyzer.events.thin import READ, thin
from analyzer.reductions.facts import candidate_rows, sides
from analyzer.reductions.samples import COURSE


@dataclass(frozen=True, slots=True)
class Part:
    """One file of events: where it is, the identity of its source, and the log that is a part of."""

    path: Path
    identity: str
    scope: int


def outline(parts: Sequence[Part]) -> pl.DataFrame:
    """What correlation needs of all events, mere repetitions left out.

    Beside `NEEDED`: whether a row is `in_series` or `series_only`; `part`, a place in `parts`, and `at`, a row in its
    file. Texts are categorical: a word that stands in a million rows is one word.
    """
    columns = list(dict.fromkeys((*NEEDED, *READ, *(name for names in COURSE.values() for name in names))))
    types = EVENTS.schema
    none = pl.DataFrame(schema={name: types.get(name, pl.UInt32()) for name in NEEDED})
    place = {
        "part": pl.lit(0, pl.UInt32),
        "at": pl.lit(0, pl.UInt32),
        "series_only": pl.lit(False),
        "in_series": pl.lit(False),
    }
    frames = [none.with_columns(**place).clear()]
    for number, part in enumerate(parts):
        stored = pl.read_parquet(part.path, columns=[name for name in columns if name != "scope"])
        kept = thin(stored.with_columns(scope=pl.lit(part.scope, pl.UInt32)).with_row_index("at"), COURSE)
        in_series = pl.col("kind").is_in(list(COURSE))
        frames.append(kept.select(*NEEDED, "at", "series_only", in_series=in_series, part=pl.lit(number, pl.UInt32)))
    return pl.concat(
        [frame.select(*NEEDED, *place).with_columns(pl.col(pl.String).cast(pl.Categorical)) for frame in frames]
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


def endpoints(parts: Sequence[Part], wanted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candidates and sides of the tubes of some events of the outline, a part at a time.

    Out: `ENDPOINTS`, and `tube_id`, `side`.
    """
    found, told = [pl.DataFrame(schema=ENDPOINTS)], [pl.DataFrame(schema={"tube_id": pl.String, "side": pl.String})]
    for (number,), rows in wanted.partition_by("part", as_dict=True, maintain_order=True).items():
        part, first, last = parts[number], rows["at"][0], rows["at"][-1]
        stored = pl.scan_parquet(part.path).select(_TELLING).slice(first, last - first + 1).collect()
        placed = rows.select("seq", pl.col("tube_id").cast(pl.String), "generation", conversation_id=pl.lit(None))
        events = pl.concat([stored[rows["at"] - first], placed], how="horizontal")
        # an address of which a class or a network is left is no evidence of who was met
        known = pl.col("address").is_not_null() & (
            tells_apart(pl.col("address")) | (pl.col("candidate_type") == "relay").fill_null(False)
        )
        candidates = candidate_rows(events).filter(known, pl.col("port") > 0)
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
        told.append(sides(events).drop_nulls("side").select("tube_id", "side"))
    # a hash of the same values is the same in every frame
    return pl.concat(found), pl.concat(told).unique("tube_id", keep="first", maintain_order=True)
