"""Inputs → sources: which of them the dataset knows, and which have grown.

A source is its decompressed bytes up to their last line end: names, places and compression do not matter to what it
holds. What stands behind that is the beginning of a line, which waits for its end. A source that has grown is read on
from a checkpoint: what was found before that stays as it is, and comes out as if all had been read at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, count

from analyzer.accounting.accounts import Counted, restored
from analyzer.dialects import UTC, Dialect
from analyzer.inputs import Input
from analyzer.lines import Place, begin_of, recognised, whole
from analyzer.refusals import Refusals
from analyzer.tables.dataset import Staged
from analyzer.tables.entries import Entry
from analyzer.tables.slices import Slice
from analyzer.tally import Tally

#: so many inputs that begin alike are held against one another: each of them is read to the sizes of all
MOST_ALIKE = 100


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where to read on, behind `parts` files of events, and what was counted before."""

    place: Place
    parts: int
    dialect: Dialect
    counted: Counted

    def stored(self) -> Entry:
        """The same as JSON."""
        return {
            "place": asdict(self.place),
            "parts": self.parts,
            "dialect": [self.dialect.wraps, self.dialect.record, self.dialect.votes],
            "counted": self.counted.stored(),
        }


def _restored(entry: Entry) -> Checkpoint:
    wraps, record, votes = entry["dialect"]
    dialect = Dialect(tuple(wraps), record, tuple((name, count) for name, count in votes))
    return Checkpoint(Place(**entry["place"]), entry["parts"], dialect, restored(entry["counted"]))


@dataclass(slots=True)
class Source:
    """One input on its way through: what was read, and the events that came of it."""

    input: Input
    name: str
    #: its first bytes: most logs begin with a time
    begin: bytes = b""
    tally: Tally = field(default_factory=Tally)
    #: zone of its times that name none, and whether it was asked for
    zone: str = UTC
    zone_given: bool = False
    #: what it was when it was last read, by identity, the latest last; and whether that is all it is
    before: tuple[str, ...] = ()
    is_known: bool = False
    #: the input of which it is but the beginning: a copy that is not whole yet, or an older one
    beginning_of: Source | None = None
    dialect: Dialect = field(default_factory=lambda: Dialect((), None))
    #: where to read on from, and where the next reading may
    start: Checkpoint | None = None
    reached: tuple[Place, int] | None = None
    #: events that were written, by the number of the part: a file, or rows that were laid aside
    parts: dict[int, Staged | Slice] = field(default_factory=dict)

    def forget(self) -> None:
        """Begin anew: nothing was read of it."""
        self.tally = Tally()

    @property
    def identity(self) -> str:
        """What it is known by: its bytes, or its name where there are none."""
        if self.beginning_of:
            return self.beginning_of.identity
        if self.is_known:
            return self.before[-1]
        return f"unread:{self.input.name}" if self.tally.is_unread else self.tally.identity


def is_in(entry: Entry, zone: str) -> bool:
    """Whether the times of a source are read in a zone; those of one without times are in any."""
    # versions before did not note it
    return entry["row"]["resolution_ms"] is None or (entry["row"].get("zone") or UTC) == zone


def _is_laid_out(entry: Entry, layout: Dialect | None) -> bool:
    """Whether a source was read in the layout that is asked for; where none is, whether that took any line."""
    row = entry["row"]
    if layout:
        return bool(row["dialect"] == layout.name)
    return bool(row["records"] > row["rejected"] or row["dialect"].endswith(Dialect((), None).name))


def is_own(entry: Entry, source: Source) -> bool:
    """Whether a source was read from an input of this name, be it one of several."""
    return source.input.name in (entry["row"]["name"], entry["row"]["name"].rpartition("#")[0])


def _is_mended(source: Source, entry: Entry) -> bool:
    """Whether an input that broke off when it was read is whole by now, though it holds the same."""
    return source.is_known and bool(entry["row"]["problem"]) and not source.tally.problem and is_own(entry, source)


def _refusals_before(entry: Entry, start: Checkpoint) -> Refusals | None:
    """What was refused before a checkpoint; None where that cannot be told."""
    line = start.place.line
    rows = [dict(row) for row in entry["refusals"] if row["line"] is not None and row["line"] < line]
    if any(row["last_line"] >= line for row in rows):
        return None
    return Refusals(rows, line - 1, start.place.offset, start.counted.records)


def _read_on(source: Source, entry: Entry) -> None:
    """Let a source that has grown be read from its checkpoint on, where it has one."""
    if entry.get("checkpoint") is None:
        return
    start = _restored(entry["checkpoint"])
    refusals = _refusals_before(entry, start)
    if refusals is None:
        return
    source.start, source.dialect = start, start.dialect
    source.tally.refusals = refusals
    source.tally.cut_lines = sum(row["reason"] == "line_too_long" for row in refusals.rows)


def _untaken(name: str, mark: str, taken: Collection[str]) -> str:
    """A name that no other source has: of those of one name, each but the first has its number, behind a mark."""
    numbered = (f"{name}{mark}{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)


def _sizes(known: Mapping[str, Entry]) -> dict[str | None, set[int]]:
    """Sizes of the sources that the dataset has, by their stem."""
    sizes: dict[str | None, set[int]] = defaultdict(set)
    for entry in known.values():
        if entry["row"]["bytes"]:
            sizes[entry.get("stem")].add(entry["row"]["bytes"])
    return sizes


def _recognised(
    source: Source, stem: str | None, known: Mapping[str, Entry], sizes: Mapping[str | None, set[int]]
) -> None:
    """Find out whether an input is a source that the dataset has, as it was or grown; `sizes` are by stem."""
    # of a line that had no end when it was read, more may be there by now
    alike = sizes.get(stem, set()) | sizes.get(None, set())
    if alike:
        tally, source.is_known = recognised(source.input, sorted(alike))
        noted = tally.beginnings
        source.before = tuple(one for one in noted if one in known)
        source.is_known &= noted[-1:] == list(source.before[-1:])
        if source.is_known:
            source.tally = tally


def _beginnings(stems: Iterable[tuple[Source, str | None]]) -> None:
    """Find the inputs that are but the beginning of another one: whatever they hold is in that."""
    alike: dict[str | None, list[Source]] = defaultdict(list)
    for source, stem in stems:
        alike[stem].append(source)
    for group in (group for stem, group in alike.items() if stem and 1 < len(group) <= MOST_ALIKE):
        wholes = [whole(source.input) for source in group]
        sizes = sorted({tally.bytes for tally in wholes if tally.bytes})
        noted = [set(recognised(source.input, sizes)[0].beginnings) for source in group]
        for source, own in zip(group, wholes, strict=True):
            longer = [
                (other.bytes, place)
                for place, other in enumerate(wholes)
                if other.bytes > own.bytes > 0 and own.identity in noted[place]
            ]
            if longer:
                place = max(longer)[1]
                source.beginning_of = group[place]
                # a copy that is not whole yet lacks nothing beside what it is a copy of, if that is whole
                source.tally = own if wholes[place].problem else source.tally


def recognise(
    inputs: Sequence[Input],
    zone: str | None,
    given: Mapping[str, str],
    layout: Dialect | None,
    known: Mapping[str, Entry],
) -> Iterator[Source]:
    """Tell of each input which source it is, and from where on it is to be read.

    It is read in the zone given for it, else in that for all, else in the one it was read in before.
    """
    taken = {entry["row"]["name"] for entry in known.values() if entry["row"]["bytes"]}
    sources, sizes = [Source(one, one.name) for one in inputs], _sizes(known)
    # standard input can be read only once; a sole input of an empty dataset is held against nothing
    asked_of = [one for one in sources if one.input.path is not None and not one.input.refused]
    stems: list[tuple[Source, str | None]] = []
    for source in asked_of if known or len(asked_of) > 1 else ():
        stem, source.begin = begin_of(source.input)
        stems.append((source, stem))
    _beginnings(stems)
    for source, stem in stems:
        if source.beginning_of is None:
            _recognised(source, stem, known, sizes)
    # of several logs that begin alike one's own name tells
    own = {
        was: source.name
        for source in sources
        for was in source.before
        if not source.is_known and known[was]["row"]["name"] == source.name
    }
    # what is still there as it was is nobody's beginning
    outgrown = {source.before[-1] for source in sources if source.is_known and source.before}
    anew: dict[str, Source] = {}
    for source in sources:
        one = source.input
        asked = given.get(one.name, zone)
        source.zone, source.zone_given = asked or UTC, asked is not None
        # of two inputs that begin like a third one goes on from it
        latest = source.before[-1:] if source.is_known else ()
        grown = [was for was in source.before if was not in outgrown and own.get(was, source.name) == source.name]
        source.before = tuple(dict.fromkeys((*(was for was in grown if was not in latest), *latest)))
        outgrown.update(source.before)
        if source.beginning_of is not None:
            source.is_known = True
        elif not source.before and not one.refused:
            source.name = _untaken(one.name, "#", taken)
            taken.add(source.name)
        elif source.before:
            entry = known[source.before[-1]]
            names = [known[was]["row"]["name"] for was in source.before]
            source.name = source.name if source.name in names else names[-1]
            source.zone = asked or entry["row"].get("zone") or UTC
            as_asked = is_in(entry, source.zone) and _is_laid_out(entry, layout) and not _is_mended(source, entry)
            if source.is_known and not as_asked:
                # of two inputs of the same bytes one is read in another way
                source.beginning_of = anew.get(latest[0])
                anew.setdefault(latest[0], source)
                source.is_known = source.beginning_of is not None
                source.forget()
            elif not source.is_known and as_asked:
                _read_on(source, entry)
        yield source
