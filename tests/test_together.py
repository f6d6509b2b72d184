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


def reach(rows: list[Row], most: int) -> list[int]:
    """The first of some events that weigh no more."""
    weight, seen, taken = 0, set(), []
    for row in rows:
        weight += 1 + row["candidates"]
        for name, own in (("tube_id", "TUBE_EVENTS"), ("conversation_id", "CONVERSATION_EVENTS")):
            if row[name] is not None and (name, row[name]) not in seen:
                weight += BOUNDS[own]
            seen.add((name, row[name]))
        if weight > most:
            break
        taken.append(row["seq"])
    return taken


def ends(rows: list[Row], most: int) -> list[Row]:
    if _weight(rows) <= most:
        return rows
    stay = {*reach(rows, most // 2), *reach(rows[::-1], most // 2)}
    return [row for row in rows if row["seq"] in stay]


def _weight(rows: list[Row]) -> int:
    tubes, conversations = ({row[name] for row in rows} - {None} for name in ("tube_id", "conversation_id"))
    own: int = sum(1 + row["candidates"] for row in rows)
    return own + len(tubes) * BOUNDS["TUBE_EVENTS"] + len(conversations) * BOUNDS["CONVERSATION_EVENTS"]


def left(rows: list[Row]) -> list[int]:
    """What stays of the events of one component, by the words of the bounds, event by event."""
    logs = [ends([row for row in rows if row["scope"] == scope], BOUNDS["MOST_EVENTS"]) for scope in (0, 1, 2)]
    spare, most = BOUNDS["MOST_EVENTS"], BOUNDS["MOST_EVENTS"]
    for place, weight in enumerate(sorted(weights := [_weight(log) for log in logs if log])):
        if weight > spare // (len(weights) - place):
            most = spare // (len(weights) - place)
            break
        spare -= weight
    return sorted(row["seq"] for log in logs for row in ends(log, most))


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
@given(ROWS, st.sets(st.integers(0, 200)), st.sampled_from([1, 40, 1000]))
def test_what_is_left_out_is_the_same_however_events_come(
    drawn: list[tuple[int, int, bool, int, int | None, int | None]], cuts: set[int], looked_at: int
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
        mine = Together()
        for begin, end in pairwise(borders):
            mine.add(events[begin:end])
        kept = mine.events()
    assert kept["seq"].is_sorted()
    for component in (1, 2):
        of = [row for row in rows if row["component"] == component]
        values = [row for row in of if row["series_only"]]
        stay = kept.filter(pl.col("component") == component)
        assert stay.filter(~pl.col("series_only"))["seq"].to_list() == left(
            [row for row in of if not row["series_only"]]
        )
        assert len(stay.filter("series_only")) == min(len(values), BOUNDS["MOST_VALUES"])
        out = [frame.filter(pl.col("component") == component) for frame in mine.left_out]
        assert sum(frame["lines"].sum() for frame in out) == len(of) - len(stay)


def test_beginning_end_and_totals_are_those_of_all_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_logs = logs(tmp_path / "logs", DAYS)
    ingest(given_logs, tmp_path / "all")
    bounded(monkeypatch, MOST_EVENTS=900, MOST_VALUES=30)
    done = ingest(given_logs, tmp_path / "few")
    every, few = tables(tmp_path / "all"), tables(tmp_path / "few")
    (whole,), (row,) = every["conversations"].to_dicts(), few["conversations"].to_dicts()
    assert (whole.pop("left_out"), row["left_out"] > 100) == (0, True)
    # the same tube counts from zero every day, which only all of its events tell
    totals = [f"{what}_{way}" for what in ("bytes", "messages") for way in ("sent", "received")]
    assert all(row.pop(name) and whole.pop(name) is None for name in totals)
    assert {name: value for name, value in row.items() if name != "left_out"} == whole
    # all of it stands in `events`, and what no other table tells of in `refusals`
    assert few["events"].equals(every["events"])
    assert not len(every["refusals"])
    told = few["refusals"].to_dicts()
    assert {(one["source"], one["reason"]) for one in told} == {
        (f"{side}.log", f"too_many_{what}") for side in ("client", "gateway") for what in ("events", "values")
    }
    assert sum(one["lines"] for one in told if one["reason"] == "too_many_events") == row["left_out"]
    assert done.refusals.sort(pl.all()).equals(few["refusals"].sort(pl.all()))
    for one in told:
        lines = few["events"].filter(pl.col("source") == one["source"])["line"]
        # whole days in the middle; values are taken from everywhere
        assert lines.min() < one["line"] < one["last_line"] < lines.max()
        assert one["lines"] <= lines.is_between(one["line"], one["last_line"]).sum()
    assert 0 < len(few["samples"]) < len(every["samples"])
    shown = summaries(analyzer.open(tmp_path / "few"))[CONVERSATION]
    assert f"left out  {row['left_out']:,} events between its first and its last" in shown
    assert "left out" not in summaries(analyzer.open(tmp_path / "all"))[CONVERSATION]


def test_it_is_the_same_whether_a_log_grew_or_came_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded(monkeypatch, MOST_EVENTS=900, MOST_VALUES=30)
    for days in (1, 4, 5, DAYS):
        ingest(logs(tmp_path / "logs", days), tmp_path / "grown")
        if days == 1:
            assert not len(pl.read_parquet(tmp_path / "grown" / "refusals"))
    ingest(logs(tmp_path / "logs", DAYS), tmp_path / "whole")
    grown, whole = tables(tmp_path / "grown"), tables(tmp_path / "whole")
    assert len(whole["refusals"]) == 4
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
