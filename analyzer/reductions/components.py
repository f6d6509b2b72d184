"""What belongs together: conversations that share a tube, tubes that share a conversation."""

from __future__ import annotations

import polars as pl

from analyzer.events.portions import in_portions


def components(links: pl.DataFrame) -> pl.DataFrame:
    """Number what belongs together: `conversation_id`, `tube_id`, `component`."""

    def spread(pairs: pl.DataFrame, key: str) -> pl.DataFrame:
        least = pl.col("component").min().over(key)
        return in_portions(pairs, pl.col(key), lambda some: some.with_columns(least))

    found = links.select("conversation_id", "tube_id").with_row_index("component")
    # numbers only ever become less
    total = pl.col("component").cast(pl.UInt64).sum()
    while True:
        further = spread(spread(found, "tube_id"), "conversation_id")
        if further.select(total).item() == found.select(total).item():
            return found
        found = further
