"""What a terminal's name says about a value: its dtype, and how its text becomes one.

One entry per terminal, with the two readings side by side: `expr` for the plan (a Polars expression over strings),
`value` for the reference (one Python string). A terminal without an entry is matched and never captured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import polars as pl

from analyzer.grammar import extensions

TIMESTAMP = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


#: what a text may hold of an endpoint's address: it is one, perhaps with a port; one with a port; any text may name
#: one. `server`: it is a relay's or a STUN server's, which stays readable; `none`: it spells neither a dot nor a colon
Holds: TypeAlias = Literal["address", "endpoint", "text", "server", "none"]


@dataclass(frozen=True, slots=True)
class Type:
    """Dtype of a terminal's values, and its two readers."""

    dtype: pl.DataType
    expr: Callable[[pl.Expr], pl.Expr]
    value: Callable[[str], object]
    #: what one printed unit of a time is worth; None for anything that is not a time
    resolution_ms: float | None = None
    #: a time without a zone is read in the zone the user names
    naive: bool = False
    #: a longer value is refused, bytes; a list's items are measured one by one
    longest: int | None = None
    #: what reads a value of any length; values of one column are read alike
    reader: Callable[[pl.Expr], pl.Expr] | None = None
    #: of texts; what is not said here is looked through
    holds: Holds = "text"

    def too_long(self, text: pl.Expr) -> pl.Expr:
        """Whether a value is longer than it may be, or an item of a list."""
        if isinstance(self.dtype, pl.List):
            return text.str.split("\n").list.eval(pl.element().str.len_bytes()).list.max() > self.longest
        return text.str.len_bytes() > self.longest


def _text(text: pl.Expr) -> pl.Expr:
    return text


#: longer values are refused
ID_BYTES, CANDIDATE_BYTES, VALUE_BYTES = 128, 1024, 1024
#: of a list no more values are taken: candidates of a session description
MOST_LISTED = 256


def _candidates(text: pl.Expr) -> pl.Expr:
    taken = text.str.split("\n").list.head(MOST_LISTED)
    short = taken.list.eval(pl.element().filter(pl.element().str.len_bytes() <= CANDIDATE_BYTES))
    found = short.list.eval(extensions.kept(pl.element()))
    return pl.when(found.list.len() > 0).then(found)


def _number(dtype: pl.DataType) -> Callable[[pl.Expr], pl.Expr]:
    return lambda text: text.cast(dtype, strict=False)


def _integer(text: str) -> int | None:
    digits = text.lstrip("-").lstrip("0") or "0"
    # Python refuses to read thousands of digits, a hostile line may hold them
    number = int(digits[:20]) * (-1 if text.startswith("-") else 1)
    return number if -(2**63) <= number < 2**63 else None


# Rust prints a Duration with the unit that fits; `ms` inside the house
_UNIT_MS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1000.0}


def _duration(text: pl.Expr) -> pl.Expr:
    number = text.str.strip_chars_end("nµms").cast(pl.Float64, strict=False)
    factor = pl.coalesce(
        *(pl.when(text.str.ends_with(unit)).then(pl.lit(factor)) for unit, factor in _UNIT_MS.items()),
    )
    return number * factor


def _duration_value(text: str) -> float:
    unit = next(unit for unit in _UNIT_MS if text.endswith(unit))
    return float(text.rstrip("nµms")) * _UNIT_MS[unit]


#: no log was written sooner; and of years without four digits Python, and so half of all readers, knows nothing
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def _plausible(ts: pl.Expr) -> pl.Expr:
    return pl.when(ts.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR)).then(ts)


def _time(layout: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda text: _plausible(text.str.to_datetime(layout, time_unit="us", strict=False))


def _time_value(text: str) -> datetime | None:
    try:
        ts = datetime.fromisoformat(text.replace(",", "."))
        ts = ts if ts.tzinfo is None else ts.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return ts if _FIRST_YEAR <= ts.year <= _LAST_YEAR else None


def _zoned(text: pl.Expr) -> pl.Expr:
    ts = text.str.replace("Z$", "+00:00").str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False
    )
    return _plausible(ts)


TYPES: dict[str, Type] = {
    "ID": Type(pl.String(), _text, str),
    "NAME": Type(pl.String(), _text, str, holds="none"),
    "DIRECTION": Type(pl.String(), _text, str, holds="none"),
    "SDP_TYPE": Type(pl.String(), _text, str, holds="none"),
    "SIDE": Type(pl.String(), _text, str, holds="none"),
    "LOST": Type(pl.String(), _text, str, holds="none"),
    "WORDS": Type(pl.String(), _text, str, holds="none"),
    "HOST": Type(pl.String(), _text, str, holds="address"),
    "ADDRESS": Type(pl.String(), _text, str, holds="address"),
    "SERVER": Type(pl.String(), _text, str, holds="server"),
    "RELAY_ADDRESS": Type(pl.String(), _text, str, holds="server"),
    "RELAY_ENDPOINT": Type(pl.String(), _text, str, holds="server"),
    "STUN_URL": Type(pl.String(), _text, str, holds="server"),
    "HOST_PORT": Type(pl.String(), _text, str, holds="server"),
    "FOUNDATION": Type(pl.String(), _text, str, holds="none"),
    "TOKEN": Type(pl.String(), _text, str),
    "ENDPOINT": Type(pl.String(), _text, str, holds="endpoint"),
    "DIGITS": Type(pl.String(), _text, str, holds="none"),
    "CLOSING": Type(pl.String(), _text, str),
    "SECONDS": Type(pl.Int64(), _number(pl.Int64()), _integer),
    "TEXT": Type(pl.String(), _text, str),
    "CANDIDATE": Type(pl.String(), extensions.kept, extensions.kept_value),
    "CANDIDATES": Type(
        pl.List(pl.String()),
        _candidates,
        lambda text: extensions.kept_value(text) if len(text.encode()) <= CANDIDATE_BYTES else None,
        longest=CANDIDATE_BYTES,
    ),
    "PAIR_CANDIDATE": Type(pl.String(), _text, str),
    "BOOL": Type(pl.Boolean(), lambda text: text == "true", lambda text: text == "true"),
    "INT": Type(pl.Int64(), _number(pl.Int64()), _integer),
    "FLOAT": Type(pl.Float64(), _number(pl.Float64()), float),
    "DURATION": Type(pl.Float64(), _duration, _duration_value),
    "LEVEL": Type(pl.String(), _text, str),
    "TARGET": Type(pl.String(), _text, str),
    "PARTIAL": Type(pl.String(), _text, str),
    "PATH": Type(pl.String(), _text, str),
    "ASCTIME": Type(TIMESTAMP, _time("%Y-%m-%d %H:%M:%S,%3f"), _time_value, resolution_ms=1.0, naive=True),
    "SECONDTIME": Type(TIMESTAMP, _time("%Y-%m-%d %H:%M:%S"), _time_value, resolution_ms=1000.0, naive=True),
    "ZONEDTIME": Type(TIMESTAMP, _zoned, _time_value, resolution_ms=0.001),
    "ZONEDSECOND": Type(TIMESTAMP, _zoned, _time_value, resolution_ms=1000.0),
}


#: any number that is one has fewer digits, and no finite sum of so many is infinite
NUMBER_BYTES = 64
_NUMBERS = (pl.Int64(), pl.Float64(), pl.Boolean())


def _bounded(name: str, kind: Type) -> Type:
    """The same type, which makes nothing of a value that is too long."""
    if kind.resolution_ms is not None or isinstance(kind.dtype, pl.List):
        return kind
    longest = NUMBER_BYTES if kind.dtype in _NUMBERS else {"ID": ID_BYTES}.get(name, VALUE_BYTES)

    def expr(text: pl.Expr) -> pl.Expr:
        return kind.expr(pl.when(text.str.len_bytes() <= longest).then(text))

    def value(text: str) -> object:
        return kind.value(text) if len(text.encode()) <= longest else None

    return replace(kind, expr=expr, value=value, longest=longest, reader=kind.expr)


TYPES = {name: _bounded(name, kind) for name, kind in TYPES.items()}


def is_list(terminal: str) -> bool:
    """Whether a column of this terminal collects every segment that spells it, instead of the first."""
    return isinstance(TYPES[terminal].dtype, pl.List)
