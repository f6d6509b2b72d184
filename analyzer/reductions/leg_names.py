"""The words of `leg_measurements`: legs of the way, whose values are round trips, durations, and methods."""

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
#: what each method of `leg_measurements` stands for
METHODS = {
    "stun_transaction": "a connectivity check of the selected pair and its response: 1 round trip",
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
    "sctp_association": "peer connected to data channel open: SCTP, 2 round trips, halved",
    "relay_challenge_to_allocation": "the relay's challenge to its allocation, by its own log: 1 round trip",
    "relay_challenge_to_refusal": "the relay's challenge to its refusal, by its own log: 1 round trip",
    "difference": "end to end less the other leg",
    "sum": "both legs together",
    "reported": "the library's own number",
    "state_change": "the times of two states: a duration",
    "credential_fetch": "the request for TURN credentials, no TURN traffic: a duration",
    "backend_connect": "TCP connect, as the gateway printed it: 1 round trip",
}
