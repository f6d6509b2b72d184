"""The legs of a conversation as a drawing: `client ── 41 ms ── KRelay ── 71 ms ── gateway`, methods and bounds below.

Where the gateway printed it, the way goes on: `── 2 ms ── guacd`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from analyzer.reductions.leg_names import METHODS
from analyzer.views.text import Paint, number, plain, width

#: a value, what stands below it (its method, its bounds), and the node it leads to
Link: TypeAlias = tuple[str, tuple[str, str], str]

CLIENT, RELAY, GATEWAY = "client", "KRelay", "gateway"
#: what the gateway connects to, and the leg there
BACKENDS = {"guacd": "gateway_to_guacd", "target": "gateway_to_target"}
TAKEN, UNTAKEN = "─", "┄"
INDENT = "  "
#: what forwarding may take of end to end: two legs that are shorter by more than this do not meet
MOST_BETWEEN_MS = 20.0


def _value(legs: Mapping[str, Any], name: str) -> str:
    value, high = legs.get(f"{name}_latency_ms"), legs.get(f"{name}_high_ms")
    if value is not None:
        return number(value, "ms")
    return "?" if high is None else f"≤ {number(high, 'ms')}"


def _notes(legs: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The method of a leg, and its bounds: no single value tells how far off it may be."""
    low, high = legs.get(f"{name}_low_ms"), legs.get(f"{name}_high_ms")
    known = legs.get(f"{name}_latency_ms") is not None and low is not None and high is not None
    return legs.get(f"{name}_method") or "", f"{low:,.0f} to {high:,.0f}" if known else ""


def _link(legs: Mapping[str, Any], name: str, node: str) -> Link:
    return _value(legs, name), _notes(legs, name), node


def _backends(legs: Mapping[str, Any]) -> list[Link]:
    """The ways on from the gateway that are known."""
    return [_link(legs, leg, node) for node, leg in BACKENDS.items() if legs.get(f"{leg}_latency_ms") is not None]


def _below(places: Sequence[tuple[int, str]]) -> str:
    """Texts centred at their places, as far as they leave room to one another."""
    line = ""
    for middle, text in places:
        if text:
            line = line.ljust(max(middle - len(text) // 2, width(line) + 2 if line else 0)) + text
    return line


def _chain(
    first: str, links: Sequence[Link], *, dash: str, paint: Paint, least: int = 0, beyond: Sequence[Link] = ()
) -> list[str]:
    """Draw nodes joined by values, up to `beyond` at least so wide, and what is noted of each centred below it."""
    fixed = len(first) + sum(len(value) + 4 + len(node) for value, _, node in links)
    strokes, rest = divmod(max(least - fixed, 4 * len(links)), 2 * len(links))
    stretched = [(link, strokes, strokes) for link in links[:-1]] + [(links[-1], strokes, strokes + rest)]
    line, places = paint(first, "bold"), []
    at = len(first)
    for (value, notes, node), left, right in (*stretched, *((link, 2, 2) for link in beyond)):
        line += f" {dash * left} {paint(value, 'bold')} {dash * right} {paint(node, 'bold')}"
        places.append((at + left + 2 + len(value) // 2, notes))
        at += left + len(value) + right + 4 + len(node)
    below = [_below([(middle, notes[row]) for middle, notes in places]) for row in range(2)]
    return [INDENT + line, *(INDENT + paint(text, "dim") for text in below if text)]


def _relay(legs: Mapping[str, Any], dash: str, paint: Paint, beyond: Sequence[Link] = ()) -> list[str]:
    links = [_link(legs, "client_to_krelay", RELAY), _link(legs, "krelay_to_gateway", GATEWAY)]
    return _chain(CLIENT, links, dash=dash, paint=paint, beyond=beyond)


def relay_width(legs: Mapping[str, Any]) -> int:
    """Columns of the drawing from the client through the relay to the gateway, without its indent."""
    return width(_relay(legs, TAKEN, plain)[0]) - len(INDENT)


def _short(legs: Mapping[str, Any]) -> float:
    """What the two legs of a path through the relay lack of end to end at least, ms; 0 where that is not known."""
    whole, *parts = (
        legs.get(name) for name in ("end_to_end_low_ms", "client_to_krelay_high_ms", "krelay_to_gateway_high_ms")
    )
    known = [value for value in parts if value is not None]
    if not legs.get("uses_relay") or whole is None or len(known) < len(parts):
        return 0.0
    return float(whole - sum(known))


def draw(legs: Mapping[str, Any], paint: Paint, *, connected: bool | None = True) -> list[str]:
    """Draw the way the traffic took first, then what else was measured."""
    backends = _backends(legs)
    # a way can only go on to one; where it forked, the other is drawn by itself
    beyond, forks = backends[:1], [_chain(GATEWAY, [one], dash=TAKEN, paint=paint) for one in backends[1:]]
    forked = [line for fork in forks for line in fork]
    direct = legs.get("uses_relay") is False
    link = _link(legs, "end_to_end", GATEWAY)
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
    if (short := _short(legs)) > MOST_BETWEEN_MS:
        why = "they lead to different relays, or the way became longer"
        remark = f"the two legs are {number(short, 'ms')} or more short of end to end: {why}"
        lines.append(INDENT + paint(remark, "yellow"))
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
