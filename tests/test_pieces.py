"""Lines that a container's runtime cut into pieces: they are whole again, wherever the blocks end.

Pieces of one stream may have lines of others between them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from analyzer import lines, pipeline
from analyzer import records as reader
from analyzer.dialects import forced
from analyzer.explain import explain
from analyzer.inputs import Input
from analyzer.pipeline import ingest
from analyzer.records import split
from analyzer.redact import redact
from analyzer.refusals import Refusals
from analyzer.tally import Tally
from tests.test_growth import files
from tests.test_resolution import as_json

PIECE = 300


def in_cri(records: list[str]) -> list[str]:
    """Lines as CRI keeps them, longer ones in pieces."""
    told = []
    for record in records:
        text = record.rstrip("\n")
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        last = len(pieces) - 1
        told += [
            f"2026-11-22T13:19:35.{n:09d}Z stderr {'P' if n < last else 'F'} {piece}" for n, piece in enumerate(pieces)
        ]
    return told


def in_docker(records: list[str]) -> list[str]:
    """Lines as docker's json-file keeps them, longer ones in pieces."""
    told = []
    for record in records:
        pieces = [record[at : at + 16384] for at in range(0, len(record), 16384)]
        told += [
            json.dumps({"log": piece, "stream": "stderr", "time": f"2026-11-22T13:19:35.{n:09d}Z"})
            for n, piece in enumerate(pieces)
        ]
    return told


def frames(lines: list[str], size: int) -> list[pl.DataFrame]:
    """Blocks of so many lines."""
    whole = pl.DataFrame({"line": range(1, len(lines) + 1), "text": lines}).with_columns(
        offset=pl.col("text").str.len_bytes().cum_sum().cast(pl.Int64),
        size=pl.col("text").str.len_bytes().cast(pl.Int64),
    )
    return [whole.slice(first, size) for first in range(0, len(whole), size)]


def read(lines: list[str], size: int) -> list[tuple[object, ...]]:
    found = pl.concat([records for _, records in split(frames(lines, size))])
    return found.select("ts", "level", "target", "message").rows()


@pytest.mark.parametrize("size", [40, 41, 42, 43, 100, 10_000])
def test_cut_records_are_whole_again(size: int) -> None:
    records = as_json("2.2.9/D-relay-client", "client", 3)
    cut = in_cri(records)
    assert len(cut) > len(records) + 10
    whole = read([record.rstrip("\n") for record in records], 10_000)
    assert read(cut, size) == whole


@pytest.mark.parametrize("name", ["cri", "docker_json"])
def test_redacted_copies_of_cut_records_give_the_same_events(name: str, tmp_path: Path) -> None:
    records = as_json("2.2.9/D-relay-client", "client", 3)
    # the runtime of docker cuts at 16 KiB
    records[60] = records[60].replace('"message": "', f'"pad": "{"x" * 20_000}", "message": "', 1)
    log = tmp_path / "client.log"
    log.write_text("\n".join(in_cri(records) if name == "cri" else in_docker(records)) + "\n")
    redact([str(log)], tmp_path / "copy")
    for given, out in ((log, "of_log"), (tmp_path / "copy" / "client.log", "of_copy")):
        ingest([str(given)], tmp_path / out, addresses="raw")
    told = [
        pl.read_parquet(tmp_path / out / "events").select("line", "kind", "ts", "tube_id")
        for out in ("of_log", "of_copy")
    ]
    assert told[0].equals(told[1])
    assert len(told[0]) > 100
    assert "x" * 100 not in (tmp_path / "copy" / "client.log").read_text()


# -- several streams ---------------------------------------------------------------------------------------------------

STAMP = "2026-11-22 13:19:35,251"
TUBE = "keeper_pam_webrtc_rs.tube"


def std(message: str) -> str:
    return f"{STAMP} DEBUG {TUBE}: {message}"


def as_record(message: str) -> str:
    return json.dumps({"timestamp": "2026-11-22T13:19:35.25Z", "level": "DEBUG", "logger": TUBE, "message": message})


def started(tube: str) -> str:
    return f"ICE gathering started (tube_id: {tube})"


def cri_piece(text: str, stream: int, *, cut: bool) -> str:
    return f"2026-11-22T13:19:35.253Z {('stderr', 'stdout')[stream]} {'P' if cut else 'F'} {text}"


def docker_piece(text: str, stream: int, *, cut: bool) -> str:
    name = ("stderr", "stdout")[stream]
    return json.dumps({"log": text if cut else f"{text}\n", "stream": name, "time": "2026-11-22T13:19:35.25Z"})


def journald_piece(text: str, stream: int, *, cut: bool) -> str:
    return f"2026-11-22T13:19:35+0000 gw keeper[{stream}]: {text}"


def journald_host_piece(text: str, stream: int, *, cut: bool) -> str:
    return f"Nov 22 13:19:35 gw-{stream} keeper[1]: {text}"


def journald_json_piece(text: str, stream: int, *, cut: bool) -> str:
    return json.dumps({"MESSAGE": text, "SYSLOG_IDENTIFIER": "keeper", "_PID": str(stream)})


Piece = Callable[..., str]
#: how a framing writes a piece, and of how many bytes
FRAMINGS = {
    "cri": (cri_piece, 100),
    "docker": (docker_piece, 16 << 10),
    "journald": (journald_piece, 48 << 10),
    "journald of two hosts": (journald_host_piece, 48 << 10),
    "journald in JSON": (journald_json_piece, 48 << 10),
}


def tubes(lines: list[str], size: int = 10_000) -> list[tuple[object, ...]]:
    found = pl.concat([records for _, records in split(frames(lines, size))])
    message = pl.col("message")
    return found.filter(message.str.starts_with("ICE")).select("line", message.str.extract("tube_id: (.*)[)]")).rows()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("record", [std, as_record])
def test_a_cut_line_goes_on_in_its_own_stream(framing: str, record: Callable[[str], str], size: int) -> None:
    piece, width = FRAMINGS[framing]
    begun = record("said ")[:-2] if record is as_record else record("said ")
    long = begun + "x" * (width - len(begun))
    lines = [piece(record("hi"), stream, cut=False) for stream in (0, 0, 1, 0)]
    lines += [
        piece(long, 0, cut=True),
        piece(record(started("other")), 1, cut=False),
        piece(record(started("forged")), 0, cut=False),
        piece(record(started("later")), 0, cut=False),
    ]
    assert tubes(lines, size) == [(6, "other"), (8, "later")]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_where_no_stream_is_told_the_next_line_goes_on(size: int) -> None:
    long = std("said ") + "x" * (16 << 10)
    lines = [json.dumps({"log": f"{std('hi')}\n"}), json.dumps({"log": long}), json.dumps({"log": f"{std('more')}\n"})]
    lines += [docker_piece(std(started(tube)), 0, cut=False) for tube in ("a", "b")]
    found = pl.concat([records for _, records in split(frames(lines, size))])
    assert found["line"].to_list() == [1, 2, 4, 5]


def oracle(lines: list[tuple[int, bool, str]]) -> list[tuple[int, str]]:
    """The records of lines, each of a stream, cut or not, by the line they begin in: put together one by one."""
    whole: list[tuple[int, str]] = []
    begun: dict[int, int] = {}
    for number, (stream, cut, text) in enumerate(lines, 1):
        if stream in begun:
            at = begun[stream]
            whole[at] = whole[at][0], whole[at][1] + text
        else:
            begun[stream] = len(whole)
            whole.append((number, text))
        if not cut:
            del begun[stream]
    told: list[tuple[int, str]] = []
    for number, text in whole:
        if text.startswith(STAMP):
            told.append((number, text.split(": ", 1)[1]))
        else:
            told[-1] = told[-1][0], f"{told[-1][1]}\n{text}"
    return told


def mixed(seed: int, share: float = 0.4) -> list[tuple[int, bool, str]]:
    """Lines of two streams, a share of them cut, some without a header; none is cut at the end."""
    chance = random.Random(seed)
    lines = [(0, False, std("first"))]
    for number in range(60):
        text = chance.choice((std(f"said {number}"), f"more {number}"))
        lines.append((chance.choice((0, 1)), chance.random() < share, text))
    return [*lines, (0, False, "end"), (1, False, "end")]


@pytest.mark.parametrize("seed", range(20))
def test_blocks_change_nothing(seed: int) -> None:
    lines = mixed(seed)
    told = [cri_piece(text, stream, cut=cut) for stream, cut, text in lines]
    for size in (1, 2, 5, 17, 100):
        found = pl.concat([records for _, records in split(frames(told, size))]).sort("line")
        assert found.select("line", "message").rows() == oracle(lines), size
        assert found["lines"].sum() == len(lines)


def test_what_goes_on_long_after_is_no_part_of_another_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_PIECES", 3)
    lines = [cri_piece(std("said "), 0, cut=True)]
    lines += [cri_piece(std(started(f"t{number}")), 1, cut=False) for number in range(8)]
    lines += [cri_piece(std(f"late {started('forged')}"), 0, cut=False), cri_piece("more", 1, cut=False)]
    found = pl.concat([records for _, records in split(frames(lines, 4))]).sort("line")
    assert found["message"].to_list()[1:8] == [started(f"t{number}") for number in range(7)]
    assert found.filter(line=10)["target"].to_list() == [None]
    assert found["lines"].sum() == len(lines)


def test_a_line_of_many_pieces_is_one_record() -> None:
    lines = [cri_piece(std("said "), 0, cut=True), *[cri_piece("x", 0, cut=True)] * 700, cri_piece("y", 0, cut=False)]
    found = pl.concat([records for _, records in split(frames(lines, 100))])
    assert found.select("lines", "message").rows() == [(702, f"said {'x' * 700}y")]


@pytest.mark.parametrize("most", [reader.MOST_PIECES, 2])
def test_what_is_read_on_is_what_was_read_at_once(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(reader, "MOST_PIECES", most)
    size, tried = 7, 0
    for seed in range(20):
        blocks = frames([cri_piece(text, stream, cut=cut) for stream, cut, text in mixed(seed, 0.2)], size)
        border, found, ends = reader.Border(), [], []
        for _, records in split(iter(blocks), border=border):
            found.append(records)
            ends.append((len(found), border.line))
        for count, line in ends[:-1]:
            if line is None:
                continue
            rest = [block.filter(pl.col("line") >= line) for block in blocks]
            read_on = [records for _, records in split([block for block in rest if len(block)], told=True,
                       dialect=forced("cri/std"), refusals=Refusals(lines=line - 1))]  # fmt: skip
            assert pl.concat(read_on).equals(pl.concat(found[count:])), (seed, line)
            tried += 1
    assert tried > 10


def test_a_log_of_two_streams_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, begun = lines.read, list[int]()
    monkeypatch.setattr(pipeline, "BATCH_RECORDS", 3)
    monkeypatch.setattr(pipeline, "SMALL_BYTES", 0)

    def read_on(one: Input, tally: Tally, start: lines.Place | None = None) -> Iterator[pl.DataFrame]:
        begun.append(start.line if start else 1)
        return whole(one, tally, start=start, block_bytes=600)

    monkeypatch.setattr(pipeline, "read", read_on)
    log, said = tmp_path / "app.log", list[str]()
    for seed in range(3):
        said += [
            f"{cri_piece(text.replace('said ', f'ICE gathering started (tube_id: t{seed}-'), stream, cut=cut)}\n"
            for stream, cut, text in mixed(seed, 0.1)
        ]
    for end in (*range(60, len(said), 40), len(said)):
        log.write_text("".join(said[:end]))
        ingest([str(log)], tmp_path / "grown")
        ingest([str(log)], tmp_path / f"once-{end}")
        assert files(tmp_path / "grown") == files(tmp_path / f"once-{end}"), end
    assert len(set(begun)) > 2
    assert len(pl.read_parquet(tmp_path / "grown" / "events")) > 50


def test_lines_of_a_copy_stand_where_they_stood(tmp_path: Path) -> None:
    lines = [cri_piece(text, stream, cut=cut) for stream, cut, text in mixed(1)]
    log = tmp_path / "app.log"
    log.write_text("\n".join(lines) + "\n")
    redact([str(log)], tmp_path / "copy")
    copied = (tmp_path / "copy" / "app.log").read_text().splitlines()
    heads = [(line[:33], STAMP in line) for line in lines]
    assert [line[:33] for line in copied] == [head for head, _ in heads]
    headers = [STAMP in line for line in copied]
    assert sum(headers) > 10
    # a piece that goes on is masked, whatever it looks like
    assert all(was for (_, was), is_one in zip(heads, headers, strict=True) if is_one)
    for name in ("app.log", "copy/app.log"):
        ingest([str(tmp_path / name)], tmp_path / "out" / name)
    told = [
        pl.read_parquet(tmp_path / "out" / name / "sources").select("records", "lines")
        for name in ("app.log", "copy/app.log")
    ]
    assert told[0].equals(told[1])


def test_a_piece_is_explained_as_the_record_it_is_of(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    lines = [cri_piece(std("hi"), 0, cut=False), cri_piece(std("ICE gathering "), 0, cut=True)]
    lines += [cri_piece(std(started("other")), 1, cut=False), cri_piece("started (tube_id: own)", 0, cut=False)]
    log.write_text("\n".join(lines) + "\n")
    assert [explain(log, line).record_line for line in (1, 2, 3, 4)] == [1, 2, 3, 2]
