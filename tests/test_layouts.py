"""A log that goes on in another layout, as a new release or another handler writes it: it is told that it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from analyzer.cli import app
from analyzer.pipeline import ingest
from tests.datasets import CAPTURED

STD = (CAPTURED / "2.2.9/D-relay-client/gateway.log").read_text().splitlines(keepends=True)
BORDER = 200
_HEADER = re.compile(r"^(2026-11-22) (\S+),(\d{3}) ([A-Z]+) ([\w.]+): ")
#: headers of layouts with a time and a logger, from the parts of one of `std`
LAYOUTS: dict[str, Callable[[str, str, str, str, str], str]] = {
    "dash": lambda day, time, ms, level, logger: f"{day} {time},{ms} - {logger} - {level} - ",
    "commander_file": lambda day, time, ms, level, logger: f"{day} {time},{ms} - {level} - {logger} - ",
    "commander_service": lambda day, time, ms, level, logger: f"{day} {time} [{level}] {logger} - ",
    "bracket_iso": lambda day, time, ms, level, logger: f"[{day}T{time}.{ms}+00:00] [{level}] [{logger}] ",
    "tracing": lambda day, time, ms, level, logger: f"{day}T{time}.{ms}000Z {level:>5} {logger.replace('.', '::')}: ",
}


def in_layout(lines: list[str], name: str) -> list[str]:
    return [_HEADER.sub(lambda found: LAYOUTS[name](*found.groups()), line) for line in lines]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("grown", [False, True])
def test_lines_of_another_layout_are_told(name: str, grown: bool, tmp_path: Path) -> None:
    log, out = tmp_path / "gateway.log", tmp_path / "out"
    others = in_layout(STD[BORDER:], name)
    for lines in ([*STD[:BORDER], *others[:5]], [*STD[:BORDER], *others])[0 if grown else 1 :]:
        log.write_text("".join(lines))
        ingest([str(log)], out)
    begun = sum(1 for line in others if not _HEADER.match(line) and line[:1] in "2[")
    told = pl.read_parquet(out / "refusals").filter(reason="other_layout")
    assert int((told["last_line"] - told["line"] + 1).sum()) == begun
    first = told.row(0, named=True)
    assert (first["line"], first["lines"], first["records"]) == (BORDER + 1, 0, 0)
    source = pl.read_parquet(out / "sources").row(0, named=True)
    assert source["records"] == source["events"] + source["noise"] + source["unmatched"] + source["rejected"]
    assert "other_layout" in CliRunner().invoke(app, ["ingest", str(log), "--out", str(tmp_path / "new")]).output


def test_what_goes_on_with_a_message_is_not_told(tmp_path: Path) -> None:
    for name in ("2.2.9/D-relay-client", "2.2.9/N-deps-debug", "1.0.0/D-relay-client"):
        ingest([str(path) for path in (CAPTURED / name).glob("*.log*")], tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "refusals").filter(reason="other_layout").is_empty()
