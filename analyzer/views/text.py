"""What every view is written with: safe text, numbers with units, aligned columns, colours, and the way out.

Nothing that came from a log reaches a terminal without `shown`.
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO, TypeAlias, TypeVar

from analyzer.errors import OutputError

WIDTH = 100
NOTHING = "—"

T = TypeVar("T")
Paint: TypeAlias = Callable[[str, str], str]
#: pieces of a cell, each with its style
Cell: TypeAlias = Sequence[tuple[str, str]]

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "": ""}
#: signs of ours for streams that cannot say them; those in aligned columns keep their width
_ASCII = str.maketrans(
    {
        "─": "-",
        "┄": ".",
        "—": "-",
        "–": "-",
        "→": "->",
        "↔": "<->",
        "−": "-",
        "÷": "/",
        "≥": ">=",
        "≤": "<=",
        "…": "...",
        "±": "+-",
        "█": "#",
        "▒": "=",
        "░": ".",
    }
)
# control, format (bidi, zero width), surrogate, private, unassigned; line and paragraph separators
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


#: letters and marks that show nothing: fillers of Hangul, joiners, inherent vowels of Khmer, selectors of a variant
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800") | frozenset(map(chr, range(0xFE00, 0xFE10)))


def first_and_last(every: Sequence[T], kept: int, told: Callable[[Sequence[T]], T]) -> list[T]:
    """So many of the first and of the last as are `kept`, and between them what is `told` of those left out.

    To leave a single one out saves nothing.
    """
    last = len(every) - kept
    if last - kept < 2:
        return list(every)
    return [*every[:kept], told(every[kept:last]), *every[last:]]


def _visible(sign: str) -> str:
    if unicodedata.category(sign) not in _HIDDEN and sign not in _BLANK:
        return sign
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shown(text: object) -> str:
    """Make a text harmless to a terminal: every sign that acts instead of showing becomes its escape."""
    return "".join(map(_visible, str(text)))


def paragraph(text: str) -> str:
    """Make a text of several lines harmless, line by line."""
    return "\n".join(map(shown, text.split("\n")))


# -- numbers ----------------------------------------------------------------------------------------------------------


def number(value: float | None, unit: str = "") -> str:
    """Write a number to one decimal, with its unit: logs are no finer. Null is a dash, zero is 0."""
    if value is None:
        return NOTHING
    text = f"{value:.2g}" if 0 < abs(value) < 0.05 else f"{value:,.1f}".removesuffix(".0")
    return f"{text} {unit}".rstrip()


def milliseconds(elapsed: timedelta) -> float:
    """Count the milliseconds of a duration."""
    return elapsed / timedelta(milliseconds=1)


def span(ms: float) -> str:
    """Write a duration in the unit that reads best."""
    seconds = ms / 1000
    if abs(seconds) < 10:
        return number(ms, "ms")
    if abs(seconds) < 600:
        return number(seconds, "s")
    return number(seconds / 60, "min") if abs(seconds) < 7200 else number(seconds / 3600, "h")


def size(count: int) -> str:
    """Write a count of bytes in the unit that reads best."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return number(count / factor, unit)
    return f"{count} B"


def side_of(row: Mapping[str, Any]) -> str:
    """The side of a row, in a word."""
    return row["side"] or "side unknown"


def counted(count: int, one: str, many: str = "") -> str:
    """Write a count with its noun: `1 line`, `2 lines`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(ts: datetime | None) -> str:
    """Write a time in UTC to the millisecond."""
    return ts.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if ts else NOTHING


# -- layout -----------------------------------------------------------------------------------------------------------


def width(text: str) -> int:
    """Columns a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(bool(unicodedata.combining(sign)) for sign in text)


def plain(text: str, style: str) -> str:
    """Paint nothing."""
    return text


def ansi(text: str, style: str) -> str:
    """Paint a text for a terminal."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and _STYLES[style] else text


def grid(
    rows: Sequence[Sequence[Cell | str]], paint: Paint, *, right: Sequence[int] = (), indent: int = 2, gap: int = 2
) -> list[str]:
    """Align cells in columns, those of `right` to the right and a little closer to one another."""
    cells = [[[(cell, "")] if isinstance(cell, str) else cell for cell in row] for row in rows]
    taken = [[sum(width(text) for text, _ in cell) for cell in row] for row in cells]
    places = range(max(map(len, rows), default=0))
    widest = [max((row[place] for row in taken if place < len(row)), default=0) for place in places]
    lines = []
    for row, lengths in zip(cells, taken, strict=True):
        line = ""
        for place, (cell, length) in enumerate(zip(row, lengths, strict=True)):
            text, space = "".join(paint(*piece) for piece in cell), " " * (widest[place] - length)
            tight = place in right and place + 1 in right
            line += (space + text if place in right else text + space) + " " * (gap - tight)
        lines.append(f"{' ' * indent}{line}".rstrip())
    return lines


# -- the way out ------------------------------------------------------------------------------------------------------


def paint_for(stream: TextIO) -> Paint:
    """Choose colours for terminals only, and for none of their users who ask for none (no-color.org)."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return ansi if wanted else plain


def spelled(text: str, encoding: str | None) -> str:
    """Spell a text with the signs an encoding has."""
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def write(text: str, stream: TextIO) -> None:
    """Write a text and flush it, so that a reader who left is noticed here.

    Raises:
        OutputError: where it is written to takes no more.
    """
    try:
        stream.write(spelled(text.rstrip("\n") + "\n", stream.encoding))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError):
            stream.close()  # what is left in it would be tried once more at the end
        raise OutputError(f"cannot print: {error.strerror}", "give the output a place with room for it") from error


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(value: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """Write plain values as JSON: times in ISO 8601, no NaN, nothing but ASCII; without `indent` in one line."""
    return json.dumps(_value(value), indent=indent, allow_nan=False)
