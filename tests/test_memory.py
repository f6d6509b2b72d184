"""Memory stays within its bound. Sizes that take longer are measured by hand (SECURITY.md)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from analyzer.redact import redact
from analyzer.redact.messages import masked as mask
from tests import bench, synthetic
from tests.datasets import CAPTURED

MIB = 1 << 20
BOUND = 512 * MIB


def usual(folder: Path) -> None:
    """A log as they come: many conversations, most lines inform nothing."""
    synthetic.write(folder / "app.log", 60 * MIB)


def later(text: bytes, days: int) -> bytes:
    """The same lines some days later: at the same time they would be the same events (`events/duplicates.py`)."""
    return text.replace(b"2026-11-22", f"{date(2026, 11, 22) + timedelta(days)}".encode())


def daily(folder: Path) -> None:
    """Both sides and the relay, the same every day: every address was had a thousand times."""
    for log in ("client.log", "gateway.log", "coturn.txt"):
        text = (CAPTURED / "2.2.9" / "D-relay-client" / log).read_bytes()
        with (folder / log).open("wb") as stream:
            stream.writelines(later(text, day) for day in range(20 * MIB // len(text)))


def again(folder: Path) -> None:
    """A log that was delivered again and again: hardly any of its events is a new one."""
    text = (CAPTURED / "2.2.9" / "D-relay-client" / "client.log").read_bytes()
    (folder / "client.log").write_bytes(text * (120 * MIB // len(text)))


def relayed(folder: Path) -> None:
    """The log of a relay that served many thousands of sessions."""
    text = (CAPTURED / "2.2.9" / "D-relay-client" / "coturn.txt").read_bytes()
    with (folder / "coturn.txt").open("wb") as stream:
        stream.writelines(text for _ in range(170 * MIB // len(text)))


def reconnected(folder: Path) -> None:
    """A conversation that is taken up again five hundred times: as many tubes on either side."""
    capture = CAPTURED / "2.2.9" / "D-relay-client"
    truth = json.loads((capture / "truth.json").read_text())["conversations"][0]
    for side in ("client", "gateway"):
        text, tube = (capture / f"{side}.log").read_bytes(), truth[f"{side}_tube_id"]
        with (folder / f"{side}.log").open("wb") as stream:
            stream.writelines(
                later(text, number).replace(tube.encode(), f"{side[0]}{number:07}{tube[8:]}".encode())
                for number in range(500)
            )


def line(ms: int, said: str) -> str:
    """A line of the library, so long after midnight."""
    s = ms // 1000
    return f"2026-11-22 {s // 3600:02}:{s // 60 % 60:02}:{s % 60:02},{ms % 1000:03} DEBUG keeper_pam_webrtc_rs.{said}\n"


def registered(named: str, tube: str) -> str:
    """What ties a conversation to a tube."""
    return f"metrics.collector: Registered connection for metrics tracking (conversation_id: {named}, tube_id: {tube})"


def counters(folder: Path) -> None:
    """One conversation that counts its bytes for hours: every line is an event of it, and says something new."""
    said = "metrics.collector: Recording transport-level data activity (conversation_id: c-1"
    with (folder / "app.log").open("w") as stream:
        stream.write(line(0, registered("c-1", "t-1")))
        for number in range(700_000):
            counted = f"bytes_sent: {6531 + 2 * number}, bytes_received: {6584 + 3 * number}"
            stream.write(line(number * 40, f"{said}, {counted})"))


def tied(folder: Path, pair: Callable[[int], tuple[str, str]], lines: int) -> None:
    """A log that ties conversations to tubes, by their number."""
    with (folder / "app.log").open("w") as stream:
        for number in range(lines):
            named, tube = pair(number)
            stream.write(line(number * 40, registered(named, tube)))
            stream.write(line(number * 40, f"tube: Connection state changed (tube_id: {tube}, state: Connected)"))


def tubes(folder: Path) -> None:
    """One conversation of as many tubes as a log can name."""
    tied(folder, lambda number: ("c-1", f"t-{number}"), 150_000)


def sharing(folder: Path) -> None:
    """One tube of as many conversations."""
    tied(folder, lambda number: (f"c-{number}", "t-1"), 200_000)


def described(folder: Path, conversations: int, each: int) -> None:
    """Nothing but descriptions of sessions, of as many candidates as are read of one."""
    with (folder / "app.log").open("w", newline="") as stream:
        for number in range(conversations * each):
            named, tube = (f"{one}-{number % conversations}" for one in "ct")
            lines = "".join(
                f"a=candidate:{number * 250 + one:032} 1 udp 2130706431 10.0.0.{one} {1024 + number} typ host\r\n"
                for one in range(250)
            )
            sdp = f"v=0\r\ns=-\r\n{lines}a=end-of-candidates\r\n"
            stream.write(line(number * 100, registered(named, tube)))
            stream.write(line(number * 100, f"webrtc_core: Initial offer SDP (tube_id: {tube}, sdp: {sdp})"))


def descriptions(folder: Path) -> None:
    """A few conversations that each describe their sessions again and again, as far as is told of them."""
    described(folder, 4, 700)


def lone_descriptions(folder: Path) -> None:
    """As many conversations as descriptions."""
    described(folder, 3_200, 1)


def states(folder: Path) -> None:
    """Ten logs of one conversation that changes its state all the time."""
    place = "(crates/keeper-pam-webrtc-rs/src/tube.rs:390)"
    for log in range(10):
        with (folder / f"{log}.log").open("w") as stream:
            for number in range(280_000):
                state = ("Connected", "Disconnected")[number % 2]
                told = f"(tube_id: t-{log}, conversation_id: c-1, state: {state})"
                stream.write(line(number * 40 + log, f"tube: ICE connection state changed {told} {place}"))


@pytest.mark.parametrize(
    "written",
    [
        *(usual, counters, daily, again, relayed, reconnected, tubes, sharing),
        *(descriptions, lone_descriptions, states),
    ],
)
def test_memory_is_bounded(written: Callable[[Path], None], tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    written(logs)
    command = [sys.executable, "-m", "analyzer", "ingest", str(logs), "--out", str(tmp_path / "out")]
    assert bench.measure(command).peak <= BOUND


# -- copies ------------------------------------------------------------------------------------------------------------

HEAD = "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: "


def blank(folder: Path) -> None:
    """Two megabytes without a word in them: what is kept of a line is more than an empty one has."""
    (folder / "app.log").write_text(f"{HEAD}zap\n" + "\n" * (2 * MIB))


def endless(folder: Path) -> None:
    """One record of two million lines."""
    (folder / "app.log").write_text(f"{HEAD}zap\n" + "x\n" * (2 * MIB))


def tracebacks(folder: Path) -> None:
    """Records of nearly as many lines as are looked at together."""
    (folder / "app.log").write_text((f"{HEAD}zap\n" + "x\n" * 1900) * 2000)


@pytest.mark.parametrize("written", [blank, endless, tracebacks])
def test_a_copy_needs_no_more(written: Callable[[Path], None], tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    written(logs)
    command = [sys.executable, "-m", "analyzer", "redact", str(logs), "-o", str(tmp_path / "copy")]
    assert bench.measure(command).peak <= BOUND
    was, now = ((tmp_path / name / "app.log").read_bytes() for name in ("logs", "copy"))
    assert now.count(b"\n") == was.count(b"\n")


def test_copies_are_the_same_however_few_lines_are_masked_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("client.log", "gateway.log"):
        shutil.copy(CAPTURED / "2.2.9/D-relay-client" / name, tmp_path / "logs")
    masked: list[int] = []

    def counted(records: pl.DataFrame, *, keep_unknown: bool) -> pl.DataFrame:
        masked.append(len(records))
        return mask(records, keep_unknown=keep_unknown)

    monkeypatch.setattr("analyzer.redact.masked", counted)
    for name, lines in (("at once", 1 << 16), ("one by one", 1)):
        monkeypatch.setattr("analyzer.redact.BATCH_LINES", lines)
        redact([str(tmp_path / "logs")], tmp_path / name, addresses="raw")
    assert len(masked) == 1 + 2
    first, second = (
        [path.read_bytes() for path in sorted((tmp_path / name).glob("*.log"))] for name in ("at once", "one by one")
    )
    assert first == second
    assert len(first) == 2
