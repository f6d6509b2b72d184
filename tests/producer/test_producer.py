"""The real library writes a log, here and now; what is rebuilt is what the run and the library's own API know.

`pytest -m producer -rs` runs all of it, `-k newest` the newest release alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.accounting.release_marks import LOCATED_IN
from analyzer.accounting.releases import order
from analyzer.pipeline import ingest
from tests.producer.environment import Unavailable, installed, session

pytestmark = pytest.mark.producer
RELEASES = ("newest", "1.0.*")
#: what the library adds to a payload of 64 kB: frames and control messages
FRAMING = 1.10
#: delays only add: a round trip may seem so much shorter, for its start was told late, and so much longer on a busy
#: machine
SHORTER_MS, LONGER_MS = 30.0, 500.0


@dataclass(frozen=True, slots=True)
class Session:
    """A run of two peers: what it knows, and the tables rebuilt from the logs it wrote."""

    facts: dict[str, Any]
    tables: dict[str, pl.DataFrame]

    @property
    def sides(self) -> dict[str, Any]:
        sides: dict[str, Any] = self.facts["sides"]
        return sides

    def row(self, table: str, side: str) -> dict[str, Any]:
        return self.tables[table].row(by_predicate=pl.col("tube_id") == self.sides[side]["tube_id"], named=True)


@cache
def _outcome(release: str, folder: Path) -> Session | str:
    try:
        python = installed(release, folder / "venv")
    except Unavailable as why:
        return str(why)
    facts = session(python, folder / "logs")
    if not any(side["candidates"] for side in facts["sides"].values()):
        return "no network interface here gives an ICE candidate"
    ingest([str(path) for path in sorted((folder / "logs").glob("*.log"))], folder / "metrics", addresses="raw")
    names = ("conversations", "ice_stats", "connection_legs", "candidates", "sources", "unmatched")
    return Session(facts, {name: pl.read_parquet(folder / "metrics" / name) for name in names})


@pytest.fixture(scope="module", params=RELEASES)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The session of one release, run once; skipped with the reason where that release cannot be had."""
    found = _outcome(request.param, tmp_path_factory.mktemp("producer"))
    if isinstance(found, str):
        pytest.skip(found)
    return found


def test_the_conversation_is_found_as_it_went(real: Session) -> None:
    (row,) = real.tables["conversations"].to_dicts()
    assert real.facts["connected"]
    assert row["conversation_id"] == real.facts["conversation_id"]
    assert set(row["tube_ids"]) == {side["tube_id"] for side in real.sides.values()}
    assert (row["sides"], row["connected"], row["outcome"]) == (["client", "gateway"], True, "connected_closed")
    assert {side: real.row("ice_stats", side)["side"] for side in real.sides} == {name: name for name in real.sides}


def test_bytes_are_those_that_went_through(real: Session) -> None:
    (row,) = real.tables["conversations"].to_dicts()
    sent, back = real.facts["bytes_sent"], real.facts["bytes_back"]
    assert back == sent
    assert sent <= row["bytes_sent"] <= sent * FRAMING
    assert back <= row["bytes_received"] <= back * FRAMING
    # the live API adds the running totals up at every sample: it cannot say less
    live = real.sides["client"]["live_stats"]
    assert live["total_bytes_sent"] >= row["bytes_sent"] - sent * (FRAMING - 1)


@pytest.mark.parametrize("side", ["client", "gateway"])
def test_candidates_are_those_that_were_signalled(real: Session, side: str) -> None:
    rows = real.tables["candidates"].filter(pl.col("tube_id") == real.sides[side]["tube_id"])
    other = {"client": "gateway", "gateway": "client"}[side]
    for direction, gathered in (("local", side), ("remote", other)):
        words = [text.removeprefix("candidate:").split() for text in real.sides[gathered]["candidates"]]
        ours = rows.filter(pl.col("direction") == direction).select("address", "port", "candidate_type")
        assert set(ours.rows()) >= {(word[4], int(word[5]), word[7]) for word in words} or direction == "remote"
        assert set(ours.rows()) <= {(word[4], int(word[5]), word[7]) for word in words}


@pytest.mark.parametrize("side", ["client", "gateway"])
def test_candidate_counts_are_those_of_the_live_api(real: Session, side: str) -> None:
    live = real.sides[side]["live_stats"]["webrtc_stats"]["ice_stats"]
    counts = [f"{kind}_candidates" for kind in ("total", "host", "srflx", "relay")]
    row = real.row("ice_stats", side)
    assert {name: row[name] for name in counts} == {name: live[name] for name in counts}


@pytest.mark.parametrize(("side", "leg"), [("client", "client_to_krelay"), ("gateway", "krelay_to_gateway")])
def test_a_leg_is_the_delay_of_its_server(real: Session, side: str, leg: str) -> None:
    served = real.sides[side]["relay_ms"]
    if served is None:
        pytest.skip("the port of STUN is taken on this machine")
    (row,) = real.tables["connection_legs"].to_dicts()
    assert served - SHORTER_MS < row[f"{leg}_latency_ms"] < served + LONGER_MS
    # the library itself has no such number
    assert f"{leg}_latency_ms" not in real.sides[side]["live_stats"]["webrtc_stats"]["connection_legs"]


def test_every_record_is_known(real: Session) -> None:
    unknown = real.tables["unmatched"].select("target", "skeleton", "count").rows()
    if order(real.facts["release"]) > order(LOCATED_IN[-1]) and unknown:
        pytest.skip(f"{real.facts['release']} is newer than any release looked into, and says {unknown}")
    for source in real.tables["sources"].to_dicts():
        assert source["rejected"] == 0
        assert source["unmatched"] <= 0.005 * source["records"], unknown


def test_the_release_is_in_the_interval(real: Session) -> None:
    for source in real.tables["sources"].to_dicts():
        low, high = source["producer_release_low"], source["producer_release_high"]
        assert order(low) <= order(real.facts["release"])
        assert high is None or order(real.facts["release"]) <= order(high)
        assert source["producer_release_confidence"] == "strong"
