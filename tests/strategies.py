"""Messages to test grammars with: as a grammar spells them, printed from made-up values, and damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import polars as pl
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark

from analyzer import lines, records
from analyzer.events.plan import EVENT, NOISE, extract, sift, without_suffix
from analyzer.events.targets import WITNESSES, logger, stem
from analyzer.grammar.pattern import EventKind, captures
from analyzer.grammar.printer import render, sample_values
from analyzer.grammar.reference import Parsed, kinds, lark
from analyzer.grammar.types import TYPES, is_list
from analyzer.inputs import discover
from analyzer.records import RECORD_SCHEMA
from analyzer.tally import Tally

ROOT = Path(__file__).parent.parent
#: real logs: those of the repository, and a larger set beside it where there is one
CAPTURES = (ROOT / "fixtures" / "captured", ROOT.parent / "shared" / "captures")


def read_by_plan(target: str, messages: Sequence[str]) -> list[Parsed | None]:
    """What the plan makes of messages of one target, in the form of the reference: one batch, one result each."""
    count = len(messages)
    frame = pl.DataFrame(
        {
            "line": range(1, count + 1),
            "lines": [1] * count,
            "ts": [None] * count,
            "level": ["DEBUG"] * count,
            "target": [logger(target)] * count,
            "elapsed_s": [None] * count,
            "offset": [None] * count,
            "message": list(messages),
        },
        schema=RECORD_SCHEMA,
    ).with_columns(source=pl.lit("test"))
    done = extract(sift(frame))
    # of another program everything else is noise, which its grammar does not spell
    noise = None if target in WITNESSES else Parsed("noise", {})
    read: dict[int, Parsed | None] = {
        line: noise if fate == NOISE else None for line, fate in done.fates.select("line", "fate").rows()
    }
    terminals = {capture.column: capture.terminal for kind in kinds(target) for capture in captures(kind.sequence)}
    events = done.events.to_dicts()
    assert len(events) == (done.fates["fate"] == EVENT).sum()
    for event in events:
        given = {name: event[name] for name in terminals if event.get(name) is not None}
        extra = {one["key"]: _value(terminals[one["key"]], one["value"]) for one in event["fields"] or ()}
        read[event["line"]] = Parsed(
            event["kind"], given | {key: value for key, value in extra.items() if value is not None}
        )
    return [read[line] for line in range(1, count + 1)]


def _value(terminal: str, text: str) -> object:
    if is_list(terminal):
        return [TYPES[terminal].value(line) for line in text.split("\n")]
    return TYPES[terminal].value(text)


def bare(messages: Iterable[str]) -> list[str]:
    """The messages without the place in the producer's source and the line end, which are no part of the grammar."""
    once = without_suffix(pl.Series(list(dict.fromkeys(messages)), dtype=pl.String))["message"]
    return once.filter(without_suffix(once)["message"] == once).unique(maintain_order=True).to_list()


def spelled(target: str, kind: str) -> st.SearchStrategy[str]:
    """Messages of one kind, straight from the grammar."""
    messages: st.SearchStrategy[str] = from_lark(lark(target), start=kind)
    return messages.filter(_is_utf8)


def _is_utf8(text: str) -> bool:
    return bool(text) and not any("\ud800" <= char <= "\udfff" for char in text)


def printed(kind: EventKind, random: Random) -> str:
    """A message of one kind with made-up values."""
    return render(kind.sequence, sample_values(kind, random))


_ODD: list[str] = [
    *"(),|:=-_ .#'\"[]<>{}0a\tZ",
    "\n",
    "\r\n",
    "  ",
    ": ",
    ", ",
    " (",
    "µ",
    "é",
    "→",
    "😀",
    "\0",
    "\x1b",
    "٣",
    "\u017f",
    "\u212a",
]


def _delete(text: str, random: Random) -> str:
    at = random.randrange(len(text))
    return text[:at] + text[at + random.randint(1, 3) :]


def _double(text: str, random: Random) -> str:
    at = random.randrange(len(text))
    return text[: at + 1] + text[at:]


def _swap(text: str, random: Random) -> str:
    at = random.randrange(len(text))
    return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]


def _insert(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(_ODD) + text[at:]


def _replace(text: str, random: Random) -> str:
    at = random.randrange(len(text))
    return text[:at] + random.choice(_ODD) + text[at + 1 :]


def _truncate(text: str, random: Random) -> str:
    return text[: random.randrange(len(text))]


def _digits(text: str, random: Random) -> str:
    return "".join(str(random.randrange(10)) if char.isdigit() and random.random() < 0.5 else char for char in text)


def _shuffle_segments(text: str, random: Random) -> str:
    segments = text.split(",")
    random.shuffle(segments)
    return ",".join(segments)


def _double_segment(text: str, random: Random) -> str:
    segments = text.split(", ")
    segments.insert(random.randrange(len(segments) + 1), random.choice(segments))
    return random.choice((", ", " | ", ",", "\n", ") (")).join(segments)


def _empty_value(text: str, random: Random) -> str:
    label, colon, rest = text.rpartition(": ")
    return label + colon + rest[rest.find(",") :] if colon and "," in rest else label + colon


def _huge_number(text: str, random: Random) -> str:
    place = next((at for at, char in enumerate(text) if char.isdigit() and random.random() < 0.3), None)
    return text if place is None else text[:place] + "9" * random.choice((19, 40, 400, 5000)) + text[place:]


_DAMAGE: tuple[Callable[[str, Random], str], ...] = (
    _delete, _double, _swap, _insert, _insert, _replace, _truncate, _digits,
    _shuffle_segments, _double_segment, _empty_value, _huge_number,
)  # fmt: skip


def damaged(text: str, random: Random) -> str:
    """The text after up to three accidents."""
    for _ in range(random.randint(0, 3)):
        if text:
            text = random.choice(_DAMAGE)(text, random)
    return text


def seeds() -> st.SearchStrategy[Random]:
    """A source of damage and of values that Hypothesis can replay."""
    return st.integers(0, 2**32 - 1).map(Random)


def captured() -> pl.DataFrame:
    """Records of the library's own targets in all captures at hand: `stem`, `message`."""
    found = []
    for one in discover([str(folder) for folder in CAPTURES if folder.is_dir()]):
        if one.name.endswith((".log", ".log.zst", ".log.gz")):
            for _, frame in records.split(lines.read(one, Tally())):
                message = without_suffix(frame["message"])["message"]
                stems = [None if target is None else stem(target) for target in frame["target"]]
                found.append(pl.DataFrame({"stem": pl.Series(stems, dtype=pl.String), "message": message}).drop_nulls())
    return pl.concat(found)


def shapes(messages: pl.DataFrame) -> pl.DataFrame:
    """One record per shape: digits and ids masked."""
    masked = (
        pl.col("message")
        .str.replace_all("[0-9A-Za-z_+/=-]*[0-9][0-9A-Za-z_+/=-]*", "0")
        .str.replace_all("0[.:0]*", "0")
    )
    return messages.with_columns(shape=masked).unique(["stem", "shape"], keep="first", maintain_order=True)


def differences(target: str, messages: Iterable[str], reference: Callable[[str, str], Parsed | None]) -> list[str]:
    """Messages that plan and reference read differently, with both readings; for one batch of one target."""
    batch = bare(messages)
    return [
        f"{target}: {message!r}\n      plan: {plan}\n reference: {told}"
        for message, plan in zip(batch, read_by_plan(target, batch), strict=True)
        if plan != (told := reference(target, message))
    ]
