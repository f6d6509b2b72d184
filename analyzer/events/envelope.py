"""The columns of an event: what every event has, then one typed column per shared column of the grammars.

A column defined in `fields.lark` is typed; one that a single grammar defines for itself goes into `fields`, a list of
key and value, so that the table does not widen with every log line.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import polars as pl

from analyzer.grammar import shared_columns
from analyzer.grammar.pattern import EventKind, captures
from analyzer.grammar.types import TIMESTAMP, TYPES

ENVELOPE: dict[str, tuple[pl.DataType, str]] = {
    "kind": (pl.String(), "What happened; `analyzer events` lists all kinds with samples."),
    "ts": (TIMESTAMP, "Time of the record; null in dialects without one."),
    "elapsed_s": (pl.Int64(), "Seconds since the program started, where its log tells no other time: the relay's."),
    "level": (pl.String(), "Level of the record. Says little: ERROR is normal in good sessions."),
    "target": (pl.String(), "Logger the record came from."),
    "source": (pl.String(), "Name of the input."),
    "line": (pl.Int64(), "Number of the record's first line in its input, from 1."),
    "origin": (pl.String(), "`source:line`."),
    "location": (pl.String(), "The producer's own source file and line, where it prints them."),
}
FIELD = pl.Struct({"key": pl.String(), "value": pl.String()})


@cache
def typed_columns() -> dict[str, pl.DataType]:
    """Dtype of every typed column of the events, in the order of `fields.lark`."""
    return {name: TYPES[terminal].dtype for name, terminal in shared_types().items()}


@cache
def shared_types() -> dict[str, str]:
    """Terminal of every shared column, by column name, in the order of `fields.lark`."""
    found: dict[str, str] = {}
    for column in shared_columns().values():
        for capture in captures(column.sequence):
            found.setdefault(capture.column, capture.terminal)
    return found


def column_types(kinds: Iterable[EventKind]) -> dict[str, str]:
    """Terminal of every column these kinds capture."""
    own = {capture.column: capture.terminal for kind in kinds for capture in captures(kind.sequence)}
    return shared_types() | own


@cache
def events_schema() -> pl.Schema:
    """Schema of a frame of events."""
    return pl.Schema(
        {
            **{name: dtype for name, (dtype, _) in ENVELOPE.items()},
            **typed_columns(),
            "fields": pl.List(FIELD),
        }
    )
