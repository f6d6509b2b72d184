"""The house keeps its order: who may import whom, who touches the disk, how large a file gets, what is not said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.truth import ROOT

MODULES = sorted((ROOT / "analyzer").rglob("*.py"))
CEILING = 400
#: what each part of the house may import; the order is that of the flow
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "addresses": set(),
    "refusals": set(),
    "inputs": {"errors", "refusals"},
    "archives": set(),
    "tally": {"refusals"},
    "lines": {"archives", "inputs", "tally"},
    "grammar": {"errors"},
    "tracing": set(),
    "headers": {"grammar"},
    "dialects": {"errors", "grammar", "headers", "tracing"},
    "records": {"dialects", "grammar", "refusals", "tracing"},
    "events": {"addresses", "errors", "grammar"},
    "tables": {"addresses", "errors"},
    "accounting": {"events", "grammar", "refusals", "tables"},
    "reductions": {"addresses", "events", "grammar", "tables"},
    "sources": {"accounting", "dialects", "inputs", "lines", "refusals", "tables", "tally"},
    "admission": {"accounting", "errors", "refusals", "sources", "tables", "tally"},
    "catalogue": {"accounting", "events", "grammar", "reductions", "tables"},
    "parts": {"catalogue", "errors", "events", "tables"},
    "stored": {"addresses", "catalogue", "events", "parts", "reductions", "refusals", "tables"},
    "pipeline": {
        "accounting",
        "addresses",
        "admission",
        "catalogue",
        "dialects",
        "errors",
        "events",
        "inputs",
        "lines",
        "parts",
        "records",
        "reductions",
        "sources",
        "stored",
        "tables",
    },
    "follow": {"errors", "inputs", "pipeline"},
    "api": {"catalogue", "errors", "events", "tables", "views"},
    "explain": {"addresses", "dialects", "errors", "events", "grammar", "inputs", "lines", "tally", "records", "views"},
    "redact": {
        "accounting",
        "addresses",
        "archives",
        "dialects",
        "errors",
        "events",
        "grammar",
        "inputs",
        "lines",
        "records",
        "reductions",
        "refusals",
        "tables",
        "tally",
        "tracing",
    },
    "views": {
        "accounting",
        "addresses",
        "api",
        "catalogue",
        "errors",
        "events",
        "grammar",
        "inputs",
        "lines",
        "pipeline",
        "redact",
        "reductions",
        "refusals",
        "tables",
    },
    "cli": {"api", "errors", "explain", "follow", "inputs", "pipeline", "redact", "views"},
    "__main__": {"cli"},
    "__init__": {"api", "errors", "pipeline"},
}
#: libraries that one place alone knows
HOME = {"lark": "grammar", "typer": "cli", "pyarrow.parquet": "tables", "fcntl": "tables", "shutil": "tables"}
DISK = re.compile(
    r"(?:open|fdopen|read_bytes|read_text|write_bytes|write_text|unlink|mkdir|rmdir|rmtree|walk"
    r"|(?:read|scan|write|sink)_(?:parquet|csv|ndjson|ipc))"
)
#: who may touch the disk; the API and the reductions' source read Parquet where the dataset says it lies
TOUCHES_DISK = {
    "inputs.py",
    "lines.py",
    "redact/copies.py",
    "tables/address_policy.py",
    "tables/dataset.py",
    "tables/durable.py",
    "tables/publish.py",
    "tables/slices.py",
    "tables/small.py",
    "tables/words.py",
    "grammar/text.py",
    "reductions/unchanged.py",
    "api.py",
    "stored.py",
}
UNSAID = re.compile(
    r"(?<![\w.~/])/(?:work|home|root|tmp|Users|opt)/|\.\./shared"
    r"|\b(?:issue|ticket|PR) ?#?[0-9]+|sub-?agent|chat ?bot|language model",
    re.IGNORECASE,
)


def part(path: Path) -> str:
    return path.relative_to(ROOT / "analyzer").parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return path.relative_to(ROOT / "analyzer").as_posix()


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_stages_import_earlier_stages_only(path: Path) -> None:
    ours = {f"{found}.".split(".")[1] for found in imported(path) if found.split(".")[0] == "analyzer"}
    assert ours - {part(path)} <= MAY_IMPORT[part(path)]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_libraries_have_a_home(path: Path) -> None:
    for found in imported(path):
        for library, home in HOME.items():
            assert not f"{found}.".startswith(f"{library}.") or part(path) == home, found


def test_the_api_needs_one_view_and_no_cycle() -> None:
    assert {found for found in imported(ROOT / "analyzer/api.py") if ".views." in found} == {
        "analyzer.views.live_stats.live_stats"
    }
    assert not [found for found in imported(ROOT / "analyzer/views/live_stats.py") if found.startswith("analyzer.")]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_few_modules_touch_the_disk(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    called = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    if part(path) != "cli":  # its `open` is the API's
        assert name(path) in TOUCHES_DISK or not [one for one in called if DISK.fullmatch(one)]


@pytest.mark.parametrize("folder", ["analyzer", "tests"])
def test_files_stay_small_and_have_names(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= CEILING, path
        assert not re.search("util|helper|common|misc", path.stem), path


def written() -> list[Path]:
    """Everything people wrote: not the captures, which are what a program wrote."""
    folders = [
        path for folder in ("analyzer", "grammars", "tests", "docs", ".ci") for path in (ROOT / folder).rglob("*")
    ]
    found = [path for path in (*folders, *ROOT.glob("*.md"), ROOT / "pyproject.toml") if path.is_file()]
    kept = {".py", ".lark", ".md", ".toml", ".txt", ""}
    return [path for path in found if path.suffix in kept and not {"__pycache__", ".ruff_cache"} & set(path.parts)]


def test_the_project_speaks_of_itself_alone() -> None:
    said = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in written()
        if path != Path(__file__)
        for found in UNSAID.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not said


def test_every_exception_has_its_reason() -> None:
    bare = re.compile(r"# (?:noqa(?!: [A-Z]+[0-9]+ - \S)|type: ignore(?!\[[a-z, -]+\] # \S))")
    for path in written():
        if path.suffix == ".py" and path != Path(__file__):
            assert not bare.search(path.read_text(encoding="utf-8")), path
