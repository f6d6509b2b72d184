"""How a conversation went on and ended, tube by tube: losses dated back, ICE restarts, the close, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, TypeAlias

from analyzer.views.text import (
    NOTHING,
    Cell,
    Paint,
    counted,
    first_and_last,
    grid,
    milliseconds,
    moment,
    shown,
    side_of,
    span,
)

Row: TypeAlias = dict[str, Any]
#: kinds of lines that say why a conversation broke off
CAUSES = (
    "restart_timed_out",
    "restart_failed",
    "restart_refused",
    "stale_tube_found",
    "backend_closed",
    "backend_close_received",
    "close_reason_retrieved",
)
#: so many of a tube's first attempts to find a path are shown, and of the last; the table `generations` has all
ATTEMPTS_SHOWN = 8
#: reasons that are no trouble
_FINE = (None, "Normal")
#: ends that somebody brought about
CLOSED = ("closed", "channel_closed")
#: so many lines of causes, and of tubes, are shown
SHOWN = 8
BROKEN = ("connected_lost", "failed", "never_connected", "unknown")


def _clock(ts: datetime | None) -> str:
    return moment(ts)[11:] if ts else ""


def _lost(link: Row) -> str:
    """When the path was lost: dated back where the ICE agent's word for it is a verdict after silence."""
    logged, low, high = link["lost_logged_at"], link["lost_low_at"], link["lost_high_at"]
    if low and high and logged:
        silence = span(round(milliseconds(logged - low - (high - low) / 2) / 1000) * 1000)
        return f"lost between {_clock(low)} and {_clock(high)}: its log tells {silence} of silence later"
    return f"lost at {_clock(logged)} or before" if logged else "lost"


def _ended(link: Row) -> str:
    last = f"at {_clock(link['to_at'])}" if link["to_at"] else "with that"
    if link["ended_by"] == "log_ended":
        return f"its last line is {last}, the tube still open"
    if link["ended_by"] == "process_restarted":
        return f"its last line is {last}; then another process began, the tube not closed"
    by = {
        "restart_timed_out": " by the library, since no answer came",
        "peer_connection": " by the library, for the state it was in",
        "data_channel": " by the library, its data channel gone",
    }
    at = f" at {_clock(link['closed_at'])}" if link["closed_at"] else ""
    what = "its own channel closed" if link["ended_by"] == "channel_closed" else "closed"
    reason = f", reason {shown(link['close_reason'])}" if link["close_reason"] else ", no reason given"
    return f"{what}{at}{by.get(link['closing_cause'], '')}{reason}"


def _restarts(tried: Sequence[Row]) -> list[str]:
    told = []
    for outcome, words in (
        ("connected", "with a path"), ("timed_out", "no answer came"), ("failed", "failed"),
        ("path_returned", "not answered, the old path came back"), ("superseded", "overtaken"),
        ("closed", "closed first"), ("unknown", "end unknown"),
    ):  # fmt: skip
        if count := sum(row["outcome"] == outcome for row in tried):
            told.append(f"{count} {words}" if len(tried) > 1 else words)
    return [f"ICE restart tried {counted(len(tried), 'time')}: {', '.join(told)}"] if tried else []


def _steps(link: Row, tried: Sequence[Row]) -> list[str]:
    steps = [
        f"path lost, found again at {_clock(row['connected_at'])}, after {span(row['downtime_ms'])}"
        for row in tried
        if row["downtime_ms"] is not None
    ]
    steps = first_and_last(steps, ATTEMPTS_SHOWN, lambda left_out: f"and {counted(len(left_out), 'time')} more")
    if link["connected"] is None and not link["begun"]:
        steps.append("its log does not have the tube's beginning")
    if link["lost"] and link["ended_by"] != "process_restarted":
        steps.append(_lost(link))
    return [*steps, *_restarts(tried), _ended(link)]


def closed(first: str | None, links: Sequence[Row]) -> str:
    """Who began to close it and when, each side by its own clock; nothing where one side alone was closed, or none."""
    ends = {link["side"]: link for link in links if link["closed_at"] and link["side"]}
    if len(ends) < 2:
        return ""
    order = [first, *sorted(ends.keys() - {first})] if first else sorted(ends)
    told = ", ".join(f"by the {side} at {_clock(ends[side]['closed_at'])}" for side in order)
    return f"first {told}" if first else f"{told}; the order is not known"


def notable(link: Row) -> bool:
    """Whether there is more to tell of a tube than that it was closed."""
    return bool(link["lost"] or link["outages"] or link["restarts_tried"]) or link["ended_by"] != "closed"


def render(
    outcome: str, links: Sequence[Row], generations: Sequence[Row], causes: Iterable[Row], paint: Paint
) -> list[str]:
    """Draw up how it ended; nothing where every tube was just closed."""
    told = [link for link in links if notable(link)]
    if not told and outcome not in BROKEN:
        return []
    rows: list[list[Cell | str]] = []
    many = len({link["side"] for link in links}) < len(links)
    for link in links[:SHOWN] if told else []:
        tried = [row for row in generations if row["tube_id"] == link["tube_id"] and row["attempt"] > 1]
        name = side_of(link) + (f" {link['tube_id'][:8]}" if many else "")
        for place, step in enumerate(_steps(link, tried)):
            rows.append([[(shown("" if place else name), "bold")], step])
    lines = ["", paint("How it went on", "bold"), *grid(rows, paint)] if rows else []
    if len(links) > SHOWN and told:
        lines.append(f"  and {counted(len(links) - SHOWN, 'more tube')}")
    if outcome in BROKEN:
        lines += _said(causes, _since(links), paint)
    return [*lines, *_table(generations, many, paint)]


def _since(links: Sequence[Row]) -> datetime | None:
    """From when on a line may name the cause: the first loss, or the last line of a tube that nobody closed."""
    ends = [
        link["lost_low_at"] or link["lost_logged_at"] or (None if link["ended_by"] in CLOSED else link["to_at"])
        for link in links
    ]
    return min((end for end in ends if end), default=None)


def _said(causes: Iterable[Row], since: datetime | None, paint: Paint) -> list[str]:
    """Lines of the logs that name a cause."""
    late = [row for row in causes if not (since and row["ts"]) or row["ts"] >= since]
    found = [row for row in late if row["kind"].startswith(("restart", "stale")) or row["close_reason"] not in _FINE]
    distinct: dict[tuple[Any, ...], Row] = {}
    for row in found:
        distinct.setdefault((row["kind"], row["close_reason"], row["tube_id"]), row)
    rows: list[list[Cell | str]] = [
        [
            _clock(row["ts"]) or NOTHING,
            row["kind"],
            shown(row["close_reason"] or ""),
            # logs of one name lie in folders of their own
            [(shown(f"{'/'.join(row['source'].split('/')[-2:])}:{row['line']}"), "dim")],
        ]
        for row in list(distinct.values())[:SHOWN]
    ]
    return ["", paint("What the lines say of it", "bold"), *grid(rows, paint)] if rows else []


def _attempt(row: Row) -> list[Cell | str]:
    gathered = {True: f"yes, generation {row['generation']}", False: "no", None: NOTHING}[row["gathered"]]
    return [
        str(row["attempt"]),
        _clock(row["started_at"]) or NOTHING,
        shown(row["cause"] or NOTHING),
        row["role"] or NOTHING,
        gathered,
        [(row["outcome"], "red" if row["outcome"] in ("failed", "timed_out") else "")],
        span(row["downtime_ms"]) if row["downtime_ms"] is not None else NOTHING,
    ]


def _table(generations: Sequence[Row], many: bool, paint: Paint) -> list[str]:
    """The attempts to find a path, where there was more than the set-up."""
    if all(row["attempt"] == 1 for row in generations):
        return []
    heads = ("", "attempt", "at", "cause", "role", "gathered", "outcome", "down")
    rows: list[list[Cell | str]] = [[[(head, "bold")] for head in heads]]
    found = [(who, list(each)) for who, each in groupby(generations, lambda row: (row["side"], row["tube_id"]))]
    if len(found) > SHOWN:
        # of many tubes those that were just set up are left out first
        found = [(who, attempts) for who, attempts in found if len(attempts) > 1]
    for (side, tube_id), attempts in found[:SHOWN]:
        who = (side or "?") + (f" {shown(tube_id[:8])}" if many else "")
        cells = [_attempt(row) for row in attempts]
        few = first_and_last(
            cells, ATTEMPTS_SHOWN, lambda left_out: [f"{len(left_out)} more", *[""] * (len(heads) - 2)]
        )
        rows += [[who, *each] for each in few]
    lines = ["", paint("ICE restarts", "bold"), *grid(rows, paint)]
    if len(found) > SHOWN:
        lines.append(f"  and {counted(len(found) - SHOWN, 'more tube')}")
    counts = {
        side: max(row["generation"] for row in generations if row["side"] == side)
        for side in ("client", "gateway")
        if any(row["side"] == side for row in generations)
    }
    if len(set(counts.values())) > 1:
        apart = ", ".join(f"{side} {count}" for side, count in counts.items())
        note = f"ICE generations: {apart}. A restart may gather candidates on one side only."
        lines.append(f"  {paint(note, 'dim')}")
    return lines
