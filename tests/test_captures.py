"""Real logs of the real library against the truth beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from analyzer.catalogue import TABLES
from tests import truth
from tests.truth import COUNTS_DIFFER, Capture, canonical_id

FOLDERS = truth.folders()
Rebuild = Callable[[Path], Capture]
every_capture = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))


@every_capture
def test_conversations_are_found_linked_and_not_invented(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    expected: dict[str, set[str]] = {}
    real = set()
    for conversation in capture.truth["conversations"]:
        found = expected.setdefault(canonical_id(conversation["conversation_id"]), set())
        found |= {conversation["client_tube_id"], conversation["gateway_tube_id"]} - {None}
        real |= {canonical_id(other) for other in conversation.get("other_conversations_on_client_tube") or ()}
    rows = {row["conversation_id"]: set(row["tube_ids"]) for row in capture.tables["conversations"].to_dicts()}
    assert expected.keys() <= rows.keys()
    assert rows.keys() <= expected.keys() | real
    assert {key: rows[key] for key in expected} == expected


@every_capture
def test_connected_agrees(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    was = {
        canonical_id(c["conversation_id"]): c["t_both_connected"] is not None for c in capture.truth["conversations"]
    }
    said = dict(capture.tables["conversations"].select("conversation_id", "connected").rows())
    assert {key: said[key] for key in was} == was


@every_capture
def test_sides_are_told(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    sides = dict(capture.tables["ice_stats"].select("tube_id", "side").rows())
    for conversation in capture.truth["conversations"]:
        assert sides[conversation["client_tube_id"]] == "client"
        assert sides[conversation["gateway_tube_id"]] == "gateway"


@every_capture
def test_who_closed_first_is_whose_host_was_told_to(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    asked = [
        event["side"] for event in capture.truth["events"] if event["what"].startswith("close_") and "side" in event
    ]
    told = capture.tables["conversations"]["closed_first"].drop_nulls().to_list()
    # the test bed always told one side first, whatever it closed
    assert set(told) <= set(asked[:1])


def test_who_closed_first_is_told_of_most(rebuilt: Rebuild) -> None:
    found = pl.concat([rebuilt(folder).tables["conversations"]["closed_first"] for folder in FOLDERS])
    assert found.null_count() < len(found) / 4


@every_capture
def test_candidate_counts_are_those_of_the_library(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    columns = [f"{kind}_candidates" for kind in ("total", "host", "srflx", "relay")]
    ours = {row[0]: row[1:] for row in capture.tables["ice_stats"].select("tube_id", *columns).rows()}
    oracle = truth.oracle_counts(folder)
    if capture.scenario in COUNTS_DIFFER:
        gathered = capture.tables["events"].filter(pl.col("kind") == "candidate_gathered")
        lines = dict(gathered.group_by("tube_id").len().rows())
        # what the log holds is what is counted, and nothing at all is null
        assert {tube: counts[0] or 0 for tube, counts in ours.items()} == {tube: lines.get(tube, 0) for tube in ours}
        return
    assert {tube: ours[tube] for tube in oracle if tube in ours} == {
        tube: counts for tube, counts in oracle.items() if tube in ours
    }
    # the API of 0.2.24 has no ICE statistics
    assert oracle.keys() & ours.keys() or folder.parent.name == "0.2.24"


@every_capture
def test_every_record_is_accounted_for(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    for row in capture.tables["sources"].to_dicts():
        assert row["records"] == row["events"] + row["noise"] + row["unmatched"] + row["rejected"]
        assert row["rejected"] == 0
    assert capture.tables["sources"]["events"].sum() == len(capture.tables["events"])


@every_capture
def test_tables_are_as_declared(folder: Path, rebuilt: Rebuild) -> None:
    for name, frame in rebuilt(folder).tables.items():
        assert frame.schema == TABLES[name].schema
        # events are several files, each in order, never one wide sort
        assert name == "events" or frame.equals(frame.sort(TABLES[name].order, nulls_last=True))


@every_capture
def test_every_latency_names_its_method(folder: Path, rebuilt: Rebuild) -> None:
    legs = rebuilt(folder).tables["connection_legs"]
    bounds = ("_low_ms", "_high_ms")  # they stand where no value does, too
    for value in [name for name in legs.columns if name.endswith("_ms") and not name.endswith(bounds)]:
        method = f"{value.removesuffix('_latency_ms')}_method"
        method = method if method in legs.columns else f"{value.removesuffix('_ms')}_method"
        assert legs.filter(pl.col(value).is_null() != pl.col(method).is_null()).is_empty()


def test_legs_agree_with_the_pings(rebuilt: Rebuild) -> None:
    errors = [error for folder in FOLDERS for error in truth.leg_errors(rebuilt(folder))]
    found = truth.summary(errors)
    assert found.keys() == set(truth.LEGS)
    for leg, (number, median, p90, _) in found.items():
        assert number >= 25, leg
        assert median <= 3, leg
        assert p90 <= 7, leg


@every_capture
def test_a_leg_is_missing_only_where_nothing_measured_it(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    timed = capture.tables["sources"].filter(pl.col("records") > 0)["resolution_ms"]
    fine = timed.null_count() == 0 and (timed < 1000).all()
    legs = capture.tables["connection_legs"].join(capture.tables["conversations"], on="conversation_id")
    missing = legs.filter(pl.col("connected"), pl.col("end_to_end_latency_ms").is_null())
    assert missing.is_empty() if fine else legs["end_to_end_latency_ms"].null_count() == len(legs)


def _printed(logs: Iterable[Path]) -> list[tuple[str, float]]:
    """Node and milliseconds of every connection beyond the gateway that a log prints."""
    text = b"".join(pa.input_stream(str(path)).read() for path in logs).decode()
    return sorted((node.lower(), float(ms)) for node, ms in re.findall(r"Gateway<->(Guacd|Target): ([0-9.]+)ms", text))


def _listed(tables: dict[str, pl.DataFrame]) -> list[tuple[str, float]]:
    rows = tables["leg_measurements"].filter(pl.col("method") == "backend_connect")
    return sorted((leg.removeprefix("gateway_to_"), ms) for leg, ms in rows.select("leg", "value_ms").rows())


@every_capture
def test_beyond_the_gateway_stands_what_it_printed(folder: Path, rebuilt: Rebuild) -> None:
    capture = rebuilt(folder)
    printed = _printed(path for path in folder.iterdir() if ".log" in path.name)
    assert _listed(capture.tables) == printed
    if not any(ms for _, ms in printed):
        shown = capture.tables["connection_legs"].select("^gateway_to_.*$")
        assert shown.null_count().row(0) == (len(shown),) * 4


def test_a_connect_of_whole_milliseconds_is_shown(tmp_path: Path) -> None:
    from analyzer.pipeline import ingest

    log = truth.ROOT / "fixtures/cases/backend_connect/gateway.log"
    ingest([str(log)], tmp_path)
    tables = {name: pl.read_parquet(tmp_path / name) for name in ("connection_legs", "leg_measurements")}
    assert _listed(tables) == _printed([log]) == [("target", 0.0), ("target", 2.0)]
    shown = tables["connection_legs"].select("gateway_to_target_latency_ms", "gateway_to_guacd_latency_ms")
    assert sorted(shown.rows(), key=str) == [(2.0, None), (None, None)]


@pytest.mark.parametrize("form", ["compose-prefix", "cri", "docker-json", "journald-short-iso", "journald-short"])
def test_a_wrap_changes_nothing(form: str, rebuilt: Rebuild, tmp_path: Path) -> None:
    from analyzer.pipeline import ingest

    plain = rebuilt(truth.ROOT / "fixtures/captured/2.2.9/D-relay-client")
    for side in ("client", "gateway"):
        wrapped = truth.ROOT / f"fixtures/captured/wrapped/2.2.9-D-relay-client-{side}/{form}.log.zst"
        (tmp_path / f"{side}.log").write_bytes(wrapped.read_bytes())
    ingest([str(tmp_path / "client.log"), str(tmp_path / "gateway.log")], tmp_path / "metrics")
    for name in ("conversations", "ice_stats", "connection_legs", "leg_measurements", "candidates", "reported"):
        assert pl.read_parquet(tmp_path / "metrics" / name).equals(plain.tables[name]), name


def test_the_size_of_a_batch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer import reductions
    from analyzer.pipeline import ingest

    logs = sorted(str(path) for path in (truth.ROOT / "fixtures/captured/2.2.9").glob("*/*.log*"))
    ingest(logs, tmp_path / "whole")
    monkeypatch.setattr(reductions, "BATCH_EVENTS", 700)
    ingest(logs, tmp_path / "parts")
    for path in sorted((tmp_path / "whole").rglob("*.parquet")):
        assert (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path


#: `conv-a` is tied to no tube, and named both by itself and with a tube that is another conversation's
TWICE_NAMED = """\
2026-11-22 13:00:00,000 DEBUG keeper_pam_webrtc_rs.metrics.collector: \
Registered connection for metrics tracking (conversation_id: conv-b, tube_id: tube-1)
2026-11-22 13:00:01,000 DEBUG keeper_pam_webrtc_rs.tube: \
Data channel 'conv-b' opened, setting tube status to Ready (tube_id: tube-1, conversation_id: conv-a)
2026-11-22 13:00:02,000 DEBUG keeper_pam_webrtc_rs.metrics.collector: \
Recording data channel sent activity (conversation_id: conv-a, messages_sent: 2, bytes_sent: 500)
"""


@pytest.mark.parametrize("events", [1, 10, 80_000])
def test_a_conversation_is_one_however_its_lines_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    from analyzer import reductions
    from analyzer.pipeline import ingest

    monkeypatch.setattr(reductions, "BATCH_EVENTS", events)
    (tmp_path / "app.log").write_text(TWICE_NAMED)
    ingest([str(tmp_path / "app.log")], tmp_path / "metrics")
    for table in ("conversations", "connection_legs"):
        assert pl.read_parquet(tmp_path / "metrics" / table)["conversation_id"].to_list() == ["conv-a", "conv-b"]


def test_a_conversation_named_with_a_tube_of_none_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library may name a tube where a conversation belongs, long before it stands beside one of no conversation."""
    from analyzer.pipeline import ingest

    registered = "Registered connection for metrics tracking (conversation_id: {}, tube_id: {})"
    counted = "Recording transport-level data activity (conversation_id: {}, bytes_sent: {}, bytes_received: 7)"
    logs = [
        [registered.format("c-1", "t-1"), counted.format("t-3", 1)],
        [registered.format("c-2", "t-2"), *(counted.format("c-2", number) for number in range(200))],
        [registered.format("t-3", "t-3")],
    ]
    text, seconds = "2026-11-22 13:{:02}:{:02},000 DEBUG keeper_pam_webrtc_rs.metrics.collector: {}\n", count(0)
    for number, said in enumerate(logs):
        lines = [text.format(*divmod(next(seconds), 60), line) for line in said]
        (tmp_path / f"{number}.log").write_text("".join(lines))
    found = []
    for size in (100_000, 10):
        monkeypatch.setattr("analyzer.stored.CHUNK_EVENTS", size)
        monkeypatch.setattr("analyzer.stored.GROUP_ROWS", size)
        monkeypatch.setattr("analyzer.reductions.BATCH_EVENTS", 2 * size)
        ingest([str(tmp_path / "*.log")], tmp_path / str(size))
        rows = pl.read_parquet(tmp_path / str(size) / "conversations")
        found.append(rows.select("conversation_id", "started_at", "ended_at").rows())
    assert [row[0] for row in found[0]] == ["c-1", "c-2", "t-3"]
    assert found[0] == found[1]


def test_a_tube_of_no_conversation_tells_nothing_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what two conversations that are named with it say of such a tube, neither knows the other's part."""
    from analyzer.pipeline import ingest

    text = "2026-11-22 13:00:{:02},000 DEBUG keeper_pam_webrtc_rs.{}\n"
    registered = "metrics.collector: Registered connection for metrics tracking (conversation_id: {}, tube_id: {})"
    counted = "metrics.collector: Recording transport-level data activity"
    declared = "tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback"
    said = [
        registered.format("c-1", "t-x"),
        registered.format("c-2", "t-y"),
        f"{counted} (conversation_id: t-x, tube_id: t-u, bytes_sent: 1, bytes_received: 7)",
        f"{declared} (tube_id: t-u, is_server_mode: true, conversation_id: t-y)",
    ]
    (tmp_path / "app.log").write_text("".join(text.format(second, line) for second, line in enumerate(said)))
    found = []
    for size in (100_000, 1):
        monkeypatch.setattr("analyzer.reductions.BATCH_EVENTS", size)
        ingest([str(tmp_path / "app.log")], tmp_path / str(size))
        found.append(pl.read_parquet(tmp_path / str(size) / "conversations"))
    assert found[0]["conversation_id"].to_list() == ["c-1", "c-2", "t-x", "t-y"]
    assert found[0].equals(found[1])
