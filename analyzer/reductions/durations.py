"""Every estimate of a duration of a set-up, chosen, passed over or refused: what `ice_stats` and `connection_legs` show.

A STUN response and a TURN allocation are network time: they are timed as the legs to the relay are, by the same spans
with the same work of the library taken off, and not parted by round trips. Gathering, ICE and the data channel are
what happened between two states, with all waits: nothing is taken off, and zero is a value. What the library prints is
taken as printed. The credentials' fetch stands for an allocation only where none is told.

Of a conversation with two sides the client's counts where its log tells one; of the data channel the earlier.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from analyzer.reductions import leg_measurements
from analyzer.reductions.artefacts import EPOCH_VALUES, FIRST_CANDIDATE_CLOCK, MAY_BE_HELD, SIX_SECOND_SLEEP
from analyzer.reductions.estimators import FIRST_USE_MS, LAG_MS, PLAUSIBLE_MS, SETUP_MS, Estimator, estimates
from analyzer.reductions.facts import EPOCH_MS, LONGEST_MS, Facts, elapsed_ms
from analyzer.reductions.held_back import SOON_MS
from analyzer.reductions.leg_measurements import ESTIMATORS, HELD_UNSEEN, PRINTED_MS, held_back
from analyzer.reductions.leg_names import (
    CREDENTIAL_FETCH,
    DATA_CHANNEL,
    END_TO_END,
    GATHERING,
    ICE,
    STUN_RESPONSE,
    TURN_ALLOCATION,
)
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER

#: the TURN client sends a request seven times and gives up after 7.8 s; an allocation takes two
ALLOCATION_MS = 2 * 7800.0
#: what is printed of a duration comes behind what is timed, and of several the first
PRINTED_STANDING = 10
#: spans of the legs to the relay that are a duration, too: method → duration, and how long it can be
_SHARED = {
    "gathering_srflx": (STUN_RESPONSE, PLAUSIBLE_MS),
    "host_to_srflx": (STUN_RESPONSE, PLAUSIBLE_MS),
    "gathering_relay": (TURN_ALLOCATION, ALLOCATION_MS),
    "host_to_relay": (TURN_ALLOCATION, ALLOCATION_MS),
}

# behind the sleep every state that had come was told at once
_TOLD_AFTER_SLEEP = (
    SIX_SECOND_SLEEP.reason,
    pl.col("held_back_at").is_not_null() & (elapsed_ms("held_back_at", "ice_connected_at") > -SOON_MS),
)


def _states(leg: str, start: str, end: str, origin: str, standing: int, *unsound: tuple[str, pl.Expr]) -> Estimator:
    """A duration between two states, told by lines as late as one another."""
    return Estimator(
        "state_change", start, end, 1, leg, origin, standing,
        set_up_ms=0.0, plausible_ms=LONGEST_MS, may_be_zero=True, unsound=unsound,
    )  # fmt: skip


#: over generations
DURATION_ESTIMATORS = (
    *(
        replace(one, leg=_SHARED[one.method][0], round_trips=1, plausible_ms=_SHARED[one.method][1])
        for one in ESTIMATORS
        if one.method in _SHARED
    ),
    Estimator(
        "turn_transaction", "turn_requested_at", "turn_allocated_at", 1, TURN_ALLOCATION, "turn_allocated_origin", 0,
        set_up_ms=0.0, plausible_ms=ALLOCATION_MS,
    ),
    _states(GATHERING, "started_at", "completed_at", "completed_origin", 1),
    # the agent's own lines are not held back
    _states(ICE, "agent_checking_at", "agent_connected_at", "agent_connected_origin", 0),
    _states(ICE, "checking_at", "ice_connected_at", "ice_connected_origin", 1, _TOLD_AFTER_SLEEP, HELD_UNSEEN),
)  # fmt: skip
#: over tubes
OF_TUBES = (
    _states(
        DATA_CHANNEL, "connected_at", "channel_open_at", "channel_open_origin", 1,
        # what is told later than the end of the sleep happened then
        held_back("connected_at", SOON_MS), (MAY_BE_HELD, pl.col("may_be_held")),
    ),
)  # fmt: skip
_KIND = pl.col("kind")
_VALUE = pl.col("value_ms")


def _printed(facts: Facts, kind: str, leg: str, method: str, value: str) -> pl.DataFrame:
    """One row per line that prints a duration; `nth` numbers those of a tube."""
    lines = facts.streams.events.lazy().filter(_KIND == kind, pl.col("tube_id").is_not_null()).sort("seq")
    return collected(lines.select(
        *PEER, "ts", "origin", value_ms=value, leg=pl.lit(leg), method=pl.lit(method), nth=pl.int_range(pl.len()).over("tube_id")
    ))  # fmt: skip


def _within_printed(rows: pl.DataFrame) -> pl.DataFrame:
    """Add bounds and standing to printed durations; `off_ms` is what one that was not printed may be off by."""
    off = pl.col("off_ms").fill_null(PRINTED_MS) if "off_ms" in rows.columns else pl.lit(PRINTED_MS)
    return rows.filter(_VALUE.is_not_null()).with_columns(
        low_ms=pl.max_horizontal(pl.lit(0.0), _VALUE - off),
        high_ms=_VALUE + off,
        standing=PRINTED_STANDING + pl.col("nth"),
        refused_reason=pl.lit(None, pl.String),
    )


def _gathering_reported(facts: Facts) -> pl.DataFrame:
    """Durations that the collector printed. Which clock it was told the start by, its own line of the start tells."""
    began = facts.streams.events.lazy().filter(
        _KIND == "gathering_started_reported", pl.col("tube_id").is_not_null(), pl.col("timestamp_ms").is_not_null()
    )
    by_epoch = collected(began.group_by("tube_id").agg(by_epoch=(pl.col("timestamp_ms").abs() >= EPOCH_MS).any()))
    # a host candidate comes with the set-up, any other takes the network
    gathered = facts.candidates.filter(_KIND == "candidate_gathered").sort("seq")
    with_host = gathered.group_by(PEER).agg(soon=pl.col("candidate_type").first() == "host")
    rows = (
        _printed(facts, "gathering_completed_reported", GATHERING, "reported", "duration_ms")
        .join(by_epoch, on="tube_id", how="left", maintain_order="left")
        .join(with_host, on=PEER, how="left", maintain_order="left")
    )
    from_first = ~pl.col("by_epoch").fill_null(True)
    soon = pl.col("soon").fill_null(False)
    sound = _VALUE.is_between(0, LONGEST_MS)
    return (
        _within_printed(rows)
        .with_columns(
            refused_reason=pl.when(~sound)
            .then(pl.lit(EPOCH_VALUES.reason))
            .when(from_first, ~soon)
            .then(pl.lit(FIRST_CANDIDATE_CLOCK.reason))
            .when(_VALUE == 0)
            .then(pl.lit("less than 1 ms, the least that is printed")),
            low_ms=pl.when(sound).then("low_ms"),
            high_ms=pl.when(sound, ~from_first)
            .then("high_ms")
            .when(sound, soon)
            .then(pl.col("high_ms") + LAG_MS + SETUP_MS + FIRST_USE_MS),
        )
        .drop("by_epoch", "soon")
    )


def _fetches(facts: Facts) -> pl.DataFrame:
    """Fetches of credentials, and once more as what may stand for an allocation."""
    # 0.2.24 prints no duration: then the times of the first request and its answer hold it
    tubes = facts.tubes.select("tube_id", "credential_fetch_ms", "relay_count", "resolution_ms")
    allocated = facts.generations.filter(pl.col("turn_allocated_at").is_not_null())["tube_id"].implode()
    told = (pl.col("relay_count") > 0).fill_null(False) | pl.col("tube_id").is_in(allocated)
    rows = _printed(facts, "credentials_fetched", CREDENTIAL_FETCH, "credential_fetch", "duration_ms").join(
        tubes, on="tube_id", how="left", maintain_order="left"
    )
    unprinted = _VALUE.is_null().all().over("tube_id") & (pl.col("nth") == 0)
    rows = rows.with_columns(
        value_ms=pl.when(unprinted).then("credential_fetch_ms").otherwise("value_ms"),
        off_ms=pl.when(unprinted).then(pl.col("resolution_ms") + LAG_MS),
    )
    rows = _within_printed(rows)
    instead = rows.with_columns(
        leg=pl.lit(TURN_ALLOCATION), refused_reason=pl.when(told).then(pl.lit("an allocation is told"))
    )
    return pl.concat([rows, instead]).drop("credential_fetch_ms", "relay_count", "resolution_ms", "off_ms")


def _recorded(facts: Facts) -> pl.DataFrame:
    """What the library would record of servers; no published release does."""
    allocations = _within_printed(
        _printed(facts, "turn_allocation_recorded", TURN_ALLOCATION, "reported", "duration_ms")
    )
    responses = _within_printed(_printed(facts, "stun_response_recorded", STUN_RESPONSE, "reported", "reported_rtt_ms"))
    return pl.concat([
        # it is what it knows of the servers itself; of allocations the last
        allocations.with_columns(standing=-1 - pl.col("nth")),
        responses.with_columns(standing=pl.lit(-1, pl.Int64)),
    ])  # fmt: skip


def _chosen_for_tube(found: pl.DataFrame) -> pl.DataFrame:
    """Mark the best sound estimate of each tube and duration; of STUN responses the best of each generation."""
    sound = pl.col("refused_reason").is_null()
    reported = pl.col("method") == "reported"
    is_stun = pl.col("leg") == STUN_RESPONSE
    # each one that was recorded is a response, and then none is timed
    recorded = (is_stun & reported).any().over("tube_id")
    slot = pl.when(is_stun & reported).then("nth").when(is_stun).then("generation")
    ranked = (
        found.with_columns(slot=slot, able=sound & ~(is_stun & ~reported & recorded))
        .sort("standing", "generation", "value_ms", "method", "ts", nulls_last=True, maintain_order=True)
        .with_row_index("rank")
    )
    best = pl.col("rank").filter("able").min().over("tube_id", "leg", "slot")
    return ranked.with_columns(chosen_for_tube=(pl.col("able") & (pl.col("rank") == best)).fill_null(False))


def _chosen(placed: pl.DataFrame) -> pl.DataFrame:
    """Mark the one of each conversation and duration among those of its tubes."""
    ranked = placed.sort(
        pl.when(pl.col("leg") == DATA_CHANNEL).then("value_ms").otherwise(0.0),
        # an unknown side only where no side is known
        "side", "begins_at", "tube_id", pl.col("slot").neg(), nulls_last=True, maintain_order=True,
    ).with_row_index("place")  # fmt: skip
    best = pl.col("place").filter("chosen_for_tube").min().over("conversation_id", "leg")
    return ranked.with_columns(chosen=(pl.col("chosen_for_tube") & (pl.col("place") == best)).fill_null(False))


def _durations(facts: Facts) -> pl.DataFrame:
    first = facts.generations.filter(pl.col("generation") == 1).select("tube_id", "held_back_at", "delay_ms")
    tubes = facts.tubes.join(first, on="tube_id", how="left").with_columns(generation=pl.lit(None, pl.Int64))
    timed = [estimates(facts.generations, *DURATION_ESTIMATORS), estimates(tubes, *OF_TUBES)]
    printed = pl.concat([_gathering_reported(facts), _fetches(facts), _recorded(facts)], how="diagonal_relaxed")
    sides = facts.tubes.select("tube_id", "side", "begins_at")
    found = (
        pl.concat([*timed, printed], how="diagonal_relaxed")
        .drop("side", "again_ms", "may_repeat", "wait_ms")
        .with_columns(nth=pl.col("nth").cast(pl.Int64))
    )
    links = facts.streams.links.select("conversation_id", "tube_id")
    placed = links.join(_chosen_for_tube(found), on="tube_id", how="inner").join(sides, on="tube_id", how="left")
    return _chosen(placed).drop("standing", "nth", "rank", "able", "slot", "place", "begins_at")


def measure(facts: Facts, relay: pl.DataFrame | None = None) -> pl.DataFrame:
    """All direct estimates of all legs and of all durations, one row each, per conversation of the tube.

    `relay` has the sessions of the relay's own log, joined to tubes.
    """
    return pl.concat([leg_measurements.measure(facts, relay), _durations(facts)], how="diagonal_relaxed")


def of_tubes(measurements: pl.DataFrame) -> pl.DataFrame:
    """Side by side what was chosen for each tube of each conversation: `<leg>_chosen_ms` and `<leg>_by`, the method.

    `stun_responses_ms` has all of them.
    """
    mine = measurements.filter("chosen_for_tube").sort("generation", "ts", "origin", nulls_last=True)
    legs = (END_TO_END, STUN_RESPONSE, TURN_ALLOCATION, CREDENTIAL_FETCH, GATHERING, ICE)
    return _beside(mine, ["conversation_id", "tube_id"], legs).join(
        mine.filter(pl.col("leg") == STUN_RESPONSE).group_by("conversation_id", "tube_id", maintain_order=True).agg(stun_responses_ms=_VALUE),
        on=["conversation_id", "tube_id"], how="left",
    )  # fmt: skip


def of_conversations(measurements: pl.DataFrame) -> pl.DataFrame:
    """Side by side what was chosen for each conversation: `<leg>_chosen_ms` and `<leg>_by`, the method."""
    return _beside(
        measurements.filter("chosen"), ["conversation_id"], (STUN_RESPONSE, TURN_ALLOCATION, ICE, DATA_CHANNEL)
    )


def _beside(chosen: pl.DataFrame, key: list[str], legs: tuple[str, ...]) -> pl.DataFrame:
    return chosen.group_by(key, maintain_order=True).agg(
        expr
        for leg in legs
        for expr in (
            _VALUE.filter(pl.col("leg") == leg).first().alias(f"{leg}_chosen_ms"),
            pl.col("method").filter(pl.col("leg") == leg).first().alias(f"{leg}_by"),
        )
    )
