"""TURN attempts that came to nothing: who was asked, with what answer. What was granted stands in the statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import Cell, Paint, grid, shown, span

#: so many failures of one tube are named
NAMED = 4
#: outcomes of attempts in other words than the table's
ANSWERS = {"unknown": "not granted", "timed_out": "not answered"}
#: outcomes of conversations that never came to be
NEVER = ("failed", "never_connected")


def _words(row: Row) -> tuple[str, str]:
    """Who was asked, and what came of it."""
    asked = "the router, for credentials" if row["step"] == "credentials" else row["server"] or "a relay"
    outcome = ANSWERS.get(row["outcome"], row["outcome"])
    code = f", {row['error_code']} {row['reason'] or ''}".rstrip() if row["error_code"] is not None else ""
    return asked, f"{outcome}{code}"


def _said(row: Row) -> list[Cell | str]:
    asked, answer = _words(row)
    after = "" if row["duration_ms"] is None else f", after {span(row['duration_ms'])}"
    return [shown(asked), [(shown(f"{answer}{after}"), "red")]]


def in_vain(one: Conversation) -> list[str]:
    """What stood in the way of a conversation that never connected, as far as its logs tell, by side."""
    if one.row["outcome"] not in NEVER:
        return []
    told = []
    for tube in one.tubes:
        found = ["no candidate of its own"] if tube["total_candidates"] == 0 else []
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        # an allocation is asked for again and again, with the same answer
        found += dict.fromkeys(f"{asked} {answer}" for asked, answer in map(_words, failed))
        if found:
            told.append(f"{tube['side'] or 'side unknown'}: {', '.join(found[:NAMED])}")
    return told


def render_attempts(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """List what was asked for in vain."""
    cells: list[list[Cell | str]] = []
    for tube in tubes:
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        cells += [[tube["side"] or "side unknown", *_said(row)] for row in failed[:NAMED]]
        if len(failed) > NAMED:
            cells.append(["", "", f"and {len(failed) - NAMED} more"])
    return ["", paint("TURN, in vain", "bold"), *grid(cells, paint)] if cells else []
