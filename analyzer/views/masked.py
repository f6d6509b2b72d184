"""A message of a log as it may be shown: what grammars call secret, or know nothing of, is masked."""

from __future__ import annotations

import re
from collections.abc import Iterable

import polars as pl

from analyzer.accounting.shapes import skeleton
from analyzer.addresses import Policy, hidden_value
from analyzer.grammar.extensions import kept_value
from analyzer.grammar.pattern import Capture, Column, EventKind, Literal, Pairs, Sequence, paths, tail
from analyzer.grammar.regex import DELIMITERS, TAIL, message_regex
from analyzer.grammar.secret import KEY, NAMED, known_key
from analyzer.grammar.secret import MASK as VALUE
from analyzer.grammar.types import TYPES

MASK = "…"
#: how the group of a column begins
_NAMED = re.compile(r"\(\?P<[a-z0-9_]+>")
#: the key of a segment that spells no column
_KEY = re.compile(KEY)
#: behind a beginning that names a secret its value may stand, and may hold what ends a segment
_NAMES_SECRET = re.compile(rf"(?i){NAMED}")


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
            begun = _shown(head, texts)
            return begun + _tail(tail(path), ends, opened=bool(_NAMES_SECRET.search(begun)))
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
        else kept(kept_value(text, MASK), TYPES[item.terminal].holds)
        if isinstance(item, Capture)
        else MASK
        if text
        else ""
        for item, text in zip(sequence, texts, strict=True)
    )
    return "".join(said)


def _tail(columns: Iterable[Column], text: str, *, opened: bool) -> str:
    """A tail; `opened`: a value began that may hold what looks like keys, and goes on until a column is spelled."""
    shown = []
    for place, part in enumerate(re.split(f"([{DELIMITERS}])", text)):
        if place % 2 or not part.strip(" "):
            shown.append(part)
        elif (spelled := _spelled(columns, part)) is not None:
            shown.append(spelled)
            opened = False
        else:
            key = re.match(f" *{known_key()}", part) if opened else _KEY.match(part)
            shown.append(_unspelled(part, key.group() if key else None))
            opened = True
    return "".join(shown)


def _spelled(columns: Iterable[Column], text: str) -> str | None:
    """A segment that spells a column, as it stands."""
    said = text.strip(" ")
    for column in columns:
        for path in paths(column.sequence):
            if found := re.fullmatch(_grouped(path), said):
                return text.replace(said, _shown(path, found.groups()))
    return None


def _unspelled(text: str, key: str | None) -> str:
    """Any other segment: its key, or nothing but that it was there."""
    said = text.strip(" ")
    before = key or (": " if said.startswith(":") else text[: len(text) - len(text.lstrip(" "))])
    return f"{before}{MASK}{text[len(text.rstrip(' ')) :]}"
