"""How far the clocks of the two logs are apart, in words, and whether one of them was read in the wrong time zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from analyzer.views.text import shown, span

Row: TypeAlias = dict[str, Any]
QUARTER_MS = 15 * 60_000.0
#: without another zone a log differs by no more from the epoch times in its lines: it is late, or has whole seconds
LATE_MS = 60_000.0
#: longer durations are rounded so far when they are written that a range would say nothing
_RANGED_MS = 10_000.0
SIDES = ("client", "gateway")


@dataclass(frozen=True, slots=True)
class Offset:
    """The gateway's clock less the client's: bounds in ms, None where there is none; `contrary` where they clash."""

    low: float | None
    high: float | None
    contrary: bool

    @property
    def is_none(self) -> bool | None:
        """Whether there may be no offset; None where that is not bounded from both sides."""
        if (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0):
            return False
        return None if self.low is None or self.high is None else True

    @property
    def middle(self) -> float | None:
        """The middle of the interval, where it has two ends."""
        return None if self.low is None or self.high is None else (self.low + self.high) / 2

    @property
    def zone_ms(self) -> float | None:
        """The multiple of 15 minutes in the interval, where it can be the distance of two time zones."""
        if self.is_none is not False or self.middle is None or self.low is None or self.high is None:
            return None
        nearest = round(self.middle / QUARTER_MS) * QUARTER_MS
        return nearest if nearest and self.low <= nearest <= self.high else None


def combined(rows: Sequence[Row]) -> Offset | None:
    """What all pairs of tubes of a conversation say together; None where they say nothing."""
    told = [row for row in rows if row["evidence"]]
    if not told:
        return None
    low = max((row["low_ms"] for row in told if row["low_ms"] is not None), default=None)
    high = min((row["high_ms"] for row in told if row["high_ms"] is not None), default=None)
    contrary = any(row["refused_reason"] for row in told) or (low is not None and high is not None and low > high)
    return Offset(None if contrary else low, None if contrary else high, contrary)


def _ahead(ms: float) -> str:
    return f"{span(abs(ms))} {'ahead of' if ms > 0 else 'behind'} the client's"


def _hours(ms: float) -> str:
    hours, minutes = divmod(round(abs(ms) / 60_000), 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count)


def _mistaken(rows: Sequence[Row], side: str) -> bool | None:
    """Whether a log's times and the epoch times in its own lines are a time zone apart; None where none are printed."""
    found = [row[f"{side}_ahead_ms"] for row in rows if row[f"{side}_ahead_ms"] is not None]
    return min(map(abs, found)) > LATE_MS if found else None


def _source(rows: Sequence[Row], side: str) -> str | None:
    way = {
        "client": ("high_sent_origin", "low_received_origin"),
        "gateway": ("high_received_origin", "low_sent_origin"),
    }
    origins = (row[name] for row in rows for name in way[side] if row[name])
    return next((origin.rpartition(":")[0] for origin in origins), None)


def _zones(rows: Sequence[Row], offset: Offset, zone_ms: float) -> list[str]:
    """Say that two local zones were read as one, and which log is to be read anew."""
    mistaken = {side: _mistaken(rows, side) for side in SIDES}
    head = f"differ by {_hours(zone_ms)}, the gateway's is {'ahead' if zone_ms > 0 else 'behind'}"
    if set(mistaken.values()) == {False}:
        return [f"{head}; the epoch times in the lines say so, too: no time zone"]
    wrong = [side for side in SIDES if mistaken[side]] or [side for side in SIDES if mistaken[side] is None]
    options = [f"--timezone {shown(_source(rows, side))}=ZONE" for side in wrong]
    return [f"{head}: probably local times of another zone;", f"use {' or '.join(options)}"]


def _half(low: float | None, high: float | None) -> str:
    """Where one end of the interval is open."""
    if low is not None:
        bound = f"at least {_ahead(low)}" if low > 0 else f"at most {span(-low)} behind"
        return f"the gateway's is {bound}; how far ahead is not told"
    if high is not None and high < 0:
        return f"the gateway's is at least {_ahead(high)}; how far behind is not told"
    return f"the gateway's is at most {span(high or 0.0)} ahead; how far behind is not told"


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say how far the clocks are apart: a line, or two where something is to be done."""
    offset = combined(rows)
    if offset is None:
        return ["nothing in the lines tells how far they are apart"] if rows else []
    if offset.contrary:
        return ["not known: what bounds their offset contradicts itself; one was set, or lines came late"]
    if (zone_ms := offset.zone_ms) is not None:
        return _zones(rows, offset, zone_ms)
    low, high, middle = offset.low, offset.high, offset.middle
    if low is None or high is None or middle is None:
        return [_half(low, high)]
    if offset.is_none:
        return [f"no offset known: the gateway's is at most {span(-low)} behind and {span(high)} ahead"]
    if abs(middle) < _RANGED_MS:
        near, far = sorted((abs(low), abs(high)))
        return [f"differ: the gateway's is {span(near)} to {_ahead(far if middle > 0 else -far)}"]
    return [f"differ: the gateway's is {_ahead(middle)}, give or take {span((high - low) / 2)}"]
