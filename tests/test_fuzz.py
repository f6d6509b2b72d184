"""A few thousand damaged lines; `python -m tests.fuzz` takes as many as are wanted."""

from __future__ import annotations

from tests.fuzz import fuzz

SEEDS, LINES = range(6), 1500


def test_damaged_lines_break_nothing() -> None:
    read = 0
    for seed in SEEDS:
        records, wrong = fuzz(LINES, seed)
        assert not wrong, seed
        read += records
    # of archives that are damaged little is left, and some lines make one record
    assert read > len(SEEDS) * LINES / 4
