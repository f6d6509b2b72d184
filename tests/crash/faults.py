"""An interposer between a run and its disk: it counts what the run does below a folder, records it, and makes it fail.

It lives in the process of the test alone; the product knows nothing of it. What is written is passed on at once, half
of it where the write is the one that fails, so that nothing is saved by a buffer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

KILLED = 137
#: `kill` at an operation; `full`: from it on nothing takes room; `error`: it fails; `gone`: all fail from it on
MODES = ("kill", "full", "error", "gone")
#: what takes room on a disk
TAKES_ROOM = {"create", "write", "mkdir", "fsync"}


@dataclass(frozen=True, slots=True)
class Op:
    """Something done to the disk, as the power-loss model needs it."""

    name: str
    path: str
    #: the new name of a rename
    target: str = ""
    data: bytes = b""
    offset: int = 0


@dataclass(slots=True)
class Disk:
    """The disk below `root`: fails in `mode` at operation `at` (counted from 1; 0: never)."""

    root: Path
    mode: str = "kill"
    at: int = 0
    ops: list[Op] = field(default_factory=list)
    keep_data: bool = False
    #: path of each descriptor below the root, by `os.open`
    paths: dict[int, str] = field(default_factory=dict)

    def inside(self, path: str) -> bool:
        """Whether this is what we watch: the folder, what is in it, and its parent, where its name is."""
        return path == str(self.root.parent) or path == str(self.root) or path.startswith(f"{self.root}/")

    def full(self, path: Any, folder: int | None = None) -> str:
        if isinstance(path, int):
            return self.paths.get(path, "")
        text = str(os.fspath(path))
        if folder is None:
            return os.path.abspath(text)  # noqa: PTH100 - called by pathlib itself
        return os.path.join(self.paths.get(folder, ""), text)  # noqa: PTH118 - the same

    def step(self, op: Op, half: Callable[[], object] = lambda: None) -> None:
        """Count an operation that is about to be done; where it is the one that fails, only `half` is done."""
        self.ops.append(op)
        number = len(self.ops)
        if not self.at or number < self.at:
            return
        if self.mode == "kill":
            half()
            os._exit(KILLED)
        if self.mode == "full" and (number == self.at or op.name in TAKES_ROOM):
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), op.path)
        if self.mode == "gone" or (self.mode == "error" and number == self.at):
            half()
            raise OSError(errno.EIO, os.strerror(errno.EIO), op.path)

    def install(self) -> None:
        """Take the place of the functions of `os` that change a disk, for the rest of this process."""
        real_open, real_fsync, real_fdopen = os.open, os.fsync, os.fdopen

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            name = self.full(path, dir_fd)
            if self.inside(name):
                self.step(Op("create" if flags & os.O_CREAT else "open", name))
            handle = real_open(path, flags, mode, dir_fd=dir_fd)
            self.paths[handle] = name
            return handle

        def synced(handle: int) -> None:
            if self.inside(self.paths.get(handle, "")):
                self.step(Op("fsync", self.paths[handle]))
            real_fsync(handle)

        def wrapped(handle: int, *args: Any, **kwargs: Any) -> Any:
            stream, name = real_fdopen(handle, *args, **kwargs), self.paths.get(handle, "")
            return _Stream(self, name, stream) if stream.writable() and self.inside(name) else stream

        os.open, os.fsync, os.fdopen = opened, synced, wrapped  # type: ignore[assignment] # what we patch in takes less
        for name in ("mkdir", "rmdir", "unlink", "chmod"):
            setattr(os, name, self._one(name, getattr(os, name)))
        for name in ("rename", "replace"):
            setattr(os, name, self._two(getattr(os, name)))

    def _one(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def done(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> None:
            full = self.full(path, dir_fd)
            if self.inside(full):
                self.step(Op(name, full))
            real(path, *args, dir_fd=dir_fd, **kwargs)

        return done

    def _two(self, real: Callable[..., None]) -> Callable[..., None]:
        def done(path: Any, target: Any) -> None:
            if self.inside(self.full(target)):
                self.step(Op("rename", self.full(path), self.full(target)))
            real(path, target)

        return done


class _Stream:
    """A file being written, whose every write is an operation and goes out at once."""

    def __init__(self, disk: Disk, path: str, stream: Any) -> None:
        self._disk, self._path, self._stream = disk, path, stream

    def write(self, data: Any) -> int:
        taken = bytes(data)

        def half() -> None:
            self._stream.write(taken[: len(taken) // 2])
            self._stream.flush()

        kept = taken if self._disk.keep_data else b""
        self._disk.step(Op("write", self._path, data=kept, offset=self._stream.tell()), half)
        self._stream.write(taken)
        self._stream.flush()
        return len(taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
