"""A message of a log as it may be shown: what grammars call secret, or know nothing of, is masked."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from analyzer.addresses import Policy, hidden_value
from analyzer.grammar.pattern import Capture, Column, EventKind, Literal, Pairs, Sequence, paths, tail
from analyzer.grammar.regex import DELIMITERS, TAIL, message_regex
from analyzer.grammar.secret import MASK as VALUE
from analyzer.grammar.types import CREDENTIAL, TYPES
from analyzer.reductions.shapes import skeleton

MASK = "…"
#: how the group of a column begins
_NAMED = re.compile(r"\(\?P<[a-z0-9_]+>")
#: the key of a segment that spells no column
_KEY = re.compile(r" *[A-Za-z_][\w -]*(?:: ?|=)")


def shape(message: str) -> str:
    """A message without its values: its plain words and keys, as in `unmatched`."""
    return str(pl.select(skeleton(pl.lit(message))).item()).replace(VALUE, MASK)


def told(kind: EventKind, message: str) -> str:
    """A message of a kind: the words of its rule and the values of its columns; every other value is masked."""
    for path in paths(kind.sequence):
        head = path[:-1] if isinstance(path[-1], Pairs) else path
        rest = TAIL if head != path else ""
        if found := re.fullmatch(f"{_grouped(head)}({rest})", message):
            *texts, ends = found.groups()
            return _shown(head, texts) + _tail(tail(path), ends)
    return shape(message)


def kept(text: str, holds: str) -> str:
    """A value as it may be shown: of a public address of an endpoint its class, since there is no key here."""
    return hidden_value(text, Policy("class"), holds)


def _grouped(sequence: Sequence) -> str:
    """The regular expression of a sequence without choices, a group for each of its parts."""
    return "".join(f"({_NAMED.sub('(?:', message_regex((item,)).text[1:-1])})" for item in sequence)


def _shown(sequence: Sequence, texts: Iterable[str]) -> str:
    said = (
        text
        if isinstance(item, Literal)
        else kept(CREDENTIAL.sub(rf"\1{MASK}", text), TYPES[item.terminal].holds)
        if isinstance(item, Capture)
        else MASK
        if text
        else ""
        for item, text in zip(sequence, texts, strict=True)
    )
    return "".join(said)


def _tail(columns: Iterable[Column], text: str) -> str:
    parts = re.split(f"([{DELIMITERS}])", text)
    return "".join(part if place % 2 else _segment(columns, part) for place, part in enumerate(parts))


def _segment(columns: Iterable[Column], text: str) -> str:
    """One segment of a tail: as it stands where it spells a column; else its key, or nothing but that it was there."""
    said = text.strip(" ")
    for column in columns:
        for path in paths(column.sequence):
            if found := re.fullmatch(_grouped(path), said):
                return text.replace(said, _shown(path, found.groups()))
    if not said:
        return text
    key = _KEY.match(text)
    before = key.group() if key else ": " if said.startswith(":") else text[: len(text) - len(text.lstrip(" "))]
    return f"{before}{MASK}{text[len(text.rstrip(' ')) :]}"
