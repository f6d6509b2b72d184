"""Where the events of each source are: large sources have files of their own, in parts, and small ones share files.

A file for each small source would take longer to write than all else, and whoever reads the table opens all of them.
Which of them share a file is decided by what they hold, never by when they came: they stand in the order of their
times, and the sequence is cut in front of those whose identity says so. So the same sources give the same files in
whatever order they come, and one more changes none but the file that it falls into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import polars as pl

from analyzer.catalogue import EVENTS
from analyzer.errors import DatasetError
from analyzer.events import rotation
from analyzer.tables import slices
from analyzer.tables.dataset import Commit, Staged, members
from analyzer.tables.entries import Entry
from analyzer.tables.slices import Slice

#: a file that is shared has about so many rows, never more than MOST times as many; each source counts as some
SHARED_ROWS = 5_000
MOST = 8
SOURCE_ROWS = 10
#: so many rows are copied at a time
COPIED_ROWS = 10_000
#: identities are cut by their first digits
_DIGITS = 8


def stage(
    commit: Commit, is_small: Callable[[str], bool], events: pl.DataFrame
) -> Iterator[tuple[str, int, Staged | Slice]]:
    """Stage events by source and part: in files of their own, or laid aside, until small sources share files."""
    # a part of a source lies in one piece, as it was read
    places = events.select("source", "part").with_row_index("first").group_by("source", "part", maintain_order=True)
    pieces = places.agg(pl.col("first").first(), rows=pl.len())
    stored = events.drop("part")
    are_small = pl.Series(map(is_small, pieces["source"]), dtype=pl.Boolean)
    for name, part, first, rows in pieces.filter(~are_small).iter_rows():
        yield name, part, commit.stage_frame(EVENTS, stored[first : first + rows])
    few = pieces.filter(are_small)
    if len(few):
        at = few.select(at=pl.int_ranges("first", pl.col("first") + pl.col("rows"))).explode("at")["at"]
        # most batches have no others
        rows = commit.lay_aside(EVENTS, stored if len(few) == len(pieces) else stored[at], few["rows"])
        yield from zip(few["source"], few["part"], rows, strict=True)


@dataclass(frozen=True, slots=True)
class Part:
    """Events of a source: where they are, what they say (`digest`), their source, and the log that it is a part of."""

    place: Slice
    digest: int
    identity: str
    scope: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.place.rows


@dataclass(frozen=True, slots=True)
class _Read:
    """What of a source's entry tells the order, the place and the meaning of its events."""

    first_ts: str | None
    last_ts: str | None
    name: str
    resolution_ms: float | None
    events: int
    #: files of its own
    files: tuple[str, ...]


def _read(entry: Entry) -> _Read:
    row = entry["row"]
    return _Read(
        row["first_ts"],
        row["last_ts"],
        row["name"],
        row["resolution_ms"],
        row["events"],
        tuple(file for _, file in sorted(entry["parts"].items(), key=lambda one: int(one[0]))),
    )


def cut(sources: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Cut a sequence of identities, each with its rows, where they say so."""
    some: list[str] = []
    taken = 0
    for identity, rows in sources:
        weight = rows + SOURCE_ROWS
        # of as many rows as a file has about one is in front of a cut, whoever is beside it
        borders = int(identity[:_DIGITS], 16) * SHARED_ROWS < weight << 4 * _DIGITS
        if some and (borders or taken + weight > MOST * SHARED_ROWS):
            yield some
            some, taken = [], 0
        some.append(identity)
        taken += weight
    if some:
        yield some


def _said(events: pl.DataFrame, places: Sequence[Slice]) -> list[int]:
    """What the events of each of some slices say, as a number: equal while they do, whatever else their logs hold."""
    # each event says which line it is of, so that the order is no matter
    sizes = pl.DataFrame({"rows": [place.rows for place in places]}).with_row_index("of")
    of = sizes.select(pl.col("of").repeat_by("rows").explode(empty_as_null=False))["of"]
    return (
        pl.DataFrame({"of": of, "hash": events.hash_rows()}).group_by("of", maintain_order=True).sum()["hash"].to_list()
    )


def _share(commit: Commit, known: Mapping[str, _Read]) -> dict[str, tuple[Slice, int]]:
    """Write the files that small sources share, but for those that are as they were.

    Out: where the events of each of these sources are, and what they say.
    """
    places = {one: place for one, place in commit.members.items() if one in known}
    order = sorted(places, key=lambda one: (known[one].first_ts or "", known[one].last_ts or "", one))
    before = {
        tuple(identity for identity, *_ in entry["members"]): relative
        for relative, entry in commit.before.files.items()
        if "members" in entry
    }
    for relative in before.values():
        commit.remove(relative)
    shared: list[str] = []
    for some in cut((identity, places[identity].rows) for identity in order):
        rows = [places[identity] for identity in some]
        relative = before.get(tuple(some), "")
        # one of them may have been read anew
        if relative and {place.path for place in rows} == {str(commit.out / relative)}:
            commit.files[relative] = commit.before.files[relative]
        else:
            said: list[int] = []
            staged = commit.stage_frames(EVENTS, _copied(rows, said))
            told = [(identity, place.rows, one) for identity, place, one in zip(some, rows, said, strict=True)]
            relative = commit.place(staged, f"shared-{staged.sha256[:16]}", told)
        shared.append(relative)
    commit.clear_aside()
    now = commit.places()
    found = {
        identity: (rows, said)
        for relative in shared
        for identity, rows, said in members(now[relative], commit.files[relative])
    }
    commit.members = {identity: rows for identity, (rows, _) in found.items()}
    return found


def _copied(places: Sequence[Slice], said: list[int]) -> Iterator[pl.DataFrame]:
    """Rows of slices, some at a time; what each says is added to what was `said`."""
    for some in slices.groups(places, lambda place: place.rows, COPIED_ROWS):
        events = slices.read(some, EVENTS.schema.names())
        said += _said(events, some)
        yield events


def _digest(*said: object) -> int:
    return int.from_bytes(sha256(" ".join(map(str, said)).encode()).digest()[:8], "big")


def stored(commit: Commit) -> list[Part]:
    """Put the events of small sources together, and tell where all are, in the order in which they were written.

    Raises:
        DatasetError: events of a source that was read are not there.
    """
    known = {identity: _read(entry) for identity, entry in commit.sources.items()}
    small = _share(commit, known)
    now, files = commit.places(), commit.files
    order = rotation.placed(
        rotation.Part(identity, one.name, one.first_ts, one.last_ts)
        for identity, one in known.items()
        if one.files or identity in small
    )
    found: list[Part] = []
    for source, scope in order:
        identity, one = source.identity, known[source.identity]
        # events say something else where their times are finer
        if identity in small:
            place, said = small[identity]
            found.append(Part(place, _digest(said, one.resolution_ms), identity, scope))
        for file in one.files:
            rows = files[file]["rows"]
            digest = _digest(files[file]["sha256"], one.resolution_ms)
            found.append(Part(Slice(now[file], 0, rows, rows), digest, identity, scope))
    there: Counter[str] = Counter()
    for part in found:
        there[part.identity] += part.rows
    for identity, one in known.items():
        if there[identity] != one.events:
            raise DatasetError(
                f"{commit.out} is damaged ({there[identity]:,} of {one.events:,} events of {one.name} are there)",
                "ingest its logs into a new folder",
            )
    return found
