"""What became of one line, and why: the record it belongs to, its event, or the rule it almost was.

Logs hold secrets and terminal codes. Nothing of a message is shown but the words of a rule and the values of columns,
or its shape where it is no event, and those with every control character escaped. Of what another program says, of its
logger, and of what is no record, nothing is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from os.path import commonprefix
from pathlib import Path
from typing import Any

import polars as pl

from analyzer.addresses import Policy
from analyzer.dialects import Dialect, dialect_names, forced, is_local
from analyzer.errors import InputError
from analyzer.events.candidate import parse_candidates
from analyzer.events.envelope import typed_columns
from analyzer.events.hidden import hidden_endpoints
from analyzer.events.plan import EVENT, NOISE, REJECTED, UNMATCHED, extract, sift, without_suffix
from analyzer.events.targets import LIBRARY, WITNESSES, stem
from analyzer.grammar import Grammar, candidate_forms, grammar, known
from analyzer.grammar.extensions import kept_value
from analyzer.grammar.pattern import Capture, EventKind, Literal, Skip, paths
from analyzer.grammar.reference import explain_failure
from analyzer.grammar.text import notes_of
from analyzer.inputs import Input
from analyzer.lines import read
from analyzer.records import split
from analyzer.tally import Tally
from analyzer.views import masked

MASK = "…"
#: So much of a message is explained. A rule stops in the head of it, its tail takes anything; and what Lark and
#: Python's expressions need a second for on this would take them minutes on the longest line.
HEAD_CHARS = 2000
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class NearMiss:
    """The rule a message almost was: the words it took, and what should have stood where it stopped."""

    kind: EventKind
    taken: str
    expected: tuple[str, ...]
    sample: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one line of a log is. `fate` is event, noise, unmatched or rejected; `why` says it in a sentence."""

    source: str
    line: int
    record_line: int
    record_lines: int
    dialect: str
    fate: str
    why: str
    ts: datetime | None = None
    level: str | None = None
    target: str | None = None
    #: the record's message as it may be shown
    message: str | None = None
    kind: EventKind | None = None
    values: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    near: NearMiss | None = None


def _record(path: Path, line: int, dialect: Dialect | None) -> tuple[Dialect, pl.DataFrame]:
    tally, name = Tally(), path.name or str(path)
    if not path.is_file():
        what = "Is a directory" if path.is_dir() else "No such file"
        raise InputError(f"{name}: {what}", "name a log file that can be read")
    is_record = (pl.col("line") <= line) & (line < pl.col("line") + pl.col("lines"))
    before: tuple[Dialect, pl.DataFrame] | None = None
    for chosen, frame in split(read(Input(name, path, final=True), tally), dialect=dialect):
        found = frame.filter(is_record).sort("line")
        if len(found):
            return chosen, found.tail(1)
        # lines of other streams may stand between the pieces of one that was cut
        parted = frame.filter(pl.col("line") < line, pl.col("lines") > 1).sort("line")
        before = (chosen, parted.tail(1)) if len(parted) else before
    if before and line <= tally.lines:
        return before
    if tally.problem:
        raise InputError(f"{name}: {tally.problem}", "name a log file that can be read")
    raise InputError(f"{name} has no line {line}", f"it has {tally.lines} lines, counted from 1")


def explain(path: str | Path, line_number: int, dialect: str | None = None) -> Explanation:
    """Explain one physical line of a log file, counted from 1; a continuation line explains its record.

    Raises:
        InputError: there is no such file or line.
        UsageError: there is no such dialect.
    """
    chosen, record = _record(Path(path), line_number, forced(dialect) if dialect else None)
    row = record.row(0, named=True)
    done = extract(sift(record.with_columns(source=pl.lit(Path(path).name))))
    # as the tables have them, without a key: of an endpoint's public address its class
    events = hidden_endpoints(done.events, Policy("class"))
    fate = str(done.fates["fate"][0])
    name = None if row["target"] is None else stem(row["target"])
    message = "" if row["message"] is None else str(without_suffix(record["message"])["message"].item())
    length, message = len(message), message[:HEAD_CHARS]
    told: dict[str, Any] = {}
    match fate:
        case _ if fate == EVENT:
            told = _event(grammar(str(name)), events, message)
        case _ if fate == UNMATCHED:
            told = {"message": masked.shape(message), **_unmatched(str(name), message)}
        case _ if fate == NOISE:
            told = {"message": masked.shape(message) if name else None, "why": _noise(name, row["target"])}
        case _ if fate == REJECTED:
            told = {"why": _rejected(chosen) if row["message"] is None else "it names no logger"}
    told["remarks"] = (*_layout_remarks(chosen, length), *told.pop("remarks", ()))
    return Explanation(
        source=Path(path).name,
        line=line_number,
        record_line=row["line"],
        record_lines=row["lines"],
        dialect=chosen.name,
        fate=fate,
        ts=row["ts"],
        level=row["level"],
        target=row["target"] if name else None,
        **told,
    )


def _event(spoken: Grammar, events: pl.DataFrame, message: str) -> dict[str, object]:
    event = events.row(0, named=True)
    kind = next(kind for kind in spoken.kinds if kind.name == event["kind"])
    values = {name: event[name] for name in typed_columns() if event[name] is not None}
    values |= {one["key"]: one["value"] for one in event["fields"] or ()}
    return {
        "why": kind.doc,
        "message": masked.told(kind, message),
        "kind": kind,
        "values": tuple((name, _value(value)) for name, value in values.items()),
        "remarks": tuple(_candidate_remarks(event)),
    }


def _layout_remarks(dialect: Dialect, length: int) -> Iterable[str]:
    """What the layout of a record says against its explanation."""
    if dialect.header == "untimed":
        yield "its header has no time: a line of another message that begins like this one looks the same"
    if length > HEAD_CHARS:
        yield f"only the first {HEAD_CHARS:,} of the {length:,} characters of its message were looked at here"


def _value(value: object) -> str:
    """A value as text; what candidates may carry of credentials is masked."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(_value, value))
        case str():
            return kept_value(value, MASK)
    return str(value)


def _candidate_remarks(event: dict[str, object]) -> Iterable[str]:
    """What RFC 8839 says against the candidates of an event; the grammar of a log line takes them as they come."""
    one, several = event.get("candidate"), event.get("sdp_candidates")
    texts = [str(one)] if one else [str(text) for text in several] if isinstance(several, list) else []
    for violations in parse_candidates(pl.Series(texts, dtype=pl.String))["violations"].to_list():
        for violation in violations:
            yield f"the candidate breaks RFC 8839: {violation.replace('_', ' ')}"
            if violation == "not_a_candidate":
                yield f"a candidate reads like: {candidate_forms()[0].samples[0]}"


def _noise(name: str | None, target: str) -> str:
    if name is None:
        return f"its logger is another program's, not {LIBRARY} or a crate of it"
    if name in WITNESSES:
        return f"no rule of grammars/{name}.lark takes it, and {target} is another program than {LIBRARY}"
    note = notes_of(name)["noise"]
    return f"grammars/{name}.lark:{note.line} declares it noise: a known line that informs nothing"


def _rejected(dialect: Dialect) -> str:
    if dialect.record is None:
        return f"no line of the file begins a record in a known dialect: {', '.join(dialect_names())}"
    if dialect.votes and dialect.votes[0][0] != dialect.name:
        return f"no record begins here in dialect {dialect.name}; the lines of the file are in {dialect.votes[0][0]}"
    return f"it comes before the first line that begins a record in dialect {dialect.name}"


def _unmatched(name: str, message: str) -> dict[str, object]:
    if known(name) is None:
        return {"why": f"no grammar is written for this logger: there is no grammars/{name}.lark"}
    failure = explain_failure(name, message)
    if failure.kind is None:
        return {"why": f"it begins like no rule of grammars/{name}.lark"}
    taken = _taken(failure.kind, message[: failure.at])
    near = NearMiss(failure.kind, taken, failure.expected, _likest(failure.kind.samples, message))
    return {"why": f"no rule takes it; the nearest is {failure.kind.name} ({failure.kind.place})", "near": near}


def _taken(kind: EventKind, text: str) -> str:
    """The words of the rule in what it took of a message; everything else is masked."""
    reached, shown = max((_walked(path, text) for path in paths(kind.sequence)), key=lambda walk: walk[0])
    rest = text[reached:]
    return shown + (rest if rest.isspace() else MASK if rest else "")


def _likest(samples: tuple[str, ...], message: str) -> str:
    def likeness(sample: str) -> float:
        return SequenceMatcher(None, sample, message[: len(sample)], autojunk=False).ratio()

    return max(samples, key=likeness, default="")


def _walked(path: Iterable[object], text: str) -> tuple[int, str]:
    at, shown = 0, ""
    for item in path:
        match item:
            case Literal(words):
                common = commonprefix([words, text[at:]])  # noqa: RUF071 - character by character is meant
                at, shown = at + len(common), shown + common
                if common != words:
                    break
            case Capture() | Skip():
                match_ = re.compile(item.regex).match(text, at)
                if not match_:
                    break
                at, shown = match_.end(), shown + (MASK if match_.end() > at else "")
            case _:
                break
    return at, shown


def printable(text: str) -> str:
    """Text that is safe on a terminal: control, format and unassigned characters are escaped, long text is cut."""
    # an escape is longer than what it stands for: nothing behind this is shown
    ahead = text[: _SHOWN_CHARS + 1]
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in ahead)
    return safe if len(safe) <= _SHOWN_CHARS else safe[:_SHOWN_CHARS] + MASK


def render(explanation: Explanation) -> str:
    """The explanation as text for a terminal."""
    one = explanation
    last = one.record_line + one.record_lines - 1
    where = (
        f"line {one.line}"
        if one.record_lines == 1
        else f"line {one.line}, of the record in lines {one.record_line} to {last}"
    )
    rows = [f"{printable(one.source)}: {where}: {one.fate}", f"  {printable(one.why)}"]
    facts = [
        ("dialect", one.dialect),
        ("time", _time(one)),
        ("level", one.level),
        ("logger", one.target),
        ("message", one.message),
        ("kind", f"{one.kind.name} ({one.kind.place})" if one.kind else None),
        *one.values,
    ]
    width = max(len(name) for name, text in facts if text is not None)
    rows += [f"  {name:<{width}}  {printable(text)}" for name, text in facts if text is not None]
    rows += [f"  {printable(remark)}" for remark in one.remarks]
    if one.near:
        rows += _near_rows(one.near)
    return "\n".join(rows) + "\n"


def _time(one: Explanation) -> str | None:
    if one.ts is None:
        return None
    if is_local(one.dialect):
        return f"{one.ts.replace(tzinfo=None).isoformat(timespec='microseconds')} in the zone of the log"
    return one.ts.isoformat(timespec="microseconds")


def _near_rows(near: NearMiss) -> list[str]:
    taken = printable(near.taken.removesuffix(MASK))
    return [
        "",
        f"    {taken}{MASK}",
        f"    {' ' * len(taken)}^ expected {printable(' or '.join(near.expected))}",
        f"  a line of this rule: {printable(near.sample)}",
    ]
