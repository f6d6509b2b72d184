"""Rows of a table on their way into its file: kept small, put in order, and laid aside where they are many.

A word that stands in a million rows is one word. Rows beyond `HELD_ROWS` are laid aside in runs, each in order, its
words still codes, and merged by ranges of conversations when the table is written; so no large table is ever in memory
as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analyzer.tables.declare import Table

#: rows of all tables that are kept in memory until some are laid aside, and rows that are merged at a time
HELD_ROWS = 250_000
MERGED_ROWS = 100_000
#: a run is read in groups of so many rows, of which a range of conversations is a part
RUN_GROUP_ROWS = 5_000
#: what is different in nearly every row
_UNALIKE = ("origin", "address")
#: first of what sorts a table
_KEY = "conversation_id"


def coded(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their words as codes; `Table.spelled` is the way back."""
    words = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    alike = [name for name in words if not name.endswith(_UNALIKE)]
    # what stays text is copied: a few texts would keep all those in memory that they once stood among
    own = [pl.col(name) + pl.lit("") for name in words if name.endswith(_UNALIKE)]
    return frame.with_columns(pl.col(alike).cast(pl.Categorical), *own)


def in_order(table: Table, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put coded parts of a table together, in its order."""
    if not parts:
        return coded(table.empty())
    # sorting a million rows by words would spell each of them out: the few different words are ranked instead
    rows = pl.concat(parts)

    def rank(name: str) -> pl.Series:
        if not isinstance(rows.schema[name], pl.Categorical):
            return rows[name]
        words = rows.select(pl.col(name).unique()).drop_nulls().sort(pl.col(name).cast(pl.String))
        ranks = words.with_row_index("rank")
        return rows.select(name).join(ranks, on=name, how="left", maintain_order="left")["rank"].alias(name)

    ranked = pl.DataFrame([rank(name) for name in table.sort])
    order = pl.arg_sort_by(table.order, nulls_last=True, maintain_order=True)
    return rows[ranked.select(order).to_series()]


@dataclass(frozen=True, slots=True)
class _Run:
    """A file of rows in order, and of the conversations in it that count: `rows`, how many, and `at`, from where on."""

    path: Path
    counts: pl.DataFrame

    def rows(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """Rows of some conversations that stand side by side among all, coded."""
        mine = self.counts.join(wanted, on=_KEY, how="semi", maintain_order="left")
        first, size = (mine["at"][0], mine["at"][-1] + mine["rows"][-1] - mine["at"][0]) if len(mine) else (0, 0)
        found = pl.scan_parquet(self.path).slice(first, size).collect()
        if mine["rows"].sum() < len(found):
            found = found.join(
                mine.select(pl.col(_KEY).cast(found.schema[_KEY])), on=_KEY, how="semi", maintain_order="left"
            )
        return coded(found)


def _counts(rows: pl.DataFrame) -> pl.DataFrame:
    """How many rows there are of each conversation, in their order."""
    counts = rows.group_by(_KEY, maintain_order=True).agg(rows=pl.len().cast(pl.Int64))
    return counts.with_columns(pl.col(_KEY).cast(pl.String))


def _run(path: Path, kept: pl.Series | None = None) -> _Run:
    counts = _counts(pl.read_parquet(path, columns=[_KEY]))
    counts = counts.with_columns(at=pl.col("rows").cum_sum() - pl.col("rows"))
    return _Run(path, counts if kept is None else counts.filter(pl.col(_KEY).is_in(kept.implode())))


@dataclass(slots=True)
class Rows:
    """All rows of one table as they come; `folder` takes what is laid aside."""

    table: Table
    folder: Path
    _held: list[pl.DataFrame] = field(default_factory=list)
    _runs: list[Path] = field(default_factory=list)

    def add(self, rows: pl.DataFrame) -> None:
        """Take some rows, coded."""
        self._held.append(rows)

    @property
    def held(self) -> int:
        """How many of its rows are in memory."""
        return sum(map(len, self._held))

    def lay_aside(self) -> None:
        """Put the rows that are in memory into a run."""
        path = self.folder / f"{self.table.name}-{len(self._runs)}.run"
        ordered = in_order(self.table, self._held)
        self._held.clear()
        ordered.write_parquet(path, compression="lz4", statistics=False, row_group_size=RUN_GROUP_ROWS)
        self._runs.append(path)

    def in_order(self, old: Path | None = None, kept: pl.Series | None = None) -> Iterator[pl.DataFrame]:
        """All rows in the order of the table, with those of `kept` conversations of `old`, in bounded frames."""
        before = [] if old is None or kept is None or kept.is_empty() else [_run(old, kept)]
        if not self._runs and sum(run.counts["rows"].sum() for run in before) < HELD_ROWS:
            alike = self._held if not before else [coded(self.table.spelled(rows)) for rows in self._held]
            yield in_order(self.table, [*alike, *(run.rows(run.counts) for run in before)])
            return
        laid = [_run(path) for path in self._runs]
        held = [in_order(self.table, self._held)] if self._held else []
        self._held.clear()
        counts = pl.concat([*(run.counts.select(_KEY, "rows") for run in (*before, *laid)), *map(_counts, held)])
        ranges = (
            counts.group_by(_KEY)
            .agg(pl.col("rows").sum())
            .sort(_KEY)
            .with_columns(number=pl.col("rows").cum_sum() // MERGED_ROWS)
        )
        for wanted in ranges.partition_by("number", maintain_order=True):
            keys = wanted.select(pl.col(_KEY).cast(pl.Categorical))
            mine = [rows.join(keys, on=_KEY, how="semi", maintain_order="left") for rows in held]
            own = [*mine, *(run.rows(wanted) for run in laid)]
            # what the dataset has is spelled in another way
            alike = own if not before else [coded(self.table.spelled(rows)) for rows in own]
            yield in_order(self.table, [*alike, *(run.rows(wanted) for run in before)])


def lay_aside(tables: Collection[Rows]) -> None:
    """Lay the rows of the largest tables aside, until those that stay are few enough to be kept."""
    while sum(rows.held for rows in tables) >= HELD_ROWS:
        max(tables, key=lambda rows: rows.held).lay_aside()
