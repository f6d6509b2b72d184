"""Patterns → regular expressions of the Rust `regex` crate, which Polars runs.

A column that stands in several branches gets numbered groups (`x__1`, `x__2`), coalesced by the plan.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from analyzer.grammar.pattern import Capture, Choice, Column, Literal, Pairs, Sequence, Skip, captures
from analyzer.grammar.types import is_list

#: what ends a segment of an unordered tail; `fields.lark` spells the same set in _SEP and OTHER
DELIMITERS = r",()|\r\n"
#: How the tail of a message goes on after its head: a space or a colon and what it introduces, then segments. It is
#: spelled so that no text is tried in two ways, which would take Python's engine hours on a line of spaces.
TAIL = rf"(?:(?: *|:[^{DELIMITERS}]*)[{DELIMITERS}](?s:.)*|:[^{DELIMITERS}]*| )?"
_TAIL_BEGINS = rf"(?:(?: *|:[^{DELIMITERS}]*)[{DELIMITERS}]|(?::[^{DELIMITERS}]*| )?$)"


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression and the column of each of its groups, in order."""

    text: str
    columns: tuple[str, ...]


def escape(text: str) -> str:
    """Escape literal text for the Rust engine, which refuses needless escapes such as that of a space."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&~-])", r"\\\1", text)


def _write(sequence: Sequence, groups: list[str], seen: Counter[str]) -> str:
    parts = []
    for item in sequence:
        match item:
            case Literal(text):
                parts.append(escape(text))
            case Skip(_, regex):
                parts.append(f"(?:{regex})")
            case Capture(column, _, regex):
                seen[column] += 1
                groups.append(column)
                parts.append(f"(?P<{column}__{seen[column]}>{regex})")
            case Choice(options):
                parts.append("(?:" + "|".join(_write(option, groups, seen) for option in options) + ")")
            case Pairs():
                parts.append(TAIL)
    return "".join(parts)


def message_regex(sequence: Sequence) -> Regex:
    """The whole message, anchored; captures of the head only, a tail matches any segments."""
    groups: list[str] = []
    text = _write(sequence, groups, Counter())
    return Regex(f"^{text}$", tuple(groups))


def head_regex(sequence: Sequence) -> Regex:
    """As exact as `message_regex`, and with the same captures, but never past the head.

    What follows the first delimiter of an unordered tail is free, so the match can stop there.
    """
    whole = message_regex(sequence)
    if not whole.text.endswith(f"{TAIL}$"):
        return whole
    return Regex(whole.text.removesuffix(f"{TAIL}$") + _TAIL_BEGINS, whole.columns)


def test_regex(sequence: Sequence) -> str:
    """Tells whether a message is of this kind, without captures."""
    return re.sub(r"\(\?P<[a-z0-9_]+>", "(?:", head_regex(sequence).text)


def prefix_regex(sequence: Sequence) -> str:
    """The beginning of a message, without captures: what follows is free."""
    text = _write(sequence, [], Counter())
    return "^" + re.sub(r"\(\?P<[a-z0-9_]+>", "(?:", text)


def segment_regex(column: Column) -> Regex:
    """One segment of a tail that spells `column`, searched for anywhere between two delimiters."""
    groups: list[str] = []
    text = _write(column.sequence, groups, Counter())
    return Regex(f"[{DELIMITERS}] *{text}(?: *[{DELIMITERS}]|$)", tuple(groups))


def collects(column: Column) -> bool:
    """Whether the column gathers all segments that spell it."""
    return any(is_list(capture.terminal) for capture in captures(column.sequence))
