"""TURN attempts that came to nothing: who was asked, with what answer. What was granted stands in the statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import Cell, Paint, grid, shown, side_of, span
from analyzer.views.timeline import SETUP, Milestone

#: so many failures of one tube are named
NAMED = 4
#: outcomes of attempts in other words than the table's
ANSWERS = {"unknown": "not granted", "timed_out": "not answered"}
#: what it means that a set-up came no further than to a milestone
STOPPED = {
    "ICE checking": "no pair of candidates connected",
    "ICE connected": "ICE connected, the DTLS handshake did not end",
}
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


def _came(milestones: Sequence[Milestone]) -> str:
    """How far a set-up came, where that is one of `STOPPED`."""
    reached = [step.name for step in milestones if step.name in SETUP]
    return STOPPED.get(reached[-1], "") if reached else ""


def _stopped(one: Conversation) -> list[str]:
    """How far its set-ups came: by side, unless they all came as far."""
    told = list(dict.fromkeys((side_of(tube), _came(one.milestones[tube["tube_id"]])) for tube in one.tubes))
    words = {word for _, word in told}
    return [*words - {""}] if len(words) == 1 else [f"{side}: {word}" for side, word in told if word]


def in_vain(one: Conversation) -> list[str]:
    """What stood in the way of a conversation that never connected, as far as its logs tell, and how far it came."""
    if one.row["outcome"] not in NEVER:
        return []
    told = []
    for tube in one.tubes:
        found = ["no candidate of its own"] if tube["total_candidates"] == 0 else []
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        # an allocation is asked for again and again, with the same answer
        found += dict.fromkeys(f"{asked} {answer}" for asked, answer in map(_words, failed))
        if found:
            told.append(f"{side_of(tube)}: {', '.join(found[:NAMED])}")
    return told + _stopped(one)


def render_attempts(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """List what was asked for in vain."""
    cells: list[list[Cell | str]] = []
    for tube in tubes:
        failed = [row for row in one.attempts if row["tube_id"] == tube["tube_id"] and row["outcome"] != "granted"]
        cells += [[side_of(tube), *_said(row)] for row in failed[:NAMED]]
        if len(failed) > NAMED:
            cells.append(["", "", f"and {len(failed) - NAMED} more"])
    return ["", paint("TURN, in vain", "bold"), *grid(cells, paint)] if cells else []
