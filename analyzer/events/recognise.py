"""Records → which kind each is, or what else became of it.

Messages share few beginnings: what the first words can decide is decided once for each of them, and remembered; most
records are settled by that (`sift`). Only the rest meet the patterns of kinds, in batches (`recognise`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import polars as pl

from analyzer.events.targets import WITNESSES, stem
from analyzer.grammar import known
from analyzer.grammar.pattern import Choice, heads, is_literal, options, tail
from analyzer.grammar.regex import DELIMITERS, prefix_regex, test_regex

#: what became of a record
EVENT, NOISE, UNMATCHED, REJECTED = "event", "noise", "unmatched", "rejected"
#: messages are told apart by their first words, up to where a value may begin, and by no more than this
HEAD_CHARS = 80
#: a value that was masked begins one, too: a redacted log is read like its original
_VALUE_BEGINS = "0123456789('\"<"

#: a place in the producer's source is a path and nothing else: what may be a value stays in the message. Only before
#: somebody's build cache stands whatever a folder is called, and that is left out
_BUILT = r"(?:[^(),\r\n]*/registry/src/[^/(),\r\n]*/|<cargo registry>/)?"
_SUFFIX = rf" \({_BUILT}(?:[A-Za-z]:)?[0-9A-Za-z_.+~@/\\-]+\.rs:[0-9]+\)\s*$"
#: a place below somebody's build cache starts at the crate
_CACHE = r"^(?:.*registry/src/[^/]*/|<cargo registry>/)"
#: how an unordered tail goes on after the head; `regex` says the same
_GOES_ON = rf"^(?::| *[{DELIMITERS}]| ?$)"
#: the same set as bytes, for `_goes_on`, which says of a beginning what `_GOES_ON` says of a whole message
_DELIMITERS = DELIMITERS.encode().decode("unicode_escape").encode()
#: rows of so many beginnings are picked out by slices, of more by their places: each slice is a call
MOST_SLICES = 64


def without_suffix(message: pl.Series) -> pl.DataFrame:
    """Part messages from the place in the producer's source that ends each since release 1.6: message, location."""
    # an offset is found several times faster than a capture is made; it counts bytes
    at, raw = message.str.find(_SUFFIX), message.cast(pl.Binary)
    frame = pl.DataFrame({"message": message, "raw": raw, "at": at})
    ended = pl.col("at").is_not_null()
    head = pl.col("raw").bin.head(pl.col("at")).cast(pl.String)
    suffix = pl.col("raw").bin.slice(pl.col("at")).cast(pl.String)
    parted = frame.select(
        message=pl.when(ended).then(head).otherwise(pl.col("message").str.strip_suffix("\n")),
        location=pl.when(ended).then(suffix),
    )
    # places are few, however many messages come from them
    places = parted["location"].unique().drop_nulls()
    named = places.str.strip_chars(" ()\r\n").str.replace(_CACHE, "")
    return parted.with_columns(pl.col("location").replace_strict(places, named, return_dtype=pl.String))


@dataclass(frozen=True, eq=False)
class _Pattern:
    """A kind or a noise whose beginning is more than text: its key (null for noise) and its own pattern."""

    key: str | None
    regex: str

    @cached_property
    def test(self) -> pl.Expr:
        """Whether a `message` is of it."""
        return pl.col("message").str.contains(self.regex)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What the first words of a message tell: what it may turn out to be, and its fate where it is none of that."""

    otherwise: str
    #: texts the message may begin with, and the key of the kind each means (null for noise)
    texts: tuple[tuple[str, str | None], ...] = ()
    patterns: tuple[_Pattern, ...] = ()


@cache
def _vocabulary(name: str) -> tuple[tuple[str, str | None, _Pattern | None], ...] | None:
    """How messages of a target begin, kinds and declared noise: a text, the key it means, and a pattern if need be."""
    grammar = known(name)
    if grammar is None:
        return None
    found: list[tuple[str, str | None, _Pattern | None]] = []
    for kind in grammar.kinds:
        key, tailed = f"{kind.target}:{kind.name}", bool(tail(kind.sequence))
        plain = tailed and is_literal((kind.sequence[:-1],))
        pattern = None if plain else _Pattern(key, test_regex(kind.sequence))
        found += [(text, key, pattern) for text in heads(kind.sequence)]
    noise = options(grammar.noise or ())
    # all noise that is more than text shares one pattern: compiling many costs more than running one
    spelled = tuple(option for option in noise if not is_literal((option,)))
    shared = _Pattern(None, prefix_regex((Choice(spelled),))) if spelled else None
    found += [(text, None, shared if option in spelled else None) for option in noise for text in heads(option)]
    return tuple(found)


def _agrees(head: str, text: str) -> bool:
    """Whether a message of these first words can begin with `text`."""
    if len(text) <= len(head):
        return head.startswith(text)
    return text.startswith(head) and (len(head) == HEAD_CHARS or text[len(head)] in _VALUE_BEGINS)


@lru_cache(maxsize=1 << 17)
def _beginning(target: str | None, head: str) -> _Beginning:
    name = stem(target) if target is not None else None
    if name is None:
        return _Beginning(REJECTED if target is None else NOISE)
    vocabulary = _vocabulary(name)
    if vocabulary is None:
        return _Beginning(UNMATCHED)
    agreeing = [(text, key, pattern) for text, key, pattern in vocabulary if _agrees(head, text)]
    patterns = tuple(dict.fromkeys(pattern for _, _, pattern in agreeing if pattern is not None))
    texts = [(text, key) for text, key, pattern in agreeing if pattern is None]
    if any(key is None and len(text) <= len(head) for text, key in texts):
        kinds = tuple((text, key) for text, key in texts if key is not None)
        return _Beginning(NOISE, kinds, tuple(pattern for pattern in patterns if pattern.key is not None))
    return _Beginning(NOISE if name in WITNESSES else UNMATCHED, tuple(texts), patterns)


def _first_words(message: pl.Series) -> pl.Series:
    head = message.str.head(HEAD_CHARS).fill_null("")
    # an offset is found several times faster than a capture is made; it counts bytes, of which a character has up to 4
    ends = head.str.find(f"[{_VALUE_BEGINS}]").fill_null(4 * HEAD_CHARS)
    frame = pl.DataFrame({"head": head, "ends": ends})
    return frame.select(words=pl.col("head").cast(pl.Binary).bin.head("ends").cast(pl.String)).to_series()


def _begun(records: pl.DataFrame) -> tuple[pl.DataFrame, list[_Beginning]]:
    """Places (`at`) of the records that begin alike, and what each beginning tells."""
    begun = records.select("target", "words").with_row_index("at").group_by("target", "words").agg("at")
    return begun, [_beginning(target, words) for target, words in begun.select("target", "words").rows()]


def _spread(begun: pl.DataFrame, told: list[str | None]) -> pl.Series:
    """What is told of each beginning, for each record."""
    return begun.select("at", pl.Series("fate", told, dtype=pl.String)).explode("at").sort("at")["fate"]


def sift(records: pl.DataFrame) -> pl.DataFrame:
    """Add the first `words` of each message, and the `fate` of records that these settle; null for all others."""
    worded = records.with_columns(_first_words(records["message"]))
    begun, told = _begun(worded)
    return worded.with_columns(_spread(begun, [None if one.texts or one.patterns else one.otherwise for one in told]))


def _goes_on(known: bytes, is_all: bool, text: bytes, key: str | None) -> bool | None:
    """Whether a message of which the beginning is `known` begins with a text and goes on as it must; null: who knows.

    A kind goes on with its tail or ends; noise goes on as it likes.
    """
    if not known.startswith(text):
        return None if text.startswith(known) and not is_all else False
    rest = known[len(text) :]
    further = rest.lstrip(b" ")
    if key is None or further:
        return key is None or rest.startswith(b":") or further[0] in _DELIMITERS
    return len(rest) < 2 if is_all else None


def _settled(target: str | None, words: str, known: bytes | None) -> tuple[str | None, _Beginning]:
    """The key of the kind whose text a message of these first words begins with; without one, what is left to try.

    `known` is as much of the message as the words are long, and a byte more, unless it ends there; null without one.
    No message is of two kinds, so behind a text that fits no pattern is tried.
    """
    one = _beginning(target, words)
    if known is None or not one.texts:
        return None, _Beginning(one.otherwise, (), one.patterns)
    is_all, left, otherwise = len(known) <= len(words.encode()), [], one.otherwise
    for text, key in one.texts:
        goes_on = _goes_on(known, is_all, text.encode(), key)
        if goes_on and key is not None:
            return key, _Beginning(EVENT)
        if goes_on:
            otherwise = NOISE
        elif goes_on is None:
            left.append((text, key))
    return None, _Beginning(otherwise, tuple(left), one.patterns)


def _by_text(begun: pl.DataFrame, told: list[_Beginning], message: pl.Series) -> pl.DataFrame:
    """Rows that begin with one of the texts that are left to try: `at`, `key`."""
    asked = [(place, text, key) for place, one in enumerate(told) for text, key in one.texts]
    tests = pl.DataFrame(asked, schema={"place": pl.UInt32, "text": pl.String, "key": pl.String}, orient="row")
    rows = tests.join(begun.select("at").with_row_index("place"), on="place").explode("at")
    text, said = pl.col("text"), pl.col("message")
    goes_on = pl.col("key").is_null() | said.str.strip_prefix(text).str.contains(_GOES_ON)
    taken = rows.with_columns(message=message.gather(rows["at"])).filter(said.str.starts_with(text) & goes_on)
    return taken.select("at", "key")


def _by_pattern(begun: pl.DataFrame, told: list[_Beginning], message: pl.Series) -> Iterator[pl.DataFrame]:
    """The same for what is more than text."""
    places: dict[_Pattern, list[int]] = {}
    for place, one in enumerate(told):
        for pattern in one.patterns:
            places.setdefault(pattern, []).append(place)
    at = begun["at"].explode(empty_as_null=False)
    # those that begin alike lie side by side, so that a pattern is tried on slices
    rows = pl.DataFrame({"at": at, "message": message[at]})
    ends = begun["at"].list.len().cum_sum().to_list()
    for pattern, where in places.items():
        if len(where) > MOST_SLICES:
            picked = begun["at"].gather(where).explode(empty_as_null=False)
            asked = pl.DataFrame({"at": picked, "message": message[picked]})
        else:
            asked = pl.concat([rows[ends[place - 1] if place else 0 : ends[place]] for place in where])
        taken = asked["at"].filter(asked.select_seq(pattern.test).to_series())
        yield pl.DataFrame(
            {"at": taken, "key": pl.Series([pattern.key], dtype=pl.String).new_from_index(0, len(taken))}
        )


def recognise(sifted: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Tell `target:kind` (null where no kind takes it) and the fate of each record, in order.

    Messages come without the place in the producer's source.
    """
    message = sifted["message"]
    known = pl.col("message").cast(pl.Binary).bin.head(pl.col("words").str.len_bytes() + 1)
    begun = (
        sifted.select("target", "words", known=known)
        .with_row_index("at")
        .group_by("target", "words", "known")
        .agg("at")
    )
    settled = [_settled(*one) for one in begun.select("target", "words", "known").rows()]
    told = [one for _, one in settled]
    of_text = pl.Series("key", [key for key, _ in settled], dtype=pl.String)
    otherwise = pl.Series("fate", [one.otherwise for one in told], dtype=pl.String)
    spread = begun.select("at", of_text, otherwise).explode("at").sort("at")
    tried = pl.concat([_by_text(begun, told, message), *_by_pattern(begun, told, message)])
    quiet, taken = tried.filter(pl.col("key").is_null())["at"], tried.drop_nulls("key")
    fate = spread["fate"].scatter(quiet, NOISE).scatter(taken["at"], EVENT)
    return spread["key"].scatter(taken["at"], taken["key"]), fate
