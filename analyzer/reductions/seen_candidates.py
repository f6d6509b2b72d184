"""Candidates as a log shows them: one row for each that a tube had, from the fullest lines there are."""

from __future__ import annotations

import polars as pl

from analyzer.addresses import address_class
from analyzer.events.candidate import parse_candidates
from analyzer.reductions.query import collected

PEER = ["tube_id", "generation"]
#: kinds of events that tell of a candidate, the fullest first: a poorer one counts only where no fuller one was seen
CANDIDATE_KINDS = (
    "candidate_gathered",
    "remote_candidate_added",
    "session_described",
    "candidate_described",
    "remote_candidate_numbered",
)
_KIND = pl.col("kind")


def _attribute_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Candidates printed as attributes: gathered, received, or inside a session description."""
    direction = {"candidate_gathered": "local", "remote_candidate_added": "remote", "session_described": "local"}
    rows = collected(
        events.lazy()
        .filter(_KIND.is_in(list(direction)))
        .select(
            "seq",
            "ts",
            "origin",
            *PEER,
            "conversation_id",
            "kind",
            direction=_KIND.replace_strict(direction, return_dtype=pl.String),
            attribute=pl.when(_KIND == "session_described")
            .then(pl.col("sdp_candidates"))
            .otherwise(pl.concat_list("candidate")),
        )
        .explode("attribute", empty_as_null=True)
        .filter(pl.col("attribute").is_not_null())
    )
    parsed = parse_candidates(rows["attribute"])
    # descriptions repeat each address for RTCP
    return pl.concat([rows.drop("attribute"), parsed], how="horizontal").filter(
        (_KIND != "session_described") | (pl.col("component") == 1)
    )


def _described_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Candidates printed as split fields, or only as a type."""
    rows = events.lazy().filter(_KIND.is_in(["candidate_described", "remote_candidate_numbered"]))
    outgoing = pl.col("direction") == "OUTGOING"
    described = rows.select(
        "seq", "ts", "origin", *PEER, "conversation_id", "kind",
        pl.col("transport").str.to_lowercase(), "priority", "address", "port", "candidate_type",
        direction=pl.when(_KIND == "remote_candidate_numbered").then(pl.lit("remote"))
        .when(outgoing).then(pl.lit("local")).otherwise(pl.lit("remote")),
    )  # fmt: skip
    return collected(described)


def candidate_rows(events: pl.DataFrame) -> pl.DataFrame:
    """One row per distinct candidate of a tube, generation and direction, from the fullest lines there are."""
    rows = pl.concat([_attribute_rows(events), _described_rows(events)], how="diagonal_relaxed").lazy()
    rank = _KIND.replace_strict({kind: rank for rank, kind in enumerate(CANDIDATE_KINDS)}, return_dtype=pl.Int64)
    fullest = rows.with_columns(rank=rank).filter(
        pl.col("tube_id").is_not_null(), pl.col("rank") == pl.col("rank").min().over(*PEER, "direction")
    )
    identity = ["foundation", "component", "transport", "address", "port", "candidate_type", "related_port"]
    # a type alone tells candidates apart only by their lines
    numbered = pl.when(_KIND == "remote_candidate_numbered").then(pl.col("seq"))
    distinct = (
        fullest.with_columns(numbered=numbered)
        .sort("seq")
        .unique([*PEER, "direction", *identity, "numbered"], keep="first", maintain_order=True)
    )
    return collected(
        distinct.with_columns(
            address_class=address_class(pl.col("address")),
            violations=pl.col("violations").fill_null([]),
            extensions=pl.col("extensions").fill_null([]),
        ).drop("rank", "numbered")
    )
