"""The reader by itself: every input has a name of its own, and its bytes become the same lines however they arrive."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import tracemalloc
import zlib
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analyzer import lines
from analyzer.inputs import STDIN, Input, discover
from analyzer.pipeline import ingest
from analyzer.tally import Tally
from tests.test_inputs import log, sources

# -- names ------------------------------------------------------------------------------------------------------------


def named(folder: Path, *given: str) -> dict[str, str | None]:
    """What is found, by name: its place in the folder."""
    found = discover([one if one == STDIN else str(folder / one) for one in given])
    names = {one.name: one.path.relative_to(folder).as_posix() if one.path else None for one in found}
    assert len(names) == len(found)
    return names


def files(folder: Path, *names: str) -> Path:
    """A folder with these files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(log(1))
    return folder.resolve()


def test_a_file_is_named_relative_to_what_was_given(tmp_path: Path) -> None:
    folder = files(tmp_path, "a/logs/client.log", "b/gateway.log")
    assert named(folder, "a", "b/gateway.log") == {
        "gateway.log": "b/gateway.log",
        "logs/client.log": "a/logs/client.log",
    }


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    places = ["a/logs/client.log", "b/logs/client.log"]
    folder = files(tmp_path, *places)
    for asked in (["a/logs", "b/logs"], ["b/logs", "a/logs"], places, ["*/logs"], ["*/logs/*.log"]):
        assert named(folder, *asked) == {place: place for place in places}
    ingest([str(folder / "a/logs"), str(folder / "b/logs")], tmp_path / "out")
    assert len(sources(tmp_path / "out")) == 1  # of the same bytes
    (folder / "b/logs/client.log").write_bytes(log(2, first=7))
    ingest([str(folder / "a/logs"), str(folder / "b/logs")], tmp_path / "other")
    assert {name: row["records"] for name, row in sources(tmp_path / "other").items()} == dict(
        zip(places, (1, 2), strict=True)
    )


def test_a_name_has_no_folder_more_than_needed(tmp_path: Path) -> None:
    places = ["a/logs/client.log", "b/logs/client.log", "c/client.log"]
    # the longer name of one may be that of another
    assert named(files(tmp_path, *places), "a", "b/logs", "c") == {place: place for place in places}


def test_only_the_highest_folder_differs(tmp_path: Path) -> None:
    deep = "/".join(["n"] * 80)
    places = [f"{top}/{deep}/client.log" for top in "ab"]
    assert named(files(tmp_path, *places), *places) == {place: place for place in places}


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    folder = files(tmp_path, "a/logs/client.log")
    (folder / "link.log").symlink_to("a/logs/client.log")
    (folder / "current").symlink_to("a/logs")
    place = "a/logs/client.log"
    assert named(folder, place, place, f"a/../{place}", "link.log", "current", "a") == {"client.log": place}
    assert named(folder, "link.log", place) == {"link.log": place}


def test_links_of_one_name_are_told_apart_by_what_they_lead_to(tmp_path: Path) -> None:
    folder = files(tmp_path, "store/1/client.log", "store/2/client.log", "c/client.log")
    for at, link in enumerate(("a", "b"), 1):
        (folder / link).symlink_to(f"store/{at}")
    assert named(folder, "a", "b", "c") == {
        "1/client.log": "store/1/client.log",
        "2/client.log": "store/2/client.log",
        "c/client.log": "c/client.log",
    }


def test_a_file_may_be_called_as_standard_input_is(tmp_path: Path) -> None:
    folder = files(tmp_path, "a/stdin", "b/app.log")
    assert named(folder, "-", "a", "b") == {"a/stdin": "a/stdin", "app.log": "b/app.log", "dev/stdin": None}
    assert named(folder, "b", "-", "-") == {"app.log": "b/app.log", "stdin": None}


# -- text -------------------------------------------------------------------------------------------------------------


def decoded(folder: Path, data: bytes) -> tuple[bytes, str | None]:
    """The text that is read of these bytes, and what is wrong with them."""
    path = folder / "decoded.log"
    path.write_bytes(data)
    tally = Tally()
    frames = list(lines.read(Input("decoded.log", path), tally))
    text = "".join(f"{line}\n" for frame in frames for line in frame["text"])
    return text.encode(), tally.problem


@pytest.mark.parametrize("count", [3, 3000, 60_000])
def test_all_that_decodes_before_a_damage_is_given(tmp_path: Path, count: int) -> None:
    data = log(count)
    packing = zlib.compressobj(wbits=31)
    # no block of a gzip stream begins with these bits
    in_the_middle = packing.compress(data) + packing.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 4096
    at_the_end = bytearray(gzip.compress(data))
    at_the_end[-8] ^= 1  # the checksum
    for packed in (in_the_middle, bytes(at_the_end)):
        text, problem = decoded(tmp_path, packed)
        assert text == data
        assert problem is not None
        assert "while decompressing" in problem
        assert "compressed bytes of it were not read" in problem


def test_what_stands_behind_a_damage_is_accounted_for(tmp_path: Path) -> None:
    packing = zlib.compressobj(wbits=31)
    sound, behind = gzip.compress(log(3)), gzip.compress(Random(0).randbytes(3 << 20))
    damaged = packing.compress(log(3)) + packing.flush(zlib.Z_FULL_FLUSH) + b"\x07" * 10
    text, problem = decoded(tmp_path, sound + damaged + behind)
    assert text == log(3) + log(3)
    assert problem is not None
    # the first byte of the damage tells of it
    assert f"the last {len(behind) + 10:,} compressed bytes" in problem


@pytest.mark.parametrize("begin", [b"x^2", b"x\x01", b"x\x9c", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_a_block_that_begins_like_an_archive_is_text(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"1\n" + begin + b"\n2\n")
    tally = Tally()
    frames = list(lines.read(Input("app.log", path), tally, block_bytes=2))
    assert pl.concat(frames)["line"].to_list() == [1, 2, 3]
    assert tally.problem is None


def test_what_is_not_utf_16_in_such_a_log_becomes_visible(tmp_path: Path) -> None:
    lone, half = b"\x00\xd8", b"\x41"
    text, problem = decoded(tmp_path, codecs.BOM_UTF16_LE + "a\n".encode("utf-16-le") + lone + b"b\0\n\0" + half)
    assert (text, problem) == (b"a\n\\x00\\xd8b\n\\x41\n", None)


def test_a_log_in_utf_16_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    data = log(3000).decode().encode("utf-16")
    text, problem = decoded(tmp_path, gzip.compress(data)[:-1000])
    assert problem == "the gzip stream ends too early"
    assert log(3000).startswith(text.rpartition(b"\n")[0].rpartition(b"\n")[0])
    assert len(text) > 100_000


LONG = st.one_of(
    st.binary(max_size=9),
    st.tuples(st.sampled_from(["x", "é", "\u2028", "🧊", "\r", "\n"]), st.integers(1, 90)).map(
        lambda pair: (pair[0] * pair[1]).encode()
    ),
    # ends of lines, marks, half a character, and what archives begin with
    st.sampled_from([b"\n", b"\r\n", codecs.BOM_UTF8, b"\xf0\x9f", b"\x1f\x8b", b"x^", b"x\x9c", b"\x28\xb5\x2f\xfd"]),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(LONG, max_size=30), st.integers(1, 40), st.integers(1, 200), st.integers(1, 200), st.integers(1, 200))
def test_lines_are_cut_alike_however_they_arrive(
    parts: list[bytes], limit: int, block_bytes: int, first: int, second: int
) -> None:
    raw = b"".join(parts)
    assume(not raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)))
    texts = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "backslashreplace").split("\n")
    expected = [text.removesuffix("\r") for text in texts[: -1 if texts[-1] == "" else None]]
    ends = [len(part) + 1 for part in raw.split(b"\n")]
    sizes = [*ends[:-1], *([ends[-1] - 1] if ends[-1] > 1 else [])] if texts != [""] else []
    arrived = []
    for step in (first, second, len(raw) + 1):
        pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "MAX_LINE_CHARS", limit)
            patch.setattr(lines, "_pieces", lambda *_, pieces=pieces: iter(pieces))
            tally = Tally()
            frames = list(lines.read(Input("long.log", None), tally, block_bytes=block_bytes))
        found = pl.concat([lines._frame(lines._Block(0, b""), Tally()), *frames])
        assert found["text"].to_list() == [text[:limit] for text in expected]
        assert found["line"].to_list() == list(range(1, len(expected) + 1))
        assert found["size"].to_list() == sizes
        assert found["offset"].to_list() == [sum(sizes[:at]) for at in range(len(sizes))]
        assert tally.cut_lines == sum(len(text) > limit for text in expected)
        cut = [(row["line"], row["offset"]) for row in tally.refusals.rows]
        assert cut == [
            (line, offset)
            for line, offset, text in zip(found["line"], found["offset"], expected, strict=True)
            if len(text) > limit
        ]
        assert (tally.bytes, tally.identity) == (len(raw), hashlib.sha256(raw).hexdigest())
        arrived.append([frame.rows() for frame in frames])
    assert arrived[0] == arrived[1] == arrived[2]


def test_a_line_that_does_not_end_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    piece, count = b"x\xc3\xa9 " * (1 << 18), 128
    raw = [log(1), *[piece] * count, b"\n", log(1, first=1)]
    monkeypatch.setattr(lines, "_pieces", lambda *_: iter(raw))
    tally = Tally()
    tracemalloc.start()
    try:
        frames = list(lines.read(Input("endless.log", None), tally))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    found = pl.concat(frames)
    assert peak < 5 * lines.BLOCK_BYTES < count * len(piece) / 1.5
    assert found["line"].to_list() == [1, 2, 3]
    assert found["text"][1] == (piece * 2).decode()[: lines.MAX_LINE_CHARS]
    assert f"{found['text'][0]}\n{found['text'][2]}\n".encode() == log(2)
    assert (tally.lines, tally.cut_lines, tally.bytes) == (3, 1, sum(map(len, raw)))
    assert tally.identity == hashlib.sha256(b"".join(raw)).hexdigest()
