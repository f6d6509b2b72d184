"""Scenarios: what happened to some tubes, as events for the fold and as the lines a real log has of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import strategies as st

from tests.oracle.fold import Event, Tube, fold

BASE = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
#: how much a line says of its conversation: only by the place it stands in, only where it is registered, everywhere
ADJACENT, REGISTERED, INSERTED = "adjacent", "registered", "inserted"
SIDES = ("client", "gateway")
LIBRARY = "keeper_pam_webrtc_rs"
REASONS = ("Normal", "ConnectionLost", "ConnectionFailed", "AdminClosed", "Timeout")


@dataclass(frozen=True, slots=True)
class Life:
    """One tube in one log: who it is, how the library of its time writes, and what happened to it."""

    tube_id: str
    conversation_id: str
    side: str
    era: str
    events: tuple[Event, ...]

    def folded(self) -> Tube:
        return fold(self.tube_id, self.conversation_id, self.events, located=self.era != ADJACENT)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, and when it was written."""

    at: int
    text: str


# -- events → lines -------------------------------------------------------------------------------------------------


def _candidate(kind: str, port: int) -> str:
    address = {"host": "10.77.3.2", "srflx": "203.0.113.7", "relay": "198.51.100.9"}[kind]
    priority = {"host": 2130706431, "srflx": 1694498815, "relay": 16777215}[kind]
    related = "" if kind == "host" else " raddr 0.0.0.0 rport 40000"
    return f"candidate:{port % 97} 1 udp {priority} {address} {port} typ {kind}{related}"


def _description(event: Event) -> str:
    lines = [f"a={_candidate(*one)}" for one in event.candidates]
    # each address again, for RTCP
    lines += [line.replace(" 1 udp ", " 2 udp ") for line in lines]
    return "\r\n".join(["v=0", "s=-", *lines, "a=end-of-candidates", ""])


#: event kind → logger, head, pairs behind the tube's id
_TUBE_LINES: dict[str, Callable[[Event], tuple[str, str, list[str]]]] = {
    "side_declared": lambda e: (
        "tube", "[DATA_CHANNEL_SETUP] Registering on_data_channel callback", [f"is_server_mode: {str(e.flag).lower()}"]
    ),
    "gathering_started": lambda e: ("tube", "ICE gathering started", []),
    "first_candidate_gathered": lambda e: ("webrtc_core", "ICE gathering started", []),
    "candidate_gathered": lambda e: (
        "webrtc_core", "ICE candidate gathered", [f"candidate: {_candidate(*e.candidates[0])}", "count: 1"]
    ),
    "session_described": lambda e: ("webrtc_core", "Initial offer SDP", [f"sdp: {_description(e)}"]),
    "gathering_completed": lambda e: ("tube", "ICE gathering complete", []),
    "gathering_state_changed": lambda e: ("tube", "ICE gathering state changed", [f"state: {e.text}"]),
    "gathering_reported": lambda e: (
        "webrtc_core", "ICE gathering complete", [f"total_candidates: {e.number:.0f}", "duration: 0.2s"]
    ),
    "credentials_fetched": lambda e: (
        "tube_registry", "Successfully fetched TURN credentials", [f"duration: {e.number:.1f}ms"]
    ),
    "credentials_failed": lambda e: (
        "tube_registry", "Failed to get TURN credentials: KRouter Error: 503", [f"duration: {e.number:.1f}ms"]
    ),
    "credentials_given": lambda e: (
        "tube_registry", "Using explicit TURN credentials", ["url: turn:krelay.test:3478"]
    ),
    "ice_state_changed": lambda e: ("tube", "ICE connection state changed", [f"state: {e.text}"]),
    "peer_state_changed": lambda e: ("tube", "Connection state changed", [f"state: {e.text}"]),
}  # fmt: skip
#: event kind → logger and head of lines that name their tube in the midst of it; `{}` is the tube's id
_NAMED_LINES: dict[str, Callable[[Event], tuple[str, str, list[str]]]] = {
    "peer_connection_requested": lambda e: (
        "tube",
        f"[TUBE_DEBUG] Tube {{}}: create_peer_connection called. trickle_ice: {str(e.flag).lower()}, turn_only: false",
        [],
    ),
    "tube_closing": lambda e: ("tube", "Tube {} explicit close starting", [f"reason: {e.text}"] if e.text else []),
    "tube_closed": lambda e: (
        "tube", "Tube {} closed successfully", ["peer connection closed", "total time: 1.608653ms"]
    ),
    "tube_removed": lambda e: ("tube_registry", "Tube {} removed from registry - Drop will verify cleanup", []),
}  # fmt: skip
#: event kind → head and pairs of lines of the collector, which knows conversations only
_COLLECTOR_LINES: dict[str, Callable[[Event], tuple[str, list[str]]]] = {
    "bytes_sent_counted": lambda e: (
        "Recording data channel sent activity", ["messages_sent: 6", f"bytes_sent: {e.sent}"]
    ),
    "bytes_received_counted": lambda e: (
        "Recording data channel received activity", ["messages_received: 6", f"bytes_received: {e.received}"]
    ),
    "transport_bytes_counted": lambda e: (
        "Recording transport-level data activity", [f"bytes_sent: {e.sent}", f"bytes_received: {e.received}"]
    ),
    "gathering_completed_reported": lambda e: ("ICE gathering completed", [f"duration: {e.number:.1f}ms"]),
}  # fmt: skip


def _keys(pairs: list[str]) -> str:
    return f" ({', '.join(pairs)})" if pairs else ""


def _said(life: Life, event: Event, place: int) -> Iterable[tuple[str, str]]:
    """Logger and message of each line of one event; `place` varies where the conversation stands in it."""
    conversation = f"conversation_id: {life.conversation_id}"

    def inserted(pairs: list[str]) -> list[str]:
        if life.era != INSERTED:
            return pairs
        at = place % (len(pairs) + 1)
        return [*pairs[:at], "conversation_id: -" if place % 5 == 4 else conversation, *pairs[at:]]

    collector = f"{LIBRARY}.metrics.collector"
    if event.kind in _TUBE_LINES:
        logger, head, pairs = _TUBE_LINES[event.kind](event)
        yield f"{LIBRARY}.{logger}", head + _keys(inserted([f"tube_id: {life.tube_id}", *pairs]))
    elif event.kind in _NAMED_LINES:
        logger, head, pairs = _NAMED_LINES[event.kind](event)
        yield f"{LIBRARY}.{logger}", head.format(life.tube_id) + _keys(inserted(pairs))
    elif event.kind in _COLLECTOR_LINES:
        head, pairs = _COLLECTOR_LINES[event.kind](event)
        yield collector, head + _keys([conversation, *pairs])
    elif event.kind == "connection_registered":
        yield (
            collector,
            "Registered connection for metrics tracking" + _keys([conversation, f"tube_id: {life.tube_id}"]),
        )
    elif event.kind == "channel_opened":
        keys = _keys(inserted([f"tube_id: {life.tube_id}"]))
        yield f"{LIBRARY}.tube", f"Data channel '{life.conversation_id}' opened, setting tube status to Ready{keys}"
    elif event.kind == "backend_connected":
        option = "" if life.era == ADJACENT else " (TCP_NODELAY)"
        named = f"channel_id: {life.conversation_id}" + (f" | {conversation}" if life.era == INSERTED else "")
        printed = f"Gateway<->{event.text}: {event.number:.1f}ms | addr: 127.0.0.1:4822"
        yield f"{LIBRARY}.channel.connections", f"Backend connection established{option} | {named} | {printed}"
    elif event.kind == "allocation_failed":
        yield (
            "webrtc_ice.agent.agent_gather",
            (
                "[controlled]: Failed to allocate on turn.Client krelay.test:3478"
                " Allocate error response (error 401: Unauthorized)"
            ),
        )
    else:
        raise ValueError(event.kind)
    if event.kind == "gathering_started" and life.era == ADJACENT:
        yield collector, "ICE gathering started" + _keys([conversation, "timestamp: 13"])


def rendered(lives: Iterable[Life]) -> list[Line]:
    """The log of one process: the lines of its tubes, by time, those of one tube and of one event in their order."""
    suffix = {INSERTED: " (crates/keeper-pam-webrtc-rs/src/tube.rs:500)", REGISTERED: " (src/tube.rs:88)", ADJACENT: ""}
    written = [
        Line(event.at, f"DEBUG {logger}: {message}{suffix[life.era]}")
        for life in lives
        for place, event in enumerate(life.events)
        for logger, message in _said(life, event, place)
    ]
    return [
        replace(
            line, text=f"{(BASE + timedelta(milliseconds=line.at)).strftime('%Y-%m-%d %H:%M:%S,%f')[:-3]} {line.text}"
        )
        for line in sorted(written, key=lambda line: line.at)
    ]


def text(lines: Iterable[Line]) -> bytes:
    """The bytes of a log."""
    return "".join(f"{line.text}\n" for line in lines).encode()


# -- made-up lives --------------------------------------------------------------------------------------------------

_TOLD, _REPORTED = "gathering_completed", "gathering_completed_reported"
_BACKENDS = st.builds(
    Event,
    st.just(0),
    st.just("backend_connected"),
    st.sampled_from(["Guacd", "Target"]),
    st.sampled_from([-1.0, 0.0, 1.0, 2.0, 17.0, 999.0, 1000.0, 3012.0]),
)
_GAPS = st.one_of(st.integers(0, 3), st.integers(0, 400), st.integers(0, 400), st.sampled_from([1000, 7000, 31_000]))


@st.composite
def _gathering(draw: st.DrawFn, *, trickle: bool, alone: bool) -> list[Event]:
    """One generation: its start, candidates and end, any of which the log may lack."""
    events = []
    if draw(st.integers(0, 9)):
        events.append(Event(0, "gathering_started"))
    found = draw(
        st.lists(st.tuples(st.sampled_from(["host", "host", "srflx", "relay"]), st.integers(40000, 40002)), max_size=6)
    )
    if draw(st.booleans()):
        events.append(Event(0, "first_candidate_gathered"))
    if trickle:
        events += [Event(0, "candidate_gathered", candidates=(one,)) for one in found]
    elif found:
        events.append(Event(0, "session_described", candidates=tuple(found)))
    if alone and events and events[0].kind == "gathering_started" and draw(st.booleans()):
        events.insert(draw(st.integers(1, len(events))), Event(0, "allocation_failed"))
    ends = [
        Event(0, "gathering_state_changed", "Complete"),
        Event(0, "gathering_completed"),
        Event(0, "gathering_completed_reported", number=draw(st.sampled_from([312.7, 0.5, 0.0, -1795354312264.0]))),
        Event(0, "gathering_reported", number=len(set(found))),
    ]
    return events + [event for event in ends if draw(st.booleans())]


@st.composite
def _counters(draw: st.DrawFn, before: list[Event]) -> list[Event]:
    """Cumulative counters, as they are written every few seconds; they go on from those before."""
    sent = max((event.sent for event in before if event.kind == "bytes_sent_counted"), default=0)
    received = max((event.received for event in before if event.kind == "bytes_received_counted"), default=0)
    both = max(
        ((event.sent, event.received) for event in before if event.kind == "transport_bytes_counted"), default=(0, 0)
    )
    sent, received = max(sent, both[0] // 2), max(received, both[1] // 2)
    events = []
    for _ in range(draw(st.integers(0, 4))):
        sent, received = sent + draw(st.integers(0, 500)), received + draw(st.integers(0, 500))
        every = [
            Event(0, "bytes_sent_counted", sent=sent),
            Event(0, "bytes_received_counted", received=received),
            Event(0, "transport_bytes_counted", sent=sent * 2, received=received * 2),
        ]
        events += [event for event in every if draw(st.booleans())]
    return events


@st.composite
def _states(draw: st.DrawFn) -> list[Event]:
    """What the state machines told, from a life that went well to one that broke off anywhere."""
    states = [
        Event(0, "ice_state_changed", "Checking"),
        Event(0, "peer_state_changed", "Connecting"),
        Event(0, "ice_state_changed", "Connected"),
        Event(0, "peer_state_changed", "Connected"),
        Event(0, "channel_opened"),
    ]
    reached = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5, 5]))
    if draw(st.integers(0, 3)) == 0 and reached > 1:
        gap = draw(st.integers(0, reached - 1))
        return states[:gap] + states[gap + 1 : reached]
    return states[:reached]


@st.composite
def lives(draw: st.DrawFn, tube_id: str, conversation_id: str, side: str, era: str, start: int, alone: bool) -> Life:
    """One tube of one side, in the order a real one has; each thing may be missing from its log."""
    trickle = draw(st.booleans())
    first = [Event(0, "connection_registered")] if era != ADJACENT else []
    first += [event for event in [Event(0, "peer_connection_requested", flag=trickle)] if draw(st.integers(0, 4))]
    first += [Event(0, "side_declared", flag=side == "client")]
    with_turn = [
        Event(0, "credentials_failed", number=97.0),
        Event(0, "credentials_fetched", number=draw(st.sampled_from([45.2, 380.0]))),
        Event(0, "credentials_given"),
    ]
    events = first + [event for event in with_turn if draw(st.integers(0, 2)) == 0]
    if era == ADJACENT:
        events.append(Event(0, "gathering_started"))
    for restart in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        if restart:
            events.append(Event(0, "ice_state_changed", draw(st.sampled_from(["Disconnected", "Failed"]))))
        events += draw(_gathering(trickle=trickle, alone=alone)) + draw(_states())
        events += draw(_counters(events))
        if side == "gateway":
            events += draw(st.lists(_BACKENDS, max_size=3))
    ends = [
        Event(0, "peer_state_changed", draw(st.sampled_from(["Disconnected", "Failed", "Closed"]))),
        Event(0, "tube_closing", draw(st.sampled_from(["", *REASONS]))),
        Event(0, "tube_closing", draw(st.sampled_from(["", *REASONS]))),
        Event(0, "tube_closed"),
        Event(0, "tube_removed"),
    ]
    events += [event for event in ends if draw(st.booleans())]
    if era == ADJACENT:
        # the place of such a line is all that it says
        events = [
            one for before, one in pairwise([events[0], *events]) if one.kind != _REPORTED or before.kind == _TOLD
        ]
    at, placed = start, []
    for event in events:
        at += 0 if event.kind == _REPORTED else draw(_GAPS)
        placed.append(replace(event, at=at))
    return Life(tube_id, conversation_id, side, era, tuple(placed))


@st.composite
def scenarios(draw: st.DrawFn, *, largest: int = 4, prefix: str = "") -> list[Life]:
    """A handful of conversations, each with the logs of one or both sides, on one or several tubes in turn."""
    conversations = draw(st.integers(1, largest))
    era = draw(st.sampled_from([ADJACENT, REGISTERED, INSERTED]))
    # sides of different releases: both register, or none does
    eras = {side: draw(st.sampled_from([REGISTERED, INSERTED])) if era != ADJACENT else era for side in SIDES}
    one, both = [(side,) for side in SIDES], [] if era == ADJACENT else [SIDES, SIDES]
    found: list[Life] = []
    for number in range(conversations):
        for side in draw(st.sampled_from([*one, *both])):
            start = draw(st.integers(0, 2000))
            for turn in range(1 if era == ADJACENT else draw(st.sampled_from([1, 1, 1, 2]))):
                tube_id = f"{prefix}tube-{number}-{side}-{turn}"
                alone = conversations == 1 and not prefix
                life = draw(lives(tube_id, f"{prefix}conv-{number}", side, eras[side], start, alone))
                found.append(life)
                start = life.events[-1].at + draw(st.integers(1, 5000))
    return found
