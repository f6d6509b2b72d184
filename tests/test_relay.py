"""The relay's own log: its sessions against a plain reading of its lines, whose they are, and the legs it times."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.catalogue import TABLES
from analyzer.events import crowds
from analyzer.pipeline import ingest
from analyzer.views import relay, text
from tests.datasets import CAPTURED, summaries
from tests.test_reductions import TABLES as COMPARED
from tests.test_reductions import placeless
from tests.truth import LEGS, ROOT

FOLDERS = sorted(path.parent for path in CAPTURED.glob("*/*/coturn.txt"))
CASE = ROOT / "fixtures" / "cases" / "relay_container" / "coturn.log"
every_relay = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
COUNTS = ("packets_received", "bytes_received", "packets_sent", "bytes_sent")


def opened_at(out: Path) -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(out / name) for name in TABLES}


def rebuilt(files: dict[str, bytes]) -> dict[str, pl.DataFrame]:
    """All tables of some logs, by name of the file."""
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        ingest([str(Path(folder, name)) for name in files], Path(folder, "out"))
        return opened_at(Path(folder, "out"))


def compared(tables: dict[str, pl.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    return placeless({name: tables[name] for name in COMPARED})


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, pl.DataFrame]]:
    """Tables of a capture whose relay's log was read with those of the sides, each ingested once."""
    known: dict[Path, dict[str, pl.DataFrame]] = {}

    def tables(folder: Path) -> dict[str, pl.DataFrame]:
        if folder not in known:
            out = tmp_path_factory.mktemp("seen")
            logs = [path for path in folder.iterdir() if ".log" in path.name or path.name == "coturn.txt"]
            ingest([str(path) for path in logs], out)
            known[folder] = opened_at(out)
        return known[folder]

    return tables


def fold(log: str) -> dict[str, dict[str, Any]]:
    """Sessions of one run of the relay, line by line: an independent reading."""
    found: dict[str, dict[str, Any]] = {}
    opened = None
    for line in log.splitlines():
        if address := re.search(r"Local relay addr: (.*):([0-9]+)$", line):
            opened = (address[1], int(address[2]))
        if not (told := re.match(r"([0-9]+): : session ([0-9]+): (.*)", line)):
            continue
        at, number, said = int(told[1]), told[2], told[3]
        ours = r"peer usage|usage|new,|refreshed|closed|.*(?:ALLOCATE processed, success|message processed, error)"
        if not re.match(ours, said):
            continue
        one = found.setdefault(number, dict.fromkeys(("client", "relayed", "reason", "code", *COUNTS)))
        for name in ("challenges", "allocations", "refusals", "stale", "refreshes"):
            one.setdefault(name, 0)
        if counted := re.match(r"usage: .* rp=(\d+), rb=(\d+), sp=(\d+), sb=(\d+)", said):
            for name, count in zip(COUNTS, counted.groups(), strict=True):
                one[name] = (one[name] or 0) + int(count)
        elif closed := re.search(r"remote (.*):(\d+), reason: (.*)", said):
            one["client"], one["reason"] = (closed[1], int(closed[2])), closed[3]
            one["ended_s"] = at
        elif error := re.search(r"user <(.*)>: incoming packet message processed, error ([0-9]+)", said):
            code = int(error[2])
            kind = "stale" if code == 438 else "challenges" if (code, error[1]) == (401, "") else "refusals"
            one[kind] += 1
            one["code"] = one["code"] or (code if kind == "refusals" else None)
        elif said.startswith("new,"):
            one["relayed"] = opened
        one["allocations"] += "ALLOCATE processed, success" in said
        one["given_back"] = one.get("given_back", False) or said.endswith("lifetime=0")
        one["refreshes"] += said.startswith("refreshed") and not said.endswith("lifetime=0")
    return found


@every_relay
def test_sessions_are_what_its_lines_say(folder: Path, seen: Callable[[Path], dict[str, pl.DataFrame]]) -> None:
    told = fold((folder / "coturn.txt").read_text())
    rows = {row["session"]: row for row in seen(folder)["relay_sessions"].to_dicts()}
    assert rows.keys() == told.keys()
    for number, one in told.items():
        row = rows[number]
        assert (row["client_address"], row["client_port"]) == (one["client"] or (None, None))
        assert (row["relayed_address"], row["relayed_port"]) == (one["relayed"] or (None, None))
        assert [row[name] for name in COUNTS] == [one[name] for name in COUNTS]
        assert (row["close_reason"], row["ended_s"]) == (one["reason"], one.get("ended_s"))
        names = ("challenges", "allocations", "refusals", "stale_nonces", "refreshes", "refused_code")
        kinds = ("challenges", "allocations", "refusals", "stale", "refreshes", "code")
        assert [row[name] for name in names] == [one[kind] for kind in kinds], number
        assert row["given_back"] is one["given_back"]
        assert row["started_at"] is row["ended_at"] is None


@every_relay
def test_every_allocation_is_of_the_side_whose_address_it_served(
    folder: Path, seen: Callable[[Path], dict[str, pl.DataFrame]]
) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    address = truth["network"]["addresses"]
    tubes = {(side, one[f"{side}_tube_id"]) for one in truth["conversations"] for side in ("client", "gateway")}
    rows = seen(folder)["relay_sessions"].filter(pl.col("allocations") > 0).to_dicts()
    for row in rows:
        assert row["conversation_id"], row["session"]
        assert (row["side"], row["tube_id"]) in tubes
        # an address that moved is another one of the same side
        if row["client_address"] in address.values():
            assert row["client_address"] == address[row["side"]]
    joined = seen(folder)["relay_sessions"]
    assert joined.filter(pl.col("tube_id").is_null() != pl.col("join_reason").is_not_null()).is_empty()


@every_relay
def test_whole_seconds_bound_a_leg_and_give_no_value(
    folder: Path, seen: Callable[[Path], dict[str, pl.DataFrame]]
) -> None:
    truth = json.loads((folder / "truth.json").read_text())
    rows = seen(folder)["leg_measurements"].filter(pl.col("method").str.starts_with("relay_"))
    asked = seen(folder)["relay_sessions"].filter(pl.col("tube_id").is_not_null(), pl.col("challenges") > 0)
    assert rows["origin"].n_unique() == len(asked)
    for row in rows.to_dicts():
        assert (row["value_ms"], row["chosen"]) == (None, False)
        assert row["refused_reason"] == "whole_second_times: times have whole seconds"
        assert row["low_ms"] <= truth["ping_before"][LEGS[row["leg"]]]["avg"] <= row["high_ms"] <= 4000


@every_relay
def test_the_log_is_accounted_for_and_gives_away_no_user(folder: Path, tmp_path: Path) -> None:
    done = ingest([str(folder / "coturn.txt")], tmp_path)
    (row,) = done.sources.to_dicts()
    assert row["dialect"] == "coturn"
    assert row["records"] == row["events"] + row["noise"]
    assert (row["unmatched"], row["rejected"]) == (0, 0)
    tables = opened_at(tmp_path)
    assert tables["conversations"].is_empty()
    assert len(tables["relay_sessions"]) == len(fold((folder / "coturn.txt").read_text()))
    stored = "".join(frame.write_json() for frame in tables.values())
    assert not re.search("test-user|test-pass|test[.]example", stored)
    assert all(tables[name].is_empty() for name in ("conversations", "leg_measurements", "candidates", "unmatched"))


def sides_without_times() -> dict[str, bytes]:
    folder = CAPTURED / "2.2.9" / "D-relay-client"
    return {
        f"{side}.log": re.sub(r"(?m)^\d{4}-\d\d-\d\d [\d:,]+ ", "", (folder / f"{side}.log").read_text()).encode()
        for side in ("client", "gateway")
    }


def test_the_relay_times_legs_of_sides_without_times() -> None:
    tables = rebuilt(sides_without_times() | {"coturn.log": CASE.read_bytes()})
    (legs,) = tables["connection_legs"].to_dicts()
    assert (legs["client_to_krelay_latency_ms"], legs["krelay_to_gateway_latency_ms"]) == (41.465, 80.207)
    assert legs["client_to_krelay_method"] == legs["krelay_to_gateway_method"] == "relay_challenge_to_allocation"
    (row,) = tables["sources"].filter(pl.col("name") == "coturn.log").to_dicts()
    assert row["dialect"] == "cri/coturn"
    assert tables["relay_sessions"]["started_at"].null_count() == 0


def test_a_challenge_that_was_repeated_times_nothing() -> None:
    challenge = re.search("(?m)^.*session 000000000000000001: .*error 401: .*\n", CASE.read_text())
    assert challenge
    again = challenge[0].replace("35.299535989", "35.320000000")
    twice = CASE.read_text().replace(challenge[0], challenge[0] + again)
    rows = rebuilt(sides_without_times() | {"coturn.log": twice.encode()})["leg_measurements"]
    (row,) = rows.filter(pl.col("method").str.starts_with("relay_"), pl.col("side") == "client").to_dicts()
    assert (row["refused_reason"], row["chosen"]) == ("the request was repeated", False)
    # the first challenge or the last may be the one that was answered
    assert (row["low_ms"], row["high_ms"]) == (pytest.approx(19.0, abs=0.01), pytest.approx(43.465))


# -- composed logs -----------------------------------------------------------------------------------------------------

NUMBER = "00000000000000000"
OPENED = """\
{at}: : session {s}: realm <r> user <>: incoming packet message processed, error 401: Unauthorized
{at}: : IPv4. Local relay addr: 10.0.0.9:{relayed}
{at}: : session {s}: new, realm=<r>, username=<u>, lifetime=600
{at}: : session {s}: realm <r> user <u>: incoming packet ALLOCATE processed, success
"""
CLOSED = (
    "{at}: : session {s}: closed (2nd stage), user <u> realm <r> origin <>, local 10.0.0.9:3478,"
    " remote {client}, reason: allocation timeout\n"
)
TUBE = """\
2026-11-22 13:{at},000 DEBUG keeper_pam_webrtc_rs.metrics.collector: Registered connection for metrics tracking (conversation_id: c-{n}, tube_id: t-{n})
2026-11-22 13:{at},000 DEBUG keeper_pam_webrtc_rs.tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback (tube_id: t-{n}, is_server_mode: true)
2026-11-22 13:{at},001 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: t-{n})
2026-11-22 13:{at},002 DEBUG keeper_pam_webrtc_rs.webrtc_core: ICE candidate gathered (tube_id: t-{n}, candidate: candidate:1 1 udp 2130706431 {host} 40000 typ host)
2026-11-22 13:{at},090 DEBUG keeper_pam_webrtc_rs.webrtc_core: ICE candidate gathered (tube_id: t-{n}, candidate: candidate:2 1 udp 16777215 {relay} typ relay raddr 0.0.0.0 rport {rport})
"""  # noqa: E501 - log lines


def opened(number: int, at: int, relayed: int, client: str | None = None) -> str:
    s = f"{NUMBER}{number}"
    return OPENED.format(at=at, s=s, relayed=relayed) + (CLOSED.format(at=at + 9, s=s, client=client) if client else "")


def tube(n: int, at: str, relay: str, *, host: str = "10.0.0.1", rport: int = 5000) -> str:
    return TUBE.format(n=n, at=at, relay=relay.replace(":", " "), host=host, rport=rport)


def joins(**files: str) -> list[tuple[Any, ...]]:
    """Session, tube, method and reason of every session, by the number of the session."""
    rows = rebuilt({name.replace("_", "."): text.encode() for name, text in files.items()})["relay_sessions"]
    return rows.select(pl.col("session").str.slice(-1), "tube_id", "join_method", "join_reason").sort(pl.all()).rows()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("allocation timeout", "allocation timeout"),
        ("TCP connection closed by client (callback)", "TCP connection closed by client (callback)"),
        ("token c4N4rY", None),
        ("x: hunter", None),
    ],
)
def test_a_session_is_closed_whatever_its_reason_says(reason: str, told: str | None) -> None:
    log = tube(1, "00:10", "10.0.0.9:6000"), opened(1, 10, 6000, "10.0.0.1:5000")
    files = {"client.log": log[0].encode(), "turn.log": log[1].replace("allocation timeout", reason).encode()}
    row = rebuilt(files)["relay_sessions"].row(0, named=True)
    assert (row["close_reason"], row["ended_s"]) == (told, 19)
    (line,) = relay.sessions([row])
    assert line.endswith(f"; ended, in its words: {told}" if told else "; ended")


def test_a_port_used_again_is_told_by_times_only_where_clocks_are_known() -> None:
    relay = "10.0.0.9:6000"
    sides = tube(1, "00:10", relay) + tube(2, "30:10", relay)
    twice = opened(1, 10, 6000) + opened(2, 1810, 6000)
    several = "several tubes had its address, and times do not tell which"
    assert joins(client_log=sides, turn_log=twice) == [("1", None, None, several), ("2", None, None, several)]
    # one that its address alone joins tells how far the clocks are apart
    sides += tube(3, "10:10", "10.0.0.9:7000")
    twice = opened(1, 10, 6000) + opened(3, 610, 7000) + opened(2, 1810, 6000)
    by_address = [(str(n), f"t-{n}", "relayed_address", None) for n in (1, 2, 3)]
    assert joins(client_log=sides, turn_log=twice) == by_address
    dated = re.sub(r"(?m)^(\d+): : ", lambda at: _dated(int(at[1])), twice.replace(opened(3, 610, 7000), ""))
    assert joins(client_log=sides, turn_log=dated) == by_address[:2]


def _dated(seconds: int) -> str:
    return f"2026-11-22T13:{seconds // 60:02}:{seconds % 60:02}+0000(97): INFO: "


def test_a_session_of_another_time_is_not_the_tubes() -> None:
    sides = "".join(tube(n, f"0{n}:00", f"10.0.0.9:600{n}") for n in (1, 2, 3, 4))
    log = "".join(opened(n, 60 * n, 6000 + n) for n in (1, 2, 3)) + opened(4, 90000, 6004)
    assert joins(client_log=sides, turn_log=log)[3] == (
        "4", None, None, "the tube of its address lived at another time",
    )  # fmt: skip


def test_an_address_that_too_many_had_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what is less sure: sessions and tubes of an address are compared one by one, which has a bound."""
    relay = "10.0.0.9:6000"
    sides = tube(1, "00:10", relay) + tube(2, "30:10", relay) + tube(3, "31:10", "10.0.0.9:6001", rport=5001)
    coturn = opened(1, 10, 6000, "10.0.0.1:5000") + opened(2, 1810, 6000, "10.0.0.1:5000")
    coturn += opened(3, 1870, 6001, "10.0.0.1:5001")
    by_address = [(str(n), f"t-{n}", "relayed_address", None) for n in (1, 2, 3)]
    assert joins(gateway_log=sides, turn_log=coturn) == by_address
    monkeypatch.setattr(crowds, "MOST_PAIRS", 3)
    many = "too many had its address to be compared"
    assert joins(gateway_log=sides, turn_log=coturn) == [(n, None, None, many) for n in "12"] + by_address[2:]


def test_what_is_sure_is_not_lost_in_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """All come from one address of the client's, each is relayed from another one."""
    sides = "".join(tube(n, f"0{n}:10", f"10.0.0.9:600{n}") for n in (1, 2, 3))
    coturn = "".join(opened(n, 60 * n + 10, 6000 + n, "10.0.0.1:5000") for n in (1, 2, 3))
    monkeypatch.setattr(crowds, "MOST_PAIRS", 3)
    found = joins(gateway_log=sides, turn_log=coturn)
    assert found == [(str(n), f"t-{n}", "relayed_address", None) for n in (1, 2, 3)]


def test_two_allocations_at_once_have_no_relayed_address_and_are_joined_by_the_client() -> None:
    first, second = opened(1, 5, 6001).splitlines(True), opened(2, 5, 6002).splitlines(True)
    mixed = [first[0], second[0], first[1], second[1], first[2], second[2], first[3], second[3]]
    closed = CLOSED.format(at=9, s=f"{NUMBER}1", client="10.0.0.1:5000")
    sides = tube(1, "00:10", "10.0.0.9:6001") + tube(2, "00:20", "10.0.0.9:6002", host="10.0.0.2")
    assert joins(client_log=sides, turn_log="".join(mixed) + closed) == [
        ("1", "t-1", "related_address", None),
        ("2", None, None, "the relay told no address of it"),
    ]


def test_a_relay_behind_address_translation_is_known_by_its_port_and_its_client() -> None:
    sides = tube(1, "00:10", "198.51.100.7:6001") + tube(2, "00:20", "198.51.100.7:6002", rport=5001)
    log = opened(1, 5, 6001, "10.0.0.1:5000") + opened(2, 15, 6002, "203.0.113.1:9")
    assert joins(client_log=sides, turn_log=log) == [
        ("1", "t-1", "relayed_port", None),
        ("2", None, None, "no log of a side knows its address"),
    ]


def test_the_other_side_is_known_by_what_its_peer_received() -> None:
    client = (CAPTURED / "2.2.9" / "D-relay-client" / "client.log").read_bytes()
    tables = rebuilt({"client.log": client, "coturn.log": CASE.read_bytes()})
    truth = json.loads((CAPTURED / "2.2.9" / "D-relay-client" / "truth.json").read_text())["conversations"][0]
    conversation, tube_id = truth["conversation_id"], truth["client_tube_id"]
    shown = tables["relay_sessions"].filter(pl.col("allocations") > 0).sort("side")
    assert shown.select("conversation_id", "tube_id", "side", "join_method").rows() == [
        (conversation, tube_id, "client", "relayed_address"),
        (conversation, None, "gateway", "remote_relayed_address"),
    ]
    # the leg of a side without a log
    (legs,) = tables["connection_legs"].to_dicts()
    assert (legs["krelay_to_gateway_latency_ms"], legs["krelay_to_gateway_method"]) == (
        80.207,
        "relay_challenge_to_allocation",
    )


def test_numbers_begin_anew_with_the_relay() -> None:
    log = opened(1, 500, 6001, "10.0.0.1:5000") + opened(1, 3, 6002, "10.0.0.1:5001")
    rows = rebuilt({"turn.log": log.encode()})["relay_sessions"]
    assert sorted(rows.select("relayed_port", "client_port", "started_s", "allocations").rows()) == [
        (6001, 5000, 500, 1),
        (6002, 5001, 3, 1),
    ]


@every_relay
def test_a_summary_tells_it_in_a_few_lines(folder: Path, tmp_path: Path) -> None:
    logs = [path for path in folder.iterdir() if ".log" in path.name or path.name == "coturn.txt"]
    ingest([str(path) for path in logs], tmp_path)
    rows = pl.read_parquet(tmp_path / "relay_sessions").filter(pl.col("allocations") > 0)
    for conversation_id, view in summaries(analyzer.open(tmp_path)).items():
        told = [line for line in view.split("\n") if " from it, " in line]
        assert len(told) == min(4, len(rows.filter(pl.col("conversation_id") == conversation_id)))
        assert max(map(text.width, told), default=0) <= text.WIDTH


REAL = (CAPTURED / "2.2.9" / "D-relay-client" / "coturn.txt").read_text()
LINE = re.compile("(?m)^([0-9]+): : ")


@pytest.mark.parametrize(
    ("dialect", "log"),
    [
        ("coturn", LINE.sub(r"\1: (97): INFO: ", REAL)),
        ("coturn", LINE.sub(r"\1: ", REAL)),
        ("coturn_dated", LINE.sub(lambda at: _dated(int(at[1])), REAL)),
        ("compose/coturn", re.sub("(?m)^", "coturn-1  | ", REAL)),
        ("journald_short/coturn", re.sub("(?m)^", "Nov 22 13:19:35 relay turnserver[97]: ", REAL)),
        ("docker_json/coturn", "".join(json.dumps({"log": f"{line}\n"}) + "\n" for line in REAL.splitlines())),
    ],
)
def test_every_spelling_tells_the_same(dialect: str, log: str) -> None:
    expected = rebuilt({"turn.log": REAL.encode()})["relay_sessions"]
    found = rebuilt({"turn.log": log.encode()})
    assert found["sources"]["dialect"].to_list() == [dialect]
    times = [name for name in expected.columns if name.startswith(("started_", "ended_"))]
    assert found["relay_sessions"].drop(times).sort("session").equals(expected.drop(times).sort("session"))
    dated = dialect == "coturn_dated"
    assert found["relay_sessions"]["started_at" if dated else "started_s"].null_count() == 0


def test_order_and_splitting_of_the_files_change_nothing(tmp_path: Path) -> None:
    folder = CAPTURED / "2.2.9" / "D-relay-client"
    sides = {f"{side}.log": (folder / f"{side}.log").read_bytes() for side in ("client", "gateway")}
    lines = REAL.splitlines(keepends=True)
    whole = rebuilt(sides | {"turn.log": REAL.encode()})
    parts = {"turn.log.1": "".join(lines[:60]).encode(), "turn.log": "".join(lines[60:]).encode()}
    assert compared(rebuilt(sides | parts)) == compared(whole)
    for name, data in {"turn.log": REAL.encode(), **sides}.items():
        (tmp_path / name).write_bytes(data)
        ingest([str(tmp_path / name)], tmp_path / "out")
    assert compared(opened_at(tmp_path / "out")) == compared(whole)
