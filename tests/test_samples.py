"""Every sample of every rule is what its rule says, by plan and by reference, and can be printed back."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from random import Random

import polars as pl
import pytest

from analyzer.dialects import detect
from analyzer.grammar import dialects, grammar, shipped, wraps
from analyzer.grammar.pattern import Choice, EventKind, captures
from analyzer.grammar.printer import render, sample_values, texts_of
from analyzer.grammar.reference import Parsed, kinds, parse, parse_as
from analyzer.grammar.regex import message_regex
from tests.strategies import read_by_plan

TARGETS = tuple(shipped())
SPEAKING = tuple(stem for stem in TARGETS if kinds(stem))
KINDS = [kind for stem in SPEAKING for kind in kinds(stem)]


def _name(kind: EventKind) -> str:
    return f"{kind.target}:{kind.name}"


@cache
def _planned(target: str) -> dict[str, Parsed | None]:
    samples = [sample for kind in kinds(target) for sample in kind.samples]
    return dict(zip(samples, read_by_plan(target, samples), strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=_name)
def test_samples_are_of_their_kind(kind: EventKind) -> None:
    for sample in kind.samples:
        read = parse(kind.target, sample)
        assert read is not None, sample
        assert read.kind == kind.name, sample
        assert read == _planned(kind.target)[sample]


@pytest.mark.parametrize("kind", KINDS, ids=_name)
def test_the_quick_lexer_reads_samples_like_the_complete_one(kind: EventKind) -> None:
    for sample in kind.samples:
        quick, complete = (parse_as(kind.target, kind.name, sample, lexer) for lexer in ("dynamic", "dynamic_complete"))
        assert quick == complete


@pytest.mark.parametrize("kind", KINDS, ids=_name)
def test_printed_samples_are_read_again(kind: EventKind) -> None:
    for sample in kind.samples:
        read = parse_as(kind.target, kind.name, sample)
        assert read is not None
        again = render(kind.sequence, texts_of(kind, read.values))
        assert parse(kind.target, again) == read, again


@pytest.mark.parametrize("target", SPEAKING)
def test_printed_made_up_values_are_read_again(target: str) -> None:
    random = Random(1)
    made = [(kind, sample_values(kind, random)) for kind in kinds(target) for _ in range(20)]
    lines = [render(kind.sequence, values) for kind, values in made]
    for (kind, values), line, read in zip(made, lines, read_by_plan(target, lines), strict=True):
        assert read is not None, line
        assert read.kind == kind.name, line
        types = {capture.column: capture.terminal for capture in captures(kind.sequence)}
        expected = parse_as(target, kind.name, line)
        assert read == expected, line
        assert read.values.keys() == values.keys() & types.keys(), line


@pytest.mark.parametrize("target", [stem for stem in TARGETS if grammar(stem).noise])
def test_noise_is_taken(target: str) -> None:
    noise = grammar(target).noise or ()
    options = [option for item in noise if isinstance(item, Choice) for option in item.options] or [noise]
    lines = [render(option, {}) + end for option in options for end in ("", " and (more: of it)")]
    for line, read in zip(lines, read_by_plan(target, lines), strict=True):
        assert read == parse(target, line), line
        # words of noise may begin a kind too, which comes first
        assert read is not None, line


def by_plan(layouts: Iterable[EventKind], sample: str) -> list[str]:
    line = pl.Series([sample])
    return [kind.name for kind in layouts if line.str.contains(message_regex(kind.sequence).text).any()]


def by_reference(layouts: Iterable[EventKind], sample: str) -> list[str]:
    return [kind.name for kind in layouts if parse_as("prefix", kind.name, sample, "dynamic_complete")]


def test_layout_samples_are_of_one_layout() -> None:
    for kind in dialects():
        assert kind.samples, kind.name
        for sample in kind.samples:
            assert by_plan(dialects(), sample) == [kind.name], sample
            assert by_reference(dialects(), sample) == [kind.name], sample


def test_framings_are_told_by_what_they_leave() -> None:
    for kind in wraps():
        assert kind.samples, kind.name
        for sample in kind.samples:
            assert detect(pl.Series([sample])).name == f"{kind.name}/bare", sample
            assert by_reference(wraps(), sample) == by_plan(wraps(), sample), sample


@pytest.mark.parametrize("kind", kinds("candidate"), ids=_name)
def test_candidate_samples_are_of_their_form(kind: EventKind) -> None:
    for sample in kind.samples:
        read = parse("candidate", sample)
        assert read is not None, sample
        assert read.kind == kind.name
