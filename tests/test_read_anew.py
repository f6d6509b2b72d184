"""A log that was read in another layout than its own is read anew when it is asked for otherwise."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from analyzer.pipeline import ingest
from tests.strategies import ROOT

LOG = ROOT / "fixtures" / "captured" / "2.2.9" / "D-relay-client" / "client.log"


def read(out: Path, dialect: str | None) -> tuple[str, int]:
    ingest([str(LOG)], out, dialect=dialect)
    (row,) = pl.read_parquet(out / "sources").to_dicts()
    return row["dialect"], row["events"]


@pytest.mark.parametrize("then", [None, "std"])
def test_a_wrong_layout_does_not_stay(then: str | None, tmp_path: Path) -> None:
    assert read(tmp_path / "m", "dash") == ("dash", 0)
    assert read(tmp_path / "m", then) == ("std", 155)
    assert pl.read_parquet(tmp_path / "m" / "conversations")["connected"].to_list() == [True]
    # and what was read in its own is known
    assert ingest([str(LOG)], tmp_path / "m").changed is False


def test_a_layout_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    assert read(tmp_path / "m", None) == ("std", 155)
    assert read(tmp_path / "m", "dash") == ("dash", 0)
