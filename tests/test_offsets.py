"""The offset of two clocks against a fold of the messages, whatever they took, however many got lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.scenarios import BASE
from tests.test_reductions import few, rebuilt

OWN = "webrtc_core: ICE candidate gathered (tube_id: {}, candidate: candidate:1 1 udp 2130706431 10.0.0.{} {} typ host)"
TOLD = (
    "webrtc_core: [CANDIDATE_DEBUG] INCOMING candidate"
    " (tube_id: {}, type: host, ip: 10.0.0.{}, port: {}, protocol: udp, priority: 2130706431)"
)
OPENING = (
    "metrics.collector: Registered connection for metrics tracking (conversation_id: c, tube_id: {})",
    "tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback (tube_id: {}, is_server_mode: {})",
)
#: a line is stamped to the millisecond, and up to 5 ms late in releases that print no source location, else 25 ms
UNIT_MS, LATE_MS = 1, {"": 5, " (src/webrtc_core.rs:7)": 25}


@dataclass(frozen=True, slots=True)
class Message:
    """A candidate: who sent it, when on the clock of neither log, how long it took, and if either line was lost."""

    sender: str
    sent: int
    took: int
    lost: bool


messages = st.lists(
    st.builds(
        Message, st.sampled_from(["client", "gateway"]), st.integers(0, 3000), st.integers(0, 400), st.booleans()
    ),
    max_size=8,
)


def written(found: list[Message], offset: int, suffix: str) -> dict[str, bytes]:
    """The two logs; the gateway's clock is ahead by the offset."""
    lines: dict[str, list[tuple[int, str]]] = {
        side: [(0, line.format(f"t-{side}", str(side == "client").lower())) for line in OPENING]
        for side in ("client", "gateway")
    }
    for port, message in enumerate(found, 40000):
        receiver = {"client": "gateway", "gateway": "client"}[message.sender]
        host = 1 if message.sender == "client" else 2
        lines[message.sender].append((message.sent, OWN.format(f"t-{message.sender}", host, port)))
        if not message.lost:
            lines[receiver].append((message.sent + message.took, TOLD.format(f"t-{receiver}", host, port)))
    clock = {"client": 0, "gateway": offset}
    return {
        f"{side}.log": "".join(
            f"{(BASE + timedelta(milliseconds=at + clock[side])).strftime('%Y-%m-%d %H:%M:%S,%f')[:-3]}"
            f" DEBUG keeper_pam_webrtc_rs.{line}{suffix}\n"
            for at, line in sorted(told)
        ).encode()
        for side, told in lines.items()
    }


def folded(found: list[Message], offset: int, suffix: str) -> dict[str, Any]:
    """What is known of the offset."""
    slack = UNIT_MS + LATE_MS[suffix]
    took = {side: [one.took for one in found if one.sender == side and not one.lost] for side in ("client", "gateway")}
    return {
        "low_ms": offset - min(took["gateway"]) - slack if took["gateway"] else None,
        "high_ms": offset + min(took["client"]) + slack if took["client"] else None,
        "evidence": len(took["client"]) + len(took["gateway"]),
    }


@few
@given(messages, st.sampled_from([0, 0, -40, 3700, -7_200_000]), st.sampled_from(sorted(LATE_MS)))
def test_the_interval_is_that_of_the_quickest_messages(found: list[Message], offset: int, suffix: str) -> None:
    tables = rebuilt(written(found, offset, suffix))
    (row,) = tables["clock_offsets"].to_dicts()
    told = folded(found, offset, suffix)
    assert {name: row[name] for name in told} == told
    low, high = told["low_ms"], told["high_ms"]
    assert low is None or low <= offset
    assert high is None or offset <= high
    one = low is not None and high is not None and low <= 0 <= high
    assert tables["conversations"]["clock"].to_list() == ["both" if one else "client"]


def test_one_log_that_holds_both_sides_has_one_clock() -> None:
    found = [Message("client", 0, 10, lost=False), Message("gateway", 5, 10, lost=False)]
    both = b"".join(written(found, 0, "").values())
    tables = rebuilt({"app.log": b"".join(sorted(both.splitlines(keepends=True)))})
    assert tables["clock_offsets"].is_empty()
    assert tables["conversations"]["clock"].to_list() == ["both"]


def test_a_port_that_was_gathered_anew_bounds_nothing() -> None:
    found = [Message("client", 100, 10, lost=False)]
    files = written(found, 0, "")
    late = BASE + timedelta(seconds=60)
    again = "".join(
        f"{late.strftime('%Y-%m-%d %H:%M:%S,%f')[:-3]} DEBUG keeper_pam_webrtc_rs.{line}\n"
        for line in (
            "tube: ICE gathering started (tube_id: t-client)",
            "tube: ICE gathering started (tube_id: t-client)",
            OWN.format("t-client", 1, 40000),
        )
    )
    files["client.log"] += again.encode()
    (row,) = rebuilt(files)["clock_offsets"].to_dicts()
    assert (row["evidence"], row["high_ms"]) == (0, None)


def test_a_span_is_of_one_clock() -> None:
    found = [Message("client", 0, 10, lost=False), Message("gateway", 5, 10, lost=False)]
    files = written(found, 3_600_000, "")
    spans = rebuilt(files)["conversations"].select(pl.col("ended_at") - pl.col("started_at")).to_series()
    assert spans.to_list() == [timedelta(milliseconds=15)]
