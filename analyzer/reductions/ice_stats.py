"""ICEStats, rebuilt: one row per conversation and tube, each number with the way it was found.

The ten fields of the library's `ICEStats` and the eight of its `CandidatePairStats` under their own names; times are
durations from the tube's gathering start, never the library's absolute clocks.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.links import LINK_DOC
from analyzer.reductions.durations import of_tubes
from analyzer.reductions.facts import LONGEST_MS, Facts, known_ms
from analyzer.reductions.leg_names import END_TO_END, ICE
from analyzer.reductions.turn_attempts import ALLOCATION
from analyzer.tables.declare import Column, Metric, Table


def _count(name: str) -> pl.Expr:
    return pl.when("candidates_known").then(pl.col(name).fill_null(0))


ICE_STATS = Table(
    "ice_stats",
    row="One side's peer connection (tube) of one conversation.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube: one peer connection inside one process."),
        Column("side", pl.String(), "client: the offerer; gateway: the answerer; null when no line tells."),
        Column("link_method", pl.String(), LINK_DOC),
        Metric("total_candidates", pl.Int64(), "Distinct local candidates gathered, all generations. Null without candidate lines, or where the log lacks the tube's beginning.",
               _count("local_count"), "{candidate}", ("candidate_gathered", "session_described")),
        Metric("host_candidates", pl.Int64(), "Host candidates among them.", _count("host_count"), "{candidate}", ("candidate_gathered",)),
        Metric("srflx_candidates", pl.Int64(), "Server-reflexive candidates among them. Two per interface are normal: stun and turn URL.",
               _count("srflx_count"), "{candidate}", ("candidate_gathered",)),
        Metric("relay_candidates", pl.Int64(), "Relay candidates among them.", _count("relay_count"), "{candidate}", ("candidate_gathered",)),
        Metric("first_candidate_time_ms", pl.Float64(), "Gathering start → first local candidate, first generation that has both.",
               pl.col("first_candidate_ms"), "ms", ("gathering_started", "first_candidate_gathered", "candidate_gathered")),
        Metric("gathering_complete_time_ms", pl.Float64(),
               "Gathering start → gathering complete, first generation that has both; without times, the duration the collector printed, if sound.",
               pl.col("gathering_chosen_ms"), "ms", ("gathering_started", "gathering_completed", "gathering_completed_reported")),
        Metric("gathering_complete_method", pl.String(), "state_change: from the times of the lines; reported: the collector's duration.",
               pl.col("gathering_by")),
        Metric("stun_response_times", pl.List(pl.Float64()),
               "Response times of the STUN server, one per generation: gathering start or first host candidate → first srflx, the lower, less the library's own work. Recorded ones where a log has them.",
               pl.col("stun_responses_ms"), "ms", ("stun_response_recorded", "gathering_started", "candidate_gathered")),
        Metric("stun_response_method", pl.String(), "gathering_srflx, host_to_srflx or reported, of the first of them.",
               pl.col("stun_response_by")),
        Metric("turn_allocation_success_rate", pl.Float64(),
               "Granted ÷ attempted TURN allocations, the counted rows of turn_attempts; without any evidence of one, fetched ÷ attempted credentials. Null when nothing was tried, or where the log lacks the tube's beginning.",
               pl.col("attempts_granted") / pl.col("attempts"), "1", ("candidate_gathered", "allocation_failed", "credentials_fetched", "credentials_failed")),
        Metric("turn_allocations_attempted", pl.Int64(),
               "Allocations with an outcome, the counted rows of turn_attempts: a relay candidate, an error, or a configured server without either when gathering ended.",
               pl.col("attempts"), "{allocation}", ("candidate_gathered", "allocation_failed", "credentials_fetched")),
        Metric("turn_allocation_success_method", pl.String(), "What was counted: reported, turn_allocation, credential_fetch.",
               pl.col("attempts_method")),
        Metric("turn_allocation_time_ms", pl.Float64(),
               "Time of the TURN allocation, two round trips: Allocate request → grant; else gathering start or first host candidate → first relay candidate, the lower, less the library's own work; else, where no allocation is told, the credential fetch.",
               pl.col("turn_allocation_chosen_ms"), "ms",
               ("turn_requested", "turn_allocated", "candidate_gathered", "credentials_fetched", "turn_allocation_recorded")),
        Metric("turn_allocation_method", pl.String(), "turn_transaction, gathering_relay, host_to_relay, credential_fetch, reported.", pl.col("turn_allocation_by")),
        Metric("turn_credential_fetch_ms", pl.Float64(), "Duration of the HTTPS request for TURN credentials; no TURN traffic.",
               pl.col("credential_fetch_chosen_ms"), "ms", ("credentials_fetched",)),
        Column("selected_pair_local_type", pl.String(), "Type of the selected pair's local candidate, as far as the log proves it."),
        Column("selected_pair_remote_type", pl.String(), "Type of its remote candidate."),
        Column("selected_pair_method", pl.String(), "ice_agent, candidates, nomination_wait, relay_bytes (the relay's own counts; one end only), reported."),
        Metric("current_rtt_ms", pl.Float64(), "Round-trip time of the pair: the tube's best sound end-to-end estimate.", pl.col(f"{END_TO_END}_chosen_ms"), "ms"),
        Metric("current_rtt_method", pl.String(), "Its method, as in leg_measurements.", pl.col(f"{END_TO_END}_by")),
        Column("total_rtt_measurements", pl.Int64(), "Sound end-to-end estimates this tube gave.", unit="{measurement}"),
        Metric("connection_time_ms", pl.Float64(), "ICE checking → connected, first generation; null where the library held its callbacks back.",
               pl.col(f"{ICE}_chosen_ms"), "ms", ("ice_state_changed", "agent_state_changed")),
        Metric("connection_time_method", pl.String(), "state_change.", pl.col(f"{ICE}_by")),
        Metric("pair_bytes_sent", pl.Int64(), "Bytes sent on the transport, last cumulative counter.", pl.col("transport_bytes_sent"), "By", ("transport_bytes_counted",)),
        Metric("pair_bytes_received", pl.Int64(), "Bytes received on the transport, last cumulative counter.", pl.col("transport_bytes_received"), "By", ("transport_bytes_counted",)),
        Metric("transport_protocol", pl.String(), "Transport of the local candidates, lower case; null when they differ or none was seen.",
               pl.when(pl.col("transports").list.len() == 1).then(pl.col("transports").list.first())),
        Metric("generations", pl.Int64(), "ICE generations seen: 1 + restarts that gathered anew.", pl.col("generations"), "{generation}", ("gathering_started",)),
    ),
    sort=("conversation_id", "tube_id"),
)  # fmt: skip


def _sound(name: str, start: str, end: str) -> pl.Expr:
    span = known_ms(start, end)
    return pl.when(span >= 0, span < LONGEST_MS).then(span).alias(name)


def _first_candidate(facts: Facts) -> pl.DataFrame:
    """The first generation's that has it, per tube."""
    timed = facts.generations.with_columns(_sound("first_candidate_ms", "started_at", "first_candidate_at"))
    ordered = timed.sort("tube_id", "generation").group_by("tube_id", maintain_order=True)
    return ordered.agg(pl.col("first_candidate_ms").drop_nulls().first())


def _counted(attempts: pl.DataFrame) -> pl.DataFrame:
    """What the attempts of each tube come to."""
    family = (
        pl.when(pl.col("method") == "reported").then(pl.lit("reported"))
        .when(pl.col("step") == ALLOCATION).then(pl.lit("turn_allocation"))
        .otherwise(pl.lit("credential_fetch"))
    )  # fmt: skip
    return (
        attempts.filter("counted")
        .group_by("tube_id")
        .agg(
            attempts=pl.len().cast(pl.Int64),
            attempts_granted=(pl.col("outcome") == "granted").sum().cast(pl.Int64),
            attempts_method=family.first(),
        )
    )


def tube_facts(facts: Facts, selected: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """Everything the metrics of a tube are computed from, one row per tube."""
    return (
        facts.tubes.join(_first_candidate(facts), on="tube_id", how="left")
        .join(selected.drop("side", "was_connected"), on="tube_id", how="left")
        .join(_counted(attempts), on="tube_id", how="left")
        # those that are told may not be all
        .with_columns(pl.when("whole").then(pl.col("attempts", "attempts_granted", "attempts_method")))
    )


def reduce(facts: Facts, selected: pl.DataFrame, measurements: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """Rebuild ICEStats for every tube of every conversation."""
    sound = measurements.filter(pl.col("leg") == END_TO_END, pl.col("refused_reason").is_null())
    counted = sound.group_by("conversation_id", "tube_id").agg(total_rtt_measurements=pl.len().cast(pl.Int64))
    key = ["conversation_id", "tube_id"]
    rows = (
        facts.streams.links.join(tube_facts(facts, selected, attempts), on="tube_id", how="inner")
        .join(of_tubes(measurements), on=key, how="left")
        .join(counted, on=key, how="left")
    )
    return ICE_STATS.select(rows)
