"""Logs → a copy of them that may be handed on: without secrets, and still read as the same events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from analyzer.addresses import Policy, hidden_texts
from analyzer.dialects import Dialect, forced
from analyzer.errors import OutputError
from analyzer.inputs import Input, discover
from analyzer.lines import read
from analyzer.records import folded, headed
from analyzer.redact.copies import check, copying, prepare
from analyzer.redact.layouts import NEEDED, rewritten
from analyzer.redact.messages import masked
from analyzer.refusals import why_unread
from analyzer.tables.address_policy import policy_for
from analyzer.tally import Tally

__all__ = ["Copied", "redact"]

#: records are masked when there are this many bytes of them, or so many lines
BATCH_BYTES, BATCH_LINES = 12 << 20, 1 << 16
_ASKED = pl.Schema({"target": pl.String(), "message": pl.String()})


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one input: its name, which is that of the copy, its lines, and those that are not as they were."""

    name: str
    dialect: str
    lines: int
    changed: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class _Portion:
    """Lines of one input, the records they are, and whether these are its last."""

    input: Input
    tally: Tally
    dialect: Dialect
    lines: pl.DataFrame
    records: pl.DataFrame
    last: bool


def _portions(inputs: Sequence[Input], dialect: Dialect | None) -> Iterator[_Portion]:
    for one in inputs:
        tally = Tally()
        blocks = (block.with_columns(raw="text") for block in read(one, tally))
        held: _Portion | None = None
        for found, lines in headed(blocks, dialect=dialect):
            if held:
                yield held
            records = folded(lines, found).select("target", "message")
            held = _Portion(one, tally, found, lines.select(NEEDED), records, last=False)
        nothing = pl.DataFrame(schema={"line": pl.Int64, "raw": pl.String}), pl.DataFrame(schema=_ASKED)
        yield replace(held, last=True) if held else _Portion(one, tally, Dialect((), None), *nothing, last=True)


def _batched(portions: Iterable[_Portion]) -> Iterator[list[_Portion]]:
    """Portions together, so that a thousand small files are not a thousand batches."""
    waiting: list[_Portion] = []
    lines = 0
    for portion in portions:
        waiting.append(portion)
        lines += len(portion.lines)
        if lines >= BATCH_LINES or sum(one.records.estimated_size() for one in waiting) >= BATCH_BYTES:
            yield waiting
            waiting, lines = [], 0
    if waiting:
        yield waiting


def _written(batch: Sequence[_Portion], policy: Policy, *, keep_unknown: bool) -> Iterator[tuple[_Portion, pl.Series]]:
    """The lines of each portion, redacted."""
    asked = pl.concat([one.records.cast(_ASKED) for one in batch])
    messages, at = masked(asked, keep_unknown=keep_unknown), 0
    for one in batch:
        mine = messages.slice(at, len(one.records))
        at += len(one.records)
        lines = rewritten(one.lines, one.dialect, mine) if len(one.lines) else one.lines["raw"]
        yield one, hidden_texts(lines, policy)


def _in_order(texts: pl.Series, lines: pl.DataFrame) -> pl.Series:
    """Texts of lines as they stood: pieces of what a framing cut were put together."""
    return texts if lines["line"].is_sorted() else texts.gather(lines["line"].arg_sort())


def redact(
    given: Sequence[str],
    out: Path,
    *,
    addresses: str | None = None,
    key_file: Path | None = None,
    keep_unknown: bool = False,
    dialect: str | None = None,
) -> list[Copied]:
    """Write a copy of logs to a folder, each by the name it has as a source, compressed as it is.

    Lines keep their numbers, headers and framings. What a rule names stays; public addresses become what the policy of
    `addresses` and `key_file` says; every other value is masked. `keep_unknown` keeps the text of what no rule takes
    and of other programs, without what looks like a secret.

    Raises:
        InputError: nothing to read.
        UsageError: no dialect of that name, no such policy, or no such key.
        OutputError: the folder holds something else, or cannot be written.
    """
    layout, policy = forced(dialect) if dialect else None, policy_for(addresses, key_file)
    check(out)
    inputs = discover(given, skip=out, final=True)
    for folder in given:
        if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
            raise OutputError(f"{out} lies in {folder}, which is read", "name a folder beside it")
    names = prepare(out)
    done = [Copied(one.name, "unknown", 0, 0, why_unread(one.refused)) for one in inputs if one.refused]
    with ExitStack() as stack:
        stream, changed = None, 0
        for batch in _batched(_portions([one for one in inputs if not one.refused], layout)):
            for one, lines in _written(batch, policy, keep_unknown=keep_unknown):
                if one.tally.refused:
                    done.append(Copied(one.input.name, "unknown", 0, 0, one.tally.problem))
                    continue
                stream = stream or stack.enter_context(copying(out, one.input, names))
                # a last line without an end may still grow, and so may its copy
                end = "" if one.last and one.tally.is_open else "\n"
                stream.write(("\n".join(_in_order(lines, one.lines)) + end).encode() if len(lines) else b"")
                changed += int((lines != one.lines["raw"]).sum())
                if one.last:
                    stack.pop_all().close()
                    found = one.dialect.name, one.tally.lines, changed, one.tally.problem
                    done.append(Copied(one.input.name, *found))
                    stream, changed = None, 0
    return done
