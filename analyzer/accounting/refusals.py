"""What was refused of the inputs, and the law that nothing else is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from analyzer.refusals import REASONS, Refusals, Row
from analyzer.tables.declare import Column, Table

REFUSALS = Table(
    "refusals",
    row="One piece of an input that was not taken as it stands: a run of neighbouring lines, the end of something, or all.",
    columns=(
        Column("source", pl.String(), "Name of the input, as in `sources`."),
        Column("reason", pl.String(), f"{', '.join(REASONS)}."),
        Column("why", pl.String(), "The same as a sentence."),
        Column("line", pl.Int64(), "First physical line, from 1; null where it is no line's."),
        Column("last_line", pl.Int64(), "Last physical line. Of one reason a source has 1,000 rows; the last of them stands for all further lines, and has fewer `lines` than lie between."),
        Column("offset", pl.Int64(), "Where the first line, or what is missing, begins in the decompressed bytes; null where that is not known.", unit="By"),
        Column("lines", pl.Int64(), "Whole lines that were refused; of `too_many_events` and `too_many_values` the events.", unit="{line}"),
        Column("bytes", pl.Int64(), "Decompressed bytes that were refused; null where they are not counted.", unit="By"),
        Column("records", pl.Int64(), "Rejected records among them.", unit="{record}"),
    ),
    sort=("source", "line", "reason", "last_line", "offset"),
)  # fmt: skip


def refused(found: Iterable[tuple[str, Iterable[Row]]]) -> pl.DataFrame:
    """Build the table from the rows of each source, by its name."""
    rows = [{"source": source, **row, "why": REASONS[str(row["reason"])]} for source, some in found for row in some]
    return REFUSALS.conform(pl.DataFrame(rows, schema=REFUSALS.schema))


def unaccounted(row: Mapping[str, Any], refusals: Refusals, text_bytes: int) -> str | None:
    """Say what of a source (its row of `sources`) became of nothing; None where every record, line and byte did."""
    fates = sum(row[fate] for fate in ("events", "noise", "unmatched", "rejected"))
    sums = {
        "records that have a fate": (row["records"], fates),
        "records": (refusals.records, row["records"]),
        "rejected records": (row["rejected"], refusals.rejected),
        "lines": (row["lines"], refusals.lines),
        "bytes": (text_bytes, refusals.bytes),
    }
    return next((f"{what}: {one:,} and {other:,}" for what, (one, other) in sums.items() if one != other), None)
