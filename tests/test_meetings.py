"""Tubes whose ids do not tie them together are of one conversation where their candidates prove that they met."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.errors import UnknownConversation
from tests.datasets import CAPTURED, summaries
from tests.test_clocks import logs, moved, rebuilt_from

OTHER = "0b5c7d5e-7a59-4f3e-9d38-5d6a0f1b2c{:02}"
#: every era of ids: in few lines, in all of them, with candidates told by attribute or by parts, two at once, restarts
CAPTURES = (
    "0.2.24/M-router-credentials", "1.0.0/D-relay-client", "1.0.0/E-bad-turn-password", "1.6.2/M-router-credentials",
    "2.1.22/A-host-trickle", "2.2.9/C-srflx-nat", "2.2.9/D2-relay-both", "2.2.9/G-ice-restart",
    "2.2.9/M-router-credentials-std",
)  # fmt: skip
TABLES = ("conversations", "ice_stats", "connection_legs", "candidates", "clock_offsets", "candidate_pairs")
#: tables of which no line that names a conversation alone says anything
BY_TUBE = ("connection_legs", "candidates", "clock_offsets")


def ids(capture: str) -> list[str]:
    told = json.loads((CAPTURED / capture / "truth.json").read_text())["conversations"]
    return [one["conversation_id"] for one in told]


def called(files: dict[str, str], capture: str, *others: str) -> dict[str, str]:
    """The logs, in which the gateway's has other names for the conversations."""
    text = files["gateway.log"]
    for conversation_id, other in zip(ids(capture), others, strict=True):
        text = text.replace(conversation_id, other)
    return files | {"gateway.log": text}


def without(dataset: analyzer.Dataset, name: str) -> pl.DataFrame:
    """A table without what tells of the names, or comes of lines that name a conversation alone."""
    frame = dataset.tables[name].collect()
    return frame.drop([one for one in ("link_method", "other_ids", "gateway_ahead_ms") if one in frame.columns])


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("has_name", [True, False])
def test_what_met_is_one_conversation(capture: str, has_name: bool, tmp_path: Path) -> None:
    files = logs(capture)
    others = [OTHER.format(place) if has_name else "-" for place in range(len(ids(capture)))]
    plain = rebuilt_from(files, tmp_path / "plain")
    dataset = rebuilt_from(called(files, capture, *others), tmp_path / "other")
    for name in TABLES if has_name else BY_TUBE:
        assert without(dataset, name).equals(without(plain, name)), name
    tubes = [one.conversations.select("conversation_id", "tube_ids").collect() for one in (dataset, plain)]
    assert tubes[0].equals(tubes[1])
    methods = dataset.ice_stats.filter(pl.col("side") == "gateway").collect()["link_method"]
    assert set(methods) == {"candidates"}
    names = dict(dataset.conversations.select("conversation_id", "other_ids").collect().rows())
    assert names == {one: [other] * has_name for one, other in zip(ids(capture), others, strict=True)}
    for one, other in zip(ids(capture), others, strict=True):
        if has_name:
            assert dataset.find(other) == one
            assert f"{other} in the gateway's log" in summaries(dataset)[one]


def test_the_clocks_may_be_of_two_zones_but_not_of_two_days(tmp_path: Path) -> None:
    capture = "2.2.9/D-relay-client"
    files = called(logs(capture), capture, "-")
    for hours, sides in ((-12, ["client", "gateway"]), (30, ["client"])):
        late = files | {"gateway.log": moved(files["gateway.log"], timedelta(hours=hours))}
        dataset = rebuilt_from(late, tmp_path / str(hours))
        assert dataset.conversations.collect()["sides"].to_list() == [sides]


def test_one_that_fits_two_fits_none(tmp_path: Path) -> None:
    capture = "2.2.9/D-relay-client"
    files = called(logs(capture), capture, "-")
    tube_id = "39c3b880-1d39-4235-a7ac-4a550e84d074"
    twin = files["gateway.log"].replace(tube_id, tube_id[::-1])
    dataset = rebuilt_from(files | {"twin.log": twin}, tmp_path / "a")
    assert dataset.conversations.collect()["tube_ids"].list.len().to_list() == [1]


def test_two_names_that_would_be_one_stay_two(tmp_path: Path) -> None:
    capture = "2.2.9/M-router-credentials-std"
    files = called(logs(capture), capture, OTHER.format(0), OTHER.format(0))
    dataset = rebuilt_from(files, tmp_path / "a")
    assert sorted(dataset.conversations.collect()["conversation_id"]) == sorted([*ids(capture), OTHER.format(0)])


LINE = "2026-11-22 13:00:0{},000 DEBUG keeper_pam_webrtc_rs.{}\n"
REGISTERED = "metrics.collector: Registered connection for metrics tracking (conversation_id: {}, tube_id: {})"
OWN = "webrtc_core: ICE candidate gathered (tube_id: {}, candidate: candidate:1 1 udp 2130706431 {} {} typ host)"
TOLD = (
    "webrtc_core: [CANDIDATE_DEBUG] INCOMING candidate"
    " (tube_id: {}, type: host, ip: {}, port: {}, protocol: udp, priority: 2130706431)"
)


def composed(own: list[tuple[str, int]], told: list[tuple[str, int]], tmp_path: Path) -> list[dict[str, Any]]:
    """The tubes of a client that gathered some candidates, and of a gateway that was told of some."""
    client = [REGISTERED.format("c-1", "t-client"), *(OWN.format("t-client", *one) for one in own)]
    gateway = [REGISTERED.format("c-2", "t-gateway"), *(TOLD.format("t-gateway", *one) for one in told)]
    files = {
        f"{name}.log": "".join(LINE.format(second, line) for second, line in enumerate(lines))
        for name, lines in (("client", client), ("gateway", gateway))
    }
    return rebuilt_from(files, tmp_path / str(len(list(tmp_path.iterdir())))).conversations.collect().to_dicts()


def test_what_may_be_had_twice_proves_nothing_alone(tmp_path: Path) -> None:
    docker, public = "172.17.0.2", "203.0.113.7"
    for own, told, conversations in (
        ([(docker, 40000)], [(docker, 40000)], 2),
        ([(docker, 40000), (docker, 40001)], [(docker, 40001), (docker, 40002)], 2),
        ([(docker, 40000), (docker, 40001)], [(docker, 40001), (docker, 40000)], 1),
        ([(public, 40000)], [(public, 40000)], 1),
        ([(public, 40000)], [(public, 40001)], 2),
        ([(public, 40000)], [], 2),
    ):
        assert len(composed(own, told, tmp_path)) == conversations, (own, told)


@pytest.mark.parametrize("number", range(6))
def test_of_two_names_the_first_tube_s_is_kept_where_no_side_is_told(number: int, tmp_path: Path) -> None:
    met = ("203.0.113.7", 40000)
    lines = {
        "client": [REGISTERED.format(f"c-a{number}", f"t-a{number}"), OWN.format(f"t-a{number}", *met)],
        "gateway": [REGISTERED.format(f"c-b{number}", f"t-b{number}"), TOLD.format(f"t-b{number}", *met)],
    }
    files = {
        f"{name}.log": "".join(LINE.format(second, line) for second, line in enumerate(told))
        for name, told in lines.items()
    }
    (row,) = rebuilt_from(files, tmp_path / "logs").conversations.collect().to_dicts()
    assert (row["conversation_id"], row["other_ids"]) == (f"c-a{number}", [f"c-b{number}"])


@pytest.mark.parametrize("number", range(6))
def test_of_two_conversations_in_a_line_the_one_named_as_such_is_the_tube_s(number: int, tmp_path: Path) -> None:
    ids = "(tube_id: {}, conversation_id: {}, channel_label: {})"
    closed = f"tube: on_data_channel: Retrieved close_reason: Some(Normal) {ids}"
    tube, named, label, other = (f"{what}{number}" for what in ("t-", "c-b", "c-a", "u-"))
    files = {
        "client.log": LINE.format(0, closed.format(tube, named, label))
        + LINE.format(1, f"webrtc_core: ICE gathering started (tube_id: {tube})"),
        "gateway.log": LINE.format(0, REGISTERED.format(label, other)),
    }
    links = rebuilt_from(files, tmp_path / "logs").links.filter(pl.col("tube_id") == tube).collect()
    assert dict(links.select("conversation_id", "original").rows()) == {named: True, label: False}


def test_what_both_had_for_themselves_is_no_meeting(tmp_path: Path) -> None:
    capture = "2.2.9/D-relay-client"
    files = called(logs(capture), capture, OTHER.format(0))
    deaf = {name: re.sub(r"(?m)^.*(?:INCOMING|add_ice_candidate).*\n", "", text) for name, text in files.items()}
    dataset = rebuilt_from(deaf, tmp_path / "a")
    assert len(dataset.conversations.collect()) == 2
    with pytest.raises(UnknownConversation):
        dataset.find("nothing")


def test_what_is_given_apart_meets_later(tmp_path: Path) -> None:
    capture = "1.0.0/D-relay-client"
    files = called(logs(capture), capture, "-")
    whole = rebuilt_from(files, tmp_path / "a")
    for first in files:
        folder = tmp_path / first
        rebuilt_from({first: files[first]}, folder)
        for name, text in files.items():
            (folder / name).write_text(text)
            analyzer.ingest([str(folder / name)], folder / "metrics")
        again = analyzer.open(folder / "metrics")
        for table in TABLES:
            assert again.tables[table].collect().equals(whole.tables[table].collect()), table
