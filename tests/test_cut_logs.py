"""Logs that lack their beginning or their end: what is left of them proves less, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tests.datasets import CAPTURED
from tests.test_reductions import rebuilt


def lines(capture: str, side: str) -> list[str]:
    (path,) = (CAPTURED / capture).glob(f"{side}.log*")
    with pa.input_stream(path, compression="detect") as stream:
        return str(stream.read().decode()).splitlines(keepends=True)


def tables(**logs: list[str]) -> dict[str, pl.DataFrame]:
    return rebuilt({f"{side}.log": "".join(log).encode() for side, log in logs.items()})


def only(frame: pl.DataFrame) -> dict[str, Any]:
    (row,) = frame.to_dicts()
    return row


def test_counters_of_one_log_are_not_those_of_the_tube_of_the_other() -> None:
    counters = [
        line for line in lines("2.2.9/D-relay-client", "client") if "data channel" in line and "activity" in line
    ]
    assert len(counters) > 2
    found = tables(gateway=lines("2.2.9/D-relay-client", "gateway")[:60], client=counters[-2:])
    row = only(found["conversations"])
    assert (row["bytes_sent"], row["bytes_received"], row["connected"]) == (None, None, None)


def test_the_last_candidate_left_is_not_the_only_one_there_was() -> None:
    log = lines("2.2.9/K-peer-killed", "client")
    cut = next(at for at, line in enumerate(log) if "Received remote ICE candidate #4" in line)
    row = only(tables(client=log[cut:])["connection_legs"])
    assert (row["path"], row["uses_relay"]) == (None, None)


def test_a_return_after_an_outage_is_no_handshake() -> None:
    halves = {side: lines("2.2.9/G-ice-restart", side) for side in ("client", "gateway")}
    found = tables(**{side: log[len(log) // 2 :] for side, log in halves.items()})
    row = only(found["connection_legs"])
    assert (row["end_to_end_latency_ms"], row["end_to_end_high_ms"]) == (None, None)
    assert found["setup_phases"].is_empty()


def test_nothing_a_candidate_carries_of_credentials_is_kept() -> None:
    carried = "generation 0 ufrag CANARY1 pwd CANARY2 password CANARY3 username CANARY4"
    candidate = f"candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host {carried}"
    line = f"ICE candidate gathered (tube_id: t-1, candidate: {candidate}, count: 1, conversation_id: c-1)"
    found = tables(client=[f"2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.webrtc_core: {line}\n"])
    assert len(found["candidates"]) == 1
    assert not [name for name, table in found.items() if "CANARY" in str(table.rows())]


def test_what_follows_from_two_legs_can_be_walked_back_to_a_line() -> None:
    found = tables(client=lines("2.2.9/D-relay-client", "client"))
    shown = only(found["connection_legs"])
    row = only(found["leg_measurements"].filter(pl.col("method") == "difference"))
    assert (row["leg"], row["chosen"], row["value_ms"]) == (
        "krelay_to_gateway",
        True,
        shown["krelay_to_gateway_latency_ms"],
    )
    assert (shown["krelay_to_gateway_method"], row["origin"].split(":")[0]) == ("difference", "client.log")


#: what ice_stats, connection_legs say of a tube that its log proves, or nothing does
CLAIMED = {
    "ice_stats": (
        "total_candidates", "host_candidates", "srflx_candidates", "relay_candidates", "turn_allocations_attempted",
        "selected_pair_local_type", "selected_pair_remote_type", "connection_time_ms",
    ),
    "connection_legs": ("uses_relay", "ice_connection_establishment_ms"),
}  # fmt: skip


def claims(found: dict[str, pl.DataFrame]) -> dict[tuple[str, str, str], Any]:
    return {
        (row["conversation_id"], row.get("side") or "", name): row[name]
        for table, names in CLAIMED.items()
        for row in found[table].to_dicts()
        for name in names
    }


@pytest.mark.parametrize(
    "capture",
    [
        "1.0.0/D-relay-client",
        "1.0.0/C-srflx-nat",
        "1.6.2/D-relay-client",
        "2.2.9/D-relay-client",
        "2.2.9/M-router-credentials-std",
    ],
)
def test_a_log_without_its_beginning_says_what_the_whole_one_says_or_nothing(capture: str) -> None:
    logs = {side: lines(capture, side) for side in ("client", "gateway")}
    whole = claims(tables(**logs))
    least = min(map(len, logs.values()))
    wrong = set()
    for cut in range(5, least, max(least // 25, 1)):
        said = claims(tables(**{side: log[cut:] for side, log in logs.items()}))
        wrong |= {
            (cut, *key, value, whole[key])
            for key, value in said.items()
            if value is not None and key in whole and value != whole[key]
        }
    assert not wrong


def test_a_logger_that_is_not_written_does_not_say_that_there_was_nothing() -> None:
    muted = {
        side: [line for line in lines("2.2.9/D-relay-client", side) if "keeper_pam_webrtc_rs.webrtc_core:" not in line]
        for side in ("client", "gateway")
    }
    found = tables(**muted)["ice_stats"]
    assert found["total_candidates"].null_count() == found["turn_allocations_attempted"].null_count() == len(found) == 2


def test_the_other_log_is_not_needed_to_tell_conversations_on_one_tube_apart() -> None:
    capture = "2.2.9/I-conversations-on-one-tube"
    gateway = lines(capture, "gateway")
    alone, both = tables(gateway=gateway), tables(client=lines(capture, "client"), gateway=gateway)
    columns = ("conversation_id", "bytes_sent", "bytes_received", "messages_sent", "messages_received")
    told = [sorted(found["conversations"].select(columns).rows()) for found in (alone, both)]
    assert told[0] == told[1]
    assert len(told[0]) == 3
    assert None not in {value for row in told[0] for value in row}


def test_where_the_library_counted_more_candidates_than_there_are_lines_none_is_claimed_absent() -> None:
    log = [
        line
        for line in lines("2.2.9/D-relay-client", "gateway")
        if not ("ICE candidate gathered" in line and "typ relay" in line)
    ]
    row = only(tables(gateway=log)["ice_stats"])
    assert (row["total_candidates"], row["relay_candidates"], row["turn_allocation_success_rate"]) == (None, None, None)
    whole = only(tables(gateway=lines("2.2.9/D-relay-client", "gateway"))["ice_stats"])
    assert (whole["total_candidates"], whole["relay_candidates"], whole["turn_allocation_success_rate"]) == (4, 1, 1.0)


def without_counters(log: list[str], *, after: int) -> list[str]:
    """A log without the lines that count channels but for the first few."""
    counting = [at for at, line in enumerate(log) if "Recording data channel" in line]
    return [line for at, line in enumerate(log) if at not in counting[after:]]


def test_an_end_that_stopped_counting_gives_way_to_the_other() -> None:
    logs = {side: lines("2.2.9/D-relay-client", side) for side in ("client", "gateway")}
    figures = ["bytes_sent", "bytes_received", "messages_sent", "messages_received"]
    whole = tables(**logs)["conversations"].select(figures).rows()
    logs["client"] = without_counters(logs["client"], after=2)
    assert tables(**logs)["conversations"].select(figures).rows() == whole
    # without the other end they are what was counted, and it is told until when
    alone = tables(client=logs["client"])
    assert alone["conversations"].select(figures).row(0) < whole[0]
    (counted,) = alone["channels"].drop_nulls("counted_at").to_dicts()
    assert (counted["closed_at"] - counted["counted_at"]).total_seconds() > 5


def test_a_zero_that_was_counted_as_a_channel_opened_is_no_total() -> None:
    log = without_counters(lines("2.2.9/D-relay-client", "client"), after=2)
    none = [re.sub(r"((?:messages|bytes)_(?:sent|received)): \d+", r"\1: 0", line) for line in log]
    row = only(tables(client=none)["conversations"])
    assert {row[name] for name in ("bytes_sent", "bytes_received", "messages_sent", "messages_received")} == {None}
