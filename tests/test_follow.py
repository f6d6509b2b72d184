"""Logs that change while a dataset keeps up with them, whatever happens to it."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import analyzer
from analyzer import follow
from analyzer.errors import DatasetError, OutputError
from analyzer.inputs import Input
from analyzer.pipeline import Ingested, ingest
from tests.test_growth import LINES, smaller
from tests.test_reductions import opened, placeless

# -- whatever happens -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Logs(RuleBasedStateMachine):
    """A log that is written, rotated, packed and truncated, and a dataset that is killed now and then."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self.scratch.name)
        (self.folder / "logs").mkdir()
        self.log = self.folder / "logs" / "client.log"
        self.at = 0
        self.read: list[bytes] = []
        self.unseen: list[bytes] = []
        self.rest = b""

    def teardown(self) -> None:
        self.scratch.cleanup()

    @rule(count=st.integers(1, 60), cut=st.integers(0, 80))
    def append(self, count: int, cut: int) -> None:
        """Write lines, the last of them perhaps only begun."""
        if self.at == len(LINES):
            return
        with self.log.open("ab") as stream:
            stream.write(self.rest)
            lines = LINES[self.at : self.at + count]
            self.at += len(lines)
            self.rest = lines[-1][min(cut, len(lines[-1])) :] if cut else b""
            lines[-1] = lines[-1].removesuffix(self.rest)
            stream.write(b"".join(lines))

    def _complete(self) -> None:
        if self.rest:
            with self.log.open("ab") as stream:
                stream.write(self.rest)
            self.rest = b""

    @precondition(lambda self: self.log.exists() and self.log.stat().st_size)
    @rule(pack=st.booleans())
    def rotate(self, pack: bool) -> None:
        """Give every part the next number, and begin anew."""
        self._complete()
        parts = sorted(self.log.parent.glob("client.log.*"), key=lambda path: -int(path.name.split(".")[2]))
        for part in parts:
            number = int(part.name.split(".")[2])
            part.rename(part.with_name(part.name.replace(f".{number}", f".{number + 1}", 1)))
        self.log.rename(self.log.with_name("client.log.1"))
        if pack:
            data = self.log.with_name("client.log.1").read_bytes()
            self.log.with_name("client.log.1").unlink()
            self.log.with_name("client.log.1.gz").write_bytes(gzip.compress(data))

    @precondition(lambda self: self.log.exists() and self.log.stat().st_size)
    @rule()
    def copytruncate(self) -> None:
        """Copy the log aside and begin anew in the same file; the copy is not lost."""
        self._complete()
        data = self.log.read_bytes()
        self.rotate(pack=False)
        assert self.log.with_name("client.log.1").read_bytes() == data
        self.log.write_bytes(b"")

    @precondition(lambda self: any(self.log.parent.iterdir()))
    @rule(kill=st.sampled_from([None, None, "before the seal", "after it"]))
    def ingest(self, kill: str | None) -> None:
        """Read all logs; where the run is killed, the next one goes on."""
        with pytest.MonkeyPatch.context() as patch:
            smaller(patch)
            if kill:
                name = "seal" if kill == "before the seal" else "finish"

                def killed(*_: object) -> None:
                    raise Killed

                patch.setattr(f"analyzer.tables.dataset.{name}", killed)
            try:
                ingest([str(self.log.parent)], self.folder / "out")
            except Killed:
                return
        assert ingest([str(self.log.parent)], self.folder / "out").changed is False
        self.check()

    def check(self) -> None:
        """The tables are those of a log that was never cut."""
        written = b"".join(LINES[: self.at]).removesuffix(self.rest)
        whole = written[: written.rfind(b"\n") + 1]
        (self.folder / "one.log").write_bytes(whole)
        if not whole:
            return
        import shutil

        shutil.rmtree(self.folder / "once", ignore_errors=True)
        ingest([str(self.folder / "one.log")], self.folder / "once")
        read, all_ = (sum(pl.read_parquet(self.folder / out / "sources")["lines"].to_list()) for out in ("out", "once"))
        # the last one may lack nothing but its end
        assert read - all_ in (0, 1)
        if read == all_:
            found, once = (placeless(opened(self.folder / out)) for out in ("out", "once"))
            assert found == once

    @invariant()
    def the_dataset_opens(self) -> None:
        """At any time what is there can be read."""
        if (self.folder / "out" / "_analyzer" / "manifest.json").exists():
            assert analyzer.open(self.folder / "out").events.collect() is not None


TestLogs = Logs.TestCase
TestLogs.settings = settings(
    max_examples=int(os.environ.get("ANALYZER_GROWTH_EXAMPLES", "4")),
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


# -- follow -----------------------------------------------------------------------------------------------------------


def awaited(out: Path, lines: int) -> None:
    """Wait until the dataset has so many lines; it may be read at any time."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if analyzer.open(out).sources.collect()["lines"].sum() == lines:
                return
        except DatasetError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the dataset never had {lines} lines")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_follow(tmp_path: Path, stop: signal.Signals) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    logs.mkdir()
    command = [sys.executable, "-m", "analyzer", "ingest", str(logs), "--out", str(out), "--follow", "--every", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            log = logs / "client.log"
            log.write_bytes(b"".join(LINES[:100]))
            awaited(out, 100)
            with log.open("ab") as stream:
                stream.write(b"".join(LINES[100:200]))
            awaited(out, 200)
            log.rename(logs / "client.log.1")
            log.write_bytes(b"".join(LINES[200:]))
            awaited(out, len(LINES))
            process.send_signal(stop)
            told, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors.splitlines()[-1]) == (0, "stopping; once more stops at once")
    assert told.splitlines()[-1].startswith(f"{out}: +")
    (tmp_path / "client.log").write_bytes(b"".join(LINES))
    ingest([str(tmp_path / "client.log")], tmp_path / "once")
    assert placeless(opened(out)) == placeless(opened(tmp_path / "once"))


def test_what_becomes_readable_is_looked_at_again(tmp_path: Path) -> None:
    log = tmp_path / "client.log"
    log.write_bytes(LINES[0])
    before = follow.look([Input("client.log", log)])
    log.chmod(0o400)
    assert follow.look([Input("client.log", log)]) != before


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    log, told = tmp_path / "client.log", list[OutputError]()
    log.write_bytes(LINES[0])
    done = ingest([str(log)], tmp_path / "out")
    full = OutputError("full", "make room")
    rounds: Iterator[Ingested | OutputError] = iter([done, full, full, done])

    def written() -> Ingested:
        one = next(rounds)
        if isinstance(one, OutputError):
            raise one
        return one

    rounds_left = iter([3, 2, 1, 0])

    def wait() -> bool:
        log.write_bytes(log.read_bytes() + LINES[1])
        return next(rounds_left) == 0

    found: list[Ingested] = []
    found.extend(follow.follow(lambda: [Input("client.log", log)], written, wait, told.append))
    assert (len(found), told) == (2, [full, full])


def test_a_dataset_that_cannot_be_written_is_not_followed(tmp_path: Path) -> None:
    def written() -> Ingested:
        raise OutputError("full", "make room")

    with pytest.raises(OutputError):
        list(follow.follow(list, written, lambda: True, lambda _: None))


def test_standard_input_is_not_followed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analyzer", "ingest", "-", "--out", str(tmp_path / "out"), "--follow"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
