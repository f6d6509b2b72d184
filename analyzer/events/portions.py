"""Many rows, a portion at a time: to group or match rows by two ids takes ten times their own memory meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

PORTION_ROWS = 100_000


def in_portions(rows: pl.DataFrame, key: pl.Expr, step: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Rows after a `step` that looks at none but those of the same `key` together; they may stand in another order.

    `key` is an id as a code, never null.
    """
    count = len(rows) // PORTION_ROWS + 1
    if count == 1:
        return step(rows)
    number = key.to_physical() % count
    return pl.concat([step(rows.filter(number == one)) for one in range(count)], rechunk=True)


def near(rows: pl.DataFrame, events: pl.DataFrame, key: str) -> pl.DataFrame:
    """Those of many rows that some events name, in order: to match all of them takes a table of all, every time."""
    return rows.join(events, on=key, how="semi", maintain_order="left")
