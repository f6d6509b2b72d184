"""Which server an estimate of a leg to the relay asked, and whether that is the relay the leg leads to.

A side asks each server it was given, STUN or TURN, for a reflexive candidate, and the first answer makes the first one;
only a TURN server gives an allocation. The two sides may have been given different ones. A leg leads to the relay of the
path, which is the other side's where that side's relay candidate was selected and none of one's own; else to the relay
of one's own. What another server answered is no measure for it, and bounds nothing of it.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import OTHER_SERVER
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import BY_ALLOCATION, BY_REFLEXIVE, CLIENT, GATEWAY
from analyzer.reductions.peers import OTHER_SIDE
from analyzer.reductions.query import collected

_HOST = r"^(?i:stuns?|turns?):(\[[^\]]*\]|[^:?]+)"
_METHOD = pl.col("method")
_OF_RELAY = pl.col("leg").is_in([CLIENT, GATEWAY])
#: a reflexive candidate that came first, before any other server's could
_TIMED = BY_REFLEXIVE[:2]


def _hosts(facts: Facts) -> pl.DataFrame:
    """Hosts that each tube was given: `tube_id`, `stun_hosts` and `turn_hosts`, in lower case."""
    url = pl.col("server").str.to_lowercase()
    told = facts.streams.events.lazy().filter(url.str.contains(_HOST), pl.col("tube_id").is_not_null())
    named = told.select("tube_id", turn=url.str.starts_with("turn"), host=url.str.extract(_HOST, 1))
    turn, host = pl.col("turn"), pl.col("host")
    return collected(
        named.group_by("tube_id").agg(
            stun_hosts=host.filter(~turn).unique().sort(), turn_hosts=host.filter(turn).unique().sort()
        )
    )


def _ends(facts: Facts, legs: pl.DataFrame) -> pl.DataFrame:
    """The tubes of each conversation with a side: what it was given, the addresses of its relay, and those of the other."""
    own = facts.candidates.filter(pl.col("direction") == "local", pl.col("candidate_type") == "relay")
    relays = own.group_by("tube_id").agg(relays=pl.col("address").drop_nulls().unique().sort())
    ends = (
        facts.streams.links.select("conversation_id", "tube_id")
        .join(facts.tubes.select("tube_id", "side").drop_nulls("side"), on="tube_id")
        .join(_hosts(facts), on="tube_id", how="left")
        .join(relays, on="tube_id", how="left")
        .join(legs.select("conversation_id", "client_end", "gateway_end"), on="conversation_id", how="left")
    )
    other = ends.group_by("conversation_id", "side").agg(
        other_hosts=pl.col("turn_hosts").explode(empty_as_null=False).drop_nulls().unique().sort(),
        other_relays=pl.col("relays").explode(empty_as_null=False).drop_nulls().unique().sort(),
    )
    other = other.with_columns(pl.col("side").replace_strict(OTHER_SIDE, return_dtype=pl.String))
    return ends.join(other, on=["conversation_id", "side"], how="left")


def _some(names: str) -> pl.Expr:
    return pl.col(names).list.len().fill_null(0) > 0


def _apart(one: str, other: str) -> pl.Expr:
    """Whether two lists both hold something, and nothing in common."""
    return _some(one) & _some(other) & (pl.col(one).list.set_intersection(other).list.len() == 0).fill_null(False)


def _given(facts: Facts, legs: pl.DataFrame) -> pl.DataFrame:
    """What each tube's estimates may have asked that is not the relay of its path.

    `conversation_id`, `tube_id`; `elsewhere`: that relay is the other side's, and another one than its own; `several`:
    not all servers it asked for a reflexive candidate are its relay; `met`: the STUN server is the other side's relay.
    """
    is_client = pl.col("side") == "client"
    own_end = pl.when(is_client).then("client_end").otherwise("gateway_end")
    other_end = pl.when(is_client).then("gateway_end").otherwise("client_end")
    foreign = (pl.col("stun_hosts").list.set_difference("turn_hosts").list.len() > 0).fill_null(False)
    return _ends(facts, legs).select(
        "conversation_id",
        "tube_id",
        elsewhere=(other_end == "relay").fill_null(False)
        & (own_end != "relay").fill_null(False)
        & _apart("relays", "other_relays"),
        several=_some("turn_hosts") & foreign,
        met=foreign & (pl.col("stun_hosts") == pl.col("other_hosts")).fill_null(False),
    )


def _nearer(measurements: pl.DataFrame) -> pl.DataFrame:
    """Generations of tubes whose first reflexive candidate came sooner than the relay can have answered."""
    sound = measurements.filter(_OF_RELAY, pl.col("refused_reason").is_null())
    bounds = sound.group_by("conversation_id", "tube_id", "generation").agg(
        at_most=pl.col("high_ms").filter(_METHOD.is_in(_TIMED)).min(),
        at_least=pl.col("low_ms").filter(_METHOD.is_in(BY_ALLOCATION)).max(),
    )
    return bounds.select("conversation_id", "tube_id", "generation", nearer=pl.col("at_most") < pl.col("at_least"))


def refused(facts: Facts, measurements: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame | None:
    """Estimates of legs with those refused that are of another server; None where none is.

    `legs` is what `connection_legs.gathered` gives.
    """
    given = _given(facts, legs).filter(pl.col("elsewhere") | pl.col("several"))
    if given.is_empty():
        return None
    known = measurements.join(given, on=["conversation_id", "tube_id"], how="left", maintain_order="left").join(
        _nearer(measurements), on=["conversation_id", "tube_id", "generation"], how="left", maintain_order="left"
    )
    # of the servers that are asked the STUN server is the other side's relay, and it was the one that answered
    through = pl.col("elsewhere") & pl.col("met") & pl.col("nearer").fill_null(False) & _METHOD.is_in(_TIMED)
    other = _OF_RELAY & (
        (pl.col("elsewhere") & _METHOD.is_in(BY_ALLOCATION)) | (_METHOD.is_in(BY_REFLEXIVE) & ~through)
    )
    wrong = pl.col("elsewhere").is_not_null() & other
    return known.with_columns(
        pl.when(~wrong).then(pl.col("low_ms", "high_ms")),
        refused_reason=pl.coalesce("refused_reason", pl.when(wrong).then(pl.lit(OTHER_SERVER.reason))),
    ).drop("elsewhere", "several", "met", "nearer")
