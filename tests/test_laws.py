"""The laws of the grammars: each holds for every shipped grammar, and each refuses its counter-example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any

import pytest

from analyzer.errors import GrammarError
from analyzer.grammar import shipped
from analyzer.grammar.laws import (
    LAWS,
    Law,
    agreed,
    begun,
    check_shared,
    delimited,
    discreet,
    linear,
    portable,
    tailed,
    typed,
    witnessed,
)
from analyzer.grammar.lower import lower
from analyzer.grammar.pattern import EventKind, heads
from analyzer.grammar.reference import kinds, lark
from analyzer.grammar.regex import message_regex
from analyzer.grammar.source import parse, source
from analyzer.grammar.terminal import Automaton, automaton
from analyzer.grammar.text import LAYOUTS, SHARED
from analyzer.grammar.types import TYPES

TARGETS = tuple(shipped())


def _lowered(text: str) -> tuple[Any, tuple[EventKind, ...]]:
    read = parse("x", text)
    return read, lower(read, "x")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("target", TARGETS)
def test_law_holds(target: str, law: Law) -> None:
    found = law(source(target), kinds(target))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("law", [portable, linear, delimited, typed], ids=lambda law: law.__name__)
@pytest.mark.parametrize("layout", sorted(LAYOUTS - {SHARED}))
def test_law_holds_for_layouts(layout: str, law: Law) -> None:
    found = law(source(layout), kinds(layout))
    assert not found, "\n".join(map(str, found))


def test_shared_columns_are_typed_and_discreet() -> None:
    assert not check_shared()


def test_columns_are_read_alike_everywhere() -> None:
    found = agreed(kind for target in TARGETS for kind in kinds(target))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("stem", [*TARGETS, *sorted(LAYOUTS - {SHARED})])
def test_grammar_is_lark(stem: str) -> None:
    assert lark(stem).rules


def test_secrets_have_no_type() -> None:
    assert "SECRET" not in TYPES


# -- counter-examples --------------------------------------------------------------------------------------------------

_HEAD = "?message: happened\n/// It happened.\n"
COUNTER_EXAMPLES: list[tuple[Law, str, str]] = [
    (portable, 'happened: "A " X\nX: /a(?=b)b/', "a lookaround"),
    (portable, 'happened: "A " X\nX: /a+?/', "a lazy quantifier"),
    (portable, 'happened: "A " X\nX: /a++/', "a possessive quantifier"),
    (portable, 'happened: "A " X\nX: /(a)/', "a capturing group"),
    (portable, 'happened: "A " X\nX: /\\d+/', "a class such as"),
    (portable, 'happened: "A " X\nX: /\\bend/', "an anchor"),
    (portable, 'happened: "A " X\nX: /[a--b]/', "what Python refuses"),
    (linear, 'happened: "A " X\nX: /(?:a+b*)+/', "repeats a repetition"),
    (linear, 'happened: "A " X\nX: /(?:[a-z]+ ){3}/', "repeats a repetition"),
    (linear, 'happened: "A " X\nX: /[a-z]*[a-f]*;/', "two of its loops"),
    (linear, 'happened: "A " X Y\nX: /(?:[ab]x|[ac]x)*/\nY: /[0-9]/', "two of its loops"),
    (linear, 'happened: "A" INT? INT? "!"', "two of its loops"),
    (delimited, 'happened: "A " name "-x"\nname: NAME', "NAME can take the beginning"),
    (delimited, 'happened: "A " text ", " text\ntext: TEXT\nTEXT: /(?s:.)+/', "TEXT can take the beginning"),
    (delimited, 'happened: "A " X\nX: /WARN|WARNING/', "an alternative that begins a later one"),
    (delimited, 'happened: "A" _keys1{text}\ntext: "text: " X\nX: /[^,()|\\r\\n]+/', "X can take the beginning"),
    (tailed, 'happened: "A" _keys1{state} " and more"', "the tail is not the last part"),
    (tailed, 'happened: "A" (_keys1{state} | " alone")', "the tail stands in a branch"),
    (tailed, 'happened: "A" _keys1{pair}\npair: "pair: (" NAME', "column pair of the tail can contain"),
    (tailed, 'happened: "A" _keys1{name}\nname: NAME', "column name of the tail has no label"),
    (tailed, 'happened: "A (tube_id: " SECRET ")" _keys', "the head contains 'tube_id: '"),
    (tailed, 'happened: "A " X "!" _keys\nX: /[a-z, ]*/', "a terminal of the head can contain"),
    (tailed, 'happened: "A" _keys2{one, two}\none: "n: " NAME\ntwo: "n: " INT', "spells both one and two"),
    (begun, 'happened: tube_id__bare " happened"', "does not begin with literal text"),
    (begun, 'happened: ["A "] INT', "does not begin with literal text"),
    (typed, 'happened: "A " thing\nthing: THING\nTHING: /[a-z]+/', "no terminal of the column has a type"),
    (discreet, 'happened: "A " password\npassword: NAME', "named like a secret"),
    (discreet, 'happened: "A " remote_ufrag__bare\nremote_ufrag__bare: NAME', "named like a secret"),
    (discreet, 'happened: "A, ice-pwd: " label\nlabel: NAME', "captures what 'ice-pwd: ' introduces"),
    (discreet, 'happened: "A" _keys1{label}\nlabel: ("key: " | "token=") NAME', "column label captures"),
    (witnessed, 'happened: "A"', "has no sample"),
    (witnessed, '/// > A\nhappened: "A" [" b"]', "no sample shows ' b'"),
    (witnessed, '/// > A b\nhappened: "A" [" b"]', "no sample shows the absence"),
    (witnessed, '/// > A one\nhappened: "A " ("one" | "two")', "no sample shows 'two'"),
    (witnessed, '/// > A (tube_id: 1)\nhappened: "A" _keys1{state}', "no sample shows column state"),
]


@pytest.mark.parametrize(("law", "rule", "what"), COUNTER_EXAMPLES, ids=lambda value: getattr(value, "__name__", None))
def test_law_refuses_its_counter_example(law: Law, rule: str, what: str) -> None:
    read, lowered = _lowered(_HEAD + rule)
    found = law(read, lowered)
    assert any(what in violation.what for violation in found), found
    assert all(re.match(r"grammars/x\.lark:[0-9]+$", violation.place) and violation.remedy for violation in found)


def test_a_kind_without_a_sentence_is_refused() -> None:
    read, lowered = _lowered('?message: happened\n/// > A\nhappened: "A"')
    assert [violation.what for violation in witnessed(read, lowered)] == ["has no sentence"]


def test_a_column_with_two_readings_is_refused() -> None:
    _, lowered = _lowered('?message: one | two\none: "A " size__a\ntwo: "B " size__b\nsize__a: INT\nsize__b: FLOAT')
    assert [violation.what for violation in agreed(lowered)] == [
        "column size is FLOAT here and INT at grammars/x.lark:2"
    ]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ('happened: "A" INT+', "repetition '+' is not regular enough"),
        ('happened: "A" _more\n_more: "(" _more ")" | "x"', "_more contains itself"),
        ('happened: "A" more\nmore: INT more', "stands inside column"),
        ('happened: "A" missing', "no rule is called missing"),
        ('happened: "A" MISSING', "no terminal is called MISSING"),
    ],
)
def test_lowering_refuses_what_is_not_regular(rule: str, what: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(what)):
        _lowered(_HEAD + rule)


# -- disjoint ----------------------------------------------------------------------------------------------------------


@cache
def _machine(kind: EventKind) -> Automaton:
    text = re.sub(r"\(\?P<[a-z0-9_]+>", "(?:", message_regex(kind.sequence).text)
    return automaton(text[1:-1])


def _meet(one: Automaton, other: Automaton) -> bool:
    """Whether some text spells both."""
    waiting = [(a, b) for a in one.first for b in other.first if one.chars[a] & other.chars[b]]
    seen = set(waiting)
    while waiting:
        a, b = waiting.pop()
        if a in one.last and b in other.last:
            return True
        ahead = {(c, d) for c in one.follow[a] for d in other.follow[b] if one.chars[c] & other.chars[d]} - seen
        seen |= ahead
        waiting += ahead
    return one.nullable and other.nullable


def _overlaps(kinds_: tuple[EventKind, ...]) -> Iterator[str]:
    for one, other in combinations(kinds_, 2):
        begin_alike = any(
            a.startswith(b) or b.startswith(a) for a in heads(one.sequence) for b in heads(other.sequence)
        )
        if begin_alike and _meet(_machine(one), _machine(other)):
            yield f"{other.place}: rule {other.name}: some message is also {one.name}"


@pytest.mark.parametrize("target", [stem for stem in TARGETS if len(kinds(stem)) > 1])
def test_no_message_is_of_two_kinds(target: str) -> None:
    assert not list(_overlaps(kinds(target)))


def test_overlapping_kinds_are_found() -> None:
    _, lowered = _lowered('?message: one | two\none: "A " NAME\ntwo: "A b" _keys')
    assert list(_overlaps(lowered)) == ["grammars/x.lark:3: rule two: some message is also one"]
