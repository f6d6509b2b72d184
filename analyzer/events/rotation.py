"""Sources → scopes: which sources are parts of one rotated log, and in which order they were written.

`gateway.log.2.gz`, `gateway.log.1` and `gateway.log` are one log that was cut: what stands behind a cut is to be read
as if it stood below what was written before it. Names alone do not prove that, so times have to agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

#: place among the parts of a log as their names tell it, the oldest the least: date, generation, then number
Rank: TypeAlias = tuple[tuple[int, ...], int, int]
#: what tells a source from an older one of the same name
_GENERATION = re.compile(r"#([0-9]+)$")
_PACKED = re.compile(r"\.(?:gz|zst|zstd)$")
#: behind a digit it is the end of an address or of a version
_NUMBER = re.compile(r"(?<!\d)\.(\d{1,3})$")
#: with whatever of the time follows, and at most an extension behind it: `-20260101`, `.2026-01-01_13-05`
_DATE = re.compile(r"[-._](20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])((?:[-._T]?\d)*)(?=(?:\.[a-z]+)?$)")


@dataclass(frozen=True, slots=True)
class Part:
    """What tells the place of a source among others; its times as the text of one zone, null where it has none."""

    identity: str
    name: str
    first_ts: str | None
    last_ts: str | None


def numbered(name: str) -> bool:
    """Whether a source has a number because another one of its name was there before."""
    return _GENERATION.search(name) is not None


def log_of(name: str) -> tuple[str, Rank]:
    """Name of the log that a file is a part of, with its folder, and the rank among the parts.

    Numbers count backwards and dates forwards; the file without either is the newest. One that was read after another
    of its name is newer.
    """
    generation = int(found[1]) if (found := _GENERATION.search(name)) else 1
    folder, slash, file = _GENERATION.sub("", name).rpartition("/")
    file = _PACKED.sub("", file)
    dated: tuple[int, ...] = (1,)
    numbered = 0
    # a name that is nothing but a suffix is no suffix
    if (number := _NUMBER.search(file)) and number.start():
        numbered, file = -int(number[1]), file[: number.start()]
    if (date := _DATE.search(file)) and date.start():
        dated = (0, *map(int, re.findall(r"\d+", "-".join(date.groups()))))
        file = file[: date.start()] + file[date.end() :]
    return f"{folder}{slash}{file}", (dated, generation, numbered)


def _seams(parts: Sequence[Part]) -> Iterator[bool]:
    """Whether each part but the first goes on where the one before it ended; parts of one name, in order.

    Where two overlap there are two logs of that name; which of them the next part belongs to is not told, so whatever
    overlaps stands alone.
    """
    latest = accumulate((part.last_ts or "" for part in parts), max)
    follows = [
        end <= behind.first_ts if behind.first_ts else log_of(before.name)[1] < log_of(behind.name)[1]
        for end, (before, behind) in zip(latest, pairwise(parts), strict=False)
    ]
    clear = [before and behind for before, behind in pairwise([True, *follows, True])]
    return (before and behind for before, behind in pairwise(clear))


def placed(parts: Iterable[Part]) -> list[tuple[Part, int]]:
    """Parts in the order in which they were written, each with the number of its scope.

    Times decide; where they are equal or missing, ranks do. Without times two parts of one rank are of no known order.
    """
    # what ends when another one begins stands before it
    ordered = sorted(
        parts, key=lambda one: (one.first_ts or "", one.last_ts or "", log_of(one.name)[1], one.name, one.identity)
    )
    logs: dict[tuple[str, bool], list[int]] = {}
    for place, part in enumerate(ordered):
        logs.setdefault((log_of(part.name)[0], part.first_ts is None), []).append(place)
    scopes = list(range(len(ordered)))
    for places in logs.values():
        seams = _seams([ordered[place] for place in places])
        for (before, behind), seam in zip(pairwise(places), seams, strict=True):
            if seam:
                scopes[behind] = scopes[before]
    return list(zip(ordered, scopes, strict=True))
