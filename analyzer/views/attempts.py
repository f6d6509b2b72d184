"""TURN attempts that came to nothing: who was asked, with what answer. What was granted stands in the statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import Cell, Paint, grid, shown, span

#: so many failures of one tube are named
NAMED = 4


def _said(row: Row) -> str:
    asked = "TURN credentials of the router" if row["step"] == "credentials" else "a TURN allocation"
    server = f" of {row['server']}" if row["server"] else ""
    outcome = {"unknown": "not granted", "timed_out": "not answered"}.get(row["outcome"], row["outcome"])
    why = " ".join(str(part) for part in (row["error_code"], row["reason"]) if part is not None)
    after = "" if row["duration_ms"] is None else f", after {span(row['duration_ms'])}"
    return f"{asked}{server}: {outcome}{after}{f' ({why})' if why else ''}"


def render_attempts(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """List what was asked for in vain."""
    cells: list[list[Cell | str]] = []
    for tube in tubes:
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        cells += [[tube["side"] or "side unknown", [(shown(_said(row)), "red")]] for row in failed[:NAMED]]
        if len(failed) > NAMED:
            cells.append(["", f"and {len(failed) - NAMED} more"])
    return ["", paint("TURN, in vain", "bold"), *grid(cells, paint)] if cells else []
