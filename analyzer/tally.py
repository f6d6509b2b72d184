"""What was read of an input: counts, the identity of its bytes, and what waits for the end of its line."""

from __future__ import annotations

import builtins
import hashlib
from dataclasses import dataclass, field

from analyzer.refusals import Refusals, why_unread

#: so much of a first line is enough to tell logs apart
FIRST_BYTES = 4096
STEM_CHARS = 16
#: identity of no bytes
NOTHING = hashlib.sha256().hexdigest()
#: a longer line without an end is not looked at
_LONGEST_TAIL = 1 << 16


def _closes(tail: bytes) -> bool:
    """Whether a line that has no end yet ends as the library and JSON end theirs: with all brackets closed."""
    pairs = ((b"(", b")"), (b"{", b"}"))
    closed = all(tail.count(opens) == tail.count(closes) for opens, closes in pairs)
    return closed and tail.endswith((b")", b"}")) and len(tail) <= _LONGEST_TAIL


@dataclass(slots=True)
class Tally:
    """What was read of one input; complete once its blocks are exhausted."""

    bytes: int = 0
    lines: int = 0
    cut_lines: int = 0
    problem: str | None = None
    #: the reason why nothing was read at all, of `refusals.REASONS`
    refused: str | None = None
    refusals: Refusals = field(default_factory=Refusals)
    #: bytes that the text has more than the input, where it was written anew in UTF-8; its offsets are not known then
    recoded: int | None = None
    #: whether each frame is a block, so that a reading that begins behind one gives the same
    resumable: bool = True
    #: whether bytes behind the last line end wait for theirs; so they do in a file that may grow
    waits: bool = False
    #: bytes of the first line, its end included, or as many as are enough to tell logs apart
    first: builtins.bytes = b""
    #: byte counts at which to note what was read so far: sizes of sources already known, ascending
    marks: tuple[int, ...] = ()
    #: identities of the beginnings noted
    beginnings: list[str] = field(default_factory=list)
    #: digests of all bytes and of whole lines, while there are any and more may come; then the latter is the identity
    _digest: hashlib._Hash | None = None
    _whole: hashlib._Hash | None = None
    _identity: str = NOTHING
    _read: int = 0
    _closed: bool = False
    _stem: str | None = None
    _begun: bool = False
    _open: bool = False
    #: what stands behind the last line end, as far as it is looked at
    _tail: builtins.bytes = b""

    def take(self, piece: builtins.bytes) -> None:
        """Count a piece of decompressed bytes."""
        if len(self.first) < FIRST_BYTES and not self.first.endswith(b"\n"):
            begun = (self.first + piece[:FIRST_BYTES])[:FIRST_BYTES]
            self.first = begun[: begun.find(b"\n") + 1] or begun
        whole = piece.rfind(b"\n") + 1
        self._tail = ((b"" if whole else self._tail) + piece[whole:])[: _LONGEST_TAIL + 1]
        self._add(piece[:whole])
        if whole and self._digest:
            self.bytes, self._whole = self._read, self._digest.copy()
        self._add(piece[whole:])

    def _add(self, piece: builtins.bytes) -> None:
        if not piece:
            return
        self._digest = self._digest or hashlib.sha256()
        while self.marks and self.marks[0] <= self._read + len(piece):
            size = self.marks[0] - self._read
            self._digest.update(piece[:size])
            self._read, piece = self._read + size, piece[size:]
            self.beginnings.append(self._digest.hexdigest())
            self.marks = self.marks[1:]
        self._digest.update(piece)
        self._read += len(piece)

    def close(self) -> None:
        """Note that there is no more; what does not wait, or lacks nothing but its end, is a line."""
        if not self.waits or _closes(self._tail):
            self.bytes, self._whole = self._read, self._digest
        self._closed = True
        # of many inputs little is kept
        self._identity, self._stem, self._begun, self._open = self.identity, self.stem, self.begun, self.is_open
        self._digest, self._whole, self.first, self._tail = None, None, b"", b""

    @property
    def is_unread(self) -> bool:
        """Whether the input was not read at all, or broke off before its first byte."""
        return self.refused is not None or (self.problem is not None and not self.bytes)

    @property
    def pending(self) -> int:
        """Bytes that wait for the end of their line."""
        return self._read - self.bytes

    @property
    def is_open(self) -> bool:
        """Whether the last line has no end."""
        return self._open or bool(self._tail)

    @property
    def size(self) -> int | None:
        """All of its bytes, those that wait included; None while they are being read, or where reading broke off."""
        return self._read if self._closed else None

    @property
    def begun(self) -> bool:
        """Whether there is enough of the first line to tell logs apart, however it goes on."""
        return self._begun or self.first.endswith(b"\n") or len(self.first) == FIRST_BYTES

    @property
    def stem(self) -> str | None:
        """What a log is known by however it grows: a digest of its first line; None while that is not whole."""
        if not self.first:
            return self._stem
        line = self.first.removesuffix(b"\n")
        whole = self.begun or (self._closed and not self.pending)
        return hashlib.sha256(line).hexdigest()[:STEM_CHARS] if whole else None

    def refuse(self, reason: str) -> None:
        """Note that the input was not read at all."""
        self.refused, self.problem = reason, why_unread(reason)
        self.refusals.tell(reason)

    def break_off(self, reason: str, problem: str) -> None:
        """Note that the input could not be read on."""
        self.problem = problem
        self.refusals.tell(reason, line=None, offset=self._read)

    @property
    def identity(self) -> str:
        """SHA-256 of the decompressed bytes, in hex, without those that wait."""
        return self._whole.hexdigest() if self._whole else self._identity
