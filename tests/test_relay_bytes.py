"""The relay's own counts of bytes: what they decide of the path, what they leave open, and what they never override."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer import reductions
from analyzer.pipeline import ingest
from analyzer.reductions import relay_bytes
from analyzer.reductions.facts import Facts
from tests.datasets import CAPTURED, summaries

FOLDER = CAPTURED / "2.2.9" / "J-data-transfer"
COLUMNS = ("uses_relay", "uses_relay_method", "uses_relay_contradicted_by", "path")
#: sessions of the client and of the gateway, of the conversation that went directly and of the one through the relay
DIRECT, RELAYED = ("000000000000000001", "001000000000000002"), ("001000000000000004", "001000000000000006")
Given = tuple[Facts, pl.DataFrame, pl.DataFrame, pl.DataFrame]
Change = Callable[[pl.DataFrame], pl.DataFrame]
#: `uses_relay` and its method, of each tube
Said = set[tuple[bool | None, str | None]]


def names() -> dict[bool, str]:
    """The conversation of each policy: whether the client was made to use the relay."""
    told = json.loads((FOLDER / "truth.json").read_text())["conversations"]
    return {one["client_settings"]["turn_only"]: one["conversation_id"] for one in told}


def of(out: Path) -> dict[bool, tuple[object, ...]]:
    """What a dataset says of the path of each of the two conversations."""
    legs = {row["conversation_id"]: row for row in pl.read_parquet(out / "connection_legs").to_dicts()}
    return {policy: tuple(legs[name][column] for column in COLUMNS) for policy, name in names().items()}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """What the counts are compared with, of the capture as it is."""
    seen: list[Given] = []

    def keep(facts: Facts, selected: pl.DataFrame, channels: pl.DataFrame, relay: pl.DataFrame | None) -> pl.DataFrame:
        assert relay is not None
        seen.append((facts, selected, channels, relay))
        return settle(facts, selected, channels, relay)

    settle = relay_bytes.settle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reductions.relay_bytes, "settle", keep)
        logs = [*sorted(FOLDER.glob("*.log*")), FOLDER / "coturn.txt"]
        ingest([str(path) for path in logs], tmp_path_factory.mktemp("given") / "m")
    (only,) = seen
    return only


def told(given: Given, change: Change) -> Said:
    """What is said of the direct conversation's two tubes, with the relay's sessions changed."""
    facts, selected, channels, relay = given
    client = relay.filter(pl.col("relay_session") == DIRECT[0])["tube_id"].item()
    gateway = relay.filter(pl.col("relay_session") == DIRECT[1])["tube_id"].item()
    settled = relay_bytes.settle(facts, selected, channels, change(relay))
    mine = settled.filter(pl.col("tube_id").cast(pl.String).is_in([client, gateway]))
    return set(mine.select("uses_relay", "uses_relay_method").rows())


def scaled(session: str, peers: int, side: int) -> Change:
    """Counts of one session, each way: what it exchanged with its peers, and with its side."""
    mine = pl.col("relay_session") == session
    counts = {"peer_bytes_received": peers, "peer_bytes_sent": peers, "bytes_received": side, "bytes_sent": side}
    return lambda relay: relay.with_columns(
        pl.when(mine).then(pl.lit(count)).otherwise(name).alias(name) for name, count in counts.items()
    )


NOBODY: Said = {(None, None)}
DIRECTLY: Said = {(False, "relay_bytes")}
THROUGH: Said = {(True, "relay_bytes")}
#: 3 MB went each way, 3.24 MB with the framing of what the tube counts
CASES: dict[str, tuple[Change, Said]] = {
    "as it is": (lambda relay: relay, DIRECTLY),
    "all of it through the client's": (scaled(DIRECT[0], 3_240_000, 3_400_000), THROUGH),
    "all of it through the gateway's": (scaled(DIRECT[1], 3_240_000, 3_400_000), THROUGH),
    "a loss before the relay": (scaled(DIRECT[0], 3_000_000, 3_100_000), THROUGH),
    "half of it": (scaled(DIRECT[0], 1_600_000, 1_700_000), NOBODY),
    "a fifth of it": (scaled(DIRECT[0], 650_000, 700_000), NOBODY),
    "between the side and the relay alone": (scaled(DIRECT[0], 3_000, 3_400_000), NOBODY),
    "a session still open": (
        lambda relay: relay.with_columns(
            ended_us=pl.when(pl.col("relay_session") != DIRECT[1]).then("ended_us")
        ),
        NOBODY,
    ),
    "nothing counted": (
        lambda relay: relay.with_columns(bytes_sent=pl.when(pl.col("relay_session") != DIRECT[0]).then("bytes_sent")),
        NOBODY,
    ),
    "another relay for one side": (lambda relay: relay.filter(pl.col("relay_session") != DIRECT[1]), NOBODY),
    "of other tubes only": (lambda relay: relay.filter(pl.col("relay_session").is_in(RELAYED)), NOBODY),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_counts_decide_only_what_they_prove(name: str, given: Given) -> None:
    change, expected = CASES[name]
    assert told(given, change) == expected


def test_a_small_transfer_decides_nothing(given: Given) -> None:
    facts, selected, channels, relay = given
    small = facts.tubes.with_columns(pl.lit(6000).alias(f"transport_bytes_{way}") for way in ("sent", "received"))
    few = replace(facts, tubes=small)
    for peers in (100, 6500):
        assert told((few, selected, channels, relay), scaled(DIRECT[0], peers, peers)) == NOBODY


def test_without_the_tubes_own_count_that_of_its_channels_is_taken(given: Given) -> None:
    facts, selected, channels, relay = given
    mute = facts.tubes.with_columns(
        pl.lit(None, pl.Int64).alias(f"transport_bytes_{way}") for way in ("sent", "received")
    )
    info = replace(facts, tubes=mute)
    assert told((info, selected, channels, relay), lambda sessions: sessions) == DIRECTLY
    # a channel nobody counted may have carried anything
    uncounted = channels.with_columns(bytes_sent=pl.lit(None, pl.Int64))
    assert told((info, selected, uncounted, relay), lambda sessions: sessions) == NOBODY


def test_the_capture_says_what_was_done(tmp_path: Path) -> None:
    logs = [str(path) for path in sorted(FOLDER.glob("*.log*"))]
    ingest(logs, tmp_path / "sides")
    assert of(tmp_path / "sides") == {False: (None,) * 4, True: (True, "candidates", None, "relay->host")}
    ingest([str(FOLDER / "coturn.txt")], tmp_path / "sides")
    assert of(tmp_path / "sides") == {
        False: (False, "relay_bytes", None, None),
        True: (True, "candidates", None, "relay->host"),
    }
    shown = summaries(analyzer.open(tmp_path / "sides"))[names()[False]]
    assert "direct, not through KRelay, by the relay's byte counts; candidate types open" in shown
    assert "the log does not tell whether the traffic passed the relay" not in shown


def test_the_relay_never_overrides_surer_evidence_and_says_so(tmp_path: Path) -> None:
    def counted(log: str, session: str, what: str, count: int) -> str:
        line = rf"(session {session}: {what}: .*), rp=\d+, rb=\d+, sp=\d+, sb=\d+"
        return re.sub(line, rf"\1, rp=900, rb={count}, sp=900, sb={count}", log)

    log = (FOLDER / "coturn.txt").read_text()
    for what in ("usage", "peer usage"):
        log = counted(log, DIRECT[0], what, 3_300_000)
        log = counted(log, RELAYED[0], what, 3_000)
    (tmp_path / "coturn.txt").write_text(log)
    logs = [str(path) for path in sorted(FOLDER.glob("*.log*"))]
    ingest([*logs, str(tmp_path / "coturn.txt")], tmp_path / "m")
    assert of(tmp_path / "m") == {
        False: (True, "relay_bytes", None, "relay->?"),
        True: (True, "candidates", "relay_bytes", "relay->host"),
    }
    stats = pl.read_parquet(tmp_path / "m" / "ice_stats").filter(pl.col("conversation_id") == names()[False])
    ends = ("side", "selected_pair_local_type", "selected_pair_remote_type", "selected_pair_method")
    assert sorted(stats.select(ends).rows()) == [
        ("client", "relay", None, "relay_bytes"),
        ("gateway", None, "relay", "relay_bytes"),
    ]
    shown = summaries(analyzer.open(tmp_path / "m"))
    assert "relay->?, through KRelay, by the relay's byte counts" in shown[names()[False]]
    assert "through KRelay; the relay's byte counts say otherwise" in shown[names()[True]]
