"""TURN attempts: what was asked of whom and what came of it, in real logs and in cases no capture shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.pipeline import ingest
from tests import truth
from tests.datasets import CAPTURED
from tests.truth import Capture

Rebuild = Callable[[Path], Capture]
CASES = CAPTURED.parent / "cases" / "turn_attempts"
FOLDERS = truth.folders()


def listed(tables: dict[str, pl.DataFrame], side: str) -> list[dict[str, Any]]:
    return tables["turn_attempts"].filter(pl.col("side") == side).to_dicts()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_ice_stats_count_what_is_listed(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    key = ["conversation_id", "tube_id"]
    counted = tables["turn_attempts"].filter("counted").group_by(key).agg(
        attempts=pl.len(), granted=(pl.col("outcome") == "granted").sum()
    )  # fmt: skip
    rows = tables["ice_stats"].join(counted, on=key, how="left")
    assert rows["turn_allocations_attempted"].to_list() == rows["attempts"].to_list()
    rate = (rows["granted"] / rows["attempts"]).to_list()
    assert rows["turn_allocation_success_rate"].to_list() == rate
    # of attempts that came to something the relay candidates are the grants
    allocations = tables["turn_attempts"].filter(pl.col("method").is_in(["gathering_relay", "turn_transaction"]))
    relays = tables["candidates"].filter(pl.col("direction") == "local", pl.col("candidate_type") == "relay")
    assert len(allocations) == len(relays)


@pytest.mark.parametrize("release", ["1.0.0", "2.2.9"])
def test_a_wrong_password_is_refused_with_its_code(release: str, rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / release / "E-bad-turn-password").tables
    (refused,) = listed(tables, "client")
    expected = {
        "step": "allocation",
        "server": "krelay.test:3478",
        "transport": "udp",
        "outcome": "refused",
        "error_code": 401,
        "reason": "Unauthenticated",
        "method": "allocation_error",
    }
    assert {key: refused[key] for key in expected} == expected
    # two round trips of 40 ms; the log of 2.2.9 has no times
    assert refused["duration_ms"] is None if release == "2.2.9" else 80 <= refused["duration_ms"] <= 95
    assert [row["outcome"] for row in listed(tables, "gateway")] == ["granted"]


def test_a_relay_that_does_not_answer_is_told_from_one_that_refuses(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / "2.2.9" / "F-relay-unreachable").tables
    for side in ("client", "gateway"):
        (row,) = listed(tables, side)
        assert (row["outcome"], row["error_code"], row["server"]) == ("timed_out", None, "krelay-down.test:3478")
        assert row["duration_ms"] == pytest.approx(7800, abs=20)


def test_credentials_count_only_where_no_allocation_was_tried(rebuilt: Rebuild) -> None:
    down = rebuilt(CAPTURED / "2.2.9" / "M3-router-down").tables
    rows = listed(down, "gateway")
    assert [(row["step"], row["outcome"], row["counted"]) for row in rows] == [("credentials", "refused", True)] * 2
    good = rebuilt(CAPTURED / "2.2.9" / "M-router-credentials-std").tables
    told = {(row["step"], row["outcome"], row["counted"]) for row in listed(good, "gateway")}
    assert told == {("credentials", "granted", False), ("allocation", "granted", True)}


def test_the_crate_times_the_allocation_itself(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / "2.2.9" / "N-deps-debug").tables
    assert [row["method"] for row in tables["turn_attempts"].to_dicts()] == ["turn_transaction"] * 2


@pytest.mark.parametrize(
    ("case", "outcome", "code", "method"),
    [
        ("unresolved", "unresolved", None, "resolution_error"),
        ("fallback", "refused", 401, "allocation_error"),
        ("silent", "timed_out", None, "allocation_error"),
        ("muted", "timed_out", None, "gathering_end"),
    ],
)
def test_a_failed_attempt_beside_a_good_connection(
    case: str, outcome: str, code: int | None, method: str, tmp_path: Path
) -> None:
    ingest([str(CASES / f"{case}.log")], tmp_path)
    (row,) = pl.read_parquet(tmp_path / "turn_attempts").to_dicts()
    assert (row["outcome"], row["error_code"], row["method"]) == (outcome, code, method)
    assert row["server"].endswith("test:3478")
    assert row["counted"]
    (stats,) = pl.read_parquet(tmp_path / "ice_stats").to_dicts()
    assert (stats["turn_allocations_attempted"], stats["turn_allocation_success_rate"]) == (1, 0.0)
    assert pl.read_parquet(tmp_path / "conversations")["connected"].to_list() == [True]


def test_nothing_tried_is_no_row_and_no_rate(rebuilt: Rebuild) -> None:
    tables = rebuilt(CAPTURED / "2.2.9" / "B-host-nontrickle").tables
    assert tables["turn_attempts"].is_empty()
    assert tables["ice_stats"]["turn_allocation_success_rate"].to_list() == [None, None]
