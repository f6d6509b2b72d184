"""The legs of a path through one relay, held against one another: end to end is both of them together.

What an estimate holds besides the network makes it too long, never too short, so each leg's upper bound stands. An end
to end that is longer than both legs can be, or than another estimate of it, was held up, by the work of other sessions or
a repetition nobody told of; a leg that is longer than what end to end leaves for it holds a request to the relay that was
sent again, or a name server that was slow, or a clock that was set. Legs lead to one relay only where the candidates say
so, and one round is no measure for another. A network that grew slower between gathering and the handshake is told from
work that held it up: that would be in two round trips of the client and in three of the gateway, which then disagree.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import HELD_UP, REQUEST_REPEATED
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import CLIENT, END_TO_END, GATEWAY
from analyzer.reductions.peers import set_up_once
from analyzer.reductions.query import collected

#: of both sides' allocations that were granted
_ALLOCATIONS = ("gathering_relay", "host_to_relay", "turn_transaction")
#: half of what the two sides' handshakes would differ by, as a share of what they are too long by, had they been held up
HELD_UP_SHARE = 1 / 6
#: what a relay needs to forward a packet, both ways
FORWARDED_MS = 1.0


def relays(facts: Facts, measurements: pl.DataFrame) -> pl.DataFrame:
    """Conversations of one round whose relay candidates are all of one relay, and whether `both` sides have some.

    With the upper bound of each leg by its allocations (`<leg>_asked`): a reflexive candidate may be another server's.
    """
    own = facts.candidates.filter(pl.col("direction") == "local", pl.col("candidate_type") == "relay")
    met = set_up_once(facts.streams.links, facts.tubes).join(own.select("tube_id", "address"), on="tube_id")
    found = met.group_by("conversation_id").agg(pl.col("address").n_unique(), both=pl.col("side").n_unique() == 2)
    allocated = pl.col("method").is_in(_ALLOCATIONS) & pl.col("refused_reason").is_null()
    bounds = measurements.filter(allocated).group_by("conversation_id").agg(
        pl.col("high_ms").filter(pl.col("leg") == leg).min().alias(f"{leg}_asked") for leg in (CLIENT, GATEWAY)
    )  # fmt: skip
    return found.filter(pl.col("address") == 1).drop("address").join(bounds, on="conversation_id", how="left")


def bound(leg: str, end: str) -> pl.Expr:
    """The bound of a leg as `connection_legs.gathered` gives it, `low` or `high`."""
    return pl.col(f"{leg}_{end}_direct")


def limits(legs: pl.DataFrame) -> pl.DataFrame:
    """The most that each leg can be, by the others: `conversation_id`, `leg`, `most_ms`; `alone_ms`: by end to end alone.

    `legs` is what `connection_legs.gathered` gives, with what `relays` says of them.
    """
    relayed = legs.filter("uses_relay")
    # between two relays there may be a way of its own
    single, two = pl.col("path_is_single_relay"), (pl.col("client_end") == "relay") & (pl.col("gateway_end") == "relay")
    whole = pl.when(single | two, pl.col(f"{END_TO_END}_direct").is_not_null()).then(bound(END_TO_END, "high"))
    together = pl.col(f"{CLIENT}_asked") + pl.col(f"{GATEWAY}_asked") + FORWARDED_MS
    ways = (
        (CLIENT, whole - bound(GATEWAY, "low").fill_null(0.0), whole),
        (GATEWAY, whole - bound(CLIENT, "low").fill_null(0.0), whole),
        (END_TO_END, pl.when(single, "both").then(together), together),
    )
    return pl.concat(
        relayed.select("conversation_id", leg=pl.lit(leg), most_ms=most, alone_ms=alone).drop_nulls("most_ms")
        for leg, most, alone in ways
    )


def _least(measurements: pl.DataFrame) -> pl.DataFrame:
    """The least upper bound of end to end that estimates of a tube give which are refused: they are not shown otherwise."""
    whole = measurements.filter(
        pl.col("leg") == END_TO_END, pl.col("bias_ms").is_not_null(), pl.col("refused_reason").is_not_null()
    )
    return whole.group_by("conversation_id", "tube_id", "generation").agg(least_ms=pl.col("high_ms").min())


def _whole(measurements: pl.DataFrame) -> pl.DataFrame:
    """What the sound estimates of end to end say, by conversation.

    `spread_ms`: how much the upper bound of the lowest gives way to the highest, since a start that was told late makes
    one too low; `client_ms` and `gateway_ms`: the handshake of each side.
    """
    sound = measurements.filter(pl.col("leg") == END_TO_END, pl.col("refused_reason").is_null())
    high, handshake = pl.col("high_ms"), pl.col("method").is_in(["dtls_handshake", "dtls_flights"])
    return sound.group_by("conversation_id").agg(
        (high.max() - high.filter("chosen").max()).clip(0.0).fill_null(0.0).alias("spread_ms"),
        *(
            pl.col("value_ms").filter(handshake, pl.col("side") == side).min().alias(f"{side}_ms")
            for side in ("client", "gateway")
        ),
    )


def refused(facts: Facts, measurements: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame | None:
    """Estimates of legs with those refused that others of their path rule out; None where none is.

    `legs` is what `connection_legs.gathered` gives.
    """
    # where relays differ, or rounds, only estimates of one tube are held against one another
    legs = legs.join(relays(facts, measurements), on="conversation_id")
    whole = pl.col("leg") == END_TO_END
    of_tube = ["conversation_id", "tube_id", "generation"]
    held = (
        measurements.lazy()
        .join(limits(legs).lazy(), on=["conversation_id", "leg"], how="left", maintain_order="left")
        .join(_least(measurements).lazy(), on=of_tube, how="left", maintain_order="left")
        .join(_whole(measurements).lazy(), on="conversation_id", how="left", maintain_order="left")
    )
    shorter, apart = pl.min_horizontal("client_ms", "gateway_ms"), (pl.col("client_ms") - pl.col("gateway_ms")).abs()
    grown = (apart < (shorter - pl.col("most_ms")) * HELD_UP_SHARE).fill_null(False)
    repeated = ~whole & pl.col("may_wait")
    most = (
        pl.when(whole)
        .then(pl.min_horizontal(pl.when(~grown).then("most_ms"), "least_ms"))
        .when(repeated)
        .then("most_ms")
        # of two legs that are too long together one may be right
        .otherwise(pl.col("alone_ms") + pl.col("spread_ms"))
    )
    ruled_out = (
        pl.col("refused_reason").is_null() & (pl.col("value_ms") > most) & pl.col("bias_ms").is_not_null()
    ).fill_null(False)
    reason = pl.when(repeated).then(pl.lit(REQUEST_REPEATED.reason)).otherwise(pl.lit(HELD_UP.reason))
    # their lower bounds contradict each other, and neither stands
    too_long = (~whole & (pl.col("low_ms") > pl.col("most_ms") + pl.col("spread_ms"))).fill_null(False)
    told = collected(
        held.with_columns(
            pl.when(too_long).then(0.0).otherwise("low_ms").alias("low_ms"),
            refused_reason=pl.coalesce("refused_reason", pl.when(ruled_out).then(reason)),
            changed=ruled_out | too_long,
        )
    )
    return told.select(measurements.columns) if told["changed"].any() else None
