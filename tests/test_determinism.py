"""The same logs give the same bytes: whatever the threads, the seed of hashes, and the order of arguments."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets import CAPTURED, SEED_LINES

FOLDER = CAPTURED / "1.0.0" / "C-srflx-nat"
#: threads of Polars, seed of Python's hashes, whether the arguments are turned round
RUNS = (("1", "0", False), ("2", "1", True), ("8", "random", False), ("8", "0", True))


def tables(out: Path) -> dict[str, str]:
    """SHA-256 of every file that is live in a dataset."""
    found = sorted(out.glob("[a-z]*/*.parquet"))
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    seed = tmp_path_factory.mktemp("logs") / "seed.log"
    seed.write_text("\n".join(SEED_LINES) + "\n")
    return [str(seed), *sorted(map(str, FOLDER.glob("*.log*")))]


def test_tables_are_the_same_bytes_however_they_are_made(tmp_path: Path, logs: list[str]) -> None:
    made = {}
    for threads, seed, turned in RUNS:
        out = tmp_path / f"{threads}-{seed}-{turned}"
        subprocess.run(
            [sys.executable, "-m", "analyzer", "ingest", *(logs[::-1] if turned else logs), "--out", str(out)],
            env={**os.environ, "POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        made[out.name] = tables(out)
    first, *others = made.values()
    assert len(first) > 10
    assert all(other == first for other in others), {
        name: [run for run, found in made.items() if found.get(name) != first.get(name)] for name in first
    }
