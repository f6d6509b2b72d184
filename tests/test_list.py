"""The list of conversations, narrowed: by outcome, time, log and number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.pipeline import ingest
from tests.strategies import ROOT

CAPTURED = ROOT / "fixtures" / "captured" / "2.2.9"
CLOSED, LOST, NEVER = "D-relay-client", "K-peer-killed", "E-bad-turn-password"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analyzer", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("list") / "metrics"
    logs = [
        str(log) for name in (CLOSED, LOST, NEVER) for log in sorted((CAPTURED / name).iterdir()) if ".log" in log.name
    ]
    ingest(logs, out)
    return out


def listed(dataset: Path, *options: str) -> list[dict[str, object]]:
    done = run("summarize", "--data", str(dataset), "--json", *options)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["conversations"])


def outcomes(dataset: Path, *options: str) -> list[object]:
    return [row["outcome"] for row in listed(dataset, *options)]


def test_by_outcome(dataset: Path) -> None:
    assert outcomes(dataset) == ["connected_lost", "never_connected", "connected_closed"]
    assert outcomes(dataset, "--outcome", "connected_lost") == ["connected_lost"]
    both = outcomes(dataset, "--outcome", "connected_lost", "--outcome", "never_connected")
    assert both == ["connected_lost", "never_connected"]


def test_by_number(dataset: Path) -> None:
    assert outcomes(dataset, "--limit", "1") == ["connected_lost"]
    shown = run("summarize", "--data", str(dataset), "--limit", "1").stdout
    assert f"the first 1 of 3 conversations in {dataset}; times in UTC of 2026" in shown


def test_by_time(dataset: Path) -> None:
    # began at 13:19:35 and went on for 19.9 s
    assert outcomes(dataset, "--until", "2026-11-22T13:19:36") == ["connected_closed"]
    assert outcomes(dataset, "--until", "2026-11-22T14:19:36+01:00") == ["connected_closed"]
    assert outcomes(dataset, "--since", "2026-11-22T13:19:50", "--until", "2026-11-22T13:20") == ["connected_closed"]
    assert "connected_closed" not in outcomes(dataset, "--since", "2026-11-22T13:20")
    assert outcomes(dataset, "--since", "2026-11-23") == []
    nothing = run("summarize", "--data", str(dataset), "--since", "2026-11-23").stdout
    assert nothing == f"None of the 3 conversations in {dataset} is so.\n"


def test_by_log(dataset: Path) -> None:
    (row,) = [row for row in listed(dataset) if row["outcome"] == "connected_closed"]
    told = row["sources"]
    assert isinstance(told, list)
    assert len(told) == 2
    assert [one["outcome"] for one in listed(dataset, "--source", str(told[0]))] == ["connected_closed"]
    assert len(listed(dataset, "--source", "*client.log*")) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--outcome", "lost"), "there is no outcome lost: they are failed, connected_lost"),
        (("--since", "yesterday"), "yesterday is no time: write it such as 2026-11-22"),
        (("--source", "other.log"), "no source is called other.log: there are "),
        (("udIgwg", "--limit", "2"), "udIgwg is one conversation: "),
        (("--josn",), "there is no option --josn, nor a conversation: see --help"),
    ],
)
def test_what_there_is_not_is_said(options: tuple[str, ...], said: str, dataset: Path) -> None:
    done = run("summarize", "--data", str(dataset), *options)
    assert done.returncode == 2
    assert said in done.stderr
