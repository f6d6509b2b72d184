"""Where the time of a set-up went, phase by phase: numbers, and bars where the log's times are fine enough for them."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import NOTHING, Cell, Paint, grid, milliseconds, number, shown, side_of, span

#: columns of the widest bar; with names and numbers it fits a terminal of 80
BAR = 44
TAKEN, WAITED, HELD = "█", "▒", "░"
#: words of phases joined because no line parts them, at most so many
NAMED = 2


def _name(phase: str) -> str:
    """The phase's name; of many joined ones the first and the last."""
    names = phase.split("+")
    return phase if len(names) <= NAMED else f"{names[0]} … {names[-1]}"


def _bar(row: Row, whole_ms: float) -> str:
    """A bar from the phase's offset; what was a wait or held back is drawn lighter, and nothing is drawn of nothing."""
    if row["offset_ms"] is None or row["duration_ms"] is None or not whole_ms:
        return ""
    begin, end = (round(BAR * ms / whole_ms) for ms in (row["offset_ms"], row["offset_ms"] + row["duration_ms"]))
    length = end - begin
    held = min(length, round(BAR * (row["held_back_ms"] or 0.0) / whole_ms))
    waited = min(length - held, round(BAR * (row["wait_ms"] or 0.0) / whole_ms)) if not held else 0
    drawn = WAITED * waited + HELD * held + TAKEN * (length - waited - held)
    return f"{' ' * begin}{drawn}"


def _took(row: Row, coarse: bool) -> str:
    if row["state"] == "died":
        return "died here"
    if row["state"] != "done":
        return "log ends" if row["state"] == "open" else "not told"
    if row["duration_ms"] is not None:
        return number(row["duration_ms"], "ms")
    if coarse and row["ended_at"] is not None and row["started_at"] is not None:
        # two times cut to whole seconds are less than a second off, either way
        return f"{milliseconds(row['ended_at'] - row['started_at']) / 1000:.0f} s ± 1"
    return NOTHING


def _remarks(rows: Sequence[Row]) -> list[str]:
    """What the bars alone do not say."""
    said = []
    for row in rows:
        name = _name(row["phase"])
        if row["held_back"]:
            said.append(f"{name}: held back, told late by the library, which sleeps up to 6 s in releases 1.0 to 1.2")
        elif row["wait_ms"]:
            said.append(f"{name}: {number(row['wait_ms'], 'ms')} of it are the agent's wait before it nominates")
        if row["span_ms"] is not None and row["duration_ms"] is None:
            said.append(f"{name}: {number(row['span_ms'], 'ms')} as the log prints it, with what ran beside it")
        elif row["span_ms"] is not None and row["span_ms"] > row["duration_ms"]:
            beside = "began before the first line" if name == "credential_fetch" else "went on while later phases ran"
            said.append(f"{name}: {span(row['span_ms'])} in all, it {beside}")
        if row["state"] == "untold":
            said.append(f"{name}: no line tells its end; the tube was connected")
    return said


def _tube(tube: Row, rows: Sequence[Row], coarse: bool, longest: int, paint: Paint) -> list[str]:
    done = [row for row in rows if row["duration_ms"] is not None and row["offset_ms"] is not None]
    whole = max((row["offset_ms"] + row["duration_ms"] for row in done), default=0.0)
    title = paint(side_of(tube), "bold")
    if done:
        end = "" if rows[-1]["state"] == "done" else f", up to {_name(done[-1]['phase'])}"
        title += f": {span(whole)}{end}"
    cells: list[list[Cell | str]] = []
    for row in rows:
        style = "red" if row["state"] == "died" else ""
        cells.append(
            [_name(row["phase"]).ljust(longest), [(_took(row, coarse).rjust(9), style)], [(_bar(row, whole), "dim")]]
        )
    lines = [f"  {title}", *grid(cells, paint, right=(1,), indent=4)]
    return [*lines, *(f"    {paint(shown(remark), 'dim')}" for remark in _remarks(rows))]


def render_waterfall(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """Draw the set-up of each tube, where its log tells how long anything took, or where it died."""
    coarse = any((source["resolution_ms"] or 0) >= 1000 for source in one.sources)
    shown_tubes = {tube["tube_id"] for tube in tubes}
    longest = max((len(_name(row["phase"])) for row in one.phases if row["tube_id"] in shown_tubes), default=0)
    drawn = []
    for tube in tubes:
        rows = [row for row in one.phases if row["tube_id"] == tube["tube_id"]]
        told = any(row["span_ms"] is not None or row["state"] == "died" for row in rows)
        if told or (coarse and any(row["ended_at"] for row in rows)):
            drawn += _tube(tube, rows, coarse, longest, paint)
    return ["", paint("Where the set-up time went", "bold"), *drawn] if drawn else []
