"""One side of a conversation in the nested shape of the library's live statistics.

The keys of `ice_stats` are always there; a leg without a value is an absent key, because readers ask for it with `in`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ICE_FIELDS = (
    "total_candidates",
    "host_candidates",
    "srflx_candidates",
    "relay_candidates",
    "first_candidate_time_ms",
    "gathering_complete_time_ms",
    "stun_response_times",
    "turn_allocation_success_rate",
    "turn_allocation_time_ms",
)
#: field of the library's CandidatePairStats → column of ice_stats
PAIR_FIELDS = {
    "local_candidate_type": "selected_pair_local_type",
    "remote_candidate_type": "selected_pair_remote_type",
    "current_rtt_ms": "current_rtt_ms",
    "total_rtt_measurements": "total_rtt_measurements",
    "connection_time_ms": "connection_time_ms",
    "bytes_sent": "pair_bytes_sent",
    "bytes_received": "pair_bytes_received",
    "transport_protocol": "transport_protocol",
}
#: columns that only a selected pair has; the transport is already known from candidates
_PROVES_A_PAIR = tuple(column for column in PAIR_FIELDS.values() if column != "transport_protocol")
LEG_FIELDS = (
    "client_to_krelay_latency_ms",
    "krelay_to_gateway_latency_ms",
    "end_to_end_latency_ms",
    "stun_response_time_ms",
    "turn_allocation_latency_ms",
    "data_channel_establishment_ms",
    "ice_connection_establishment_ms",
)


def live_stats(ice: Mapping[str, Any], legs: Mapping[str, Any]) -> dict[str, Any]:
    """Nest a row of ice_stats and a row of connection_legs as the library's `get_live_stats` does."""
    stats = {name: ice[name] for name in ICE_FIELDS}
    stats["stun_response_times"] = list(stats["stun_response_times"] or [])
    if stats["turn_allocation_success_rate"] is None:
        # readers format it with `:.1%`, which None does not take
        stats["turn_allocation_success_rate"] = float("nan")
    selected = any(ice[column] is not None for column in _PROVES_A_PAIR)
    stats["selected_candidate_pair"] = {name: ice[column] for name, column in PAIR_FIELDS.items()} if selected else None
    known = {name: legs[name] for name in LEG_FIELDS if legs.get(name) is not None}
    return {"webrtc_stats": {"ice_stats": stats, "connection_legs": known}}
