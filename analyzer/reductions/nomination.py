"""How long the ICE agent waited, by its own rule, before it nominated a pair.

webrtc-ice nominates a pair only so long after its start as the types in it ask for: 0 ms for host, 500 for srflx, 1000
for prflx, 2000 for relay. The types the agent saw are not those of the candidates: a check that comes before the
candidate it belongs to makes a peer-reflexive one of it. So a relay candidate in the pair proves 2000 ms, and otherwise
the wait is known where only one of the four fits: the wait or a round trip, whichever is longer, then a round trip for
the nomination, found at the agent's next tick.
"""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import Facts, elapsed_ms, known_ms
from analyzer.reductions.leg_names import END_TO_END
from analyzer.tables.declare import ID

WAITS_MS = (0.0, 500.0, 1000.0, 2000.0)
#: a relay candidate that is first heard of by its checks counts as peer-reflexive
PEER_REFLEXIVE_WAIT_MS, RELAY_WAIT_MS = WAITS_MS[2:]
#: the agent looks at its pairs every 200 ms
TICK_MS = 200.0
#: forwarding of the two lines, and a first remote candidate that comes a little after the start
SLACK_MS = 60.0
LAG_MS = 15.0
#: two ends are connected within a round trip and a tick; the waits are 500 ms and more apart
APART_MS = 450.0


def fitting(span: pl.Expr, round_trip: pl.Expr) -> pl.Expr:
    """The one wait that explains a span of checks; null where none or several do."""
    fits = []
    for wait in WAITS_MS:
        least = pl.max_horizontal(pl.lit(wait), round_trip) + round_trip
        fits.append(pl.when(span.is_between(least - LAG_MS, least + TICK_MS + SLACK_MS)).then(pl.lit(wait)))
    possible = pl.concat_list(fits).list.drop_nulls()
    return pl.when(possible.list.len() == 1).then(possible.list.first())


def _torn(facts: Facts, offsets: pl.DataFrame) -> pl.Series:
    """Tubes of pairs that were connected further apart than their clocks are: one was set while they checked."""
    first = facts.generations.filter(pl.col("generation") == 1).select("tube_id", "ice_connected_at")
    ends = offsets.filter(pl.col("refused_reason").is_null()).select(
        pl.col("client_tube_id", "gateway_tube_id").cast(ID), "low_ms", "high_ms"
    )
    for side in ("client", "gateway"):
        ends = ends.join(first.rename({"tube_id": f"{side}_tube_id", "ice_connected_at": side}), on=f"{side}_tube_id")
    later = elapsed_ms("client", "gateway")
    torn = ends.filter((later < pl.col("low_ms") - APART_MS) | (later > pl.col("high_ms") + APART_MS))
    return pl.concat([torn["client_tube_id"], torn["gateway_tube_id"]])


def check_spans(facts: Facts, offsets: pl.DataFrame) -> pl.DataFrame:
    """How long the first checks of each tube took, `span_ms`, from checking to connected; `tube_id`.

    Null where callbacks were held back, or the times do not tell; `offsets` is `clock_offsets`.
    """
    # held-back callbacks make the wait meaningless, and so do whole seconds
    spans = facts.generations.filter(
        pl.col("generation") == 1, ~pl.col("may_be_held"), pl.col("held_back_at").is_null()
    ).select("tube_id", span_ms=known_ms("checking_at", "ice_connected_at"))
    told = (pl.col("span_ms") >= 0) & ~pl.col("tube_id").is_in(_torn(facts, offsets).implode())
    return spans.select("tube_id", pl.when(told).then("span_ms"))


def fitting_waits(facts: Facts, measurements: pl.DataFrame, offsets: pl.DataFrame) -> pl.DataFrame:
    """Columns: conversation_id, tube_id, fits_ms: the one wait that explains the checks of the controlling side.

    Its peer waits as long; with several tubes of one side in turn, which of them met is not told.
    """
    links = facts.streams.links.select("conversation_id", "tube_id")
    round_trips = measurements.filter("chosen", pl.col("leg") == END_TO_END).select(
        "conversation_id", round_trip="value_ms"
    )
    known = (
        links.join(facts.tubes.select("tube_id", "side"), on="tube_id")
        .join(round_trips, on="conversation_id", how="left")
        .join(check_spans(facts, offsets), on="tube_id", how="left")
        .with_columns(fits=pl.when(pl.col("side") == "client").then(fitting(pl.col("span_ms"), pl.col("round_trip"))))
    )
    sole = known.filter(pl.len().over("conversation_id", "side") == 1)
    clients = sole.filter(pl.col("side") == "client").select("conversation_id", of_client="fits")
    gateways = sole.filter(pl.col("side") == "gateway").select("conversation_id", "tube_id")
    of_gateway = gateways.join(clients, on="conversation_id")
    return known.join(of_gateway, on=["conversation_id", "tube_id"], how="left").select(
        "conversation_id", "tube_id", fits_ms=pl.coalesce("fits", "of_client")
    )


def nomination_waits(fits: pl.DataFrame, selected: pl.DataFrame) -> pl.DataFrame:
    """Columns: conversation_id, tube_id, nomination_ms: proved by a relay candidate in the pair, else what fits."""
    relayed = pl.any_horizontal(pl.col("selected_pair_local_type", "selected_pair_remote_type") == "relay")
    proved = relayed & (pl.col("selected_pair_method") != "reported")
    return fits.join(selected.select("tube_id", proved=proved.fill_null(False)), on="tube_id").select(
        "conversation_id",
        "tube_id",
        nomination_ms=pl.when("proved").then(pl.lit(RELAY_WAIT_MS)).otherwise("fits_ms"),
    )
