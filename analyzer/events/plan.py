"""Records → events: the plan. Polars runs the lowered patterns over whole batches; no Python per line.

Each kind is read by a handful of expressions made once: its head's captures, and one search per column of its tail.
Columns that most tails have, the ids, are searched for in all messages together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import polars as pl

from analyzer.events.envelope import FIELD, column_types, events_schema, typed_columns
from analyzer.events.recognise import EVENT, NOISE, REJECTED, UNMATCHED, recognise, sift, without_suffix
from analyzer.grammar import grammar, shared_columns
from analyzer.grammar.pattern import TAIL_COLUMNS, Column, EventKind, tail
from analyzer.grammar.regex import DELIMITERS, collects, head_regex, segment_regex
from analyzer.grammar.types import MOST_LISTED, TYPES, is_list

__all__ = ["EVENT", "NOISE", "REJECTED", "UNMATCHED", "Extracted", "extract", "fates", "sift", "without_suffix"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """Events of one batch, and what became of each of its records."""

    events: pl.DataFrame
    #: source, fate, and for the unmatched target, message and line
    fates: pl.DataFrame
    #: values that were not taken: source, reason, line, offset, size
    refused: pl.DataFrame


def _segment(column: Column) -> pl.Expr:
    """Text of a tail's column: of the first segment that spells it, or of all of them, a line each."""
    message, regex = pl.col("message"), segment_regex(column)
    if collects(column):
        inner = pl.element().str.extract(regex.text, 1)
        # a delimiter ends one segment and begins the next: doubled, both matches have one
        doubled = message.str.replace_all(f"([{DELIMITERS}])", "${1}${1}")
        return doubled.str.extract_all(regex.text).list.eval(inner).list.join("\n").replace("", None)
    if len(regex.columns) == 1:
        return message.str.extract(regex.text, 1)
    groups = message.str.extract_groups(regex.text).struct
    return pl.coalesce(groups.field(f"{column.name}__{place}") for place in range(1, len(regex.columns) + 1))


@cache
def _everywhere() -> dict[tuple[str, str], Column]:
    """Columns that every tail looks for, as most spell them: by name and regular expression."""
    return {(name, segment_regex(shared_columns()[name]).text): shared_columns()[name] for name in TAIL_COLUMNS}


def _found(column: Column) -> pl.Expr:
    """Text of a tail's column, which may have been searched for already."""
    key = column.name, segment_regex(column).text
    return pl.col(f"tail_{column.name}") if key in _everywhere() else _segment(column)


def _texts(kind: EventKind) -> dict[str, pl.Expr]:
    """Text of every column of a kind, over `message` and the captures of its `head`; the head's word stands first."""
    found: dict[str, list[pl.Expr]] = {}
    seen: Counter[str] = Counter()
    for name in head_regex(kind.sequence).columns:
        seen[name] += 1
        found.setdefault(name, []).append(pl.col("head").struct.field(f"{name}__{seen[name]}"))
    for column in tail(kind.sequence):
        found.setdefault(column.name, []).append(_found(column))
    return {name: pl.coalesce(texts) for name, texts in found.items()}


def _refusals(types: dict[str, str], texts: dict[str, pl.Expr]) -> Iterator[pl.Expr]:
    """The reason why a value is not taken, for each column in which that may be."""
    for name, text in texts.items():
        terminal, kind = types[name], TYPES[types[name]]
        reason = {"ID": "id_too_long", "CANDIDATE": "candidate_too_long", "CANDIDATES": "candidate_too_long"}
        if kind.longest is not None:
            yield pl.when(kind.too_long(text)).then(pl.lit(reason.get(terminal, "value_too_long")))
        if is_list(terminal):
            many = text.str.count_matches("\n", literal=True) >= MOST_LISTED
            yield pl.when(many).then(pl.lit("too_many_candidates"))


@cache
def _reading(kind: EventKind) -> tuple[pl.Expr, ...]:
    """Over the texts of a kind: its typed columns, `fields` for those of this grammar alone, `refused`."""
    types, typed, texts = column_types((kind,)), typed_columns(), {name: pl.col(name) for name in _texts(kind)}
    columns = [
        TYPES[types[name]].expr(text).cast(typed[name]).alias(name) for name, text in texts.items() if name in typed
    ]
    pairs = [pl.struct(key=pl.lit(name), value=text) for name, text in texts.items() if name not in typed]
    if pairs:
        said = pl.concat_list(pairs).list.filter(pl.element().struct.field("value").is_not_null())
        columns.append(pl.when(said.list.len() > 0).then(said).alias("fields"))
    columns.append(pl.coalesce(pl.lit(None, pl.String), *_refusals(types, texts)).alias("refused"))
    return tuple(columns)


@cache
def _kind(key: str) -> EventKind:
    """The kind of a `target:kind`."""
    target, name = key.split(":", 1)
    return next(kind for kind in grammar(target).kinds if kind.name == name)


@cache
def _asked(kind: EventKind) -> tuple[tuple[pl.Expr, ...], tuple[pl.Expr, ...]]:
    """Of a kind's messages: captures of the head, if it has any, and the text of each column, called like it."""
    head = head_regex(kind.sequence)
    groups = (pl.col("message").str.extract_groups(head.text).alias("head"),) if head.columns else ()
    return groups, tuple(text.alias(name) for name, text in _texts(kind).items())


def _read(kind: EventKind, messages: pl.DataFrame) -> pl.DataFrame:
    """The columns of messages of one kind."""
    groups, texts = _asked(kind)
    # texts are found before they are read: an expression that is used twice is worked out twice
    return (messages.with_columns_seq(groups) if groups else messages).select_seq(texts).select_seq(_reading(kind))


def _padded(dtype: pl.DataType, pieces: Sequence[tuple[int, pl.Series]], rows: int) -> pl.Series:
    """A column of so many rows from pieces of it and where each begins, in order; null between them."""
    parts, end, nothing = [pl.Series(dtype=dtype)], 0, pl.Series([None], dtype=dtype)
    for begin, piece in (*pieces, (rows, pl.Series(dtype=dtype))):
        parts += [nothing.new_from_index(0, begin - end), piece]
        end = begin + len(piece)
    return pl.concat(parts, rechunk=True)


def _values(hits: pl.DataFrame) -> pl.DataFrame:
    """The columns of all hits, in their order; a kind at a time, because no two have the same."""
    ids = {f"tail_{column.name}": _segment(column) for column in _everywhere().values()}
    kinds = hits.select("key").with_row_index("at").group_by("key").agg("at", rows=pl.len())
    order = kinds["at"].explode(empty_as_null=False)
    messages = hits.select("message")[order].with_columns(**ids)
    schema = {**typed_columns(), "fields": pl.List(FIELD), "refused": pl.String()}
    pieces: dict[str, list[tuple[int, pl.Series]]] = {name: [] for name in schema}
    begin = 0
    for key, rows in kinds.select("key", "rows").rows():
        for piece in _read(_kind(key), messages[begin : begin + rows]):
            if piece.null_count() < rows:
                pieces[piece.name].append((begin, piece))
        begin += rows
    columns = {name: _padded(dtype, pieces[name], begin) for name, dtype in schema.items()}
    return pl.DataFrame(columns)[order.arg_sort()]


def extract(sifted: pl.DataFrame) -> Extracted:
    """Read the records of a batch that come from `sift`, those it settled or not.

    `sifted` has the columns of a record and `source`. Events come out in the order of the records; a further column
    `part` is handed through.
    """
    # rows are picked out by place again and again, which is slow over several chunks
    parted = sifted.with_columns(without_suffix(sifted["message"])).rechunk()
    keys, fate = recognise(parted)
    found = parted.with_columns(keys, fate)
    hits = found.filter(pl.col("fate") == EVENT).rechunk()
    values = _values(hits)
    # taken off the names that values have too, so that the columns stand side by side
    placed = hits.select(
        "ts", "elapsed_s", "level", "target", "source", "line", "location", "key", *_handed_through(hits)
    )
    refused = hits.select("source", "line", "offset").with_columns(reason=values["refused"])
    events = (
        pl.concat([placed, values.drop("refused")], how="horizontal")
        .with_columns(
            kind=pl.col("key").str.splitn(":", 2).struct.field("field_1"),
            origin=pl.format("{}:{}", "source", "line"),
        )
        .select(*events_schema().names(), *_handed_through(hits))
        .cast(events_schema())
    )
    lost = refused.filter(pl.col("reason").is_not_null())
    return Extracted(events, fates(found), lost.select("source", "reason", "line", "offset", size=None))


def _handed_through(frame: pl.DataFrame) -> list[str]:
    return ["part"] if "part" in frame.columns else []


def fates(found: pl.DataFrame) -> pl.DataFrame:
    """What became of records, as counted and shown: of a message only that of the unmatched is kept."""
    return found.select(
        "source",
        "line",
        "lines",
        "ts",
        "level",
        "target",
        "fate",
        *_handed_through(found),
        message=pl.when(pl.col("fate") == UNMATCHED).then(pl.col("message")),
    )
