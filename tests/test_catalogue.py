"""The grammars against the library's own lines, in every wording from 0.2.0 to the newest release."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from analyzer.events.targets import LIBRARY
from analyzer.grammar.reference import Parsed
from analyzer.grammar.types import TYPES
from tests.catalogue import EXTRACT, HOLE, SOURCE, Line, Template, captured, extracted, name, read, readings

#: templates that no grammar can know: nothing of their text is fixed
NO_HEAD = {
    "{msg:str}": "the library's logger hands through what its host gives it",
    "{capture:debug}": "a backtrace, which only debug builds write",
}
#: Lines that inform, hold a measured value and are noise all the same: how they begin, and why nothing is lost.
KEPT_AS_NOISE = {
    "TURN credentials TTL:": "how long a credential holds, no measurement",
    "Metrics collection interval": "a setting",
    "Waiting for ICE gathering with timeout": "a setting",
    "Data channel did not open within timeout": "a setting; that it did not open is what other lines do not say either",
    "Router circuit breaker": "a setting of requests to the router",
    "Negotiating max-message-size:": "sizes of messages, from no metric",
    "Successfully added max-message-size=": "sizes of messages, from no metric",
    "Endpoint Stats for connection": "an average, of releases that trace; no table has a backend's ping",
    "Metrics Heartbeat -": "averages over all conversations of a process",
    "High packet loss detected for conversation": "an alert on a value that the library never measures",
    "Sustained high latency detected for conversation": "an alert on a value that the library never measures",
    "Quality score low but metrics OK": "a judgement on values that the library never measures",
    "Quality significantly degraded": "a judgement on values that the library never measures",
    "Moderate congestion detected": "what the quality manager sets, not what it saw",
    "Triggering": "what the quality manager sets, not what it saw",
    "Bitrate adjusted:": "what the quality manager sets, not what it saw",
    "Bandwidth estimate updated:": "the estimate stands in the lines that name a tube, too",
    "ICE bandwidth estimates": "the agent's own estimate, which stays 0",
    "  - '": "the channels of a summary, one by one: the line of the channel says the same in bytes",
    "Descriptions not ready": "the candidate was told as it arrived",
    "Failed to add buffered incoming ICE candidate": "the candidate was told as it arrived",
    "Successfully added buffered incoming ICE candidate": "the candidate was told as it arrived",
    "New ICE candidate details": "the candidate a second time",
    "on_ice_candidate triggered": "the candidate a second time",
    "[CANDIDATE_DEBUG] ": "what is no candidate",
}
#: what a hole is called, and the column that has to have its value
IDS = {
    "tube_id": "tube_id",
    "conversation_id": "conversation_id",
    "conv_id": "conversation_id",
    "channel_id": "channel_label",
    "channel_label": "channel_label",
    "channel_name": "channel_label",
}
VALUES = {
    "bytes_received": "bytes_received",
    "bytes_sent": "bytes_sent",
    "candidate": "candidate",
    "candidate_type": "candidate_type",
    "duration": "duration_ms",
    "ip": "address",
    "is_answer": "is_answer",
    "is_server_mode": "is_server_mode",
    "port": "port",
    "priority": "priority",
    "relay_ip": "address",
    "relay_port": "port",
    "rtt": "reported_rtt_ms",
    "state": "state",
    "timestamp": "timestamp_ms",
    "total_candidates": "total_candidates",
    "total_remote_candidates": "total_remote_candidates",
}


@cache
def _readings() -> list[tuple[Line, Parsed | None]]:
    return readings(read())


def test_every_line_is_known() -> None:
    unknown = [line for line, found in _readings() if found is None and line.template.text not in NO_HEAD]
    listed = "\n".join(f"{line.template.target} | {line.text}" for line in unknown)
    assert not unknown, f"no rule takes these, print them by `python -m tests.catalogue`:\n{listed}"


def test_what_is_left_out_is_still_unknown() -> None:
    found = {line.template.text for line, read_ in _readings() if read_ is None}
    assert set(NO_HEAD) == found


def _measures(line: Line) -> bool:
    """Whether a line informs a metric of the network and holds a measured value."""
    measured = {"float", "number", "duration", "option"}
    holes = HOLE.findall(line.template.text)
    informs = any(
        one.startswith(("ice.", "leg.", "conn.rtt", "conn.bytes", "backend.")) for one in line.template.informs
    )
    return informs and any(kind in measured or hole in ("candidate", "rtt", "latency") for hole, kind in holes)


def test_lines_that_measure_are_events() -> None:
    lost = {
        line.template.text
        for line, found in _readings()
        if found and found.kind == "noise" and _measures(line) and not line.text.startswith(tuple(KEPT_AS_NOISE))
    }
    assert not lost


def _typed(target: str, kind: str, column: str, line: Line, hole: str) -> object:
    """A value as its column has it; an optional one is let out of its `Some(…)`, a duration has its unit behind it."""
    said = re.sub(r"^Some\(\"?(.*?)\"?\)$", r"\1", line.values[hole])
    if column == "duration_ms" and (unit := re.search(rf"\{{{hole}:\w+\}}(m?s)\b", line.template.text)):
        said += unit[1]
    found = next(capture for capture in captured(target, kind) if capture.column == column)
    return None if said == "None" else TYPES[found.terminal].value(said)


def test_events_have_the_ids_of_their_lines() -> None:
    told = [(line, found) for line, found in _readings() if found and found.kind != "noise"]
    named = [(line, found, hole) for line, found in told for hole in IDS.keys() & line.values.keys()]
    assert len(named) > 500
    for line, found, hole in named:
        assert found.values.get(IDS[hole]) == line.values[hole], line.text


def test_columns_have_the_values_of_their_lines() -> None:
    checked = 0
    for line, found in _readings():
        if found is None or found.kind == "noise":
            continue
        target = str(name(line.template))
        for hole in VALUES.keys() & line.values.keys():
            column = VALUES[hole]
            if column not in {capture.column for capture in captured(target, found.kind)}:
                continue
            checked += 1
            assert found.values.get(column) == _typed(target, found.kind, column, line, hole), line.text
    assert checked > 100


def test_an_id_put_anywhere_in_a_tail_changes_no_kind() -> None:
    """Releases from 2.1.22 on insert the conversation at the front, in the middle or at the end of a tail."""
    told = [
        (line, found)
        for line, found in _readings()
        if found and found.kind != "noise" and line.text.endswith(")") and line.template.target.startswith(LIBRARY)
    ]
    added = "conversation_id: conv-789"
    asked = {
        Template(line.template.target, line.template.style, text): (line, found)
        for line, found in told
        for text in (f"{line.text[:-1]}, {added})", re.sub(r" \((?=[a-z_]+: )", f" ({added}, ", line.text, count=1))
    }
    assert len(asked) > 500
    for again, found in readings(asked):
        line, before = asked[again.template]
        assert found is not None, again.text
        without = {key: value for key, value in found.values.items() if key != "conversation_id"}
        assert (found.kind, without) == (
            before.kind,
            {key: value for key, value in before.values.items() if key != "conversation_id"},
        ), again.text
        assert line.text == again.text or "conversation_id" in found.values, again.text


@pytest.mark.skipif(not SOURCE.exists(), reason="the catalogue itself is not at hand")
def test_the_extract_holds_the_catalogue() -> None:
    fresh = extracted(json.loads(SOURCE.read_text(encoding="utf-8")))
    assert set(fresh) == set(read())


def test_the_extract_is_small_and_holds_no_credential() -> None:
    text = EXTRACT.read_text(encoding="utf-8")
    assert len(text) < 1 << 20
    examples = "\n".join(one.example for one in read() if one.example)
    assert examples
    assert not re.search(r"(?i)(?:password|passwd|pwd|token|secret|ufrag)[\"']?[:=] ?[\"']?\w{4,}", examples)
