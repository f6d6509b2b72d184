"""The set-up of a conversation step by step: which milestone each tube reached, and when.

In: the events of the conversation's tubes. Out: milestones per tube, in the order of a set-up, then what followed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import polars as pl

from analyzer.events.links import CONTROL, canonical
from analyzer.reductions.held_back import SLEEP_MS, SOON_MS

Row: TypeAlias = Mapping[str, Any]
_STATES = ("ice_state_changed", "peer_state_changed")
_CHANNEL_OPEN, _RECEIVED = ("channel_opened", "channel_seen_open", "channel_state_changed"), "channel_received"


@dataclass(frozen=True, slots=True)
class Milestone:
    """A step a tube reached; `count` says how often, `ts` is null in dialects without times.

    `held_back`: it was told when the library's callbacks, held back until then, were let go, and happened before.
    """

    name: str
    tube_id: str
    ts: datetime | None
    source: str
    line: int
    count: int = 1
    held_back: bool = False


def _is(*kinds: str, state: str = "") -> Callable[[Row], bool]:
    return lambda row: row["kind"] in kinds and (not state or (row["state"] or "").lower() == state)


def _any(*tests: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: any(test(row) for test in tests)


#: name, what shows it, and which of several it is: the first, or the second of one that should come once
STEPS: tuple[tuple[str, Callable[[Row], bool], int], ...] = (
    ("gathering started", _is("gathering_started"), 0),
    ("first candidate", _is("first_candidate_gathered", "candidate_gathered"), 0),
    ("gathering complete", _any(_is("gathering_completed"), _is("gathering_state_changed", state="complete")), 0),
    ("ICE checking", _is("ice_state_changed", state="checking"), 0),
    ("ICE connected", _is("ice_state_changed", state="connected"), 0),
    ("peer connected", _is("peer_state_changed", state="connected"), 0),
    ("data channel open", _any(_is(*_CHANNEL_OPEN[:2]), _is(_CHANNEL_OPEN[2], state="open")), 0),
    ("ICE disconnected", _is("ice_state_changed", state="disconnected"), 0),
    ("gathering again", _is("gathering_started"), 1),
    ("ICE connected again", _is("ice_state_changed", state="connected"), 1),
    ("ICE failed", _is("ice_state_changed", state="failed"), 0),
    ("peer failed", _is("peer_state_changed", state="failed"), 0),
)
GATHERING, SETUP = (tuple(name for name, _, _ in STEPS[:last]) for last in (3, 7))
#: the last one, which `links` tells
CLOSING = "closing"
#: all of them in their order
NAMES = (*(name for name, _, _ in STEPS), CLOSING)
KINDS = (
    "gathering_started",
    "first_candidate_gathered",
    "candidate_gathered",
    "gathering_completed",
    "gathering_state_changed",
    "ice_state_changed",
    "peer_state_changed",
    "gathering_held_back",
    *_CHANNEL_OPEN,
    _RECEIVED,
)
#: what two lines of one event share
_SAID = ("kind", "ts", "tube_id", "state", "delay_ms", "label")


def collect(events: pl.LazyFrame, conversation_id: str, tube_ids: Sequence[str]) -> Sequence[Row]:
    """Collect the events that milestones are read from, in order; those without a tube by their channel's label."""
    label = canonical(pl.col("channel_label"))
    by_label = pl.col("tube_id").is_null() & label.is_in([conversation_id, CONTROL])
    mine = events.filter(pl.col("kind").is_in(KINDS), pl.col("tube_id").is_in(list(tube_ids)) | by_label)
    rows = mine.select("kind", "ts", "source", "line", "tube_id", "state", "delay_ms", label=label)
    return rows.sort("ts", "source", "line", nulls_last=True).collect().to_dicts()


def once(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of logs that tell events twice: of those that say the same at the same time the first."""
    told = set()
    for row in rows:
        said = tuple(row[name] for name in _SAID)
        if row["ts"] is None or said not in told:
            yield row
        told.add(said)


def _of_tube(rows: Iterable[Row], tube_id: str) -> list[Row]:
    """Events of a tube. One without a tube is of the only tube its source has."""
    rows = list(rows)
    tubes_of: dict[str, set[str]] = {}
    for row in rows:
        if row["tube_id"]:
            tubes_of.setdefault(row["source"], set()).add(row["tube_id"])
    owner = {source: next(iter(tubes)) for source, tubes in tubes_of.items() if len(tubes) == 1}
    return [row for row in rows if (row["tube_id"] or owner.get(row["source"])) == tube_id]


def _changes(rows: Iterable[Row]) -> Iterable[Row]:
    """States as they change: two loggers tell of the same change."""
    last: dict[str, str] = {}
    for row in rows:
        state = (row["state"] or "").lower()
        if row["kind"] not in _STATES or last.get(row["kind"]) != state:
            last[row["kind"]] = state
            yield row


def _own_channel(found: list[Row], conversation_id: str) -> list[Row]:
    """Of the channels of a tube the conversation's own, where labels tell."""
    return [row for row in found if row["label"] == conversation_id] or [
        row for row in found if row["label"] in (None, CONTROL)
    ]


def _is_held_back(row: Row, events: Iterable[Row]) -> bool:
    """Whether a state was told while callbacks were held back, or as they were let go."""
    if row["kind"] not in _STATES or row["ts"] is None:
        return False
    spans = (
        (one["ts"], timedelta(milliseconds=one["delay_ms"] or SLEEP_MS))
        for one in events
        if one["kind"] == "gathering_held_back" and one["ts"]
    )
    return any(begin <= row["ts"] <= begin + held + timedelta(milliseconds=SOON_MS) for begin, held in spans)


def closing(link: Row) -> list[Milestone]:
    """The milestone of a tube that was closed, from its row of `links`."""
    if not link["closed_origin"]:
        return []
    source, _, line = link["closed_origin"].rpartition(":")
    return [Milestone(CLOSING, link["tube_id"], link["closed_at"], source, int(line))]


def milestones(rows: Iterable[Row], conversation_id: str, tube_id: str) -> list[Milestone]:
    """Find the milestones of one tube, in the order of `STEPS`."""
    events = list(_changes(_of_tube(rows, tube_id)))
    reached = []
    for name, shows, nth in STEPS:
        found = [row for row in events if shows(row)]
        if name == "data channel open":
            # the answerer of early releases tells no opening; that the channel arrived is the same moment
            found = _own_channel(found or [row for row in events if row["kind"] == _RECEIVED], conversation_id)
        if len(found) > nth:
            row = found[nth]
            count = 1 if name in SETUP else len(found) - nth
            held = _is_held_back(row, events)
            reached.append(Milestone(name, tube_id, row["ts"], row["source"], row["line"], count, held))
    return reached
