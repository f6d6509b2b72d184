"""How the lines of a source are laid out: its dialect, told by a vote, and what each layer of it gives.

A dialect is framings from the outside in, each of which wraps whole lines, and the layout of the record inside. Both
are rules of `grammars/prefix.lark`, but for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache

import polars as pl

from analyzer import tracing
from analyzer.errors import UsageError
from analyzer.grammar import dialects, wraps
from analyzer.grammar.pattern import EventKind, Skip, captures
from analyzer.grammar.regex import message_regex, prefix_regex
from analyzer.grammar.types import TIMESTAMP, TYPES
from analyzer.headers import fields as header_fields
from analyzer.headers import in_zone

#: zone of times that name none, where no other is given
UTC = "UTC"
#: names under which JSON framings keep the parts of a record, the first present one wins
JSON_KEYS: dict[str, tuple[str, ...]] = {
    "ts": ("timestamp", "time", "@timestamp", "asctime"),
    "level": ("level", "levelname", "severity"),
    "target": ("logger", "name", "target", "logger_name"),
    "message": ("message", "msg"),
}
#: times that a framing in JSON may have
_JSON_TIMES = ("ZONEDTIME", "ZONEDSECOND", "ASCTIME", "SECONDTIME")
#: the same for framings that keep a whole line: docker's json-file and journalctl -o json, which may cut it
JSON_PIECE_KEYS = ("log", "MESSAGE")
#: and Elastic's shippers, Google's and Amazon's exports, Loki
JSON_LINE_KEYS = (*JSON_PIECE_KEYS, "message", "textPayload", "@message", "line")
#: Docker cuts a line into pieces of 16 KiB, and only the last one keeps the line end; a character may be cut, too.
DOCKER_PIECE_BYTES = (16 << 10) - 4
#: journald cuts a line of a stream at so many bytes (LineMax of journald.conf), and then takes blanks off its ends
JOURNALD_PIECE_BYTES, JOURNALD_BLANKS = 48 << 10, 16
#: terminals of framings that tell whose a line is, and the keys of docker's json-file and of journalctl -o json
_WHOSE = frozenset({"STREAM", "HOSTNAME", "IDENTIFIER", "LOGSTREAM", "POD", "FILE"})
#: and those of them that may be any text
FREE = frozenset({"LOGSTREAM", "FILE"})
_DOCKER_STREAM, _JOURNALD_STREAM = ("stream",), ("_HOSTNAME", "SYSLOG_IDENTIFIER", "_PID")
#: what only logs of the library, or of the relay, have
_NAMED = "keeper_pam_webrtc_rs|session [0-9]+: "
#: a line has no more framings than these
MOST_FRAMINGS = 2
#: how any header with a time begins; few lines that go on with a message do
_BEGINS_WITH_TIME = r"^\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:"


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


def is_local(name: str) -> bool:
    """Whether the times of a dialect, by its name, are local ones, which name no zone."""
    kinds = [_by_name()[layer] for layer in name.split("/") if layer in _by_name()]
    found = [capture.terminal for kind in kinds for capture in captures(kind.sequence) if capture.column == "ts"]
    return bool(found) and TYPES[found[-1]].naive


@cache
def _by_name() -> dict[str, EventKind]:
    return {kind.name: kind for kind in (*wraps(), *dialects())}


@cache
def framing(name: str) -> tuple[tuple[str, str], ...]:
    """The parts that a framing puts in front of a line: the terminal, blank for text, and the pattern of each."""
    return tuple(
        (item.terminal if isinstance(item, Skip) else "", prefix_regex((item,)).removeprefix("^"))
        for item in _by_name()[name].sequence[:-1]
    )


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
    readings = [in_zone(TYPES[name].expr(raw), name, zone) for name in _JSON_TIMES]
    return pl.DataFrame({"raw": text}).select(pl.coalesce(readings)).to_series()


@cache
def json_header() -> dict[str, str]:
    """What may stand in the time, the level and the logger of a record in JSON: what other layouts take for one.

    Anything else may be anything: an address with its query, an object, a code of digits.
    """
    found = {one.terminal: one.regex for kind in (*dialects(), *wraps()) for one in captures(kind.sequence)}
    times = "|".join(found[name] for name in _JSON_TIMES)
    return {
        "ts": f"^(?:{times})$",
        "level": rf"^(?:(?i:{found['LEVEL']})|[0-9]{{1,3}})$",
        # of other programs also `a-b`, and Rust's `a::b`
        "target": f"^(?:{found['TARGET']}|{found['PATH']})(?:-(?:{found['TARGET']}|{found['PATH']}))*$",
    }


def _json_record(text: pl.Series, zone: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": _any_time(json_value(text, JSON_KEYS["ts"]), zone),
            "level": json_value(text, JSON_KEYS["level"]),
            "target": json_value(text, JSON_KEYS["target"]),
            "message": json_value(text, JSON_KEYS["message"]),
        }
    ).with_columns(
        matched=pl.col("message").is_not_null(),
        **{name: pl.when(pl.col(name).str.contains(json_header()[name])).then(name) for name in ("level", "target")},
    )


def unwrapped(name: str, frame: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Peel one framing: `text` becomes the inner line, `wrap_ts` the framing's time; what it does not fit stays.

    `open` tells lines that the framing cut: the next one of its stream goes on with it, whatever it looks like.
    """
    text = frame["text"]
    cut = pl.Series([False]).new_from_index(0, len(text))
    if name == "docker_json":
        piece = json_value(text, JSON_PIECE_KEYS)
        whole = piece if piece.null_count() == 0 else json_value(text, JSON_LINE_KEYS)
        cut = (piece.str.len_bytes() >= DOCKER_PIECE_BYTES) & ~piece.str.ends_with("\n")
        inner = whole.str.strip_suffix("\n").str.strip_suffix("\r")
        ts = _any_time(json_value(text, JSON_KEYS["ts"]), zone)
    else:
        fields = header_fields(_by_name()[name], text, zone)
        inner = fields["message"].fill_null("").zip_with(fields["matched"], text)
        ts = fields["ts"] if "ts" in fields.columns else pl.Series([None], dtype=TIMESTAMP).new_from_index(0, len(text))
        if "partial" in fields.columns:
            cut = fields["partial"] == "P"
        elif name.startswith("journald"):
            size = inner.str.len_bytes()
            cut = fields["matched"] & size.is_between(JOURNALD_PIECE_BYTES - JOURNALD_BLANKS, JOURNALD_PIECE_BYTES)
    inner = inner.zip_with(inner.is_not_null(), text)
    # what is nearer to the line knows better
    before = frame["wrap_ts"] if "wrap_ts" in frame.columns else ts
    cut = cut.fill_null(False) | (frame["open"] if "open" in frame.columns else False)
    return frame.with_columns(text=inner, wrap_ts=ts.zip_with(ts.is_not_null(), before), open=cut)


@cache
def _whose(name: str) -> str | None:
    """The pattern of a framing's header, with a group for each part that tells whose the line is, if any does."""
    parts = [f"({regex})" if terminal in _WHOSE else regex for terminal, regex in framing(name)]
    return f"^{''.join(parts)}" if any(terminal in _WHOSE for terminal, _ in framing(name)) else None


def _streams(name: str, text: pl.Series) -> list[pl.Series]:
    """What one framing says of whose each line is."""
    if name != "docker_json":
        pattern = _whose(name)
        return text.str.extract_groups(pattern).struct.unnest().get_columns() if pattern else []
    stream = json_value(text, _DOCKER_STREAM)
    named = [stream] if stream.null_count() < len(text) else [json_value(text, (key,)) for key in _JOURNALD_STREAM]
    return [one.fill_null("") for one in named]


def streams(framed: Iterable[tuple[str, pl.Series]]) -> pl.Series:
    """Whose each line is, blank where it is not said, by framings from the outside in, and the lines that each framed.

    A line that was cut goes on in the next one of the same.
    """
    said = [one.rename(str(place)) for place, one in enumerate(told for one in framed for told in _streams(*one))]
    together = pl.concat_str(pl.all(), separator=" ").fill_null("").str.strip_chars()
    return pl.DataFrame(said).select(together).to_series()


@cache
def _counts(of: Callable[[], Iterable[EventKind]]) -> tuple[pl.Expr, ...]:
    """How many lines each layout or framing fits, over `text` and `plain`: all are asked at once."""
    return tuple(
        pl.col("plain" if kind.name == tracing.DIALECT else "text")
        .str.contains(message_regex(kind.sequence).text)
        .sum()
        .alias(kind.name)
        for kind in of()
    )


def _fitting(text: pl.Series, of: Callable[[], Iterable[EventKind]]) -> dict[str, int]:
    """How many lines each layout or framing fits."""
    lines = pl.DataFrame({"text": text, "plain": tracing.uncoloured(text) if of is dialects else text})
    return lines.select(_counts(of)).row(0, named=True)


def _votes(text: pl.Series) -> dict[str, int]:
    votes = _fitting(text, dialects)
    if text.str.starts_with("{").any():
        said, named = (json_value(text, JSON_KEYS[name]).is_not_null() for name in ("message", "target"))
        # without a logger the message may be a whole line, and is nothing else of use
        votes["json"] = max(int((said & named).sum()), int(said.any()))
    return votes


def _framings(outer: tuple[str, ...], text: pl.Series) -> list[tuple[tuple[str, ...], pl.Series]]:
    """What framings leave of lines that other framings were taken off, with all of them.

    Of a line that is not framed so nothing is left: it has no say, lest the few of a log that look framed decide.
    """
    names = [name for name, count in _fitting(text, wraps).items() if count]
    if text.str.starts_with("{").any() and json_value(text, JSON_LINE_KEYS).is_not_null().any():
        names.insert(0, "docker_json")
    inner = [unwrapped(name, pl.DataFrame({"text": text}), "UTC")["text"] for name in names]
    return [((*outer, name), one.set(one == text, "")) for name, one in zip(names, inner, strict=True)]


def detect(text: pl.Series, *, anyway: bool = False) -> Dialect:
    """Tell the dialect of a source by vote over its lines: the reading that makes the most of them records.

    Framings, and then framings of framings, are looked for where less leaves most lines unread; but the library has to
    be named there, or a framing is looked for `anyway`: a log of another program may be in none of these for gigabytes.
    """
    readings: list[tuple[tuple[str, ...], pl.Series]] = [((), text)]
    votes = _ballots(readings)
    for _ in range(MOST_FRAMINGS):
        if _is_read(max(count for _, _, count in votes), len(text)) or not (anyway or text.str.contains(_NAMED).any()):
            break
        readings = [further for outer, inner in readings for further in _framings(outer, inner)]
        votes += _ballots(readings)
        anyway = False
    return _elected(tuple(votes))


def _is_read(records: int, lines: int) -> bool:
    """Whether most of some lines are records: what else is framed can be no more of them."""
    return 2 * records >= lines


def _ballots(readings: Iterable[tuple[tuple[str, ...], pl.Series]]) -> list[tuple[tuple[str, ...], str, int]]:
    return [(outer, name, count) for outer, inner in readings for name, count in _votes(inner).items()]


@lru_cache(maxsize=1024)
def _elected(votes: tuple[tuple[tuple[str, ...], str, int], ...]) -> Dialect:
    """The reading of most votes, the first of several; `votes` are of framings and a layout. Many small logs agree."""
    given = [("/".join((*outer, name)), count) for outer, name, count in votes if count]
    outer, record, most = max(votes, key=lambda vote: vote[2], default=((), None, 0))
    ranked = tuple(sorted(given, key=lambda vote: (-vote[1], vote[0])))
    return Dialect(outer, record, ranked) if most else Dialect((), None)


def detect_plain(lines: pl.DataFrame) -> dict[int, Dialect]:
    """Tell the dialects of several sources at once, whose lines are `text`, `of` the number of a source.

    Those that may be framed, or JSON, and those of which most lines are no records are left out.
    """
    asked = lines.select(
        "of", "text", plain=tracing.uncoloured(lines["text"]), json=pl.col("text").str.starts_with("{")
    )
    counts = asked.group_by("of").agg(pl.col("json").any(), *_counts(dialects), count=pl.len())
    found: dict[int, Dialect] = {}
    for row in counts.iter_rows(named=True):
        of, json, count = row.pop("of"), row.pop("json"), row.pop("count")
        if not json and _is_read(max(row.values()), count):
            found[of] = _elected(tuple(((), name, count) for name, count in row.items()))
    return found


def record_fields(text: pl.Series, record: str, zone: str) -> pl.DataFrame:
    """The fields of the record that each line begins; `matched` is false where it begins none."""
    return _json_record(text, zone) if record == "json" else header_fields(_by_name()[record], text, zone)


@cache
def _timed() -> tuple[str, ...]:
    """Patterns of the layouts whose header has a time and a logger."""
    columns = {kind: {capture.column for capture in captures(kind.sequence)} for kind in dialects()}
    return tuple(message_regex(kind.sequence).text for kind, found in columns.items() if {"ts", "target"} <= found)


def looks_otherwise(text: pl.Series, matched: pl.Series) -> pl.Series:
    """Whether a line that has not the layout of its source begins like a record of another one.

    It is read as what its place makes of it all the same: a message may say anything.
    """
    nothing = pl.Series([False]).new_from_index(0, len(text))
    asked = (~matched & text.str.contains(_BEGINS_WITH_TIME)).arg_true()
    if asked.is_empty():
        return nothing
    said = text.gather(asked)
    found = pl.DataFrame([said.str.contains(pattern).alias(str(at)) for at, pattern in enumerate(_timed())])
    return nothing.scatter(asked.filter(found.select(pl.any_horizontal(pl.all())).to_series()), True)
