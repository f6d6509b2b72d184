"""Which side began to close a conversation: told by one clock, or by two whose offset is bounded closely enough."""

from __future__ import annotations

import polars as pl

from analyzer.reductions.clock_offsets import PAIR
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.tables.declare import ID


def in_one_log(ends: pl.DataFrame) -> pl.DataFrame:
    """Conversations with a tube of each side in one log, which have one clock: of several nothing tells which met.

    In: conversation_id, tube_id, side, scope. Out: conversation_id, client_tube_id, gateway_tube_id, low_ms, high_ms.
    """
    sole = [
        ends.filter(pl.col("side") == side)
        .filter(pl.len().over("conversation_id") == 1)
        .select("conversation_id", "scope", pl.col("tube_id").alias(f"{side}_tube_id"))
        for side in ("client", "gateway")
    ]
    return sole[0].join(sole[1], on=["conversation_id", "scope"]).select(*PAIR, low_ms=0.0, high_ms=0.0)


def closed_first(facts: Facts, offsets: pl.DataFrame) -> pl.DataFrame:
    """The side that began, `closed_first`, of each conversation of which that is known; `offsets` is `clock_offsets`.

    Of several pairs of tubes the one that was closed last counts.
    """
    told = facts.closings.drop_nulls(["side", "closed_at", "resolution_ms"])
    ends = {
        side: told.filter(pl.col("side") == side).select(
            "conversation_id",
            **{f"{side}_tube_id": pl.col("tube_id")},
            **{f"{side}_{name}": pl.col(name) for name in ("scope", "resolution_ms", "closed_at")},
        )
        for side in ("client", "gateway")
    }
    two_logs = offsets.filter(pl.col("refused_reason").is_null()).select(pl.col(PAIR).cast(ID), "low_ms", "high_ms")
    pairs = (
        pl.concat([two_logs, in_one_log(facts.closings)])
        .join(ends["client"], on=["conversation_id", "client_tube_id"])
        .join(ends["gateway"], on=["conversation_id", "gateway_tube_id"])
    )
    later = elapsed_ms("client_closed_at", "gateway_closed_at")
    # a printed time stands for all that share its last digit
    unit = pl.max_horizontal("client_resolution_ms", "gateway_resolution_ms")
    return (
        pairs.sort("client_closed_at", *PAIR)
        .group_by("conversation_id", maintain_order=True)
        .agg(
            closed_first=pl.when(later > pl.col("high_ms") + unit)
            .then(pl.lit("client"))
            .when(later < pl.col("low_ms") - unit)
            .then(pl.lit("gateway"))
            .last()
        )
    )
