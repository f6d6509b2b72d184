"""Nothing of a log acts where it is shown, nothing of it names a file: every command on a log of hostile texts."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import analyzer
from analyzer.cli import main
from analyzer.pipeline import ingest
from analyzer.views import text
from analyzer.views.text import shown

#: colours, a link, a title, 8-bit controls, bidi, zero width, line ends of others, NUL, tags; HTML, a formula, a path
EVIL = (
    "\x1b[31m\x1b]8;;http://x.example/\x07link\x1b]8;;\x07\x1b]0;title\x1b\\\x9b2J\x90q\x08\x7f\x85\u2028\u2029\0"
    "\u202eevil\u2066\u200b\u200f\ufeff\U000e0041\ue000</script><img/src=x>=cmd|'/C calc'!A1+1@../../..%2f"
)
#: the same without what ends a value
WORD = re.sub(r"[ ,()|\"'\r\n]", "", EVIL)
LIBRARY = "keeper_pam_webrtc_rs"
IDS = ("..", ".", "", "a" * 4096, "../../etc/passwd", "/etc/passwd", "=1+1", "-rf", "%00", WORD, EVIL, "</script>")
MESSAGES = [
    ("tube", "ICE gathering started (tube_id: abc-123)"),
    ("tube", "Data channel 'conv-456' opened (tube_id: abc-123)"),
    ("tube", "Connection state changed (tube_id: abc-123, state: Connected)"),
    (
        "webrtc_core",
        f"ICE candidate gathered (tube_id: abc-123, candidate: candidate:1 1 udp 1 10.0.0.1 1 typ {WORD} x)",
    ),
    (
        "webrtc_core",
        f"ICE candidate gathered (tube_id: abc-123, candidate: candidate:{WORD} 1 udp 1 a{WORD} 1 typ host)",
    ),
    ("tube_registry", f"Successfully fetched TURN credentials (tube_id: abc-123, server: a{WORD}, duration: 1.5ms)"),
    ("tube", f"nothing known {EVIL} of it"),
    ("tube", EVIL),
    (EVIL, f"from a logger of that name {EVIL}"),
    ("../../../../etc/passwd", "from a logger of that name"),
    ("channel.core", f"Channel '{EVIL}' closing (tube_id: abc-123, reason: {EVIL})"),
    *(("tube", f"ICE gathering started (tube_id: x{one})") for one in IDS),
    *(("tube", f"ICE gathering started (tube_id: t-{n}, conversation_id: {one})") for n, one in enumerate(IDS)),
]
#: our own, on terminals only
PAINT = re.compile("\x1b\\[(?:[0-9]*)m")
ACTS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def acting(shown: str) -> set[str]:
    """Signs of a text that act on a terminal, or hide."""
    return {sign for sign in shown if sign != "\n" and unicodedata.category(sign) in ACTS}


def rows() -> Iterator[str]:
    stamp = "2026-11-22 13:19:35,251"
    for level in ("DEBUG", EVIL):
        for target, message in MESSAGES:
            yield json.dumps({"time": stamp, "level": level, "name": f"{LIBRARY}.{target}", "message": message})
    yield json.dumps({"time": EVIL, "level": "DEBUG", "name": EVIL, "message": EVIL})
    yield f"no record {EVIL}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hostile logs under a hostile name, and the dataset `metrics` made of them."""
    folder = tmp_path_factory.mktemp("home")
    name = "=\x1b[31m\u202e\n</script>.log".replace("/", "\u2215")
    (folder / name).write_text("\n".join(rows()) + "\n", encoding="utf-8")
    raw = [f"2026-11-22 13:19:35,251 DEBUG {LIBRARY}.{target}: {message}" for target, message in MESSAGES]
    (folder / "std.log").write_bytes("\n".join(raw).encode() + b"\xff\xfe\x9b\n")
    ingest([str(folder / name), str(folder / "std.log")], folder / "metrics")
    return folder


@pytest.fixture
def said(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in that folder: what it writes to both streams."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["analyzer", *arguments])
        with suppress(SystemExit):
            main()
        written = capsys.readouterr()
        return written.out + written.err

    return run


def test_letters_that_show_nothing_are_shown() -> None:
    assert shown("a\u3164b\u115f\ufe0fc\u200b") == r"a\u3164b\u115f\ufe0fc\u200b"


def _logs(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("*.log"))


def test_the_texts_came_through(home: Path) -> None:
    dataset = analyzer.open(home / "metrics")
    assert any(acting(name) for name in dataset.sources.collect()["name"])
    # a level is a word, and a logger a name
    assert not any(acting(str(one)) for one in dataset.events.collect()["level"])
    assert not any(acting(str(one)) for one in dataset.coverage.collect()["target"])
    assert any(acting(str(one)) for one in dataset.events.collect()["candidate"])


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("command", ["ingest", "summarize", "drift", "coverage"])
def test_commands_show_signs_that_only_show(said: Any, home: Path, command: str, json_: bool) -> None:
    arguments = [*_logs(home), "--out", f"again-{json_}"] if command == "ingest" else []
    shown = said(command, *arguments, *(["--json"] if json_ else []))
    assert shown
    assert not acting(shown)
    if json_:
        assert shown.isascii()
        assert json.loads(shown)


def test_each_conversation_is_shown_so(said: Any, home: Path) -> None:
    ids = analyzer.open(home / "metrics").conversations.collect()["conversation_id"].to_list()
    assert len(ids) > 3
    for one in ids:
        shown = said("summarize", one)
        assert not acting(shown)
        assert json.loads(said("summarize", one, "--json"))


def test_each_line_is_explained_so(said: Any, home: Path) -> None:
    for name in _logs(home):
        for line in range(1, (home / name).read_bytes().count(b"\n") + 2):
            assert not acting(said("explain", f"{name}:{line}"))


@pytest.mark.parametrize("arguments", [
    ("summarize", WORD.replace("\0", "")), ("summarize", "--data", f"{WORD}"), ("explain", f"{WORD}.log:1"),
    ("explain", f"{WORD}.log:x"), ("explain", "std.log:9999"), ("ingest", WORD),
    ("ingest", "std.log", "--dialect", WORD),
    ("ingest", "std.log", "--timezone", f"{WORD}=UTC"), ("ingest", "std.log", "--timezone", WORD), ("tables", WORD),
    ("events", WORD), ("ingest", "*.log", "--timezone", "nothing=UTC"),
], ids=lambda one: one[0])  # fmt: skip
def test_errors_show_signs_that_only_show(said: Any, arguments: tuple[str, ...]) -> None:
    shown = said(*(one.replace("\0", "") for one in arguments))
    assert shown.startswith("analyzer: ")
    assert not acting(shown)


def test_on_a_terminal_only_our_own_colours_are_added(said: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "paint_for", lambda stream: text.ansi)
    shown = "".join(
        said(*command) for command in (("coverage",), ("summarize",), ("summarize", "conv-456"), ("drift",))
    )
    assert PAINT.search(shown)
    assert not acting(PAINT.sub("", shown))


def test_no_file_is_named_by_a_log(home: Path) -> None:
    names = {path.relative_to(home / "metrics").as_posix() for path in (home / "metrics").rglob("*") if path.is_file()}
    own = re.compile(
        r"[a-z_]+/(?:part-[0-9]+|none|[0-9a-f]{16}-[0-9]{5}-[0-9a-f]{12}|shared-[0-9a-f]{16})\.parquet|_analyzer/(?:[a-z.]+|part-0\.state)"
    )
    assert not {name for name in names if not own.fullmatch(name)}
    assert {path.name for path in home.iterdir()} <= {*_logs(home), "metrics", "again-True", "again-False"}
