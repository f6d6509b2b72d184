"""What the relay's own log tells of a conversation: a line per session that asked it for an allocation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from analyzer.views.text import NOTHING, counted, shown, size

#: so many sessions are told one by one
TOLD = 4


def _session(row: dict[str, Any]) -> str:
    side = row["side"] or "a side"
    if row["allocations"]:
        told = f"allocation for the {side}" + (f", {row['join_method']}" if row["join_method"] else "")
        passed = [NOTHING if row[f"bytes_{way}"] is None else size(row[f"bytes_{way}"]) for way in ("received", "sent")]
        counts = f"{passed[0]} from it, {passed[1]} to it" if row["bytes_sent"] is not None else "not counted yet"
        return f"{told}: {counts}"
    return f"no allocation for the {side}"


def _ending(row: dict[str, Any]) -> str:
    refused = f"; {counted(row['refusals'], 'refusal')}, error {row['refused_code']}" if row["refusals"] else ""
    return refused + (f"; closed: {row['close_reason']}" if row["close_reason"] else "; still open")


def sessions(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Tell the sessions of a conversation; those of mere bindings and stray requests are left out."""
    asked = [row for row in rows if row["allocations"] or row["refusals"]]
    yield from (shown(_session(row) + _ending(row)) for row in asked[:TOLD])
    if len(asked) > TOLD:
        yield f"and {counted(len(asked) - TOLD, 'more session')}; see the table relay_sessions"
