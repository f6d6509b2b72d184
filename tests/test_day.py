"""A day of both sides' logs, whenever it is looked at: the tables are those of one reading at its end."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from analyzer.pipeline import ingest
from tests.datasets import CAPTURED
from tests.test_reductions import opened, placeless

#: captures of which a day is made, each in hours of its own
DAY = ("C-srflx-nat", "D-relay-client", "G-ice-restart", "M-router-credentials-std")


def a_day() -> dict[str, bytes]:
    """Logs of both sides that have several conversations, one capture after the other."""
    found = {"client": b"", "gateway": b""}
    for place, name in enumerate(DAY):
        for side in found:
            (path,) = (CAPTURED / "2.2.9" / name).glob(f"{side}.log*")
            with pa.input_stream(path, compression="zstd" if path.suffix == ".zst" else None) as stream:
                data = stream.read()
            found[side] += re.sub(rb"(?m)^2026-11-22 \d\d:", b"2026-11-22 %02d:" % (5 * place), data)
    return found


def moved(logs: Path, side: str) -> None:
    """Give every part the next number."""
    parts = sorted(logs.glob(f"{side}.log.*"), key=lambda path: -int(path.name.split(".")[2]))
    for part in parts:
        number = int(part.name.split(".")[2])
        part.rename(part.with_name(part.name.replace(f".log.{number}", f".log.{number + 1}")))


@pytest.mark.parametrize("copied", [False, True], ids=["renamed", "copied and truncated"])
def test_a_day_of_both_sides_whenever_it_is_looked_at(copied: bool, tmp_path: Path) -> None:
    """Cut at any byte, rotated, packed and copied, and ingested also while a copy is not whole."""
    logs, out, random = tmp_path / "logs", tmp_path / "out", Random(copied)
    logs.mkdir()
    day = a_day()
    assert day["client"]
    at = dict.fromkeys(day, 0)
    for step in range(1, 9):
        for side, data in day.items():
            log, first = logs / f"{side}.log", logs / f"{side}.log.1"
            to = len(data) if step == 8 else max(at[side], int(len(data) * (step + random.uniform(-0.4, 0.4)) / 8))
            rotates = step in (3, 6)
            to = data.find(b"\n", to) + 1 if rotates else to
            with log.open("ab") as stream:
                stream.write(data[at[side] : to])
            at[side] = to
            if rotates:
                moved(logs, side)
                for share in (0.5, 1) if copied else ():
                    first.write_bytes(log.read_bytes()[: int(log.stat().st_size * share)])
                    ingest([str(logs)], out)
                if copied:
                    log.write_bytes(b"")
                else:
                    log.rename(first)
                packed = gzip.compress(first.read_bytes(), mtime=0)
                (logs / f"{side}.log.1.gz").write_bytes(packed[: len(packed) // 2])
                ingest([str(logs)], out)
                (logs / f"{side}.log.1.gz").write_bytes(packed)
                first.unlink()
        ingest([str(logs)], out)
    ingest([str(logs)], tmp_path / "end")
    for side, data in day.items():
        (tmp_path / f"{side}.log").write_bytes(data)
    ingest([str(tmp_path / f"{side}.log") for side in day], tmp_path / "once")
    assert placeless(opened(out)) == placeless(opened(tmp_path / "end"))
    found, once = (placeless(opened(one)) for one in (tmp_path / "end", tmp_path / "once"))
    told = [name for name in once if name not in ("sources", "coverage", "unmatched")]
    assert {name: found[name] for name in told} == {name: once[name] for name in told}
