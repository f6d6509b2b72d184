"""Which server an estimate of a leg to the relay asked, and whether that is the relay the leg leads to.

A side asks every server it was given, STUN or TURN, for a reflexive candidate, and the first answer makes the first one;
only a TURN server grants an allocation. The two sides may have been given different ones. A leg leads to the relay of the
path, which is the other side's where that side's relay candidate was selected and none of one's own; else to the relay
of one's own. What another server answered is no measure for it, and bounds nothing of it.

Servers are told apart by the addresses of their relay candidates and by the names they were given under: one in common
makes them one. A name and an address cannot be compared; what is not told apart is taken for one server.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.artefacts import OTHER_SERVER
from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_measurements import BY_ALLOCATION, HOLD_REFLEXIVE, TIME_REFLEXIVE
from analyzer.reductions.leg_names import CLIENT, GATEWAY
from analyzer.reductions.peers import OTHER_SIDE

_METHOD = pl.col("method")
_OF_RELAY = pl.col("leg").is_in([CLIENT, GATEWAY])


def _union(*lists: str) -> pl.Expr:
    return pl.concat_list(pl.col(name).fill_null([]) for name in lists).list.unique()


def _of_tubes(facts: Facts) -> pl.DataFrame:
    """`tube_id`, the hosts it was given, and the addresses of relay candidates, its own and those it was told of."""
    host, turn = pl.col("host"), pl.col("turn")
    given = facts.servers.group_by("tube_id").agg(
        stun_hosts=host.filter(~turn).unique(), turn_hosts=host.filter(turn).unique()
    )
    address, local = pl.col("address"), pl.col("direction") == "local"
    seen = facts.candidates.filter(pl.col("candidate_type") == "relay", address.is_not_null())
    relays = seen.group_by("tube_id").agg(
        relays=address.filter(local).unique(), told_relays=address.filter(~local).unique()
    )
    tubes = facts.tubes.select("tube_id", "side").drop_nulls("side")
    return tubes.join(given, on="tube_id", how="left").join(relays, on="tube_id", how="left")


def _ends(facts: Facts, legs: pl.DataFrame) -> pl.DataFrame:
    """The tubes of each conversation, with what is known of the other side's servers, and which end of the path is a relay."""
    ends = facts.streams.links.select("conversation_id", "tube_id").join(_of_tubes(facts), on="tube_id")
    others = (
        ends.group_by("conversation_id", "side")
        .agg(
            other_hosts=pl.col("turn_hosts").explode(empty_as_null=False).drop_nulls().unique(),
            of_other=pl.col("relays").explode(empty_as_null=False).drop_nulls().unique(),
        )
        .with_columns(pl.col("side").replace_strict(OTHER_SIDE, return_dtype=pl.String))
    )
    is_client = pl.col("side") == "client"
    path = legs.select("conversation_id", "client_end", "gateway_end")
    return (
        ends.join(others, on=["conversation_id", "side"], how="left")
        .join(path, on="conversation_id", how="left")
        .with_columns(
            own_end=pl.when(is_client).then("client_end").otherwise("gateway_end"),
            other_end=pl.when(is_client).then("gateway_end").otherwise("client_end"),
            # without the other side's log its candidates are those this side was told of
            other_relays=_union("of_other", "told_relays"),
            own_hosts=pl.when(_some("turn_hosts")).then("turn_hosts").otherwise("stun_hosts"),
            # given under other names than the relay
            foreign_hosts=pl.col("stun_hosts").list.set_difference("turn_hosts"),
        )
    )


def _some(names: str, least: int = 1) -> pl.Expr:
    return (pl.col(names).list.len() >= least).fill_null(False)


def _common(one: str, other: str) -> pl.Expr:
    return (pl.col(one).list.set_intersection(other).list.len() > 0).fill_null(False)


def _apart(one: str, other: str) -> pl.Expr:
    """Whether of two lists that have nothing in common some are of one sort, names or addresses of a family."""
    text = pl.element()
    sort = pl.when(text.str.contains(":")).then(6).when(text.str.contains(r"^[0-9.]+$")).then(4).otherwise(0)
    one_sort, other_sort = (pl.col(names).list.eval(sort) for names in (one, other))
    return ~_common(one, other) & (one_sort.list.set_intersection(other_sort).list.len() > 0).fill_null(False)


def _given(facts: Facts, legs: pl.DataFrame) -> pl.DataFrame:
    """What each tube's estimates may have asked that is not the relay of its path.

    `conversation_id`, `tube_id`; `elsewhere`: that relay is the other side's, and another one than its own; `several`:
    it asked others than its relay for a reflexive candidate, and `relayed` by two; `met`: the STUN server is the other
    side's relay.
    """
    one = _common("relays", "other_relays") | _common("own_hosts", "other_hosts")
    apart = _apart("relays", "other_relays") | _apart("own_hosts", "other_hosts")
    relayed = _some("turn_hosts", 2) & _some("relays", 2)
    return _ends(facts, legs).select(
        "conversation_id",
        "tube_id",
        elsewhere=((pl.col("other_end") == "relay") & (pl.col("own_end") != "relay")).fill_null(False) & ~one & apart,
        several=_some("turn_hosts", 2) | _apart("foreign_hosts", "turn_hosts"),
        relayed=relayed,
        met=_some("foreign_hosts") & (pl.col("stun_hosts").list.set_difference("other_hosts").list.len() == 0),
    )


def _nearer(measurements: pl.DataFrame) -> pl.DataFrame:
    """Generations of tubes whose first reflexive candidate came sooner than the relay can have answered."""
    sound = measurements.filter(_OF_RELAY, pl.col("refused_reason").is_null())
    bounds = sound.group_by("conversation_id", "tube_id", "generation").agg(
        at_most=pl.col("high_ms").filter(_METHOD.is_in(TIME_REFLEXIVE)).min(),
        at_least=pl.col("low_ms").filter(_METHOD.is_in(BY_ALLOCATION)).max(),
    )
    return bounds.select("conversation_id", "tube_id", "generation", nearer=pl.col("at_most") < pl.col("at_least"))


def refused(facts: Facts, measurements: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame | None:
    """Estimates of legs with those refused that may be of another server; None where none is.

    `legs` is what `connection_legs.gathered` gives.
    """
    given = _given(facts, legs).filter(pl.col("elsewhere") | pl.col("several"))
    if given.is_empty():
        return None
    known = measurements.join(given, on=["conversation_id", "tube_id"], how="left", maintain_order="left").join(
        _nearer(measurements), on=["conversation_id", "tube_id", "generation"], how="left", maintain_order="left"
    )
    # of the servers that are asked the STUN server is the other side's relay, and it was the one that answered
    through = pl.col("elsewhere", "met", "nearer").fill_null(False)
    reflexive = _METHOD.is_in(HOLD_REFLEXIVE) & ~(pl.all_horizontal(through) & _METHOD.is_in(TIME_REFLEXIVE))
    allocated = _METHOD.is_in(BY_ALLOCATION) & (pl.col("elsewhere") | pl.col("relayed"))
    other = pl.col("elsewhere").is_not_null() & _OF_RELAY & (reflexive | allocated)
    return known.with_columns(
        pl.when(~other).then(pl.col("low_ms", "high_ms")),
        refused_reason=pl.coalesce("refused_reason", pl.when(other).then(pl.lit(OTHER_SERVER.reason))),
    ).drop("elsewhere", "several", "relayed", "met", "nearer")
