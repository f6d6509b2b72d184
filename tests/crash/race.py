"""Readers against a writer that commits without a pause: nothing torn, no row twice, no two snapshots in one."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

import analyzer
from analyzer.errors import BusyError
from analyzer.tables.dataset import COMMIT, STATE, read_manifest
from tests.crash.scenarios import committed
from tests.crash.seen import DUCKDB, rows
from tests.crash.trial import forked

#: lines that a source gains with each commit, and lines of a file
GAIN, FILE = 3, 10


def _held(number: int) -> int:
    return GAIN * number


def _commit(number: int, out: Path) -> int:
    """Commit the `number`th state: one source has grown, its last file replaced in place, or a new one begun."""
    lines = _held(number)
    files = {f"a-{first // FILE:05}": ("a", range(first, min(first + FILE, lines))) for first in range(0, lines, FILE)}
    # a file that was full before is there
    return committed(files, str(number), list(files)[: _held(number - 1) // FILE])(out)


def _whole(found: pl.DataFrame) -> str:
    if found.select("source", "line").is_duplicated().any():
        return "a row twice"
    return "right" if len(found) % GAIN == 0 or len(found) % FILE == 0 else "rows missing"


def _by_polars(out: Path) -> str:
    return _whole(rows(out / "events").select("source", "line"))


def _by_duckdb(out: Path) -> str:
    assert DUCKDB
    with DUCKDB.connect() as database:
        query = "select source, line from read_parquet(?)"
        found = database.execute(query, [f"{out}/events/*.parquet"]).fetchall()
    return _whole(pl.DataFrame(found, schema=["source", "line"], orient="row"))


def _by_open(out: Path) -> str:
    try:
        dataset = analyzer.open(out, ["events", "coverage", "unmatched"])
    except BusyError:
        return "busy"
    marks = {dataset.tables[name].collect()["target"].item() for name in ("coverage", "unmatched")}
    if len(marks) != 1 or int(marks.pop()) != dataset.snapshot:
        return "a mixture"
    try:
        events = dataset.tables["events"].select("source", "line").collect()
    except (OSError, pl.exceptions.PolarsError):
        return "raised"  # files of events are read when they are asked for, and may have been replaced by then
    if (out / STATE / COMMIT).exists() or read_manifest(out).snapshot != dataset.snapshot:
        return "moved on"
    return "right" if len(events) == _held(dataset.snapshot) else "a mixture"


READERS: dict[str, Callable[[Path], str]] = {"polars": _by_polars, "open": _by_open}
if DUCKDB:
    READERS["duckdb"] = _by_duckdb
#: what a reader must never be told; all else is right, or loud and gone when asked again
WRONG = ("a row twice", "a mixture")


def _read(out: Path, reader: Callable[[Path], str], told: Path) -> int:
    seen: Counter[str] = Counter()
    while not (out.parent / "over").exists():
        try:
            seen[reader(out)] += 1
        except Exception as error:  # noqa: BLE001 - a reader may say anything while a file is replaced under it
            seen["raised"] += 1
            seen[f"raised {type(error).__name__}"] += 1
    told.write_text(json.dumps(seen))
    return 0


def race(folder: Path, commits: int) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Let a writer make so many commits against a reader of each sort; what each saw, and what was wrong."""
    out = folder / "metrics"
    folder.mkdir(parents=True)
    if not DUCKDB:
        print("  no duckdb: left out")
    forked(lambda: _commit(1, out), folder / "said")
    children = []
    for name, reader in READERS.items():
        child = os.fork()
        if not child:
            os._exit(_read(out, reader, folder / f"{name}.json"))
        children.append(child)

    def write() -> int:
        for number in range(2, commits + 1):
            while code := _commit(number, out):
                if code != 75:  # `open` finishes a commit that it finds sealed, and is a writer for that moment
                    return code
                time.sleep(0.001)
        return 0

    code, said = forked(write, folder / "said")
    (folder / "over").touch()
    for child in children:
        os.waitpid(child, 0)
    seen = {name: json.loads((folder / f"{name}.json").read_text()) for name in READERS}
    return seen, list(_wrong(seen, code, said))


def _wrong(seen: dict[str, dict[str, int]], code: int, said: str) -> Iterator[str]:
    if code:
        yield f"the writer ends with {code}: {said[-500:]}"
    for name, counts in seen.items():
        yield from (f"{name} saw {counts[one]} times {one}" for one in WRONG if counts.get(one))
        if not counts.get("right"):
            yield f"{name} saw nothing right: {counts}"
