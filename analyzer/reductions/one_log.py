"""Both ends of a conversation in one log: a line that names the conversation, but no tube, may be of either.

So it is where one process holds both ends, or a collector puts the logs of two into one. Elsewhere the tube last named
with the conversation is meant, and by a counter the one that began last.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import sides
from analyzer.reductions.query import collected


def of_one_log(events: pl.DataFrame, links: pl.DataFrame) -> pl.Series:
    """Tubes that have the other end of a conversation in their own log."""
    named = events.lazy().filter(pl.col("tube_id").is_not_null())
    scopes = collected(named.group_by("tube_id").agg(pl.col("scope").first()))
    ends = links.select("conversation_id", "tube_id").join(scopes, on="tube_id")
    together = ends.filter(pl.len().over("conversation_id", "scope") > 1)
    if together.is_empty():
        # as in nearly all logs
        return together["tube_id"]
    asked = together.lazy().select("tube_id").unique()
    told = collected(sides(named.join(asked, on="tube_id", how="semi", maintain_order="left")))
    sided = together.join(told.drop_nulls("side"), on="tube_id")
    return sided.filter(pl.col("side").n_unique().over("conversation_id", "scope") > 1)["tube_id"].unique()


def untied(events: pl.DataFrame, both: pl.Series) -> pl.DataFrame:
    """Events that are of no tube where they could be of either."""
    if both.is_empty():
        return events
    of_either = pl.col("by_name") & pl.col("tube_id").is_in(both.implode()).fill_null(False)
    return events.with_columns(tube_id=pl.when(~of_either).then("tube_id"))
