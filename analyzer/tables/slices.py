"""Rows that stand together in a file: what belongs to one of several that share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import polars as pl


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a Parquet file, which has `of`."""

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


def _extents(wanted: Sequence[Slice]) -> dict[str, tuple[int, int]]:
    """The first row that is wanted of each file, and the one behind the last."""
    found: dict[str, tuple[int, int]] = {}
    for one in wanted:
        first, end = found.get(one.path, (one.first, 0))
        found[one.path] = min(first, one.first), max(end, one.first + one.rows)
    return found


def read(wanted: Sequence[Slice], columns: Sequence[str]) -> pl.DataFrame:
    """Columns of slices, one behind the other."""
    names = list(columns)
    if all(one.rows == one.of for one in wanted):
        return pl.read_parquet([one.path for one in wanted], columns=names, glob=False)
    # each file is read once, from the first row that is wanted to the last
    extents = _extents(wanted)
    frames = [
        pl.scan_parquet(path, glob=False).select(names).slice(first, end - first).collect()
        for path, (first, end) in extents.items()
    ]
    found = pl.concat(frames) if len(frames) > 1 else frames[0]
    begins, before = {}, 0
    for (path, (first, _)), frame in zip(extents.items(), frames, strict=True):
        begins[path] = before - first
        before += len(frame)
    places = [(begins[one.path] + one.first, one.rows) for one in wanted]
    if _is_in_order(places, len(found)):
        return found
    return found[
        pl.DataFrame(places, schema={"begin": pl.Int64, "rows": pl.Int64}, orient="row")
        .select(at=pl.int_ranges("begin", pl.col("begin") + pl.col("rows")))
        .explode("at", empty_as_null=False)["at"]
    ]


def _is_in_order(places: Sequence[tuple[int, int]], rows: int) -> bool:
    """Whether slices, each with its begin, follow one another without a gap."""
    end = 0
    for begin, size in places:
        if begin != end:
            return False
        end += size
    return end == rows
