"""A dataset that keeps up with its logs: look, read what is new, commit, wait.

Nothing is watched for: the inputs are looked at again at an interval, which also works where a file system tells of no
change. Between two commits the dataset is free for others.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeAlias

from analyzer.errors import BusyError, InputError, OutputError
from analyzer.inputs import Input
from analyzer.pipeline import Ingested

#: what an input looked like: name, device, file, size, times of the last change of its bytes and of its rights
Look: TypeAlias = frozenset[tuple[str, int, int, int, int, int]]


def look(inputs: list[Input]) -> Look:
    """Look at inputs from the outside; what cannot be looked at is left out."""
    found = set()
    for one in inputs:
        with suppress(OSError):
            if one.path:
                stat = one.path.stat()
                times = stat.st_mtime_ns, stat.st_ctime_ns
                found.add((one.name, stat.st_dev, stat.st_ino, stat.st_size, *times))
    return frozenset(found)


def follow(
    discover: Callable[[], list[Input]],
    ingest: Callable[[], Ingested],
    wait: Callable[[], bool],
    failed: Callable[[OutputError], None],
) -> Iterator[Ingested]:
    """Ingest whenever the inputs look different, and yield what that did, until `wait` says to stop.

    Logs that are not there yet are waited for, as is another run that is writing. What could be written once is tried
    again when it cannot be, after `failed` was told: a disk may have room again.

    Raises:
        OutputError: the dataset cannot be written from the start.
    """
    last: Look | None = None
    while True:
        try:
            # looked at before they are read: what is written meanwhile is seen the next time
            now = look(discover())
            if now != last:
                done = ingest()
                last = now
                yield done
        except (InputError, BusyError):
            pass
        except OutputError as error:
            if last is None:
                raise
            failed(error)
        if wait():
            return


@contextmanager
def until_stopped(every_s: float, told: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Hand out a `wait` of `every_s` seconds that is true once the program is asked to stop.

    The first request lets a commit be finished, and `told` is called; the second interrupts.
    """
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        told()

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopping.wait(every_s)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
