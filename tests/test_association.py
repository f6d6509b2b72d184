"""End to end by SCTP: from the peer connection to its data channel, two round trips on either side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.pipeline import ingest
from tests.strategies import ROOT

EARLY = ROOT / "fixtures" / "cases" / "early_states"
D_RELAY = ROOT / "fixtures" / "captured" / "2.2.9" / "D-relay-client"
TUBE, NAME = "f941a628-85ac-463c-a095-cfa7c8135155", "udIgwgvvf34aeiUaflxmEQ"
ENDED = datetime(2026, 11, 22, 13, 19, 35, tzinfo=UTC)


def estimates(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "leg_measurements").filter(pl.col("method") == "sctp_association")


def test_releases_that_tell_no_state_of_ice_are_timed_end_to_end(tmp_path: Path) -> None:
    ingest([str(EARLY / f"{side}.log.zst") for side in ("client", "gateway")], tmp_path / "m")
    found = estimates(tmp_path / "m")
    assert found["side"].to_list() == ["client", "gateway"]
    # pings took 90.4 to 91.9 ms
    assert all(row["low_ms"] <= 91.9 and 90.4 <= row["high_ms"] for row in found.to_dicts())
    (legs,) = pl.read_parquet(tmp_path / "m" / "connection_legs").to_dicts()
    assert legs["end_to_end_latency_ms"] == pytest.approx(90.4, abs=1)
    states = pl.read_parquet(tmp_path / "m" / "states").filter(pl.col("machine") == "peer_connection")
    assert states.group_by("side").agg("state").sort("side")["state"].to_list() == [["connecting", "connected"]] * 2


def test_a_handshake_that_was_held_up_is_not_the_last_word(tmp_path: Path) -> None:
    ingest([str(D_RELAY / f"{side}.log") for side in ("client", "gateway")], tmp_path / "m")
    rows = pl.read_parquet(tmp_path / "m" / "leg_measurements").filter(pl.col("leg") == "end_to_end")
    best = {row["method"]: row["value_ms"] for row in rows.sort("value_ms", descending=True).to_dicts()}
    # pings took 111.1 ms
    assert best["dtls_handshake"] - 111.1 > 5
    assert best["sctp_association"] - 111.1 == pytest.approx(0, abs=2)
    assert rows.filter("chosen")["method"].to_list() == ["sctp_association"]


def log(path: Path, *said: tuple[int, str]) -> Path:
    """Lines of the client's tube, each at so many milliseconds."""
    keys = f"(tube_id: {TUBE}, conversation_id: {NAME})"
    begun = (0, f"[TUBE_DEBUG] Tube {TUBE}: create_peer_connection called. trickle_ice: true, turn_only: false {keys}")
    declared = (1, f"[DATA_CHANNEL_SETUP] Registering on_data_channel callback {keys[:-1]}, is_server_mode: true)")
    lines = []
    for ms, text in (begun, declared, *said):
        at = (ENDED + timedelta(milliseconds=ms)).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        place = " (crates/keeper-pam-webrtc-rs/src/tube.rs:300)"
        lines.append(f"{at} DEBUG keeper_pam_webrtc_rs.tube: {text}{place}\n")
    path.write_text("".join(lines))
    return path


def state(ms: int, name: str) -> tuple[int, str]:
    return ms, f"Connection state changed (tube_id: {TUBE}, state: {name})"


def opened(ms: int) -> tuple[int, str]:
    return ms, f"Data channel '{NAME}' opened (tube_id: {TUBE}, channel_label: {NAME})"


@pytest.mark.parametrize(
    ("said", "value", "refused"),
    [
        ([state(10, "Connecting"), state(200, "Connected"), opened(400)], 98.8, None),
        # a chunk that was lost costs three seconds
        ([state(10, "Connecting"), state(200, "Connected"), opened(3400)], 1598.8, "flight_repeated"),
        # behind an outage the connection is an old one, and so is the association
        (
            [state(10, "Connecting"), state(200, "Connected"), state(9000, "Disconnected"), state(9500, "Connected")],
            None,
            None,
        ),
        # a log that begins with a connection does not have its beginning
        ([state(200, "Connected"), opened(400)], 98.8, "no line tells the beginning"),
    ],
)
def test_what_is_no_association_is_none(
    said: Sequence[tuple[int, str]], value: float | None, refused: str | None, tmp_path: Path
) -> None:
    ingest([str(log(tmp_path / "client.log", *said))], tmp_path / "m")
    rows: list[dict[str, Any]] = estimates(tmp_path / "m").to_dicts()
    assert [row["value_ms"] for row in rows] == ([] if value is None else [value])
    for row in rows:
        assert (row["refused_reason"] or "").startswith(refused or "")
        assert (row["refused_reason"] is None) == (refused is None)


def test_a_channel_of_a_later_generation_times_nothing(tmp_path: Path) -> None:
    again = (5000, f"ICE gathering started (tube_id: {TUBE})")
    first = (5, f"ICE gathering started (tube_id: {TUBE})")
    said = [first, state(10, "Connecting"), state(200, "Connected"), opened(400)]
    later = [again, state(5100, "Connecting"), state(5200, "Connected"), opened(5230)]
    ingest([str(log(tmp_path / "client.log", *said, *later))], tmp_path / "m")
    told = estimates(tmp_path / "m").sort("generation").select("generation", "value_ms", "refused_reason").rows()
    assert told[0] == (1, 98.8, None)
    assert [row[2] for row in told[1:]] == ["the association is older"]
