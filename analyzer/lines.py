"""Files → lines: discovery, decompression, any bytes, line numbers.

In: what the user named (files, directories, globs, `-`). Out: blocks of lines, `(line, text)`, cut at line ends, so
that the size of a file never matters. Only a line feed ends a line; a carriage return before it is dropped; bytes that
are not UTF-8 become visible escapes; UTF-16 is read where a byte order mark tells it.
"""

from __future__ import annotations

import builtins
import codecs
import glob
import hashlib
import io
import os
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa

from analyzer.errors import InputError

STDIN = "-"
_STDIN_PATH = Path("/dev/stdin")
BLOCK_BYTES = 8 << 20
#: a longer line is cut here; the rest of it is dropped and counted
MAX_LINE_CHARS = 1 << 20
_READ_BYTES = 1 << 20
#: a Zstandard block is no longer; what is read at once is lost where it is damaged
_ZSTD_BYTES = 1 << 17
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to read: its name in the dataset, and its place on disk (None is standard input)."""

    name: str
    path: Path | None


@dataclass(slots=True)
class Tally:
    """What was read of one input; complete once its blocks are exhausted."""

    bytes: int = 0
    lines: int = 0
    cut_lines: int = 0
    problem: str | None = None
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    #: byte counts at which to note what was read so far: sizes of sources already known, ascending
    marks: tuple[int, ...] = ()
    #: identities of the beginnings noted
    beginnings: list[str] = field(default_factory=list)

    def take(self, piece: builtins.bytes) -> None:
        """Count a piece of decompressed bytes."""
        while self.marks and self.marks[0] <= self.bytes + len(piece):
            size = self.marks[0] - self.bytes
            self.digest.update(piece[:size])
            self.bytes, piece = self.bytes + size, piece[size:]
            self.beginnings.append(self.identity)
            self.marks = self.marks[1:]
        self.digest.update(piece)
        self.bytes += len(piece)

    @property
    def identity(self) -> str:
        """SHA-256 of the decompressed bytes, in hex."""
        return self.digest.hexdigest()


def _listed(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _expanded(given: str) -> list[tuple[Path, str]]:
    """Paths below one argument, each with its name relative to that argument."""
    path = Path(given)
    if path.is_dir():
        return [(found, found.relative_to(path).as_posix()) for found in _listed(path) if _is_regular(found)]
    if path.exists():
        return [(path, path.name)]
    matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 - may be absolute
    return [pair for match in matches for pair in (_expanded(str(match)) if match.is_dir() else [(match, match.name)])]


def _spelled(path: str | Path) -> str:
    """A path as a name: whatever its bytes are, it can be written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _longer(name: str, path: Path) -> str:
    """The name with one more parent folder, as long as there is one."""
    kept = len(Path(name).parts) + 1
    return _spelled(Path(*path.parts[-kept:])).lstrip("/")


def _told_apart(found: dict[Path, str]) -> list[Input]:
    """Give inputs of one name as many parent folders as tell them apart."""
    names = dict(found)
    while True:
        taken = Counter(names.values())
        longer = {path: _longer(name, path) for path, name in names.items() if taken[name] > 1}
        if all(names[path] == name for path, name in longer.items()):
            break
        names |= longer
    inputs = [Input(name, None if path == _STDIN_PATH else path) for path, name in names.items()]
    return sorted(inputs, key=lambda one: one.name)


def discover(given: Sequence[str], *, skip: Path | None = None) -> list[Input]:
    """Find what there is to read, without duplicates, sorted by name. `skip` is a folder never read (the dataset).

    Raises:
        InputError: an argument names nothing, or nothing readable is left.
    """
    # standard input is named with the others: a file may have that name, too
    found = {_STDIN_PATH: "stdin"} if STDIN in given else {}
    skipped = skip.resolve() if skip else None
    for argument in given:
        if argument == STDIN:
            continue
        pairs = _expanded(argument)
        if not pairs and not Path(argument).is_dir():
            raise InputError(f"{argument}: no such file or directory", "name a log file, a folder, a glob or '-'")
        for path, name in pairs:
            real = path.resolve()
            if skipped is None or skipped not in real.parents:
                found.setdefault(real, _spelled(name))
    if not found:
        raise InputError(f"nothing to read in {', '.join(given)}", "the folders hold no regular file")
    return _told_apart(found)


def _before_damage(decoder: zlib._Decompress, piece: bytes) -> tuple[bytes, int]:
    """What decodes of a damaged piece, and how much is left of it: a call that meets the damage gives nothing."""
    decoded, at = bytearray(), 0
    with suppress(zlib.error):
        for at in range(len(piece)):
            decoded += decoder.decompress(piece[at : at + 1])
    return bytes(decoded), len(piece) - at


def _left_unread(raw: BinaryIO, left: int) -> str:
    """Account for what stands behind damage: where it ends nobody knows, so further members are not looked for."""
    while more := raw.read(_READ_BYTES):
        left += len(more)
    return f"; the last {left:,} compressed bytes of it were not read"


def _gunzip(raw: BinaryIO) -> Iterator[bytes]:
    decoder, begun = zlib.decompressobj(wbits=31), False
    while piece := raw.read(_READ_BYTES):
        while piece:
            begun, before = True, decoder.copy()
            try:
                decoded = decoder.decompress(piece, _READ_BYTES)
            except zlib.error as error:
                decoded, left = _before_damage(before, piece)
                yield decoded
                raise zlib.error(f"{error}{_left_unread(raw, left)}") from error
            yield decoded
            piece = decoder.unconsumed_tail or decoder.unused_data
            if decoder.eof:  # members may follow one another: rotated logs are concatenated that way
                decoder, begun = zlib.decompressobj(wbits=31), False
    if begun:
        yield decoder.flush()
        raise EOFError("the gzip stream ends too early")


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
        while piece := stream.read(_ZSTD_BYTES):
            yield piece


def _plain(raw: BinaryIO) -> Iterator[bytes]:
    while piece := raw.read(_READ_BYTES):
        yield piece


def _reader(magic: bytes) -> Callable[[BinaryIO], Iterator[bytes]]:
    if magic.startswith(_GZIP):
        return _gunzip
    return _unzstd if magic.startswith(_ZSTD) else _plain


def compression(one: Input) -> str | None:
    """What an input is compressed with, by its first bytes: gzip, zstd or nothing."""
    if one.path is None:
        magic = cast("BufferedReader", sys.stdin.buffer).peek(4)[:4]
    else:
        try:
            with one.path.open("rb") as raw:
                magic = raw.read(4)
        except OSError:
            # who reads it is told why that cannot be
            return None
    return "gzip" if magic.startswith(_GZIP) else "zstd" if magic.startswith(_ZSTD) else None


def _pieces(one: Input) -> Iterator[bytes]:
    if one.path is None:
        raw = cast("BufferedReader", sys.stdin.buffer)
        yield from _reader(raw.peek(4)[:4])(raw)
        return
    with one.path.open("rb") as raw:
        yield from _reader(raw.peek(4)[:4])(raw)


def _lines(block: bytes) -> pl.Series:
    # polars decompresses what begins like an archive, were it by chance; a time does not, and neither does a line end
    if block[:1].isdigit():
        return pl.read_lines(io.BytesIO(block)).to_series()
    return pl.read_lines(io.BytesIO(b"\n" + block)).to_series().slice(1)


def _text(block: bytes) -> pl.Series:
    """Lines of a block, without their ends."""
    try:
        return _lines(block)
    except pl.exceptions.ComputeError:
        # not UTF-8: what is no text is shown as escapes
        return _lines(block.decode("utf-8", "backslashreplace").encode())


def _frame(block: bytes, tally: Tally) -> pl.DataFrame:
    # some editors and shells mark the first line of a file as UTF-8
    text = _text(block if tally.lines else block.removeprefix(codecs.BOM_UTF8)).alias("text")
    # counting characters takes a while, and a line of few bytes has no more of them
    if (text.str.len_bytes() > MAX_LINE_CHARS).any():
        tally.cut_lines += int((text.str.len_chars() > MAX_LINE_CHARS).sum())
        text = text.str.head(MAX_LINE_CHARS)
    numbers = pl.int_range(tally.lines + 1, tally.lines + len(text) + 1, eager=True)
    tally.lines += len(text)
    return pl.DataFrame({"line": numbers, "text": text})


def _taken(one: Input, tally: Tally) -> Iterator[bytes]:
    """Pieces of an input up to where it breaks off, counted."""
    try:
        for piece in _pieces(one):
            tally.take(piece)
            yield piece
    except (OSError, EOFError, zlib.error) as error:
        # an error of the system names the path, which is nobody's business who is handed the dataset
        tally.problem = str(getattr(error, "strerror", None) or error)


def _as_utf8(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; written anew in UTF-8 where a byte order mark tells UTF-16, which PowerShell's `>` writes."""
    head = b""
    while len(head) < len(codecs.BOM_UTF16) and (piece := next(pieces, None)) is not None:
        head += piece
    pieces = chain((head,), pieces)
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder("utf-16")("backslashreplace")
    yield from (decoder.decode(piece).encode() for piece in pieces)
    yield decoder.decode(b"", final=True).encode()


def _blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut at line ends into blocks of about `size` bytes, which depend on nothing but the bytes.

    A line longer than that makes a longer block; of one that does not end at all, only the beginning is held.
    """
    # enough for one character more than is given, were all of the widest, with a byte order mark and a line end
    beginning = 4 * (MAX_LINE_CHARS + 2)
    longest = max(size, 2 * beginning)
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length <= size:
            continue
        rest, start = b"".join(held), 0
        held.clear()
        while len(rest) - start > size:
            end = rest.rfind(b"\n", start, start + size) + 1 or rest.find(b"\n", start + size, start + longest) + 1
            if end:
                yield rest[start:end]
                start = end
            elif len(rest) - start >= longest:
                # always the same bytes are dropped, however they arrived
                rest, start = rest[start : start + beginning] + rest[start + longest :], 0
            else:
                break
        rest = rest[start:]
        held.append(rest)
        length = len(rest)
    if length:
        yield b"".join(held)


def read(one: Input, tally: Tally, *, block_bytes: int = BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """Read one input as frames of lines `(line: Int64, text: String)`, and count into `tally`.

    A stream that breaks off gives what came before the break; `tally.problem` says why it broke.
    """
    for block in _blocks(_as_utf8(_taken(one, tally)), block_bytes):
        yield _frame(block, tally)
