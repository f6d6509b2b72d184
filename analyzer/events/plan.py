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
from analyzer.grammar import Grammar, shipped
from analyzer.grammar.pattern import Column, EventKind, heads, tail
from analyzer.grammar.regex import DELIMITERS, Regex, collects, message_regex, prefix_regex, segment_regex
from analyzer.grammar.types import TYPES

#: what became of a record
EVENT, NOISE, UNMATCHED, REJECTED = "event", "noise", "unmatched", "rejected"


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
def _tail_columns() -> dict[Column, frozenset[str]]:
    """Every column some tail looks for, with `target:kind` of the kinds that do."""
    found: dict[Column, set[str]] = {}
    for one in shipped().values():
        for kind in one.kinds:
            for column in tail(kind.sequence):
                found.setdefault(column, set()).add(_key(kind))
    return {column: frozenset(keys) for column, keys in found.items()}


def _key(kind: EventKind) -> str:
    return f"{kind.target}:{kind.name}"


def _begins(message: pl.Series, texts: Iterable[str]) -> pl.Series:
    return reduce(lambda left, right: left | right, (message.str.starts_with(text) for text in texts))


def _kinds_of(grammar: Grammar, message: pl.Series) -> pl.Series:
    """Kind of each message, null where no kind takes it."""
    kinds = pl.Series([None], dtype=pl.String).new_from_index(0, len(message))
    for kind in grammar.kinds:
        rows = _begins(message, heads(kind.sequence)).arg_true()
        if len(rows):
            rows = rows.filter(message.gather(rows).str.contains(_message_regex(kind).text))
            kinds = kinds.scatter(rows, _key(kind))
    return kinds


def _is_noise(grammar: Grammar, message: pl.Series) -> pl.Series:
    if grammar.noise is None:
        return pl.Series([False]).new_from_index(0, len(message))
    return message.str.contains(prefix_regex(grammar.noise))


def _recognise(records: pl.DataFrame) -> pl.DataFrame:
    """Add `key` (target and kind) and `fate` to records of one logger."""
    name = records["stem"][0]
    grammar = shipped().get(name) if name is not None else None
    if grammar is None:
        fate = REJECTED if records["target"][0] is None else NOISE if name is None else UNMATCHED
        return records.with_columns(key=pl.lit(None, dtype=pl.String), fate=pl.lit(fate))
    keys = _kinds_of(grammar, records["message"])
    unknown = keys.is_null()
    noise = _is_noise(grammar, records["message"].filter(unknown)) if unknown.any() else pl.Series([], dtype=pl.Boolean)
    fates = pl.Series([EVENT]).new_from_index(0, len(records))
    fates = fates.scatter(unknown.arg_true(), pl.Series(noise).replace_strict({True: NOISE, False: UNMATCHED}))
    return records.with_columns(key=keys, fate=fates)


def _coalesced(struct: pl.Series, regex: Regex) -> dict[str, pl.Series]:
    """Captured text per column: the first branch that gave one."""
    frame = struct.struct.unnest()
    named: dict[str, list[str]] = {}
    for group in frame.columns:
        named.setdefault(group.rsplit("__", 1)[0], []).append(group)
    return {column: frame.select(pl.coalesce(groups)).to_series() for column, groups in named.items()}


def _head_values(hits: pl.DataFrame) -> pl.DataFrame:
    """Text of the columns that stand in the heads of messages, one row per hit."""
    parts = []
    for key, rows in hits.group_by("key", maintain_order=True):
        target, name = str(key[0]).split(":", 1)
        kind = next(kind for kind in shipped()[target].kinds if kind.name == name)
        regex = _message_regex(kind)
        if regex.columns:
            values = _coalesced(rows["message"].str.extract_groups(regex.text), regex)
            parts.append(pl.DataFrame({"row": rows["row"], **values}))
    if not parts:
        return hits.select("row").clear()
    return pl.concat(parts, how="diagonal")


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


def _tail_values(hits: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """Fill in the columns of unordered tails; what the head said of a column stands."""
    for column, keys in _tail_columns().items():
        rows = hits["key"].is_in(list(keys)).arg_true()
        if not len(rows):
            continue
        text = _segment_text(hits["message"].gather(rows), column)
        if text.null_count() == len(text):
            continue
        whole = pl.Series(column.name, [None], dtype=text.dtype).new_from_index(0, len(hits)).scatter(rows, text)
        if column.name in values.columns:
            whole = values[column.name].zip_with(values[column.name].is_not_null(), whole)
        values = values.with_columns(whole.alias(column.name))
    return values


def _typed(values: pl.DataFrame) -> pl.DataFrame:
    """Text → values, by the type each column's terminal names; the columns of one grammar only become `fields`."""
    types, typed = column_types(), typed_columns()
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
    return values.select("row", *columns, fields=pl.when(fields.list.len() > 0).then(fields))


def extract(records: pl.DataFrame) -> Extracted:
    """Recognise the records of a batch.

    `records` has the columns of a record and `source`. Events come out in the order of the records.
    """
    staged = records.with_row_index("row").with_columns(stem=stem(pl.col("target")))
    groups = staged.partition_by("stem", "target", maintain_order=True) if len(staged) else []
    known = [_recognise(group) for group in groups]
    if not known:
        return Extracted(pl.DataFrame(schema=events_schema()), _fates(staged.with_columns(fate=pl.lit(None, pl.String))))
    recognised = pl.concat(known).sort("row")
    hits = recognised.filter(pl.col("fate") == EVENT)
    heads_ = hits.select("row").join(_head_values(hits), on="row", how="left", maintain_order="left")
    values = _typed(_tail_values(hits, heads_))
    events = (
        hits.with_columns(
            kind=pl.col("key").str.splitn(":", 2).struct.field("field_1"),
            origin=pl.format("{}:{}", "source", "line"),
        )
        .join(values, on="row", how="left", maintain_order="left")
        .select(*events_schema().names(), *(name for name in ("part",) if name in hits.columns))
        .cast(dict(events_schema()))
    )
    return Extracted(events, _fates(recognised))


def _fates(recognised: pl.DataFrame) -> pl.DataFrame:
    return recognised.select(
        "source",
        "line",
        "lines",
        "ts",
        "target",
        "fate",
        message=pl.when(pl.col("fate") == UNMATCHED).then(pl.col("message")),
    )
