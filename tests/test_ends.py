"""Ends of their own: of a conversation whose tube goes on for others, and of a tube that the library gives up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import analyzer
from analyzer.pipeline import ingest
from tests.datasets import CAPTURED, built, summaries
from tests.oracle.ends import CHANNEL, PATH, Step, last_loss, own_end
from tests.test_life import SET_UP, closing, composed, down, part, rows

SHARED, G = "2.2.9/I-conversations-on-one-tube", "2.2.9/G-ice-restart"
START = datetime(2026, 11, 22, 13, tzinfo=UTC)
CASES = Path(__file__).parents[1] / "fixtures" / "cases"
LABELS = ("conv-1", "conv-2", "conv-3")


def done(capture: str, what: str) -> datetime:
    """When the test bed was done with something, by its own clock."""
    events = json.loads((CAPTURED / capture / "truth.json").read_text())["events"]
    return next(datetime.fromtimestamp(event["t"], UTC) for event in events if event["what"] == what)


def case(name: str, folder: Path) -> Path:
    """A dataset of one composed log."""
    ingest([str(CASES / name)], folder / "m")
    return folder / "m"


def joins(label: str, at: float = 2) -> str:
    registered = "Registered connection for metrics tracking"
    return f"{at} metrics.collector: {registered} (conversation_id: {label}, tube_id: tube-1)"


def opened(label: str, at: float) -> str:
    return Step("open", label).line(0).replace("0", str(at), 1)


# -- a conversation of a shared tube -----------------------------------------------------------------------------------


def test_a_conversation_that_was_closed_ends_while_its_tube_goes_on(tmp_path: Path) -> None:
    out = built(SHARED, tmp_path / "m")
    asked, closed = done(SHARED, "close_connection"), done(SHARED, "close_connection_done")
    ended = {row["conversation_id"]: row for row in rows(out, "conversations")}
    (own,) = (row for row in ended.values() if row["close_reason"] == "Error")
    others = [row for row in ended.values() if row is not own]
    # its task needs 200 ms more than the call that asked for it
    assert timedelta(0) <= own["ended_at"] - closed < timedelta(milliseconds=300)
    assert own["outcome"] == "connected_closed"
    assert all(row["ended_at"] - own["ended_at"] > timedelta(seconds=6) for row in others)
    mine = {row["side"]: row for row in rows(out, "links", conversation_id=own["conversation_id"])}
    assert {side: row["ended_by"] for side, row in mine.items()} == dict.fromkeys(mine, "channel_closed")
    assert {row["close_reason"] for row in mine.values()} == {"Error"}
    assert timedelta(0) <= mine["client"]["closed_at"] - asked < timedelta(milliseconds=5)
    assert mine["client"]["to_at"] == own["ended_at"]
    # the gateway kept the channel until its peer closed the tube
    assert mine["gateway"]["closed_at"] - mine["client"]["closed_at"] > timedelta(seconds=6)
    # what closed the tube is told to the host for each channel beforehand, and is no own end
    theirs = pl.col("conversation_id") != own["conversation_id"]
    assert set(pl.read_parquet(out / "links").filter(theirs)["ended_by"]) == {"closed"}
    shown = summaries(analyzer.open(out))[own["conversation_id"]]
    assert "UTC, for 12.6 s" in shown
    assert "client   its own channel closed at 13:16:12.637, reason Error" in shown


def test_of_one_log_alone_the_end_is_that_sides(tmp_path: Path) -> None:
    out = part(tmp_path, SHARED, lambda lines: lines, "client")
    (row,) = (row for row in rows(out, "links") if row["ended_by"] == "channel_closed")
    (conversation,) = rows(out, "conversations", conversation_id=row["conversation_id"])
    assert (conversation["ended_at"], conversation["close_reason"]) == (row["to_at"], "Error")


def test_the_first_conversation_of_a_tube_may_end_first(tmp_path: Path) -> None:
    out = case("shared_tube/client.log", tmp_path)
    found = {row["conversation_id"]: row for row in rows(out, "conversations")}
    assert {name: (row["outcome"], row["close_reason"]) for name, row in found.items()} == {
        "conv-1": ("connected_closed", "AdminClosed"),
        "conv-2": ("connected_lost", "Normal"),
    }
    # lines that name the tube alone are its own, up to its end
    assert found["conv-1"]["ended_at"] == START + timedelta(seconds=10.2)
    links = {row["conversation_id"]: row for row in rows(out, "links")}
    assert {name: (row["ended_by"], row["lost"]) for name, row in links.items()} == {
        "conv-1": ("channel_closed", False),
        "conv-2": ("closed", True),
    }


def test_alone_on_its_tube_a_conversation_ends_with_it(tmp_path: Path) -> None:
    asked = "10 tube: Tube tube-1: Signaling channel 'conv-1' to close with AdminClosed reason."
    out = composed(tmp_path, *SET_UP, asked, *closing(90))
    (row,), (link,) = rows(out, "conversations"), rows(out, "links")
    assert (row["ended_at"], link["ended_by"]) == (START + timedelta(seconds=90.1), "closed")
    assert row["close_reason"] == "AdminClosed"


steps = st.builds(Step, st.sampled_from([*CHANNEL, *PATH]), st.sampled_from(LABELS))


@settings(max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.lists(steps, max_size=9), st.booleans())
def test_own_ends_equal_the_fold(told: list[Step], closes: bool) -> None:
    beginnings = [Step("open", label) for label in LABELS]
    # losses stand further apart than the agent needs to tell one
    lives = [*enumerate(beginnings, 3), *((40 * n, step) for n, step in enumerate(told, 1))]
    lives += [(4000, Step("tube"))] if closes else []
    with TemporaryDirectory() as folder:
        lines = (*SET_UP[:-1], *map(joins, LABELS), *(step.line(at) for at, step in lives))
        out = composed(Path(folder), *lines)
        links = {row["conversation_id"]: row for row in rows(out, "links")}
        ended = {row["conversation_id"]: row["ended_at"] for row in rows(out, "conversations")}
    lost = last_loss(lives) is not None
    for label in LABELS:
        end, link = own_end(lives, label), links[label]
        assert link["lost"] is (lost and end is None)
        if end is None:
            assert link["ended_by"] == ("closed" if closes or link["close_reason"] else "log_ended")
        else:
            assert (link["ended_by"], link["closed_at"]) == ("channel_closed", START + timedelta(seconds=end.began))
            assert link["to_at"] == ended[label] == START + timedelta(seconds=end.gone)


# -- a tube that the library gave up -----------------------------------------------------------------------------------

MARKED = "50 tube: Tube tube-1: marked channel conv-1 ConnectionLost for ICE restart (conversation_id: conv-1)"
RECOVERED = (*down(50), MARKED, *down(60, "Connected"))
GIVEN_UP = "Last channel deregistered on a terminal/active tube — auto-closing to prevent zombie (tube_id: tube-1)"


def ending(at: float, reason: str | None, *, asked: bool = False, gone: bool = True) -> tuple[str, ...]:
    """The end of a channel and of its tube, as 2.2.9 tells it."""
    request = f"{at} tube: Tube tube-1: Set channel_close_reason to {reason} before sending CloseConnection"
    task = "Channel 'conv-1' closing — connections: 1: [2] (server_mode: true, conversation_id: conv-1)"
    summary = f"Connection summary (channel_id: conv-1, conn_no: 2, reason: {reason}, total_connections: 1)"
    steps = (
        f"{at + 0.1} channel.protocol: Endpoint WebRTC state changed: Open -> Closed (channel_id: conv-1)",
        f"{at + 0.2} channel.core: {task}",
        f"{at + 0.3} channel.core: Closing connection - {summary}",
        f"{at + 0.4} tube: {GIVEN_UP}",
        f"{at + 0.5} tube: Tube tube-1 explicit close starting (reason: Normal)",
        f"{at + 0.6} tube: Tube tube-1 closed successfully (peer connection closed, total time: 1.6ms)",
    )
    return (*([f"{request} (channel: conv-1)"] if asked else []), *(steps if gone else steps[1:]))


def test_a_tube_given_up_since_its_path_was_gone_is_lost(tmp_path: Path) -> None:
    out = built(G, tmp_path / "m")
    (row,) = rows(out, "conversations")
    assert (row["outcome"], row["close_reason"]) == ("connected_lost", "ConnectionLost")
    client, gateway = rows(out, "links", side="client")[0], rows(out, "links", side="gateway")[0]
    assert (client["lost"], client["close_reason"], client["closing_cause"]) == (True, "ConnectionLost", "data_channel")
    # the first loss was of the link and is dated; the second is known by the data channel alone
    changed = done(G, "client-address-change")
    assert timedelta(0) < client["lost_logged_at"] - changed < timedelta(seconds=5)
    assert (client["outages"], client["lost_low_at"], client["lost_high_at"]) == (2, None, None)
    # the host closed the other side, whose path had come back
    assert (gateway["lost"], gateway["close_reason"], gateway["closing_cause"]) == (False, "Normal", None)
    (shown,) = summaries(analyzer.open(out)).values()
    assert "lost at 13:37:12.730 or before" in shown
    assert "closed at 13:37:12.985 by the library, its data channel gone, reason ConnectionLost" in shown


def test_only_an_unasked_end_is_a_loss(tmp_path: Path) -> None:
    one = "Connection summary (channel_id: conv-1, conn_no: 1, reason: ConnectionLost)"
    before = f"20 channel.core: Closing connection - {one}"
    # the mark of a loss outlives the path that came back; a goodbye puts its own reason in its place
    lives = {
        "lost at once": ending(90, "ConnectionFailed"),
        "asked": (*RECOVERED, *ending(90, "ConnectionLost", asked=True)),
        "user": (*RECOVERED, *closing(90), *ending(91, "ConnectionLost")),
        "backend": (*RECOVERED, *ending(90, "ConnectionLost", gone=False)),
        "earlier": (before, *ending(90, "Normal")),
    }
    told: dict[str, tuple[str, bool, str | None]] = {}
    for name in ("lost", "goodbye", *lives):
        (tmp_path / name).mkdir()
        folder = tmp_path / name
        out = composed(folder, *SET_UP, *lives[name]) if name in lives else case(f"given_up/{name}.log", folder)
        (link,) = rows(out, "links")
        told[name] = (rows(out, "conversations")[0]["outcome"], link["lost"], link["close_reason"])
    assert told == {
        "lost": ("connected_lost", True, "ConnectionLost"),
        "lost at once": ("connected_lost", True, "ConnectionFailed"),
        "goodbye": ("connected_closed", False, "Normal"),
        "asked": ("connected_lost", False, "ConnectionLost"),
        "user": ("connected_closed", False, "Normal"),
        "backend": ("connected_closed", False, "Normal"),
        "earlier": ("connected_closed", False, "Normal"),
    }


def test_all_conversations_of_a_tube_given_up_are_lost(tmp_path: Path) -> None:
    both = [
        line.replace("conv-1", label) for line in ending(90, "ConnectionLost")[:3] for label in ("conv-1", "conv-2")
    ]
    out = composed(tmp_path, *SET_UP, joins("conv-2"), opened("conv-2", 2.1), *both, *ending(90, "ConnectionLost")[3:])
    assert {row["outcome"] for row in rows(out, "conversations")} == {"connected_lost"}
    assert {(row["ended_by"], row["lost"]) for row in rows(out, "links")} == {("closed", True)}


@pytest.mark.parametrize("name", ["bare", "INFO only"])
def test_a_log_that_tells_less_is_not_made_to_tell_more(name: str, tmp_path: Path) -> None:
    def bare(lines: Sequence[str]) -> Sequence[str]:
        return [line.split(" ", 2)[2] for line in lines if line[:2] == "20"]

    def info(lines: Sequence[str]) -> Sequence[str]:
        return [line for line in lines if " DEBUG " not in line[:120]]

    out = part(tmp_path, G, bare if name == "bare" else info)
    (row,) = rows(out, "conversations")
    # without times the order of lines proves the same
    expected = "connected_lost" if name == "bare" else "connected_closed"
    assert (row["outcome"], pl.read_parquet(out / "links")["lost"].any()) == (expected, name == "bare")


# -- a goodbye that did not arrive -------------------------------------------------------------------------------------


def test_whose_peer_had_closed_is_not_lost(tmp_path: Path) -> None:
    out = case("goodbye_unheard", tmp_path)
    (row,) = rows(out, "conversations")
    assert (row["outcome"], row["closed_first"], row["close_reason"]) == ("connected_closed", "client", "Normal")
    links = {link["side"]: link for link in rows(out, "links")}
    assert {side: (link["lost"], link["outages"]) for side, link in links.items()} == dict.fromkeys(links, (False, 0))
    # the call that closed it, by the clock of the one who called
    assert links["client"]["closed_at"] == datetime(2026, 11, 30, 12, 36, 31, 836000, UTC)


def test_of_the_side_that_heard_nothing_alone_it_is(tmp_path: Path) -> None:
    (row,) = rows(case("goodbye_unheard/gateway.log.zst", tmp_path), "conversations")
    assert (row["outcome"], row["closed_first"]) == ("connected_lost", None)


NEVER_OPENED = (
    "9.1 tube: Data channel 'conv-1' closed before opening (expected during cleanup): Data channel is closing"
    " (tube_id: tube-1, conversation_id: conv-1)"
)


@pytest.mark.parametrize(("told", "outcome"), [((), "unknown"), ((NEVER_OPENED,), "never_connected")])
def test_an_offer_that_nobody_answered_never_connected(told: Sequence[str], outcome: str, tmp_path: Path) -> None:
    out = composed(tmp_path, *SET_UP[:4], *closing(9), *told)
    (row,) = rows(out, "conversations")
    assert row["outcome"] == outcome


def test_a_peer_connection_that_is_not_freed_does_not_prolong_its_conversation(tmp_path: Path) -> None:
    out = composed(tmp_path, *SET_UP, *closing(9), *down(70))
    (row,) = rows(out, "conversations")
    assert (row["outcome"], row["ended_at"]) == ("connected_closed", START + timedelta(seconds=9.1))


# -- what comes behind a close -----------------------------------------------------------------------------------------


def test_the_default_that_a_channel_ends_with_behind_a_close_is_no_loss(tmp_path: Path) -> None:
    # one session each was closed by its gateway, by both ends, and by a client whose gateway had been killed
    told = {row["conversation_id"][:4]: row for row in rows(case("closed_by_gateway", tmp_path), "conversations")}
    assert {row["outcome"] for row in told.values()} == {"connected_closed"}
    assert told["AiTv"]["closed_first"] == "gateway"


def test_a_restart_that_fails_behind_the_close_is_no_cause_of_it(tmp_path: Path) -> None:
    out = case("network_changed", tmp_path)
    told = {row["conversation_id"][:4]: row for row in rows(out, "conversations")}
    # the network was away for 15, 42 and 140 s
    assert [told[name]["outcome"] for name in ("uKlC", "4DMg", "4pxr")] == [
        "connected_closed", "connected_closed", "connected_lost",
    ]  # fmt: skip
    links = [row for row in rows(out, "links") if row["conversation_id"].startswith("4DMg")]
    assert [(row["closing_cause"], row["restarts_timed_out"]) for row in links] == [(None, 0), (None, 0)]
    assert max(row["outages"] for row in links) == 1


@pytest.mark.parametrize(("asked", "cause"), [((), "peer_connection"), (closing(20)[:1], None), (closing(20), None)])
def test_a_tube_that_says_behind_its_close_that_it_closes_is_no_cause_of_it(
    asked: Sequence[str], cause: str | None, tmp_path: Path
) -> None:
    itself = "60 webrtc_core: WebRTC closed. Initiating tube close. (tube_id: tube-1, old_status: Active)"
    (link,) = rows(composed(tmp_path, *SET_UP, *asked, itself, *closing(61)), "links")
    assert link["closing_cause"] == cause
