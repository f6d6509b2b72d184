"""Plan and reference are one meaning: for every message the same kind and the same values, or none from both.

`python -m tests.test_agreement` compares every record of the captures instead of one per shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analyzer.grammar import shipped
from analyzer.grammar.pattern import EventKind
from analyzer.grammar.reference import parse
from tests.strategies import CAPTURES, captured, damaged, differences, printed, seeds, shapes, spelled

KINDS = [kind for grammar in shipped().values() for kind in grammar.kinds]
SPEAKING = [stem for stem, grammar in shipped().items() if grammar.kinds]
SHAPES = 300
_settings = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _assert_agree(target: str, messages: list[str]) -> None:
    found = differences(target, messages, parse)
    assert not found, "\n".join(found[:3])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.target}:{kind.name}")
def test_plan_agrees_on_what_the_grammar_spells(kind: EventKind) -> None:
    @settings(_settings, max_examples=3)
    @given(st.lists(spelled(kind.target, kind.name), min_size=2, max_size=6), seeds())
    def agree(messages: list[str], random: Random) -> None:
        _assert_agree(kind.target, [*messages, *(damaged(message, random) for message in messages)])

    agree()


@pytest.mark.parametrize("target", SPEAKING)
def test_plan_agrees_on_damaged_messages(target: str) -> None:
    kinds = shipped()[target].kinds

    # a smaller seed is no smaller message
    @settings(_settings, max_examples=4, phases=[Phase.generate])
    @given(seeds())
    def agree(random: Random) -> None:
        originals = [sample for kind in kinds for sample in kind.samples]
        originals += [printed(kind, random) for kind in kinds for _ in range(2)]
        _assert_agree(target, [*originals, *(damaged(text, random) for text in originals)])

    agree()


def _by_target(messages: pl.DataFrame) -> Iterator[tuple[str, list[str]]]:
    for (target,), rows in messages.filter(pl.col("stem").is_in(list(shipped()))).group_by("stem", maintain_order=True):
        yield str(target), rows["message"].to_list()


@pytest.mark.skipif(not any(folder.is_dir() for folder in CAPTURES), reason="no captures here")
def test_plan_agrees_on_captures() -> None:
    found = shapes(captured())
    chosen = found.gather_every(max(1, len(found) // SHAPES))
    for target, messages in _by_target(chosen):
        _assert_agree(target, messages)


if __name__ == "__main__":
    for target, messages in _by_target(captured().unique(maintain_order=True)):
        different = differences(target, messages, parse)
        print(target, len(messages), "messages", len(different), "differences")
        print("\n".join(different[:20]))
