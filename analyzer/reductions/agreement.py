"""The legs of a path through one relay, held against one another: end to end is both of them together.

What an estimate holds besides the network makes it too long, never too short, so each leg's upper bound stands. An end
to end that is longer than both legs can be, or than another estimate of it, was held up, by the work of other sessions or
a repetition nobody told of; a leg that is longer than what end to end leaves for it holds a request to the relay that was
sent again. Legs lead to one relay only where the candidates say so, and one round is no measure for another.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import HELD_UP, REQUEST_REPEATED
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import CLIENT, END_TO_END, GATEWAY
from analyzer.reductions.query import collected

#: of both sides' allocations that were granted
_ALLOCATIONS = ("gathering_relay", "host_to_relay", "turn_transaction")
#: what a relay needs to forward a packet, both ways
FORWARDED_MS = 1.0


def relays(facts: Facts, measurements: pl.DataFrame) -> pl.DataFrame:
    """Conversations of one round whose relay candidates are all of one relay, and whether `both` sides have some.

    With the upper bound of each leg by its allocations (`<leg>_asked`): a reflexive candidate may be another server's.
    """
    ends = facts.streams.links.select("conversation_id", "tube_id").join(
        facts.tubes.select("tube_id", "side"), on="tube_id"
    )
    again = pl.struct("conversation_id", "side").is_duplicated().any().over("conversation_id")
    own = facts.candidates.filter(pl.col("direction") == "local", pl.col("candidate_type") == "relay")
    met = ends.filter(~again).join(own.select("tube_id", "address"), on="tube_id")
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
    """The most that each leg can be, by the others: `conversation_id`, `leg`, `most_ms`.

    `legs` is what `connection_legs.gathered` gives, with what `relays` says of them.
    """
    relayed = legs.filter("uses_relay")
    # between two relays there may be a way of its own
    single, two = pl.col("path_is_single_relay"), (pl.col("client_end") == "relay") & (pl.col("gateway_end") == "relay")
    whole = pl.when(single | two, pl.col(f"{END_TO_END}_direct").is_not_null()).then(bound(END_TO_END, "high"))
    together = pl.col(f"{CLIENT}_asked") + pl.col(f"{GATEWAY}_asked") + FORWARDED_MS
    ways = (
        (CLIENT, whole - bound(GATEWAY, "low").fill_null(0.0)),
        (GATEWAY, whole - bound(CLIENT, "low").fill_null(0.0)),
        (END_TO_END, pl.when(single, "both").then(together)),
    )
    return pl.concat(
        relayed.select("conversation_id", leg=pl.lit(leg), most_ms=most).drop_nulls("most_ms") for leg, most in ways
    )


def _least(measurements: pl.DataFrame) -> pl.DataFrame:
    """The least upper bound of end to end that estimates of a tube give which are refused: they are not shown otherwise."""
    whole = measurements.filter(
        pl.col("leg") == END_TO_END, pl.col("bias_ms").is_not_null(), pl.col("refused_reason").is_not_null()
    )
    return whole.group_by("conversation_id", "tube_id", "generation").agg(least_ms=pl.col("high_ms").min())


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
        .with_columns(most_ms=pl.when(whole).then(pl.min_horizontal("most_ms", "least_ms")).otherwise("most_ms"))
        .drop("least_ms")
    )
    reason = pl.when(whole).then(pl.lit(HELD_UP.reason)).when("may_wait").then(pl.lit(REQUEST_REPEATED.reason))
    ruled_out = (
        pl.col("refused_reason").is_null() & (pl.col("value_ms") > pl.col("most_ms")) & pl.col("bias_ms").is_not_null()
    )
    told = collected(
        held.with_columns(ruled_out=pl.when(ruled_out.fill_null(False)).then(reason)).with_columns(
            refused_reason=pl.coalesce("refused_reason", "ruled_out")
        )
    )
    return None if told["ruled_out"].null_count() == len(told) else told.drop("most_ms", "ruled_out")
