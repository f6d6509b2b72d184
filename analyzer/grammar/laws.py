"""The laws every grammar has to satisfy: what keeps the plan and the reference of one meaning, and secrets out.

Each law takes a source and its lowered kinds and returns what breaks it. That a rule is regular is not among them:
lowering refuses the others. That no message is of two kinds is proved in the tests, which have a library for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from lark.grammar import NonTerminal, Terminal

from analyzer.grammar.ambiguity import ambiguous
from analyzer.grammar.lower import NOISE, column_name, lower, lower_rule
from analyzer.grammar.pattern import (
    TAIL_COLUMNS,
    Capture,
    Choice,
    Column,
    EventKind,
    Item,
    Literal,
    Pairs,
    Sequence,
    Skip,
    captures,
    heads,
    paths,
    tail,
    terminals,
)
from analyzer.grammar.regex import DELIMITERS, TAIL, message_regex
from analyzer.grammar.source import Source, source
from analyzer.grammar.terminal import Chars, automaton, hides_longer, nests_repetition, runs_into, unportable
from analyzer.grammar.text import SHARED
from analyzer.grammar.types import TYPES

_CUTS = frozenset(",()|\r\n")
#: how far a terminal looks at what follows; a longer look would let more grammars pass, none needs it
_AHEAD = 3
Ahead: TypeAlias = frozenset[tuple[Chars, ...]]
_SPACE = frozenset(" ")
#: a segment of a tail ends at a delimiter, with or without spaces before it, or with the message
_SEGMENT_END: Ahead = frozenset({(_CUTS,), (_SPACE, _CUTS), (_SPACE, _SPACE, _CUTS), ()})
_SECRET = re.compile(r"password|passwd|pwd|ufrag|token|secret|username|credential|private_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Violation:
    """A law broken: where, by which rule, how, and what to write instead."""

    place: str
    rule: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """As a compiler says it: place, rule, reason, remedy."""
        return f"{self.place}: rule {self.rule}: {self.what}: {self.remedy}"


def _broken(kind: EventKind, what: str, remedy: str) -> Violation:
    return Violation(kind.place, kind.name, what, remedy)


def _with_noise(read: Source, kinds: Iterable[EventKind]) -> list[EventKind]:
    if NOISE not in read.rules:
        return list(kinds)
    note = read.notes.get(NOISE)
    noise = EventKind(NOISE, read.stem, lower_rule(read, NOISE), "", (), read.file, note.line if note else 0)
    return [*kinds, noise]


def _is_portable(kind: EventKind) -> bool:
    """Whether the terminals of a kind can be read at all; the other laws leave the rest to `portable`."""
    return not any(unportable(item.regex) for item in terminals(kind.sequence))


def portable(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """Terminals use only what Python and Rust read alike."""
    return [
        _broken(
            kind, f"terminal {item.terminal or item.regex} has {construct}", "spell it with [classes] and (?:groups)"
        )
        for kind in _with_noise(read, kinds)
        for item in dict.fromkeys(terminals(kind.sequence))
        for construct in unportable(item.regex)
    ]


def _loose(kind: EventKind) -> Iterator[tuple[str, str]]:
    """What of a kind a backtracking engine may try in more ways than a message is long, and how to mend it."""
    distinct = dict.fromkeys(terminals(kind.sequence))
    nested = [item.terminal or item.regex for item in distinct if nests_repetition(item.regex)]
    yield from ((f"terminal {name} repeats a repetition", "unroll one of the two") for name in nested)
    parts = [kind.sequence, *(column.sequence for column in tail(kind.sequence))]
    if not nested and any(ambiguous(message_regex(part).text[1:-1]) for part in parts):
        yield "two of its loops can take the same text", "let the first exclude what the second begins with"


def linear(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """No message is read in more steps than it is long: a hostile line could keep the reference busy for hours."""
    readable = filter(_is_portable, _with_noise(read, kinds))
    return [_broken(kind, what, remedy) for kind in readable for what, remedy in _loose(kind)]


def _ahead(sequence: Sequence, after: Ahead) -> Ahead:
    """What a match of the sequence followed by `after` begins with, as far as it matters."""
    for item in reversed(sequence):
        after = _before(item, after)
    return after


def _before(item: Item, after: Ahead) -> Ahead:
    match item:
        case Literal(text):
            letters = tuple(frozenset(char) for char in text)
            return frozenset((letters + word)[:_AHEAD] for word in after)
        case Capture() | Skip():
            machine = automaton(item.regex)
            return frozenset({(machine.begins(),)}) | (after if machine.nullable else frozenset())
        case Choice(options):
            return frozenset[tuple[Chars, ...]]().union(*(_ahead(option, after) for option in options))
        case Pairs():
            return frozenset({(_CUTS | {" ", ":"},)}) | after


def _undelimited(sequence: Sequence, after: Ahead) -> Iterator[tuple[Capture | Skip, str]]:
    for number, item in enumerate(sequence):
        rest = _ahead(sequence[number + 1 :], after)
        match item:
            case Capture() | Skip():
                if any(runs_into(item.regex, word) for word in rest):
                    yield item, "can take the beginning of what follows"
                if hides_longer(item.regex):
                    yield item, "has an alternative that begins a later one"
            case Choice(options):
                for option in options:
                    yield from _undelimited(option, rest)
            case Pairs(columns):
                for column in columns:
                    yield from _undelimited(column.sequence, _SEGMENT_END)
            case Literal():
                pass


def delimited(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """Where a terminal ends is never in doubt: its longest match is its only one. Free text can so only stand last."""
    return [
        _broken(
            kind,
            f"terminal {item.terminal or item.regex} {what}",
            "exclude its first character, longest alternative first",
        )
        for kind in _with_noise(read, kinds)
        if _is_portable(kind)
        for item, what in dict.fromkeys(_undelimited(kind.sequence, frozenset({()})))
    ]


def _misplaced(sequence: Sequence) -> Iterator[str]:
    for number, item in enumerate(sequence):
        match item:
            case Pairs(columns):
                if number + 1 < len(sequence):
                    yield "the tail is not the last part"
                if any(isinstance(inner, Pairs) for column in columns for inner in column.sequence):
                    yield "a column of the tail has a tail"
            case Choice(options):
                if any(_has_tail(option) for option in options):
                    yield "the tail stands in a branch"
            case _:
                pass


def _has_tail(sequence: Sequence) -> bool:
    return any(
        isinstance(item, Pairs) or (isinstance(item, Choice) and any(_has_tail(option) for option in item.options))
        for item in sequence
    )


def _text(path: Sequence) -> str:
    """A path as text: literals as they are, every terminal as one NUL, no tail."""
    return "".join(item.text if isinstance(item, Literal) else "" if isinstance(item, Pairs) else "\0" for item in path)


def _pair_faults(kind: EventKind, columns: tuple[Column, ...]) -> Iterator[str]:
    for column in columns:
        text = "".join(map(_text, paths(column.sequence)))
        spelled = [automaton(item.regex).spells() for item in terminals(column.sequence)]
        if any(_CUTS & chars for chars in (frozenset(text), *spelled)):
            yield f"column {column.name} of the tail can contain one of {DELIMITERS}"
        labels = heads(column.sequence)
        if any(not label or label.startswith(" ") for label in labels):
            yield f"column {column.name} of the tail has no label"
        for path in paths(kind.sequence):
            # what the head says of a column stands, whatever its words look like to the tail
            if column.name in {capture.column for capture in captures(path[:-1])}:
                continue
            words = [automaton(item.regex).spells() for item in terminals(path[:-1])]
            for label in filter(None, labels):
                if re.search(rf"[{DELIMITERS}] *{re.escape(label)}", _text(path)):
                    yield f"the head contains '{label}', the label of tail column {column.name}"
                if any(_CUTS & chars and label[0] in chars for chars in words):
                    yield f"a terminal of the head can contain '{label}', the label of tail column {column.name}"
    labelled = sorted((label, column.name) for column in columns for label in heads(column.sequence))
    for (label, name), (other, second) in pairwise(labelled):
        if name != second and other.startswith(label):
            yield f"'{other}' spells both {name} and {second} in the tail"


def tailed(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """An unordered tail stands last and once, and each of its segments says which column it is."""
    remedy = "a tail is the last part of a rule; its columns are 'label: TERMINAL' without , ( ) | or line ends"
    found = []
    for kind in kinds:
        faults = [*_misplaced(kind.sequence)]
        if _is_portable(kind) and not faults and tail(kind.sequence):
            faults += _pair_faults(kind, tail(kind.sequence))
        found += [_broken(kind, fault, remedy) for fault in dict.fromkeys(faults)]
    return found


def begun(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """Every message begins with literal text: the plan dispatches on it."""
    return [
        _broken(kind, "does not begin with literal text", "list the words it can begin with, one branch each")
        for kind in kinds
        if "" in heads(kind.sequence)
    ]


def _own_columns(read: Source, kinds: tuple[EventKind, ...]) -> Iterator[tuple[str, int, list[str]]]:
    """Columns that the file itself defines: name of the rule, line, names of its terminals."""
    reserved = {kind.name for kind in kinds} | {"message", "record", "wrap", "attribute", NOISE, "other"}
    for rule, note in read.notes.items():
        params, tree = read.rules[rule]
        if rule in reserved or rule.startswith("_") or params:
            continue
        found, waiting = [], [tree]
        while waiting:
            for node in waiting.pop().scan_values(lambda value: isinstance(value, (Terminal, NonTerminal))):
                name = str(node.name)
                if isinstance(node, Terminal):
                    found.append(name)
                elif name.startswith("_") and name in read.rules:
                    waiting.append(read.rules[name][1])
        yield rule, note.line, found


def typed(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """Every column has a terminal that types it."""
    return [
        Violation(
            f"{read.file}:{line}",
            rule,
            "no terminal of the column has a type",
            "use one of types.py, or a bare terminal",
        )
        for rule, line, names in _own_columns(read, kinds)
        if not any(name in TYPES for name in names)
    ]


def discreet(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """What may be a secret is matched and never captured."""
    found = [
        Violation(
            f"{read.file}:{line}",
            rule,
            f"column {column_name(rule)} is named like a secret",
            "match it with SECRET, outside a column",
        )
        for rule, line, _ in _own_columns(read, kinds)
        if _SECRET.search(rule)
    ]
    for kind in kinds:
        for text, capture in _labelled(kind.sequence):
            if _SECRET.search(text) or capture.terminal == "SECRET":
                found.append(
                    _broken(kind, f"column {capture.column} captures what '{text}' introduces", "match it with SECRET")
                )
    return found


def _labelled(sequence: Sequence, text: str = "") -> Iterator[tuple[str, Capture]]:
    """Captures with the label that stands right before each: the last word and its punctuation."""
    for item in sequence:
        match item:
            case Literal(literal):
                text = (re.findall(r"[^ ,()|]+[ :='\"]*$", literal) or [""])[0]
            case Capture():
                yield text, item
                text = ""
            case Choice(options):
                for option in options:
                    yield from _labelled(option, text)
                # any of the options may have introduced what follows
                text = " ".join(_text(path) for option in options for path in paths(option))
            case Pairs(columns):
                for column in columns:
                    yield from _labelled(column.sequence)
            case Skip():
                text = ""


def _marked(sequence: Sequence, branches: list[Sequence]) -> str:
    """The sequence as a regular expression with one group per branch, in the order of `branches`."""
    parts = []
    for item in sequence:
        match item:
            case Literal(text):
                parts.append(re.escape(text))
            case Capture() | Skip():
                parts.append(f"(?:{item.regex})")
            case Pairs():
                parts.append(TAIL)
            case Choice(options):
                written = []
                for option in options:
                    branches.append(option)
                    written.append(f"({_marked(option, branches)})")
                parts.append("(?:" + "|".join(written) + ")")
    return "".join(parts)


def _unsampled(kind: EventKind) -> Iterator[str]:
    branches: list[Sequence] = []
    regex = re.compile(_marked(kind.sequence, branches))
    taken = [match.groups() for sample in kind.samples if (match := regex.fullmatch(sample))]
    for number, branch in enumerate(branches):
        if not any(groups[number] is not None for groups in taken):
            yield f"'{_text(next(paths(branch)))}'".replace("\0", "…") if branch else "the absence of an optional part"
    for column in tail(kind.sequence):
        segment = re.compile(rf"[{DELIMITERS}] *{_marked(column.sequence, [])}(?: *[{DELIMITERS}]|$)")
        if column.name not in TAIL_COLUMNS and not any(segment.search(sample) for sample in kind.samples):
            yield f"column {column.name} of the tail"


def witnessed(read: Source, kinds: tuple[EventKind, ...]) -> list[Violation]:
    """Every kind has a sentence and a sample, and every branch appears in some sample."""
    found = []
    for kind in kinds:
        if not kind.doc:
            found.append(_broken(kind, "has no sentence", "write '/// What happened.' above it"))
        if not kind.samples:
            found.append(_broken(kind, "has no sample", "write '/// > a line of a log' above it"))
        elif _is_portable(kind):
            found += [_broken(kind, f"no sample shows {what}", "add a '/// > ' line") for what in _unsampled(kind)]
    return found


def agreed(kinds: Iterable[EventKind]) -> list[Violation]:
    """One column is read in one way across all grammars: same dtype, same reader."""
    readers: dict[str, tuple[Capture, EventKind]] = {}
    found = []
    for kind in kinds:
        for capture in captures(kind.sequence):
            first, where = readers.setdefault(capture.column, (capture, kind))
            one, other = TYPES[first.terminal], TYPES[capture.terminal]
            if (one.dtype, one.reader or one.expr) != (other.dtype, other.reader or other.expr):
                what = f"column {capture.column} is {capture.terminal} here and {first.terminal} at {where.place}"
                found.append(_broken(kind, what, "use one terminal, or another column name"))
    return list(dict.fromkeys(found))


Law: TypeAlias = Callable[[Source, tuple[EventKind, ...]], list[Violation]]
LAWS: tuple[Law, ...] = (portable, linear, delimited, tailed, begun, typed, discreet, witnessed)


def check(read: Source) -> list[Violation]:
    """Everything that one message grammar breaks.

    Raises:
        GrammarError: a rule is not regular.
    """
    kinds = lower(read, read.stem) if "message" in read.rules else ()
    return [violation for law in LAWS for violation in law(read, kinds)]


def check_shared() -> list[Violation]:
    """What `fields.lark` breaks by its columns alone."""
    read = source(SHARED)
    return [violation for law in (typed, discreet) for violation in law(read, ())]
