"""When each conversation began and ended, told by one clock: those of two machines are not mixed unless they agree."""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import Facts
from analyzer.reductions.own_ends import within
from analyzer.tables.declare import ID

#: clocks whose offset may be zero, and is known this well, count as one
AGREE_MS = 10_000.0


def _agreeing(offsets: pl.DataFrame) -> pl.DataFrame:
    """Conversations whose two clocks are not known to differ."""
    # all pairs of tubes are of the same two clocks, so what bounds one bounds them all
    low, high = pl.col("low_ms").max(), pl.col("high_ms").min()
    found = offsets.group_by("conversation_id").agg(
        agree=((low <= 0) & (high >= 0) & (high - low <= AGREE_MS)).fill_null(False)
        & pl.col("refused_reason").is_null().all()
    )
    return found.with_columns(pl.col("conversation_id").cast(ID))


def _ended() -> pl.Expr:
    """Where a side ended it by itself, what the other side's tube still did is no part of it."""
    itself = pl.col("itself")
    return pl.when(itself.any()).then(pl.col("ended_at").filter(itself).min()).otherwise(pl.col("ended_at").max())


def spans(facts: Facts, offsets: pl.DataFrame) -> pl.DataFrame:
    """Begin and end of every conversation that is named, by the clock that counts.

    In: the facts, and the rows of `clock_offsets`. Out: `conversation_id`, `started_at`, `ended_at`, `clock`, and
    `scopes`, the logs whose times count.
    """
    sides = facts.tubes.select("tube_id", "side", "gone_seq")
    itself = pl.col("own_gone_seq").is_not_null()
    ends = (
        within(facts.streams.events.select("conversation_id", "tube_id", "scope", "seq", "ts"), facts.ends)
        .drop_nulls("conversation_id")
        .join(sides, on="tube_id", how="left")
        # a peer connection that its library forgot to close goes on for a minute
        .filter((pl.col("seq") <= pl.col("gone_seq")).fill_null(True))
        .sort("seq")
        .group_by("conversation_id", "scope", "side", maintain_order=True)
        .agg(
            started_at=pl.col("ts").min(),
            # by its own channel, and not set up anew on another tube
            ended_at=pl.when(itself.last()).then(pl.col("own_gone_at").last()).otherwise(pl.col("ts").max()),
            itself=itself.last(),
        )
    )
    logs = ends.group_by("conversation_id", "scope").agg(
        pl.col("started_at").min(),
        ended_at=_ended(),
        itself=pl.col("itself").any(),
        client=(pl.col("side") == "client").any(),
        gateway=(pl.col("side") == "gateway").any(),
    )
    # the offerer begins, so its clock is the one to tell by
    rank = (
        pl.when(pl.col("started_at").is_null()).then(3).when("client").then(0).when("gateway").then(1).otherwise(2)
    ).cast(pl.Int8)
    ranked = logs.join(_agreeing(offsets), on="conversation_id", how="left").with_columns(rank=rank)
    counted = ranked.filter(
        (pl.col("rank") == pl.col("rank").min().over("conversation_id"))
        | (pl.col("agree").fill_null(False) & (pl.col("rank") <= 1))
    )
    timed = pl.col("started_at").is_not_null()
    return counted.group_by("conversation_id").agg(
        pl.col("started_at").min(),
        ended_at=_ended(),
        clock=pl.when((timed & pl.col("client")).any() & (timed & pl.col("gateway")).any())
        .then(pl.lit("both"))
        .when((timed & pl.col("client")).any())
        .then(pl.lit("client"))
        .when((timed & pl.col("gateway")).any())
        .then(pl.lit("gateway")),
        scopes=pl.col("scope").unique().sort(),
    )
