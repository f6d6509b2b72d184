"""A conversation on one tube after another: what names it alone is of the tube that began last."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analyzer.pipeline import ingest
from tests.strategies import ROOT

CASE = ROOT / "fixtures" / "cases" / "reconnect"


def test_no_byte_counts_for_the_old_tube_and_for_the_new_one(tmp_path: Path) -> None:
    ingest([str(CASE / f"{side}.log.zst") for side in ("client", "gateway")], tmp_path / "m")
    rows = pl.read_parquet(tmp_path / "m" / "conversations").to_dicts()
    assert len(rows) == 2
    for row in rows:
        # what frames them comes to less than a hundredth
        assert 30_000 <= row["bytes_sent"] <= 30_300
        assert 30_000 <= row["bytes_received"] <= 30_400
    # of each side's two tubes the one that carried 10,000 bytes counts no more; where its counter was not told, nothing
    channels = pl.read_parquet(tmp_path / "m" / "channels")
    counted = channels.filter(pl.col("bytes_sent") < 20_000)["bytes_sent"].to_list()
    assert len(counted) == 3
    assert max(counted) <= 10_200
