"""State intervals: what each machine of a tube was in, from when to when, and outages dated back."""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.tables.declare import Column, Metric, Table

_ENDED_BY = "changed: another state followed; closed: the tube was closed; process_restarted: another process went on writing the log, and the tube was not closed; log_ended: the log ends so."

STATES = Table(
    "states",
    row="One state of one machine of a tube, as long as it lasted.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube: one peer connection inside one process."),
        Column("side", pl.String(), "client: the offerer; gateway: the answerer; null when no line tells."),
        Column("machine", pl.String(), "peer_connection, ice, signaling, gathering, data_channel."),
        Column("channel_label", pl.String(), "Which data channel; null for the other machines, and where its line names none."),
        Column("state", pl.String(), "State, as W3C spells it: checking, have-local-offer."),
        Column("from_at", TIMESTAMP, "When it was entered, as logged; null without times.",
               source=("peer_state_changed", "ice_state_changed", "signaling_state_changed", "gathering_state_changed", "channel_state_changed", "channel_opened")),
        Column("number", pl.Int64(), "Place in the order of the log, from 1, within its machine; what is left to tell it by where times are equal or null."),
        Column("to_at", TIMESTAMP, "When it ended: by the next state, or by the close of the tube; null where no line tells an end."),
        Metric("duration_ms", pl.Float64(), "From entered to ended.", pl.when(pl.col("to_at") >= pl.col("from_at")).then(elapsed_ms("from_at", "to_at")), "ms"),
        Column("ended_by", pl.String(), f"{_ENDED_BY} Null for closed, which has no end."),
        Column("lost_low_at", TIMESTAMP,
               "Where the ICE agent lost the path: earliest time of it. The agent tells only after 30 s without traffic (disconnected), 60 s more (failed), or as it printed; two keepalives are left open."),
        Column("lost_high_at", TIMESTAMP, "Latest time of that loss."),
        Column("lost_method", pl.String(), "timeout_printed or timeout_default: back from the line by the agent's timeouts, as the log prints them or as the library sets them."),
        Column("origin", pl.String(), "`source:line` of the line that told it."),
    ),
    sort=("conversation_id", "tube_id", "machine", "channel_label", "number"),
)  # fmt: skip


def reduce(facts: Facts) -> pl.DataFrame:
    """List the state intervals of every tube, for every conversation it carried."""
    key = ["tube_id", "machine", "label"]
    following = facts.changes.with_columns(
        to_at=pl.col("ts").shift(-1).over(key),
        last=pl.col("seq") == pl.col("seq").max().over(key),
        number=pl.col("seq").rank("ordinal").over(key).cast(pl.Int64),
    )
    dated = facts.outages.select("tube_id", "lost_low_at", "lost_high_at", "lost_method", seq="down_seq")
    # the peer connection's word for the same loss is of the same time
    dated = pl.concat([dated, _echoes(facts, dated)])
    tubes = facts.tubes.select("tube_id", "side", "was_closed", "gone_at")
    open_end = pl.col("last") & (pl.col("state") != "closed")
    placed = (
        facts.streams.links.select("conversation_id", "tube_id", "restarted")
        .join(following, on="tube_id")
        .join(tubes, on="tube_id")
        .join(dated, on=["tube_id", "seq"], how="left")
    )
    return STATES.select(
        placed.with_columns(
            to_at=pl.when(open_end & pl.col("was_closed")).then(pl.max_horizontal("gone_at", "ts")).otherwise("to_at"),
            ended_by=pl.when(~pl.col("last")).then(pl.lit("changed"))
            .when(pl.col("state") == "closed").then(None)
            .otherwise(ended_by()),
        ).rename({"ts": "from_at", "label": "channel_label"})
    )  # fmt: skip


def ended_by() -> pl.Expr:
    """How a tube ended, over `was_closed` and `restarted`."""
    return (
        pl.when("was_closed").then(pl.lit("closed"))
        .when("restarted").then(pl.lit("process_restarted"))
        .otherwise(pl.lit("log_ended"))
    )  # fmt: skip


def _echoes(facts: Facts, dated: pl.DataFrame) -> pl.DataFrame:
    """The peer connection's own change to the state that ICE told right before."""
    changes = facts.changes.filter(pl.col("machine").is_in(["ice", "peer_connection"])).sort("tube_id", "seq")
    after = changes.with_columns(
        before=pl.col("seq").shift().over("tube_id"), said=pl.col("state").shift().over("tube_id")
    ).filter(pl.col("said") == pl.col("state"))
    told = after.select("tube_id", "before", echo="seq")
    return dated.join(told, left_on=["tube_id", "seq"], right_on=["tube_id", "before"]).select(
        "tube_id", "lost_low_at", "lost_high_at", "lost_method", seq="echo"
    )
