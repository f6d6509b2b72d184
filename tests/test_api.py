"""The dataset for programs: snapshot, lookups, and the seed's nested shape."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer.api import opened
from analyzer.catalogue import TABLES
from analyzer.errors import BusyError, DatasetError, UnknownConversation
from analyzer.tables.dataset import COMMIT, STATE
from analyzer.views import conversation
from tests.datasets import CAPTURED, SEED_LINES, built, seed_dataset, summaries


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> analyzer.Dataset:
    return analyzer.open(seed_dataset(tmp_path_factory.mktemp("seed")))


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> analyzer.Dataset:
    return analyzer.open(built("2.2.9/D-relay-client", tmp_path_factory.mktemp("relayed")))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> analyzer.Dataset:
    return analyzer.open(built("2.2.9/I-conversations-on-one-tube", tmp_path_factory.mktemp("shared")))


def test_tables_are_typed_lazy_frames(seed: analyzer.Dataset) -> None:
    assert list(seed.tables) == list(TABLES)
    for name, table in TABLES.items():
        frame = getattr(seed, name)
        assert isinstance(frame, pl.LazyFrame)
        assert frame.collect_schema() == table.schema
    with pytest.raises(AttributeError, match="no table is called ice_statistics"):
        _ = seed.ice_statistics
    assert "ice_stats" in dir(seed)


def test_the_seeds_example_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_dataset(tmp_path)
    monkeypatch.chdir(tmp_path)
    tube_id = "abc-123"
    registry = analyzer.open("metrics")
    stats = registry.get_connection_stats(tube_id)
    told: list[object] = []
    if stats:
        ice, legs = stats["webrtc_stats"]["ice_stats"], stats["webrtc_stats"]["connection_legs"]
        told.append(f"{ice['total_candidates']} total")
        told.append((ice["host_candidates"], ice["srflx_candidates"], ice["relay_candidates"]))
        told.append(f"{ice['turn_allocation_success_rate']:.1%}")
        if "end_to_end_latency_ms" in legs:
            told.append(f"{legs['end_to_end_latency_ms']:.1f}ms")
        if "client_to_krelay_latency_ms" in legs:
            told.append(f"{legs['client_to_krelay_latency_ms']:.1f}ms")
    assert told == ["None total", (None, None, None), "100.0%", "87.3ms"]


def test_seed_sample_in_the_nested_shape(seed: analyzer.Dataset) -> None:
    assert seed.get_connection_stats("abc-123") == seed.get_live_stats("conv-456") == {
        "webrtc_stats": {
            "ice_stats": {
                "total_candidates": None,
                "host_candidates": None,
                "srflx_candidates": None,
                "relay_candidates": None,
                "first_candidate_time_ms": None,
                "gathering_complete_time_ms": 312.7,
                "stun_response_times": [],
                "turn_allocation_success_rate": 1.0,
                "turn_allocation_time_ms": 45.2,
                "selected_candidate_pair": {
                    "local_candidate_type": "relay",
                    "remote_candidate_type": "host",
                    "current_rtt_ms": 87.3,
                    "total_rtt_measurements": 1,
                    "connection_time_ms": None,
                    "bytes_sent": None,
                    "bytes_received": None,
                    "transport_protocol": None,
                },
            },
            "connection_legs": {"end_to_end_latency_ms": 87.3, "turn_allocation_latency_ms": 45.2},
        }
    }  # fmt: skip


def test_unsupported_rate_is_nan_and_no_pair_is_none(tmp_path: Path) -> None:
    lines = [line for line in SEED_LINES if "credentials" not in line and "candidate pair" not in line]
    stats = analyzer.open(seed_dataset(tmp_path, lines)).get_live_stats("conv-456")
    assert stats is not None
    ice = stats["webrtc_stats"]["ice_stats"]
    assert math.isnan(ice["turn_allocation_success_rate"])
    assert f"{ice['turn_allocation_success_rate']:.1%}" == "nan%"
    assert ice["selected_candidate_pair"] is None
    assert stats["webrtc_stats"]["connection_legs"] == {}


def test_unknown_ids_give_none(seed: analyzer.Dataset) -> None:
    assert seed.get_connection_stats("nobody") is None
    assert seed.get_live_stats("nobody") is None


def test_ids_are_taken_in_any_spelling(tmp_path: Path) -> None:
    spelled = "Zq1nG/CojXj2VN0djdR7vw=="
    dataset = analyzer.open(seed_dataset(tmp_path, [line.replace("conv-456", spelled) for line in SEED_LINES]))
    canonical = "Zq1nG_CojXj2VN0djdR7vw"
    for text in (spelled, canonical, canonical + "==", spelled.rstrip("=")):
        assert dataset.get_live_stats(text) is not None
        assert dataset.find(text) == canonical
    assert dataset.find("Zq1nG/C") == dataset.find("Zq1") == dataset.find("abc-123") == canonical
    # as it is pasted
    assert dataset.find(f" {canonical}\n") == dataset.find("ABC-123") == canonical


def test_live_stats_are_those_of_the_client(relayed: analyzer.Dataset) -> None:
    rows = {row["side"]: row for row in relayed.ice_stats.collect().to_dicts()}
    live = relayed.get_live_stats(rows["client"]["conversation_id"])
    assert live == relayed.get_connection_stats(rows["client"]["tube_id"])
    assert live != relayed.get_connection_stats(rows["gateway"]["tube_id"])
    assert live is not None
    assert live["webrtc_stats"]["ice_stats"]["relay_candidates"] == 1
    assert set(live["webrtc_stats"]["connection_legs"]) >= {
        "client_to_krelay_latency_ms",
        "krelay_to_gateway_latency_ms",
    }


def test_a_shared_tube_answers_with_its_original_conversation(shared: analyzer.Dataset) -> None:
    carried = shared.ice_stats.filter(pl.col("side") == "client").select("conversation_id", "tube_id").collect()
    assert carried["tube_id"].n_unique() == 1
    assert len(carried) > 1
    named = shared.events.filter(pl.col("tube_id") == carried["tube_id"][0], pl.col("conversation_id").is_not_null())
    assert shared.original(carried["tube_id"][0]) == named.sort("ts", "line").first().collect()["conversation_id"][0]


def test_unknown_conversation_names_the_nearest(shared: analyzer.Dataset) -> None:
    known = shared.conversations.collect()["conversation_id"][0]
    with pytest.raises(UnknownConversation, match=known) as caught:
        shared.find(known[:-2] + "xx")
    assert caught.value.exit_code == 4
    ids = pl.LazyFrame({"conversation_id": ["ab", "ac", "ad"]})
    three = shared.conversations.head(1).drop("conversation_id").join(ids, how="cross")
    dataset = analyzer.Dataset(shared.path, 1, {**shared.tables, "conversations": three})
    with pytest.raises(UnknownConversation, match=r"3 conversations of .* begin with"):
        dataset.find("a")


def test_a_snapshot_stays_as_it_was(tmp_path: Path) -> None:
    out = seed_dataset(tmp_path)
    before = analyzer.open(out)
    seed_dataset(tmp_path, [line.replace("456", "789").replace("123", "321") for line in SEED_LINES], name="more.log")
    after = analyzer.open(out)
    assert (before.snapshot, after.snapshot) == (1, 2)
    assert before.ice_stats.collect()["conversation_id"].to_list() == ["conv-456"]
    assert before.events.collect().height == len(SEED_LINES)
    assert sorted(after.ice_stats.collect()["conversation_id"]) == ["conv-456", "conv-789"]


def test_a_commit_of_a_killed_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = seed_dataset(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("analyzer.tables.dataset.finish", lambda out: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            seed_dataset(tmp_path, [line.replace("456", "789") for line in SEED_LINES], name="more.log")
    assert (out / STATE / COMMIT).exists()
    dataset = analyzer.open(out)
    assert dataset.snapshot == 2
    assert not (out / STATE / COMMIT).exists()


def test_a_dataset_that_keeps_moving_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, snapshots = seed_dataset(tmp_path), iter(range(100))
    read = analyzer.api.read_manifest  # type: ignore[attr-defined] # `analyzer.api` is no export

    def moving(path: Path) -> object:
        manifest = read(path)
        manifest.snapshot = next(snapshots)
        return manifest

    monkeypatch.setattr("analyzer.api.read_manifest", moving)
    with pytest.raises(BusyError, match="being written"):
        analyzer.open(out)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no dataset"):
        analyzer.open(tmp_path / "nowhere")
    out = seed_dataset(tmp_path)
    shutil.rmtree(out / "ice_stats")
    with pytest.raises(DatasetError, match="damaged"):
        analyzer.open(out)
    assert analyzer.open(out, ["conversations"]).conversations.collect().height == 1


@pytest.mark.parametrize("table", ["ice_stats", "events"])
def test_damage_inside_a_file_is_told_when_it_is_read(table: str, tmp_path: Path) -> None:
    out = seed_dataset(tmp_path)
    (file,) = (out / table).iterdir()
    raw = bytearray(file.read_bytes())
    raw[8:200] = bytes(one ^ 0xFF for one in raw[8:200])
    file.write_bytes(raw)
    with pytest.raises(DatasetError, match=f"{out} is damaged"), opened(out) as dataset:
        conversation.gather(dataset, "conv-456")
    with pytest.raises(pl.exceptions.ComputeError):
        analyzer.open(out).tables[table].collect()


def test_no_table_is_in_memory_before_it_is_asked_for(seed: analyzer.Dataset) -> None:
    assert [name for name, table in seed.tables.items() if "SCAN" not in table.explain()] == []


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    dataset = analyzer.open(seed_dataset(tmp_path), ["conversations"])
    assert list(dataset.tables) == ["conversations"]


def test_captured_fixtures_are_there() -> None:
    assert (CAPTURED / "2.2.9").is_dir()


def test_what_an_earlier_version_did_not_look_for_is_null(tmp_path: Path) -> None:
    out = built("2.2.9/D-relay-client", tmp_path / "metrics")
    (path,) = (out / "sources").glob("*.parquet")
    now = summaries(analyzer.open(out))
    before = pl.read_parquet(path).drop("duplicates")
    before.write_parquet(path)
    dataset = analyzer.open(out)
    assert dataset.sources.collect()["duplicates"].to_list() == [None] * len(before)
    assert dataset.sources.select(before.columns).collect().equals(before)
    assert summaries(dataset) == now
