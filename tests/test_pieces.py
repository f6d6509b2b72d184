"""Objects of JSON that a container's runtime cut into pieces: they are whole again, wherever the blocks end."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from analyzer.pipeline import ingest
from analyzer.records import split
from analyzer.redact import redact
from tests.test_resolution import as_json

PIECE = 300


def in_cri(records: list[str]) -> list[str]:
    """Lines as CRI keeps them, longer ones in pieces."""
    told = []
    for record in records:
        text = record.rstrip("\n")
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        last = len(pieces) - 1
        told += [
            f"2026-11-22T13:19:35.{n:09d}Z stderr {'P' if n < last else 'F'} {piece}" for n, piece in enumerate(pieces)
        ]
    return told


def in_docker(records: list[str]) -> list[str]:
    """Lines as docker's json-file keeps them, longer ones in pieces."""
    told = []
    for record in records:
        pieces = [record[at : at + 16384] for at in range(0, len(record), 16384)]
        told += [
            json.dumps({"log": piece, "stream": "stderr", "time": f"2026-11-22T13:19:35.{n:09d}Z"})
            for n, piece in enumerate(pieces)
        ]
    return told


def frames(lines: list[str], size: int) -> list[pl.DataFrame]:
    """Blocks of so many lines."""
    whole = pl.DataFrame({"line": range(1, len(lines) + 1), "text": lines}).with_columns(
        offset=pl.col("text").str.len_bytes().cum_sum().cast(pl.Int64),
        size=pl.col("text").str.len_bytes().cast(pl.Int64),
    )
    return [whole.slice(first, size) for first in range(0, len(whole), size)]


def read(lines: list[str], size: int) -> list[tuple[object, ...]]:
    found = pl.concat([records for _, records in split(frames(lines, size))])
    return found.select("ts", "level", "target", "message").rows()


@pytest.mark.parametrize("size", [40, 41, 42, 43, 100, 10_000])
def test_cut_records_are_whole_again(size: int) -> None:
    records = as_json("2.2.9/D-relay-client", "client", 3)
    cut = in_cri(records)
    assert len(cut) > len(records) + 10
    whole = read([record.rstrip("\n") for record in records], 10_000)
    assert read(cut, size) == whole


@pytest.mark.parametrize("name", ["cri", "docker_json"])
def test_redacted_copies_of_cut_records_give_the_same_events(name: str, tmp_path: Path) -> None:
    records = as_json("2.2.9/D-relay-client", "client", 3)
    # the runtime of docker cuts at 16 KiB
    records[60] = records[60].replace('"message": "', f'"pad": "{"x" * 20_000}", "message": "', 1)
    log = tmp_path / "client.log"
    log.write_text("\n".join(in_cri(records) if name == "cri" else in_docker(records)) + "\n")
    redact([str(log)], tmp_path / "copy")
    for given, out in ((log, "of_log"), (tmp_path / "copy" / "client.log", "of_copy")):
        ingest([str(given)], tmp_path / out, addresses="raw")
    told = [
        pl.read_parquet(tmp_path / out / "events").select("line", "kind", "ts", "tube_id")
        for out in ("of_log", "of_copy")
    ]
    assert told[0].equals(told[1])
    assert len(told[0]) > 100
    assert "x" * 100 not in (tmp_path / "copy" / "client.log").read_text()
