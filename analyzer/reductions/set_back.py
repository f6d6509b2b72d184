"""A clock that was set back under an open tube: what lies between two times around that moment is shorter than it was.

A process writes its lines in the order of their times, so times that fall tell that its clock was set back: it was
corrected, or the end of daylight-saving time repeated an hour of local time. A step that is smaller than the silence
around it shows in no log.
"""

from __future__ import annotations

import polars as pl

#: lines of two threads, or of two handlers, may stand in the other order by less; in no capture do times fall at all
OUT_OF_ORDER_MS = 10


def set_back() -> dict[str, pl.Expr]:
    """The times that a tube's clock showed twice, from `again_from` to `again_to`; over its events, null for most."""
    ts, scope = pl.col("ts"), pl.col("scope")
    falls = (ts.diff() < pl.duration(milliseconds=-OUT_OF_ORDER_MS)) & (scope == scope.shift())
    return {"again_from": ts.filter(falls).min(), "again_to": ts.shift().filter(falls).max()}


def around(start: str, end: str) -> pl.Expr:
    """Whether a clock may have been set back from one time column to another."""
    return ((pl.col(start) <= pl.col("again_to")) & (pl.col(end) >= pl.col("again_from"))).fill_null(False)
