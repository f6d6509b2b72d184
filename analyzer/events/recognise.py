"""Records → which kind each is, or what else became of it.

Messages share few beginnings: what a beginning can decide is decided once for each, and remembered. Only then meets a
message the pattern of a kind, in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import polars as pl

from analyzer.events.targets import stem
from analyzer.grammar import known
from analyzer.grammar.pattern import EventKind, heads, is_literal, options, tail
from analyzer.grammar.regex import DELIMITERS, prefix_regex, test_regex

#: what became of a record
EVENT, NOISE, UNMATCHED, REJECTED = "event", "noise", "unmatched", "rejected"
#: messages are told apart by this much of their beginning first
HEAD_CHARS = 32

_SUFFIX = r"( \([^()]*\.rs:[0-9]+\)\s*)$"
_CACHE = r"^(?:.*registry/src/[^/]*/|<cargo registry>/)"
#: how an unordered tail goes on after the head; `regex` says the same
_GOES_ON = rf"^(?::| *[{DELIMITERS}]| ?$)"


def without_suffix(message: pl.Series) -> pl.DataFrame:
    """Part messages from the place in the producer's source that ends each since release 1.6: message, location."""
    frame = pl.DataFrame({"message": message, "suffix": message.str.extract(_SUFFIX, 1)})
    return frame.select(
        message=pl.col("message").str.strip_suffix(pl.col("suffix").fill_null("\n")),
        # a place below somebody's build cache starts at the crate
        location=pl.col("suffix").str.strip_chars(" ()\r\n").str.replace(_CACHE, ""),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    """One declared beginning of lines that inform nothing: the text it starts with, and a pattern where it is more."""

    text: str
    pattern: str | None


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What the beginning of a message tells: the kinds it may be, and its fate where it is none of them."""

    kinds: tuple[EventKind, ...]
    otherwise: str
    #: declared noise that only more of the message can confirm
    noise: tuple[_Noise, ...] = ()


@cache
def _vocabulary(name: str) -> tuple[tuple[tuple[str, EventKind], ...], tuple[_Noise, ...]] | None:
    """How messages of a target begin: the heads of its kinds, and its declared noise."""
    grammar = known(name)
    if grammar is None:
        return None
    begun = tuple((text, kind) for kind in grammar.kinds for text in heads(kind.sequence))
    noise = [
        _Noise(text, None if is_literal((option,)) else prefix_regex(option))
        for option in options(grammar.noise or ())
        for text in heads(option)
    ]
    return begun, tuple(noise)


def _agrees(head: str, text: str) -> bool:
    """Whether a message that begins with `head` can begin with `text`."""
    return head.startswith(text) if len(text) <= len(head) else len(head) == HEAD_CHARS and text.startswith(head)


@lru_cache(maxsize=1 << 17)
def _beginning(target: str | None, head: str) -> _Beginning:
    name = stem(target) if target is not None else None
    if name is None:
        return _Beginning((), REJECTED if target is None else NOISE)
    vocabulary = _vocabulary(name)
    if vocabulary is None:
        return _Beginning((), UNMATCHED)
    begun, noise = vocabulary
    kinds = tuple(dict.fromkeys(kind for text, kind in begun if _agrees(head, text)))
    open_ = tuple(one for one in noise if _agrees(head, one.text))
    if any(one.pattern is None and len(one.text) <= len(head) for one in open_):
        return _Beginning(kinds, NOISE)
    return _Beginning(kinds, UNMATCHED, open_)


@cache
def _literal_heads(kind: EventKind) -> tuple[str, ...]:
    """The heads of a kind that is nothing but text before its tail; such a kind needs no pattern of its own."""
    return heads(kind.sequence) if tail(kind.sequence) and is_literal((kind.sequence[:-1],)) else ()


@cache
def _test(kind: EventKind) -> str:
    return test_regex(kind.sequence)


def _is(kind: EventKind, message: pl.Series) -> pl.Series:
    """Which of the messages are of a kind; as exact as its pattern."""
    if texts := _literal_heads(kind):
        found = pl.Series([False]).new_from_index(0, len(message))
        for text in texts:
            found |= message.str.starts_with(text) & message.str.slice(len(text)).str.contains(_GOES_ON)
        return found
    # only a kind without a tail looks as far as the end of the message
    whole = message if tail(kind.sequence) else without_suffix(message)["message"]
    return whole.str.contains(_test(kind))


def _confirmed(noise: _Noise, message: pl.Series) -> pl.Series:
    return message.str.starts_with(noise.text) if noise.pattern is None else message.str.contains(noise.pattern)


def recognise(records: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Tell `target:kind` (null where no kind takes it) and the fate of each record, in order."""
    message = records["message"]
    begun = (
        records.select("target", head=pl.col("message").str.head(HEAD_CHARS).fill_null(""))
        .with_row_index("at")
        .group_by("target", "head")
        .agg("at")
    )
    told = [_beginning(target, head) for target, head in begun.select("target", "head").rows()]
    kinds: dict[EventKind, list[int]] = {}
    noises: dict[_Noise, list[int]] = {}
    for place, one in enumerate(told):
        for kind in one.kinds:
            kinds.setdefault(kind, []).append(place)
        for noise in one.noise:
            noises.setdefault(noise, []).append(place)
    otherwise = pl.Series("fate", [one.otherwise for one in told], dtype=pl.String)
    fate = begun.select("at", otherwise).explode("at").sort("at")["fate"]
    for noise, places in noises.items():
        rows = begun["at"].gather(places).explode(empty_as_null=False)
        fate = fate.scatter(rows.filter(_confirmed(noise, message.gather(rows))), NOISE)
    keys = pl.Series("key", [None], dtype=pl.String).new_from_index(0, len(records))
    for kind, places in kinds.items():
        rows = begun["at"].gather(places).explode(empty_as_null=False)
        rows = rows.filter(_is(kind, message.gather(rows)))
        keys, fate = keys.scatter(rows, f"{kind.target}:{kind.name}"), fate.scatter(rows, EVENT)
    return keys, fate
