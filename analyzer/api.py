"""A dataset for programs: its tables as LazyFrames of one snapshot, and the statistics in the library's nested shape.

In: the folder that `analyzer ingest` wrote. Out: frames; what a frame shows does not change while others ingest.
"""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import polars as pl

from analyzer.catalogue import EVENTS, TABLES
from analyzer.errors import BusyError, DatasetError, UnknownConversation
from analyzer.events.links import canonical
from analyzer.tables.dataset import COMMIT, STATE, Manifest, read_manifest, writing
from analyzer.tables.declare import Table
from analyzer.views.live_stats import live_stats

ATTEMPTS = 3
#: a commit is some renames; by then it is over
_PAUSE_SECONDS = 0.2
#: so many of the nearest ids are named to somebody who mistyped one
NEAREST = 3
#: so many files that may be replaced are held open, of those that a process may have
MOST_HELD = 50


def _canonical(text: str) -> str:
    return str(pl.select(canonical(pl.lit(text))).item())


def _first_few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:NEAREST]) + (f" and {len(ids) - NEAREST} more" if len(ids) > NEAREST else "")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One snapshot of a dataset; each table is an attribute, as in `dataset.ice_stats.collect()`."""

    path: Path
    snapshot: int
    #: every table by name
    tables: dict[str, pl.LazyFrame] = field(repr=False)

    def __getattr__(self, name: str) -> pl.LazyFrame:
        if name in TABLES and name in self.tables:
            return self.tables[name]
        raise AttributeError(f"no table is called {name}; there are {', '.join(TABLES)}")

    def __dir__(self) -> list[str]:
        return sorted((*object.__dir__(self), *self.tables))

    def get_live_stats(self, conversation_id: str) -> dict[str, Any] | None:
        """Give the statistics of a conversation in the library's nested shape; None for an unknown id.

        `conversation_id` may be spelled in any base64 form. The side is the client's, where its log was read; of
        several tubes in turn the last.
        """
        mine = pl.col("conversation_id") == _canonical(conversation_id)
        side_first = pl.col("side").replace_strict({"client": 0, "gateway": 1}, default=2, return_dtype=pl.Int8)
        seen = self.candidates.group_by("tube_id").agg(last=pl.col("ts").max())
        tubes = self.ice_stats.filter(mine).join(seen, on="tube_id", how="left")
        rows = tubes.sort(side_first, "last", "tube_id", descending=[False, True, False], nulls_last=True).collect()
        if rows.is_empty():
            return None
        return live_stats(rows.row(0, named=True), self._legs(mine))

    def get_connection_stats(self, tube_id: str) -> dict[str, Any] | None:
        """Give the statistics of a tube in the library's nested shape; None for an unknown id.

        A tube that carried several conversations answers with its original one.
        """
        conversation_id = self.original(tube_id)
        if conversation_id is None:
            return None
        mine = pl.col("conversation_id") == conversation_id
        rows = self.ice_stats.filter(mine, pl.col("tube_id") == tube_id).collect()
        return live_stats(rows.row(0, named=True), self._legs(mine))

    def original(self, tube_id: str) -> str | None:
        """Give the conversation a tube carried first; None for an unknown tube."""
        carried = self.ice_stats.filter(pl.col("tube_id") == tube_id).select("conversation_id").collect().to_series()
        if len(carried) < 2:
            return carried.to_list()[0] if len(carried) else None
        named = self.events.filter(pl.col("tube_id") == tube_id).select(
            "ts", "source", "line", conversation_id=canonical(pl.col("conversation_id"))
        )
        first = named.filter(pl.col("conversation_id").is_in(carried.to_list())).sort(
            "ts", "source", "line", nulls_last=True
        )
        found = first.head(1).collect()
        return str(found["conversation_id"][0] if len(found) else carried.sort()[0])

    def find(self, text: str) -> str:
        """Find a conversation by its id in any spelling and either log, by a tube, or by the beginning of either.

        The beginning of a tube's id counts where no conversation begins so, and several tubes where they are of one.

        Raises:
            UnknownConversation: none has it, or several begin so.
        """
        # as it is pasted, with blanks around it; ids of tubes are written in small letters
        text = text.strip()
        known = self.conversations.select("conversation_id", "other_ids").sort("conversation_id").collect().rows()
        ids = [one for one, _ in known]
        names = {other: one for one, others in known for other in others or ()} | dict(zip(ids, ids, strict=True))
        if (wanted := _canonical(text)) in names:
            return str(names[wanted])
        beginnings = (text, text.rstrip("=").replace("+", "-").replace("/", "_"))
        begun = sorted({one for name, one in names.items() if text and name.startswith(beginnings)})
        if len(begun) == 1:
            return str(begun[0])
        if begun:
            raise UnknownConversation(
                f"{len(begun)} conversations of {self.path} begin with {text}", f"one of {_first_few(begun)}"
            )
        if (carried := self._by_tube(text) or self._by_tube(text.lower())) is not None:
            return carried
        nearest = difflib.get_close_matches(wanted, ids, NEAREST, cutoff=0.3)
        hint = f"the nearest are {', '.join(nearest)}" if nearest else "`analyzer summarize` lists them"
        raise UnknownConversation(f"no conversation {text} in {self.path}", hint)

    def _by_tube(self, text: str) -> str | None:
        """Conversation of the tube of this id, or of those whose ids begin so: they have to be of one conversation."""
        if not text:
            return None
        if (carried := self.original(text)) is not None:
            return carried
        begins = self.ice_stats.filter(pl.col("tube_id").str.starts_with(text)).select("tube_id", "conversation_id")
        begun = begins.collect()
        tubes = begun["tube_id"].unique().sort().to_list()
        if len(tubes) > 1 and begun["conversation_id"].n_unique() > 1:
            raise UnknownConversation(
                f"{len(tubes)} tubes of {self.path} begin with {text}", f"one of {_first_few(tubes)}"
            )
        return self.original(tubes[0]) if tubes else None

    def _legs(self, mine: pl.Expr) -> dict[str, Any]:
        rows = self.connection_legs.filter(mine).collect()
        return rows.row(0, named=True) if len(rows) else {}


def _held(paths: Sequence[Path]) -> pl.LazyFrame:
    """Rows of files that may be replaced: who has one open keeps what it was."""
    with ExitStack() as files:
        streams: list[IO[bytes]] = [files.enter_context(path.open("rb")) for path in paths]
        rows = pl.scan_parquet(streams)
        rows.collect_schema()
        return rows


def _read(out: Path, manifest: Manifest, table: Table) -> pl.LazyFrame:
    paths = [out / relative for relative in manifest.paths(table.name)]
    if not paths:
        return table.empty().lazy()
    if table is EVENTS:
        # files of one source are never written twice, and may be many; those that are shared are replaced
        shared = [path for path in paths if "members" in manifest.files[f"{table.name}/{path.name}"]]
        held = shared if len(shared) <= MOST_HELD else []
        apart = [path for path in paths if path not in set(held)]
        scans = [pl.scan_parquet(apart, glob=False)] if apart else []
        return pl.concat([*scans, _held(held)] if held else scans)
    rows = _held(paths)
    known = rows.collect_schema()
    # a version before a column was there did not look for what it says
    return rows.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in table.schema.items() if name not in known
    )


def _finish(out: Path) -> None:
    """Finish the commit of a killed run, or wait a moment for the run that is at it."""
    try:
        with writing(out):
            pass
    except BusyError:
        time.sleep(_PAUSE_SECONDS)


def _damaged(out: Path, problem: Exception) -> DatasetError:
    if isinstance(problem, OSError) and not isinstance(problem, FileNotFoundError):
        # it may be whole, so nobody is sent to another folder
        return DatasetError(f"{out} cannot be read ({problem.strerror or problem})", "check the disk and permissions")
    return DatasetError(f"{out} is damaged ({str(problem).splitlines()[0]})", "ingest its logs into a new folder")


@contextmanager
def opened(path: str | os.PathLike[str], tables: Iterable[str] = tuple(TABLES)) -> Iterator[Dataset]:
    """`open` a dataset to read it: what is found damaged then is told in the same way.

    Raises:
        BusyError: it was written while it was read, and files of it went.
    """
    dataset = open(path, tables)
    try:
        yield dataset
    except (OSError, pl.exceptions.PolarsError) as problem:
        if isinstance(problem, FileNotFoundError) and read_manifest(Path(path)).snapshot != dataset.snapshot:
            raise BusyError(f"{path} was written while it was read", "try again") from problem
        raise _damaged(Path(path), problem) from problem


def open(  # noqa: A001 - read as analyzer.open
    path: str | os.PathLike[str] = "metrics", tables: Iterable[str] = tuple(TABLES)
) -> Dataset:
    """Open a dataset as it is now. `tables` may name the few that are needed.

    Rows are read when they are asked for, and damage to them is found then, by Polars; to files as a whole, at once.

    Raises:
        DatasetError: there is no dataset, or a file of it is missing or damaged.
        BusyError: it kept being written.
    """
    out = Path(path)
    wanted = [TABLES[name] for name in tables]
    sealed = out / STATE / COMMIT
    for _ in range(ATTEMPTS):
        if sealed.exists():  # before there is a manifest, where it was the first commit
            _finish(out)
            continue
        manifest = read_manifest(out)
        frames, problem = {}, None
        try:
            frames = {table.name: _read(out, manifest, table) for table in wanted}
        except (OSError, pl.exceptions.PolarsError) as error:
            problem = error
        if sealed.exists() or read_manifest(out).snapshot != manifest.snapshot:
            continue  # the files of two snapshots may have been mixed
        if problem:
            raise _damaged(out, problem) from problem
        return Dataset(out, manifest.snapshot, frames)
    raise BusyError(f"{out} is being written", "try again when that run has ended")
