"""All conversations of a dataset for a person, the worst first."""

from __future__ import annotations

from typing import Any

import polars as pl

from analyzer.api import Dataset
from analyzer.views.attempts import ANSWERS, NEVER
from analyzer.views.conversation import OUTCOMES
from analyzer.views.text import NOTHING, Cell, Paint, counted, grid, number, plain, shown

HEADS = ("conversation", "outcome", "started", "sides", "path", "c–r", "r–g", "e2e", "reason")
LEGEND = "c–r client to KRelay, r–g KRelay to gateway, e2e end to end: round trips in ms; C client, G gateway"
ORDER = f"the worst first: {', '.join(OUTCOMES)};\nof one outcome the slowest end to end"
EMPTY = (
    "No conversation in {path}.\n"
    "Its logs name none: they need the library's DEBUG lines. `analyzer ingest LOGS` says what became of each log."
)


def gather(dataset: Dataset) -> list[dict[str, Any]]:
    """Gather every conversation with its legs: by outcome, then by end-to-end latency, the worst first."""
    rank = pl.col("outcome").replace_strict(list(OUTCOMES), list(range(len(OUTCOMES))), return_dtype=pl.Int8)
    vain = dataset.turn_attempts.filter(pl.col("outcome") != "granted").sort("side", "asked_at", nulls_last=True)
    trouble = vain.group_by("conversation_id", maintain_order=True).agg(
        turn_step=pl.col("step").first(),
        turn_outcome=pl.col("outcome").first(),
        turn_error_code=pl.col("error_code").first(),
    )
    joined = dataset.conversations.join(dataset.connection_legs, on="conversation_id", how="left").join(
        trouble, on="conversation_id", how="left"
    )
    latency = pl.col("end_to_end_latency_ms")
    ranked = joined.sort(rank, latency, "conversation_id", descending=[False, True, False], nulls_last=True)
    return ranked.collect().to_dicts()


def _reason(row: dict[str, Any]) -> str:
    """What stood in the way of one that never connected, else the reason of its close."""
    if row["outcome"] in NEVER and row["turn_outcome"]:
        asked = "credentials" if row["turn_step"] == "credentials" else "TURN"
        code = "" if row["turn_error_code"] is None else f", {row['turn_error_code']}"
        return f"{asked} {ANSWERS.get(row['turn_outcome'], row['turn_outcome'])}{code}"
    # what a lost connection was closed with is no reason for the loss
    return (row["close_reason"] if row["outcome"] != "connected_lost" else None) or NOTHING


def _row(row: dict[str, Any], layout: str) -> list[Cell | str]:
    started = row["started_at"]
    return [
        shown(row["conversation_id"]),
        [(row["outcome"], OUTCOMES[row["outcome"]][1])],
        started.strftime(layout) if started else NOTHING,
        " ".join(side[0].upper() for side in row["sides"]) or "?",
        shown(row["path"] or {True: "relay", False: "direct", None: NOTHING}[row["uses_relay"]]),
        number(row["client_to_krelay_latency_ms"]),
        number(row["krelay_to_gateway_latency_ms"]),
        number(row["end_to_end_latency_ms"]),
        shown(_reason(row)),
    ]


def render(rows: list[dict[str, Any]], path: object, paint: Paint = plain) -> str:
    """Draw up the list."""
    if not rows:
        return EMPTY.format(path=shown(path))
    years = {row["started_at"].year for row in rows if row["started_at"]}
    layout = "%m-%d %H:%M" if len(years) == 1 else "%Y-%m-%d %H:%M"
    table: list[list[Cell | str]] = [[[(head, "bold")] for head in HEADS], *(_row(row, layout) for row in rows)]
    lines = grid(table, paint, right=(5, 6, 7), indent=0)
    year = f" of {years.pop()}" if len(years) == 1 else ""
    total = f"{counted(len(rows), 'conversation')} in {shown(path)}; times in UTC{year}"
    return "\n".join([*lines, "", *(paint(line, "dim") for line in (total, *ORDER.split("\n"), LEGEND))])
