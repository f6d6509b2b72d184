"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import polars as pl

from analyzer.events.correlate import Streams, coded
from analyzer.reductions import (
    candidate_pairs,
    candidates,
    channels,
    clock_offsets,
    connection_legs,
    conversations,
    durations,
    generations,
    ice_stats,
    leg_measurements,
    links,
    nomination,
    relay_sessions,
    reported,
    samples,
    selected_pair,
    setup_phases,
    states,
    turn_attempts,
)
from analyzer.reductions.facts import COLUMNS, gather
from analyzer.tables import small

REBUILT = (
    conversations.CONVERSATIONS,
    ice_stats.ICE_STATS,
    connection_legs.CONNECTION_LEGS,
    leg_measurements.LEG_MEASUREMENTS,
    links.LINKS,
    generations.GENERATIONS,
    states.STATES,
    candidates.CANDIDATES,
    candidate_pairs.CANDIDATE_PAIRS,
    channels.CHANNELS,
    turn_attempts.TURN_ATTEMPTS,
    setup_phases.SETUP_PHASES,
    clock_offsets.CLOCK_OFFSETS,
    reported.REPORTED,
    samples.SAMPLES,
    relay_sessions.RELAY_SESSIONS,
)
#: events reduced at a time: what bounds memory, since all that belongs together is reduced together
BATCH_EVENTS = 60_000
#: so many events of the time series alone, of few columns, take the memory of one event
SERIES_PER_EVENT = 4
WORKERS = 2
Whole: TypeAlias = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]


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
        streams.events.select(
            "seq", "tube_id", "conversation_id", weight=pl.when("series_only").then(1).otherwise(SERIES_PER_EVENT)
        )
        .join(by_tube, on="tube_id", how="left", maintain_order="left")
        .join(by_conversation, on="conversation_id", how="left", maintain_order="left")
        .select("seq", "weight", component=pl.coalesce("of_tube", "of_conversation", alone))
        # what belongs to no conversation is in no table
        .drop_nulls()
    )
    batches = (
        component.group_by("component")
        .agg(pl.col("weight").sum(), pl.col("seq").min())
        .sort("seq")
        .select("component", batch=pl.col("weight").cum_sum() // (BATCH_EVENTS * SERIES_PER_EVENT))
    )
    rows = component.join(batches, on="component", maintain_order="left")
    linked = linked.join(batches, on="component", how="left", maintain_order="left")
    for (number,), mine in rows.partition_by("batch", as_dict=True, maintain_order=True, include_key=False).items():
        yield Streams(streams.events[mine["seq"]], streams.links.filter(linked["batch"] == number))


def reduce(
    streams: Streams,
    whole: Whole,
    resolution: pl.DataFrame,
    relay: pl.DataFrame | None = None,
) -> dict[str, pl.DataFrame]:
    """Rebuild every table of the conversations, by table name, small (`tables.small`) until they are written.

    `whole` gives rows of `streams.events` further columns; `resolution` has `source` and `resolution_ms` of its times.
    `relay` has the sessions of the relay's own log, joined to tubes; None without one.
    """

    def one(batch: Streams) -> dict[str, pl.DataFrame]:
        events = batch.events
        told = Streams(whole(events.filter(~pl.col("series_only")), COLUMNS), batch.links)
        series = whole(events.filter("in_series"), samples.COLUMNS)
        return {name: small.coded(rows) for name, rows in _reduce(told, series, resolution, relay).items()}

    parts: list[dict[str, pl.DataFrame]] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[dict[str, pl.DataFrame]]] = []
        for batch in _batches(streams):
            running.append(pool.submit(one, batch))
            # batches are made as they are needed: all at once they are another copy of the streams
            if len(running) > WORKERS:
                parts.append(running.pop(0).result())
        parts += [future.result() for future in running]
    found = {
        table.name: small.in_order(table, [part.pop(table.name) for part in parts if table.name in part])
        for table in REBUILT
    }
    if relay is not None:
        # a session may belong to no conversation, so to no batch
        sides = found[ice_stats.ICE_STATS.name].select(pl.col("tube_id", "side").cast(pl.String))
        found[relay_sessions.RELAY_SESSIONS.name] = relay_sessions.reduce(relay, streams.links, sides)
    return found


def _reduce(
    streams: Streams, series: pl.DataFrame, resolution: pl.DataFrame, relay: pl.DataFrame | None
) -> dict[str, pl.DataFrame]:
    facts = gather(streams, resolution)
    measurements = durations.measure(facts, relay)
    fits = nomination.fitting_waits(facts, measurements)
    selected = selected_pair.resolve(facts, fits)
    attempts = turn_attempts.attempts(facts)
    waits = nomination.nomination_waits(fits, selected)
    stats = ice_stats.reduce(facts, selected, measurements, attempts)
    told = channels.labelled(facts)
    owners = channels.owners(told)
    counted = channels.reduce(facts, series, told, owners)
    restarts = generations.reduce(facts)
    offsets = clock_offsets.reduce(facts)
    legs = connection_legs.gathered(facts, selected, measurements)
    return {
        "conversations": conversations.reduce(facts, counted, offsets),
        "ice_stats": stats,
        "connection_legs": connection_legs.reduce(legs),
        "leg_measurements": leg_measurements.LEG_MEASUREMENTS.conform(connection_legs.with_derived(measurements, legs)),
        "links": links.reduce(facts, coded(restarts)),
        "generations": restarts,
        "states": states.reduce(facts),
        "candidates": candidates.reduce(facts),
        "candidate_pairs": candidate_pairs.reduce(facts, selected, measurements, waits),
        "channels": counted,
        "turn_attempts": turn_attempts.reduce(facts, attempts),
        "setup_phases": setup_phases.reduce(facts, waits),
        "clock_offsets": offsets,
        "reported": reported.reduce(facts),
        "samples": samples.reduce(facts, series, owners),
    }
