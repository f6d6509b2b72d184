"""What the library itself reported, field by field, kept beside what the lines prove."""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts
from analyzer.reductions.query import collected
from analyzer.tables.declare import Column, Table

#: field as the library names it: the event kind that reports it, and the column it stands in
REPORTED_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("ice_stats.selected_candidate_pair.local_candidate_type", "pair_reported", "reported_local_type"),
    ("ice_stats.selected_candidate_pair.remote_candidate_type", "pair_reported", "reported_remote_type"),
    ("ice_stats.selected_candidate_pair.current_rtt_ms", "pair_reported", "reported_rtt_ms"),
    ("rtc_stats.rtt_ms", "rtt_reported", "reported_rtt_ms"),
    ("ice_stats.first_candidate_time_ms", "gathering_started_reported", "timestamp_ms"),
    ("ice_stats.gathering_complete_time_ms", "gathering_completed_reported", "timestamp_ms"),
    ("connection_legs.ice_connection_establishment_ms", "gathering_completed_reported", "duration_ms"),
    ("ice_stats.turn_allocation_time_ms", "turn_allocation_recorded", "duration_ms"),
    ("ice_stats.stun_response_times", "stun_response_recorded", "reported_rtt_ms"),
    ("ice_stats.total_candidates", "gathering_reported", "total_candidates"),
)

REPORTED = Table(
    "reported",
    row="One value of one field that the library reported; repetitions of the same value are one row, its first.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube, where it can be told."),
        Column("field", pl.String(), "Field under the name the library's API gives it."),
        Column("value", pl.String(), "Value as printed, without its unit."),
        Column("ts", TIMESTAMP, "Time of the line."),
        Column("origin", pl.String(), "`source:line`."),
    ),
    sort=("conversation_id", "tube_id", "field", "ts", "origin"),
)


def reduce(facts: Facts) -> pl.DataFrame:
    """List what was reported, each change of a value once."""
    events = facts.streams.events.lazy()
    # one field after the other, so that a change is told by numbers, where they are numbers
    rows = (
        events.filter(pl.col("kind") == kind, pl.col(column).is_not_null())
        .filter(pl.col(column).ne_missing(pl.col(column).shift().over("conversation_id", "tube_id")))
        .select(
            "conversation_id",
            "tube_id",
            "ts",
            "origin",
            field=pl.lit(field),
            value=pl.col(column).cast(pl.String),
        )
        for field, kind, column in REPORTED_FIELDS
    )
    return REPORTED.loose(collected(pl.concat(rows)))
