"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from analyzer.events.correlate import Streams, coded
from analyzer.reductions import (
    candidate_pairs,
    candidates,
    clock_offsets,
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
    clock_offsets.CLOCK_OFFSETS,
    reported.REPORTED,
)
#: events reduced at a time: what bounds memory, since all that belongs together is reduced together
BATCH_EVENTS = 60_000
WORKERS = 2


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
    """Split streams into some that share no conversation and no tube, those that began together side by side."""
    linked = _components(streams.links)
    by_tube = linked.select("tube_id", of_tube="component").unique("tube_id")
    by_conversation = linked.select("conversation_id", of_conversation="component").unique("conversation_id")
    alone = pl.col("conversation_id").to_physical() + len(linked)
    component = (
        streams.events.select("seq", "tube_id", "conversation_id")
        .join(by_tube, on="tube_id", how="left", maintain_order="left")
        .join(by_conversation, on="conversation_id", how="left", maintain_order="left")
        .select("seq", component=pl.coalesce("of_tube", "of_conversation", alone))
        # what belongs to no conversation is in no table
        .drop_nulls()
    )
    batches = (
        component.group_by("component")
        .agg(pl.len(), pl.col("seq").min())
        .sort("seq")
        .select("component", batch=pl.col("len").cum_sum() // BATCH_EVENTS)
    )
    rows = component.join(batches, on="component", maintain_order="left")
    linked = linked.join(batches, on="component", how="left", maintain_order="left")
    for (number,), mine in rows.partition_by("batch", as_dict=True, maintain_order=True, include_key=False).items():
        yield Streams(streams.events[mine["seq"]], streams.links.filter(linked["batch"] == number))


def reduce(
    streams: Streams, whole: Callable[[pl.DataFrame], pl.DataFrame], resolution: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Rebuild every table of the conversations, by table name.

    `whole` gives the rows of `streams.events` all columns that facts are found from; `resolution` has `source` and
    `resolution_ms` of its times.
    """

    def one(batch: Streams) -> dict[str, pl.DataFrame]:
        return _reduce(Streams(whole(batch.events), batch.links), resolution)

    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(one, _batches(streams)))
    return {
        table.name: table.conform(pl.concat([table.empty(), *(part.pop(table.name) for part in parts)]))
        for table in REBUILT
    }


def _reduce(streams: Streams, resolution: pl.DataFrame) -> dict[str, pl.DataFrame]:
    facts = gather(streams, resolution)
    selected = selected_pair.resolve(facts)
    measurements = leg_measurements.measure(facts)
    stats = ice_stats.reduce(facts, selected, measurements)
    offsets = clock_offsets.reduce(facts)
    return {
        "conversations": conversations.reduce(facts, offsets),
        "ice_stats": stats,
        "connection_legs": connection_legs.reduce(facts, selected, measurements, coded(stats)),
        "leg_measurements": leg_measurements.LEG_MEASUREMENTS.conform(measurements),
        "candidates": candidates.reduce(facts),
        "candidate_pairs": candidate_pairs.reduce(facts, selected, measurements),
        "clock_offsets": offsets,
        "reported": reported.reduce(facts),
    }
