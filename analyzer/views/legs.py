"""The legs of a conversation as a drawing: `client ── 41 ms ── KRelay ── 71 ms ── gateway`, with the methods below.

Where the gateway printed it, the way goes on: `── 2 ms ── guacd`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from analyzer.reductions.leg_names import METHODS
from analyzer.views.text import Paint, number, plain, width

#: a value, its method, and the node it leads to
Link: TypeAlias = tuple[str, str, str]

CLIENT, RELAY, GATEWAY = "client", "KRelay", "gateway"
#: what the gateway connects to, and the leg there
BACKENDS = {"guacd": "gateway_to_guacd", "target": "gateway_to_target"}
TAKEN, UNTAKEN = "─", "┄"
INDENT = "  "


def _value(legs: Mapping[str, Any], name: str) -> str:
    value, high = legs.get(f"{name}_latency_ms"), legs.get(f"{name}_high_ms")
    if value is not None:
        return number(value, "ms")
    return "?" if high is None else f"≤ {number(high, 'ms')}"


def _backends(legs: Mapping[str, Any]) -> list[Link]:
    """The ways on from the gateway that are known."""
    return [
        (number(legs[f"{leg}_latency_ms"], "ms"), legs.get(f"{leg}_method") or "", node)
        for node, leg in BACKENDS.items()
        if legs.get(f"{leg}_latency_ms") is not None
    ]


def _chain(
    first: str, links: Sequence[Link], *, dash: str, paint: Paint, least: int = 0, beyond: Sequence[Link] = ()
) -> list[str]:
    """Draw nodes joined by values, up to `beyond` at least so wide, and the methods centred below the values."""
    fixed = len(first) + sum(len(value) + 4 + len(node) for value, _, node in links)
    strokes, rest = divmod(max(least - fixed, 4 * len(links)), 2 * len(links))
    stretched = [(link, strokes, strokes) for link in links[:-1]] + [(links[-1], strokes, strokes + rest)]
    line, below = paint(first, "bold"), ""
    at = len(first)
    for (value, method, node), left, right in (*stretched, *((link, 2, 2) for link in beyond)):
        line += f" {dash * left} {paint(value, 'bold')} {dash * right} {paint(node, 'bold')}"
        middle = at + left + 2 + len(value) // 2
        start = max(middle - len(method) // 2, width(below) + 2 if below else 0)
        below = (below.ljust(start) + method) if method else below
        at += left + len(value) + right + 4 + len(node)
    return [INDENT + line] + ([INDENT + paint(below, "dim")] if below.strip() else [])


def _relay(legs: Mapping[str, Any], dash: str, paint: Paint, beyond: Sequence[Link] = ()) -> list[str]:
    links = [
        (_value(legs, name), legs.get(f"{name}_method") or "", node)
        for name, node in (("client_to_krelay", RELAY), ("krelay_to_gateway", GATEWAY))
    ]
    return _chain(CLIENT, links, dash=dash, paint=paint, beyond=beyond)


def relay_width(legs: Mapping[str, Any]) -> int:
    """Columns of the drawing from the client through the relay to the gateway, without its indent."""
    return width(_relay(legs, TAKEN, plain)[0]) - len(INDENT)


def draw(legs: Mapping[str, Any], paint: Paint, *, connected: bool | None = True) -> list[str]:
    """Draw the way the traffic took first, then what else was measured."""
    backends = _backends(legs)
    # a way can only go on to one; where it forked, the other is drawn by itself
    beyond, forks = backends[:1], [_chain(GATEWAY, [one], dash=TAKEN, paint=paint) for one in backends[1:]]
    forked = [line for fork in forks for line in fork]
    direct = legs.get("uses_relay") is False
    link = (_value(legs, "end_to_end"), legs.get("end_to_end_method") or "", GATEWAY)
    onward = beyond if direct else ()
    whole = _chain(CLIENT, [link], dash=TAKEN, paint=paint, least=relay_width(legs), beyond=onward)
    if not (direct and beyond):
        whole[0] += "   end to end"
    measured = any(legs.get(f"{name}_latency_ms") is not None for name in ("client_to_krelay", "krelay_to_gateway"))
    if direct:
        if not measured:
            return [*whole, *forked]
        remark = "measured while candidates were gathered; the traffic did not pass here"
        return [*whole, *forked, "", *_relay(legs, UNTAKEN, paint), INDENT + paint(remark, "dim")]
    lines = [*_relay(legs, TAKEN, paint, beyond), *whole, *forked]
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
