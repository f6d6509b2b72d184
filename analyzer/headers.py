"""The header of each line: cut where its delimiters stand, and read once for all lines that have the same.

To look for a delimiter costs a fraction of what a pattern does, and headers differ in little but their times, which
stand in runs. So the header is guessed, by the width of a time and the place of the last delimiter, and what was cut is
held against the layout once for each that is different. By the law of delimiters a line begins with one header at most:
a guess that fits is right, and where it does not fit the layout's pattern is run over the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import polars as pl

from analyzer.grammar.pattern import Capture, EventKind, Literal, Sequence, captures
from analyzer.grammar.regex import message_regex
from analyzer.grammar.terminal import width
from analyzer.grammar.types import TIMESTAMP, TYPES


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Where to cut a header: behind a time of `width` characters, and behind the `count`-th `delimiter` from there."""

    time: Capture
    width: int
    delimiter: str
    count: int
    #: what stands between the two cuts
    names: str


def _pattern(sequence: Sequence) -> str:
    return message_regex(sequence).text.removeprefix("^").removesuffix("$")


@cache
def _cuts(kind: EventKind) -> _Cuts | None:
    """How to guess the header of a layout; None where it does not begin with a time of one width, or has branches."""
    time, *between = kind.sequence[:-1]
    wide = width(time.regex) if isinstance(time, Capture) and time.column == "ts" else None
    if not isinstance(time, Capture) or wide is None or not isinstance(between[-1], Literal):
        return None
    said = "\0".join(item.text for item in between if isinstance(item, Literal))
    plain = all(isinstance(item, Literal | Capture) for item in between)
    delimiter = between[-1].text
    return _Cuts(time, wide, delimiter, said.count(delimiter), _pattern(tuple(between))) if plain else None


def in_zone(ts: pl.Expr, terminal: str, zone: str) -> pl.Expr:
    """Times of a terminal as moments; those that name no zone are of `zone`."""
    if not TYPES[terminal].naive:
        return ts
    # a local time that a clock change made twice or skipped is read as the earlier, or not at all
    local = ts.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _value(capture: Capture, raw: pl.Expr, zone: str) -> pl.Expr:
    return in_zone(TYPES[capture.terminal].expr(raw), capture.terminal, zone) if capture.column == "ts" else raw


def matched(kind: EventKind, text: pl.Series, zone: str) -> pl.DataFrame:
    """The fields of a layout by its pattern, which ends with the header: the rest of the line is the message."""
    pattern = f"^(?P<prefix>{_pattern(kind.sequence[:-1])})"
    frame = pl.DataFrame({"text": text, "groups": text.str.extract_groups(pattern)}).unnest("groups")
    columns = {one.column: _value(one, pl.col(f"{one.column}__1"), zone) for one in captures(kind.sequence[:-1])}
    is_one = pl.col("prefix").is_not_null()
    message = pl.when(is_one).then(pl.col("text").str.strip_prefix(pl.col("prefix")))
    return frame.select(**columns, message=message, matched=is_one)


def _behind(text: pl.Series, delimiter: str, count: int) -> pl.Series:
    """The byte at which a text goes on behind the `count`-th delimiter; null where it has fewer."""
    size = len(delimiter.encode())
    found = text.str.find(delimiter, literal=True) + size
    for _ in range(count - 1):
        frame = pl.DataFrame({"text": text.cast(pl.Binary), "at": found})
        rest = frame.select(pl.col("text").bin.slice("at").cast(pl.String)).to_series()
        found = found + rest.str.find(delimiter, literal=True) + size
    return found


def _times(cuts: _Cuts, text: pl.Series, zone: str) -> pl.DataFrame:
    """The time at the beginning of each text (`ts`), and whether it `is_time`: read once a run of the same."""
    begun = text.str.head(cuts.width)
    run = begun.rle_id()
    # no run has this number
    first = begun.filter(run != run.shift(fill_value=1 << 31))
    read = pl.DataFrame({"raw": first}).select(
        ts=_value(cuts.time, pl.col("raw"), zone).cast(TIMESTAMP),
        is_time=pl.col("raw").str.contains(f"^{cuts.time.regex}$").fill_null(False),
    )
    return read[run]


def _cut(kind: EventKind, cuts: _Cuts, text: pl.Series, zone: str) -> pl.DataFrame:
    """The fields of a layout by cutting; where that is no header, `matched` is false and the rest means nothing."""
    rest = text.str.slice(cuts.width)
    # bytes are cut several times faster than characters, and places are found in bytes
    frame = pl.DataFrame({"rest": rest.cast(pl.Binary), "at": _behind(rest, cuts.delimiter, cuts.count)})
    parted = frame.select(names=pl.col("rest").bin.head("at"), message=pl.col("rest").bin.slice("at").cast(pl.String))
    different = parted.select(pl.col("names").unique().drop_nulls())
    spelled = pl.col("names").cast(pl.String)
    groups = different.with_columns(spelled.str.extract_groups(f"^{cuts.names}$").alias("groups"))
    columns = {one.column: f"{one.column}__1" for one in captures(kind.sequence[1:-1])}
    known = groups.unnest("groups").select("names", **columns).drop_nulls().with_columns(known=pl.lit(True))
    named = parted.join(known, on="names", how="left", maintain_order="left")
    return pl.concat([_times(cuts, text, zone), named], how="horizontal").select(
        "ts", *columns, "message", matched=pl.col("is_time") & pl.col("known").fill_null(False)
    )


def fields(kind: EventKind, text: pl.Series, zone: str) -> pl.DataFrame:
    """The columns of a layout over lines, and `message`; all null where `matched` is false."""
    cuts = _cuts(kind)
    if cuts is None:
        return matched(kind, text, zone)
    found = _cut(kind, cuts, text, zone)
    others = (~found["matched"]).arg_true()
    if others.is_empty():
        return found
    by_pattern = matched(kind, text.gather(others), zone).select(found.columns)
    return found.with_columns(found[name].scatter(others, by_pattern[name]) for name in found.columns)
