"""A conversation's life: restarts, outages dated back, ends that are no close, and logs that hold only a part of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.inputs import discover
from analyzer.lines import read
from analyzer.pipeline import ingest
from analyzer.tally import Tally
from tests.datasets import CAPTURED, built, seed_dataset, summaries

Rows = list[dict[str, Any]]
G, K, S = "G-ice-restart", "K-peer-killed", "S-gateway-restart-appended-log"


def moments(capture: str, what: str) -> list[datetime]:
    """When something was done to the network or a process, by the clock of the test bed."""
    events = json.loads((CAPTURED / capture / "truth.json").read_text())["events"]
    return [datetime.fromtimestamp(event["t"], UTC) for event in events if event["what"] == what]


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(out / name)


def rows(out: Path, name: str, **where: object) -> Rows:
    return table(out, name).filter(*(pl.col(key) == value for key, value in where.items())).to_dicts()


def logs(capture: str) -> dict[str, list[str]]:
    """Lines of each side's log."""
    found: dict[str, list[str]] = {}
    for path in sorted((CAPTURED / capture).glob("*.log*")):
        for frame in read(discover([str(path)], skip=Path("/nowhere"))[0], Tally(marks=())):
            found.setdefault(path.name.split(".")[0], []).extend(frame["text"])
    return found


def part(folder: Path, capture: str, keep: Callable[[Sequence[str]], Sequence[str]], *sides: str) -> Path:
    """A dataset of what `keep` leaves of each log."""
    for side, lines in logs(capture).items():
        if side in (sides or ("client", "gateway")):
            (folder / f"{side}.log").write_text("".join(f"{line}\n" for line in keep(lines)))
    ingest([str(path) for path in sorted(folder.glob("*.log"))], folder / "metrics")
    return folder / "metrics"


def composed(folder: Path, *lines: str, start: str = "2026-11-22 13:00:00.000") -> Path:
    """A dataset of one log, from lines `seconds logger: message`."""
    begin = datetime.fromisoformat(start)
    written = []
    for line in lines:
        seconds, logger, message = line.split(" ", 2)
        at = begin + timedelta(seconds=float(seconds))
        stamp = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03}"
        written.append(f"{stamp} DEBUG keeper_pam_webrtc_rs.{logger} {message}")
    return seed_dataset(folder, written, name="app.log")


REGISTERED = (
    "0 metrics.collector: Registered connection for metrics tracking (conversation_id: conv-1, tube_id: tube-1)"
)
SET_UP = (
    REGISTERED,
    "0.1 tube: [TUBE_DEBUG] Tube tube-1: create_peer_connection called. trickle_ice: true, turn_only: false",
    "0.2 webrtc_core: Signaling state changed to: HaveLocalOffer (tube_id: tube-1)",
    "0.3 tube: ICE gathering started (tube_id: tube-1)",
    "0.5 webrtc_core: Signaling state changed to: Stable (tube_id: tube-1)",
    "0.6 tube: ICE connection state changed (tube_id: tube-1, state: Checking)",
    "1 tube: ICE connection state changed (tube_id: tube-1, state: Connected)",
    "1.2 tube: Connection state changed (tube_id: tube-1, state: Connected)",
    "1.4 tube: Data channel 'conv-1' opened, setting tube status to Ready (tube_id: tube-1)",
)


def down(at: float, state: str = "Disconnected") -> tuple[str, str]:
    return (
        f"{at} tube: ICE connection state changed (tube_id: tube-1, state: {state})",
        f"{at} webrtc_core: Peer connection state changed for tube tube-1: {state}",
    )


def closing(at: float) -> tuple[str, str]:
    return (
        f"{at} tube: Tube tube-1 explicit close starting (conversation_id: conv-1, reason: Normal)",
        f"{at + 0.1} tube: Tube tube-1 closed successfully (peer connection closed, total time: 1.6ms)",
    )


# -- outages, dated back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", [f"1.0.0/{G}", f"2.2.9/{G}", f"2.2.9/{K}"])
def test_a_loss_is_dated_back_to_the_moment_it_happened(capture: str, tmp_path: Path) -> None:
    (lost,) = moments(capture, "SIGKILL" if capture.endswith(K) else "link-down")
    out = built(capture, tmp_path / "m")
    told = [one for one in rows(out, "states", machine="ice", state="disconnected") if one["lost_method"]]
    assert len(told) == (1 if capture.endswith(K) else 2)
    for one in told:
        assert one["lost_low_at"] <= lost <= one["lost_high_at"]
        assert one["from_at"] - lost > timedelta(seconds=29)


def test_the_downtime_is_that_of_the_link(tmp_path: Path) -> None:
    capture = f"2.2.9/{G}"
    (off,), (on,) = moments(capture, "link-down"), moments(capture, "link-up")
    found = table(built(capture, tmp_path / "m"), "generations").drop_nulls("downtime_ms")
    assert sorted(found["side"]) == ["client", "gateway"]
    for down_ms in found["downtime_ms"]:
        # back within half a second of the link: the agent checks every 200 ms, over two legs
        assert 0 < down_ms - (on - off) / timedelta(milliseconds=1) < 500


def test_other_timeouts_are_those_of_the_log(tmp_path: Path) -> None:
    printed = (
        "0.1 webrtc_core: Configured ICE timeouts for tube tube-1 (disconnected: 5s, failed: 25s, keepalive: 2000ms)"
    )
    out = composed(tmp_path, *SET_UP, printed, *down(20), *closing(60))
    (state,) = rows(out, "states", machine="ice", state="disconnected")
    middle = state["lost_low_at"] + (state["lost_high_at"] - state["lost_low_at"]) / 2
    assert (state["from_at"] - middle, state["lost_method"]) == (timedelta(seconds=5), "timeout_printed")
    assert rows(out, "conversations")[0]["outcome"] == "connected_lost"


# -- restarts ---------------------------------------------------------------------------------------------------------


def attempts(out: Path, side: str) -> list[tuple[object, ...]]:
    columns = ("cause", "role", "gathered", "generation", "outcome")
    return table(out, "generations").filter(pl.col("side") == side).select(columns).rows()


def test_every_restart_of_a_capture_is_there(tmp_path: Path) -> None:
    new, old = built(f"2.2.9/{G}", tmp_path / "new"), built(f"1.0.0/{G}", tmp_path / "old")
    assert attempts(new, "client") == [
        ("set_up", "offer", True, 1, "connected"),
        ("requested", "offer", False, 1, "connected"),
        # both sides offered at once, neither was answered, and the link came back
        ("connection_lost", "offer", False, 1, "path_returned"),
    ]
    assert attempts(new, "gateway")[1:] == [
        ("peer_asked", "answer", False, 1, "connected"),
        # both sides offered at once, neither was answered, and the link came back
        ("connection_lost", "offer", False, 1, "path_returned"),
    ]
    assert attempts(old, "client")[1:] == [
        ("requested", "offer", False, 1, "connected"),
        ("connection_lost", None, True, 2, "superseded"),
        ("requested", "offer", False, 2, "failed"),
        ("connection_lost", None, True, 3, "closed"),
    ]
    assert attempts(old, "gateway")[1:] == [
        ("peer_asked", "answer", False, 1, "connected"),
        ("connection_lost", None, True, 2, "superseded"),
        ("peer_asked", "answer", True, 3, "failed"),
        ("connection_lost", None, True, 4, "closed"),
    ]
    (shown,) = summaries(analyzer.open(old)).values()
    assert "ICE generations: client 3, gateway 4." in shown


def test_an_attempt_is_told_by_whatever_lines_there_are(tmp_path: Path) -> None:
    out = composed(
        tmp_path,
        *SET_UP,
        "50 webrtc_network_monitor: Triggering ICE restart for tube tube-1 due to network change",
        "50 webrtc_core: Network change detected, triggering ICE restart for tube tube-1",
        "50 webrtc_core: ICE restart attempt #1 (tube_id: tube-1, attempt: 1)",
        "50 webrtc_core: Failed to create ICE restart offer (tube_id: tube-1, error: closed)",
        "60 webrtc_core: ICE restart offer set as local description - new ICE session will begin (tube_id: tube-1)",
        "65 webrtc_core: Network change detected, triggering ICE restart for tube tube-1",
        "65 webrtc_core: ICE restart already in progress, skipping duplicate request (tube_id: tube-1)",
        "80 webrtc_core: ICE restart answer timeout - no response from remote peer after 20s."
        " Closing connection. (tube_id: tube-1)",
        "81 webrtc_core: Connection failed for tube tube-1, triggering immediate ICE restart",
        "81 webrtc_core: ICE restart attempt #3 (tube_id: tube-1, attempt: 3)",
        "81 webrtc_core: Signaling state changed to: HaveLocalOffer (tube_id: tube-1)",
    )
    columns = ("attempt", "cause", "role", "gathered", "outcome")
    assert table(out, "generations").select(columns).rows() == [
        (1, "set_up", "offer", True, "connected"),
        (2, "network_change", "offer", False, "failed"),
        (3, "requested", "offer", False, "timed_out"),
        (4, "connection_lost", "offer", False, "unknown"),
    ]
    (link,) = rows(out, "links")
    assert (link["restarts_tried"], link["restarts_timed_out"]) == (3, 1)


def test_a_copy_of_a_log_is_no_second_life(tmp_path: Path) -> None:
    lines = logs(f"2.2.9/{G}")["client"]
    for name in ("client.log", "copy-of-client.log"):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines) + ("\n" if "copy" in name else ""))
    once, twice = tmp_path / "once", tmp_path / "twice"
    ingest([str(tmp_path / "client.log")], once)
    ingest([str(path) for path in sorted(tmp_path.glob("*.log"))], twice)
    for name in ("generations", "states"):
        columns = ["tube_id", "from_at", "state", "ended_by"] if name == "states" else ["attempt", "cause", "outcome"]
        assert table(once, name).select(columns).rows() == table(twice, name).select(columns).rows()


# -- how it ended -----------------------------------------------------------------------------------------------------


def test_a_killed_peer_is_a_loss_and_its_summary_says_why(tmp_path: Path) -> None:
    out = built(f"2.2.9/{K}", tmp_path / "m")
    (row,) = rows(out, "conversations")
    assert (row["connected"], row["outcome"]) == (True, "connected_lost")
    client, gateway = rows(out, "links", side="client")[0], rows(out, "links", side="gateway")[0]
    assert (client["ended_by"], client["lost"], client["closed_at"]) == ("log_ended", False, None)
    assert (gateway["ended_by"], gateway["lost"], gateway["closing_cause"]) == ("closed", True, "restart_timed_out")
    (shown,) = summaries(analyzer.open(out)).values()
    head = shown.split("Legs, round trips")[0]
    for expected in (
        "connected, then the connection was lost\n",
        "client   its last line is at 13:36:04.458, the tube still open",
        "gateway  lost between 13:36:04.",
        "ICE restart tried 1 time: no answer came",
        "closed at 13:37:36.600 by the library, since no answer came, reason ConnectionLost",
        "restart_timed_out",
    ):
        assert expected in head, expected


@pytest.mark.parametrize("sides", [("client", "gateway"), ("gateway",)])
def test_a_process_that_starts_again_ends_the_tubes_of_the_one_before(sides: tuple[str, ...], tmp_path: Path) -> None:
    out = part(tmp_path, f"2.2.9/{S}", lambda lines: lines, *sides)
    (killed,) = moments(f"2.2.9/{S}", "SIGKILL")
    links = {one["ended_by"]: one for one in rows(out, "links", side="gateway")}
    assert links.keys() == {"process_restarted", "closed"}
    old = links["process_restarted"]
    assert timedelta(0) <= killed - old["to_at"] < timedelta(seconds=2)
    outcome = {row["conversation_id"]: row["outcome"] for row in rows(out, "conversations")}
    assert outcome[old["conversation_id"]] == "connected_lost"
    assert outcome[links["closed"]["conversation_id"]] == "connected_closed"
    ends = table(out, "states").filter(pl.col("tube_id") == old["tube_id"], pl.col("ended_by") != "changed")
    assert set(ends["ended_by"]) == {"process_restarted"}
    assert ends["to_at"].null_count() == len(ends)


def test_a_log_that_stops_leaves_its_states_open(tmp_path: Path) -> None:
    out = composed(tmp_path, *SET_UP)
    assert rows(out, "conversations")[0]["outcome"] == "connected_open"
    (state,) = rows(out, "states", machine="ice", state="connected")
    assert (state["to_at"], state["duration_ms"], state["ended_by"]) == (None, None, "log_ended")


def test_what_stands_beside_a_close_is_no_loss(tmp_path: Path) -> None:
    goodbye = "20 channel.protocol: Endpoint WebRTC state changed: Open -> Closed (channel_id: conv-1)"
    lives = {
        "quick": (*down(12), *closing(12.1)),
        "after": (*closing(40), *down(41)),
        "left": (goodbye, *down(50), *closing(90)),
        "recovered": (*down(50), *down(60, "Connected"), *closing(90)),
        "lost": (*down(50), *closing(90)),
        "unclosed": (*down(50),),
        "failed": (*down(50), *down(110, "Failed"), *closing(111)),
    }
    outcomes = {}
    for name, events in lives.items():
        (tmp_path / name).mkdir()
        (row,) = rows(composed(tmp_path / name, *SET_UP, *events), "conversations")
        outcomes[name] = row["outcome"]
    assert outcomes == {
        **dict.fromkeys(("quick", "after", "left", "recovered"), "connected_closed"),
        **dict.fromkeys(("lost", "unclosed", "failed"), "connected_lost"),
    }


def test_one_channel_that_closes_is_not_the_tube(tmp_path: Path) -> None:
    second = (
        "2 metrics.collector: Registered connection for metrics tracking (conversation_id: conv-2, tube_id: tube-1)"
    )
    opened = "2.1 tube: Data channel 'conv-2' opened, setting tube status to Ready (tube_id: tube-1)"
    one = "10 tube: Tube tube-1: Signaling channel 'conv-2' to close with AdminClosed reason."
    out = composed(tmp_path, *SET_UP, second, opened, one, *down(50), *closing(90))
    assert {row["conversation_id"]: row["close_reason"] for row in rows(out, "conversations")} == {
        "conv-1": "Normal",
        "conv-2": "AdminClosed",
    }
    # one of them had been closed before the path was lost
    lost = {row["conversation_id"]: (row["ended_by"], row["lost"]) for row in rows(out, "links")}
    assert lost == {"conv-1": ("closed", True), "conv-2": ("channel_closed", False)}
    assert {row["conversation_id"]: row["original"] for row in rows(out, "links")} == {"conv-1": True, "conv-2": False}


# -- parts of a life --------------------------------------------------------------------------------------------------


def later(lines: Sequence[str]) -> Sequence[str]:
    return lines[len(lines) // 2 :]


@pytest.mark.parametrize("capture", ["2.0.1/J-data-transfer", "1.6.2/D-relay-client", "2.2.9/D2-relay-both"])
def test_the_later_half_of_a_log_proves_that_it_was_connected(capture: str, tmp_path: Path) -> None:
    out = part(tmp_path, capture, later)
    assert {row["begun"] for row in rows(out, "links")} == {False}
    assert {(row["connected"], row["outcome"]) for row in rows(out, "conversations")} == {(True, "connected_closed")}


@pytest.mark.parametrize("release", ["1.0.0", "2.2.9"])
def test_what_a_log_does_not_begin_with_is_not_denied(release: str, tmp_path: Path) -> None:
    capture = f"{release}/E-bad-turn-password"
    for keep, expected in (
        (lambda lines: lines, (False, "never_connected")),
        (later, (None, "unknown")),
    ):
        folder = tmp_path / expected[1]
        folder.mkdir()
        (row,) = rows(part(folder, capture, keep), "conversations")
        assert (row["connected"], row["outcome"]) == expected


def no_debug(lines: Sequence[str]) -> Sequence[str]:
    return [line for line in lines if " DEBUG " not in line[:120]]


@pytest.mark.parametrize(("capture", "outcome"), [(G, "connected_closed"), (K, "connected_lost")])
def test_without_debug_lines_a_loss_counts_as_far_as_it_is_told(capture: str, outcome: str, tmp_path: Path) -> None:
    out = part(tmp_path, f"2.2.9/{capture}", no_debug)
    (row,) = rows(out, "conversations")
    assert (row["connected"], row["outcome"]) == (True, outcome)
    links = rows(out, "links")
    assert max(link["outages"] or 0 for link in links) == 1
    # that none was lost is not known where no state is written
    assert {link["lost"] for link in links} <= {True, None}


def test_conversations_are_on_their_tubes_from_when_to_when(tmp_path: Path) -> None:
    shared = built("2.2.9/I-conversations-on-one-tube", tmp_path / "shared")
    first, *more = table(shared, "links").filter(pl.col("side") == "client").sort("from_at").to_dicts()
    assert (first["original"], [one["original"] for one in more]) == (True, [False, False])
    assert len({one["tube_id"] for one in (first, *more)}) == 1
    assert all(first["from_at"] < one["from_at"] < one["to_at"] <= first["to_at"] for one in more)
    moved = built("2.2.9/O-conversation-reused", tmp_path / "moved")
    for side in ("client", "gateway"):
        turns = table(moved, "links").filter(pl.col("side") == side).sort("from_at").to_dicts()
        assert len({one["tube_id"] for one in turns}) == 3
        assert all(before["to_at"] < after["from_at"] for before, after in pairwise(turns))
