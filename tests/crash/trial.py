"""Trials: a dataset as it was, a deed whose disk fails at one operation, what readers see then, and the next run.

Each trial is a process forked from one that has loaded everything and used no thread yet, and so is the deed in it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from analyzer import grammar
from analyzer.tables.publish import COMMIT, STAGE
from tests.crash.faults import KILLED, MODES, Disk, Op
from tests.crash.scenarios import Deed, Scenario
from tests.crash.seen import live, naive, opened, rows

#: exit codes of a run whose disk fails, by the table in README
REFUSED = 73


def forked(work: Callable[[], object], said: Path | None = None) -> tuple[int, str]:
    """Do something in a child of this process; its exit code, and what it said on standard error."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 99
        try:
            if said:
                handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
            found = work()
            code = found if isinstance(found, int) else 0
        except BaseException:  # noqa: BLE001 - it is told and judged by the parent
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace") if said else ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What trials of a scenario start from and are held against: folders of the old and the new dataset."""

    scenario: Scenario
    folder: Path

    @property
    def old(self) -> Path:
        return self.folder / "old"

    @property
    def new(self) -> Path:
        return self.folder / "new"

    def tables(self, out: Path) -> dict[str, pl.DataFrame]:
        return {name: rows(out / name) for name in self.scenario.tables if (out / name).is_dir()}


def prepare(scenario: Scenario, scratch: Path) -> Ground:
    """Build what a scenario starts from and what it comes to, without any fault."""
    ground = Ground(scenario, scratch / scenario.name.replace(" ", "-"))
    ground.folder.mkdir(parents=True)
    loaded = ground.folder / "loaded"

    def told(deed: Deed, out: Path) -> int:
        code = deed(out)
        loaded.write_text("\n".join(sys.modules))
        return code

    for out, deeds in ((ground.old, scenario.before), (ground.new, (scenario.clean,))):
        for deed in deeds:
            code, said = forked(partial(told, deed, out), ground.folder / "said")
            assert not code, said
    _load(loaded.read_text().splitlines())
    return ground


def _load(modules: Iterable[str]) -> None:
    """Have in this process what every deed would load and compile again: modules and grammars, which use no thread."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    for compiled in (grammar.shipped, grammar.dialects, grammar.wraps, grammar.candidate_forms, grammar.shared_columns):
        compiled()


def done(ground: Ground) -> list[Op]:
    """Run the deed once on a good disk and give what it did to it."""
    out = ground.folder / "counted" / "metrics"
    lay(ground, out)

    def work() -> None:
        disk = Disk(out, keep_data=False)
        disk.install()
        ground.scenario.deed(out)
        (ground.folder / "ops.json").write_text(json.dumps([(op.name, op.path, op.target) for op in disk.ops]))

    forked(work, ground.folder / "said")
    shutil.rmtree(out.parent)
    return [Op(*one) for one in json.loads((ground.folder / "ops.json").read_text())]


def points(ops: Sequence[Op], step: int) -> list[int]:
    """Operations to fail at: all from the seal on, every `step`th before; of a file's writes the first and last."""
    seal = next((number for number, op in enumerate(ops) if op.target.endswith(f"/{COMMIT}")), 0)
    named = [(op.name, op.path) for op in ops]
    chosen = [
        number
        for number, (name, path) in enumerate(named)
        if name != "write" or {named[number - 1], named[number + 1]} != {(name, path)}
    ]
    return [number + 1 for place, number in enumerate(chosen) if number >= seal - 2 or not place % step]


def lay(ground: Ground, out: Path) -> None:
    out.parent.mkdir(parents=True)
    if ground.old.exists():
        shutil.copytree(ground.old, out)


def judge(ground: Ground, out: Path) -> Iterator[str]:
    """Hold a dataset whose writer was stopped against the law: readable as it is, and made whole by the next run."""
    old = ground.tables(ground.old) if ground.old.exists() else {}
    new = ground.tables(ground.new)
    if out.exists():
        yield from naive(out, old, new)
    # opening finishes what was sealed; a copy is opened, so that the next run finds what the stopped one left
    copy = out.parent / "opened"
    if out.exists():
        shutil.copytree(out, copy)
    yield from opened(copy, [old, new])
    if code := ground.scenario.deed(out):
        yield f"the next run ends with {code}"
    if live(out) != live(ground.new):
        yield "the next run gives other bytes"
    if left := [
        path.name
        for path in (out / "_analyzer").iterdir()
        if path.name not in ("manifest.json", "lock", "key", "part-0.state")
    ]:
        yield f"the next run leaves {left}"


def _blamed(mode: str, code: int, said: str, out: Path) -> Iterator[str]:
    """How a run ends whose disk failed: by its signal, or with one line and its exit code, the stage taken away."""
    if mode == "kill":
        if code != KILLED:
            yield f"ends with {code}: {said[-300:]}"
        return
    if "Traceback" in said or code not in (0, REFUSED):
        yield f"ends with {code}: {said[-1500:]}"
    elif code and len(said.strip().splitlines()) != 1:
        yield f"says {said!r}"
    # what was sealed is kept for the next run; a disk that is gone cannot be cleaned; after all was done a disk that
    # fails at just that leaves the folder of the stage, empty
    state = out / "_analyzer"
    left = [path.name for path in (state / STAGE).iterdir()] if (state / STAGE).exists() else None
    if mode != "gone" and not (state / COMMIT).exists() and (left or (code and left is not None)):
        yield f"the stage is left: {left}"


def _state(out: Path, *, thrifty: bool) -> str:
    """What tells one stopped run from another: all there is. `thrifty`: no stage without a seal, dropped unread."""
    skips = thrifty and not (out / "_analyzer" / COMMIT).exists()
    told = hashlib.sha256(str(out.exists()).encode())
    for path in sorted(out.rglob("*")):
        if not (skips and "stage" in path.parts):
            held = path.read_bytes() if path.is_file() else b""
            told.update(f"{path.relative_to(out)}\0{path.stat().st_mode}\0{len(held)}\0".encode() + held)
    return told.hexdigest()


def verdict(ground: Ground, out: Path) -> list[str]:
    """Judge in a process of its own, so that this one stays fit for forking."""

    def judged() -> int:
        found = list(judge(ground, out))
        (out.parent / "found.json").write_text(json.dumps(found))
        return 0

    code, said = forked(judged, out.parent / "judged")
    return json.loads((out.parent / "found.json").read_text()) if not code else [f"cannot be judged: {said[-1500:]}"]


def attempt(ground: Ground, mode: str, at: int, known: dict[str, list[str]], *, thrifty: bool = False) -> list[str]:
    """Run the deed on a disk that fails at operation `at`, and judge what it left; what was wrong.

    What is `known` was judged before, with the same bytes on the disk: the next run can tell them by nothing.
    """
    folder = ground.folder / f"{mode}-{at}"
    out = folder / "metrics"
    lay(ground, out)

    def work() -> int:
        Disk(out, mode, at).install()
        return ground.scenario.deed(out)

    code, said = forked(work, folder / "said")
    wrong = list(_blamed(mode, code, said, out))
    state = _state(out, thrifty=thrifty)
    if state not in known:
        known[state] = verdict(ground, out)
    wrong += known[state]
    shutil.rmtree(folder)
    return [f"{ground.scenario.name}, {mode} at {at}: {one}" for one in wrong]


def every(
    ground: Ground, modes: Sequence[str] = MODES, step: int = 1, *, sample: int = 0, thrifty: bool = False
) -> tuple[int, list[str]]:
    """Try the operations of a deed in some modes; how many trials, and what was wrong.

    Of runs that left the same bytes one is judged. `sample`: no more than so many trials. `thrifty`: what is in a stage
    without a seal makes no difference.
    """
    tried = [(mode, at) for at in points(done(ground), step) for mode in modes]
    if 0 < sample < len(tried):
        tried = random.Random(7).sample(tried, sample)
    known: dict[str, list[str]] = {}
    wrong = [one for mode, at in tried for one in attempt(ground, mode, at, known, thrifty=thrifty)]
    print(f"  {len(known)} of the {len(tried)} left different bytes", flush=True)
    return len(tried), wrong
