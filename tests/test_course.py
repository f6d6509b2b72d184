"""Samples and channels: the course of what the log repeats, and the traffic of each data channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings

from analyzer import api
from analyzer.pipeline import ingest
from analyzer.reductions.samples import COUNTER, SERIES, STATE
from analyzer.views import conversation, summary
from tests import truth
from tests.oracle.course import channel, course
from tests.oracle.scenarios import BASE, Life, scenarios
from tests.test_reductions import Tables, rebuilt, whole
from tests.truth import Capture, canonical_id

Rebuild = Callable[[Path], Capture]
CASES = truth.ROOT / "fixtures" / "cases"
FOLDERS = truth.folders()
every_capture = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
#: a message of the library's own carries at least these bytes beside its payload
FRAMING = 0.05


def read(log: bytes, folder: Path) -> Tables:
    folder.mkdir(exist_ok=True)
    (folder / "app.log").write_bytes(log)
    ingest([str(folder / "app.log")], folder / "out")
    return {name: pl.read_parquet(folder / "out" / name) for name in ("conversations", "channels", "samples")}


def series(samples: pl.DataFrame, metric: str) -> list[dict[str, Any]]:
    return samples.filter(pl.col("metric") == metric).to_dicts()


# -- against the fold -----------------------------------------------------------------------------------------------


def check_course(tables: Tables, lives: Sequence[Life]) -> None:
    for life in lives:
        mine = tables["samples"].filter(
            pl.col("tube_id") == life.tube_id, pl.col("conversation_id") == life.conversation_id
        )
        found: dict[str, list[tuple[int, float | str]]] = {}
        for row in mine.to_dicts():
            at = round((row["ts"] - BASE) / timedelta(milliseconds=1))
            found.setdefault(row["metric"], []).append((at, row["state"] if row["value"] is None else row["value"]))
        assert found == course(life.events), life.tube_id
    assert tables["samples"].height == sum(len(points) for one in lives for points in course(one.events).values())


def check_channels(tables: Tables, lives: Sequence[Life]) -> None:
    rows = {row["tube_id"]: row for row in tables["channels"].to_dicts()}
    for life in lives:
        told = channel(life.events)
        if life.tube_id not in rows:
            assert set(told.values()) == {None}, life.tube_id
            continue
        row = rows.pop(life.tube_id)
        opened = told.pop("opened_at")
        assert row["opened_at"] == (None if opened is None else BASE + timedelta(milliseconds=opened))
        assert {name: row[name] for name in told} == told, life.tube_id
        assert (row["conversation_id"], row["side"]) == (life.conversation_id, life.side)
    assert not rows


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(scenarios())
def test_course_and_channels_equal_the_fold(lives: list[Life]) -> None:
    tables = rebuilt(whole(lives))
    check_course(tables, lives)
    check_channels(tables, lives)


# -- against the captures -------------------------------------------------------------------------------------------


@every_capture
def test_what_was_transferred_is_what_was_counted(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    rows = {row["conversation_id"]: row for row in capture.tables["conversations"].to_dicts()}
    for event in capture.truth["events"]:
        if event["what"] == "transfer":
            row = rows[canonical_id(event["conversation"])]
            # pings went before, framing goes with every message, and a message more may have been under way
            for way, count in (("bytes_sent", event["sent"]), ("bytes_received", event["received"])):
                assert count <= row[way] <= count * (1 + FRAMING), (way, count, row[way])


def test_transfers_are_shipped() -> None:
    assert len([one for one in FOLDERS if one.name.startswith("J-")]) >= 2


@every_capture
def test_the_totals_are_the_sums_of_the_channels(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    client = tables["channels"].filter(pl.col("side") == "client").drop_nulls("bytes_sent")
    sums = dict(client.group_by("conversation_id").agg(pl.col("bytes_sent").sum()).rows())
    assert sums == {
        key: sent for key, sent in tables["conversations"].select("conversation_id", "bytes_sent").rows() if key in sums
    }


@every_capture
def test_the_end_of_a_counter_is_that_of_its_channel(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    for row in tables["channels"].filter(pl.col("counters_method") == "sole_channel").to_dicts():
        mine = tables["samples"].filter(pl.col("tube_id") == row["tube_id"], pl.col("channel") == row["channel"])
        for name in ("bytes_sent", "bytes_received", "messages_sent", "messages_received"):
            values = [point["value"] for point in series(mine, name)]
            assert (values[-1] if values else None) == row[name], (row["channel"], name)


@every_capture
def test_both_ends_of_a_channel_agree(folder: Path, rebuilt: Rebuild) -> None:
    """What one end sent the other received, but for what was under way when either last counted."""
    channels = rebuilt(folder).tables["channels"].drop_nulls("counters_method")
    both = channels.filter(pl.len().over("conversation_id", "channel") == 2).sort("side")
    for _, (client, gateway) in ((key, rows.to_dicts()) for key, rows in both.group_by("conversation_id", "channel")):
        for sent, received in ((client, gateway), (gateway, client)):
            if sent["bytes_sent"] is not None and received["bytes_received"] is not None:
                assert abs(sent["bytes_sent"] - received["bytes_received"]) <= 256


@every_capture
def test_every_sample_is_lawful(folder: Path, rebuilt: Rebuild) -> None:
    samples = rebuilt(folder).tables["samples"]
    forms = {one.metric: one for one in SERIES}
    assert not samples.filter(pl.col("metric") == "reported_rtt").height, "no published release measures it"
    for row in samples.to_dicts():
        one = forms[row["metric"]]
        assert (row["value"] is None, row["state"] is None) == (one.form == STATE, one.form != STATE)
        assert row["unit"] == (one.unit or None)
        assert row["run"] is None or one.form == COUNTER
    key = ["conversation_id", "tube_id", "metric", "channel"]
    counted = samples.filter(pl.col("run").is_not_null())
    fallen = counted.filter(pl.col("value").diff().over(*key, "run") < 0)
    assert fallen.is_empty()
    numbers = samples.group_by(key).agg(pl.col("number").sort() == pl.int_range(1, pl.len() + 1))
    assert numbers["number"].list.all().all()


@every_capture
def test_every_sample_and_counter_is_walked_back_to_its_line(folder: Path, rebuilt: Rebuild) -> None:
    tables = rebuilt(folder).tables
    kinds = {one.metric: one.kind for one in SERIES}
    found = tables["samples"].join(tables["events"].select("origin", "kind", at="ts"), on="origin", how="left")
    assert found["kind"].to_list() == [kinds[metric] for metric in found["metric"]]
    assert found["at"].equals(found["ts"], check_names=False)
    counted = tables["channels"].drop_nulls("counters_method").join(tables["events"], on="origin", how="left")
    assert counted["kind"].is_in(["bytes_sent_counted", "bytes_received_counted", "channel_stats_reported"]).all()


def test_channels_that_share_a_tube_are_told_apart(rebuilt: Rebuild) -> None:
    """Their counters name no channel; the lines that do are rounded."""
    folder = next(one for one in FOLDERS if one.name == "I-conversations-on-one-tube")
    capture = rebuilt(folder)
    channels = capture.tables["channels"]
    assert channels["counters_method"].unique().to_list() == ["channel_stats_matched"]
    for side in ("client", "gateway"):
        text = pa.input_stream(str(next(folder.glob(f"{side}.log*")))).read().decode()
        told = re.findall(
            r"DataChannel stats \(.*?label: (\S+)\).*?bytes_sent=([0-9.]+) KB, bytes_recv=([0-9.]+) KB", text
        )
        last = {canonical_id(label): (float(sent), float(received)) for label, sent, received in told}
        mine = channels.filter(pl.col("side") == side)
        found = dict(zip(mine["channel"], mine.select("bytes_sent", "bytes_received").rows(), strict=True))
        assert {
            label: tuple(round(size / 1024, 2) for size in sizes) for label, sizes in found.items()
        } == last  # fmt: skip
        for size in (size for sizes in found.values() for size in sizes):
            assert re.search(rf"bytes_(sent|received): {size}\b", text)


# -- composed -------------------------------------------------------------------------------------------------------


def test_a_counter_that_starts_anew_is_seen(tmp_path: Path) -> None:
    tables = read((CASES / "counters_anew" / "gateway.log").read_bytes(), tmp_path)
    sent = series(tables["samples"], "bytes_sent")
    assert [(row["tube_id"], row["number"], row["value"], row["run"]) for row in sent] == [
        ("tube-1", 1, 100, 1),
        ("tube-1", 2, 100, 1),
        ("tube-1", 3, 900, 1),
        ("tube-2", 1, 40, 1),
        ("tube-2", 2, 70, 1),
    ]
    (row,) = tables["conversations"].to_dicts()
    # the gateway's log alone: what it sent the client received; never 100 + 100 + 900 + …
    assert (row["bytes_sent"], row["bytes_received"]) == (None, 970)


def test_counters_of_channels_that_nobody_names_are_nobodys(tmp_path: Path) -> None:
    tables = read((CASES / "channels_unnamed" / "client.log").read_bytes(), tmp_path)
    assert tables["channels"].select("channel", "bytes_sent", "counters_method").rows() == [
        ("conv-a", None, None),
        ("conv-b", None, None),
    ]
    assert tables["conversations"]["bytes_sent"].null_count() == 2
    sent = series(tables["samples"], "bytes_sent")
    assert {(row["channel"], row["run"]) for row in sent} == {(None, None)}
    assert sorted(row["value"] for row in sent) == [10, 10, 10, 500, 900, 900]


def test_a_summary_says_why_traffic_is_not_known(tmp_path: Path) -> None:
    log = CASES / "channels_unnamed" / "client.log"
    ingest([str(log)], tmp_path)
    shown = summary.render(conversation.gather(api.open(tmp_path), "conv-a"))
    assert "data     its channel shares a tube with others, and no counter says which it counts" in shown


def test_a_summary_tells_messages_and_what_was_under_way(tmp_path: Path) -> None:
    log = CASES / "counters_anew" / "gateway.log"
    closing = (
        "2026-11-22 13:00:30,000 INFO keeper_pam_webrtc_rs.channel.core: Channel 'conv-a' closing — connections: 0: []"
        " | sctp_at_close: 24 B, app_queued: 0 B (server_mode: false, conversation_id: conv-a)\n"
    )
    (tmp_path / "app.log").write_bytes(log.read_bytes() + closing.encode())
    ingest([str(tmp_path / "app.log")], tmp_path / "out")
    shown = summary.render(conversation.gather(api.open(tmp_path / "out"), "conv-a"))
    assert "data     — from the client, 970 B in 11 messages to it" in shown
    assert "         24 B not acknowledged when a channel ended" in shown


def test_zero_is_no_round_trip(tmp_path: Path) -> None:
    line = "2026-11-22 13:00:0{},000 DEBUG keeper_pam_webrtc_rs.metrics.collector: "
    pair = "Updated selected candidate pair stats (conversation_id: c-1, local: relay, remote: host, rtt: {}ms)\n"
    begun = line.format(0) + "Registered connection for metrics tracking (conversation_id: c-1, tube_id: t-1)\n"
    said = ("0.0", "87.3", "87.3", "87.3", "90.1", "0.0")
    log = begun + "".join(line.format(at) + pair.format(rtt) for at, rtt in enumerate(said, 1))
    rtt = series(read(log.encode(), tmp_path)["samples"], "reported_rtt")
    assert [(row["ts"].second, row["value"], row["unit"]) for row in rtt] == [
        (2, 87.3, "ms"), (4, 87.3, "ms"), (5, 90.1, "ms")
    ]  # fmt: skip


def test_printed_units_become_base_units(tmp_path: Path) -> None:
    begun = "2026-11-22 13:00:00,000 DEBUG keeper_pam_webrtc_rs."
    log = (
        f"{begun}metrics.collector: Registered connection for metrics tracking (conversation_id: c-1, tube_id: t-1)\n"
        f"{begun}webrtc_quality_manager: Quality adjustment for tube t-1: bandwidth=250.032 Mbps, bitrate=64 kbps\n"
        f"{begun}webrtc_core: DataChannel stats (tube_id: t-1, label: c-1): msgs_sent=6, msgs_recv=5,"
        " bytes_sent=4.30 KB, bytes_recv=0.00 KB (conversation_id: c-1)\n"
        f"{begun}webrtc_core: Signaling state changed to: HaveLocalOffer (tube_id: t-1)\n"
    )
    tables = read(log.encode(), tmp_path)
    values = {row["metric"]: (row["value"], row["state"], row["unit"]) for row in tables["samples"].to_dicts()}
    assert values["bandwidth_estimate"] == (250_032_000, None, "bit/s")
    assert values["target_bitrate"] == (64_000, None, "bit/s")
    assert values["channel_bytes_sent"] == (4403.2, None, "By")
    assert values["signaling_state"] == (None, "have-local-offer", None)
    (row,) = tables["channels"].to_dicts()
    assert (row["bytes_sent"], row["messages_sent"], row["counters_method"]) == (4403, 6, "channel_stats")


@pytest.mark.parametrize("amount", ["99999999999999999999.00 KB", "9007199254740993.00 KB"])
def test_more_bytes_than_a_number_holds_are_not_observed(amount: str, tmp_path: Path) -> None:
    begun = "2026-11-22 13:00:00,000 DEBUG keeper_pam_webrtc_rs."
    log = (
        f"{begun}metrics.collector: Registered connection for metrics tracking (conversation_id: c-1, tube_id: t-1)\n"
        f"{begun}webrtc_core: DataChannel stats (tube_id: t-1, label: c-1): msgs_sent=6, msgs_recv=5,"
        f" bytes_sent={amount}, bytes_recv=4.30 KB (conversation_id: c-1)\n"
    )
    (row,) = read(log.encode(), tmp_path)["channels"].to_dicts()
    assert (row["messages_sent"], row["bytes_sent"], row["bytes_received"]) == (6, None, 4403)


def test_the_dictionary_tells_every_metric() -> None:
    from analyzer.views.dictionary import render_tables, tables

    told = " ".join(render_tables(tables("samples")).split())
    assert all(f"{one.metric} ({one.form}): {one.doc}" in told for one in SERIES)
