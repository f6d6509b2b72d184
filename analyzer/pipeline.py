"""The whole program on one page: lines → records → events → streams → tables.

Sources are read in blocks, and blocks are split into records. What the first words of a record settle is counted at
once; the rest is collected into batches, and those become events. Events of a source are spilled to the dataset's stage
as they come; the tables are then rebuilt from all events, old and new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa

from analyzer.catalogue import EVENTS, TABLES
from analyzer.events.correlate import correlate, with_canonical_ids
from analyzer.events.meetings import joined, meetings, unmet
from analyzer.events.plan import extract, fates, sift
from analyzer.events.rotation import Part as Rotated
from analyzer.events.rotation import placed
from analyzer.lines import Input, Tally, discover, read
from analyzer.records import UTC, Dialect, forced, split, zones_for
from analyzer.reductions import reduce, relay
from analyzer.reductions.accounting import (
    COVERAGE,
    SOURCES,
    merge_coverage,
    merge_shapes,
    merge_tallies,
    shapes,
    tally,
)
from analyzer.reductions.releases import estimate, located, worded
from analyzer.stored import Part, endpoints, outline, whole
from analyzer.tables.dataset import Commit, Staged, writing

#: called with the decompressed bytes read since the last call
Progress: TypeAlias = Callable[[int], None]
#: records that are not settled at once are read this many, or this many bytes, at a time
BATCH_RECORDS = 60_000
BATCH_BYTES = 12 << 20
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did: its sources (the table of that name), conversations in the dataset, and if it changed.

    `given` counts the inputs; those of `known` had bytes that the dataset has, under the name each is paired with.
    """

    sources: pl.DataFrame
    conversations: int
    given: int
    known: tuple[tuple[str, str], ...]
    changed: bool


@dataclass(slots=True)
class _Source:
    """One input on its way through: what was read, and the events that came of it."""

    input: Input
    tally: Tally
    #: zone of its times that name none, and whether it was asked for
    zone: str = UTC
    zone_given: bool = False
    dialect: Dialect = field(default_factory=lambda: Dialect((), None))
    parts: list[Staged] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What records gave: their events, spilled by source and part, and their counts."""

    parts: list[tuple[str, Staged]]
    tallies: pl.DataFrame
    shapes: pl.DataFrame
    marks: list[pl.DataFrame]


def _process(commit: Commit, sifted: pl.DataFrame) -> _Batch:
    extracted = extract(sifted)
    events = with_canonical_ids(extracted.events)
    parts = [
        (str(name), commit.stage_frame(EVENTS, EVENTS.conform(mine.drop("part"))))
        for (name, _), mine in events.group_by("source", "part", maintain_order=True)
    ]
    return _Batch(parts, tally(extracted.fates), shapes(extracted.fates), [located(events)])


def _enough(frames: Sequence[pl.DataFrame]) -> bool:
    return sum(map(len, frames)) >= BATCH_RECORDS or sum(frame.estimated_size() for frame in frames) >= BATCH_BYTES


def _portions(
    sources: Sequence[_Source], dialect: Dialect | None, progress: Progress, count: Callable[[_Batch], None]
) -> Iterator[pl.DataFrame]:
    """Records of all sources that are not settled at once, each row knowing its source and which `part` of it it is in.

    Parts of a source depend on nothing but the source, and so do the files of its events.
    """
    for source in sources:
        seen, part = 0, 0
        waiting: list[pl.DataFrame] = []
        for found, records in split(read(source.input, source.tally), zone=source.zone, dialect=dialect):
            source.dialect = found
            sifted = sift(records.with_columns(source=pl.lit(source.input.name)))
            settled = fates(sifted.filter(pl.col("fate").is_not_null()))
            count(_Batch([], tally(settled), shapes(settled), [worded(sifted)]))
            waiting.append(sifted.filter(pl.col("fate").is_null()).drop("fate"))
            if _enough(waiting):
                yield pl.concat(waiting).with_columns(part=pl.lit(part))
                waiting, part = [], part + 1
            progress(source.tally.bytes - seen)
            seen = source.tally.bytes
        if waiting:
            yield pl.concat(waiting).with_columns(part=pl.lit(part))


def _batched(portions: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Join small frames and pass on large ones, so that a thousand small files are not a thousand batches."""
    waiting: list[pl.DataFrame] = []
    for frame in portions:
        waiting.append(frame)
        if _enough(waiting):
            yield pl.concat(waiting)
            waiting = []
    if waiting:
        yield pl.concat(waiting)


def _extracted(commit: Commit, batches: Iterator[pl.DataFrame]) -> Iterator[_Batch]:
    """Run the plan over batches in a few threads, in order, never more than a few batches ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[_Batch]] = []
        for batch in batches:
            running.append(pool.submit(_process, commit, batch))
            if len(running) > WORKERS:
                yield running.pop(0).result()
        for future in running:
            yield future.result()


def _zone_of(entry: dict[str, Any]) -> str:
    # versions before did not note it
    return entry["row"].get("zone") or UTC


def _remembered(one: Input, known: dict[str, dict[str, Any]]) -> str | None:
    """The zone that a source was read in when it was read before, as it is or shorter, where that was not UTC."""
    zones = {identity: _zone_of(entry) for identity, entry in known.items() if _zone_of(entry) != UTC}
    # standard input can be read only once
    if not zones or one.path is None:
        return None
    tally = Tally(marks=tuple(sorted({known[identity]["row"]["bytes"] for identity in zones})))
    for _ in read(one, tally):
        if not tally.marks:
            break
    return next((zones[identity] for identity in reversed(tally.beginnings) if identity in zones), None)


def _in_zones(
    inputs: Sequence[Input], zone: str | None, given: dict[str, str], known: dict[str, dict[str, Any]]
) -> Iterator[_Source]:
    """The sources, each with its zone: the one given for it, else for all, else the one it was read in before."""
    marks = tuple(sorted({entry["row"]["bytes"] for entry in known.values()}))
    for one in inputs:
        asked = given.get(one.name, zone)
        found = asked or _remembered(one, known) or UTC
        yield _Source(one, Tally(marks=marks), found, asked is not None)


def _is_known(commit: Commit, source: _Source) -> bool:
    """Whether the dataset has these bytes, and nobody asks to read their times in another zone."""
    entry = commit.sources.get(source.tally.identity)
    if entry is None:
        return False
    is_new = entry is not commit.before.sources.get(source.tally.identity)
    return is_new or not source.zone_given or _zone_of(entry) == source.zone


def _admit(
    commit: Commit, source: _Source, counts: dict[str, object], covered: pl.DataFrame, unmatched: pl.DataFrame
) -> bool:
    """Enter a source in the commit under its identity; false when its bytes are already there."""
    identity = source.tally.identity
    if _is_known(commit, source):
        return False
    for outgrown in (identity, *source.tally.beginnings):
        # the source as it was when last read: what it had is in what it has now
        for relative in commit.sources.pop(outgrown, {"parts": []})["parts"]:
            commit.remove(relative)
    names = [f"{identity[:16]}-{part:05}" for part in range(len(source.parts))]
    for staged, name in zip(source.parts, names, strict=True):
        commit.place(staged, name)
    row = {
        "name": source.input.name,
        "identity": identity,
        "dialect": source.dialect.name,
        "dialect_votes": ", ".join(f"{name} {votes}" for name, votes in source.dialect.votes),
        "resolution_ms": source.dialect.resolution_ms,
        "zone": source.zone if source.dialect.resolution_ms is not None else None,
        "bytes": source.tally.bytes,
        "lines": source.tally.lines,
        "cut_lines": source.tally.cut_lines,
        "problem": source.tally.problem,
        **counts,
    }
    commit.sources[identity] = {
        "row": json.loads(pl.DataFrame([row], schema=SOURCES.schema).write_json())[0],
        "parts": [f"{EVENTS.name}/{name}.parquet" for name in names],
        "coverage": covered.drop("source").rows(),
        "unmatched": unmatched.drop("source").rows(),
    }
    return True


def _keep_readable(commit: Commit) -> None:
    """See to it that the events can be read as a table even where there are none."""
    nothing = f"{EVENTS.name}/none.parquet"
    if not [path for path in commit.files if path.startswith(f"{EVENTS.name}/") and path != nothing]:
        commit.write(EVENTS, "none", EVENTS.empty())
    elif nothing in commit.files:
        commit.remove(nothing)


def _sources_table(commit: Commit) -> pl.DataFrame:
    rows = json.dumps([entry["row"] for entry in commit.sources.values()])
    return SOURCES.conform(pl.read_json(rows.encode(), schema=SOURCES.schema)) if commit.sources else SOURCES.empty()


def _coverage_table(commit: Commit) -> pl.DataFrame:
    # versions before this table did not count by target
    found = commit.sources.values()
    rows = [(entry["row"]["name"], *row) for entry in found for row in entry.get("coverage", [])]
    return COVERAGE.conform(pl.DataFrame(rows, schema=COVERAGE.schema, orient="row"))


def _unmatched_table(commit: Commit) -> pl.DataFrame:
    schema = {"source": pl.String, "target": pl.String, "skeleton": pl.String, "count": pl.Int64, "line": pl.Int64}
    rows = [(entry["row"]["name"], *shape) for entry in commit.sources.values() for shape in entry["unmatched"]]
    return merge_shapes(pl.DataFrame(rows, schema=schema, orient="row"))


def _stored(commit: Commit) -> list[Part]:
    """The files of events of all sources of the commit, in the order in which they were written."""
    places = commit.places()
    rows = {identity: entry["row"] for identity, entry in commit.sources.items() if entry["parts"]}
    sources = placed(Rotated(one, row["name"], row["first_ts"], row["last_ts"]) for one, row in rows.items())
    return [
        Part(places[part], source.identity, scope)
        for source, scope in sources
        for part in commit.sources[source.identity]["parts"]
    ]


def _rebuilt(parts: Sequence[Part], sources: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables of all conversations, from all events."""
    # what writing events has needed is not needed any more
    pa.default_memory_pool().release_unused()
    resolution = sources.select(source="identity", resolution_ms="resolution_ms")
    events = outline(parts)
    kinds, streams = events["kind"], correlate(events)
    del events
    streams = joined(streams, meetings(*endpoints(parts, unmet(streams))))
    seen = relay.witnessed(kinds, streams.events, partial(whole, parts), resolution)
    return reduce(streams, partial(whole, parts), resolution, seen)


def ingest(
    given: Sequence[str],
    out: Path,
    *,
    zone: str | None = None,
    zones: Sequence[tuple[str, str]] = (),
    dialect: str | None = None,
    progress: Progress = lambda _: None,
) -> Ingested:
    """Read logs, rebuild every conversation, and commit the tables to the dataset at `out`.

    Sources whose bytes the dataset already has add nothing; a source that has grown replaces what it was. Times that
    name no zone are read in `zone`, or in that of `zones`, pairs of a source (see `zones_for`) and a zone; a source
    keeps the zone it was first read in, also as it grows, until another one is asked for: then it is read anew.

    Raises:
        InputError: nothing to read.
        UsageError: no dialect of that name, or one of `zones` is of no source.
        OutputError: the dataset cannot be written.
        BusyError: another run is writing it.
    """
    layout = forced(dialect) if dialect else None
    inputs = discover(given, skip=out)
    zone_given = zones_for([one.name for one in inputs], zones)
    with writing(out) as commit:
        sources = list(_in_zones(inputs, zone, zone_given, commit.sources))
        by_name = {source.input.name: source for source in sources}
        done: list[_Batch] = []
        portions = _portions(sources, layout, progress, done.append)
        for batch in _extracted(commit, _batched(portions)):
            for name, staged in batch.parts:
                by_name[name].parts.append(staged)
            done.append(batch)
        tallies = merge_tallies([one.tallies for one in done]) if done else pl.DataFrame()
        counts = {row.pop("source"): row for row in tallies.to_dicts()}
        layouts = {source.input.name: source.dialect.name for source in sources}
        releases = estimate([marks for one in done for marks in one.marks], layouts)
        covered = merge_coverage([one.tallies for one in done]) if done else COVERAGE.empty()
        shapes_ = pl.concat([one.shapes for one in done]) if done else None
        known = []
        for source in sources:
            name = source.input.name
            mine = shapes_.filter(pl.col("source") == name) if shapes_ is not None else pl.DataFrame({"source": []})
            found = counts.get(name, _NOTHING) | releases[name]
            if not _admit(commit, source, found, covered.filter(pl.col("source") == name), mine):
                known.append((name, str(commit.sources[source.tally.identity]["row"]["name"])))
        # as they will be when they are read again: two logs may share a name, and then nothing else orders them
        commit.sources = dict(sorted(commit.sources.items()))
        _keep_readable(commit)
        sources_table = _sources_table(commit)
        tables = _rebuilt(_stored(commit), sources_table)
        tables |= {"sources": sources_table, "coverage": _coverage_table(commit)}
        tables["unmatched"] = _unmatched_table(commit)
        conversations = len(tables["conversations"])
        while tables:
            # what is written is not kept
            name, frame = tables.popitem()
            commit.write(TABLES[name], "part-0", frame)
        changed = commit.publish()
        return Ingested(
            sources=sources_table.filter(pl.col("identity").is_in([source.tally.identity for source in sources])),
            conversations=conversations,
            given=len(inputs),
            known=tuple(known),
            changed=changed,
        )


_NOTHING: dict[str, object] = {"records": 0, "events": 0, "noise": 0, "unmatched": 0, "rejected": 0}
