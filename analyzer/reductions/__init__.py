"""Streams → tables. One file per table; the order of `reduce` is the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import polars as pl

from analyzer.events.correlate import Correlation, Streams, renamed
from analyzer.events.ids import NUMBER
from analyzer.events.links import first_tied
from analyzer.events.portions import PORTION_ROWS, in_portions, near
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
    life,
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
from analyzer.reductions.components import components
from analyzer.reductions.facts import COLUMNS, gather
from analyzer.reductions.goodbyes import without_goodbyes
from analyzer.reductions.one_log import of_one_log, untied
from analyzer.reductions.shared_tubes import bounded
from analyzer.reductions.together import Together, added, events_of, shares
from analyzer.tables import small
from analyzer.tables.declare import ID
from analyzer.tables.small import Rows
from analyzer.tables.words import Words, spelled

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
BATCH_EVENTS = 120_000
#: a conversation weighs as much as so many events, however few it has: it has rows in every table
CONVERSATION_EVENTS = 8
#: so many events of the time series alone, of few columns, take the memory of one event
SERIES_PER_EVENT = 4
#: what an event weighs in a batch; a description of a session may tell of hundreds of candidates, and each is a row
WEIGHT = pl.when("series_only").then(1).otherwise(SERIES_PER_EVENT * (1 + pl.col("candidates")))
#: rows of so many conversations are in memory, then all are laid aside, and their ids forgotten
NAMED_CONVERSATIONS = 40_000
#: one thread reduces while another one puts together what comes next: two batches would take twice the memory
WORKERS = 1
#: nothing is done beside a batch of more candidates, which are as many rows, and wide ones
ALONE_CANDIDATES = 50_000
Whole: TypeAlias = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Sources:
    """What is known beside the outline of events.

    `whole` gives rows of it further columns; `words` are those of its ids; `content` is what each part of the events
    holds (`stored.contents`); `resolution` has `source` and `resolution_ms` of its times; `relay` the sessions of the
    relay's own log, joined to tubes, None without one.
    """

    whole: Whole
    words: Words
    content: pl.DataFrame
    resolution: pl.DataFrame
    relay: pl.DataFrame | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Which batch each tube and conversation is in, those that began together side by side, and where each batch ends."""

    #: as in `Correlation`
    links: pl.DataFrame
    #: tube_id, component, batch, restarted
    tubes: pl.DataFrame
    #: conversation_id, component, batch
    conversations: pl.DataFrame
    #: `seq` behind which no event of a batch follows, by its number
    last: dict[int, int]
    #: of each component beyond the bound, how much of it each log may have
    shares: dict[int, int]


def _once(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    return in_portions(rows, pl.col(key), lambda some: some.unique(key))


def _matched(rows: pl.DataFrame, found: pl.DataFrame, key: str) -> pl.DataFrame:
    return in_portions(rows, pl.col(key), lambda some: some.join(found, on=key))


def planned(known: Correlation) -> Plan:
    """Say what is reduced together."""
    known = replace(known, links=bounded(known.links, known.extent))
    pair = ["conversation_id", "tube_id"]
    component = pl.col("component")
    # what lines name together is reduced together, tied or not; a tube that no link ties is in no table
    tied = renamed(known.named, known.names).join(known.links, on="tube_id", how="semi")
    linked = components(
        in_portions(pl.concat([known.links.select(pair), tied.select(pair)]), pl.col("tube_id"), pl.DataFrame.unique)
    )
    tubes, conversations = (_once(linked.select(key, "component"), key) for key in ("tube_id", "conversation_id"))
    extent = renamed(known.extent, known.names)
    of_tubes = _matched(extent.filter(pl.col("tube_id").is_not_null()), tubes, "tube_id")
    # what tubes they have is in no table, should there be any
    others = extent.join(tubes, on="tube_id", how="anti").filter(pl.col("conversation_id").is_not_null())
    # a conversation without a tube is on its own
    alone = (
        others.select("conversation_id")
        .unique(maintain_order=True)
        .join(conversations, on="conversation_id", how="anti", maintain_order="left")
        .with_row_index("component", len(linked))
        .select(conversations.columns)
    )
    conversations = pl.concat([conversations, alone])
    extents = pl.concat([of_tubes, _matched(others, conversations, "conversation_id")])
    batches = (
        in_portions(
            extents,
            component,
            lambda some: some.group_by("component").agg(
                pl.col("weight").sum() + CONVERSATION_EVENTS * SERIES_PER_EVENT,
                pl.col("first").min(),
                pl.col("last").max(),
            ),
        )
        .sort("first")
        .with_columns(batch=pl.col("weight").cum_sum() // (BATCH_EVENTS * SERIES_PER_EVENT))
    )
    last = batches.group_by("batch").agg(pl.col("last").max())
    number = batches.select("component", "batch")
    told = _matched(tubes, known.outlived, "tube_id")
    return Plan(
        known.links,
        _matched(told, number, "component"),
        _matched(conversations, number, "component"),
        dict(last.iter_rows()),
        shares(extents, SERIES_PER_EVENT),
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Streams of some components, each row knowing its `component`, the conversations of each, and what is left out."""

    streams: Streams
    conversations: pl.DataFrame
    left_out: Sequence[pl.DataFrame]

    def of(self, conversations: pl.DataFrame) -> _Batch:
        """Keep only the components of some conversations."""
        events, links = (
            frame.join(conversations, on="component", how="semi", maintain_order="left")
            for frame in (self.streams.events, self.streams.links)
        )
        return replace(self, streams=Streams(events, links), conversations=conversations)


def _numbered(plan: Plan, events: pl.DataFrame) -> pl.DataFrame:
    """Events that are in a batch, each with its `component` and `batch`."""
    tubes = near(plan.tubes, events, "tube_id").drop("restarted")
    conversations = near(plan.conversations, events, "conversation_id")
    return (
        events.join(tubes, on="tube_id", how="left", maintain_order="left")
        .join(conversations, on="conversation_id", how="left", maintain_order="left")
        .with_columns(
            # a tube of no conversation is in no table: who shares a batch with it would decide what is known of it
            tube_id=pl.when(pl.col("component").is_not_null()).then("tube_id"),
            component=pl.coalesce("component", "component_right"),
            batch=pl.coalesce("batch", "batch_right"),
        )
        .drop("component_right", "batch_right")
        .filter(pl.col("batch").is_not_null())
    )


def _batch(plan: Plan, number: int, together: Together) -> _Batch:
    """All that is in a batch; what is tied to it only by events that are left out is left out, too."""
    tubes, conversations = (
        some.filter(pl.col("batch") == number).drop("batch") for some in (plan.tubes, plan.conversations)
    )
    events = together.events()
    links = plan.links.join(tubes, on="tube_id", maintain_order="left")
    if together.cut:
        last = events.group_by("tube_id").agg(last=pl.col("seq").max())
        # what another process did behind the end of what is told says nothing of it
        told = ~pl.col("tube_id").is_in(list(together.cut))
        links = (
            links.join(last, on="tube_id", maintain_order="left")
            .filter(first_tied(pl.col("order")) <= pl.col("last"))
            .with_columns(pl.col("restarted") & told)
            .drop("last")
        )
        named = pl.concat([events.select("conversation_id"), links.select("conversation_id")])
        conversations = conversations.join(named, on="conversation_id", how="semi", maintain_order="left")
    counted = events_of(together.left_out)
    conversations = conversations.join(counted, on="component", how="left", maintain_order="left")
    return _Batch(Streams(events, links), conversations, together.left_out)


def _batches(plan: Plan, chunks: Iterable[pl.DataFrame]) -> Iterator[_Batch]:
    """Split events that are placed into some that share no conversation and no tube, as soon as all have come."""
    waiting: dict[int, Together] = {}
    for events in chunks:
        rows = _numbered(plan, events)
        for mine in rows.partition_by("batch", maintain_order=True):
            waiting.setdefault(mine["batch"][0], Together(plan.shares)).add(mine.drop("batch"))
        # while batches are reduced, they alone are needed
        del rows
        if events.is_empty():
            continue
        reached = events["seq"][-1]
        for number in sorted(number for number in waiting if plan.last[number] <= reached):
            yield _batch(plan, number, waiting.pop(number))


def _spelled(batch: _Batch, sources: Sources) -> tuple[Streams, pl.DataFrame | None, pl.DataFrame]:
    """The streams of a batch, the sessions of the relay that are joined to it, and its conversations, ids as words."""
    ids, of_links = ("tube_id", "conversation_id"), ("tube_id", "conversation_id", "other_id")
    events, links = batch.streams.events, batch.streams.links
    wanted = (*events.select(ids), *links.select(of_links))
    # what is told may have been named by events that are left out
    words = sources.words.anywhere(*wanted) if batch.left_out else sources.words.near(events, *wanted)
    streams = Streams(spelled(events, words, *ids), spelled(links, words, *of_links).sort("conversation_id", "tube_id"))
    relayed = sources.relay
    if relayed is not None:
        relayed = spelled(relayed.join(links, on="tube_id", how="semi", maintain_order="left"), words, "tube_id")
    return streams, relayed, spelled(batch.conversations, words, "conversation_id")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Tables rebuilt, but for the rows of conversations that say what they said before (`kept`).

    `changed` is how many conversations do not; the fingerprints are a table like the others. `left_out` is what no table
    tells of, changed or not (`together.added`).
    """

    tables: tuple[Rows, ...]
    kept: pl.Series
    changed: int
    left_out: pl.DataFrame


def reduce(
    plan: Plan,
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
    kept = [pl.Series("conversation_id", [], NUMBER)]
    left_out: list[pl.DataFrame] = []
    rebuilt = 0

    def one(batch: _Batch) -> dict[str, pl.DataFrame]:
        streams, relayed, changed = _spelled(batch, sources)
        events = sources.whole(streams.events.filter(~pl.col("series_only")), COLUMNS)
        both = of_one_log(events, streams.links)
        told = Streams(untied(events, both), streams.links, changed.select("conversation_id", "left_out"))
        del events
        series = _series(untied(streams.events.filter("in_series"), both), sources.whole)
        reduced = _reduce(told, series, sources.resolution, relayed)
        reduced[unchanged.FINGERPRINTS.name] = changed.select("conversation_id", "fingerprint")
        return {name: small.coded(rows) for name, rows in reduced.items()}

    def take(rows: dict[str, pl.DataFrame]) -> None:
        for name, frame in rows.items():
            tables[name].add(frame)
        small.lay_aside(tables.values())

    reduced = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[dict[str, pl.DataFrame]]] = []
        for batch in _batches(plan, chunks):
            left_out += batch.left_out
            left = events_of(batch.left_out)
            told = unchanged.fingerprints(batch.streams, left, sources.content, sources.relay, code)
            named = batch.conversations.join(told, on="component")
            same = unchanged.same(named, known_before)
            kept.append(same["conversation_id"])
            changed = named.join(same, on="component", how="anti")
            if changed.is_empty():
                continue
            rebuilt += len(changed)
            running.append(pool.submit(one, batch.of(changed) if len(same) else replace(batch, conversations=changed)))
            # batches are made as they are needed: all at once they are another copy of the streams
            reduced += len(changed)
            many = reduced >= NAMED_CONVERSATIONS
            alone = many or batch.streams.events["candidates"].sum() > ALONE_CANDIDATES
            while len(running) > (0 if alone else WORKERS):
                take(running.pop(0).result())
            if many:
                small.lay_all_aside(tables.values())
                reduced = 0
        while running:
            take(running.pop(0).result())
    if any(rows.runs for rows in tables.values()):
        small.lay_all_aside(tables.values())
    return Rebuilt(tuple(tables.values()), unchanged.words(before, pl.concat(kept)), rebuilt, added(left_out))


def _series(rows: pl.DataFrame, whole: Whole) -> Iterator[pl.DataFrame]:
    """The events of samples, a portion at a time: of one conversation there may be more than of a whole batch."""
    for first in range(0, max(len(rows), 1), PORTION_ROWS):
        yield whole(rows.slice(first, PORTION_ROWS), samples.COLUMNS)


def _reduce(
    streams: Streams, series: Iterable[pl.DataFrame], resolution: pl.DataFrame, relay: pl.DataFrame | None
) -> dict[str, pl.DataFrame]:
    facts = gather(streams, resolution)
    offsets = clock_offsets.reduce(facts)
    facts = without_goodbyes(facts, offsets)
    measurements = durations.measure(facts, relay)
    fits = nomination.fitting_waits(facts, measurements, offsets)
    told = channels.labelled(facts)
    owners = channels.owners(told)
    portions = [(channels.counters(some), samples.values(facts, some, owners)) for some in series]
    counters, values = (pl.concat(some) for some in zip(*portions, strict=True))
    counted = channels.reduce(facts, counters, told, owners)
    selected = relay_bytes.settle(facts, selected_pair.resolve(facts, fits, offsets), counted, relay)
    measurements, legs = connection_legs.agreeing(facts, selected, measurements)
    attempts = turn_attempts.attempts(facts)
    waits = nomination.nomination_waits(fits, selected)
    stats = ice_stats.reduce(facts, selected, measurements, attempts)
    restarts = generations.reduce(facts)
    reasons = life.close_reasons(facts.streams, facts.outages)
    return {
        "conversations": conversations.reduce(facts, counted, offsets, reasons),
        "ice_stats": stats,
        "connection_legs": connection_legs.reduce(legs),
        "leg_measurements": leg_measurements.LEG_MEASUREMENTS.loose(connection_legs.with_derived(measurements, legs)),
        "links": links.reduce(facts, restarts.with_columns(pl.col("conversation_id", "tube_id").cast(ID)), reasons),
        "generations": restarts,
        "states": states.reduce(facts),
        "candidates": candidates.reduce(facts),
        "candidate_pairs": candidate_pairs.reduce(facts, selected, measurements, waits),
        "channels": counted,
        "turn_attempts": turn_attempts.reduce(facts, attempts),
        "setup_phases": setup_phases.reduce(facts, waits),
        "clock_offsets": offsets,
        "reported": reported.reduce(facts),
        "samples": samples.reduce(facts, values),
    }
