"""Why a candidate pair was not selected: the proofs, in the order in which they are tried."""

from __future__ import annotations

import polars as pl

from analyzer.addresses import is_ipv6
from analyzer.reductions.facts import Facts
from analyzer.reductions.nomination import PEER_REFLEXIVE_WAIT_MS, RELAY_WAIT_MS
from analyzer.reductions.seen_candidates import PEER

# what stands before the colon says it in short
LEFT_OUT = "not listed: {} more pairs; a check list holds 100 (RFC 8445 section 6.1.2.5)"
NEVER_ARRIVED = "never arrived: the other side gathered the remote candidate"
FAMILIES = "not paired: address families differ (RFC 8445 section 6.1.2.2)"
TRANSPORTS = "not paired: transports differ (RFC 8445 section 6.1.2.2)"
COMPONENTS = "not paired: components differ (RFC 8445 section 6.1.2.2)"
NAME = "not paired: the remote address is a name, and no line tells its address"
PRUNED = "pruned: the base of the reflexive candidate is a host candidate (RFC 8445 section 6.1.2.4)"
REMOTE_LATE = "too late: the remote candidate came after the selection"
LOCAL_LATE = "too late: the local candidate was gathered after the selection"
RELAY_LATE = "not yet to be nominated: a relay candidate is after 2 s, a pair was before"
LOWER = "lower priority: than that of the selected pair"
NO_ANSWER = "no answer in time: its priority is higher than that of the selected pair"
OTHER = "not selected: another pair was"
MAY_BE = "may be it: of the selected pair the log tells types only"
NOT_TOLD = "not known from the log: which pair was selected is not told"
FAILED = "checks failed: none succeeded, and ICE failed"
CLOSED = "checks failed: no pair was nominated before the tube closed"
OPEN = "no answer yet: no pair was nominated where the log ends"
NOT_BEGUN = "never checked: ICE did not begin to check"

_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()
#: what leaves it open whether the pair was selected
_OPEN = [MAY_BE, NOT_TOLD]


def _lives(facts: Facts) -> pl.LazyFrame:
    """How far ICE came in each generation; `connected_seq` is the place in the log where it was connected."""
    told = _KIND == "ice_state_changed"
    return (
        facts.streams.events.lazy()
        .filter(pl.col("tube_id").is_not_null())
        .group_by(PEER)
        .agg(
            connected_seq=pl.col("seq").filter(told, _STATE.is_in(["connected", "completed"])).first(),
            ice_failed=(told & (_STATE == "failed")).any(),
            ice_began=(told & _STATE.is_in(["checking", "connected", "completed", "failed"])).any(),
            ice_told=told.any(),
        )
    )


def _family(end: str) -> pl.Expr:
    named = pl.col(f"{end}_address_class").is_in(["mdns", "fqdn"])
    return pl.when(pl.col(f"{end}_address").is_not_null() & ~named).then(is_ipv6(pl.col(f"{end}_address")))


def _differ(column: str) -> pl.Expr:
    return (pl.col(f"local_{column}") != pl.col(f"remote_{column}")).fill_null(False)


def _hosts(facts: Facts) -> pl.LazyFrame:
    """Addresses that are host candidates of their generation: what a reflexive candidate may be the double of."""
    hosts = facts.candidates.lazy().filter(pl.col("direction") == "local", pl.col("candidate_type") == "host")
    return hosts.select(
        *PEER, local_related_address="address", local_related_port="port", base_is_host=pl.lit(True)
    ).unique()


def reasons(facts: Facts, pairs: pl.DataFrame, selected: pl.DataFrame, waits: pl.DataFrame) -> pl.LazyFrame:
    """Pairs with `reason`, and `ruled_out` where it proves that the pair was not selected."""
    known = pl.col("selected_pair_method").is_not_null() & (pl.col("selected_pair_method") != "reported")
    resolved = selected.lazy().select(*PEER, known=known)
    wait = waits.lazy().group_by("tube_id").agg(waited_ms=pl.col("nomination_ms").max())
    rows = (
        pairs.lazy()
        .join(_lives(facts), on=PEER, how="left")
        .join(resolved, on=PEER, how="left")
        .join(wait, on="tube_id", how="left")
        .join(_hosts(facts), on=[*PEER, "local_related_address", "local_related_port"], how="left")
    )
    # the pair was the first generation's, or one of a generation that was told to be connected
    connected = pl.col("connected_seq").is_not_null() | (
        pl.col("was_connected") & (pl.col("generation") == 1) & ~pl.col("ice_failed").fill_null(False)
    )
    possible = pl.col("pair_priority").filter("may_be")
    below = (pl.col("pair_priority") < possible.min().over(PEER)).fill_null(False)
    above = (pl.col("pair_priority") > possible.max().over(PEER)).fill_null(False)
    reflexive = (pl.col("local_type") == "srflx") & pl.col("base_is_host").fill_null(False)
    # a remote relay candidate that is heard of by its checks first counts as peer-reflexive, which waits 1 s
    relay = pl.any_horizontal(
        (pl.col("local_type") == "relay") & (pl.col("side") == "client") & (pl.col("waited_ms") < RELAY_WAIT_MS),
        (pl.col("remote_type") == "relay") & (pl.col("side") == "gateway") & (pl.col("waited_ms") < RELAY_WAIT_MS),
        ((pl.col("local_type") == "relay") | (pl.col("remote_type") == "relay"))
        & (pl.col("waited_ms") < PEER_REFLEXIVE_WAIT_MS),
    ).fill_null(False)
    proofs = (
        (_differ("component"), COMPONENTS),
        (_differ("transport"), TRANSPORTS),
        ((_family("local") != _family("remote")).fill_null(False), FAMILIES),
        (pl.col("remote_address_class").is_in(["mdns", "fqdn"]).fill_null(False), NAME),
        (reflexive, PRUNED),
        ((pl.col("remote_seq") > pl.col("connected_seq")).fill_null(False), REMOTE_LATE),
        ((pl.col("local_seq") > pl.col("connected_seq")).fill_null(False), LOCAL_LATE),
        (connected & relay & ~pl.col("may_be"), RELAY_LATE),
        (connected & pl.col("known") & pl.col("may_be"), MAY_BE),
        (connected & pl.col("known") & below, LOWER),
        (connected & pl.col("known") & above, NO_ANSWER),
        (connected & pl.col("known"), OTHER),
        (connected, NOT_TOLD),
        (pl.col("ice_failed").fill_null(False), FAILED),
        (~pl.col("ice_began").fill_null(False) & pl.col("ice_told").fill_null(False), NOT_BEGUN),
        (pl.col("was_closed") & ~pl.col("was_connected"), CLOSED),
        (~pl.col("was_connected") & pl.col("ice_began").fill_null(False), OPEN),
    )
    said = [pl.when(proof.fill_null(False)).then(pl.lit(reason)) for proof, reason in proofs]
    reason = pl.when(~pl.col("is_selected")).then(pl.coalesce(*said, pl.lit(NOT_TOLD)))
    return rows.with_columns(reason=reason).with_columns(
        ruled_out=pl.col("reason").is_not_null() & ~pl.col("reason").is_in(_OPEN)
    )


def states() -> pl.Expr:
    """What is proved of a pair's state, from `is_selected` and `reason`."""
    return (
        pl.when("is_selected").then(pl.lit("succeeded"))
        .when(pl.col("reason") == FAILED).then(pl.lit("failed"))
    )  # fmt: skip
