"""How many conversations of one tube are told what the tube did: each has rows of its own for all of it.

A tube of the library carries one conversation, sometimes a handful. A log may name as many on one tube as it has lines,
and rows by the square of them would fill any memory.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.portions import in_portions

#: what a tube's events weigh, times its conversations, comes to no more than this, but for its first conversation: a
#: thousand conversations of a thousand events, twenty of fifty thousand
MOST_WEIGHT = 4_000_000


def bounded(links: pl.DataFrame, extent: pl.DataFrame) -> pl.DataFrame:
    """Links of as many conversations of each tube as may be told of it, the first ones; the others are without it.

    `links` and `extent` as in `Correlation`.
    """
    weights = in_portions(
        extent.filter(pl.col("tube_id").is_not_null()),
        pl.col("tube_id"),
        lambda some: some.group_by("tube_id").agg(pl.col("weight").sum()),
    )
    many = in_portions(links, pl.col("tube_id"), lambda some: some.filter(pl.col("tube_id").is_duplicated()))
    if many.is_empty():
        return links
    place = pl.col("order").rank("ordinal").over("tube_id")
    told = (place == 1) | (place * pl.col("weight") <= MOST_WEIGHT)
    beyond = many.join(weights, on="tube_id", how="left").filter(~told.fill_null(True))
    return links.join(beyond.select("conversation_id", "tube_id"), on=["conversation_id", "tube_id"], how="anti")
