"""One row per conversation: when, which sides, did it connect, how did it end, how much went through."""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.channels import VALUES, is_stale
from analyzer.reductions.closed_first import closed_first
from analyzer.reductions.dropped import LOST_REASONS
from analyzer.reductions.facts import Facts
from analyzer.reductions.query import collected
from analyzer.reductions.spans import spans
from analyzer.tables.declare import ID, Column, Metric, Table

#: what the library gives where nobody gave a reason
DEFAULT_REASON = "Normal"
_connected, _closed, _never = pl.col("any_connected"), pl.col("any_closed"), pl.col("any_never")
_lost = pl.col("any_lost") | pl.col("close_reason").is_in(LOST_REASONS).fill_null(False)


def _passed(what: str, way: str, other: str) -> pl.Expr:
    """What the client counted one way; where its channel went on behind its last counter, the larger of both ends'."""
    own, peer = f"client_{what}_{way}", f"gateway_{what}_{other}"
    return pl.when("client_stale").then(pl.max_horizontal(own, peer)).otherwise(pl.coalesce(own, peer))


CONVERSATIONS = Table(
    "conversations",
    row="One conversation, all its tubes and sides together.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation: url-safe base64 without padding, or as spelled where it is no base64."),
        Column("started_at", TIMESTAMP, "Its first event: of its tube, or of the conversation where it joined a tube of another; null without times. By one `clock`."),
        Column("ended_at", TIMESTAMP, "Its last event by the same clock, but for those behind the line that tells its tube gone; where its tube went on for others, the last line of its own channel's end, on the side that ended it first; null without times."),
        Column("clock", pl.String(), "Whose clock the two are told by: client; gateway where the client's log is not there or has no times; both where one log holds both sides, or the offset of the two clocks may be zero (see clock_offsets). Null where no line tells the side."),
        Column("other_ids", pl.List(pl.String()), "What the gateway's log calls it, where that is another id and the candidates of the two tubes prove that they met."),
        Column("sides", pl.List(pl.String()), "Sides whose logs were read: client (offerer), gateway (answerer)."),
        Column("tube_ids", pl.List(pl.String()), "Its tubes."),
        Column("sources", pl.List(pl.String()), "Logs that tell of it, by their names in `sources`."),
        Metric("connected", pl.Boolean(),
               "True where a connected peer connection, an open channel or application bytes prove it, even if it failed later; false after a failure or a close in a log that saw the tube's beginning and its states; else null.",
               pl.when(_connected).then(True).when(_never).then(False),
               source=("peer_state_changed", "channel_opened", "bytes_received_counted", "tube_closing")),
        Metric("outcome", pl.String(),
               "connected_lost: a path was down at the end of a tube, or its process gone, before anybody closed it; connected_closed; connected_open: not closed where the logs end; failed; never_connected: closed before; unknown.",
               pl.when(_connected & _lost).then(pl.lit("connected_lost"))
               .when(_connected & _closed).then(pl.lit("connected_closed"))
               .when(_connected).then(pl.lit("connected_open"))
               .when(_never & pl.col("any_failed")).then(pl.lit("failed"))
               .when(_never).then(pl.lit("never_connected"))
               .otherwise(pl.lit("unknown")),
               source=("peer_state_changed", "ice_state_changed", "restart_timed_out", "tube_closing", "tube_closed", "process_started")),
        Column("close_reason", pl.String(), "Reason of the first close by that clock, else of the other log's: of its channel or of its tube, by the library's name as of that release; null where a line gives none.", source=("channel_close_requested", "tube_closing")),
        Column("closed_first", pl.String(), "Side that began to close it: client or gateway; null where it was not closed on both, or the offset of their clocks is not known well enough to tell.", source=("channel_close_requested", "channel_closing", "tube_closing")),
        Metric("bytes_sent", pl.Int64(),
               "Application bytes the client sent over data channels (the gateway received, where only its log is there, or counted longer): the sum of its rows in channels.",
               _passed("bytes", "sent", "received"), "By", ("bytes_sent_counted", "bytes_received_counted", "channel_stats_reported")),
        Metric("bytes_received", pl.Int64(),
               "Application bytes the client received (the gateway sent, where only its log is there, or counted longer): the sum of its rows in channels.",
               _passed("bytes", "received", "sent"), "By", ("bytes_sent_counted", "bytes_received_counted", "channel_stats_reported")),
        Metric("messages_sent", pl.Int64(),
               "Messages the client sent over data channels (the gateway received, where only its log is there, or counted longer), the library's own included: the sum of its rows in channels.",
               _passed("messages", "sent", "received"), "{message}", ("bytes_sent_counted", "bytes_received_counted", "channel_stats_reported")),
        Metric("messages_received", pl.Int64(),
               "Messages the client received (the gateway sent, where only its log is there, or counted longer), the library's own included: the sum of its rows in channels.",
               _passed("messages", "received", "sent"), "{message}", ("bytes_sent_counted", "bytes_received_counted", "channel_stats_reported")),
        Column("left_out", pl.Int64(), "Events of it, and of what shares a tube with it, that are too many: all that stand behind them in their log are told by `events` and `refusals` alone, here and elsewhere as if the log ended there.", "{record}"),
    ),
    sort=("conversation_id",),
)  # fmt: skip


def _traffic(channels: pl.DataFrame) -> pl.DataFrame:
    """Totals of each side; the channels of a conversation never share a counter, so they may be added.

    Of a side that no line tells, sent and received are anybody's: its rows are in channels alone.
    """

    def total(side: str, name: str) -> pl.Expr:
        values = pl.col(name).filter(pl.col("side") == side)
        return pl.when(values.is_not_null().any()).then(values.sum()).alias(f"{side}_{name}")

    stale = is_stale()
    return (
        channels.group_by("conversation_id")
        .agg(
            *(total(side, name) for side in ("client", "gateway") for name in VALUES),
            *((stale & (pl.col("side") == side)).any().alias(f"{side}_stale") for side in ("client", "gateway")),
        )
        .with_columns(pl.col("conversation_id").cast(ID))
    )


def _first_reason() -> pl.Expr:
    """Reason of the first close; of logs without times the one that is no default, where they name one such."""
    reason = pl.col("close_reason")
    in_order = reason.sort_by("foreign", "reason_at", nulls_last=True).drop_nulls().first()
    given = reason.filter(reason != DEFAULT_REASON).drop_nulls().unique()
    timeless = pl.when(given.len() == 1).then(given.first()).when(given.len() == 0).then(reason.drop_nulls().first())
    return pl.when(pl.col("reason_at").is_not_null().any()).then(in_order).otherwise(timeless)


def _sources(facts: Facts) -> pl.LazyFrame:
    """The logs that tell of each conversation, or of one of its tubes."""
    own = ["conversation_id", "tube_id", "source"]
    first = facts.streams.events.lazy().group_by(own).agg(pl.col("origin").first())
    # `source` is what it is known by, its name stands before the line
    told = first.with_columns(source=pl.col("origin").cast(pl.String).str.replace(":[0-9]+$", ""))
    links = facts.streams.links.lazy().select("conversation_id", "tube_id")
    of_tubes = links.join(told.select("tube_id", "source").unique(), on="tube_id")
    named = told.select("conversation_id", "source").drop_nulls("conversation_id")
    both = pl.concat([named, of_tubes.select("conversation_id", "source")])
    return both.group_by("conversation_id").agg(sources=pl.col("source").unique().sort())


def reduce(facts: Facts, channels: pl.DataFrame, offsets: pl.DataFrame, reasons: pl.DataFrame) -> pl.DataFrame:
    """Sum up every conversation; one named by lines that no tube can be tied to has only its id and times.

    `channels` and `offsets` (`clock_offsets`) are the tables of these names, `reasons` what `life.close_reasons` gives.
    """
    named = spans(facts, offsets)
    linked = (
        facts.streams.links.select("conversation_id", "tube_id", "other_id")
        .join(reasons, on=["conversation_id", "tube_id"], how="left")
        .join(facts.ends, on=["conversation_id", "tube_id"], how="left")
        .join(facts.tubes, on="tube_id")
        .join(named.select("conversation_id", "scopes"), on="conversation_id", how="left")
        .with_columns(foreign=~pl.col("scope").is_in(pl.col("scopes")))
        .sort("begins_at", "tube_id", nulls_last=True)
    )
    told = linked.group_by("conversation_id", maintain_order=True).agg(
        sides=pl.col("side").drop_nulls().unique().sort(),
        tube_ids=pl.col("tube_id").unique().sort(),
        other_ids=pl.col("other_id").drop_nulls().unique().sort(),
        any_connected=pl.col("was_connected").any(),
        any_failed=pl.col("was_failed").any(),
        # its own channel may be closed while the tube goes on
        any_closed=(
            pl.col("was_closed") | pl.col("close_reason").is_not_null() | pl.col("own_seq").is_not_null()
        ).any(),
        any_lost=(pl.col("lost") & pl.col("own_seq").is_null()).any(),
        any_never=pl.col("never").any(),
        close_reason=_first_reason(),
    )
    rows = (
        named.join(told, on="conversation_id", how="full", coalesce=True)
        .join(_traffic(channels), on="conversation_id", how="left")
        .join(closed_first(facts, offsets), on="conversation_id", how="left")
        .join(collected(_sources(facts)), on="conversation_id", how="left")
        .with_columns(
            pl.col("any_connected", "any_failed", "any_closed", "any_lost", "any_never").fill_null(False),
            pl.col("sides", "tube_ids", "other_ids").fill_null([]),
        )
    )
    beyond = facts.streams.left_out
    rows = rows.with_columns(left_out=0) if beyond is None else rows.join(beyond, on="conversation_id", how="left")
    rows = rows.with_columns(pl.col("left_out").fill_null(0))
    return CONVERSATIONS.select(rows)
