"""One side's log alone: it tells which side it is, gives that side's leg, and the other one as a difference at most."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer.events.links import CANDIDATES
from tests import truth
from tests.datasets import CAPTURED, seed_dataset, summaries
from tests.test_clocks import logs, rebuilt_from

SHIPPED = [folder for folder in truth.folders() if CAPTURED in folder.parents]
OWN = {"client": "client_to_krelay", "gateway": "krelay_to_gateway"}
LOGS = [(folder, log) for folder in SHIPPED for log in sorted(folder.glob("*.log*")) if folder.name != "A1-one-process"]


@pytest.mark.parametrize(("folder", "log"), LOGS, ids=lambda path: "/".join(path.parts[-2:]))
def test_one_log_knows_its_side(folder: Path, log: Path, tmp_path: Path) -> None:
    capture = json.loads((folder / "truth.json").read_text())["conversations"]
    analyzer.ingest([str(log)], tmp_path / "alone")
    dataset = analyzer.open(tmp_path / "alone")
    side = log.name.split(".")[0]
    mine = {one[f"{side}_tube_id"] for one in capture}
    tubes = dataset.ice_stats.select("tube_id", "side", "link_method").collect()
    assert mine <= set(tubes["tube_id"])
    assert set(tubes["side"]) == {side}
    assert CANDIDATES not in tubes["link_method"]
    assert dataset.clock_offsets.collect().is_empty()
    own, other = OWN[side], OWN[{"client": "gateway", "gateway": "client"}[side]]
    for row in dataset.connection_legs.collect().to_dicts():
        assert row[f"{own}_method"] != "difference"
        assert row[f"{other}_method"] in (None, "difference")
        if row[f"{other}_method"]:
            assert row[f"{other}_latency_ms"] == row["end_to_end_latency_ms"] - row[f"{own}_latency_ms"]
            assert row["path"].split("->").count("relay") == 1


@pytest.mark.parametrize("capture", ["0.2.24/A-host-trickle", "1.6.2/D-relay-client", "2.2.9/D-relay-client"])
def test_at_info_a_log_knows_its_side(capture: str, tmp_path: Path) -> None:
    for name, text in logs(capture).items():
        quiet = re.sub(r"(?m)^.* DEBUG .*\n", "", text)
        dataset = rebuilt_from({name: quiet}, tmp_path / name)
        assert dataset.ice_stats.collect()["side"].to_list() == [name.removesuffix(".log")]


def test_who_was_given_a_channel_is_the_gateway(tmp_path: Path) -> None:
    files = logs("1.0.0/D-relay-client")
    quiet = {name: re.sub(r"(?m)^.* DEBUG .*\n", "", text) for name, text in files.items()}
    # at INFO nothing in the client's log of this release tells its side: that the other end is the gateway does
    dataset = rebuilt_from(quiet, tmp_path / "a")
    assert dataset.ice_stats.select(pl.col("side").sort(nulls_last=True)).collect()["side"].to_list() == [
        "client",
        "gateway",
    ]


COUNTED = (
    (
        "DEBUG keeper_pam_webrtc_rs.metrics.collector: Registered connection for metrics tracking"
        " (conversation_id: conv-456, tube_id: abc-123)"
    ),
    (
        "DEBUG keeper_pam_webrtc_rs.metrics.collector: Recording data channel sent activity"
        " (conversation_id: conv-456, messages_sent: 2, bytes_sent: 100)"
    ),
    (
        "DEBUG keeper_pam_webrtc_rs.metrics.collector: Recording data channel received activity"
        " (conversation_id: conv-456, messages_received: 3, bytes_received: 7000)"
    ),
)


def test_bytes_of_a_side_that_no_line_tells_are_nobodys(tmp_path: Path) -> None:
    dataset = analyzer.open(seed_dataset(tmp_path, COUNTED))
    (row,), (channel,) = dataset.conversations.collect().to_dicts(), dataset.channels.collect().to_dicts()
    assert (row["sides"], row["connected"]) == ([], True)
    assert [row[f"{what}_{way}"] for what in ("bytes", "messages") for way in ("sent", "received")] == [None] * 4
    assert (channel["side"], channel["bytes_sent"], channel["bytes_received"]) == (None, 100, 7000)
    assert "100 B sent, 7 kB received, by a side that no line tells" in summaries(dataset)["conv-456"]
