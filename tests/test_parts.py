"""Small sources share files of events: the same ones give the same files, and what comes later moves few."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer import parts
from analyzer.api import opened
from analyzer.catalogue import EVENTS
from analyzer.errors import BusyError, DatasetError
from analyzer.pipeline import ingest
from analyzer.tables import slices
from analyzer.tables.dataset import MANIFEST, STATE, Commit, Manifest, read_manifest
from analyzer.tables.slices import Slice
from tests.test_growth import files

LINE = (
    "2026-11-22 {:02}:{:02}:00,{:03} DEBUG keeper_pam_webrtc_rs.tube: Connection state changed to: {} (tube_id: t-{})\n"
)


def write(folder: Path, numbers: range, states: tuple[str, ...] = ("Connecting", "Connected")) -> list[str]:
    """Logs of one session each, one a minute."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        hour, minute = divmod(number, 60)
        tied = f"Registered connection for metrics tracking (conversation_id: c-{number}, tube_id: t-{number})"
        text = LINE.format(hour, minute, 0, "New", number)
        text += f"2026-11-22 {hour:02}:{minute:02}:00,001 DEBUG keeper_pam_webrtc_rs.metrics.collector: {tied}\n"
        text += "".join(LINE.format(hour, minute, 2 + at, state, number) for at, state in enumerate(states))
        (folder / f"{number}.log").write_text(text)
    return [str(folder / f"{number}.log") for number in numbers]


def shared(out: Path) -> dict[str, tuple[int, int]]:
    """Files of events, each with what tells whether it was written anew."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "events").iterdir()}


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows in a file that some logs have several."""
    monkeypatch.setattr(parts, "SHARED_ROWS", 100)
    monkeypatch.setattr(parts, "COPIED_ROWS", 9)


# -- which share one ---------------------------------------------------------------------------------------------------

SOURCES = st.lists(
    st.tuples(st.integers().map(lambda seed: sha256(str(seed).encode()).hexdigest()), st.integers(1, 3000)),
    unique_by=lambda one: one[0],
    max_size=60,
)


@given(SOURCES)
def test_a_cut_loses_nothing_and_bounds_files(sources: list[tuple[str, int]]) -> None:
    found = list(parts.cut(sources))
    assert [one for some in found for one in some] == [identity for identity, _ in sources]
    most, rows = parts.MOST * parts.SHARED_ROWS, dict(sources)
    assert all(len(some) == 1 or sum(rows[one] for one in some) <= most for some in found)


def test_one_more_source_changes_the_file_that_it_falls_into() -> None:
    chance = random.Random(3)
    sources = [(sha256(str(seed).encode()).hexdigest(), chance.randint(1, 300)) for seed in range(3000)]
    before = {tuple(some) for some in parts.cut(sources)}
    assert 50 < len(before) < 150
    for place in range(0, 3000, 97):
        more = [*sources[:place], (sha256(f"more {place}".encode()).hexdigest(), 20), *sources[place:]]
        assert len(before - {tuple(some) for some in parts.cut(more)}) == 1, place


def test_a_crowd_that_never_cuts_is_cut() -> None:
    sources = [(f"ffffffff{number:056x}", 40) for number in range(5000)]
    found = list(parts.cut(sources))
    assert max(40 * len(some) for some in found) <= parts.MOST * parts.SHARED_ROWS
    assert len(found) > 5


# -- reading them ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of fourteen rows."""
    made = tmp_path_factory.mktemp("shared")
    for file in range(3):
        pl.DataFrame({"x": range(100 * file, 100 * file + 14), "y": 1}).write_parquet(made / f"{file}.parquet")
    return made


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=12))
def test_slices_are_read_in_the_order_asked_for(folder: Path, wanted: list[tuple[int, int, int]]) -> None:
    asked = [Slice(str(folder / f"{file}.parquet"), first, rows, 14) for file, first, rows in wanted]
    told = [100 * file + row for file, first, rows in wanted for row in range(first, first + rows)]
    assert slices.read(asked, ["x"])["x"].to_list() == told


# -- through an ingest -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_rows")
def test_in_any_order_and_in_any_portions_small_logs_give_the_same_files(tmp_path: Path) -> None:
    logs = write(tmp_path / "logs", range(60))
    ingest(logs, tmp_path / "once")
    whole = files(tmp_path / "once")
    assert 3 < len([name for name in whole if name.startswith("events/")]) < 60
    mixed = list(logs)
    random.Random(1).shuffle(mixed)
    for first in range(0, 60, 7):
        ingest(mixed[first : first + 7], tmp_path / "often")
    assert files(tmp_path / "often") == whole
    for log in logs:
        Path(f"{log}.gz").write_bytes(gzip.compress(Path(log).read_bytes()))
    ingest([f"{log}.gz" for log in logs], tmp_path / "packed")
    # their names stand in the rows
    said = [
        pl.read_parquet(tmp_path / out / "events").drop("source", "origin").sort("ts") for out in ("once", "packed")
    ]
    assert said[0].equals(said[1])
    # the same bytes again change nothing
    assert not ingest(mixed, tmp_path / "often").changed


@pytest.mark.usefixtures("few_rows")
def test_one_more_log_writes_one_file_and_rebuilds_one_conversation(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(write(tmp_path / "logs", range(60)), out)
    before = shared(out)
    # between two that are there
    (tmp_path / "late").mkdir()
    late = write(tmp_path / "late", range(100, 101))
    text = Path(late[0]).read_text().replace("22 01:40", "22 00:30").replace("00,00", "30,00")
    Path(late[0]).write_text(text)
    assert ingest(late, out).rebuilt == 1
    after = shared(out)
    assert len(before.keys() - after.keys()) == 1
    assert len(after.keys() - before.keys()) <= 2
    assert all(after[name] == before[name] for name in after.keys() & before.keys())


@pytest.mark.usefixtures("few_rows")
def test_a_small_log_that_grows_leaves_its_file_and_comes_back(tmp_path: Path) -> None:
    logs, out = write(tmp_path / "logs", range(40)), tmp_path / "out"
    ingest(logs, out)
    with Path(logs[20]).open("a") as log:
        log.write(LINE.format(0, 20, 9, "Closed", 20))
    assert ingest(logs, out).rebuilt == 1
    ingest(logs, tmp_path / "once")
    assert files(out) == files(tmp_path / "once")
    # until it is so long that it has files of its own
    with Path(logs[20]).open("a") as log:
        log.writelines(LINE.format(1 + at // 60, at % 60, at, "Connected", 20) for at in range(900))
    assert ingest(logs, out).rebuilt == 1
    ingest(logs, tmp_path / "grown")
    assert files(out) == files(tmp_path / "grown")
    assert sum(not name.startswith("shared-") for name in shared(out)) == 1


@pytest.mark.usefixtures("few_rows")
def test_a_small_log_read_in_another_zone_moves(tmp_path: Path) -> None:
    logs, out = write(tmp_path / "logs", range(30)), tmp_path / "out"
    ingest(logs, out)
    ingest(logs[3:4], out, zone="+05:00")
    ingest(logs, tmp_path / "once", zones=[("3.log", "+05:00")])
    assert files(out) == files(tmp_path / "once")
    begun = pl.read_parquet(out / "events").filter(pl.col("tube_id") == "t-3")["ts"].min()
    assert str(begun).startswith("2026-11-21 19:03")


def test_however_many_sources_are_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = write(tmp_path / "logs", range(6), ("Connecting", "Connected") * 40)
    whole = Path(logs[2]).read_bytes()
    (tmp_path / "logs" / "a-beginning-of-2.log").write_bytes(whole[: whole.rindex(b"\n", 0, 3000) + 1])
    (tmp_path / "logs" / "the-same-as-2.log").write_bytes(whole)
    (tmp_path / "logs" / "broken.log.gz").write_bytes(gzip.compress(Path(logs[3]).read_bytes())[:-9])
    done = ingest([str(tmp_path / "logs")], tmp_path / "at-once")
    assert dict(done.known) == {"a-beginning-of-2.log": "2.log", "the-same-as-2.log": "2.log", "broken.log.gz": "3.log"}
    monkeypatch.setattr("analyzer.pipeline.MOST_SOURCES", 1)
    again = ingest([str(tmp_path / "logs")], tmp_path / "one-by-one")
    assert (dict(again.known), again.sources.equals(done.sources)) == (dict(done.known), True)
    assert files(tmp_path / "one-by-one") == files(tmp_path / "at-once")


def test_a_name_of_a_dataset_is_no_pattern(tmp_path: Path) -> None:
    ingest(write(tmp_path / "logs", range(2)), tmp_path / "me[t]rics")
    assert len(pl.read_parquet(tmp_path / "me[t]rics" / "conversations", glob=False)) == 2


@pytest.mark.parametrize("grows", ["a", "c"])
def test_of_two_empty_logs_one_gets_lines(grows: str, tmp_path: Path) -> None:
    logs = [str(tmp_path / "a.log"), str(tmp_path / "c.log")]
    for log in logs:
        Path(log).touch()
    ingest(logs, tmp_path / "out")
    (tmp_path / f"{grows}.log").write_text(LINE.format(0, 0, 0, "New", 1))
    ingest(logs, tmp_path / "out")
    assert sorted(pl.read_parquet(tmp_path / "out" / "sources")["name"]) == ["a.log", "c.log"]
    assert not ingest(logs, tmp_path / "out").changed


def test_what_a_log_still_is_another_one_does_not_outgrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among very many that begin alike, copies are not looked for."""
    monkeypatch.setattr("analyzer.sources.MOST_ALIKE", 1)
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    begun = LINE.format(0, 0, 0, "New", 1)
    logs[0].write_text(begun)
    ingest([str(logs[0])], tmp_path / "out")
    logs[1].write_text(begun)
    logs[0].write_text(begun + LINE.format(0, 0, 1, "Connected", 1))
    ingest([*map(str, logs)], tmp_path / "out")
    assert sorted(pl.read_parquet(tmp_path / "out" / "sources")["events"]) == [1, 2]
    assert not ingest([*map(str, logs)], tmp_path / "out").changed


def test_files_that_go_while_they_are_read_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.api.MOST_HELD", 0)
    logs, out = write(tmp_path / "logs", range(4)), tmp_path / "out"
    ingest(logs[:3], out)

    def read(meanwhile: Callable[[], object]) -> None:
        with opened(out) as dataset:
            meanwhile()
            dataset.events.collect()

    with pytest.raises(BusyError, match="while it was read"):
        read(lambda: ingest(logs, out))
    with pytest.raises(DatasetError, match="is damaged"):
        read(next((out / "events").iterdir()).unlink)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("said", ["no log of the library", "a line of the library that no rule knows"])
def test_lines_that_make_no_event_rebuild_nothing(said: str, tmp_path: Path) -> None:
    logs, out = write(tmp_path / "logs", range(20)), tmp_path / "out"
    ingest(logs, out)
    target = "keeper_pam_webrtc_rs.tube" if "rule" in said else "root"
    with Path(logs[7]).open("a") as log:
        log.write(f"2026-11-22 23:00:00,000 INFO {target}: {said}\n")
    done = ingest(logs, out)
    assert (done.changed, done.added, done.rebuilt) == (True, 1, 0)
    ingest(logs, tmp_path / "once")
    assert files(out) == files(tmp_path / "once")


@pytest.mark.parametrize("members", [[], [["x"]], None, 7])
def test_members_that_are_none_are_damage(members: object, tmp_path: Path) -> None:
    logs, out = write(tmp_path / "logs", range(3)), tmp_path / "out"
    ingest(logs, out)
    path = out / STATE / MANIFEST
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        if name.startswith("events/"):
            entry["members"] = members
    path.write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="who shares it is not told"):
        ingest(logs, out)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_manifest_that_lost_members_is_damaged(kept: int, tmp_path: Path) -> None:
    logs, out = write(tmp_path / "logs", range(3)), tmp_path / "out"
    ingest(logs[:2], out)
    path = out / STATE / MANIFEST
    manifest = json.loads(path.read_text())
    (shared_file,) = (entry for name, entry in manifest["files"].items() if name.startswith("events/"))
    # as if the file had no more rows
    shared_file["members"] = shared_file["members"][:kept]
    shared_file["rows"] = sum(rows for _, rows, _ in shared_file["members"])
    path.write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="is damaged"):
        ingest(logs, out)


def test_logs_without_times_share_files(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in range(30):
        said = f"conversation_id: c-{number}, tube_id: t-{number}"
        (tmp_path / "logs" / f"{number}.log").write_text(
            f"DEBUG keeper_pam_webrtc_rs.metrics.collector: Registered connection for metrics tracking ({said})\n"
        )
    ingest([str(tmp_path / "logs")], tmp_path / "out")
    assert len(shared(tmp_path / "out")) == 1
    assert len(pl.read_parquet(tmp_path / "out" / "conversations")) == 30


def test_a_dataset_of_before_is_read_and_goes_on(tmp_path: Path) -> None:
    """Each source had files of its own, and the manifest was of the first format."""
    out = tmp_path / "out"
    logs = write(tmp_path / "logs", range(3))
    ingest(logs, out)
    manifest = json.loads((out / STATE / MANIFEST).read_text())
    (relative,) = (name for name in manifest["files"] if name.startswith("events/"))
    entry = manifest["files"].pop(relative)
    events = pl.read_parquet(out / relative)
    first = 0
    for identity, rows, _ in entry["members"]:
        commit = Commit(out, Manifest())
        commit.stage.mkdir(exist_ok=True)
        staged = commit.stage_frame(EVENTS, events[first : first + rows])
        first += rows
        name = f"events/{identity[:8]}-00000-{staged.sha256[:12]}.parquet"
        (commit.stage / staged.file).replace(out / name)
        manifest["files"][name] = {"sha256": staged.sha256, "rows": rows, "table": "events"}
        manifest["sources"][identity]["parts"] = {"0": name}
    (out / relative).unlink()
    (out / STATE / MANIFEST).write_text(json.dumps(manifest | {"format": 1}))
    assert len(analyzer.open(out).tables["events"].collect()) == len(events)
    assert not ingest(logs, out).changed
    ingest(write(tmp_path / "logs", range(3, 5)), out)
    ingest(write(tmp_path / "logs", range(5)), tmp_path / "once")
    for table in ("conversations", "states", "ice_stats"):
        assert pl.read_parquet(out / table).equals(pl.read_parquet(tmp_path / "once" / table)), table
    assert read_manifest(out).snapshot == manifest["snapshot"] + 1


def test_a_dataset_of_later_is_refused(tmp_path: Path) -> None:
    ingest(write(tmp_path / "logs", range(1)), tmp_path / "out")
    path = tmp_path / "out" / STATE / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    with pytest.raises(DatasetError, match="another version"):
        read_manifest(tmp_path / "out")
