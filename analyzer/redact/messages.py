"""Messages of records → the same messages without what may be a secret: what a rule names stays, all else is masked.

A record that a rule takes keeps the words of its rule and the values of its columns, a known line its known beginning,
and any other one its shape: its plain words and keys. So the same rules take what comes out, and read the same of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import polars as pl

from analyzer.accounting.release_marks import WORDINGS
from analyzer.accounting.secrets import holds
from analyzer.accounting.shapes import skeleton
from analyzer.events.plan import EVENT, NOISE, sift, without_suffix
from analyzer.events.recognise import recognise
from analyzer.events.targets import stem
from analyzer.grammar import grammar, known, shipped
from analyzer.grammar.pattern import (
    Capture,
    Choice,
    EventKind,
    Literal,
    Pairs,
    Sequence,
    Skip,
    heads,
    is_literal,
    options,
    tail,
)
from analyzer.grammar.regex import DELIMITERS, TAIL, escape, message_regex, prefix_regex
from analyzer.grammar.secret import KEY, MASK, NAMED, denied, known_key, without_credentials

#: what a rule matches without a name stays where it cannot be a secret: numbers, and names of few and known words
_HARMLESS = frozenset({"INT", "LIST", "NAME", "FAMILY", "LOCAL"})
#: what stands for a value that is matched and never captured, the first one that the rule takes, too
_MASKS = (MASK, "<redacted>", "redacted")
#: how the group of a column begins
_GROUP = re.compile(r"\(\?P<[a-z0-9_]+>")
#: a value that is a number with its unit, or a word that says yes or no
_NUMBER, _UNIT = r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?", "ns|µs|ms|s|B|KB|MB|bytes|%"
_PLAIN = rf"{KEY}(?:{_NUMBER} ?(?:{_UNIT})|-|true|false|None)"
_SECRET_KEY = rf"(?i)^[^:=]*(?:{NAMED}|user|login|otp|pin|key|data|bytes)[^:=]*[:=]"
#: behind a beginning that names a secret its value may stand, and may hold what ends a segment
_NAMES_SECRET = rf"(?i){NAMED}"
#: a tube's id straight behind a known beginning
_TUBE = r"(?:(?i: tube)?:? [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"


def _leaves(sequence: Sequence) -> Iterator[tuple[str, str | None]]:
    """A sequence as a regular expression with a group for each part, and what each group becomes: None is kept."""
    for item in sequence:
        match item:
            case Literal(text):
                yield f"({escape(text)})", None
            case Skip(terminal, regex) if terminal not in _HARMLESS and terminal:
                yield f"({regex})", next(mask for mask in _MASKS if re.fullmatch(regex, mask))
            case Skip(_, regex) | Capture(_, _, regex):
                yield f"({regex})", None
            case Choice(choices):
                for number, choice in enumerate(choices):
                    yield ("(?:" if not number else "|"), ""
                    yield from _leaves(choice)
                yield ")", ""
            case Pairs():
                pass


def _head(kind: EventKind, head: pl.Expr) -> pl.Expr:
    """The head of a message of a kind, as it may be kept."""
    parts = list(_leaves(kind.sequence))
    masks = [mask for text, mask in parts if mask != ""]
    if not any(masks):
        return without_credentials(head)
    groups = head.str.extract_groups(f"^{''.join(text for text, _ in parts)}$").struct
    kept = [
        groups.field(str(place)).fill_null("") if mask is None
        else pl.when(groups.field(str(place)) != "").then(pl.lit(mask)).otherwise(pl.lit(""))
        for place, mask in enumerate(masks, 1)
    ]  # fmt: skip
    return without_credentials(pl.concat_str(kept))


@cache
def _columns() -> str:
    """What a segment of any tail looks like that spells a column: all of them have a label."""
    found = (column for spoken in shipped().values() for kind in spoken.kinds for column in tail(kind.sequence))
    texts = {_GROUP.sub("(?:", message_regex(column.sequence).text[1:-1]) for column in found}
    return "|".join(sorted(texts))


def _looked_at(segments: pl.DataFrame) -> pl.DataFrame:
    """Each different `segment` of tails, or what delimits one: what is `kept` of it, and what it says of the next ones.

    One that spells a column (`spells`) is kept as it stands, any other one without its value, or without what looks
    like a secret where the tail `stays`. What is left out `opens`, and may hold what ends a segment; `behind` it
    nothing is kept but a known key. `empty`: there is nothing in it.
    """
    said = pl.col("segment")
    empty, spells = f"^(?:[{DELIMITERS}]| *)$", f"^ *(?:{_columns()}) *$"
    # a number of nobody knows what may be a code that lets somebody in
    counted = f"^(?:{_PLAIN}| *{known_key()}{_NUMBER}) *$"
    plain = said.str.contains(counted) & ~said.str.contains(_SECRET_KEY)
    key = pl.coalesce(said.str.extract(f"^({KEY})", 1), said.str.extract("^(:? *)", 1))
    spared = ~said.str.contains(_SECRET_KEY) & ~said.str.contains(_NAMES_SECRET)
    return (
        segments.select(said, "stays").unique()
        .with_columns(spells=said.str.contains(spells), empty=said.str.contains(empty))
        .with_columns(
            opens=~pl.any_horizontal("spells", "empty", plain, pl.col("stays") & spared),
            behind=pl.coalesce(said.str.extract(f"^( *{known_key()})", 1), said.str.extract("^(:? *)", 1)) + MASK,
            kept=pl.when("spells").then(without_credentials(said)).when(pl.col("empty") | plain).then(said)
            .when("stays").then(denied(said)).otherwise(key + MASK),
        )
    )  # fmt: skip


def _segments(told: pl.DataFrame) -> pl.Series:
    """Tails of messages, each of their different segments looked at once; `begun` is what stands before.

    A secret that is named there, or what is left out at its end (`open`), may go on in the tail.
    """
    parts = told["tail"].str.extract_all(f"[{DELIMITERS}]|[^{DELIMITERS}]+")
    begun = told["open"].fill_null(False) | told["begun"].str.contains(_NAMES_SECRET)
    parted = pl.DataFrame({"segment": parts, "begun": begun, "stays": told["stays"]}).with_row_index("row")
    filled = parted.filter(pl.col("segment").list.len() > 0).explode("segment")
    known = filled.join(_looked_at(filled), on=["segment", "stays"], how="left", maintain_order="left")
    turns = pl.when("opens").then(True).when("spells").then(False)
    goes_on = turns.forward_fill().shift(1).over("row").fill_null(pl.col("begun"))
    kept = pl.when(goes_on & ~pl.any_horizontal("spells", "empty")).then("behind").otherwise("kept")
    joined = known.with_columns(tail=kept).group_by("row", maintain_order=True).agg(pl.col("tail").str.join(""))
    return parted.select("row").join(joined, on="row", how="left", maintain_order="left")["tail"].fill_null("")


def _told(kind: EventKind, message: pl.Series) -> pl.DataFrame:
    """Messages of a kind: the `begun` of each as it is kept, and the `tail` behind it."""
    frame = pl.DataFrame({"message": message})
    whole = _GROUP.sub("(?:", message_regex(kind.sequence).text)
    if not whole.endswith(f"{TAIL}$"):
        return frame.select(begun=_head(kind, pl.col("message")), tail=pl.lit(""))
    if is_literal((kind.sequence[:-1],)):
        texts = "|".join(map(escape, sorted(heads(kind.sequence), key=len, reverse=True)))
        begun = pl.col("message").str.extract(f"^({texts})", 1)
        return frame.select(begun=begun, tail=pl.col("message").str.strip_prefix(begun))
    head = whole[1:].removesuffix(f"{TAIL}$")
    groups = pl.col("message").str.extract_groups(f"^({head})({TAIL})$").struct
    return frame.select(begun=_head(kind, groups.field("1")), tail=groups.field("2"))


@cache
def _beginnings(name: str) -> str | None:
    """The known beginnings of a target's lines that inform nothing, or tell the release; the longest first."""
    spoken = known(name)
    if spoken is None or not spoken.noise:
        return None
    texts = {prefix_regex(option)[1:] for option in options(spoken.noise)} | {escape(words) for words, *_ in WORDINGS}
    return f"^((?:{'|'.join(sorted(texts, key=lambda text: (-len(text), text)))}){_TUBE}?)"


def _known(begun: pl.Expr, message: pl.Series) -> pl.DataFrame:
    """Messages that begin as it is known: the beginning and the shape of what follows at once, and the `tail`.

    `open`: there is something between the two.
    """
    frame = pl.DataFrame({"message": message}).with_columns(begun=begun)
    frame = frame.with_columns(rest=pl.col("message").str.strip_prefix(pl.col("begun")))
    frame = frame.with_columns(first=pl.col("rest").str.extract(f"^([^{DELIMITERS}]*)", 1))
    # what a value is stands before it: the name of a secret, or a sign
    before = pl.col("begun").str.extract(rf"(?i)((?:{NAMED})\w*\W{{0,3}}|.)$", 1).fill_null("")
    shape = skeleton(before + pl.col("first")).str.strip_prefix(before).str.strip_chars(" ")
    spaces = [pl.col("first").str.extract(space, 1) for space in ("^( ?)", "( ?)$")]
    blank = pl.col("first").str.strip_chars(" ") == ""
    distinct = (
        frame.select("begun", "first").unique()
        .with_columns(kept=pl.when(blank).then("first").otherwise(spaces[0] + shape + spaces[1]))
    )  # fmt: skip
    return frame.join(distinct, on=["begun", "first"], how="left", maintain_order="left").select(
        begun=pl.col("begun") + pl.col("kept"), tail=pl.col("rest").str.strip_prefix(pl.col("first")), open=~blank
    )


def _unknown(message: pl.Series) -> pl.DataFrame:
    """Messages of which nothing is known: the shape of the first line, and that there are others."""
    frame, text = pl.DataFrame({"message": message}), pl.col("message")
    lines = pl.lit(f"\n{MASK}").repeat_by(text.str.count_matches("\n")).list.join("")
    # a message that begins or ends with a blank is another one than that without
    blanks = [text.str.extract(blank, 1).fill_null("") for blank in (r"^([^\S\r\n]*)", r"^[^\r\n]*?([^\S\r\n]*)$")]
    shape = skeleton(text)
    around = pl.when(shape != "").then(blanks[0] + shape + blanks[1]).otherwise(shape)
    distinct = frame.unique().with_columns(begun=around + lines)
    return frame.join(distinct, on="message", how="left", maintain_order="left").select("begun", tail=pl.lit(""))


def _other(name: str | None, rows: pl.DataFrame, *, noise: bool, stays: bool) -> pl.DataFrame:
    """Messages that are no event: `row`, `begun`, `tail`, and `open` of some."""
    if stays:
        return rows.select("row", begun=denied(pl.col("message")), tail=pl.lit(""))
    regex = _beginnings(name) if noise and name is not None else None
    begun = pl.col("message").str.extract(regex, 1) if regex else pl.lit(None, dtype=pl.String)
    known = rows["message"].str.contains(regex) if regex else pl.Series([False]).new_from_index(0, len(rows))
    sure, unsure = rows.filter(known), rows.filter(~known)
    return pl.concat(
        [
            sure.select("row").hstack(_known(begun, sure["message"])),
            unsure.select("row").hstack(_unknown(unsure["message"])),
        ],
        how="diagonal",
    )


def masked(records: pl.DataFrame, *, keep_unknown: bool = False) -> pl.DataFrame:
    """Mask the messages of a frame of records: `message`, and the `location` behind it, a row for each in their order.

    `keep_unknown` keeps the text of what no rule names, without what looks like a secret, where none is told.
    """
    sifted = sift(records)
    parted = sifted.with_columns(without_suffix(sifted["message"])).with_row_index("row").rechunk()
    keys, fate = recognise(parted)
    found = parted.with_columns(keys, pl.col("message").fill_null(""), fate=pl.coalesce("fate", fate)).with_columns(
        key=pl.when(pl.col("fate") == EVENT).then(keys), noise=pl.col("fate") == NOISE,
        stays=~holds(pl.col("message")) if keep_unknown else pl.lit(False),
    )  # fmt: skip
    texts = {"begun": pl.String, "tail": pl.String, "open": pl.Boolean}
    done = [pl.DataFrame(schema={"row": found.schema["row"], **texts})]
    others = pl.when(pl.col("key").is_null()).then("target")
    for (key, target, noise, stays), rows in found.group_by("key", others, "noise", "stays", maintain_order=True):
        if key is not None:
            name, kind_name = str(key).split(":", 1)
            kind = next(kind for kind in grammar(name).kinds if kind.name == kind_name)
            done.append(rows.select("row").hstack(_told(kind, rows["message"])))
        else:
            stem_ = stem(str(target)) if target is not None else None
            done.append(_other(stem_, rows, noise=bool(noise), stays=bool(stays)))
    told = pl.concat(done, how="diagonal").sort("row").with_columns(found["stays"])
    return told.select(message=pl.col("begun") + _segments(told), location=found["location"])
