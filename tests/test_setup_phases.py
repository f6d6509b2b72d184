"""The waterfall of a set-up adds up, in every real log, and says what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.pipeline import ingest
from analyzer.reductions.nomination import fitting
from analyzer.reductions.setup_milestones import NAMES
from tests import truth
from tests.datasets import CAPTURED
from tests.truth import Capture

Rebuild = Callable[[Path], Capture]
FOLDERS = truth.folders()
every_capture = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
MICROSECOND = timedelta(microseconds=1)
NOMINATIONS: dict[str, dict[str, list[dict[str, Any]]]] = json.loads((CAPTURED / "nominations.json").read_text())
#: ICE was told to be connected late by the library itself
HELD_BACK = "1.0.0"


def setups(tables: dict[str, pl.DataFrame]) -> list[list[dict[str, Any]]]:
    """Phases of each set-up, in order."""
    grouped = tables["setup_phases"].group_by("conversation_id", "tube_id", maintain_order=True)
    return [rows.to_dicts() for _, rows in grouped]


@every_capture
def test_phases_add_up_to_the_wall_time(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    events = tables["events"].filter(pl.col("tube_id").is_not_null())
    begins = dict(events.group_by("tube_id").agg(pl.col("ts").min()).rows())
    assert len(setups(tables)) == len(tables["ice_stats"])
    for rows in setups(tables):
        assert [row["place"] for row in rows] == list(range(1, len(rows) + 1))
        done = [row for row in rows if row["state"] == "done"]
        assert done == rows[: len(done)]
        assert len(rows) - len(done) <= 1
        for before, after in pairwise(rows):
            assert after["started_at"] == before["ended_at"]
            assert after["started_origin"] == before["ended_origin"]
        if rows[0]["offset_ms"] is None:
            continue
        if len(rows) > 1:  # one alone is a conversation that came to a connected tube
            assert rows[0]["started_at"] == begins[rows[0]["tube_id"]]
        whole = (done[-1]["ended_at"] - rows[0]["started_at"]) / MICROSECOND
        assert sum(round(row["duration_ms"] * 1000) for row in done) == whole
        assert all(row["duration_ms"] >= 0 for row in done)


@every_capture
def test_every_phase_is_there_once_or_named_in_another(folder: Path, rebuilt: Rebuild) -> None:
    for rows in setups(rebuilt(folder).tables):
        named = [name for row in rows for name in row["phase"].split("+")]
        assert named == [name for name in NAMES if name in named]
        if len(rows) > 1 and rows[-1]["state"] == "done":
            assert set(NAMES) - set(named) <= {"credential_fetch"}


@every_capture
def test_a_connected_set_up_ends_with_the_open_channel(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    connected = dict(tables["conversations"].select("conversation_id", "connected").rows())
    for rows in setups(tables):
        last = rows[-1]
        if connected[last["conversation_id"]]:
            assert last["phase"].endswith("data_channel")
            assert last["state"] == "done"
        else:
            assert (last["phase"], last["state"], last["ended_at"]) == ("checks", "died", None)


@every_capture
def test_no_number_comes_of_coarse_times(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    if not tables["sources"]["resolution_ms"].fill_null(1e9).min() >= 1000:  # type: ignore[operator] # a number
        return
    shown = tables["setup_phases"].filter(pl.col("method").ne_missing("printed"))
    assert shown.select("offset_ms", "duration_ms", "wait_ms", "held_back_ms").null_count().row(0) == (len(shown),) * 4


def test_the_wait_is_that_before_the_nomination_on_the_wire(rebuilt: Rebuild) -> None:
    """The client's first USE-CANDIDATE left when the wait was over, or at a tick of the agent after it."""
    seen = 0
    for name, sides in NOMINATIONS.items():
        tables = rebuilt(CAPTURED / name).tables
        checks = tables["setup_phases"].filter(
            pl.col("side") == "client",
            pl.col("phase") == "checks",
            pl.col("wait_ms").is_not_null(),
            ~pl.col("held_back"),
        )
        for row in checks.to_dicts():
            checking = (pl.col("kind") == "ice_state_changed") & (pl.col("state") == "Checking")
            began = tables["events"].filter(pl.col("tube_id") == row["tube_id"], checking)["ts"].min()
            sent = [datetime.fromtimestamp(one["t"], UTC) for one in sides.get("client", [])]
            of_it = [ts for ts in sent if row["started_at"] <= ts <= row["ended_at"]]
            if of_it:
                after = (min(of_it) - began) / timedelta(milliseconds=1)  # type: ignore[operator] # a time
                assert row["wait_ms"] <= after + 5 <= row["wait_ms"] + 260, (name, row["tube_id"])
                seen += 1
    assert seen >= 10


def test_what_the_library_held_back_is_marked(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / HELD_BACK / "D-relay-client").tables
    held = tables["setup_phases"].filter("held_back").select("side", "phase", "held_back_ms").rows()
    assert [(side, phase) for side, phase, _ in held] == [
        ("gateway", "checks"),
        ("gateway", "dtls"),
        ("client", "checks"),
    ]
    assert all(5900 <= ms <= 6000 for _, phase, ms in held if phase == "checks")
    later = rebuilt(CAPTURED / "2.2.9" / "D-relay-client").tables["setup_phases"]
    assert not later["held_back"].any()


def test_what_ran_on_beside_later_phases_has_its_own_span(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / "2.2.9" / "F-relay-unreachable").tables
    gathering = tables["setup_phases"].filter(pl.col("phase") == "gathering")
    # the relay was waited for until 7.8 s, and by then the data channel had long been open
    assert gathering["span_ms"].to_list() == pytest.approx([7810, 7810], abs=20)
    assert gathering["duration_ms"].max() < 200  # type: ignore[operator] # a number


def test_credentials_are_a_phase_where_they_were_fetched(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / "2.2.9" / "M-router-credentials-std").tables
    fetched = tables["setup_phases"].filter(pl.col("phase") == "credential_fetch")
    assert fetched["side"].to_list() == ["gateway"] * 2
    printed = tables["ice_stats"].filter(pl.col("turn_credential_fetch_ms").is_not_null())
    # one began before the first line of its tube: that part is not of the set-up
    assert fetched["duration_ms"].to_list() == [41.0, 128.0]
    assert fetched["span_ms"].to_list() == printed["turn_credential_fetch_ms"].to_list()


def test_a_conversation_on_a_connected_tube_opens_its_channel_only(rebuilt: Rebuild) -> None:
    found = [
        rows
        for rows in setups(rebuilt(CAPTURED / "2.2.9" / "I-conversations-on-one-tube").tables)
        if len(rows) == 1
    ]  # fmt: skip
    assert len(found) == 4
    assert all(row["phase"] == "data_channel" and row["duration_ms"] < 10 for (row,) in found)


def test_milestones_nobody_told_join_their_phases(tmp_path: Path) -> None:
    k = "(tube_id: t-1, conversation_id: c-1"
    lines = [
        f"00,000 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started {k})",
        f"02,500 DEBUG keeper_pam_webrtc_rs.tube: Connection state changed {k}, state: Connected)",
        f"02,700 DEBUG keeper_pam_webrtc_rs.tube: Data channel 'c-1' opened, setting tube status to Ready {k})",
    ]
    log = tmp_path / "app.log"
    log.write_text("".join(f"2026-11-22 13:00:{line}\n" for line in lines))
    ingest([str(log)], tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "setup_phases").select("phase", "duration_ms").rows()
    assert rows == [
        ("preparation+description", 0.0),
        ("gathering+signalling+checks+dtls", 2500.0),
        ("sctp+data_channel", 200.0),
    ]


@pytest.mark.parametrize(
    ("span_ms", "round_trip_ms", "wait_ms"),
    [
        (225.0, 112.0, 0.0),
        (738.0, 112.0, 500.0),
        (1120.0, 112.0, 1000.0),
        (2153.0, 117.0, 2000.0),
        (1165.0, 52.0, 1000.0),
        (717.0, 230.0, None),  # either of two
        (1800.0, 112.0, None),  # none of them
        (1120.0, None, None),
    ],
)
def test_a_wait_is_known_where_only_one_fits(
    span_ms: float, round_trip_ms: float | None, wait_ms: float | None
) -> None:
    row = pl.DataFrame(
        {"span": [span_ms], "round_trip": [round_trip_ms]}, schema={"span": pl.Float64, "round_trip": pl.Float64}
    )
    found = row.select(wait=fitting(pl.col("span"), pl.col("round_trip")))
    assert found["wait"].to_list() == [wait_ms]
