"""`analyzer ingest --follow`: keep a dataset up with its logs, and print a line for each commit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from analyzer import follow, inputs
from analyzer.errors import InputError, OutputError, UsageError
from analyzer.pipeline import Ingested
from analyzer.views import followed, text


def keep_up(
    read: Callable[[], Ingested], paths: list[str], out: Path, every: float, *, follow_symlinks: bool, json: bool
) -> None:
    """Read again and again, at an interval of so many seconds, until it is stopped.

    Raises:
        UsageError: one of the paths cannot be followed.
    """
    if inputs.STDIN in paths:
        raise UsageError("standard input cannot be followed", "name the files that it comes from")

    def discover() -> list[inputs.Input]:
        return inputs.discover(paths, skip=out, follow_symlinks=follow_symlinks)

    def told() -> None:
        text.write("stopping; once more stops at once", sys.stderr)

    try:
        discover()
    except InputError as error:
        text.write(f"waiting: {error}", sys.stderr)
    trouble: list[str] = []

    def failed(error: OutputError) -> None:
        # once, however often it is tried
        if str(error) not in trouble:
            text.write(f"trying again: {error}", sys.stderr)
            trouble.append(str(error))

    with follow.until_stopped(every, told) as wait:
        for done in follow.follow(discover, read, wait, failed):
            trouble.clear()
            values = followed.gather(done)
            text.write(text.as_json(values, indent=None) if json else followed.render(values, out), sys.stdout)
