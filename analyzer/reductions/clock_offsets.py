"""How far the clocks of the two logs of a conversation are apart: an interval, from what must have come first.

What one side sends it has logged before the other side logs that it came: every candidate, the offer, the answer. Each
such pair of lines bounds the offset from one side, whatever time the message took. No other table applies the offset.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.crowds import within
from analyzer.reductions.artefacts import CLOCK_SET_BACK
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.reductions.query import collected
from analyzer.tables.declare import Column, Table

#: a line may be stamped so long after it was written: from 1.6 on a task forwards the records (most within 5 ms, 22 ms
#: is the longest known of a loaded machine), before that the library's own thread did
FORWARDED_MS = 25.0
WRITTEN_MS = 5.0
#: epoch times in milliseconds that lines print; anything less is a duration
_EPOCH_MS = (1e12, 1e13)
_KEY = ["transport", "address", "port", "candidate_type"]
PAIR = ["conversation_id", "client_tube_id", "gateway_tube_id"]
_KIND = pl.col("kind")

CLOCK_OFFSETS = Table(
    "clock_offsets",
    row="One pair of tubes that met, its client's and its gateway's, in two logs with times. Offsets are the gateway's clock less the client's: above zero where the gateway's is ahead.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("client_tube_id", pl.String(), "Tube in the client's log."),
        Column("gateway_tube_id", pl.String(), "Tube in the gateway's log."),
        Column("low_ms", pl.Float64(), "The offset is at least this: the largest (sent by the gateway − received by the client), less one unit of the client's times and what the sender's line may be stamped late (25 ms where records name their source file, as since 1.6, else 5 ms). Null where nothing bounds it.",
               "ms", ("candidate_gathered", "remote_candidate_added", "candidate_described", "remote_description_set", "signaling_state_changed")),
        Column("high_ms", pl.Float64(), "The offset is at most this: the least (received by the gateway − sent by the client), plus one unit of the gateway's times and what the sender's line may be stamped late.",
               "ms", ("candidate_gathered", "remote_candidate_added", "candidate_described", "remote_description_set", "signaling_state_changed")),
        Column("refused_reason", pl.String(), "Why there is no interval although there is evidence; null where there is one."),
        Column("evidence", pl.Int64(), "Messages that bound the offset: candidates, offer, answer.", "{message}"),
        Column("low_method", pl.String(), "What gave the lower bound: candidate or answer."),
        Column("low_sent_origin", pl.String(), "`source:line` where the gateway had it."),
        Column("low_received_origin", pl.String(), "`source:line` where the client had it."),
        Column("high_method", pl.String(), "What gave the upper bound: candidate or offer."),
        Column("high_sent_origin", pl.String(), "`source:line` where the client had it."),
        Column("high_received_origin", pl.String(), "`source:line` where the gateway had it."),
        Column("client_ahead_ms", pl.Float64(), "The client log's times less the epoch times that its own lines print, the least of them: near zero, or what its zone was mistaken by.",
               "ms", ("gathering_started_reported", "gathering_completed_reported")),
        Column("gateway_ahead_ms", pl.Float64(), "The same of the gateway's log.", "ms", ("gathering_started_reported", "gathering_completed_reported")),
    ),
    sort=("conversation_id", "client_tube_id", "gateway_tube_id"),
)  # fmt: skip


def _first(name: str, *conditions: pl.Expr) -> list[pl.Expr]:
    """Time and origin of the first event that meets the conditions, as `<name>_at` and `<name>_origin`."""
    met = pl.all_horizontal(pl.col("ts").is_not_null(), *conditions).fill_null(False)
    return [pl.col(column).filter(met).sort_by(pl.col("ts").filter(met)).first().alias(f"{name}_{suffix}")
            for column, suffix in (("ts", "at"), ("origin", "origin"))]  # fmt: skip


def _tubes(facts: Facts) -> pl.DataFrame:
    """What each tube of a log with times told of offer and answer, and how late its lines may be stamped."""
    described, state = _KIND == "remote_description_set", pl.col("signaling_state")
    epoch_ms = pl.col("ts").dt.timestamp("us") / 1000 - pl.col("timestamp_ms")
    told = facts.streams.events.lazy().filter(pl.col("tube_id").is_not_null()).group_by("tube_id").agg(
        *_first("local_offer", state == "HaveLocalOffer"),
        *_first("gathering", _KIND == "gathering_started"),
        *_first("remote_offer", state == "HaveRemoteOffer"),
        *_first("stable", state == "Stable"),
        *_first("offer_set", described, ~pl.col("is_answer")),
        *_first("answer_set", described, pl.col("is_answer")),
        offers=(state == "HaveLocalOffer").sum(),
        offered=(state == "HaveRemoteOffer").sum(),
        offers_set=(described & ~pl.col("is_answer")).sum(),
        answers_set=(described & pl.col("is_answer")).sum(),
        late_ms=pl.when(pl.col("location").is_not_null().any()).then(FORWARDED_MS).otherwise(WRITTEN_MS),
        ahead_ms=epoch_ms.filter(pl.col("timestamp_ms").is_between(*_EPOCH_MS)).min().round(3),
    )  # fmt: skip
    known = facts.tubes.filter(pl.col("side").is_not_null(), pl.col("resolution_ms").is_not_null())
    return known.select("tube_id", "side", "scope", "resolution_ms", "again_from").join(collected(told), on="tube_id")


def _exchanged(facts: Facts) -> pl.DataFrame:
    """Candidates that one tube gathered and another one was told of: `sender`, `receiver`, and both lines."""
    # of a port that was gathered anew it is not known which of the two was sent
    endpoints = facts.candidates.filter(
        pl.col("address").is_not_null(), pl.col("port") > 0, pl.col("ts").is_not_null(), pl.col("tcp_type").is_null()
    ).sort("ts", "seq")
    seen = endpoints.group_by("direction", "tube_id", *_KEY, maintain_order=True).agg(
        pl.col("ts", "origin").first(), generations=pl.col("generation").n_unique()
    )
    local = seen.filter(pl.col("direction") == "local", pl.col("generations") == 1)
    remote = seen.filter(pl.col("direction") == "remote")
    few = within(local, remote, _KEY)
    sent = local.join(few, on=_KEY, how="semi", maintain_order="left")
    return sent.select(*_KEY, sender="tube_id", sent_at="ts", sent_origin="origin").join(
        remote.select(*_KEY, receiver="tube_id", received_at="ts", received_origin="origin"), on=_KEY
    )


def _met(facts: Facts, tubes: pl.DataFrame, exchanged: pl.DataFrame) -> pl.DataFrame:
    """Tubes of two sides and two logs of one conversation that met (`PAIR`): by their candidates, or as the only ones."""
    ends = facts.streams.links.select("conversation_id", "tube_id").join(
        tubes.select("tube_id", "side", "scope"), on="tube_id"
    )
    client, gateway = (
        ends.filter(pl.col("side") == side).select(
            "conversation_id", pl.col("tube_id").alias(f"{side}_tube_id"), pl.col("scope").alias(f"{side}_scope")
        )
        for side in ("client", "gateway")
    )
    told = pl.concat(
        [
            exchanged.select(client_tube_id="sender", gateway_tube_id="receiver"),
            exchanged.select(client_tube_id="receiver", gateway_tube_id="sender"),
        ]
    ).unique()
    apart = pl.col("client_scope") != pl.col("gateway_scope")
    met = told.join(client, on="client_tube_id").join(gateway, on=["conversation_id", "gateway_tube_id"]).filter(apart)
    # a conversation that is taken up again and again has as many tubes on either side
    few = within(client, gateway, ["conversation_id"])
    both = client.join(few, on="conversation_id", how="semi").join(gateway, on="conversation_id").filter(apart)
    sole = both.filter(pl.len().over("conversation_id") == 1)
    return pl.concat([met.select(PAIR), sole.select(PAIR)]).unique()


def _pairs(facts: Facts, tubes: pl.DataFrame, exchanged: pl.DataFrame) -> pl.DataFrame:
    """The pairs of tubes that met, with what each end told."""
    pairs = _met(facts, tubes, exchanged)
    for side in ("client", "gateway"):
        own = tubes.rename({name: f"{side}_{name}" for name in tubes.columns})
        pairs = pairs.join(own, on=f"{side}_tube_id")
    return pairs


def _bounds(pairs: pl.DataFrame, exchanged: pl.DataFrame) -> pl.DataFrame:
    """One row per message between the tubes of a pair: `bound` (low, high), `value_ms`, `method` and the two lines."""
    sides = {"high": ("client", "gateway"), "low": ("gateway", "client")}
    # a log that lacks its beginning would tell of a later offer: only where both tell of as many the first are the same
    whole = (pl.col("client_offers") == pl.col("gateway_offered")) & (
        pl.col("client_answers_set") == pl.col("gateway_offers_set")
    )
    lines = {
        "high": ("offer", ("local_offer", "gathering"), ("offer_set", "remote_offer")),
        "low": ("answer", ("remote_offer", "offer_set"), ("answer_set", "stable")),
    }
    found = []
    for bound, (sender, receiver) in sides.items():
        keys = [f"{sender}_tube_id", f"{receiver}_tube_id"]
        candidates = pairs.join(exchanged, left_on=keys, right_on=["sender", "receiver"]).with_columns(
            method=pl.lit("candidate")
        )
        method, sent, received = lines[bound]
        described = pairs.filter(whole).with_columns(
            method=pl.lit(method),
            **{f"sent_{what}": pl.coalesce(f"{sender}_{one}_{what}" for one in sent) for what in ("at", "origin")},
            **{f"received_{what}": pl.coalesce(f"{receiver}_{one}_{what}" for one in received) for what in ("at", "origin")},
        )  # fmt: skip
        took = elapsed_ms("sent_at", "received_at") + pl.col(f"{receiver}_resolution_ms") + pl.col(f"{sender}_late_ms")
        found += [
            rows.select(
                *PAIR, "method", "sent_origin", "received_origin",
                bound=pl.lit(bound), value_ms=(took if bound == "high" else -took).round(3),
            )
            for rows in (candidates, described)
        ]  # fmt: skip
    return pl.concat(found).drop_nulls("value_ms")


def reduce(facts: Facts) -> pl.DataFrame:
    """Bound the offset of every pair of tubes that met."""
    if facts.tubes["scope"].n_unique() < 2:
        # one log has one clock
        return CLOCK_OFFSETS.empty()
    exchanged = _exchanged(facts)
    pairs = _pairs(facts, _tubes(facts), exchanged)
    bounds = _bounds(pairs, exchanged)
    told = bounds.group_by(PAIR).agg(evidence=pl.len())
    for bound, tightest in (("low", True), ("high", False)):
        best = (
            bounds.filter(pl.col("bound") == bound)
            .sort("value_ms", "method", "sent_origin", "received_origin", descending=[tightest, False, False, False])
            .unique(PAIR, keep="first", maintain_order=True)
        )
        names = {"value_ms": f"{bound}_ms", "method": f"{bound}_method",
                 **{f"{way}_origin": f"{bound}_{way}_origin" for way in ("sent", "received")}}  # fmt: skip
        told = told.join(best.select(*PAIR, *names).rename(names), on=PAIR, how="left")
    # two clocks have one distance only while neither is set
    set_back = pl.any_horizontal(pl.col("client_again_from", "gateway_again_from").is_not_null())
    contradict = (pl.col("low_ms") > pl.col("high_ms")).fill_null(False)
    ends = pl.col("^(client|gateway)_(ahead_ms|again_from)$")
    rows = pairs.select(*PAIR, ends).join(told, on=PAIR, how="left")
    return CLOCK_OFFSETS.conform(
        rows.with_columns(
            evidence=pl.col("evidence").fill_null(0),
            refused_reason=pl.when(set_back)
            .then(pl.lit(CLOCK_SET_BACK.reason))
            .when(contradict)
            .then(pl.lit("the bounds contradict each other")),
            low_ms=pl.when(~contradict & ~set_back).then("low_ms"),
            high_ms=pl.when(~contradict & ~set_back).then("high_ms"),
        ).drop("client_again_from", "gateway_again_from")
    )
