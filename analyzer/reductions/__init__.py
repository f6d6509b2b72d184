"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from analyzer.events.correlate import Correlation, Streams, coded
from analyzer.reductions import (
    candidate_pairs,
    candidates,
    channels,
    clock_offsets,
    connection_legs,
    conversations,
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
#: what an event weighs in a batch
WEIGHT = pl.when("series_only").then(1).otherwise(SERIES_PER_EVENT)
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


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which batch each tube and conversation is in, those that began together side by side, and where each batch ends."""

    tubes: pl.DataFrame
    conversations: pl.DataFrame
    #: `seq` behind which no event of a batch follows, by its number
    last: dict[int, int]


def _planned(known: Correlation) -> _Plan:
    linked = _components(known.links)
    tubes = linked.select("tube_id", "component").unique("tube_id")
    conversations = linked.select("conversation_id", "component").unique("conversation_id")
    extent = known.extent.join(known.names, on="conversation_id", how="left").with_columns(
        conversation_id=pl.coalesce("told", "conversation_id")
    )
    # a conversation without a tube is on its own; a tube without a conversation is in no table
    alone = (
        extent.filter(pl.col("tube_id").is_null())
        .select("conversation_id")
        .unique(maintain_order=True)
        .join(conversations, on="conversation_id", how="anti", maintain_order="left")
        .with_row_index("component", len(linked))
        .select(conversations.columns)
    )
    conversations = pl.concat([conversations, alone])
    batches = (
        extent.join(tubes, on="tube_id", how="left")
        .join(conversations, on="conversation_id", how="left")
        .with_columns(component=pl.coalesce("component", "component_right"))
        .filter(pl.col("component").is_not_null())
        .group_by("component")
        .agg(pl.col("weight").sum(), pl.col("first").min(), pl.col("last").max())
        .sort("first")
        .with_columns(batch=pl.col("weight").cum_sum() // (BATCH_EVENTS * SERIES_PER_EVENT))
    )
    last = batches.group_by("batch").agg(pl.col("last").max())
    number = batches.select("component", "batch")
    return _Plan(
        tubes.join(number, on="component").drop("component"),
        conversations.join(number, on="component").drop("component"),
        dict(last.iter_rows()),
    )


def _batches(known: Correlation, chunks: Iterable[pl.DataFrame]) -> Iterator[Streams]:
    """Split events that are placed into some that share no conversation and no tube, as soon as all have come."""
    plan = _planned(known)
    links = (
        known.links.join(known.outlived, on="tube_id", how="left", maintain_order="left")
        .with_columns(pl.col("restarted").fill_null(False))
        .join(plan.tubes, on="tube_id", how="left", maintain_order="left")
    )
    waiting: dict[int, list[pl.DataFrame]] = {}
    for events in chunks:
        rows = (
            events.join(plan.tubes, on="tube_id", how="left", maintain_order="left")
            .join(plan.conversations, on="conversation_id", how="left", maintain_order="left")
            .with_columns(batch=pl.coalesce("batch", "batch_right"))
            .drop("batch_right")
            .filter(pl.col("batch").is_not_null())
        )
        parts = rows.partition_by("batch", as_dict=True, maintain_order=True, include_key=False)
        for (number,), mine in parts.items():
            waiting.setdefault(number, []).append(mine)
        reached = int(events["seq"].last() or 0)
        for number in sorted(number for number in waiting if plan.last[number] <= reached):
            yield Streams(pl.concat(waiting.pop(number)), links.filter(pl.col("batch") == number).drop("batch"))


def reduce(
    known: Correlation,
    chunks: Iterable[pl.DataFrame],
    whole: Whole,
    resolution: pl.DataFrame,
    relay: pl.DataFrame | None = None,
) -> dict[str, pl.DataFrame]:
    """Rebuild every table of the conversations, by table name, small (`tables.small`) until they are written.

    `chunks` are events placed, `whole` gives rows of them further columns; `resolution` has `source` and
    `resolution_ms` of its times. `relay` has the sessions of the relay's own log, joined to tubes; None without one.
    """

    def one(batch: Streams) -> dict[str, pl.DataFrame]:
        events = batch.events
        told = Streams(whole(events.filter(~pl.col("series_only")), COLUMNS), batch.links)
        series = whole(events.filter("in_series"), samples.COLUMNS)
        return {name: small.coded(rows) for name, rows in _reduce(told, series, resolution, relay).items()}

    parts: list[dict[str, pl.DataFrame]] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[dict[str, pl.DataFrame]]] = []
        for batch in _batches(known, chunks):
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
        found[relay_sessions.RELAY_SESSIONS.name] = relay_sessions.reduce(relay, known.links, sides)
    return found


def _reduce(
    streams: Streams, series: pl.DataFrame, resolution: pl.DataFrame, relay: pl.DataFrame | None
) -> dict[str, pl.DataFrame]:
    facts = gather(streams, resolution)
    measurements = leg_measurements.measure(facts, relay)
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
    legs = connection_legs.gathered(facts, selected, measurements, coded(stats))
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
