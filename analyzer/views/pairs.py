"""The selected candidate pair of each tube and the nearest ones that were not selected, with the reason in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from analyzer.views.conversation import Conversation, Row
from analyzer.views.text import Cell, Paint, grid, shown, side_of

#: so many pairs that were not selected are named
LOSERS = 2


def _end(row: Row, end: str) -> str:
    address, port = row[f"{end}_address"], row[f"{end}_port"]
    place = f" {f'[{address}]' if ':' in address else address}:{port}" if address else ""
    return f"{row[f'{end}_type'] or '?'}{place}"


def _pair(row: Row) -> str:
    return shown(f"{_end(row, 'local')} -> {_end(row, 'remote')}")


def _short(row: Row) -> str:
    """The reason in short: what stands before its colon."""
    return str(row["reason"] or "").split(":")[0]


def _tube(tube: Row, rows: Sequence[Row]) -> list[list[Cell | str]]:
    selected = [row for row in rows if row["nominated"]]
    # one without a local candidate is no pair; one without a priority is the farthest
    losers = sorted(
        (row for row in rows if not row["nominated"] and row["local_type"]),
        key=lambda row: -(row["pair_priority"] or 0),
    )
    named = losers[:LOSERS]
    cells: list[list[Cell | str]] = [[[(f"selected, {row['method']}", "green")], _pair(row)] for row in selected]
    cells += [[[(shown(_short(row)), "dim")], _pair(row)] for row in named]
    rest = Counter(_short(row) for row in rows if not row["nominated"] and row not in named)
    cells += [[[(shown(reason), "dim")], f"{count:,} more"] for reason, count in rest.items()]
    head = [(side_of(tube), "bold")]
    return [[head if not place else "", *row] for place, row in enumerate(cells)]


def render_pairs(one: Conversation, tubes: Sequence[Row], paint: Paint) -> list[str]:
    """List the pairs of the tubes' last generation that has any, or of that of the selected pair."""
    cells: list[list[Cell | str]] = []
    for tube in tubes:
        mine = [row for row in one.pairs if row["tube_id"] == tube["tube_id"]]
        if not mine and tube["total_candidates"] == 0:
            cells.append([[(side_of(tube), "bold")], [("no pair: no local candidate was gathered", "red")]])
            continue
        numbers = [row["generation"] for row in mine if row["nominated"]] or [row["generation"] for row in mine]
        cells += _tube(tube, [row for row in mine if row["generation"] == max(numbers, default=0)])
    return ["", paint("Candidate pairs, local->remote", "bold"), *grid(cells, paint)] if cells else []
