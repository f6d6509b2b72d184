"""What the user named → what there is to read: files, folders, globs, `-`, each under a name of its own.

Only regular files are read. A symbolic link is followed where it was named itself, and below a folder only if that is
asked for. What is left out is an input as well, with the reason (`refusals.REASONS`).
"""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from analyzer.errors import InputError, UsageError
from analyzer.refusals import REASONS

STDIN = "-"
#: so many sources are named to somebody who named none
NAMED = 6
_STDIN_PATH = Path("/dev/stdin")


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to read: its name in the dataset, and its place on disk (None is standard input).

    `refused` is the reason why it is not read at all; a trusted one may be an archive of any size, and the last line
    of a final one is whole although it has no end.
    """

    name: str
    path: Path | None
    refused: str | None = None
    trusted: bool = False
    final: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    #: relative to what was given
    name: str
    refused: str | None = None


def why_not(error: OSError) -> str:
    """The reason for an error of the system at an input."""
    known = {PermissionError: "permission_denied", FileNotFoundError: "vanished", NotADirectoryError: "vanished"}
    return next((reason for kind, reason in known.items() if isinstance(error, kind)), "read_error")


def _refused(path: Path) -> str | None:
    """Why a file is not read, as far as can be told without opening it."""
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "not_regular"
    except OSError as error:
        # what leads nowhere, as well as what leads in circles, is known when it is followed
        return "symlink_loop" if _is_loop(error) else why_not(error)


def _is_loop(error: OSError) -> bool:
    return error.errno == 40 or "symbolic links" in (error.strerror or "")


def _listed(folder: Path, *, follow: bool) -> Iterator[_Found]:
    """All that is below a folder, hidden files apart, in the order of names; folders only where they are not read."""
    failed: list[OSError] = []
    above: dict[str, tuple[str, ...]] = {}
    for root, folders, files in os.walk(folder, onerror=failed.append, followlinks=follow):
        here = (*above.pop(root, ()), os.path.realpath(root))
        linked = sorted(name for name in folders if not name.startswith(".") and Path(root, name).is_symlink())
        circles = [name for name in linked if os.path.realpath(Path(root, name)) in here]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in circles)
        above |= {os.path.join(root, name): here for name in folders}  # noqa: PTH118 - as the walk spells it
        datasets = [name for name in folders if Path(root, name, "_analyzer", "manifest.json").exists()]
        folders[:] = [name for name in folders if name not in datasets]
        yield from (_below(folder, Path(root, name), "dataset") for name in datasets)
        for name in sorted((*files, *linked)):
            path = Path(root, name)
            if name.startswith("."):
                continue
            if name in circles:
                yield _below(folder, path, "symlink_loop")
            elif path.is_symlink() and not follow:
                yield _below(folder, path, "not_followed")
            elif name not in linked:
                yield _below(folder, path, _refused(path))
    yield from (_below(folder, Path(error.filename), why_not(error)) for error in failed)


def _below(folder: Path, path: Path, refused: str | None) -> _Found:
    return _Found(path, path.relative_to(folder).as_posix() if path != folder else path.name, refused)


def _expanded(given: str, *, follow: bool) -> list[_Found]:
    """What there is at or below one argument."""
    path = Path(given)
    if path.is_dir():
        return list(_listed(path, follow=follow))
    if os.path.lexists(path):
        return [_Found(path, path.name, _refused(path))]
    matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 - may be absolute
    return [found for match in matches for found in _expanded(str(match), follow=follow)]


def _spelled(path: str | Path) -> str:
    """A path as a name: whatever its bytes are, it can be written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _longer(name: str, path: Path) -> str:
    """The name with one more parent folder, as long as there is one."""
    kept = len(Path(name).parts) + 1
    return _spelled(Path(*path.parts[-kept:])).lstrip("/")


def _told_apart(found: dict[Path, str]) -> dict[Path, str]:
    """Give inputs of one name as many parent folders as tell them apart."""
    names = dict(found)
    while True:
        taken = Counter(names.values())
        longer = {path: _longer(name, path) for path, name in names.items() if taken[name] > 1}
        if all(names[path] == name for path, name in longer.items()):
            return names
        names |= longer


def discover(
    given: Sequence[str],
    *,
    skip: Path | None = None,
    follow_symlinks: bool = False,
    trust_archives: bool = False,
    final: bool = False,
) -> list[Input]:
    """Find what there is to read, without duplicates, sorted by name. `skip` is a folder never read (the dataset).

    Raises:
        InputError: an argument names nothing, or nothing readable is left.
    """
    # standard input is named with the others: a file may have that name, too
    found = {_STDIN_PATH: "stdin"} if STDIN in given else {}
    refused: dict[Path, str] = {}
    skipped = skip.resolve() if skip else None
    for argument in given:
        if argument == STDIN:
            continue
        if not argument:
            raise UsageError("a path is empty", "name a log file, a folder, a glob or '-'")
        listed = _expanded(argument, follow=follow_symlinks)
        if not listed and not Path(argument).is_dir():
            raise InputError(f"{argument}: no such file or directory", "name a log file, a folder, a glob or '-'")
        for one in listed:
            # of what is left out nothing is known but where it stands
            place = one.path.absolute() if one.refused else one.path.resolve()
            own = one.refused == "dataset" and place == skipped
            if skipped is None or not (own or skipped in place.parents):
                found.setdefault(place, _spelled(one.name))
                if one.refused:
                    refused.setdefault(place, one.refused)
    if not set(found) - set(refused):
        why = sorted(set(refused.values()))
        told = " ".join(REASONS[one].removeprefix("The input: ") for one in why) or "the folders hold no regular file"
        raise InputError(f"nothing to read in {', '.join(given)}", told)
    inputs = [
        Input(name, None if path == _STDIN_PATH else path, refused.get(path), trust_archives, final)
        for path, name in _told_apart(found).items()
    ]
    return sorted(inputs, key=lambda one: one.name)


def named(names: Sequence[str], wanted: str, hint: str) -> list[str]:
    """The sources that a person means: all of a name, the last part of it, or a glob of either.

    Raises:
        UsageError: there is none; `hint` stands before the names of some that there are.
    """
    found = [
        name
        for name in names
        if any(one == wanted or fnmatchcase(one, wanted) for one in (name, name.rpartition("/")[2]))
    ]
    if not found:
        few = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        raise UsageError(f"no source is called {wanted}", f"{hint} {few}")
    return found


def zones_for(names: Sequence[str], given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Zone of each source, by name, from pairs of a source and a zone; of several that fit the last one counts.

    A source is meant as in `named`. Sources that no pair fits are left out.

    Raises:
        UsageError: a pair fits no source.
    """
    found: dict[str, str] = {}
    for pattern, zone in given:
        found |= dict.fromkeys(named(names, pattern, "--timezone SOURCE=ZONE takes one of"), zone)
    return found
