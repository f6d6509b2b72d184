"""The reducer as an executable definition: small, slow and obvious. One definition for readers, one for machines.

A peer connection is the fold of its events, `evolve(state, event) -> state`; its row in a table is a function of that
state. Written from what the tables' columns say of themselves. Times are milliseconds on any clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

#: an agent that says disconnected sooner than it waits speaks of a close
VERDICT_MS = 29_000
LOST = ("ConnectionLost", "ConnectionFailed")


@dataclass(frozen=True, slots=True)
class Event:
    """What one tube's log said at one moment; `kind` is the event kind of the grammars."""

    at: int
    kind: str
    text: str = ""
    number: float = 0.0
    sent: int = 0
    received: int = 0
    candidates: tuple[tuple[str, int], ...] = ()
    flag: bool | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One gathering of one tube, from its start to the next."""

    started: int | None = None
    #: the library's own line for it
    first_candidate: int | None = None
    completed: int | None = None
    printed_ms: float | None = None
    ended: bool = False
    #: (type, port) of distinct local candidates, and when each was first seen; None inside a description
    candidates: tuple[tuple[tuple[str, int], int | None], ...] = ()
    refusals: tuple[int, ...] = ()
    checking: int | None = None
    ice_connected: int | None = None
    peer_connecting: int | None = None
    peer_connected: int | None = None
    channel_opened: int | None = None


@dataclass(frozen=True, slots=True)
class Tube:
    """One peer connection of one process, as far as its log was read."""

    tube_id: str
    conversation_id: str
    side: str | None = None
    generations: tuple[Generation, ...] = (Generation(),)
    trickle: bool = False
    candidates_reported: float = 0
    fetches: tuple[float, ...] = ()
    fetch_failures: int = 0
    turn_given: bool = False
    connected: bool = False
    #: its peer connection was told to connect: then a loss is no proof that it had been connected
    connecting: bool = False
    failed: bool = False
    #: its log saw its beginning, and its states
    begun: bool = False
    states_told: bool = False
    #: its log has a line of its set-up; whether the first line of gathering begins it; whether that told its end
    set_up: bool = False
    gathers: bool | None = None
    ending_told: bool = False
    #: its lines name their place in the source: those of releases that hold back callbacks do not
    located: bool = False
    #: when the path was last up, and what then took it down, before anybody closed the tube
    up_at: int | None = None
    down: tuple[int, str] | None = None
    closing: bool = False
    closed_at: int | None = None
    close_reason: str | None = None
    sent: int | None = None
    received: int | None = None
    transport: tuple[int, int] | None = None
    #: leg, time and printed duration of each connection of the gateway to Guacd or to the target
    backends: tuple[tuple[str, int, float], ...] = ()
    channel_at: int | None = None
    times: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether its log has all of its gathering."""
        return self.set_up or (bool(self.gathers) and (self.begun or not self.states_told))

    @property
    def may_be_held(self) -> bool:
        """Whether its log may lack the line that tells that callbacks were held back."""
        return not self.whole and not self.located


#: kinds of lines of gathering
GATHERING = (
    "gathering_started", "gathering_state_changed", "first_candidate_gathered", "candidate_gathered",
    "session_described", "gathering_completed", "gathering_reported",
)  # fmt: skip


def _earliest(known: int | None, now: int) -> int:
    return now if known is None else min(known, now)


def _grown(known: int | None, now: int) -> int:
    return now if known is None else max(known, now)


def _seen(generation: Generation, found: Iterable[tuple[str, int]], at: int | None) -> Generation:
    known = dict(generation.candidates)
    return replace(generation, candidates=tuple((dict.fromkeys(found, at) | known).items()))


def _in_generation(now: Generation, event: Event) -> Generation:
    match event.kind, event.text.lower():
        case "gathering_started", _:
            return replace(now, started=event.at)
        case "first_candidate_gathered", _:
            return replace(now, first_candidate=_earliest(now.first_candidate, event.at))
        case "candidate_gathered", _:
            return _seen(now, event.candidates, event.at)
        case "session_described", _:
            return _seen(now, event.candidates, None)
        case ("gathering_completed", _) | ("gathering_state_changed", "complete"):
            return replace(now, completed=_earliest(now.completed, event.at), ended=True)
        case "gathering_reported", _:
            return replace(now, ended=True)
        case "gathering_completed_reported", _ if now.printed_ms is None and 0 < event.number <= 600_000:
            return replace(now, printed_ms=event.number)
        case "allocation_failed", _:
            return replace(now, refusals=(*now.refusals, event.at))
        case "ice_state_changed", "checking":
            return replace(now, checking=_earliest(now.checking, event.at))
        case "ice_state_changed", "connected":
            return replace(now, ice_connected=_earliest(now.ice_connected, event.at))
        case "peer_state_changed", "connecting":
            return replace(now, peer_connecting=_earliest(now.peer_connecting, event.at))
        case "peer_state_changed", "connected":
            return replace(now, peer_connected=_earliest(now.peer_connected, event.at))
        case "channel_opened", _:
            return replace(now, channel_opened=_earliest(now.channel_opened, event.at))
    return now


def _in_state(tube: Tube, at: int, state: str, *, by_peer: bool) -> Tube:
    closed = _earliest(tube.closed_at, at) if state == "closed" else tube.closed_at
    tube = replace(
        tube,
        begun=tube.begun or (not tube.states_told and state in ("checking", "connecting")),
        states_told=True,
        connected=tube.connected
        or (by_peer and state == "connected")
        or (state == "disconnected" and not tube.connecting),
        connecting=tube.connecting or (by_peer and state == "connecting"),
        failed=tube.failed or state == "failed",
        closed_at=closed,
    )
    if state == "connected" and not tube.closing:
        return replace(tube, up_at=at, down=None)
    if state in ("disconnected", "failed") and not tube.closing:
        return replace(tube, down=tube.down or (at, state))
    return tube


def _in_tube(tube: Tube, event: Event) -> Tube:
    state = event.text.lower()
    match event.kind:
        case "side_declared":
            return replace(tube, side="client" if event.flag else "gateway")
        case "peer_connection_requested":
            return replace(tube, begun=True, set_up=True, trickle=bool(event.flag))
        case "gathering_reported":
            reported = max(tube.candidates_reported, event.number)
            return replace(tube, ending_told=True, candidates_reported=reported)
        case "credentials_fetched":
            return replace(tube, begun=True, set_up=True, fetches=(*tube.fetches, event.number))
        case "credentials_failed":
            return replace(tube, begun=True, set_up=True, fetch_failures=tube.fetch_failures + 1)
        case "credentials_given":
            return replace(tube, begun=True, set_up=True, turn_given=True)
        case "channel_opened":
            return replace(tube, connected=True, channel_at=_earliest(tube.channel_at, event.at))
        case "ice_state_changed" | "peer_state_changed":
            return _in_state(tube, event.at, state, by_peer=event.kind == "peer_state_changed")
        case "tube_closing" | "tube_closed" | "tube_removed":
            reason = tube.close_reason or event.text or None
            closed = _earliest(tube.closed_at, event.at)
            return replace(tube, closing=True, closed_at=closed, close_reason=reason)
        case "bytes_sent_counted":
            return replace(tube, sent=_grown(tube.sent, event.sent), connected=tube.connected or event.sent > 0)
        case "bytes_received_counted":
            carried = tube.connected or event.received > 0
            return replace(tube, received=_grown(tube.received, event.received), connected=carried)
        case "transport_bytes_counted":
            sent, received = tube.transport or (0, 0)
            return replace(tube, transport=(max(sent, event.sent), max(received, event.received)))
        case "backend_connected":
            leg = f"gateway_to_{event.text.lower()}"
            return replace(tube, connected=True, backends=(*tube.backends, (leg, event.at, event.number)))
    return tube


def evolve(tube: Tube, event: Event) -> Tube:
    """What is known of a tube after one more event."""
    past, now = tube.generations[:-1], tube.generations[-1]
    if event.kind == "gathering_started" and now.started is not None:
        past, now = (*past, now), Generation()
    generations = (*past, _in_generation(now, event))
    if tube.gathers is None and event.kind in GATHERING:
        begins = event.kind == "gathering_started" or event.text.lower() == "gathering"
        tube = replace(tube, gathers=begins)
    return replace(_in_tube(tube, event), generations=generations, times=(*tube.times, event.at))


def fold(tube_id: str, conversation_id: str, events: Iterable[Event], *, located: bool = False) -> Tube:
    """One peer connection from all its events, in order."""
    return reduce(evolve, events, Tube(tube_id, conversation_id, located=located))


def _first_of(generation: Generation, *kinds: str) -> int | None:
    return min((at for (found, _), at in generation.candidates if found in kinds and at is not None), default=None)


def _first_candidate(generation: Generation) -> int | None:
    told = generation.first_candidate
    return _first_of(generation, "host", "srflx", "relay") if told is None else told


def _span(start: int | None, end: int | None) -> float | None:
    """A duration that can be one: an end before its start, or ten minutes after, belongs to something else."""
    return float(end - start) if start is not None and end is not None and 0 <= end - start < 600_000 else None


def _first_sound(spans: Iterable[float | None]) -> float | None:
    return next((span for span in spans if span is not None), None)


def _found(tube: Tube) -> list[str]:
    return [kind for one in tube.generations for (kind, _), _ in one.candidates]


def _counted(tube: Tube) -> bool:
    """Whether all candidates are known, were it that there are none."""
    none_found = tube.trickle and tube.ending_told and not tube.candidates_reported
    return tube.whole and (bool(_found(tube)) or none_found)


def attempts(tube: Tube) -> tuple[int, int]:
    """Attempts at an allocation, or at credentials where there is none: granted, tried."""
    generations, found, counted = tube.generations, _found(tube), _counted(tube)
    relays, fetched = found.count("relay"), len(tube.fetches)
    with_turn = bool(tube.fetches) or tube.turn_given
    # gathering ended, its candidates are in the log, a TURN server was there, and neither grant nor refusal came
    silent = [
        one
        for one in generations
        if with_turn
        and counted
        and one.ended
        and not one.refusals
        and not any(k == "relay" for (k, _), _ in one.candidates)
    ]
    refused = sum(len(one.refusals) for one in generations) + len(silent)
    return (relays, relays + refused) if relays + refused else (fetched, fetched + tube.fetch_failures)


def connection_times(tube: Tube) -> Iterator[float | None]:
    """From checks to a connection, by generation; none of the first where its states may have been held back."""
    for number, one in enumerate(tube.generations, 1):
        yield None if number == 1 and tube.may_be_held else _span(one.checking, one.ice_connected)


def ice_stats(tube: Tube) -> dict[str, object]:
    """The row of a tube in `ice_stats`, its main columns."""
    generations = tube.generations
    found, counted = _found(tube), _counted(tube)
    granted, tried = attempts(tube) if tube.whole else (0, 0)
    completed = _first_sound(_span(one.started, one.completed) for one in generations)
    return {
        "conversation_id": tube.conversation_id,
        "tube_id": tube.tube_id,
        "side": tube.side,
        "total_candidates": len(found) if counted else None,
        **{f"{kind}_candidates": found.count(kind) if counted else None for kind in ("host", "srflx", "relay")},
        "first_candidate_time_ms": _first_sound(_span(one.started, _first_candidate(one)) for one in generations),
        "gathering_complete_time_ms": _first_sound([completed, *(one.printed_ms for one in generations)]),
        "turn_credential_fetch_ms": tube.fetches[0] if tube.fetches else None,
        "turn_allocations_attempted": tried or None,
        "turn_allocation_success_rate": granted / tried if tried else None,
        "connection_time_ms": _first_sound(connection_times(tube)),
        "pair_bytes_sent": tube.transport[0] if tube.transport else None,
        "pair_bytes_received": tube.transport[1] if tube.transport else None,
        "generations": len(generations),
    }


def _total(tubes: Sequence[Tube], side: str, way: str) -> int | None:
    """A counter starts anew with each tube."""
    counts = [getattr(tube, way) for tube in tubes if tube.side == side and getattr(tube, way) is not None]
    return sum(counts) if counts else None


#: event kind → machine, and the state where its text does not name it
MACHINES = {
    "peer_state_changed": ("peer_connection", None),
    "ice_state_changed": ("ice", None),
    "gathering_state_changed": ("gathering", None),
    "gathering_started": ("gathering", "gathering"),
    "gathering_completed": ("gathering", "complete"),
    "channel_opened": ("data_channel", "open"),
}


def states(events: Iterable[Event]) -> dict[str, list[tuple[str, int]]]:
    """States of each machine with the time they were entered; told twice, they are entered once."""
    found: dict[str, list[tuple[str, int]]] = {}
    for event in events:
        if event.kind in MACHINES:
            machine, state = MACHINES[event.kind]
            steps, name = found.setdefault(machine, []), state or event.text.lower()
            if not steps or steps[-1][0] != name:
                steps.append((name, event.at))
    return found


def is_lost(tube: Tube) -> bool:
    """Whether the path was down at the end, and not because somebody was closing."""
    if not tube.connected or tube.down is None:
        return False
    at, state = tube.down
    early = state == "disconnected" and tube.up_at is not None and at - tube.up_at < VERDICT_MS
    return not (early and tube.closed_at is not None)


def is_never(tube: Tube) -> bool:
    """Whether the log proves that it did not connect."""
    ended = tube.failed or (tube.closed_at is not None and tube.states_told)
    return not tube.connected and tube.begun and ended


def conversation(tubes: Sequence[Tube]) -> dict[str, object]:
    """The row of a conversation in `conversations`; `close_reason` holds all that may be called the first."""
    connected, failed = any(tube.connected for tube in tubes), any(tube.failed for tube in tubes)
    never = any(is_never(tube) for tube in tubes)
    closes = [(tube.closed_at, tube.close_reason) for tube in tubes if tube.closed_at is not None]
    # nothing ties the clocks of the two logs, so the client's counts where it is there
    own = [tube for tube in tubes if tube.side == "client"] or list(tubes)
    first = [tube for tube in own if tube.closed_at is not None and tube.close_reason is not None] or [
        tube for tube in tubes if tube.closed_at is not None and tube.close_reason is not None
    ]
    told = [(tube.closed_at, tube.close_reason) for tube in first]
    reasons = {reason for at, reason in told if at == min(told)[0]}
    lost = any(map(is_lost, tubes)) or bool(reasons & set(LOST))
    if connected:
        outcome = "connected_lost" if lost else "connected_closed" if closes else "connected_open"
    else:
        outcome = ("failed" if failed else "never_connected") if never else "unknown"
    sent, received = _total(tubes, "client", "sent"), _total(tubes, "client", "received")
    return {
        "conversation_id": tubes[0].conversation_id,
        "started_at": min(at for tube in own for at in tube.times),
        "ended_at": max(at for tube in own for at in tube.times),
        "clock": own[0].side,
        "sides": sorted({tube.side for tube in tubes if tube.side}),
        "tube_ids": sorted(tube.tube_id for tube in tubes),
        "connected": True if connected else False if never else None,
        "outcome": outcome,
        "close_reason": reasons or {None},
        "bytes_sent": _total(tubes, "gateway", "received") if sent is None else sent,
        "bytes_received": _total(tubes, "gateway", "sent") if received is None else received,
    }
