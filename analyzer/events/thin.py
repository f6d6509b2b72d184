"""Events → the events that reductions need: what only repeats itself is left in the files.

Half of a debug log is statistics written every few seconds. A repetition says nothing new, and of a cumulative
counter the value before it starts anew is the total. The first and the last of each run stay, so that times do.
"""

from __future__ import annotations

import polars as pl

#: kinds written again and again; a row that says what the one before said is a repetition
REPEATED = (
    "pair_reported",
    "rtt_reported",
    "stats_collected",
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
_KEY = ["kind", "source", "conversation_id", "bearer"]
#: the columns that tell a repetition
READ = ("kind", "source", "conversation_id", "tube_id", *_SAID, *_COUNTED)
#: a counter that names its conversation only is that of the tube last named with it; the next tube's starts anew
_BEARER = pl.coalesce("tube_id", pl.when(pl.col("conversation_id").is_not_null()).then(
    pl.col("tube_id").forward_fill().over("conversation_id")
))  # fmt: skip


def thin(events: pl.DataFrame) -> pl.DataFrame:
    """Drop repetitions from the events of one part of a source, in order."""
    repeated = pl.col("kind").is_in(REPEATED)
    cumulative = pl.col("kind").is_in(CUMULATIVE)
    periodic = events.select(READ).with_row_index("at").with_columns(bearer=_BEARER).filter(repeated | cumulative)
    if periodic.is_empty():
        return events
    # rows of one key side by side and in order: neighbours are compared faster than windows are made
    runs = periodic.select(
        "at",
        *_COUNTED,
        repeated=repeated,
        key=pl.struct(_KEY).hash(),
        said=pl.struct(_SAID).hash(),
    ).sort("key", maintain_order=True)
    follows, goes_on = (pl.col("key").eq(pl.col("key").shift(by)).fill_null(False) for by in (1, -1))
    said = pl.col("said")
    same = follows & goes_on & (said == said.shift()) & (said == said.shift(-1))
    # one counter may start anew while the other grows
    grown = (pl.col(name).is_null() | (pl.col(name).shift(-1) >= pl.col(name)).fill_null(False) for name in _COUNTED)
    grows = goes_on & pl.all_horizontal(grown)
    dropped = runs.filter(pl.when("repeated").then(same).otherwise(grows))["at"]
    kept = pl.Series([True]).new_from_index(0, len(events)).scatter(dropped, False)
    return events.filter(kept)
