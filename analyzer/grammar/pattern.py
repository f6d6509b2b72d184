"""The intermediate form of a lowered rule: five small values, no behaviour.

A rule of a log line is regular, so it becomes a flat sequence of these. Everything that reads a grammar
(regex, columns, printer, documentation) reads this form and nothing of Lark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

#: columns every unordered tail looks for: the ids that correlation lives on
TAIL_COLUMNS = ("tube_id", "conversation_id", "channel_label")


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that stands in the line as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Capture:
    """A terminal whose text becomes the value of `column`."""

    column: str
    terminal: str
    regex: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A terminal that is matched and never captured: filler, or a secret."""

    terminal: str
    regex: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences; an optional part is a choice with an empty one."""

    options: tuple[Sequence, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A named field: the sequence that spells it, with its captures."""

    name: str
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Pairs:
    """The tail of a message: segments between delimiters, in any order.

    A segment that spells one of `columns` gives its value (the first one wins), every other segment is let through.
    """

    columns: tuple[Column, ...]


Item: TypeAlias = Literal | Capture | Skip | Choice | Pairs
Sequence: TypeAlias = tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EventKind:
    """One rule under `?message`: what it is called, how it is spelled, what it means and where it stands.

    There is one of each, so it is told apart by identity and costs nothing as a key.
    """

    name: str
    target: str
    sequence: Sequence
    doc: str
    samples: tuple[str, ...]
    file: str
    line: int

    @property
    def place(self) -> str:
        """`file:line` of the rule, for messages to people."""
        return f"{self.file}:{self.line}"


def captures(sequence: Sequence) -> list[Capture]:
    """All captures of a sequence, in order of appearance, those of its tail last."""
    found: list[Capture] = []
    for item in sequence:
        match item:
            case Capture():
                found.append(item)
            case Choice(options):
                found += [capture for option in options for capture in captures(option)]
            case Pairs(columns):
                found += [capture for column in columns for capture in captures(column.sequence)]
            case Literal() | Skip():
                pass
    return found


def terminals(sequence: Sequence) -> Iterator[Capture | Skip]:
    """All terminals of a sequence, captured or not, in order of appearance, those of its tail last."""
    for item in sequence:
        match item:
            case Capture() | Skip():
                yield item
            case Choice(options):
                for option in options:
                    yield from terminals(option)
            case Pairs(columns):
                for column in columns:
                    yield from terminals(column.sequence)
            case Literal():
                pass


def required(sequence: Sequence) -> set[str]:
    """Names of the columns that every match of the sequence has: not optional, not of one branch only."""
    names: set[str] = set()
    for item in sequence:
        match item:
            case Capture(column):
                names.add(column)
            case Choice(options):
                names |= set.intersection(*(required(option) for option in options))
            case Literal() | Skip() | Pairs():
                pass
    return names


def is_literal(options: tuple[Sequence, ...]) -> bool:
    """Whether the sequences are nothing but text, none of them empty: `heads` then tells all of it."""
    return all(
        option
        and all(isinstance(item, Literal) or (isinstance(item, Choice) and is_literal(item.options)) for item in option)
        for option in options
    )


def heads(sequence: Sequence) -> tuple[str, ...]:
    """The literal texts a match can begin with; the plan dispatches on them. Empty when one of them is unknown."""
    texts: tuple[str, ...] = ("",)
    for item in sequence:
        match item:
            case Literal(text):
                texts = tuple(head + text for head in texts)
            case Choice(options) if all(option and isinstance(option[0], Literal) for option in options):
                texts = tuple(head + tail for head in texts for option in options for tail in heads(option))
                if not is_literal(item.options):
                    break
            case _:
                break
    return texts


def tail(sequence: Sequence) -> tuple[Column, ...]:
    """The columns looked for in the unordered tail; a tail can only stand last."""
    return sequence[-1].columns if sequence and isinstance(sequence[-1], Pairs) else ()


def paths(sequence: Sequence) -> Iterator[Sequence]:
    """The sequence without choices: one for every way through it."""
    found: list[Sequence] = [()]
    for item in sequence:
        ways = [path for option in item.options for path in paths(option)] if isinstance(item, Choice) else [(item,)]
        found = [before + way for before in found for way in ways]
    yield from found


def options(sequence: Sequence) -> tuple[Sequence, ...]:
    """What a sequence is a choice of; itself where it is none."""
    match sequence:
        case (Choice(options),):
            return options
    return (sequence,) if sequence else ()
