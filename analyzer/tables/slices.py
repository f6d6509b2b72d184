"""Rows that stand together in a file: what belongs to one of several that share it.

Files are Parquet, but for those that are read only until a commit: of these any rows are picked out in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf
from typing import TypeVar

import polars as pl

T = TypeVar("T")

#: how names of files that are no Parquet end
LOOSE = ".arrow"


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a file, which has `of`."""

    path: str
    first: int
    rows: int
    of: int

    def some(self, first: int, rows: int) -> Slice:
        """Rows of these, by their place among them."""
        return replace(self, first=self.first + first, rows=rows)


def apart(path: str, sizes: Iterable[int], of: int) -> list[Slice]:
    """The rows of a file, taken apart from its first one on."""
    found, first = [], 0
    for rows in sizes:
        found.append(Slice(path, first, rows, of))
        first += rows
    return found


def groups(items: Iterable[T], rows: Callable[[T], int], most_rows: int, most: float = inf) -> Iterator[list[T]]:
    """Put together what is to be read at once: so many `rows`, unless one alone has more, and so many items."""
    some: list[T] = []
    taken = 0
    for item in items:
        taken += rows(item)
        if some and (taken > most_rows or len(some) == most):
            yield some
            some, taken = [], rows(item)
        some.append(item)
    if some:
        yield some


def _some(path: str, first: int, rows: int, names: list[str]) -> pl.DataFrame:
    if path.endswith(LOOSE):
        # mapped: no more of it is read than is picked out
        return pl.scan_ipc(path, glob=False).select(names).slice(first, rows).collect()
    return pl.scan_parquet(path, glob=False).select(names).slice(first, rows).collect()


def _picked(path: str, wanted: Sequence[Slice], names: list[str]) -> pl.DataFrame:
    """Slices of one file, one behind the other; it is read from the first row that is wanted to the last."""
    first, end = min(one.first for one in wanted), max(one.first + one.rows for one in wanted)
    found = _some(path, first, end - first, names)
    return _gathered(found, [(one.first - first, one.rows) for one in wanted])


def _gathered(frame: pl.DataFrame, places: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """Rows of a frame, by the begins and lengths of pieces of it."""
    ends = list(accumulate((rows for _, rows in places), initial=0))
    if [begin for begin, _ in places] == ends[:-1] and ends[-1] == len(frame):
        return frame
    pieces = pl.DataFrame(places, schema={"begin": pl.Int64, "rows": pl.Int64}, orient="row")
    at = pieces.select(at=pl.int_ranges("begin", pl.col("begin") + pl.col("rows"))).explode("at", empty_as_null=False)
    return frame[at["at"]]


def read(wanted: Sequence[Slice], columns: Sequence[str]) -> pl.DataFrame:
    """Columns of slices, one behind the other; there is at least one."""
    names = list(columns)
    if all(one.rows == one.of and not one.path.endswith(LOOSE) for one in wanted):
        return pl.read_parquet([one.path for one in wanted], columns=names, glob=False)
    by_path: dict[str, list[Slice]] = {}
    for one in wanted:
        by_path.setdefault(one.path, []).append(one)
    found = pl.concat([_picked(path, some, names) for path, some in by_path.items()])
    begins, before = {}, 0
    for path, some in by_path.items():
        begins[path] = before
        before += sum(one.rows for one in some)
    places = []
    for one in wanted:
        places.append((begins[one.path], one.rows))
        begins[one.path] += one.rows
    return _gathered(found, places)
