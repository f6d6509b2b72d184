"""Views: what a person reads is true, safe, and fits; every view takes every dataset, the empty one too."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import analyzer
from analyzer.catalogue import TABLES
from analyzer.grammar import shipped
from analyzer.pipeline import ingest
from analyzer.views import (
    conversation,
    conversations,
    dictionary,
    ending,
    ingested,
    legs,
    progress,
    text,
)
from tests.datasets import ACTS, SEED_LINES, summaries

HOSTILE = "\x1b]0;owned\x07\x1b[31m \u202etxt\u2066 \x9b2J"


# -- safe text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain text, ümläut, 漢字, ─", "plain text, ümläut, 漢字, ─"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\u200b\u2028\ufeff", "\\u200b\\u2028\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        (None, "None"),
    ],
)
def test_shown_escapes_what_acts(given: object, shown: str) -> None:
    assert text.shown(given) == shown
    assert not ACTS.search(text.shown(given))


def test_nothing_of_a_log_reaches_the_terminal_uncoded(tmp_path: Path) -> None:
    log = tmp_path / "evil\x1b[31m.log"
    closing = "Tube abc-123 explicit close starting (conversation_id: conv-456, reason: "
    line = f"DEBUG keeper_pam_webrtc_rs.tube: {closing}{HOSTILE})"
    log.write_text("\n".join([*SEED_LINES, line]) + "\n")
    out = tmp_path / "metrics"
    done, dataset = ingest([str(log)], out), analyzer.open(out)
    replaced = {
        name: frame.with_columns(pl.col(pl.String).replace("host", HOSTILE)) for name, frame in dataset.tables.items()
    }
    hostile = analyzer.Dataset(
        dataset.path, 1, {**replaced, "conversations": dataset.conversations.with_columns(close_reason=pl.lit(HOSTILE))}
    )
    views = [
        *summaries(hostile).values(),
        conversations.render(conversations.gather(hostile), HOSTILE),
        ingested.render(ingested.gather(done, dataset), HOSTILE),
    ]
    for view in views:
        assert not ACTS.search(view)
    assert "\\x1b]0;owned" in views[0]
    assert text.as_json(conversation.as_values(conversation.gather(hostile, "conv-456"))).isascii()


# -- numbers and layout -----------------------------------------------------------------------------------------------


def test_numbers_keep_null_and_zero_apart() -> None:
    assert [text.number(value, "ms") for value in (None, 0.0, 0.01, 44.5, 76.0, 2152.0)] == [
        "—",
        "0 ms",
        "0.01 ms",
        "44.5 ms",
        "76 ms",
        "2,152 ms",
    ]
    assert [text.span(ms) for ms in (0, 9999, 48_100, 700_000, 18_000_000)] == [
        "0 ms",
        "9,999 ms",
        "48.1 s",
        "11.7 min",
        "5 h",
    ]
    assert [text.size(count) for count in (0, 999, 4560, 3_010_981, 5 * 10**9)] == [
        "0 B",
        "999 B",
        "4.6 kB",
        "3 MB",
        "5 GB",
    ]
    assert [text.counted(count, "line") for count in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


def test_grid_aligns_what_is_wide_and_painted() -> None:
    lines = text.grid([["漢字", "1"], [[("ab", "red")], "22"]], text.ansi, right=(1,), indent=0)
    assert lines == ["漢字   1", "\x1b[31mab\x1b[0m    22"]


def test_json_has_no_nan_and_iso_times() -> None:
    moment = datetime(2026, 11, 22, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    written = text.as_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": moment}, "e": "\x1b─"})
    assert json.loads(written) == {"a": None, "b": [None, 1.5], "c": {"d": "2026-11-22T12:00:00Z"}, "e": "\x1b─"}
    assert written.isascii()
    assert "NaN" not in written


def test_a_stream_that_cannot_say_it_gets_ascii() -> None:
    drawing = "client ── 41 ms ── KRelay ┄ — ÷ é"
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    text.write(drawing, stream)
    assert raw.getvalue() == b"client -- 41 ms -- KRelay . - / \\xe9\n"
    assert text.spelled(drawing, "utf-8") == drawing


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert text.paint_for(io.StringIO()) is text.plain
    assert text.paint_for(_Terminal()) is text.ansi
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.paint_for(_Terminal()) is text.plain


# -- legs -------------------------------------------------------------------------------------------------------------

RELAYED = {
    "client_to_krelay_latency_ms": 41.0,
    "client_to_krelay_method": "gathering_relay",
    "krelay_to_gateway_latency_ms": 71.0,
    "krelay_to_gateway_method": "gathering_srflx",
    "end_to_end_latency_ms": 112.0,
    "end_to_end_method": "dtls_handshake",
    "uses_relay": True,
}


def test_legs_of_a_relayed_path() -> None:
    assert legs.draw(RELAYED, text.plain) == [
        "  client ── 41 ms ── KRelay ── 71 ms ── gateway",
        "       gathering_relay    gathering_srflx",
        "  client ─────────── 112 ms ─────────── gateway   end to end",
        "                 dtls_handshake",
    ]


def test_bounds_stand_below_the_methods() -> None:
    bounds = {"client_to_krelay_low_ms": 35.5, "client_to_krelay_high_ms": 43.0, "end_to_end_high_ms": 115.0}
    assert legs.draw({**RELAYED, **bounds}, text.plain)[:4] == [
        "  client ── 41 ms ── KRelay ── 71 ms ── gateway",
        "       gathering_relay    gathering_srflx",
        "          36 to 43",
        "  client ─────────── 112 ms ─────────── gateway   end to end",
    ]


def test_legs_of_a_direct_path_say_that_the_relay_was_not_taken() -> None:
    drawn = legs.draw({**RELAYED, "uses_relay": False}, text.plain)
    assert drawn[0] == "  client ─────────── 112 ms ─────────── gateway   end to end"
    assert drawn[3] == "  client ┄┄ 41 ms ┄┄ KRelay ┄┄ 71 ms ┄┄ gateway"
    assert "the traffic did not pass here" in drawn[-1]


def test_unknown_legs_are_question_marks() -> None:
    assert legs.draw({}, text.plain) == [
        "  client ── ? ── KRelay ── ? ── gateway",
        "  client ───────── ? ────────── gateway   end to end",
    ]
    open_path = legs.draw({**RELAYED, "uses_relay": None}, text.plain)
    assert "does not tell whether the traffic passed the relay" in open_path[-1]
    unconnected = legs.draw({**RELAYED, "uses_relay": None}, text.plain, connected=False)
    assert "no connection came of it" in unconnected[-1]


def test_a_direct_path_without_relay_draws_none() -> None:
    drawn = legs.draw(
        {"uses_relay": False, "end_to_end_latency_ms": 1.5, "end_to_end_method": "dtls_handshake"}, text.plain
    )
    assert not any("KRelay" in line for line in drawn)


GUACD = {"gateway_to_guacd_latency_ms": 2.0, "gateway_to_guacd_method": "backend_connect"}
TARGET = {"gateway_to_target_latency_ms": 3.0, "gateway_to_target_method": "backend_connect"}


def test_the_way_goes_on_beyond_the_gateway() -> None:
    assert legs.draw({**RELAYED, **GUACD}, text.plain) == [
        "  client ── 41 ms ── KRelay ── 71 ms ── gateway ── 2 ms ── guacd",
        "       gathering_relay    gathering_srflx     backend_connect",
        "  client ─────────── 112 ms ─────────── gateway   end to end",
        "                 dtls_handshake",
    ]
    assert legs.draw({**RELAYED, **TARGET, "uses_relay": False}, text.plain)[:4] == [
        "  client ─────────── 112 ms ─────────── gateway ── 3 ms ── target",
        "                 dtls_handshake               backend_connect",
        "",
        "  client ┄┄ 41 ms ┄┄ KRelay ┄┄ 71 ms ┄┄ gateway",
    ]


def test_a_way_that_forks_at_the_gateway_is_drawn_twice() -> None:
    drawn = legs.draw({**RELAYED, **GUACD, **TARGET}, text.plain)
    assert drawn[0].endswith("gateway ── 2 ms ── guacd")
    assert drawn[4] == "  gateway ── 3 ms ── target"


def test_long_methods_do_not_run_into_one_another() -> None:
    methods = {
        "client_to_krelay_method": "gathering_allocation_error",
        "krelay_to_gateway_method": "gathering_relay_minus_srflx",
    }
    below = legs.draw({**RELAYED, **methods}, text.plain)[1]
    assert below.split() == list(methods.values())


# -- list -------------------------------------------------------------------------------------------------------------


def test_the_list_begins_with_the_worst() -> None:
    rows = [
        ("a", "connected_closed", 10.0), ("b", "connected_closed", 90.0), ("c", "failed", None), ("d", "unknown", 5.0),
        ("e", "connected_open", 1.0), ("f", "never_connected", None), ("g", "connected_lost", 3.0),
        ("h", "connected_closed", None),
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["conversation_id", "outcome", "end_to_end_latency_ms"], orient="row")
    tables = {
        "conversations": TABLES["conversations"].conform(frame.select("conversation_id", "outcome")).lazy(),
        "connection_legs": TABLES["connection_legs"]
        .conform(frame.select("conversation_id", "end_to_end_latency_ms"))
        .lazy(),
        **{name: TABLES[name].empty().lazy() for name in ("turn_attempts", "links")},
    }
    ranked = conversations.gather(analyzer.Dataset(Path("metrics"), 1, tables))["conversations"]
    assert "".join(row["conversation_id"] for row in ranked) == "cgfdebah"


def test_an_empty_dataset_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("hello\n")
    done = ingest([str(tmp_path / "other.log")], tmp_path / "metrics")
    dataset = analyzer.open(tmp_path / "metrics")
    assert conversations.render(conversations.gather(dataset), "metrics").startswith("No conversation in metrics.")
    shown = ingested.render(ingested.gather(done, dataset), "metrics")
    assert "other.log  1 line set aside: no known dialect; see --dialect" in shown
    assert "No conversation yet" in shown


# -- ingest -----------------------------------------------------------------------------------------------------------


def test_the_summary_of_an_ingest(tmp_path: Path) -> None:
    log = tmp_path / "seed.log"
    log.write_text("\n".join([*SEED_LINES, "INFO somebody.else: hello"]) + "\n")
    (tmp_path / "copy.log").write_bytes(log.read_bytes())
    out = tmp_path / "metrics"
    first = ingest([str(log), str(tmp_path / "copy.log")], out)
    values = ingested.gather(first, analyzer.open(out))
    assert values["totals"]["records"] == 6
    assert values["conversations"] == {"total": 1, "connected": 0, "not_connected": 0, "unknown": 1}
    shown = ingested.render(values, out)
    assert shown.startswith("2 sources, 6 lines")
    assert "1 source of the same bytes" in shown
    assert re.search(r"events +5 ", shown)
    assert f"Next: analyzer summarize --data {out}" in shown
    again = ingest([str(log)], out)
    assert "nothing new" in ingested.render(ingested.gather(again, analyzer.open(out)), out)


def test_remarks_on_a_source() -> None:
    source = {
        "dialect": "std",
        "header": "timed",
        "dialect_votes": "std 10, dash 6",
        "lines": 9,
        "records": 9,
        "rejected": 0,
        "cut_lines": 1,
        "duplicates": 0,
        "name": "app.log",
        "pending_bytes": 0,
        "events": 0,
        "bytes": 900,
        "problem": "EOFError: early",
    }
    remarks = sorted(ingested._remarks(source))
    assert [rank for rank, _ in remarks] == [0, 1, 2]
    assert "std 10, dash 6" in remarks[1][1]
    assert not list(
        ingested._remarks({**source, "dialect_votes": "std 10, dash 1", "cut_lines": 0, "events": 1, "problem": None})
    )
    read = {**source, "dialect_votes": "bare 10", "cut_lines": 0, "events": 1, "problem": None, "header": "untimed"}
    assert list(ingested._remarks(read)) == [(6, ingested.UNTIMED)]
    told = {**read, "header": "timed", "events": 1200}
    for duplicates, said in ((1200, "a copy of what another log tells"), (600, "600 of its 1,200 events repeat")):
        ((rank, remark),) = ingested._remarks({**told, "duplicates": duplicates})
        assert rank == 5
        assert said in remark


def test_progress_draws_on_terminals_only(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 1000)
    terminal, pipe = _Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        with progress.watching([str(log)], tmp_path / "metrics", stream) as advance:
            advance(500)
    assert pipe.getvalue() == ""
    assert "[###############---------------]  50%  500 B" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert progress.drawn(2000, 1000) == progress.drawn(2000, None) == "read 2 kB"
    (tmp_path / "b.log.gz").write_bytes(b"")
    assert progress.expected([str(tmp_path)], tmp_path / "metrics") is None


# -- dictionary -------------------------------------------------------------------------------------------------------


def test_the_dictionary_has_every_table_and_column() -> None:
    shown = dictionary.render_tables(dictionary.tables())
    marked = dictionary.markdown_tables(dictionary.tables())
    for table in TABLES.values():
        assert f"{table.name}: {table.row}" in shown
        assert f"## {table.name}" in marked
        for column in table.columns:
            assert re.search(rf"^  {column.name}  ", shown, re.MULTILINE)
            assert f"| `{column.name}` |" in marked


def test_the_dictionary_has_every_kind_and_sample() -> None:
    found = dictionary.events()
    assert len(found) == sum(len(one.kinds) for one in shipped().values())
    shown = dictionary.render_events(found)
    assert not ACTS.search(shown)
    for event in found:
        assert event["doc"]
        assert event["samples"]
        assert event["kind"] in shown


@pytest.mark.parametrize("look", [dictionary.tables, dictionary.events])
def test_an_unknown_entry_names_the_nearest(look: Any) -> None:
    with pytest.raises(dictionary.UnknownEntry) as caught:
        look("conversation")
    assert caught.value.exit_code == 2
    with pytest.raises(dictionary.UnknownEntry, match="lists them"):
        look("zzzzzz")


def test_no_line_from_before_a_loss_is_named_for_its_cause() -> None:
    at = datetime(2026, 11, 22, 13, 35, tzinfo=UTC)
    # of one log alone no agent's verdict dates the loss back: what it logged is all
    link = dict.fromkeys(("lost_low_at", "lost_high_at", "close_reason", "closing_cause"), None) | {
        "side": "client", "tube_id": "t", "lost": True, "outages": 1, "restarts_tried": 0, "ended_by": "closed",
        "connected": True, "begun": True, "lost_logged_at": at, "closed_at": at, "to_at": at,
    }  # fmt: skip
    causes = [
        {"ts": at + timedelta(seconds=by), "kind": "backend_closed", "close_reason": "ConnectionLost", "tube_id": "t"}
        | {"source": "client.log", "line": line}
        for by, line in ((-75, 155), (1, 612))
    ]
    said = "\n".join(ending.render("connected_lost", [link], [], causes, text.plain))
    assert "client.log:612" in said
    assert "client.log:155" not in said
