"""Reads the shipped `.lark` files: rule trees through Lark's own reader, and the `///` comments above each rule.

The only module that touches Lark's internals. Rules are taken before EBNF expansion, where an optional part is still
one node; terminals are taken as trees too. Every grammar is read together with `fields.lark`, which holds the shared
columns, terminals and the templates of unordered tails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lark.exceptions import LarkError
from lark.load_grammar import GrammarBuilder

from analyzer.errors import GrammarError

SHARED = "fields"
#: grammars that are not the message grammar of a logger
LAYOUTS = frozenset({SHARED, "prefix", "candidate"})

_RULE = re.compile(r"^[?!]?([a-z_][a-z0-9_]*)(?:\.-?[0-9]+)?(?:\{[^}]*\})?\s*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Note:
    """The `///` comment of a rule: one sentence, and its sample lines."""

    doc: str
    samples: tuple[str, ...]
    line: int


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


def _folder() -> Any:
    return resources.files("analyzer.grammars")


@cache
def stems() -> tuple[str, ...]:
    """Stems of all shipped message grammars, sorted."""
    names = sorted(entry.name for entry in _folder().iterdir() if entry.name.endswith(".lark"))
    return tuple(name.removesuffix(".lark") for name in names if name.removesuffix(".lark") not in LAYOUTS)


@cache
def read_text(stem: str) -> str:
    """The text of a shipped grammar file."""
    return str(_folder().joinpath(f"{stem}.lark").read_text(encoding="utf-8"))


def whole_text(text: str) -> str:
    """A grammar as Lark gets it: the shared fields after its own rules, so that line numbers stay those of its file."""
    return f"{text}\n{read_text(SHARED)}"


def _notes(text: str) -> dict[str, Note]:
    notes: dict[str, Note] = {}
    doc: list[str] = []
    samples: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("/// > "):
            samples.append(line.removeprefix("/// > ").replace("\\r", "\r").replace("\\n", "\n"))
        elif line.startswith("///"):
            doc.append(line.removeprefix("///").strip())
        else:
            if rule := _RULE.match(line):
                notes[rule.group(1)] = Note(" ".join(doc), tuple(samples), number)
            if line.strip():
                doc, samples = [], []
    return notes


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
        return Source(stem, text, rules, terminals, _notes(text))
    shared = source(SHARED)
    if twice := (rules.keys() & shared.rules.keys()) | (terminals.keys() & shared.terminals.keys()):
        names = ", ".join(sorted(twice))
        raise GrammarError(f"grammars/{stem}.lark defines {names} again", f"grammars/{SHARED}.lark already does")
    return Source(stem, whole_text(text), {**shared.rules, **rules}, {**shared.terminals, **terminals}, _notes(text))


@cache
def source(stem: str) -> Source:
    """Read one shipped grammar."""
    return parse(stem, read_text(stem))
