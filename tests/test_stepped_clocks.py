"""Clocks that were set while a connection was: what was measured over that moment is not shown as if none had been."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from tests.test_cut_logs import lines, tables

FORMAT = "%Y-%m-%d %H:%M:%S,%f"
CAPTURE = "2.2.9/G-ice-restart"


def stepped(log: list[str], at: int, seconds: float) -> list[str]:
    """The log with the times of all lines from one on moved."""

    def later(line: str) -> str:
        ts = datetime.strptime(f"{line[:23]}+0000", f"{FORMAT}%z") + timedelta(seconds=seconds)
        return ts.strftime(FORMAT)[:23] + line[23:]

    return log[:at] + [later(line) if line[:4] == "2026" else line for line in log[at:]]


def connected(log: list[str]) -> int:
    return next(at for at, line in enumerate(log) if "ICE connection state" in line and "onnected" in line)


@pytest.mark.parametrize("seconds", [-2, -1, 2])
@pytest.mark.parametrize("side", ["client", "gateway"])
def test_a_step_before_the_nomination_tells_no_path(side: str, seconds: float) -> None:
    logs = {one: lines(CAPTURE, one) for one in ("client", "gateway")}
    told = tables(**logs)
    logs[side] = stepped(logs[side], connected(logs[side]), seconds)
    found = tables(**logs)
    for name, columns in {
        "connection_legs": ["path", "uses_relay"],
        "ice_stats": ["selected_pair_local_type", "selected_pair_remote_type"],
    }.items():
        before, after = told[name].select(columns).rows(), found[name].select(columns).rows()
        assert all(
            now is None or now == then
            for rows in zip(before, after, strict=True)
            for then, now in zip(*rows, strict=True)
        )


@pytest.mark.parametrize("seconds", [-90, -2, -0.2])
@pytest.mark.parametrize("part", range(1, 8))
def test_no_duration_is_below_zero(part: int, seconds: float) -> None:
    log = lines(CAPTURE, "client")
    found = tables(client=stepped(log, len(log) * part // 8, seconds), gateway=lines(CAPTURE, "gateway"))
    durations = {
        name: [column for column in frame.columns if column.endswith("_ms") and "offset" not in column]
        for name, frame in found.items()
        if name not in ("leg_measurements", "clock_offsets", "reported")
    }
    below = [
        (name, column)
        for name, columns in durations.items()
        for column in columns
        if found[name].schema[column].is_numeric() and (found[name][column] < 0).any()
    ]
    assert below == []
    sound = found["leg_measurements"].filter(pl.col("refused_reason").is_null())
    assert not (sound["value_ms"] < 0).any()
