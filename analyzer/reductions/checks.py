"""Connectivity checks of the selected pair: requests and the responses that can only be theirs.

Trace lines of the ICE agent tell each STUN Binding request on a pair (RFC 8445 section 7.2.4) and each success
response, but not the transaction. A response is known to be that of a request where this is the only one of its pair
without a response: where a round trip takes longer than the next request waits, or one was lost, nothing is told.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import CLOCK, Facts
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER

_SENT, _ANSWERED = ("check_sent", "pair_nominated"), "check_answered"


def transactions(facts: Facts) -> pl.DataFrame:
    """Find checks with their responses, on the pair that each tube's agent selected last.

    Returns:
        One row each: tube_id, generation, side, those of `CLOCK`, check_sent_at, check_answered_at, check_answered_origin.
    """
    pair = ["tube_id", "local_candidate", "remote_candidate"]
    selected = facts.tubes.select(
        "tube_id",
        "side",
        *CLOCK,
        local_candidate="selected_local",
        remote_candidate="selected_remote",
    ).drop_nulls(pair)
    answered = pl.col("kind") == _ANSWERED
    step = pl.when(answered).then(-1).otherwise(1)
    unanswered = step.cum_sum().over(pair)
    told = facts.streams.events.lazy().filter(
        pl.col("kind").is_in([*_SENT, _ANSWERED]), pl.col("tube_id").is_not_null()
    )
    return (
        collected(told.select("seq", *PEER, "kind", "ts", "origin", "local_candidate", "remote_candidate"))
        .join(selected, on=pair, how="inner")
        .sort("seq")
        .with_columns(
            unanswered=unanswered,
            after_request=(~answered).shift().over(pair),
            check_sent_at=pl.col("ts").shift().over(pair),
        )
        .filter(answered, pl.col("unanswered") == 0, "after_request")
        .select(
            *PEER,
            "side",
            *CLOCK,
            "check_sent_at",
            check_answered_at="ts",
            check_answered_origin="origin",
        )
    )
