"""Every ICE candidate that was seen, local and remote, with the RFC's names and what is wrong about it."""

from __future__ import annotations

import polars as pl

from analyzer.events.candidate import EXTENSION
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import CLOCK, Facts, known_ms
from analyzer.reductions.seen_candidates import PEER
from analyzer.tables.declare import Column, Table

CANDIDATES = Table(
    "candidates",
    row="One ICE candidate of one tube, generation and direction.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube whose log showed it."),
        Column("generation", pl.Int64(), "ICE generation, 1 for the first."),
        Column("direction", pl.String(), "local: gathered by this side; remote: received by it."),
        Column("foundation", pl.String(), "RFC 8445 section 5.1.1.3."),
        Column("component", pl.Int64(), "1 for data, 2 for RTCP."),
        Column("transport", pl.String(), "Transport protocol, lower case."),
        Column("priority", pl.Int64(), "RFC 8445 section 5.1.2."),
        Column("address", pl.String(), "Transport address."),
        Column("address_class", pl.String(), "private, cgnat, public, loopback, link_local, ula, multicast, mdns, fqdn, unspecified."),
        Column("port", pl.Int64(), "Port."),
        Column("candidate_type", pl.String(), "host, srflx, prflx, relay, lower case."),
        Column("related_address", pl.String(), "Base or mapped address it was derived from."),
        Column("related_port", pl.Int64(), "Port of the related address."),
        Column("tcp_type", pl.String(), "active, passive, so (RFC 6544)."),
        Column("extensions", pl.List(EXTENSION), "Other extensions, in their order."),
        Column("ts", TIMESTAMP, "Time of the line."),
        Column("ms_since_gathering_start", pl.Float64(), "From the tube's gathering start of this generation; local candidates only.", unit="ms"),
        Column("violations", pl.List(pl.String()), "What RFC 8839 and RFC 8445 forbid about it; never a reason to drop it."),
        Column("origin", pl.String(), "`source:line`."),
    ),
    sort=("conversation_id", "tube_id", "generation", "direction", "ts", "origin", "priority", "port"),
)  # fmt: skip


def reduce(facts: Facts) -> pl.DataFrame:
    """List the candidates, for every conversation of their tube."""
    started = facts.generations.select(*PEER, "started_at", *CLOCK)
    since = known_ms("started_at", "ts")
    timed = (
        facts.candidates.drop("conversation_id")
        .join(started, on=PEER, how="left")
        .with_columns(ms_since_gathering_start=pl.when(pl.col("direction") == "local", since >= 0).then(since))
    )
    placed = facts.streams.links.select("conversation_id", "tube_id").join(timed, on="tube_id", how="inner")
    return CANDIDATES.loose(placed.select(name for name in placed.columns if name in CANDIDATES.schema))
