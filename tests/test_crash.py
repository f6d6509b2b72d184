"""Whatever stops a run, what is there can be read, and the next run gives what a clean one gives.

Samples; `python -m tests.crash` tries every operation, and prints its figures.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import analyzer
from analyzer import cli
from analyzer.errors import AnalyzerError, DatasetError, OutputError
from analyzer.pipeline import ingest
from analyzer.tables import dataset
from tests.crash.seen import live
from tests.crash.synced import STRACE, traced, unsynced
from tests.truth import ROOT

LOG = ROOT / "fixtures" / "cases" / "tracing" / "plain.log"
OTHER = ROOT / "fixtures" / "cases" / "backend_connect" / "gateway.log"
#: a part of the programme that takes some seconds
SAMPLES = {
    "killed while it publishes": "commits --mode kill --step 1000 --thrifty --sample 12",
    "full, failing and vanishing disks": "commits --only shifted --mode full error gone --step 5 --thrifty --sample 25",
    "the command": "ingests --only grown --mode kill full error --sample 4",
    "power cuts": "power --only commit --sample 3",
    "power cuts while rows pass to files of other names": "power --only renamed",
    "power cuts while a table gets its first rows": "power --only begun",
    "all is synced": "synced --only commit",
    "readers and a writer": "race --commits 8",
}


@pytest.mark.parametrize("arguments", SAMPLES.values(), ids=SAMPLES)
def test_whatever_stops_a_run_the_dataset_is_whole(arguments: str) -> None:
    command = [sys.executable, "-m", "tests.crash", *arguments.split()]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " trials, 0 wrong" in done.stdout


@pytest.mark.skipif(STRACE is None, reason="strace is a tool of Linux; the interposer above looks at the same")
def test_the_kernel_sees_every_sync(tmp_path: Path) -> None:
    out = tmp_path / "metrics"
    ops = traced(out, [LOG])
    assert {op.name for op in ops} >= {"create", "write", "fsync", "rename", "mkdir", "unlink"}
    assert not list(unsynced(ops, out))
    for lost in {op.path for op in ops if op.name == "fsync" and not op.path.endswith("/stage")}:
        left = [op for op in ops if op.name != "fsync" or op.path != lost]
        assert list(unsynced(left, out)), f"nobody misses {lost}"


# -- two at once, and stopped from outside ----------------------------------------------------------------------------


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A run that has begun to write, reads standard input, and waits for more."""
    out = tmp_path / "metrics"
    ingest([str(OTHER)], out)
    command = [sys.executable, "-m", "analyzer", "ingest", "--out", str(out), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin
        run.stdin.write(LOG.read_bytes())
        run.stdin.flush()
        while not (out / dataset.STATE / dataset.STAGE).exists():
            assert run.poll() is None
        yield out, run


def test_of_two_writers_the_second_ends_at_once(waiting: tuple[Path, subprocess.Popen[bytes]]) -> None:
    out, run = waiting
    before = live(out)
    command = [sys.executable, "-m", "analyzer", "ingest", "--out", str(out), str(LOG)]
    second = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (second.returncode, second.stdout, len(second.stderr.splitlines())) == (75, "", 1)
    assert run.poll() is None
    assert live(out) == before
    run.communicate()
    assert run.returncode == 0
    assert analyzer.open(out).snapshot == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_stop_leaves_nothing_behind(
    waiting: tuple[Path, subprocess.Popen[bytes]], number: signal.Signals, code: int
) -> None:
    out, run = waiting
    before = live(out)
    run.send_signal(number)
    _, said = run.communicate()
    assert (run.returncode, b"Traceback" in said) == (code, False), said
    assert live(out) == before
    assert {path.name for path in (out / dataset.STATE).iterdir()} == {"key", "lock", "manifest.json", "part-0.state"}


# -- what must not be written to, and what cannot be read -------------------------------------------------------------


def test_nobody_else_reads_it_whatever_the_umask(tmp_path: Path) -> None:
    out, before = tmp_path / "a" / "metrics", os.umask(0o777)
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o755)
    try:
        ingest([str(LOG)], out)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (out, *out.rglob("*"))}
    assert {path.name: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "metrics"
    out.mkdir()
    for mode in (0o777, 0o1777, 0o702):
        out.chmod(mode)
        with pytest.raises(OutputError, match="written by everybody"):
            ingest([str(LOG)], out)
    out.chmod(0o700)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(OutputError, match="belongs to another user"):
            ingest([str(LOG)], out)
    assert not list(out.iterdir())
    # a folder in one that everybody writes, like those for scratch files, is one's own
    tmp_path.chmod(0o1777)
    assert ingest([str(LOG)], out).changed


@pytest.mark.parametrize("name", ["_analyzer", "_analyzer/stage", "_analyzer/lock", "conversations"])
def test_no_link_leads_out_of_it(tmp_path: Path, name: str) -> None:
    out, elsewhere = tmp_path / "metrics", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    ingest([str(OTHER)], out)
    if (out / name).exists():  # a stage is there for the time of a run
        (out / name).rename(tmp_path / "moved")
    (out / name).symlink_to(elsewhere / "mine" if name.endswith("lock") else elsewhere)
    with pytest.raises(OutputError, match="cannot be written"):
        ingest([str(LOG)], out)
    assert [path.name for path in elsewhere.iterdir()] == ["mine"]
    assert (elsewhere / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    "held", [b"", b"\0" * 50, b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1, "schema_version": "2"}']
)
@pytest.mark.parametrize("name", [dataset.MANIFEST, dataset.COMMIT])
def test_a_damaged_state_is_told_and_nothing_is_written(tmp_path: Path, name: str, held: bytes) -> None:
    out = tmp_path / "metrics"
    ingest([str(OTHER)], out)
    before = live(out)
    (out / dataset.STATE / name).write_bytes(held)
    for attempt in (lambda: ingest([str(LOG)], out), lambda: analyzer.open(out)):
        with pytest.raises(DatasetError, match=r"cannot be read|another version|no manifest") as told:
            attempt()
        assert isinstance(told.value, AnalyzerError)
        assert "\n" not in str(told.value)
    assert live(out) == before


def test_what_was_written_and_is_not_given_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "metrics"
    ingest([str(LOG)], out)

    def failing(*_: object) -> analyzer.Dataset:
        raise DatasetError("the manifest cannot be read", "check the disk and permissions")

    monkeypatch.setattr("analyzer.api.open", failing)
    with pytest.raises(OutputError, match="written, but the manifest cannot be read"):
        cli.ingest([str(OTHER)], out)


def test_a_manifest_that_the_disk_does_not_give_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "metrics"
    ingest([str(OTHER)], out)

    def failing(path: Path, *_: object) -> dict[str, object]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(dataset, "read_json", failing)
        with pytest.raises(OutputError, match=r"Input/output error.*check space"):
            ingest([str(LOG)], out)
        with pytest.raises(DatasetError, match=r"Input/output error.*check the disk"):
            analyzer.open(out)
    assert ingest([str(LOG)], out).changed


def test_logs_of_one_name_again_change_nothing(tmp_path: Path) -> None:
    whole, log = LOG.read_bytes(), tmp_path / "app.log"
    cut = whole.index(b"\n", len(whole) // 2) + 1
    seen = []
    for held in (whole[:cut], whole[cut:], whole[:cut], whole[cut:]):
        log.write_bytes(held)
        ingest([str(log)], tmp_path / "metrics")
        seen.append(live(tmp_path / "metrics"))
    assert seen[1] == seen[2] == seen[3]


def test_what_a_seal_lists_and_is_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "metrics"
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "finish", lambda out: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest([str(LOG)], out)
    for path in (out / dataset.STATE / dataset.STAGE).glob("*.part"):
        path.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        ingest([str(LOG)], out)
