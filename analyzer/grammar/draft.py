"""Shapes of unknown messages → drafts of rules: text to be pasted into a grammar, named and finished by a person.

A draft is lawful as it stands. The words of the shape are its head; a value is a terminal, told by the words around it,
and a number a column; the first `label: value` behind a delimiter begins the tail.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from random import Random

from analyzer.grammar import shared_columns
from analyzer.grammar.pattern import TAIL_COLUMNS, Capture, Literal, Sequence, captures, paths
from analyzer.grammar.regex import DELIMITERS
from analyzer.grammar.secret import MASK, NAMED
from analyzer.grammar.terminal import ALPHABET, Chars, example, runs_into
from analyzer.grammar.text import SHARED, text_of

_SECRET = re.compile(r"passw|pwd|ufrag|token|secret|user_?name|credential|key", re.IGNORECASE)
#: names that a kind may not have: entry points and columns of the house
_RESERVED = frozenset({"message", "noise", "other", "record", "wrap", "attribute"})
_HIDDEN = re.compile(rf"(?:{NAMED})\w*\W{{1,3}}{re.escape(MASK)}$", re.IGNORECASE)
_NAME_WORDS = 5
#: words too common to tell one shape from another
_FILLER = re.compile("a|an|and|at|by|for|from|has|in|is|of|on|the|to|was|with")
_TAIL = re.compile(rf" *[{DELIMITERS}] *[A-Za-z_][\w -]*(?:: ?|=){re.escape(MASK)}")
_LABEL = re.compile(rf"[{DELIMITERS}] *([A-Za-z_][\w -]*(?:: |=))(?={re.escape(MASK)})")
_QUOTES = r"[ :='\"#]*$"
#: words before a value in the head that tell its column or terminal, the first that fits; what follows may, too
_BEFORE: tuple[tuple[str, str], ...] = (
    (rf"\btube(?:[_ ]id)?{_QUOTES}", "tube_id__bare"),
    (rf"\bconv(?:ersation)?(?:[_ ]id)?{_QUOTES}", "conversation_id__bare"),
    (rf"\bchannel(?:[_ ](?:id|name|label))?{_QUOTES}", "channel_label__bare"),
    (rf"(?:\b|_)(?:id|uuid|session){_QUOTES}", "ID"),
    (r"(?:#|\b(?:attempt|count|port|number|code|generation|total|size|length|retry|index)[ :=#]*)$", "INT"),
    (r"\b(?:changed|moved|set|switched|transitioned) to[ :=]*$", "NAME"),
)
_AFTER: tuple[tuple[str, str], ...] = (
    (r" (?:ms|seconds?|milliseconds?|%|percent|[KkMG]bps|[kMG]bit/s)\b", "FLOAT"),
    (
        (
            r" (?:bytes|messages|candidates|attempts|times|retries|frames|packets|connections|channels|tubes|"
            r"pairs|servers|items|entries|events|errors|threads|tasks|handlers)\b"
        ),
        "INT",
    ),
)
#: what a number is counted in, by what stands behind it
_UNITS: tuple[tuple[str, str], ...] = (
    (r" (?:ms|milliseconds?)\b", "_ms"),
    (r" seconds?\b", "_s"),
    (r" (?:%|percent)", "_percent"),
    (r" [Kk](?:bps|bit/s)\b", "_kbps"),
    (r" M(?:bps|bit/s)\b", "_mbps"),
)
_NUMBERS = frozenset({"INT", "FLOAT", "DURATION"})
_LAST: tuple[tuple[str, str], ...] = ((r"\b(?:after|took|within|elapsed|waited)[ :=]*$", "DURATION"),)
#: samples of terminals, where an example of the regular expression would read badly
_SAMPLES = {
    "ID": "abc-123",
    "NAME": "Name",
    "INT": "1",
    "FLOAT": "1.5",
    "BOOL": "true",
    "DURATION": "1.5s",
    "HOST": "example.org",
    "ADDRESS": "10.0.0.1",
    "CANDIDATE": "candidate:1 1 udp 2130706431 10.0.0.1 50000 typ host",
}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a draft: what the grammar says, what a sample line says there, and the column it is to be, if one."""

    grammar: str
    sample: str
    column: str = ""


@cache
def _terminals() -> dict[str, str]:
    """Regular expressions of the shared terminals that type a column."""
    found = (capture for column in shared_columns().values() for capture in captures(column.sequence))
    return {capture.terminal: capture.regex for capture in found}


@cache
def _labels() -> dict[str, tuple[str, Sequence]]:
    """Shared columns by the label each begins with: the rule, and how it goes on."""
    found: dict[str, tuple[str, Sequence]] = {}
    for rule, column in shared_columns().items():
        for path in paths(column.sequence):
            if isinstance(path[0], Literal) and re.fullmatch(r"[A-Za-z_][\w -]*(?:: |=)", path[0].text) and path[1:]:
                found.setdefault(path[0].text, (rule, path[1:]))
    return found


@cache
def _widest() -> int:
    """How many columns a tail of `fields.lark` can name."""
    return max(int(number) for number in re.findall(r"^_keys([0-9]+)\{", text_of(SHARED), re.MULTILINE))


def _spelled(text: str, quote: str) -> str:
    """A text as it stands in a string of Lark, or in a class of a regular expression, nothing in it unseen."""
    escaped = re.sub(rf"([\\{re.escape(quote)}])", r"\\\1", text)
    return "".join(
        sign if sign.isprintable() else f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
        for sign in escaped
    )


def _sampled(terminal: str, regex: str) -> str:
    return _SAMPLES.get(terminal) or example(regex, Random(0))


def _told(before: str, after: str) -> str | None:
    """What the words around a value say of it: a bare column, a terminal, or nothing."""
    if re.match(" [A-Z][a-z]", after):
        # the stop of a sentence is part of the value
        return None
    tests = [(before, *one) for one in _BEFORE]
    tests += [(after, f"^{words}", name) for words, name in _AFTER]
    tests += [(before, *one) for one in _LAST]
    return next((name for text, words, name in tests if re.search(words, text, re.IGNORECASE)), None)


def _measured(terminal: str, before: str, after: str, used: set[str]) -> str:
    """A free name for the column of a number: the noun beside it, and its unit."""
    behind = re.match(_AFTER[1][0], after) if terminal == "INT" else None
    words = re.findall("[a-z]+", (behind.group() if behind else before.replace(MASK, " ")).lower())
    noun = next((word for word in reversed(words) if not _FILLER.fullmatch(word)), "value")
    unit = "_ms" if terminal == "DURATION" else next((unit for said, unit in _UNITS if re.match(said, after)), "")
    base = "duration" if terminal == "DURATION" else noun
    # one name means one thing in all grammars; a duration is one wherever it stands
    known = {*used, *_RESERVED, *({column.name for column in shared_columns().values()} - {"duration_ms"})}
    numbered = (f"{base}{f'_{number}' if number > 1 else ''}{unit}" for number in count(1))
    found = next(one for one in numbered if one not in known)
    used.add(found)
    return found


def _value(before: str, after: str, used: set[str]) -> _Piece:
    """A value of the head: as its neighbours tell, or whatever ends where they begin."""
    told = _told(before, after)
    follows: tuple[Chars, ...] = tuple(frozenset(sign) for sign in after[:3]) if after else (frozenset(" :,()|\r\n"),)
    if told is not None:
        column = shared_columns().get(told)
        terminal = captures(column.sequence)[0].terminal if column else told
        regex = _terminals()[terminal]
        if set(after[:1]) <= ALPHABET and not runs_into(regex, follows):
            # one line has one value of a column
            name = terminal if told in used else told
            used.add(told)
            measured = _measured(terminal, before, after, used) if terminal in _NUMBERS and column is None else ""
            return _Piece(name, _sampled(terminal, regex), measured)
    ends = after[0] if after else " :"
    return _Piece(f"/[^,()|\\r\\n{_spelled(ends, ']^/-')}]+/", "1")


def _head(text: str, used: set[str]) -> Iterator[_Piece]:
    literals = text.split(MASK)
    for place, literal in enumerate(literals):
        if place:
            yield _value(MASK.join(literals[:place]), literal, used)
        if literal:
            yield _Piece(f'"{_spelled(literal, chr(34))}"', literal)


def _tail(text: str) -> _Piece:
    """The tail: columns that its labels name, and a sample of all its segments."""
    named: dict[str, str] = {}

    def sampled(found: re.Match[str]) -> str:
        label, label_at = found.group(1), found.group().removesuffix(MASK)
        rule, rest = _labels().get(label, ("", ()))
        if rule and not rule.startswith(TAIL_COLUMNS):
            if len(named) >= _widest() and rule not in named:
                return f"{label_at}1"
            named[rule] = label
        spelled = "".join(
            item.text if isinstance(item, Literal) else _sampled(item.terminal, item.regex)
            for item in rest
            if isinstance(item, Literal | Capture)
        )
        return f"{label_at}{spelled or '1'}"

    sample = re.sub(rf"{_LABEL.pattern}{re.escape(MASK)}", sampled, text).replace(MASK, "1")
    # a masked value has taken the space behind it
    sample = re.sub(r"(?:^|(?<=\w))(?=[(|])", " ", sample)
    return _Piece(f"_keys{len(named)}{{{', '.join(named)}}}" if named else "_keys", sample)


def _name(head: str, taken: Collection[str]) -> str:
    words = [
        word for word in re.findall(r"[a-z][a-z0-9]*", head.replace(MASK, " ").lower()) if not _FILLER.fullmatch(word)
    ]
    name = "_".join(words[:_NAME_WORDS]) or "unknown_shape"
    numbered = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(one for one in numbered if not any(one in names for names in (taken, _RESERVED, shared_columns())))


def _tidy(shape: str, cut: bool) -> str:
    """The shape with one mask per value and nothing half."""
    if cut:
        shape = re.sub(r"<\*?$", "", shape)
    joined = re.sub(rf"{re.escape(MASK)}(?: *{re.escape(MASK)})+", MASK, shape)
    return re.sub(rf"{re.escape(MASK)} (?=[,()|:=\]])", MASK, joined)


def draft(shape: str, taken: Collection[str], *, cut: bool = False) -> tuple[str, str]:
    """Draft the rule of a shape: its name, none of `taken`, and its text. `cut` says that the shape goes on."""
    if _HIDDEN.search(shape):
        # nobody knows how a message goes on behind the name of a secret
        shape, cut = shape.removesuffix(MASK), True
    shape = _tidy(shape, cut)
    begins = _TAIL.search(shape)
    head, tail = (shape[: begins.start()], shape[begins.start() :]) if begins else (shape, "")
    if cut and not tail:
        # half a word is no word
        head, pieces = head[: head.rfind(" ") + 1] or head, [_Piece("/[^\\r\\n]*/", "")]
    else:
        # what stands behind a colon may be several words, which the tail lets through
        free = re.search(rf":( ?){re.escape(MASK)}$", head)
        untold = free and _told(head.removesuffix(MASK), "") is None
        head, gap = (head[: free.start()], f":{free.group(1)}1") if free and untold else (head.rstrip(" "), "")
        ends = _tail(tail)
        pieces = [_Piece(ends.grammar, gap + ends.sample)]
    pieces = [*_head(head, set()), *pieces]
    name, sample = _name(head, taken), "".join(piece.sample for piece in pieces)
    notes = ["/// What happened."]
    if sample.isprintable():
        notes.append(f"/// > {sample}")
    if not pieces[0].grammar.startswith('"'):
        notes.insert(0, "// begins with a value: list the words it can begin with, one branch each")
    # a number beside the name of a secret may be one
    columns = (
        {} if _SECRET.search(head + name) else {piece: f"{piece.column}__{name}" for piece in pieces if piece.column}
    )
    rule = f"{name}: {' '.join(columns.get(piece, piece.grammar) for piece in pieces)}"
    spelled = [f"/// What this number is.\n{column}: {piece.grammar}" for piece, column in columns.items()]
    return name, "\n".join([*notes, rule, *spelled])
