"""Which candidate pair carried the traffic, as far as the log proves it.

The library always says host/host, so its word is the last resort. In order: the ICE agent's own line (trace level);
the policy or the candidates, where they leave one possibility; the time the controlling agent waited before it
nominated, which webrtc-ice fixes per candidate type (0 host, 0.5 s srflx, 1 s prflx, 2 s relay).
"""

from __future__ import annotations

import polars as pl

from analyzer.events.candidate import parse_pair_candidate
from analyzer.reductions.facts import Facts
from analyzer.reductions.nomination import PEER_REFLEXIVE_WAIT_MS, RELAY_WAIT_MS, check_spans
from analyzer.reductions.peers import met
from analyzer.reductions.query import collected

#: a wait below this nominated a host pair: the next wait of the agent is 500 ms
HOST_WAIT_MS = 450.0
#: ways to know whether the path takes the relay, the surest first; relay_bytes: `relay_bytes.settle`
METHODS = ("ice_agent", "candidates", "nomination_wait", "relay_bytes", "reported")


def _only(types: str, name: str) -> pl.Expr:
    return (pl.col(types).list.len() == 1) & (pl.col(types).list.first() == name)


def _has(types: str, name: str) -> pl.Expr:
    return pl.col(types).list.contains(name).fill_null(False)


def _nat(candidates: pl.LazyFrame, direction: str) -> pl.LazyFrame:
    """Whether address translation stands before one end: `<direction>_nat`, by `tube_id`.

    It does not where an address is shown as host and as server-reflexive; where none is, it does.
    """
    end = candidates.filter(pl.col("direction") == direction, pl.col("address").is_not_null())
    hosts = end.filter(pl.col("candidate_type") == "host").select("tube_id", "address").unique()
    mapped = end.filter(pl.col("candidate_type") == "srflx").select("tube_id", "address").unique()
    same = hosts.join(mapped, on=["tube_id", "address"], how="semi").select("tube_id", same=pl.lit(True)).unique()
    both = mapped.select("tube_id").unique().join(hosts.select("tube_id").unique(), on="tube_id")
    nat = pl.col("same").is_null().alias(f"{direction}_nat")
    return both.join(same, on="tube_id", how="left").select("tube_id", nat)


def _other_end(facts: Facts) -> pl.LazyFrame:
    """What the log of the tube that each one met says of its own candidates."""
    tubes = facts.tubes.lazy().select(
        peer="tube_id", other_turn_only="turn_only", other_types=pl.when("whole").then("local_types")
    )
    return met(facts.streams.links, facts.tubes).join(tubes, on="peer").drop("peer")


def resolve(facts: Facts, fits: pl.DataFrame, offsets: pl.DataFrame) -> pl.DataFrame:
    """Resolve the selected pair of each connected tube; `fits` has the wait that explains its checks, where one does.

    Columns: tube_id, selected_pair_local_type, selected_pair_remote_type, selected_pair_method, with the addresses
    where the agent's line gives them, uses_relay and uses_relay_method.
    """
    first = check_spans(facts, offsets).lazy().select("tube_id", wait_ms="span_ms")
    local = {
        key: expr.alias(f"agent_local_{key}") for key, expr in parse_pair_candidate(pl.col("selected_local")).items()
    }
    remote = {
        key: expr.alias(f"agent_remote_{key}") for key, expr in parse_pair_candidate(pl.col("selected_remote")).items()
    }
    tubes = (
        facts.tubes.lazy()
        .join(first, on="tube_id", how="left")
        .join(_nat(facts.candidates.lazy(), "local"), on="tube_id", how="left")
        .join(_nat(facts.candidates.lazy(), "remote"), on="tube_id", how="left")
        .join(_other_end(facts), on="tube_id", how="left")
        .join(fits.lazy().group_by("tube_id").agg(pl.col("fits_ms").max()), on="tube_id", how="left")
        .with_columns(*local.values(), *remote.values())
        .with_columns(
            remote_types=pl.coalesce(pl.col("remote_types").list.drop_nulls(), "other_types"),
        )
    )
    connected = pl.col("was_connected")
    # that there was no other candidate is known only of a log that has the tube's beginning
    whole = pl.col("whole").fill_null(False)
    relay_here = pl.col("turn_only").fill_null(False) | (whole & _only("local_types", "relay"))
    relay_there = pl.col("other_turn_only").fill_null(False) | (whole & _only("remote_types", "relay"))
    all_host = whole & _only("local_types", "host") & _only("remote_types", "host")
    no_relay = (
        whole & ~_has("local_types", "relay") & ~_has("remote_types", "relay") & pl.col("local_seen").fill_null(False)
    )
    plain_remote = (~pl.col("remote_nat")).fill_null(False) & _has("remote_types", "host")
    # one that is behind it alone is seen by another address than its own
    masked = pl.col("remote_nat").fill_null(False) & ~pl.col("local_nat").fill_null(True)
    # a host without address translation before it answers from its own address, whoever asks
    local_sees_itself = pl.col("local_types").list.contains("host")
    quick = (pl.col("wait_ms") < HOST_WAIT_MS) | (pl.col("fits_ms") == 0)
    # shorter than a relay candidate waits, even one that is first heard of by its checks
    brief = pl.col("fits_ms") < PEER_REFLEXIVE_WAIT_MS
    # one end of the pair is a relay candidate
    slow = pl.col("wait_ms") >= RELAY_WAIT_MS
    hosts_both = _has("local_types", "host") & _has("remote_types", "host")
    local_type = (
        pl.when(~connected).then(None)
        .when(pl.col("agent_local_type").is_not_null()).then("agent_local_type")
        .when(relay_here).then(pl.lit("relay"))
        .when(all_host).then(pl.lit("host"))
        .when(relay_there & local_sees_itself).then(pl.lit("host"))
        .when(quick & hosts_both).then(pl.lit("host"))
    )  # fmt: skip
    remote_type = (
        pl.when(~connected).then(None)
        .when(pl.col("agent_remote_type").is_not_null()).then("agent_remote_type")
        .when(relay_there).then(pl.lit("relay"))
        .when(all_host).then(pl.lit("host"))
        .when(relay_here & plain_remote).then(pl.lit("host"))
        .when(quick & hosts_both & ~relay_here & ~masked).then(pl.lit("host"))
    )  # fmt: skip
    reported = pl.col("reported_local_type").is_not_null() & pl.col("reported_rtt_ms").is_not_null()
    method = (
        pl.when(~connected & ~reported).then(None)
        .when(pl.col("agent_local_type").is_not_null()).then(pl.lit("ice_agent"))
        .when(relay_here | relay_there | all_host).then(pl.lit("candidates"))
        .when(quick & hosts_both).then(pl.lit("nomination_wait"))
        .when(reported).then(pl.lit("reported"))
    )  # fmt: skip
    says_so = method == "reported"
    reports_relay = (pl.col("reported_local_type") == "relay") | (pl.col("reported_remote_type") == "relay")
    uses_relay = (
        pl.when(says_so).then(reports_relay)
        .when(~connected).then(None)
        .when((pl.col("agent_local_type") == "relay") | (pl.col("agent_remote_type") == "relay")).then(True)
        .when(pl.col("agent_local_type").is_not_null()).then(False)
        .when(relay_here | relay_there).then(True)
        .when(all_host | no_relay).then(False)
        .when(quick | brief).then(False)
        .when(slow).then(True)
    )  # fmt: skip
    by_types = relay_here | relay_there | all_host | no_relay
    uses_relay_method = (
        pl.when(says_so).then(pl.lit("reported"))
        .when(pl.col("agent_local_type").is_not_null()).then(pl.lit("ice_agent"))
        .when(by_types).then(pl.lit("candidates"))
        .otherwise(pl.lit("nomination_wait"))
    )  # fmt: skip
    resolved = tubes.select(
        "tube_id",
        "side",
        "was_connected",
        selected_pair_local_type=pl.when(says_so).then("reported_local_type").otherwise(local_type),
        selected_pair_remote_type=pl.when(says_so).then("reported_remote_type").otherwise(remote_type),
        selected_pair_method=method,
        uses_relay=uses_relay,
        uses_relay_method=pl.when(uses_relay.is_not_null()).then(uses_relay_method),
        local_address="agent_local_address",
        local_port="agent_local_port",
        remote_address="agent_remote_address",
        remote_port="agent_remote_port",
    )
    return collected(resolved)
