"""What belongs together is reduced within a bound; what is beyond is told, and is neither a beginning nor an end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.pipeline import ingest
from analyzer.reductions import together
from analyzer.reductions.together import Together
from tests.datasets import CAPTURED, summaries
from tests.test_memory import later

CAPTURE, CONVERSATION = "2.2.9/D-relay-client", "udIgwgvvf34aeiUaflxmEQ"
OTHER = "2.2.9/C-srflx-nat"
DAYS = 9
Row = dict[str, Any]
BOUNDS = {"MOST_EVENTS": 60, "TUBE_EVENTS": 5, "CONVERSATION_EVENTS": 3, "MOST_VALUES": 10}


def logs(folder: Path, days: int, begin: int = 0) -> list[str]:
    """Both sides' logs of a capture, again every day: the same conversation, the same two tubes."""
    folder.mkdir(exist_ok=True)
    for side in ("client", "gateway"):
        text = (CAPTURED / CAPTURE / f"{side}.log").read_bytes()
        (folder / f"{side}.log").write_bytes(b"".join(later(text, day) for day in range(begin, begin + days)))
    return [str(folder / "client.log"), str(folder / "gateway.log")]


def bounded(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> None:
    for name, most in bounds.items():
        monkeypatch.setattr(together, name, most)


def tables(out: Path) -> dict[str, pl.DataFrame]:
    return {path.name: pl.read_parquet(path) for path in sorted(out.iterdir()) if not path.name.startswith("_")}


def reach(rows: list[Row], most: int) -> list[Row]:
    """The first of some events that weigh no more, tubes and conversations as their log names them first."""
    weight, seen, taken = 0, set(), []
    for row in rows:
        weight += 1 + row["candidates"]
        for name, own in (("tube_id", "TUBE_EVENTS"), ("conversation_id", "CONVERSATION_EVENTS")):
            key = (row["scope"], name, row[name])
            if row[name] is not None and key not in seen:
                weight += BOUNDS[own]
            seen.add(key)
        if weight > most:
            break
        taken.append(row)
    return taken


def left(rows: list[Row], share: int) -> list[int]:
    """What stays of one component, values that are in no need of a bound among it, by the words of the bounds."""
    events = [row for row in rows if not row["series_only"]]
    kept, ends = [], {}
    for scope in (0, 1, 2):
        own = [row for row in events if row["scope"] == scope]
        first = reach(own, share)
        kept += first
        ends[scope] = own[len(first)]["seq"] if len(first) < len(own) else 10**6
    in_order = sorted(kept, key=lambda row: int(row["seq"]))
    all_told = reach(in_order, BOUNDS["MOST_EVENTS"])
    end = in_order[len(all_told)]["seq"] if len(all_told) < len(in_order) else 10**6
    return [row["seq"] for row in rows if row["seq"] < min(ends[row["scope"]], end)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from([False, False, True]),
        st.sampled_from([0, 0, 1, 4]),
        st.sampled_from([None, 1, 2, 3, 4]),
        st.sampled_from([None, 1, 2]),
    ),
    max_size=200,
)


@settings(deadline=None, max_examples=150)
@given(ROWS, st.sets(st.integers(0, 200)), st.sampled_from([1, 40, 1000]), st.sampled_from([0, 20, 35]))
def test_what_is_left_out_is_the_same_however_events_come(
    drawn: list[tuple[int, int, bool, int, int | None, int | None]], cuts: set[int], looked_at: int, share: int
) -> None:
    rows = [
        {
            "seq": seq,
            "at": seq,
            "part": 0,
            "component": of,
            "scope": scope,
            "series_only": value,
            "candidates": candidates,
            "tube_id": tube,
            "conversation_id": named,
        }
        for seq, (of, scope, value, candidates, tube, named) in enumerate(drawn)
    ]
    schema = dict.fromkeys(("seq", "at", "part", "component", "scope", "candidates"), pl.UInt32) | {
        "series_only": pl.Boolean()
    }
    events = pl.DataFrame(rows, schema={**schema, "tube_id": pl.UInt64, "conversation_id": pl.UInt64})
    borders = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    with pytest.MonkeyPatch.context() as patch:
        bounded(patch, **BOUNDS, LOOKED_AT=looked_at)
        mine = Together({1: share} if share else {})
        for begin, end in pairwise(borders):
            mine.add(events[begin:end])
        kept = mine.events()
    assert kept["seq"].is_sorted()
    for component in (1, 2):
        of = [row for row in rows if row["component"] == component]
        stay = kept.filter(pl.col("component") == component)
        expected = left(of, share if share and component == 1 else BOUNDS["MOST_EVENTS"])
        told = [row["seq"] for row in of if not row["series_only"] and row["seq"] in expected]
        assert stay.filter(~pl.col("series_only"))["seq"].to_list() == told
        values = len(expected) - len(told)
        assert len(stay.filter("series_only")) == min(values, BOUNDS["MOST_VALUES"])
        out = [frame.filter(pl.col("component") == component) for frame in mine.left_out]
        assert sum(frame["lines"].sum() for frame in out) == len(of) - len(stay)
        gone = [row for row in of if not row["series_only"] and row["seq"] not in told]
        assert mine.cut >= {row["tube_id"] for row in gone} - {None}


@given(st.lists(st.integers(1, 500_000), min_size=1, max_size=400))
def test_shares_of_logs_are_within_the_bound(weights: list[int]) -> None:
    each = together.share(weights)
    taken = sum(min(weight, each) for weight in weights)
    if each > together.LEAST_SHARE:
        assert taken <= together.MOST_EVENTS
        # nothing is left out that would fit
        assert sum(weights) <= together.MOST_EVENTS or taken > together.MOST_EVENTS - len(weights)


def test_what_is_told_is_what_shorter_logs_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_logs = logs(tmp_path / "logs", DAYS)
    ingest(given_logs, tmp_path / "all")
    bounded(monkeypatch, MOST_EVENTS=600, LEAST_SHARE=100)
    done = ingest(given_logs, tmp_path / "few")
    every, few = tables(tmp_path / "all"), tables(tmp_path / "few")
    # all of it stands in `events`, and what no other table tells of in `refusals`
    assert few["events"].equals(every["events"])
    assert not len(every["refusals"])
    told = {one["source"]: one for one in few["refusals"].to_dicts()}
    assert {(name, one["reason"]) for name, one in told.items()} == {
        (f"{side}.log", "too_many_events") for side in ("client", "gateway")
    }
    (row,) = few["conversations"].to_dicts()
    assert sum(one["lines"] for one in told.values()) == row["left_out"] > 100
    assert done.refusals.sort(pl.all()).equals(few["refusals"].sort(pl.all()))
    (tmp_path / "cut").mkdir()
    for name, one in told.items():
        lines = (tmp_path / "logs" / name).read_bytes().splitlines(keepends=True)
        assert few["events"].filter(pl.col("source") == name)["line"].max() == one["last_line"]
        (tmp_path / "cut" / name).write_bytes(b"".join(lines[: one["line"] - 1]))
    monkeypatch.undo()
    ingest([str(path) for path in sorted((tmp_path / "cut").iterdir())], tmp_path / "short")
    short = tables(tmp_path / "short")
    assert short["conversations"].to_dicts() == [row | {"left_out": 0}]
    # the relay's sessions are of no log here
    for name in short.keys() - {"conversations", "events", "sources", "coverage", "unmatched", "refusals"}:
        assert few[name].equals(short[name]), name
    shown = summaries(analyzer.open(tmp_path / "few"))[CONVERSATION]
    assert f"left out {row['left_out']:,} events behind these, which are too many" in " ".join(shown.split())
    assert "left out" not in summaries(analyzer.open(tmp_path / "all"))[CONVERSATION]


def test_values_are_thinned_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_logs = logs(tmp_path / "logs", DAYS)
    ingest(given_logs, tmp_path / "all")
    bounded(monkeypatch, MOST_VALUES=10)
    ingest(given_logs, tmp_path / "few")
    every, few = tables(tmp_path / "all"), tables(tmp_path / "few")
    assert {one["reason"] for one in few["refusals"].to_dicts()} == {"too_many_values"}
    for name in every.keys() - {"refusals", "samples"}:
        assert few[name].equals(every[name]), name
    key = ["tube_id", "metric", "channel"]
    assert 0 < len(few["samples"]) < len(every["samples"])
    # where a counter starts anew stays, on either side
    runs = [found["samples"].group_by(key).agg(pl.col("run").max()).sort(key) for found in (every, few)]
    assert runs[0].equals(runs[1])


def test_it_is_the_same_whether_a_log_grew_or_came_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, MOST_EVENTS=900, MOST_VALUES=30)
    for days in (1, 4, 5, DAYS):
        ingest(logs(tmp_path / "logs", days), tmp_path / "grown")
        if days == 1:
            assert not len(pl.read_parquet(tmp_path / "grown" / "refusals"))
    ingest(logs(tmp_path / "logs", DAYS), tmp_path / "whole")
    grown, whole = tables(tmp_path / "grown"), tables(tmp_path / "whole")
    assert set(whole["refusals"]["reason"]) == {"too_many_events", "too_many_values"}
    for name, rows in whole.items():
        assert grown[name].equals(rows), name
    # nothing is rebuilt of what is the same, and nothing forgotten
    assert not ingest(logs(tmp_path / "logs", DAYS), tmp_path / "grown").changed


def test_what_is_not_left_out_any_more_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, MOST_EVENTS=900)
    ingest(logs(tmp_path / "logs", DAYS), tmp_path / "m")
    assert len(pl.read_parquet(tmp_path / "m" / "refusals"))
    monkeypatch.undo()
    # another log is what makes it look again
    ingest([str(CAPTURED / OTHER / "client.log.zst")], tmp_path / "m")
    assert not len(pl.read_parquet(tmp_path / "m" / "refusals"))
    assert pl.read_parquet(tmp_path / "m" / "conversations")["left_out"].to_list() == [0, 0]


def test_tubes_of_which_nothing_is_left_have_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "2026-11-22 13:{:02}:{:02},000 DEBUG keeper_pam_webrtc_rs.metrics.collector:"
        " Registered connection for metrics tracking (conversation_id: conv-{}, tube_id: tube-{})"
    )
    ids = [*((number, 1) for number in range(200)), *((7, number) for number in range(2, 200))]
    text = [said.format(*divmod(second, 60), *named) for second, named in enumerate(ids)]
    (tmp_path / "app.log").write_text("\n".join(text) + "\n")
    bounded(monkeypatch, **BOUNDS)
    ingest([str(tmp_path / "app.log")], tmp_path / "m")
    found = tables(tmp_path / "m")
    (told,) = found["refusals"].to_dicts()
    assert (
        told["lines"] + len(found["events"].filter(~pl.col("line").is_between(told["line"], told["last_line"]))) == 398
    )
    named = found["events"].filter(~pl.col("line").is_between(told["line"], told["last_line"]))
    assert set(found["links"]["tube_id"]) == set(named["tube_id"])
    assert set(named["conversation_id"]) <= set(found["conversations"]["conversation_id"])
    assert set(found["conversations"]["conversation_id"]) <= {f"conv-{number}" for number in range(200)}
