"""Two logs, two clocks: their offset is an interval that holds the truth, and nothing adds the one to the other."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import analyzer
from analyzer.pipeline import ingest
from analyzer.views import clocks
from tests import truth
from tests.datasets import CAPTURED, summaries
from tests.truth import Capture

SHIPPED = [folder for folder in truth.folders() if CAPTURED in folder.parents]
AHEAD = timedelta(seconds=3.7)
TIME = re.compile(r"(?m)^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3})")
BOTH = ("1.0.0/D-relay-client", "1.6.2/M-router-credentials", "2.2.9/F-relay-unreachable", "2.2.9/G-ice-restart")


def moved(text: str, by: timedelta) -> str:
    """A log as a clock that is ahead would stamp it."""
    layout = "%Y-%m-%d %H:%M:%S"

    def later(found: re.Match[str]) -> str:
        ts = datetime.strptime(found[1], layout) + timedelta(milliseconds=int(found[2])) + by  # noqa: DTZ007 - naive, as logs are
        return f"{ts.strftime(layout)},{ts.microsecond // 1000:03}"

    return TIME.sub(later, text)


def logs(capture: str) -> dict[str, str]:
    return {
        path.name.removesuffix(".zst"): pa.input_stream(str(path)).read().decode()
        for path in sorted((CAPTURED / capture).glob("*.log*"))
    }


def rebuilt_from(files: dict[str, str], folder: Path, **options: Any) -> analyzer.Dataset:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    ingest([str(folder / name) for name in files], folder / "metrics", **options)
    return analyzer.open(folder / "metrics")


def offsets(dataset: analyzer.Dataset) -> list[dict[str, Any]]:
    return dataset.clock_offsets.collect().to_dicts()


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_one_clock_has_no_offset(rebuilt: Callable[[Path], Capture], folder: Path) -> None:
    capture = rebuilt(folder)
    timed = capture.tables["sources"].filter(pl.col("resolution_ms").is_not_null())
    rows = capture.tables["clock_offsets"]
    unit_ms = max(timed["resolution_ms"].to_list(), default=0.0)
    if len(timed) < 2:
        assert rows.is_empty()
        return
    met = {
        (one["client_tube_id"], one["gateway_tube_id"])
        for one in capture.truth["conversations"]
        if one["gateway_tube_id"]
    }
    assert met <= set(rows.select("client_tube_id", "gateway_tube_id").rows())
    for row in rows.to_dicts():
        assert row["low_ms"] <= 0 <= row["high_ms"], row
        assert row["high_ms"] - row["low_ms"] < 250 + 2 * unit_ms, row
        for side in ("client", "gateway"):
            assert -unit_ms <= (row[f"{side}_ahead_ms"] or 0) < 50
    assert set(capture.tables["conversations"]["clock"]) == {"both"}


@pytest.mark.parametrize("capture", BOTH)
def test_an_offset_is_found_as_it_is(capture: str, tmp_path: Path) -> None:
    files = logs(capture)
    plain = offsets(rebuilt_from(files, tmp_path / "plain"))
    assert plain
    for name, by in (("client.log", AHEAD), ("gateway.log", AHEAD), ("gateway.log", timedelta(hours=-5, minutes=-30))):
        found = offsets(rebuilt_from(files | {name: moved(files[name], by)}, tmp_path / f"{name}{by}".replace(":", "")))
        offset_ms = by / timedelta(milliseconds=1) * (1 if name == "gateway.log" else -1)
        for before, row in zip(plain, found, strict=True):
            assert row["low_ms"] == pytest.approx(before["low_ms"] + offset_ms)
            assert row["high_ms"] == pytest.approx(before["high_ms"] + offset_ms)
            assert row["low_ms"] <= offset_ms <= row["high_ms"]


def test_every_bound_leads_to_its_two_lines(tmp_path: Path) -> None:
    files = logs("2.2.9/D-relay-client")
    (row,) = offsets(rebuilt_from(files, tmp_path / "a"))
    texts = {
        end: files[origin.rpartition(":")[0]].split("\n")[int(origin.rpartition(":")[2]) - 1]
        for end, origin in row.items()
        if end.endswith("_origin")
    }
    assert [row["low_method"], row["high_method"]] == ["candidate", "candidate"]
    for bound in ("low", "high"):
        sent, received = texts[f"{bound}_sent_origin"], texts[f"{bound}_received_origin"]
        port = re.search(r"udp \d+ \S+ (\d+) typ", sent)
        assert port
        assert f"port: {port[1]}," in received


def test_a_conversation_is_told_by_one_clock(tmp_path: Path) -> None:
    files = logs("2.2.9/D-relay-client")
    ahead = files | {"gateway.log": moved(files["gateway.log"], timedelta(hours=2))}
    columns = ("started_at", "ended_at", "clock", "close_reason", "outcome")
    alone = rebuilt_from({"client.log": files["client.log"]}, tmp_path / "client").conversations.select(columns)
    both = rebuilt_from(files, tmp_path / "both").conversations.select(columns)
    apart = rebuilt_from(ahead, tmp_path / "apart").conversations.select(columns)
    assert apart.collect().equals(alone.collect())
    assert alone.collect()["clock"].to_list() == ["client"]
    assert both.collect()["clock"].to_list() == ["both"]
    assert both.collect()["ended_at"][0] > alone.collect()["ended_at"][0]
    gateway = rebuilt_from({"gateway.log": files["gateway.log"]}, tmp_path / "gateway")
    assert gateway.conversations.collect()["clock"].to_list() == ["gateway"]


def test_nothing_else_depends_on_the_offset(tmp_path: Path) -> None:
    files = logs("2.2.9/D-relay-client")
    ahead = files | {"gateway.log": moved(files["gateway.log"], timedelta(hours=2))}
    here, there = (rebuilt_from(one, tmp_path / str(place)) for place, one in enumerate((files, ahead)))
    for name in ("ice_stats", "connection_legs", "candidate_pairs"):
        assert here.tables[name].collect().equals(there.tables[name].collect()), name


def test_a_clock_that_was_set_bounds_nothing(tmp_path: Path) -> None:
    files = logs("2.2.9/D-relay-client")
    before, gathered, after = files["gateway.log"].partition("keeper_pam_webrtc_rs.webrtc_core: on_ice_candidate")
    end = before.rfind("\n") + 1
    set_ahead = before[:end] + moved(before[end:] + gathered + after, timedelta(seconds=10))
    dataset = rebuilt_from(files | {"gateway.log": set_ahead}, tmp_path / "a")
    (row,) = offsets(dataset)
    assert (row["low_ms"], row["high_ms"]) == (None, None)
    assert row["refused_reason"] == "the bounds contradict each other"
    (shown,) = summaries(dataset).values()
    assert "contradicts itself" in shown


def test_two_local_zones_are_recognised_and_read_right(tmp_path: Path) -> None:
    files = logs("2.2.9/D-relay-client")
    local = files | {"gateway.log": moved(files["gateway.log"], timedelta(hours=1))}
    (shown,) = summaries(rebuilt_from(local, tmp_path / "a")).values()
    assert "clocks   differ by 1 h, the gateway's is ahead: probably local times of another zone;" in shown
    assert "use --timezone gateway.log=ZONE\n" in shown
    right = rebuilt_from(local, tmp_path / "b", zones=[("gateway.log", "Europe/Berlin")])
    plain = rebuilt_from(files, tmp_path / "c")
    for name in ("conversations", "clock_offsets", "ice_stats", "candidates"):
        assert right.tables[name].collect().equals(plain.tables[name].collect()), name


NO_EPOCH: dict[str, Any] = {"client_ahead_ms": None, "gateway_ahead_ms": None}
HOUR = 3_600_000.0


def told(low: float | None, high: float | None, **more: Any) -> list[str]:
    places = {
        "high_sent_origin": "client.log:1", "high_received_origin": "gateway.log:2",
        "low_sent_origin": "gateway.log:3", "low_received_origin": "client.log:4",
    }  # fmt: skip
    row = {"low_ms": low, "high_ms": high, "evidence": 2, "refused_reason": None, **NO_EPOCH, **places, **more}
    return clocks.sentences([row])


def test_the_offset_in_words() -> None:
    assert told(-20, 30) == ["no offset known: the gateway's is at most 20 ms behind and 30 ms ahead"]
    assert told(3671, 3729) == ["differ: the gateway's is 3,671 ms to 3,729 ms ahead of the client's"]
    assert told(-3729, -3671) == ["differ: the gateway's is 3,671 ms to 3,729 ms behind the client's"]
    assert told(59_900, 60_100) == ["differ: the gateway's is 60 s ahead of the client's, give or take 100 ms"]
    assert told(None, 30) == ["the gateway's is at most 30 ms ahead; how far behind is not told"]
    assert told(-20, None) == ["the gateway's is at most 20 ms behind; how far ahead is not told"]
    assert told(40, None) == ["the gateway's is at least 40 ms ahead of the client's; how far ahead is not told"]
    assert clocks.sentences([]) == []
    # all pairs of tubes are of the same two clocks
    pair = {"evidence": 2, "refused_reason": None, **NO_EPOCH}
    both = [{**pair, "low_ms": -20, "high_ms": 100}, {**pair, "low_ms": -80, "high_ms": 30}]
    assert clocks.combined(both) == clocks.Offset(-20, 30, contrary=False)
    assert clocks.combined([both[0], {**pair, "low_ms": 200, "high_ms": 300}]) == clocks.Offset(
        None, None, contrary=True
    )


def test_another_zone_in_words() -> None:
    either = "use --timezone client.log=ZONE or --timezone gateway.log=ZONE"
    head = "differ by 5 h 45 min, the gateway's is behind"
    assert told(-5.75 * HOUR - 30, -5.75 * HOUR + 30) == [f"{head}: probably local times of another zone;", either]
    known = {"client_ahead_ms": 2.0, "gateway_ahead_ms": -5.75 * HOUR + 2}
    assert told(-5.75 * HOUR - 30, -5.75 * HOUR + 30, **known)[1] == "use --timezone gateway.log=ZONE"
    known = {"client_ahead_ms": 5.75 * HOUR, "gateway_ahead_ms": 2.0}
    assert told(-5.75 * HOUR - 30, -5.75 * HOUR + 30, **known)[1] == "use --timezone client.log=ZONE"
    known = {"client_ahead_ms": 2.0, "gateway_ahead_ms": 2.0}
    assert told(-5.75 * HOUR - 30, -5.75 * HOUR + 30, **known) == [
        f"{head}; the epoch times in the lines say so, too: no time zone"
    ]
    # an interval that holds zero, or no multiple of 15 minutes, is no time zone
    assert "zone" not in "".join(told(-HOUR, HOUR) + told(0.9 * HOUR, 0.95 * HOUR))
