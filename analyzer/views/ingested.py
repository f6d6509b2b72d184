"""What an ingest did, for a person: what was read, what it was, what came of it, and what to do next."""

from __future__ import annotations

from typing import Any

import polars as pl

from analyzer.api import Dataset
from analyzer.pipeline import Ingested
from analyzer.views.text import Cell, Paint, counted, grid, plain, shown, size

FATES = {
    "events": "a rule took them",
    "noise": "of other programs, or known to inform nothing",
    "unmatched": "of the library's own, and no rule takes them",
    "rejected": "lines that belong to no record",
}
UNKNOWN = "unknown"
#: a runner-up with this share of the winner's votes makes a vote worth telling
CONTESTED = 0.5
#: so many sources of one remark are named
NAMED = 12


def gather(done: Ingested, dataset: Dataset) -> dict[str, Any]:
    """Gather the outcome as plain values: totals, each source, and the conversations of the whole dataset."""
    connected = dataset.conversations.select("connected").collect().to_series()
    sources = done.sources
    return {
        "changed": done.changed,
        "already_known": list(done.known),
        "totals": {name: int(sources[name].sum()) for name in ("bytes", "lines", "records", *FATES)},
        "dialects": dict(sources["dialect"].value_counts(sort=True).sort("count", "dialect", descending=[True, False]).rows()),
        "conversations": {
            "total": len(connected),
            "connected": int(connected.fill_null(False).sum()),
            "not_connected": int((~connected.fill_null(True)).sum()),
            "unknown": connected.null_count(),
        },
        "sources": sources.to_dicts(),
    }


def _votes(source: dict[str, Any]) -> list[tuple[str, int]]:
    pairs = (vote.rsplit(" ", 1) for vote in (source["dialect_votes"] or "").split(", ") if vote)
    return [(name, int(count)) for name, count in pairs]


def _remarks(source: dict[str, Any]) -> list[str]:
    """What a user should know about one source."""
    remarks = []
    if source["problem"]:
        remarks.append(f"reading broke off ({source['problem']}); what came before is in the tables")
    if source["dialect"] == UNKNOWN and source["lines"]:
        remarks.append(f"{counted(source['lines'], 'line')} set aside: no known dialect; see --dialect")
    elif source["records"] and not source["events"]:
        remarks.append("nothing recognised: no DEBUG line of the library in it")
    if source["cut_lines"]:
        remarks.append(f"{counted(source['cut_lines'], 'line')} longer than the limit, cut there")
    votes = _votes(source)
    if len(votes) > 1 and votes[1][1] >= CONTESTED * votes[0][1]:
        told = ", ".join(f"{name} {count}" for name, count in votes)
        remarks.append(f"its dialect was a close vote: {told}; --dialect decides")
    return remarks


def _conversations(counts: dict[str, int]) -> str:
    parts = [f"{counts['connected']} connected"]
    if counts["not_connected"]:
        parts.append(f"{counts['not_connected']} not connected")
    if counts["unknown"]:
        parts.append(f"{counts['unknown']} unknown")
    return ", ".join(parts)


def render(values: dict[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw up the summary."""
    totals, sources, known = values["totals"], values["sources"], values["already_known"]
    read = f"{counted(len(sources), 'source')}, {counted(totals['lines'], 'line')}, {size(totals['bytes'])}"
    lines = [read] if values["changed"] else [f"{read}: nothing new, {shown(path)} is as it was"]
    if known and values["changed"]:
        lines.append(f"{counted(len(known), 'source')} already in {shown(path)} under this or another name, read once")
    rows: list[list[Cell | str]] = [
        ["dialects", ", ".join(f"{shown(name)} ({count})" for name, count in values["dialects"].items())],
        ["records", f"{totals['records']:,}"],
    ]
    table = grid(rows, paint)
    fates = [[name, f"{totals[name]:,}", [(meaning, "dim")]] for name, meaning in FATES.items()]
    lines += [*table, *grid(fates, paint, right=(1,), indent=4)]
    found = values["conversations"]
    lines.append(f"  conversations  {paint(str(found['total']), 'bold')} in {shown(path)}: {_conversations(found)}")
    remarked = [(source["name"], remark) for source in sources for remark in _remarks(source)]
    if remarked:
        lines += ["", *grid([[shown(name), shown(remark)] for name, remark in remarked[:NAMED]], paint)]
        if len(remarked) > NAMED:
            lines.append(f"  and {len(remarked) - NAMED} more; --json lists every source")
    option = "" if str(path) == "metrics" else f" --data {shown(path)}"
    lines += ["", f"Next: analyzer summarize{option}" if found["total"] else "No conversation yet: the library's DEBUG log is needed."]
    return "\n".join(lines)
