"""One pattern, one language: Rust's engine (the plan), Python's (the reference) and RE2 take the same texts.

`python -m tests.test_engines` tries ten times as many texts. RE2 is the third opinion where it is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from random import Random

import polars as pl
import pytest

from analyzer.grammar.pattern import Sequence, Skip, terminals
from analyzer.grammar.printer import render, sample_values
from analyzer.grammar.regex import message_regex
from analyzer.grammar.terminal import example
from tests.pump import kinds, pumps
from tests.strategies import damaged

try:
    import re2
except ImportError:  # no wheel for this machine
    re2 = None

TERMINALS = sorted({(item.terminal, item.regex) for kind in kinds() for item in terminals(kind.sequence)})
#: a smaller text is no smaller proof: loops are taken a few times, and often enough to leave what is unrolled
LENGTHS = (1, 7, 70)
TEXTS = 40


def _patterns(count: int) -> Iterator[tuple[str, str, list[str]]]:
    """Every terminal and every kind's pattern: its name, its expression, and texts, of which many are damaged."""
    for name, regex in TERMINALS:
        random = Random(name)
        spelled = [example(regex, random) for _ in range(count)]
        yield name, regex, [*spelled, *_pumped((Skip(name, regex),)), *(damaged(text, random) for text in spelled)]
    for kind in kinds():
        random = Random(kind.name)
        printed = [render(kind.sequence, sample_values(kind, random)) for _ in range(count)]
        texts = [*kind.samples, *printed, *_pumped(kind.sequence)]
        regex = re.sub(r"\(\?P<[a-z0-9_]+>", "(?:", message_regex(kind.sequence).text[1:-1])
        yield f"{kind.target}:{kind.name}", regex, [*texts, *(damaged(text, random) for text in texts)]


def _pumped(sequence: Sequence) -> list[str]:
    return [pump.text(length) for pump in pumps(sequence) for length in LENGTHS]


def differences(count: int) -> Iterator[str]:
    """Texts that one engine takes and another does not, with the pattern."""
    for name, regex, given in _patterns(count):
        texts = list(dict.fromkeys(given))
        python = [re.fullmatch(regex, text) is not None for text in texts]
        verdicts = {"rust": pl.Series(texts, dtype=pl.String).str.contains(f"^(?:{regex})$").to_list()}
        if re2:
            linear = re2.compile(regex)
            verdicts["re2"] = [linear.fullmatch(text) is not None for text in texts]
        assert any(python), name
        for engine, taken in verdicts.items():
            for text, one, other in zip(texts, python, taken, strict=True):
                if one != other:
                    yield f"{name}: python {one}, {engine} {other}: {text[:200]!r}"


def test_engines_agree() -> None:
    found = list(differences(TEXTS))
    assert not found, "\n".join(found[:5])


@pytest.mark.skipif(re2 is None, reason="google-re2 has no wheel for every machine; the extra `oracles` installs it")
def test_the_third_engine_is_another_one() -> None:
    assert re2.compile("a+").fullmatch("aaa")
    with pytest.raises(re2.error):
        re2.compile("(a)\\1")


if __name__ == "__main__":
    told = list(differences(10 * TEXTS))
    print(sum(len(texts) for _, _, texts in _patterns(10 * TEXTS)), "texts", len(told), "differences")
    print("\n".join(told[:20]))
    sys.exit(bool(told))
