"""The columns of an event: what every event has, then one typed column per shared column of the grammars.

A column defined in `fields.lark` is typed; one that a single grammar defines for itself goes into `fields`, a list of
key and value, so that the table does not widen with every log line.
"""

from __future__ import annotations

from functools import cache

import polars as pl

from analyzer.grammar import shipped
from analyzer.grammar.lower import column_name
from analyzer.grammar.pattern import captures
from analyzer.grammar.source import SHARED, source
from analyzer.grammar.types import TIMESTAMP, TYPES

ENVELOPE: dict[str, tuple[pl.DataType, str]] = {
    "kind": (pl.String(), "What happened; `analyzer events` lists all kinds with samples."),
    "ts": (TIMESTAMP, "Time of the record; null in dialects without one."),
    "level": (pl.String(), "Level of the record. Says little: ERROR is normal in good sessions."),
    "target": (pl.String(), "Logger the record came from."),
    "source": (pl.String(), "Name of the input."),
    "line": (pl.Int64(), "Number of the record's first line in its input, from 1."),
    "origin": (pl.String(), "`source:line`."),
    "location": (pl.String(), "The producer's own source file and line, where it prints them."),
}
FIELD = pl.Struct({"key": pl.String(), "value": pl.String()})


@cache
def column_types() -> dict[str, str]:
    """Terminal of every column that a shipped kind captures, by column name."""
    found: dict[str, str] = {}
    for one in shipped().values():
        for kind in one.kinds:
            for capture in captures(kind.sequence):
                found.setdefault(capture.column, capture.terminal)
    return found


@cache
def typed_columns() -> dict[str, pl.DataType]:
    """Dtype of every typed column of the events, in the order of `fields.lark`."""
    shared = dict.fromkeys(column_name(rule) for rule in source(SHARED).notes if not rule.startswith("_"))
    types = column_types()
    return {name: TYPES[types[name]].dtype for name in shared if name in types}


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
