"""Archives that are damaged, or that give more than is good for anybody."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from analyzer import archives
from analyzer.pipeline import ingest
from tests.test_bounds import MIB, refusals, refused
from tests.test_growth import files
from tests.test_inputs import log, sources


def test_the_bounds_are_those_promised() -> None:
    assert (archives.MAX_BYTES, archives.MAX_RATIO, archives.RATIO_AFTER_BYTES) == (4 << 30, 200, 64 * MIB)


def test_truncated_gzip(tmp_path: Path) -> None:
    rows = refused(tmp_path, gzip.compress(log(3000))[:-2000], "app.log.gz")
    size = sources(tmp_path / "out")["app.log.gz"]["bytes"]
    assert rows == [{"reason": "damaged_archive", "offset": size}]
    assert 0 < size < len(log(3000))


def test_concatenated_gzip(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, gzip.compress(log(3)) + gzip.compress(b"") + gzip.compress(log(4, first=3)), "app.gz") == []
    )
    assert sources(tmp_path / "out")["app.gz"]["events"] == 7


def packed(kind: str, size: int) -> bytes:
    text = log(1) + bytes(size)
    return gzip.compress(text) if kind == "gz" else bytes(pa.compress(text, codec="zstd", asbytes=True))


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_gzip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(archives, "RATIO_AFTER_BYTES", MIB)
    data = packed(kind, 30 * MIB)
    allowed = max(MIB, archives.MAX_RATIO * len(data))
    assert allowed < 20 * MIB
    rows = refused(tmp_path, data, f"bomb.{kind}")
    assert {"reason": "archive_ratio", "offset": allowed} in rows
    row = sources(tmp_path / "out")[f"bomb.{kind}"]
    assert (row["bytes"], row["events"]) == (allowed, 1)
    assert "--trust-archives" in row["problem"]
    # trusted, it is the same source grown
    ingest([str(tmp_path / f"bomb.{kind}")], tmp_path / "out", trust_archives=True)
    assert "archive_ratio" not in {row["reason"] for row in refusals(tmp_path / "out")}
    row = sources(tmp_path / "out")[f"bomb.{kind}"]
    assert (row["bytes"], row["problem"]) == (len(log(1)) + 30 * MIB, None)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_archive_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    rows = refused(tmp_path, packed(kind, 5000), f"large.{kind}")
    assert {"reason": "archive_too_large", "offset": 1000} in rows
    plain = refused(tmp_path, log(50), "plain.log")
    assert plain == []


def test_concatenated_gzip_of_nothing_takes_no_time_of_its_own() -> None:
    # each member leaves all that follows it to be copied: fed whole, this takes minutes
    fed: list[int] = []

    class Fed(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            fed.append(size or 0)
            return super().read(size)

    stream = Fed(gzip.compress(b"") * 5000 + gzip.compress(b"x"))
    assert b"".join(archives._gunzip(stream)) == b"x"
    assert max(fed) <= 1 << 15


@pytest.mark.parametrize("header", [b"\x00\xf8", b"\xe0" + (1 << 40).to_bytes(8, "little")], ids=["window", "size"])
def test_zstd_window(tmp_path: Path, header: bytes) -> None:
    rows = refused(tmp_path, b"\x28\xb5\x2f\xfd" + header + b"\x01\x00\x00", "wide.zst")
    assert [row["reason"] for row in rows] == ["window_too_large"]


# -- nothing is lost for being like something else ---------------------------------------------------------------------


def lost(out: Path) -> list[tuple[str, int]]:
    """What archives lost, by name: from where on."""
    rows = pl.read_parquet(out / "refusals").filter(reason="damaged_archive")
    return [(name, offset) for name, offset in rows.select("source", "offset").rows()]


def folder(tmp_path: Path, **logs: bytes) -> list[str]:
    """Files of these names, an underscore for the point."""
    (tmp_path / "logs").mkdir(exist_ok=True)
    for name, data in logs.items():
        (tmp_path / "logs" / name.replace("_", ".")).write_bytes(data)
    return [str(tmp_path / "logs")]


def zstd(text: bytes) -> bytes:
    return bytes(pa.compress(text, codec="zstd", asbytes=True))


@pytest.mark.parametrize("others", [{}, {"empty_log": b""}, {"good_log": log(9)}], ids=["alone", "empty", "good"])
def test_an_archive_that_gives_nothing_is_told(tmp_path: Path, others: dict[str, bytes]) -> None:
    gz, zst, out = gzip.compress(log(3, first=100)), zstd(log(4, first=200)), tmp_path / "out"
    given = folder(tmp_path, a_gz=gz[:14], b_zst=zst[:20], c_zst=zst[:-9], **others)
    ingest(given, out)
    assert lost(out) == [("a.gz", 0), ("b.zst", 0), ("c.zst", 0)]
    assert len(sources(out)) == 3 + len(others)
    before = files(out)
    assert not ingest(given, out).changed
    assert files(out) == before
    # what is whole by now is a source, and its row goes away
    ingest(folder(tmp_path, a_gz=gz, b_zst=zst), out)
    assert lost(out) == [("c.zst", 0)]
    assert (sources(out)["a.gz"]["events"], sources(out)["b.zst"]["events"]) == (3, 4)
    # so it does for what has become an empty file, and the other way round
    ingest(folder(tmp_path, c_zst=b""), out)
    assert lost(out) == []
    ingest(folder(tmp_path, c_zst=zst[:-9]), out)
    assert lost(out) == [("c.zst", 0)]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("known", [True, False])
def test_what_broke_off_is_not_the_same_as_what_did_not(tmp_path: Path, names: tuple[str, str], known: bool) -> None:
    text, out = log(40), tmp_path / "out"
    plain, packed = f"{names[0]}_log", f"{names[1]}_gz"
    if known:
        ingest(folder(tmp_path, **{plain: text}), out)
    given = folder(tmp_path, **{plain: text, packed: gzip.compress(text)[:-4]})
    ingest(given, out)
    assert lost(out) == [(f"{names[1]}.gz", len(text))]
    assert pl.read_parquet(out / "events").height == 40
    assert not ingest(given, out).changed
    ingest(folder(tmp_path, **{packed: gzip.compress(text)}), out)
    assert lost(out) == []
    assert pl.read_parquet(out / "events").height == 40
    assert {row["problem"] for row in sources(out).values()} == {None}


def test_of_archives_that_broke_off_alike_each_is_told(tmp_path: Path) -> None:
    # parts of one stream end where its blocks do
    text, out = log(3000), tmp_path / "out"
    gz = gzip.compress(text)
    given = folder(tmp_path, a_gz=gz[:-300], b_gz=gz[:-300], c_gz=gz[:-900])
    done = ingest(given, out)
    size = sources(out)["a.gz"]["bytes"]
    assert 0 < size < len(text)
    assert [(name, 0 < offset <= size) for name, offset in lost(out)] == [
        ("a.gz", True),
        ("b.gz", True),
        ("c.gz", True),
    ]
    assert len(done.refusals.filter(reason="damaged_archive")) == 3
    assert [row["bytes"] for row in sources(out).values()] == [size, 0, 0]
    assert not ingest(given, out).changed
    ingest(folder(tmp_path, b_gz=gz), out)
    ingest(folder(tmp_path, a_gz=gz, c_gz=gz), out)
    assert lost(out) == []
    assert pl.read_parquet(out / "events")["line"].n_unique() == 3000


def test_of_a_name_that_is_taken_what_was_not_read_is_told(tmp_path: Path) -> None:
    out, zst = tmp_path / "out", zstd(log(4, first=50))
    ingest(folder(tmp_path, app_zst=zstd(log(3))), out)
    ingest(folder(tmp_path, app_zst=zst[:-9]), out)
    assert lost(out) == [("app.zst", 0)]
    assert not ingest(folder(tmp_path), out).changed
    ingest(folder(tmp_path, app_zst=zst), out)
    assert lost(out) == []
    assert sorted(row["events"] for row in sources(out).values()) == [3, 4]
