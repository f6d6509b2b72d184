"""Legs as the relay sees them: from its challenge to the request that answers it is one round trip to that side.

The relay answers the first request with 401, and the side sends it again with credentials (RFC 8656 section 5): what
passes between the two lines is the way there, the way back, and next to no work. Both are written by one process and by
one clock, so the distance of the clocks does not matter. Where the relay's log has whole seconds, as it has unless
something that wraps its lines adds a finer time, the span gives bounds and no value.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import WHOLE_SECOND_TIMES
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import OWN_LEG
from analyzer.reductions.peers import OTHER_SIDE
from analyzer.tables.declare import ID

#: what ends the span → method
METHODS = {"relay_allocated": "relay_challenge_to_allocation", "relay_refused": "relay_challenge_to_refusal"}
#: a line is given its time when it is read from the relay, which both ends of the span are alike
LAG_MS = 2.0
#: two times of whole seconds may be this much nearer or further apart
SECOND_MS = 1000.0
#: seconds since the start are told from a time that coturn takes once a second
TICK_MS = 2000.0
#: a longer round trip would have run into the client's own retransmissions
PLAUSIBLE_MS = 5000.0


def estimates(facts: Facts, sessions: pl.DataFrame) -> pl.DataFrame:
    """One row per joined session that was challenged and answered, for every conversation of its tube.

    Columns as in leg_measurements, and `standing`.
    """
    links = facts.streams.links.select("conversation_id", "tube_id")
    mine = sessions.filter(pl.col("asked_us").is_not_null()).with_columns(pl.col("tube_id").cast(ID))
    placed = mine.join(links, on="tube_id", how="inner").join(facts.tubes.select("tube_id", "side"), on="tube_id")
    remote, fine, span = pl.col("is_remote"), pl.col("sub_second"), pl.col("span")
    side = pl.when(remote).then(pl.col("side").replace_strict(OTHER_SIDE, default=None, return_dtype=pl.String))
    told = placed.with_columns(
        side=side.otherwise("side"),
        span=((pl.col("answered_us") - pl.col("asked_us")) / 1000).round(3),
        latest=((pl.col("answered_us") - pl.col("asked_again_us")) / 1000).round(3),
    )
    coarse = pl.when(pl.col("answered_at").is_null()).then(TICK_MS).otherwise(SECOND_MS)
    slack = pl.when(fine).then(LAG_MS).otherwise(coarse)
    return told.select(
        "conversation_id",
        "side",
        tube_id=pl.when(~remote).then("tube_id"),
        generation=pl.when(~remote).then("generation"),
        leg=pl.col("side").replace_strict(OWN_LEG, default=None, return_dtype=pl.String),
        method=pl.col("answered_kind").cast(pl.String).replace_strict(METHODS, return_dtype=pl.String),
        value_ms=pl.when(fine).then(span),
        bias_ms=pl.when(fine).then(pl.lit(0.0)),
        low_ms=pl.max_horizontal(pl.lit(0.0), (pl.col("latest") - slack).round(3)),
        high_ms=(span + slack).round(3),
        refused_reason=pl.when(~fine)
        .then(pl.lit(WHOLE_SECOND_TIMES.reason))
        .when(pl.col("times_asked") > 1)
        .then(pl.lit("the request was repeated"))
        .when(span <= 0)
        .then(pl.lit("the end is not after the start"))
        .when(span > PLAUSIBLE_MS)
        .then(pl.lit("longer than any round trip the library would wait for")),
        standing=pl.lit(1),
        ts="answered_at",
        origin="answered_origin",
    )
