"""What file systems do that a dataset has to live with, or has to refuse."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer.errors import AccountingError, DatasetError
from analyzer.inputs import Input
from analyzer.lines import compressed_with
from analyzer.pipeline import ingest
from analyzer.tables.dataset import MANIFEST, STATE, read_manifest
from analyzer.tables.durable import create_json, make_root, read_json, sync_folder
from analyzer.tables.words import Words, spelled
from tests.datasets import CAPTURED

LOG = next((CAPTURED / "2.2.9").rglob("*.log"))


@pytest.mark.parametrize(("code", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_file_systems_that_sync_no_folders(
    code: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    if passes:
        sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="Input/output error"):
            sync_folder(tmp_path)


def test_folders_above_a_dataset_are_made_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr("analyzer.tables.durable.sync_folder", lambda path: synced.append(path.name))
    make_root(tmp_path / "a" / "b" / "metrics")
    assert (tmp_path / "a" / "b" / "metrics").is_dir()
    # each name is in the folder above it
    assert synced == [tmp_path.name, "a", "b"]


@pytest.mark.parametrize("sources", [[], {"x": 3}, {"x": ["row", "parts"]}])
def test_a_manifest_whose_sources_are_none_is_refused(sources: object, tmp_path: Path) -> None:
    ingest([str(LOG)], tmp_path / "metrics")
    path = tmp_path / "metrics" / STATE / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sources": sources}))
    with pytest.raises(DatasetError, match="not whole"):
        read_manifest(tmp_path / "metrics")


def test_a_manifest_is_read_however_it_is_laid_out(tmp_path: Path) -> None:
    ingest([str(LOG)], tmp_path / "metrics")
    path = tmp_path / "metrics" / STATE / MANIFEST
    before = read_manifest(tmp_path / "metrics")
    for indent in (None, 1, 4):
        path.write_text(json.dumps(json.loads(path.read_text()), indent=indent))
        assert read_manifest(tmp_path / "metrics") == before
    assert not ingest([str(LOG)], tmp_path / "metrics").changed


def test_a_log_that_vanishes_is_compressed_with_nothing(tmp_path: Path) -> None:
    assert compressed_with(Input("gone.log", tmp_path / "gone.log")) is None


def test_ids_that_cannot_be_told_apart_end_the_run(tmp_path: Path) -> None:
    words = Words(tmp_path)
    words.add(0, pl.DataFrame({"id": [1, 2, 2], "word": ["a", "b", "c"]}, schema={"id": pl.UInt64, "word": pl.String}))
    rows = pl.DataFrame({"seq": [0, 1], "tube_id": [1, 2]}, schema={"seq": pl.UInt32, "tube_id": pl.UInt64})
    assert spelled(rows[:1], words.near(rows, rows["tube_id"].head(1)), "tube_id")["tube_id"].to_list() == ["a"]
    with pytest.raises(AccountingError, match="one number"):
        spelled(rows, words.near(rows, rows["tube_id"]), "tube_id")
    with pytest.raises(AccountingError, match="has a word"):
        spelled(rows, words.near(rows, rows["tube_id"].head(1)), "tube_id")


def test_a_dataset_may_lie_where_paths_look_like_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.stored.HELD_EVENTS", 0)
    monkeypatch.setattr("analyzer.tables.words.KEPT_WORDS", 0)
    monkeypatch.setattr("analyzer.tables.small.HELD_ROWS", 10)
    out = tmp_path / "x[1]*?" / "{a,b}"
    for logs in ([LOG], [LOG, *LOG.parent.glob("*.log")]):
        ingest([str(log) for log in logs], out)
    dataset = analyzer.open(out)
    assert len(dataset.conversations.collect()) == 1
    assert len(dataset.events.collect())


@pytest.mark.parametrize(
    "value", [{}, {"a": {}}, {"b": 1, "a": [1, {"x": 2}]}, {"a": {"y": {"z": 1}, "x": None}, "b": {}}]
)
def test_json_is_written_member_by_member(value: dict[str, object], tmp_path: Path) -> None:
    create_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
