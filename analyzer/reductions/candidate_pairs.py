"""Candidate pairs that can be told apart: the selected one of each tube, with the evidence for it."""

from __future__ import annotations

import polars as pl

from analyzer.reductions.facts import Facts
from analyzer.tables.declare import Column, Table

CANDIDATE_PAIRS = Table(
    "candidate_pairs",
    row="One candidate pair of one tube that was seen or selected.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube whose log shows it."),
        Column("generation", pl.Int64(), "ICE generation, 1 for the first."),
        Column("local_type", pl.String(), "Type of the local candidate; null where the log leaves it open."),
        Column("local_address", pl.String(), "Address of the local candidate, where the ICE agent names it."),
        Column("remote_type", pl.String(), "Type of the remote candidate; null where the log leaves it open."),
        Column("remote_address", pl.String(), "Address of the remote candidate, where the ICE agent names it."),
        Column("state", pl.String(), "RTCStatsIceCandidatePairState: the selected pair has succeeded."),
        Column("nominated", pl.Boolean(), "Whether it was nominated."),
        Column("rtt_ms", pl.Float64(), "Round-trip time the log proves for the pair; null where none was measured.", unit="ms"),
        Column("method", pl.String(), "ice_agent, candidates, nomination_wait, reported: the evidence."),
    ),
    sort=("conversation_id", "tube_id", "generation", "local_type", "remote_type"),
)  # fmt: skip


def reduce(facts: Facts, selected: pl.DataFrame, measurements: pl.DataFrame) -> pl.DataFrame:
    """List the selected pairs whose types or addresses are known at least on one end."""
    rtt = (
        measurements.filter(
            pl.col("leg") == "end_to_end", pl.col("refused_reason").is_null(), pl.col("tube_id").is_not_null()
        )
        .group_by("conversation_id", "tube_id")
        .agg(rtt_ms=pl.col("value_ms").min())
    )
    known = selected.filter(pl.col("selected_pair_method").is_not_null())
    pairs = facts.streams.links.select("conversation_id", "tube_id").join(known, on="tube_id")
    return CANDIDATE_PAIRS.conform(
        pairs.join(rtt, on=["conversation_id", "tube_id"], how="left").select(
            "conversation_id",
            "tube_id",
            "rtt_ms",
            "local_address",
            "remote_address",
            generation=pl.lit(1, pl.Int64),
            local_type="selected_pair_local_type",
            remote_type="selected_pair_remote_type",
            state=pl.lit("succeeded"),
            nominated=pl.lit(True),
            method="selected_pair_method",
        )
    )
