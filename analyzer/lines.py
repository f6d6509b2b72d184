"""Files → lines: any bytes become text, and every line has its number and its place.

In: an input. Out: blocks of lines, `(line, text, offset, size)`, cut at line ends, so that the size of a file never
matters. Only a line feed ends a line; a carriage return before it is dropped; bytes that
are not UTF-8 become visible escapes; UTF-16 is read where a byte order mark tells it.
"""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import accumulate, chain
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa

from analyzer.archives import BrokenOff, compression, decompressed, is_unread
from analyzer.inputs import Input, why_not
from analyzer.tally import Tally

BLOCK_BYTES = 8 << 20
#: so much of an input tells when it began, if its lines begin with a time
BEGIN_BYTES = 40
#: a block of more lines is halved: what is kept of a line is more than an empty one has
BLOCK_LINES = 1 << 18
#: a longer line is cut here; the rest of it is dropped and counted
MAX_LINE_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read on: at `offset`, where `line` begins, in a block that ends at `border`."""

    offset: int
    line: int
    border: int


@dataclass(slots=True)
class Trail:
    """The latest lines that were read, which tell where the next reading may begin."""

    _frames: deque[pl.DataFrame] = field(default_factory=lambda: deque(maxlen=2))

    def along(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Pass on frames of lines."""
        for frame in frames:
            self._frames.append(frame.select("line", "offset"))
            yield frame

    def place(self, line: int) -> Place | None:
        """Where to read on from a line, if another block has begun; None where that would not give the same."""
        border = self._frames[-1]["offset"].head(1).to_list()
        offset = pl.concat(self._frames).filter(pl.col("line") == line)["offset"].to_list()
        # of a longer block the middle of a line may be missing
        if None in border or not offset or not 0 <= border[0] - offset[0] <= BLOCK_BYTES:
            return None
        return Place(offset[0], line, border[0])


def compressed_with(one: Input) -> str | None:
    """What an input is compressed with, by its first bytes: gzip, zstd or nothing."""
    if one.path is None:
        return compression(cast("BufferedReader", sys.stdin.buffer).peek(4)[:4])
    try:
        with one.path.open("rb") as raw:
            return compression(raw.read(4))
    except OSError:
        # who reads it is told why that cannot be
        return None


def _pieces(one: Input, tally: Tally) -> Iterator[bytes]:
    if one.path is None:
        yield from decompressed(cast("BinaryIO", sys.stdin.buffer), trusted=one.trusted)
        return
    # what was a file when it was looked for may be a pipe by now, and nobody waits for one to be written
    handle = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", buffering=0) as raw:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BrokenOff("not_regular", "no regular file")
        tally.waits = not one.final and compression(os.pread(handle, 4, 0)) is None
        yield from decompressed(cast("BinaryIO", raw), trusted=one.trusted)


def _texts(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, unless they begin like what holds several files."""
    for number, piece in enumerate(pieces):
        if not number and is_unread(piece):
            raise BrokenOff("archive_of_files", "an archive of several files")
        yield piece


@dataclass(frozen=True, slots=True)
class _Shared:
    """An Arrow array for Polars to take where it lies; for one that it knows it loads all functions of Arrow."""

    array: pa.Array

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return cast("tuple[object, object]", self.array.__arrow_c_array__(requested_schema))


def _bytes(block: bytes) -> pl.Series:
    """The bytes of a block as numbers, where they lie."""
    return pl.Series(_Shared(pa.Array.from_buffers(pa.uint8(), len(block), [None, pa.py_buffer(block)])))


def _borders(block: bytes) -> pl.Series:
    """Where each line of a block begins, and where the last one ends."""
    ends = (_bytes(block) == ord("\n")).arg_true().cast(pl.Int64) + 1
    last = [] if block.endswith(b"\n") or not block else [len(block)]
    return pl.concat([pl.Series([0]), ends, pl.Series(last, dtype=pl.Int64)], rechunk=True)


def _lines(block: bytes, borders: pl.Series) -> pl.Series:
    """The lines of a block, without their ends; fails where bytes of it are no text."""
    buffers = [None, borders.to_arrow().buffers()[1], pa.py_buffer(block)]
    raw = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(borders) - 1, buffers)
    text = pl.Series(_Shared(raw)).cast(pl.String).str.strip_suffix("\n")
    return text.str.strip_suffix("\r") if b"\r" in block else text


def _text(block: bytes, borders: pl.Series) -> tuple[pl.Series, bool]:
    """Lines of a block, without their ends, and whether bytes of them are shown as escapes."""
    try:
        return _lines(block, borders), False
    except pl.exceptions.ComputeError:
        # not UTF-8: what is no text is shown as escapes
        escaped = block.decode("utf-8", "backslashreplace").encode()
        return _lines(escaped, _borders(escaped)), True


def _frame(block: _Block, tally: Tally) -> pl.DataFrame:
    # some editors and shells mark the first line of a file as UTF-8
    mark = 0 if tally.lines or not block.data.startswith(codecs.BOM_UTF8) else len(codecs.BOM_UTF8)
    data = block.data[mark:]
    borders = _borders(data)
    text, escaped = _text(data, borders)
    sizes = borders.diff(null_behavior="drop")
    # a line of which the middle was dropped is the first of its block
    if len(sizes):
        sizes = sizes.scatter(0, sizes[0] + mark + block.dropped)
    else:
        # a file of nothing but the mark has no line
        tally.recoded = (tally.recoded or 0) - mark
    offsets = block.offset + sizes.cum_sum() - sizes
    first = tally.lines + 1
    # counting characters takes a while, and a line of few bytes has no more of them
    if (text.str.len_bytes() > MAX_LINE_CHARS).any():
        kept = text.str.head(MAX_LINE_CHARS)
        beyond = text.str.len_bytes().cast(pl.Int64) - kept.str.len_bytes()
        for at in (beyond > 0).arg_true():
            offset = offsets[at] if tally.recoded is None else None
            # of bytes shown as escapes more are left out than there were
            size = None if escaped or offset is None else beyond[at] + (block.dropped if at == 0 else 0)
            tally.refusals.tell("line_too_long", line=first + at, offset=offset, size=size)
            tally.cut_lines += 1
        text = kept
    numbers = pl.int_range(first, first + len(text), eager=True)
    tally.lines += len(text)
    if tally.recoded is not None:
        offsets = offsets.clear(len(offsets))
    return pl.DataFrame({"line": numbers, "text": text, "offset": offsets, "size": sizes})


def _taken(one: Input, tally: Tally) -> Iterator[bytes]:
    """Pieces of an input up to where it breaks off, counted."""
    if one.refused:
        tally.refuse(one.refused)
        return
    begun = False
    try:
        for piece in _texts(_pieces(one, tally)):
            begun = True
            tally.take(piece)
            yield piece
    except BrokenOff as error:
        if error.reason in ("not_regular", "archive_of_files"):
            tally.refuse(error.reason)
        else:
            tally.break_off(error.reason, str(error))
    except OSError as error:
        if begun:
            # an error of the system names the path, which is nobody's business who is handed the dataset
            tally.break_off("read_error", error.strerror or "the system could not read on")
        else:
            tally.refuse(why_not(error))
    if tally.problem or tally.recoded is not None:
        tally.waits = False
    tally.close()


def _as_utf8(pieces: Iterator[bytes], tally: Tally) -> Iterator[bytes]:
    """The same pieces; written anew in UTF-8 where a byte order mark tells UTF-16, which PowerShell's `>` writes."""
    head = b""
    while len(head) < len(codecs.BOM_UTF16) and (piece := next(pieces, None)) is not None:
        head += piece
    pieces = chain((head,), pieces)
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield from pieces
        return
    tally.recoded = 0
    decoder = codecs.getincrementaldecoder("utf-16")("backslashreplace")
    for piece in chain(pieces, (b"",)):
        written = decoder.decode(piece, final=not piece).encode()
        tally.recoded += len(written) - len(piece)
        yield written


@dataclass(frozen=True, slots=True)
class _Block:
    """Whole lines: where the first one begins, and how many bytes of it are left out of `data`."""

    offset: int
    data: bytes
    dropped: int = 0


def _blocks(pieces: Iterable[bytes], size: int, tally: Tally, offset: int = 0) -> Iterator[_Block]:
    """Cut at line ends into blocks of about `size` bytes, which depend on nothing but the bytes.

    A line longer than that makes a longer block; of one that does not end at all, only the beginning is held. `offset`
    is where the bytes begin.
    """
    # enough for one character more than is given, were all of the widest, with a byte order mark and a line end
    beginning = 4 * (MAX_LINE_CHARS + 2)
    longest = max(size, 2 * beginning)
    held: list[bytes] = []
    length = dropped = 0
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
                yield _Block(offset, rest[start:end], dropped)
                offset, start, dropped = offset + end - start + dropped, end, 0
            elif len(rest) - start >= longest:
                # always the same bytes are dropped, however they arrived
                rest, start = rest[start : start + beginning] + rest[start + longest :], 0
                dropped += longest - beginning
            else:
                break
        rest = rest[start:]
        held.append(rest)
        length = len(rest)
    data = b"".join(held)
    if tally.pending:
        data = data[: data.rfind(b"\n") + 1]
    if data:
        yield _Block(offset, data, dropped)


def _few_lines(block: _Block, most: int) -> Iterator[_Block]:
    """The same block, halved as long as it has more lines than are good for memory: empty ones take a byte each."""
    # in the latter half of a line, half of the lines end
    middle = block.data.find(b"\n", len(block.data) // 2) + 1
    if not 0 < middle < len(block.data) or int((_bytes(block.data) == ord("\n")).sum()) <= most:
        yield block
        return
    halves = (
        _Block(block.offset, block.data[:middle], block.dropped),
        _Block(block.offset + middle + block.dropped, block.data[middle:]),
    )
    for half in halves:
        yield from _few_lines(half, most)


def _behind(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """What stands behind an offset."""
    for piece in pieces:
        yield piece[offset:]
        offset = max(0, offset - len(piece))


def _first_and_rest(pieces: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    first = b""
    while len(first) < size and (piece := next(pieces, None)) is not None:
        first += piece
    return first[:size], chain((first[size:],), pieces)


def read(
    one: Input, tally: Tally, *, start: Place | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[pl.DataFrame]:
    """Read one input as frames of lines `(line: Int64, text: String, offset: Int64, size: Int64)`, counting in `tally`.

    `offset` and `size` are of the line in the decompressed bytes, its end included; an offset is null where the text
    had to be written anew. What breaks off gives what came before the break; `tally.problem` says why. From a `start`
    on the frames are those of a reading from the beginning.
    """
    if start is None:
        blocks = _blocks(_as_utf8(_taken(one, tally), tally), block_bytes, tally)
    else:
        tally.lines = start.line - 1
        first, rest = _first_and_rest(_behind(_taken(one, tally), start.offset), start.border - start.offset)
        begun = [_Block(start.offset, first)] if first else []
        blocks = chain(begun, _blocks(rest, block_bytes, tally, start.border))
    for block in blocks:
        few = list(_few_lines(block, BLOCK_LINES))
        tally.resumable &= len(few) == 1
        yield from (_frame(one, tally) for one in few)


def small(one: Input, tally: Tally, most: int) -> bytes | None:
    """All lines of an input of at most so many bytes, to which nothing has to be done; None: it is to be `read`."""
    try:
        if one.path is None or one.path.stat().st_size > most:
            return None
    except OSError:
        return None
    data = b""
    for piece in _taken(one, tally):
        data += piece
        if len(data) > most:
            return None
    if tally.pending:
        data = data[: data.rfind(b"\n") + 1]
    marked = data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data if data.endswith(b"\n") and not marked and tally.problem is None and _is_utf8(data) else None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def together(texts: Sequence[bytes]) -> pl.DataFrame:
    """The lines of several small inputs as one frame; `of` is the place of the input among them."""
    data = b"".join(texts)
    borders = _borders(data)
    sizes = borders.diff(null_behavior="drop")
    begins = list(accumulate(map(len, texts), initial=0))[:-1]
    inputs = pl.DataFrame({"of": range(len(texts)), "begin": begins, "lines": [text.count(b"\n") for text in texts]})
    numbered = inputs.select("of", "begin", line=pl.int_ranges(1, pl.col("lines") + 1)).explode("line")
    offsets = sizes.cum_sum() - sizes - numbered["begin"]
    columns = {"line": numbered["line"], "text": _lines(data, borders), "offset": offsets, "size": sizes}
    return pl.DataFrame({**columns, "of": numbered["of"]})


def begin_of(one: Input) -> tuple[str | None, bytes]:
    """Stem of an input (see `Tally`), and its first bytes."""
    tally = Tally()
    for _ in _taken(one, tally):
        if tally.stem:
            break
    return tally.stem, tally.first[:BEGIN_BYTES]


def whole(one: Input) -> Tally:
    """How much an input holds, up to its last line end, and the identity of that."""
    tally = Tally()
    for _ in _taken(one, tally):
        pass
    return tally


def recognised(one: Input, sizes: Sequence[int]) -> tuple[Tally, bool]:
    """Note what an input begins with, at byte counts of known sources, ascending; whether the last of it is all.

    Where it is, all of the input was read.
    """
    tally = Tally(marks=tuple(sizes))
    for _ in _taken(one, tally):
        if not tally.marks and tally.bytes > sizes[-1]:
            break
    return tally, tally.beginnings[-1:] == [tally.identity]
