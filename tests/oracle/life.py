"""The tables of a tube's life against the fold: links, states, and the numbering of restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from tests.oracle import fold
from tests.oracle.scenarios import BASE, Life

Tables = Mapping[str, pl.DataFrame]


def same(found: dict[str, Any], told: dict[str, Any], what: str) -> None:
    """A row has what is told of it."""
    wrong = {
        name: (found[name], value)
        for name, value in told.items()
        if found[name] != (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)
    }
    assert not wrong, f"{what}: (table, fold) differ in {wrong}"


def _check_links(tables: Tables, lives: Sequence[Life]) -> None:
    rows = {row["tube_id"]: row for row in tables["links"].to_dicts()}
    assert rows.keys() == {life.tube_id for life in lives}
    for life in lives:
        tube = life.folded()
        closed = tube.closed_at is not None
        told = {
            "conversation_id": life.conversation_id,
            "side": tube.side,
            "begun": tube.begun,
            "original": True,
            "connected": True if tube.connected else False if fold.is_never(tube) else None,
            "lost": (fold.is_lost(tube) or (False if tube.states_told else None)) if tube.connected else None,
            "ended_by": "closed" if closed else "log_ended",
            "close_reason": tube.close_reason,
            "from_at": BASE + timedelta(milliseconds=min(tube.times)),
        }
        same(rows[life.tube_id], told, f"links of {life.tube_id}")


def _check_states(tables: Tables, lives: Sequence[Life]) -> None:
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for row in tables["states"].sort("from_at", "origin", maintain_order=True).to_dicts():
        at = round((row["from_at"] - BASE) / timedelta(milliseconds=1))
        found.setdefault((row["tube_id"], row["machine"]), []).append((row["state"], at))
    told = {(life.tube_id, machine): steps for life in lives for machine, steps in fold.states(life.events).items()}
    # at one moment several states can be told; the table is in the order of lines
    assert {key: sorted(steps, key=str) for key, steps in found.items()} == {
        key: sorted(steps, key=str) for key, steps in told.items()
    }


def _check_generations(tables: Tables, lives: Sequence[Life]) -> None:
    stats = dict(tables["ice_stats"].select("tube_id", "generations").rows())
    for (tube_id,), rows in tables["generations"].partition_by("tube_id", as_dict=True).items():
        assert rows["attempt"].to_list() == list(range(1, len(rows) + 1))
        assert rows["generation"].is_sorted()
        assert rows["generation"].max() == stats[str(tube_id)]
        gathered = rows.filter(pl.col("gathered").fill_null(False))
        assert gathered["generation"].is_unique().all()
    assert set(tables["generations"]["tube_id"]) == {life.tube_id for life in lives}


def check_life(tables: Tables, lives: Sequence[Life]) -> None:
    """The three tables are those of the lives."""
    _check_links(tables, lives)
    _check_states(tables, lives)
    _check_generations(tables, lives)
