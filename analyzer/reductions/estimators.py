"""An estimator: which span between two lines holds a leg or a duration, what it may be off by, and when it does not hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from analyzer.reductions.artefacts import CLOCK_SET_BACK, FLIGHT_REPEATED, WHOLE_SECOND_TIMES
from analyzer.reductions.facts import elapsed_ms
from analyzer.reductions.leg_names import OWN_LEG
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER
from analyzer.reductions.set_back import around

#: forwarding from Rust to Python: median 1-2 ms, 95th percentile 5 ms, in releases since 1.6
LAG_MS = 5.0
#: the host keeps the socket set-up before the first request in the measured span
SETUP_MS = 5.0
#: what the first gathering of a process may take beyond that. Over loopback its spans are longer than those of later ones
#: by 1.4 to 2.6 ms at the median, in 0.2.24, 1.0.0, 1.6.2 and 2.2.9, handshakes by less than one; and nine in ten of those
#: that were captured with their packets hold less than 10 ms besides them
FIRST_USE_MS = 10.0
#: what a line prints and when it was written are further apart only where the two clocks are
SAME_CLOCK_MS = 500.0
#: a longer round trip would have run into the library's own retransmission and gathering time-outs
PLAUSIBLE_MS = 5000.0


@dataclass(frozen=True, slots=True)
class Estimator:
    """One way to time a leg: which span holds how many round trips of which leg, and when that does not hold."""

    method: str
    start: str
    end: str
    #: of a duration, which is not parted, 1
    round_trips: int
    #: null: the side's own leg to the relay
    leg: str | None
    origin: str
    #: the lower the better; equal standing is decided by the lowest value
    standing: int
    #: None: either side
    side: str | None = None
    #: what the span holds where the network takes no time: median over loopback, of 0.2.24, 1.0.9, 1.6.2, 2.1.22, 2.2.9
    own_ms: float = 0.0
    #: what of the span may be set-up of sockets before the first request
    set_up_ms: float = SETUP_MS
    #: times at which it may have begun, before or after the line that tells its start
    sooner: str | None = None
    later: str | None = None
    #: what of it may be first use in a process (`first_conversation`)
    first_use_ms: float = 0.0
    #: what one round trip, or a duration, can take at most
    plausible_ms: float = PLAUSIBLE_MS
    #: whether it need not take any time: a change of state, not the network
    may_be_zero: bool = False
    #: after how long, each time, something in it that was lost is sent again
    again_ms: float | None = None
    #: what requests that were sent again may add to it, ms: each sum of waits that there may be
    waits_ms: tuple[float, ...] = ()
    #: what makes the estimate unsound, as an expression, and the reason given
    unsound: tuple[tuple[str, pl.Expr], ...] = ()


def _refusal(estimator: Estimator) -> pl.Expr:
    span, value = elapsed_ms(estimator.start, estimator.end), pl.col("value_ms")
    reasons = [
        *(pl.when(broken.fill_null(False)).then(pl.lit(reason)) for reason, broken in estimator.unsound),
        pl.when(around(estimator.start, estimator.end)).then(pl.lit(CLOCK_SET_BACK.reason)),
        pl.when(~pl.col("sub_second")).then(pl.lit(WHOLE_SECOND_TIMES.reason)),
        pl.when(span < 0 if estimator.may_be_zero else span <= 0).then(pl.lit("the end is not after the start")),
        pl.when((value <= 0) & ~pl.lit(estimator.may_be_zero)).then(pl.lit("no longer than the library's own work")),
        pl.when(span >= (estimator.again_ms or math.inf)).then(pl.lit(FLIGHT_REPEATED.reason)),
        pl.when(value > estimator.plausible_ms).then(
            pl.lit("longer than any round trip the library would wait for")
        ),
    ]  # fmt: skip
    return pl.coalesce(*reasons, pl.lit(None, pl.String))


def _bounds(estimator: Estimator) -> pl.Expr:
    """Whether the span bounds the round trip, even where it is too coarse to tell it."""
    broken = [reason.fill_null(False) for _, reason in estimator.unsound]
    span = elapsed_ms(estimator.start, estimator.end)
    return (
        ~pl.any_horizontal(*broken, around(estimator.start, estimator.end))
        & (span <= estimator.plausible_ms * estimator.round_trips)
        & (span > -pl.col("resolution_ms") - LAG_MS)
    )


def estimates(spans: pl.DataFrame, *estimators: Estimator) -> pl.DataFrame:
    """One row for each span that has both ends, in columns of `leg_measurements`, with `standing` and without the conversation.

    Further columns: `again_ms` and `may_repeat`, see `dtls_repeats.resolved`; `wait_ms`, the most that repeated requests
    may be of the value.

    One estimator after the other. `spans` has tube_id, generation, side, those of `CLOCK` and the columns that
    the estimators name.
    """
    return collected(pl.concat(_estimates(spans.lazy(), one) for one in estimators))


def _estimates(spans: pl.LazyFrame, estimator: Estimator) -> pl.LazyFrame:
    span = elapsed_ms(estimator.start, estimator.end)
    network = span - estimator.own_ms
    set_up: float | pl.Expr = estimator.set_up_ms
    if estimator.first_use_ms:
        set_up = set_up + pl.when(pl.col("generation") == 1).then(estimator.first_use_ms).otherwise(0.0)
    if estimator.later:
        set_up = pl.max_horizontal(set_up, elapsed_ms(estimator.start, estimator.later))
    early: float | pl.Expr = 0.0
    if estimator.sooner:
        ahead = elapsed_ms(estimator.sooner, estimator.start)
        # a time of another clock, or of another zone, is further away
        early = pl.when(ahead.is_between(0, SAME_CLOCK_MS)).then(ahead).otherwise(0.0)
    # a printed time stands for all that share its last digit
    shortest = span - pl.col("resolution_ms") - LAG_MS - set_up
    longest = span + pl.col("resolution_ms") + pl.max_horizontal(pl.lit(LAG_MS), early)
    again = estimator.again_ms
    leg = (
        pl.lit(estimator.leg)
        if estimator.leg
        else pl.col("side").replace_strict(OWN_LEG, default=None, return_dtype=pl.String)
    )
    rows = spans if estimator.side is None else spans.filter(pl.col("side") == estimator.side)
    return (
        rows.filter(span.is_not_null())
        .with_columns(value_ms=(network / estimator.round_trips).round(6))
        .select(
            *PEER,
            "side",
            "value_ms",
            leg=leg,
            method=pl.lit(estimator.method),
            bias_ms=pl.lit(round(estimator.own_ms / estimator.round_trips, 6)),
            low_ms=pl.when(_bounds(estimator)).then(
                pl.max_horizontal(pl.lit(0.0), (shortest / estimator.round_trips).round(6))
            ),
            high_ms=pl.when(_bounds(estimator)).then((longest / estimator.round_trips).round(6)),
            refused_reason=_refusal(estimator),
            standing=pl.lit(estimator.standing),
            again_ms=pl.lit(again and again / estimator.round_trips, pl.Float64),
            may_repeat=(span / (again or math.inf)).floor().clip(0).cast(pl.Int64),
            wait_ms=pl.max_horizontal(
                pl.lit(0.0),
                *(pl.when(network > wait).then(wait / estimator.round_trips) for wait in estimator.waits_ms),
            ),
            ts=pl.col(estimator.end),
            origin=pl.col(estimator.origin),
        )
    )
