"""Logs that grow, rotate and are packed between ingests: what is read, once, is what one reading of all gives."""

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
from analyzer import lines, pipeline
from analyzer.errors import DatasetError
from analyzer.pipeline import ingest
from tests.datasets import CAPTURED
from tests.test_reductions import opened, placeless

RELAYED = CAPTURED / "2.2.9/D-relay-client"
LINES = (RELAYED / "client.log").read_bytes().splitlines(keepends=True)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and parts so small that short logs have checkpoints."""
    smaller(monkeypatch)


def smaller(patch: pytest.MonkeyPatch) -> None:
    read = lines.read
    patch.setattr(pipeline, "read", lambda one, tally, start=None: read(one, tally, start=start, block_bytes=8000))
    patch.setattr(pipeline, "BATCH_RECORDS", 40)


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.parquet"))}


def source(out: Path, name: str) -> dict[str, object]:
    return pl.read_parquet(out / "sources").row(by_predicate=pl.col("name") == name, named=True)


# -- one log ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_parts")
def test_what_grew_in_pieces_is_what_was_read_at_once(tmp_path: Path) -> None:
    whole, log = b"".join(LINES), tmp_path / "client.log"
    parts = []
    for share in (0.2, 0.5, 0.51, 0.9, 1):
        log.write_bytes(whole[: int(len(whole) * share)])
        before = files(tmp_path / "out")
        ingest([str(log)], tmp_path / "out")
        now = files(tmp_path / "out")
        parts.append([name for name in now if name.startswith("events/") and now[name] == before.get(name)])
    ingest([str(log)], tmp_path / "once")
    assert files(tmp_path / "out") == files(tmp_path / "once")
    # what stands before a checkpoint is neither read nor written again
    assert [len(kept) for kept in parts] == sorted(len(kept) for kept in parts)
    assert len(parts[-1]) > 1


def test_partial_line(tmp_path: Path) -> None:
    log, out = tmp_path / "client.log", tmp_path / "out"
    begun = b"".join(LINES[:3])
    log.write_bytes(begun + LINES[3][:60])
    ingest([str(log)], out)
    assert (source(out, "client.log")["lines"], source(out, "client.log")["pending_bytes"]) == (3, 60)
    log.write_bytes(begun + LINES[3])
    ingest([str(log)], out)
    assert (source(out, "client.log")["lines"], source(out, "client.log")["pending_bytes"]) == (4, 0)
    log.write_bytes(begun + LINES[3] + LINES[4][:60])
    ingest([str(log)], out, final=True)
    assert (source(out, "client.log")["lines"], source(out, "client.log")["pending_bytes"]) == (5, 0)


def test_a_last_line_that_lacks_nothing_but_its_end_is_read(tmp_path: Path) -> None:
    log, out = tmp_path / "client.log", tmp_path / "out"
    closed = next(place for place, line in enumerate(LINES) if line.endswith(b")\n"))
    log.write_bytes(b"".join(LINES[: closed + 1]).removesuffix(b"\n"))
    ingest([str(log)], out)
    assert (source(out, "client.log")["lines"], source(out, "client.log")["pending_bytes"]) == (closed + 1, 0)
    log.write_bytes(b"".join(LINES))
    ingest([str(log)], out)
    ingest([str(log)], tmp_path / "once")
    assert files(out) == files(tmp_path / "once")


def test_log_rotation_and_compression(tmp_path: Path) -> None:
    log, out = tmp_path / "logs" / "client.log", tmp_path / "out"
    log.parent.mkdir()
    log.write_bytes(b"".join(LINES[:200]))
    ingest([str(log.parent)], out)
    # it grew, was rotated, and another one has begun
    log.write_bytes(b"".join(LINES[:300]))
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(b"".join(LINES[300:]))
    ingest([str(log.parent)], out)
    assert pl.read_parquet(out / "sources")["name"].to_list() == ["client.log", "client.log#2"]
    before = files(out)
    packed = log.with_suffix(".log.2.gz")
    packed.write_bytes(gzip.compress(log.with_suffix(".log.1").read_bytes()))
    log.with_suffix(".log.1").unlink()
    done = ingest([str(log.parent)], out)
    assert (done.changed, files(out)) == (False, before)
    assert sorted(done.known) == [("client.log", "client.log#2"), ("client.log.2.gz", "client.log")]
    (tmp_path / "client.log").write_bytes(b"".join(LINES))
    ingest([str(tmp_path / "client.log")], tmp_path / "once")
    assert placeless(opened(out)) == placeless(opened(tmp_path / "once"))


def test_copytruncate(tmp_path: Path) -> None:
    log, out = tmp_path / "client.log", tmp_path / "out"
    log.write_bytes(b"".join(LINES[:200]))
    ingest([str(log)], out)
    log.write_bytes(b"".join(LINES[200:250]))
    done = ingest([str(log)], out)
    assert done.sources["name"].to_list() == ["client.log#2"]
    assert pl.read_parquet(out / "sources")["lines"].to_list() == [200, 50]


def test_a_replaced_log_is_another_source(tmp_path: Path) -> None:
    log, out = tmp_path / "client.log", tmp_path / "out"
    log.write_bytes(b"".join(LINES[:50]))
    ingest([str(log)], out)
    log.write_bytes(b"".join(LINES[:20] + LINES[40:90]))
    ingest([str(log)], out)
    assert pl.read_parquet(out / "sources").select("name", "lines").rows() == [("client.log", 50), ("client.log#2", 70)]


def test_two_copies_of_one_log_that_grew_apart(tmp_path: Path) -> None:
    log, other, out = tmp_path / "a.log", tmp_path / "b.log", tmp_path / "out"
    log.write_bytes(b"".join(LINES[:100]))
    ingest([str(log)], out)
    log.write_bytes(b"".join(LINES[:150]))
    other.write_bytes(b"".join(LINES[:100] + LINES[200:220]))
    ingest([str(log), str(other)], out)
    ingest([str(log), str(other)], tmp_path / "once")
    assert files(out).keys() == files(tmp_path / "once").keys()
    assert pl.read_parquet(out / "sources").select("name", "lines").rows() == [("a.log", 150), ("b.log", 120)]


def test_a_copy_of_what_a_log_was_stays_a_source(tmp_path: Path) -> None:
    for copy in ("another.log", "z.log"):
        logs = tmp_path / copy / "logs"
        logs.mkdir(parents=True)
        log, out = logs / "client.log", tmp_path / copy / "out"
        log.write_bytes(b"".join(LINES[:100]))
        ingest([str(logs)], out)
        (logs / copy).write_bytes(log.read_bytes())
        log.write_bytes(b"".join(LINES[:150]))
        ingest([str(logs)], out)
        assert sorted(pl.read_parquet(out / "sources")["lines"]) == [100, 150]
        assert ingest([str(logs)], out).changed is False


def test_of_two_logs_that_begin_alike_one_grows(tmp_path: Path) -> None:
    short, long, out = tmp_path / "a.log", tmp_path / "b.log", tmp_path / "out"
    short.write_bytes(b"".join(LINES[:100]))
    long.write_bytes(b"".join(LINES[:120]))
    ingest([str(short), str(long)], out)
    long.write_bytes(b"".join(LINES[:150]))
    ingest([str(long)], out)
    assert pl.read_parquet(out / "sources").select("name", "lines").rows() == [("a.log", 100), ("b.log", 150)]


@pytest.mark.parametrize("end", [0, 30, LINES[3].find(b") ") + 1])
def test_a_first_line_that_grew(tmp_path: Path, end: int) -> None:
    """Nothing yet, a beginning, and one that looks whole."""
    log, out = tmp_path / "client.log", tmp_path / "out"
    log.write_bytes(LINES[3][:end])
    ingest([str(log)], out)
    log.write_bytes(b"".join(LINES[3:80]))
    ingest([str(log)], out)
    ingest([str(log)], tmp_path / "once")
    assert files(out) == files(tmp_path / "once")


# -- conversations ----------------------------------------------------------------------------------------------------


def test_late_lines_rebuild_what_they_touch(tmp_path: Path) -> None:
    shared = []
    for path in sorted((CAPTURED / "2.2.9/I-conversations-on-one-tube").glob("*.log*")):
        shared.append(tmp_path / f"other-{path.name}")
        shared[-1].write_bytes(path.read_bytes())
    early = [*map(str, shared), str(RELAYED / "gateway.log")]
    ingest(early, tmp_path / "out")
    late = ingest([str(RELAYED / "client.log")], tmp_path / "out")
    assert late.rebuilt == 1 < late.conversations
    ingest([*early, str(RELAYED / "client.log")], tmp_path / "once")
    assert files(tmp_path / "out") == files(tmp_path / "once")


def test_many_rows_are_merged_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [str(path) for path in sorted((CAPTURED / "2.2.9").rglob("*.log*"))][:6]
    ingest(logs, tmp_path / "few")
    monkeypatch.setattr("analyzer.tables.small.HELD_ROWS", 100)
    monkeypatch.setattr("analyzer.tables.small.MERGED_ROWS", 150)
    monkeypatch.setattr("analyzer.reductions.BATCH_EVENTS", 300)
    monkeypatch.setattr("analyzer.stored.CHUNK_EVENTS", 300)
    monkeypatch.setattr("analyzer.stored.HELD_EVENTS", 0)
    ingest(logs, tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "few")


def hours(folder: Path) -> Iterator[None]:
    """A day of a log that is rotated and packed, an hour at a time."""
    log, step = folder / "client.log", len(LINES) // 24
    for hour in range(24):
        if hour > 1:
            (folder / "client.log.1").rename(folder / "client.log.2")
        for number in range(hour, 2, -1):
            (folder / f"client.log.{number - 1}.gz").rename(folder / f"client.log.{number}.gz")
        if hour > 1:
            (folder / "client.log.2.gz").write_bytes(gzip.compress((folder / "client.log.2").read_bytes()))
            (folder / "client.log.2").unlink()
        if hour:
            log.rename(folder / "client.log.1")
        log.write_bytes(b"".join(LINES[hour * step : (hour + 1) * step if hour < 23 else None]))
        yield


def test_a_day_ingested_hourly_is_a_day_ingested_at_its_end(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for hour, _ in enumerate(hours(logs)):
        if hour % 3 == 0 or hour == 23:
            ingest([str(logs)], tmp_path / "hourly")
    ingest([str(logs)], tmp_path / "at the end")
    hourly, once = opened(tmp_path / "hourly"), opened(tmp_path / "at the end")
    assert placeless(hourly) == placeless(once)
    assert pl.read_parquet(tmp_path / "hourly/sources")["lines"].sum() == len(LINES)


@pytest.mark.usefixtures("small_parts")
def test_which_of_two_logs_of_one_tube_stands_first_may_change(tmp_path: Path) -> None:
    others = (CAPTURED / "1.0.0/D-relay-client/client.log").read_bytes().splitlines(keepends=True)

    def on(day: int, lines: list[bytes]) -> bytes:
        return b"".join(line.replace(b"2026-11-22", b"2026-11-%d" % day) for line in lines)

    one, other, out = tmp_path / "a.log", tmp_path / "b.log", tmp_path / "out"
    one.write_bytes(b"".join(LINES) + on(23, others))
    # one that does not tell what generations are counted by
    told = [line for line in LINES if b"gather" not in line.lower()]
    other.write_bytes(b"".join(told) + on(24, told[-1:]))
    ingest([str(one), str(other)], out)
    one.write_bytes(one.read_bytes() + on(25, others))
    ingest([str(one), str(other)], out)
    ingest([str(one), str(other)], tmp_path / "once")
    assert files(out) == files(tmp_path / "once")


def test_a_repeated_line_that_names_another_tube_says_something(tmp_path: Path) -> None:
    """What names the conversation only is of the tube named last, wherever the log was cut."""
    one, other = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    known, collected = "Registered connection for metrics tracking", "Collected WebRTC stats"
    counted = "Recording transport-level data activity (conversation_id: c-1, bytes_sent: 6531, bytes_received: 6584)"
    said = [f"{text} (conversation_id: c-1, tube_id: {tube})" for text in (known, collected) for tube in (one, other)]
    said += [said[2], counted, said[2]]
    log = [
        f"2026-11-22 13:19:{second:02},000 DEBUG keeper_pam_webrtc_rs.metrics.collector: {text}\n"
        for second, text in enumerate(said)
    ]
    (tmp_path / "x.log.1").write_text("".join(log[:4]))
    (tmp_path / "x.log").write_text("".join(log[4:]))
    (tmp_path / "whole.log").write_text("".join(log))
    ingest([str(tmp_path / "x.log.1"), str(tmp_path / "x.log")], tmp_path / "cut")
    ingest([str(tmp_path / "whole.log")], tmp_path / "once")
    assert placeless(opened(tmp_path / "cut")) == placeless(opened(tmp_path / "once"))
    assert pl.read_parquet(tmp_path / "once/samples")["tube_id"].unique().to_list() == [one]


def test_times_that_are_not_there_are_in_every_zone(tmp_path: Path) -> None:
    log, out = tmp_path / "client.log", tmp_path / "out"
    log.write_bytes(b"INFO keeper_pam_webrtc_rs.tube: a line\n")
    ingest([str(log)], out, zone="America/New_York")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "read", None)
        assert ingest([str(log)], out, zone="America/New_York").changed is False


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


def test_standard_input_is_not_followed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analyzer", "ingest", "-", "--out", str(tmp_path / "out"), "--follow"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
