"""Which conversation was on which tube, from when to when, and how that ended."""

from __future__ import annotations

import polars as pl

from analyzer.events.links import LINK_DOC
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.dropped import GONE
from analyzer.reductions.facts import Facts
from analyzer.reductions.own_ends import within
from analyzer.reductions.states import ended_by
from analyzer.tables.declare import Column, Metric, Table

LINKS = Table(
    "links",
    row="One conversation on one tube. A tube may carry several, and a conversation be set up anew on another tube.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube: one peer connection inside one process."),
        Column("side", pl.String(), "client: the offerer; gateway: the answerer; null when no line tells."),
        Column("link_method", pl.String(), LINK_DOC),
        Column("from_at", TIMESTAMP, "First line of the conversation on this tube; null without times."),
        Column("to_at", TIMESTAMP, "Last line of the conversation on this tube, where nothing else is known the latest time it was seen; the last line of its own channel's end, where the tube went on; null without times."),
        Column("original", pl.Boolean(), "Whether it is the first conversation of the tube: lines that name the tube alone are its own."),
        Column("begun", pl.Boolean(), "Whether the log has the tube's beginning; without it, that a line is missing says nothing.",
               source=("peer_connection_requested", "credentials_given", "server_added", "ice_state_changed")),
        Metric("connected", pl.Boolean(), "As in conversations, of this tube alone.",
               pl.when("was_connected").then(True).when("never").then(False),
               source=("peer_state_changed", "channel_opened", "bytes_received_counted", "tube_closing")),
        Metric("ended_by", pl.String(), "closed: the tube; channel_closed: the conversation's own channel, before the tube, which it shared; process_restarted: another process went on writing the log, and the tube was not closed; log_ended: the log ends with the tube open.",
               pl.when(pl.col("own_seq").is_not_null()).then(pl.lit("channel_closed")).otherwise(ended_by()), source=("tube_closing", "tube_closed", "channel_close_requested", "channel_closing", "process_started")),
        Column("closed_at", TIMESTAMP, "When it began to close on this side: its own channel, by the call that asked for it or the first line of its end, or the tube, whichever was first.", source=("tube_closing", "channel_close_requested", "channel_closing")),
        Column("closed_origin", pl.String(), "`source:line` of that."),
        Column("close_reason", pl.String(), "Reason given to the conversation's channel, else to that close, or why the library gave the tube up, by the library's name as of that release; null where no line gives one.", source=("channel_close_requested", "tube_closing", "backend_closed", "close_reason_retrieved")),
        Metric("closing_cause", pl.String(),
               "What made the library close it by itself: restart_timed_out, peer_connection: its state, data_channel: it was gone, and nobody had asked; null: the host or the other side asked, as far as the log tells.",
               pl.when(~pl.col("was_closed") | pl.col("own_seq").is_not_null()).then(None).when("timed_out").then(pl.lit("restart_timed_out")).when("closed_itself").then(pl.lit("peer_connection")).when("given_up").then(pl.lit("data_channel")),
               source=("restart_timed_out", "tube_closing", "channel_state_changed", "backend_closed")),
        Metric("lost", pl.Boolean(), "Whether the path was down at the end of a tube that had been connected: not if the peer or the host had closed it before, or the conversation's own channel. Null where nothing tells it and its log has no states of the path, as at INFO.",
               pl.when(pl.col("was_connected") & (pl.col("lost") | pl.col("states_told"))).then(pl.col("lost"))),
        Column("lost_logged_at", TIMESTAMP, "First line that told the last loss: the time at which the library knew.", source=("ice_state_changed",)),
        Column("lost_low_at", TIMESTAMP, "Earliest time of that loss itself, dated back as in states."),
        Column("lost_high_at", TIMESTAMP, "Latest time of it."),
        Column("outages", pl.Int64(), "Losses of the path that were logged, the last one among them; null where none is, and the log has no states of the path.", "{outage}"),
        Column("restarts_tried", pl.Int64(), "ICE restarts tried or answered, as in generations.", "{restart}"),
        Column("restarts_timed_out", pl.Int64(), "Among them those that waited for an answer in vain.", "{restart}"),
    ),
    sort=("conversation_id", "from_at", "tube_id"),
)  # fmt: skip


def reduce(facts: Facts, generations: pl.DataFrame, reasons: pl.DataFrame) -> pl.DataFrame:
    """List every conversation on every tube.

    `generations` is the table of that name, its ids as codes; `reasons` what `life.close_reasons` gives.
    """
    seen = (
        within(facts.streams.events.select("conversation_id", "tube_id", "seq", "ts"), facts.ends)
        .filter(pl.col("conversation_id").is_not_null(), pl.col("tube_id").is_not_null())
        .group_by("conversation_id", "tube_id")
        .agg(from_at=pl.col("ts").min(), to_at=pl.col("ts").max())
    )
    links = facts.streams.links
    tried = generations.group_by("conversation_id", "tube_id").agg(
        restarts_tried=pl.len().cast(pl.Int64) - 1,
        restarts_timed_out=pl.col("timed_out_at").is_not_null().sum() + (pl.col("outcome").eq("timed_out") & pl.col("timed_out_at").is_null()).sum(),
    )  # fmt: skip
    # a loss of what never was up is none
    outages = facts.outages.filter(
        pl.col("up_before_at").is_not_null() | pl.col("down_state").is_in(["disconnected", GONE])
    )
    lost = outages.sort("tube_id", "down_seq").group_by("tube_id", maintain_order=True).agg(
        pl.col("lost_low_at", "lost_high_at").last(), lost_logged_at=pl.col("down_at").last(), outages=pl.len().cast(pl.Int64)
    )  # fmt: skip
    rows = (
        links.join(seen, on=["conversation_id", "tube_id"], how="left")
        .join(facts.tubes.drop("closed_at", "closed_origin"), on="tube_id")
        .join(reasons, on=["conversation_id", "tube_id"], how="left")
        .join(tried, on=["conversation_id", "tube_id"], how="left")
        .join(lost, on="tube_id", how="left")
        .join(facts.ends, on=["conversation_id", "tube_id"], how="left")
        .join(
            facts.closings.select("conversation_id", "tube_id", "closed_at", "closed_origin"),
            on=["conversation_id", "tube_id"],
            how="left",
        )
        .with_columns(
            pl.when("states_told").then(pl.col("outages").fill_null(0)).otherwise("outages"),
            to_at=pl.when(pl.col("own_seq").is_not_null()).then("own_gone_at").otherwise("to_at"),
            lost=pl.col("lost") & pl.col("own_seq").is_null(),
            # its own channel may be closed while the tube goes on
            was_closed=pl.col("was_closed") | pl.col("close_reason").is_not_null(),
            original=pl.col("order") == pl.col("order").min().over("tube_id"),
        )
    )
    return LINKS.select(rows)
