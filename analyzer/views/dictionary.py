"""The data dictionary: every table and column, every kind of event, from the declarations and the grammars."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from analyzer.catalogue import TABLES
from analyzer.errors import UsageError
from analyzer.events.envelope import typed_columns
from analyzer.events.targets import logger
from analyzer.grammar import shipped
from analyzer.grammar.pattern import EventKind, captures, required
from analyzer.grammar.types import TYPES
from analyzer.tables.declare import Table
from analyzer.views.text import WIDTH, Paint, plain, shown


class UnknownEntry(UsageError):
    """The dictionary has no entry of that name."""


def _known(name: str, names: Iterable[str], what: str, command: str) -> None:
    listed = sorted(set(names))
    if name not in listed:
        nearest = difflib.get_close_matches(name, listed, 3)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"`analyzer {command}` lists them"
        raise UnknownEntry(f"there is no {what} {name}", hint)


# -- tables -----------------------------------------------------------------------------------------------------------


def _dtype(dtype: pl.DataType) -> str:
    return str(dtype).replace("time_unit='us', time_zone='UTC'", "us, UTC")


def _table(table: Table) -> dict[str, Any]:
    columns = [
        {"name": one.name, "dtype": _dtype(one.dtype), "unit": one.unit, "doc": one.doc, "sources": list(one.source)}
        for one in table.columns
    ]
    return {"name": table.name, "row": table.row, "sorted_by": list(table.sort), "columns": columns}


def tables(name: str | None = None) -> list[dict[str, Any]]:
    """List the tables, or the one of that name, with their columns.

    Raises:
        UnknownEntry: there is no such table.
    """
    if name is not None:
        _known(name, TABLES, "table", "tables")
    return [_table(table) for table in TABLES.values() if name in (None, table.name)]


def _wrapped(text: str, indent: int, paint: Paint, style: str = "") -> list[str]:
    return [" " * indent + paint(line, style) for line in textwrap.wrap(text, WIDTH - indent, break_long_words=False)]


def render_tables(found: Sequence[dict[str, Any]], paint: Paint = plain) -> str:
    """Draw up tables for a person."""
    lines = []
    for table in found:
        lines += [f"{paint(table['name'], 'bold')}: {table['row']}", ""]
        for column in table["columns"]:
            kind = f"{column['dtype']}, {column['unit']}" if column["unit"] else column["dtype"]
            lines.append(f"  {paint(column['name'], 'bold')}  {paint(kind, 'dim')}")
            lines += _wrapped(column["doc"], 6, paint)
            if column["sources"]:
                lines += _wrapped(f"from {', '.join(column['sources'])}", 6, paint, "dim")
        lines += [f"  sorted by {', '.join(table['sorted_by']) or 'nothing: in the order of its logs'}", "", ""]
    return "\n".join(lines)


def markdown_tables(found: Sequence[dict[str, Any]]) -> str:
    """Draw up tables as Markdown."""
    lines = []
    for table in found:
        lines += [f"## {table['name']}", "", table["row"], "", "| column | dtype | unit | meaning | from |"]
        lines.append("|---|---|---|---|---|")
        for column in table["columns"]:
            cells = [f"`{column['name']}`", f"`{column['dtype']}`", column["unit"], column["doc"]]
            cells.append(", ".join(f"`{kind}`" for kind in column["sources"]))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


# -- events -----------------------------------------------------------------------------------------------------------


def _event(kind: EventKind) -> dict[str, Any]:
    always, typed = required(kind.sequence), typed_columns()
    columns = {capture.column: _dtype(TYPES[capture.terminal].dtype) for capture in captures(kind.sequence)}
    return {
        "kind": kind.name,
        "target": logger(kind.target),
        "doc": kind.doc,
        "columns": [
            {"name": name, "dtype": dtype, "optional": name not in always, "in_fields": name not in typed}
            for name, dtype in columns.items()
        ],
        "samples": list(kind.samples),
        "grammar": kind.place,
    }


def events(name: str | None = None) -> list[dict[str, Any]]:
    """List the kinds of events, or those of that name, in the order of their grammars.

    Raises:
        UnknownEntry: there is no such kind.
    """
    found = [_event(kind) for one in shipped().values() for kind in one.kinds]
    if name is not None:
        _known(name, (event["kind"] for event in found), "event", "events")
    return [event for event in found if name in (None, event["kind"])]


def _columns(event: dict[str, Any], paint: Paint) -> list[str]:
    if not event["columns"]:
        return []
    named = ", ".join(
        f"{one['name']}{'?' if one['optional'] else ''} {one['dtype']}{' in fields' if one['in_fields'] else ''}"
        for one in event["columns"]
    )
    return _wrapped(named, 6, paint, "dim")


def render_events(found: Sequence[dict[str, Any]], paint: Paint = plain) -> str:
    """Draw up kinds of events for a person, by the logger they come from."""
    lines, target = [], None
    for event in found:
        if event["target"] != target:
            target = event["target"]
            lines += [paint(target, "bold"), ""]
        lines += [f"  {paint(event['kind'], 'bold')}", *_wrapped(event["doc"], 6, paint), *_columns(event, paint)]
        lines += [f"      > {line}" for sample in event["samples"] for line in shown(sample).split("\n")]
        lines.append("")
    note = "`?` marks a column that may be null; `in fields` one that stands in the list column `fields`, as text."
    return "\n".join([*lines, paint(note, "dim")])
