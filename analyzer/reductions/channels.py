"""One row per data channel of a tube: when it opened and closed, and what went through it.

The collector prints the counters of every channel of a tube once a second, but not whose they are; the statistics task
prints them with the channel's label, every five seconds and in verbose logs only, and bytes in rounded units. So the
last counters are a channel's where its tube had no other; elsewhere what was printed with its label counts. Counters
are cumulative: the last is the total, and no two of one channel are ever added.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.links import CONTROL, canonical
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import OPENED, Facts, elapsed_ms, sole_tubes
from analyzer.reductions.query import collected
from analyzer.reductions.samples import UNNAMED
from analyzer.tables.declare import Column, Table

#: how counters became a channel's
SOLE, MATCHED, NAMED = "sole_channel", "channel_stats_matched", "channel_stats"
_COUNTED = (*UNNAMED, "channel_stats_reported")
#: a rounded figure stands for all that lie within half of its last digit
_ROUNDED_KIB = 0.005 + 1e-9
WAYS = ("sent", "received")
#: what is counted of each channel
VALUES = tuple(f"{what}_{way}" for way in WAYS for what in ("messages", "bytes"))
_COUNTERS = (
    "seq", "ts", "kind", "scope", "tube_id", "conversation_id", "channel_label", *VALUES, *(f"kilobytes_{way}" for way in WAYS),
    "name", "line",
)  # fmt: skip
_LAST = (
    pl.col("ts").last().alias("counted_at"),
    pl.format("{}:{}", pl.col("name").last().cast(pl.String), pl.col("line").last()).alias("origin"),
)
#: counters are printed every second, or every five: what went through behind the last one is in none
FRESH_MS = 500.0

CHANNELS = Table(
    "channels",
    row="One data channel of a tube, as one side's log tells it.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation of the channel: that of its label where the tube carries it, else that of its lines."),
        Column("tube_id", pl.String(), "Tube of the channel, on one side."),
        Column("side", pl.String(), "Side of the tube: client (offerer), gateway (answerer)."),
        Column("channel", pl.String(), "Label, spelled as conversations are; `control` is the early releases' channel for control messages; null where counters name none."),
        Column("opened_at", TIMESTAMP, "First line that tells it open; where the answerer tells none, its arrival.", source=("channel_opened", "channel_seen_open", "channel_state_changed", "channel_received")),
        Column("closed_at", TIMESTAMP, "First line that tells its end: its task closing, its state, the signal to the host.", source=("channel_closing", "channel_state_changed", "channel_closed", "channel_closed_signalled")),
        Column("close_reason", pl.String(), "First reason told for this channel, by the library's name as of that release.", source=("channel_close_requested", "close_reason_retrieved", "tube_closing")),
        Column("messages_sent", pl.Int64(), "Messages sent, last cumulative counter; the library's own control messages included.", "{message}", _COUNTED),
        Column("messages_received", pl.Int64(), "Messages received, last cumulative counter.", "{message}", _COUNTED),
        Column("bytes_sent", pl.Int64(), "Application bytes sent, with the library's framing of each message; last cumulative counter.", "By", _COUNTED),
        Column("bytes_received", pl.Int64(), "Application bytes received, with the library's framing; last cumulative counter. A zero of any of the four is null where the channel was open longer behind the last counter than before it: it is no total.", "By", _COUNTED),
        Column("counters_method", pl.String(),
               f"{SOLE}: the counters of its tube, which had no other data channel; {MATCHED}: printed with its label, bytes told exactly by the one counter"
               f" of the tube that has as many messages and rounds to the same; {NAMED}: printed with its label, bytes to within 6. Null: not known, or of several channels and nobody says whose."),
        Column("buffered_bytes", pl.Int64(), "Bytes not yet acknowledged by the peer when its task ended; they may still have arrived.", "By", ("channel_closing",)),
        Column("counted_at", TIMESTAMP, "Time of the last counter: what went through later is in none.", source=_COUNTED),
        Column("origin", pl.String(), "`source:line` of the last counter."),
    ),
    sort=("conversation_id", "tube_id", "channel"),
)  # fmt: skip


def labelled(facts: Facts) -> pl.DataFrame:
    """Channels by tube and label, with what their lines tell of them."""
    kind, state = pl.col("kind"), pl.col("state").str.to_lowercase()
    shut = kind.is_in(["channel_closing", "channel_closed", "channel_closed_signalled"]) | (
        (kind == "channel_state_changed") & (state == "closed")
    )
    reasons = kind.is_in(["channel_close_requested", "close_reason_retrieved", "tube_closing"])
    own = facts.streams.links.lazy().select(
        "tube_id", channel=pl.col("conversation_id").cast(pl.String), own="conversation_id"
    )
    return collected(
        facts.streams.events.lazy()
        .filter(pl.col("tube_id").is_not_null(), pl.col("channel_label").is_not_null())
        .with_columns(channel=canonical(pl.col("channel_label").cast(pl.String)))
        .sort("seq")
        .group_by("tube_id", "channel", maintain_order=True)
        .agg(
            pl.col("conversation_id").drop_nulls().first(),
            opened_at=pl.coalesce(
                pl.col("ts").filter(OPENED).min(), pl.col("ts").filter(kind == "channel_received").min()
            ),
            closed_at=pl.col("ts").filter(shut).min(),
            close_reason=pl.col("close_reason").filter(reasons).drop_nulls().first(),
            buffered_bytes=pl.col("buffered_bytes").filter(kind == "channel_closing").last(),
        )
        .join(own, on=["tube_id", "channel"], how="left", maintain_order="left")
        .with_columns(conversation_id=pl.coalesce("own", "conversation_id"))
        .drop("own")
    )


def is_stale() -> pl.Expr:
    """Whether a channel went on behind its last counter, over rows of channels."""
    return (elapsed_ms("counted_at", "closed_at") > FRESH_MS).fill_null(False)


def _unwatched() -> pl.Expr:
    """Whether a channel was open longer behind its last counter than before it."""
    behind, before = elapsed_ms("counted_at", "closed_at"), elapsed_ms("opened_at", "counted_at")
    return (is_stale() & (behind > before)).fill_null(False)


def owners(channels: pl.DataFrame) -> pl.DataFrame:
    """Tubes with data channels: `owner`, the only one, and `shared`, whether there are several."""
    # no release has been seen to count the control channel
    return (
        channels.filter(pl.col("channel") != CONTROL)
        .group_by("tube_id")
        .agg(owner=pl.col("channel").first(), shared=pl.len() > 1)
        .with_columns(owner=pl.when(~pl.col("shared")).then("owner"))
    )


def counters(series: pl.DataFrame) -> pl.DataFrame:
    """What some events of samples count of channels."""
    return series.filter(pl.col("kind").is_in(_COUNTED)).select(_COUNTERS)


def _unnamed(facts: Facts, series: pl.DataFrame) -> pl.DataFrame:
    """Counters that name no channel, each with its tube."""
    # a counter that no tube can be told for is nobody's where several could have written it
    return (
        series.filter(pl.col("kind").is_in(UNNAMED))
        .join(sole_tubes(facts), on=["conversation_id", "scope"], how="left")
        .with_columns(tube_id=pl.coalesce("tube_id", "only"))
        .filter(pl.col("tube_id").is_not_null())
        .sort("seq")
    )


def _of_sole(unnamed: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Last counters of tubes that had one data channel; such counters never fall."""
    rows = unnamed.join(found, on="tube_id", how="left", maintain_order="left").filter(
        ~pl.col("shared").fill_null(False)
    )
    fell = pl.any_horizontal((pl.col(name).drop_nulls().diff() < 0).any() for name in VALUES)
    return (
        rows.group_by("tube_id", channel="owner", maintain_order=True)
        .agg(
            pl.col("conversation_id").drop_nulls().first(),
            *(pl.col(name).filter(pl.col("kind") == f"bytes_{way}_counted").max() for way in WAYS for name in (f"messages_{way}", f"bytes_{way}")),
            *_LAST,
            fell=fell,
        )
        .filter(~pl.col("fell"))
        .select("tube_id", "channel", "conversation_id", *VALUES, "counted_at", "origin", counters_method=pl.lit(SOLE))
    )  # fmt: skip


def _of_named(series: pl.DataFrame, unnamed: pl.DataFrame) -> pl.DataFrame:
    """Last counters printed with a label, their bytes made exact where one counter of the tube can be meant."""
    named = (
        series.filter(pl.col("kind") == "channel_stats_reported", pl.col("tube_id").is_not_null())
        .with_columns(channel=canonical(pl.col("channel_label").cast(pl.String)))
        .sort("seq")
        .group_by("tube_id", "channel", maintain_order=True)
        .agg(
            *(pl.col(f"{what}_{way}").max() for way in WAYS for what in ("messages", "kilobytes")),
            *_LAST,
        )
        .filter(pl.col("channel").is_not_null())
    )
    for way in WAYS:
        count, size, rounded = f"messages_{way}", f"bytes_{way}", f"kilobytes_{way}"
        seen = unnamed.select("tube_id", count, size).drop_nulls().unique()
        fits = (pl.col(size) / 1024 - pl.col(rounded)).abs() <= _ROUNDED_KIB
        exact = (
            named.join(seen, on=["tube_id", count])
            .filter(fits)
            .group_by("tube_id", "channel")
            .agg(pl.col(size).unique())
            .filter(pl.col(size).list.len() == 1)
            .with_columns(pl.col(size).list.first())
        )
        nothing = (pl.col(count) == 0) & (pl.col(rounded) == 0)
        named = (
            named.join(exact, on=["tube_id", "channel"], how="left", maintain_order="left")
            .with_columns(pl.when(nothing).then(0).otherwise(pl.col(size)).alias(size))
            .with_columns(
                pl.col(size).is_not_null().alias(f"exact_{way}"),
                pl.coalesce(size, (pl.col(rounded) * 1024).round().cast(pl.Int64, strict=False)).alias(size),
            )
        )
    method = pl.when(pl.col("exact_sent") & pl.col("exact_received")).then(pl.lit(MATCHED)).otherwise(pl.lit(NAMED))
    return named.select("tube_id", "channel", *VALUES, "counted_at", "origin", counters_method=method)


def reduce(facts: Facts, series: pl.DataFrame, told: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """List the channels; `told` is what `labelled` gives, `found` what `owners` does, `series` the `counters`."""
    unnamed = _unnamed(facts, series)
    sole, named = _of_sole(unnamed, found), _of_named(series, unnamed)
    key = ["tube_id", "channel"]
    counted = pl.concat([sole, named.join(sole, on=key, how="anti")], how="diagonal")
    rows = (
        told.join(counted, on=key, how="full", coalesce=True, nulls_equal=True)
        .with_columns(conversation_id=pl.coalesce("conversation_id", "conversation_id_right"))
        .filter(pl.col("conversation_id").is_not_null())
        # most channels are counted as they open, when nothing has gone through
        .with_columns(pl.when(~((pl.col(name) == 0) & _unwatched())).then(name) for name in VALUES)
        .join(facts.tubes.select("tube_id", "side"), on="tube_id", how="left")
    )
    return CHANNELS.conform(rows.select(CHANNELS.schema.names()))
