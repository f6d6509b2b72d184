"""Sources → the manifest: what the dataset keeps of what was read, and what it forgets of what that was before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

import polars as pl

from analyzer.accounting.accounts import Account, Counted, nothing
from analyzer.accounting.ledger import SOURCES
from analyzer.accounting.refusals import unaccounted
from analyzer.accounting.releases import estimate
from analyzer.errors import AccountingError
from analyzer.refusals import Refusals
from analyzer.sources import Checkpoint, Source, is_in, is_own
from analyzer.tables.dataset import Commit, Staged
from analyzer.tables.entries import Entry
from analyzer.tables.slices import Slice
from analyzer.tally import NOTHING, STEM_CHARS, Tally

#: what is known of the release that wrote a log
_Release: TypeAlias = Mapping[str, object]
#: events of sources of no more bytes share files (`parts.py`)
SMALL_BYTES = 1 << 16


def _checkpoint(source: Source, found: Counted) -> Entry | None:
    """Where the next reading may begin, as JSON."""
    if source.reached is None:
        return source.start.stored() if source.start else None
    place, parts = source.reached
    before = found.of((pl.col("source") == source.name) & (pl.col("part") < parts))
    return Checkpoint(place, parts, source.dialect, before).stored()


def _is_known(commit: Commit, source: Source) -> bool:
    """Whether the dataset has these bytes, and nobody asks to read them in another layout or zone."""
    entry = commit.sources.get(source.identity)
    if entry is None or source.is_known or source.tally.is_unread:
        return entry is not None and (source.is_known or entry["refusals"] == source.tally.refusals.rows)
    if is_own(entry, source) and entry["row"]["problem"] != source.tally.problem:
        return False
    is_new = not commit.sources.alike(commit.before.sources, source.identity)
    same = entry["row"]["dialect"] == source.dialect.name
    return is_new or (same and (not source.zone_given or is_in(entry, source.zone)))


def _forget(commit: Commit, identities: Collection[str], kept: Iterable[str] = ()) -> None:
    """Take sources out of a commit, and their files, but for those that are `kept` or that another source has, too."""
    gone = [commit.sources.pop(one) for one in dict.fromkeys(identities) if one in commit.sources]
    for one in identities:
        commit.members.pop(one, None)
    places = {place for entry in gone for place in entry["parts"].values()} - set(kept)
    # of many sources hardly any is forgotten: only then are the files of all others looked through
    shared = {place for entry in commit.sources.values() for place in entry["parts"].values()} if places else set()
    for place in places - shared:
        commit.remove(place)


def _resolution(source: Source, whole_seconds: Collection[str]) -> float | None:
    """What one unit of its times is worth: where the layout allows fractions, the times tell whether there are any."""
    printed = source.dialect.resolution_ms
    return 1000.0 if printed is not None and printed < 1 and source.name in whole_seconds else printed


def _shared(commit: Commit, source: Source) -> Slice | None:
    """The events of a source that is so small that they share a file; what decides that is its bytes alone."""
    only = source.parts.get(0)
    if only is None or isinstance(only, Slice):
        return only
    whole = source.start is None and source.reached is None and len(source.parts) == 1
    return commit.rows_of(only) if whole and source.tally.bytes <= SMALL_BYTES else None


def _admit(
    commit: Commit,
    source: Source,
    account: Account,
    release: _Release,
    found: Counted,
    resolution_ms: float | None,
) -> bool:
    """Enter a source in the commit under its identity; false when its bytes are already there.

    `found` is what was counted of all sources, of which a checkpoint keeps a part.
    """
    identity = source.identity
    if not source.tally.is_unread:
        # what could not be read before, or the folder it lies in
        for name in (source.input.name, *map(str, PurePosixPath(source.input.name).parents)):
            commit.sources.pop(f"unread:{name}", None)
    if source.beginning_of is not None:
        return False
    if _is_known(commit, source):
        # what else of it was read before, when it was not whole
        _forget(commit, [one for one in source.before if one != source.identity])
        return source.tally.is_unread
    if identity == NOTHING and source.name != source.input.name:
        # it was truncated, and nothing has been written to it yet
        return False
    empty = commit.sources.get(NOTHING)
    if identity != NOTHING and empty and empty["row"]["name"] == source.name:
        # what had no line yet
        del commit.sources[NOTHING]
    stem = source.tally.stem or identity[:STEM_CHARS]
    # the source as it was when last read: what it had is in what it has now
    latest = commit.sources.get(source.before[-1]) if source.before else None
    first = source.start.parts if source.start else 0
    parts = {number: place for number, place in latest["parts"].items() if int(number) < first} if latest else {}
    shared = _shared(commit, source)
    own = [] if shared else [(number, one) for number, one in source.parts.items() if isinstance(one, Staged)]
    for number, staged in sorted(own, key=lambda one: one[0]):
        # the same part has the same name for good, and one that has grown another: no file is ever written twice
        parts[str(number)] = commit.place(staged, f"{stem}-{number:05}-{staged.sha256[:12]}")
    _forget(commit, (identity, *source.before), kept=parts.values())
    if shared:
        commit.members[identity] = shared
    row = {
        "name": source.input.name if source.tally.is_unread else source.name,
        "identity": identity,
        "dialect": source.dialect.name,
        "dialect_votes": ", ".join(f"{name} {votes}" for name, votes in source.dialect.votes),
        "header": source.dialect.header,
        "resolution_ms": resolution_ms,
        "zone": source.zone if resolution_ms is not None else None,
        "bytes": source.tally.bytes,
        "pending_bytes": source.tally.pending,
        "lines": source.tally.lines,
        "cut_lines": source.tally.cut_lines,
        "duplicates": 0,
        "problem": source.tally.problem,
        "secrets": account.secrets,
        **account.totals,
        **release,
    }
    text_bytes = source.tally.bytes + (source.tally.recoded or 0)
    if missing := unaccounted(row, source.tally.refusals, text_bytes):
        raise AccountingError(f"{source.input.name} is not accounted for ({missing})", "nothing was written; report it")
    commit.sources[identity] = {
        "row": {name: row.get(name) for name in SOURCES.schema},
        "stem": source.tally.stem if source.tally.begun else None,
        "parts": parts,
        "coverage": account.coverage,
        "unmatched": account.unmatched,
        "refusals": source.tally.refusals.rows,
        "checkpoint": _checkpoint(source, found),
    }
    return True


def _each(
    rounds: Iterable[tuple[Sequence[Source], Counted]],
) -> Iterator[tuple[Source, Account, _Release, Counted, float | None]]:
    """Each source with what was found in it; those without a line come last."""
    empty: list[Source] = []
    for some, found in rounds:
        accounts, whole = found.accounts(), found.whole_seconds()
        releases = estimate([found.marks], {one.name: one.dialect.name for one in some if not one.is_known})
        for source in some:
            if source.identity == NOTHING:
                empty.append(source)
            else:
                account, release = accounts.get(source.name, Account()), releases.get(source.name, {})
                yield source, account, release, found, _resolution(source, whole)
    # which of them the dataset has is known when all that have lines by now are in it
    for source in sorted(empty, key=lambda one: one.input.name):
        yield source, Account(), {}, nothing(), _resolution(source, ())


def admitted(
    commit: Commit, rounds: Iterable[tuple[Sequence[Source], Counted]]
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Enter sources in the commit as they come, with what was counted of them.

    Out: their identities, and the names of those whose bytes are known, each with the name that these have.
    """
    identities, known = [], []
    broken: list[Source] = []
    for source, account, release, found, resolution_ms in _each(rounds):
        identities.append(source.identity)
        if not _admit(commit, source, account, release, found, resolution_ms):
            entry = commit.sources.get(source.identity)
            same = source.beginning_of.name if source.beginning_of else source.input.name
            known.append((source.input.name, entry["row"]["name"] if entry else same))
            if source.tally.problem:
                broken.append(source)
    for source in broken:
        own, tally = commit.sources.get(source.tally.identity), source.tally
        if own is None or own["row"]["problem"] != tally.problem or not is_own(own, source):
            # another one has what was read of it, and nobody else tells that it broke off
            rows = [row for row in tally.refusals.rows if row["line"] is None]
            lost = Source(source.input, source.name, tally=Tally(problem=tally.problem, refusals=Refusals(rows)))
            _admit(commit, lost, Account(), {}, nothing(), None)
            identities.append(lost.identity)
    return identities, tuple(known)
