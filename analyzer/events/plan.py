"""Records → events: the plan. Polars runs the lowered patterns over whole batches; no Python per line.

A record is dispatched once on its logger, then on the literal its message begins with, and only then meets the
pattern of that kind. The columns of unordered tails are extracted per column, over all kinds that have them, because
a segment is spelled the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce

import polars as pl

from analyzer.events.envelope import FIELD, column_types, events_schema, typed_columns
from analyzer.events.targets import stem
from analyzer.grammar import grammar, known
from analyzer.grammar.pattern import Column, EventKind, heads, tail
from analyzer.grammar.regex import DELIMITERS, Regex, collects, message_regex, prefix_regex, segment_regex, test_regex
from analyzer.grammar.types import TYPES

#: what became of a record
EVENT, NOISE, UNMATCHED, REJECTED = "event", "noise", "unmatched", "rejected"

#: messages are told apart by this much of their beginning first
HEAD_CHARS = 40
_SUFFIX = r"( \([^()]*\.rs:[0-9]+\)\s*)$"
_CACHE = r"^(?:.*registry/src/[^/]*/|<cargo registry>/)"


@dataclass(frozen=True, slots=True)
class Extracted:
    """Events of one batch, and what became of each of its records."""

    events: pl.DataFrame
    #: source, fate, and for the unmatched target, message and line
    fates: pl.DataFrame


@cache
def _message_regex(kind: EventKind) -> Regex:
    return message_regex(kind.sequence)


@cache
def _test_regex(kind: EventKind) -> str:
    return test_regex(kind.sequence)


@cache
def _noise_regex(target: str) -> str | None:
    noise = grammar(target).noise
    return prefix_regex(noise) if noise is not None else None


def _key(kind: EventKind) -> str:
    return f"{kind.target}:{kind.name}"


def without_suffix(message: pl.Series) -> pl.DataFrame:
    """Part messages from the place in the producer's source that ends each since release 1.6: message, location."""
    frame = pl.DataFrame({"message": message, "suffix": message.str.extract(_SUFFIX, 1)})
    return frame.select(
        message=pl.col("message").str.strip_suffix(pl.col("suffix").fill_null("\n")),
        # a place below somebody's build cache starts at the crate
        location=pl.col("suffix").str.strip_chars(" ()\r\n").str.replace(_CACHE, ""),
    )


def _begins(head: pl.Series, texts: Iterable[str]) -> pl.Series:
    """Which heads a message may have that begins with one of the texts."""
    cut = (text[:HEAD_CHARS] for text in texts)
    return reduce(lambda left, right: left | right, (head.str.starts_with(text) for text in cut))


def _recognise(records: pl.DataFrame) -> pl.DataFrame:
    """Add `key` (target and kind) and `fate` to records of one logger.

    Messages share few beginnings, so what a beginning alone can decide is decided once for each.
    """
    name: str | None = records["stem"][0]
    spoken = known(name)
    if name is None or spoken is None:
        fate = REJECTED if records["target"][0] is None else NOISE if name is None else UNMATCHED
        return records.with_columns(key=pl.lit(None, pl.String), fate=pl.lit(fate))
    message = records["message"]
    begun = pl.DataFrame({"head": message.str.head(HEAD_CHARS)}).with_row_index("at").group_by("head").agg("at")
    keys = pl.Series([None], dtype=pl.String).new_from_index(0, len(message))
    for kind in spoken.kinds:
        rows = begun["at"].filter(_begins(begun["head"], heads(kind.sequence))).explode(empty_as_null=False)
        if len(rows):
            text = message.gather(rows)
            # only a kind without a tail looks as far as the end of the message
            text = text if tail(kind.sequence) else without_suffix(text)["message"]
            keys = keys.scatter(rows.filter(text.str.contains(_test_regex(kind))), _key(kind))
    quiet = _quiet(name, message, begun, keys.is_null())
    fates = pl.select(
        pl.when(keys.is_not_null()).then(pl.lit(EVENT)).when(quiet).then(pl.lit(NOISE)).otherwise(pl.lit(UNMATCHED))
    ).to_series()
    return records.with_columns(key=keys, fate=fates)


def _quiet(name: str, message: pl.Series, begun: pl.DataFrame, unknown: pl.Series) -> pl.Series:
    """Which messages that no kind took begin as declared noise does."""
    quiet = pl.Series([False]).new_from_index(0, len(message))
    regex = _noise_regex(name)
    if regex is None or not unknown.any():
        return quiet
    by_head = begun["at"].filter(begun["head"].str.contains(regex)).explode(empty_as_null=False)
    quiet = quiet.scatter(by_head, True) & unknown
    # a longer beginning shows only in the message itself
    left = (unknown & ~quiet).arg_true()
    return quiet.scatter(left.filter(message.gather(left).str.contains(regex)), True) if len(left) else quiet


def _coalesced(struct: pl.Series, regex: Regex) -> dict[str, pl.Series]:
    """Captured text per column: the first branch that gave one."""
    frame = struct.struct.unnest()
    named: dict[str, list[str]] = {}
    for group in frame.columns:
        named.setdefault(group.rsplit("__", 1)[0], []).append(group)
    return {column: frame.select(pl.coalesce(groups)).to_series() for column, groups in named.items()}


def _kinds(hits: pl.DataFrame) -> dict[str, EventKind]:
    """The kinds that occur, by key."""
    present = set(hits["key"].unique())
    targets = {key.split(":", 1)[0] for key in present}
    return {_key(kind): kind for target in targets for kind in grammar(target).kinds if _key(kind) in present}


def _head_values(hits: pl.DataFrame, kinds: dict[str, EventKind]) -> pl.DataFrame:
    """Text of the columns that stand in the heads of messages, one row per hit."""
    parts = []
    for key, kind in kinds.items():
        regex = _message_regex(kind)
        if regex.columns:
            rows = hits.filter(pl.col("key") == key)
            values = _coalesced(rows["message"].str.extract_groups(regex.text), regex)
            parts.append(pl.DataFrame({"row": rows["row"], **values}))
    if not parts:
        return hits.select("row")
    return hits.select("row").join(pl.concat(parts, how="diagonal"), on="row", how="left", maintain_order="left")


def _segment_text(message: pl.Series, column: Column) -> pl.Series:
    regex = segment_regex(column)
    if collects(column):
        inner = pl.element().str.extract(regex.text, 1)
        # several segments travel as lines of one text, which scatters like any other
        # a delimiter ends one segment and begins the next: doubled, both matches have one
        doubled = message.str.replace_all(f"([{DELIMITERS}])", "${1}${1}")
        return doubled.str.extract_all(regex.text).list.eval(inner).list.join("\n").replace("", None)
    if len(regex.columns) == 1:
        return message.str.extract(regex.text, 1)
    return _coalesced(message.str.extract_groups(regex.text), regex)[column.name]


def _tail_values(hits: pl.DataFrame, values: pl.DataFrame, kinds: dict[str, EventKind]) -> pl.DataFrame:
    """Fill in the columns of unordered tails; what the head said of a column stands."""
    wanted: dict[Column, list[str]] = {}
    for key, kind in kinds.items():
        for column in tail(kind.sequence):
            wanted.setdefault(column, []).append(key)
    for column, keys in wanted.items():
        rows = hits["key"].is_in(keys).arg_true()
        text = _segment_text(hits["message"].gather(rows), column)
        if text.null_count() == len(text):
            continue
        whole = pl.Series(column.name, [None], dtype=text.dtype).new_from_index(0, len(hits)).scatter(rows, text)
        if column.name in values.columns:
            whole = values[column.name].zip_with(values[column.name].is_not_null(), whole)
        values = values.with_columns(whole.alias(column.name))
    return values


def _typed(values: pl.DataFrame, kinds: dict[str, EventKind]) -> pl.DataFrame:
    """Text → values, by the type each column's terminal names; the columns of one grammar only become `fields`."""
    types, typed = column_types(kinds.values()), typed_columns()
    extra = [name for name in values.columns if name in types and name not in typed]
    columns = [
        TYPES[types[name]].expr(pl.col(name)).cast(dtype).alias(name)
        if name in values.columns
        else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in typed.items()
    ]
    pairs = [pl.struct(key=pl.lit(name), value=pl.col(name)) for name in extra]
    fields = (
        pl.concat_list(pairs).list.filter(pl.element().struct.field("value").is_not_null())
        if pairs
        else pl.lit(None, dtype=pl.List(FIELD))
    )
    fields = pl.when(fields.list.len() > 0).then(fields)
    return values.with_columns(*columns, fields=fields).select(*typed, "fields")


def extract(records: pl.DataFrame) -> Extracted:
    """Recognise the records of a batch.

    `records` has the columns of a record and `source`. Events come out in the order of the records; a further column
    `part` is handed through.
    """
    staged = records.with_row_index("row").with_columns(stem=stem(pl.col("target")))
    if staged.is_empty():
        nothing = staged.with_columns(fate=pl.lit(None, pl.String))
        return Extracted(pl.DataFrame(schema=events_schema()), _fates(nothing))
    recognised = pl.concat([_recognise(group) for group in staged.partition_by("stem", "target", maintain_order=True)])
    hits = recognised.filter(pl.col("fate") == EVENT).sort("row")
    hits = hits.with_columns(without_suffix(hits["message"]))
    kinds = _kinds(hits)
    values = _typed(_tail_values(hits, _head_values(hits, kinds), kinds), kinds)
    # taken off the names that values have too, so that the columns stand side by side
    placed = hits.select("ts", "level", "target", "source", "line", "location", "key", *_handed_through(hits))
    events = (
        pl.concat([placed, values], how="horizontal")
        .with_columns(
            kind=pl.col("key").str.splitn(":", 2).struct.field("field_1"),
            origin=pl.format("{}:{}", "source", "line"),
        )
        .select(*events_schema().names(), *_handed_through(hits))
        .cast(dict(events_schema()))
    )
    return Extracted(events, _fates(recognised))


def _handed_through(frame: pl.DataFrame) -> list[str]:
    return ["part"] if "part" in frame.columns else []


def _fates(recognised: pl.DataFrame) -> pl.DataFrame:
    return recognised.select(
        "source",
        "line",
        "lines",
        "ts",
        "target",
        "fate",
        message=pl.when(pl.col("fate") == UNMATCHED).then(pl.col("message").str.replace(_SUFFIX, "")),
    )
