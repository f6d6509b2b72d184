"""Every single estimate of a leg, with how it was made, what it may be off by, and why it was chosen or refused.

A leg to the relay is timed from candidate gathering: the first server-reflexive candidate takes one round trip to the
relay, the first relay candidate two (the 401 challenge of RFC 8656 section 5, then the allocation), and so does a
refused allocation. A host candidate takes none and comes the same way through the agent, the callback and the log: what
passes before the first one is set-up, and a span that begins with it holds the network time alone. End to end is timed
from the DTLS handshake between ICE connected and peer connected: two round trips on the offerer (DTLS server), three on
the answerer; and where the server's DTLS crate tells it, from the first ClientHello to the client's Finished: two,
without the way of the states to the log. Delays only ever add, so the lowest sound estimate of equal standing is the
best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import PEER, Facts, elapsed_ms
from analyzer.tables.declare import Column, Table

CLIENT, GATEWAY, END_TO_END = "client_to_krelay", "krelay_to_gateway", "end_to_end"
#: leg that a side's own traffic with the relay measures
OWN_LEG = {"client": CLIENT, "gateway": GATEWAY}
#: forwarding from Rust to Python: median 1-2 ms, 95th percentile 5 ms, in releases since 1.6
LAG_MS = 5.0
#: the host keeps the socket set-up before the first request in the measured span
SETUP_MS = 5.0
#: a longer round trip would have run into the library's own retransmission and gathering time-outs
PLAUSIBLE_MS = 5000.0


@dataclass(frozen=True, slots=True)
class Estimator:
    """One way to time a leg: which span holds how many round trips of which leg, and when that does not hold."""

    method: str
    start: str
    end: str
    round_trips: int
    #: null: the side's own leg to the relay
    leg: str | None
    origin: str
    #: the lower the better; equal standing is decided by the lowest value
    standing: int
    #: None: either side
    side: str | None = None
    #: expected excess of the span that is no network time, from the producer's code
    bias_ms: float = 2.0
    #: what of the span may be set-up of sockets before the first request
    set_up_ms: float = SETUP_MS
    #: what makes the estimate unsound, as an expression, and the reason given
    unsound: tuple[tuple[str, pl.Expr], ...] = ()


# releases 1.0 to 1.2 sleep in the callback that ends gathering: states of that time are told when the sleep is over
_HELD_BACK = (
    "the library held its callbacks back",
    pl.col("held_back_at").is_not_null()
    & (elapsed_ms("held_back_at", "ice_connected_at").is_between(-50, pl.col("delay_ms").fill_null(6000) + 500)),
)

# a start that is told late makes a value too low, and the lowest is shown: no more is taken off than set-up and
# forwarding can be
_TOLD_LATE = (
    "the first host candidate was told late",
    elapsed_ms("started_at", "host_at").fill_null(math.inf) > LAG_MS + SETUP_MS,
)

ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("turn_transaction", "turn_requested_at", "turn_challenged_at", 1, None, "turn_requested_origin", 0, bias_ms=1.0),
    Estimator("gathering_srflx", "started_at", "srflx_at", 1, None, "srflx_origin", 1),
    Estimator("gathering_relay", "started_at", "relay_at", 2, None, "relay_origin", 1),
    Estimator("gathering_allocation_error", "started_at", "refused_at", 2, None, "refused_origin", 1),
    *(
        Estimator(method, "host_at", end, round_trips, None, origin, 1, bias_ms=1.0, set_up_ms=0.0, unsound=(_TOLD_LATE,))
        for method, end, round_trips, origin in (
            ("host_to_srflx", "srflx_at", 1, "srflx_origin"),
            ("host_to_relay", "relay_at", 2, "relay_origin"),
            ("host_to_allocation_error", "refused_at", 2, "refused_origin"),
        )
    ),
    # a late reflexive candidate makes this one too low, so it only counts where nothing else does
    Estimator("gathering_relay_minus_srflx", "srflx_at", "relay_at", 1, None, "relay_origin", 2),
    Estimator("dtls_handshake", "ice_connected_at", "peer_connected_at", 2, END_TO_END, "peer_connected_origin", 1, "client"),
    Estimator("dtls_flights", "hello_at", "finished_at", 2, END_TO_END, "finished_origin", 1, "client", set_up_ms=0.0),
    Estimator(
        "dtls_handshake", "ice_connected_at", "peer_connected_at", 3, END_TO_END, "peer_connected_origin", 1, "gateway",
        unsound=(_HELD_BACK,),
    ),
)  # fmt: skip

LEG_MEASUREMENTS = Table(
    "leg_measurements",
    row="One estimate of one leg, chosen, passed over or refused.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube whose log gave the estimate."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation the estimate is from, 1 for the first."),
        Column("leg", pl.String(), "client_to_krelay, krelay_to_gateway, end_to_end."),
        Column("method", pl.String(), "How it was made."),
        Column("value_ms", pl.Float64(), "Round-trip time: the span divided by the round trips it holds.", unit="ms"),
        Column("bias_ms", pl.Float64(), "Known mean excess of the method, not subtracted from the value.", unit="ms"),
        Column("low_ms", pl.Float64(), "Lower bound: set-up and forwarding of the record taken off.", unit="ms"),
        Column("high_ms", pl.Float64(), "Upper bound: the start may have been told late.", unit="ms"),
        Column("chosen", pl.Boolean(), "Whether connection_legs shows this estimate."),
        Column("refused_reason", pl.String(), "Why the estimate is unsound; null for a sound one."),
        Column("ts", TIMESTAMP, "Time of the event that ended the span."),
        Column("origin", pl.String(), "`source:line` of that event."),
    ),
    sort=("conversation_id", "tube_id", "generation", "leg", "method", "value_ms"),
)


def _refusal(estimator: Estimator) -> pl.Expr:
    value = pl.col("value_ms")
    reasons = [
        *(pl.when(broken.fill_null(False)).then(pl.lit(reason)) for reason, broken in estimator.unsound),
        pl.when(~pl.col("sub_second")).then(pl.lit("times have whole seconds")),
        pl.when(value <= 0).then(pl.lit("the end is not after the start")),
        pl.when(value > PLAUSIBLE_MS).then(pl.lit("longer than any round trip the library would wait for")),
    ]
    return pl.coalesce(*reasons, pl.lit(None, pl.String))


def _estimates(generations: pl.DataFrame, estimator: Estimator) -> pl.DataFrame:
    span = elapsed_ms(estimator.start, estimator.end)
    leg = (
        pl.lit(estimator.leg)
        if estimator.leg
        else pl.col("side").replace_strict(OWN_LEG, default=None, return_dtype=pl.String)
    )
    rows = generations if estimator.side is None else generations.filter(pl.col("side") == estimator.side)
    return (
        rows.filter(span.is_not_null())
        .with_columns(value_ms=(span / estimator.round_trips).round(6))
        .select(
            *PEER,
            "side",
            "value_ms",
            leg=leg,
            method=pl.lit(estimator.method),
            bias_ms=pl.lit(round(estimator.bias_ms / estimator.round_trips, 6)),
            low_ms=pl.max_horizontal(
                pl.lit(0.0), ((span - LAG_MS - estimator.set_up_ms) / estimator.round_trips).round(6)
            ).round(6),
            high_ms=((span + LAG_MS) / estimator.round_trips).round(6),
            refused_reason=_refusal(estimator),
            standing=pl.lit(estimator.standing),
            ts=pl.col(estimator.end),
            origin=pl.col(estimator.origin),
        )
    )


def _reported(facts: Facts) -> pl.DataFrame:
    """What the library says of the round trip, where it says more than 0.0: the last resort."""
    value = pl.col("reported_rtt_ms")
    return facts.tubes.filter(value.is_not_null()).select(
        "tube_id",
        "side",
        generation=pl.lit(1, pl.Int64),
        leg=pl.lit(END_TO_END),
        method=pl.lit("reported"),
        value_ms=value,
        standing=pl.lit(9),
        origin="reported_rtt_origin",
    )


def _with_choice(estimates: pl.DataFrame) -> pl.DataFrame:
    """Mark per conversation and leg the best sound estimate: by standing, then the first generation, then the lowest."""
    ranked = estimates.sort("standing", "generation", "value_ms", "tube_id", "method", nulls_last=True).with_row_index(
        "rank"
    )
    sound = pl.col("refused_reason").is_null() & pl.col("leg").is_not_null()
    best = pl.col("rank").filter(sound).min().over("conversation_id", "leg")
    return ranked.with_columns(chosen=sound & (pl.col("rank") == best).fill_null(False)).drop("rank", "standing")


def measure(facts: Facts) -> pl.DataFrame:
    """All direct estimates of all legs, one row each, per conversation of the tube."""
    estimates = pl.concat(
        [*(_estimates(facts.generations, estimator) for estimator in ESTIMATORS), _reported(facts)],
        how="diagonal_relaxed",
    )
    placed = facts.streams.links.select("conversation_id", "tube_id").join(estimates, on="tube_id", how="inner")
    return _with_choice(placed)
