"""Rows of a table on their way into its file: kept small, put in order, and laid aside where they are many.

A word that stands in a million rows is one word. Rows beyond `HELD_ROWS` are laid aside in runs, each in order, its
words still codes, and merged by ranges of conversations when the table is written; so no large table is ever in memory
as a whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import polars as pl

from analyzer.tables.declare import ID, Table

#: rows of all tables that are kept in memory until some are laid aside, and rows that are merged at a time
HELD_ROWS = 200_000
MERGED_ROWS = 100_000
#: a run is read in groups of so many rows, of which a range of conversations is a part
RUN_GROUP_ROWS = 5_000
#: what is different in nearly every row
_UNALIKE = ("origin", "address", "fingerprint", "foundation")
#: ids, which have a dictionary of their own: of all others there are few
_IDS = ("_id", "channel")
#: first of what sorts a table
_KEY = "conversation_id"


def coded(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their words as codes; `Table.spelled` is the way back."""
    words = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    # what stays text is copied: a few texts would keep all those in memory that they once stood among
    return frame.with_columns(
        pl.col(name) + pl.lit("")
        if name.endswith(_UNALIKE)
        else pl.col(name).cast(ID if name.endswith(_IDS) else pl.Categorical())
        for name in words
    )


def in_order(table: Table, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put coded parts of a table together, in its order."""
    if not parts:
        return coded(table.empty())
    # sorting a million rows by words would spell each of them out: the few different words are ranked instead
    rows = pl.concat(parts)
    # to pick rows out of lists in several chunks takes many times their memory
    rows = rows.with_columns(rows[name].rechunk() for name, dtype in rows.schema.items() if isinstance(dtype, pl.List))

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
    """A file of rows in order, the conversation of every `RUN_GROUP_ROWS`th row, and the `kept` ones, if not all."""

    path: Path
    firsts: Sequence[str]
    kept: pl.Series | None = None

    def rows(self, begin: str, end: str | None) -> pl.DataFrame:
        """Rows of the conversations from `begin` on, up to `end`, coded."""
        first = max(bisect_left(self.firsts, begin) - 1, 0)
        last = len(self.firsts) if end is None else bisect_left(self.firsts, end)
        key = pl.col(_KEY).cast(pl.String)
        within = (key >= begin) & (pl.lit(True) if end is None else key < end)
        groups = pl.scan_parquet(self.path, glob=False).slice(first * RUN_GROUP_ROWS, (last - first) * RUN_GROUP_ROWS)
        found = groups.collect().filter(within)
        if self.kept is not None:
            mine = self.kept.to_frame(_KEY).filter(within)
            found = found.join(mine.cast({_KEY: found.schema[_KEY]}), on=_KEY, how="semi", maintain_order="left")
        return coded(found)


def _firsts(rows: pl.DataFrame) -> list[str]:
    return rows[_KEY].gather_every(RUN_GROUP_ROWS).cast(pl.String).to_list()


def _ranges(runs: Sequence[_Run]) -> Iterator[tuple[str, str | None]]:
    """Ranges of conversations of some `MERGED_ROWS` rows each, as far as `firsts` tell."""
    firsts = sorted(chain.from_iterable(run.firsts for run in runs))
    step = max(MERGED_ROWS // RUN_GROUP_ROWS, 1)
    borders = list(dict.fromkeys(["", *firsts[step::step]]))
    return zip(borders, [*borders[1:], None], strict=True)


@dataclass(slots=True)
class Rows:
    """All rows of one table as they come; `folder` takes what is laid aside."""

    table: Table
    folder: Path
    _held: list[pl.DataFrame] = field(default_factory=list)
    _runs: list[_Run] = field(default_factory=list)

    def add(self, rows: pl.DataFrame) -> None:
        """Take some rows, coded."""
        # no rows would hold all ids as well
        if len(rows):
            self._held.append(rows)

    @property
    def held(self) -> int:
        """How many of its rows are in memory."""
        return sum(map(len, self._held))

    @property
    def runs(self) -> int:
        """How many runs its rows were laid aside in."""
        return len(self._runs)

    def lay_aside(self) -> None:
        """Put the rows that are in memory into a run."""
        path = self.folder / f"{self.table.name}-{len(self._runs)}.run"
        ordered = in_order(self.table, self._held)
        self._held.clear()
        ordered.write_parquet(path, compression="lz4", statistics=False, row_group_size=RUN_GROUP_ROWS)
        self._runs.append(_Run(path, _firsts(ordered)))

    def in_order(self, old: Path | None = None, kept: pl.Series | None = None) -> Iterator[pl.DataFrame]:
        """All rows in the order of the table, with those of `kept` conversations of `old`, in bounded frames."""
        before = []
        if old is not None and kept is not None and len(kept):
            before = [_Run(old, _firsts(pl.read_parquet(old, columns=[_KEY], glob=False)), kept)]
        if not self._runs and sum(len(run.firsts) for run in before) * RUN_GROUP_ROWS < HELD_ROWS:
            alike = self._held if not before else [coded(self.table.spelled(rows)) for rows in self._held]
            yield in_order(self.table, [*alike, *(run.rows("", None) for run in before)])
            return
        if self._held:
            self.lay_aside()
        for begin, end in _ranges([*before, *self._runs]):
            own = [run.rows(begin, end) for run in self._runs]
            # what the dataset has is spelled in another way
            alike = own if not before else [coded(self.table.spelled(rows)) for rows in own]
            yield in_order(self.table, [*alike, *(run.rows(begin, end) for run in before)])
            # ids are forgotten only when no row of a range is left
            del own, alike


def lay_aside(tables: Collection[Rows]) -> None:
    """Lay the rows of the largest tables aside, until those that stay are few enough to be kept."""
    while sum(rows.held for rows in tables) >= HELD_ROWS:
        max(tables, key=lambda rows: rows.held).lay_aside()


def lay_all_aside(tables: Collection[Rows]) -> None:
    """Lay all rows aside: while any is in memory, so are the ids of all that ever were."""
    for rows in tables:
        if rows.held:
            rows.lay_aside()
