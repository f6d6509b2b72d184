"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Iterator

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

REBUILT = (
    conversations.CONVERSATIONS,
    ice_stats.ICE_STATS,
    connection_legs.CONNECTION_LEGS,
    leg_measurements.LEG_MEASUREMENTS,
    candidates.CANDIDATES,
    candidate_pairs.CANDIDATE_PAIRS,
    reported.REPORTED,
)
#: events reduced at a time: what bounds memory, since all that belongs together is reduced together
BATCH_EVENTS = 100_000


def _components(links: pl.DataFrame) -> pl.DataFrame:
    """Number what belongs together: conversations that share a tube, tubes that share a conversation."""
    found = links.select("conversation_id", "tube_id").with_row_index("component")
    while True:
        least = pl.min_horizontal(
            pl.col("component").min().over("tube_id"), pl.col("component").min().over("conversation_id")
        )
        spread = found.with_columns(component=least)
        if spread.equals(found):
            return found
        found = spread


def _batches(streams: Streams) -> Iterator[Streams]:
    """Split streams into some that share no conversation and no tube."""
    count = -(-len(streams.events) // BATCH_EVENTS)
    if count <= 1:
        yield streams
        return
    linked = _components(streams.links).with_columns(batch=pl.col("component") % count)
    by_tube = linked.select("tube_id", of_tube="batch").unique("tube_id")
    by_conversation = linked.select("conversation_id", of_conversation="batch").unique("conversation_id")
    batch = (
        streams.events.select("tube_id", "conversation_id")
        .join(by_tube, on="tube_id", how="left", maintain_order="left")
        .join(by_conversation, on="conversation_id", how="left", maintain_order="left")
        .select(pl.coalesce("of_tube", "of_conversation").fill_null(0))
        .to_series()
    )
    for number in range(count):
        links = streams.links.filter(linked["batch"] == number)
        yield Streams(streams.events.filter(batch == number), links)


def reduce(streams: Streams, resolution: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rebuild every table of the conversations, by table name."""
    parts = [_reduce(batch, resolution) for batch in _batches(streams)]
    if len(parts) == 1:
        return parts[0]
    # a million events and twice their tables need not be held together
    del streams
    return {table.name: table.conform(pl.concat([part.pop(table.name) for part in parts])) for table in REBUILT}


def _reduce(streams: Streams, resolution: pl.DataFrame) -> dict[str, pl.DataFrame]:
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
