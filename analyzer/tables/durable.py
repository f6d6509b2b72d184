"""Files and folders of a dataset: for their owner alone, reached through no link, and on the disk when it is said so.

A file is on the disk when it was synced, and its name when its folder was.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
#: makes of an object of JSON what is kept of it
Hook: TypeAlias = Callable[[dict[str, Any]], Any]
_DECODER = json.JSONDecoder()


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network and FUSE file systems sync no folders; there is nothing else to be done there
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder that nobody else enters, whatever the umask; one that is there already stays as it is.

    Raises:
        NotADirectoryError: a link or a file has its name.
    """
    try:
        path.mkdir(mode=PRIVATE_FOLDER)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{path.name} in it is not a folder", str(path)) from None
    else:
        path.chmod(PRIVATE_FOLDER)


def make_root(path: Path) -> None:
    """Make the folder of a dataset and those above it that are missing, and put their names on the disk."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        # like `mkdir -p`: what is above the dataset is not for the dataset alone
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
    if not path.is_dir():
        make_folder(path)
    # it may have been made by a run that was killed before this
    with suppress(PermissionError):  # a folder that others may enter and not list
        sync_folder(path.parent)


def create(path: Path) -> BufferedRandom:
    """Open a new file that nobody else reads, whatever the umask; what has its name already is an error."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE_FILE)
    os.fchmod(handle, PRIVATE_FILE)
    return os.fdopen(handle, "w+b")


def sync(stream: BufferedRandom) -> None:
    """Put what was written to a file on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def _pieces(value: Mapping[str, object]) -> Iterator[str]:
    """The text of an object, a line for each member, and for each member of those that are objects.

    The text of many is larger than they are.
    """
    yield "{"
    for number, name in enumerate(sorted(value)):
        inner = value[name]
        yield f"{',' if number else ''}\n{json.dumps(name)}: "
        if isinstance(inner, Mapping):
            yield "{"
            for place, key in enumerate(sorted(inner)):
                yield f"{',' if place else ''}\n {json.dumps(key)}: {json.dumps(inner[key], sort_keys=True)}"
            yield "\n}"
        else:
            yield json.dumps(inner)
    yield "\n}\n"


def create_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a new file of a JSON object that is on the disk before it gets a name that counts."""
    with create(path) as stream:
        for piece in _pieces(value):
            stream.write(piece.encode())
        sync(stream)


def _by_line(stream: BinaryIO, hook: Hook | None) -> dict[str, Any] | None:
    """Read an object as `_pieces` writes it, a line at a time; None where it is laid out in another way."""
    value: dict[str, Any] = {}
    inner: dict[str, Any] | None = None
    if stream.readline() != b"{\n":
        return None
    for line in stream:
        text = line.decode().strip().removesuffix(",")
        if text == "}" and inner is None:
            return None if stream.read() else value
        if text == "}":
            inner = None
            continue
        name, end = _DECODER.raw_decode(text)
        if text[end:] == ": {" and inner is None:
            value[name] = inner = {}
        elif text[end : end + 2] == ": ":
            (value if inner is None else inner)[name] = json.loads(text[end + 2 :], object_hook=hook)
        else:
            return None
    return None


def read_json(path: Path, hook: Hook | None = None) -> dict[str, Any]:
    """Read a file of one JSON object; each object in it becomes what the `hook` makes of it.

    Raises:
        OSError: it cannot be read, or is a link.
        ValueError: it does not hold one.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        value = None
        with suppress(ValueError):
            # the text of many is larger than they are
            value = _by_line(stream, hook)
        if value is None:
            stream.seek(0)
            value = json.loads(stream.read(), object_hook=hook)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 - of the data's type, not of an argument's
    return value
