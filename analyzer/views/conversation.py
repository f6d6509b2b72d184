"""One conversation for a person: what became of it, its legs, the ICE statistics of both sides, how its set-up went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import polars as pl

from analyzer.api import Dataset
from analyzer.views import legs, timeline
from analyzer.views.ice_stats import STATISTICS
from analyzer.views.text import NOTHING, Cell, Paint, grid, milliseconds, moment, number, plain, shown, size, span
from analyzer.views.timeline import Milestone

Row: TypeAlias = dict[str, Any]
SIDES = ("client", "gateway")
LEGS = ("client_to_krelay", "krelay_to_gateway", "end_to_end")
#: starts of gathering further apart than this are told by two clocks that differ
SKEW = timedelta(seconds=30)
#: so many conversations of one tube are named
SHARED_NAMED = 6

#: what each outcome means, and its colour; the worst first
OUTCOMES: dict[str, tuple[str, str]] = {
    "failed": ("could not connect: ICE or the peer connection failed", "red"),
    "connected_lost": ("connected, then the connection was lost", "red"),
    "never_connected": ("closed before it ever connected", "red"),
    "unknown": ("unknown: its lines tell neither a connection nor a failure", "yellow"),
    "connected_open": ("connected, and not closed where the logs end", "green"),
    "connected_closed": ("connected, then closed", "green"),
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything shown of one conversation: its rows of the tables, and what its tubes went through."""

    row: Row
    tubes: list[Row]
    legs: Row
    measurements: list[Row]
    #: by tube
    milestones: dict[str, list[Milestone]]
    #: other conversations its tubes carried
    shared: list[str]
    #: sources its events came from: name, dialect, resolution_ms
    sources: list[Row]


def gather(dataset: Dataset, text: str) -> Conversation:
    """Gather one conversation by its id, the beginning of its id, or a tube.

    Raises:
        UnknownConversation: there is none, or more than one.
    """
    conversation_id = dataset.find(text)
    mine = pl.col("conversation_id") == conversation_id
    tubes = dataset.ice_stats.filter(mine).collect()
    tube_ids = tubes["tube_id"].to_list()
    events = timeline.collect(dataset.events, conversation_id, tube_ids)
    sharing = dataset.ice_stats.filter(pl.col("tube_id").is_in(tube_ids), ~mine).select("conversation_id").collect()
    seen = sorted({row["source"] for row in events if row["tube_id"]})
    sources = dataset.sources.filter(pl.col("name").is_in(seen)).select("name", "dialect", "resolution_ms").collect()
    found = dataset.connection_legs.filter(mine).collect().to_dicts()
    return Conversation(
        row=dataset.conversations.filter(mine).collect().row(0, named=True),
        tubes=tubes.to_dicts(),
        legs=found[0] if found else {},
        measurements=dataset.leg_measurements.filter(mine).collect().to_dicts(),
        milestones={tube_id: timeline.milestones(events, conversation_id, tube_id) for tube_id in tube_ids},
        shared=sharing.to_series().unique().sort().to_list(),
        sources=sources.to_dicts(),
    )


def as_values(one: Conversation) -> dict[str, Any]:
    """Give the conversation as plain values, under the names of the tables."""
    return {
        "conversations": [one.row],
        "ice_stats": one.tubes,
        "connection_legs": [one.legs] if one.legs else [],
        "leg_measurements": one.measurements,
        "timeline": [
            {"side": tube["side"], **asdict(step)} for tube in one.tubes for step in one.milestones[tube["tube_id"]]
        ],
    }


# -- header -------------------------------------------------------------------------------------------------------------


def _when(row: Row) -> str:
    if row["started_at"] is None:
        return "its logs have no times"
    lasted = span(milliseconds(row["ended_at"] - row["started_at"]))
    return f"{moment(row['started_at'])} UTC, for {lasted}"


def _path(one: Conversation) -> str:
    uses, types = one.legs.get("uses_relay"), one.legs.get("path")
    if uses is None and one.row["connected"]:
        return "the log does not tell which pair carried the traffic"
    if uses is None:
        return "none: it never connected" if one.row["connected"] is False else "unknown"
    way = "through KRelay" if uses else "direct, not through KRelay"
    if any(tube["selected_pair_method"] == "reported" for tube in one.tubes):
        way += ", as the library reported it"
    return f"{types}, {way}" if types else f"{way}; the log leaves the candidate types open"


def _sides(sides: Sequence[str]) -> str:
    if not sides:
        return "no line tells which side this is"
    return " and ".join(sides) if len(sides) > 1 else f"{sides[0]} only; no line of the other side"


def _header(one: Conversation, paint: Paint) -> list[str]:
    row = one.row
    sentence, style = OUTCOMES[row["outcome"]]
    reason = f", close reason {shown(row['close_reason'])}" if row["close_reason"] else ""
    rows: list[tuple[str, Cell | str]] = [
        ("outcome", [(sentence, style), (reason, "")]),
        ("when", _when(row)),
        ("sides", _sides(row["sides"])),
        ("path", _path(one)),
    ]
    if row["bytes_sent"] is not None or row["bytes_received"] is not None:
        sent, received = (NOTHING if row[way] is None else size(row[way]) for way in ("bytes_sent", "bytes_received"))
        rows.append(("data", f"{sent} from the client, {received} to it"))
    if one.shared:
        rows.append(("shared", "its latencies and ICE statistics are those of a tube it shares with"))
        rows += [("", shown(other)) for other in one.shared[:SHARED_NAMED]]
        if len(one.shared) > SHARED_NAMED:
            rows.append(("", f"and {len(one.shared) - SHARED_NAMED} more"))
    cells: list[list[Cell | str]] = [[[(name, "dim")], cell] for name, cell in rows]
    return [paint(f"Conversation {shown(row['conversation_id'])}", "bold"), *grid(cells, paint)]


# -- legs ---------------------------------------------------------------------------------------------------------------


def _why_unknown(one: Conversation) -> list[str]:
    """Why a leg has no value: no times, whole seconds, or estimates that were refused."""
    reasons = []
    for source in one.sources:
        if source["resolution_ms"] is None:
            reasons.append(f"{source['name']} has no times ({source['dialect']}): nothing in it can be timed")
        elif source["resolution_ms"] >= 1000:
            reasons.append(f"{source['name']} has whole seconds ({source['dialect']}): too coarse for a round trip")
    if not reasons:
        for estimate in one.measurements:
            if estimate["refused_reason"] and one.legs.get(f"{estimate['leg']}_latency_ms") is None:
                value = number(estimate["value_ms"], "ms")
                reasons.append(
                    f"{estimate['leg']}: {value} by {estimate['method']} refused, {estimate['refused_reason']}"
                )
    return reasons


def _legs(one: Conversation, paint: Paint) -> list[str]:
    methods = [one.legs.get(f"{leg}_method") for leg in LEGS]
    lines = ["", paint("Legs", "bold") + ", round trips", "", *legs.draw(one.legs, paint)]
    if None in methods:
        lines += [f"  {paint(shown(reason), 'dim')}" for reason in _why_unknown(one)]
    explained = legs.legend({method for method in methods if method}, paint)
    return [*lines, "", *explained] if explained else lines


# -- rounds: the tubes of both sides that met ---------------------------------------------------------------------------


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
    return [[(tube["side"] or "side unknown", "bold")] for tube in tubes]


def _statistics(tubes: Sequence[Row], paint: Paint) -> list[str]:
    rows: list[list[Cell | str]] = [["", *_heads(tubes)]]
    for name, cell in STATISTICS.items():
        rows.append([name, *([(shown(text), style) for text, style in cell(tube)] for tube in tubes)])
    return ["", paint("ICE statistics", "bold"), *grid(rows, paint, gap=3)]


def _timeline(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    reached = [{step.name: step for step in one.milestones[tube["tube_id"]]} for tube in tubes]
    starts = [next((step.ts for step in steps.values() if step.ts), None) for steps in reached]
    told = [ts for ts in starts if ts]
    title, notes = paint("Set-up", "bold"), []
    if told and max(told) - min(told) > SKEW:
        apart = span(milliseconds(max(told) - min(told)))
        notes.append(f"the clocks of the two logs are {apart} apart: each side from its own start; see --timezone")
    elif told:
        title += f", from {moment(min(told))} UTC"
        starts = [min(told) if ts else None for ts in starts]
    if len(told) < len(tubes):
        notes.append("a log has no times: the line is named instead, and the order is all it tells")
    coarse = {source["name"] for source in one.sources if (source["resolution_ms"] or 0) >= 1000}
    rows: list[list[Cell | str]] = [["", *_heads(tubes)]]
    for name, _, _ in timeline.STEPS:
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
    return again + (number(elapsed / 1000, "s") if step.source in coarse else span(elapsed))


def _tubes(tubes: Sequence[Row], paint: Paint) -> list[str]:
    lines = []
    for tube in tubes:
        text = f"{tube['side'] or 'side unknown'}: tube {tube['tube_id']}, link_method {tube['link_method']}"
        again = f", {tube['generations']} ICE generations" if (tube["generations"] or 1) > 1 else ""
        lines.append(f"  {paint(shown(text + again), 'dim')}")
    return ["", *lines]


def render(one: Conversation, paint: Paint = plain) -> str:
    """Draw up a conversation for a person."""
    lines = [*_header(one, paint), *_legs(one, paint)]
    found = rounds(one)
    for place, tubes in enumerate(found, 1):
        if len(found) > 1:
            lines += ["", paint(f"Round {place} of {len(found)}", "bold") + (": set up anew" if place > 1 else "")]
        lines += [*_statistics(tubes, paint), *_timeline(one, tubes, paint), *_tubes(tubes, paint)]
    if not found:
        lines += ["", "No tube could be tied to it: nothing but its name was seen."]
    return "\n".join(lines)
