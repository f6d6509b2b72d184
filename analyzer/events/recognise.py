"""Records → which kind each is, or what else became of it.

Messages share few beginnings: what a beginning can decide is decided once for each, and remembered. Only then meets a
message the pattern of a kind, in batches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache

import polars as pl

from analyzer.events.targets import stem
from analyzer.grammar import known
from analyzer.grammar.pattern import EventKind, heads, is_literal, tail
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


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What the beginning of a message tells: the kinds it may be, and its fate where it is none of them."""

    kinds: tuple[EventKind, ...]
    #: null: only the whole message tells whether it is declared noise
    otherwise: str | None


@cache
def _noise(name: str) -> tuple[re.Pattern[str], str] | None:
    grammar = known(name)
    if grammar is None or grammar.noise is None:
        return None
    text = prefix_regex(grammar.noise)
    return re.compile(text), text


def _agrees(head: str, text: str) -> bool:
    """Whether a message that begins with `head` can begin with `text`."""
    return head.startswith(text) if len(text) <= len(head) else len(head) == HEAD_CHARS and text.startswith(head)


@lru_cache(maxsize=1 << 17)
def _beginning(target: str | None, head: str) -> _Beginning:
    name = stem(target) if target is not None else None
    if name is None:
        return _Beginning((), REJECTED if target is None else NOISE)
    grammar, noise = known(name), _noise(name)
    if grammar is None:
        return _Beginning((), UNMATCHED)
    kinds = tuple(kind for kind in grammar.kinds if any(_agrees(head, text) for text in heads(kind.sequence)))
    if noise is None or noise[0].match(head):
        return _Beginning(kinds, UNMATCHED if noise is None else NOISE)
    return _Beginning(kinds, UNMATCHED if len(head) < HEAD_CHARS else None)


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
    keys = pl.Series("key", [None], dtype=pl.String).new_from_index(0, len(records))
    for kind in dict.fromkeys(kind for one in told for kind in one.kinds):
        rows = begun["at"].filter(pl.Series([kind in one.kinds for one in told])).explode(empty_as_null=False)
        keys = keys.scatter(rows.filter(_is(kind, message.gather(rows))), f"{kind.target}:{kind.name}")
    fates = begun.select("at", fate=pl.Series([one.otherwise for one in told], dtype=pl.String)).explode("at").sort("at")
    fate = fates["fate"].zip_with(keys.is_null(), pl.Series([EVENT]).new_from_index(0, len(records)))
    return keys, _decided(fate, records)


def _decided(fate: pl.Series, records: pl.DataFrame) -> pl.Series:
    """Settle what a beginning left open: noise with a longer beginning than was looked at."""
    open_ = fate.is_null().arg_true()
    for target in records["target"].gather(open_).unique():
        rows = open_.filter(records["target"].gather(open_) == target)
        noise = _noise(str(stem(target)))
        if noise is not None:
            quiet = records["message"].gather(rows).str.contains(noise[1])
            fate = fate.scatter(rows.filter(quiet), NOISE)
    return fate.fill_null(UNMATCHED).alias("fate")
