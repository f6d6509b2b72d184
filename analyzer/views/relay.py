"""What the relay's own log tells of a conversation: a line per session that asked it for an allocation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from analyzer.views.text import NOTHING, counted, shown, size

#: so many sessions are told one by one
TOLD = 4


def _session(row: dict[str, Any]) -> str:
    side = row["side"] or "a side"
    refused = f"refused, error {row['refused_code']}" if row["refusals"] else ""
    if not row["allocations"]:
        return f"{side}: {refused}, no allocation"
    received, sent = (NOTHING if row[name] is None else size(row[name]) for name in ("bytes_received", "bytes_sent"))
    told = f"{side}: {received} from it, {sent} to it" + (f"; {refused}" if refused else "")
    # every log of coturn has times of one kind
    closed = row["ended_at"] is not None or row["ended_s"] is not None
    words = f", in its words: {row['close_reason']}" if row["close_reason"] else ""
    ended = f"ended{words}" if closed else "still open where its log ends"
    if row["given_back"]:
        # coturn calls that a timeout, too
        ended = "given back by the side" if closed else "given back by the side, its end not told"
    return f"{told}; {ended}"


def sessions(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Tell the sessions of a conversation; those of mere bindings and stray requests are left out."""
    asked = [row for row in rows if row["allocations"] or row["refusals"]]
    yield from (shown(_session(row)) for row in asked[:TOLD])
    if len(asked) > TOLD:
        yield f"and {counted(len(asked) - TOLD, 'more session')}; see the table relay_sessions"
