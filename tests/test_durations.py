"""Durations that are shown are rows of leg_measurements, so that each can be walked back to its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from analyzer.catalogue import TABLES
from analyzer.reductions.leg_names import DURATIONS, LEGS
from analyzer.reductions.reported import REPORTED
from tests import truth
from tests.oracle.durations import SHOWN
from tests.test_captures import every_capture
from tests.truth import Capture

Rebuild = Callable[[Path], Capture]
METHOD_OF = {
    "turn_allocation": "turn_allocation_method",
    "gathering": "gathering_complete_method",
    "ice_connection_establishment": "connection_time_method",
}


def test_each_duration_is_known_to_the_oracle() -> None:
    assert SHOWN.keys() == DURATIONS.keys()


@every_capture
def test_what_is_shown_is_the_chosen_row(folder: Path, rebuilt: Rebuild) -> None:
    found = rebuilt(folder).tables
    rows = found["leg_measurements"]
    assert set(rows["leg"].drop_nulls()) <= {*LEGS, *DURATIONS}
    for mark, key, table in (
        ("chosen_for_tube", ["conversation_id", "tube_id"], "ice_stats"),
        ("chosen", ["conversation_id"], "connection_legs"),
    ):
        for leg, columns in SHOWN.items():
            column = columns[table == "connection_legs"]
            if column is None:
                continue
            method = METHOD_OF.get(leg) if table == "ice_stats" else f"{column.removesuffix('_ms')}_method"
            picked = rows.filter(mark, pl.col("leg") == leg).select(*key, "value_ms", "method", "refused_reason")
            assert picked["refused_reason"].null_count() == len(picked) == picked.select(key).n_unique()
            shown = found[table].drop_nulls(column).join(picked, on=key, how="full", coalesce=True)
            assert shown[column].equals(shown["value_ms"].alias(column)), column
            assert method is None or shown[method].equals(
                shown["method_right"] if "method_right" in shown else shown["method"].alias(method)
            )


@every_capture
def test_the_round_trip_of_the_pair_is_the_tubes_row(folder: Path, rebuilt: Rebuild) -> None:
    found = rebuilt(folder).tables
    picked = found["leg_measurements"].filter("chosen_for_tube", pl.col("leg") == "end_to_end")
    key = ["conversation_id", "tube_id"]
    shown = found["ice_stats"].drop_nulls("current_rtt_ms").join(picked, on=key, how="full", coalesce=True)
    assert shown["current_rtt_ms"].equals(shown["value_ms"].alias("current_rtt_ms"))


@every_capture
def test_each_row_ends_where_its_origin_stands(folder: Path, rebuilt: Rebuild) -> None:
    found = rebuilt(folder).tables
    rows = found["leg_measurements"].filter(pl.col("leg").is_in(list(DURATIONS)))
    assert rows["origin"].null_count() == 0
    told = rows.join(found["events"].select("origin", told="ts"), on="origin", how="left")
    assert len(told) == len(rows)
    assert told.filter(pl.col("ts").ne_missing(pl.col("told"))).is_empty()


def test_a_response_and_an_allocation_take_as_long_as_the_way(rebuilt: Rebuild) -> None:
    """One round trip to the relay and two, as they are pinged: without what the library does itself."""
    errors: dict[str, list[float]] = {"stun_response": [], "turn_allocation": []}
    for folder in truth.folders():
        capture = rebuilt(folder)
        pings = truth.pings(capture.truth)
        for row in capture.tables["leg_measurements"].filter("chosen_for_tube").to_dicts():
            ping = pings.get({"client": "client_to_krelay", "gateway": "krelay_to_gateway"}.get(row["side"], ""))
            if row["leg"] in errors and row["method"] != "credential_fetch" and ping:
                errors[row["leg"]].append(row["value_ms"] - (ping if row["leg"] == "stun_response" else 2 * ping))
    for leg, found in errors.items():
        middle = pl.Series(found)
        assert len(found) >= 30, leg
        assert abs(float(middle.median() or 0)) <= 2, leg  # type: ignore[arg-type] # a series of floats has one
        assert float(middle.abs().quantile(0.9) or 0) <= 15, leg


def test_a_fetch_stands_for_an_allocation_only_where_none_is_told(rebuilt: Rebuild) -> None:
    found = rebuilt(truth.ROOT / "fixtures/captured/2.2.9/M-router-credentials-std").tables
    instead = found["leg_measurements"].filter(
        pl.col("leg") == "turn_allocation", pl.col("method") == "credential_fetch"
    )
    assert not instead.is_empty()
    assert set(instead["refused_reason"]) == {"an allocation is told"}


@pytest.mark.parametrize("table", ["candidates", "reported"])
def test_lines_of_one_moment_stand_in_their_order(table: str, rebuilt: Rebuild) -> None:
    moment = [name for name in TABLES[table].sort if name not in ("origin", "priority", "port")]
    line, source = pl.col("origin").str.extract(":([0-9]+)$").cast(pl.Int64), pl.col("origin").str.extract("^(.*):")
    told = 0
    for folder in truth.folders():
        steps = rebuilt(folder).tables[table].select(step=line.diff().over(*moment, source))["step"].drop_nulls()
        assert (steps >= 0).all(), folder
        told += len(steps)
    assert told


def test_a_line_counts_as_a_number() -> None:
    rows = pl.DataFrame({"conversation_id": ["a", "a", "a"], "origin": ["a.log:10", "b.log:1", "a.log:9"]})
    assert REPORTED.conform(rows)["origin"].to_list() == ["a.log:9", "a.log:10", "b.log:1"]
