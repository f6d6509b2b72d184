"""Lark as the reference: what a grammar means, one message at a time.

The plan has to agree with this module, never the other way round. It is slow (about a millisecond a message), so it
serves tests and explanations. Earley with Lark's `dynamic` lexer takes the longest text of a terminal only; the
`delimited` law makes that the only text, so that nothing is lost against `dynamic_complete`, which takes all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from os.path import commonprefix
from typing import Any, Literal

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF
from lark.lexer import PatternStr

from analyzer.grammar import candidate_forms, dialects, grammar, wraps
from analyzer.grammar.lower import NOISE, column_name
from analyzer.grammar.pattern import EventKind, heads
from analyzer.grammar.source import source
from analyzer.grammar.types import MOST_LISTED, TYPES, is_list

_NOISE_LINE = "noise_line"
# noise is the beginning of a message; what follows is free
_NOISE_RULE = f"\n{_NOISE_LINE}: {NOISE} _NOISE_REST?\n_NOISE_REST: /(?s:.)+/\n"
#: a rule is near a message when this much of its head is spelled alike
_NEAR = 0.6
Lexer = Literal["dynamic", "dynamic_complete"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A message as the grammar reads it: its kind, and the typed values of the columns it gives."""

    kind: str
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class Failure:
    """Where the nearest rule stopped: `at` counts the characters it took."""

    kind: EventKind | None
    at: int
    expected: tuple[str, ...]


def kinds(stem: str) -> tuple[EventKind, ...]:
    """Everything a message of this grammar can be, in the order of its lists."""
    match stem:
        case "prefix":
            return (*dialects(), *wraps())
        case "candidate":
            return candidate_forms()
    return grammar(stem).kinds


def _has_noise(stem: str) -> bool:
    return NOISE in source(stem).rules


@cache
def lark(stem: str, lexer: Lexer = "dynamic") -> Lark:
    """Lark's parser of one grammar; its starts are the kinds, and `noise_line`."""
    start = [kind.name for kind in kinds(stem)]
    text = source(stem).text
    if _has_noise(stem):
        start, text = [*start, _NOISE_LINE], text + _NOISE_RULE
    return Lark(
        text, start=start, parser="earley", lexer=lexer, ambiguity="resolve", maybe_placeholders=False, regex=False
    )


def _tree(stem: str, start: str, message: str, lexer: Lexer = "dynamic") -> Tree[Token] | None:
    try:
        return lark(stem, lexer).parse(message, start=start)
    except (UnexpectedCharacters, UnexpectedEOF):
        return None


def _begins(kind: EventKind, message: str) -> bool:
    return message.startswith(heads(kind.sequence))


def _columns(tree: Tree[Token], stem: str) -> Iterator[tuple[str, Token | None]]:
    """Columns in the order of the message, each with the token that gives its value."""
    for child in tree.children:
        if not isinstance(child, Tree):
            continue
        params, _ = source(stem).rules.get(str(child.data), ((), None))
        if params:
            yield from _columns(child, stem)
        else:
            yield column_name(str(child.data)), next(_typed(child), None)


def _typed(tree: Tree[Token]) -> Iterator[Token]:
    for child in tree.children:
        if isinstance(child, Tree):
            yield from _typed(child)
        elif child.type in TYPES:
            yield child


def _values(tree: Tree[Token], stem: str) -> dict[str, object]:
    """The first segment that spells a column decides, even if it gives nothing; a list takes all of them."""
    values: dict[str, Any] = {}
    for column, token in _columns(tree, stem):
        value = None if token is None else TYPES[token.type].value(str(token))
        if token is not None and is_list(token.type):
            values.setdefault(column, []).append(value)
        else:
            values.setdefault(column, value)
    taken = {column: _taken(value) if isinstance(value, list) else value for column, value in values.items()}
    return {column: value for column, value in taken.items() if value is not None}


def _taken(listed: list[object]) -> list[object] | None:
    """What is taken of a list, in as many as are taken of one."""
    return [value for value in listed[:MOST_LISTED] if value is not None] or None


def parse_as(stem: str, kind: str, message: str, lexer: Lexer = "dynamic") -> Parsed | None:
    """Parse one message as one kind; None when it is not of that kind."""
    tree = _tree(stem, kind, message, lexer)
    return None if tree is None else Parsed(kind, _values(tree, stem))


def parse(stem: str, message: str) -> Parsed | None:
    """Parse one message of a target; kind `noise` for one known to inform nothing, None for an unmatched one."""
    for kind in kinds(stem):
        # a message that does not begin like a kind cannot be of it; that is only faster to see
        if _begins(kind, message) and (parsed := parse_as(stem, kind.name, message)):
            return parsed
    if _has_noise(stem) and _tree(stem, _NOISE_LINE, message) is not None:
        return Parsed(NOISE, {})
    return None


def explain_failure(stem: str, message: str) -> Failure:
    """Say which rule an unmatched message almost was, where it stopped being it, and what should have stood there.

    The nearest rule is the one that takes the most characters; among equals the one whose head is spelled most alike.
    """
    best: tuple[tuple[int, float], Failure] | None = None
    for kind in kinds(stem):
        failure = _failure(stem, kind, message)
        alike = _likeness(kind, message)
        # a letter or two in common is no likeness
        if failure is None or (failure.at < 4 and alike < _NEAR):
            continue
        if best is None or (failure.at, alike) > best[0]:
            best = (failure.at, alike), failure
    return best[1] if best else Failure(None, 0, ())


def _likeness(kind: EventKind, message: str) -> float:
    return max(
        SequenceMatcher(None, head, message[: len(head)], autojunk=False).ratio() for head in heads(kind.sequence)
    )


def _failure(stem: str, kind: EventKind, message: str) -> Failure | None:
    try:
        lark(stem).parse(message, start=kind.name)
    except UnexpectedCharacters as error:
        at, names, items = error.pos_in_stream or 0, error.allowed or set(), error.considered_rules or set()
    except UnexpectedEOF as error:
        at, names, items = len(message), set(error.expected), set()
    else:
        return None
    terminals = lark(stem).terminals
    literals = {term.name: term.pattern.value for term in terminals if isinstance(term.pattern, PatternStr)}
    columns = {str(item.expect.name): column_name(str(item.rule.origin.name)) for item in items}
    # Lark sees a literal as one piece: the caret goes to the first letter that differs
    agreed = {name: len(commonprefix([literals.get(name, ""), message[at:]])) for name in names}  # noqa: RUF071 - character by character is meant
    most = max(agreed.values(), default=0)
    expected = {_spelled(name, literals, columns) for name in names if agreed[name] == most}
    return Failure(kind, at + most, tuple(sorted(expected)))


def _spelled(name: str, literals: dict[str, str], columns: dict[str, str]) -> str:
    if name in literals:
        return f"'{literals[name]}'"
    match name:
        case "_SEP":
            return "one of , ( ) |"
        case "_GAP":
            return "a space or a colon before one of , ( ) |"
    column = columns.get(name, "")
    return f"{name} ({column})" if column and not column.startswith("_") and name in TYPES else name
