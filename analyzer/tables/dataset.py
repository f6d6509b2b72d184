"""The dataset on disk and its commit: stage → seal → renames → manifest.

    OUT/<table>/*.parquet     nothing but finished Parquet, every file live
    OUT/_analyzer/            manifest.json, the lock, the stage, and commit.json while a commit is sealed

New files are written to the stage and synced. One synced rename of `commit.json` seals the commit; from there on only
renames and unlinks remain (`publish.py`), and a run that finds a sealed commit finishes it first. So a killed run
leaves the old dataset or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.errors import BusyError, DatasetError, OutputError
from analyzer.tables.declare import SCHEMA_VERSION, Table
from analyzer.tables.durable import PRIVATE_FILE, create, make_folder, make_root, read_json, sync, sync_folder
from analyzer.tables.entries import Entries
from analyzer.tables.publish import COMMIT, MANIFEST, STAGE, STATE, finish, seal
from analyzer.tables.slices import LOOSE, Slice, apart

__all__ = ["COMMIT", "MANIFEST", "STAGE", "STATE", "Commit", "Manifest", "Staged", "read_manifest", "writing"]

#: name of the only file of a table
SOLE = "part-0"
FORMAT = 2
#: before, each source had files of its own
READABLE = (1, FORMAT)
ROW_GROUP_ROWS = 50_000
#: columns of few words: all others are ids, times and numbers, which a dictionary only makes slower and larger
WORDS = ("kind", "level", "target", "source", "location", "metric", "unit")
#: columns nobody looks for a range of
UNSOUGHT = ("origin", "fields")


@dataclass(slots=True)
class Manifest:
    """What the dataset holds: each live file with its digest and rows, and a record per source."""

    snapshot: int = 0
    #: relative path → {"sha256": …, "rows": …, "table": …}, and "members": [[name, rows, said], …] of a shared one
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: identity → what is known of the source
    sources: Entries = field(default_factory=Entries)
    #: the policy of addresses, fixed when the dataset is made: {"policy": …, "key_check": …}
    addresses: dict[str, str] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """Live files of a table, sorted."""
        return sorted(path for path, entry in self.files.items() if entry["table"] == table)


def read_manifest(out: Path) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        DatasetError: there is none, it is of another format, or it cannot be read.
    """
    try:
        return _manifest(out)
    except OSError as error:
        # it may be whole, so nobody is sent to another folder
        raise DatasetError(
            f"{out / STATE / MANIFEST} cannot be read ({error.strerror or error})", "check the disk and permissions"
        ) from None


def _manifest(out: Path) -> Manifest:
    """The manifest of a dataset; an error of the disk is its own."""
    path = out / STATE / MANIFEST
    try:
        sources = Entries()
        raw = read_json(path, sources.pack)
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{out} holds no dataset", f"write one with `analyzer ingest LOGS --out {out}`") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read ({error})", "ingest into a new folder") from None
    if not isinstance(raw, dict) or not {"snapshot", "files", "sources"} <= set(raw):
        raise DatasetError(f"{path} is no manifest", "ingest into a new folder")
    if raw.get("format") not in READABLE or raw.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(f"{out} was written by another version of analyzer", "ingest into a new folder")
    if not isinstance(raw["sources"], dict) or not all(
        isinstance(one, dict | bytes) for one in raw["sources"].values()
    ):
        raise DatasetError(f"{path} cannot be read (it is not whole)", "ingest into a new folder")
    sources.take(raw["sources"])
    # datasets of before had no policy
    return Manifest(raw["snapshot"], raw["files"], sources, raw.get("addresses") or {"policy": "raw"})


@dataclass(frozen=True, slots=True)
class Staged:
    """A file in the stage: its name there, whose it is, its digest and rows."""

    file: str
    table: str
    sha256: str
    rows: int


def members(path: str, entry: Mapping[str, Any]) -> list[tuple[str, Slice, int]]:
    """What shares a file with others, its rows there, and what they say; nothing, if the file is of one alone.

    Raises:
        DatasetError: they are not all that is in it.
    """
    if "members" not in entry:
        return []
    problem = DatasetError(f"{path} is damaged (who shares it is not told)", "ingest its logs into a new folder")
    try:
        names, sizes, said = zip(*entry["members"], strict=True)
        whole = sum(sizes) == entry["rows"]
    except (ValueError, TypeError):
        raise problem from None
    if not whole:
        raise problem
    return list(zip(names, apart(path, sizes, entry["rows"]), said, strict=True))


def _relative(table: str, name: str) -> str:
    # what is not for readers is not found by those who look for Parquet files
    return f"{table}/{name}.{'state' if table == STATE else 'parquet'}"


def _groups(table: Table, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Rows spelled out in groups of one size, however they come; at least one group, were it empty."""
    waiting: pl.DataFrame | None = None
    given = False
    for frame in frames:
        for first in range(0, len(frame), ROW_GROUP_ROWS):
            spelled = table.spelled(frame.slice(first, ROW_GROUP_ROWS))
            waiting = spelled if waiting is None or waiting.is_empty() else pl.concat([waiting, spelled])
            while len(waiting) >= ROW_GROUP_ROWS:
                yield waiting.head(ROW_GROUP_ROWS)
                waiting, given = waiting.slice(ROW_GROUP_ROWS), True
        # while the next is made, nothing of it is needed
        del frame
    if waiting is None:
        yield table.empty()
    elif len(waiting) or not given:
        yield waiting


class Commit:
    """One commit being prepared: files go to the stage, `publish` makes them the dataset."""

    def __init__(self, out: Path, manifest: Manifest) -> None:
        self.out = out
        self.before = manifest
        self.files: dict[str, dict[str, Any]] = dict(manifest.files)
        self.sources: Entries = manifest.sources.copy()
        self.addresses: dict[str, str] = dict(manifest.addresses)
        #: what shares a file, and where it is now
        self.members: dict[str, Slice] = {
            name: rows
            for relative, entry in manifest.files.items()
            for name, rows, _ in members(str(out / relative), entry)
        }
        self._staged: dict[str, str] = {}
        self._numbers = itertools.count()

    @property
    def stage(self) -> Path:
        """Folder of files that are not part of the dataset yet."""
        return self.out / STATE / STAGE

    def stage_frame(self, table: Table, frame: pl.DataFrame) -> Staged:
        """Write a frame to the stage, not yet part of the commit; safe to call from several threads."""
        return self.stage_frames(table, (frame,))

    def stage_frames(self, table: Table, frames: Iterable[pl.DataFrame]) -> Staged:
        """Write the frames of one file to the stage; what was kept small is spelled out one group after the other."""
        file = f"{next(self._numbers)}.part"
        return Staged(file, table.name, *self._write_parquet(self.stage / file, table, frames))

    def lay_aside(self, table: Table, frame: pl.DataFrame, sizes: Iterable[int]) -> list[Slice]:
        """Keep rows in the stage until others are written from them, cut into pieces; safe in several threads."""
        path = self.stage / f"{next(self._numbers)}{LOOSE}"
        with create(path) as stream:
            table.spelled(frame).write_ipc(stream)
        return apart(str(path), sizes, len(frame))

    def clear_aside(self) -> None:
        """Remove what was laid aside: it has been written to others."""
        for path in self.stage.glob(f"*{LOOSE}"):
            path.unlink()

    def rows_of(self, staged: Staged) -> Slice:
        """All rows of a staged file."""
        return Slice(str(self.stage / staged.file), 0, staged.rows, staged.rows)

    def place(self, staged: Staged, name: str, members: Sequence[tuple[str, int, int]] = ()) -> str:
        """Give a staged file its name in the commit, and tell where that is. A live file of the same bytes stays.

        Its `members` share it, in order: of each its name, how many rows it has, and a number for what they say.
        """
        relative = _relative(staged.table, name)
        known = self.before.files.get(relative)
        if known and known["sha256"] == staged.sha256 and (self.out / relative).exists():
            (self.stage / staged.file).unlink()
        else:
            self._staged[staged.file] = relative
        shared = {"members": [list(member) for member in members]} if members else {}
        self.files[relative] = {"sha256": staged.sha256, "rows": staged.rows, "table": staged.table, **shared}
        return relative

    def write(self, table: Table, frame: pl.DataFrame, name: str = SOLE) -> None:
        """Stage and place one file of a table; its content decides its bytes."""
        self.place(self.stage_frame(table, frame), name)

    def keep(self, name: str, content: bytes) -> None:
        """Stage a small file of the dataset's own state; it is there once the commit is."""
        path = self.stage / f"{next(self._numbers)}.{name}"
        with create(path) as stream:
            stream.write(content)
            sync(stream)
        self._staged[path.name] = f"{STATE}/{name}"

    def _write_parquet(self, path: Path, table: Table, frames: Iterable[pl.DataFrame]) -> tuple[str, int]:
        schema, rows = table.arrow_schema, 0
        with create(path) as stream:
            with pq.ParquetWriter(
                stream,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name in WORDS if name in schema.names],
                write_statistics=[name for name in schema.names if name not in UNSOUGHT],
            ) as writer:
                for group in _groups(table, frames):
                    rows += len(group)
                    columns = group.to_arrow(compat_level=pl.CompatLevel.oldest()).columns
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema), ROW_GROUP_ROWS)
            sync(stream)
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest(), rows

    def remove(self, relative: str) -> None:
        """Drop one live file with the next publish."""
        self.files.pop(relative, None)

    def sole(self, table: Table) -> Path | None:
        """Where the only file of a table lies in the dataset as it was; None where there is none."""
        relative = _relative(table.name, SOLE)
        return self.out / relative if relative in self.before.files else None

    def read_staged(self, table: Table, columns: Sequence[str]) -> pl.DataFrame:
        """Columns of the only file of a table as it will be."""
        return pl.read_parquet(self.places()[_relative(table.name, SOLE)], columns=list(columns), glob=False)

    def rows(self, table: Table) -> int:
        """How many rows a table has."""
        return sum(entry["rows"] for entry in self.files.values() if entry["table"] == table.name)

    def places(self) -> dict[str, str]:
        """Where each file of the dataset to be lies now: staged ones in the stage, kept ones in place."""
        stage, out = str(self.stage), str(self.out)
        staged = {relative: f"{stage}/{name}" for name, relative in self._staged.items()}
        return {relative: staged.get(relative) or f"{out}/{relative}" for relative in self.files}

    def publish(self) -> bool:
        """Seal and publish; false when nothing changed."""
        removed = sorted(set(self.before.files) - set(self.files))
        if not self._staged and not removed and self.sources == self.before.sources:
            return False
        manifest = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "snapshot": self.before.snapshot + 1,
            "files": self.files,
            "sources": self.sources,
            "addresses": self.addresses,
        }
        seal(self.out, manifest, self._staged, self.before.files, removed)
        finish(self.out)
        return True


@contextlib.contextmanager
def _lock(state: Path) -> Iterator[None]:
    handle = os.open(state / "lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_FILE)
    try:
        os.fchmod(handle, PRIVATE_FILE)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another run is writing {state.parent}", "wait for it, or write to another --out"
            ) from None
        yield
    finally:
        os.close(handle)


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that is somebody else's, or whose names others may change: what is written there is not safe."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out} is not a folder", "name a folder with --out")
    found = out.stat()
    if found.st_uid != os.geteuid():
        raise OutputError(f"{out} belongs to another user", "name a folder of your own with --out")
    if found.st_mode & stat.S_IWOTH:
        raise OutputError(
            f"{out} can be written by everybody", "take that right away (chmod o-w), or name a new folder"
        )
    if not (out / STATE).exists() and any(out.iterdir()):
        raise OutputError(f"{out} holds files that are not a dataset", "name an empty or new folder with --out")


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Commit]:
    """Open a dataset for one commit, alone: recover what a killed run left, then hand out the commit.

    Raises:
        OutputError: the folder cannot be written, or is somebody else's.
        BusyError: another run is writing it.
        DatasetError: what is there is damaged, or of another version.
    """
    state = out / STATE
    try:
        _refuse_foreign(out)
        make_root(out)
        make_folder(state)
        with _lock(state):
            if not (state / MANIFEST).exists():
                # what says that this folder is a dataset has to be there before any table is
                sync_folder(out)
            if (state / COMMIT).exists():
                finish(out)
            shutil.rmtree(state / STAGE, ignore_errors=True)
            manifest = _manifest(out) if (state / MANIFEST).exists() else Manifest()
            try:
                make_folder(state / STAGE)
                yield Commit(out, manifest)
            finally:
                # a sealed commit that could not be finished now needs its files later
                if not (state / COMMIT).exists():
                    shutil.rmtree(state / STAGE, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
