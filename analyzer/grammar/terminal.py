"""What a terminal's regular expression says of itself: its constructs, its automaton, and texts that spell it.

The laws ask whether a longest match is the only match, the printer asks for a plausible text. Both read the tree that
Python's own parser of regular expressions makes.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

# private since 3.11, and without stubs; Lark reads widths of terminals through the same module
_parser: Any = importlib.import_module("re._parser")
_UNBOUNDED: Any = _parser.MAXREPEAT

#: the characters a class is tried on: one block of Unicode and a few beyond stand for all others
ALPHABET = frozenset(map(chr, range(256))) | frozenset("…→😀")
_PRINTED = [char for char in sorted(ALPHABET) if "!" <= char <= "~"]
Chars = frozenset[str]

_REFUSED = {
    "ASSERT": "a lookaround",
    "ASSERT_NOT": "a lookaround",
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a backreference",
    "MIN_REPEAT": "a lazy quantifier",
    "POSSESSIVE_REPEAT": "a possessive quantifier",
    "ATOMIC_GROUP": "an atomic group",
    "AT": "an anchor or \\b",
    "CATEGORY": "a class such as \\d, \\w or \\s",
}


@cache
def tree(regex: str) -> Any:
    """Python's parse tree of a regular expression."""
    with warnings.catch_warnings():
        # a doubled set operator only warns in Python and is another set in Rust
        warnings.simplefilter("error", FutureWarning)
        return _parser.parse(regex)


def width(regex: str) -> int | None:
    """How many characters each match of a portable terminal has; None where some have more than others."""
    least, most = tree(regex).getwidth()
    return int(least) if least == most else None


def _nodes(part: Any) -> Iterator[tuple[str, Any]]:
    """All nodes of a tree, outer before inner."""
    for op, argument in part:
        yield str(op), argument
        match str(op):
            case "BRANCH":
                for option in argument[1]:
                    yield from _nodes(option)
            case "SUBPATTERN" | "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                yield from _nodes(argument[-1])
            case "ASSERT" | "ASSERT_NOT":
                yield from _nodes(argument[1])
            case "ATOMIC_GROUP":
                yield from _nodes(argument)
            case "IN":
                yield from ((str(inner), value) for inner, value in argument)


def unportable(regex: str) -> list[str]:
    """Constructs that Rust's engine lacks or reads differently, in words; empty for a portable terminal."""
    try:
        found = [_REFUSED[op] for op, _ in _nodes(tree(regex)) if op in _REFUSED]
        found += ["a capturing group" for op, argument in _nodes(tree(regex)) if op == "SUBPATTERN" and argument[0]]
    except (re.error, FutureWarning) as error:
        return [f"what Python refuses: {error}"]
    if re.search(r"\{,", regex):
        found.append("a repetition without a lower bound")
    return list(dict.fromkeys(found))


def nests_repetition(regex: str) -> bool:
    """Whether an unbounded repetition stands inside another repetition."""
    repeated = [body for op, (_, most, body) in _repeats(tree(regex)) if most != 1]
    return any(most == _UNBOUNDED for body in repeated for _, (_, most, _) in _repeats(body))


def _repeats(part: Any) -> list[tuple[str, Any]]:
    return [(op, argument) for op, argument in _nodes(part) if op == "MAX_REPEAT"]


@dataclass(frozen=True, slots=True)
class Automaton:
    """Glushkov's automaton: a state per character of the expression. Every state lies on a way to a match."""

    chars: tuple[Chars, ...]
    first: frozenset[int]
    last: frozenset[int]
    follow: tuple[frozenset[int], ...]
    nullable: bool

    def begins(self) -> Chars:
        """Characters a match can begin with."""
        return frozenset().union(*(self.chars[state] for state in self.first))

    def spells(self) -> Chars:
        """Characters a match can have anywhere."""
        return frozenset().union(*self.chars)

    def after(self, states: frozenset[int]) -> frozenset[int]:
        """States one character further."""
        return frozenset[int]().union(*(self.follow[state] for state in states))


class _Builder:
    """Collects the states of one expression."""

    def __init__(self) -> None:
        self.chars: list[Chars] = []
        self.follow: list[set[int]] = []

    def state(self, chars: Chars) -> tuple[set[int], set[int], bool]:
        self.chars.append(chars)
        self.follow.append(set())
        return {len(self.chars) - 1}, {len(self.chars) - 1}, False

    def link(self, lasts: set[int], firsts: set[int]) -> None:
        for state in lasts:
            self.follow[state] |= firsts

    def sequence(self, part: Any, flags: int) -> tuple[set[int], set[int], bool]:
        first: set[int] = set()
        last: set[int] = set()
        nullable = True
        for op, argument in part:
            begin, end, empty = self.node(str(op), argument, flags)
            self.link(last, begin)
            first |= begin if nullable else set()
            last = end | last if empty else end
            nullable = nullable and empty
        return first, last, nullable

    def node(self, op: str, argument: Any, flags: int) -> tuple[set[int], set[int], bool]:
        match op:
            case "BRANCH":
                options = [self.sequence(option, flags) for option in argument[1]]
                firsts, lasts, empties = zip(*options, strict=True)
                return set().union(*firsts), set().union(*lasts), any(empties)
            case "SUBPATTERN":
                return self.sequence(argument[3], (flags | argument[1]) & ~argument[2])
            case "MAX_REPEAT":
                least, most, body = argument
                return self.repeat(least, most, body, flags)
        return self.state(_chars(op, argument, flags))

    def repeat(self, least: int, most: Any, body: Any, flags: int) -> tuple[set[int], set[int], bool]:
        endless = most == _UNBOUNDED
        copies = max(least, 1) if endless else int(most)
        first: set[int] = set()
        last: set[int] = set()
        nullable = True
        for number in range(copies):
            begin, end, empty = self.sequence(body, flags)
            empty = empty or number >= least
            self.link(last, begin)
            first |= begin if nullable else set()
            last = end | last if empty else end
            nullable = nullable and empty
            if endless and number == copies - 1:
                self.link(end, begin)
        return first, last, nullable or least == 0


def _chars(op: str, argument: Any, flags: int) -> Chars:
    match op:
        case "LITERAL":
            found = frozenset(chr(argument))
        case "NOT_LITERAL":
            found = ALPHABET - {chr(argument)}
        case "ANY":
            found = ALPHABET if flags & re.DOTALL else ALPHABET - {"\n"}
        case "RANGE":
            found = frozenset(char for char in ALPHABET if argument[0] <= ord(char) <= argument[1])
        case "IN":
            negated = str(argument[0][0]) == "NEGATE"
            members = [_chars(str(inner), value, flags) for inner, value in argument[negated:]]
            found = frozenset[str]().union(*members)
            found = ALPHABET - found if negated else found
        case _:
            raise ValueError(f"{op} is not portable")
    if flags & re.IGNORECASE:
        found |= frozenset(char for each in found for char in (each.lower(), each.upper()))
    return found


@cache
def automaton(regex: str) -> Automaton:
    """The automaton of a portable terminal.

    Raises:
        ValueError: the terminal is not portable.
    """
    return _automaton(tree(regex))


def _automaton(part: Any) -> Automaton:
    builder = _Builder()
    first, last, nullable = builder.sequence(part, 0)
    return Automaton(
        tuple(builder.chars), frozenset(first), frozenset(last), tuple(map(frozenset, builder.follow)), nullable
    )


def runs_into(regex: str, ahead: tuple[Chars, ...]) -> bool:
    """Whether a match can end later than where `ahead` begins: its longest match is then not the only one.

    `ahead` are the characters that may follow, one set per place, as far as they are known; empty at the end.
    """
    machine = automaton(regex)
    states = machine.last
    following = machine.after(states) | (machine.first if machine.nullable else frozenset())
    if not ahead:
        return False
    for chars in ahead:
        states = frozenset(state for state in following if machine.chars[state] & chars)
        if not states:
            return False
        if states & machine.last:
            return True
        following = machine.after(states)
    return True


def hides_longer(regex: str) -> bool:
    """Whether an alternative is the beginning of a later one, which is then never tried first."""
    return any(
        _begins_some(_automaton(early), _automaton(late))
        for op, argument in _nodes(tree(regex))
        if op == "BRANCH"
        for number, early in enumerate(argument[1])
        for late in argument[1][number + 1 :]
    )


def _begins_some(early: Automaton, late: Automaton) -> bool:
    if early.nullable:
        return bool(late.first)
    waiting = [(one, other) for one in early.first for other in late.first]
    seen = set(waiting)
    while waiting:
        one, other = waiting.pop()
        if not early.chars[one] & late.chars[other]:
            continue
        if one in early.last and late.follow[other]:
            return True
        pairs = {(a, b) for a in early.follow[one] for b in late.follow[other]} - seen
        seen |= pairs
        waiting += pairs
    return False


def example(regex: str, random: Random) -> str:
    """A text that spells the terminal: any branch, few repetitions, printable where the terminal allows."""
    return _example(tree(regex), random, 0)


def _example(part: Any, random: Random, flags: int) -> str:
    return "".join(_piece(str(op), argument, random, flags) for op, argument in part)


def _piece(op: str, argument: Any, random: Random, flags: int) -> str:
    match op:
        case "BRANCH":
            return _example(random.choice(argument[1]), random, flags)
        case "SUBPATTERN":
            return _example(argument[3], random, (flags | argument[1]) & ~argument[2])
        case "MAX_REPEAT":
            least, most, body = argument
            times = random.randint(least, min(most, least + 3))
            return "".join(_example(body, random, flags) for _ in range(times))
    allowed = _chars(op, argument, flags)
    return random.choice([char for char in _PRINTED if char in allowed] or sorted(allowed))
