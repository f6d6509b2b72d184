"""One conversation for a person: what became of it, its legs, the ICE statistics of both sides, how its set-up went."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.reductions import leg_names
from analyzer.reductions.channels import FRESH_MS
from analyzer.views import clocks, ending, legs, relay
from analyzer.views.attempts import in_vain
from analyzer.views.conversation import OUTCOMES, Conversation, Row
from analyzer.views.rounds import render_round, rounds
from analyzer.views.text import (
    NOTHING,
    Cell,
    Paint,
    counted,
    first_and_last,
    grid,
    milliseconds,
    moment,
    number,
    plain,
    shown,
    size,
    span,
)

LEGS = (leg_names.CLIENT, leg_names.GATEWAY, leg_names.END_TO_END)
BACKENDS = tuple(legs.BACKENDS.values())
WAYS = ("sent", "received")
#: so many conversations of one tube are named
SHARED_NAMED = 6
#: so many of the first rounds of a conversation are shown, and of the last
ROUNDS_SHOWN = 3
#: what Python calls DEBUG is a number to some layouts, and TRACE a lower one
DEBUG_LEVEL = 10


def _when(row: Row) -> str:
    if row["started_at"] is None:
        return "its logs have no times"
    lasted = span(milliseconds(row["ended_at"] - row["started_at"]))
    # where the clocks of the two logs may be one, nobody needs to know by which of them
    by = f", by the {row['clock']}'s clock" if row["clock"] in clocks.SIDES and len(row["sides"]) > 1 else ""
    return f"{moment(row['started_at'])} UTC, for {lasted}{by}"


def _path(one: Conversation) -> str:
    uses, types = one.legs.get("uses_relay"), one.legs.get("path")
    if uses is None and one.row["connected"]:
        return "the log does not tell which pair carried the traffic"
    if uses is None:
        return "none: it never connected" if one.row["connected"] is False else "unknown"
    way = "through KRelay" if uses else "direct, not through KRelay"
    if any(tube["selected_pair_method"] == "reported" for tube in one.tubes):
        way += ", as the library reported it"
    by_bytes = one.legs.get("uses_relay_method") == "relay_bytes"
    if by_bytes:
        way += ", by the relay's byte counts"
    if one.legs.get("uses_relay_contradicted_by"):
        way += "; the relay's byte counts say otherwise"
    if by_bytes and not types:
        return f"{way}; candidate types open"
    return f"{shown(types)}, {way}" if types else f"{way}; the log leaves the candidate types open"


def _by_nobody(channel: Row) -> str:
    sent, received = (NOTHING if channel[f"bytes_{way}"] is None else size(channel[f"bytes_{way}"]) for way in WAYS)
    return f"{sent} sent, {received} received, by a side that no line tells"


def _uncounted(one: Conversation) -> float:
    """How long the channels went on behind the last counter of either end, in ms; 0 where that is not long."""
    open_for = [
        milliseconds(channel["closed_at"] - channel["counted_at"])
        for channel in one.channels
        if channel["closed_at"] and channel["counted_at"]
    ]
    return shortest if (shortest := min(open_for, default=0.0)) > FRESH_MS else 0.0


def _traffic(one: Conversation) -> list[str]:
    """What went over the data channels, or why that is not known."""
    row = one.row
    if row["bytes_sent"] is None and row["bytes_received"] is None:
        mute = one.shared and any(channel["counters_method"] is None for channel in one.channels)
        if mute:
            return ["its channel shares a tube with others, and no counter says which it counts"]
        # sent and received are then anybody's, and two ends may have counted the same bytes
        nameless = [row for row in one.channels if row["side"] is None and row["bytes_sent"] is not None]
        return [_by_nobody(channel) for channel in nameless[:SHARED_NAMED]]
    told = []
    for way, where in {"sent": "from the client", "received": "to it"}.items():
        messages = row[f"messages_{way}"]
        within = f" in {counted(messages, 'message')}" if messages else ""
        carried = NOTHING if row[f"bytes_{way}"] is None else size(row[f"bytes_{way}"])
        told.append(f"{carried}{within} {where}")
    late = sum(channel["buffered_bytes"] or 0 for channel in one.channels)
    behind = _uncounted(one)
    until = [f"last counted {span(behind)} before it closed"] if behind else []
    return [", ".join(told), *until, *([f"{size(late)} not acknowledged when a channel ended"] if late else [])]


def _sides(sides: Sequence[str]) -> str:
    if not sides:
        return "no line tells which side this is"
    return " and ".join(sides) if len(sides) > 1 else f"{sides[0]} only; no line of the other side"


def _one_sided(one: Conversation) -> str:
    """Which side proves that it never was connected, where the other one was."""
    told: dict[str, set[bool | None]] = {}
    for link in one.links:
        told.setdefault(link["side"] or "", set()).add(link["connected"])
    without = [side for side in sorted(told) if side and told[side] == {False}]
    return f"; the {without[0]} never was" if len(without) == 1 and one.row["connected"] else ""


def _anew(one: Conversation) -> str:
    """How often it was set up; what stands above the rounds is of all of them, and each may have gone another way."""
    count = len(rounds(one))
    return f"{count}; of each leg the best estimate of all of them" if count > 1 else ""


def _header(one: Conversation, paint: Paint) -> list[str]:
    row = one.row
    sentence, style = OUTCOMES[row["outcome"]]
    # a reason given to the close of what was already lost is no reason for the loss: it is told where it belongs
    own = row["close_reason"] and row["outcome"] != "connected_lost"
    reason = f", close reason {shown(row['close_reason'])}" if own else ""
    rows: list[tuple[str, Cell | str]] = [
        ("outcome", [(sentence, style), (reason, ""), (_one_sided(one), "")]),
        *((("why" if not place else "", told)) for place, told in enumerate(in_vain(one))),
        ("when", _when(row)),
        ("closed", ending.closed(row["closed_first"], one.links)),
        ("sides", _sides(row["sides"])),
        ("path", _path(one)),
        ("rounds", _anew(one)),
    ]
    if row["left_out"]:
        rows.append(("left out", f"{counted(row['left_out'], 'event')} behind these, which are too many"))
    rows = [(name, told) for name, told in rows if told]
    if row["other_ids"]:
        rows.insert(0, ("also", f"{', '.join(map(shown, row['other_ids']))} in the gateway's log"))
    rows += zip(("clocks", ""), clocks.sentences(one.offsets), strict=False)
    rows += [("" if place else "data", told) for place, told in enumerate(_traffic(one))]
    rows += [("" if place else "relay", line) for place, line in enumerate(relay.sessions(one.relay))]
    if one.shared:
        rows.append(("shared", "its latencies and ICE statistics are those of a tube it shares with"))
        rows += [("", shown(other)) for other in one.shared[:SHARED_NAMED]]
        if len(one.shared) > SHARED_NAMED:
            rows.append(("", f"and {len(one.shared) - SHARED_NAMED} more"))
    cells: list[list[Cell | str]] = [[[(name, "dim")], cell] for name, cell in rows]
    return [paint(f"Conversation {shown(row['conversation_id'])}", "bold"), *grid(cells, paint)]


def _too_little(source: Row) -> str:
    """Why nothing in a log can be timed, or not finely enough; nothing of one that is fine."""
    if source["resolution_ms"] is None:
        return f"{source['name']} has no times ({source['dialect']}): nothing in it can be timed"
    if source["resolution_ms"] >= 1000:
        return f"{source['name']} has whole seconds ({source['dialect']}): too coarse for a round trip"
    return ""


def _is_debug(level: str) -> bool:
    return level.upper() in ("DEBUG", "TRACE") or (level.isdecimal() and int(level) <= DEBUG_LEVEL)


def _why_unknown(one: Conversation) -> list[str]:
    """Why a leg has no value: logs that tell too little, estimates that were refused, a log that begins too late."""
    reasons = [reason for source in one.sources if (reason := _too_little(source))]
    if not reasons:
        for estimate in one.measurements:
            shown_as = f"{estimate['leg']}_latency_ms"
            if estimate["refused_reason"] and shown_as in one.legs and one.legs[shown_as] is None:
                value = number(estimate["value_ms"], "ms")
                reasons.append(
                    f"{estimate['leg']}: {value} by {estimate['method']} is not taken: {estimate['refused_reason']}"
                )
    levels = {level for source in one.sources for level in source["levels"] or ()}
    if not reasons and levels and not any(map(_is_debug, levels)):
        reasons = [f"{source['name']} has no DEBUG lines, which tell of ICE" for source in one.sources]
    if not reasons:
        late = {f"the {link['side']}'s log" if link["side"] else "a log" for link in one.links if not link["begun"]}
        reasons = [f"{log} lacks the beginning of the tube, in which legs are timed" for log in sorted(late)]
    # a gateway connects again and again, each time as fast
    return list(dict.fromkeys(reasons))


def _legs(one: Conversation, paint: Paint) -> list[str]:
    # there need not be a way beyond the gateway: it is missed only where an estimate was refused
    tried = {estimate["leg"] for estimate in one.measurements}
    methods = [one.legs.get(f"{leg}_method") for leg in (*LEGS, *(leg for leg in BACKENDS if leg in tried))]
    lines = [
        "",
        paint("Legs", "bold") + ", round trips",
        "",
        *legs.draw(one.legs, paint, connected=one.row["connected"]),
    ]
    if None in methods:
        lines += [f"  {paint(shown(reason), 'dim')}" for reason in _why_unknown(one)]
    explained = legs.legend({method for method in methods if method}, paint)
    return [*lines, "", *explained] if explained else lines


def _rounds(one: Conversation, found: Sequence[list[Row]], paint: Paint) -> list[str]:
    """Draw up the first and the last rounds: a session that is set up anew for days has thousands."""
    places: list[tuple[int, list[Row] | None]] = list(enumerate(found, 1))
    lines = []
    for place, tubes in first_and_last(places, ROUNDS_SHOWN, lambda left_out: (left_out[0][0], None)):
        if tubes is None:
            told = f"Rounds {place} to {len(found) - ROUNDS_SHOWN} are in --json, and in the tables ice_stats and links"
            lines += ["", paint(told, "dim")]
            continue
        anew = ": set up anew" if place > 1 else ""
        lines += ["", paint(f"Round {place} of {len(found)}", "bold") + anew] if len(found) > 1 else []
        lines += render_round(one, tubes, paint)
    return lines


def render(one: Conversation, paint: Paint = plain) -> str:
    """Draw up a conversation for a person."""
    went_on = ending.render(one.row["outcome"], one.links, one.generations, one.causes, paint)
    lines = [*_header(one, paint), *went_on, *_legs(one, paint)]
    found = rounds(one)
    lines += _rounds(one, found, paint)
    if not found:
        lines += ["", "No tube could be tied to it: nothing but its name was seen."]
    return "\n".join(lines)
