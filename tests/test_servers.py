"""Which relay a leg leads to, where sides were given several servers: real sessions with two, and logs made of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.pipeline import ingest
from analyzer.reductions.artefacts import OTHER_SERVER
from analyzer.reductions.leg_names import CLIENT, GATEWAY
from tests.strategies import ROOT
from tests.test_cut_logs import lines
from tests.test_stepped_clocks import stepped

CASE = ROOT / "fixtures" / "cases" / "two_relays"
#: pings to the near relay and to the far one, and where these are
NEAR, FAR = {CLIENT: 28.5, GATEWAY: 70.5}, {CLIENT: 144.5, GATEWAY: 186.5}
NEAR_IP, FAR_IP = "10.78.2.2", "10.78.4.2"
#: of each session the relay that each leg leads to: that of the path, else the side's own
LEADS_TO = {
    "ZpoO2A": {CLIENT: NEAR, GATEWAY: FAR},
    "dTFg_T": {CLIENT: FAR, GATEWAY: FAR},
    "IYXRhK": {CLIENT: NEAR, GATEWAY: NEAR},
    "WmydPn": {CLIENT: NEAR, GATEWAY: FAR},
    "Zq0vZn": {CLIENT: FAR, GATEWAY: NEAR},
    "Dzr1yn": {CLIENT: FAR, GATEWAY: FAR},
}
Lines = list[str]
Change = Callable[[Lines], Lines]


def legs(out: Path) -> dict[str, dict[str, Any]]:
    return {row["conversation_id"][:6]: row for row in pl.read_parquet(out / "connection_legs").to_dicts()}


def test_a_leg_leads_to_the_relay_of_the_path_whoever_answered_first(tmp_path: Path) -> None:
    ingest([str(CASE)], tmp_path / "m")
    found = legs(tmp_path / "m")
    assert set(found) == set(LEADS_TO)
    for name, relays in LEADS_TO.items():
        for leg, pings in relays.items():
            low, value, high = (found[name][f"{leg}_{end}_ms"] for end in ("low", "latency", "high"))
            assert value == pytest.approx(pings[leg], abs=4), (name, leg)
            assert low < pings[leg] < high, (name, leg)


def session(side: str, name: str) -> Lines:
    """The lines of one session in one side's log."""
    log = lines("../cases/two_relays", side)
    (tube,) = {found[1] for line in log if name in line and (found := re.search(r"tube_id: ([0-9a-f-]{36})", line))}
    return [line for line in log if name in line or tube in line]


def keep(log: Lines) -> Lines:
    return log


def without(*words: str) -> Change:
    return lambda log: [line for line in log if not any(word in line for word in words)]


def renamed(**names: str) -> Change:
    """The log with one STUN or TURN server, or the address of a relay, in place of another."""
    now = {"stun": r"stun:[^ )]+", "turn": r"turn:[^ )]+", "near": re.escape(NEAR_IP), "far": re.escape(FAR_IP)}

    def change(log: Lines) -> Lines:
        for what, name in names.items():
            log = [re.sub(now[what], name, line) for line in log]
        return log

    return change


def then(*changes: Change) -> Change:
    def change(log: Lines) -> Lines:
        for one in changes:
            log = one(log)
        return log

    return change


def sooner(words: str, milliseconds: float, text: Callable[[str], str]) -> Change:
    """The log with the line of some words, rewritten, before where it was; the others stay."""

    def change(log: Lines) -> Lines:
        line = next(line for line in log if words in line and "gathered" in line)
        (moved,) = stepped([text(line)], 0, -milliseconds / 1000)
        place = next(at for at, other in enumerate(log) if other[:23] > moved[:23])
        return [*log[:place], moved, *log[place:]]

    return change


def refused(line: str) -> str:
    """The line that an agent writes whose relay had no room, at the time of another line."""
    answer = "Allocate error response (error 486: Allocation Quota Reached)"
    told = f"[controlled]: Failed to allocate on turn.Client krelay.test:3478 {answer}"
    return f"{line[:23]} DEBUG webrtc_ice.agent.agent_gather: {told}\n"


#: the gateway has no candidate of the far relay
NO_FAR = without(f"{FAR_IP} 60658 typ relay", f"candidate_ip: {FAR_IP}", f"relay {FAR_IP}")
#: a session, what becomes of the client's log (None: it is not there) and of the gateway's, its leg and the method
CHANGED: dict[str, tuple[str, Change | None, Change, float | None, str | None]] = {
    "STUN is asked at a third server": (
        "IYXRhK", keep, renamed(stun="stun:elsewhere.test:3478"), NEAR[GATEWAY], "difference",
    ),
    "the relay of the path is named in another case": (
        "IYXRhK", keep, renamed(stun="stun:KRelay.test:3478"), NEAR[GATEWAY], "host_to_srflx",
    ),
    "a name and an address are not compared": (
        "dTFg_T", keep, renamed(turn=f"turn:{FAR_IP}:3478"), NEAR[GATEWAY], "gathering_srflx",
    ),
    "the log tells no STUN server": (
        "dTFg_T", keep, without("Added STUN server"), NEAR[GATEWAY], "gathering_srflx",
    ),
    "one name, two addresses": (
        "IYXRhK", keep, renamed(turn="turn:krelay.test:3478", far="10.78.2.9"), NEAR[GATEWAY], "host_to_srflx",
    ),
    "the gateway's log alone, through the client's relay": (
        "IYXRhK", None, keep, None, None,
    ),
    "the gateway's log alone, through its own": (
        "Dzr1yn", None, keep, FAR[GATEWAY], "gathering_relay",
    ),
    "the gateway's log alone, its own relay near and the client's far": (
        "dTFg_T", None,
        then(
            sooner(f"{FAR_IP} 60658 typ relay", 232, lambda line: line.replace(FAR_IP, NEAR_IP)),
            NO_FAR, renamed(turn="turn:krelay.test:3478"),
        ),
        None, None,
    ),
    "the gateway has no relay": (
        "dTFg_T", keep, then(NO_FAR, without("Using explicit TURN")), FAR[GATEWAY], "difference",
    ),
    "the gateway's own relay is near, and refuses": (
        "dTFg_T", keep,
        then(sooner(f"{FAR_IP} 60658 typ relay", 232, refused), NO_FAR, renamed(turn="turn:krelay.test:3478")),
        FAR[GATEWAY], "difference",
    ),
    "the gateway has two relays of its own": (
        "WmydPn", keep,
        then(
            lambda log: [other for line in log for other in (line, line.replace("turn:krelay2", "turn:krelay"))
                         if other == line or "turn:krelay2" in line],
            sooner(f"{FAR_IP} ", 232, lambda line: line.replace(FAR_IP, NEAR_IP)),
        ),
        None, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_servers_are_told_apart_as_far_as_the_logs_tell(name: str, tmp_path: Path) -> None:
    of, client, gateway, expected, method = CHANGED[name]
    logs = {"client": client, "gateway": gateway}
    for side, change in logs.items():
        if change is not None:
            (tmp_path / f"{side}.log").write_text("".join(change(session(side, of))))
    ingest([str(path) for path in tmp_path.glob("*.log")], tmp_path / "m")
    found = legs(tmp_path / "m")[of]
    low, value, high = (found[f"{GATEWAY}_{end}_ms"] for end in ("low", "latency", "high"))
    assert value == pytest.approx(expected, abs=4)
    assert found[f"{GATEWAY}_method"] == method
    if value is None:
        assert (low, high) == (None, None)
        told = pl.read_parquet(tmp_path / "m" / "leg_measurements").filter(pl.col("leg") == GATEWAY)
        assert OTHER_SERVER.reason in set(told["refused_reason"])


def test_the_relays_own_log_is_of_its_own_relay(tmp_path: Path) -> None:
    at = "2026-11-30T15:41:41.{}000000Z stdout F 4: : "
    one, realm = "session 000000000000000001: ", "realm <test.example>"
    relay = (
        "2026-11-30T15:41:37.000000000Z stdout F 0: : log file opened: coturn.txt\n"
        f"{at.format(530)}{one}{realm} user <>: incoming packet message processed, error 401: Unauthorized\n"
        f"{at.format(717)}IPv4. Local relay addr: {FAR_IP}:54031\n"
        f"{at.format(717)}{one}new, realm=<test.example>, username=<test-user>, lifetime=600\n"
        f"{at.format(717)}{one}{realm} user <test-user>: incoming packet ALLOCATE processed, success\n"
    )
    (tmp_path / "coturn.log").write_text(relay)
    (tmp_path / "client.log").write_text("".join(session("client", "IYXRhK")))
    (tmp_path / "gateway.log").write_text("".join(without("typ srflx", "Added STUN")(session("gateway", "IYXRhK"))))
    ingest([str(path) for path in tmp_path.glob("*.log")], tmp_path / "m")
    told = pl.read_parquet(tmp_path / "m" / "leg_measurements").filter(pl.col("leg") == GATEWAY)
    by_relay = told.filter(pl.col("method") == "relay_challenge_to_allocation")
    assert by_relay.select("value_ms", "refused_reason").rows() == [(187.0, OTHER_SERVER.reason)]
    assert legs(tmp_path / "m")["IYXRhK"][f"{GATEWAY}_latency_ms"] == pytest.approx(NEAR[GATEWAY], abs=4)
