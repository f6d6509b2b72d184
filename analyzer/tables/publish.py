"""The sealed half of a commit: what it takes to make staged files the dataset, as a list that can be done again.

    OUT/_analyzer/commit.json      the list; its name is the seal
    OUT/_analyzer/stage/           the files it moves, the next manifest among them

Everything is on the disk before the seal. After it nothing is written, names change only, so a full disk cannot get in
between. Every step may be done again: a run that finds a seal does the whole list once more.

A reader that knows nothing of this may come at any time, or after a power cut in between, and must see whole files and
never a row twice. A table of one file is replaced in one step. In a table of several, what goes is gone, on the disk
too, before anything comes: for that moment rows are missing. Files of one set (`a-00000`, `a-00001`) may pass rows to
each other: where several are replaced, all but the first make room, and the first is replaced, on the disk too, before
the others come. Where nothing would be left, the last file that goes takes the name of the first that comes, to be
replaced by it, on the disk too, before the others come. A file without rows goes when the others are on the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from analyzer.errors import DatasetError
from analyzer.tables.durable import create_json, make_folder, read_json, sync_folder

STATE, MANIFEST, COMMIT, STAGE = "_analyzer", "manifest.json", "commit.json", "stage"


def _table(relative: str) -> str:
    return relative.partition("/")[0]


@dataclass(slots=True)
class Steps:
    """What happens to one table, in this order."""

    #: files that go
    gone: list[str] = field(default_factory=list)
    #: a file that goes and the name it takes for a moment
    handed: list[tuple[str, str]] = field(default_factory=list)
    #: staged file and the name whose file makes room for it
    room: list[tuple[str, str]] = field(default_factory=list)
    #: staged file and its name, where it is the first of its set and replaces one, or what was handed over
    first: list[tuple[str, str]] = field(default_factory=list)
    #: staged file and its name
    others: list[tuple[str, str]] = field(default_factory=list)
    #: files that go and have no rows to be missed
    empty: list[str] = field(default_factory=list)


def _steps(staged: Mapping[str, str], live: Mapping[str, Mapping[str, Any]], removed: Collection[str]) -> Steps:
    """What to do with a table. `staged`: file in the stage → its name; `live`: what there is, with its rows."""
    ordered = sorted(
        (relative.rpartition("-")[0], relative not in live, relative, file) for file, relative in staged.items()
    )
    steps = Steps(
        gone=sorted(relative for relative in removed if live[relative]["rows"]),
        # a table without any file is no table to many readers
        empty=sorted(relative for relative in removed if not live[relative]["rows"]),
    )
    for _, members in groupby(ordered, key=lambda one: one[0]):
        renames = [(file, relative) for _, _, relative, file in members]
        replacing = renames[0][1] in live
        steps.first += renames[:replacing]
        steps.others += renames[replacing:]
        steps.room += [(file, relative) for file, relative in renames[1:] if relative in live]
    if steps.gone and steps.others and set(live) == set(steps.gone):
        # nothing is replaced yet, so what comes first replaces what was handed over
        steps.first.append(steps.others.pop(0))
        steps.handed.append((steps.gone.pop(), steps.first[0][1]))
    return steps


def seal(
    out: Path,
    manifest: Mapping[str, Any],
    staged: Mapping[str, str],
    live: Mapping[str, Mapping[str, Any]],
    removed: Collection[str],
) -> None:
    """Put all that a commit needs on the disk, then its seal: from here on it will happen."""
    state = out / STATE
    stage = state / STAGE
    tables: dict[str, Any] = {}
    for table in sorted({_table(relative) for relative in (*staged.values(), *removed)}):
        tables[table] = asdict(
            _steps(
                {file: relative for file, relative in staged.items() if _table(relative) == table},
                {relative: entry for relative, entry in live.items() if _table(relative) == table},
                [relative for relative in removed if _table(relative) == table],
            )
        )
    create_json(stage / MANIFEST, manifest)
    create_json(stage / COMMIT, {"tables": tables})
    for table in tables:
        make_folder(out / table)
    # folders may be left from a run that was killed before it synced them
    for folder in (stage, state, out):
        sync_folder(folder)
    (stage / COMMIT).replace(state / COMMIT)
    sync_folder(state)


def _read(state: Path) -> dict[str, Steps]:
    try:
        return {table: Steps(**steps) for table, steps in read_json(state / COMMIT)["tables"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{state / COMMIT} cannot be read ({error})", "ingest its logs into a new folder") from error


def _move(stage: Path, out: Path, renames: Collection[Sequence[str]]) -> None:
    for file, relative in renames:
        # what is not there any more has been moved before
        if (stage / file).exists():
            (stage / file).replace(out / relative)


def _finish_table(out: Path, table: Path, steps: Steps) -> None:
    stage = out / STATE / STAGE
    # a name whose staged file is gone has been replaced already
    going = [*steps.gone, *(relative for file, relative in steps.room if (stage / file).exists())]
    for relative in going:
        (out / relative).unlink(missing_ok=True)
    for relative, name in steps.handed:
        if (out / relative).exists():
            (out / relative).replace(out / name)
    if going or steps.handed:
        sync_folder(table)
    _move(stage, out, steps.first)
    if steps.first and steps.others:
        sync_folder(table)
    _move(stage, out, steps.others)
    if steps.empty:
        sync_folder(table)
    for relative in steps.empty:
        (out / relative).unlink(missing_ok=True)
    sync_folder(table)


def finish(out: Path) -> None:
    """Do what a sealed commit lists, all of it or what is left of it, and take the seal off.

    Raises:
        DatasetError: the seal is damaged, or what it lists is not there.
    """
    state = out / STATE
    stage = state / STAGE
    tables = _read(state)
    moves = [pair for steps in tables.values() for pair in (*steps.first, *steps.others)]
    moves.append((MANIFEST, f"{STATE}/{MANIFEST}"))
    lost = [relative for file, relative in moves if not (stage / file).exists() and not (out / relative).exists()]
    if lost:
        raise DatasetError(f"{out} is damaged ({lost[0]} is missing)", "ingest its logs into a new folder")
    for table, steps in tables.items():
        _finish_table(out, out / table, steps)
    if (stage / MANIFEST).exists():
        (stage / MANIFEST).replace(state / MANIFEST)
    sync_folder(state)
    (state / COMMIT).unlink()
    sync_folder(state)
