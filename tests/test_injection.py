"""A message that imitates another line makes no event: what a log's writers may put into it stays what they said.

The one thing that cannot be told is a line break inside a message of a text dialect: what follows it on the next line
looks like a record because it is spelled like one. Column `header` of `sources` says what that takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer import records
from analyzer.dialects import dialect_names, forced
from analyzer.events.plan import extract, sift
from analyzer.grammar import dialects
from analyzer.lines import MAX_LINE_CHARS
from analyzer.pipeline import ingest

STAMP = "2026-11-22 13:19:35,251"
TUBE = "keeper_pam_webrtc_rs.tube"
HONEST = f"{STAMP} DEBUG keeper_pam_webrtc_rs.logger: Verbose logging disabled"
FAKE = f"{STAMP} DEBUG {TUBE}: ICE gathering started (tube_id: fake, conversation_id: fake)"
#: a record of each dialect that would be an event, were it one
FAKES = {
    "std": FAKE,
    "dash": f"{STAMP} - {TUBE} - DEBUG - ICE gathering started (tube_id: fake)",
    "commander_file": f"{STAMP} - DEBUG - {TUBE} - ICE gathering started (tube_id: fake)",
    "commander_service": f"2026-11-22 13:31:52 [DEBUG] {TUBE} - ICE gathering started (tube_id: fake)",
    "bracket_iso": f"[2026-11-22T13:20:05.379+00:00] [DEBUG] [{TUBE}] ICE gathering started (tube_id: fake)",
    "bare": f"DEBUG {TUBE}: ICE gathering started (tube_id: fake)",
    "commander": f"DEBUG:{TUBE}:ICE gathering started (tube_id: fake)",
    "tracing": "2025-09-16T13:09:25.238054Z DEBUG webrtc_ice_gathering: ICE gathering started tube_id=fake",
    "coturn": "4: : Wait for relay ports initialization...",
    "coturn_dated": "2026-11-22T13:19:35+0000: Wait for relay ports initialization...",
    "json": json.dumps(
        {"time": STAMP, "level": "DEBUG", "name": TUBE, "message": "ICE gathering started (tube_id: fake)"}
    ),
}


def numbered(lines: list[str]) -> pl.DataFrame:
    """Lines as they are read."""
    sizes = [len(line.encode()) + 1 for line in lines]
    columns = {
        "line": range(1, len(lines) + 1),
        "text": lines,
        "offset": [sum(sizes[:at]) for at in range(len(lines))],
        "size": sizes,
    }
    return pl.DataFrame(columns, schema=dict(zip(columns, (pl.Int64, pl.String, pl.Int64, pl.Int64), strict=True)))


def read(lines: list[str], dialect: str | None = None) -> pl.DataFrame:
    """Events of a log of these lines."""
    frame = numbered(lines)
    layout = forced(dialect) if dialect else None
    found = [found for _, found in records.split([frame], dialect=layout)]
    return extract(sift(pl.concat(found).with_columns(source=pl.lit("test")))).events


def test_every_dialect_is_imitated() -> None:
    assert set(FAKES) == set(dialect_names())
    taken = {name: read([fake], name)["kind"].to_list() for name, fake in FAKES.items()}
    assert [len(kinds) for kinds in taken.values()] == [1] * len(FAKES), taken


@pytest.mark.parametrize(("dialect", "other"), list(permutations(FAKES, 2)))
def test_a_header_of_another_dialect_begins_no_record(dialect: str, other: str) -> None:
    lines = [FAKES[dialect], FAKES[other], FAKES[dialect]]
    found = read(lines, dialect)["line"].to_list()
    assert 3 in found
    assert 2 not in found


TEXTS = [
    FAKE,
    f"escaped\\n{FAKE}",
    f"carriage return\r{FAKE}",
    f"other line ends \x0b{FAKE}\x0c{FAKE}\x85{FAKE}\u2028{FAKE}\u2029{FAKE}",
    f"\x1b[2K\x1b[1G{FAKE}",
    f"\0{FAKE}",
    f" {FAKE}",
    "ICE gathering started (tube_id: fake)",
]
#: who writes what others gave it: host names, labels, reasons, error texts
CARRIERS = {
    "a line of another program": "urllib3.connectionpool: Starting new HTTPS connection (1): {}",
    "an error text": "keeper_pam_webrtc_rs.channel.core: Error in channel: {}",
    "a line no rule takes": f"{TUBE}: said {{}}",
    "a logger that says something else by these words": "keeper_pam_webrtc_rs.logger: {}",
    "a logger whose name begins alike": f"{TUBE}x: {{}}",
    "another spelling of the logger": f"{TUBE.upper()}: {{}}",
}


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
def test_a_message_makes_no_event_of_what_it_quotes(carrier: str, text: str) -> None:
    line = f"{STAMP} DEBUG {carrier.format(text)}"
    assert read([HONEST, line, HONEST])["tube_id"].to_list().count("fake") == 0


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_what_a_head_quotes_changes_neither_kind_nor_ids(text: str) -> None:
    line = f"{STAMP} DEBUG {TUBE}: Data channel '{text}' opened (tube_id: real)"
    assert not set(read([line])["tube_id"]) & {"fake"}


@pytest.mark.parametrize("text", [*TEXTS, f"real line end\n{FAKE}\nmore"], ids=ascii)
def test_in_json_a_message_never_ends_early(text: str) -> None:
    record = {"time": STAMP, "level": "DEBUG", "name": "keeper_pam_webrtc_rs.channel.core", "message": f"Error: {text}"}
    assert read([json.dumps(record)] * 3, "json").is_empty()


def docker(text: str) -> list[str]:
    """A line of a container's log as Docker keeps it, in pieces of 16 KiB."""
    whole = f"{text}\n"
    pieces = [whole[at : at + (16 << 10)] for at in range(0, len(whole), 16 << 10)]
    return [json.dumps({"log": piece, "stream": "stderr", "time": "2026-11-22T13:19:35.25Z"}) for piece in pieces]


def cri(text: str) -> list[str]:
    """The same as Kubernetes keeps it."""
    pieces = [text[at : at + (16 << 10)] for at in range(0, len(text), 16 << 10)]
    marks = ["P"] * (len(pieces) - 1) + ["F"]
    return [f"2026-11-22T13:19:35.253Z stderr {mark} {piece}" for mark, piece in zip(marks, pieces, strict=True)]


def journald_short(text: str) -> list[str]:
    """The same as journald keeps it."""
    pieces = [text[at : at + (48 << 10)] for at in range(0, len(text), 48 << 10)]
    return [f"Nov 22 13:19:35 gw keeper[42]: {piece}" for piece in pieces]


def journald_iso(text: str) -> list[str]:
    return [line.replace("Nov 22 13:19:35", "2026-11-22T13:19:35+0000") for line in journald_short(text)]


@pytest.mark.parametrize(("framed", "kib"), [(docker, 16), (cri, 16), (journald_short, 48), (journald_iso, 48)])
@pytest.mark.parametrize("blocks", [1, 4])
def test_a_piece_of_a_framed_line_begins_no_record(framed: Callable[[str], list[str]], kib: int, blocks: int) -> None:
    begin = f"{STAMP} DEBUG keeper_pam_webrtc_rs.channel.core: Error: "
    long = begin + "x" * ((kib << 10) - len(begin)) + FAKE + "y" * (kib << 10) + FAKE
    opened = f"{STAMP} DEBUG {TUBE}: ICE gathering started (tube_id: real)"
    lines = [*framed(opened), *framed(long), *framed(opened)]
    frame = numbered(lines)
    found = pl.concat(part for _, part in records.split(frame.iter_slices(-(-len(frame) // blocks))))
    assert found["lines"].to_list() == [1, len(lines) - 2, 1]
    assert found["message"][1] == long.removeprefix(begin[: begin.index("Error")])


def test_a_line_without_its_end_that_was_not_cut_ends_there() -> None:
    lines = [json.dumps({"log": FAKES["std"], "time": "2026-11-22T13:19:35.25Z"})] * 3
    assert len(read(lines, "docker_json/std")) == 3


def test_marks_of_our_own_are_no_fields() -> None:
    said = "2025-09-16T13:09:25.238054Z DEBUG webrtc_ice_gathering: ICE gathering started\x1ftube_id: fake"
    assert read([said], "tracing")["tube_id"].to_list() == [None] * len(read([said], "tracing"))


@pytest.mark.parametrize(("dialect", "header"), [
    ("std", "timed"), ("tracing", "timed"), ("bare", "untimed"), ("commander", "untimed"), ("cri/bare", "untimed"),
    ("coturn", "untimed"), ("json", "framed"), ("docker_json/json", "framed"), ("docker_json/std", "timed"),
])  # fmt: skip
def test_sources_say_what_tells_their_records(dialect: str, header: str) -> None:
    assert forced(dialect).header == header


def test_a_line_break_in_a_message_cannot_be_told(tmp_path: Path) -> None:
    """The limit that documents state: what stands on a line of its own, spelled like a record, is one."""
    log = tmp_path / "app.log"
    log.write_text(f"{HONEST}\n{STAMP} DEBUG keeper_pam_webrtc_rs.channel.core: Error: text\n{FAKE}\n")
    ingest([str(log)], tmp_path / "metrics")
    dataset = analyzer.open(tmp_path / "metrics")
    assert dataset.events.select("tube_id", "origin").collect().rows() == [("fake", "app.log:3")]
    assert dataset.sources.select("header").collect().item() == "timed"


def test_deep_json_is_text() -> None:
    lines = ['{"log":' * (1 << 14), "[" * MAX_LINE_CHARS, '{"message":' + "[" * (1 << 16)]
    assert read([*lines, FAKES["json"]], "json")["line"].to_list() == [4]


def test_dialects_are_all_there() -> None:
    assert {kind.name for kind in dialects()} < set(FAKES)
