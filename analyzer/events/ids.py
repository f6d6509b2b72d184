"""Ids as numbers: to compare ids no word is needed, and a dictionary of millions is larger than all known of them.

The number of an id is a hash of 64 bits.
"""

from __future__ import annotations

import polars as pl

NUMBER = pl.UInt64()


def numbered(ids: pl.Expr) -> pl.Expr:
    """The numbers of ids, the same in every frame; null stays null."""
    return pl.when(ids.is_not_null()).then(ids.hash())


def worded(*ids: pl.Series) -> pl.DataFrame:
    """Each of some ids once: its number as `id`, and `word`."""
    words = pl.concat([some.drop_nulls().unique().alias("word") for some in ids]).unique().to_frame()
    return words.select(numbered(pl.col("word")).alias("id"), "word")
