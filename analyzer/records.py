"""Lines → records: which dialect a source speaks, its continuation lines, and the fields of each record.

In: frames of `(line, text, offset, size)`. Out: frames of `RECORD_SCHEMA`, one row a record; `line` is the first of its
`lines` physical lines, `offset` where it begins in the source, `elapsed_s` the time of a program that counts from its
start. A line that begins no record continues the one before; lines before the first record are rejected records of
their own (null target). A line that its framing cut goes on in the next one of its stream, and only there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import polars as pl

from analyzer import tracing
from analyzer.dialects import UTC, Dialect, detect, detect_plain, looks_otherwise, record_fields, streams, unwrapped
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
#: a line that its framing cut is put together across blocks from no more pieces than this, the lines between included
MOST_PIECES, MOST_PIECES_BYTES = 256, 16 << 20
#: a message may grow to this by its continuation lines; the rest of it is cut
MAX_MESSAGE_CHARS = 1 << 20
#: the same for the name of a logger or a level
MAX_NAME_CHARS = 128


@dataclass(slots=True)
class Border:
    """Where the records given so far end: the `line` to read on from, None where that would not give the same."""

    line: int | None = None


def _headers(frame: pl.DataFrame, dialect: Dialect, zone: str, opened: Collection[str] = ()) -> pl.DataFrame:
    """Add the fields of the record each line begins; `matched` is false for a continuation, `open`: see `unwrapped`.

    Lines are in the order of `_resumed`.
    """
    frame, outer = frame.with_columns(open=pl.lit(False)), []
    for name in dialect.wraps:
        outer.append((name, frame["text"]))
        frame = unwrapped(name, frame, zone)
    if opened or frame["open"].any():
        frame = frame.with_columns(stream=streams(outer))
    frame = _resumed(frame, opened)
    if dialect.record == tracing.DIALECT:
        frame = frame.with_columns(text=tracing.uncoloured(frame["text"]))
    if dialect.record == "json" and frame["resumed"].any():
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
    if frame["resumed"].any():
        # what looks like a header there names no logger
        own = fields.with_columns(pl.when(~frame["resumed"]).then(pl.all()))
        fields = own.with_columns(pl.col("matched").fill_null(False))
    joined = pl.concat([frame, fields], how="horizontal")
    if "wrap_ts" in joined.columns:
        joined = joined.with_columns(ts=pl.coalesce("ts", "wrap_ts"))
    return joined


def _pieced(frame: pl.DataFrame) -> pl.DataFrame:
    """Lines that their framing cut, each put together in its first piece: half an object of JSON begins no record."""
    begins = ~frame["resumed"]
    whole = frame.group_by(number=begins.cum_sum(), maintain_order=True).agg(pl.col("text").str.join(""))
    texts = pl.Series([""]).new_from_index(0, len(frame))
    # what goes on with an object that began long ago is of no use
    return frame.with_columns(text=texts.scatter(begins.arg_true(), whole.filter(pl.col("number") > 0)["text"]))


def _resumed(lines: pl.DataFrame, opened: Collection[str]) -> pl.DataFrame:
    """Tell the lines that go on (`resumed`) with one their framing cut: what they begin with is no header.

    A line goes on in the next one of its `stream`. Other streams may stand between the two, so each piece is put behind
    what it continues; `begun` is the `row` of the first piece. What continues lines of streams that were `opened`
    before comes first, and has -1 there.
    """
    if not opened and not lines["open"].any():
        return lines.with_columns(resumed=pl.lit(False))
    before = pl.col("open").shift(1).over("stream")
    told = lines.with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64),
        resumed=before.fill_null(pl.col("stream").is_in(list(opened))),
    )
    first = pl.when(~pl.col("resumed")).then("row").forward_fill().over("stream").fill_null(-1)
    told = told.with_columns(begun=first)
    return told if told["begun"].is_sorted() else told.sort("begun", maintain_order=True)


def _left_open(headers: pl.DataFrame) -> int:
    """How many lines at the end of a block wait for the next one, because it goes on with some of them."""
    if not headers["open"].any():
        return 0
    last = headers.group_by("stream").agg(pl.col("open", "begun").last())
    begun = last.filter("open", pl.col("begun") >= max(0, len(headers) - MOST_PIECES))["begun"].min()
    if begun is None:
        return 0
    # no line that is left may go on with one that is not
    rows = headers.select("row", begun=pl.when(pl.col("begun") < 0).then("row").otherwise("begun")).sort("row")
    apart = rows["begun"].cum_min(reverse=True) >= rows["row"]
    left = len(headers) - int(apart.head(cast("int", begun) + 1).arg_true()[-1])
    weight = int(headers.filter(pl.col("row") >= len(headers) - left)["size"].sum())
    return left if left <= MOST_PIECES and weight <= MOST_PIECES_BYTES else 0


def _still_open(lines: pl.DataFrame, opened: Collection[str]) -> set[str]:
    """The streams that were cut where these lines end; `opened` are those where they begin."""
    if not opened and not lines["open"].any():
        return set()
    last = lines.group_by("stream").agg(pl.col("open").last())
    return set(opened) - set(last["stream"]) | set(last.filter("open")["stream"])


def _behind(waiting: pl.DataFrame | None, headers: pl.DataFrame, stream: str | None) -> pl.DataFrame:
    """Lines behind those that wait for them, the last of which `stream` was cut in, if any was.

    What goes on with a line that is not there any more belongs to no record, least of all to the one that waits.
    """
    if waiting is None:
        return headers
    if "begun" not in headers.columns:
        return pl.concat([waiting, headers], how="diagonal_relaxed")
    lost = (pl.col("begun") < 0) & pl.col("stream").ne_missing(pl.lit(stream, dtype=pl.String))
    return pl.concat([headers.filter(lost), waiting, headers.filter(~lost)], how="diagonal_relaxed")


def _cut_last(headers: pl.DataFrame, before: str | None) -> str | None:
    """The stream of the last line, where its framing cut it; what it was `before` where there is no line."""
    if headers.is_empty():
        return before
    return str(headers["stream"][-1]) if headers["open"][-1] else None


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
) -> Iterator[tuple[Dialect, pl.DataFrame, bool, set[str]]]:
    """Each block of lines with the fields of the record each line begins, and whether another block follows.

    Last, the streams that were cut where it begins.

    The dialect is told by the first lines of a source, or by the first block in which there is one; `dialect` overrules
    the vote, which is held all the same unless it was `told` before.
    """
    chosen = dialect if told else None
    opened: set[str] = set()
    ahead = iter(blocks)
    block = next(ahead, None)
    while block is not None:
        following = next(ahead, None)
        if chosen is None or chosen.record is None:
            chosen = detect(block["text"].head(SAMPLE_LINES), anyway=chosen is None)
            if chosen.record is None:
                chosen = detect(block["text"])
            if dialect:
                chosen = replace(dialect, votes=chosen.votes)
        one, none = pl.lit(1, dtype=pl.Int64), pl.lit(0, dtype=pl.Int64)
        headers = _headers(block.with_columns(lines=one, beyond=none), chosen, zone, opened)
        if following is not None and (left := _left_open(headers)):
            headers = headers.filter(pl.col("row") < len(block) - left)
            following = pl.concat([block.tail(left), following])
        yield chosen, headers, following is not None, opened
        opened, block = _still_open(headers, opened), following


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
    border: Border | None = None,
) -> Iterator[tuple[Dialect, pl.DataFrame]]:
    """Split blocks of lines into records; what is refused of them goes to `refusals`, where they end to `border`.

    Yields the dialect (see `_with_headers`) with each frame of records; a record that may go on in the next block waits
    for it, with no more of its message than is kept.
    """
    refusals = Refusals() if refusals is None else refusals
    waiting: pl.DataFrame | None = None
    cut: str | None = None
    for chosen, headers, more, opened in _with_headers(blocks, zone=zone, dialect=dialect, told=told):
        _note_others(headers, refusals, begun=waiting is not None)
        records = _folded(_behind(waiting, headers, cut))
        cut = _cut_last(headers, cut)
        goes_on = more and len(records) > 0 and records["matched"][-1]
        waiting = records.tail(1).with_columns(text=pl.lit("")) if goes_on else None
        done = records.head(-1) if goes_on else records
        if len(done):
            finished = _finished(done, chosen, refusals)
            if border:
                following = int(waiting["line"][0]) if waiting is not None else refusals.lines + 1
                # what goes on there may be done already, or would begin a record if nothing were known of its beginning
                parted = _still_open(headers.filter(pl.col("line") < following), opened)
                border.line = None if parted else following
            yield chosen, finished


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
        headers = _headers(mine, dialect, layout[1])
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
    next block wait for it, as long as they are few. Pieces stand behind what they continue (see `_resumed`).
    """
    waiting: pl.DataFrame | None = None
    cut: str | None = None
    for chosen, headers, more, _ in _with_headers(blocks, zone=UTC, dialect=dialect):
        lines = _behind(waiting, headers, cut)
        cut = _cut_last(headers, cut)
        number = lines["line"]
        # no line may come behind a later one
        apart = number.cum_max().shift(1, fill_value=0) < number.cum_min(reverse=True)
        starts = (lines["matched"] & apart).arg_true()
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
