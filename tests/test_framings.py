"""What other programs put in front of a line changes nothing but the time of a line that has none of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from analyzer.pipeline import ingest
from analyzer.redact import redact
from tests.datasets import CAPTURED

CAPTURE = CAPTURED / "2.2.9" / "D-relay-client"
ZONED = "2026-11-22T13:19:{:02}.{:06}"
TABLES = (
    "conversations",
    "ice_stats",
    "connection_legs",
    "leg_measurements",
    "candidates",
    "links",
    "states",
    "samples",
)
Frame = Callable[[int, str], str]


def at(number: int) -> str:
    return ZONED.format(*divmod(number * 1000, 1_000_000))


def as_json(key: str, **more: str) -> Frame:
    return lambda number, line: json.dumps({"@timestamp": f"{at(number)}Z", **more, key: line.rstrip("\r\n")}) + "\n"


FRAMES: dict[str, Frame] = {
    "timestamped": lambda number, line: f"{at(number)}123Z {line}",
    "syslog_iso": lambda number, line: f"{at(number)}+00:00 gw-1 gateway[42]: {line}",
    "cloudwatch": lambda number, line: f"{at(number)}+00:00 gateway/[$LATEST]1f2e {line}",
    "pod": lambda number, line: f"[pod/gateway-0/gw] {line}",
    "grep": lambda number, line: f"/var/log/gateway.log:{line}",
    "grep_lines": lambda number, line: f"{number}:{line}",
    "grep_places": lambda number, line: f"gateway.log:{number}:{line}",
    "numbered": lambda number, line: f"{number:6}\t{line}",
    "quoted": lambda number, line: f"> {line}",
    "indented": lambda number, line: f"    {line}",
    "pod/timestamped": lambda number, line: f"[pod/gateway-0/gw] {at(number)}123Z {line}",
    "compose/timestamped": lambda number, line: f"gateway-1  | {at(number)}123Z {line}",
    "grep/cri": lambda number, line: f"/var/log/pods/0.log:{at(number)}123Z stderr F {line}",
    "grep_lines/journald_short": lambda number, line: f"{number}:Nov 22 13:19:35 gw-1 gateway[42]: {line}",
    "quoted/compose": lambda number, line: f"> gateway-1  | {line}",
}
#: a whole line in an object: shippers, exports
OBJECTS: dict[str, Frame] = {
    "filebeat": as_json("message", stream="stderr"),
    "google": as_json("textPayload", severity="DEFAULT"),
    "cloudwatch": as_json("@message"),
    "loki": as_json("line"),
}


def framed(folder: Path, frame: Frame) -> list[str]:
    folder.mkdir()
    for side in ("client", "gateway"):
        lines = (CAPTURE / f"{side}.log").read_bytes().decode().splitlines(keepends=True)
        text = "".join(frame(number, line) for number, line in enumerate(lines, 1))
        (folder / f"{side}.log").write_bytes(text.encode())
    return [str(folder / "client.log"), str(folder / "gateway.log")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    ingest([str(CAPTURE / f"{side}.log") for side in ("client", "gateway")], folder / "m")
    return folder / "m"


@pytest.mark.parametrize("name", FRAMES)
def test_a_framing_changes_nothing(name: str, plain: Path, tmp_path: Path) -> None:
    ingest(framed(tmp_path / "logs", FRAMES[name]), tmp_path / "m")
    assert set(pl.read_parquet(tmp_path / "m" / "sources")["dialect"]) == {f"{name}/std"}
    for table in TABLES:
        assert pl.read_parquet(tmp_path / "m" / table).equals(pl.read_parquet(plain / table)), table


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_around_a_line_changes_nothing(name: str, plain: Path, tmp_path: Path) -> None:
    ingest(framed(tmp_path / "logs", OBJECTS[name]), tmp_path / "m")
    assert set(pl.read_parquet(tmp_path / "m" / "sources")["dialect"]) == {"docker_json/std"}
    for table in TABLES:
        assert pl.read_parquet(tmp_path / "m" / table).equals(pl.read_parquet(plain / table)), table


@pytest.mark.parametrize("name", ["cloudwatch", "quoted", "grep_places", "pod/timestamped", "grep/cri"])
def test_a_copy_keeps_the_framing(name: str, plain: Path, tmp_path: Path) -> None:
    given = framed(tmp_path / "logs", FRAMES[name])
    redact(given, tmp_path / "copy", addresses="raw")
    was, now = ((tmp_path / folder / "client.log").read_text().splitlines() for folder in ("logs", "copy"))
    assert len(was) == len(now)
    # a name that may be any text is masked, all else in front of the line stays
    names = re.compile(r"gateway/\S+|gateway\.log(?=:)|/var/log/pods/0\.log")
    head = FRAMES[name](1, "")
    assert was[0].startswith(head)
    assert now[0].startswith(names.sub("<*>", head))
    ingest([str(tmp_path / "copy" / f"{side}.log") for side in ("client", "gateway")], tmp_path / "m")
    for table in ("ice_stats", "connection_legs", "candidates"):
        assert pl.read_parquet(tmp_path / "m" / table).equals(pl.read_parquet(plain / table)), table


@pytest.mark.parametrize("name", ["cloudwatch", "grep", "grep_places"])
def test_a_secret_in_the_place_of_a_name_is_masked(name: str, tmp_path: Path) -> None:
    (path, _) = framed(tmp_path / "logs", FRAMES[name])
    text = Path(path).read_text().splitlines()
    said = "Zu7-Quatsch"
    text[5:5] = [f"{said}:hm", f"{said}:7:hm", f"2026-11-22T13:19:35.000000Z {said} hm"]
    Path(path).write_text("\n".join(text) + "\n")
    redact([path], tmp_path / "copy")
    copy = (tmp_path / "copy" / "client.log").read_text()
    assert len(copy.splitlines()) == len(text)
    assert said not in copy


@pytest.mark.parametrize("name", ["timestamped", "compose/timestamped", "grep/cri"])
def test_a_line_without_a_time_has_that_of_the_nearest_framing(name: str, tmp_path: Path) -> None:
    said = ["DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: tube-1)"] * 3
    (tmp_path / "app.log").write_text("".join(f"{FRAMES[name](number, line)}\n" for number, line in enumerate(said, 1)))
    ingest([str(tmp_path / "app.log")], tmp_path / "m")
    times = pl.read_parquet(tmp_path / "m" / "events")["ts"]
    assert times.dt.strftime("%H:%M:%S%.3f").to_list() == ["13:19:00.001", "13:19:00.002", "13:19:00.003"]


def test_a_log_without_a_framing_is_in_none(tmp_path: Path) -> None:
    """What looks like a framing in some lines is what a message holds."""
    said = "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: tube-1)\n"
    (tmp_path / "app.log").write_text((said + f"> {said}    {said}") * 3)
    ingest([str(tmp_path / "app.log")], tmp_path / "m")
    assert pl.read_parquet(tmp_path / "m" / "sources")["dialect"].to_list() == ["std"]
    assert len(pl.read_parquet(tmp_path / "m" / "events")) == 3


@pytest.mark.parametrize("name", ["timestamped", "grep/cri"])
def test_a_framing_is_found_where_the_library_begins(name: str, tmp_path: Path) -> None:
    """Another program may fill blocks of the log before, in lines that are no records of any layout."""
    said = "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: tube-1)\n"
    lines = [FRAMES[name](number, f"served request {number}\n") for number in range(60_000)] + [
        FRAMES[name](1, said)
    ] * 9
    (tmp_path / "app.log").write_text("".join(lines))
    ingest([str(tmp_path / "app.log")], tmp_path / "m")
    (source,) = pl.read_parquet(tmp_path / "m" / "sources").to_dicts()
    assert (source["dialect"], source["events"]) == (f"{name}/std", 9)
