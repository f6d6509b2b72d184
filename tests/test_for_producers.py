"""What the library's developers are told to write is what the format strings give, is read, and gives the number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from analyzer.catalogue import TABLES
from analyzer.pipeline import ingest
from tests.truth import ROOT

DOCUMENT = (ROOT / "docs" / "for-producers.md").read_text(encoding="utf-8")
#: what `{}`, `{:?}` and `{:.1}` print of the values in question
PRINTS = {"{}": r"\S.*", "{:?}": r"\S.*", "{:.1}": r"[0-9]+\.[0-9]"}


@dataclass(frozen=True, slots=True)
class Wish:
    """One proposed line: its macro, a sample log, and the columns that it fills."""

    title: str
    level: str
    form: str
    log: str
    gives: list[tuple[str, str, str]]


def wishes() -> list[Wish]:
    found = []
    for section in DOCUMENT.split("\n## ")[1:]:
        macros = re.findall(r"```rust\n(\w+)!\(\"(.*)\", .*\);\n```", section)
        logs = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
        gives = re.findall(r"^- `(\w+)\.(\w+)` = `(.+)`$", section, re.MULTILINE)
        assert len(macros) == len(logs) <= 1, section
        assert bool(macros) == bool(gives), section
        title = section.splitlines()[0]
        found += [Wish(title, level, form, log, gives) for (level, form), log in zip(macros, logs, strict=True)]
    return found


every_wish = pytest.mark.parametrize("wish", wishes(), ids=lambda wish: wish.title)


def test_there_are_wishes() -> None:
    assert len(wishes()) == DOCUMENT.count("```rust") > 5
    assert len(set(re.findall(r"^Not today: ", DOCUMENT, re.MULTILINE))) == 1
    assert DOCUMENT.count("\nNot today: ") == len(wishes())


@every_wish
def test_a_sample_is_what_the_macro_writes(wish: Wish) -> None:
    pieces = re.split(r"(\{[^}]*\})", wish.form)
    pattern = "".join(PRINTS[piece] if piece.startswith("{") else re.escape(piece) for piece in pieces)
    *_, said = wish.log.splitlines()
    assert re.search(rf"(?:^|,[0-9]+ ){wish.level.upper()} keeper_pam_webrtc_rs\.\S+: {pattern}$", said)


@every_wish
def test_a_sample_gives_the_number(wish: Wish, tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text(wish.log, encoding="utf-8")
    sources = ingest([str(tmp_path / "app.log")], tmp_path / "metrics").sources
    assert sources["events"].to_list() == sources["records"].to_list() == [len(wish.log.splitlines())]
    for table, column, value in wish.gives:
        assert column in TABLES[table].schema
        rows = pl.read_parquet(tmp_path / "metrics" / table)
        assert [str(one) for one in rows.select(column).to_series().to_list()] == [value], f"{table}.{column}"


def test_a_document_says_no_more_than_is_read() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(TABLES)})\.\w+)`", DOCUMENT))
    assert {name for name in named if name.split(".")[1] not in TABLES[name.split(".")[0]].schema} == set()
