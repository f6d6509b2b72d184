"""The tables equal the fold of each tube's events, however the logs were split, ordered, mixed, repeated or packed."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from analyzer.pipeline import ingest
from analyzer.reductions.leg_names import LEGS
from tests.datasets import CAPTURED
from tests.oracle import fold, legs
from tests.oracle.checks import check_attempts, check_setup
from tests.oracle.durations import check_durations
from tests.oracle.life import check_life, same
from tests.oracle.scenarios import BASE, REGISTERED, SIDES, Life, Line, rendered, scenarios, text

#: tables of conversations, and the columns that say where a line stood
TABLES = (
    "conversations",
    "ice_stats",
    "connection_legs",
    "leg_measurements",
    "links",
    "generations",
    "states",
    "candidates",
    "candidate_pairs",
    "channels",
    "samples",
    "turn_attempts",
    "setup_phases",
    "reported",
    "relay_sessions",
    "clock_offsets",
)
_BOUNDS = ("low_sent_origin", "low_received_origin", "high_sent_origin", "high_received_origin")
PLACE = ("sources", "origin", "started_origin", "ended_origin", "closed_origin", *_BOUNDS)
Tables = dict[str, pl.DataFrame]
few = settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def logs(lives: Sequence[Life]) -> dict[str, list[Line]]:
    """The log of each side's process."""
    written = {side: rendered(life for life in lives if life.side == side) for side in SIDES}
    return {side: lines for side, lines in written.items() if lines}


def rebuilt(files: dict[str, bytes], *, order: Sequence[str] | None = None) -> Tables:
    """Write files (name → bytes) and ingest them in one go."""
    with scratch() as folder:
        for name, data in files.items():
            path = folder / "logs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        ingest(
            [str(folder / "logs" / name) for name in order] if order else [str(folder / "logs")],
            folder / "out",
            addresses="raw",
        )
        return opened(folder / "out")


def opened(out: Path) -> Tables:
    return {name: pl.read_parquet(out / name) for name in TABLES}


def placeless(tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """Rows of each table but for where their lines stood, in an order that does not depend on it."""
    return {
        name: sorted(frame.drop([one for one in PLACE if one in frame.columns]).to_dicts(), key=repr)
        for name, frame in tables.items()
    }


def whole(lives: Sequence[Life]) -> dict[str, bytes]:
    return {f"{side}/app.log": text(lines) for side, lines in logs(lives).items()}


# -- against the fold ------------------------------------------------------------------------------------------------


def expected(lives: Sequence[Life]) -> dict[str, list[fold.Tube]]:
    tubes: dict[str, list[fold.Tube]] = {}
    for life in lives:
        tubes.setdefault(life.conversation_id, []).append(life.folded())
    return tubes


def check_tubes(tables: Tables, lives: Sequence[Life]) -> None:
    rows = {(row["conversation_id"], row["tube_id"]): row for row in tables["ice_stats"].to_dicts()}
    assert rows.keys() == {(life.conversation_id, life.tube_id) for life in lives}
    for life in lives:
        told = fold.ice_stats(life.folded())
        same(rows[life.conversation_id, life.tube_id], told, f"ice_stats of {life.tube_id}")


def check_conversations(tables: Tables, lives: Sequence[Life]) -> None:
    rows = {row["conversation_id"]: row for row in tables["conversations"].to_dicts()}
    assert rows.keys() == expected(lives).keys()
    for conversation_id, tubes in expected(lives).items():
        told, row = fold.conversation(tubes), rows[conversation_id]
        for name in ("started_at", "ended_at"):
            told[name] = BASE + timedelta(milliseconds=told[name])  # type: ignore[arg-type] # told as a plain dict
        assert row["close_reason"] in told.pop("close_reason"), conversation_id  # type: ignore[operator] # told as a plain dict
        same(row, told, conversation_id)


def check_legs(tables: Tables, lives: Sequence[Life]) -> None:
    chosen = tables["leg_measurements"].filter("chosen", pl.col("leg").is_in(LEGS)).to_dicts()
    shown = {row["conversation_id"]: row for row in tables["connection_legs"].to_dicts()}
    for conversation_id, tubes in expected(lives).items():
        told = legs.legs(tubes)
        found = {row["leg"]: row for row in chosen if row["conversation_id"] == conversation_id}
        derived = {leg for leg, row in found.items() if row["method"] in ("difference", "sum")}
        assert found.keys() - derived == told.keys(), conversation_id
        for leg in derived:
            assert shown[conversation_id][f"{leg}_latency_ms"] == pytest.approx(found[leg]["value_ms"]), conversation_id
            assert shown[conversation_id][f"{leg}_method"] == found[leg]["method"], conversation_id
        for leg, (value, methods) in told.items():
            right = (pytest.approx(value, abs=1e-6), True)
            assert (found[leg]["value_ms"], found[leg]["method"] in methods) == right, conversation_id
            # what a log measured itself is never replaced by what follows from other legs
            assert shown[conversation_id][f"{leg}_latency_ms"] == pytest.approx(value, abs=1e-6), conversation_id
            assert shown[conversation_id][f"{leg}_method"] in methods, conversation_id


def check_backends(tables: Tables, lives: Sequence[Life]) -> None:
    """Every connection of a gateway to Guacd or to the target is a row, whatever it is good for."""
    rows = tables["leg_measurements"].filter(pl.col("method") == "backend_connect").to_dicts()
    found = [
        (row["conversation_id"], row["tube_id"], row["leg"], row["ts"], row["value_ms"], row["refused_reason"] is None)
        for row in rows
    ]
    assert all(row["side"] == "gateway" and row["origin"] for row in rows)
    assert sorted(found) == sorted(
        (life.conversation_id, life.tube_id, leg, BASE + timedelta(milliseconds=at), ms, legs.is_sound_connect(ms))
        for life in lives
        for leg, at, ms in life.folded().backends
    )


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(scenarios())
def test_the_tables_equal_the_fold(lives: list[Life]) -> None:
    tables = rebuilt(whole(lives))
    check_tubes(tables, lives)
    check_conversations(tables, lives)
    check_life(tables, lives)
    check_legs(tables, lives)
    check_backends(tables, lives)
    check_setup(tables, lives)
    check_attempts(tables, lives)
    check_durations(tables, lives)


# -- whatever happened to the logs ----------------------------------------------------------------------------------


def rotated(lives: Sequence[Life], data: st.DataObject) -> dict[str, bytes]:
    """The log of each side in up to three parts, cut anywhere, the newest with the shortest name."""
    files: dict[str, bytes] = {}
    for side, lines in logs(lives).items():
        older, newer = sorted(data.draw(st.tuples(*[st.integers(0, len(lines))] * 2)))
        parts = {"app.log.2": lines[:older], "app.log.1": lines[older:newer], "app.log": lines[newer:]}
        files |= {f"{side}/{name}": text(part) for name, part in parts.items() if part}
    return files


def check_rotation(lives: Sequence[Life], data: st.DataObject) -> None:
    parts, one = placeless(rebuilt(rotated(lives, data))), placeless(rebuilt(whole(lives)))
    for name in TABLES:
        assert parts[name] == one[name], name


@few
@given(scenarios(), st.data())
def test_rotation_changes_nothing_but_places(lives: list[Life], data: st.DataObject) -> None:
    check_rotation(lives, data)


@few
@given(scenarios())
def test_the_order_of_arguments_changes_nothing(lives: list[Life]) -> None:
    files = {f"{side}.log": text(lines) for side, lines in logs(lives).items()}
    ways = [rebuilt(files, order=order) for order in (sorted(files), sorted(files, reverse=True))]
    assert all(ways[0][name].equals(ways[1][name]) for name in TABLES)


@few
@given(scenarios(largest=2), scenarios(largest=3, prefix="foreign-"))
def test_foreign_conversations_change_nothing(lives: list[Life], foreign: list[Life]) -> None:
    ours = {life.conversation_id for life in lives}
    lives = [life for life in lives if all(event.kind != "allocation_failed" for event in life.events)]
    mixed = {
        name: frame.filter(pl.col("conversation_id").is_in(ours))
        for name, frame in rebuilt(whole([*lives, *foreign])).items()
    }
    if lives:
        assert placeless(mixed) == placeless(rebuilt(whole(lives)))


def test_a_number_does_not_depend_on_its_neighbours() -> None:
    told = (
        fold.Event(0, "connection_registered"),
        fold.Event(0, "side_declared", flag=False),
        fold.Event(0, "ice_state_changed", "Connected"),
        fold.Event(7000, "peer_state_changed", "Connected"),  # three round trips: a third has no last digit
    )
    lives = [Life(f"tube-{n}", f"conv-{n}", "gateway", REGISTERED, told) for n in range(9)]
    among = rebuilt(whole(lives))
    mine = {name: frame.filter(pl.col("conversation_id") == "conv-0") for name, frame in among.items()}
    assert placeless(mine) == placeless(rebuilt(whole(lives[:1])))


@few
@given(scenarios(), st.sampled_from(["app.log.gz", "copy.log", "z/app.log"]))
def test_a_file_given_twice_or_packed_adds_nothing(lives: list[Life], copy: str) -> None:
    once = whole(lives)
    twice = dict(once)
    for name, data in once.items():
        twice[f"{name.split('/')[0]}/{copy}"] = gzip.compress(data, mtime=0) if copy.endswith(".gz") else data
    assert placeless(rebuilt(twice)) == placeless(rebuilt(once))


@few
@given(scenarios(), st.booleans())
def test_one_ingest_or_several_is_thesame(lives: list[Life], backwards: bool) -> None:
    once = {f"{side}.log": text(lines) for side, lines in logs(lives).items()}
    with scratch() as folder:
        for name in sorted(once, reverse=backwards):
            (folder / name).write_bytes(once[name])
            ingest([str(folder / name)], folder / "out", addresses="raw")
        several = opened(folder / "out")
        ingest([str(folder / name) for name in once], folder / "again", addresses="raw")
        assert all(several[name].equals(frame) for name, frame in opened(folder / "again").items())
        shutil.rmtree(folder / "out")


def test_a_counter_behind_a_cut_is_never_the_other_sides() -> None:
    at = "2026-11-22 13:00:0{},000 DEBUG keeper_pam_webrtc_rs."
    registered = "metrics.collector: Registered connection for metrics tracking (conversation_id: c-1, tube_id: {0})\n"
    declared = "tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback (tube_id: {0}, is_server_mode: {1})\n"
    counted = "metrics.collector: Recording data channel sent activity (conversation_id: c-1, bytes_sent: {})\n"
    tube, sent = at.format(1) + registered + at.format(1) + declared, at.format(3) + counted
    files = {
        "client.log": tube.format("tc", "true") + sent.format(7),
        "gateway.log.1": tube.format("tg", "false"),
        "gateway.log": sent.format(500),
    }
    (row,) = rebuilt({name: text.encode() for name, text in files.items()})["conversations"].to_dicts()
    assert (row["bytes_sent"], row["bytes_received"]) == (7, 500)


# -- rotated logs ---------------------------------------------------------------------------------------------------

LIBRARY = "2026-11-22 13:00:{:02},000 DEBUG keeper_pam_webrtc_rs."
REGISTERED_AS = "metrics.collector: Registered connection for metrics tracking (conversation_id: {}, tube_id: {})"
STARTED, COMPLETED = "tube: ICE gathering started (tube_id: {})", "tube: ICE gathering complete (tube_id: {})"
STARTED_REPORTED = "metrics.collector: ICE gathering started (conversation_id: {}, timestamp: 13)"
COUNTED = "metrics.collector: Recording data channel sent activity (conversation_id: {}, bytes_sent: {})"
CANDIDATE = (
    "webrtc_core: ICE candidate gathered (tube_id: {}, candidate: candidate:1 1 udp 2130706431 10.0.0.1 {} typ host)"
)
REFUSED = (
    "2026-11-22 13:00:{:02},000 DEBUG webrtc_ice.agent.agent_gather: [controlled]: Failed to allocate on"
    " turn.Client krelay.test:3478 Allocate error response (error 401: Unauthorized)"
)
#: logs in which a line has its tube from the lines before it
LEANING = {
    "refusal": [
        LIBRARY + REGISTERED_AS.format("c-1", "t-1"), LIBRARY + REGISTERED_AS.format("c-2", "t-2"),
        LIBRARY + STARTED.format("t-2"), LIBRARY + COMPLETED.format("t-2"),
        LIBRARY + STARTED.format("t-1"), REFUSED, LIBRARY + COMPLETED.format("t-1"), REFUSED,
    ],
    "adjacency": [
        LIBRARY + STARTED.format("t-1"), LIBRARY + STARTED_REPORTED.format("c-1"),
        LIBRARY + COMPLETED.format("t-1"), LIBRARY + STARTED.format("t-2"), LIBRARY + STARTED_REPORTED.format("c-2"),
    ],
    "counter": [
        LIBRARY + REGISTERED_AS.format("c-1", "t-1"), LIBRARY + COUNTED.format("c-1", 100),
        LIBRARY + REGISTERED_AS.format("c-1", "t-2"), LIBRARY + COUNTED.format("c-1", 20),
    ],
}  # fmt: skip


def numbered(lines: Sequence[str], at: int) -> bytes:
    """A log of these lines, a second each, the first at a time."""
    return "".join(f"{line.format(second)}\n" for second, line in enumerate(lines, at)).encode()


@pytest.mark.parametrize("lines", LEANING.values(), ids=LEANING.keys())
def test_a_cut_takes_nobodys_tube(lines: list[str]) -> None:
    one = placeless(rebuilt({"app.log": numbered(lines, 0)}))
    for at in range(1, len(lines)):
        parts = {"app.log.1": numbered(lines[:at], 0), "app.log": numbered(lines[at:], at)}
        assert placeless(rebuilt(parts)) == one, at


CUT = [
    *((f"{release}/D-relay-client", side) for release in ("1.0.0", "2.2.9") for side in SIDES),
    *(("2.2.9/N-deps-debug", side) for side in SIDES),
]


@pytest.mark.parametrize(("capture", "side"), CUT)
def test_a_cut_capture_gives_thesame(capture: str, side: str) -> None:
    found = (CAPTURED / capture).glob("*.log*")
    logs = {path.name.removesuffix(".zst"): pa.input_stream(str(path)).read() for path in found}
    name, one = f"{side}.log", placeless(rebuilt(logs))
    records = re.split(rb"(?m)^(?=[0-9]{4}-[0-9]{2}-[0-9]{2} )", logs[name])[1:]
    # lines of the TURN crate carry no id
    cuts = [place for place, record in enumerate(records) if b"client.Allocate call" in record]
    for at in (*cuts, *range(len(records) // 6, len(records), len(records) // 6)):
        parts = {f"{name}.1": b"".join(records[:at]), name: b"".join(records[at:])}
        assert placeless(rebuilt(logs | parts)) == one, at


@pytest.mark.parametrize(
    "names",
    [
        ("app.log.10.gz", "app.log.9", "app.log"),
        ("app.log.2", "app.log.1", "app.log.gz"),
        ("app.log-20251231.gz", "app.log-20260101", "app.log"),
        ("app.log.2025-12-31", "app.log.2026-01-01", "app.log.2026-01-02.gz"),
    ],
)
def test_without_times_parts_are_in_the_order_of_their_names(names: tuple[str, ...]) -> None:
    tube = names[0]
    first, *rest = [[STARTED.format(tube), CANDIDATE.format(tube, 40000 + part)] for part in range(3)]
    bare = [
        "".join(f"DEBUG keeper_pam_webrtc_rs.{line}\n" for line in lines).encode()
        for lines in ([REGISTERED_AS.format("c-1", tube), *first], *rest)
    ]
    one = rebuilt({"app.log": b"".join(bare)})
    assert one["candidates"].select("generation", "port").rows() == [(1, 40000), (2, 40001), (3, 40002)]
    files = {
        name: gzip.compress(data) if name.endswith(".gz") else data for name, data in zip(names, bare, strict=True)
    }
    assert placeless(rebuilt(files)) == placeless(one)
    with scratch() as folder:
        for name in (names[1], names[2], names[0]):
            (folder / name).write_bytes(files[name])
            ingest([str(folder / name)], folder / "out", addresses="raw")
        assert placeless(opened(folder / "out")) == placeless(one)


def test_logs_of_one_name_are_not_put_together() -> None:
    lines = [REGISTERED_AS.format("c-1", "t-1"), STARTED.format("t-1"), COUNTED.format("c-1", 7)]
    ours = numbered([LIBRARY + line for line in lines], 0)
    theirs = numbered([LIBRARY + REGISTERED_AS.format("c-2", "t-2"), REFUSED, REFUSED], 1)
    for name in ("b/app.log", "a/app.log.1"):
        found = rebuilt({"a/app.log": ours, name: theirs})["ice_stats"]
        assert found["turn_allocations_attempted"].null_count() == 2, name


def test_adjacency_is_judged_by_its_own_log() -> None:
    beside = [LIBRARY + STARTED.format("t-client"), LIBRARY + STARTED_REPORTED.format("c-1")]
    registered = [LIBRARY + REGISTERED_AS.format("c-1", "t-gateway")]
    links = rebuilt({"client.log": numbered(beside, 1), "gateway.log": numbered(registered, 1)})["ice_stats"]
    assert links.select("conversation_id", "tube_id", "link_method").rows() == [
        ("c-1", "t-client", "adjacency"),
        ("c-1", "t-gateway", "registered"),
    ]
    links = rebuilt({"client.log": numbered([*registered, *beside], 1)})["ice_stats"]
    assert links.select("tube_id", "link_method").rows() == [("t-gateway", "registered")]
