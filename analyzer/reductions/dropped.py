"""Tubes that the library gave up by itself, since the data channel was gone and nobody had closed it.

From 2.1 on a tube whose last channel ended is closed by the library, with a reason that is always Normal. That end is a
peer's goodbye or a loss. A peer that closes says so in the channel first (CloseConnection of connection 0), and what it
gives as reason takes the place of any other; so does the host's. Where the data channel closed unasked and the library
still ends the channel as lost, there was no goodbye. That reason alone is no proof: one mark of it outlives every path
that came back, and a backend that hung up leaves another.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.links import canonical
from analyzer.events.windows import ENDINGS
from analyzer.reductions.query import collected

#: close reasons that mean the path was lost, not that somebody closed it
LOST_REASONS = ("ConnectionLost", "ConnectionFailed")
#: state of an outage that is told by nothing but the data channel
GONE = "closed"
_KIND = pl.col("kind")
_REASONS = ("backend_closed", "close_reason_retrieved")
_TELLS_LOSS = _KIND.is_in(_REASONS) & pl.col("close_reason").is_in(LOST_REASONS)
_SCHEMA = ("tube_id", "down_at", "down_seq", "close_reason", "reason_at", "reason_seq")


def dropped(events: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Tubes given up, with the reason the library told.

    `found` are the changes of state. Out: `tube_id`, `down_at` and `down_seq` of the first data channel that was gone,
    `close_reason`, `reason_at` and `reason_seq`.
    """
    kinds = [*_REASONS, "channel_close_requested", "channel_closing", *ENDINGS]
    lines = (
        events.lazy()
        .filter(_KIND.is_in(kinds), pl.col("tube_id").is_not_null())
        .select("tube_id", "seq", "ts", "kind", "channel_label", "close_reason")
    )
    if collected(lines.filter(_TELLS_LOSS)).is_empty():
        # as in most logs
        return (
            events.clear()
            .select("tube_id", "close_reason", down_at="ts", down_seq="seq", reason_at="ts", reason_seq="seq")
            .select(_SCHEMA)
        )
    own = collected(lines)
    labelled = own.filter(pl.col("channel_label").is_not_null()).select(
        "tube_id", "seq", "ts", "kind", "close_reason", label=canonical(pl.col("channel_label").cast(pl.String))
    )
    key = ["tube_id", "label"]
    reasons = labelled.filter(_TELLS_LOSS).select(*key, "close_reason", reason_seq="seq", reason_at="ts")
    first = (
        own.filter(_KIND.is_in(ENDINGS))
        .sort("seq")
        .group_by("tube_id", maintain_order=True)
        .agg(ended_seq=pl.col("seq").first(), asked=pl.col("close_reason").first().is_not_null())
    )
    requested = labelled.filter(_KIND == "channel_close_requested").group_by(key).agg(requested_seq=pl.col("seq").min())
    closing = labelled.filter(_KIND == "channel_closing").group_by(key).agg(closing_seq=pl.col("seq").max())
    gone = (
        found.filter(pl.col("machine") == "data_channel", pl.col("state") == "closed")
        .group_by(key)
        .agg(down_seq=pl.col("seq").max(), down_at=pl.col("ts").sort_by("seq").last())
    )
    # gone, then its task ended as lost, then the tube was closed, and no step of it was asked for
    unasked = (
        gone.join(closing, on=key)
        .join(first.filter(~pl.col("asked")), on="tube_id")
        .join(requested, on=key, how="left")
        .join(reasons, on=key)
        .filter(
            pl.col("down_seq") < pl.col("closing_seq"),
            pl.col("closing_seq") < pl.col("reason_seq"),
            pl.col("reason_seq") < pl.col("ended_seq"),
            ~(pl.col("requested_seq") < pl.col("closing_seq")).fill_null(False),
        )
    )
    return (
        unasked.sort("reason_seq")
        .group_by("tube_id", maintain_order=True)
        .agg(
            down_at=pl.col("down_at").sort_by("down_seq").first(),
            down_seq=pl.col("down_seq").min(),
            **{name: pl.col(name).first() for name in ("close_reason", "reason_at", "reason_seq")},
        )
        .select(_SCHEMA)
    )


def as_outages(given_up: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Tubes given up as spans without an end, as `life.outages` has them; when the path was lost is not told."""
    if given_up.is_empty():
        return given_up
    ups = found.filter(
        pl.col("machine").is_in(["ice", "peer_connection"]), pl.col("state").is_in(["connected", "completed"])
    )
    before = (
        ups.select("tube_id", "seq", up_before_at="ts")
        .join(given_up.select("tube_id", "down_seq"), on="tube_id")
        .filter(pl.col("seq") < pl.col("down_seq"))
        .sort("seq")
        .group_by("tube_id", maintain_order=True)
        .agg(pl.col("up_before_at").last())
    )
    return given_up.join(before, on="tube_id", how="left").with_columns(
        down_state=pl.lit(GONE), down_machine=pl.lit("data_channel"), early=pl.lit(False)
    )
