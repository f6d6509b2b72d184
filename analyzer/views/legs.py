"""The legs of a conversation as a drawing: `client ── 41 ms ── KRelay ── 71 ms ── gateway`, with the methods below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.views.text import Paint, number, plain, width

CLIENT, RELAY, GATEWAY = "client", "KRelay", "gateway"
TAKEN, UNTAKEN = "─", "┄"
INDENT = "  "

#: what each method of a latency stands for, for the legend
METHODS = {
    "stun_transaction": "a STUN request and its response: 1 round trip",
    "turn_transaction": "first Allocate request to its challenge: 1 round trip",
    "gathering_srflx": "gathering start to first reflexive candidate: 1 round trip",
    "gathering_relay": "gathering start to first relay candidate: 2 round trips, halved",
    "gathering_allocation_error": "gathering start to the relay's refusal: 2 round trips, halved",
    "dtls_flights": "first ClientHello to the client's Finished: DTLS, 2 round trips, halved",
    "host_to_srflx": "first host to first reflexive candidate: 1 round trip",
    "host_to_relay": "first host to first relay candidate: 2 round trips, halved",
    "host_to_allocation_error": "first host candidate to the relay's refusal: 2 round trips, halved",
    "gathering_relay_minus_srflx": "first reflexive to first relay candidate: 1 round trip",
    "dtls_handshake": "ICE connected to peer connected: DTLS, 2 round trips, on the gateway 3",
    "difference": "end to end less the other leg",
    "sum": "both legs together",
    "reported": "the library's own number",
}


def _value(legs: Mapping[str, Any], name: str) -> str:
    value = legs.get(f"{name}_latency_ms")
    return "?" if value is None else number(value, "ms")


def _chain(
    nodes: Sequence[str], values: Sequence[str], methods: Sequence[str], *, dash: str, paint: Paint, least: int = 0
) -> list[str]:
    """Draw nodes joined by values, at least so wide, and the methods centred below the values."""
    fixed = sum(map(len, nodes)) + sum(len(value) + 4 for value in values)
    strokes, rest = divmod(max(least - fixed, 4 * len(values)), 2 * len(values))
    line, below = paint(nodes[0], "bold"), ""
    at = len(nodes[0])
    for place, (node, value, method) in enumerate(zip(nodes[1:], values, methods, strict=True)):
        before, after = dash * strokes, dash * (strokes + (rest if place == len(values) - 1 else 0))
        line += f" {before} {paint(value, 'bold')} {after} {paint(node, 'bold')}"
        middle = at + strokes + 2 + len(value) // 2
        start = max(middle - len(method) // 2, width(below) + 2 if below else 0)
        below = (below.ljust(start) + method) if method else below
        at += len(before) + len(value) + len(after) + 4 + len(node)
    return [INDENT + line] + ([INDENT + paint(below, "dim")] if below.strip() else [])


def _relay(legs: Mapping[str, Any], dash: str, paint: Paint) -> list[str]:
    names = ("client_to_krelay", "krelay_to_gateway")
    values = [_value(legs, name) for name in names]
    methods = [legs.get(f"{name}_method") or "" for name in names]
    return _chain((CLIENT, RELAY, GATEWAY), values, methods, dash=dash, paint=paint)


def relay_width(legs: Mapping[str, Any]) -> int:
    """Columns of the drawing through the relay, without its indent."""
    return width(_relay(legs, TAKEN, plain)[0]) - len(INDENT)


def draw(legs: Mapping[str, Any], paint: Paint, *, connected: bool | None = True) -> list[str]:
    """Draw the way the traffic took first, then what else was measured."""
    value, method = _value(legs, "end_to_end"), legs.get("end_to_end_method") or ""
    whole = _chain((CLIENT, GATEWAY), [value], [method], dash=TAKEN, paint=paint, least=relay_width(legs))
    whole[0] += "   end to end"
    measured = any(legs.get(f"{name}_latency_ms") is not None for name in ("client_to_krelay", "krelay_to_gateway"))
    if legs.get("uses_relay") is False:
        if not measured:
            return whole
        remark = "measured while candidates were gathered; the traffic did not pass here"
        return [*whole, "", *_relay(legs, UNTAKEN, paint), INDENT + paint(remark, "dim")]
    lines = [*_relay(legs, TAKEN, paint), *whole]
    if measured and legs.get("uses_relay") is None:
        remark = "measured while candidates were gathered; no connection came of it"
        if connected is not False:
            remark = "the log does not tell whether the traffic passed the relay"
        lines.append(INDENT + paint(remark, "dim"))
    return lines


def legend(methods: set[str], paint: Paint) -> list[str]:
    """Explain the methods that were used."""
    longest = max(map(len, methods), default=0)
    known = sorted(name for name in methods if name in METHODS)
    return [INDENT + paint(f"{name.ljust(longest)}  {METHODS[name]}", "dim") for name in known]
