"""The shipped `.lark` files as text: which there are, and the `///` comments above their rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

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


@cache
def folder() -> Any:
    """Where the grammars are: beside the package in a checkout, which Python takes before what is installed."""
    beside = Path(__file__).parents[2] / "grammars"
    return beside if (beside / f"{SHARED}.lark").is_file() else resources.files("analyzer.grammars")


@cache
def stems() -> tuple[str, ...]:
    """Stems of all shipped message grammars, sorted."""
    names = sorted(entry.name for entry in folder().iterdir() if entry.name.endswith(".lark"))
    return tuple(name.removesuffix(".lark") for name in names if name.removesuffix(".lark") not in LAYOUTS)


@cache
def text_of(stem: str) -> str:
    """The text of a shipped grammar file."""
    return str(folder().joinpath(f"{stem}.lark").read_text(encoding="utf-8"))


def whole_text(text: str) -> str:
    """A grammar as Lark gets it: the shared fields after its own rules, so that line numbers stay those of its file."""
    return f"{text}\n{text_of(SHARED)}"


def notes_in(text: str) -> dict[str, Note]:
    """The comments of the rules that a text defines, by rule, in its order."""
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


def notes_of(stem: str) -> dict[str, Note]:
    """The comments of the rules of a shipped grammar file."""
    return notes_in(text_of(stem))
