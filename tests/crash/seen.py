"""What readers see of a dataset, whatever happened to its writer: each finding is a sentence, none is right."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

import analyzer
from analyzer.errors import AnalyzerError

#: one reader of three, and no dependency; loaded here, once for all trials
DUCKDB = importlib.import_module("duckdb") if importlib.util.find_spec("duckdb") else None


def live(out: Path) -> dict[str, bytes]:
    """Bytes of every file of the tables."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


def rows(table: Path) -> pl.DataFrame:
    """A table as a notebook reads it: all the files that are there."""
    return pl.read_parquet(f"{table}/*.parquet")


def _counts(table: Path) -> Iterator[tuple[str, int]]:
    """Rows of a table by each reader."""
    files = sorted(table.glob("*.parquet"))
    yield "polars", len(rows(table))
    yield "pyarrow", sum(pq.ParquetFile(path).read().num_rows for path in files)
    if DUCKDB:
        with DUCKDB.connect() as database:
            found = database.execute("select count(*) from read_parquet(?)", [f"{table}/*.parquet"]).fetchall()
        yield "duckdb", int(found[0][0])


def _repeated(found: pl.DataFrame, known: list[pl.DataFrame]) -> bool:
    """Whether a line stands there more often than in either dataset: two logs may share a name."""
    counts = [one.group_by("source", "line").len() for one in (found, *known)]
    most = pl.concat(counts[1:]).group_by("source", "line").agg(most=pl.col("len").max())
    return bool(counts[0].join(most, on=["source", "line"]).filter(pl.col("len") > pl.col("most")).height)


def naive(out: Path, old: dict[str, pl.DataFrame], new: dict[str, pl.DataFrame]) -> Iterator[str]:
    """See the tables without help: whole files, no row twice, all old or new, a file if there was one."""
    for name, now in new.items():
        table = out / name
        strange = [path.name for path in table.glob("*") if path.suffix != ".parquet"]
        if strange:
            yield f"{name} holds {strange}"
        if not list(table.glob("*.parquet")):
            if name in old:
                yield f"{name} has no file"
            continue
        try:
            # the one table of several files, by every reader; the others are a file each
            counts = dict(_counts(table)) if name == "events" else {}
            found = rows(table)
        except Exception as error:  # noqa: BLE001 - whatever a reader says is the finding
            yield f"{name} cannot be read: {error}"
            continue
        if len(set(counts.values())) > 1:
            yield f"{name} is of {counts}"
        if name == "events":
            if _repeated(found, [one[name] for one in (old, new) if name in one]):
                yield f"{name} shows a row twice"
            known = pl.concat([one.select("origin") for one in (old.get(name), now) if one is not None])
            if len(found.join(known, on="origin", how="anti")):
                yield f"{name} shows rows of neither dataset"
        elif not any(one is not None and found.equals(one) for one in (old.get(name), now)):
            yield f"{name} is of neither dataset"


def opened(out: Path, allowed: Sequence[dict[str, pl.DataFrame]]) -> Iterator[str]:
    """See the dataset by `analyzer.open`: all tables of one of the snapshots allowed; an empty one is no dataset."""
    names = list(allowed[-1])
    try:
        dataset = analyzer.open(out, names)
        found = {name: dataset.tables[name].collect() for name in names}
    except AnalyzerError as error:
        if {} not in allowed or "holds no dataset" not in error.message:
            yield f"open says {error}"
        return
    if not any(all(one.get(name) is not None and found[name].equals(one[name]) for name in names) for one in allowed):
        yield "open shows a mixture"
