"""All conversations of a dataset for a person, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from analyzer.api import Dataset
from analyzer.errors import UsageError
from analyzer.inputs import named
from analyzer.views.attempts import ANSWERS, NEVER
from analyzer.views.conversation import OUTCOMES
from analyzer.views.text import NOTHING, Cell, Paint, counted, grid, number, plain, shown

HEADS = ("conversation", "outcome", "started", "sides", "path", "c–r", "r–g", "e2e", "reason")
LEGEND = "c–r client to KRelay, r–g KRelay to gateway, e2e end to end: round trips in ms; C client, G gateway"
ORDER = f"the worst first: {', '.join(OUTCOMES)};\nof one outcome the slowest end to end"
#: how a connection was lost, by the words of `links`
BREAKS = {
    "process_restarted": "process began anew",
    "restart_timed_out": "ICE restart timed out",
    "peer_connection": "path gone",
    "data_channel": "data channel gone",
}
EMPTY = (
    "No conversation in {path}.\n"
    "Its logs name none: they need the library's DEBUG lines. `analyzer ingest LOGS` says what became of each log."
)


@dataclass(frozen=True, slots=True)
class Only:
    """Which conversations are listed: by outcomes, of which any counts, a time they reach into, a log, and how many."""

    outcomes: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    limit: int | None = None


EVERY = Only()


def _kept(dataset: Dataset, only: Only) -> pl.Expr:
    """Whether a row of `conversations` is asked for."""
    if unknown := [name for name in only.outcomes if name not in OUTCOMES]:
        raise UsageError(f"there is no outcome {unknown[0]}", f"they are {', '.join(OUTCOMES)}")
    kept = pl.lit(True)
    if only.outcomes:
        kept &= pl.col("outcome").is_in(only.outcomes)
    if only.since:
        kept &= (pl.col("ended_at") >= only.since).fill_null(False)
    if only.until:
        kept &= (pl.col("started_at") < only.until).fill_null(False)
    if only.source is not None:
        names = dataset.sources.select("name").collect()["name"].to_list()
        kept &= pl.col("sources").list.eval(pl.element().is_in(named(names, only.source, "there are"))).list.any()
    return kept


def gather(dataset: Dataset, only: Only = EVERY) -> dict[str, Any]:
    """Gather conversations with their legs: by outcome, then by end-to-end latency, the worst first.

    Out: `conversations`, how many were `found` before the limit, and `of` how many in all.

    Raises:
        UsageError: there is no such outcome or source.
    """
    rank = pl.col("outcome").replace_strict(list(OUTCOMES), list(range(len(OUTCOMES))), return_dtype=pl.Int8)
    vain = dataset.turn_attempts.filter(pl.col("outcome") != "granted").sort("side", "asked_at", nulls_last=True)
    trouble = vain.group_by("conversation_id", maintain_order=True).agg(
        turn_step=pl.col("step").first(),
        turn_outcome=pl.col("outcome").first(),
        turn_error_code=pl.col("error_code").first(),
    )
    lost = dataset.links.filter("lost").sort("from_at", "tube_id", nulls_last=True)
    breaks = lost.group_by("conversation_id", maintain_order=True).agg(
        lost_ended_by=pl.col("ended_by").last(), lost_cause=pl.col("closing_cause").last()
    )
    joined = (
        dataset.conversations.filter(_kept(dataset, only))
        .join(dataset.connection_legs, on="conversation_id", how="left")
        .join(trouble, on="conversation_id", how="left")
        .join(breaks, on="conversation_id", how="left")
    )
    latency = pl.col("end_to_end_latency_ms")
    ranked = joined.sort(rank, latency, "conversation_id", descending=[False, True, False], nulls_last=True).collect()
    rows = ranked if only.limit is None else ranked.head(only.limit)
    total = dataset.conversations.select(pl.len()).collect().item()
    return {"conversations": rows.to_dicts(), "found": len(ranked), "of": total}


def _reason(row: dict[str, Any]) -> str:
    """What stood in the way of one that never connected, else the reason of its close."""
    if row["outcome"] in NEVER and row["turn_outcome"]:
        asked = "credentials" if row["turn_step"] == "credentials" else "TURN"
        code = "" if row["turn_error_code"] is None else f", {row['turn_error_code']}"
        return f"{asked} {ANSWERS.get(row['turn_outcome'], row['turn_outcome'])}{code}"
    if row["outcome"] == "connected_lost":
        # what a lost connection was closed with is no reason for the loss
        return BREAKS.get(row["lost_ended_by"] if row["lost_ended_by"] in BREAKS else row["lost_cause"], NOTHING)
    return row["close_reason"] or NOTHING


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


def render(found: dict[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw up the list."""
    rows = found["conversations"]
    if not found["of"]:
        return EMPTY.format(path=shown(path))
    if not rows:
        return f"None of the {counted(found['of'], 'conversation')} in {shown(path)} is so."
    years = {row["started_at"].year for row in rows if row["started_at"]}
    layout = "%m-%d %H:%M" if len(years) == 1 else "%Y-%m-%d %H:%M"
    table: list[list[Cell | str]] = [[[(head, "bold")] for head in HEADS], *(_row(row, layout) for row in rows)]
    lines = grid(table, paint, right=(5, 6, 7), indent=0)
    year = f" of {years.pop()}" if len(years) == 1 else ""
    total = f"{counted(found['of'], 'conversation')} in {shown(path)}"
    if found["found"] < found["of"]:
        total = f"{found['found']:,} of {total}"
    if len(rows) < found["found"]:
        total = f"the first {len(rows):,} of {total}"
    notes = (f"{total}; times in UTC{year}", *ORDER.split("\n"), LEGEND)
    return "\n".join([*lines, "", *(paint(line, "dim") for line in notes)])
