"""End to end by several exchanges, held against one another: a beginning that was told late makes a span too short.

Everything else makes an estimate too long, and the lowest is the best; but where a DTLS handshake, an SCTP association or
a check agrees with another of them, one that is shorter than both can be is none of the network's. Estimates of one
exchange share what held it up, and prove nothing of that to one another; but two that begin with different lines, and
agree, were not begun late.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import TOLD_LATE
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import END_TO_END
from analyzer.reductions.peers import set_up_once

#: of many checks so many of each tube, the lowest ones, are looked at
MOST_CHECKS = 20
_OWN = "conversation_id"


def _exchange() -> pl.Expr:
    """What an estimate timed: the sides' estimates of one exchange are of the same; each check is its own."""
    method = pl.col("method")
    check = pl.when(method == "stun_transaction").then(pl.col("origin").cast(pl.String))
    return pl.coalesce(check, method.str.slice(0, 4))


def _short(measurements: pl.DataFrame, once: pl.DataFrame) -> pl.Series:
    """Which rows are shorter than end to end can be, as places among `measurements`.

    Such a one agrees with no other, not even with one of its exchange that begins with another line, and is shorter than
    some that agree and are of two exchanges.
    """
    sound = (
        measurements.with_row_index("row")
        .filter(pl.col("leg") == END_TO_END, pl.col("refused_reason").is_null(), pl.col("low_ms").is_not_null())
        .join(once, on=_OWN, how="semi")
        .with_columns(exchange=_exchange())
        .filter(pl.int_range(pl.len()).over("tube_id", "method", order_by="value_ms") < MOST_CHECKS)
        .select(_OWN, "row", "exchange", "low_ms", "high_ms")
    )
    # most agree all with each other
    apart = pl.col("high_ms").min() < pl.col("low_ms").max()
    told = sound.filter(apart.over(_OWN))
    agree = told.join(told, on=_OWN, suffix="_other").filter(
        pl.col("row") != pl.col("row_other"),
        pl.col("low_ms") <= pl.col("high_ms_other"),
        pl.col("low_ms_other") <= pl.col("high_ms"),
    )
    least = (
        agree.filter(pl.col("exchange") != pl.col("exchange_other")).group_by(_OWN).agg(least_ms=pl.col("low_ms").min())
    )
    lonely = told.join(agree, on="row", how="anti").join(least, on=_OWN)
    return lonely.filter(pl.col("high_ms") < pl.col("least_ms"))["row"]


def refused(facts: Facts, measurements: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame | None:
    """Estimates of legs with those of end to end refused that are too short; None where none is."""
    found = _short(measurements, set_up_once(facts.streams.links, facts.tubes))
    if found.is_empty():
        return None
    short = pl.int_range(pl.len()).is_in(found.cast(pl.Int64).implode())
    return measurements.with_columns(
        pl.when(~short).then(pl.col("low_ms", "high_ms")),
        refused_reason=pl.when(short).then(pl.lit(TOLD_LATE.reason)).otherwise("refused_reason"),
    )
