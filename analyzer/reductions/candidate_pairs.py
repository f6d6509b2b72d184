"""The candidate pairs of each ICE generation, local × remote, with the selected one and why the others are not it.

A reason is given only where the log or a rule proves it: pairing and pruning of RFC 8445 section 6.1.2, and the
agent's own rule, which nominates the best pair that has had an answer, and none before its types have waited long
enough. Checks themselves are told at trace level only, so of most pairs no state is known.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import Facts
from analyzer.reductions.leg_names import END_TO_END
from analyzer.reductions.pair_reasons import LEFT_OUT, NEVER_ARRIVED, reasons, states
from analyzer.reductions.peers import met
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER
from analyzer.tables.declare import Column, Table

#: pairs listed of a generation, as many as a check list holds (RFC 8445 section 6.1.2.5)
LISTED = 100

CANDIDATE_PAIRS = Table(
    "candidate_pairs",
    row="One candidate pair of one tube and generation, the 100 of highest priority; or what is not listed of them.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube whose log shows it."),
        Column("generation", pl.Int64(), "ICE generation, 1 for the first."),
        Column("local_type", pl.String(), "Type of the local candidate; null where the log leaves it open."),
        Column("local_address", pl.String(), "Address of the local candidate, where it is known which one it is."),
        Column("local_port", pl.Int64(), "Its port."),
        Column("remote_type", pl.String(), "Type of the remote candidate; null where the log leaves it open."),
        Column("remote_address", pl.String(), "Address of the remote candidate, where it is known which one it is."),
        Column("remote_port", pl.Int64(), "Its port."),
        Column("pair_priority", pl.Int64(), "2^32·min(G,D) + 2·max(G,D) + (1 if G > D), G of the client, which controls (RFC 8445 section 6.1.2.3)."),
        Column("state", pl.String(), "RTCStatsIceCandidatePairState: succeeded of the selected pair, failed where ICE failed; null where no line tells."),
        Column("nominated", pl.Boolean(), "Whether it was nominated; null where the log leaves it open."),
        Column("reason", pl.String(), "Why it was not selected, as far as the log or RFC 8445 proves it; null for the selected pair."),
        Column("rtt_ms", pl.Float64(), "Round-trip time the log proves for the pair; null where none was measured.", unit="ms"),
        Column("method", pl.String(), "Of the selected pair ice_agent, candidates, nomination_wait, relay_bytes, reported: the evidence."),
    ),
    sort=("conversation_id", "tube_id", "generation", "pair_priority", "local_type", "remote_type", "local_port", "remote_port", "local_address", "remote_address", "reason"),
)  # fmt: skip

_END = ("component", "transport", "priority", "address", "address_class", "port", "candidate_type", "seq")
#: a pair at these ranks of its two sides has as many pairs above it as their product
_GRID = pl.DataFrame(
    [(one, other) for one in range(1, LISTED + 1) for other in range(1, LISTED // one + 1)],
    schema={"local_rank": pl.UInt32, "remote_rank": pl.UInt32},
    orient="row",
)


def _ends(facts: Facts, direction: str, name: str) -> pl.LazyFrame:
    """Candidates of one direction, ranked by priority, with their columns called after their end."""
    found = facts.candidates.lazy().filter(pl.col("direction") == direction)
    related = [] if name == "remote" else ["related_address", "related_port"]
    order = ["priority", "seq"]
    ranked = found.select(*PEER, *_END, *related).sort(order, descending=[True, False], nulls_last=True)
    return ranked.select(
        *PEER,
        pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over(PEER).alias(f"{name}_rank"),
        pl.len().over(PEER).cast(pl.Int64).alias(f"{name}_count"),
        pl.col("candidate_type").alias(f"{name}_type"),
        *(pl.col(column).alias(f"{name}_{column}") for column in (*_END, *related) if column != "candidate_type"),
    )


def _selected_generation(facts: Facts) -> pl.LazyFrame:
    """The generation whose selected pair is resolved: the agent's own word is its last, the rest is of the first."""
    kind, state = pl.col("kind"), pl.col("state").str.to_lowercase()
    connected = (kind == "ice_state_changed") & state.is_in(["connected", "completed"])
    return (
        facts.streams.events.lazy()
        .filter(pl.col("tube_id").is_not_null())
        .group_by("tube_id")
        .agg(
            generation=pl.coalesce(
                pl.col("generation").filter(kind == "pair_selected").last(),
                pl.col("generation").filter(connected).first(),
                pl.lit(1, pl.Int64),
            )
        )
    )


def _narrowed(ends: pl.LazyFrame, selected: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Candidates of one end that may be the selected pair's: by its address where told, else by its type."""
    wanted = selected.select(
        *PEER,
        want_type=f"selected_pair_{name}_type",
        want_address=f"{name}_address",
        want_port=f"{name}_port",
    )
    found = ends.join(wanted, on=PEER)
    by_address = (pl.col(f"{name}_address") == pl.col("want_address")) & (pl.col(f"{name}_port") == pl.col("want_port"))
    by_type = pl.col("want_type").is_null() | (pl.col(f"{name}_type") == pl.col("want_type"))
    fits = pl.when(pl.col("want_address").is_not_null()).then(by_address).otherwise(by_type)
    return found.filter(fits).select(*PEER, f"{name}_rank")


def _pair_priority(side: pl.Expr) -> pl.Expr:
    """RFC 8445 section 6.1.2.3, where both priorities are lawful and the role is known; the offerer controls."""
    lawful = pl.col("local_priority").is_between(1, 2**31 - 1) & pl.col("remote_priority").is_between(1, 2**31 - 1)
    least = pl.min_horizontal("local_priority", "remote_priority")
    most = pl.max_horizontal("local_priority", "remote_priority")
    controlling = pl.when(side == "client").then("local_priority").when(side == "gateway").then("remote_priority")
    greater = (controlling == most) & (least < most)
    return pl.when(lawful & controlling.is_not_null()).then(2**32 * least + 2 * most + greater.cast(pl.Int64))


def _matrix(facts: Facts, selected: pl.DataFrame) -> pl.LazyFrame:
    """Pairs of each generation that can be among the first hundred, those that may be the selected one marked."""
    local, remote = _ends(facts, "local", "local"), _ends(facts, "remote", "remote")
    types = pl.col("selected_pair_method").is_not_null() & (pl.col("selected_pair_method") != "reported")
    known = selected.lazy().filter(types)
    may_local, may_remote = _narrowed(local, known, "local"), _narrowed(remote, known, "remote")
    sole = pl.len().over(PEER) == 1
    exact = may_local.filter(sole).join(may_remote.filter(sole), on=PEER)
    bounds = local.select(*PEER, "local_count").unique().join(remote.select(*PEER, "remote_count").unique(), on=PEER)
    grid = bounds.join(_GRID.lazy(), how="cross").filter(
        pl.col("local_rank") <= pl.col("local_count"), pl.col("remote_rank") <= pl.col("remote_count")
    )
    places = pl.concat(
        [grid.select(*PEER, "local_rank", "remote_rank"), exact.select(*PEER, "local_rank", "remote_rank")]
    ).unique()
    return (
        places.join(local, on=[*PEER, "local_rank"])
        .join(remote, on=[*PEER, "remote_rank"])
        .join(exact.with_columns(is_selected=pl.lit(True)), on=[*PEER, "local_rank", "remote_rank"], how="left")
        .join(may_local.with_columns(local_may=pl.lit(True)), on=[*PEER, "local_rank"], how="left")
        .join(may_remote.with_columns(remote_may=pl.lit(True)), on=[*PEER, "remote_rank"], how="left")
        .with_columns(
            is_selected=pl.col("is_selected").fill_null(False),
            may_be=pl.col("local_may").fill_null(False) & pl.col("remote_may").fill_null(False),
        )
        .join(facts.tubes.lazy().select("tube_id", "side", "was_connected", "was_failed", "was_closed"), on="tube_id")
        .with_columns(pair_priority=_pair_priority(pl.col("side")))
    )


def _hundred(matrix: pl.LazyFrame) -> pl.LazyFrame:
    """The pairs of highest priority of each generation, the selected one among them."""
    order = ["is_selected", "pair_priority", "local_rank", "remote_rank"]
    in_order = matrix.sort(order, descending=[True, True, False, False], nulls_last=True, maintain_order=True)
    return in_order.filter(pl.int_range(pl.len()).over(PEER) < LISTED)


def _left_out(listed: pl.LazyFrame) -> pl.LazyFrame:
    """A row for each generation that has more pairs than are listed, which says how many."""
    counts = listed.group_by(PEER).agg(
        more=pl.col("local_count").first() * pl.col("remote_count").first() - pl.len().cast(pl.Int64)
    )
    return counts.filter(pl.col("more") > 0).select(*PEER, reason=pl.format(LEFT_OUT, "more"))


def _never_arrived(facts: Facts) -> pl.LazyFrame:
    """Candidates the other side's log gathered and this one never received, where just one tube of each side met."""
    # numbers of generations are each side's own
    once = facts.tubes.lazy().filter(pl.col("generations") == 1).select("tube_id")
    tubes = (
        met(facts.streams.links, facts.tubes).join(once, on="tube_id").join(once, left_on="peer", right_on="tube_id")
    )
    named = facts.candidates.lazy().filter(pl.col("address").is_not_null(), pl.col("port").is_not_null())
    received = named.filter(pl.col("direction") == "remote").select("tube_id", "address", "port").unique()
    gathered = named.filter(pl.col("direction") == "local").select(
        "address", "port", "candidate_type", "generation", peer="tube_id"
    )
    return (
        # a log that names no remote candidate at all does not show that one is missing
        tubes.join(received.select("tube_id").unique(), on="tube_id", how="semi")
        .join(gathered, on="peer")
        .join(received, on=["tube_id", "address", "port"], how="anti")
        .select(
            *PEER,
            remote_type="candidate_type",
            remote_address="address",
            remote_port="port",
            nominated=pl.lit(False),
            reason=pl.lit(NEVER_ARRIVED),
        )
    )


def reduce(facts: Facts, selected: pl.DataFrame, measurements: pl.DataFrame, waits: pl.DataFrame) -> pl.DataFrame:
    """List the pairs of every generation, and the selected pair by its types where no candidate can be named for it."""
    resolved = collected(selected.lazy().join(_selected_generation(facts), on="tube_id"))
    listed = collected(_hundred(_matrix(facts, resolved)))
    rows = collected(reasons(facts, listed, resolved, waits).with_columns(state=states(), nominated=_nominated()))
    named = rows.lazy().filter("is_selected").select(PEER)
    told = resolved.lazy().filter(pl.col("selected_pair_method").is_not_null())
    unnamed = told.join(named, on=PEER, how="anti").select(
        *PEER,
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        local_type="selected_pair_local_type",
        remote_type="selected_pair_remote_type",
        state=pl.lit("succeeded"),
        nominated=pl.lit(True),
    )
    shown = [name for name in CANDIDATE_PAIRS.schema if name in rows.columns]
    pairs = pl.concat(
        [rows.lazy().select(shown), unnamed, _left_out(listed.lazy()), _never_arrived(facts)], how="diagonal_relaxed"
    ).join(told.select(*PEER, method="selected_pair_method"), on=PEER, how="left")
    best = measurements.lazy().filter("chosen_for_tube", pl.col("leg") == END_TO_END)
    rtt = best.select("conversation_id", "tube_id", rtt_ms="value_ms")
    placed = facts.streams.links.lazy().select("conversation_id", "tube_id").join(pairs, on="tube_id")
    chosen = pl.col("nominated").fill_null(False)
    return CANDIDATE_PAIRS.loose(
        collected(
            placed.join(rtt, on=["conversation_id", "tube_id"], how="left").with_columns(
                rtt_ms=pl.when(chosen).then("rtt_ms"), method=pl.when(chosen).then("method")
            )
        )
    )


def _nominated() -> pl.Expr:
    return pl.when("is_selected").then(True).when("ruled_out").then(False)
