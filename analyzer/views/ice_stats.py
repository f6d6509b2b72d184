"""The ICE statistics of one side, field by field: the ten of ICEStats, and those of the selected pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from analyzer.views.text import NOTHING, Cell, number

Row: TypeAlias = Mapping[str, Any]
#: from the times of two lines; said only where another one was needed
PLAIN_METHOD = "state_change"
#: STUN responses shown of a tube, which gives one in each generation
TIMES_SHOWN = 2


def _plain(name: str, unit: str = "") -> Callable[[Row], Cell]:
    return lambda tube: [(number(tube[name], unit), "")]


def _by(name: str, unit: str, method: str) -> Callable[[Row], Cell]:
    """Show a value and, beside it, the method it was found by, unless it is the plain one."""

    def cell(tube: Row) -> Cell:
        by = tube[method]
        return [(number(tube[name], unit), ""), (f"  {by}" if by and by != PLAIN_METHOD else "", "dim")]

    return cell


def _times(tube: Row) -> Cell:
    times = tube["stun_response_times"]
    if not times:
        return [(NOTHING, "")]
    more = f", {len(times) - TIMES_SHOWN} more" if len(times) > TIMES_SHOWN else ""
    text = ", ".join(number(value) for value in times[:TIMES_SHOWN]) + f" ms{more}"
    return [(text, ""), (f"  {tube['stun_response_method']}", "dim")]


def _rate(tube: Row) -> Cell:
    rate = tube["turn_allocation_success_rate"]
    if rate is None:
        return [(NOTHING, "")]
    style = "" if rate == 1 else "red"
    counted = f"{rate:.0%} of {tube['turn_allocations_attempted']}"
    return [(counted, style), (f"  {tube['turn_allocation_success_method']}", "dim")]


def _pair(tube: Row) -> Cell:
    local, remote = tube["selected_pair_local_type"], tube["selected_pair_remote_type"]
    if not local and not remote:
        return [(NOTHING, "")]
    return [(f"{local or '?'}->{remote or '?'}", ""), (f"  {tube['selected_pair_method']}", "dim")]


#: what stands in each row: label, and the cell of one side
STATISTICS: dict[str, Callable[[Row], Cell]] = {
    "total_candidates": _plain("total_candidates"),
    "host_candidates": _plain("host_candidates"),
    "srflx_candidates": _plain("srflx_candidates"),
    "relay_candidates": _plain("relay_candidates"),
    "first_candidate_time_ms": _plain("first_candidate_time_ms", "ms"),
    "gathering_complete_time_ms": _by("gathering_complete_time_ms", "ms", "gathering_complete_method"),
    "stun_response_times": _times,
    "turn_allocation_success_rate": _rate,
    "turn_allocation_time_ms": _by("turn_allocation_time_ms", "ms", "turn_allocation_method"),
    "turn_credential_fetch_ms": _plain("turn_credential_fetch_ms", "ms"),
    "selected pair, local->remote": _pair,
    "current_rtt_ms": _by("current_rtt_ms", "ms", "current_rtt_method"),
    "total_rtt_measurements": _plain("total_rtt_measurements"),
    "connection_time_ms": _by("connection_time_ms", "ms", "connection_time_method"),
    "pair_bytes_sent": _plain("pair_bytes_sent", "B"),
    "pair_bytes_received": _plain("pair_bytes_received", "B"),
    "transport_protocol": lambda tube: [(tube["transport_protocol"] or NOTHING, "")],
}
