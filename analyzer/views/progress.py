"""How far an ingest has come, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from analyzer.inputs import discover
from analyzer.views.text import size

BAR = 30
_COMPRESSED = (".gz", ".zst", ".zstd", ".tgz")
#: drawing more often than this would cost more than it tells
_INTERVAL_SECONDS = 0.1


def expected(given: Sequence[str], out: Path, *, follow_symlinks: bool = False) -> int | None:
    """Bytes there will be to read; None when nothing tells before they are decompressed.

    Raises:
        InputError: an argument names nothing.
    """
    found = discover(given, skip=out, follow_symlinks=follow_symlinks)
    paths = [one.path for one in found if not one.refused]
    if any(path is None or path.suffix in _COMPRESSED for path in paths):
        return None
    return sum(path.stat().st_size for path in paths if path and path.exists())


def drawn(done: int, total: int | None) -> str:
    """Draw the state of a run: a bar where the end is known, else a count."""
    if not total or done > total:
        return f"read {size(done)}"
    full = BAR * done // total
    return f"[{'#' * full}{'-' * (BAR - full)}] {done / total:4.0%}  {size(done)}"


@contextmanager
def watching(
    given: Sequence[str], out: Path, stream: TextIO, *, follow_symlinks: bool = False
) -> Iterator[Callable[[int], None]]:
    """Hand out the callback of an ingest; it draws on a terminal, does nothing else, and leaves a clean line."""
    if not stream.isatty():
        yield lambda _: None
        return
    total, done, last = expected(given, out, follow_symlinks=follow_symlinks), 0, 0.0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last > _INTERVAL_SECONDS:
            last = time.monotonic()
            stream.write(f"\r\x1b[K{drawn(done, total)}")
            stream.flush()

    try:
        yield advance
    finally:
        stream.write("\r\x1b[K")
        stream.flush()
