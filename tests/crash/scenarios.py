"""What is done while the disk fails: a dataset as it was, a deed that changes it, and the datasets that may be seen.

Two sorts: `ingest` runs the command over small logs; `commit` makes the same kinds of commits of few rows by hand, in
milliseconds, so that every operation can be tried.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from analyzer import cli
from analyzer.catalogue import TABLES
from analyzer.errors import AnalyzerError
from analyzer.tables.dataset import writing
from tests.truth import ROOT

CASES = ROOT / "fixtures" / "cases"

#: what a deed does to the dataset at a folder, as a command: it gives an exit code
Deed = Callable[[Path], int]
#: files of a commit: name → (first and last line of its rows, what marks them)
Files = Mapping[str, tuple[str, range]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` builds the old dataset, `deed` is what is interrupted, `clean` gives the new one from nothing."""

    name: str
    before: tuple[Deed, ...]
    deed: Deed
    clean: Deed
    tables: tuple[str, ...] = tuple(TABLES)


def _frame(table: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    return TABLES[table].conform(pl.DataFrame(rows, schema=TABLES[table].schema))


def committed(events: Files, mark: str, there: Collection[str] = ()) -> Deed:
    """Make the dataset hold exactly these files of events, and tables of one row that say which commit this is.

    Files that are `there` already are not written again.
    """

    def deed(out: Path) -> int:
        try:
            with writing(out) as commit:
                for relative in list(commit.files):
                    if relative.startswith("events/") and relative[7:-8] not in events:
                        commit.remove(relative)
                for name, (source, lines) in events.items():
                    if name in there:
                        continue
                    rows = [
                        {"kind": "k", "source": source, "line": line, "origin": f"{source}:{line}"} for line in lines
                    ]
                    commit.write(TABLES["events"], _frame("events", rows), name)
                for table in ("coverage", "unmatched"):
                    commit.write(TABLES[table], _frame(table, [{"target": mark}]))
                commit.sources["s"] = {"mark": mark}
                commit.publish()
        except AnalyzerError as error:
            sys.stderr.write(f"analyzer: {error}\n")
            return error.exit_code
        return 0

    return deed


_ONE: Files = {"a-00000": ("a", range(4)), "a-00001": ("a", range(4, 6))}
#: name → files before (none: nothing) and after
_COMMITS: dict[str, tuple[Files | None, Files]] = {
    "first": (None, _ONE),
    "added": (_ONE, {**_ONE, "b-00000": ("b", range(3))}),
    "grown": (_ONE, {**_ONE, "a-00001": ("a", range(4, 9)), "a-00002": ("a", range(9, 11))}),
    "renamed": (_ONE, {"c-00000": ("a", range(5)), "c-00001": ("a", range(5, 9))}),
    "regrouped": (_ONE, {"a-00000": ("a", range(2)), "a-00001": ("a", range(2, 6))}),
    "shifted": (_ONE, {"a-00000": ("a", range(5)), "a-00001": ("a", range(5, 6)), "a-00002": ("a", range(6, 8))}),
    "moved": (
        {"shared-aa": ("a", range(6)), "shared-bb": ("b", range(3))},
        {"shared-bb": ("b", range(3)), "shared-cc": ("a", range(2)), "shared-dd": ("a", range(2, 9))},
    ),
    "begun": ({"none": ("", range(0))}, _ONE),
    "emptied": (_ONE, {"none": ("", range(0))}),
}


def commits() -> Iterator[Scenario]:
    """Commits of few rows, one per way in which files are added, replaced, removed, and pass rows to each other."""
    for name, (old, new) in _COMMITS.items():
        deed = committed(new, f"new {name}")
        before = (committed(old, "old"),) if old is not None else ()
        yield Scenario(f"commit {name}", before, deed, deed, ("events", "coverage", "unmatched"))


def ingesting(*logs: Path) -> Deed:
    """Run `analyzer ingest` over logs, in this process."""

    def deed(out: Path) -> int:
        sys.argv = ["analyzer", "ingest", "--out", str(out), *map(str, logs)]
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0

    return deed


def ingests(scratch: Path) -> Iterator[Scenario]:
    """Runs of the command: the first, one that adds a source, one of a grown source, one of rotated logs."""
    whole = (CASES / "tracing" / "plain.log").read_bytes()
    other = (CASES / "backend_connect" / "gateway.log").read_bytes()
    cut = whole.index(b"\n", len(whole) // 2) + 1
    for folder, files in {
        "small": {"app.log": whole[:cut]},
        "whole": {"app.log": whole},
        "other": {"gateway.log": other},
        "rotated": {"app.log.2.gz": gzip.compress(whole[:cut], mtime=0), "app.log": whole[cut:]},
    }.items():
        (scratch / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (scratch / folder / name).write_bytes(data)
    small, app, gateway = (
        scratch / "small" / "app.log",
        scratch / "whole" / "app.log",
        scratch / "other" / "gateway.log",
    )
    rotated = (scratch / "rotated" / "app.log.2.gz", scratch / "rotated" / "app.log")
    yield Scenario("ingest first", (), ingesting(app), ingesting(app))
    yield Scenario("ingest added", (ingesting(app),), ingesting(gateway), ingesting(app, gateway))
    yield Scenario("ingest grown", (ingesting(small),), ingesting(app), ingesting(app))

    def _both(out: Path) -> int:
        # bytes that are known keep the name they had
        return ingesting(small)(out) or ingesting(*rotated)(out)

    yield Scenario("ingest rotated", (ingesting(small),), ingesting(*rotated), _both)
