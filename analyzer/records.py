"""Lines → records: which dialect a source speaks, its continuation lines, and the fields of each record.

In: frames of `(line, text, offset, size)`. Out: frames of `RECORD_SCHEMA`, one row a record; `line` is the first of its
`lines` physical lines, `offset` where it begins in the source, `elapsed_s` the time of a program that counts from its
start. A line that begins no record continues the one before; lines before the first record are rejected records of
their own (null target).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from analyzer import tracing
from analyzer.dialects import UTC, Dialect, detect, detect_plain, looks_otherwise, record_fields, unwrapped
from analyzer.grammar.types import TIMESTAMP
from analyzer.refusals import Refusals

RECORD_SCHEMA = pl.Schema(
    {
        "line": pl.Int64(),
        "lines": pl.Int64(),
        "ts": TIMESTAMP,
        "level": pl.String(),
        "target": pl.String(),
        "message": pl.String(),
        "elapsed_s": pl.Int64(),
        "offset": pl.Int64(),
    }
)
SAMPLE_LINES = 2000
#: a line that its framing cut is put together from no more pieces than this
MOST_PIECES = 256
#: a message may grow to this by its continuation lines; the rest of it is cut
MAX_MESSAGE_CHARS = 1 << 20
#: the same for the name of a logger or a level
MAX_NAME_CHARS = 128


def _headers(frame: pl.DataFrame, dialect: Dialect, zone: str) -> pl.DataFrame:
    """Add the fields of the record each line begins; `matched` is false for a continuation, `open`: see `unwrapped`."""
    frame = frame.with_columns(open=pl.lit(False))
    for name in dialect.wraps:
        frame = unwrapped(name, frame, zone)
    if dialect.record == tracing.DIALECT:
        frame = frame.with_columns(text=tracing.uncoloured(frame["text"]))
    if dialect.record == "json" and frame["open"].any():
        frame = _pieced(frame)
    if dialect.record is None:
        nothing = {
            name: pl.lit(None, dtype=RECORD_SCHEMA[name]) for name in ("ts", "level", "target", "message", "elapsed_s")
        }
        return frame.with_columns(**nothing, matched=pl.lit(False))
    fields = record_fields(frame["text"], dialect.record, zone)
    if "target" not in fields.columns:
        program = pl.lit(dialect.record.split("_")[0])
        fields = fields.with_columns(target=pl.when("matched").then(program))
    missing = [name for name in ("ts", "level", "elapsed_s") if name not in fields.columns]
    fields = fields.with_columns(pl.lit(None, dtype=RECORD_SCHEMA[name]).alias(name) for name in missing)
    joined = pl.concat([frame, fields], how="horizontal")
    if "wrap_ts" in joined.columns:
        joined = joined.with_columns(ts=pl.coalesce("ts", "wrap_ts"))
    return joined


def _pieced(frame: pl.DataFrame) -> pl.DataFrame:
    """Lines that their framing cut, each put together in its first piece: half an object of JSON begins no record."""
    begins = ~frame["open"].shift(1, fill_value=False)
    number = begins.cum_sum()
    whole = frame.select("text", number=number).group_by("number", maintain_order=True).agg(pl.col("text").str.join(""))
    return frame.with_columns(text=pl.when(begins).then(whole["text"].gather(number - 1)).otherwise(pl.lit("")))


def _left_open(headers: pl.DataFrame, dialect: Dialect) -> int:
    """How many lines at the end of a block wait for the next one, because it goes on with an object of JSON."""
    if dialect.record != "json" or not headers["open"].tail(1).any():
        return 0
    whole = headers["resumed"].not_().arg_true()
    pieces = len(headers) - int(whole[-1]) if len(whole) else len(headers)
    return pieces if pieces <= MOST_PIECES else 0


def _resumed(lines: pl.DataFrame, open_before: bool) -> pl.DataFrame:
    """Tell the lines that go on (`resumed`) with one their framing cut: what they begin with is no header.

    Pieces of two streams may stand between one another; then a record of the other one is lost in a message, rather
    than one made of what a message says.
    """
    resumed = lines["open"].shift(1, fill_value=open_before)
    return lines.with_columns(resumed=resumed, matched=lines["matched"] & ~resumed)


def _folded(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per record: continuation lines joined to the message they continue, up to its limit.

    Rows may be records already, of `lines` and `size`; `beyond` are the bytes of the message that are left out.
    """
    matched = frame["matched"]
    if matched.all():
        return frame
    # lines before any header are records of their own
    begun = matched.cum_sum()
    kept = frame.filter(matched | (begun == 0))
    line_end = pl.when("resumed").then(pl.lit("")).otherwise(pl.lit("\n"))
    more = (
        frame.with_columns(at=begun.cast(pl.Int64) - 1 + int((begun == 0).sum()))
        .filter(~matched & (begun > 0))
        .group_by("at", maintain_order=True)
        .agg(pl.concat_str(line_end, "text").str.join("").alias("text"), pl.col("lines", "size").sum())
    )
    at = more["at"]
    before = kept.select(text=pl.col("message").fill_null(""), lines="lines", size="size")[at]
    folded = kept.with_columns(
        kept[name].scatter(at, before[joined] + more[joined])
        for name, joined in (("message", "text"), ("lines", "lines"), ("size", "size"))
    )
    # counting characters takes a while, and a message of few bytes has no more of them
    if not (folded["message"].str.len_bytes() > MAX_MESSAGE_CHARS).any():
        return folded
    short, long = folded["message"].str.head(MAX_MESSAGE_CHARS), folded["message"].str.len_bytes().cast(pl.Int64)
    beyond = folded["beyond"] + (long - short.str.len_bytes()).fill_null(0)
    return folded.with_columns(message=short, beyond=beyond)


def _short(frame: pl.DataFrame, name: str, refusals: Refusals) -> pl.Series:
    """A column of names, which are no longer than any name is; each is counted and kept."""
    names = frame[name].cast(pl.String)
    long = names.str.len_bytes() > MAX_NAME_CHARS
    if not long.any():
        return names
    for line, offset in frame.filter(long.fill_null(False)).select("line", "offset").iter_rows():
        refusals.tell("name_too_long", line=line, offset=offset)
    return names.str.head(MAX_NAME_CHARS)


def _finished(frame: pl.DataFrame, dialect: Dialect, refusals: Refusals) -> pl.DataFrame:
    if dialect.record == tracing.DIALECT:
        # fields stand behind the whole message, which may have several lines
        frame = frame.with_columns(target=tracing.logger(pl.col("target")), message=tracing.spelled(pl.col("message")))
    frame = frame.with_columns(_short(frame, name, refusals) for name in ("level", "target"))
    for row in frame.filter(pl.col("beyond") > 0).select("line", "offset", "beyond").iter_rows():
        refusals.tell("record_too_long", line=row[0], offset=row[1], size=row[2])
    nameless = pl.col("target").is_null()
    refusals.add("no_header", frame.filter(nameless & ~pl.col("matched")))
    refusals.add("no_logger", frame.filter(nameless & pl.col("matched")))
    refusals.lines += int(frame["lines"].sum())
    refusals.bytes += int(frame["size"].sum())
    refusals.records += len(frame)
    return frame.select(RECORD_SCHEMA.names()).cast(RECORD_SCHEMA)


def _with_headers(
    blocks: Iterable[pl.DataFrame], *, zone: str, dialect: Dialect | None, told: bool = False
) -> Iterator[tuple[Dialect, pl.DataFrame, bool]]:
    """Each block of lines with the fields of the record each line begins, and whether another block follows.

    The dialect is told by the first lines of a source, or by the first block in which there is one; `dialect` overrules
    the vote, which is held all the same unless it was `told` before.
    """
    chosen = dialect if told else None
    open_before = False
    ahead = iter(blocks)
    block = next(ahead, None)
    while block is not None:
        following = next(ahead, None)
        if chosen is None or chosen.record is None:
            chosen = detect(block["text"].head(SAMPLE_LINES))
            if chosen.record is None:
                chosen = detect(block["text"])
            if dialect:
                chosen = replace(dialect, votes=chosen.votes)
        one, none = pl.lit(1, dtype=pl.Int64), pl.lit(0, dtype=pl.Int64)
        headers = _resumed(_headers(block.with_columns(lines=one, beyond=none), chosen, zone), open_before)
        if following is not None and (left := _left_open(headers, chosen)):
            headers, following = headers.head(-left), pl.concat([block.tail(left), following])
        open_before = bool(headers["open"].tail(1).any())
        yield chosen, headers, following is not None
        block = following


def _note_others(headers: pl.DataFrame, refusals: Refusals, *, begun: bool) -> None:
    """Note lines that are taken into a message, and look like records of another layout: a log may go on in one."""
    if not headers["matched"].all():
        goes_on = (headers["matched"].cum_sum() > 0) | begun
        odd = looks_otherwise(headers["text"], headers["matched"] | headers["resumed"] | ~goes_on)
        refusals.note("other_layout", headers.filter(odd))


def split(
    blocks: Iterable[pl.DataFrame],
    *,
    zone: str = UTC,
    dialect: Dialect | None = None,
    told: bool = False,
    refusals: Refusals | None = None,
) -> Iterator[tuple[Dialect, pl.DataFrame]]:
    """Split blocks of lines into records; what is refused of them goes to `refusals`.

    Yields the dialect (see `_with_headers`) with each frame of records; a record that may go on in the next block waits
    for it, with no more of its message than is kept.
    """
    refusals = Refusals() if refusals is None else refusals
    waiting: pl.DataFrame | None = None
    for chosen, headers, more in _with_headers(blocks, zone=zone, dialect=dialect, told=told):
        _note_others(headers, refusals, begun=waiting is not None)
        records = _folded(headers if waiting is None else pl.concat([waiting, headers], how="diagonal_relaxed"))
        goes_on = more and len(records) > 0 and records["matched"][-1]
        waiting = records.tail(1).with_columns(text=pl.lit("")) if goes_on else None
        done = records.head(-1) if goes_on else records
        if len(done):
            yield chosen, _finished(done, chosen, refusals)


def split_small(lines: pl.DataFrame, zones: Sequence[str]) -> tuple[pl.DataFrame, dict[int, tuple[Dialect, Refusals]]]:
    """Split the lines of several small sources into records at once; `of` is a source, and the place of its zone.

    Out, too: the dialect of each, and what was taken of it. Sources are left out of both where something may be framed,
    or is refused: they are to be `split` by themselves.
    """
    one, none = pl.lit(1, dtype=pl.Int64), pl.lit(0, dtype=pl.Int64)
    few = lines.filter(pl.len().over("of") <= SAMPLE_LINES).with_columns(lines=one, beyond=none)
    dialects = detect_plain(few)
    layouts = {of: (dialect.record, zones[of]) for of, dialect in dialects.items()}
    found = [empty().with_columns(lines["of"].clear())]
    taken: dict[int, tuple[Dialect, Refusals]] = {}
    for layout in dict.fromkeys(layouts.values()):
        dialect, refusals = Dialect((), layout[0]), Refusals()
        mine = few.filter(pl.col("of").is_in([of for of, own in layouts.items() if own == layout]))
        headers = _resumed(_headers(mine, dialect, layout[1]), open_before=False)
        odd = headers["of"].filter(looks_otherwise(headers["text"], headers["matched"])).unique()
        # a line that continues nothing must not continue the source before
        folded = _folded(headers.filter(pl.col("matched").first().over("of"), ~pl.col("of").is_in(odd.implode())))
        records = _finished(folded, dialect, refusals).with_columns(folded["of"])
        if any(row["reason"] != "no_logger" for row in refusals.rows):
            continue
        found.append(records.filter(pl.col("target").is_not_null().all().over("of")))
        of_each = folded.group_by("of").agg(pl.col("lines", "size").sum(), pl.len())
        for of, *sums in of_each.filter(pl.col("of").is_in(found[-1]["of"].unique().implode())).rows():
            taken[of] = dialects[of], Refusals([], *sums)
    return pl.concat(found), taken


def headed(blocks: Iterable[pl.DataFrame], *, dialect: Dialect | None = None) -> Iterator[tuple[Dialect, pl.DataFrame]]:
    """The lines of whole records, with the fields of the record each begins; `matched` is false for a continuation.

    `text` is what framings leave of a line; further columns are handed through. Lines of a record that may go on in the
    next block wait for it, as long as they are few.
    """
    waiting: pl.DataFrame | None = None
    for chosen, headers, more in _with_headers(blocks, zone=UTC, dialect=dialect):
        lines = headers if waiting is None else pl.concat([waiting, headers], how="diagonal_relaxed")
        starts = lines["matched"].arg_true()
        last = int(starts[-1]) if more and len(starts) and len(lines) - starts[-1] <= SAMPLE_LINES else len(lines)
        waiting = lines.slice(last)
        if last:
            yield chosen, lines.head(last)


def folded(lines: pl.DataFrame, dialect: Dialect) -> pl.DataFrame:
    """The records of lines that come from `headed`."""
    return _finished(_folded(lines), dialect, Refusals())


def empty() -> pl.DataFrame:
    """A frame of records with no row."""
    return pl.DataFrame(schema=RECORD_SCHEMA)
