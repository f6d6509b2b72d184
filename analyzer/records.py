"""Lines → records: which dialect a source speaks, its continuation lines, and the fields of each record.

In: frames of `(line, text, offset, size)`. Out: frames of `RECORD_SCHEMA`, one row a record; `line` is the first of its
`lines` physical lines, `offset` where it begins in the source, `elapsed_s` the time of a program that counts from its
start. A line that begins no record continues the one before; lines before the first record are rejected records of
their own (null target).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache

import polars as pl

from analyzer import tracing
from analyzer.errors import UsageError
from analyzer.grammar import dialects, wraps
from analyzer.grammar.pattern import EventKind, captures
from analyzer.grammar.regex import message_regex
from analyzer.grammar.types import TIMESTAMP, TYPES
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
#: zone of times that name none, where no other is given
UTC = "UTC"
#: so many sources are named where none fits
NAMED = 6
#: a message may grow to this by its continuation lines; the rest of it is cut
MAX_MESSAGE_CHARS = 1 << 20
#: the same for the name of a logger or a level
MAX_NAME_CHARS = 128

#: names under which JSON framings keep the parts of a record, the first present one wins
JSON_KEYS: dict[str, tuple[str, ...]] = {
    "ts": ("timestamp", "time", "@timestamp", "asctime"),
    "level": ("level", "levelname", "severity"),
    "target": ("logger", "name", "target", "logger_name"),
    "message": ("message", "msg"),
}
#: the same for framings that keep a whole line: docker's json-file, journalctl -o json
JSON_LINE_KEYS = ("log", "MESSAGE")
#: Docker cuts a line into pieces of 16 KiB, and only the last one keeps the line end; a character may be cut, too.
DOCKER_PIECE_BYTES = (16 << 10) - 4


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the lines of one source are laid out: framings from the outside in, and the votes, which may be overruled."""

    wraps: tuple[str, ...]
    record: str | None
    votes: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """The layers from the outside in, such as `docker_json/std`."""
        return "/".join((*self.wraps, self.record or "unknown"))

    @property
    def header(self) -> str | None:
        """What a text inside a message lacks to pass for a record: see column `header` of table `sources`."""
        if self.record is None or self.record == "json":
            return "framed" if self.record else None
        columns = {capture.column for capture in captures(_by_name()[self.record].sequence)}
        return "timed" if "ts" in columns else "untimed"

    @property
    def resolution_ms(self) -> float | None:
        """What one unit of the printed times is worth; None when lines have no time."""
        if self.record == "json":
            return 0.001
        kinds = [_by_name()[name] for name in (*self.wraps, self.record) if name in _by_name()]
        found = [TYPES[capture.terminal].resolution_ms for kind in kinds for capture in captures(kind.sequence)]
        times = [value for value in found if value is not None]
        if times:
            return times[-1]
        return 0.001 if "docker_json" in self.wraps else None


@cache
def _by_name() -> dict[str, EventKind]:
    return {kind.name: kind for kind in (*wraps(), *dialects())}


def dialect_names() -> list[str]:
    """All dialect names a user can force."""
    return ["json", *(kind.name for kind in dialects())]


def _nearest(name: str, names: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, sorted(names), 1)), None)


def forced(name: str) -> Dialect:
    """The dialect a user names: layers joined by `/`, such as `docker_json/std`.

    Raises:
        UsageError: a layer has no such name; the hint names the nearest.
    """
    *outer, record = name.split("/")
    known_wraps = {"docker_json", *(kind.name for kind in wraps())}
    if record not in dialect_names() or not set(outer) <= known_wraps:
        nearest = [*(_nearest(one, known_wraps) for one in outer), _nearest(record, dialect_names())]
        meant = f"did you mean {'/'.join(map(str, nearest))}? " if all(nearest) else ""
        known = ", ".join(dialect_names())
        raise UsageError(
            f"no dialect is called {name}", f"{meant}one of {known}; before a '/', {', '.join(sorted(known_wraps))}"
        )
    return Dialect(tuple(outer), record)


def zones_for(names: Sequence[str], given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Zone of each source, by name, from pairs of a source and a zone; of several that fit the last one counts.

    A source is its name, the last part of it, or a glob of either. Sources that no pair fits are left out.

    Raises:
        UsageError: a pair fits no source.
    """
    found: dict[str, str] = {}
    for pattern, zone in given:
        fitting = [
            name
            for name in names
            if any(one == pattern or fnmatchcase(one, pattern) for one in (name, name.rpartition("/")[2]))
        ]
        if not fitting:
            few = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
            raise UsageError(f"no source is called {pattern}", f"--timezone SOURCE=ZONE takes one of {few}")
        found |= dict.fromkeys(fitting, zone)
    return found


def _zone(expr: pl.Expr, terminal: str, zone: str) -> pl.Expr:
    if not TYPES[terminal].naive:
        return expr
    # a local time that a clock change made twice or skipped is read as the earlier, or not at all
    local = expr.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


@cache
def _prefix(kind: EventKind) -> str:
    """A prefix rule without its message, as one group around all others: the rest of the line is the message."""
    head = kind.sequence[:-1]
    return f"^(?P<prefix>{message_regex(head).text.removeprefix('^').removesuffix('$')})"


def _fields(kind: EventKind, text: pl.Series, zone: str) -> pl.DataFrame:
    """The columns of a prefix rule over lines; all null where it does not match."""
    frame = pl.DataFrame({"text": text, "groups": text.str.extract_groups(_prefix(kind))}).unnest("groups")
    columns = {
        capture.column: _zone(TYPES[capture.terminal].expr(raw), capture.terminal, zone)
        if capture.column == "ts"
        else raw
        for capture in captures(kind.sequence[:-1])
        for raw in (pl.col(f"{capture.column}__1"),)
    }
    matched = pl.col("prefix").is_not_null()
    message = pl.when(matched).then(pl.col("text").str.strip_prefix(pl.col("prefix")))
    return frame.select(**columns, message=message, matched=matched)


def json_value(text: pl.Series, keys: Iterable[str]) -> pl.Series:
    """The value of the first of these keys that a JSON object has, as text; null where a line is none."""
    found = pl.Series([None], dtype=pl.String).new_from_index(0, len(text))
    for key in keys:
        found = found.zip_with(found.is_not_null(), text.str.json_path_match(f"$['{key}']"))
        if found.null_count() == 0:
            break
    return found


def _any_time(text: pl.Series, zone: str) -> pl.Series:
    raw = pl.col("raw")
    readings = [
        _zone(TYPES[name].expr(raw), name, zone) for name in ("ZONEDTIME", "ZONEDSECOND", "ASCTIME", "SECONDTIME")
    ]
    return pl.DataFrame({"raw": text}).select(pl.coalesce(readings)).to_series()


def _json_record(text: pl.Series, zone: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": _any_time(json_value(text, JSON_KEYS["ts"]), zone),
            "level": json_value(text, JSON_KEYS["level"]),
            "target": json_value(text, JSON_KEYS["target"]),
            "message": json_value(text, JSON_KEYS["message"]),
        }
    ).with_columns(matched=pl.col("message").is_not_null())


def unwrapped(name: str, frame: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Peel one framing: `text` becomes the inner line, `wrap_ts` the framing's time; what it does not fit stays.

    `open` tells lines that the framing cut: the next one goes on with it, whatever it looks like.
    """
    text = frame["text"]
    cut = pl.Series([False]).new_from_index(0, len(text))
    if name == "docker_json":
        whole = json_value(text, JSON_LINE_KEYS)
        cut = (whole.str.len_bytes() >= DOCKER_PIECE_BYTES) & ~whole.str.ends_with("\n")
        inner = whole.str.strip_suffix("\n").str.strip_suffix("\r")
        ts = _any_time(json_value(text, JSON_KEYS["ts"]), zone)
    else:
        fields = _fields(_by_name()[name], text, zone)
        inner = fields["message"].fill_null("").zip_with(fields["matched"], text)
        ts = fields["ts"] if "ts" in fields.columns else pl.Series([None], dtype=TIMESTAMP).new_from_index(0, len(text))
        cut = fields["partial"] == "P" if "partial" in fields.columns else cut
    inner = inner.zip_with(inner.is_not_null(), text)
    return frame.with_columns(text=inner, wrap_ts=ts, open=cut.fill_null(False))


def _votes(text: pl.Series) -> dict[str, int]:
    plain = {tracing.DIALECT: tracing.uncoloured(text)}
    votes = {
        kind.name: int(plain.get(kind.name, text).str.contains(message_regex(kind.sequence).text).sum())
        for kind in dialects()
    }
    if text.str.starts_with("{").any():
        votes["json"] = int((json_value(text, JSON_KEYS["message"]).is_not_null()).sum())
    return votes


def detect(text: pl.Series) -> Dialect:
    """Tell the dialect of a source by vote over its lines: the reading that makes the most of them records."""
    best = Dialect((), None)
    layers: list[tuple[tuple[str, ...], pl.Series]] = [((), text)]
    if text.str.starts_with("{").any() and json_value(text, JSON_LINE_KEYS).is_not_null().any():
        layers.append((("docker_json",), unwrapped("docker_json", pl.DataFrame({"text": text}), "UTC")["text"]))
    layers += [
        ((kind.name,), unwrapped(kind.name, pl.DataFrame({"text": text}), "UTC")["text"])
        for kind in wraps()
        if text.str.contains(message_regex(kind.sequence).text).any()
    ]
    all_votes: list[tuple[str, int]] = []
    for outer, inner in layers:
        for name, count in _votes(inner).items():
            if count:
                all_votes.append(("/".join((*outer, name)), count))
                if count > max((votes for _, votes in best.votes), default=0):
                    best = Dialect(outer, name, (("/".join((*outer, name)), count),))
    ranked = sorted(all_votes, key=lambda vote: (-vote[1], vote[0]))
    return Dialect(best.wraps, best.record, tuple(ranked))


def _headers(frame: pl.DataFrame, dialect: Dialect, zone: str) -> pl.DataFrame:
    """Add the fields of the record each line begins; `matched` is false for a continuation (`open`: see `unwrapped`)."""
    frame = frame.with_columns(open=pl.lit(False))
    for name in dialect.wraps:
        frame = unwrapped(name, frame, zone)
    if dialect.record == tracing.DIALECT:
        frame = frame.with_columns(text=tracing.uncoloured(frame["text"]))
    if dialect.record is None:
        nothing = {
            name: pl.lit(None, dtype=RECORD_SCHEMA[name]) for name in ("ts", "level", "target", "message", "elapsed_s")
        }
        return frame.with_columns(**nothing, matched=pl.lit(False))
    if dialect.record == "json":
        fields = _json_record(frame["text"], zone)
    else:
        fields = _fields(_by_name()[dialect.record], frame["text"], zone)
    if "target" not in fields.columns:
        program = pl.lit(dialect.record.split("_")[0])
        fields = fields.with_columns(target=pl.when("matched").then(program))
    missing = [name for name in ("ts", "level", "elapsed_s") if name not in fields.columns]
    fields = fields.with_columns(pl.lit(None, dtype=RECORD_SCHEMA[name]).alias(name) for name in missing)
    joined = pl.concat([frame, fields], how="horizontal")
    if "wrap_ts" in joined.columns:
        joined = joined.with_columns(ts=pl.coalesce("ts", "wrap_ts"))
    return joined


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
    numbered = frame.with_columns(
        # lines before any header are records of their own
        group=pl.when(pl.col("matched").cum_sum() == 0).then(-pl.col("line")).otherwise(pl.col("matched").cum_sum())
    )
    line_end = pl.when("resumed").then(pl.lit("")).otherwise(pl.lit("\n"))
    tails = (
        numbered.filter(~pl.col("matched") & (pl.col("group") > 0))
        .group_by("group", maintain_order=True)
        .agg(
            tail=pl.concat_str(line_end, "text").str.join(""),
            more_lines=pl.col("lines").sum(),
            more=pl.col("size").sum(),
        )
    )
    joined = pl.concat_str(pl.col("message").fill_null(""), pl.col("tail"))
    whole = pl.when(pl.col("tail").is_null()).then(pl.col("message")).otherwise(joined)
    folded = (
        numbered.filter(pl.col("matched") | (pl.col("group") < 0))
        .join(tails, on="group", how="left", maintain_order="left")
        .with_columns(
            lines=pl.col("lines") + pl.col("more_lines").fill_null(0),
            size=pl.col("size") + pl.col("more").fill_null(0),
            message=whole,
        )
    )
    # counting characters takes a while, and a message of few bytes has no more of them
    if not (folded["message"].str.len_bytes() > MAX_MESSAGE_CHARS).any():
        return folded.select(frame.columns)
    kept, long = folded["message"].str.head(MAX_MESSAGE_CHARS), folded["message"].str.len_bytes().cast(pl.Int64)
    beyond = folded["beyond"] + (long - kept.str.len_bytes()).fill_null(0)
    return folded.with_columns(message=kept, beyond=beyond).select(frame.columns)


def _short(frame: pl.DataFrame, name: str, refusals: Refusals) -> pl.Series:
    """A column of names, which are no longer than any name is; each is counted and kept."""
    names = frame[name].cast(pl.String)
    long = names.str.len_bytes() > MAX_NAME_CHARS
    for line, offset in frame.filter(long.fill_null(False)).select("line", "offset").iter_rows():
        refusals.tell("name_too_long", line=line, offset=offset)
    return names.str.head(MAX_NAME_CHARS) if long.any() else names


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
        open_before = headers["open"].to_list()[-1:] == [True]
        yield chosen, headers, following is not None
        block = following


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
        records = _folded(headers if waiting is None else pl.concat([waiting, headers], how="diagonal_relaxed"))
        goes_on = more and len(records) > 0 and records["matched"][-1]
        waiting = records.tail(1).with_columns(text=pl.lit("")) if goes_on else None
        done = records.head(-1) if goes_on else records
        if len(done):
            yield chosen, _finished(done, chosen, refusals)


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
