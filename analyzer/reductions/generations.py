"""ICE restarts: every attempt of a tube to find a path, the first one and each restart, gathered or not.

An attempt is told by several lines (asked for, offered, gathering, answered); each belongs to the attempt that is being
opened, or opens one. Which it is follows from the line before it alone, so it needs no times.
"""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.reductions.life import UP, ended
from analyzer.reductions.query import collected
from analyzer.tables.declare import Column, Metric, Table

_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()

GENERATIONS = Table(
    "generations",
    row="One attempt of one tube to find a path: its set-up, and every ICE restart, whether it gathered candidates or not.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube: one peer connection inside one process."),
        Column("side", pl.String(), "client: the offerer of the conversation; gateway: its answerer."),
        Column("attempt", pl.Int64(), "1 for the set-up, then the restarts in their order."),
        Column("generation", pl.Int64(), "ICE generation it gathered, or in which it stayed: as in candidates. Two sides may count differently, since a restart may gather on one of them only: releases from 1.6 on offer one that keeps the old candidates, and an offer that crosses another is refused."),
        Column("started_at", TIMESTAMP, "First line of the attempt; null without times, and for a set-up before the log.", source=("restart_attempted", "restart_offered", "signaling_state_changed", "gathering_started")),
        Metric("cause", pl.String(),
               "set_up; connection_lost: the path was disconnected or failed; network_change: an interface changed; requested: the host asked, no line tells why; peer_asked: the other side offered; null where the log does not tell.",
               pl.when(pl.col("attempt") == 1).then(pl.when("begun").then(pl.lit("set_up"))).otherwise(pl.col("cause")),
               source=("restart_triggered", "restart_attempted", "signaling_state_changed")),
        Metric("role", pl.String(), "offer or answer: who described first in this attempt; null where no line tells.",
               pl.coalesce("role", pl.when(pl.col("attempt") == 1).then(pl.col("side").replace_strict({"client": "offer", "gateway": "answer"}, default=None, return_dtype=pl.String))),
               source=("restart_offered", "signaling_state_changed")),
        Metric("gathered", pl.Boolean(), "Whether candidates were gathered anew; null where the log shows no gathering at all.",
               pl.when(pl.col("tube_gathers")).then(pl.col("gathered")), source=("gathering_started",)),
        Metric("local_candidates", pl.Int64(), "Distinct local candidates it gathered; null where none was seen.",
               pl.when(pl.col("gathered")).then(pl.col("local_candidates")), "{candidate}", ("candidate_gathered",)),
        Column("answered_at", TIMESTAMP, "When offer and answer were both applied.", source=("restart_answered", "signaling_state_changed")),
        Metric("outcome", pl.String(),
               "connected: a path was found, or never went away; path_returned: the path that was there came back, no answer to the offer was applied; timed_out: no answer came; failed: the ICE agent gave up, or no offer could be made; superseded: another attempt began before; closed: the tube was closed before; else unknown.",
               pl.when(pl.col("connected_at_seq").is_not_null() & pl.col("unanswered")).then(pl.lit("path_returned"))
               .when(pl.col("connected_at_seq").is_not_null()).then(pl.lit("connected"))
               .when(pl.col("timed_out")).then(pl.lit("timed_out"))
               .when(pl.col("refused") | pl.col("failed")).then(pl.lit("failed"))
               .when(pl.col("was_up") & pl.col("answered") & ~pl.col("was_gone")).then(pl.lit("connected"))
               .when(~pl.col("is_last")).then(pl.lit("superseded"))
               .when(pl.col("was_closed")).then(pl.lit("closed"))
               .otherwise(pl.lit("unknown")),
               source=("ice_state_changed", "peer_state_changed", "channel_opened", "restart_answered", "restart_timed_out", "restart_failed")),
        Column("connected_at", TIMESTAMP, "First connected state within it: the peer connection's in a set-up, ICE's in a restart; null where the path had never gone away.", source=("ice_state_changed", "peer_state_changed")),
        Column("timed_out_at", TIMESTAMP, "When the library stopped waiting for an answer.", source=("restart_timed_out",)),
        Metric("downtime_ms", pl.Float64(), "Loss of the path → connected again in this attempt. Null where no loss was logged: below the agent's timeout (30 s) none is.",
               pl.col("downtime_ms"), "ms", ("ice_state_changed",)),
        Column("downtime_method", pl.String(), "How the loss is dated: timeout_printed, timeout_default: back from the line by the time without traffic that the agent waits, as printed or as the library sets it; state_change: by the line alone, so the true time is longer."),
        Column("lost_low_at", TIMESTAMP, "Earliest time of that loss."),
        Column("lost_high_at", TIMESTAMP, "Latest time of that loss."),
        Column("origin", pl.String(), "`source:line` of its first line."),
    ),
    sort=("conversation_id", "tube_id", "attempt"),
)  # fmt: skip

_signaling = _KIND == "signaling_state_changed"
_path = _KIND.is_in(["ice_state_changed", "peer_state_changed"])
#: what a line is to an attempt, by one letter
_MARKS: tuple[tuple[str, pl.Expr], ...] = (
    ("trigger", _KIND == "restart_triggered"),
    ("stop", _KIND.is_in(["restart_skipped", "restart_refused"])),
    ("attempt", _KIND == "restart_attempted"),
    ("local", _signaling & (pl.col("signaling_state") == "HaveLocalOffer")),
    ("offer", _KIND == "restart_offered"),
    ("remote", _signaling & (pl.col("signaling_state") == "HaveRemoteOffer")),
    ("gather", _KIND == "gathering_started"),
    ("stable", _signaling & (pl.col("signaling_state") == "Stable")),
    ("answer", _KIND == "restart_answered"),
    ("up", _path & _STATE.is_in(UP)),
    ("down", _path & (_STATE == "disconnected")),
    ("fail", _path & (_STATE == "failed")),
    ("open", _KIND.is_in(["channel_opened", "channel_received", "channel_seen_open"])),
    ("timeout", _KIND == "restart_timed_out"),
    ("failure", _KIND == "restart_failed"),
)
#: marks by which an attempt is decided upon
_OPENING = (
    "trigger",
    "stop",
    "attempt",
    "local",
    "offer",
    "remote",
    "gather",
    "stable",
    "up",
    "down",
    "fail",
    "failure",
    "timeout",
)
#: marks that tell whether the path is up
_TELLING = ("up", "down", "fail")
#: once one of these stood, the set-up is over
_LATER = (*_TELLING, "trigger", "attempt", "offer")
_mark, _before = pl.col("mark"), pl.col("before")


def _marked(events: pl.DataFrame) -> pl.DataFrame:
    """Marks of every tube in order, each with the number of its attempt, 1 for the set-up."""
    mark = pl.coalesce(pl.when(test).then(pl.lit(name)) for name, test in _MARKS)
    told = collected(
        events.lazy()
        .filter(pl.col("tube_id").is_not_null(), pl.any_horizontal(test for _, test in _MARKS))
        .select(
            "tube_id", "seq", "ts", "origin", "generation", "kind", "state", "restart_reason", mark=mark,
        )
    )  # fmt: skip
    rows = told.select(
        "tube_id", "seq", "ts", "origin", "generation", "mark", peer=_KIND == "peer_state_changed",
        why=pl.when(_mark == "trigger").then(pl.coalesce(pl.col("restart_reason"), _STATE)),
    )  # fmt: skip
    # a network that changes behind the close has a library that outlives its tubes try them again
    rows = (
        rows.join(ended(events), on="tube_id", how="left")
        .filter((pl.col("seq") <= pl.col("ended_seq")).fill_null(True) | _mark.is_in([*_TELLING, "open"]))
        .drop("ended_seq")
        .sort("tube_id", "seq")
    )
    deciding = rows.filter(_mark.is_in(_OPENING)).with_columns(
        before=_mark.shift().over("tube_id"),
        nth=_mark.cum_count().over("tube_id", "mark"),
        late=(_mark.is_in(_LATER).cum_sum().over("tube_id") - _mark.is_in(_LATER).cast(pl.Int64)) > 0,
        # lines that ask for a restart stand together, right before it: behind the same number of other lines
        behind=(_mark != "trigger").cum_sum().over("tube_id").cast(pl.Int64),
    )
    again = pl.col("late") | (pl.col("nth") > 1)
    opening = ["attempt", "local", "offer", "remote"]
    opens = (
        (_mark == "attempt")
        | ((_mark == "local") & again & ~_before.is_in(["attempt", "offer"]).fill_null(False))
        | ((_mark == "offer") & ~_before.is_in(["attempt", "local", "gather"]).fill_null(False))
        | ((_mark == "remote") & again)
        | ((_mark == "gather") & again & ~_before.is_in([*opening, "stable"]).fill_null(False))
    )
    asked = deciding.filter(_mark == "trigger").group_by("tube_id", "behind").agg(
        asked=pl.lit(True), cause=pl.col("why").drop_nulls().last()
    )  # fmt: skip
    decided = (
        deciding.with_columns(opens=opens, behind=pl.col("behind") - 1)
        .join(asked, on=["tube_id", "behind"], how="left")
        .select("tube_id", "seq", "opens", "asked", "cause")
    )
    path = pl.when(_mark.is_in(_TELLING)).then(_mark)
    return (
        rows.join(decided, on=["tube_id", "seq"], how="left", maintain_order="left")
        .with_columns(pl.col("opens").fill_null(False))
        .with_columns(
            attempt=(pl.col("opens").cum_sum().over("tube_id") + 1).cast(pl.Int64),
            path_before=path.forward_fill().shift().over("tube_id"),
        )
    )


def _cause() -> pl.Expr:
    """Cause of an attempt, from its opening line and the lines right before it."""
    first = pl.col("opens")
    why, asked = pl.col("cause").filter(first).first(), pl.col("asked").filter(first).first().fill_null(False)
    own = _mark.filter(first).first()
    lost = why.str.contains("disconnected|failed").fill_null(False)
    return (
        pl.when(own == "remote").then(pl.lit("peer_asked"))
        .when(asked & lost).then(pl.lit("connection_lost"))
        .when(asked & (why.is_null() | why.str.contains("network"))).then(pl.lit("network_change"))
        .when(asked).then(why.str.replace_all(" ", "_"))
        .when(own != "gather").then(pl.lit("requested"))
    )  # fmt: skip


def _attempts(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per tube and attempt that lines tell of."""

    def at(*marks: str) -> pl.Expr:
        return pl.col("ts").filter(_mark.is_in(marks)).min()

    opening = _mark.is_in(["local", "remote", "attempt", "offer", "gather"])
    connecting = (_mark == "up") & (pl.col("peer") | (pl.col("attempt") > 1))
    # the channel is open: it connected, whatever lines of states there are
    connected = connecting | ((_mark == "open") & (pl.col("attempt") == 1))
    described = _mark.filter(_mark.is_in(["local", "remote", "offer", "attempt"])).first()
    return rows.group_by("tube_id", "attempt").agg(
        started_at=pl.col("ts").filter(opening).min(),
        origin=pl.col("origin").filter(opening).first(),
        generation=pl.coalesce(pl.col("generation").filter(_mark == "gather").first(), pl.col("generation").first()),
        cause=_cause(),
        role=pl.when(described == "remote").then(pl.lit("answer")).when(described.is_not_null()).then(pl.lit("offer")),
        gathered=(_mark == "gather").any(),
        answered=_mark.is_in(["stable", "answer"]).any(),
        answered_at=at("stable", "answer"),
        connected_at=pl.col("ts").filter(connecting).min(),
        connected_at_seq=pl.col("seq").filter(connected).min(),
        timed_out=(_mark == "timeout").any(),
        timed_out_at=at("timeout"),
        refused=(_mark == "failure").any(),
        failed=(_mark == "fail").any(),
        was_up=(pl.col("path_before").filter("opens").first() == "up").fill_null(False),
    )


def _downtimes(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Spans without a path, by the attempt in which the path came back."""
    ups = rows.select("tube_id", "attempt", up_seq="seq")
    back = spans.join(ups, on=["tube_id", "up_seq"]).filter(pl.col("attempt") > 1)
    return (
        back.with_columns(since=pl.coalesce("lost_at", "down_at"))
        .with_columns(downtime_ms=elapsed_ms("since", "up_at"))
        .with_columns(pl.when(pl.col("downtime_ms") >= 0).then("downtime_ms"))
        .sort("tube_id", "attempt", "down_seq")
        .group_by("tube_id", "attempt", maintain_order=True)
        .agg(pl.col("downtime_ms", "lost_method", "lost_low_at", "lost_high_at").first())
        .with_columns(
            downtime_method=pl.when(pl.col("downtime_ms").is_not_null()).then(
                pl.coalesce("lost_method", pl.lit("state_change"))
            )
        )
        .drop("lost_method")
    )


def _gone(attempts: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Attempts that were answered when the path was gone already, though its loss was told later."""
    silent = spans.select("tube_id", "lost_high_at", "down_at").drop_nulls().sort("lost_high_at")
    answered = attempts.select("tube_id", "attempt", "answered_at").drop_nulls().sort("answered_at")
    met = answered.join_asof(
        silent, left_on="answered_at", right_on="lost_high_at", by="tube_id", check_sortedness=False
    )
    return met.filter(pl.col("answered_at") <= pl.col("down_at")).select("tube_id", "attempt", was_gone=pl.lit(True))


def reduce(facts: Facts) -> pl.DataFrame:
    """List the attempts of every tube, for every conversation it carried."""
    rows = _marked(facts.streams.events)
    set_up = facts.tubes.select("tube_id", attempt=pl.lit(1, pl.Int64))
    attempts = _attempts(rows)
    found = (
        attempts.join(set_up, on=["tube_id", "attempt"], how="full", coalesce=True)
        .join(_downtimes(rows, facts.outages), on=["tube_id", "attempt"], how="left")
        .join(_gone(attempts, facts.outages), on=["tube_id", "attempt"], how="left")
        .with_columns(
            pl.col("generation").fill_null(1),
            pl.col("gathered", "answered", "timed_out", "refused", "failed", "was_up", "was_gone").fill_null(False),
            tube_gathers=pl.col("gathered").any().over("tube_id"),
            # a log that told of an answer before would have told of this one
            unanswered=(pl.col("attempt") > 1)
            & (pl.col("role") == "offer").fill_null(False)
            & ~pl.col("answered")
            & pl.col("answered").any().over("tube_id"),
            is_last=pl.col("attempt") == pl.col("attempt").max().over("tube_id"),
        )
    )
    local = facts.candidates.filter(pl.col("direction") == "local")
    counted = local.group_by("tube_id", "generation").agg(local_candidates=pl.len().cast(pl.Int64))
    placed = (
        facts.streams.links.select("conversation_id", "tube_id")
        .join(facts.tubes.select("tube_id", "side", "begun", "was_closed"), on="tube_id")
        .join(found, on="tube_id")
        .join(counted, on=["tube_id", "generation"], how="left")
        .with_columns(started_at=pl.when((pl.col("attempt") > 1) | pl.col("begun")).then("started_at"))
    )
    return GENERATIONS.select(placed)
