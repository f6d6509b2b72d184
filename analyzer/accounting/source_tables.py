"""What the manifest keeps of sources → the tables of them."""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import islice

import polars as pl

from analyzer.accounting.ledger import COVERAGE, SOURCES, merge_shapes
from analyzer.accounting.refusals import refused
from analyzer.tables.entries import Entry

#: so many sources, or rows of them, are looked at as plain values at once
AT_ONCE = 1000


def sources_table(entries: Collection[Entry]) -> pl.DataFrame:
    """Build the table of sources."""
    frames = [SOURCES.empty()]
    rest = iter(entries)
    # the text of many rows is larger than they are
    while some := [entry["row"] for entry in islice(rest, AT_ONCE)]:
        frames.append(pl.read_json(json.dumps(some).encode(), schema=SOURCES.schema))
    return SOURCES.conform(pl.concat(frames))


def resolutions(entries: Collection[Entry]) -> pl.DataFrame:
    """What one unit of the times of each source is worth: `source`, its identity, and `resolution_ms`."""
    rows = [(entry["row"]["identity"], entry["row"]["resolution_ms"]) for entry in entries]
    return pl.DataFrame(rows, schema={"source": pl.String, "resolution_ms": pl.Float64}, orient="row")


def refusals_table(entries: Collection[Entry]) -> pl.DataFrame:
    """Build the table of refusals."""
    # versions before this table did not note them
    return refused(
        (entry["row"]["name"], [*entry.get("refusals", ()), *entry.get("left_out", ())]) for entry in entries
    )


def coverage_table(entries: Collection[Entry]) -> pl.DataFrame:
    """Build the table of coverage."""
    # versions before this table did not count by target
    rows = [(entry["row"]["name"], *row) for entry in entries for row in entry.get("coverage", [])]
    return COVERAGE.conform(pl.DataFrame(rows, schema=COVERAGE.schema, orient="row"))


def unmatched_table(entries: Collection[Entry]) -> pl.DataFrame:
    """Build the table of unmatched shapes."""
    schema = {"source": pl.String, "target": pl.String, "skeleton": pl.String, "count": pl.Int64, "line": pl.Int64}
    rows = [(entry["row"]["name"], *shape) for entry in entries for shape in entry["unmatched"]]
    return merge_shapes(pl.DataFrame(rows, schema=schema, orient="row"))
