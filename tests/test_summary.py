"""A conversation as a person reads it: true to what happened, in every capture."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.pipeline import ingest
from analyzer.reductions.leg_measurements import ESTIMATORS
from analyzer.reductions.leg_names import METHODS
from analyzer.views import conversation, conversations, ending, rounds, summary, text, timeline
from tests.datasets import ACTS, CAPTURED, built, seed_dataset, summaries

SET_UP = ("setup_phases", "candidate_pairs", "turn_attempts")
CAPTURES = sorted(f"{path.parent.name}/{path.name}" for path in CAPTURED.glob("[0-9]*/*") if list(path.glob("*.log*")))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, analyzer.Dataset]:
    folder = tmp_path_factory.mktemp("views")
    found = {name: analyzer.open(built(name, folder / name.replace("/", "-"))) for name in CAPTURES}
    return {**found, "seed": analyzer.open(seed_dataset(folder))}


def only(dataset: analyzer.Dataset) -> str:
    (shown,) = summaries(dataset).values()
    return shown


def test_every_method_is_explained(datasets: dict[str, analyzer.Dataset]) -> None:
    names = {estimator.method for estimator in ESTIMATORS} | {"reported", "sum", "difference", "backend_connect"}
    for dataset in datasets.values():
        names |= set(dataset.leg_measurements.collect()["method"])
    assert names <= set(METHODS)


@pytest.mark.parametrize("name", [*CAPTURES, "seed"])
def test_every_capture_renders_within_the_width(datasets: dict[str, analyzer.Dataset], name: str) -> None:
    dataset = datasets[name]
    views = {**summaries(dataset), "": conversations.render(conversations.gather(dataset), "metrics")}
    for conversation_id, view in views.items():
        assert conversation_id in view
        assert not ACTS.search(view)
        assert "None" not in view
        assert "nan" not in view
        wide = text.WIDTH if conversation_id else text.WIDTH + 14  # a list of UUIDs is wider
        assert max(map(text.width, view.split("\n"))) <= wide


@pytest.mark.parametrize("name", [*CAPTURES, "seed"])
def test_every_capture_goes_through_json(datasets: dict[str, analyzer.Dataset], name: str) -> None:
    for conversation_id in datasets[name].conversations.collect()["conversation_id"]:
        values = json.loads(text.as_json(conversation.as_values(conversation.gather(datasets[name], conversation_id))))
        assert list(values) == [
            "conversations",
            "ice_stats",
            "connection_legs",
            "leg_measurements",
            "relay_sessions",
            "channels",
            *SET_UP,
            "links",
            "generations",
            "clock_offsets",
            "timeline",
        ]
        assert values["conversations"][0]["conversation_id"] == conversation_id


def test_a_relayed_conversation_reads_so(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/D-relay-client"])
    for expected in (
        r"Conversation udIgwgvvf34aeiUaflxmEQ",
        r"outcome +connected, then closed, close reason Normal",
        r"when +2026-11-22 13:19:35\.264 UTC, for 19\.9 s",
        r"path +relay->host, through KRelay",
        r"client ── 4\d(\.\d)? ms ── KRelay ── 7\d(\.\d)? ms ── gateway",
        r"client ─+ 11\d(\.\d)? ms ─+ gateway   end to end",
        r"relay_candidates +1 +1",
        r"turn_allocation_success_rate +100% of 1 .*100% of 1",
        r"selected pair, local->remote +relay->host .* host->relay",
        r"stun_response_times +— +71\.8 ms  host_to_srflx",
        r"Set-up, from 2026-11-22 13:19:35\.277 UTC",
        r"gathering started +0 ms +78 ms",
        r"ICE connected +2,298 ms +2,233 ms",
        r"data channel open +2,762 ms +2,828 ms",
    ):
        assert re.search(expected, shown), expected


def test_a_direct_path_is_told_from_a_relayed_one(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/C-srflx-nat"])
    assert "direct, not through KRelay" in shown
    assert re.search(r"client ┄┄ .* ms ┄┄ KRelay ┄┄ .* ms ┄┄ gateway", shown)


def test_the_way_beyond_the_gateway_is_drawn_where_it_is_known(
    datasets: dict[str, analyzer.Dataset], tmp_path: Path
) -> None:
    log = CAPTURED.parent / "cases" / "backend_connect" / "gateway.log"
    ingest([str(log)], tmp_path)
    shown = summaries(analyzer.open(tmp_path))
    assert re.search(r"KRelay ── \S+ ms ── gateway ── 2 ms ── target\n", shown["kVU9sHgBX0OqXdo-G5nnAw"])
    assert "backend_connect  TCP connect, as the gateway printed it" in shown["kVU9sHgBX0OqXdo-G5nnAw"]
    refused = "gateway_to_target: 0 ms by backend_connect is not taken: less than 1 ms, the least that is printed"
    for view in (shown["ZBc7AFrWmuh4foX2gh4_BQ"], only(datasets["2.2.9/C-srflx-nat"])):
        assert refused in view
        assert "── target" not in view
    assert "gateway_to" not in only(datasets["2.2.9/D-relay-client"])


def test_logs_without_times_say_so_and_give_the_order(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/E-bad-turn-password"])
    assert "closed before it ever connected" in shown
    assert "its logs have no times" in shown
    assert re.search(r"client\.log\S* has no times \(commander\): nothing in it can be timed", shown)
    assert re.search(r"gathering started +line \d+ +line \d+", shown)
    assert re.search(r"turn_allocation_success_rate +0% of 1", shown)


def test_whole_seconds_are_not_given_digits(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/A-host-trickle-service-format"])
    assert "has whole seconds (commander_service): too coarse for a round trip" in shown
    assert re.search(r"ICE connected +1 s +1 s", shown)


def test_the_set_up_is_drawn_where_its_times_are_fine(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/D-relay-client"])
    assert re.search(r"client: 2,775 ms\n +preparation +0 ms\n +description +13 ms\n +gathering +90 ms +█", shown)
    assert re.search(r"checks +2,153 ms +▒{30,}█+\n +dtls +236 ms +█+\n +sctp\+data_channel +228 ms +█+", shown)
    assert "checks: 2,000 ms of it are the agent's wait before it nominates" in shown
    held = only(datasets["1.0.0/D-relay-client"])
    assert re.search(r"checks +5,951 ms +░{30,}", held)
    assert "checks: held back, told late by the library" in held
    coarse = only(datasets["2.2.9/A-host-trickle-service-format"])
    assert re.search(r"checks +1 s ± 1\n", coarse)
    assert not re.search("[█▒░]", coarse)
    assert text.spelled("checks ▒█ 1 s ± 1", "ascii") == "checks =# 1 s +- 1"


def test_a_set_up_that_died_says_where(datasets: dict[str, analyzer.Dataset]) -> None:
    for release in ("1.0.0", "2.2.9"):
        shown = only(datasets[f"{release}/E-bad-turn-password"])
        assert len(re.findall(r"checks +died here", shown)) == 2
        assert re.search(r"TURN, in vain\n +client +krelay\.test:3478 +refused, 401 Unauthenticated", shown)
        assert re.search(r"client +no pair: no local candidate was gathered", shown)


def test_the_nearest_pairs_are_named_with_their_reason(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/D-relay-client"])
    assert re.search(r"client +selected, candidates +relay 10\.77\.2\.2:49413 -> host 10\.77\.3\.2:35992\n", shown)
    assert re.search(r"\n +lower priority +relay \S+ -> srflx \S+\n", shown)


def test_an_outage_is_in_the_timeline(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["2.2.9/G-ice-restart"])
    assert re.search(r"ICE disconnected +48\.1 s +48\.1 s", shown)
    assert re.search(r"ICE connected again +60\.4 s +60\.4 s", shown)


def test_a_reused_conversation_is_shown_round_by_round(datasets: dict[str, analyzer.Dataset]) -> None:
    one = conversation.gather(datasets["2.2.9/O-conversation-reused"], "odagVWGUPBlRSN4mpNE8_A")
    found = rounds.rounds(one)
    assert [[tube["side"] for tube in tubes] for tubes in found] == [["client", "gateway"]] * 3
    starts = [one.milestones[tubes[0]["tube_id"]][0].ts for tubes in found]
    assert all(starts)
    assert starts == sorted(starts, key=str)
    assert "Round 3 of 3: set up anew" in summary.render(one)


def test_of_very_many_rounds_the_first_and_the_last_are_shown(
    datasets: dict[str, analyzer.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "ROUNDS_SHOWN", 0)
    shown = only(datasets["2.2.9/O-conversation-reused"])
    assert "Rounds 1 to 3 are in --json" in shown
    assert "Round 3 of 3" not in shown
    # to leave one out saves nothing
    monkeypatch.setattr(summary, "ROUNDS_SHOWN", 1)
    assert "Round 2 of 3" in only(datasets["2.2.9/O-conversation-reused"])


def test_of_very_many_restarts_the_first_and_the_last_are_shown(
    datasets: dict[str, analyzer.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ATTEMPTS_SHOWN", 0)
    assert re.search(r"client +3 more *\n +gateway +3 more *\n", only(datasets["2.2.9/G-ice-restart"]))
    # to leave one out saves nothing
    monkeypatch.setattr(ending, "ATTEMPTS_SHOWN", 1)
    assert re.search(r"gateway +1 .*\n +gateway +2 .*\n +gateway +3 ", only(datasets["2.2.9/G-ice-restart"]))


def test_of_very_many_tubes_those_that_looked_for_a_path_again_are_shown(datasets: dict[str, analyzer.Dataset]) -> None:
    one = conversation.gather(datasets["2.2.9/G-ice-restart"], "Zq1nG")
    idle = [{**one.generations[0], "tube_id": f"idle-{number}"} for number in range(ending.SHOWN)]
    shown = "\n".join(ending.render(one.row["outcome"], one.links, [*idle, *one.generations], one.causes, text.plain))
    assert re.search(r"client +3 .* path_returned", shown)
    assert "more tube" not in shown.partition("ICE restarts")[2]


def test_a_shared_tube_names_who_shares_it(datasets: dict[str, analyzer.Dataset]) -> None:
    for shown in summaries(datasets["2.2.9/I-conversations-on-one-tube"]).values():
        assert "those of a tube it shares with" in shown


def test_seed_sample_keeps_its_legs_open(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["seed"])
    assert "client ── ? ── KRelay ── ? ── gateway" in shown
    assert re.search(r"─ 87\.3 ms ─+ gateway   end to end\n +reported", shown)
    assert re.search(r"turn_allocation_time_ms +45\.2 ms  credential_fetch", shown)
    assert re.search(r"gathering_complete_time_ms +312\.7 ms  reported", shown)


def _row(kind: str, second: float, **more: Any) -> dict[str, Any]:
    ts = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    return {
        "kind": kind,
        "ts": ts,
        "source": "a.log",
        "line": int(second * 10),
        "tube_id": "t",
        "state": None,
        "delay_ms": None,
        "label": None,
        **more,
    }


def test_milestones_count_changes_once_and_find_the_own_channel() -> None:
    rows = [
        _row("gathering_started", 0),
        _row("channel_opened", 1, label="other"),
        _row("channel_opened", 2, label="mine", tube_id=None),
        _row("ice_state_changed", 3, state="Connected"),
        _row("ice_state_changed", 3, state="Connected"),
        _row("ice_state_changed", 4, state="Disconnected"),
        _row("ice_state_changed", 5, state="Connected"),
        _row("ice_state_changed", 6, state="Disconnected"),
        _row("channel_opened", 1, label="mine", tube_id=None, source="b.log"),
    ]
    found = {step.name: step for step in timeline.milestones(rows, "mine", "t")}
    assert found["data channel open"].line == 20
    assert found["ICE disconnected"].count == 2
    assert found["ICE connected again"].line == 50
    assert found["ICE connected again"].count == 1


def test_states_told_after_held_back_callbacks_are_marked(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = only(datasets["1.0.0/D-relay-client"])
    assert re.search(r"ICE checking +\* 6,089 ms +77 ms", shown)
    assert re.search(r"ICE connected +\* 6,090 ms +\* 6,224 ms", shown)
    # DTLS begins when the states are let go
    assert re.search(r"peer connected +6,318 ms +6,373 ms", shown)
    assert "* the library held its callbacks back: told late, not when it happened" in shown
    assert "held its callbacks back: told late" not in only(datasets["2.2.9/D-relay-client"])


def test_no_state_is_held_back_before_or_after_the_span() -> None:
    rows = [
        _row("ice_state_changed", 0.9, state="Checking"),
        _row("gathering_held_back", 1, delay_ms=2000.0),
        _row("ice_state_changed", 3.01, state="Connected"),
        _row("peer_state_changed", 3.2, state="Connected"),
    ]
    found = {step.name: step.held_back for step in timeline.milestones(rows, "mine", "t")}
    assert found == {"ICE checking": False, "ICE connected": True, "peer connected": False}


def _apart(datasets: dict[str, analyzer.Dataset], name: str, hours: int) -> str:
    """Put the gateway's clock ahead, as a log of another time zone would."""
    dataset = datasets[name]
    moved = (
        pl.when(pl.col("source").str.starts_with("gateway"))
        .then(pl.col("ts").dt.offset_by(f"{hours}h"))
        .otherwise("ts")
    )
    events = dataset.events.with_columns(ts=moved)
    moved_set = analyzer.Dataset(dataset.path, 1, {**dataset.tables, "events": events})
    return only(moved_set)


def test_clocks_that_differ_are_not_subtracted(datasets: dict[str, analyzer.Dataset]) -> None:
    shown = _apart(datasets, "2.2.9/D-relay-client", 5)
    assert "the clocks of the two logs are 5 h apart: each side from its own start; see --timezone" in shown
    assert re.search(r"gathering started +0 ms +0 ms", shown)
    rounds_shown = _apart(datasets, "2.2.9/O-conversation-reused", 5)
    assert "Round 3 of 3" in rounds_shown
