"""The documents say what is so: commands run, names exist, figures are those measured, examples work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import analyzer
from analyzer import errors
from analyzer.catalogue import TABLES
from analyzer.cli import EXIT_CODES, app
from analyzer.dialects import dialect_names
from analyzer.grammar import wraps
from analyzer.grammar.laws import LAWS
from analyzer.grammar.lower import lower
from analyzer.grammar.regex import message_regex
from analyzer.grammar.source import parse
from analyzer.grammar.text import text_of
from analyzer.pipeline import ingest
from analyzer.reductions import relay_legs
from analyzer.reductions.leg_measurements import CHECK, ESTIMATORS
from analyzer.tables.declare import Metric
from analyzer.views import text
from tests import bench, truth
from tests.datasets import CAPTURED
from tests.truth import ROOT, Capture

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "DESIGN.md", "CHANGELOG.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: a figure of the README may be this far from the measured one
ROUNDED_MS = 0.051


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


def tabulated(heading: str) -> list[list[str]]:
    """Rows of the README's table whose head begins with `heading`."""
    lines = README.split(f"\n| {heading} |", 1)[1].splitlines()[2:]
    rows = lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


def run(command: str, cwd: Path) -> str:
    words = shlex.split(command.replace("fixtures/", f"{ROOT}/fixtures/"))
    assert words[0].endswith("analyzer")
    spread = [[str(path) for path in sorted(Path("/").glob(word[1:]))] if "*" in word else [word] for word in words]
    arguments = [sys.executable, "-m", *(word for group in spread for word in group)]
    arguments[2] = "analyzer"
    return subprocess.run(arguments, cwd=cwd, capture_output=True, check=True, encoding="utf-8").stdout


def test_the_first_command_prints_the_conversation_shown(tmp_path: Path) -> None:
    first = blocks(README, "sh")[0].strip()
    assert "\n" not in first
    create, install, ingest, summarize = first.split(" && ")
    assert (create, install) == ("python3 -m venv .venv", ".venv/bin/pip install -q .")
    run(ingest, tmp_path)
    assert run(summarize, tmp_path) == blocks(README, "text")[0]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    document = (ROOT / name).read_text(encoding="utf-8")
    lines = "\n".join(blocks(document, "sh")) + "\n" + "\n".join(re.findall(r"`(analyzer [^`]+)`", document))
    named = re.findall(r"(?:^|/|&& )analyzer ([a-z]+)([^&\n#]*)", lines, re.MULTILINE)
    assert named or name == "DESIGN.md"
    for command, rest in named:
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0, command
        assert all(option in shown.output for option in re.findall("--[a-z]+", rest)), (command, rest)
    for module in re.findall(r"python -m (tests\.[a-z_]+(?:\.[a-z_]+)*)", document):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", document):
        assert (ROOT / target).exists(), target


def test_readme_names_every_table_and_no_other() -> None:
    assert [row[0] for row in tabulated("table")] == list(TABLES)


def test_readme_names_every_dialect_and_wrap() -> None:
    assert {row[0] for row in tabulated("dialect")} == set(dialect_names())
    assert all(f"`{wrap.name}`" in README for wrap in wraps())


def test_readme_names_every_method_of_a_leg() -> None:
    named = {row[0] for row in tabulated("method")}
    assert named == {estimator.method for estimator in (*ESTIMATORS, CHECK)} | set(relay_legs.METHODS.values()) | {
        "difference",
        "sum",
        "reported",
        "backend_connect",
    }


def test_readme_tells_the_exit_codes() -> None:
    told = README.split("Exit codes: ")[1].split(".\n")[0]
    assert " ".join(told.split()) == " ".join(EXIT_CODES.removeprefix("Exit codes: ").rstrip(".").split())
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.AnalyzerError)}
    assert codes <= {int(code) for code in re.findall("[0-9]+", told)}


def test_figures_are_those_measured(rebuilt: Callable[[Path], Capture]) -> None:
    shipped = [rebuilt(folder) for folder in truth.folders() if CAPTURED in folder.parents]
    legs = truth.summary([error for capture in shipped for error in truth.leg_errors(capture)])
    methods = truth.summary([error for capture in shipped for error in truth.estimate_errors(capture)], by=2)
    told = {row[0]: row[-3:] for row in tabulated("method")} | {row[0]: row[1:4] for row in tabulated("leg")}
    for name, (number, median, p90, _) in (legs | methods).items():
        assert told[name][0] == str(number), name
        for said, measured in zip(told[name][1:], (median, p90), strict=True):
            assert not said or abs(float(said.removesuffix(" ms")) - measured) < ROUNDED_MS, (name, said, measured)


def test_the_notebook_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = (CAPTURED / "2.2.9/D-relay-client").glob("*.log")
    ingest([str(log) for log in logs], tmp_path / "metrics")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(README, "python"):
        exec(block, scope)  # noqa: S102 - the project's own document
    assert isinstance(scope["metrics"], analyzer.Dataset)
    assert len(scope["slow"]) == 1


def test_the_example_of_a_log_line_is_lawful() -> None:
    example = blocks(CONTRIBUTING, "lark")[0].replace("metrics_attached\n        | ", "")
    read = parse("x", example)
    kinds = lower(read, "x")
    assert [kind.name for kind in kinds] == ["relay_probed"]
    assert not [violation for law in LAWS for violation in law(read, kinds)]
    assert pl.Series(kinds[0].samples).str.contains(message_regex(kinds[0].sequence).text).all()
    assert kinds[0].samples[0] in CONTRIBUTING.split("```lark")[0]


def test_the_example_of_a_dialect_reads_its_sample() -> None:
    record, rule = blocks(CONTRIBUTING, "lark")[1].split("\n", 1)
    kinds = lower(
        parse("prefix", re.sub(r"^\?record: .*", record, text_of("prefix"), flags=re.MULTILINE) + rule),
        "prefix",
        start="record",
    )
    taking = [kind.name for kind in kinds if re.search(message_regex(kind.sequence).text, kinds[-1].samples[0])]
    assert taking == ["level_last"]


def test_the_examples_of_a_metric_and_a_view_are_code() -> None:
    metric, view = blocks(CONTRIBUTING, "python")
    (made,) = eval(f"[{metric}]", {"pl": pl, "Metric": Metric})  # noqa: S307 - the project's own document
    assert isinstance(made, Metric)
    names = compile(view, "view", "exec").co_names
    assert {"gather", "render"} <= set(names)
    assert all(hasattr(text, name) for name in ("shown", "number", "grid", "write", "Paint", "plain"))


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_house_is_as_drawn() -> None:
    design = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    drawn = design.split("    analyzer/\n")[1].split("    grammars/")[0]
    names = set(re.findall(r"^ {6}([a-z_./]+)", drawn, re.MULTILINE))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "analyzer").iterdir()}
    assert {name for name in there if not name.startswith(("_", ".", "py.typed"))} == names
    assert len(design.splitlines()) < 200


def test_the_readme_counts_beginnings_of_messages() -> None:
    every, of_events = (len(bench.literals(events_only=only)) for only in (False, True))
    said = " ".join(README.split())
    assert f"all {every:,} beginnings of messages" in said
    assert f"for the {of_events} among them that begin events" in said
