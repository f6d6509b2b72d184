"""An event counts once, however often its line was delivered, doubled or copied; what looks alike counts twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.archives import decompressed
from analyzer.catalogue import EVENTS
from analyzer.events import duplicates
from analyzer.events.duplicates import Deliveries, Look
from analyzer.pipeline import ingest
from analyzer.reductions import REBUILT
from tests.datasets import CAPTURED, summaries
from tests.test_growth import smaller

Lines: TypeAlias = list[bytes]
#: dialects with milliseconds, with whole seconds; restarts of ICE; a tube of several conversations
CAPTURES = (
    "2.2.9/D-relay-client",
    "2.2.9/A-host-trickle-service-format",
    "2.2.9/G-ice-restart",
    "2.2.9/I-conversations-on-one-tube",
)


def tables(out: Path) -> dict[str, pl.DataFrame]:
    """What is rebuilt of conversations."""
    return {table.name: pl.read_parquet(out / table.name) for table in REBUILT}


def logs(capture: str) -> dict[str, Lines]:
    found = {}
    for path in sorted((CAPTURED / capture).glob("*.log*")):
        with path.open("rb") as raw:
            found[path.name.removesuffix(".zst")] = b"".join(decompressed(raw)).splitlines(keepends=True)
    return found


def rebuilt(named: dict[str, Lines], folder: Path) -> dict[str, pl.DataFrame]:
    folder.mkdir()
    for name, lines in named.items():
        (folder / name).write_bytes(b"".join(lines))
    ingest([str(folder)], folder.with_suffix(".out"), key_file=key(folder.parent))
    return tables(folder.with_suffix(".out"))


def key(folder: Path) -> Path:
    """One key for all datasets of a test."""
    path = folder / "key"
    path.write_bytes(bytes(range(32)))
    return path


def assert_same(found: dict[str, pl.DataFrame], wanted: dict[str, pl.DataFrame]) -> None:
    for name, table in wanted.items():
        kept = [column for column in table.columns if not column.endswith("origin")]
        assert found[name].select(kept).equals(table.select(kept)), name


def counted(folder: Path) -> dict[str, int]:
    return dict(pl.read_parquet(folder.with_suffix(".out") / "sources").select("name", "duplicates").rows())


WAYS: dict[str, Callable[[Lines], Lines]] = {
    "delivered twice": lambda lines: lines * 2,
    "delivered five times": lambda lines: lines * 5,
    "delivered again from its middle": lambda lines: lines + lines[len(lines) // 2 :],
    "gone on with after lines that were sent": lambda lines: lines[: len(lines) // 2] + lines[len(lines) // 4 :],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("parts", ["large", "small"])
def test_what_was_delivered_again_counts_once(
    capture: str, way: str, parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parts == "small":
        smaller(monkeypatch)
    own = logs(capture)
    wanted = rebuilt(own, tmp_path / "once")
    assert not any(counted(tmp_path / "once").values())
    assert_same(rebuilt({name: WAYS[way](lines) for name, lines in own.items()}, tmp_path / "again"), wanted)
    assert all(counted(tmp_path / "again").values())


@pytest.mark.parametrize("handlers", duplicates.HANDLERS)
@pytest.mark.parametrize("parts", ["large", "small"])
def test_lines_of_several_handlers_count_once(
    handlers: int, parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parts == "small":
        smaller(monkeypatch)
    own = logs("2.2.9/D-relay-client")
    wanted = rebuilt(own, tmp_path / "once")
    assert_same(rebuilt({name: handled(lines, handlers) for name, lines in own.items()}, tmp_path / "handled"), wanted)
    events = pl.read_parquet(tmp_path / "handled.out" / "sources").select("name", "events", "duplicates")
    assert all(twice == many - many // handlers for _, many, twice in events.rows())


def test_a_copy_of_a_log_counts_once(tmp_path: Path) -> None:
    own = logs("2.2.9/D-relay-client")
    wanted = rebuilt(own, tmp_path / "once")
    lines = own["client.log"]
    # a container writes its own time before each line; an excerpt begins and ends anywhere
    wrapped = [b"2026-11-22T13:20:00.000000001Z stderr F " + line for line in lines]
    copies = {**own, "excerpt.log": lines[40:200], "container.log": wrapped}
    assert_same(rebuilt(copies, tmp_path / "copied"), wanted)
    found = counted(tmp_path / "copied")
    assert found["container.log"] > found["excerpt.log"] > 0 == found["client.log"]


def test_pieces_that_overlap_are_the_log(tmp_path: Path) -> None:
    own = logs("2.2.9/D-relay-client")
    wanted = rebuilt(own, tmp_path / "once")
    cut = {
        f"{place}-{name}": some
        for name, lines in own.items()
        for place, some in (("a", lines[:180]), ("b", lines[90:]))
    }
    found = rebuilt(cut, tmp_path / "cut")
    for name in ("generations", "ice_stats", "candidates", "turn_attempts"):
        kept = [column for column in wanted[name].columns if not column.endswith("origin")]
        assert found[name].select(kept).equals(wanted[name].select(kept)), name


def test_events_keep_every_line(tmp_path: Path) -> None:
    own = logs("2.2.9/D-relay-client")
    rebuilt({name: lines * 2 for name, lines in own.items()}, tmp_path / "again")
    found = pl.read_parquet(tmp_path / "again.out" / "events")
    sources = pl.read_parquet(tmp_path / "again.out" / "sources")
    assert len(found) == sources["events"].sum() == 2 * sources["duplicates"].sum()


@pytest.mark.parametrize("order", [("client.log", "other.log"), ("other.log", "client.log")])
def test_copies_are_found_in_any_order_of_ingests(order: tuple[str, ...], tmp_path: Path) -> None:
    # what is told twice depends on all logs there are, so it is found anew with each
    lines = logs("2.2.9/D-relay-client")["client.log"]
    folder, out = tmp_path / "logs", tmp_path / "out"
    wanted = rebuilt({"client.log": lines[:200], "other.log": lines[50:]}, folder)
    for name in order:
        ingest([str(folder / name)], out, key_file=key(tmp_path))
    for name, table in wanted.items():
        assert pl.read_parquet(out / name).equals(table), name
    found = dict(pl.read_parquet(out / "sources").select("name", "duplicates").rows())
    assert found == counted(folder)
    assert found["client.log"] == 0 < found["other.log"]


def handled(lines: Lines, handlers: int = 2) -> Lines:
    return [line for line in lines for _ in range(handlers)]


@pytest.mark.parametrize("way", [*WAYS.values(), handled])
def test_summaries_tell_steps_once(way: Callable[[Lines], Lines], tmp_path: Path) -> None:
    lines = logs("2.2.9/D-relay-client")["client.log"]
    for name, told in (("once", lines), ("again", way(lines))):
        rebuilt({"client.log": told}, tmp_path / name)
    texts = [summaries(analyzer.open(tmp_path / f"{name}.out")) for name in ("once", "again")]
    assert texts[0] == texts[1]


# -- what is told twice, held against a reading line by line ----------------------------------------------------------


def events(rows: Sequence[tuple[int, int | None, str]]) -> pl.DataFrame:
    """Events of scopes, with times in seconds and a tube as all they say."""
    told = pl.DataFrame(
        [(None if second is None else second * 1_000_000, tube) for _, second, tube in rows],
        schema={"ts": pl.Int64, "tube_id": pl.String},
        orient="row",
    ).with_columns(pl.col("ts").cast(EVENTS.schema["ts"]))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in EVENTS.schema.items() if name not in told.columns]
    return told.with_columns(missing).with_columns(pl.Series("scope", [row[0] for row in rows], dtype=pl.UInt32))


def asked(rows: Sequence[tuple[int, int | None, str]], cuts: Sequence[int]) -> list[bool]:
    frames = [events(rows[begin:end]) for begin, end in zip((0, *cuts), (*cuts, len(rows)), strict=True)]
    look = Look()
    for place, frame in enumerate(frames):
        later = {scope for after in frames[place + 1 :] for scope in after["scope"]}
        look.at(frame.select("scope", *duplicates.LOOKED_AT), later)
    doubtful = look.found()
    if doubtful is None:
        return [False] * len(rows)
    deliveries, scopes = Deliveries(doubtful), doubtful.scopes["scope"].implode()
    found = []
    for frame in frames:
        mine = frame.with_row_index("at").filter(pl.col("scope").is_in(scopes))
        again = pl.Series([False]).new_from_index(0, len(frame))
        found += again.scatter(mine["at"].filter(deliveries.again(mine.drop("at"))), True).to_list()
    return found


def expected(rows: Sequence[tuple[int, int | None, str]]) -> list[bool]:
    """The same, one event after the other: told by an earlier delivery, of its scope or of one that shares a tube."""
    group: dict[int, set[int]] = {}
    for scope, _, tube in rows:
        mine = {one for one, _, other in rows if other == tube}
        for one in mine | {scope}:
            group.setdefault(one, {one}).update(mine)
    for _ in rows:
        group = {one: set().union(*(group[other] for other in others)) for one, others in group.items()}
    told: dict[tuple[int, int, str], int] = {}
    delivery, last, found = 0, None, []
    latest: int | None = None
    for scope, second, tube in rows:
        if scope != last:
            delivery, latest = delivery + 1, None
        elif second is not None and latest is not None and second < latest - 1:
            delivery += 1
        last, latest = scope, second if second is not None else latest
        if second is None:
            found.append(False)
            continue
        first = told.setdefault((min(group[scope]), second, tube), delivery)
        found.append(first < delivery)
    return found


ROWS = st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 9), st.sampled_from("abcde")), max_size=11).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)


@settings(deadline=None, max_examples=400)
@given(ROWS, st.data())
def test_told_as_line_by_line(rows: list[tuple[int, int | None, str]], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    assert asked(rows, cuts) == expected(rows)


@pytest.mark.parametrize("runs", [1, 3, 16])
def test_many_deliveries(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_RUNS", runs)
    picked = random.Random(7)
    rows = [(0, second, picked.choice("abcdefgh")) for _ in range(40) for second in range(picked.randrange(30))]
    cuts = sorted(picked.sample(range(len(rows)), 30))
    assert asked(rows, cuts) == expected(rows)
    assert any(expected(rows))


def test_lines_that_look_alike_are_no_copies() -> None:
    # at one time, somewhat out of order, without times, and of logs that have nothing to do with one another
    alike = [
        (0, 5, "a"),
        (0, 5, "a"),
        (0, 4, "b"),
        (0, 5, "a"),
        (0, None, "a"),
        (0, None, "a"),
        (1, 5, "c"),
        (2, 5, "d"),
    ]
    assert not any(asked(alike, []))
    assert asked([(0, 5, "a"), (0, 3, "b"), (0, 5, "a")], []) == [False, False, True]


def test_a_pair_in_a_doubled_log_stays_a_pair() -> None:
    rows = [(0, second, tube) for second in range(30) for tube in "ab"]
    pair = [(0, 31, "a")] * 2
    doubled = [row for row in rows + pair for _ in range(2)]
    for cuts in ([], [1], [33], [5, 34, 121]):
        found = asked(doubled, cuts)
        assert found == [False, True] * (len(doubled) // 2), cuts
    assert not any(asked(rows + pair, []))
