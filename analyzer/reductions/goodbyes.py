"""Losses that were none: the other end had begun to close before, and its goodbye did not arrive, or only in part.

What a side then sees, a data channel that is gone or a path gone silent, is the same as if the peer had been lost. Only
the peer's own log tells the difference, and the order of the two only where the clocks do.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from analyzer.reductions.closed_first import closings
from analyzer.reductions.facts import Facts
from analyzer.tables.declare import ID


def _ms(value: pl.Expr) -> pl.Expr:
    return pl.duration(microseconds=(value * 1000).round().cast(pl.Int64))


def said_goodbye(facts: Facts, offsets: pl.DataFrame) -> pl.Series:
    """Tubes whose path was down at the end because their peer had begun to close; `offsets` is `clock_offsets`."""
    lost = facts.tubes.filter("lost")
    if lost.is_empty():
        return lost["tube_id"]
    ends = facts.outages.filter(pl.col("up_seq").is_null()).select(
        # a loss that is not dated was at its line, or before
        "tube_id", lost_at=pl.coalesce("lost_high_at", "down_at")
    )  # fmt: skip
    by_itself = pl.any_horizontal("timed_out", "closed_itself", "given_up", "lost")
    asked = facts.tubes.filter("was_closed", ~by_itself.fill_null(False)).select("tube_id")
    closed = closings(facts).drop_nulls("closed_at").join(asked, on="tube_id").select("tube_id", "closed_at")
    known = offsets.filter(pl.col("refused_reason").is_null()).select(
        pl.col("client_tube_id", "gateway_tube_id").cast(ID), "low_ms", "high_ms"
    )
    # the latest time of the peer's close by the clock of the tube that was lost
    ways = (("gateway_tube_id", "client_tube_id", pl.col("high_ms")), ("client_tube_id", "gateway_tube_id", -pl.col("low_ms")))  # fmt: skip
    met = pl.concat(known.select(tube_id=mine, peer=peer, ahead_ms=ahead) for mine, peer, ahead in ways)
    return (
        met.join(lost.select("tube_id"), on="tube_id")
        .join(ends, on="tube_id")
        .join(closed, left_on="peer", right_on="tube_id")
        .filter(pl.col("closed_at") + _ms(pl.col("ahead_ms")) <= pl.col("lost_at"))
    )["tube_id"].unique()


def without_goodbyes(facts: Facts, offsets: pl.DataFrame) -> Facts:
    """The facts without losses that were none."""
    none = said_goodbye(facts, offsets)
    if none.is_empty():
        return facts
    forgiven = pl.col("tube_id").is_in(none.implode())
    return replace(
        facts,
        tubes=facts.tubes.with_columns(lost=pl.col("lost") & ~forgiven),
        outages=facts.outages.filter(~(forgiven & pl.col("up_seq").is_null())),
    )
