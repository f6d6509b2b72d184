"""What one unit of a log's times is worth, where its layout lets them have fractions and none has any."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from analyzer.pipeline import ingest
from analyzer.reductions.artefacts import WHOLE_SECOND_TIMES
from tests.test_cut_logs import lines


def as_json(capture: str, side: str, digits: int) -> list[str]:
    """A capture's log as JSON, its times cut to some digits behind the second."""
    told = []
    for line in lines(capture, side):
        stamp, _, rest = line.partition(" DEBUG ")
        logger, found, message = rest.partition(": ")
        if found and len(stamp) == 23:
            ts = stamp.replace(" ", "T").replace(",", ".")[: 19 + digits + bool(digits)] + "Z"
            record = {"timestamp": ts, "level": "DEBUG", "logger": logger, "message": message.rstrip("\n")}
            told.append(json.dumps(record) + "\n")
    return told


def test_whole_seconds_are_told_by_the_times_where_the_layout_does_not(tmp_path: Path) -> None:
    capture, out = "2.2.9/D-relay-client", tmp_path / "m"
    found = {}
    for digits in (0, 3):
        log = tmp_path / "client.log"
        log.write_text("".join(as_json(capture, "client", digits)))
        ingest([str(log)], out / str(digits))
        found[digits] = {name: pl.read_parquet(out / str(digits) / name) for name in ("sources", "leg_measurements")}
    assert found[0]["sources"]["resolution_ms"].to_list() == [1000.0]
    assert found[3]["sources"]["resolution_ms"].to_list() == [0.001]
    coarse = found[0]["leg_measurements"].filter(~pl.col("method").is_in(["reported", "credential_fetch"]))
    assert set(coarse["refused_reason"]) == {WHOLE_SECOND_TIMES.reason}
    fine = {(row["leg"], row["method"]): row["value_ms"] for row in found[3]["leg_measurements"].to_dicts()}
    # what is too coarse to be told is bounded all the same
    assert all(
        row["low_ms"] <= fine[row["leg"], row["method"]] <= row["high_ms"]
        for row in coarse.drop_nulls(["low_ms", "high_ms"]).to_dicts()
    )


def test_a_log_whose_times_turn_out_to_be_fine_is_measured_anew(tmp_path: Path) -> None:
    log, out, told = tmp_path / "client.log", tmp_path / "m", as_json("2.2.9/D-relay-client", "client", 0)
    log.write_text("".join(told))
    ingest([str(log)], out)
    assert pl.read_parquet(out / "connection_legs")["end_to_end_latency_ms"].to_list() == [None]
    log.write_text("".join([*told, told[-1].replace("Z", ".123Z", 1)]))
    ingest([str(log)], out)
    again = pl.read_parquet(out / "connection_legs")
    ingest([str(log)], tmp_path / "once")
    assert again.equals(pl.read_parquet(tmp_path / "once" / "connection_legs"))
    assert pl.read_parquet(out / "sources")["resolution_ms"].to_list() == [0.001]
