"""Lines made to be slow: texts that a grammar's loops may take in many ways, and what reading them costs.

    python -m tests.pump [--all]    # growth of every pattern, then whole lines of 1 MiB through ingest and explain

Prints the steepest growths (the exponent of CPU time over length, up to 2^14 characters) and the worst lines in ms of
CPU time (of kinds' lines each twentieth, or all of them), and fails where one exceeds its bound. The tests assert no
time: the law `linear` forbids what makes a pattern slow.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from random import Random

import polars as pl

from analyzer import records
from analyzer.accounting.ledger import shapes
from analyzer.accounting.releases import worded
from analyzer.dialects import forced
from analyzer.events.plan import extract, sift
from analyzer.events.targets import logger
from analyzer.explain import explain, render
from analyzer.grammar import candidate_forms, dialects, shipped, wraps
from analyzer.grammar.pattern import Capture, EventKind, Literal, Pairs, Sequence, Skip, heads, paths, tail, terminals
from analyzer.grammar.regex import message_regex, segment_regex, test_regex
from analyzer.grammar.terminal import automaton, example
from analyzer.lines import MAX_LINE_CHARS

EXPONENTS = range(8, 15)
#: growth that is called linear: noise of a clock, and tables that are built lazily
MAX_SLOPE = 1.3
#: a pump of the longest length that takes less is no matter: it is 64 ms for the longest line
QUICK_S = 1e-3
MAX_LINE_MS = 250.0
STAMP = "2026-11-22 13:19:35,251 DEBUG "
#: what may end a pumped text: nothing, or what no loop takes next
ENDS = ("", "\0")
#: what is repeated whatever a rule says: delimiters, brackets, quotes, escapes, names of fields
COMMON = (
    *(" ", ",", ", ", "(", ")", "|", ": ", "\r", "'", '"', "[", "{", "\\", "a", "0", "-", "=", "a=", "\u00e9", " ("),
    *(' ab="\\"', " ab=cd", "\x1b[", "\x1b[0", " (a.rs:1", ".rs:", ", tube_id: ", "token", " ufrag "),
)


@dataclass(frozen=True, slots=True)
class Pump:
    """A text of any length: what stands before, what is repeated, and what ends it."""

    before: str
    unit: str
    after: str

    def text(self, length: int) -> str:
        """The text, of about this many characters."""
        return self.before + self.unit * (length // len(self.unit)) + self.after


def _units(regex: str) -> list[str]:
    """What a terminal may be pumped with: a space, a digit, a letter, a sign, as far as it takes them."""
    spelled = automaton(regex).spells()
    found = [next((sign for sign in signs if sign in spelled), None) for signs in (" ", "01", "a", ".:-_=+/", "\n\t")]
    return [sign for sign in found if sign]


def pumps(sequence: Sequence) -> Iterator[Pump]:
    """Texts that follow a pattern up to each of its terminals, and repeat what that takes."""
    random = Random(0)
    # a loop meets what stands behind it: once with each is enough
    seen: set[tuple[object, ...]] = set()
    for path in paths(sequence):
        before = ""
        for item, *follows in zip(path, (*path[1:], None), strict=True):
            new = (item, *follows) not in seen
            seen.add((item, *follows))
            match item:
                case Literal(text):
                    before += text
                case Capture() | Skip():
                    if not new:
                        before += example(item.regex, random)
                        continue
                    yield from (Pump(before, *pair) for pair in product(_units(item.regex), ENDS))
                    before += example(item.regex, random)
                case Pairs(columns) if new:
                    labels = [f", {label}" for column in columns for label in heads(column.sequence)]
                    yield from (Pump(before, unit, end) for unit in (" ", ",", ", (", *labels) for end in ENDS)
                    yield from (Pump(f"{before}:", " ", end) for end in ENDS)
                    for column in columns:
                        yield from (
                            Pump(f"{before}, {one.before}", one.unit, one.after) for one in pumps(column.sequence)
                        )
                case _:
                    pass


def kinds() -> list[EventKind]:
    """Everything that is lowered: kinds of all loggers, dialects, framings, candidates."""
    return [*(kind for one in shipped().values() for kind in one.kinds), *dialects(), *wraps(), *candidate_forms()]


def by_rust(regex: str, text: str) -> bool:
    """As the plan reads."""
    return bool(pl.Series([text]).str.contains(regex).item())


def patterns() -> Iterator[tuple[str, str, bool, list[Pump]]]:
    """Every terminal and every kind's pattern: its name, its expression, if Python reads it, too, and its pumps."""
    for name, regex in sorted({(item.terminal, item.regex) for kind in kinds() for item in terminals(kind.sequence)}):
        yield name, f"^(?:{regex})$", True, list(dict.fromkeys(pumps((Skip(name, regex),))))
    for kind in kinds():
        found = list(dict.fromkeys(pumps(kind.sequence)))
        yield f"{kind.target}:{kind.name}", message_regex(kind.sequence).text, True, found
        yield f"{kind.target}:{kind.name} test", test_regex(kind.sequence), False, found
        for column in tail(kind.sequence):
            yield f"{kind.target}:{kind.name} {column.name}", segment_regex(column).text, False, found


def seconds(call: Callable[[], object]) -> float:
    """The shortest of three runs."""
    found = []
    for _ in range(3):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def slope(call: Callable[[str], object], pump: Pump) -> float:
    """The exponent with which time grows over the lengths; 0 where all of it is too short to matter."""
    last = seconds(partial(call, pump.text(1 << EXPONENTS[-1])))
    if last < QUICK_S:
        return 0.0
    points = [(math.log2(max(seconds(partial(call, pump.text(1 << size))), 1e-7)), size) for size in EXPONENTS[-4:]]
    return (points[-1][0] - points[0][0]) / (points[-1][1] - points[0][1])


def steepest() -> list[tuple[float, str, str, Pump]]:
    """The growth of every pattern with each of its pumps, in both engines, the steepest first."""
    found = []
    for name, regex, by_python, given in patterns():
        compiled = re.compile(regex)
        for pump in given:
            if by_python:
                found.append((slope(compiled.match, pump), "python", name, pump))
            found.append((slope(partial(by_rust, regex), pump), "rust", name, pump))
    return sorted(found, key=lambda one: -one[0])


def lines(step: int) -> Iterator[tuple[str, str, str]]:
    """Lines of the longest length that is read: what they are, their dialect, their text; of kinds each `step`-th."""
    taken = MAX_LINE_CHARS - 200
    for kind in kinds():
        if kind.target not in shipped():
            continue
        for pump in list(dict.fromkeys(pumps(kind.sequence)))[::step]:
            if "\n" not in pump.text(10):
                yield f"{kind.name} {pump.unit!r}", "std", f"{STAMP}{logger(kind.target)}: {pump.text(taken)}"
    begins = {
        "std": f"{STAMP}{logger('tube')}: ",
        "tracing": "2025-09-16T13:09:25.238054Z DEBUG tube: ",
        "cri/std": "",
        "docker_json/std": '{"log":"',
        "json": '{"message":"',
        "compose/bare": "a  | ",
        "bracket_iso": "[",
    }
    for dialect, begin in begins.items():
        for unit in COMMON:
            if "\n" not in unit:
                yield f"{dialect} {unit!r}", dialect, Pump(begin, unit, "").text(taken)


def ingested(text: str, dialect: str | None) -> None:
    """What an ingest does with a line."""
    frame = pl.DataFrame({"line": [1], "text": [text], "offset": [0], "size": [len(text.encode()) + 1]})
    for _, found in records.split([frame], dialect=forced(dialect) if dialect else None):
        sifted = sift(found.with_columns(source=pl.lit("test")))
        worded(sifted.with_columns(records=1))
        shapes(extract(sifted).fates)


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def slowest(step: int) -> list[tuple[float, str]]:
    """Milliseconds that an ingest takes for each line, told its dialect, the slowest first."""
    ingested(f"{STAMP}{logger('tube')}: warm", "std")
    found = []
    for name, dialect, text in lines(step):
        # what compiles for the first time is no cost of the line
        ingested(text[:300], dialect)
        ms = _timed(partial(ingested, text, dialect))
        found.append((min(ms, _timed(partial(ingested, text, dialect))) if ms > MAX_LINE_MS else ms, name))
    return sorted(found, reverse=True)


def _explained(path: Path, dialect: str) -> str:
    return render(explain(path, 1, dialect))


def explained(step: int) -> list[tuple[float, str]]:
    """Milliseconds that the explanation of each line takes, the slowest first."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "app.log")
        for name, dialect, text in lines(step):
            path.write_text(f"{text}\n", encoding="utf-8")
            found.append((_timed(partial(_explained, path, dialect)), name))
    return sorted(found, reverse=True)


def main() -> int:
    """Measure all, and say what is out of bounds."""
    step = 1 if "--all" in sys.argv else 20
    steep = steepest()
    quick = sum(not exponent for exponent, *_ in steep)
    print(f"{len(steep):,} pumps of {sum(1 for _ in patterns()):,} patterns; bound: exponent {MAX_SLOPE}")
    print(f"  {quick:,} of them take less than {QUICK_S * 1000:.0f} ms for {1 << EXPONENTS[-1]:,} characters")
    for exponent, engine, name, pump in steep[: min(8, len(steep) - quick)]:
        print(f"  {exponent:5.2f}  {engine:6}  {name}  {pump}")
    slow = slowest(step)
    print(f"{len(slow):,} lines of 1 MiB through ingest; bound: {MAX_LINE_MS} ms")
    for ms, name in slow[:8]:
        print(f"  {ms:7.1f} ms  {name}")
    told = explained(10 * step)
    print(f"{len(told):,} lines of 1 MiB explained")
    for ms, name in told[:4]:
        print(f"  {ms:7.1f} ms  {name}")
    return int(steep[0][0] > MAX_SLOPE or slow[0][0] > MAX_LINE_MS)


if __name__ == "__main__":
    sys.exit(main())
