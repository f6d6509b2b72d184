"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
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
    durations,
    generations,
    ice_stats,
    leg_measurements,
    links,
    nomination,
    relay_bytes,
    relay_sessions,
    reported,
    samples,
    selected_pair,
    setup_phases,
    states,
    turn_attempts,
    unchanged,
)
from analyzer.reductions.facts import COLUMNS, gather
from analyzer.tables import small
from analyzer.tables.small import Rows

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
BATCH_EVENTS = 80_000
#: a conversation weighs as much as so many events, however few it has: it has rows in every table
CONVERSATION_EVENTS = 8
#: so many events of the time series alone, of few columns, take the memory of one event
SERIES_PER_EVENT = 4
#: what an event weighs in a batch
WEIGHT = pl.when("series_only").then(1).otherwise(SERIES_PER_EVENT)
#: one thread reduces while another one puts together what comes next: two batches would take twice the memory
WORKERS = 1
Whole: TypeAlias = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Sources:
    """What is known beside the outline of events.

    `whole` gives rows of it further columns; `content` is what each part of the events holds (`stored.contents`);
    `resolution` has `source` and `resolution_ms` of its times; `relay` the sessions of the relay's own log, joined to
    tubes, None without one.
    """

    whole: Whole
    content: pl.DataFrame
    resolution: pl.DataFrame
    relay: pl.DataFrame | None


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

    #: tube_id, component, batch
    tubes: pl.DataFrame
    #: conversation_id, component, batch
    conversations: pl.DataFrame
    #: `seq` behind which no event of a batch follows, by its number
    last: dict[int, int]


def _planned(known: Correlation) -> _Plan:
    pair = ["conversation_id", "tube_id"]
    told = known.names.rename({"conversation_id": "own", "told": "conversation_id"})
    named = known.named.rename({"conversation_id": "own"}).join(told, on="own", how="left")
    # what lines name together is reduced together, tied or not; a tube that no link ties is in no table
    tied = named.with_columns(pl.coalesce("conversation_id", "own")).join(known.links, on="tube_id", how="semi")
    linked = _components(pl.concat([known.links.select(pair), tied.select(pair)]).unique(maintain_order=True))
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
        .agg(
            pl.col("weight").sum() + CONVERSATION_EVENTS * SERIES_PER_EVENT,
            pl.col("first").min(),
            pl.col("last").max(),
        )
        .sort("first")
        .with_columns(batch=pl.col("weight").cum_sum() // (BATCH_EVENTS * SERIES_PER_EVENT))
    )
    last = batches.group_by("batch").agg(pl.col("last").max())
    number = batches.select("component", "batch")
    return _Plan(
        tubes.join(number, on="component"),
        conversations.join(number, on="component"),
        dict(last.iter_rows()),
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Streams of some components, each row knowing its `component`, and the conversations of each."""

    streams: Streams
    conversations: pl.DataFrame

    def of(self, components: pl.DataFrame) -> _Batch:
        """Keep only some components."""
        frames = (self.streams.events, self.streams.links, self.conversations)
        events, links, conversations = (
            frame.join(components, on="component", how="semi", maintain_order="left") for frame in frames
        )
        return _Batch(Streams(events, links), conversations)


def _batches(known: Correlation, chunks: Iterable[pl.DataFrame]) -> Iterator[_Batch]:
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
            .with_columns(
                component=pl.coalesce("component", "component_right"), batch=pl.coalesce("batch", "batch_right")
            )
            .drop("component_right", "batch_right")
            .filter(pl.col("batch").is_not_null())
        )
        parts = rows.partition_by("batch", as_dict=True, maintain_order=True, include_key=False)
        for (number,), mine in parts.items():
            waiting.setdefault(number, []).append(mine)
        if events.is_empty():
            continue
        reached = events["seq"].to_list()[-1]
        for number in sorted(number for number in waiting if plan.last[number] <= reached):
            own = pl.col("batch") == number
            yield _Batch(
                Streams(pl.concat(waiting.pop(number)), links.filter(own).drop("batch")),
                plan.conversations.filter(own).drop("batch"),
            )


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Tables rebuilt, but for the rows of conversations that say what they said before (`kept`).

    `changed` is how many conversations do not; the fingerprints are a table like the others.
    """

    tables: tuple[Rows, ...]
    kept: pl.Series
    changed: int


def reduce(
    known: Correlation,
    chunks: Iterable[pl.DataFrame],
    sources: Sources,
    before: Path | None,
    folder: Path,
) -> Rebuilt:
    """Rebuild every table of the conversations that have changed since `before`, the file of fingerprints of then.

    `chunks` are events placed; `folder` takes what does not fit into memory.
    """
    written = [unchanged.FINGERPRINTS, *(table for table in REBUILT if table is not relay_sessions.RELAY_SESSIONS)]
    tables = {table.name: Rows(table, folder) for table in written}
    code, known_before = unchanged.code(), unchanged.known(before)
    kept = [pl.Series("conversation_id", [], pl.String)]
    rebuilt = 0

    def one(batch: _Batch) -> dict[str, pl.DataFrame]:
        events, links = batch.streams.events, batch.streams.links
        told = Streams(sources.whole(events.filter(~pl.col("series_only")), COLUMNS), links)
        series = sources.whole(events.filter("in_series"), samples.COLUMNS)
        reduced = _reduce(told, series, sources.resolution, sources.relay)
        return {name: small.coded(rows) for name, rows in reduced.items()}

    def take(rows: dict[str, pl.DataFrame]) -> None:
        for name, frame in rows.items():
            tables[name].add(frame)
        small.lay_aside(tables.values())

    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[dict[str, pl.DataFrame]]] = []
        for batch in _batches(known, chunks):
            told = unchanged.fingerprints(batch.streams, sources.content, sources.relay, code)
            named = batch.conversations.join(told, on="component")
            same = unchanged.same(named, known_before)
            kept.append(same["conversation_id"].cast(pl.String))
            changed = named.join(same, on="component", how="anti")
            if changed.is_empty():
                continue
            rebuilt += len(changed)
            tables[unchanged.FINGERPRINTS.name].add(small.coded(changed.drop("component")))
            running.append(pool.submit(one, batch.of(changed)))
            # batches are made as they are needed: all at once they are another copy of the streams
            if len(running) > WORKERS:
                take(running.pop(0).result())
        for future in running:
            take(future.result())
    return Rebuilt(tuple(tables.values()), pl.concat(kept), rebuilt)


def _reduce(
    streams: Streams, series: pl.DataFrame, resolution: pl.DataFrame, relay: pl.DataFrame | None
) -> dict[str, pl.DataFrame]:
    facts = gather(streams, resolution)
    measurements = durations.measure(facts, relay)
    fits = nomination.fitting_waits(facts, measurements)
    told = channels.labelled(facts)
    owners = channels.owners(told)
    counted = channels.reduce(facts, series, told, owners)
    selected = relay_bytes.settle(facts, selected_pair.resolve(facts, fits), counted, relay)
    attempts = turn_attempts.attempts(facts)
    waits = nomination.nomination_waits(fits, selected)
    stats = ice_stats.reduce(facts, selected, measurements, attempts)
    restarts = generations.reduce(facts)
    offsets = clock_offsets.reduce(facts)
    legs = connection_legs.gathered(facts, selected, measurements)
    return {
        "conversations": conversations.reduce(facts, counted, offsets),
        "ice_stats": stats,
        "connection_legs": connection_legs.reduce(legs),
        "leg_measurements": leg_measurements.LEG_MEASUREMENTS.loose(connection_legs.with_derived(measurements, legs)),
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
