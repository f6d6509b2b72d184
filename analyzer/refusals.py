"""What was not read of an input, and why: a closed set of reasons, and rows that stay few however much is refused.

In: pieces that were refused, in the order of their input. Out: a row per run of neighbouring lines of one reason, never
a word of the log. The lines of an input are accounted for here as well: what the reader gave is what records took.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

#: every reason, and what it means
REASONS: dict[str, str] = {
    "no_header": "Lines that begin no record and continue none.",
    "no_logger": "Records that name no logger.",
    "other_layout": "Lines that look like records of another layout, taken into the message before them.",
    "line_too_long": "The end of a line of more than 1 MiB.",
    "record_too_long": "The end of a record whose continuation lines make it longer than 1 MiB.",
    "name_too_long": "The end of a logger's or a level's name of more than 128 characters.",
    "id_too_long": "An id of more than 128 characters; the event is without it.",
    "candidate_too_long": "A candidate of more than 1 KiB; the event is without it.",
    "value_too_long": "A number of more than 64 characters, another value of more than 1 KiB; the event is without it.",
    "too_many_candidates": "What a session description has beyond its first 256 candidates.",
    "too_many_events": "Events of conversations that have too many, the last ones: in `events` alone.",
    "too_many_values": "Values of conversations that have too many, between others: in `events`, not in `samples`.",
    "damaged_archive": "What stands behind the place where an archive is damaged or cut off.",
    "archive_too_large": "What an archive holds beyond 4 GiB.",
    "archive_ratio": "What an archive holds beyond 64 MiB, where it makes more than 200 bytes of one.",
    "window_too_large": "What an archive holds that needs more than 128 MiB of memory to be decompressed.",
    "read_error": "What stands behind the place where the system could not read on.",
    "permission_denied": "The input: its owner does not let it be read.",
    "vanished": "The input: it was gone when it should have been read.",
    "not_followed": "The input: a symbolic link in a folder.",
    "dataset": "The input: a folder that is a dataset of this program.",
    "symlink_loop": "The input: a symbolic link that leads back to itself or to a folder above it.",
    "archive_of_files": "The input: an archive of several files, or not packed by gzip or zstd: unpack it first.",
    "not_regular": "The input: a pipe, a socket or a device.",
}


def why_unread(reason: str) -> str:
    """Why an input was not read at all, in words."""
    return REASONS[reason].removeprefix("The input: ").rstrip(".")


#: of one reason an input has no more rows; the last of them takes all further lines
MOST_ROWS = 1000
#: a row: reason, line, last_line, offset, lines, bytes, records
Row: TypeAlias = dict[str, str | int | None]


@dataclass(slots=True)
class Refusals:
    """The refusals of one input, and how much of it records have taken: lines, bytes (see `lines.Tally`), records."""

    rows: list[Row] = field(default_factory=list)
    lines: int = 0
    bytes: int = 0
    records: int = 0
    #: of each reason how many rows there are, and the last of them
    _latest: dict[str, tuple[int, Row]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            reason = str(row["reason"])
            self._latest[reason] = self._latest.get(reason, (0, row))[0] + 1, row

    def add(self, reason: str, records: pl.DataFrame) -> None:
        """Refuse whole records (`line`, `lines`, `offset`, `size`), in the order of the input."""
        if records.is_empty():
            return
        line, ends = pl.col("line"), pl.col("line") + pl.col("lines")
        # a run goes on where the next line is refused, too
        broken = (line != ends.shift(1)).fill_null(True)
        runs = records.group_by(run=broken.cum_sum(), maintain_order=True).agg(
            line=line.first(),
            last_line=ends.last() - 1,
            offset=pl.col("offset").first(),
            lines=pl.col("lines").sum(),
            bytes=pl.col("size").sum(),
            records=pl.len().cast(pl.Int64),
        )
        for row in runs.drop("run").iter_rows(named=True):
            self._append({"reason": reason, **row})

    def note(self, reason: str, lines: pl.DataFrame) -> None:
        """Refuse to take lines (`line`, `offset`) for what they look like, in the order of the input; none is lost."""
        if lines.is_empty():
            return
        line = pl.col("line")
        run = (line != line.shift(1) + 1).fill_null(True).cum_sum()
        ends = (line.first(), line.last().alias("last_line"), pl.col("offset").first())
        for row in lines.group_by(run=run, maintain_order=True).agg(ends).drop("run").iter_rows(named=True):
            self._append({"reason": reason, **row, "lines": 0, "bytes": None, "records": 0})

    def tell(self, reason: str, *, line: int | None = None, offset: int | None = None, size: int | None = None) -> None:
        """Refuse what is not whole records: the end of something, a value, or all of the input."""
        place: Row = {"line": line, "last_line": line, "offset": offset}
        self._append({"reason": reason, **place, "lines": 0, "bytes": size, "records": 0})

    def _append(self, row: Row) -> None:
        reason = str(row["reason"])
        count, before = self._latest.get(reason, (0, row))
        if count and (_follows(row, before) or count == MOST_ROWS):
            before["last_line"] = row["last_line"]
            before |= {name: _sum(before[name], row[name]) for name in ("lines", "bytes", "records")}
        else:
            self.rows.append(row)
            self._latest[reason] = count + 1, row

    @property
    def rejected(self) -> int:
        """Records among what was refused."""
        return sum(one["records"] for one in self.rows if isinstance(one["records"], int))


def _follows(row: Row, before: Row) -> bool:
    line, last = row["line"], before["last_line"]
    return bool(row["lines"]) and isinstance(line, int) and isinstance(last, int) and line == last + 1


def _sum(one: str | int | None, other: str | int | None) -> int | None:
    return one + other if isinstance(one, int) and isinstance(other, int) else None
