"""Archives that are damaged, or that give more than is good for anybody."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from analyzer import archives
from analyzer.pipeline import ingest
from tests.test_bounds import MIB, refusals, refused
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
