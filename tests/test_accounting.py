"""Counts by logger and by shape: few in memory however many there are, and the same in any order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.accounting import ledger
from analyzer.accounting.ledger import FURTHER, added, added_shapes
from analyzer.pipeline import ingest

MOST = 3
NAMES = ("a", "b", "cc", "dd", "eee", "fff", "gggg", FURTHER)
BY = ("source", "part")
#: source, part, name, records
ROWS = st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 1), st.sampled_from(NAMES[:-1]), st.integers(1, 9)))


def tallies(rows: Sequence[tuple[str, int, str, int]]) -> pl.DataFrame:
    named = pl.DataFrame(
        rows, schema={"source": pl.String, "part": pl.Int64, "target": pl.String, "records": pl.Int64}, orient="row"
    )
    none = pl.lit(None, pl.Datetime("us", "UTC"))
    fates = {name: "records" if name == "unmatched" else pl.lit(0, pl.Int64) for name in ledger.FATES}
    return named.with_columns(**fates, first_ts=none, last_ts=none, levels=pl.lit(["DEBUG"], pl.List(pl.String)))


def shapes(rows: Sequence[tuple[str, int, str, int]]) -> pl.DataFrame:
    schema = {"source": pl.String, "part": pl.Int64, "skeleton": pl.String, "count": pl.Int64}
    told = pl.DataFrame(rows, schema=schema, orient="row")
    return told.with_columns(target=pl.lit("t"), line=pl.col("count"))


@given(ROWS, st.integers(0, 20))
def test_counts_of_a_portion_and_of_all_are_the_same(rows: list[tuple[str, int, str, int]], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "MOST_LOGGERS", MOST)
        patched.setattr(ledger, "MOST_SHAPES", MOST)
        for made, add, name in (
            (tallies, lambda f, *by: added(f, *by, "target"), "target"),
            (shapes, added_shapes, "skeleton"),
        ):
            once = add(made(rows), "source")
            parts = [add(made(some), *BY) for some in (rows[cut:], rows[:cut])]
            again = add(add(pl.concat(parts), *BY), "source")
            count = "records" if name == "target" else "count"
            told = [frame.select("source", name, count).sort("source", name) for frame in (once, again)]
            assert told[0].equals(told[1])
            assert once[count].sum() == sum(row[3] for row in rows)
            for source in ("x", "y"):
                own = once.filter(pl.col("source") == source)[name].to_list()
                given_ = sorted({row[2] for row in rows if row[0] == source}, key=lambda one: (len(one), one))
                assert sorted(set(own) - {FURTHER}) == sorted(given_[:MOST])
                assert (FURTHER in own) == (len(given_) > MOST)


def test_a_flood_of_names_and_shapes_is_accounted_for(tmp_path: Path) -> None:
    log, out = tmp_path / "app.log", tmp_path / "metrics"
    words = [first + second for first in "abcdefghijklmnopqrstuvwxyz" for second in "abcdefghijklmnop"]
    with log.open("w") as stream:
        for number in range(20_000):
            name = f"x{number}" if number % 2 else "tube"
            text = f"{words[number % 400]} {words[number // 400]} went {words[number * 7 % 401]}"
            stream.write(f"2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.{name}: {text}\n")
    done = ingest([str(log)], out)
    (source,) = done.sources.to_dicts()
    assert source["records"] == source["unmatched"] == 20_000
    dataset = analyzer.open(out)
    coverage = dataset.coverage.collect()
    assert len(coverage) == ledger.MOST_LOGGERS + 1
    assert coverage["records"].sum() == 20_000
    assert coverage.filter(pl.col("target") == FURTHER)["records"].item() == 10_000 - ledger.MOST_LOGGERS + 1
    unmatched = dataset.unmatched.collect()
    assert len(unmatched) == ledger.MOST_SHAPES + 1
    assert unmatched["count"].sum() == 20_000
