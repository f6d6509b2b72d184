"""A chain of calls as one query: it reads only the columns it needs, and finds only once what it asks for twice."""

from __future__ import annotations

import polars as pl


def collected(query: pl.LazyFrame) -> pl.DataFrame:
    """Run a query, its rows in the order that the calls would give one by one."""
    # another engine may give them in another order
    return query.collect(engine="in-memory")
