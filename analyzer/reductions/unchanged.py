"""Which conversations say what they said before: the fingerprint of everything that their rows are rebuilt from.

A conversation is rebuilt together with those it shares a tube with. Their fingerprint covers their events (which file
of which content, which row, where it was placed), their links, and the sessions of the relay that were joined to them.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import polars as pl

from analyzer.events.correlate import Streams
from analyzer.events.ids import numbered
from analyzer.events.portions import PORTION_ROWS
from analyzer.tables.dataset import STATE
from analyzer.tables.declare import Column, Table

FINGERPRINTS = Table(
    STATE,
    row="One conversation, and what its rows were rebuilt from.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation."),
        Column("fingerprint", pl.String(), "Equal while nothing has changed that its rows depend on."),
    ),
    sort=("conversation_id",),
)
_SEEDS = (0, 1)
#: a number instead of a fingerprint, where a million of them are in memory
_PRINT = pl.col("fingerprint").hash()
_PLACED = ("at", "generation", "series_only", "in_series")
_IDS = ("tube_id", "conversation_id")


def _summed(rows: pl.DataFrame, said: pl.Expr) -> pl.DataFrame:
    """Sums of the hashes of what rows say, by component, to be added up: the order of rows is no matter."""
    sums = [said.hash(seed=seed).sum().alias(f"sum{seed}") for seed in _SEEDS]
    # of one conversation there may be more rows than of a whole batch
    portions = range(0, max(len(rows), 1), PORTION_ROWS)
    return pl.concat([rows.slice(first, PORTION_ROWS).group_by("component").agg(sums) for first in portions])


def fingerprints(
    batch: Streams, left_out: pl.DataFrame, content: pl.DataFrame, relay: pl.DataFrame | None, code: str
) -> pl.DataFrame:
    """Fingerprint of each component of a batch: `component`, `fingerprint`. `code` is what rebuilds it.

    `left_out` has how many of its events are not there (`together.events_of`).
    """
    events = batch.events.select("component", "part", *_PLACED, *_IDS).join(content, on="part", how="left")
    links = batch.links.select("component", "restarted", *_IDS, "other_id", pl.col("link_method").cast(pl.String))
    # of a tube that writes two logs it matters which of them stands first
    parts = events.select("component", "part", "digest").unique()
    order = parts.with_columns(pl.col("part").rank("dense").over("component"))
    sums = [
        _summed(order, pl.struct(pl.exclude("component"))),
        _summed(events.select("component", "digest", "log", *_PLACED, *_IDS), pl.struct(pl.exclude("component"))),
        _summed(links, pl.struct(pl.exclude("component"))),
        _summed(left_out, pl.struct(pl.exclude("component"))),
    ]
    if relay is not None:
        of_tubes = links.select("component", "tube_id").join(relay.drop("number", "scope"), on="tube_id")
        sums.append(_summed(of_tubes, pl.struct(pl.exclude("component"))))
    total = pl.concat(sums).group_by("component").agg(pl.col(f"sum{seed}").sum() for seed in _SEEDS)
    hexadecimal = [pl.col(f"sum{seed}").cast(pl.String) for seed in _SEEDS]
    return total.select("component", fingerprint=pl.concat_str(pl.lit(code), *hexadecimal, separator="-"))


def _written(path: Path | None) -> pl.DataFrame:
    return FINGERPRINTS.empty() if path is None else pl.read_parquet(path, glob=False)


def known(path: Path | None) -> pl.DataFrame:
    """Fingerprints as they were written, each as `print`: `conversation_id`, as a number."""
    return _written(path).select(numbered(pl.col("conversation_id")), print=_PRINT)


def words(path: Path | None, ids: pl.Series) -> pl.Series:
    """Conversations of those fingerprints, which `ids` are the numbers of."""
    named = _written(path)["conversation_id"]
    return named.filter(named.to_frame().select(numbered(pl.all()))["conversation_id"].is_in(ids.implode()))


def same(named: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Those of `named`, conversations and their fingerprints, that `before` (`known`) has as they are."""
    return named.with_columns(print=_PRINT).join(before, on=["conversation_id", "print"], how="semi").drop("print")


def is_of_now(path: Path | None) -> bool:
    """Whether fingerprints were made by the program as it is."""
    if path is None:
        return False
    made = pl.scan_parquet(path, glob=False).select("fingerprint").head(1).collect()["fingerprint"]
    return made.is_empty() or made.str.starts_with(code()).all()


@cache
def code() -> str:
    """What a fingerprint depends on beside the log: the program, and how Polars hashes."""
    digest = hashlib.sha256(pl.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
