"""What the options of the command mean: their help, and their words read into values."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from analyzer.errors import UsageError

Paths = Annotated[
    list[str], typer.Argument(metavar="PATHS", help="Log files, folders, globs, .gz, .zst; '-' is standard input.")
]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset, as written by `analyzer ingest`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
DialectName = Annotated[
    str | None,
    typer.Option(
        "--dialect", metavar="NAME", help="Read lines in this layout instead of detecting it: std, docker_json/std."
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Key of the pseudonyms, to share one between datasets and copies; else a random one.",
    ),
]


def zone(name: str) -> str:
    """Check the name of a time zone.

    Raises:
        UsageError: there is none of that name.
    """
    from zoneinfo import available_timezones

    # two entries of the database name no zone
    if name not in available_timezones() - {"localtime", "Factory"}:
        raise UsageError(f"there is no time zone {name}", "give an IANA name such as Europe/Berlin or UTC")
    return name


def zones(given: list[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """The zone of all sources, and those of some.

    Raises:
        UsageError: two for all, or one that there is not.
    """
    pairs = [(source, found, zone(name)) for source, found, name in (one.rpartition("=") for one in given)]
    everywhere = [name for _, found, name in pairs if not found]
    if len(set(everywhere)) > 1:
        raise UsageError(f"--timezone is {' and '.join(everywhere)} for all logs", "--timezone LOG=ZONE is for one")
    return (everywhere[0] if everywhere else None), [(source, name) for source, found, name in pairs if found]


def place(text: str) -> tuple[str, int]:
    """The file and the line of `FILE:LINE`.

    Raises:
        UsageError: it is none.
    """
    path, _, line = text.rpartition(":")
    if not path or not line.isascii() or not line.isdigit() or int(line) < 1:
        raise UsageError(f"{text} is not FILE:LINE", "name a line such as app.log:1824")
    return path, int(line)


def moment(text: str | None) -> datetime | None:
    """A time, in UTC where it names no zone.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text} is no time", "write it such as 2026-11-22, 2026-11-22T13:20 or 2026-11-22T13:20+01:00"
        ) from error
