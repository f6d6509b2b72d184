"""Losses and goodbyes of two ends: what one of them closed is not lost for the other, what was lost before is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from analyzer.pipeline import ingest

BEGIN = datetime(2026, 11, 22, 13, tzinfo=UTC)
Lines = Sequence[tuple[float, str]]
REGISTERED = "metrics.collector: Registered connection for metrics tracking"


def set_up(tube: str, offer: str, late: float = 0.0) -> Lines:
    """A tube of conv-1 that connects, with the exchange of descriptions that bounds the clocks."""
    return [
        (late, f"{REGISTERED} (conversation_id: conv-1, tube_id: {tube})"),
        (0.1 + late, f"tube: [TUBE_DEBUG] Tube {tube}: create_peer_connection called. trickle_ice: true"),
        (0.2 + late, f"webrtc_core: Signaling state changed to: {offer} (tube_id: {tube})"),
        (0.3 + late, f"tube: ICE gathering started (tube_id: {tube})"),
        (0.5 - 3 * late, f"webrtc_core: Signaling state changed to: Stable (tube_id: {tube})"),
        (0.6, f"tube: ICE connection state changed (tube_id: {tube}, state: Checking)"),
        (1.0, f"tube: ICE connection state changed (tube_id: {tube}, state: Connected)"),
        (1.2, f"tube: Connection state changed (tube_id: {tube}, state: Connected)"),
        (1.4, f"tube: Data channel 'conv-1' opened, setting tube status to Ready (tube_id: {tube})"),
    ]  # fmt: skip


def closing(at: float, tube: str) -> Lines:
    return [
        (at, f"tube: Tube {tube} explicit close starting (conversation_id: conv-1, reason: Normal)"),
        (at + 0.1, f"tube: Tube {tube} closed successfully (peer connection closed, total time: 1.6ms)"),
    ]


def gone(at: float, tube: str, state: str) -> Lines:
    return [(at, f"tube: ICE connection state changed (tube_id: {tube}, state: {state})")]


CLIENT, GATEWAY = set_up("tc", "HaveLocalOffer"), set_up("tg", "HaveRemoteOffer", 0.05)
#: a second conversation on the client's tube, whose own channel is closed long before
SHARED: Lines = [
    (2.0, f"{REGISTERED} (conversation_id: conv-2, tube_id: tc)"),
    (3.0, "tube: Data channel 'conv-2' opened, setting tube status to Ready (tube_id: tc)"),
    (20.0, "tube: Tube tc: Signaling channel 'conv-2' to close with Normal reason."),
    (20.1, "channel.core: Channel 'conv-2' closing — connections: 0: [] (server_mode: true, conversation_id: conv-2)"),
    (20.2, "tube: Sent channel_closed signal due to tube closure (tube_id: tc, channel_label: conv-2)"),
]


def told(folder: Path, client: Lines, gateway: Lines, *, one_log: bool = False) -> tuple[str, bool | None, str | None]:
    """Outcome of conv-1, whether its gateway lost it, and who closed it first."""
    logs = {"one.log": [*client, *gateway]} if one_log else {"client.log": [*client], "gateway.log": [*gateway]}
    for name, lines in logs.items():
        with (folder / name).open("w") as log:
            for seconds, said in sorted(lines, key=lambda line: line[0]):
                at = BEGIN + timedelta(seconds=seconds)
                log.write(f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03} DEBUG keeper_pam_webrtc_rs.{said}\n")
    ingest([str(folder / name) for name in logs], folder / "m")
    mine = pl.col("conversation_id") == "conv-1"
    (row,) = pl.read_parquet(folder / "m" / "conversations").filter(mine).to_dicts()
    (link,) = pl.read_parquet(folder / "m" / "links").filter(mine, pl.col("side") == "gateway").to_dicts()
    return row["outcome"], link["lost"], row["closed_first"]


CLOSED = ("connected_closed", False, "client")
LOST = ("connected_lost", True, "client")


@pytest.mark.parametrize("one_log", [False, True])
def test_silence_behind_a_close_is_none_of_a_lost_path(one_log: bool, tmp_path: Path) -> None:
    gateway = [*GATEWAY, *gone(90, "tg", "Disconnected"), *closing(150, "tg")]
    assert told(tmp_path, [*CLIENT, *closing(59, "tc")], gateway, one_log=one_log) == CLOSED


def test_silence_before_a_close_is(tmp_path: Path) -> None:
    gateway = [*GATEWAY, *gone(90, "tg", "Disconnected"), *closing(150, "tg")]
    assert told(tmp_path, [*CLIENT, *closing(75, "tc")], gateway) == LOST


def test_the_close_of_another_conversation_excuses_nothing(tmp_path: Path) -> None:
    gateway = [*GATEWAY, *gone(90, "tg", "Disconnected"), *closing(150, "tg")]
    assert told(tmp_path, [*CLIENT, *SHARED, *closing(75, "tc")], gateway)[:2] == LOST[:2]


def test_a_loss_that_is_not_dated_is_not_excused(tmp_path: Path) -> None:
    gateway = [*GATEWAY, (150.0, "tube: Connection state changed (tube_id: tg, state: Failed)"), *closing(151, "tg")]
    assert told(tmp_path, [*CLIENT, *closing(75, "tc")], gateway)[:2] == LOST[:2]


@pytest.mark.parametrize(
    ("client_at", "gateway_at", "first"), [(60.0, 60.4, "client"), (60.4, 60.0, "gateway"), (60.0, 60.01, None)]
)
def test_who_closed_first_is_told_where_the_clocks_tell(
    client_at: float, gateway_at: float, first: str | None, tmp_path: Path
) -> None:
    found = told(tmp_path, [*CLIENT, *closing(client_at, "tc")], [*GATEWAY, *closing(gateway_at, "tg")])
    assert found == ("connected_closed", False, first)
