"""The whole program on one page: lines → records → events → streams → tables.

Sources are read in blocks, and blocks are split into records. What the first words of a record settle is counted at
once; the rest is collected into batches, and those become events. Events of a source are spilled to the dataset's stage
as they come; conversations that say something new are then rebuilt from all of theirs, old and new.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from analyzer.accounting.accounts import Counted, added, counted, located, settled
from analyzer.accounting.ledger import COVERAGE, SOURCES, UNMATCHED
from analyzer.accounting.refusals import REFUSALS
from analyzer.accounting.source_tables import (
    coverage_table,
    refusals_table,
    resolutions,
    sources_table,
    unmatched_table,
)
from analyzer.addresses import Policy
from analyzer.admission import SMALL_BYTES, admitted
from analyzer.catalogue import EVENTS
from analyzer.dialects import Dialect, forced
from analyzer.events.correlate import correlate, placed, tied
from analyzer.events.hidden import hidden_endpoints
from analyzer.events.links import with_canonical_ids
from analyzer.events.meetings import joined, meetings, unmet
from analyzer.events.plan import extract, sift
from analyzer.inputs import discover, zones_for
from analyzer.lines import BLOCK_BYTES, Trail, read, small, together
from analyzer.parts import Part, stage, stored
from analyzer.records import Border, split, split_small
from analyzer.reductions import WEIGHT, Plan, Sources, planned, reduce, relay, relay_sessions, unchanged
from analyzer.reductions.conversations import CONVERSATIONS
from analyzer.reductions.ice_stats import ICE_STATS
from analyzer.reductions.relay_sessions import RELAY_SESSIONS
from analyzer.reductions.unchanged import FINGERPRINTS
from analyzer.sources import Source, recognise
from analyzer.stored import beyond, contents, duplicates, endpoints, held, outline, whole
from analyzer.tables.address_policy import policy_of
from analyzer.tables.dataset import SOLE, Commit, Staged, writing
from analyzer.tables.entries import note_duplicates, note_left_out
from analyzer.tables.slices import Slice
from analyzer.tables.words import Words

#: called with the decompressed bytes read since the last call
Progress: TypeAlias = Callable[[int], None]
#: records that are not settled at once are read about this many, or this many lines or bytes, at a time
BATCH_RECORDS, BATCH_LINES = 60_000, 150_000
BATCH_BYTES = 18 << 20
#: what is made of a batch takes less time than to read it, so that one thread keeps up; more would hold more batches
WORKERS = 1
#: counts of so many batches are kept until they are added up
MOST_COUNTS = 200
#: so many small sources are read together: each is one block, and less than a batch
MOST_SMALL = 500
#: so many sources are read before they are entered in the commit
MOST_SOURCES = 5_000


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did: its sources (the table of that name), and whether the dataset has changed.

    `given` counts the inputs; those of `known` had bytes that the dataset has, under the name each is paired with.
    `refusals` are those of its sources (the table of that name). `added` is by how many records the dataset has grown,
    `conversations` how many it has, and `rebuilt` how many of them say something else than before.
    """

    sources: pl.DataFrame
    refusals: pl.DataFrame
    added: int
    conversations: int
    rebuilt: int
    given: int
    known: tuple[tuple[str, str], ...]
    changed: bool
    #: the dataset's policy of addresses
    addresses: str


@dataclass(frozen=True, slots=True)
class _Batch:
    """What records gave: their events, staged by source and part, their counts, and values that were refused."""

    counted: Counted
    parts: tuple[tuple[str, int, Staged | Slice], ...] = ()
    #: source, reason, line, offset, size
    refused: pl.DataFrame | None = None


def _process(commit: Commit, policy: Policy, is_small: Callable[[str], bool], sifted: pl.DataFrame) -> _Batch:
    extracted = extract(sifted)
    events = with_canonical_ids(hidden_endpoints(extracted.events, policy))
    found = counted(extracted.fates, [located(events)])
    parts = tuple(stage(commit, is_small, events))
    return _Batch(found, parts, extracted.refused)


def _enough(frames: Sequence[pl.DataFrame]) -> bool:
    """Whether another frame like the last one would be too much."""
    taken = [*frames, *frames[-1:]]
    many = sum(map(len, taken)) > BATCH_RECORDS or sum(frame["lines"].sum() for frame in taken) > BATCH_LINES
    return many or sum(frame.estimated_size() for frame in taken) > BATCH_BYTES


def _by_themselves(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows, their texts copied: what is picked out of a block are views that keep all of it in memory."""
    return rows.with_columns(pl.col(pl.String) + pl.lit(""))


def _left(records: pl.DataFrame, one: tuple[str, int] | None, count: Callable[[_Batch], None]) -> pl.DataFrame:
    """The records that are not settled at once; all of them are counted (see `settled`)."""
    sifted = sift(records)
    count(_Batch(settled(sifted, one)))
    left = sifted.filter(pl.col("fate").is_null()).drop("fate")
    return left if 2 * len(left) > len(sifted) else _by_themselves(left)


def _portions(
    sources: Sequence[Source], dialect: Dialect | None, progress: Progress, count: Callable[[_Batch], None]
) -> Iterator[pl.DataFrame]:
    """Records of all sources that are not settled at once, each row knowing its source and which `part` of it it is in.

    Parts of a source depend on nothing but the source, and so do the files of its events.
    """
    waiting: list[tuple[Source, bytes]] = []
    taken = 0
    others: list[Source] = []
    for source in sources:
        alone = source.is_known or source.start or dialect
        text = None if alone else small(source.input, source.tally, SMALL_BYTES)
        if text is not None:
            waiting.append((source, text))
            taken += len(text)
        elif not source.is_known:
            others.append(source)
        if len(waiting) == MOST_SMALL or taken >= BLOCK_BYTES:
            yield _left(_of_small(waiting, others, progress), None, count)
            waiting, taken = [], 0
    if waiting:
        yield _left(_of_small(waiting, others, progress), None, count)
    yield from _by_blocks(others, dialect, progress, count)


def _of_small(texts: Sequence[tuple[Source, bytes]], others: list[Source], progress: Progress) -> pl.DataFrame:
    """Records of small sources, which are read together; those of which that cannot be are added to the `others`."""
    records, taken = split_small(together([text for _, text in texts]), [source.zone for source, _ in texts])
    for of, (source, text) in enumerate(texts):
        if of in taken:
            source.dialect, source.tally.refusals = taken[of]
            source.tally.lines = text.count(b"\n")
            progress(source.tally.bytes)
        else:
            others.append(source)
    names = pl.Series([source.name for source, _ in texts], dtype=pl.String)
    return records.drop("of").with_columns(names.gather(records["of"]).alias("source"), part=pl.lit(0))


def _is_small(source: Source) -> bool:
    """Whether all of a source has been read, and that is little."""
    return source.tally.size is not None and source.tally.size <= SMALL_BYTES


def _by_blocks(
    sources: Sequence[Source], dialect: Dialect | None, progress: Progress, count: Callable[[_Batch], None]
) -> Iterator[pl.DataFrame]:
    """The same of sources that are read one by one."""
    few: list[pl.DataFrame] = []
    taken = 0
    for source in sources:
        start, seen = source.start, 0
        if not start:
            # it may have been looked at
            source.forget()
        part = start.parts if start else 0
        waiting: list[pl.DataFrame] = []
        trail, border = Trail(), Border()
        lines = trail.along(read(source.input, source.tally, start=start.place if start else None))
        layout = start.dialect if start else dialect
        for found, records in split(
            lines,
            zone=source.zone,
            dialect=layout,
            told=start is not None,
            refusals=source.tally.refusals,
            border=border,
        ):
            source.dialect = found
            placed = records.with_columns(source=pl.lit(source.name), part=pl.lit(part))
            if _is_small(source):
                few.append(placed)
                taken += source.tally.bytes
            else:
                waiting.append(_left(placed, (source.name, part), count))
            if _enough(waiting):
                yield pl.concat(waiting)
                waiting, part = [], part + 1
                if source.tally.resumable and border.line and (place := trail.place(border.line)):
                    source.reached = place, part
            progress(source.tally.bytes - seen)
            seen = source.tally.bytes
        if waiting:
            yield pl.concat(waiting)
        if len(few) >= MOST_SMALL or taken >= BATCH_BYTES:
            yield _left(pl.concat(few), None, count)
            few, taken = [], 0
    if few:
        yield _left(pl.concat(few), None, count)


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


def _extracted(
    commit: Commit, policy: Policy, is_small: Callable[[str], bool], batches: Iterator[pl.DataFrame]
) -> Iterator[_Batch]:
    """Run the plan over batches beside the reading, in order, never more than a few batches ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        running: list[Future[_Batch]] = []
        for batch in batches:
            running.append(pool.submit(_process, commit, policy, is_small, batch))
            if len(running) > WORKERS:
                yield running.pop(0).result()
        for future in running:
            yield future.result()


def _keep_readable(commit: Commit) -> None:
    """See to it that the events can be read as a table even where there are none."""
    nothing = f"{EVENTS.name}/none.parquet"
    if not [path for path in commit.files if path.startswith(f"{EVENTS.name}/") and path != nothing]:
        commit.write(EVENTS, EVENTS.empty(), "none")
    elif nothing in commit.files:
        commit.remove(nothing)


def _correlated(
    commit: Commit, parts: Sequence[Part], left_out: Mapping[int, pl.Series], words: Words, resolution: pl.DataFrame
) -> tuple[Plan, Iterator[pl.DataFrame], pl.DataFrame | None]:
    """What is reduced together, all events in their places, and the sessions of the relay's own log, were there one."""
    links, chunks = tied(held(outline(parts, words, left_out), parts, commit.stage, "outline"))
    chunks = held(chunks, parts, commit.stage, "tied")
    known = correlate(links, chunks, WEIGHT)
    lone = unmet(known)
    if len(lone):
        known = joined(known, meetings(*endpoints(parts, lone, placed(chunks(), known), words)))
    seen = None
    if known.kinds & set(relay.KINDS):
        seen = relay.witnessed(placed(chunks(), known), partial(whole, parts), resolution)
    return planned(known), placed(chunks(), known), seen


def _rebuilt(commit: Commit, parts: Sequence[Part], resolution: pl.DataFrame) -> int:
    """Write the tables of all conversations, from all events: how many of these were rebuilt."""
    # what writing events has needed is not needed any more
    pa.default_memory_pool().release_unused()
    words = Words(commit.stage)
    twice = duplicates(parts)
    note_duplicates(commit.sources, [(parts[number].identity, int(rows.sum())) for number, rows in twice.items()])
    plan, events, seen = _correlated(commit, parts, twice, words, resolution)
    links = None if seen is None else plan.links
    sources = Sources(partial(whole, parts), words, contents(parts), resolution, seen)
    rebuilt = reduce(plan, events, sources, commit.sole(FINGERPRINTS), commit.stage)
    note_left_out(commit.sources, beyond(parts, rebuilt.left_out))
    # tables are merged from those of a few conversations at a time
    del plan
    for rows in rebuilt.tables:
        commit.place(commit.stage_frames(rows.table, rows.in_order(commit.sole(rows.table), rebuilt.kept)), SOLE)
    relayed = RELAY_SESSIONS.empty()
    if seen is not None and links is not None:
        # a session may belong to no conversation, so it is rebuilt with none
        sides = commit.read_staged(ICE_STATS, ["tube_id", "side"])
        relayed = relay_sessions.reduce(seen, links, sides, words)
    commit.write(RELAY_SESSIONS, relayed)
    return rebuilt.changed


def ingest(
    given: Sequence[str],
    out: str | os.PathLike[str],
    *,
    zone: str | None = None,
    zones: Sequence[tuple[str, str]] = (),
    dialect: str | None = None,
    follow_symlinks: bool = False,
    trust_archives: bool = False,
    final: bool = False,
    addresses: str | None = None,
    key_file: Path | None = None,
    progress: Progress = lambda _: None,
) -> Ingested:
    """Read logs, rebuild every conversation, and commit the tables to the dataset at `out`.

    Sources whose bytes the dataset already has add nothing; one that has grown adds what is new. A last line without an
    end waits for it, unless the inputs are `final`. Times that name no zone are read in `zone`, or in that of `zones`,
    pairs of a source (see `zones_for`) and a zone; a source keeps the zone it was first read in, also as it grows,
    until another one is asked for: then it is read anew. Symbolic links below a folder and archives of any size are
    read only where that is asked for.
    `addresses` names the policy of endpoints' public addresses, and `key_file` the key of its pseudonyms: both are
    fixed when a dataset is made.

    Raises:
        InputError: nothing to read.
        UsageError: no dialect of that name, one of `zones` is of no source, or `addresses` or `key_file` is another one
            than the dataset's.
        OutputError: the dataset cannot be written.
        AccountingError: something of an input became of nothing; nothing is written.
        BusyError: another run is writing it.
    """
    out = Path(out)
    layout = forced(dialect) if dialect else None
    inputs = discover(given, skip=out, follow_symlinks=follow_symlinks, trust_archives=trust_archives, final=final)
    zone_given, count = zones_for([one.name for one in inputs], zones), len(inputs)
    with writing(out) as commit:
        policy = policy_of(commit, addresses, key_file)
        found = recognise(inputs, zone, zone_given, layout, commit.sources)
        # small sources share files in the order of their times; what is only the beginning of one stands behind it
        sources = deque(sorted(found, key=lambda source: (source.beginning_of is not None, source.begin)))
        del inputs
        identities, known = admitted(commit, _rounds(commit, policy, sources, layout, progress))
        entries = commit.sources.values()
        rebuilt = 0
        if commit.sources != commit.before.sources or not unchanged.is_of_now(commit.sole(FINGERPRINTS)):
            parts = stored(commit)
            _keep_readable(commit)
            rebuilt = _rebuilt(commit, parts, resolutions(entries))
            commit.write(SOURCES, sources_table(entries))
            commit.write(COVERAGE, coverage_table(entries))
            commit.write(UNMATCHED, unmatched_table(entries))
            commit.write(REFUSALS, refusals_table(entries))
        changed = commit.publish()
        own = commit.sources.of(identities).values()
        return Ingested(
            sources=sources_table(own),
            refusals=refusals_table(own),
            added=sum(one["row"]["records"] for one in entries)
            - sum(one["row"]["records"] for one in commit.before.sources.values()),
            conversations=commit.rows(CONVERSATIONS),
            rebuilt=rebuilt,
            given=count,
            known=known,
            changed=changed,
            addresses=policy.name,
        )


def _rounds(
    commit: Commit, policy: Policy, sources: deque[Source], layout: Dialect | None, progress: Progress
) -> Iterator[tuple[Sequence[Source], Counted]]:
    """Read sources, so many at a time, and take them off the list: of many, what was read is more than what is kept."""
    while sources:
        some = [sources.popleft() for _ in range(min(MOST_SOURCES, len(sources)))]
        yield some, _read_in(commit, policy, some, layout, progress)


def _read_in(
    commit: Commit, policy: Policy, sources: Sequence[Source], layout: Dialect | None, progress: Progress
) -> Counted:
    """Read what is new of the sources: events go to the stage; out come counts."""
    by_name = {source.name: source for source in sources if not source.is_known}
    done = [source.start.counted.named(source.name) for source in by_name.values() if source.start]
    portions = _portions(sources, layout, progress, lambda batch: done.append(batch.counted))
    for batch in _extracted(commit, policy, lambda name: _is_small(by_name[name]), _batched(portions)):
        for name, part, staged in batch.parts:
            by_name[name].parts[part] = staged
        for name, reason, line, offset, size in batch.refused.rows() if batch.refused is not None else ():
            by_name[name].tally.refusals.tell(reason, line=line, offset=offset, size=size)
        done.append(batch.counted)
        if len(done) > MOST_COUNTS:
            done[:] = [added(done).summed()]
    return added(done).summed()
