"""What became of every record: the inputs, and the shapes that no rule takes."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analyzer.accounting.releases import COLUMNS as RELEASE
from analyzer.accounting.secrets import HELD
from analyzer.accounting.shapes import skeleton
from analyzer.events.targets import LIBRARY, stem
from analyzer.grammar.types import TIMESTAMP
from analyzer.tables.declare import Column, Table

#: so many loggers and shapes of one input are told apart; no release has a tenth of them
MOST_LOGGERS, MOST_SHAPES = 1_000, 5_000
#: what all others are counted as
FURTHER = "keeper_pam_webrtc_rs.\N{HORIZONTAL ELLIPSIS}"

SOURCES = Table(
    "sources",
    row="One input.",
    columns=(
        Column("name", pl.String(), "Name relative to what was given."),
        Column(
            "identity",
            pl.String(),
            "SHA-256 of the decompressed bytes; `unread:` and the name, where it could not be read at all, or broke off and another source has what was read.",
        ),
        Column("dialect", pl.String(), "Layout of its lines, framings from the outside in."),
        Column("dialect_votes", pl.String(), "Lines each candidate dialect would read as records, best first."),
        Column(
            "header",
            pl.String(),
            "What keeps a text inside a message from passing for a record: `framed`, it cannot (JSON); `timed`, it needs a"
            " line break, a time and a logger's name; `untimed`, a line break and a logger's name. Null without records.",
        ),
        Column("resolution_ms", pl.Float64(), "What one unit of its times is worth; null without times.", unit="ms"),
        Column("zone", pl.String(), "Zone that its times were read in where they name none; null without times."),
        Column("levels", pl.List(pl.String()), "Levels seen among the library's own records."),
        *RELEASE,
        Column("bytes", pl.Int64(), "Decompressed size, up to the last line end of what may still grow.", unit="By"),
        Column(
            "pending_bytes",
            pl.Int64(),
            "Bytes behind the last line end: a line begun, which waits for its end.",
            unit="By",
        ),
        Column("lines", pl.Int64(), "Physical lines.", unit="{line}"),
        Column("records", pl.Int64(), "events + noise + unmatched + rejected.", unit="{record}"),
        Column("events", pl.Int64(), "Records a rule took.", unit="{record}"),
        Column(
            "duplicates",
            pl.Int64(),
            "Those of its events that another line had told before, of the same log or of a copy of it: they stand in"
            " `events`, and count once everywhere else. Null: an older version did not look.",
            unit="{record}",
        ),
        Column("noise", pl.Int64(), "Known to inform nothing, or of another program.", unit="{record}"),
        Column("unmatched", pl.Int64(), "Of the library's own targets, and no rule takes them.", unit="{record}"),
        Column(
            "rejected",
            pl.Int64(),
            "Lines that belong to no record, and records that name no logger; `refusals` has them.",
            unit="{record}",
        ),
        Column("cut_lines", pl.Int64(), "Lines longer than the limit, cut there.", unit="{line}"),
        Column(
            "secrets", pl.List(HELD),
            "Kinds of secrets in it, with the records that hold one and the line of the first; `analyzer redact` takes them out. Null: an older version did not look."
        ),
        Column("problem", pl.String(), "Why reading broke off or never began; what came before it is in the tables."),
        Column("first_ts", TIMESTAMP, "First time seen."),
        Column("last_ts", TIMESTAMP, "Last time seen."),
    ),
    sort=("name",),
)  # fmt: skip

UNMATCHED = Table(
    "unmatched",
    row="One shape of record of the library's own targets that no rule takes.",
    columns=(
        Column("target", pl.String(), "Logger."),
        Column(
            "skeleton",
            pl.String(),
            f"The message with every value masked; `{FURTHER}`, as its logger, stands for all beyond {MOST_SHAPES:,} of an input.",
        ),
        Column("count", pl.Int64(), "Records of this shape.", unit="{record}"),
        Column("origin", pl.String(), "`source:line` of the first."),
    ),
    sort=("target", "skeleton"),
)
COVERAGE = Table(
    "coverage",
    row="One logger in one input.",
    columns=(
        Column("source", pl.String(), "Name of the input, as in `sources`."),
        Column(
            "target",
            pl.String(),
            "Logger of the library or of its WebRTC crates; null stands for all other programs,"
            f" `{FURTHER}` for all loggers of an input beyond the {MOST_LOGGERS:,} of the shortest names.",
        ),
        Column("records", pl.Int64(), "events + noise + unmatched.", unit="{record}"),
        Column("events", pl.Int64(), "Records a rule took.", unit="{record}"),
        Column("noise", pl.Int64(), "Known to inform nothing, or of another program.", unit="{record}"),
        Column("unmatched", pl.Int64(), "No rule takes them.", unit="{record}"),
    ),
    # two inputs may share a name
    sort=("source", "target", "records", "events", "noise"),
)
_OWN = pl.col("target").str.starts_with(LIBRARY)


def _within(rows: pl.DataFrame, most: int, by: Sequence[str], *names: str) -> pl.DataFrame:
    """Rows whose `names` are `FURTHER` where more than `most` are told apart by them; nothing is added up yet.

    Which these are depends on the names alone, the longest: so counts add up to the same in any order.
    """
    further = pl.any_horizontal(pl.col(name) == FURTHER for name in names).fill_null(False)
    order = [key for name in names for key in (pl.col(name).str.len_bytes(), pl.col(name))]
    place = pl.int_range(pl.len())
    told_apart = (place.over(by) if by else place) < most
    kept = pl.when(told_apart).then(pl.col(names)).otherwise(pl.lit(FURTHER))
    return rows.sort(further, *order, nulls_last=False).with_columns(kept)


def shapes(fates: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Shapes of the unmatched records of a batch, with their counts and first line; mergeable."""
    lost = fates.filter(pl.col("fate") == "unmatched")
    # most batches have none, and the patterns of shapes are many to compile for nothing
    shape = skeleton(pl.col("message")) if len(lost) else pl.lit(None, pl.String)
    told = lost.select(*by, "target", "line", skeleton=shape, count=pl.lit(1, pl.Int64))
    return _own_memory(added_shapes(told, *by))


def added_shapes(counted: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Add up shapes, by some columns, the target and the shape itself."""

    def summed(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by(*by, "target", "skeleton").agg(pl.col("count").sum(), pl.col("line").min())

    told = summed(counted)
    return told if len(told) <= MOST_SHAPES else summed(_within(told, MOST_SHAPES, by, "target", "skeleton"))


def _own_memory(counted: pl.DataFrame) -> pl.DataFrame:
    """The same few rows by themselves: texts picked out of a batch are views that keep all of the batch alive."""
    return pl.DataFrame(counted.rows(), schema=counted.schema, orient="row")


def merge_shapes(parts: pl.DataFrame) -> pl.DataFrame:
    """Merge the shapes of all batches into the table."""
    first = pl.struct("source", "line").sort_by("source", "line").first()
    merged = parts.group_by("target", "skeleton").agg(pl.col("count").sum(), first=first)
    origin = pl.format("{}:{}", pl.col("first").struct.field("source"), pl.col("first").struct.field("line"))
    return UNMATCHED.conform(merged.select("target", "skeleton", "count", origin=origin))


FATES = {"events": "event", "noise": "noise", "unmatched": "unmatched", "rejected": "rejected"}


def alike(records: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Count records that share some columns and their level: those, `records`, `first_ts`, `last_ts`."""
    times = {"first_ts": pl.col("ts").min(), "last_ts": pl.col("ts").max()}
    return records.group_by(*by, "level").agg(records=pl.len().cast(pl.Int64), **times)


def tally(records: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Count what became of the records of each target of a batch, which come from `alike`; mergeable.

    Targets of other programs are one, and null like that of rejected lines.
    """
    count = pl.col("records")
    counted = records.group_by(*by, "target").agg(
        count.sum(),
        pl.col("first_ts").min(),
        pl.col("last_ts").max(),
        **{name: count.filter(pl.col("fate") == fate).sum() for name, fate in FATES.items()},
        levels=pl.col("level").filter(_OWN).unique(),
    )
    named = counted["target"].unique().drop_nulls()
    foreign = [target for target in named if stem(target) is None]
    merged = added(counted.with_columns(pl.col("target").replace(foreign, [None] * len(foreign))), *by, "target")
    return _own_memory(merged)


def added(counted: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Add up what was counted, by some of its columns; the `target` is the last one."""

    def summed(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by(by).agg(
            pl.col("records", *FATES).sum(),
            pl.col("first_ts").min(),
            pl.col("last_ts").max(),
            levels=pl.col("levels").explode(empty_as_null=True).drop_nulls().unique().sort(),
        )

    told = summed(counted)
    if by[-1] != "target" or len(told) <= MOST_LOGGERS:
        return told
    return summed(_within(told, MOST_LOGGERS, by[:-1], "target"))


def merge_tallies(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Merge the tallies of several batches, one row per source."""
    return added(pl.concat(parts), "source")


def merge_coverage(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Merge the tallies of several batches, one row per source and target; rejected lines are no records of any."""
    found = added(pl.concat(parts), "source", "target").with_columns(records=pl.col("records") - pl.col("rejected"))
    return COVERAGE.conform(found.filter(pl.col("records") > 0).select(COVERAGE.schema.names()))
