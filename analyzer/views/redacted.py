"""What a redaction did, for a person: how much was copied, what is not as it was, and what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analyzer.redact import Copied
from analyzer.views.text import Paint, counted, grid, plain, shown

#: so many remarks are drawn; JSON has all of them
NAMED = 12
UNKNOWN = "unknown"


def gather(done: Sequence[Copied]) -> dict[str, Any]:
    """Gather the copies as plain values, with their totals."""
    return {
        "copies": [asdict(one) for one in done],
        "totals": {"lines": sum(one.lines for one in done), "changed": sum(one.changed for one in done)},
    }


def _remark(copy: dict[str, Any]) -> str | None:
    if copy["problem"] and not copy["lines"]:
        return f"nothing of it is copied: {copy['problem']}"
    if copy["problem"]:
        return f"reading broke off ({copy['problem']}); what came before is in the copy"
    if copy["lines"] and copy["dialect"] == UNKNOWN:
        return "no known dialect: of its lines only the shape is left"
    return None


def render(values: dict[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw up the summary."""
    totals, copies = values["totals"], values["copies"]
    read = f"{counted(len(copies), 'source')}, {counted(totals['lines'], 'line')}"
    lines = [f"{read}, {totals['changed']:,} of them redacted, in {shown(path)}"]
    remarks = [[shown(copy["name"]), shown(remark)] for copy in copies if (remark := _remark(copy))]
    if remarks:
        lines += ["", *grid(remarks[:NAMED], paint)]
        if len(remarks) > NAMED:
            lines.append(f"  and {len(remarks) - NAMED} more; --json lists every source")
    return "\n".join([*lines, "", "Look through the copies before they are sent: a word that no rule knows is kept."])
