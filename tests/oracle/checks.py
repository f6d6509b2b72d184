"""What the tables of a set-up must have in common with the folds of its events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from tests.oracle import fold, setup
from tests.oracle.scenarios import BASE, Life

Tables = dict[str, pl.DataFrame]


def check_setup(tables: Tables, lives: Sequence[Life]) -> None:
    """Phases follow one another, and add up to the time from the first line to the last milestone."""
    rows = tables["setup_phases"].to_dicts()
    for life in lives:
        mine = [row for row in rows if row["tube_id"] == life.tube_id]
        told = setup.phases(life.events, life.folded())
        assert [(row["phase"], row["state"]) for row in mine] == [(one.name, one.state) for one in told], life.tube_id
        for row, one in zip(mine, told, strict=True):
            assert row["started_at"] == BASE + timedelta(milliseconds=one.started)
            assert row["ended_at"] == (None if one.ended is None else BASE + timedelta(milliseconds=one.ended))
        done = [row for row in mine if row["state"] == "done"]
        whole = (done[-1]["ended_at"] - mine[0]["started_at"]) / timedelta(microseconds=1) if done else 0
        assert sum(round(row["duration_ms"] * 1000) for row in done) == whole
        assert all(row["duration_ms"] >= 0 and row["span_ms"] >= row["duration_ms"] for row in done)


def check_attempts(tables: Tables, lives: Sequence[Life]) -> None:
    """What ice_stats counts is what is listed, and what the log told of each attempt."""
    counted = tables["turn_attempts"].filter("counted")
    for life in lives:
        granted, tried = fold.attempts(life.folded())
        mine = counted.filter(pl.col("tube_id") == life.tube_id)
        assert len(mine) == tried, life.tube_id
        refusals = sum(event.kind == "allocation_failed" for event in life.events)
        assert len(mine.filter(pl.col("error_code") == 401)) == refusals
        assert len(mine.filter(pl.col("outcome") == "granted")) == granted
