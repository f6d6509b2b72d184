"""The grammar compiler: `.lark` files → patterns. Knows Lark, knows nothing of logs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from analyzer.grammar.lower import NOISE, column_name, lower, lower_rule
from analyzer.grammar.pattern import Column, EventKind, Sequence
from analyzer.grammar.source import source
from analyzer.grammar.text import SHARED, stems

#: the rule of a tail's segments that spell no column
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one logger can say: its kinds, and the beginnings of lines known to inform nothing."""

    target: str
    kinds: tuple[EventKind, ...]
    noise: Sequence | None


@cache
def grammar(stem: str) -> Grammar:
    """The lowered grammar of one target (stem of its file)."""
    read = source(stem)
    kinds = lower(read, stem) if "message" in read.rules else ()
    return Grammar(stem, kinds, lower_rule(read, NOISE) if NOISE in read.rules else None)


def known(stem: str | None) -> Grammar | None:
    """The grammar of a target, compiled when a record of it is first met; null for a target without one."""
    return grammar(stem) if stem is not None and stem in stems() else None


@cache
def shipped() -> dict[str, Grammar]:
    """All shipped message grammars by target stem."""
    return {stem: grammar(stem) for stem in stems()}


@cache
def dialects() -> tuple[EventKind, ...]:
    """The line prefixes: layouts of a record in a line, in order of preference."""
    return lower(source("prefix"), "prefix", start="record")


@cache
def wraps() -> tuple[EventKind, ...]:
    """The layouts in which another program wraps a whole line."""
    return lower(source("prefix"), "prefix", start="wrap")


@cache
def candidate_forms() -> tuple[EventKind, ...]:
    """The spellings of an ICE candidate: the attribute of RFC 8839, and the ICE agent's own."""
    return lower(source("candidate"), "candidate", start="attribute")


@cache
def shared_columns() -> dict[str, Column]:
    """The columns of `fields.lark` by rule, in its order."""
    read = source(SHARED)
    names = [rule for rule in read.notes if not rule.startswith("_") and rule != OTHER]
    return {rule: Column(column_name(rule), lower_rule(read, rule, as_column=True)) for rule in names}
