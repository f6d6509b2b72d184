"""Events → the events that tables need: what only repeats itself is left in the files.

Half of a debug log is statistics written every few seconds. A repetition says nothing new: of a run of equal values the
first and the last stay, so that times do. Of a cumulative counter the facts need only the value before it starts anew,
which is the total, and the first one then; what else changed is marked `series_only`, for the time series alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

#: kinds written again and again; a row that says what the one before said is a repetition
REPEATED = (
    "pair_reported",
    "rtt_reported",
    "stats_collected",
    "stats_skipped",
    "candidate_reported",
    "pair_state_seen",
    "pairs_not_formed",
    "connectivity_reported",
    "metrics_summarized",
    "transport_stats_reported",
    "channel_stats_reported",
    "quality_adjusted",
    "turn_received",
    "check_received",
    "candidate_close_failed",
)
#: kinds whose numbers only grow while a tube lives
CUMULATIVE = ("bytes_sent_counted", "bytes_received_counted", "transport_bytes_counted")
_SAID = ("reported_local_type", "reported_remote_type", "reported_rtt_ms")
_COUNTED = ("bytes_sent", "bytes_received")
_KEY = ["kind", "source", "conversation_id", "bearer", "tubes", "channel_label"]
#: the columns that tell a repetition, beside those of the series
READ = ("kind", "source", "conversation_id", "tube_id", "channel_label", *_SAID, *_COUNTED)


def _bearer(*conversation: str) -> pl.Expr:
    """A counter that names its conversation only is of some tube named with it before: of which is told later.

    Where the tube last named, or their number, is another one, so may the counter be.
    """
    last = pl.col("tube_id").forward_fill().over(conversation)
    return pl.coalesce("tube_id", pl.when(pl.col("conversation_id").is_not_null()).then(last))


def _tubes(*conversation: str) -> pl.Expr:
    """How many tubes were named with the conversation so far: with each the counters begin anew."""
    begins = pl.struct(*conversation, "tube_id").is_first_distinct() & pl.col("tube_id").is_not_null()
    return pl.when(pl.col("conversation_id").is_not_null()).then(begins.cum_sum().over(conversation))


def _ties(*conversation: str) -> pl.Expr:
    """A line with another tube of its conversation than the one before ties to it what names the conversation only."""
    return (
        pl.col("tube_id").is_not_null()
        & pl.col("conversation_id").is_not_null()
        & pl.col("tube_id").ne_missing(pl.col("tube_id").forward_fill().shift().over(conversation))
    )


def thin(events: pl.DataFrame, series: Mapping[str, Sequence[str]], *apart: str) -> pl.DataFrame:
    """Drop repetitions from the events of one part of a source, in order, and mark those that are `series_only`.

    `series` has the columns of each kind whose course over time is wanted. Where there are several parts, one after the
    other, the columns `apart` tell them apart.
    """
    repeated = pl.col("kind").is_in(REPEATED)
    cumulative = pl.col("kind").is_in(CUMULATIVE)
    wanted = list(dict.fromkeys(column for columns in series.values() for column in columns))
    periodic = (
        events.select(list(dict.fromkeys((*READ, *wanted, *apart))))
        .with_row_index("at")
        .with_columns(
            bearer=_bearer(*apart, "conversation_id"),
            tubes=_tubes(*apart, "conversation_id"),
            ties=_ties(*apart, "conversation_id"),
        )
        .filter(repeated | cumulative)
    )
    marked = events.with_columns(series_only=pl.lit(False))
    if periodic.is_empty():
        return marked
    # rows of one key side by side and in order: neighbours are compared faster than windows are made
    runs = periodic.select(
        "at",
        "ties",
        *_COUNTED,
        repeated=repeated,
        key=pl.struct(*apart, *_KEY).hash(),
        said=pl.struct(_SAID).hash(),
        course=pl.when(pl.col("kind").is_in(list(series))).then(pl.struct(wanted).hash()),
    ).sort("key", maintain_order=True)
    follows, goes_on = (pl.col("key").eq(pl.col("key").shift(by)).fill_null(False) for by in (1, -1))

    def same(name: str) -> pl.Expr:
        one = pl.col(name)
        return follows & goes_on & one.eq_missing(one.shift()) & one.eq_missing(one.shift(-1))

    # one counter may start anew while the other grows
    grown = (pl.col(name).is_null() | (pl.col(name).shift(-1) >= pl.col(name)).fill_null(False) for name in _COUNTED)
    fell = pl.any_horizontal((pl.col(name).shift() > pl.col(name)).fill_null(False) for name in _COUNTED)
    grows = goes_on & pl.all_horizontal(grown) & ~(follows & fell)
    told = runs.select(
        "at", spared=~pl.col("ties") & pl.when("repeated").then(same("said")).otherwise(grows), still=same("course")
    )
    dropped = told.filter("spared", "still")["at"]
    series_only = told.filter("spared", ~pl.col("still"))["at"]
    kept = pl.Series([True]).new_from_index(0, len(events)).scatter(dropped, False)
    only = pl.Series([False]).new_from_index(0, len(events)).scatter(series_only, True)
    return marked.with_columns(series_only=only).filter(kept)
