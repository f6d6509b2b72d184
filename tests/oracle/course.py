"""The course of one tube's values over time, told slowly: what `samples` and `channels` say of themselves.

Every value of every metric is listed; then of a run of equal numbers the first and the last are kept, and of a run of
equal states the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from tests.oracle.fold import Event

#: (milliseconds, value or state)
Point = tuple[int, float | str]
#: what a line of each kind says; the messages are those that the scenarios print
_STATES = {"ice_state_changed": "ice_state", "peer_state_changed": "peer_state",
           "gathering_state_changed": "gathering_state"}  # fmt: skip
PRINTED_MESSAGES = 6


def _said(event: Event) -> Iterator[tuple[str, float | str]]:
    match event.kind:
        case "bytes_sent_counted":
            yield from (("bytes_sent", float(event.sent)), ("messages_sent", float(PRINTED_MESSAGES)))
        case "bytes_received_counted":
            yield from (("bytes_received", float(event.received)), ("messages_received", float(PRINTED_MESSAGES)))
        case "transport_bytes_counted":
            yield from (
                ("transport_bytes_sent", float(event.sent)),
                ("transport_bytes_received", float(event.received)),
            )
        case kind if kind in _STATES:
            yield _STATES[kind], event.text.lower()


def _changes(points: list[Point]) -> Iterator[Point]:
    for value, run in groupby(points, key=lambda point: point[1]):
        equal = list(run)
        yield equal[0]
        if len(equal) > 1 and not isinstance(value, str):
            yield equal[-1]


def course(events: Iterable[Event]) -> dict[str, list[Point]]:
    """The points of every metric of one tube, in order."""
    listed: dict[str, list[Point]] = {}
    for event in events:
        for metric, value in _said(event):
            listed.setdefault(metric, []).append((event.at, value))
    return {metric: list(_changes(points)) for metric, points in listed.items()}


def channel(events: Iterable[Event]) -> dict[str, int | None]:
    """The only data channel of one tube: what it counted in the end, and when it opened."""
    told = list(events)
    sent = [event.sent for event in told if event.kind == "bytes_sent_counted"]
    received = [event.received for event in told if event.kind == "bytes_received_counted"]
    opened = [event.at for event in told if event.kind == "channel_opened"]
    return {
        "bytes_sent": sent[-1] if sent else None,
        "bytes_received": received[-1] if received else None,
        "messages_sent": PRINTED_MESSAGES if sent else None,
        "messages_received": PRINTED_MESSAGES if received else None,
        "opened_at": min(opened, default=None),
    }
