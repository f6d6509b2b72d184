"""A folder of redacted copies: their names, how they are compressed, and that nothing else is ever written over."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow as pa

from analyzer.errors import OutputError
from analyzer.inputs import Input
from analyzer.lines import compressed_with

#: lists the copies in a folder, and says that it is one of ours
MARK = ".analyzer-redacted.json"
_GZIP_LEVEL = 6


def _refused(out: Path) -> OutputError:
    return OutputError(f"{out} is not a folder of redacted copies", "name a new or an empty one")


def check(out: Path) -> None:
    """See to it that the folder is a new one, an empty one, or one of ours.

    Raises:
        OutputError: it is something else, or cannot be looked into.
    """
    try:
        mark = out / MARK
        if out.is_symlink() or (out.exists() and not out.is_dir()) or mark.is_symlink():
            raise _refused(out)
        if out.exists() and not mark.exists() and any(out.iterdir()):
            raise _refused(out)
        if mark.exists():
            _listed(mark, out)
    except OSError as error:
        raise _cannot(out, error) from error


def prepare(out: Path) -> list[str]:
    """Make the folder, and tell the copies that are in it: those of another name than the new ones stay.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        out.chmod(0o700)
        names = _listed(out / MARK, out) if (out / MARK).exists() else []
        _note(out, names)
    except OSError as error:
        raise _cannot(out, error) from error
    return names


def _cannot(out: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {out}: {error.strerror or error}", "name another folder with -o")


def _listed(mark: Path, out: Path) -> list[str]:
    try:
        names = json.loads(mark.read_text(encoding="utf-8"))["copies"]
        return [str(_inside(str(name))) for name in names]
    except (ValueError, KeyError, TypeError):
        raise _refused(out) from None


def _note(out: Path, names: list[str]) -> None:
    _written(out / f"{MARK}.part", json.dumps({"copies": names}).encode())
    (out / f"{MARK}.part").replace(out / MARK)


def _written(path: Path, data: bytes) -> None:
    with _created(path) as stream:
        stream.write(data)
        _synced(stream)


def _created(path: Path) -> IO[bytes]:
    with suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _synced(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _inside(name: str) -> PurePosixPath:
    """A name as a path that stays below the folder, whatever the name is."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".", "//")]
    if not parts or parts[-1].startswith(MARK):
        raise ValueError(name)
    return PurePosixPath(*(part.replace("\0", "\\0") for part in parts))


@contextmanager
def copying(out: Path, one: Input, names: list[str]) -> Iterator[IO[bytes]]:
    """A stream to the copy of one input, compressed as it is; the copy has its name once all is written.

    `names` are the copies so far; the one that was written is added.

    Raises:
        OutputError: it cannot be written.
    """
    relative = _inside(one.name)
    path = out / relative
    part = path.with_name(f".{path.name}.part"[-250:])
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(out.resolve()):
            raise _refused(out)
        with _created(part) as raw:
            try:
                with _compressed(raw, compressed_with(one)) as stream:
                    yield stream
                _synced(raw)
            except BaseException:
                part.unlink()
                raise
        # known as ours before it is there
        names.append(str(relative))
        _note(out, names)
        part.replace(path)
    except OSError as error:
        raise _cannot(out, error) from error


@contextmanager
def _compressed(raw: IO[bytes], codec: str | None) -> Iterator[IO[bytes]]:
    match codec:
        case "gzip":
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        case "zstd":
            # closing the stream closes what it writes to, which is to be synced yet
            with (
                os.fdopen(os.dup(raw.fileno()), "wb") as same,
                pa.CompressedOutputStream(pa.PythonFile(same, mode="w"), "zstd") as packed,
            ):
                yield packed
        case _:
            yield raw
