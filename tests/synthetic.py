"""Synthetic logs of any size, printed by the grammars themselves: many conversations at once, and known noise.

One block of a log is made up once; further blocks are the same with other ids and a later hour, so that a gigabyte is
a matter of seconds. What was written is counted, so that whatever reads it can be held to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

from analyzer.events.targets import LIBRARY, logger
from analyzer.grammar import dialects, shipped
from analyzer.grammar.pattern import EventKind, Sequence, Skip, captures, heads, options, required
from analyzer.grammar.printer import render, sample_values

SEED = 1
#: share of records that inform nothing; real logs have between half and nine tenths
NOISE = 0.69
CONVERSATIONS = 24
#: what stands in a block for the number of the block (eight hex digits in every id), and for its hour
_NUMBER, _HOUR = "b10cb10c", "YYYY-MM-DD HH"
_ANY_ID = "ANY-ID"
_BEGIN = datetime(2026, 11, 1)  # noqa: DTZ001 - the dialect prints no zone
_ID_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_INFO = {"channel_opened", "tube_closing", "tube_closed", "tube_removed", "channel_closing"}
_STD = next(kind for kind in dialects() if kind.name == "std")
_CARGO = "/build/.cargo/registry/src/registry-1949cf8c6b5b557f"

#: an event on its way: milliseconds since the conversation began, stem of the logger, kind, values that matter
_Happening = tuple[int, str, str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Written:
    """What is in a log as it was written."""

    bytes: int
    lines: int
    noise: int
    conversations: int
    #: by logger and kind
    events: Counter[tuple[str, str]]

    @property
    def records(self) -> int:
        """Events and noise; there is nothing else."""
        return self.noise + self.events.total()


def _candidate(random: Random, candidate_type: str) -> dict[str, str]:
    """One candidate in all its spellings."""
    address, port = f"10.{random.randint(0, 255)}.{random.randint(0, 255)}.2", str(random.randint(1024, 65535))
    priority = {"host": "2130706431", "srflx": "1694498815", "relay": "16777215"}[candidate_type]
    related = "" if candidate_type == "host" else f" raddr 0.0.0.0 rport {random.randint(1024, 65535)}"
    attribute = f"candidate:{random.getrandbits(32)} 1 udp {priority} {address} {port} typ {candidate_type}{related}"
    return {"candidate": attribute, "candidate_type": candidate_type, "address": address, "port": port,
            "transport": "udp", "priority": priority}  # fmt: skip


def _beginning(random: Random, *, trickle: bool) -> Iterator[_Happening]:
    """From the tube to its last candidate."""
    relay_ms, count = random.randint(40, 160), 0
    yield 0, "metrics.collector", "connection_registered", {}
    yield 0, "metrics.handle", "metrics_attached", {}
    yield 1, "tube_registry", "credentials_fetched", {"duration_ms": "0.9ms"}
    yield 1, "tube", "peer_connection_requested", {"trickle_ice": str(trickle).lower(), "turn_only": "false"}
    yield 2, "tube", "side_declared", {"is_server_mode": "false"}
    yield 2, "tube_registry", "client_tube_created", {}
    yield 3, "tube", "remote_description_set", {"is_answer": "false", "is_server_mode": "false"}
    yield 3, "webrtc_core", "signaling_state_changed", {"signaling_state": "HaveRemoteOffer"}
    yield 5, "webrtc_core", "signaling_state_changed", {"signaling_state": "Stable"}
    yield 6, "tube", "gathering_state_changed", {"state": "Gathering"}
    yield 6, "tube", "gathering_started", {}
    yield 6, "metrics.collector", "gathering_started_reported", {"timestamp_ms": "98"}
    yield 7, "webrtc_core", "first_candidate_gathered", {}
    for kind, after in (("host", 8), ("host", 8), ("srflx", relay_ms // 2), ("relay", relay_ms)):
        count += 1
        one = _candidate(random, kind) | {"candidate_count": str(count), "direction": "OUTGOING"}
        if trickle:
            yield after, "webrtc_core", "candidate_gathered", one
        yield after, "webrtc_core", "candidate_described", one
    yield relay_ms + 1, "tube", "gathering_state_changed", {"state": "Complete"}
    yield relay_ms + 1, "tube", "gathering_completed", {}
    yield relay_ms + 1, "metrics.collector", "gathering_completed_reported", {"duration_ms": f"{relay_ms - 5}.0ms"}
    yield relay_ms + 2, "webrtc_core", "gathering_reported", {"total_candidates": str(count), "duration_ms": "0.1s"}
    if not trickle:
        yield relay_ms + 2, "webrtc_core", "session_described", {}
    for number in range(1, random.randint(2, 5)):
        one = _candidate(random, random.choice(("host", "srflx"))) | {"direction": "INCOMING"}
        yield 20 * number, "webrtc_core", "remote_candidate_counted", {"candidate_count": str(number)}
        yield 20 * number, "webrtc_core", "remote_candidate_numbered", one | {"candidate_count": str(number)}
        yield 20 * number, "webrtc_core", "candidate_described", one


def _life(random: Random) -> Iterator[_Happening]:
    """A whole conversation as a gateway logs it; one in eight fails, one in eight does without trickle."""
    yield from _beginning(random, trickle=random.random() > 1 / 8)
    yield 190, "tube", "ice_state_changed", {"state": "Checking"}
    yield 190, "tube", "peer_state_changed", {"state": "Connecting"}
    yield 195, "webrtc_core", "connectivity_reported", {"candidate_pairs": "4"}
    if random.random() < 1 / 8:
        yield 30_000, "tube", "ice_state_changed", {"state": "Failed"}
        yield 30_000, "tube", "peer_state_changed", {"state": "Failed"}
        yield 30_001, "webrtc_core", "restart_triggered", {}
        yield from _end(30_100)
        return
    ready = random.randint(300, 2500)
    yield ready, "tube", "ice_state_changed", {"state": "Connected"}
    yield ready + 70, "tube", "peer_state_changed", {"state": "Connected"}
    yield ready + 70, "metrics.collector", "connection_registered", {}
    yield ready + 120, "tube", "channel_received", {}
    yield ready + 120, "channel.core", "channel_initialized", {"is_server_mode": "false"}
    yield ready + 121, "tube", "channel_attached", {}
    yield ready + 121, "webrtc_data_channel", "channel_awaited", {}
    yield ready + 150, "webrtc_data_channel", "channel_seen_open", {}
    yield ready + 150, "tube", "channel_opened", {}
    yield ready + 600, "channel.connections", "backend_connected", {}
    sent = received = at = 0
    for tick in range(random.randint(8, 24)):
        at = ready + 1000 + 60_000 * tick
        sent, received = sent + random.randint(0, 10**5), received + random.randint(0, 10**6)
        counted = {"bytes_sent": str(sent), "bytes_received": str(received)}
        said = {"reported_rtt_ms": f"{random.uniform(40, 90):.1f}"}
        yield at, "metrics.collector", "pair_reported", said | {"reported_local_type": "host"}
        yield at, "metrics.collector", "transport_bytes_counted", counted
        yield at, "metrics.collector", "bytes_sent_counted", counted
        yield at, "metrics.collector", "bytes_received_counted", counted
        yield at, "metrics.collector", "rtt_reported", said
        if tick % 5 == 0:
            yield at + 2, "webrtc_core", "transport_stats_reported", counted
            yield at + 2, "webrtc_core", "metrics_summarized", {"reported_side": "Gateway"}
            yield at + 3, "webrtc_quality_manager", "quality_adjusted", {}
    yield at + 500, "channel.core", "backend_closed", {"close_reason": "Normal", "backend_number": "1"}
    yield at + 1000, "channel.core", "channel_closing", {"is_server_mode": "false"}
    yield from _end(at + 1000)


def _end(at: int) -> Iterator[_Happening]:
    yield at, "tube", "tube_closing", {"close_reason": "Normal"}
    yield at + 100, "metrics.collector", "connection_unregistered", {}
    yield at + 350, "tube", "channel_closed", {}
    yield at + 360, "webrtc_ice.agent.agent_internal", "candidate_close_failed", {"ice_role": "controlled"}
    yield at + 361, "tube", "ice_state_changed", {"state": "Closed"}
    yield at + 362, "tube", "tube_closed", {}
    yield at + 363, "tube_registry", "tube_removed", {}


def _message(kind: EventKind, known: dict[str, str], ids: dict[str, str], random: Random) -> str:
    """Print one event: what the life says, ids as the real line has them, anything else made up."""
    # over several lines, as the printer prints none
    if kind.name == "session_described":
        return kind.samples[-1].replace("abc-123", ids["tube_id"])
    columns = {capture.column for capture in captures(kind.sequence)}
    told = {"conversation_id"} | (required(kind.sequence) & set(ids))
    if kind.target.startswith("channel."):
        told |= {"channel_label"}
    elif kind.target != "metrics.collector" or kind.name == "connection_registered":
        told |= {"tube_id"}
    values = {name: text for name, text in sample_values(kind, random).items() if name not in ids}
    given = {name: text for name, text in known.items() if name in columns}
    return render(kind.sequence, values | given | {name: ids[name] for name in told & columns})


def _unsaid(option: Sequence) -> str:
    """A line of one declared noise, with a name in place of its ids."""
    text = render(option, {})
    for item in option:
        if isinstance(item, Skip) and item.terminal == "ID":
            text = text.replace(render((item,), {}), _ANY_ID)
    return text


def _noise() -> list[tuple[str, str]]:
    """A line of every declared noise, with its logger; none that begins like an event."""
    found = []
    for stem, grammar in shipped().items():
        begun = tuple(text for kind in grammar.kinds for text in heads(kind.sequence) or ("",))
        texts = (_unsaid(option) for option in options(grammar.noise or ()))
        found += [(stem, text) for text in texts if not text.startswith(begun)]
    return found


def _with_ids(stem: str, text: str, ids: dict[str, str]) -> str:
    text = text.replace(_ANY_ID, ids["conversation_id"])
    if not logger(stem).startswith(LIBRARY):
        return text
    opened = ", " if text.count("(") > text.count(")") else " ("
    return f"{text}{opened}tube_id: {ids['tube_id']}, conversation_id: {ids['conversation_id']})"


def _line(at: int, level: str, stem: str, message: str, place: int) -> str:
    path = stem.replace(".", "/")
    inside = f"{path.split('/')[0].replace('_', '-')}-0.14.0/src/{path}"
    where = f"crates/keeper-pam-webrtc-rs/src/{path}" if logger(stem).startswith(LIBRARY) else f"{_CARGO}/{inside}"
    seconds, ms = divmod(at, 1000)
    ts = f"{_HOUR}:{seconds // 60:02}:{seconds % 60:02},{ms:03}"
    values = {"ts": ts, "level": level, "target": logger(stem), "message": f"{message} ({where}.rs:{place})"}
    return render(_STD.sequence, values)


def block(seed: int = SEED, noise: float = NOISE) -> tuple[bytes, Written]:
    """Make up one hour of a log, and tell what is in it."""
    random = Random(seed)
    kinds = {(kind.target, kind.name): kind for grammar in shipped().values() for kind in grammar.kinds}
    places = {key: random.randint(20, 3500) for key in kinds}
    nothing = [(stem, text, random.randint(20, 3500)) for stem, text in _noise()]
    random.shuffle(nothing)
    # a few lines make most of a log, as in the captures: the n-th is written a n-th as often
    weights = [1 / rank for rank in range(1, len(nothing) + 1)]
    lines: list[tuple[int, str]] = []
    events: Counter[tuple[str, str]] = Counter()
    for _ in range(CONVERSATIONS):
        conversation = _NUMBER + "".join(random.choices(_ID_CHARS, k=14))
        tube = _NUMBER + str(UUID(int=random.getrandbits(128), version=4))[8:]
        ids = {"tube_id": tube, "conversation_id": conversation, "channel_label": conversation}
        begin = random.randrange(30 * 60_000)
        life = sorted(_life(random), key=lambda happening: happening[0])
        for after, stem, name, known in life:
            level = "INFO" if name in _INFO else "DEBUG"
            message = _message(kinds[stem, name], known, ids, random)
            lines.append((begin + after, _line(begin + after, level, stem, message, places[stem, name])))
            events[logger(stem), name] += 1
        unsaid = round(events.total() * noise / (1 - noise)) - (len(lines) - events.total())
        for stem, text, place in random.choices(nothing, weights, k=max(0, unsaid)):
            at = begin + random.choice(life)[0] + random.randrange(3)
            lines.append((at, _line(at, "DEBUG", stem, _with_ids(stem, text, ids), place)))
    lines.sort(key=lambda line: line[0])
    text = "".join(f"{line}\n" for _, line in lines)
    unsaid, raw = len(lines) - events.total(), text.encode()
    return raw, Written(len(raw), text.count("\n"), unsaid, CONVERSATIONS, events)


def write(path: Path, size: int, *, noise: float = NOISE, seed: int = SEED) -> Written:
    """Write a log of about `size` bytes: whole blocks, at least one."""
    raw, one = block(seed, noise)
    count = max(1, round(size / one.bytes))
    with path.open("wb") as stream:
        for number in range(count):
            hour = (_BEGIN + timedelta(hours=number)).strftime("%Y-%m-%d %H")
            text = raw.replace(_NUMBER.encode(), f"{number:08x}".encode())
            stream.write(text.replace(_HOUR.encode(), hour.encode()))
    events = Counter({key: count * seen for key, seen in one.events.items()})
    return Written(count * one.bytes, count * one.lines, count * one.noise, count * one.conversations, events)
