"""The tubes of both sides that met, side by side: their ICE statistics, and their set-up step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from analyzer.views import clocks, timeline
from analyzer.views.attempts import render_attempts
from analyzer.views.conversation import Conversation, Row
from analyzer.views.ice_stats import STATISTICS
from analyzer.views.pairs import render_pairs
from analyzer.views.text import NOTHING, Cell, Paint, grid, milliseconds, moment, number, shown, side_of, span
from analyzer.views.timeline import Milestone
from analyzer.views.waterfall import render_waterfall

SIDES = ("client", "gateway")
#: starts of gathering further apart than this are told by two clocks that differ
SKEW = timedelta(seconds=30)


def rounds(one: Conversation) -> list[list[Row]]:
    """Tubes that belong together, the client's before the gateway's; a reused conversation has several rounds."""

    def order(tube: Row) -> tuple[bool, str, int]:
        steps = one.milestones[tube["tube_id"]]
        begins = next((step.ts for step in steps if step.ts), None)
        return begins is None, str(begins), steps[0].line if steps else 0

    in_order = sorted(one.tubes, key=order)
    client, gateway = ([tube for tube in in_order if tube["side"] == side] for side in SIDES)
    if len(client) == len(gateway) and len(client) + len(gateway) == len(one.tubes):
        return [list(pair) for pair in zip(client, gateway, strict=True)]
    found: list[list[Row]] = []
    for tube in in_order:
        taken = [other["side"] for other in found[-1]] if found else []
        if not found or tube["side"] in (None, *taken) or None in taken:
            found.append([])
        found[-1].append(tube)
    return [sorted(tubes, key=lambda tube: tube["side"] or "") for tubes in found]


def _heads(tubes: Sequence[Row]) -> list[Cell | str]:
    return [[(side_of(tube), "bold")] for tube in tubes]


def _statistics(tubes: Sequence[Row], paint: Paint) -> list[str]:
    rows: list[list[Cell | str]] = [["", *_heads(tubes)]]
    for name, cell in STATISTICS.items():
        rows.append([name, *([(shown(text), style) for text, style in cell(tube)] for tube in tubes)])
    return ["", paint("ICE statistics", "bold"), *grid(rows, paint, gap=3)]


def _start(steps: Mapping[str, Milestone], begin: datetime | None) -> datetime | None:
    """When a tube's set-up began: with its first step, or where the log lacks those of gathering, with the tube."""
    first = next((step for step in steps.values() if step.ts), None)
    if first is None:
        return None
    return begin if begin and first.name not in timeline.GATHERING else first.ts


def _timeline(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    reached = [{step.name: step for step in one.milestones[tube["tube_id"]]} for tube in tubes]
    begins = {link["tube_id"]: link["from_at"] for link in one.links}
    starts = [_start(steps, begins.get(tube["tube_id"])) for tube, steps in zip(tubes, reached, strict=True)]
    told = [ts for ts in starts if ts]
    title, notes = paint("Set-up", "bold"), []
    offset = clocks.combined(
        [row for row in one.offsets if row["client_tube_id"] in {tube["tube_id"] for tube in tubes}]
    )
    if offset and offset.is_none is False and len(told) > 1:
        notes.append("the clocks of the two logs differ: each side from its own start")
    elif told and max(told) - min(told) > SKEW:
        apart = span(milliseconds(max(told) - min(told)))
        notes.append(f"the clocks of the two logs are {apart} apart: each side from its own start; see --timezone")
    elif told:
        title += f", from {moment(min(told))} UTC"
        starts = [min(told) if ts else None for ts in starts]
    if len(told) < len(tubes):
        timeless = any(source["resolution_ms"] is None for source in one.sources)
        in_order = "a log has no times: the line is named instead, and the order is all it tells"
        notes.append(in_order if timeless else "a log tells nothing of the set-up")
    if any(step.held_back for steps in reached for step in steps.values()):
        notes.append("* the library held its callbacks back: told late, not when it happened")
    coarse = {source["name"] for source in one.sources if (source["resolution_ms"] or 0) >= 1000}
    rows: list[list[Cell | str]] = [["", *_heads(tubes)]]
    for name in timeline.NAMES:
        if name in timeline.SETUP or any(name in steps for steps in reached):
            cells = (_step(steps.get(name), start, coarse) for steps, start in zip(reached, starts, strict=True))
            rows.append([name, *cells])
    lines = grid(rows, paint, right=range(1, len(tubes) + 1), gap=4)
    return ["", title, *lines, *(f"  {paint(note, 'dim')}" for note in notes)]


def _step(step: Milestone | None, start: datetime | None, coarse: set[str]) -> str:
    if step is None:
        return NOTHING
    again = f"{step.count} times, first " if step.count > 1 else ""
    if step.ts is None or start is None:
        return f"{again}line {step.line}"
    elapsed = milliseconds(step.ts - start)
    # whole seconds are not given digits that they do not have
    text = number(elapsed / 1000, "s") if step.source in coarse else span(elapsed)
    return f"{again}{'* ' if step.held_back else ''}{text}"


def _tubes(tubes: Sequence[Row], paint: Paint) -> list[str]:
    lines = []
    for tube in tubes:
        text = f"{side_of(tube)}: tube {tube['tube_id']}, link_method {tube['link_method']}"
        again = f", {tube['generations']} ICE generations" if (tube["generations"] or 1) > 1 else ""
        lines.append(f"  {paint(shown(text + again), 'dim')}")
    return ["", *lines]


def render_round(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """Draw up the tubes of one round."""
    return [
        *_statistics(tubes, paint),
        *render_attempts(one, tubes, paint),
        *_timeline(one, tubes, paint),
        *render_waterfall(one, tubes, paint),
        *render_pairs(one, tubes, paint),
        *_tubes(tubes, paint),
    ]
