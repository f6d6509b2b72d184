"""Real sessions of other networks, a behaviour each: what they are told as, in tables, summaries and the list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.pipeline import ingest
from analyzer.reductions.leg_names import OWN_LEG
from analyzer.views import conversation, conversations, summary
from tests.datasets import CAPTURED
from tests.test_cut_logs import lines, only, tables
from tests.test_stepped_clocks import stepped

CASES = Path(__file__).parents[1] / "fixtures" / "cases"


def read(folder: Path, out: Path) -> analyzer.Dataset:
    ingest([str(path) for path in sorted(folder.glob("*.log*"))], out)
    return analyzer.open(out)


def shown(dataset: analyzer.Dataset) -> str:
    (wanted,) = dataset.conversations.collect()["conversation_id"]
    return summary.render(conversation.gather(dataset, wanted))


def test_a_client_behind_address_translation_is_not_met_at_its_own_address(tmp_path: Path) -> None:
    stats = read(CASES / "nat_client", tmp_path / "m").ice_stats.collect()
    pairs = dict(stats.select("side", pl.concat_list("^selected_pair_(local|remote)_type$")).rows())
    # checks and DTLS came from the translated address, which no line names; the client does meet the gateway's own
    assert pairs == {"client": ["host", "host"], "gateway": ["host", None]}


def test_a_restart_answered_on_a_path_that_was_gone_is_no_success(tmp_path: Path) -> None:
    dataset = read(CASES / "path_blocked", tmp_path / "m")
    restarts = dataset.generations.filter(pl.col("attempt") > 1).collect()
    # the path was blocked before the first of them, and no packet came through any more
    assert restarts["answered_at"].drop_nulls().len() == 2
    assert "connected" not in set(restarts["outcome"])
    assert set(dataset.links.collect()["lost"]) == {True}


def test_a_summary_says_which_side_never_was_connected(tmp_path: Path) -> None:
    head = shown(read(CASES / "one_sided", tmp_path / "m")).split("Legs, round trips")[0]
    assert "connected, then closed, close reason Normal; the gateway never was\n" in head
    assert "first by the client at 12:19:04.081, by the gateway at 12:19:05.213\n" in head


def test_why_it_never_connected_is_told_at_the_top_and_in_the_list(tmp_path: Path) -> None:
    dataset = read(CAPTURED / "1.0.0" / "E-bad-turn-password", tmp_path / "m")
    said = shown(dataset).split("\n")[2:4]
    assert said == [
        "  why      client: no candidate of its own, krelay.test:3478 refused, 401 Unauthenticated",
        "           no pair of candidates connected",
    ]
    listed = conversations.render(conversations.gather(dataset), tmp_path).split("\n")[1]
    assert listed.endswith("TURN refused, 401")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("ICE connection state changed", "no pair of candidates connected"),
        ("Pre-connected state change: Connecting", "no pair of candidates connected"),
        ("state: Connected)", "ICE connected, the DTLS handshake did not end"),
    ],
)
def test_a_set_up_says_how_far_it_came(last: str, said: str, tmp_path: Path) -> None:
    log = lines("2.2.9/D-relay-client", "client")
    end = next(at for at, line in enumerate(log) if last in line)
    over = [
        line
        for line in log
        if "Spawned task closing tube" in line or "closed successfully" in line or "state: Closed)" in line
    ]
    (tmp_path / "client.log").write_text("".join(log[: end + 1] + over))
    assert f"\n  why      {said}\n" in shown(read(tmp_path, tmp_path / "m"))


# -- bounds of legs ----------------------------------------------------------------------------------------------------


def late(log: list[str], words: str, seconds: float) -> list[str]:
    """The log with the lines of some words, and all behind the first of them, later."""
    return stepped(log, next(at for at, line in enumerate(log) if words in line), seconds)


def legs(side: str, log: list[str]) -> dict[str, dict[str, Any]]:
    """Estimates of the side's own leg, by method."""
    rows = tables(**{side: log})["leg_measurements"].filter(pl.col("leg") == OWN_LEG[side])
    return {row["method"]: row for row in rows.to_dicts()}


def test_what_both_candidates_waited_for_is_within_the_bounds() -> None:
    log = lines("2.2.9/D-relay-client", "gateway")
    delayed = legs("gateway", late(log, "typ srflx", 0.06))
    without = delayed["gathering_relay_minus_srflx"]["low_ms"]
    for method in ("host_to_srflx", "host_to_relay", "gathering_srflx", "gathering_relay"):
        assert delayed[method]["low_ms"] <= without < delayed[method]["value_ms"] - 10


def test_a_start_that_was_told_late_is_within_the_bounds() -> None:
    log = lines("2.2.9/D-relay-client", "client")
    begun = next(at for at, line in enumerate(log) if "ICE gathering started" in line)
    stamp = "2026-11-22 13:19:35,307"
    assert log[begun][:23] == "2026-11-22 13:19:35,277"
    # whatever was to be told held up, the start among it; the time of it is printed in the collector's line
    held = [stamp + line[23:] if at >= begun and line[:23] < stamp else line for at, line in enumerate(log)]
    told, plain = legs("client", held)["gathering_relay"], legs("client", log)["gathering_relay"]
    assert told["value_ms"] == pytest.approx(plain["value_ms"] - 15, abs=0.1)
    assert told["high_ms"] >= plain["value_ms"]


def test_an_estimate_whose_host_candidate_came_long_after_the_start_is_refused() -> None:
    log = late(lines("2.2.9/D-relay-client", "gateway"), "typ host", 0.03)
    found = legs("gateway", log)
    for method in ("gathering_srflx", "gathering_relay"):
        assert found[method]["refused_reason"] == "the first host candidate came late"
    row = only(tables(gateway=log)["connection_legs"])
    assert row["krelay_to_gateway_method"] == "gathering_relay_minus_srflx"
