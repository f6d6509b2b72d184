"""Real sessions under bad conditions, each with what is true of it: legs held against one another, outcomes, clocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.reductions import told_late
from analyzer.reductions.artefacts import CLOCK_SET_BACK, HELD_UP, SIX_SECOND_SLEEP, TOLD_LATE
from analyzer.reductions.leg_measurements import MINUS
from analyzer.reductions.leg_names import CLIENT, DATA_CHANNEL, END_TO_END, GATEWAY
from analyzer.views import conversation, summary
from tests.datasets import summaries
from tests.test_cut_logs import lines as lines_of
from tests.test_cut_logs import only, tables
from tests.test_told import CASES, read


@pytest.fixture
def case(tmp_path: Path) -> Any:
    return lambda name: read(CASES / name, tmp_path / "m")


def legs(dataset: analyzer.Dataset) -> dict[str, list[float]]:
    row = only(dataset.connection_legs.collect())
    ends = ("low", "latency", "high")
    return {leg: [row[f"{leg}_{end}_ms"] for end in ends] for leg in (CLIENT, GATEWAY, END_TO_END)}


# -- what never was connected ------------------------------------------------------------------------------------------


def test_a_path_that_was_lost_before_the_handshake_ended_never_was_connected(case: Any) -> None:
    dataset = case("dtls_blocked")
    row = only(dataset.conversations.collect())
    assert (row["connected"], row["outcome"]) == (False, "failed")
    assert set(dataset.links.collect()["connected"]) == {False}
    assert only(dataset.connection_legs.collect())["end_to_end_latency_ms"] is None
    said = summary.render(conversation.gather(dataset, row["conversation_id"]))
    assert "ICE connected, the DTLS handshake did not end\n" in said


def test_a_path_that_is_lost_in_a_log_that_begins_late_was_connected() -> None:
    # it tells of the loss, and not that it was connecting before
    log = lines_of("../cases/dtls_blocked", "client")
    begins = next(at for at, line in enumerate(log) if "state: Disconnected" in line)
    assert only(tables(client=log[begins:])["conversations"])["connected"] is True


@pytest.mark.parametrize("state", ["failed", "disconnected"])
def test_a_peer_connection_that_makes_its_tube_close_failed(state: str) -> None:
    # as releases tell it that have no line of the state
    log = lines_of("../cases/dtls_blocked", "client")
    told = next(line for line in log if "state: Connecting" in line)
    at, tube = log.index(told), re.search(r"tube_id: ([0-9a-f-]{36})", told)
    assert tube
    closing = f"WebRTC peer connection {state}. Initiating Tube close. (tube_id: {tube[1]}, old_status: Connecting)"
    closed = f"Tube {tube[1]} closed successfully"
    over = [f"{told[:23]} - DEBUG - keeper_pam_webrtc_rs.tube - {text}\n" for text in (closing, closed)]
    row = only(tables(client=[*log[: at + 1], *over])["conversations"])
    assert (row["connected"], row["outcome"]) == (False, "failed")


def test_a_side_was_connected_if_a_round_of_it_was(case: Any) -> None:
    dataset = case("failed_then_connected")
    connected = dataset.links.select("side", "connected").collect()
    assert connected.filter("connected").height == 4
    assert connected.filter(~pl.col("connected"))["side"].sort().to_list() == ["client", "gateway"]
    (said,) = summaries(dataset).values()
    assert "never was" not in said


# -- legs --------------------------------------------------------------------------------------------------------------


def test_a_leg_longer_than_end_to_end_is_none(case: Any) -> None:
    dataset = case("relay_slow")
    found = legs(dataset)
    for leg, ping in {CLIENT: 28.4, GATEWAY: 70.4, END_TO_END: 98.4}.items():
        low, value, high = found[leg]
        assert value == pytest.approx(ping, abs=3)
        assert low <= ping <= high
    rows = dataset.leg_measurements.filter(pl.col("leg") == GATEWAY, pl.col("value_ms") > 500).collect()
    assert set(rows["refused_reason"]) == {HELD_UP.reason}
    # a late reflexive candidate makes it too low, and its upper bound knows
    late = rows_of(dataset, MINUS).filter(pl.col("leg") == GATEWAY)
    assert only(late)["high_ms"] >= 70.4


def rows_of(dataset: analyzer.Dataset, method: str) -> pl.DataFrame:
    return dataset.leg_measurements.filter(pl.col("method") == method).collect()


def test_handshakes_of_both_sides_that_agree_were_not_held_up(case: Any) -> None:
    dataset = case("network_slower")
    assert legs(dataset)[END_TO_END][1] == pytest.approx(276, abs=4)
    reasons = dataset.leg_measurements.filter(pl.col("leg") == END_TO_END).collect()["refused_reason"]
    assert HELD_UP.reason not in set(reasons)


@pytest.mark.parametrize(
    ("name", "method", "true"), [("told_late", "sctp_association", 98.4), ("trace", "stun_transaction", 90.4)]
)
def test_a_span_whose_beginning_was_told_late_is_too_short(case: Any, name: str, method: str, true: float) -> None:
    dataset = case(name)
    values = dataset.connection_legs.collect()["end_to_end_latency_ms"].to_list()
    assert min(values) == pytest.approx(true, abs=4)
    refused = dataset.leg_measurements.filter(pl.col("refused_reason") == TOLD_LATE.reason).collect()
    assert refused["method"].to_list() == [method]
    assert refused["value_ms"].item() < true - 20


@pytest.mark.parametrize(
    ("estimates", "short"),
    [
        # method, value: those that agree are of two exchanges
        ([("dtls_handshake", 99), ("sctp_association", 98), ("stun_transaction", 20)], [2]),
        # or of one, which held both up
        ([("dtls_handshake", 99), ("dtls_flights", 98), ("sctp_association", 20)], []),
        # two of one exchange were not both begun late
        ([("sctp_association", 117), ("dtls_handshake", 118), ("dtls_flights", 99), ("dtls_handshake", 99)], []),
        # each check is one of its own
        ([("stun_transaction", 99), ("stun_transaction", 98), ("dtls_handshake", 20)], [2]),
        # longer is what errors make
        ([("dtls_handshake", 99), ("sctp_association", 98), ("stun_transaction", 200)], []),
        ([("dtls_handshake", 99), ("stun_transaction", 20)], []),
    ],
)
def test_which_is_too_short(estimates: list[tuple[str, float]], short: list[int]) -> None:
    rows = [
        {"conversation_id": "c", "tube_id": "t", "leg": END_TO_END, "method": method, "value_ms": float(value),
         "low_ms": value - 4.0, "high_ms": value + 4.0, "refused_reason": None, "origin": f"a.log:{at}"}
        for at, (method, value) in enumerate(estimates)
    ]  # fmt: skip
    measured = pl.DataFrame(rows, schema_overrides={"refused_reason": pl.String})
    once = pl.DataFrame({"conversation_id": ["c"]})
    assert told_late._short(measured, once).to_list() == short
    assert told_late._short(measured, once.clear()).is_empty()


def test_estimates_of_one_exchange_do_not_confirm_one_another(case: Any) -> None:
    # both sides' associations took twice as long as the handshake
    dataset = case("goodbye_unheard")
    assert legs(dataset)[END_TO_END][1] == pytest.approx(112, abs=1)
    values = rows_of(dataset, "sctp_association")["value_ms"].to_list()
    assert len(values) == 2
    assert min(values) > 200


def test_the_round_trips_of_an_association_have_a_course(case: Any) -> None:
    dataset = case("trace")
    assert dataset.sources.collect()["unmatched"].sum() == 0
    course = dataset.samples.filter(pl.col("metric") == "sctp_rtt").collect()
    assert set(course["side"]) == {"client", "gateway"}
    assert len(course) == 13
    # on the direct path; the peer may keep its answer back by 200 ms
    values = course["value"].to_list()
    assert min(values) == pytest.approx(90.4, abs=1.6)
    assert max(values) < 90.4 + 230


# -- clocks and callbacks ----------------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_has_no_distance_to_another(case: Any) -> None:
    dataset = case("set_back_in_setup")
    offset = only(dataset.clock_offsets.collect())
    assert offset["refused_reason"] == CLOCK_SET_BACK.reason
    assert (offset["low_ms"], offset["high_ms"]) == (None, None)
    # by that clock the gateway would have closed first
    assert only(dataset.conversations.collect())["closed_first"] is None


def test_a_data_channel_is_not_timed_from_a_state_that_was_held_back(case: Any) -> None:
    rows = case("far_away").leg_measurements.filter(pl.col("leg") == DATA_CHANNEL).collect()
    # by packets it took 1.6 s
    assert not rows["chosen"].any()
    assert set(rows["refused_reason"]) == {SIX_SECOND_SLEEP.reason}
