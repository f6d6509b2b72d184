"""The legs of a conversation as a drawing: `client ── 41 ms ── KRelay ── 71 ms ── gateway`, with the methods below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.views.text import Paint, number, width

CLIENT, RELAY, GATEWAY = "client", "KRelay", "gateway"
TAKEN, UNTAKEN = "─", "┄"
INDENT = "  "

#: what each method of a latency stands for, for the legend
METHODS = {
    "stun_transaction": "a STUN request and its response: 1 round trip to the relay",
    "turn_transaction": "first Allocate request to its challenge: 1 round trip to the relay",
    "gathering_srflx": "gathering start to first reflexive candidate: 1 round trip to the relay",
    "gathering_relay": "gathering start to first relay candidate: 2 round trips to the relay, halved",
    "gathering_allocation_error": "gathering start to the relay's refusal: 2 round trips, halved",
    "gathering_relay_minus_srflx": "first reflexive to first relay candidate: 1 round trip to the relay",
    "dtls_handshake": "ICE connected to peer connected: DTLS, 2 round trips, on the gateway 3",
    "difference": "end to end less the other leg",
    "sum": "both legs together",
    "reported": "the library's own number",
}


def _value(legs: Mapping[str, Any], name: str) -> str:
    value = legs.get(f"{name}_latency_ms")
    return "?" if value is None else number(value, "ms")


def _chain(nodes: Sequence[str], values: Sequence[str], methods: Sequence[str], dash: str, least: int, paint: Paint) -> list[str]:
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
    values, methods = [_value(legs, name) for name in names], [legs.get(f"{name}_method") or "" for name in names]
    return _chain((CLIENT, RELAY, GATEWAY), values, methods, dash, 0, paint)


def relay_width(legs: Mapping[str, Any]) -> int:
    """Columns of the drawing through the relay, without its indent."""
    return width(_relay(legs, TAKEN, lambda text, style: text)[0]) - len(INDENT)


def draw(legs: Mapping[str, Any], paint: Paint) -> list[str]:
    """Draw the way the traffic took first, then what else was measured."""
    whole = _chain(
        (CLIENT, GATEWAY), [_value(legs, "end_to_end")], [legs.get("end_to_end_method") or ""], TAKEN, relay_width(legs), paint
    )
    whole[0] += "   end to end"
    measured = any(legs.get(f"{name}_latency_ms") is not None for name in ("client_to_krelay", "krelay_to_gateway"))
    if legs.get("uses_relay") is False:
        if not measured:
            return whole
        remark = "measured while candidates were gathered; the traffic did not pass here"
        return [*whole, "", *_relay(legs, UNTAKEN, paint), INDENT + paint(remark, "dim")]
    lines = [*_relay(legs, TAKEN, paint), *whole]
    if measured and legs.get("uses_relay") is None:
        lines.append(INDENT + paint("the log does not tell whether the traffic passed the relay", "dim"))
    return lines


def legend(methods: set[str], paint: Paint) -> list[str]:
    """Explain the methods that were used."""
    longest = max(map(len, methods), default=0)
    return [INDENT + paint(f"{name.ljust(longest)}  {METHODS[name]}", "dim") for name in sorted(methods) if name in METHODS]
