"""The legs of a conversation: client ↔ KRelay ↔ gateway ↔ Guacd or target, end to end, and how long its set-up took."""

from __future__ import annotations

import polars as pl

from analyzer.reductions import agreement, servers, told_late
from analyzer.reductions.agreement import bound
from analyzer.reductions.durations import of_conversations
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_measurements import with_choice
from analyzer.reductions.leg_names import BEYOND, CLIENT, DATA_CHANNEL, END_TO_END, GATEWAY, ICE, LEGS
from analyzer.reductions.relay_bytes import METHOD
from analyzer.reductions.selected_pair import METHODS
from analyzer.tables.declare import Column, Metric, Table

_client, _gateway, _whole = pl.col(f"{CLIENT}_direct"), pl.col(f"{GATEWAY}_direct"), pl.col(f"{END_TO_END}_direct")
_guacd, _target = (pl.col(f"{leg}_direct") for leg in BEYOND)
_relayed = pl.col("uses_relay").fill_null(False)


def _difference(other: pl.Expr) -> pl.Expr:
    """The leg that no log saw: what is left of a relayed path. Nothing is left of a direct one."""
    rest = _whole - other
    return pl.when(_relayed, rest > 0, pl.col("path_is_single_relay").fill_null(False)).then(rest)


_SUM = pl.when(_relayed, ~pl.col("mixed").fill_null(False)).then(_client + _gateway)


def _method(leg: str, derived: pl.Expr, name: str) -> pl.Expr:
    direct = pl.col(f"{leg}_direct_method")
    return pl.coalesce(direct, pl.when(derived.is_not_null()).then(pl.lit(name)))


def _within(leg: str, derived: pl.Expr, bounds: tuple[pl.Expr, pl.Expr]) -> tuple[Metric, Metric]:
    """Bounds of a leg: those of the estimate shown or of what it is derived from, else all that the log tells of it."""
    derive = pl.col(f"{leg}_direct").is_null() & derived.is_not_null()
    low, high = (
        pl.when(derive).then(derived_bound).otherwise(bound(leg, end))
        for derived_bound, end in zip(bounds, ("low", "high"), strict=True)
    )
    return (
        Metric(f"{leg}_low_ms", pl.Float64(), "Lower bound of it; also where nothing but bounds is known.",
               pl.when(low <= high).then(pl.max_horizontal(pl.lit(0.0), low)), "ms"),
        Metric(f"{leg}_high_ms", pl.Float64(), "Upper bound of it; also where nothing but bounds is known.", pl.when(low <= high).then(high), "ms"),
    )  # fmt: skip


def _rest_within(other: str) -> tuple[pl.Expr, pl.Expr]:
    return bound(END_TO_END, "low") - bound(other, "high"), bound(END_TO_END, "high") - bound(other, "low")


def _sum_within() -> tuple[pl.Expr, pl.Expr]:
    return bound(CLIENT, "low") + bound(GATEWAY, "low"), bound(CLIENT, "high") + bound(GATEWAY, "high")


CONNECTION_LEGS = Table(
    "connection_legs",
    row="One conversation.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Metric("client_to_krelay_latency_ms", pl.Float64(),
               "Round trip client ↔ relay, from the client's log; else end to end − the other leg, on a path through one relay. Known bias: what the name server took is in it.",
               pl.coalesce(_client, _difference(_gateway)), "ms", ("gathering_started", "candidate_gathered", "allocation_failed")),
        Metric("client_to_krelay_method", pl.String(), "Method of that value, as in leg_measurements.", _method(CLIENT, _difference(_gateway), "difference")),
        *_within(CLIENT, _difference(_gateway), _rest_within(GATEWAY)),
        Metric("krelay_to_gateway_latency_ms", pl.Float64(),
               "Round trip relay ↔ gateway, from the gateway's log; else end to end − the other leg, on a path through one relay. Known bias: what the name server took is in it.",
               pl.coalesce(_gateway, _difference(_client)), "ms", ("gathering_started", "candidate_gathered", "allocation_failed")),
        Metric("krelay_to_gateway_method", pl.String(), "Method of that value, as in leg_measurements.", _method(GATEWAY, _difference(_client), "difference")),
        *_within(GATEWAY, _difference(_client), _rest_within(CLIENT)),
        Metric("end_to_end_latency_ms", pl.Float64(),
               "Round trip client ↔ gateway on the path taken: DTLS handshake or SCTP association ÷ their round trips; else the sum of the legs of a relayed path; else reported. Known bias: a busy machine's work on keys is in it.",
               pl.when(pl.col("end_to_end_direct_method") == "reported").then(pl.coalesce(_SUM, _whole)).otherwise(pl.coalesce(_whole, _SUM)),
               "ms", ("ice_state_changed", "peer_state_changed", "channel_opened", "channel_received")),
        Metric("end_to_end_method", pl.String(), "Method of that value, as in leg_measurements.",
               pl.when((pl.col("end_to_end_direct_method") == "reported") & _SUM.is_not_null()).then(pl.lit("sum"))
               .otherwise(_method(END_TO_END, _SUM, "sum"))),
        *_within(END_TO_END, _SUM, _sum_within()),
        Metric("gateway_to_guacd_latency_ms", pl.Float64(),
               "Round trip gateway ↔ Guacd as the gateway reports it, not measured here: time of one TCP handshake, in whole ms, the lowest of several connections.",
               _guacd, "ms", ("backend_connected",)),
        Metric("gateway_to_guacd_method", pl.String(), "backend_connect.", pl.col("gateway_to_guacd_direct_method")),
        Metric("gateway_to_target_latency_ms", pl.Float64(),
               "Round trip gateway ↔ target, where no Guacd is between, as the gateway reports it, not measured here: time of one TCP handshake, in whole ms, the lowest of several connections.",
               _target, "ms", ("backend_connected",)),
        Metric("gateway_to_target_method", pl.String(), "backend_connect.", pl.col("gateway_to_target_direct_method")),
        Metric("stun_response_time_ms", pl.Float64(), "Last STUN response time, of the client where it is sound, else of the gateway.",
               pl.col("stun_response_chosen_ms"), "ms", ("gathering_started", "candidate_gathered")),
        Metric("stun_response_time_method", pl.String(), "Method of that value, as in leg_measurements.", pl.col("stun_response_by")),
        Metric("turn_allocation_latency_ms", pl.Float64(), "TURN allocation time, of the client where it is sound, else of the gateway.",
               pl.col("turn_allocation_chosen_ms"), "ms", ("candidate_gathered", "credentials_fetched")),
        Metric("turn_allocation_latency_method", pl.String(), "Method of that value, as in leg_measurements.", pl.col("turn_allocation_by")),
        Metric("data_channel_establishment_ms", pl.Float64(), "Peer connected → data channel open (SCTP and DCEP), the earlier side.",
               pl.col(f"{DATA_CHANNEL}_chosen_ms"), "ms", ("peer_state_changed", "channel_opened", "channel_state_changed", "channel_seen_open")),
        Metric("data_channel_establishment_method", pl.String(), "state_change.", pl.col(f"{DATA_CHANNEL}_by")),
        Metric("ice_connection_establishment_ms", pl.Float64(), "ICE checking → connected, of the client where it is sound, else of the gateway; the agent's wait before it nominates is in it.",
               pl.col(f"{ICE}_chosen_ms"), "ms", ("ice_state_changed", "agent_state_changed")),
        Metric("ice_connection_establishment_method", pl.String(), "state_change.", pl.col(f"{ICE}_by")),
        Column("path", pl.String(), "Candidate types of the selected pair, client → gateway, such as `relay->host`; `?` where one end is open."),
        Column("uses_relay", pl.Boolean(), "Whether the traffic went through the relay; null when the log does not tell."),
        Column("uses_relay_method", pl.String(), "What tells it: ice_agent, candidates, nomination_wait, as for the selected pair; relay_bytes: where nothing else does, the relay's own counts, which hold nine tenths of what a tube counted, or below a tenth of it over all allocations of both sides, of at least 64 KiB per allocation; reported.",
               source=("pair_selected", "candidate_gathered", "ice_state_changed", "relay_peer_usage_counted", "relay_usage_counted")),
        Column("uses_relay_contradicted_by", pl.String(), "relay_bytes where the relay's own counts say the opposite; the surer evidence stays. Null: nothing does.", source=("relay_peer_usage_counted", "relay_usage_counted")),
    ),
    sort=("conversation_id",),
)  # fmt: skip


def _direct(measurements: pl.DataFrame) -> pl.DataFrame:
    """Chosen estimates side by side, one row per conversation, with their bounds or those of all that bounds the leg."""
    chosen = pl.col("chosen")

    def of(leg: str) -> dict[str, pl.Expr]:
        here = pl.col("leg") == leg
        picked, any_picked = here & chosen, (here & chosen).any()
        return {
            f"{leg}_direct": pl.col("value_ms").filter(picked).first(),
            f"{leg}_direct_method": pl.col("method").filter(picked).first(),
            f"{leg}_direct_ts": pl.col("ts").filter(picked).first(),
            f"{leg}_direct_origin": pl.col("origin").filter(picked).first(),
            f"{leg}_low_direct": pl.when(any_picked)
            .then(pl.col("low_ms").filter(picked).first())
            .otherwise(pl.col("low_ms").filter(here).max()),
            f"{leg}_high_direct": pl.when(any_picked)
            .then(pl.col("high_ms").filter(picked).first())
            .otherwise(pl.col("high_ms").filter(here).min()),
        }

    return measurements.group_by("conversation_id").agg(
        expr.alias(name) for leg in (CLIENT, GATEWAY, END_TO_END, *BEYOND) for name, expr in of(leg).items()
    )


def _paths(placed: pl.DataFrame) -> pl.DataFrame:
    """Path of each conversation, read client → gateway, from the side that proves the most of it."""
    local, remote = pl.col("selected_pair_local_type"), pl.col("selected_pair_remote_type")
    is_gateway = pl.col("side") == "gateway"
    ends = placed.with_columns(
        client_end=pl.when(is_gateway).then(remote).otherwise(local),
        gateway_end=pl.when(is_gateway).then(local).otherwise(remote),
        # of several tubes in turn each may have gone another way: one that is not known leaves it open for all
        open=pl.col("was_connected").fill_null(False)
        & pl.col("uses_relay").is_null()
        & (pl.col("tube_id").n_unique().over("conversation_id", "side") > 1),
    )
    ends = ends.with_columns(
        pl.when(~pl.col("open").any().over("conversation_id")).then(pl.col("client_end", "gateway_end", "uses_relay"))
    ).with_columns(any_relay=pl.col("uses_relay").any().over("conversation_id"))
    ranks = {method: rank for rank, method in enumerate(METHODS)}
    rank = pl.col("uses_relay_method").replace_strict(ranks, default=None, return_dtype=pl.Int64)
    agrees = pl.col("uses_relay") == pl.col("any_relay")
    joined = ends.group_by("conversation_id").agg(
        # rounds may have gone different ways: what is shown is one of them
        client_end=pl.col("client_end").filter(agrees).drop_nulls().first(),
        gateway_end=pl.col("gateway_end").filter(agrees).drop_nulls().first(),
        uses_relay=pl.when(pl.col("uses_relay").any()).then(True).otherwise(pl.col("uses_relay").drop_nulls().first()),
        mixed=pl.col("uses_relay").drop_nulls().n_unique() > 1,
        uses_relay_method=pl.col("uses_relay_method").filter(agrees).sort_by(rank.filter(agrees)).first(),
        uses_relay_contradicted_by=pl.when((agrees & (pl.col("by_relay") != pl.col("uses_relay"))).any()).then(
            pl.lit(METHOD)
        ),
    )
    known = pl.col("client_end").is_not_null() | pl.col("gateway_end").is_not_null()
    return joined.with_columns(
        path=pl.when(known).then(
            pl.format("{}->{}", pl.col("client_end").fill_null("?"), pl.col("gateway_end").fill_null("?"))
        ),
        # of rounds that went different ways no leg follows from others
        path_is_single_relay=~pl.col("mixed")
        & ((pl.col("client_end") == "relay").fill_null(False) ^ (pl.col("gateway_end") == "relay").fill_null(False)),
    )


def gathered(facts: Facts, selected: pl.DataFrame, measurements: pl.DataFrame) -> pl.DataFrame:
    """Everything the legs of a conversation are put together from, one row each."""
    placed = (
        facts.streams.links.select("conversation_id", "tube_id")
        .join(facts.tubes, on="tube_id")
        .join(selected.drop("side", "was_connected"), on="tube_id", how="left")
        .sort("conversation_id", "begins_at", "tube_id", nulls_last=True)
    )
    # a conversation may be named by lines that no tube can be tied to, as in a log that begins late
    named = facts.streams.events.select("conversation_id").drop_nulls()
    return (
        pl.concat([placed.select("conversation_id"), measurements.select("conversation_id"), named])
        .unique()
        .join(_direct(measurements), on="conversation_id", how="left")
        .join(_paths(placed), on="conversation_id", how="left")
        .join(of_conversations(measurements), on="conversation_id", how="left")
    )


def agreeing(facts: Facts, selected: pl.DataFrame, measurements: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The estimates, those refused that their path rules out, and everything legs are put together from."""
    legs = gathered(facts, selected, measurements)
    is_leg = pl.col("leg").is_in(LEGS)
    for rule in (servers.refused, told_late.refused, agreement.refused):
        told = rule(facts, measurements.filter(is_leg), legs)
        if told is not None:
            chosen = with_choice(told.drop("chosen", "chosen_for_tube"))
            measurements = pl.concat([chosen, measurements.filter(~is_leg)], how="diagonal_relaxed")
            legs = gathered(facts, selected, measurements)
    return measurements.drop("standing", "may_wait"), legs


def with_derived(measurements: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add what follows from other legs to the estimates, chosen where nothing better is.

    In: the estimates, and what `gathered` found. The origin of a derived estimate is that of the first of its two.
    """
    reported = (pl.col(f"{END_TO_END}_direct_method") == "reported").fill_null(False)
    ways = (
        (CLIENT, "difference", _difference(_gateway), _rest_within(GATEWAY), END_TO_END, _client.is_null()),
        (GATEWAY, "difference", _difference(_client), _rest_within(CLIENT), END_TO_END, _gateway.is_null()),
        (END_TO_END, "sum", _SUM, _sum_within(), CLIENT, _whole.is_null() | reported),
    )
    derived = pl.concat(
        rows.select(
            "conversation_id",
            leg=pl.lit(leg),
            method=pl.lit(method),
            value_ms=value,
            low_ms=pl.max_horizontal(pl.lit(0.0), low),
            high_ms=high,
            chosen=chosen,
            ts=pl.col(f"{first}_direct_ts"),
            origin=pl.col(f"{first}_direct_origin"),
        ).filter(pl.col("value_ms").is_not_null())
        for leg, method, value, (low, high), first, chosen in ways
    )
    # what the library reports gives way
    better = derived.filter("chosen").select("conversation_id", "leg", given_way=pl.lit(True))
    kept = measurements.join(better, on=["conversation_id", "leg"], how="left", maintain_order="left").with_columns(
        chosen=pl.col("chosen") & pl.col("given_way").is_null()
    )
    return pl.concat([kept.drop("given_way"), derived], how="diagonal_relaxed")


def reduce(rows: pl.DataFrame) -> pl.DataFrame:
    """Put together the legs of every conversation from what `gathered` found."""
    return CONNECTION_LEGS.select(rows)
