"""What the library reported beside what its lines prove: every verdict, true examples, and nothing blamed unproven."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import analyzer
from analyzer.catalogue import TABLES
from analyzer.cli import app
from analyzer.pipeline import ingest
from analyzer.reductions.reported import REPORTED_FIELDS
from analyzer.views import drift, text
from tests.datasets import ACTS, CAPTURED, built, seed_dataset

FIELDS = {field.name: field for field in drift.FIELDS}
PAIR = "ice_stats.selected_candidate_pair"
RTT, LOCAL, REMOTE = f"{PAIR}.current_rtt_ms", f"{PAIR}.local_candidate_type", f"{PAIR}.remote_candidate_type"
FIRST, TOTAL = "ice_stats.first_candidate_time_ms", "ice_stats.total_candidates"
ESTABLISHED, END_TO_END = "connection_legs.ice_connection_establishment_ms", "connection_legs.end_to_end_latency_ms"


def made(
    reported: Sequence[tuple[str, str | None, str, str]],
    ice: Sequence[dict[str, Any]] = (),
    legs: Sequence[dict[str, Any]] = (),
) -> analyzer.Dataset:
    """Make a dataset of rows (conversation, tube, field, value), of ice_stats and of connection_legs."""
    schema = ["conversation_id", "tube_id", "field", "value"]
    said = pl.DataFrame(reported, schema=dict.fromkeys(schema, pl.String), orient="row")
    said = said.with_row_index("at").select(*schema, origin=pl.format("a.log:{}", pl.col("at") + 1))
    frames = {
        "reported": said,
        "ice_stats": pl.DataFrame(ice),
        "connection_legs": pl.DataFrame(legs),
        "conversations": pl.DataFrame({"conversation_id": ["c"]}),
        "sources": pl.DataFrame({"name": ["a.log"], "producer_version_hint": [">=2.1.22"]}),
    }
    return analyzer.Dataset(
        Path("metrics"), 1, {name: TABLES[name].conform(one).lazy() for name, one in frames.items()}
    )


def found(dataset: analyzer.Dataset, name: str) -> dict[str, Any]:
    values = drift.gather(dataset)
    (row,) = [row for row in (*values["fields"], *values["never_reported"]) if row["field"] == name]
    return dict(row)


def tube(**columns: Any) -> dict[str, Any]:
    return {"conversation_id": "c", "tube_id": "t", "side": "client", "generations": 1, **columns}


# -- verdicts ---------------------------------------------------------------------------------------------------------

RTT_OF_100 = {"current_rtt_ms": 100.0, "current_rtt_method": "dtls_handshake"}
RTT_OF_2 = {"current_rtt_ms": 2.0, "current_rtt_method": "dtls_handshake"}
RELAY = {"selected_pair_local_type": "relay", "selected_pair_method": "candidates"}


@pytest.mark.parametrize(
    ("name", "value", "columns", "verdict"),
    [
        (RTT, "105.0", RTT_OF_100, "agrees"),
        (RTT, "105.1", RTT_OF_100, "differs"),
        (RTT, "3.0", RTT_OF_2, "agrees"),
        (RTT, "3.1", RTT_OF_2, "differs"),
        (RTT, "0.0", RTT_OF_100, "zero"),
        (RTT, "0.0", {**RTT_OF_100, "current_rtt_ms": 0.4}, "zero"),
        (RTT, "0.0", {**RTT_OF_100, "current_rtt_ms": 0.0}, "agrees"),
        (RTT, "0.0", {}, "neither"),
        (RTT, "87.3", {}, "open"),
        (RTT, "87.3", {"current_rtt_ms": 87.3, "current_rtt_method": "reported"}, "open"),
        (RTT, "300.0", {**RTT_OF_100, "generations": 2}, "open"),
        (LOCAL, "relay", RELAY, "agrees"),
        (LOCAL, "host", RELAY, "differs"),
        (LOCAL, "", RELAY, "zero"),
        (LOCAL, "host", {}, "open"),
        (LOCAL, "relay", {**RELAY, "selected_pair_method": "reported"}, "open"),
        (TOTAL, "4", {"total_candidates": 4}, "agrees"),
        (TOTAL, "5", {"total_candidates": 4}, "differs"),
        (TOTAL, "0", {"total_candidates": 4}, "zero"),
        (TOTAL, "0", {"total_candidates": 0}, "agrees"),
        (FIRST, "1795353575275.0", {"first_candidate_time_ms": 85.0}, "clock"),
        (FIRST, "85.0", {"first_candidate_time_ms": 85.0}, "clock"),
        (ESTABLISHED, "-1795353575180.0", {"connection_time_ms": 2152.0}, "clock"),
        (ESTABLISHED, "87.0", {"connection_time_ms": 2152.0}, "differs"),
    ],
)
def test_verdicts(name: str, value: str, columns: dict[str, Any], verdict: str) -> None:
    row = found(made([("c", "t", name, value)], [tube(**columns)]), name)
    assert {one: row[one] for one in drift.VERDICTS if row[one]} == {verdict: 1}
    assert row["said"] == 1
    assert [one["verdict"] for one in row["examples"]] == [verdict] * (verdict in drift.FAULTS)
    assert all((one["origin"], one["release"]) == ("a.log:1", ">=2.1.22") for one in row["examples"])


def test_what_is_proven_and_not_printed_is_silence() -> None:
    tubes = [tube(**RTT_OF_100), tube(tube_id="u", **RTT_OF_100), tube(tube_id="v")]
    row = found(made([("c", "t", RTT, "0.0")], tubes), RTT)
    assert (row["said"], row["zero"], row["silent"]) == (1, 1, 1)
    silent = row["examples"][-1]
    assert (silent["tube_id"], silent["reported"], silent["rebuilt"], silent["origin"]) == ("u", None, 100.0, None)


def test_a_line_of_some_tube_makes_none_silent() -> None:
    row = found(made([("c", None, RTT, "50.0")], [tube(**RTT_OF_100)]), RTT)
    assert (row["open"], row["silent"]) == (1, 0)


def test_a_leg_belongs_to_the_conversation() -> None:
    legs = [{"conversation_id": "c", "end_to_end_latency_ms": 118.0, "end_to_end_method": "dtls_handshake"}]
    assert found(made([("c", "t", END_TO_END, "60.0")], [tube()], legs), END_TO_END)["differs"] == 1
    assert found(made([], [tube()], legs), END_TO_END)["silent"] == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1795353575275.0", "an epoch time, not a duration"),
        ("-1795353575180.0", "an epoch time was subtracted: no duration"),
        ("21.0", "a reading of a clock, not a duration"),
    ],
)
def test_a_clock_is_told_as_such(value: str, said: str) -> None:
    assert drift.note("clock", value) == said
    assert drift.note("differs", value) is None


def test_the_most_often_wrong_comes_first_and_the_example_is_the_middle_one() -> None:
    tubes = [tube(tube_id=name, total_candidates=4, **RTT_OF_100) for name in "tuv"]
    said = [("c", name, RTT, value) for name, value in zip("tuv", ("900.0", "130.0", "200.0"), strict=True)]
    values = drift.gather(made([("c", "t", TOTAL, "3"), ("c", "u", LOCAL, "host"), *said], tubes))
    assert [row["field"] for row in values["fields"]] == [RTT, TOTAL, LOCAL]
    assert values["fields"][0]["examples"][0]["reported"] == "200.0"


# -- the declaration --------------------------------------------------------------------------------------------------


def test_every_field_the_library_reports_is_held_against_a_column() -> None:
    assert {name for name, _, _ in REPORTED_FIELDS} <= set(FIELDS)
    assert len(FIELDS) == len(drift.FIELDS)
    for field in drift.FIELDS:
        assert field.column in field.table.schema


def test_the_method_of_a_value_is_found_by_its_name() -> None:
    assert {field.column: field.method for field in drift.FIELDS if field.table.name == "ice_stats"} == {
        "total_candidates": None,
        "host_candidates": None,
        "srflx_candidates": None,
        "relay_candidates": None,
        "first_candidate_time_ms": None,
        "gathering_complete_time_ms": "gathering_complete_method",
        "stun_response_times": "stun_response_method",
        "turn_allocation_success_rate": "turn_allocation_success_method",
        "turn_allocation_time_ms": "turn_allocation_method",
        "selected_pair_local_type": "selected_pair_method",
        "selected_pair_remote_type": "selected_pair_method",
        "current_rtt_ms": "current_rtt_method",
        "total_rtt_measurements": None,
        "connection_time_ms": "connection_time_method",
        "pair_bytes_sent": None,
        "pair_bytes_received": None,
        "transport_protocol": None,
    }
    assert all(field.method for field in drift.FIELDS if field.table.name == "connection_legs")


# -- real logs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("2.2.9/D-relay-client", tmp_path_factory.mktemp("drift") / "metrics")


def test_a_relayed_session_is_reported_as_host_and_without_a_round_trip(relayed: Path) -> None:
    dataset = analyzer.open(relayed)
    rtt, local, remote = (found(dataset, name) for name in (RTT, LOCAL, REMOTE))
    assert (rtt["said"], rtt["zero"], found(dataset, "rtc_stats.rtt_ms")["zero"]) == (2, 2, 2)
    # relay on the client's end of the pair, host on the gateway's: each side names one of the two rightly
    for row in (local, remote):
        assert Counter({one: row[one] for one in drift.VERDICTS}) == Counter(agrees=1, differs=1)
        assert [(one["reported"], one["rebuilt"]) for one in row["examples"]] == [("host", "relay")]
    assert local["examples"][0]["side"] == "client"
    assert found(dataset, FIRST)["clock"] == found(dataset, FIRST)["said"] > 0
    assert {one["verdict"] for one in found(dataset, ESTABLISHED)["examples"]} == {"clock", "differs"}
    assert found(dataset, TOTAL)["agrees"] == 2
    assert found(dataset, "connection_legs.client_to_krelay_latency_ms")["said"] == 0


def test_an_example_leads_to_its_line(relayed: Path) -> None:
    (example,) = found(analyzer.open(relayed), LOCAL)["examples"]
    name, line = example["origin"].rsplit(":", 1)
    lines = (CAPTURED / "2.2.9" / "D-relay-client" / Path(name).name).read_text().splitlines()
    assert "Updated selected candidate pair stats" in lines[int(line) - 1]
    assert "local: host" in lines[int(line) - 1]


def test_the_drawing_has_every_field_and_fits(relayed: Path) -> None:
    drawn = drift.render(drift.gather(analyzer.open(relayed)), "metrics")
    assert all(field.name in drawn for field in drift.FIELDS)
    assert "an epoch time, not a duration" in drawn
    assert "never reported" in drawn
    assert max(map(text.width, drawn.splitlines())) <= 120


def test_what_no_line_names_is_told_to_be_made_of_another(relayed: Path) -> None:
    dataset = analyzer.open(relayed)
    values = drift.gather(dataset)
    (row,) = [row for row in values["fields"] if row["field"] == ESTABLISHED]
    assert "the library sets it to the `duration` of its line `ICE gathering completed`" in row["derived"]
    assert [one["field"] for one in values["fields"] if one["derived"]] == [ESTABLISHED]
    assert "the library sets it to the `duration`" in drift.render(values, "metrics")
    # it is made of what these lines say, and of nothing else
    assert [kind for name, kind, _ in REPORTED_FIELDS if name == ESTABLISHED] == ["gathering_completed_reported"]


def test_json_says_what_the_view_gathers(relayed: Path) -> None:
    done = CliRunner().invoke(app, ["drift", "--data", str(relayed), "--json"])
    assert done.exit_code == 0
    values = drift.gather(analyzer.open(relayed))
    assert json.loads(done.output) == json.loads(text.as_json(values))
    assert {row["field"] for row in (*values["fields"], *values["never_reported"])} == set(FIELDS)
    for row in values["fields"]:
        assert row["said"] == sum(row[one] for one in drift.VERDICTS if one != "silent")


def test_the_seeds_own_numbers_prove_nothing_of_themselves(tmp_path: Path) -> None:
    dataset = analyzer.open(seed_dataset(tmp_path))
    for name in (RTT, LOCAL, REMOTE):
        assert (found(dataset, name)["said"], found(dataset, name)["open"]) == (1, 1)


def test_an_empty_dataset_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("hello\n")
    ingest([str(tmp_path / "other.log")], tmp_path / "metrics")
    values = drift.gather(analyzer.open(tmp_path / "metrics"))
    assert values["fields"] == []
    assert {row["field"] for row in values["never_reported"]} == set(FIELDS)
    assert drift.render(values, "metrics").startswith("No conversation in metrics.")


def test_nothing_of_a_log_reaches_the_terminal_uncoded() -> None:
    evil = "\x1b[31m\u202e"
    dataset = made([(evil, evil, LOCAL, evil)], [{**tube(**RELAY), "conversation_id": evil, "tube_id": evil}])
    drawn = drift.render(drift.gather(dataset), evil)
    assert "\\x1b[31m" in drawn
    assert not ACTS.search(drawn)
