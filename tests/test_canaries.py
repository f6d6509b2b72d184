"""No secret of a log comes out: of the dataset, of any command, of an error, or of a redacted copy."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner

import analyzer
from analyzer.cli import app
from analyzer.explain import explain
from analyzer.explain import render as explained
from analyzer.pipeline import ingest
from tests import canaries


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the planted `logs` and the dataset `out` of all of them."""
    folder = tmp_path_factory.mktemp("canaries")
    canaries.plant(folder / "logs")
    ingest([str(folder / "logs")], folder / "out")
    return folder


def leaks(folder: Path) -> list[str]:
    """What of any canary is in the files below a folder, names included."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return [
        f"{path.name}: {leak}"
        for path in files
        for text in (str(path.relative_to(folder)), *canaries.spelled(path))
        for leak in canaries.found(text)
    ]


def test_a_canary_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    for mark in (*canaries.MARKS, *canaries.WORDS):
        for text in canaries.codings(mark):
            assert canaries.found(f"before {text} after"), text
    # the logs hold them, the damaged and the compressed ones, too
    assert all(any(map(canaries.found, canaries.spelled(path))) for path in canaries.plant(tmp_path / "logs")
               if "utf16" not in path.name and "cut" not in path.name)  # fmt: skip


def test_every_layout_is_read_and_every_place_is_met(home: Path) -> None:
    sources = analyzer.open(home / "out").sources.collect()
    layouts = {name.split("/")[-1] for name in sources["dialect"]} | {name.split("/")[0] for name in sources["dialect"]}
    assert set(canaries.layouts()) - layouts == set()
    std = sources.filter(name="std.log").row(0, named=True)
    assert min(std[fate] for fate in ("events", "noise", "unmatched", "rejected")) > 0
    # the same is read of every layout; the relay's own have no logger, and one text of `tracing` holds no field
    counted = sources.filter(sources["lines"] == std["lines"]).select("records", "rejected").unique()
    assert counted.rows() == [(std["records"], std["rejected"])]


def test_the_dataset_holds_no_secret(home: Path) -> None:
    assert leaks(home / "out") == []


@pytest.mark.parametrize(
    "command",
    [
        ["summarize"],
        ["summarize", "--json"],
        ["summarize", "conv-456"],
        ["summarize", "conv-456", "--json"],
        ["drift"],
        ["drift", "--json"],
        ["coverage"],
        ["coverage", "--json"],
    ],
    ids=" ".join,
)
def test_no_command_prints_a_secret(home: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--data", str(home / "out")])
    assert done.exit_code == 0, done.output
    assert len(done.output) > 50
    assert canaries.found(done.output) == []


def test_ingest_prints_no_secret(home: Path, tmp_path: Path) -> None:
    for option in ([], ["--json"]):
        done = CliRunner().invoke(app, ["ingest", str(home / "logs"), "--out", str(tmp_path / "out"), *option])
        assert done.exit_code == 0, done.output
        assert "no-dialect.log" in done.output
        assert canaries.found(done.output) == []


def test_no_explanation_shows_a_secret(home: Path) -> None:
    for layout, step in (("std", 11), ("tracing", 31), ("coturn", 37), ("json-headers", 1)):
        path = home / "logs" / f"{layout}.log"
        count = len(path.read_bytes().split(b"\n")) - 1
        told = [explained(explain(path, line)) for line in range(1, count + 1, step)]
        assert len(told) >= 20
        assert [leak for text in told for leak in canaries.found(text)] == []


def test_an_error_tells_no_secret(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails while records are in hand: the message of our errors, and the traceback of others."""

    def fails(*_: object) -> object:
        raise MemoryError("out of it")

    monkeypatch.setattr("analyzer.pipeline.extract", fails)
    done = CliRunner().invoke(app, ["ingest", str(home / "logs"), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, MemoryError)
    trace = "".join(traceback.format_exception(done.exception))
    assert "out of it" in trace
    assert canaries.found(done.output + trace) == []
    # a run that failed leaves nothing behind that holds one
    assert [
        path for path in tmp_path.rglob("*") if path.is_file() and any(map(canaries.found, canaries.spelled(path)))
    ] == []
