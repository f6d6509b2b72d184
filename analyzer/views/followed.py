"""What one round of following logs did, in a line."""

from __future__ import annotations

from typing import Any

from analyzer.pipeline import Ingested
from analyzer.views.text import counted, shown


def gather(done: Ingested) -> dict[str, Any]:
    """Gather what was added as plain values."""
    return {
        "changed": done.changed,
        "sources": done.sources["name"].to_list(),
        "records_added": done.added,
        "conversations": done.conversations,
        "conversations_rebuilt": done.rebuilt,
        "pending_bytes": int(done.sources["pending_bytes"].sum()),
    }


def render(values: dict[str, Any], path: object) -> str:
    """Draw up the line."""
    records = f"{values['records_added']:+,} {'record' if abs(values['records_added']) == 1 else 'records'}"
    told = f"{values['conversations_rebuilt']:,} of {counted(values['conversations'], 'conversation')} rebuilt"
    waiting = f", {values['pending_bytes']:,} B wait for the end of their line" if values["pending_bytes"] else ""
    return f"{shown(path)}: {records} of {counted(len(values['sources']), 'source')}, {told}{waiting}"
