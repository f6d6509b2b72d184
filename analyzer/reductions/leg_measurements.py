"""Every single estimate of a leg or duration, with how it was made, what it may be off by, and why it was chosen or refused.

A leg to the relay is timed from candidate gathering: the first server-reflexive candidate takes one round trip to the
relay, the first relay candidate two (the 401 challenge of RFC 8656 section 5, then the allocation), and so does a
refused allocation. A host candidate takes none and comes the same way through the agent, the callback and the log: what
passes before the first one is set-up, and a span that begins with it holds the network time alone. End to end is timed
from the DTLS handshake between ICE connected and peer connected: two round trips on the offerer (DTLS server), three on
the answerer; and where the server's DTLS crate tells it, from the first ClientHello to the client's Finished: two,
without the way of the states to the log. What follows holds two more on either side: INIT, COOKIE ECHO and their answers
(RFC 9260 section 5.1) until the offerer's data channel is open; the answerer, connected half a round trip later, waits
for the message that opens the channel (RFC 8832), which comes half a round trip after that.

A span also holds what the library itself does in it: opening sockets, keys and signatures, callbacks, the way to the
log. How long that takes is measured where the network takes no time, over loopback with the real library
(`python -m tests.producer.calibrate`), and taken off, as one takes off the zero of a scale. Further delays only add, so
the lowest sound estimate of equal standing is the best.

Where the relay's own log is there, it times each side's leg by itself (`relay_legs`).

What is no leg, but a duration of the set-up, is estimated in `durations`.

Beyond the gateway nothing is timed here: its library prints how long each TCP connect to Guacd or to the target took,
which is one round trip.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from analyzer.events.links import canonical
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions import relay_legs
from analyzer.reductions.artefacts import ARTEFACTS, MAY_BE_HELD, SIX_SECOND_SLEEP
from analyzer.reductions.checks import transactions
from analyzer.reductions.dtls_repeats import AGAIN_MS, SCTP_AGAIN_MS, resolved
from analyzer.reductions.estimators import FIRST_USE_MS, LAG_MS, SETUP_MS, Estimator, estimates
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.reductions.held_back import SLEEP_MS, SOON_MS
from analyzer.reductions.leg_names import BEYOND, DURATIONS, END_TO_END, LEGS, METHODS, OWN_LEG
from analyzer.reductions.query import collected
from analyzer.tables.declare import ID, Column, Table

#: the kernel repeats an unanswered SYN after a second (RFC 6298 section 2): a longer connect holds that wait
SYN_REPEATED_MS = 1000.0
#: the library prints the time of a connect in whole milliseconds
PRINTED_MS = 1.0
#: behind the sleep what was held back is let go one after the other
LET_GO_MS = 500.0


def held_back(told_at: str, behind_ms: float = LET_GO_MS) -> tuple[str, pl.Expr]:
    """Releases 1.0 to 1.2 sleep in the callback that ends gathering: states of that time are told when it is over."""
    asleep = elapsed_ms("held_back_at", told_at).is_between(
        -SOON_MS, pl.col("delay_ms").fill_null(SLEEP_MS) + behind_ms
    )
    return SIX_SECOND_SLEEP.reason, pl.col("held_back_at").is_not_null() & asleep


def _cut(*begins: str) -> tuple[str, pl.Expr]:
    """Behind a cut, or after an outage, the states of an old connection come again without any handshake."""
    return "no line tells the beginning of the checks", pl.coalesce(begins).is_null()


_HELD_BACK = held_back("ice_connected_at")

# an offerer that did not check before the sleep has its answer only when it is over: what is told then happens then
_HELD_IN_CHECKS = (_HELD_BACK[0], _HELD_BACK[1] & (pl.col("checking_at") < pl.col("held_back_at")))

HELD_UNSEEN = (MAY_BE_HELD, pl.col("may_be_held") & (pl.col("generation") == 1))

# a start that is told late makes a value too low, and the lowest is shown: no more is taken off than set-up and
# forwarding can be
_TOLD_LATE = (
    "the first host candidate was told late",
    elapsed_ms("started_at", "host_at").fill_null(math.inf) > LAG_MS + SETUP_MS,
)

#: of spans that begin with gathering: what passes before the host candidate may be set-up, and then it is no network time
_GATHERING: dict[str, Any] = {
    "first_use_ms": FIRST_USE_MS,
    "sooner": "start_printed_at",
    "later": "host_at",
    "unsound": (
        (
            "the first host candidate came late",
            elapsed_ms("started_at", "host_at").fill_null(0.0) > LAG_MS + SETUP_MS + FIRST_USE_MS,
        ),
    ),
}

#: when an unanswered request to the relay is sent again, counted from the first: webrtc-turn, 200 ms that double to 1.6 s
_SENT_AGAIN_MS = (200.0, 600.0, 1400.0, 3000.0, 4600.0, 6200.0)
#: of the two requests that an allocation takes each may be
_WAITS_MS = tuple(sorted({one + other for one in (0.0, *_SENT_AGAIN_MS) for other in _SENT_AGAIN_MS}))
#: a wait of 200 ms is half of that in the value of an allocation
_NO_WAIT_MS = 50.0

_CUT = _cut("checking_at", "agent_checking_at")

# of this span, releases from 1.6 on need 5 to 6 ms: what earlier ones do is taken off, so that the value is never too low;
# the association is made once, when the tube first connects, and its beginning must be in the log
_ASSOCIATION: dict[str, Any] = {
    "again_ms": SCTP_AGAIN_MS,
    "unsound": (
        held_back("peer_connected_at"),
        HELD_UNSEEN,
        _cut("checking_at", "agent_checking_at", "connecting_at"),
        ("the association is older", pl.col("peer_connected_at") > pl.col("connected_at")),
    ),
}

MINUS = "gathering_relay_minus_srflx"
ESTIMATORS: tuple[Estimator, ...] = (
    Estimator("turn_transaction", "turn_requested_at", "turn_challenged_at", 1, None, "turn_requested_origin", 0),
    Estimator("gathering_srflx", "started_at", "srflx_at", 1, None, "srflx_origin", 1, own_ms=2.1, **_GATHERING),
    Estimator(
        "gathering_relay", "started_at", "relay_at", 2, None, "relay_origin", 1,
        own_ms=2.3, waits_ms=_WAITS_MS, **_GATHERING,
    ),
    Estimator(
        "gathering_allocation_error", "started_at", "refused_at", 2, None, "refused_origin", 1,
        own_ms=2.3, waits_ms=_WAITS_MS, **_GATHERING,
    ),
    *(
        Estimator(
            method, "host_at", end, round_trips, None, origin, 1,
            own_ms=own_ms, set_up_ms=0.0, first_use_ms=FIRST_USE_MS, unsound=(_TOLD_LATE,),
            # a reflexive candidate is asked for once
            waits_ms=_WAITS_MS if round_trips == 2 else (),
        )
        for method, end, round_trips, origin, own_ms in (
            ("host_to_srflx", "srflx_at", 1, "srflx_origin", 1.2),
            ("host_to_relay", "relay_at", 2, "relay_origin", 1.5),
            ("host_to_allocation_error", "refused_at", 2, "refused_origin", 1.5),
        )
    ),
    # a late reflexive candidate makes this one too low, so it only counts where nothing else does
    Estimator(
        MINUS, "srflx_at", "relay_at", 1, None, "relay_origin", 2, own_ms=0.5, sooner="started_at", waits_ms=_WAITS_MS
    ),
    Estimator(
        "dtls_handshake", "ice_connected_at", "peer_connected_at", 2, END_TO_END, "peer_connected_origin", 1, "client",
        own_ms=2.5, again_ms=AGAIN_MS, unsound=(_HELD_IN_CHECKS, _CUT),
    ),
    Estimator(
        "dtls_flights", "hello_at", "finished_at", 2, END_TO_END, "finished_origin", 1, "client",
        own_ms=1.4, set_up_ms=0.0, again_ms=AGAIN_MS,
    ),
    Estimator(
        "dtls_handshake", "ice_connected_at", "peer_connected_at", 3, END_TO_END, "peer_connected_origin", 1, "gateway",
        own_ms=2.9, again_ms=AGAIN_MS, unsound=(_HELD_BACK, HELD_UNSEEN, _CUT),
    ),
    Estimator(
        "sctp_association", "peer_connected_at", "channel_opened_at", 2, END_TO_END, "channel_opened_origin", 1, "client",
        own_ms=2.4, **_ASSOCIATION,
    ),
    Estimator(
        "sctp_association", "peer_connected_at", "channel_received_at", 2, END_TO_END, "channel_received_origin", 1, "gateway",
        own_ms=3.0, **_ASSOCIATION,
    ),
)  # fmt: skip

_TO_RELAY = tuple(one for one in ESTIMATORS if one.leg is None)
#: methods that time the first reflexive candidate, which any server may have given
TIME_REFLEXIVE = tuple(one.method for one in _TO_RELAY if one.end == "srflx_at")
#: all whose value depends on it, or may
HOLD_REFLEXIVE = (*TIME_REFLEXIVE, *(one.method for one in _TO_RELAY if one.start == "srflx_at"), "reported")
#: methods that time what a relay answered to a request for an allocation
BY_ALLOCATION = (
    *(one.method for one in _TO_RELAY if one.method not in HOLD_REFLEXIVE),
    *relay_legs.METHODS.values(),
)
#: spans that end with a candidate hold whatever held up the first ones
_HOLDS_DELAYS = tuple(
    one.method for one in _TO_RELAY if one.end in ("srflx_at", "relay_at") and one.start != "srflx_at"
)

#: of each check on the selected pair; a check goes the whole way
CHECK = Estimator(
    "stun_transaction", "check_sent_at", "check_answered_at", 1, END_TO_END, "check_answered_origin", 0, set_up_ms=0.0
)

LEG_MEASUREMENTS = Table(
    "leg_measurements",
    row="One estimate of one leg or duration, chosen, passed over or refused.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube that the estimate is of; null where a connect that the gateway printed is tied to none of its tubes, where the relay served a side whose log is not there, and for what follows from two legs (difference, sum), whose origin is that of the first of them."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation the estimate is from, 1 for the first; null beyond the gateway, where ICE ends, and without the side's own log."),
        Column("leg", pl.String(), f"{', '.join(LEGS)}: round trips. Durations: {'; '.join(f'{name}: {told}' for name, told in DURATIONS.items())}."),
        Column("method", pl.String(), f"How it was made. {'; '.join(f'{name}: {told}' for name, told in METHODS.items())}."),
        Column("value_ms", pl.Float64(), "Round-trip time: the span, less `bias_ms`, by the round trips it holds; of a duration the span less `bias_ms`; as printed for `credential_fetch`, `reported` and `backend_connect`; null where only bounds are known.", unit="ms"),
        Column("bias_ms", pl.Float64(), "What the library itself needs within the span, measured over loopback, per round trip or of the whole duration; already taken off the value.", unit="ms"),
        Column("low_ms", pl.Float64(), "Lower bound: set-up, forwarding and the resolution of the times taken off; null where the span bounds nothing.", unit="ms"),
        Column("high_ms", pl.Float64(), "Upper bound: the start may have been told late, and a printed time or value stands for all that share its last digit.", unit="ms"),
        Column("chosen", pl.Boolean(), "Whether it is the conversation's: the one of its leg that connection_legs shows, where that has such a column."),
        Column("chosen_for_tube", pl.Boolean(), "Whether it is the tube's: the one of its leg that ice_stats shows, where that has such a column; of STUN responses one in each generation."),
        Column("refused_reason", pl.String(), f"Why the estimate is unsound; null for a sound one. Known artefacts go by their name: {', '.join(one.name for one in ARTEFACTS if one.refuses)}."),
        Column("ts", TIMESTAMP, "Time of the event that ended the span or printed the value."),
        Column("origin", pl.String(), "`source:line` of that event."),
    ),
    sort=("conversation_id", "tube_id", "generation", "leg", "method", "value_ms", "ts", "origin"),
)  # fmt: skip


def _reported(facts: Facts) -> pl.DataFrame:
    """What the library says of round trips, where it says more than 0.0: the last resort."""
    own = pl.col("side").replace_strict(OWN_LEG, default=None, return_dtype=pl.String)
    told = (
        (pl.lit(END_TO_END), pl.col("reported_rtt_ms"), "reported_rtt_origin"),
        (own, pl.col("stun_times").list.drop_nulls().list.last(), "stun_origin"),
    )
    return pl.concat(
        facts.tubes.select(
            "tube_id",
            "side",
            generation=pl.lit(1, pl.Int64),
            leg=leg,
            method=pl.lit("reported"),
            value_ms=value,
            standing=pl.lit(9),
            origin=origin,
        ).filter(pl.col("value_ms") > 0)
        for leg, value, origin in told
    )


def _backends(facts: Facts) -> pl.DataFrame:
    """What the gateway printed of its connections to Guacd and to the target, a row each, per conversation."""
    conversations = facts.streams.links.select("conversation_id").unique()
    told = facts.streams.events.lazy().filter(pl.col("kind") == "backend_connected")
    latencies = [f"{leg}_ms" for leg in BEYOND]
    connected = (
        collected(told.select("conversation_id", "tube_id", "channel_label", "ts", "origin", *latencies))
        # of several conversations on one tube the label says whose connection it is
        .with_columns(label=canonical(pl.col("channel_label")).cast(ID))
        .join(
            conversations.with_columns(label="conversation_id", own="conversation_id"),
            on="label",
            how="left",
            maintain_order="left",
        )
        .with_columns(conversation_id=pl.coalesce("own", "conversation_id"))
        .filter(pl.col("conversation_id").is_not_null())
        .join(facts.tubes.select("tube_id", found="side"), on="tube_id", how="left", maintain_order="left")
    )
    # only a gateway connects to a backend: a client's tube is at most the one that is known of the conversation
    tube = pl.when(pl.col("found").ne_missing("client")).then("tube_id")
    value = pl.col("value_ms")
    printed = [
        connected.select("conversation_id", "ts", "origin", tube_id=tube, value_ms=f"{leg}_ms", leg=pl.lit(leg))
        for leg in BEYOND
    ]
    return (
        pl.concat(printed)
        .filter(value.is_not_null())
        .with_columns(
            side=pl.lit("gateway"),
            generation=pl.lit(None, pl.Int64),
            method=pl.lit("backend_connect"),
            high_ms=value + PRINTED_MS,
            refused_reason=pl.when(value == 0)
            .then(pl.lit("less than 1 ms, the least that is printed"))
            .when(value < 0)
            .then(pl.lit("the end is not after the start"))
            .when(value >= SYN_REPEATED_MS)
            .then(pl.lit("the request to connect was repeated")),
            standing=pl.lit(1),
        )
    )


def _with_shared_delays(placed: pl.DataFrame) -> pl.DataFrame:
    """Lower bounds that allow for what both candidates waited for: it is in each of their spans, not in the difference."""
    own = ["conversation_id", "tube_id", "generation", "leg"]
    without = pl.col("low_ms").filter(pl.col("method") == MINUS).min().over(own)
    return placed.with_columns(
        low_ms=pl.when(pl.col("method").is_in(_HOLDS_DELAYS) & pl.col("low_ms").is_not_null())
        .then(pl.min_horizontal("low_ms", without))
        .otherwise("low_ms")
    )


def _with_waits(placed: pl.DataFrame) -> pl.DataFrame:
    """Lower bounds that allow for requests that were sent again; `may_wait` says of each estimate whether they do.

    A reflexive candidate that took as long as half an allocation shows that there was no wait in that.
    """
    own = ["conversation_id", "tube_id", "generation", "leg"]
    asked_once = pl.col("method").is_in(TIME_REFLEXIVE) & pl.col("refused_reason").is_null()
    reflexive = pl.col("value_ms").filter(asked_once).min().over(own)
    shown = (reflexive > pl.col("value_ms") - _NO_WAIT_MS).fill_null(False)
    may_wait = (pl.col("wait_ms") > 0).fill_null(False) & ~shown
    return placed.with_columns(
        low_ms=pl.when(may_wait).then((pl.col("low_ms") - pl.col("wait_ms")).clip(0.0).round(6)).otherwise("low_ms"),
        may_wait=may_wait,
    ).drop("wait_ms")


def with_choice(found: pl.DataFrame) -> pl.DataFrame:
    """Mark the best sound estimate of each leg, by standing, then the first generation, then the lowest.

    Once per conversation, once per tube.
    """
    # two connects may have taken as long: then the first
    order = ("standing", "generation", "value_ms", "tube_id", "method", "ts", "origin")
    ranked = found.sort(order, nulls_last=True, maintain_order=True).with_row_index("rank")
    sound = pl.col("refused_reason").is_null() & pl.col("leg").is_not_null()
    rank = pl.col("rank").filter(sound).min()
    of_tube = (
        sound & pl.col("tube_id").is_not_null() & (pl.col("rank") == rank.over("conversation_id", "tube_id", "leg"))
    )
    return ranked.with_columns(
        chosen=sound & (pl.col("rank") == rank.over("conversation_id", "leg")).fill_null(False),
        chosen_for_tube=of_tube.fill_null(False),
    ).drop("rank")


def measure(facts: Facts, relay: pl.DataFrame | None = None) -> pl.DataFrame:
    """All direct estimates of all legs, one row each, per conversation of the tube.

    Beside the columns of `leg_measurements` each has its `standing`, and `may_wait`: a repeated request may be in it.
    `relay` has the sessions of the relay's own log, joined to tubes.
    """
    links = facts.streams.links.select("conversation_id", "tube_id")
    of_tubes = pl.concat(
        [
            estimates(facts.generations, *ESTIMATORS),
            estimates(transactions(facts), CHECK),
            _reported(facts),
        ],
        how="diagonal_relaxed",
    )
    seen = [] if relay is None else [relay_legs.estimates(facts, relay)]
    placed = _with_shared_delays(_with_waits(resolved(links.join(of_tubes, on="tube_id", how="inner"))))
    return with_choice(pl.concat([placed, _backends(facts), *seen], how="diagonal_relaxed"))
