"""Logs that grow, rotate and are packed between ingests: what is read, once, is what one reading of all gives."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from analyzer import lines, pipeline
from analyzer.pipeline import ingest
from analyzer.reductions.samples import SAMPLES
from analyzer.tables import small
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
    patch.setattr(pipeline, "SMALL_BYTES", 0)


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
    log.write_bytes(b"".join(LINES[:100]))
    ingest([str(log.parent)], out)
    # it grew, was rotated, and another one has begun
    log.write_bytes(b"".join(LINES[:200]))
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(b"".join(LINES[200:]))
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


def test_a_copy_of_what_a_log_was_is_in_the_log(tmp_path: Path) -> None:
    for copy in ("another.log", "z.log"):
        logs = tmp_path / copy / "logs"
        logs.mkdir(parents=True)
        log, out = logs / "client.log", tmp_path / copy / "out"
        log.write_bytes(b"".join(LINES[:100]))
        ingest([str(logs)], out)
        (logs / copy).write_bytes(log.read_bytes())
        log.write_bytes(b"".join(LINES[:150]))
        ingest([str(logs)], out)
        assert pl.read_parquet(out / "sources").select("name", "lines").rows() == [("client.log", 150)]
        assert ingest([str(logs)], out).changed is False
        ingest([str(log)], tmp_path / copy / "once")
        assert files(out) == files(tmp_path / copy / "once")


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("packed", [True, False], ids=["compress", "copytruncate"])
@pytest.mark.parametrize("there", [True, False], ids=["beside its log", "alone for a while"])
def test_a_copy_that_is_not_whole_yet(tmp_path: Path, packed: bool, there: bool) -> None:
    """What every run sees while a log is compressed or copied aside."""
    logs, out = tmp_path / "logs", tmp_path / "out"
    logs.mkdir()
    log, copy = logs / "client.log", logs / ("client.log.1.gz" if packed else "client.log.1")
    log.write_bytes(b"".join(LINES))
    ingest([str(logs)], out)
    data = gzip.compress(log.read_bytes(), mtime=0) if packed else log.read_bytes()
    aside = log.rename(tmp_path / "aside")
    if there:
        aside.rename(log)
    for share in (0.3, 0.6, 0.9):
        copy.write_bytes(data[: int(len(data) * share)])
        done = ingest([str(logs)], out)
        assert len(pl.read_parquet(out / "sources")) == (1 if there else 2)
        assert done.changed is not there
    copy.write_bytes(data)
    if there:
        log.unlink()
    ingest([str(logs)], out)
    (tmp_path / "once").mkdir()
    copy.rename(tmp_path / "once" / "client.log")
    ingest([str(tmp_path / "once" / "client.log")], tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


def test_of_two_logs_that_begin_alike_one_grows(tmp_path: Path) -> None:
    short, long, out = tmp_path / "a.log", tmp_path / "b.log", tmp_path / "out"
    short.write_bytes(b"".join(LINES[:100]))
    long.write_bytes(b"".join(LINES[:120]))
    ingest([str(short), str(long)], out)
    long.write_bytes(b"".join(LINES[:150]))
    ingest([str(long)], out)
    assert pl.read_parquet(out / "sources").select("name", "lines").rows() == [("b.log", 150)]
    short.write_bytes(b"".join((*LINES[:100], *LINES[200:])))
    ingest([str(short), str(long)], out)
    ingest([str(short), str(long)], tmp_path / "once")
    assert files(out) == files(tmp_path / "once")
    assert len(pl.read_parquet(out / "sources")) == 2


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


def test_small_logs_are_read_together_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [*LINES[:60], b"no header\n", *LINES[60:120]]
    tiny = [
        *(b"".join(whole[at : at + 3]) for at in range(0, len(whole), 3)),
        b"",
        b"\n",
        b"\xff\n",
        b"\xef\xbb\xbf" + LINES[0],
    ]
    tiny += [
        LINES[1] + b" begun",
        LINES[2][:-1],
        b'{"message": "x", "name": "y"}\n',
        LINES[3].decode().encode("utf-16"),
    ]
    for number, text in enumerate(tiny):
        (tmp_path / f"{number:03}.log").write_bytes(text)
    ingest([str(tmp_path / "*.log")], tmp_path / "together")
    monkeypatch.setattr("analyzer.stored.GROUP_PARTS", 1)
    monkeypatch.setattr(pipeline, "SMALL_BYTES", 0)
    ingest([str(tmp_path / "*.log")], tmp_path / "alone")
    assert files(tmp_path / "together") == files(tmp_path / "alone")


def test_many_rows_are_merged_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = []
    for number, path in enumerate(sorted((CAPTURED / "2.2.9").rglob("*.log*"))[:6]):
        logs.append(str(shutil.copy(path, tmp_path / f"{number}-{path.name}")))
    ingest(logs, tmp_path / "few")
    monkeypatch.setattr("analyzer.tables.small.HELD_ROWS", 100)
    monkeypatch.setattr("analyzer.tables.small.MERGED_ROWS", 150)
    monkeypatch.setattr("analyzer.tables.small.RUN_GROUP_ROWS", 50)
    monkeypatch.setattr("analyzer.reductions.BATCH_EVENTS", 300)
    monkeypatch.setattr("analyzer.stored.CHUNK_EVENTS", 300)
    monkeypatch.setattr("analyzer.stored.GROUP_ROWS", 400)
    monkeypatch.setattr("analyzer.events.portions.PORTION_ROWS", 5)
    monkeypatch.setattr("analyzer.reductions.PORTION_ROWS", 7)
    monkeypatch.setattr("analyzer.reductions.NAMED_CONVERSATIONS", 2)
    monkeypatch.setattr("analyzer.tables.words.KEPT_WORDS", 3)
    monkeypatch.setattr("analyzer.stored.HELD_EVENTS", 0)
    ingest(logs, tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "few")
    for some in (logs[:3], logs):
        ingest(some, tmp_path / "twice")
    assert files(tmp_path / "twice") == files(tmp_path / "few")


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


def test_rows_that_are_all_laid_aside_are_merged(tmp_path: Path) -> None:
    said = SAMPLES.empty().drop("origin").with_columns(source=pl.lit(None, pl.String), line=pl.lit(None, pl.UInt32))
    row = {"conversation_id": "c", "tube_id": "t", "source": "app.log", "line": 7}
    rows = small.Rows(SAMPLES, tmp_path)
    for tube in ("u", "t"):
        one = pl.DataFrame([row | {"tube_id": tube}], schema_overrides={"line": pl.UInt32})
        rows.add(small.coded(pl.concat([said, one], how="diagonal")))
        rows.lay_aside()
    (merged,) = (SAMPLES.spelled(frame) for frame in rows.in_order())
    assert merged.select("tube_id", "origin").rows() == [("t", "app.log:7"), ("u", "app.log:7")]
