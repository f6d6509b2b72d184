"""Compressed bytes → plain bytes, in pieces, and no more of them than is good for anybody.

Told by their first bytes: gzip, with members one behind the other, and Zstandard. An archive in an archive is bytes
like any other. What breaks off gives all that stands before the break.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import pyarrow as pa

#: an archive gives no more than this
MAX_BYTES = 4 << 30
#: nor more than so many bytes for one of its own, once it has given the others; logs pack 10:1 to 40:1
MAX_RATIO, RATIO_AFTER_BYTES = 200, 64 << 20
READ_BYTES = _BUFFER_BYTES = 1 << 20
#: a gzip stream is fed with so many bytes at once: what follows a member is copied for each of them
_GZIP_BYTES = 1 << 15
#: a Zstandard block is no longer; what is read at once is lost where it is damaged
_ZSTD_BYTES = 1 << 17
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class BrokenOff(Exception):
    """The bytes of an archive end before it does: `reason` is one of the refusals, the message says more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Counted(io.RawIOBase):
    """A stream that knows how much was read of it."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # no other buffer comes
        piece = self._raw.read(len(buffer))
        buffer[: len(piece)] = piece
        self.count += len(piece)
        return len(piece)


def _before_damage(decoder: zlib._Decompress, piece: bytes) -> tuple[bytes, int]:
    """What decodes of a damaged piece, and how much is left of it: a call that meets the damage gives nothing."""
    decoded, at = bytearray(), 0
    with suppress(zlib.error):
        for at in range(len(piece)):
            decoded += decoder.decompress(piece[at : at + 1])
    return bytes(decoded), len(piece) - at


def _left_unread(raw: BinaryIO, left: int) -> str:
    """Account for what stands behind damage: where it ends nobody knows, so further members are not looked for."""
    while more := raw.read(READ_BYTES):
        left += len(more)
    return f"; the last {left:,} compressed bytes of it were not read"


def _gunzip(raw: BinaryIO) -> Iterator[bytes]:
    decoder, begun = zlib.decompressobj(wbits=31), False
    while piece := raw.read(_GZIP_BYTES):
        while piece:
            begun, before = True, decoder.copy()
            try:
                decoded = decoder.decompress(piece, READ_BYTES)
            except zlib.error as error:
                decoded, left = _before_damage(before, piece)
                yield decoded
                raise BrokenOff("damaged_archive", f"{error}{_left_unread(raw, left)}") from error
            yield decoded
            piece = decoder.unconsumed_tail or decoder.unused_data
            if decoder.eof:  # members may follow one another: rotated logs are concatenated that way
                decoder, begun = zlib.decompressobj(wbits=31), False
    if begun:
        yield decoder.flush()
        raise BrokenOff("damaged_archive", "the gzip stream ends too early")


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    try:
        with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
            while piece := stream.read(_ZSTD_BYTES):
                yield piece
    except (OSError, pa.ArrowException) as error:
        # the decoder refuses windows above 128 MiB by itself
        large = "too much memory" in str(error)
        raise BrokenOff("window_too_large" if large else "damaged_archive", str(error)) from error


def _bounded(pieces: Iterator[bytes], raw: _Counted) -> Iterator[bytes]:
    """The same pieces up to where an archive has given more than it may."""
    given = 0
    for piece in pieces:
        allowed = max(RATIO_AFTER_BYTES, MAX_RATIO * raw.count)
        reason, most = ("archive_ratio", allowed) if allowed < MAX_BYTES else ("archive_too_large", MAX_BYTES)
        yield piece[: most - given]
        given += len(piece)
        if given > most:
            told = f"more than {most:,} bytes in an archive" + (
                f", of {raw.count:,}" if reason == "archive_ratio" else ""
            )
            raise BrokenOff(reason, f"{told}; --trust-archives reads on")


def _plain(raw: BinaryIO) -> Iterator[bytes]:
    while piece := raw.read(READ_BYTES):
        yield piece


#: how files begin that hold several others, or are compressed in ways that are not read; a tar tells it further on
_UNREAD = (b"PK\x03\x04", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
_TAR, _TAR_AT = b"ustar", 257


def is_unread(head: bytes) -> bool:
    """Whether decompressed bytes that begin like that are no text: an archive of files, or compressed otherwise."""
    is_bzip2 = head.startswith(b"BZh") and head[4:10] == b"1AY&SY"
    return head.startswith(_UNREAD) or is_bzip2 or head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def compression(magic: bytes) -> str | None:
    """What bytes that begin like that are compressed with: gzip, zstd or nothing."""
    return "gzip" if magic.startswith(_GZIP) else "zstd" if magic.startswith(_ZSTD) else None


def decompressed(raw: BinaryIO, *, trusted: bool = False) -> Iterator[bytes]:
    """Read a stream in pieces, decompressed where its first bytes say that it is compressed.

    Raises:
        BrokenOff: the archive is damaged, or gives more than it may unless it is `trusted`.
    """
    counted = _Counted(raw)
    buffered = io.BufferedReader(counted, _BUFFER_BYTES)
    magic = buffered.peek(4)[:4]
    readers: dict[str | None, Callable[[BinaryIO], Iterator[bytes]]] = {"gzip": _gunzip, "zstd": _unzstd}
    reader = readers.get(compression(magic))
    if reader is None:
        return _plain(buffered)
    return reader(buffered) if trusted else _bounded(reader(buffered), counted)
