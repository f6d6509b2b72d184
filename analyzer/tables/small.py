"""Rows of a table on their way into its file: kept small, put in order, and laid aside where they are many.

A word that stands in a million rows is one word. Rows beyond `HELD_ROWS` are laid aside in runs, each in order, and
merged by ranges of conversations when the table is written; so no table is ever in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analyzer.tables.declare import Table

#: rows of one table that are kept in memory until they are laid aside, and rows that are merged at a time
HELD_ROWS = 40_000
MERGED_ROWS = 100_000
#: what is different in nearly every row
_UNALIKE = ("origin", "address")
#: first of what sorts a table
_KEY = "conversation_id"


def coded(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their words as codes; `Table.spelled` is the way back."""
    alike = [name for name, dtype in frame.schema.items() if dtype == pl.String and not name.endswith(_UNALIKE)]
    return frame.with_columns(pl.col(alike).cast(pl.Categorical))


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
        """Rows of some conversations that stand side by side among all."""
        mine = self.counts.join(wanted, on=_KEY, how="semi", maintain_order="left")
        if mine.is_empty():
            return pl.read_parquet(self.path, n_rows=0)
        first, last = mine["at"][0], mine["at"][-1] + mine["rows"][-1]
        found = pl.scan_parquet(self.path).slice(first, last - first).collect()
        return found.join(mine, on=_KEY, how="semi", maintain_order="left")


def _run(path: Path, kept: pl.Series | None = None) -> _Run:
    key = pl.read_parquet(path, columns=[_KEY]).with_columns(pl.col(_KEY).cast(pl.String))
    counts = key.group_by(_KEY, maintain_order=True).agg(rows=pl.len().cast(pl.Int64))
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
        if sum(map(len, self._held)) >= HELD_ROWS:
            path = self.folder / f"{self.table.name}-{len(self._runs)}.run"
            ordered = self.table.spelled(in_order(self.table, self._held))
            ordered.write_parquet(path, compression="lz4", statistics=False, row_group_size=HELD_ROWS // 8)
            self._runs.append(path)
            self._held.clear()

    def in_order(self, old: Path | None = None, kept: pl.Series | None = None) -> Iterator[pl.DataFrame]:
        """All rows in the order of the table, with those of `kept` conversations of `old`, in bounded frames."""
        before = [] if old is None or kept is None or kept.is_empty() else [_run(old, kept)]
        if not self._runs and sum(run.counts["rows"].sum() for run in before) < HELD_ROWS:
            alike = self._held if not before else [coded(self.table.spelled(rows)) for rows in self._held]
            yield in_order(self.table, [*alike, *(coded(run.rows(run.counts)) for run in before)])
            return
        runs = [*before, *map(_run, self._runs)]
        held = in_order(self.table, self._held)
        own = held.group_by(pl.col(_KEY).cast(pl.String), maintain_order=True).agg(rows=pl.len().cast(pl.Int64))
        counts = pl.concat([run.counts.select(_KEY, "rows") for run in runs] + [own])
        ranges = (
            counts.group_by(_KEY)
            .agg(pl.col("rows").sum())
            .sort(_KEY)
            .with_columns(number=pl.col("rows").cum_sum() // MERGED_ROWS)
        )
        for wanted in ranges.partition_by("number", maintain_order=True):
            mine = held.filter(pl.col(_KEY).cast(pl.String).is_in(wanted[_KEY].implode()))
            yield in_order(self.table, [coded(self.table.spelled(mine)), *(coded(run.rows(wanted)) for run in runs)])
