"""Conversations that ended before the tube they shared: each has its own channel, and with that its own end.

A tube goes on for its other conversations when one of their channels is closed, and what it then does is no longer of
that one. Where a tube carries one conversation alone, the two end together, and its channel only tells when that began.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.correlate import Streams
from analyzer.events.links import canonical
from analyzer.events.windows import ENDINGS
from analyzer.reductions.query import collected

_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()
#: kinds that tell a channel's end, the surest of its last moment first: the host was told, its task ended, ends, is to end
_ENDS = ("channel_closed_signalled", "close_reason_retrieved", "channel_closing", "channel_state_changed", "channel_close_requested")  # fmt: skip
#: the tube's own closing tells the host of every channel, before anything else
_BEGINS = ("channel_close_requested", "channel_closing", "channel_state_changed")
_OPENS = ("channel_opened", "channel_seen_open", "channel_received", "channel_state_changed")


def _named(links: pl.DataFrame) -> pl.DataFrame:
    """Conversations by the labels that are theirs: `conversation_id`, `tube_id`, whether it is `shared`, `label`."""
    own = links.with_columns(shared=pl.col("conversation_id").n_unique().over("tube_id") > 1)
    key = ["conversation_id", "tube_id", "shared"]
    names = [own.select(*key, label=pl.col("conversation_id").cast(pl.String))]
    if "other_id" in own.columns:
        names.append(own.select(*key, label=pl.col("other_id").cast(pl.String)))
    return pl.concat(names).drop_nulls().unique()


def own_ends(streams: Streams, tubes: pl.DataFrame) -> pl.DataFrame:
    """The own end of each conversation whose channel ended before its tube began to close, or was lost.

    `tubes` has `tube_id`, `lost` and `lost_seq`. Out: `conversation_id`, `tube_id` and whether it is `shared`, `own_seq`,
    `own_at` and `own_origin` of the first line of that end, `own_gone_seq` and `own_gone_at` of the one that tells it done. A channel
    that opened again behind it has not ended.
    """
    names = _named(streams.links)
    events = collected(
        streams.events.lazy()
        .filter(_KIND.is_in([*ENDINGS, *_ENDS, *_OPENS]), pl.col("tube_id").is_not_null())
        .select("tube_id", "seq", "ts", "origin", "kind", "state", "channel_label")
    )
    closing = events.filter(_KIND.is_in(ENDINGS)).group_by("tube_id").agg(closing_seq=pl.col("seq").min())
    lost = tubes.filter("lost").select("tube_id", "lost_seq")
    told = (
        events.filter(_KIND.is_in([*_ENDS, *_OPENS]), pl.col("channel_label").is_not_null())
        .select(
            "tube_id",
            "seq",
            "ts",
            "origin",
            "kind",
            state=_STATE,
            label=canonical(pl.col("channel_label").cast(pl.String)),
        )
        .join(names, on=["tube_id", "label"])
        .join(closing, on="tube_id", how="left")
        .join(lost, on="tube_id", how="left")
        .filter((pl.col("seq") < pl.min_horizontal("closing_seq", "lost_seq")).fill_null(True))
    )
    # a channel's state tells its opening or its end
    of_state = _KIND == "channel_state_changed"
    opens = _KIND.is_in(_OPENS) & (~of_state | (pl.col("state") == "open").fill_null(False))
    ends = _KIND.is_in(_ENDS) & (~of_state | (pl.col("state") == "closed").fill_null(False))
    key = ["conversation_id", "tube_id", "shared"]
    behind = told.with_columns(opened=pl.col("seq").filter(opens).max().over(key)).filter(
        ends, (pl.col("seq") > pl.col("opened")).fill_null(True)
    )
    ranks = {kind: rank for rank, kind in enumerate(_ENDS)}
    rank = _KIND.cast(pl.String).replace_strict(ranks, return_dtype=pl.Int64)
    begins = _KIND.is_in(_BEGINS)
    return (
        behind.with_columns(begun=pl.col("seq").filter(begins).min().over(key), rank=rank)
        .filter(pl.col("seq") >= pl.col("begun"))
        .sort("seq")
        .group_by(key, maintain_order=True)
        .agg(
            own_seq=pl.col("begun").first(),
            own_at=pl.col("ts").first(),
            own_origin=pl.col("origin").first(),
            own_gone_seq=pl.col("seq").sort_by("rank", maintain_order=True).first(),
            own_gone_at=pl.col("ts").sort_by("rank", maintain_order=True).first(),
        )
    )


def closings(links: pl.DataFrame, tubes: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """When each conversation began to close on each of its tubes: its own channel, or the tube before that.

    `own` is what `own_ends` gives, `tubes` the facts of all. Columns: conversation_id, tube_id, side, scope,
    resolution_ms, closed_at, closed_origin.
    """
    of_tubes = ["side", "scope", "resolution_ms", "closed_at", "closed_origin"]
    first = own.select("conversation_id", "tube_id", "own_seq", "own_at", "own_origin")
    itself = pl.col("own_seq").is_not_null()
    return (
        links.select("conversation_id", "tube_id")
        .join(tubes.select("tube_id", *of_tubes), on="tube_id")
        .join(first, on=["conversation_id", "tube_id"], how="left")
        .with_columns(
            closed_at=pl.when(itself).then("own_at").otherwise("closed_at"),
            closed_origin=pl.when(itself).then("own_origin").otherwise("closed_origin"),
        )
        .drop("own_seq", "own_at", "own_origin")
    )


def within(events: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """Events without those behind the own end of their conversation, which tell of its tube.

    Adds `own_gone_seq` and `own_gone_at`: of an end that another line told, say one that names the tube alone.
    """
    if ends.is_empty():
        # as in nearly all logs
        none = (pl.lit(None, ends.schema[name]).alias(name) for name in ("own_gone_seq", "own_gone_at"))
        return events.with_columns(none)
    key = ["conversation_id", "tube_id"]
    placed = events.join(ends.select(*key, "own_gone_seq", "own_gone_at"), on=key, how="left", maintain_order="left")
    return placed.filter((pl.col("seq") <= pl.col("own_gone_seq")).fill_null(True))
