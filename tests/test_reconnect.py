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


def test_the_tube_of_a_killed_process_says_nothing_behind_its_death(tmp_path: Path) -> None:
    ingest([str(CASE / f"{side}.log.zst") for side in ("client", "gateway")], tmp_path / "m")
    links = {row["tube_id"][:6]: row for row in pl.read_parquet(tmp_path / "m" / "links").to_dicts()}
    # the client's process, then the gateway's, was killed; the tubes that followed were closed before the logs went on
    for killed, next_ in (("399a46", "1252e1"), ("aa589a", "503e45")):
        assert (links[killed]["ended_by"], links[killed]["lost"]) == ("process_restarted", True)
        assert links[killed]["to_at"] < links[next_]["from_at"]
    # the other end's old tube outlived the new one, and took nothing from it
    assert links["c84e45"]["to_at"] < links["66beff"]["to_at"]
    assert [links[tube]["lost"] for tube in ("92578c", "66beff")] == [True, True]


def test_what_an_older_tube_says_of_its_end_is_its_own(tmp_path: Path) -> None:
    logs = ROOT / "fixtures" / "cases" / "side_by_side"
    ingest([str(logs / f"{side}.log.zst") for side in ("client", "gateway")], tmp_path / "m")
    links = pl.read_parquet(tmp_path / "m" / "links").filter(pl.col("side") == "client").sort("from_at")
    closed = {row["tube_id"][:6]: row["closed_at"].strftime("%H:%M:%S") for row in links.to_dicts()}
    assert closed["419648"] == "16:05:20"
    assert closed["fc6aa2"] == "16:05:25"
