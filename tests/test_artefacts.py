"""Known artefacts, each on a log that shows it: what looks like network time and is none is refused or left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.pipeline import ingest
from analyzer.reductions.artefacts import (
    ARTEFACTS,
    CLOCK_SET_BACK,
    EPOCH_VALUES,
    FIRST_CANDIDATE_CLOCK,
    FIRST_CONVERSATION,
    FLIGHT_REPEATED,
    HELD_UP,
    NOMINATION_WAIT,
    OTHER_SERVER,
    REQUEST_REPEATED,
    SIX_SECOND_SLEEP,
    TOLD_LATE,
    TWO_SRFLX,
    WHOLE_SECOND_TIMES,
    Artefact,
)
from analyzer.reductions.dtls_repeats import AGAIN_MS, AGREE_MS, resolved
from analyzer.reductions.estimators import FIRST_USE_MS
from analyzer.reductions.leg_measurements import ESTIMATORS, LEG_MEASUREMENTS
from tests import truth
from tests.test_cut_logs import lines, tables
from tests.truth import ROOT, Capture

Rebuild = Callable[[Any], Capture]
#: those that make an estimate unsound, with an estimate that they refuse on their evidence: leg, method, side, or any
REFUSED: dict[Artefact, tuple[str, str | None, str | None]] = {
    SIX_SECOND_SLEEP: ("end_to_end", "dtls_handshake", "gateway"),
    WHOLE_SECOND_TIMES: ("gathering", "state_change", "client"),
    CLOCK_SET_BACK: ("ice_connection_establishment", "state_change", "client"),
    FLIGHT_REPEATED: ("end_to_end", "dtls_handshake", "gateway"),
    REQUEST_REPEATED: ("krelay_to_gateway", "gathering_relay", "gateway"),
    HELD_UP: ("end_to_end", "dtls_flights", "client"),
    EPOCH_VALUES: ("gathering", "reported", "gateway"),
    FIRST_CANDIDATE_CLOCK: ("gathering", "reported", "client"),
    TOLD_LATE: ("end_to_end", None, None),
    OTHER_SERVER: ("krelay_to_gateway", "host_to_srflx", "gateway"),
}


def evidence(artefact: Artefact) -> list[str]:
    return list(artefact.evidence)


@pytest.fixture
def shown(rebuilt: Rebuild) -> Callable[[str], Capture]:
    """A shipped capture by its name, rebuilt."""
    return lambda name: rebuilt(ROOT / "fixtures" / name)


def test_each_has_its_name_and_its_evidence() -> None:
    assert len({one.name for one in ARTEFACTS}) == len(ARTEFACTS)
    for one in ARTEFACTS:
        assert one.evidence
        assert all((ROOT / "fixtures" / path).is_dir() for path in one.evidence), one.name
        assert one.refuses == "" or one in REFUSED
    (told,) = (column.doc for column in LEG_MEASUREMENTS.columns if column.name == "refused_reason")
    assert all(one.name in told for one in REFUSED)


@pytest.mark.parametrize("artefact", REFUSED, ids=lambda one: one.name)
def test_what_it_refuses_is_a_row_with_its_name(artefact: Artefact, shown: Callable[[str], Capture]) -> None:
    leg, method, side = REFUSED[artefact]
    for name in evidence(artefact):
        rows = shown(name).tables["leg_measurements"]
        mine = rows.filter(pl.col("refused_reason") == artefact.reason)
        assert artefact.reason.startswith(f"{artefact.name}: ")
        shown_by = [
            pl.col(name) == value for name, value in (("leg", leg), ("method", method), ("side", side)) if value
        ]
        assert not mine.filter(shown_by).is_empty()
        assert not mine["chosen"].any()
        assert not mine["chosen_for_tube"].any()


def test_the_sleep_makes_a_handshake_of_three_round_trips_short(shown: Callable[[str], Capture]) -> None:
    (name,) = evidence(SIX_SECOND_SLEEP)
    capture = shown(name)
    rows = capture.tables["leg_measurements"].filter(pl.col("method").str.starts_with("dtls"))
    slept, sound = (max(rows.filter(pl.col("side") == side)["value_ms"]) for side in ("gateway", "client"))
    ping = truth.pings(capture.truth)["end_to_end"]
    assert slept < ping - 40
    assert sound == pytest.approx(ping, abs=4)
    # the wait itself is not shown as the time of a connection either
    gateway = capture.tables["ice_stats"].filter(pl.col("side") == "gateway")
    assert gateway["connection_time_ms"].to_list() == [None]


def _low_errors(capture: Capture) -> pl.DataFrame:
    """Lower bounds of gathering estimates, with what they would be without the allowance, against the ping."""
    widened = {one.method: one.round_trips for one in ESTIMATORS if one.first_use_ms}
    pings = truth.pings(capture.truth)
    rows = capture.tables["leg_measurements"].filter(
        pl.col("method").is_in(list(widened)), pl.col("leg").is_in(list(pings)), pl.col("low_ms") > 0
    )
    ping, trips = (
        pl.col(key).replace_strict(known, return_dtype=pl.Float64)
        for key, known in (("leg", pings), ("method", widened))
    )
    allowed = pl.when(pl.col("generation") == 1).then(FIRST_USE_MS / trips).otherwise(0.0)
    return rows.select(
        "tube_id", "generation", above=pl.col("low_ms") - ping, without=pl.col("low_ms") + allowed - ping
    )


@pytest.mark.parametrize("name", evidence(FIRST_CONVERSATION))
def test_first_use_is_allowed_for_in_the_lower_bound(name: str, shown: Callable[[str], Capture]) -> None:
    errors = _low_errors(shown(name))
    # without it a first conversation would be proved slower than it was
    assert (errors["without"] > 1).any()
    assert (errors["above"] > 0).sum() < (errors["without"] > 0).sum()


def test_first_conversations_are_slow_to_begin_and_later_ones_are_not(shown: Callable[[str], Capture]) -> None:
    name = "captured/2.2.9/O-conversation-reused"
    capture = shown(name)
    client = capture.tables["leg_measurements"].filter(
        pl.col("leg") == "client_to_krelay", pl.col("method") == "gathering_relay"
    )
    ping = truth.pings(capture.truth)["client_to_krelay"]
    first, *later = (client.sort("ts")["value_ms"] - ping).to_list()
    assert len(later) == 2
    assert first > 5 + max(later)


def test_of_two_reflexive_candidates_the_first_is_the_response(shown: Callable[[str], Capture]) -> None:
    (name,) = evidence(TWO_SRFLX)
    found = shown(name).tables
    (gateway,) = found["ice_stats"].filter(pl.col("side") == "gateway").to_dicts()
    assert (gateway["srflx_candidates"], len(gateway["stun_response_times"])) == (2, 1)
    reflexive = found["candidates"].filter(
        pl.col("tube_id") == gateway["tube_id"], pl.col("direction") == "local", pl.col("candidate_type") == "srflx"
    )
    responses = found["leg_measurements"].filter(
        pl.col("tube_id") == gateway["tube_id"], pl.col("leg") == "stun_response"
    )
    assert set(responses["ts"]) == {reflexive["ts"].min()}
    assert set(responses["method"]) == {"gathering_srflx", "host_to_srflx"}


@pytest.mark.parametrize("name", evidence(NOMINATION_WAIT))
def test_the_wait_before_a_nomination_is_no_network_time(name: str, shown: Callable[[str], Capture]) -> None:
    found = shown(name).tables
    (legs,) = found["connection_legs"].to_dicts()
    (wait,) = set(found["setup_phases"].filter(pl.col("phase") == "checks")["wait_ms"])
    assert wait is not None
    assert legs["ice_connection_establishment_ms"] > wait > 0
    # what is left is a few round trips, and no leg has any of it
    assert legs["ice_connection_establishment_ms"] - wait < 3 * legs["end_to_end_latency_ms"]
    assert set(found["leg_measurements"].filter(pl.col("method") == "state_change")["leg"]) == {
        "gathering", "ice_connection_establishment", "data_channel_establishment",
    }  # fmt: skip


def test_whole_seconds_bound(shown: Callable[[str], Capture]) -> None:
    (name,) = evidence(WHOLE_SECOND_TIMES)
    rows = shown(name).tables["leg_measurements"]
    timed = rows.filter(~pl.col("method").is_in(["reported", "credential_fetch"]))
    assert set(timed["refused_reason"]) == {WHOLE_SECOND_TIMES.reason}
    assert timed.filter(pl.col("leg") == "gathering")["high_ms"].null_count() == 0
    legs = shown(name).tables["connection_legs"]
    assert legs["ice_connection_establishment_ms"].to_list() == [None]


def test_values_of_two_clocks_have_no_bounds(shown: Callable[[str], Capture]) -> None:
    (name,) = evidence(EPOCH_VALUES)
    rows = shown(name).tables["leg_measurements"].filter(pl.col("refused_reason") == EPOCH_VALUES.reason)
    assert (rows["value_ms"].abs() > 1e11).all()
    assert rows["low_ms"].null_count() == rows["high_ms"].null_count() == len(rows) > 0


def _without_times(side: str, name: str) -> list[str]:
    """The lines of a capture as Commander's console would have written them."""
    return [
        line.split(" ", 2)[2] if line[:4] == "2026" else line for line in lines(name.removeprefix("captured/"), side)
    ]


def test_what_counts_from_the_first_candidate_is_no_gathering(shown: Callable[[str], Capture]) -> None:
    (name,) = evidence(FIRST_CANDIDATE_CLOCK)
    timed = dict(shown(name).tables["ice_stats"].select("side", "gathering_complete_time_ms").rows())
    found = tables(**{side: _without_times(side, name) for side in ("client", "gateway")})
    told = dict(found["ice_stats"].select("side", "gathering_complete_time_ms").rows())
    rows = found["leg_measurements"].filter(pl.col("leg") == "gathering")
    # the client may use nothing but the relay: its first candidate is its last, two round trips after the start
    assert (timed["client"] > 80, told["client"]) == (True, None)
    (refused,) = rows.filter(pl.col("side") == "client").to_dicts()
    assert (refused["value_ms"] < 5, refused["refused_reason"], refused["high_ms"]) == (
        True, FIRST_CANDIDATE_CLOCK.reason, None,
    )  # fmt: skip
    # the gateway's is a host, which comes at once
    (sound,) = rows.filter(pl.col("side") == "gateway").to_dicts()
    assert told["gateway"] == sound["value_ms"] == pytest.approx(timed["gateway"], abs=3)
    assert sound["low_ms"] <= timed["gateway"] <= sound["high_ms"]


def test_behind_a_clock_that_was_set_back_the_spans_are_sound(shown: Callable[[str], Capture]) -> None:
    set_back, plain = shown("cases/clock_set_back").tables, shown("captured/2.2.9/D-relay-client").tables
    (told,) = set_back["ice_stats"].to_dicts()
    (true,) = plain["ice_stats"].filter(pl.col("side") == "client").to_dicts()
    # half a second was taken out of the checks
    assert (told["connection_time_ms"], true["connection_time_ms"]) == (None, 2152.0)
    assert told["current_rtt_ms"] == true["current_rtt_ms"]
    phases = set_back["setup_phases"]
    assert phases.filter(pl.col("phase") == "checks")["duration_ms"].to_list() == [None]
    assert phases.filter(pl.col("phase") == "dtls")["duration_ms"].to_list() == [236.0]


def test_two_handshakes_tell_how_often_a_flight_was_repeated(tmp_path: Path) -> None:
    folder = ROOT / "fixtures" / "cases" / "flight_repeated"
    ingest([str(folder / "gateway.log.zst"), str(folder / "peer" / "client.log.zst")], tmp_path / "m")
    found = pl.read_parquet(tmp_path / "m" / "leg_measurements").filter(pl.col("leg") == "end_to_end")
    assert found["refused_reason"].null_count() == len(found) == 4
    # pings took 182 to 197 ms; a second stood in each handshake, which is half and a third of one in its value
    assert all(175 < value < 200 for value in found["value_ms"])
    assert all(row["low_ms"] <= row["value_ms"] <= row["high_ms"] < 200 for row in found.to_dicts())


choices = st.integers(0, 3)


@given(st.floats(5, 900), choices, choices, st.floats(-9, 9))
def test_repetitions_are_taken_out_only_where_both_sides_agree_on_one_number(
    round_trip: float, of_client: int, of_gateway: int, noise: float
) -> None:
    spans = {"client": 2 * (round_trip + noise) + 1000 * of_client, "gateway": 3 * round_trip + 1000 * of_gateway}
    trips = {"client": 2, "gateway": 3}
    rows: list[dict[str, Any]] = [
        {
            "conversation_id": "c",
            "generation": 1,
            "side": side,
            "method": "dtls_handshake",
            **dict.fromkeys(("value_ms", "low_ms", "high_ms"), span / trips[side]),
            "again_ms": AGAIN_MS / trips[side],
            "may_repeat": int(span // AGAIN_MS),
            "refused_reason": FLIGHT_REPEATED.reason if span >= AGAIN_MS else None,
        }
        for side, span in spans.items()
        if span > 0
    ]
    told = resolved(pl.DataFrame(rows, schema_overrides={"refused_reason": pl.String}))
    lattices = [{round(row["value_ms"] - k * row["again_ms"], 9) for k in range(row["may_repeat"] + 1)} for row in rows]
    fits = [(a, b) for a in lattices[0] for b in lattices[-1] if abs(a - b) <= AGREE_MS]
    assert told.columns == [name for name in rows[0] if name not in ("again_ms", "may_repeat")]
    for row, before in zip(told.to_dicts(), rows, strict=True):
        if not before["may_repeat"]:
            assert row["value_ms"] == pytest.approx(before["value_ms"], abs=1e-3)
            assert row["refused_reason"] is None
        elif len(fits) == 1 and len(rows) == 2:
            assert row["refused_reason"] is None
            assert row["value_ms"] == pytest.approx(fits[0][rows.index(before)], abs=1e-3)
        else:
            assert row["refused_reason"] == FLIGHT_REPEATED.reason
            assert row["low_ms"] == pytest.approx(min(lattices[rows.index(before)]), abs=1e-3)


def test_a_shorter_span_of_a_handshake_may_hold_fewer_repetitions() -> None:
    spans = [
        ("client", "dtls_handshake", 2220.0, 2),
        ("client", "dtls_flights", 1220.0, 2),
        ("gateway", "dtls_handshake", 2330.0, 3),
    ]
    rows = [
        {
            "conversation_id": "c", "generation": 1, "side": side, "method": method,
            **dict.fromkeys(("value_ms", "low_ms", "high_ms"), span / trips), "again_ms": AGAIN_MS / trips,
            "may_repeat": int(span // AGAIN_MS), "refused_reason": FLIGHT_REPEATED.reason,
        }
        for side, method, span, trips in spans
    ]  # fmt: skip
    told = resolved(pl.DataFrame(rows))
    assert told["value_ms"].to_list() == pytest.approx([110.0] * 3, abs=1e-3)
    assert told["refused_reason"].null_count() == 3
