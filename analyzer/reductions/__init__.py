"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

import polars as pl

from analyzer.events.correlate import Streams
from analyzer.reductions import (
    candidate_pairs,
    candidates,
    connection_legs,
    conversations,
    ice_stats,
    leg_measurements,
    reported,
    selected_pair,
)
from analyzer.reductions.facts import gather


def reduce(streams: Streams, resolution: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rebuild every table of the conversations, by table name."""
    facts = gather(streams, resolution)
    selected = selected_pair.resolve(facts)
    measurements = leg_measurements.measure(facts)
    stats = ice_stats.reduce(facts, selected, measurements)
    return {
        "conversations": conversations.reduce(facts),
        "ice_stats": stats,
        "connection_legs": connection_legs.reduce(facts, selected, measurements, stats),
        "leg_measurements": measurements,
        "candidates": candidates.reduce(facts),
        "candidate_pairs": candidate_pairs.reduce(facts, selected, measurements),
        "reported": reported.reduce(facts),
    }
