"""Objects of JSON that a container's runtime cut into pieces: they are whole again, wherever the blocks end."""

from __future__ import annotations

import polars as pl
import pytest

from analyzer.records import split
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
