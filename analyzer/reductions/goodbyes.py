"""Losses that were none: the other end had begun to close before, and its goodbye did not arrive, or only in part.

What a side then sees, a data channel that is gone or a path gone silent, is the same as if the peer had been lost. Only
the peer's own log tells the difference, and the order of the two only where the clocks do.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from analyzer.reductions.closed_first import in_one_log
from analyzer.reductions.dropped import GONE
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
        # of a loss that is not dated nobody knows how long before its line it was, but for a channel that was gone
        "tube_id", lost_at=pl.coalesce("lost_high_at", pl.when(pl.col("down_state") == GONE).then("down_at"))
    )  # fmt: skip
    by_itself = pl.any_horizontal("timed_out", "closed_itself", "given_up", "lost")
    asked = facts.tubes.filter("was_closed", ~by_itself.fill_null(False)).select("tube_id", "resolution_ms")
    # of several conversations on a tube one may have ended long before
    all_closed = pl.when(pl.col("closed_at").is_not_null().all()).then(pl.col("closed_at").max())
    closed = facts.closings.group_by("tube_id").agg(closed_at=all_closed).join(asked, on="tube_id")
    pair = ("client_tube_id", "gateway_tube_id")
    known = pl.concat([
        offsets.filter(pl.col("refused_reason").is_null()).select(pl.col(pair).cast(ID), "low_ms", "high_ms"),
        in_one_log(facts.closings).drop("conversation_id"),
    ])  # fmt: skip
    # the latest time of the peer's close by the clock of the tube that was lost
    ways = (("gateway_tube_id", "client_tube_id", pl.col("high_ms")), ("client_tube_id", "gateway_tube_id", -pl.col("low_ms")))  # fmt: skip
    met = pl.concat(known.select(tube_id=mine, peer=peer, ahead_ms=ahead) for mine, peer, ahead in ways)
    latest = pl.col("closed_at") + _ms(pl.col("ahead_ms") + pl.col("resolution_ms"))
    return (
        met.join(lost.select("tube_id"), on="tube_id")
        .join(ends, on="tube_id")
        .join(closed, left_on="peer", right_on="tube_id")
        .filter((latest <= pl.col("lost_at")).fill_null(False))
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
