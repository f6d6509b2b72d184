"""The pair matrix: the selected pair is the one on the wire, priorities are the RFC's, and no reason is made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.pipeline import ingest
from analyzer.reductions import pair_reasons as why
from tests.datasets import CAPTURED
from tests.truth import Capture

Rebuild = Callable[[Path], Capture]
NOMINATIONS: dict[str, dict[str, list[dict[str, Any]]]] = json.loads((CAPTURED / "nominations.json").read_text())
HOST, SRFLX, RELAY = 2130706431, 1694498815, 16777215


def with_side(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    sides = tables["ice_stats"].select("tube_id", "side").unique()
    return tables["candidate_pairs"].join(sides, on="tube_id")


def test_selected_pairs_are_those_nominated_on_the_wire(rebuilt: Rebuild) -> None:
    """What goes through a side's own relay is not seen as a check on its interface."""
    agreed = 0
    for name, sides in NOMINATIONS.items():
        pairs = with_side(rebuilt(CAPTURED / name).tables)
        for side, seen in sides.items():
            named = pl.col("local_address").is_not_null() & (pl.col("local_type") != "relay")
            mine = pairs.filter("nominated", named, pl.col("side") == side)
            wire = {(one["local"], one["remote"]) for one in seen}
            for row in mine.unique("tube_id").to_dicts():
                ends = tuple(f"{row[f'{end}_address']}:{row[f'{end}_port']}" for end in ("local", "remote"))
                assert ends in wire, (name, side)
                agreed += 1
    assert agreed >= 15


def test_a_pair_on_the_wire_is_never_ruled_out(rebuilt: Rebuild) -> None:
    for name, sides in NOMINATIONS.items():
        pairs = with_side(rebuilt(CAPTURED / name).tables)
        for side, seen in sides.items():
            for one in seen:
                ends = [pl.concat_str([f"{end}_address", f"{end}_port"], separator=":") for end in ("local", "remote")]
                mine = pairs.filter(pl.col("side") == side, ends[0] == one["local"], ends[1] == one["remote"])
                assert False not in mine["nominated"].to_list(), (name, side)


def test_every_pair_says_why_or_is_the_selected_one(rebuilt: Rebuild) -> None:
    for folder in sorted(CAPTURED.glob("[0-9]*/*")):
        pairs = rebuilt(folder).tables["candidate_pairs"]
        assert pairs.filter(pl.col("reason").is_null() != pl.col("nominated").fill_null(False)).is_empty()
        once = pairs.filter("nominated").group_by("conversation_id", "tube_id", "generation").len()
        assert once["len"].max() in (None, 1)
        succeeded = pairs.filter(pl.col("state") == "succeeded")
        assert succeeded["nominated"].all()


def test_both_sides_give_a_pair_one_priority(rebuilt: Rebuild) -> None:
    """RFC 8445 section 6.1.2.3 makes it the same for both agents."""
    pairs = with_side(rebuilt(CAPTURED / "2.2.9" / "D-relay-client").tables)
    ends = ["local_address", "local_port", "remote_address", "remote_port"]
    shown = {side: pairs.filter(pl.col("side") == side) for side in ("client", "gateway")}
    of = {
        side: {row[:4]: row[4] for row in found.select(*ends, "pair_priority").rows()} for side, found in shown.items()
    }
    turned = {(key[2], key[3], key[0], key[1]): value for key, value in of["gateway"].items()}
    assert of["client"] == turned
    assert max(turned.values()) == 2**32 * RELAY + 2 * HOST


def _candidate(type_: str, priority: int, address: str, port: int, rest: str = "") -> str:
    return f"candidate:{port} 1 udp {priority} {address} {port} typ {type_}{rest}"


def _log(local: list[str], remote: list[str], *, late: str = "", connected: bool = True, failed: bool = False) -> str:
    k = "tube_id: t-1, conversation_id: c-1"
    only_relay = str(not any("typ host" in one for one in local)).lower()
    lines = [
        f"metrics.collector: Registered connection for metrics tracking ({k})",
        f"tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback ({k}, is_server_mode: true)",
        f"tube: [TUBE_DEBUG] Tube t-1: create_peer_connection called. trickle_ice: true, turn_only: {only_relay}",
        f"tube: ICE gathering started ({k})",
        *(f"webrtc_core: ICE candidate gathered (candidate: {one}, {k})" for one in local),
        f"tube: ICE gathering complete ({k})",
        f"tube: ICE connection state changed ({k}, state: Checking)",
        *(f"webrtc_core: add_ice_candidate called (candidate: {one}, {k})" for one in remote),
    ]
    if connected:
        lines += [
            f"tube: ICE connection state changed ({k}, state: Connected)",
            f"tube: Connection state changed ({k}, state: Connected)",
        ]
    if failed:
        lines.append(f"tube: ICE connection state changed ({k}, state: Failed)")
    if late:
        lines.append(f"webrtc_core: add_ice_candidate called (candidate: {late}, {k})")
    return "".join(f"2026-11-22 13:00:00,{at:03} DEBUG keeper_pam_webrtc_rs.{line}\n" for at, line in enumerate(lines))


def pairs_of(log: str, folder: Path) -> list[dict[str, Any]]:
    (folder / "app.log").write_text(log)
    ingest([str(folder / "app.log")], folder / "out")
    return pl.read_parquet(folder / "out" / "candidate_pairs").to_dicts()


RELAYED = _candidate("relay", RELAY, "203.0.113.1", 49000, " raddr 0.0.0.0 rport 1")


def test_what_cannot_be_paired_says_so(tmp_path: Path) -> None:
    remote = [
        _candidate("host", HOST, "10.0.2.2", 50001),
        _candidate("host", HOST, "2001:db8::1", 50002),
        _candidate("host", HOST, "8c4a3d1e-0000-4000-8000-000000000000.local", 50003),
        _candidate("host", HOST, "10.0.2.2", 9, " tcptype active").replace(" udp ", " tcp "),
    ]
    late = _candidate("srflx", SRFLX, "198.51.100.1", 50004, " raddr 10.0.2.2 rport 50004")
    rows = pairs_of(_log([RELAYED], remote, late=late), tmp_path)
    found = {row["remote_port"]: row["reason"] for row in rows}
    assert found[50002] == why.FAMILIES
    assert found[50003] == why.NAME
    assert found[9] == why.TRANSPORTS
    assert found[50004] == why.REMOTE_LATE
    # the relay is the local end for certain, and so of the pairs left the selected one
    assert found[50001] in (why.MAY_BE, None)


def test_a_reflexive_candidate_of_a_host_base_is_pruned(tmp_path: Path) -> None:
    local = [
        _candidate("host", HOST, "10.0.1.2", 40001),
        _candidate("srflx", SRFLX, "192.0.2.1", 40001, " raddr 10.0.1.2 rport 40001"),
        _candidate("srflx", SRFLX, "192.0.2.1", 40002, " raddr 0.0.0.0 rport 40002"),
    ]
    rows = pairs_of(_log(local, [_candidate("host", HOST, "10.0.2.2", 50001)]), tmp_path)
    found = {(row["local_type"], row["local_port"]): row["reason"] for row in rows}
    assert found["srflx", 40001] == why.PRUNED
    # one with a socket of its own, as webrtc-ice makes them, is checked
    assert found["srflx", 40002] != why.PRUNED


@pytest.mark.parametrize(
    ("failed", "reason", "state"), [(True, why.FAILED, "failed"), (False, why.OPEN, None)], ids=["failed", "open"]
)
def test_without_a_connection_no_pair_is_selected(failed: bool, reason: str, state: str | None, tmp_path: Path) -> None:
    log = _log([RELAYED], [_candidate("host", HOST, "10.0.2.2", 50001)], connected=False, failed=failed)
    (row,) = pairs_of(log, tmp_path)
    assert (row["reason"], row["state"], row["nominated"]) == (reason, state, False)


def test_hundreds_of_candidates_give_a_hundred_pairs_and_a_count(tmp_path: Path) -> None:
    local = [_candidate("host", HOST - 256 * n, "10.0.1.2", 40000 + n) for n in range(300)]
    remote = [_candidate("host", HOST - 256 * n, "10.0.2.2", 50000 + n) for n in range(300)]
    rows = pairs_of(_log(local, remote, connected=False, failed=True), tmp_path)
    listed = [row for row in rows if row["local_type"]]
    (rest,) = [row for row in rows if not row["local_type"]]
    assert len(listed) == 100
    assert rest["reason"] == why.LEFT_OUT.format(300 * 300 - 100)
    every = sorted(
        (
            2**32 * min(one, other) + 2 * max(one, other) + (one > other)
            for one in (HOST - 256 * n for n in range(300))
            for other in (HOST - 256 * n for n in range(300))
        ),
        reverse=True,
    )
    assert sorted((row["pair_priority"] for row in listed), reverse=True) == every[:100]


def test_the_other_sides_candidate_that_never_came_is_listed(tmp_path: Path) -> None:
    logs = sorted((CAPTURED / "2.2.9" / "D-relay-client").glob("*.log"))
    for log in logs:
        lines = log.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not ("INCOMING" in line and "port: 35992" in line)]
        (tmp_path / log.name).write_text("".join(kept))
    ingest([str(tmp_path / log.name) for log in logs], tmp_path / "out")
    pairs = pl.read_parquet(tmp_path / "out" / "candidate_pairs").filter(pl.col("reason") == why.NEVER_ARRIVED)
    assert pairs.select("remote_type", "remote_port").rows() == [("host", 35992)]


def test_checks_too_brief_for_a_relay_rule_it_out(tmp_path: Path) -> None:
    """A reflexive pair waits 0.5 s, a relay pair 2 s: 0.74 s at a round trip of 112 ms tell which."""
    local = [
        _candidate("host", HOST, "10.0.1.2", 40001),
        _candidate("srflx", SRFLX, "192.0.2.1", 40002, " raddr 0.0.0.0 rport 40002"),
        RELAYED,
    ]
    remote = [
        _candidate("host", HOST, "10.0.2.2", 50001),
        _candidate("srflx", SRFLX, "198.51.100.1", 50002, " raddr 0.0.0.0 rport 50002"),
    ]
    log = _log(local, remote)
    for moved, at in (("state: Connected", 740), ("Connection state changed", 964)):
        line = next(one for one in log.splitlines() if moved in one and ("ICE" in one) == (at == 740))
        log = log.replace(line, f"2026-11-22 13:00:00,{at}{line[23:]}")
    rows = pairs_of(log, tmp_path)
    assert {row["reason"] for row in rows if row["local_type"] == "relay"} == {why.RELAY_LATE}
    assert {row["reason"] for row in rows if row["local_type"] != "relay"} == {why.NOT_TOLD}
    assert pl.read_parquet(tmp_path / "out" / "connection_legs")["uses_relay"].to_list() == [False]
    phases = pl.read_parquet(tmp_path / "out" / "setup_phases")
    assert phases.filter(pl.col("phase") == "checks")["wait_ms"].to_list() == [500.0]
