"""The dataset on disk and its commit: stage → seal → renames → manifest.

    OUT/<table>/*.parquet     nothing but finished Parquet, every file live
    OUT/_analyzer/            manifest.json, the lock, the stage, and commit.json while a commit is sealed

New files are written to the stage and synced. One synced rename of `commit.json` seals the commit; from there on only
renames and unlinks remain, and a run that finds a sealed commit finishes it first. So a killed run leaves the old
dataset or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.errors import BusyError, DatasetError, OutputError
from analyzer.tables.declare import SCHEMA_VERSION, Table

STATE, MANIFEST, COMMIT, STAGE = "_analyzer", "manifest.json", "commit.json", "stage"
FORMAT = 1
ROW_GROUP_ROWS = 250_000
#: columns of few words: all others are ids, times and numbers, which a dictionary only makes slower and larger
WORDS = ("kind", "level", "target", "source", "location", "metric", "unit")
#: columns nobody looks for a range of
UNSOUGHT = ("origin", "fields")


@dataclass(slots=True)
class Manifest:
    """What the dataset holds: each live file with its digest and rows, and a record per source."""

    snapshot: int = 0
    #: relative path → {"sha256": …, "rows": …, "table": …}
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: identity → what is known of the source
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: the policy of addresses, fixed when the dataset is made: {"policy": …, "key_check": …}
    addresses: dict[str, str] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """Live files of a table, sorted."""
        return sorted(path for path, entry in self.files.items() if entry["table"] == table)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_json(path: Path, value: object) -> None:
    """Write, sync, and rename into place: the file is whole or absent."""
    temporary = path.with_suffix(".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    _sync_directory(path.parent)


def read_manifest(out: Path) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        DatasetError: there is none, or it is of another format.
    """
    path = out / STATE / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{out} holds no dataset", "write one with `analyzer ingest LOGS --out` that folder"
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error})", "ingest into a new folder") from None
    if raw.get("format") != FORMAT or raw.get("schema_version") != SCHEMA_VERSION:
        raise DatasetError(f"{out} was written by another version of analyzer", "ingest into a new folder")
    # datasets of before had no policy
    return Manifest(raw["snapshot"], raw["files"], raw["sources"], raw.get("addresses") or {"policy": "raw"})


@dataclass(frozen=True, slots=True)
class Staged:
    """A file in the stage: where it lies, whose it is, its digest and rows."""

    path: Path
    table: str
    sha256: str
    rows: int


class Commit:
    """One commit being prepared: files go to the stage, `publish` makes them the dataset."""

    def __init__(self, out: Path, manifest: Manifest) -> None:
        self.out = out
        self.before = manifest
        self.files: dict[str, dict[str, Any]] = dict(manifest.files)
        self.sources: dict[str, dict[str, Any]] = dict(manifest.sources)
        self.addresses: dict[str, str] = dict(manifest.addresses)
        self._staged: dict[str, str] = {}
        self._numbers = itertools.count()

    @property
    def stage(self) -> Path:
        """Folder of files that are not part of the dataset yet."""
        return self.out / STATE / STAGE

    def stage_frame(self, table: Table, frame: pl.DataFrame) -> Staged:
        """Write a frame to the stage, not yet part of the commit; safe to call from several threads.

        What was kept small is spelled out one group of rows after the other.
        """
        path = self.stage / f"{next(self._numbers)}.part"
        return Staged(path, table.name, self._write_parquet(path, table, frame), len(frame))

    def place(self, staged: Staged, name: str) -> None:
        """Give a staged file its name in the commit. A live file of the same bytes is left alone."""
        relative = f"{staged.table}/{name}.parquet"
        known = self.before.files.get(relative)
        if known and known["sha256"] == staged.sha256 and (self.out / relative).exists():
            staged.path.unlink()
        else:
            self._staged[staged.path.name] = relative
        self.files[relative] = {"sha256": staged.sha256, "rows": staged.rows, "table": staged.table}

    def write(self, table: Table, name: str, frame: pl.DataFrame) -> None:
        """Stage and place one file of a table; its content decides its bytes."""
        self.place(self.stage_frame(table, frame), name)

    def keep(self, name: str, content: bytes) -> None:
        """Stage a small file of the dataset's own state; it is there once the commit is."""
        path = self.stage / f"{next(self._numbers)}.{name}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._staged[path.name] = f"{STATE}/{name}"

    def _write_parquet(self, path: Path, table: Table, frame: pl.DataFrame) -> str:
        schema = table.arrow_schema()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w+b") as stream:
            with pq.ParquetWriter(
                stream,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name in WORDS if name in schema.names],
                write_statistics=[name for name in schema.names if name not in UNSOUGHT],
            ) as writer:
                for first in range(0, max(len(frame), 1), ROW_GROUP_ROWS):
                    group = table.spelled(frame.slice(first, ROW_GROUP_ROWS))
                    columns = group.to_arrow(compat_level=pl.CompatLevel.oldest()).columns
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema), ROW_GROUP_ROWS)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def remove(self, relative: str) -> None:
        """Drop one live file with the next publish."""
        self.files.pop(relative, None)

    def places(self) -> dict[str, Path]:
        """Where each file of the dataset to be lies now: staged ones in the stage, kept ones in place."""
        staged = {relative: self.stage / name for name, relative in self._staged.items()}
        return {relative: staged.get(relative, self.out / relative) for relative in self.files}

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
        _sync_directory(self.stage)
        _write_json(self.out / STATE / COMMIT, {"renames": self._staged, "removes": removed, "manifest": manifest})
        _roll_forward(self.out)
        return True


def _roll_forward(out: Path) -> None:
    """Finish a sealed commit: idempotent renames and unlinks, then the manifest."""
    state = out / STATE
    commit = json.loads((state / COMMIT).read_text(encoding="utf-8"))
    touched: set[Path] = set()
    for staged, relative in sorted(commit["renames"].items()):
        target = out / relative
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if (state / STAGE / staged).exists():
            (state / STAGE / staged).replace(target)
        touched.add(target.parent)
    for relative in commit["removes"]:
        (out / relative).unlink(missing_ok=True)
        touched.add((out / relative).parent)
    for folder in sorted(touched):
        if folder.is_dir():
            _sync_directory(folder)
    _sync_directory(out)
    _write_json(state / MANIFEST, commit["manifest"])
    (state / COMMIT).unlink()
    _sync_directory(state)


@contextlib.contextmanager
def _lock(state: Path) -> Iterator[None]:
    with os.fdopen(os.open(state / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another run is writing {state.parent}", "wait for it, or write to another --out"
            ) from None
        yield


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder", "name a folder with --out")
    if out.is_dir() and not (out / STATE).exists() and any(out.iterdir()):
        raise OutputError(f"{out} holds files that are not a dataset", "name an empty or new folder with --out")


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Commit]:
    """Open a dataset for one commit, alone: recover what a killed run left, then hand out the commit.

    Raises:
        OutputError: the folder cannot be written, or is somebody else's.
        BusyError: another run is writing it.
    """
    _refuse_foreign(out)
    state = out / STATE
    try:
        for folder in (out, state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(state):
            if (state / COMMIT).exists():
                _roll_forward(out)
            shutil.rmtree(state / STAGE, ignore_errors=True)
            (state / STAGE).mkdir(mode=0o700)
            manifest = read_manifest(out) if (state / MANIFEST).exists() else Manifest()
            try:
                yield Commit(out, manifest)
            finally:
                # a sealed commit that could not be finished now needs its files later
                if not (state / COMMIT).exists():
                    shutil.rmtree(state / STAGE, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written ({error.strerror or error})", "check space and permissions"
        ) from error
