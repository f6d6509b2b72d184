"""What is too large, not whole or no file is read as far as is good; the rest has a row with its reason."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import zlib
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from analyzer import lines, records
from analyzer.catalogue import TABLES
from analyzer.cli import app
from analyzer.errors import AccountingError, DatasetError, InputError
from analyzer.inputs import Input, discover
from analyzer.pipeline import ingest
from analyzer.refusals import MOST_ROWS, REASONS, Refusals
from analyzer.tables.dataset import MANIFEST, STATE, read_manifest
from analyzer.tally import Tally
from tests.test_inputs import HEAD, events, log, sources

GATHERED = HEAD.format(5) + "ICE gathering started (tube_id: {}, conversation_id: {})\n"
MIB = 1 << 20


def refusals(out: Path, source: str | None = None) -> list[dict[str, Any]]:
    """Rows of the table, as short as they can be said."""
    found = pl.read_parquet(out / "refusals")
    assert found.schema == TABLES["refusals"].schema
    assert found["why"].to_list() == [REASONS[reason] for reason in found["reason"]]
    rows = found.filter(pl.col("source") == source) if source else found
    return [{key: value for key, value in row.items() if value and key != "why"} for row in rows.to_dicts()]


def refused(folder: Path, data: bytes, name: str = "app.log", **options: Any) -> list[dict[str, Any]]:
    """What is refused of one input of these bytes; its source is left out."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / name).write_bytes(data)
    ingest([str(folder / name)], folder / "out", **options, final=True)
    rows = refusals(folder / "out")
    assert {row.pop("source") for row in rows} <= {name}
    return rows


def reasons(out: Path) -> dict[str, str]:
    return {row["source"]: row["reason"] for row in refusals(out)}


# -- what is no file to read ------------------------------------------------------------------------------------------


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_bytes(log(3))
    return folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    (folder / "closed").mkdir()
    (folder / "closed.log").write_bytes(log(5, first=100))
    (folder / "closed" / "below.log").write_bytes(log(6, first=200))
    (folder / "closed.log").chmod(0)
    (folder / "closed").chmod(0)
    try:
        ingest([str(folder)], out)
    finally:
        (folder / "closed").chmod(0o700)
    assert reasons(out) == dict.fromkeys(("closed", "closed.log"), "permission_denied")
    assert sources(out)["app.log"]["records"] == 3
    (folder / "closed.log").chmod(0o600)
    ingest([str(folder)], out)
    assert reasons(out) == {}
    assert sorted(row["records"] for row in sources(out).values()) == [3, 5, 6]


def test_permission_denied_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may read everything
    folder, out, opened = folder_of(tmp_path), tmp_path / "out", os.open
    (folder / "closed.log").write_bytes(log(5, first=100))

    def refusing(path: Any, *rest: Any, **options: Any) -> int:
        if str(path).endswith("closed.log"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        done = ingest([str(folder)], out)
        again = ingest([str(folder)], out)
    assert (done.changed, again.changed, again.known) == (True, False, (("app.log", "app.log"),))
    assert reasons(out) == {"closed.log": "permission_denied"}
    row = sources(out)["closed.log"]
    assert (row["bytes"], row["identity"], row["records"]) == (0, "unread:closed.log", 0)
    assert str(tmp_path) not in row["problem"]
    # once it is readable, nothing is said any more
    ingest([str(folder)], out)
    assert refusals(out) == []
    assert {name: row["records"] for name, row in sources(out).items()} == {"app.log": 3, "closed.log": 5}


def test_vanished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    found = discover([str(folder)])
    gone = Input("gone.log", folder / "gone.log")
    monkeypatch.setattr("analyzer.pipeline.discover", lambda *_, **__: [*found, gone])
    ingest([str(folder)], out)
    assert reasons(out) == {"gone.log": "vanished"}
    assert sources(out)["app.log"]["records"] == 3


def test_symlink(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    for name in ("elsewhere", "aside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.log").write_bytes(log(5, first=10 * len(name)))
    (folder / "link.log").symlink_to(tmp_path / "elsewhere" / "elsewhere.log")
    (folder / "linked").symlink_to(tmp_path / "aside")
    ingest([str(folder)], out)
    assert reasons(out) == dict.fromkeys(("link.log", "linked"), "not_followed")
    ingest([str(folder)], tmp_path / "followed", follow_symlinks=True)
    assert refusals(tmp_path / "followed") == []
    assert {name: row["records"] for name, row in sources(tmp_path / "followed").items()} == {
        "app.log": 3,
        "link.log": 5,
        "linked/aside.log": 5,
    }
    # one that is named itself is followed
    ingest([str(folder / "link.log"), str(folder / "linked")], tmp_path / "named")
    assert set(sources(tmp_path / "named")) == {"link.log", "aside.log"}


def test_symlink_loop(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    (folder / "below").mkdir()
    (folder / "below" / "up").symlink_to(folder)
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    for follow in (False, True):
        ingest([str(folder)], out, follow_symlinks=follow)
        told = reasons(out)
        assert told["below/up"] == "symlink_loop"
        assert {told["one"], told["other"]} == {"symlink_loop" if follow else "not_followed"}
        assert sources(out)["app.log"]["records"] == 3
    with pytest.raises(InputError, match="symlink_loop"):
        ingest([str(folder / "one")], tmp_path / "none")


def test_fifo(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    os.mkfifo(folder / "pipe")
    ingest([str(folder)], out)
    assert reasons(out) == {"pipe": "not_regular"}
    with pytest.raises(InputError, match="a pipe, a socket or a device"):
        ingest([str(folder / "pipe")], tmp_path / "none")


def test_a_file_that_became_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    tally = Tally()
    assert list(lines.read(Input("pipe", tmp_path / "pipe"), tally)) == []
    assert tally.refused == "not_regular"


def test_device(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(log(1))
    ingest([str(tmp_path / "app.log"), "/dev/zero"], tmp_path / "out")
    assert reasons(tmp_path / "out") == {"zero": "not_regular"}


def test_read_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(log(9)))
    os.close(writing)
    with os.fdopen(reading) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        ingest(["-"], tmp_path / "out")
    assert (sources(tmp_path / "out")["stdin"]["events"], refusals(tmp_path / "out")) == (9, [])


# -- what is no text --------------------------------------------------------------------------------------------------


def test_empty_file(tmp_path: Path) -> None:
    assert refused(tmp_path, b"") == []


def test_binary_file(tmp_path: Path) -> None:
    data = Random(1).randbytes(300_000)
    count = data.count(b"\n") + 1
    whole = {"line": 1, "last_line": count, "lines": count, "bytes": len(data), "records": count}
    assert refused(tmp_path, data, "core") == [{"reason": "no_header", **whole}]


def test_nul_bytes(tmp_path: Path) -> None:
    # what copytruncate leaves at the beginning of a file that its writer goes on with
    rows = refused(tmp_path, bytes(5000) + b"\n" + log(2))
    assert rows == [{"reason": "no_header", "line": 1, "last_line": 1, "lines": 1, "bytes": 5001, "records": 1}]
    assert sources(tmp_path / "out")["app.log"]["events"] == 2


def test_invalid_utf8(tmp_path: Path) -> None:
    broken = b"\xff\xfe\n\x80" + log(1)
    rows = refused(tmp_path, log(1) + b"\xc3\n" + log(1) + broken)
    assert rows == []  # they continue a record
    rows = refused(tmp_path, b"\x80\n" + broken)
    assert rows == [
        {"reason": "no_header", "line": 1, "last_line": 3, "lines": 3, "bytes": 2 + len(broken), "records": 3}
    ]


def test_no_trailing_newline(tmp_path: Path) -> None:
    assert refused(tmp_path, b"tail of something\n" + log(2).removesuffix(b"\n"))[0]["bytes"] == 18
    assert sources(tmp_path / "out")["app.log"]["events"] == 2


def test_records_without_a_logger(tmp_path: Path) -> None:
    named = json.dumps({"logger": "keeper_pam_webrtc_rs.tube", "message": "x"})
    nameless = json.dumps({"message": "x"})
    # what could be no logger in any other layout is none
    lined = [named, nameless, json.dumps({"logger": "a?b=c", "message": "x"}), named, nameless]
    rows = refused(tmp_path, "\n".join(lined).encode())
    at = [len(named) + 1, sum(map(len, lined[:4])) + 4]
    assert [(row["reason"], row["line"], row["last_line"], row["offset"], row["records"]) for row in rows] == [
        ("no_logger", 2, 3, at[0], 2),
        ("no_logger", 5, 5, at[1], 1),
    ]


def test_runs_are_few_rows_however_many() -> None:
    told, total = Refusals(), 3 * MOST_ROWS
    frame = pl.DataFrame({"line": range(1, 2 * total, 2), "lines": 1, "offset": range(0, 20 * total, 20), "size": 10})
    told.add("no_logger", frame.head(total // 2))
    resumed = Refusals([dict(row) for row in told.rows])
    for part in (told, resumed):
        part.add("no_logger", frame.slice(total // 2))
        assert len(part.rows) == MOST_ROWS
        assert part.rejected == total
        last = part.rows[-1]
        assert (last["line"], last["last_line"], last["lines"]) == (
            2 * MOST_ROWS - 1,
            2 * total - 1,
            total - MOST_ROWS + 1,
        )


# -- what is too long -------------------------------------------------------------------------------------------------


def test_very_long_line(tmp_path: Path) -> None:
    long = HEAD.format(1).encode() + b"ICE gathering started (tube_id: t-long, junk: " + b"x" * (3 * MIB) + b")\n"
    for data in (long, HEAD.format(1).encode() + b"y" * (30 * MIB) + b"\n"):
        rows = refused(tmp_path, log(1) + data + log(1, first=1))
        assert [(row["reason"], row["line"], row["offset"]) for row in rows] == [("line_too_long", 2, len(log(1)))]
        assert rows[0]["bytes"] == len(data) - 1 - MIB


def test_very_long_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", MIB)
    more = b"  and so on, without end\n"
    (tmp_path / "app.log").write_bytes(log(1) + more * 150_000 + log(1, first=1))
    tally, found = Tally(), []
    read = lines.read(Input("app.log", tmp_path / "app.log"), tally, block_bytes=100_000)
    for _, frame in records.split(read, refusals=tally.refusals):
        found += frame.select("line", "lines", pl.col("message").str.len_bytes()).rows()
    assert [(line, count) for line, count, _ in found] == [(1, 150_001), (150_002, 1)]
    assert found[0][2] == records.MAX_MESSAGE_CHARS
    (row,) = tally.refusals.rows
    assert (row["reason"], row["line"], row["offset"]) == ("record_too_long", 1, 0)
    message = len(log(1)) - 1 - len(HEAD.format(0))
    assert row["bytes"] == message + len(more) * 150_000 - records.MAX_MESSAGE_CHARS
    assert (tally.refusals.lines, tally.refusals.bytes) == (tally.lines, tally.bytes)


def test_lines_that_are_all_empty_come_in_small_frames(tmp_path: Path) -> None:
    data = b"\n" * (2 * lines.BLOCK_LINES + 17) + b"x\n" * 9
    (tmp_path / "app.log").write_bytes(data)
    found = list(lines.read(Input("app.log", tmp_path / "app.log"), Tally()))
    assert max(map(len, found)) <= lines.BLOCK_LINES
    joined = pl.concat(found)
    assert joined["line"].to_list() == list(range(1, len(joined) + 1))
    assert (len(joined), joined["size"].sum()) == (data.count(b"\n"), len(data))
    assert (joined["offset"] == joined["size"].cum_sum() - joined["size"]).all()


@pytest.mark.parametrize("length", [128, 129])
def test_id_too_long(tmp_path: Path, length: int) -> None:
    rows = refused(tmp_path, log(1) + GATHERED.format("t" * length, "c-1").encode() + log(1, first=1))
    found = events(tmp_path / "out")["tube_id"].to_list()
    if length == 128:
        assert (found, rows) == (["t-0", "t" * 128, "t-1"], [])
    else:
        assert found == ["t-0", None, "t-1"]
        assert rows == [{"reason": "id_too_long", "line": 2, "last_line": 2, "offset": len(log(1))}]


def test_candidates_too_long_and_too_many(tmp_path: Path) -> None:
    candidate = "candidate:1 1 udp 2130706431 10.0.0.{} 5000 typ host"
    gathered = "2026-11-22 13:00:00,251 DEBUG keeper_pam_webrtc_rs.webrtc_core: ICE candidate gathered"
    long = f"{gathered} (tube_id: t-1, candidate: {candidate.format(1)} x {'y' * 2000}, count: 1)\n"
    many = "".join(f"\\r\\na={candidate.format(at)}" for at in range(300)).replace("\\r\\n", "\n")
    described = f"{gathered.replace('ICE candidate gathered', 'Initial offer SDP')} (tube_id: t-1, sdp: v=0{many}\n)\n"
    rows = refused(tmp_path, log(1) + (long + described).encode())
    assert [(row["reason"], row["line"]) for row in rows] == [("candidate_too_long", 2), ("too_many_candidates", 3)]
    found = events(tmp_path / "out")
    assert (found["candidate"].null_count(), found["sdp_candidates"].list.len().max()) == (3, 256)


def test_a_number_of_too_many_digits_is_none(tmp_path: Path) -> None:
    line = "keeper_pam_webrtc_rs.metrics.collector: ICE gathering completed (conversation_id: c-1, duration: {}ms)\n"
    data = "".join(HEAD.format(1).split(" keeper")[0] + " " + line.format(digits) for digits in ("9" * 400, "12.5"))
    assert [row["reason"] for row in refused(tmp_path, data.encode())] == ["value_too_long"]
    assert events(tmp_path / "out")["duration_ms"].to_list() == [None, 12.5]


def test_names_of_loggers_are_no_longer_than_any_is(tmp_path: Path) -> None:
    line = f"2026-11-22 13:00:00,251 DEBUG keeper_pam_webrtc_rs.{'x' * 5000}: text\n"
    rows = refused(tmp_path, log(1) + line.encode())
    assert [(row["reason"], row["line"]) for row in rows] == [("name_too_long", 2)]
    longest = pl.read_parquet(tmp_path / "out" / "coverage")["target"].str.len_bytes().max()
    assert longest == records.MAX_NAME_CHARS


@pytest.mark.parametrize(
    "time", ["0000-01-01T00:00:00.0Z", "0001-01-01T00:00:00.0+14:00", "9999-12-31T23:59:59.0-14:00"]
)
def test_a_time_that_is_none_of_any_log(tmp_path: Path, time: str) -> None:
    line = "[{}] [DEBUG] [keeper_pam_webrtc_rs.tube] ICE gathering started (tube_id: t-1)\n"
    refused(tmp_path, (line.format(time) + line.format("2026-11-22T13:00:00.250+00:00")).encode())
    assert [ts is None for ts in events(tmp_path / "out")["ts"]] == [True, False]


def test_deep_json_is_no_record(tmp_path: Path) -> None:
    deep = b'{"message": ' + b'{"a":' * 100_000 + b"}" * 100_000 + b"}\n"
    nested = b'{"message": ' + b"[" * 500_000 + b"\n"
    named = json.dumps({"logger": "keeper_pam_webrtc_rs.tube", "message": "x"}).encode() + b"\n"
    refused(tmp_path, named + deep + nested + named)
    assert sources(tmp_path / "out")["app.log"]["lines"] == 4


@pytest.mark.parametrize("state", [b"\xf6", b"7", b"[]", b"{}", b"{" * 9, b"[" * 100_000, b'{"format": 1}'])
def test_a_manifest_that_is_none(tmp_path: Path, state: bytes) -> None:
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / MANIFEST).write_bytes(state)
    with pytest.raises(DatasetError):
        read_manifest(tmp_path)


# -- the law ----------------------------------------------------------------------------------------------------------


def test_what_is_not_accounted_for_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.log").write_bytes(log(9))
    read = lines.read

    def losing(one: Input, tally: Tally, start: lines.Place | None) -> Any:
        for frame in read(one, tally, start=start):
            yield frame.head(-1)

    monkeypatch.setattr("analyzer.pipeline.read", losing)
    monkeypatch.setattr("analyzer.pipeline.together", lambda texts: lines.together(texts).head(-1))
    for small in (0, 1 << 16):
        monkeypatch.setattr("analyzer.pipeline.SMALL_BYTES", small)
        with pytest.raises(AccountingError, match="lines: 9 and 8") as error:
            ingest([str(tmp_path / "app.log")], tmp_path / "out")
        assert error.value.exit_code == 1
    assert not (tmp_path / "out" / "sources").exists()


def test_the_command_counts_refusals_by_reason(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "app.log").write_bytes(b"before\nthe first\n" + log(2))
    (folder / "cut.gz").write_bytes(zlib.compress(log(500), wbits=31)[:-50])
    os.mkfifo(folder / "pipe")
    arguments = ["ingest", str(folder), "--out", str(tmp_path / "out")]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["refusals"]
    assert told == {
        "no_header": {"rows": 1, "lines": 2, "bytes": 17},
        "damaged_archive": {"rows": 1, "lines": 0, "bytes": 0},
        "not_regular": {"rows": 1, "lines": 0, "bytes": 0},
    }
    shown = CliRunner().invoke(app, arguments).stdout
    assert "refused, in lines or pieces: no_header 2, damaged_archive 1, not_regular 1" in " ".join(shown.split())
    assert "not read: a pipe, a socket or a device" in shown
