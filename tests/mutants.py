"""Faults put into the program one at a time, to see whether the tests notice.

    python -m tests.mutants [--sample N] [--seed S] [--jobs J] [PART…]

A fault is one operator, bound, method or join turned into its neighbour, in the accounting, the reductions or the
redactor. Each of a sample is put into a copy of the checkout, and the tests of that part run until one fails. Prints
the faults that no test noticed, and the share that was noticed; fails below `WANTED`.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.truth import ROOT

WANTED = 0.85
#: a fault may make a loop of what ends
TIMEOUT_S = 900
#: where faults are put, and the tests that are to notice, quick ones first
PARTS: dict[str, tuple[str, ...]] = {
    "reductions": (
        "tests/test_samples.py", "tests/test_life.py", "tests/test_ends.py", "tests/test_sides.py",
        "tests/test_setup_phases.py", "tests/test_durations.py", "tests/test_turn_attempts.py",
        "tests/test_candidate_pairs.py", "tests/test_clocks.py", "tests/test_relay_bytes.py", "tests/test_artefacts.py",
        "tests/test_agreement.py", "tests/test_servers.py", "tests/test_told.py", "tests/test_association.py",
        "tests/test_checks.py", "tests/test_releases.py", "tests/test_accounting.py", "tests/test_captures.py",
        "tests/test_relay.py", "tests/test_views.py", "tests/test_reductions.py", "tests/test_growth.py",
    ),
    "accounting": (
        "tests/test_accounting.py", "tests/test_releases.py", "tests/test_coverage.py", "tests/test_bounds.py",
        "tests/test_captures.py",
    ),
    "redact": ("tests/test_redact.py", "tests/test_canaries.py", "tests/test_addresses.py"),
}  # fmt: skip
_COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
_COMBINED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.BitAnd: "|", ast.BitOr: "&"}
_CALLED = {
    "min": "max", "max": "min", "first": "last", "last": "first", "any": "all", "all": "any", "any_horizontal":
    "all_horizontal", "all_horizontal": "any_horizontal", "is_null": "is_not_null", "is_not_null": "is_null",
    "min_horizontal": "max_horizontal", "max_horizontal": "min_horizontal",
}  # fmt: skip
_JOINED = {"left": "inner", "semi": "anti", "anti": "semi"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: the text from `begin` to `end` of a file is another one."""

    part: str
    path: Path
    line: int
    begin: int
    end: int
    text: str

    def of(self, source: str) -> str:
        """The file with the fault."""
        return source[: self.begin] + self.text + source[self.end :]


def _annotations(node: ast.AST) -> Iterator[ast.expr]:
    for name in ("annotation", "returns"):
        if (found := getattr(node, name, None)) is not None:
            yield found


def _faults(source: str) -> Iterator[tuple[int, int, int, str]]:
    """Line, place, and text instead, of every fault that a file can have."""
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line.encode()))
    raw = source.encode()

    def at(line: int, column: int) -> int:
        return len(raw[: begins[line - 1] + column].decode())

    def between(left: ast.expr, right: ast.expr, sign: str) -> tuple[int, int, int, str]:
        begin, end = at(left.end_lineno or 0, left.end_col_offset or 0), at(right.lineno, right.col_offset)
        gap = source[begin:end]
        bare = gap.strip(" \n()")
        # brackets of the operands stay
        return left.end_lineno or 0, begin, end, gap.replace(bare, sign, 1)

    tree = ast.parse(source)
    # what types there are changes nothing
    said = {id(part) for node in ast.walk(tree) for one in _annotations(node) for part in ast.walk(one)}
    for node in ast.walk(tree):
        if id(node) in said:
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
            yield between(node.left, node.comparators[0], _COMPARED[type(node.ops[0])])
        elif isinstance(node, ast.BinOp) and type(node.op) in _COMBINED and not isinstance(node.left, ast.Constant):
            yield between(node.left, node.right, _COMBINED[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            begin = at(node.lineno, node.col_offset)
            yield node.lineno, begin, begin + 1, ""
        elif isinstance(node, ast.Attribute) and node.attr in _CALLED:
            end = at(node.end_lineno or 0, node.end_col_offset or 0)
            yield node.end_lineno or 0, end - len(node.attr), end, _CALLED[node.attr]
        elif isinstance(node, ast.keyword) and node.arg == "how" and isinstance(node.value, ast.Constant):
            begin, how = at(node.value.lineno, node.value.col_offset), str(node.value.value)
            yield node.value.lineno, begin, begin + len(how) + 2, f'"{_JOINED.get(how, how)}"'


def mutants(part: str) -> list[Mutant]:
    """Every fault of a part, in order; what does not compile is none."""
    found = []
    for path in sorted((ROOT / "analyzer" / part).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for line, begin, end, text in _faults(source):
            mutant = Mutant(part, path.relative_to(ROOT), line, begin, end, text)
            try:
                compile(mutant.of(source), str(path), "exec")
            except SyntaxError:
                continue
            if mutant.of(source) != source:
                found.append(mutant)
    return found


def _copied(folder: Path, name: str) -> Path:
    """A checkout to put faults into."""
    copy = folder / name
    kept = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, copy / "main", ignore=kept, symlinks=True)
    if (ROOT.parent / "shared").exists():
        (copy / "shared").symlink_to(ROOT.parent / "shared")
    return copy / "main"


def _passes(part: str, checkout: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *PARTS[part]]
    env = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(command, cwd=checkout, env=env, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


def _is_noticed(mutant: Mutant, checkout: Path) -> bool:
    path = checkout / mutant.path
    source = path.read_text(encoding="utf-8")
    path.write_text(mutant.of(source), encoding="utf-8")
    try:
        return not _passes(mutant.part, checkout)
    finally:
        path.write_text(source, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where too few faults are noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="*", default=list(PARTS), help="of " + ", ".join(PARTS))
    parser.add_argument("--sample", type=int, default=40, help="faults of each part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    all_of = {part: mutants(part) for part in given.part}
    chosen = [one for some in all_of.values() for one in Random(given.seed).sample(some, min(given.sample, len(some)))]
    print(f"{len(chosen)} of {sum(map(len, all_of.values()))} faults, seed {given.seed}")
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(given.jobs) as pool:
        free = [_copied(Path(scratch), str(job)) for job in range(given.jobs)]
        for part in given.part:
            if not _passes(part, free[0]):
                sys.exit(f"the tests of {part} fail without a fault")

        def tried(mutant: Mutant) -> bool:
            checkout = free.pop()
            try:
                return _is_noticed(mutant, checkout)
            finally:
                free.append(checkout)

        noticed = 0
        for mutant, told in zip(chosen, pool.map(tried, chosen), strict=True):
            noticed += told
            source = (ROOT / mutant.path).read_text(encoding="utf-8")
            line = mutant.of(source).splitlines()[mutant.line - 1].strip()
            print(f"{'noticed ' if told else 'SURVIVED'} {mutant.path}:{mutant.line}: {line[:160]}", flush=True)
    print(f"{noticed} of {len(chosen)} noticed, {noticed / max(len(chosen), 1):.0%}")
    return 0 if noticed >= WANTED * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
