"""The dataset on disk: a commit is all or nothing, again is nothing, and anybody's reader reads it."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

import analyzer
from analyzer.catalogue import TABLES
from analyzer.errors import BusyError, DatasetError, OutputError
from analyzer.pipeline import ingest
from analyzer.tables import dataset
from analyzer.tables.declare import SCHEMA_VERSION
from tests.datasets import CAPTURED

LOGS = sorted((CAPTURED / "2.2.9" / "D-relay-client").glob("*.log"))
#: renames of a commit: the first is its seal, the last writes the manifest
SEAL, LAST, NEVER = 1, -900, 0
#: a process that is killed at one of its renames, by number, or that nobody stops
VICTIM = """
import os, signal, sys
from pathlib import Path
from analyzer.pipeline import ingest
left, replace = int(sys.argv[1]), Path.replace
def failing(path, target):
    global left
    left -= 1
    if not left or (left < -900 and target.name == "manifest.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = failing
print("begin", flush=True)
ingest(sys.argv[3:], Path(sys.argv[2]))
"""


def files(out: Path) -> dict[str, bytes]:
    """Bytes of every live file of the tables."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("*/*.parquet")}


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "metrics"
    ingest([str(path) for path in LOGS], out)
    return out


@pytest.fixture(scope="module")
def of_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of the first log only."""
    out = tmp_path_factory.mktemp("one") / "metrics"
    ingest([str(LOGS[0])], out)
    return out


# -- again, and more --------------------------------------------------------------------------------------------------


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert ingest([str(path) for path in LOGS], out).changed
    before, bytes_before = stamps(out), files(out)
    for again in (LOGS, LOGS[::-1], LOGS[:1]):
        done = ingest([str(path) for path in again], out)
        assert (done.changed, sorted(name for name, _ in done.known)) == (False, sorted(path.name for path in again))
        assert (stamps(out), files(out)) == (before, bytes_before)


def test_two_folders_of_the_same_logs_are_equal_byte_for_byte(tmp_path: Path, built: Path) -> None:
    for folder in ("a", "b/c"):
        logs = tmp_path / folder / "logs"
        logs.mkdir(parents=True)
        for path in LOGS:
            (logs / path.name).write_bytes(path.read_bytes())
        ingest([str(logs)], tmp_path / folder / "out")
        assert files(tmp_path / folder / "out") == files(built)


def test_a_grown_log_replaces_what_it_was(tmp_path: Path, of_one: Path) -> None:
    whole = LOGS[0].read_bytes()
    log, out = tmp_path / LOGS[0].name, tmp_path / "out"
    third, cut = len(whole) // 3, whole.index(b"\n", len(whole) // 2) + 1
    for size in (third, cut, len(whole)):  # the first is cut within a line
        log.write_bytes(whole[:size])
        assert ingest([str(log)], out).changed
        assert pl.read_parquet(out / "sources")["bytes"].to_list() == [whole[:size].rfind(b"\n") + 1]
    assert files(out) == files(of_one)


def test_logs_come_one_by_one_or_together(tmp_path: Path, built: Path) -> None:
    for path in LOGS:
        ingest([str(path)], tmp_path / "out")
    assert files(tmp_path / "out") == files(built)


# -- killed -----------------------------------------------------------------------------------------------------------


def opens_whole(out: Path, old: Path | None, new: Path) -> None:
    """The dataset opens as it was or as it was to be, all tables alike."""
    opened = analyzer.open(out)
    found = {name: opened.tables[name].collect() for name in TABLES}
    allowed = [
        {name: pl.read_parquet(sorted((known / name).glob("*.parquet"))) for name in TABLES}
        for known in (old, new)
        if known
    ]
    assert any(all(found[name].equals(known[name]) for name in TABLES) for known in allowed)


def run_until_killed(out: Path, rename: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", VICTIM, str(rename), str(out), *map(str, LOGS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.parametrize("rename", [SEAL, 2, 4, LAST])
def test_killed_between_two_renames(tmp_path: Path, of_one: Path, built: Path, rename: int) -> None:
    out = tmp_path / "out"
    ingest([str(LOGS[0])], out)
    with run_until_killed(out, rename) as victim:
        assert victim.wait(60) == -signal.SIGKILL
    assert (out / dataset.STATE / dataset.COMMIT).exists() == (rename != SEAL)
    opens_whole(out, of_one, built)
    ingest([str(path) for path in LOGS], out)
    assert files(out) == files(built)
    assert not list((out / dataset.STATE).glob("stage/*"))


def test_killed_at_any_moment(tmp_path: Path, of_one: Path, built: Path) -> None:
    out, chance = tmp_path / "out", random.Random(5)
    ingest([str(LOGS[0])], out)
    for _ in range(6):
        with run_until_killed(out, NEVER) as victim:
            assert victim.stdout is not None
            victim.stdout.readline()
            time.sleep(chance.uniform(0, 0.4))
            victim.kill()
        opens_whole(out, of_one, built)
    ingest([str(path) for path in LOGS], out)
    assert files(out) == files(built)


def test_killed_in_its_first_commit(tmp_path: Path, built: Path) -> None:
    out = tmp_path / "out"
    with run_until_killed(out, 3) as victim:
        assert victim.wait(60) == -signal.SIGKILL
    opens_whole(out, None, built)
    assert not ingest([str(path) for path in LOGS], out).changed


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"]
)
@pytest.mark.parametrize("rename", [SEAL, 2, 5, LAST])
def test_a_failed_rename_loses_nothing(
    tmp_path: Path, of_one: Path, built: Path, monkeypatch: pytest.MonkeyPatch, rename: int, error: BaseException
) -> None:
    out, left, replace = tmp_path / "out", [rename], Path.replace
    ingest([str(LOGS[0])], out)

    def failing(path: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0] or (left[0] < LAST and target.name == dataset.MANIFEST):
            raise error
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            ingest([str(path) for path in LOGS], out)
    opens_whole(out, of_one, built)
    ingest([str(path) for path in LOGS], out)
    assert files(out) == files(built)


@pytest.mark.parametrize("room", [0, 1, 8])
def test_disk_full(room: int, tmp_path: Path, of_one: Path, built: Path) -> None:
    """One line, exit code 73, what was there is there, and the next run with room comes to the same."""
    out = tmp_path / "out"
    shutil.copytree(of_one, out)
    limited = (
        f"ulimit -f {room // 1000}; exec {sys.executable} -m analyzer ingest {' '.join(map(str, LOGS))} --out {out}"
    )
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (73, 1, "")
    assert "check space" in done.stderr
    assert files(out) == files(of_one)
    assert analyzer.open(out).events.collect().equals(analyzer.open(of_one).events.collect())
    ingest([str(path) for path in LOGS], out)
    assert files(out) == files(built)


def test_a_second_writer_is_told_to_wait(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest([str(LOGS[0])], out)
    before = files(out)
    with (out / dataset.STATE / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another run is writing"):
            ingest([str(LOGS[1])], out)
    assert files(out) == before
    with dataset.writing(out), pytest.raises(BusyError), dataset.writing(out):
        pass


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest([str(LOGS[0])], out)
    before = files(out)
    manifest = out / dataset.STATE / dataset.MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"format": {dataset.FORMAT}', '"format": 99'))
    with pytest.raises(DatasetError, match="another version"):
        ingest([str(LOGS[1])], out)
    assert files(out) == before


# -- what lies there --------------------------------------------------------------------------------------------------


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ingest([str(LOGS[0])], tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    wrong = {path.name: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)}
    assert not wrong


def test_a_tables_folder_holds_parquet_and_nothing_else(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {*TABLES, dataset.STATE}
    for name in TABLES:
        assert all(path.suffix == ".parquet" and path.is_file() for path in (built / name).iterdir()), name


def parts(built: Path) -> Iterator[tuple[str, Path]]:
    yield from ((path.parent.name, path) for path in sorted(built.glob("*/*.parquet")))


def test_every_file_has_the_declared_schema_and_says_what_it_means(built: Path) -> None:
    for name, path in parts(built):
        schema, table = pq.read_schema(path), TABLES[name]
        assert schema.names == [column.name for column in table.columns], name
        assert pl.read_parquet_schema(path) == dict(table.schema), name
        assert schema.metadata[b"schema_version"].decode() == SCHEMA_VERSION, name
        assert (schema.metadata[b"table"].decode(), schema.metadata[b"row"].decode()) == (name, table.row)
        for column in table.columns:
            said = {key.decode(): value.decode() for key, value in (schema.field(column.name).metadata or {}).items()}
            assert said.get("doc") == column.doc != "", (name, column.name)
            assert said.get("unit", "") == column.unit, (name, column.name)
            suffixed = column.name.endswith("_ms") and column.dtype in (pl.Float64(), pl.List(pl.Float64()))
            assert not suffixed or column.unit == "ms", (name, column.name)


def test_every_reader_reads_the_same_rows(built: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is one reader of three and no dependency")
    for name in TABLES:
        told = pl.read_parquet(built / name)
        by_arrow = pq.ParquetDataset(built / name).read()
        assert (by_arrow.num_rows, by_arrow.column_names) == (len(told), told.columns), name
        assert pl.DataFrame(pl.from_arrow(by_arrow)).equals(told), name
        by_duckdb = duckdb.sql(f"select * from read_parquet('{built / name}/*.parquet')")  # noqa: S608 - our own folder
        assert by_duckdb.columns == told.columns, name
        plain = [one for one, dtype in told.schema.items() if not dtype.is_nested() and not dtype.is_temporal()]
        rows = sorted(by_duckdb.project(", ".join(f'"{one}"' for one in plain)).fetchall(), key=repr)
        assert rows == sorted(told.select(plain).rows(), key=repr), name


def test_pandas_reads_the_same_rows(built: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is another reader, and no dependency")
    for name in TABLES:
        told = pl.read_parquet(built / name)
        read = pandas.read_parquet(built / name)
        assert (len(read), list(read.columns)) == (len(told), told.columns), name
        for one, dtype in told.schema.items():
            if dtype == pl.String():
                assert [None if value is pandas.NA or value != value else value for value in read[one]] == told[
                    one
                ].to_list(), (name, one)


def test_tables_hold_no_path_and_no_time_of_ours(tmp_path: Path, built: Path) -> None:
    began = datetime.now(UTC)
    logs = tmp_path / "telltale-folder" / "logs"
    logs.mkdir(parents=True)
    for path in LOGS:
        # the times of the log are well away from ours
        (logs / path.name).write_bytes(path.read_bytes().replace(b"2026-11-22 ", b"2019-03-04 "))
    ingest([str(logs)], tmp_path / "out")
    for name, data in files(tmp_path / "out").items():
        assert b"telltale-folder" not in data, name
        assert str(tmp_path).encode() not in data, name
    for name in TABLES:
        frame = pl.read_parquet(tmp_path / "out" / name)
        for text in frame.select(pl.selectors.string()).iter_columns():
            assert not text.drop_nulls().str.contains("telltale-folder|^/(tmp|work|home|root)/").any(), (
                name,
                text.name,
            )
        for time_ in frame.select(pl.selectors.datetime()).iter_columns():
            assert not time_.drop_nulls().is_between(began - timedelta(days=1), began + timedelta(days=1)).any(), name
