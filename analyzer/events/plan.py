"""Records → events: the plan. Polars runs the lowered patterns over whole batches; no Python per line.

The columns of heads are extracted per kind; those of unordered tails per column, over all kinds that have them,
because a segment is spelled the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import polars as pl

from analyzer.events.envelope import FIELD, column_types, events_schema, typed_columns
from analyzer.events.recognise import EVENT, NOISE, REJECTED, UNMATCHED, recognise, without_suffix
from analyzer.grammar import grammar
from analyzer.grammar.pattern import Column, EventKind, tail
from analyzer.grammar.regex import DELIMITERS, Regex, collects, message_regex, segment_regex
from analyzer.grammar.types import TYPES

__all__ = ["EVENT", "NOISE", "REJECTED", "UNMATCHED", "Extracted", "extract", "without_suffix"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """Events of one batch, and what became of each of its records."""

    events: pl.DataFrame
    #: source, fate, and for the unmatched target, message and line
    fates: pl.DataFrame


@cache
def _message_regex(kind: EventKind) -> Regex:
    return message_regex(kind.sequence)


def _coalesced(struct: pl.Series, regex: Regex) -> dict[str, pl.Series]:
    """Captured text per column: the first branch that gave one."""
    frame = struct.struct.unnest()
    named: dict[str, list[str]] = {}
    for group in frame.columns:
        named.setdefault(group.rsplit("__", 1)[0], []).append(group)
    return {column: frame.select(pl.coalesce(groups)).to_series() for column, groups in named.items()}


def _kinds(keys: pl.Series) -> dict[str, EventKind]:
    """The kinds that occur, by `target:kind`, in the order of their names."""
    named = sorted(keys.drop_nulls().unique())
    spoken = {target: {kind.name: kind for kind in grammar(target).kinds} for target in {k.split(":")[0] for k in named}}
    return {key: spoken[key.split(":")[0]][key.split(":")[1]] for key in named}


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
    # rows are picked out by place again and again, which is slow over several chunks
    records = records.rechunk()
    keys, fate = recognise(records)
    found = records.with_columns(keys, fate)
    hits = found.filter(pl.col("fate") == EVENT).with_row_index("row")
    hits = hits.with_columns(without_suffix(hits["message"])).rechunk()
    kinds = _kinds(hits["key"])
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
        .cast(events_schema())
    )
    return Extracted(events, _fates(found))


def _handed_through(frame: pl.DataFrame) -> list[str]:
    return ["part"] if "part" in frame.columns else []


def _fates(found: pl.DataFrame) -> pl.DataFrame:
    return found.select(
        "source",
        "line",
        "lines",
        "ts",
        "target",
        "fate",
        message=pl.when(pl.col("fate") == UNMATCHED).then(pl.col("message")),
    )
