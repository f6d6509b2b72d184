"""Rows that share a key, matched each with each as long as they are few: a thousand and a thousand are a million pairs.

What a thousand others have as well tells nobody apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

#: so many pairs of one key are looked at; of more, none
MOST_PAIRS = 10_000


def within(some: pl.DataFrame, others: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Values of `key` under which both have rows, and no more than `MOST_PAIRS` pairs of them."""
    one, other = (
        rows.group_by(key).agg(pl.len().cast(pl.UInt64).alias(name))
        for name, rows in (("one", some), ("other", others))
    )
    return one.join(other, on=key).filter(pl.col("one") * pl.col("other") <= MOST_PAIRS).select(key)
