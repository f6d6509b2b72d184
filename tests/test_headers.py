"""A header that is cut is the one that the layout's pattern reads, whatever the line."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import headers
from analyzer.grammar import dialects, wraps
from analyzer.grammar.pattern import EventKind, captures

KINDS = (*dialects(), *wraps())
#: what cutting can trip over: delimiters in values, characters of several bytes, what is nearly a header
ODD = (
    "",
    " ",
    "2026-11-22 13:19:35,251",
    "2026-11-22 13:19:35,251 Level 5 a.b: one level of two words",
    "2026-11-22 13:19:35,251 Level 5: a.b: a level that ends like a logger",
    "2026-13-22 13:19:35,251 DEBUG a.b: no such month",
    "2026-11-22 13:19:35,251 DEBUG a.b:no space",
    "2026-11-22 13:19:35,251 DEBUG aé: no such logger: text",
    "é026-11-22 13:19:35,251 DEBUG a.b: no such year",
    "2026-11-22 13:19:35,251 - é - ü - text - and more",
    "2026-11-22 13:19:35,251 - a.b - Level 3 - text - and more",
    "2026-11-22 13:19:35,251 - Level 3 - a.b - ",
    "2026-11-22 13:19:35 [Level 3] a.b - text",
)


def _agree(kind: EventKind, lines: Sequence[str]) -> None:
    text = pl.Series("text", lines, dtype=pl.String)
    cut, matched = headers.fields(kind, text, "Europe/Berlin"), headers.matched(kind, text, "Europe/Berlin")
    assert set(cut.columns) == set(matched.columns) == {"message", "matched", *columns(kind)}
    assert cut.equals(matched.select(cut.columns))
    assert cut.schema == matched.select(cut.columns).schema


def columns(kind: EventKind) -> set[str]:
    return {one.column for one in captures(kind.sequence[:-1])}


def _mutated(draw: st.DrawFn, line: str) -> str:
    at = draw(st.integers(0, len(line)))
    other: str = draw(st.sampled_from(["", *" :-é][5\t\n"]))
    return line[:at] + other + line[at + draw(st.integers(0, 2)) :]


@st.composite
def _lines(draw: st.DrawFn) -> list[str]:
    samples = [sample for kind in KINDS for sample in kind.samples] + list(ODD)
    return [_mutated(draw, draw(st.sampled_from(samples))) for _ in range(draw(st.integers(1, 12)))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_samples_and_oddities_are_read_alike(kind: EventKind) -> None:
    _agree(kind, [*(sample for other in KINDS for sample in other.samples), *ODD])


@settings(deadline=None)
@given(_lines())
def test_mutated_lines_are_read_alike(lines: list[str]) -> None:
    for kind in KINDS:
        _agree(kind, lines)


def test_most_layouts_are_cut() -> None:
    cut = {kind.name for kind in KINDS if headers._cuts(kind)}
    assert {"std", "dash", "commander_file", "commander_service"} <= cut
