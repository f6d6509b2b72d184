"""The words of `leg_measurements.leg`: legs of the way, whose values are round trips, and durations of a set-up."""

from __future__ import annotations

CLIENT, GATEWAY, END_TO_END = "client_to_krelay", "krelay_to_gateway", "end_to_end"
#: legs beyond the gateway; what the library prints of each is the column `<leg>_ms` of events
BEYOND = ("gateway_to_guacd", "gateway_to_target")
LEGS = (CLIENT, GATEWAY, END_TO_END, *BEYOND)
#: leg that a side's own traffic with the relay measures
OWN_LEG = {"client": CLIENT, "gateway": GATEWAY}

STUN_RESPONSE, TURN_ALLOCATION, CREDENTIAL_FETCH = "stun_response", "turn_allocation", "credential_fetch"
GATHERING, ICE, DATA_CHANNEL = "gathering", "ice_connection_establishment", "data_channel_establishment"
#: durations, and from when to when each is
DURATIONS = {
    STUN_RESPONSE: "Binding request → response, one per generation",
    TURN_ALLOCATION: "first Allocate request → relay candidate",
    CREDENTIAL_FETCH: "request for TURN credentials → answer",
    GATHERING: "gathering start → complete",
    ICE: "ICE checking → connected",
    DATA_CHANNEL: "peer connected → data channel open",
}
