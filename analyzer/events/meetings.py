"""Tubes that met → one conversation: where ids do not tie the two logs together, the candidates they exchanged do.

A candidate is an address and a port that one peer connection had for itself: who was told of it has spoken with its
owner. One private address and port may be had by two machines in two networks; two of them, or one that is public, are
not. A tube that would fit two others fits none.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl

from analyzer.events.correlate import Correlation
from analyzer.events.crowds import within
from analyzer.events.ids import numbered
from analyzer.events.links import CANDIDATES, METHOD
from analyzer.events.portions import in_portions

#: two local zones may be so far apart, and no further (UTC-12 to UTC+14), beside the time that signalling takes
APART = timedelta(hours=27)
#: so many candidates prove a meeting where none of them is public
ENOUGH = 2
#: what is known of a candidate: the tube and the log that tells of it, as its own (`local`) or the peer's, its identity
#: (`key`), its address and port alone (`endpoint`), whether the address is public, and when it was told
ENDPOINTS = pl.Schema(
    {
        "tube_id": pl.String(), "scope": pl.UInt32(), "local": pl.Boolean(), "key": pl.UInt64(),
        "endpoint": pl.UInt64(), "public": pl.Boolean(), "ts": pl.Datetime("us", "UTC"),
    }
)  # fmt: skip


def unmet(known: Correlation) -> pl.DataFrame:
    """Tubes whose peer is in no other log, as far as ids tell (`tube_id`); none where no other log is left."""
    none = known.tubes.select("tube_id").clear()
    if known.tubes["scope"].n_unique() < 2:
        return none
    placed = known.links.select("conversation_id", "tube_id").join(known.tubes, on="tube_id")
    several = pl.col("scope").n_unique().over("conversation_id") > 1
    meeting = in_portions(placed, pl.col("conversation_id"), lambda some: some.filter(several))
    alone = known.tubes.join(meeting, on="tube_id", how="anti")
    return none if alone["scope"].n_unique() < 2 else alone.select("tube_id").unique()


def meetings(endpoints: pl.DataFrame, sides: pl.DataFrame) -> pl.DataFrame:
    """Pairs of tubes that can only have met each other: `one`, `other`, the client first where that is known.

    `endpoints` has the columns `ENDPOINTS`, `sides` has `tube_id` and `side`.
    """
    seen = endpoints.group_by("tube_id", "scope", "local", "key").agg(
        pl.col("endpoint", "public").first(), pl.col("ts").min()
    )
    own, heard = seen.filter("local").drop("local"), seen.filter(~pl.col("local")).drop("local")
    in_time = ((pl.col("ts") - pl.col("ts_right")).abs() <= APART).fill_null(True)
    few = within(own, heard, ["key"])
    matches = (
        own.join(few, on="key", how="semi")
        .join(heard, on="key")
        .filter(pl.col("tube_id") != pl.col("tube_id_right"), pl.col("scope") != pl.col("scope_right"), in_time)
    )
    pairs = (
        matches.group_by(
            one=pl.min_horizontal("tube_id", "tube_id_right"), other=pl.max_horizontal("tube_id", "tube_id_right")
        )
        .agg(found=pl.col("endpoint").n_unique(), public=pl.col("public").any())
        .filter((pl.col("found") >= ENOUGH) | pl.col("public"))
        .join(sides.rename({"tube_id": "one", "side": "one_side"}), on="one", how="left")
        .join(sides.rename({"tube_id": "other", "side": "other_side"}), on="other", how="left")
        .filter(pl.col("one_side").ne_missing(pl.col("other_side")) | pl.col("one_side").is_null())
    )
    fits = pl.concat([pairs["one"], pairs["other"]]).value_counts().filter(pl.col("count") > 1)
    sole = pairs.filter(~pl.col("one").is_in(fits["one"].implode()), ~pl.col("other").is_in(fits["one"].implode()))
    turned = (pl.col("one_side") == "gateway").fill_null(False) | (pl.col("other_side") == "client").fill_null(False)
    return sole.select(
        one=pl.when(turned).then("other").otherwise("one"), other=pl.when(turned).then("one").otherwise("other")
    ).sort("one")


def _lent(links: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Links of tubes that no line ties to a conversation: to those of the tube they met."""
    both = pl.concat([pairs, pairs.select(one="other", other="one")])
    without = both.join(links, left_on="one", right_on="tube_id", how="anti")
    return (
        links.join(without, left_on="tube_id", right_on="other")
        .with_columns(tube_id="one", link_method=pl.lit(CANDIDATES, METHOD))
        .select(links.columns)
    )


def _renamed(links: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Names of one conversation in the two logs, where each of the two tubes has one: `conversation_id`, `told`.

    The client's name stays, since it made the conversation.
    """
    sole = links.filter(pl.len().over("tube_id") == 1).select("conversation_id", "tube_id")
    names = (
        pairs.join(sole.select(one="tube_id", told="conversation_id"), on="one")
        .join(sole.select("conversation_id", other="tube_id"), on="other")
        .filter(pl.col("told") != pl.col("conversation_id"))
        .select("conversation_id", "told")
        .unique()
    )
    # a conversation that would be two others is neither, nor is one that would be another one at the same time
    clear = names.filter(
        pl.len().over("conversation_id") == 1, ~pl.col("conversation_id").is_in(names["told"].implode())
    )
    return clear.sort("conversation_id")


def joined(known: Correlation, pairs: pl.DataFrame) -> Correlation:
    """Let tubes that met be of one conversation; links know its name in their own log as `other_id`.

    The tubes of `pairs` are words, those of `known` numbers.
    """
    if pairs.is_empty():
        return known
    pairs = pairs.select(numbered(pl.all()))
    names = _renamed(known.links, pairs)
    both = (
        pl.concat([known.links, _lent(known.links, pairs)])
        .join(names, on="conversation_id", how="left")
        .with_columns(
            conversation_id=pl.coalesce("told", "conversation_id"),
            other_id=pl.when(pl.col("told").is_not_null()).then("conversation_id"),
            link_method=pl.when(pl.col("told").is_not_null()).then(pl.lit(CANDIDATES, METHOD)).otherwise("link_method"),
        )
        .drop("told")
        .sort("conversation_id", "tube_id")
    )
    return replace(known, links=both, names=names)
