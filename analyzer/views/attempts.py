"""TURN attempts that came to nothing: who was asked, with what answer. What was granted stands in the statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import Cell, Paint, grid, shown, span

#: so many failures of one tube are named
NAMED = 4


def _said(row: Row) -> list[Cell | str]:
    asked = "the router, for credentials" if row["step"] == "credentials" else row["server"] or "a relay"
    outcome = {"unknown": "not granted", "timed_out": "not answered"}.get(row["outcome"], row["outcome"])
    code = f", {row['error_code']} {row['reason'] or ''}".rstrip() if row["error_code"] is not None else ""
    after = "" if row["duration_ms"] is None else f", after {span(row['duration_ms'])}"
    return [shown(asked), [(shown(f"{outcome}{code}{after}"), "red")]]


def render_attempts(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """List what was asked for in vain."""
    cells: list[list[Cell | str]] = []
    for tube in tubes:
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        cells += [[tube["side"] or "side unknown", *_said(row)] for row in failed[:NAMED]]
        if len(failed) > NAMED:
            cells.append(["", "", f"and {len(failed) - NAMED} more"])
    return ["", paint("TURN, in vain", "bold"), *grid(cells, paint)] if cells else []
