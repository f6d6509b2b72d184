"""The set-up of a tube as its phases, once more: a walk along one tube's events, small, slow and obvious."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.oracle.fold import Event, Tube


class Phase(NamedTuple):
    """One phase: its name, what became of it, and from when to when, in ms on the log's clock."""

    name: str
    state: str
    started: float
    ended: float | None


def _first(events: Sequence[Event], shows: Callable[[Event], bool]) -> float | None:
    return next((float(event.at) for event in events if shows(event)), None)


def _entered(events: Sequence[Event], kind: str, state: str) -> float | None:
    return _first(events, lambda event: event.kind == kind and event.text.lower() == state)


def _milestones(events: Sequence[Event]) -> list[tuple[str, float | None]]:
    """The end of each phase there is, None where no event tells it."""
    kinds = [event.kind for event in events]
    before = events[: kinds.index("gathering_started")] if "gathering_started" in kinds else events
    fetches = [event for event in before if event.kind in ("credentials_fetched", "credentials_failed")]
    if fetches:
        asked = min(event.at - event.number for event in fetches)
        found: list[tuple[str, float | None]] = [("preparation", asked), ("credential_fetch", float(fetches[-1].at))]
    else:
        found = [("preparation", _first(events, lambda event: event.kind == "peer_connection_requested"))]
    gathered = ("gathering_completed", "gathering_state_changed")
    return [
        *found,
        ("description", _first(events, lambda event: event.kind == "gathering_started")),
        ("gathering", _first(events, lambda event: event.kind in gathered)),
        ("signalling", _entered(events, "ice_state_changed", "checking")),
        ("checks", _entered(events, "ice_state_changed", "connected")),
        ("dtls", _entered(events, "peer_state_changed", "connected")),
        ("sctp", None),
        ("data_channel", _first(events, lambda event: event.kind == "channel_opened")),
    ]


def phases(events: Sequence[Event], tube: Tube) -> list[Phase]:
    """Phases of a tube, in order; `tube` is the fold of the same events."""
    begins = at = float(events[0].at)
    milestones = _milestones(events)
    found: list[Phase] = []
    waiting: list[str] = []
    for place, (name, reached) in enumerate(milestones):
        waiting.append(name)
        if reached is None:
            continue
        # where a later milestone was reached before this one, that one ends the phase
        later = [end for _, end in milestones[place:] if end is not None]
        ended = max(begins, min(later))
        found.append(Phase("+".join(waiting), "done", at, ended))
        at, waiting = ended, []
    if waiting:
        name = waiting[0] if waiting[0] != "sctp" or tube.side == "gateway" else "sctp+data_channel"
        lost = tube.failed or tube.closed_at is not None
        state = "untold" if tube.connected else "died" if lost else "open"
        found.append(Phase(name, state, at, None))
    return found
