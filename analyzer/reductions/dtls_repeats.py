"""Handshakes in which a flight was sent again: a lost one costs a second, which is no time of the network.

The library's DTLS sends an unanswered flight again every second, so a span of a second or more may hold as many of them
as it has seconds. How many is known where both sides timed the handshake: they waited for the same network, and parted
by two round trips on one side and three on the other, their spans agree for one choice of repetitions alone.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import FLIGHT_REPEATED

#: every how many milliseconds a flight is sent again: webrtc-dtls, INITIAL_TICKER_INTERVAL
AGAIN_MS = 1000.0
#: after how many an unanswered chunk of an association that is being made, or its first data: webrtc-sctp, RTO_INITIAL
SCTP_AGAIN_MS = 3000.0
#: a handshake that holds more waits is none: an agent gives up sooner, and a clock that was set may fake a day of them
MOST_REPEATS = 60
#: two sides that mean the same round trip differ by less; their lattices are a third and a half of a second wide
AGREE_MS = 20.0
_HANDSHAKE = ["conversation_id", "generation"]


def _choices(rows: pl.DataFrame, side: str) -> pl.DataFrame:
    """What a side's handshake comes to, for each number of repetitions it may hold; of one alone."""
    own = rows.filter(pl.col("side") == side, pl.col("method") == "dtls_handshake")
    sole = own.filter(pl.len().over(_HANDSHAKE) == 1, pl.col("may_repeat") <= MOST_REPEATS)
    some = sole.with_columns(k=pl.int_ranges(pl.col("may_repeat") + 1)).explode("k")
    return some.select(*_HANDSHAKE, k=pl.col("k"), value=pl.col("value_ms") - pl.col("k") * pl.col("again_ms"))


def resolved(rows: pl.DataFrame) -> pl.DataFrame:
    """Take repetitions out of estimates of handshakes where it is known how many they hold; the others stay refused.

    Beside the columns of `leg_measurements` each row has `again_ms`, what one repetition adds to its value, null where
    nothing is repeated, and `may_repeat`, how many it may hold at most.
    """
    able = rows.filter(
        pl.col("again_ms").is_not_null(),
        pl.col("refused_reason").is_null() | (pl.col("refused_reason") == FLIGHT_REPEATED.reason),
    )
    if not (able["may_repeat"] > 0).any():
        return rows.drop("again_ms", "may_repeat")
    met = _choices(able, "client").join(_choices(able, "gateway"), on=_HANDSHAKE, suffix="_gateway")
    agreed = met.filter((pl.col("value") - pl.col("value_gateway")).abs() <= AGREE_MS).filter(
        pl.len().over(_HANDSHAKE) == 1
    )
    known = pl.concat(
        agreed.select(*_HANDSHAKE, side=pl.lit(side), agreed_ms=pl.col(value))
        for side, value in (("client", "value"), ("gateway", "value_gateway"))
    )
    repeated = ((pl.col("value_ms") - pl.col("agreed_ms")) / pl.col("again_ms")).round().cast(pl.Int64)
    refused = pl.col("refused_reason") == FLIGHT_REPEATED.reason
    value = pl.col("value_ms") - repeated * pl.col("again_ms")
    # dtls_flights is a shorter span of the same handshake: it holds as many, or fewer
    is_one = (
        refused
        & repeated.is_between(0, pl.col("may_repeat"))
        & ((value - pl.col("agreed_ms")).abs() <= AGREE_MS)
        & (value > 0)
    ).fill_null(False)
    most = (pl.col("may_repeat") * pl.col("again_ms")).fill_null(0.0)
    off = pl.when(is_one).then(repeated * pl.col("again_ms")).otherwise(0.0)
    return (
        rows.join(known, on=[*_HANDSHAKE, "side"], how="left", maintain_order="left")
        .with_columns(
            value_ms=(pl.col("value_ms") - off).round(6),
            low_ms=(pl.col("low_ms") - pl.when(is_one).then(off).otherwise(most)).clip(0.0).round(6),
            high_ms=(pl.col("high_ms") - off).round(6),
            refused_reason=pl.when(~is_one).then("refused_reason"),
        )
        .drop("agreed_ms", "again_ms", "may_repeat")
    )
