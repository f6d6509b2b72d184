"""Round trips from the connectivity checks of trace logs: which response is that of which request."""

from __future__ import annotations

import polars as pl

from tests.test_reductions import rebuilt

STAMP = "2026-11-22 13:00:{:06.3f}"
PAIR = ("udp4 host 10.77.1.2:35992", "udp4 srflx 10.77.3.9:50728 related 0.0.0.0:50728")
OTHER = ("udp4 host 10.77.1.2:35992", "udp4 host 10.77.3.2:40001")
AGENT = "DEBUG webrtc_ice.agent."
TIED = (
    "DEBUG keeper_pam_webrtc_rs.metrics.collector: Registered connection for metrics tracking"
    " (conversation_id: c-1, tube_id: t-1)"
)


def line(ms: int, message: str) -> str:
    return f"{STAMP.format(ms / 1000).replace('.', ',')} {message}\n"


def sent(ms: int, pair: tuple[str, str] = PAIR) -> str:
    return line(ms, f"{AGENT}agent_internal: [controlling]: ping STUN from {pair[0]} to {pair[1]}")


def nominated(ms: int, pair: tuple[str, str] = PAIR) -> str:
    return line(ms, f"{AGENT}agent_selector: ping STUN (nominate candidate pair from {pair[0]} to {pair[1]}")


def answered(ms: int, pair: tuple[str, str] = PAIR) -> str:
    return line(ms, f"{AGENT}agent_selector: inbound STUN (SuccessResponse) from {pair[1]} to {pair[0]}")


def selected(ms: int, pair: tuple[str, str] = PAIR) -> str:
    both = f"(local, prio 2130706431) {pair[0]} <-> {pair[1]} (remote, prio 1694498815)"
    return line(
        ms, f"{AGENT}agent_internal: [controlling]: Set selected candidate pair: Some(prio 7277816996979507199 {both})"
    )


def values(*lines: str) -> list[float]:
    tables = rebuilt({"client.log": "".join([line(0, TIED), *lines]).encode()})
    checks = tables["leg_measurements"].filter(pl.col("method") == "stun_transaction")
    assert set(checks["leg"]) <= {"end_to_end"}
    return checks.sort("ts")["value_ms"].to_list()


def test_a_response_after_a_single_request_is_its_own() -> None:
    log = [sent(100), answered(211), nominated(220), answered(332), selected(333), sent(2300), answered(2411)]
    assert values(*log) == [111.0, 112.0, 111.0]


def test_of_two_requests_without_a_response_it_is_not_known_which_was_answered() -> None:
    assert values(sent(100), sent(300), answered(330), answered(531), selected(532)) == []


def test_after_a_lost_request_nothing_is_told() -> None:
    assert values(
        sent(100), answered(211), sent(300), sent(500), answered(611), selected(612), sent(700), answered(811)
    ) == [111.0]


def test_only_the_selected_pair_is_the_way_of_the_traffic() -> None:
    assert values(sent(100, OTHER), answered(130, OTHER), sent(140), answered(251), selected(252)) == [111.0]
    assert values(sent(100, OTHER), answered(130, OTHER)) == []


def test_the_lowest_check_is_shown() -> None:
    log = [line(0, TIED), sent(100), answered(215), selected(216), sent(300), answered(411)]
    legs = rebuilt({"client.log": "".join(log).encode()})["connection_legs"]
    assert legs.select("end_to_end_latency_ms", "end_to_end_method").rows() == [(111.0, "stun_transaction")]
