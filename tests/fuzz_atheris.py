"""Coverage-guided fuzzing of what reads foreign bytes; `pip install atheris` first, it is no dependency of the tests.

`python -m tests.fuzz_atheris lines -max_total_time=600` looks for inputs that take new paths through lines → records →
events; `candidate` through the candidate parser; `archive` through decompression; `state` through the manifest. Further
arguments go to libFuzzer, a corpus folder among them. It stops at the first input that raises what is no error for a
person, or that is not accounted for, and leaves it in a file.
"""

from __future__ import annotations

import importlib
import io
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FunctionType
from typing import Any

import polars as pl

from analyzer import archives, lines, records
from analyzer.errors import AnalyzerError
from analyzer.events.candidate import CANDIDATE_SCHEMA, parse_candidates, parse_pair_candidate
from analyzer.events.plan import extract, sift
from analyzer.inputs import Input
from analyzer.tables.dataset import MANIFEST, STATE, read_manifest
from analyzer.tally import Tally

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))


def read_lines(data: bytes) -> None:
    """A log of these bytes: every line and every byte of it is in a record, or refused."""
    path = _FOLDER / "fuzz.log"
    path.write_bytes(data)
    tally = Tally()
    # small blocks, so that records go over their borders
    blocks = lines.read(Input("fuzz.log", path), tally, block_bytes=64)
    rejected = 0
    for _, frame in records.split(blocks, refusals=tally.refusals):
        fates = extract(sift(frame.with_columns(source=pl.lit("fuzz.log")))).fates
        rejected += fates.filter(pl.col("fate") == "rejected").height
    assert tally.refusals.lines == tally.lines, "lines"
    assert tally.refusals.bytes == tally.bytes + (tally.recoded or 0), "bytes"
    assert tally.refusals.rejected == rejected, "rejected"


def read_candidate(data: bytes) -> None:
    """A candidate of these bytes."""
    text = pl.Series([data.decode("utf-8", "backslashreplace")])
    assert parse_candidates(text).schema == CANDIDATE_SCHEMA
    pl.DataFrame({"text": text}).select(**parse_pair_candidate(pl.col("text")))


def read_archive(data: bytes) -> None:
    """A file of these bytes, which may be compressed."""
    with suppress(archives.BrokenOff):
        for magic in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
            for _ in archives.decompressed(io.BytesIO(magic + data)):
                pass


def read_state(data: bytes) -> None:
    """A manifest of these bytes."""
    (_FOLDER / STATE).mkdir(exist_ok=True)
    (_FOLDER / STATE / MANIFEST).write_bytes(data)
    with suppress(AnalyzerError):
        read_manifest(_FOLDER)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "lines": read_lines,
    "candidate": read_candidate,
    "archive": read_archive,
    "state": read_state,
}


def main() -> None:
    """Fuzz the target that is named until it breaks, or until the time is up."""
    # no stubs, and not there where only the tests are run
    atheris: Any = importlib.import_module("atheris")
    name, *rest = sys.argv[1:]
    for module in (lines, records, archives):
        for found in vars(module).values():
            if (
                isinstance(found, FunctionType)
                and found.__module__ == module.__name__
                and not hasattr(found, "cache_info")
            ):
                atheris.instrument_func(found)
    atheris.Setup([sys.argv[0], *rest], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
