"""Reads the shipped `.lark` files through Lark's own reader, as trees.

The only module that touches Lark's internals. Rules are taken before EBNF expansion, where an optional part is still
one node; terminals are taken as trees too. Every grammar is read together with `fields.lark`, which holds the shared
columns, terminals and the templates of unordered tails.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from lark.exceptions import LarkError
from lark.load_grammar import GrammarBuilder

from analyzer.errors import GrammarError
from analyzer.grammar.text import LAYOUTS, SHARED, Note, notes_in, text_of, whole_text


@dataclass(frozen=True, slots=True)
class Source:
    """One grammar as read: Lark's trees by rule and terminal name, and the notes of the rules in its own file."""

    stem: str
    text: str
    rules: dict[str, tuple[tuple[str, ...], Any]]
    terminals: dict[str, Any]
    notes: dict[str, Note]

    @property
    def file(self) -> str:
        """Name of the file, as messages show it."""
        return f"grammars/{self.stem}.lark"


def _trees(text: str, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rule and terminal trees of one grammar text alone; names it only uses are not looked up."""
    builder = GrammarBuilder()
    try:
        builder.load_grammar(text, file)
    except LarkError as error:
        raise GrammarError(f"{file} is not a grammar", str(error).splitlines()[0]) from error
    rules: dict[str, Any] = {}
    terminals: dict[str, Any] = {}
    for name, definition in builder._definitions.items():  # noqa: SLF001 - `build` would want every name defined here
        if definition.is_term:
            terminals[str(name)] = definition.tree
        else:
            rules[str(name)] = (tuple(map(str, definition.params)), definition.tree)
    return rules, terminals


def parse(stem: str, text: str) -> Source:
    """Read one grammar text.

    Raises:
        GrammarError: the text is not a Lark grammar.
    """
    rules, terminals = _trees(text, f"grammars/{stem}.lark")
    if stem in LAYOUTS:
        return Source(stem, text, rules, terminals, notes_in(text))
    shared = source(SHARED)
    if twice := (rules.keys() & shared.rules.keys()) | (terminals.keys() & shared.terminals.keys()):
        names = ", ".join(sorted(twice))
        raise GrammarError(f"grammars/{stem}.lark defines {names} again", f"grammars/{SHARED}.lark already does")
    return Source(stem, whole_text(text), {**shared.rules, **rules}, {**shared.terminals, **terminals}, notes_in(text))


@cache
def source(stem: str) -> Source:
    """Read one shipped grammar."""
    return parse(stem, text_of(stem))
