"""The command: exit codes, what goes to which stream, and `--help` at once."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analyzer.cli import app, main
from tests.datasets import SEED_LINES, seed_dataset

COMMANDS = ("ingest", "summarize", "coverage", "drift", "tables", "events", "explain")
CPU_SECONDS = 0.15


def run(
    *arguments: str, cwd: Path, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analyzer", *arguments]
    done = subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, env={**os.environ, **(env or {})}, check=False
    )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "seed.log"
    path.write_text("\n".join(SEED_LINES) + "\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the seed's sample as the dataset `metrics`."""
    folder = tmp_path_factory.mktemp("home")
    seed_dataset(folder)
    return folder


def fails(
    arguments: Sequence[str],
    code: int,
    *words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run inside this process; the error is one line of standard error."""
    monkeypatch.setattr(sys, "argv", ["analyzer", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    assert left.value.code == code
    assert printed.out == ""
    assert re.fullmatch(r"analyzer: [^\n]+\n", printed.err)
    for word in words:
        assert word in printed.err


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"Example: analyzer {command}" in shown.output
    assert "..." not in CliRunner().invoke(app, ["--help"]).output.split("Commands:")[1]


def test_help_documents_the_exit_codes(home: Path) -> None:
    shown = run("--help", cwd=home)
    words = " ".join(shown.stdout.split())
    for told in ("0 done", "1 failed", "2 wrong usage", "4 unknown conversation", "65 not a dataset",
                 "66 nothing to read",
                 "70 broken grammar", "73 cannot write", "75 busy", "130 interrupted"):  # fmt: skip
        assert told in words


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_is_there_at_once(arguments: list[str], home: Path) -> None:
    heavy = "polars|pyarrow|lark|rich|pydantic|duckdb"
    code = (
        "import sys\nfrom analyzer.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=home, check=True
    )
    assert not set(shown.stderr.split()) & set(heavy.split("|"))
    best = min(_cpu_seconds(arguments, home) for _ in range(3))
    assert best < CPU_SECONDS * float(os.environ.get("ANALYZER_TEST_SLOWNESS", "1"))


def _cpu_seconds(arguments: Sequence[str], cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*arguments, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_importing_the_package_is_light() -> None:
    code = "import sys, analyzer; dir(analyzer); sys.exit(bool({'polars', 'lark', 'pyarrow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import analyzer; analyzer.open, analyzer.ingest, analyzer.Dataset, analyzer.AnalyzerError; analyzer.nothing"
    shown = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "module 'analyzer' has no attribute 'nothing'" in shown.stderr


def test_version(home: Path) -> None:
    assert re.fullmatch(r"analyzer \d+\.\d+\.\d+\S*\n", run("--version", cwd=home).stdout)


# -- ingest -----------------------------------------------------------------------------------------------------------


def test_ingest_prints_a_summary_and_no_progress_when_piped(log: Path) -> None:
    done = run("ingest", log.name, cwd=log.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 source, 5 lines, ")
    assert "Next: analyzer summarize\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert (log.parent / "metrics" / "ice_stats" / "part-0.parquet").exists()
    assert "nothing new" in run("ingest", log.name, cwd=log.parent).stdout


def test_ingest_as_json_and_from_standard_input(log: Path) -> None:
    done = run("ingest", "-", "--out", "other", "--json", cwd=log.parent, stdin=log.read_bytes())
    values = json.loads(done.stdout)
    assert values["changed"]
    assert values["totals"]["events"] == 5
    assert values["dialects"] == {"bare": 1}
    assert values["sources"][0]["dialect_votes"].startswith("bare 5")


def test_ingest_draws_its_progress_on_a_terminal(log: Path) -> None:
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "analyzer", "ingest", log.name]
    done = subprocess.run(command, cwd=log.parent, stdout=subprocess.PIPE, stderr=writer, check=True)
    os.close(writer)
    drawn = os.read(reader, 4096).decode()
    os.close(reader)
    assert "[##############################] 100%" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert b"\x1b" not in done.stdout


def test_ingest_reads_local_times_in_the_zone_named(tmp_path: Path) -> None:
    lines = [f"2026-07-01 12:00:0{place},000 {line.replace(': ', ': ', 1)}" for place, line in enumerate(SEED_LINES)]
    (tmp_path / "local.log").write_text("\n".join(lines) + "\n")
    done = run("ingest", "local.log", "--timezone", "Europe/Berlin", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["sources"][0]["first_ts"] == "2026-07-01T10:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nope.log"], 66, ["nope.log", "no such file"]),
        (["seed.log", "nope.log"], 66, ["nope.log"]),
        (["seed.log", "--timezone", "Europe/Berln"], 2, ["there is no time zone Europe/Berln", "IANA"]),
        (["seed.log", "--timezone", "../../etc/passwd"], 2, ["there is no time zone"]),
        (["seed.log", "--timezone", "UTC", "--timezone", "Europe/Berlin"], 2, ["UTC and Europe/Berlin", "LOG=ZONE"]),
        (["seed.log", "--timezone", "nope.log=UTC"], 2, ["no source is called nope.log", "seed.log"]),
        (["seed.log", "--timezone", "seed.log=Europe/Berln"], 2, ["there is no time zone Europe/Berln"]),
        (["seed.log", "--dialect", "nope"], 2, ["no dialect is called nope", "std"]),
        (["seed.log", "--dialect", "jsno"], 2, ["did you mean json?"]),
        (["seed.log", "--dialect", "docker-json/std"], 2, ["did you mean docker_json/std?"]),
        (["seed.log", "--out", "seed.log"], 73, ["is not a folder", "--out"]),
        (["seed.log", "--out", "seed.log/below"], 73, ["cannot be written"]),
    ],
)
def test_ingest_fails_before_it_writes(
    arguments: list[str],
    code: int,
    words: list[str],
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(log.parent)
    fails(["ingest", *arguments], code, *words, monkeypatch=monkeypatch, capsys=capsys)
    assert [path.name for path in log.parent.iterdir()] == ["seed.log"]


def test_an_ingest_that_reads_nothing_says_so_and_is_66(tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "broken.log.gz").write_bytes(b"\x1f\x8bnothing")
    (tmp_path / "binary.log").write_bytes(bytes(range(256)) * 10)
    for again in (False, True):
        done = run("ingest", ".", "--json", cwd=tmp_path)
        values = json.loads(done.stdout)
        assert (done.returncode, done.stderr.count("\n")) == (66, 1)
        assert done.stderr.startswith("analyzer: nothing could be read: none of the ")
        assert values["changed"] is not again
    # what was read before stays, and one log among them is enough
    (tmp_path / "seed.log").write_text("\n".join(SEED_LINES) + "\n")
    assert run("ingest", ".", cwd=tmp_path).returncode == 0
    done = run("ingest", "empty.log", cwd=tmp_path)
    assert (done.returncode, done.stderr.split(": ")[2]) == (66, "the one source has no record")
    assert run("summarize", "conv-456", cwd=tmp_path).returncode == 0


def test_a_dialect_that_fits_no_line_is_told(log: Path) -> None:
    done = run("ingest", log.name, "--dialect", "json", cwd=log.parent)
    assert done.returncode == 66
    assert "no line is in dialect json; 5 of them are in bare: leave out --dialect" in done.stdout
    told = run("explain", f"{log.name}:2", "--dialect", "json", cwd=log.parent)
    assert "no record begins here in dialect json; the lines of the file are in bare" in told.stdout


def test_the_same_bytes_by_another_name_are_told_by_both(log: Path) -> None:
    copy = log.with_name("copy.log")
    copy.write_bytes(log.read_bytes())
    run("ingest", log.name, cwd=log.parent)
    done = run("ingest", copy.name, cwd=log.parent)
    assert done.stdout.startswith("1 source: nothing new, metrics is as it was\n")
    assert "  copy.log  has the same bytes as seed.log: in the tables by that name\n" in done.stdout
    assert run("ingest", log.name, copy.name, cwd=log.parent).stdout.startswith("2 sources: nothing new")


# -- summarize --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["conv-456", "conv", "abc-123", "abc"])
def test_summarize_one(wanted: str, home: Path) -> None:
    done = run("summarize", wanted, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Conversation conv-456\n")
    assert "client ── ? ── KRelay ── ? ── gateway" in done.stdout


def test_summarize_in_ascii_where_the_terminal_knows_no_more(home: Path) -> None:
    done = run("summarize", "conv-456", cwd=home, env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    assert "client -- ? -- KRelay -- ? -- gateway" in done.stdout


def test_summarize_all(home: Path) -> None:
    shown = run("summarize", "--data", str(home / "metrics"), cwd=home.parent)
    assert re.search(r"^conv-456 +unknown +— +\? +relay->host +— +— +87\.3", shown.stdout, re.MULTILINE)
    values = json.loads(run("summarize", "--json", cwd=home).stdout)
    assert [row["end_to_end_latency_ms"] for row in values["conversations"]] == [87.3]
    assert json.loads(run("summarize", "conv-456", "--json", cwd=home).stdout)["ice_stats"][0]["tube_id"] == "abc-123"


def test_an_id_may_begin_with_a_hyphen(tmp_path: Path) -> None:
    for name in ("-abc_DefGhiJklMnoPqrSt", "--bc_DefGhiJklMnoPqrSt"):
        folder = tmp_path / name.strip("-")
        folder.mkdir()
        seed_dataset(folder, [line.replace("conv-456", name) for line in SEED_LINES])
        assert run("summarize", name, cwd=folder).stdout.startswith(f"Conversation {name}\n")
        assert run("summarize", "--json", name, cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["summarize", "conv-457"], 4, ["no conversation conv-457 in metrics", "conv-456"]),
        (["summarize", "\x1b[31mred"], 4, ["no conversation \\x1b[31mred"]),
        (["summarize", ""], 2, ["the ID is empty", "none at all for the list"]),
        (["summarize", "--data", "nowhere"], 65, ["nowhere holds no dataset", "analyzer ingest"]),
        (["tables", "ice_stat"], 2, ["there is no table ice_stat", "did you mean ice_stats"]),
        (["events", "gathering_complet"], 2, ["there is no event", "gathering_completed"]),
        (["explain", "nope.log:3"], 66, ["analyzer: nope.log: No such file"]),
        (["explain", ".:3"], 66, ["analyzer: .: Is a directory"]),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    code: int,
    words: list[str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    fails(arguments, code, *words, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["ingest"],
        ["ingest", "--nope"],
        ["explain", "app.log"],
        ["explain", "app.log:x"],
        ["explain", "app.log:0"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], home: Path) -> None:
    done = run(*arguments, cwd=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("analyzer: ") or "Error: " in done.stderr


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_tables_and_events(home: Path) -> None:
    assert run("tables", "ice_stats", cwd=home).stdout.startswith("ice_stats: One side's peer connection")
    assert "| `total_candidates` | `Int64` |" in run("tables", "ice_stats", "--markdown", cwd=home).stdout
    assert len(json.loads(run("tables", "--json", cwd=home).stdout)["tables"]) >= 10
    shown = run("events", "gathering_completed", cwd=home).stdout
    assert "> ICE gathering complete (tube_id: abc-123)" in shown
    assert (
        json.loads(run("events", "gathering_completed", "--json", cwd=home).stdout)["events"][0]["target"]
        == "keeper_pam_webrtc_rs.tube"
    )


def test_explain(log: Path) -> None:
    done = run("explain", f"{log}:4", cwd=log.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gathering_completed" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_device_is_one_line(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "analyzer", "tables"],
            cwd=home, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (run.returncode, run.stderr.count("\n")) == (73, 1)
    assert run.stderr.startswith("analyzer: cannot print: No space left")


def test_a_reader_that_leaves_is_no_error(home: Path) -> None:
    command = f"{sys.executable} -m analyzer events | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_an_interrupt_is_130(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("analyzer.api.open", interrupted)
    monkeypatch.setattr(sys, "argv", ["analyzer", "summarize"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
