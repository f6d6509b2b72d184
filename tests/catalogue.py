"""The library's log lines, as its sources spell them in every release: what the grammars have to know.

`python -m tests.catalogue CATALOGUE.json` extracts `fixtures/catalogue.jsonl` from a catalogue of all templates: per
template its logger, era and text, with a typed hole where a value stands, and a real line where one was seen. Without
an argument it prints the drift list: lines that no rule takes, and values that an event leaves behind.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl

from analyzer import tracing
from analyzer.events.targets import stem
from analyzer.grammar import grammar
from analyzer.grammar.pattern import Capture, captures
from analyzer.grammar.reference import Parsed
from analyzer.grammar.text import stems
from tests.strategies import ROOT, read_by_plan

EXTRACT = ROOT / "fixtures" / "catalogue.jsonl"
#: the catalogue itself, where it is at hand
SOURCE = ROOT.parent / "shared" / "reference" / "log-catalogue.json"
#: releases 0.2.24 and newer; entries without an era are of WebRTC crates and of releases after the last commit
LATER = frozenset({"E4", "E5"})
#: where a value stands
HOLE = re.compile(r"\{([A-Za-z_0-9]*):(\w+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """One wording of one line: `text` has holes `{name:type}`; `informs` are the metrics it bears on."""

    target: str
    #: `log`, or `tracing` for releases 0.2.0 to 0.2.23
    style: str
    text: str
    informs: tuple[str, ...] = ()
    #: the line as a real run wrote it
    example: str | None = None


#: values by the type of a hole; several where the library prints several forms
BY_TYPE: dict[str, tuple[str, ...]] = {
    "str": ("abc-123", "conv-456"),
    "int": ("7", "0"),
    "number": ("41.5", "13"),
    "float": ("41.5", "0.0"),
    "bool": ("true", "false"),
    "duration": ("510.156492ms", "130.304µs", "2s"),
    "option": ("Some(41.5)", "None"),
    "debug": ('Some("some word")', "None"),
}
#: Values by the name of a hole, where its vocabulary is narrower than its type. Lines take every value at least once.
BY_NAME: dict[str, tuple[str, ...]] = {
    "agent_role": ("controlled", "controlling"),
    "candidate": ("candidate:1 1 udp 2130706431 10.0.0.1 50000 typ host",),
    "backend_type": ("Gateway<->Guacd", "Gateway<->Target"),
    "close_reason": ("Normal", "AdminClosed"),
    "candidate_type": ("host", "srflx", "prflx", "relay"),
    "current_flight": ("Flight 1", "Flight 5"),
    "direction": ("OUTGOING", "INCOMING"),
    "duration": ("41.5", "0.2"),
    "handshake": ("client", "server"),
    "next_flight": ("Flight 3", "Flight 5"),
    "protocol": ("udp", "tcp"),
    "sdp_type": ("offer", "answer"),
    "side_label": ("Gateway", "Commander"),
    "side_label_2": ("Gateway", "Commander"),
    "typ": ("host", "relay"),
    "type": ("host", "srflx", "prflx", "relay"),
    **dict.fromkeys(("address", "ip", "relay_ip", "mapped_ip"), ("10.0.0.1", "fd00::2")),
    **dict.fromkeys(("addr", "socket_addr", "remote", "local", "listen_addr"), ("10.0.0.1:50000", "[fd00::2]:50000")),
    **dict.fromkeys(("error", "err", "e"), ("operation timed out", "the agent is closed")),
    **dict.fromkeys(("is_controlling", "remote_connected"), ("true", "false")),
    **dict.fromkeys(("remote_ufrag", "remote_pwd"), ("n0tForTables",)),
    **dict.fromkeys(("sctp_at_close", "peak_sctp", "app_queued", "pauses", "bind_requests_removed"), ("0", "24")),
    **dict.fromkeys(
        ("local_type", "local_type_2", "remote_type", "remote_type_2"), ("host", "srflx", "prflx", "relay")
    ),
    **dict.fromkeys(("state", "new_state", "old_state", "connection_state"), ("Connected", "Failed")),
    **dict.fromkeys(("status", "old_status", "new_status", "current_status"), ("Active", "Closing")),
}
#: candidates as the ICE agent prints them
CANDIDATES = ("udp4 host 10.0.0.1:50000", "udp4 relay 10.0.0.9:49413 related 0.0.0.0:43651")
#: values of one hole of one logger, or of one template
BY_PLACE: dict[tuple[str, str], tuple[str, ...]] = {
    ("metrics.alerts", "message"): (
        "RTT increased to 310.5ms", "Packet loss at 5.5%", "Low bandwidth: 64000 bps",
        "High error rate: 1.5 errors/sec", "Message queue backlog: 70 messages",
    ),
    ("metrics.alerts", "alert_type"): ("High Latency",),
    ("metrics.alerts", "conversation_id"): ('Some("conv-456")', "None"),
    ("channel.core", "connection_ids"): ("[]", "[2, 3]"),
    ("channel.core", "protocol"): ("PortForward", "Guacd"),
    ("tube", "close_reason"): ("Some(Normal)", "None"),
    ("tube", "reason"): ("Normal", "AdminClosed"),
    ("webrtc_network_monitor", "reason"): ("network change", "connection disconnected"),
    ("python.tube_registry_binding", "prefix"): ("     ├─", "     └─"),
    ("webrtc_core", "sdp"): (
        "v=0\r\ns=-\r\na=candidate:1 1 udp 2130706431 10.0.0.1 50000 typ host\r\n",
        "v=0\r\ns=-\r\n",
    ),
    ("channel.protocol", "log_message"): ("SOCKS5 host not allowed", "SOCKS5 target missing in OpenConnection"),
    ("webrtc_ice.agent.agent_gather", "network"): ("udp4", "udp6"),
    ("webrtc_ice.agent.agent_gather", "turn_server_addr"): ("krelay.test:3478",),
    ("webrtc_ice.agent.agent_gather", "url"): ("stun:krelay.test:3478",),
    ("webrtc_ice.agent.agent_internal", "c"): CANDIDATES,
    ("webrtc_ice.agent.agent_internal", "local"): CANDIDATES,
    ("webrtc_ice.agent.agent_internal", "remote"): CANDIDATES,
    ("[{agent_role:str}]: inbound STUN (Request) from {remote:str} to {local:str}", "remote"): ("10.0.0.1:50000",),
    ("webrtc_ice.agent.agent_internal", "p"): (
        "Some(prio 1 (local, prio 2) udp4 host 10.0.0.1:50000 <-> udp4 host 10.0.0.2:50001 (remote, prio 3))", "None",
    ),
    ("webrtc_ice.agent.agent_selector", "local"): CANDIDATES,
    ("webrtc_ice.agent.agent_selector", "remote"): CANDIDATES,
}  # fmt: skip


def _hole(one: Mapping[str, Any]) -> str:
    """The type of a field, narrowed by its unit."""
    kind, unit = str(one["type"]), one["unit"] or ""
    if kind != "debug":
        return kind
    return "duration" if "Duration" in unit else "option" if unit else kind


def extracted(catalogue: Iterable[Mapping[str, Any]]) -> list[Template]:
    """The templates that inform, of the library and its crates, in every wording from 0.2.0 on."""
    found: dict[tuple[str, str, str], Template] = {}
    for one in catalogue:
        eras, style = one.get("eras"), one["style"]
        wanted = "E2" in (eras or ()) if style == "tracing" else eras is None or not LATER.isdisjoint(eras)
        # What is printed past all loggers is no record, and Commander's own lines are another program's. Releases that
        # trace wrote by `tracing`: what they still had of `log`, in their first weeks, is in no log at hand.
        if one["relevance"] == "noise" or style == "print" or one.get("origin") == "commander" or not wanted:
            continue
        types = {field["name"]: _hole(field) for field in one["fields"]}
        holes = [f"{{{hole}:{types.get(hole, kind)}}}" for hole, kind in HOLE.findall(one["template"])]
        text = _filled(one["template"], holes)
        key = one["target"], style, text
        example = one.get("example") or (found[key].example if key in found else None)
        informs = {*one["affects"], *(found[key].informs if key in found else ())}
        found[key] = Template(*key, tuple(sorted(informs)), example)
    return [found[key] for key in sorted(found)]


def written(templates: Sequence[Template]) -> str:
    """The extract as text, a line each; what is empty is left out."""
    rows = ({name: value for name, value in asdict(one).items() if value} for one in templates)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read() -> list[Template]:
    rows = (json.loads(line) for line in EXTRACT.read_text(encoding="utf-8").splitlines())
    return [Template(**{**row, "informs": tuple(row.get("informs", ()))}) for row in rows]


def name(one: Template) -> str | None:
    """The stem of the grammar that has to know a template."""
    target = one.target
    if one.style == "tracing":
        target = str(pl.select(tracing.logger(pl.lit(target))).item())
    return stem(target)


@dataclass(frozen=True, slots=True)
class Line:
    """A template with values in its holes; `values` has them by name. A real line has none."""

    template: Template
    text: str
    values: Mapping[str, str]


def _values(one: Template, hole: str, kind: str) -> tuple[str, ...]:
    """What may stand in a hole: told by its template, its logger, its name, its type."""
    place = (name(one) or "").removeprefix("keeper_pam_webrtc_rs.")
    narrow = BY_NAME.get(hole) if kind in ("str", "debug") else None
    return BY_PLACE.get((one.text, hole)) or BY_PLACE.get((place, hole)) or narrow or BY_TYPE[kind]


def _filled(text: str, values: Iterable[str]) -> str:
    """A template's text with values in its holes, in their order."""
    left = iter(values)
    return HOLE.sub(lambda _: next(left), text)


def lines(one: Template) -> Iterator[Line]:
    """Lines of a template: so many that every value of every hole is in one of them, and the real one."""
    holes = HOLE.findall(one.text)
    values_of = [_values(one, *hole) for hole in holes]
    for row in zip_longest(*values_of) if holes else [()]:
        values = [value if value is not None else values_of[at][0] for at, value in enumerate(row)]
        text = _filled(one.text, values)
        yield Line(one, _spelled(one, text), dict(zip((hole for hole, _ in holes), values, strict=True)))
    if one.example:
        yield Line(one, _spelled(one, one.example), {})


def _spelled(one: Template, text: str) -> str:
    return str(pl.select(tracing.spelled(pl.lit(text))).item()) if one.style == "tracing" else text


def readings(templates: Iterable[Template]) -> list[tuple[Line, Parsed | None]]:
    """What the plan makes of every line of the templates; None also where there is no grammar."""
    by_grammar: dict[str | None, list[Line]] = defaultdict(list)
    for one in templates:
        by_grammar[name(one)] += lines(one)
    found: list[tuple[Line, Parsed | None]] = []
    for target, mine in by_grammar.items():
        known = target is not None and target in stems()
        read_ = read_by_plan(str(target), [line.text for line in mine]) if known else [None] * len(mine)
        found += zip(mine, read_, strict=True)
    return found


def unmatched(templates: Iterable[Template]) -> list[Line]:
    """The drift list: lines that are neither an event nor declared noise."""
    return [line for line, read_ in readings(templates) if read_ is None]


def captured(target: str, kind: str) -> list[Capture]:
    """What is captured in messages of a kind."""
    return captures(next(one for one in grammar(target).kinds if one.name == kind).sequence)


def main() -> None:
    """Write the extract, or print the drift list."""
    if len(sys.argv) > 1:
        EXTRACT.write_text(
            written(extracted(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))), encoding="utf-8"
        )
        return
    for line in unmatched(read()):
        print(line.template.target, line.template.style, line.text, sep=" | ")


if __name__ == "__main__":
    main()
