"""Estimates of the legs of a conversation, by definition: one of them is the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.oracle.fold import Generation, Tube, _first_of

OWN_LEG = {"client": "client_to_krelay", "gateway": "krelay_to_gateway"}
HANDSHAKE_ROUND_TRIPS = {"client": 2, "gateway": 3}
#: what the library itself needs in a handshake, ms
HANDSHAKE_WORK = {"client": 2.5, "gateway": 2.9}
#: the same until its data channel is open, on the offerer, and what a lost chunk costs
ASSOCIATION_WORK, CHUNK_AGAIN = 2.4, 3000


#: estimates that may hold such waits
REPEATING = ("dtls_handshake", "sctp_association")


class Estimate(NamedTuple):
    """One sound estimate of a leg; the least of a leg is the best."""

    standing: int
    generation: int
    value_ms: float
    method: str


def is_sound_connect(printed: float) -> bool:
    """Whether a printed duration can be that of one TCP handshake: not cut to nothing, and without a repeated SYN."""
    return 0 < printed < 1000


def _estimates(tube: Tube) -> Iterable[tuple[str, Estimate]]:
    for leg, _, printed in tube.backends:
        if is_sound_connect(printed):
            yield leg, Estimate(1, 0, printed, "backend_connect")
    if tube.side is None:
        return
    own = OWN_LEG[tube.side]
    for number, one in enumerate(tube.generations, 1):
        host, srflx, relay = (_first_of(one, kind) for kind in ("host", "srflx", "relay"))
        refused = min(one.refusals, default=None)
        prompt = host if host is not None and one.started is not None and host - one.started <= 10 else None
        handshake = HANDSHAKE_ROUND_TRIPS[tube.side]
        told_late = number == 1 and tube.may_be_held and tube.side == "gateway"
        begun = one.ice_connected if one.checking is not None and not told_late else None
        # what comes long before the host candidate may be set-up
        soon = None if host is not None and one.started is not None and host - one.started > 20 else one.started
        spans = (
            (own, 1, "gathering_srflx", soon, srflx, 1, 2.1),
            (own, 1, "gathering_relay", soon, relay, 2, 2.3),
            (own, 1, "gathering_allocation_error", soon, refused, 2, 2.3),
            (own, 1, "host_to_srflx", prompt, srflx, 1, 1.2),
            (own, 1, "host_to_relay", prompt, relay, 2, 1.5),
            (own, 1, "host_to_allocation_error", prompt, refused, 2, 1.5),
            (own, 2, "gathering_relay_minus_srflx", srflx, relay, 1, 0.5),
            (
                "end_to_end",
                1,
                "dtls_handshake",
                begun,
                one.peer_connected,
                handshake,
                HANDSHAKE_WORK[tube.side],
            ),
        )
        for leg, standing, method, start, end, round_trips, work in spans:
            if start is not None and end is not None and 0 < (end - start - work) / round_trips <= 5000:
                yield leg, Estimate(standing, number, (end - start - work) / round_trips, method)
        association = _association(tube, one)
        if association is not None and not (number == 1 and tube.may_be_held) and association > ASSOCIATION_WORK:
            yield "end_to_end", Estimate(1, number, (association - ASSOCIATION_WORK) / 2, "sctp_association")


def _association(tube: Tube, one: Generation) -> int | None:
    """How long the offerer's association took, which is made once: when the tube first connected."""
    first = min((of.peer_connected for of in tube.generations if of.peer_connected is not None), default=None)
    begun = one.checking is not None or one.peer_connecting is not None
    if tube.side != "client" or not begun or first is None or one.peer_connected != first or one.channel_opened is None:
        return None
    return one.channel_opened - first


def _with_repeats(tubes: Sequence[Tube]) -> Iterable[tuple[str, Estimate]]:
    """Estimates of all tubes; of long handshakes those on which both sides agree for one choice alone."""
    found = [(tube, *pair) for tube in tubes for pair in _estimates(tube)]
    handshakes = [(tube, one) for tube, _, one in found if one.method == "dtls_handshake"]
    for tube, leg, one in found:
        if one.method not in REPEATING or not _lattice(tube, one)[1:]:
            yield leg, one
            continue
        same = [(other, it) for other, it in handshakes if it.generation == one.generation]
        by_side = {side: [pair for pair in same if pair[0].side == side] for side in HANDSHAKE_ROUND_TRIPS}
        if all(len(pairs) == 1 for pairs in by_side.values()):
            lattices = {side: _lattice(*pairs[0]) for side, pairs in by_side.items()}
            fits = [
                {"client": a, "gateway": b} for a in lattices["client"] for b in lattices["gateway"] if abs(a - b) <= 20
            ]
            if len(fits) == 1 and tube.side is not None:
                agreed = fits[0][tube.side]
                for value in _lattice(tube, one):
                    if value == agreed or (one.method != "dtls_handshake" and 0 < value and abs(value - agreed) <= 20):
                        yield leg, one._replace(value_ms=value)


def _lattice(tube: Tube, one: Estimate) -> list[float]:
    """What a handshake comes to, for each number of waits that repeated flights may have cost."""
    assert tube.side is not None
    trips, work, wait = HANDSHAKE_ROUND_TRIPS[tube.side], HANDSHAKE_WORK[tube.side], 1000
    if one.method != "dtls_handshake":
        trips, work, wait = 2, ASSOCIATION_WORK, CHUNK_AGAIN
    repeats = int((one.value_ms * trips + work + 1e-6) // wait)
    return [one.value_ms - wait * k / trips for k in range(repeats + 1)]


def legs(tubes: Sequence[Tube]) -> dict[str, tuple[float, set[str]]]:
    """The chosen direct estimate of each leg of a conversation, with its method (several where they tie)."""
    found = list(_with_repeats(tubes))
    best = {leg: min(one[:3] for of, one in found if of == leg) for leg in {leg for leg, _ in found}}
    return {
        leg: (value[2], {one.method for of, one in found if of == leg and one[:3] == value})
        for leg, value in best.items()
    }
