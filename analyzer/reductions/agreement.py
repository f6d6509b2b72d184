"""The legs of a path through one relay, held against one another: end to end is both of them together.

What an estimate holds besides the network makes it too long, never too short, so each leg's upper bound stands. An end
to end that is longer than both legs can be was held up, by the work of other sessions or a repetition nobody told of; a
leg that is longer than what end to end leaves for it holds a request to the relay that was sent again.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import HELD_UP, REQUEST_REPEATED
from analyzer.reductions.leg_names import CLIENT, END_TO_END, GATEWAY
from analyzer.reductions.query import collected

#: what a relay needs to forward a packet, both ways
FORWARDED_MS = 1.0


def _bound(leg: str, end: str) -> pl.Expr:
    return pl.col(f"{leg}_{end}_direct")


def limits(legs: pl.DataFrame) -> pl.DataFrame:
    """The most that each leg can be, by the others: `conversation_id`, `leg`, `most_ms`; of `connection_legs.gathered`."""
    relayed = legs.filter("uses_relay")
    # between two relays there may be a way of its own
    single, two = pl.col("path_is_single_relay"), (pl.col("client_end") == "relay") & (pl.col("gateway_end") == "relay")
    whole = pl.when(single | two, pl.col(f"{END_TO_END}_direct").is_not_null()).then(_bound(END_TO_END, "high"))
    both = _bound(CLIENT, "high") + _bound(GATEWAY, "high") + FORWARDED_MS
    ways = (
        (CLIENT, whole - _bound(GATEWAY, "low").fill_null(0.0)),
        (GATEWAY, whole - _bound(CLIENT, "low").fill_null(0.0)),
        (END_TO_END, pl.when(single).then(both)),
    )
    return pl.concat(
        relayed.select("conversation_id", leg=pl.lit(leg), most_ms=most).drop_nulls("most_ms") for leg, most in ways
    )


def refused(measurements: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame | None:
    """Estimates with those refused that another leg of their path rules out; None where none is."""
    held = measurements.lazy().join(
        limits(legs).lazy(), on=["conversation_id", "leg"], how="left", maintain_order="left"
    )
    reason = pl.when(pl.col("leg") == END_TO_END).then(pl.lit(HELD_UP.reason)).when("may_wait").then(
        pl.lit(REQUEST_REPEATED.reason)
    )  # fmt: skip
    ruled_out = (
        pl.col("refused_reason").is_null() & (pl.col("value_ms") > pl.col("most_ms")) & pl.col("bias_ms").is_not_null()
    )
    told = collected(
        held.with_columns(ruled_out=pl.when(ruled_out.fill_null(False)).then(reason)).with_columns(
            refused_reason=pl.coalesce("refused_reason", "ruled_out")
        )
    )
    return None if told["ruled_out"].null_count() == len(told) else told.drop("most_ms", "ruled_out")
