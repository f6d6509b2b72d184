"""Whatever is given as input: it is read as far as it can be, every line accounted for, or a sentence says why not."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import archives, lines, records
from analyzer.errors import InputError, OutputError, UsageError
from analyzer.events.plan import extract, sift
from analyzer.inputs import Input
from analyzer.pipeline import ingest
from analyzer.tally import Tally

HEAD = "2026-11-22 13:00:00,{:03} DEBUG keeper_pam_webrtc_rs.tube: "
STARTED = HEAD + "ICE gathering started (tube_id: t-{}, conversation_id: c-{})"


def log(count: int, *, first: int = 0) -> bytes:
    return "".join(STARTED.format(n % 1000, n, n) + "\n" for n in range(first, first + count)).encode()


def sources(out: Path) -> dict[str, dict[str, Any]]:
    """Rows of `sources` by name, after the sums that hold for each."""
    rows = pl.read_parquet(out / "sources").to_dicts()
    for row in rows:
        assert row["records"] == row["events"] + row["noise"] + row["unmatched"] + row["rejected"], row
    by_identity = {row["name"]: row for row in rows}
    assert len(by_identity) == len(rows)
    return by_identity


def ingested(folder: Path, data: bytes, *, name: str = "app.log", **options: Any) -> dict[str, Any]:
    """The row of one input of these bytes."""
    path = folder / name
    path.write_bytes(data)
    ingest([str(path)], folder / "out", **options)
    return sources(folder / "out")[name]


def events(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "events")


def read(data: bytes, folder: Path, *, block_bytes: int = lines.BLOCK_BYTES) -> tuple[Tally, list[pl.DataFrame]]:
    path = folder / "read.log"
    path.write_bytes(data)
    tally = Tally()
    blocks = lines.read(Input("read.log", path, final=True), tally, block_bytes=block_bytes)
    return tally, [frame for _, frame in records.split(blocks)]


# -- what cannot be read ----------------------------------------------------------------------------------------------


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.log: no such file or directory"):
        ingest([str(tmp_path / "nowhere.log")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(InputError, match="nothing to read"):
        ingest([str(tmp_path / "logs")], tmp_path / "out")


def test_an_empty_file_is_a_source_without_lines(tmp_path: Path) -> None:
    row = ingested(tmp_path, b"")
    assert (row["bytes"], row["lines"], row["records"], row["problem"]) == (0, 0, 0, None)
    assert pl.read_parquet(tmp_path / "out" / "conversations").is_empty()


@pytest.mark.parametrize("where", ["", "/below"])
def test_a_file_in_the_way_of_the_dataset(tmp_path: Path, where: str) -> None:
    (tmp_path / "app.log").write_bytes(log(1))
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError):
        ingest([str(tmp_path / "app.log")], Path(f"{tmp_path}/out{where}"))
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("out", ["/dev/null/x", "/proc/x"])
def test_a_place_where_nothing_can_be_written(tmp_path: Path, out: str) -> None:
    (tmp_path / "app.log").write_bytes(log(1))
    with pytest.raises(OutputError):
        ingest([str(tmp_path / "app.log")], Path(out))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(log(1))
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        ingest([str(tmp_path / "app.log")], tmp_path / "closed" / "out")


def test_a_folder_of_other_files_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(log(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not a dataset"):
        ingest([str(tmp_path / "app.log")], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_links_and_pipes_do_not_hang_or_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_bytes(log(3))
    (folder / "same.log").symlink_to("app.log")
    (folder / "dangling.log").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    ingest([str(folder)], tmp_path / "out")
    assert {name: (row["records"], row["problem"] is None) for name, row in sources(tmp_path / "out").items()} == {
        "app.log": (3, True),
        **dict.fromkeys(("same.log", "dangling.log", "loop", "pipe"), (0, False)),
    }


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such file names")
def test_the_bytes_of_a_name_may_be_any(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / os.fsdecode(b"caf\xe9.log")).write_bytes(folder.encode() + b"\n" + log(1))
    ingest([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out")
    assert sorted(sources(tmp_path / "out")) == ["a/caf\\xe9.log", "b/caf\\xe9.log"]
    assert set(events(tmp_path / "out")["source"]) == {"a/caf\\xe9.log", "b/caf\\xe9.log"}


# -- what breaks off --------------------------------------------------------------------------------------------------


def test_a_broken_archive_keeps_what_came_before(tmp_path: Path) -> None:
    count = 50_000
    gz, zst = gzip.compress(log(count), mtime=0), pa.compress(log(count), codec="zstd", asbytes=True)
    packed = {
        "cut.log.gz": gz[: len(gz) * 3 // 4],
        "cut.log.zst": zst[: len(zst) * 3 // 4],
        "damaged.log.gz": gz[: len(gz) * 3 // 4] + random.Random(7).randbytes(4096),
        "sound.log.gz": gzip.compress(log(5, first=count), mtime=0),
        "sound.log": log(7, first=count + 10),
    }
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
    ingest([str(tmp_path / name) for name in packed], tmp_path / "out")
    rows = sources(tmp_path / "out")
    # what is but the beginning of another one is no source; where that broke off as well, it is told that this one did
    told = [rows.pop(name) for name in list(rows) if rows[name]["identity"] == f"unread:{name}"]
    assert len(told) == 2
    assert all(row["problem"] and not row["records"] for row in told)
    broken = [row for name, row in rows.items() if not name.startswith("sound")]
    # of the compressed text three quarters are there; a block of Zstandard may be lost with its damage
    assert all(row["problem"] and count * 7 // 10 < row["records"] < count for row in broken), broken
    sound = {name: (row["records"], row["problem"]) for name, row in rows.items() if name.startswith("sound")}
    assert sound == {"sound.log.gz": (5, None), "sound.log": (7, None)}
    assert len(events(tmp_path / "out")) == sum(row["events"] for row in rows.values())


def test_archives_one_behind_the_other_are_read_on(tmp_path: Path) -> None:
    row = ingested(tmp_path, gzip.compress(log(3)) + gzip.compress(log(4, first=3)), name="app.log.gz")
    assert (row["records"], row["problem"]) == (7, None)


# -- what is no log of ours -------------------------------------------------------------------------------------------


def test_a_binary_file_is_rejected_line_by_line(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(200_000)
    row = ingested(tmp_path, data, name="core", final=True)
    assert row["rejected"] == row["records"] == row["lines"] == data.count(b"\n") + (not data.endswith(b"\n"))
    assert row["dialect"] == "unknown"


def test_an_archive_in_an_archive_is_no_text(tmp_path: Path) -> None:
    row = ingested(tmp_path, gzip.compress(gzip.compress(log(9))), name="app.log.gz.gz")
    assert (row["events"], row["records"], row["problem"]) == (0, row["rejected"], None)


def test_an_access_log_is_rejected(tmp_path: Path) -> None:
    line = b'203.0.113.9 - - [22/Nov/2026:13:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl/8.5.0"\n'
    row = ingested(tmp_path, line * 50, name="access.log")
    assert (row["lines"], row["rejected"], row["events"]) == (50, 50, 0)


def test_the_log_of_another_program_is_noise(tmp_path: Path) -> None:
    line = "2026-11-22 13:00:00,000 INFO django.request: ICE gathering started (tube_id: a, conversation_id: b)\n"
    row = ingested(tmp_path, line.encode() * 50)
    assert (row["noise"], row["events"], row["unmatched"], row["dialect"]) == (50, 0, 0, "std")
    assert pl.read_parquet(tmp_path / "out" / "conversations").is_empty()


@pytest.mark.parametrize("dialect", ["bare", "bracket_iso", "json", "commander_service", "docker_json/std"])
def test_a_wrong_dialect_is_accounted_for(tmp_path: Path, dialect: str) -> None:
    row = ingested(tmp_path, log(9), dialect=dialect)
    # whatever is written around the lines may be missing, the lines themselves may not be others
    rejected = 0 if dialect.endswith("/std") else 9
    assert (row["lines"], row["rejected"], row["dialect"]) == (9, rejected, dialect)


def test_a_dialect_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dialect is called klingon"):
        ingested(tmp_path, log(1), dialect="klingon")


# -- any bytes --------------------------------------------------------------------------------------------------------

ODD = {
    "invalid": b"\xff\xfe\x80",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "nul": b"\0",
    "line separator": "\u2028".encode(),
    "next line": "\u0085".encode(),
    "form feed": b"\x0c\x0b\x1c",
    "lone carriage return": b"\r",
    "escape": b"\x1b[2J",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_bytes_end_no_line(tmp_path: Path, odd: bytes) -> None:
    middle = HEAD.format(7).encode() + b"Data channel 'x" + odd + b"y' closed by us\n"
    row = ingested(tmp_path, log(2) + middle + log(2, first=2))
    assert (row["lines"], row["records"], row["events"], row["problem"]) == (5, 5, row["events"], None)
    assert row["events"] >= 4
    assert set(events(tmp_path / "out")["line"]) >= {1, 2, 4, 5}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (log(3).replace(b"\n", b"\r\n"), "crlf.log"),
        (log(3).removesuffix(b"\n"), "no-end.log"),
        (log(3), "plain.log"),
    ],
)
def test_line_ends_are_no_part_of_a_line(tmp_path: Path, data: bytes, name: str) -> None:
    row = ingested(tmp_path, data, name=name)
    assert (row["lines"], row["events"], row["bytes"]) == (3, 3, len(data))
    assert events(tmp_path / "out")["conversation_id"].to_list() == ["c-0", "c-1", "c-2"]


def test_a_byte_order_mark_costs_no_record(tmp_path: Path) -> None:
    row = ingested(tmp_path, b"\xef\xbb\xbf" + log(3))
    assert (row["lines"], row["events"]) == (3, 3)


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_a_log_in_utf_16_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, step: int) -> None:
    monkeypatch.setattr(archives, "READ_BYTES", step)
    # characters with the bytes of line ends in them, and one of four bytes
    text = log(3).decode().replace("\n", " \u0a00\u0d0a 🧊\r\n")
    data = f"\ufeff{text}".encode(code)
    for name, packed in (("app.log", data), ("app.log.gz", gzip.compress(data))):
        row = ingested(tmp_path, packed, name=name)
        assert (row["lines"], row["events"], row["problem"], row["bytes"]) == (3, 3, None, len(data))
        assert row["identity"] == hashlib.sha256(data).hexdigest()
        assert events(tmp_path / "out")["conversation_id"].to_list() == ["c-0", "c-1", "c-2"]
        shutil.rmtree(tmp_path / "out")


def test_a_long_line_is_cut_and_counted(tmp_path: Path) -> None:
    long = HEAD.format(1).encode() + b"ICE gathering started (tube_id: t-long, junk: " + b"x" * (3 << 20) + b")\n"
    row = ingested(tmp_path, log(1) + long + log(1, first=1))
    assert (row["lines"], row["cut_lines"], row["events"]) == (3, 1, 3)
    assert events(tmp_path / "out")["tube_id"].to_list() == ["t-0", "t-long", "t-1"]


def test_lines_before_the_first_header_are_rejected(tmp_path: Path) -> None:
    tally, found = read(b"of the record\nbefore\n" + log(2) + b"and\nbehind\n" + log(1, first=2), tmp_path)
    frame = pl.concat(found)
    assert frame["line"].to_list() == [1, 2, 3, 4, 7]
    assert frame["lines"].to_list() == [1, 1, 1, 3, 1]
    assert frame["target"].is_null().to_list() == [True, True, False, False, False]
    assert frame["message"][3].endswith(")\nand\nbehind")
    assert (tally.lines, frame["lines"].sum()) == (7, 7)


# -- blocks -----------------------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.integers(0, 999).map(lambda n: STARTED.format(n, n, n)),
    st.integers(0, 999).map(lambda n: HEAD.format(n) + "Connection established"),
    st.sampled_from(
        ["", "  continued", "Traceback (most recent call last):", "{", "x" * 300, "\u2028", "a\0b", "tab\there"]
    ),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(PIECES, min_size=1, max_size=40),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 2000),
    st.data(),
)
def test_blocks_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[str],
    end: str,
    ended: bool,
    block_bytes: int,
    data: st.DataObject,
) -> None:
    raw = (end.join(pieces) + (end if ended else "")).encode()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw)))
        raw = raw[:at] + b"\xff\x80" + raw[at:]
    folder = tmp_path_factory.mktemp("blocks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "READ_BYTES", max(1, block_bytes // 3))
        tally, found = read(raw, folder, block_bytes=block_bytes)
    once, whole = read(raw, folder)
    assert (tally.bytes, tally.lines, tally.identity, tally.problem) == (once.bytes, once.lines, once.identity, None)
    together, expected = pl.concat([records.empty(), *found]), pl.concat([records.empty(), *whole])
    assert together.equals(expected)
    assert expected["lines"].sum() == once.lines == raw.count(b"\n") + (raw != b"" and not raw.endswith(b"\n"))
    named = [frame.with_columns(source=pl.lit("read.log")) for frame in (together, expected)]
    assert extract(sift(named[0])).events.equals(extract(sift(named[1])).events)


def test_a_record_larger_than_a_block_is_one_record(tmp_path: Path) -> None:
    data = log(1) + b"  more\n" * 500 + log(1, first=1)
    _, found = read(data, tmp_path, block_bytes=64)
    assert pl.concat(found)["lines"].to_list() == [501, 1]


# -- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2026-07-01 09:30:00,250", "2026-07-01 13:30:00.250000+00:00"),
        ("2026-01-15 09:30:00,250", "2026-01-15 14:30:00.250000+00:00"),
        # 02:30 does not exist on the day clocks go forward, and 01:30 exists twice on the day they go back
        ("2026-03-08 02:30:00,000", None),
        ("2026-11-01 01:30:00,000", "2026-11-01 05:30:00+00:00"),
        ("2026-11-01 02:30:00,000", "2026-11-01 07:30:00+00:00"),
        # no day at all
        ("2026-02-30 12:00:00,000", None),
    ],
)
def test_local_times_are_read_in_their_zone(tmp_path: Path, local: str, utc: str | None) -> None:
    line = f"{local} DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: t-1)\n"
    row = ingested(tmp_path, line.encode(), zone="America/New_York")
    assert (row["events"], events(tmp_path / "out")["kind"].to_list()) == (1, ["gathering_started"])
    assert [None if ts is None else str(ts) for ts in events(tmp_path / "out")["ts"]] == [utc]
    assert [None if ts is None else str(ts) for ts in (row["first_ts"], row["last_ts"])] == [utc, utc]


def test_times_that_name_their_zone_need_none(tmp_path: Path) -> None:
    line = "[2026-11-22T13:00:00.250+02:00] [DEBUG] [keeper_pam_webrtc_rs.tube] ICE gathering started (tube_id: t-1)\n"
    ingested(tmp_path, line.encode(), zone="America/New_York")
    assert str(events(tmp_path / "out")["ts"][0]) == "2026-11-22 11:00:00.250000+00:00"


@pytest.mark.parametrize("name", ["logs.tar", "logs.tar.gz", "logs.zip", "client.log.bz2", "client.log.xz"])
def test_an_archive_of_several_files_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    log = tmp_path / "client.log"
    log.write_text("2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: t-1)\n")
    packed = tmp_path / name
    if "tar" in name:
        with tarfile.open(packed, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(log, log.name)
    elif name.endswith("zip"):
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive_of_files:
            archive_of_files.write(log, log.name)
    else:
        packed.write_bytes((bz2 if name.endswith("bz2") else lzma).compress(log.read_bytes()))
    done = ingest([str(packed), str(log)], tmp_path / "m")
    assert dict(done.sources.select("name", "records").rows()) == {name: 0, log.name: 1}
    assert done.refusals.select("source", "reason").rows() == [(name, "archive_of_files")]
    assert "unpack it" in done.sources.filter(pl.col("name") == name)["problem"].item()
