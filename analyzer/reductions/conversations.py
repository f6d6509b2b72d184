"""One row per conversation: when, which sides, did it connect, how did it end, how much went through."""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts
from analyzer.reductions.spans import spans
from analyzer.tables.declare import Column, Metric, Table

#: close reasons that mean the path was lost, not that somebody closed it
LOST_REASONS = ("ConnectionLost", "ConnectionFailed")

_connected, _closed = pl.col("any_connected"), pl.col("any_closed")
_lost = pl.col("any_lost") | pl.col("close_reason").is_in(LOST_REASONS).fill_null(False)

CONVERSATIONS = Table(
    "conversations",
    row="One conversation, all its tubes and sides together.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation: url-safe base64 without padding, or as spelled where it is no base64."),
        Column("started_at", TIMESTAMP, "Its first event: of its tube, or of the conversation where it joined a tube of another; null without times. By one `clock`."),
        Column("ended_at", TIMESTAMP, "Its last event by the same clock; null without times."),
        Column("clock", pl.String(), "Whose clock the two are told by: client; gateway where the client's log is not there or has no times; both where one log holds both sides, or the offset of the two clocks may be zero (see clock_offsets). Null where no line tells the side."),
        Column("other_ids", pl.List(pl.String()), "What the gateway's log calls it, where that is another id and the candidates of the two tubes prove that they met."),
        Column("sides", pl.List(pl.String()), "Sides whose logs were read: client (offerer), gateway (answerer)."),
        Column("tube_ids", pl.List(pl.String()), "Its tubes."),
        Metric("connected", pl.Boolean(),
               "True once a peer connection connected, even if it failed later; false after a failure or a close without it; else null.",
               pl.when(_connected).then(True).when(pl.col("any_failed") | _closed).then(False),
               source=("peer_state_changed", "channel_opened", "tube_closing")),
        Metric("outcome", pl.String(),
               "connected_open, connected_closed, connected_lost, failed, never_connected, unknown.",
               pl.when(_connected & _lost).then(pl.lit("connected_lost"))
               .when(_connected & _closed).then(pl.lit("connected_closed"))
               .when(_connected).then(pl.lit("connected_open"))
               .when(pl.col("any_failed")).then(pl.lit("failed"))
               .when(_closed).then(pl.lit("never_connected"))
               .otherwise(pl.lit("unknown")),
               source=("peer_state_changed", "ice_state_changed", "restart_timed_out", "tube_closing", "tube_closed")),
        Column("close_reason", pl.String(), "Reason of the first close by that clock, else of the other log's, by the library's name as of that release.", source=("tube_closing",)),
        Metric("bytes_sent", pl.Int64(),
               "Application bytes the client sent over data channels (the gateway received, where only its log is there), last cumulative counters.",
               pl.coalesce("client_sent", "gateway_received"), "By", ("bytes_sent_counted", "bytes_received_counted")),
        Metric("bytes_received", pl.Int64(),
               "Application bytes the client received (the gateway sent, where only its log is there), last cumulative counters.",
               pl.coalesce("client_received", "gateway_sent"), "By", ("bytes_sent_counted", "bytes_received_counted")),
    ),
    sort=("conversation_id",),
)  # fmt: skip


def _bytes(facts: Facts) -> pl.DataFrame:
    """Last cumulative counters per side; a counter starts anew with each tube."""
    # a counter that no tube can be told for is nobody's where several could have written it
    sole = facts.streams.links.filter(pl.len().over("conversation_id") == 1).select("conversation_id", only="tube_id")
    counted = (
        facts.streams.events.filter(pl.col("kind").is_in(["bytes_sent_counted", "bytes_received_counted"]))
        .join(sole, on="conversation_id", how="left")
        .with_columns(tube_id=pl.coalesce("tube_id", "only"))
        .filter(pl.col("tube_id").is_not_null())
        .join(facts.tubes.select("tube_id", "side"), on="tube_id", how="left")
        .with_columns(side=pl.col("side").fill_null("client"))
    )
    of_tube = counted.group_by("conversation_id", "side", "tube_id").agg(
        sent=pl.col("bytes_sent").filter(pl.col("kind") == "bytes_sent_counted").max(),
        received=pl.col("bytes_received").filter(pl.col("kind") == "bytes_received_counted").max(),
    )

    def total(side: str, way: str) -> pl.Expr:
        values = pl.col(way).filter(pl.col("side") == side)
        return pl.when(values.is_not_null().any()).then(values.sum()).alias(f"{side}_{way}")

    return of_tube.group_by("conversation_id").agg(
        total(side, way) for side in ("client", "gateway") for way in ("sent", "received")
    )


def reduce(facts: Facts, offsets: pl.DataFrame) -> pl.DataFrame:
    """Sum up every conversation; one named by lines that no tube can be tied to has only its id and times."""
    named = spans(facts, offsets)
    linked = (
        facts.streams.links.select("conversation_id", "tube_id", "other_id")
        .join(facts.tubes, on="tube_id")
        .join(named.select("conversation_id", "scopes"), on="conversation_id", how="left")
        .with_columns(foreign=~pl.col("scope").is_in(pl.col("scopes")))
        .sort("begins_at", "tube_id", nulls_last=True)
    )
    lost = pl.col("was_connected") & (pl.col("last_state").is_in(["disconnected", "failed"]) | pl.col("timed_out"))
    told = linked.group_by("conversation_id", maintain_order=True).agg(
        sides=pl.col("side").drop_nulls().unique().sort(),
        tube_ids=pl.col("tube_id").unique().sort(),
        other_ids=pl.col("other_id").drop_nulls().unique().sort(),
        any_connected=pl.col("was_connected").any(),
        any_failed=pl.col("was_failed").any(),
        any_closed=pl.col("was_closed").any(),
        any_lost=lost.fill_null(False).any(),
        close_reason=pl.col("close_reason").sort_by("foreign", "closed_at", nulls_last=True).drop_nulls().first(),
    )
    rows = (
        named.join(told, on="conversation_id", how="full", coalesce=True)
        .join(_bytes(facts), on="conversation_id", how="left")
        .with_columns(
            pl.col("any_connected", "any_failed", "any_closed", "any_lost").fill_null(False),
            pl.col("sides", "tube_ids", "other_ids").fill_null([]),
        )
    )
    return CONVERSATIONS.select(rows)
