"""Legs of one path held against one another: repeated requests and held-up handshakes."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analyzer
from analyzer.pipeline import ingest
from analyzer.reductions import agreement
from analyzer.reductions.artefacts import HELD_UP, REQUEST_REPEATED
from analyzer.reductions.leg_names import CLIENT, END_TO_END, GATEWAY
from tests.datasets import summaries
from tests.strategies import ROOT

CASES = ROOT / "fixtures" / "cases"
LOSSY = CASES / "lossy"
SESSION = "yA7mOOa0h_UNVhbtpGf1BQ"
#: the quickest pings, and by how much what is shown may exceed them: the network's own jitter
TRUE = {CLIENT: 30.4, GATEWAY: 60.4, END_TO_END: 90.8}


ALLOCATED = (pl.col("leg") == GATEWAY, pl.col("method") == "host_to_relay")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lossy") / "metrics"
    ingest([str(LOSSY / f"{side}.log.zst") for side in ("client", "gateway")], out)
    return out


def test_what_was_lost_is_no_time_of_the_network(dataset: Path) -> None:
    (legs,) = pl.read_parquet(dataset / "connection_legs").filter(pl.col("conversation_id") == SESSION).to_dicts()
    for leg, ping in TRUE.items():
        assert legs[f"{leg}_latency_ms"] == pytest.approx(ping, abs=4)
        assert legs[f"{leg}_low_ms"] <= ping <= legs[f"{leg}_high_ms"]


def test_what_was_refused_says_why(dataset: Path) -> None:
    rows = pl.read_parquet(dataset / "leg_measurements").filter(pl.col("conversation_id") == SESSION)
    refused = rows.filter(pl.col("refused_reason").is_not_null(), pl.col("leg").is_in(list(TRUE)))
    reasons = {(row["leg"], row["method"]): row["refused_reason"].split(":")[0] for row in refused.to_dicts()}
    assert reasons[CLIENT, "gathering_relay"] == REQUEST_REPEATED.name
    assert reasons[GATEWAY, "gathering_relay"] == REQUEST_REPEATED.name
    assert reasons[END_TO_END, "dtls_flights"] == HELD_UP.name
    # its bounds stand, and hold the truth
    held = rows.filter(pl.col("leg") == GATEWAY, pl.col("method").str.contains("relay"))
    assert all(row["low_ms"] <= TRUE[GATEWAY] <= row["high_ms"] for row in held.to_dicts())


def test_an_allocation_as_slow_as_its_reflexive_candidate_holds_no_wait(tmp_path: Path) -> None:
    log = (ROOT / "fixtures" / "captured" / "2.2.9" / "D-relay-client" / "gateway.log").read_text()
    ingest([str(ROOT / "fixtures" / "captured" / "2.2.9" / "D-relay-client" / "gateway.log")], tmp_path / "m")
    whole = pl.read_parquet(tmp_path / "m" / "leg_measurements").filter(*ALLOCATED)
    # without its reflexive candidates nothing tells that its requests were answered at once
    (tmp_path / "gateway.log").write_text("".join(line for line in log.splitlines(True) if "typ srflx" not in line))
    ingest([str(tmp_path / "gateway.log")], tmp_path / "n")
    cut = pl.read_parquet(tmp_path / "n" / "leg_measurements").filter(*ALLOCATED)
    (one,), (other,) = whole.to_dicts(), cut.to_dicts()
    assert one["value_ms"] == other["value_ms"] > 70
    # 150 ms for an allocation are less than the first wait
    assert one["low_ms"] == other["low_ms"] > 50


known = st.none() | st.floats(1, 500)


@given(known, known, known, st.sampled_from([("relay", "host"), ("host", "relay"), ("relay", "relay")]))
def test_a_leg_is_at_most_what_the_others_leave(
    client: float | None, gateway: float | None, whole: float | None, path: tuple[str, str]
) -> None:
    values = {CLIENT: client, GATEWAY: gateway, END_TO_END: whole}
    single = path != ("relay", "relay")
    row = {"conversation_id": "c", "uses_relay": True, "path_is_single_relay": single, "both": True}
    row |= dict(zip(("client_end", "gateway_end"), path, strict=True))
    for leg, value in values.items():
        row |= dict.fromkeys((f"{leg}_{name}" for name in ("direct", "low_direct", "high_direct", "asked")), value)
    schema = {name: pl.Float64 for name in row if name.endswith(("direct", "asked"))}
    most = dict(agreement.limits(pl.DataFrame([row], schema_overrides=schema)).select("leg", "most_ms").rows())
    expected: dict[str, float] = {}
    if whole is not None:
        expected |= {CLIENT: whole - (gateway or 0.0), GATEWAY: whole - (client or 0.0)}
    if single and client is not None and gateway is not None:
        expected[END_TO_END] = client + gateway + agreement.FORWARDED_MS
    assert most == pytest.approx(expected)


# -- two relays --------------------------------------------------------------------------------------------------------


def test_a_summary_says_where_the_two_legs_do_not_meet(tmp_path: Path) -> None:
    ingest([str(CASES / "two_relays")], tmp_path / "m")
    shown = summaries(analyzer.open(tmp_path / "m"))
    remark = re.compile(r"the two legs are ([0-9.]+) ms or more short of end to end")
    said = {name[:6]: remark.findall(text) for name, text in shown.items()}
    # end to end there are 28.5 + 186.5 ms and the way between the relays
    assert {name for name, short in said.items() if short} == {"WmydPn"}
    assert 90 < float(*said["WmydPn"]) < 339 - 28.5 - 186.5
