"""Explanations of single lines: golden texts in `fixtures/near_misses.txt`, and that nothing secret or alive is shown.

`python -m tests.test_explain` writes the golden texts anew; read the difference.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError, UsageError
from analyzer.events.targets import logger
from analyzer.explain import explain, printable, render
from analyzer.grammar import shipped
from analyzer.grammar.pattern import EventKind
from tests.strategies import ROOT

GOLDEN = ROOT / "fixtures" / "near_misses.txt"
STAMP = "2026-11-22 13:19:35,251 DEBUG "
TUBE = "keeper_pam_webrtc_rs.tube"


def _cases() -> list[tuple[str, str, str]]:
    """Name, log and explanation of the last line of the log."""
    cases = []
    for block in GOLDEN.read_text(encoding="utf-8").split("\n== ")[1:]:
        name, _, rest = block.partition("\n")
        rows = rest.split("\n")
        log = [row.removeprefix("| ") for row in rows if row.startswith("| ")]
        told = [row for row in rows if not row.startswith("| ")]
        cases.append((name, "\n".join(log) + "\n", "\n".join(told).strip("\n") + "\n"))
    return cases


def _told(folder: Path, log: str) -> str:
    path = folder / "app.log"
    path.write_text(log, encoding="utf-8")
    # rules move in their files
    return re.sub(r"\.lark:[0-9]+", ".lark:N", render(explain(path, log.count("\n"))))


@pytest.mark.parametrize(("name", "log", "expected"), _cases(), ids=[name for name, _, _ in _cases()])
def test_near_misses(tmp_path: Path, name: str, log: str, expected: str) -> None:
    assert _told(tmp_path, log) == expected


@pytest.mark.parametrize("kind", [kind for one in shipped().values() for kind in one.kinds], ids=lambda kind: kind.name)
def test_samples_are_explained_as_their_kind(tmp_path: Path, kind: EventKind) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{STAMP}{logger(kind.target)}: {kind.samples[0]}\n", encoding="utf-8")
    told = explain(path, 1)
    assert (told.fate, told.kind) == ("event", kind)
    assert kind.doc in render(told)


def test_a_continuation_line_explains_its_record(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{STAMP}{TUBE}: unheard of\nmore\nand more\n{STAMP}{TUBE}: unheard of\n", encoding="utf-8")
    told = [explain(path, line) for line in (1, 2, 3, 4)]
    assert [(one.line, one.record_line, one.record_lines) for one in told] == [
        (1, 1, 3),
        (2, 1, 3),
        (3, 1, 3),
        (4, 4, 1),
    ]


def test_a_line_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{STAMP}{TUBE}: text\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no line 2"):
        explain(path, 2)
    with pytest.raises(InputError, match="No such file"):
        explain(tmp_path / "missing.log", 1)
    with pytest.raises(UsageError, match="no dialect is called"):
        explain(path, 1, "cuneiform")
    with pytest.raises(InputError, match=r"^[^ ]+: Is a directory:"):
        explain(tmp_path, 1)


SECRETS = [
    "webrtc_ice.agent.agent_internal: Started agent: isControlling? true, remoteUfrag: HUNTER2, remotePwd: HUNTER2",
    "webrtc_ice.agent.agent_internal: Started agent: isControlling? true, remoteUfrag: HUNTER2; remotePwd: HUNTER2",
    "webrtc_ice.agent.agent_internal: Started agent: isControlling? true, remoteUfrag: HUNTER2, remotePwd: HUNTER2 x",
    f"{TUBE}: ICE gathering started (tube_id: abc-123, password: HUNTER2)",
    f"{TUBE}: ICE gathering started: HUNTER2 (tube_id: abc-123)",
    f"{TUBE}: ICE gathering started HUNTER2",
    f"{TUBE}: Tube HUNTER2 closed with password=HUNTER2",
    f"{TUBE}: HUNTER2",
    (
        "keeper_pam_webrtc_rs.webrtc_core: ICE candidate gathered"
        " (tube_id: a, candidate: candidate:1 1 udp 1 10.0.0.1 1 typ host ufrag HUNTER2)"
    ),
    f"{TUBE}: Channel exited with HUNTER2 (tube_id: abc-123)",
    f"{TUBE}: Data channel 'conv-456' opened: password is HUNTER2 (token: HUNTER2; HUNTER2)",
    "keeper_pam_webrtc_rs.nowhere: token=HUNTER2",
    "urllib3.connectionpool: HUNTER2",
    "HUNTER2",
]
#: messages, and what is shown of them
SHOWN = {
    f"{TUBE}: ICE gathering started (tube_id: abc-123, password: hunter, state: New)": (
        "ICE gathering started (tube_id: abc-123, password: …, state: …)"
    ),
    f"{TUBE}: Data channel 'conv-456' opened: hunter (tube_id: abc-123) (src/tube.rs:7)": (
        "Data channel 'conv-456' opened: … (tube_id: abc-123)"
    ),
    "webrtc_ice.agent.agent_internal: Started agent: isControlling? true, remoteUfrag: hunter, remotePwd: hunter": (
        "Started agent: isControlling? true, remoteUfrag: …, remotePwd: …"
    ),
    f"{TUBE}: Peer connection state changed (tube_id: abc-123, password: hunter)": (
        "Peer connection state changed (tube_id: …)"
    ),
    f"{TUBE}: Something new (way: up, state: New, hunter: x)": "Something new (way: …, state: …)",
    f"{TUBE}: Something new: a) b (c, state: New) d (src/x.rs:7) e (f": "Something new: …, state: …",
    f"{TUBE}: Something new (token: my,hunter, more)": "Something new (token: …",
    f"{TUBE}: Something new: 7 of (8)": "Something new: …",
    "urllib3.connectionpool: hunter": None,
}


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_not_shown(tmp_path: Path, line: str) -> None:
    assert "HUNTER2" not in _told(tmp_path, f"{STAMP}{line}\n")


@pytest.mark.parametrize(("line", "message"), SHOWN.items())
def test_the_message_is_shown_without_what_may_be_secret(tmp_path: Path, line: str, message: str | None) -> None:
    path = tmp_path / "app.log"
    path.write_text(f"{STAMP}{line}\n", encoding="utf-8")
    told = explain(path, 1)
    assert told.message == message
    assert ("  message " in render(told)) == (message is not None)


@settings(deadline=None, database=None, derandomize=True, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
def test_nothing_alive_reaches_the_terminal(text: str) -> None:
    line = f"{STAMP}{TUBE}: Data channel '{text}\x1b[31m' opened, (state: {text}, tube_id: a)\n"
    with tempfile.TemporaryDirectory() as folder:
        told = _told(Path(folder), line)
    assert all(char == "\n" or char.isprintable() for char in told)


def test_printable_escapes_what_a_terminal_would_obey() -> None:
    assert printable("a\x1b[2Jb\u202ec\x9b\r\n") == "a\\x1b[2Jb\\u202ec\\x9b\\r\\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        header = GOLDEN.read_text(encoding="utf-8").split("\n== ")[0]
        blocks = [
            f"== {name}\n" + "".join(f"| {row}\n" for row in log.splitlines()) + _told(Path(scratch), log)
            for name, log, _ in _cases()
        ]
        GOLDEN.write_text("\n".join([header.rstrip("\n") + "\n", *blocks]), encoding="utf-8")
