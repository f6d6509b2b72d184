"""What the grammars leave unknown: records by logger, and the shapes that no rule takes, each with the draft of one."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from analyzer.accounting.ledger import FURTHER
from analyzer.accounting.shapes import SKELETON_CHARS
from analyzer.api import Dataset
from analyzer.errors import DatasetError
from analyzer.events.targets import stem
from analyzer.grammar import known
from analyzer.grammar.draft import draft
from analyzer.grammar.text import stems
from analyzer.views.text import Cell, Paint, counted, grid, number, paragraph, plain, shown

COUNTS = ("records", "events", "noise", "unmatched")
OTHERS = "other programs"
EMPTY = "No record of the library in {path}: `analyzer ingest LOGS` says what became of each log."
PASTE = (
    "Each draft goes to the file named above it, its name under ?message; its columns want their proper names;\n"
    "what informs nothing is one more beginning under noise. `analyzer explain FILE:LINE` shows the line."
)
NO_GRAMMAR = "no grammar yet: its file is called like the logger"
#: so many shapes are drawn; JSON has all of them
TOP = 20


def _uncounted(dataset: Dataset) -> list[str]:
    """Sources with records that an older version did not count by target."""
    held = dataset.sources.filter(pl.col("records") > pl.col("rejected"))
    missing = held.join(dataset.coverage, left_on="name", right_on="source", how="anti")
    return missing.select(pl.col("name").sort()).collect()["name"].to_list()


def _targets(dataset: Dataset) -> pl.DataFrame:
    """Every target of the library over all sources, the worst covered first."""
    added = dataset.coverage.filter(pl.col("target").is_not_null()).group_by("target").agg(pl.col(COUNTS).sum())
    share = (pl.col("events") + pl.col("noise")) / pl.col("records")
    ranked = added.with_columns(accounted=share).sort(
        "accounted", "unmatched", "records", "target", descending=[False, True, True, False]
    )
    return ranked.collect()


def _drafted(shapes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each shape the file its rule belongs to, if there is one, and the draft; no two of a target alike."""
    taken: dict[str, set[str]] = {}
    found = []
    for shape in (one for one in shapes if one["target"] != FURTHER):
        name = stem(shape["target"])
        grammar = known(name)
        names = taken.setdefault(shape["target"], {kind.name for kind in grammar.kinds} if grammar else set())
        kind, rule = draft(shape["skeleton"], names, cut=len(shape["skeleton"]) >= SKELETON_CHARS)
        names.add(kind)
        found.append({**shape, "grammar": f"grammars/{name}.lark" if name in stems() else None, "rule": rule})
    return found


def gather(dataset: Dataset) -> dict[str, Any]:
    """Gather the counts of each target, the worst covered first, and the unknown shapes in the same order.

    Raises:
        DatasetError: an older version wrote it, which did not count by target.
    """
    uncounted, targets = _uncounted(dataset), _targets(dataset)
    others = dataset.coverage.filter(pl.col("target").is_null()).select(pl.col("records").sum()).collect().item()
    if uncounted and targets.is_empty() and not others:
        raise DatasetError(
            f"{dataset.path} was written before records were counted by logger", "ingest its logs into a new folder"
        )
    rank = {target: place for place, target in enumerate(targets["target"])}
    shapes = dataset.unmatched.sort("target", "skeleton").collect().to_dicts()
    # a source that was not counted may have shapes of a target that no other has
    shapes.sort(key=lambda one: (rank.get(one["target"], len(rank)), -one["count"]))
    return {
        "totals": {name: int(targets[name].sum()) for name in COUNTS},
        "other_programs": int(others),
        "not_counted": uncounted,
        "targets": targets.to_dicts(),
        "shapes": _drafted(shapes),
    }


def _share(row: dict[str, Any]) -> str:
    """The share that is accounted for, rounded down: what is unknown never looks like nothing."""
    return number(math.floor(1000 * (row["events"] + row["noise"]) / row["records"]) / 10, "%")


def _row(name: str, row: dict[str, Any], style: str = "") -> list[Cell | str]:
    counts = [[(f"{row[count]:,}", "yellow" if count == "unmatched" and row[count] else style)] for count in COUNTS]
    return [[(shown(name), style)], *counts, [(_share(row), style)]]


def _shape(shape: dict[str, Any], paint: Paint) -> list[str]:
    head = f"  {paint(counted(shape['count'], 'record'), 'yellow')}, first at {shown(shape['origin'])}"
    rule = [f"    {line}" for line in paragraph(shape["rule"]).split("\n")]
    return [head, f"    {paint(shown(shape['skeleton']), 'dim')}", "", *rule, ""]


def _shapes(shapes: list[dict[str, Any]], paint: Paint) -> list[str]:
    """Draw the most frequent shapes, target by target."""
    most = sorted(range(len(shapes)), key=lambda place: -shapes[place]["count"])[:TOP]
    lines, target = [], None
    for shape in (shapes[place] for place in sorted(most)):
        if shape["target"] != target:
            target = shape["target"]
            file = shape["grammar"] or NO_GRAMMAR
            lines += [f"{paint(shown(target), 'bold')}  {paint(file, 'dim')}", ""]
        lines += _shape(shape, paint)
    if len(shapes) > TOP:
        lines += [f"and {counted(len(shapes) - TOP, 'rarer shape')}; --json has all of them", ""]
    return [*lines, *(paint(line, "dim") for line in PASTE.split("\n"))]


def render(values: dict[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw up the counts, and below them the drafts."""
    if not values["targets"]:
        return EMPTY.format(path=shown(path))
    totals, others = values["totals"], values["other_programs"]
    table: list[list[Cell | str]] = [[[(head, "bold")] for head in ("logger", *COUNTS, "accounted for")]]
    table += [_row(row["target"], row) for row in values["targets"]]
    table.append(_row("all of the library", totals, "bold"))
    lines = grid(table, paint, right=(1, 2, 3, 4, 5), indent=0)
    if others:
        lines += ["", paint(f"{counted(others, 'record')} of {OTHERS}, which are noise", "dim")]
    if values["not_counted"]:
        told = f"{counted(len(values['not_counted']), 'source')} read by an older version and not counted here"
        lines += ["", f"{told}: ingest all logs into a new folder"]
    if not values["shapes"]:
        return "\n".join([*lines, "", "No unknown shape: a rule or a beginning under noise takes every record."])
    unknown = counted(len(values["shapes"]), "unknown shape")
    return "\n".join(
        [*lines, "", f"{unknown}, in the order of the loggers above", "", *_shapes(values["shapes"], paint)]
    )
