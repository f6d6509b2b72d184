"""Records of the `tracing` formatter, of releases 0.2.0 to 0.2.23: coloured or not, they read like later ones."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analyzer import dialects, lines, records, tracing
from analyzer.explain import explain, render
from analyzer.inputs import Input
from analyzer.pipeline import ingest
from analyzer.tally import Tally
from tests.datasets import ACTS
from tests.strategies import ROOT

CASES = ROOT / "fixtures" / "cases" / "tracing"
CONVERSATION, TUBE = "udIgwgvvf34aeiUaflxmEQ", "f941a628-85ac-463c-a095-cfa7c8135155"
#: what stands in the logs and in no table
SECRETS = ("n0tForTables", "notHereEither", "n0rHere", "BCJdkAtWQUeBsrXGWBwSYNilvkAtFUtt", "ODrSwFKWBUmqdhsf")


def split(path: Path, dialect: dialects.Dialect | None = None) -> tuple[dialects.Dialect, pl.DataFrame]:
    found = list(records.split(lines.read(Input(path.name, path), Tally()), dialect=dialect))
    return found[0][0], pl.concat(frame for _, frame in found)


def written(folder: Path, *rows: str) -> Path:
    path = folder / "app.log"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["coloured", "plain"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracing") / "metrics"
    ingest([str(CASES / f"{request.param}.log")], out)
    return out


def test_colours_change_nothing() -> None:
    (coloured, one), (plain, other) = (split(CASES / f"{name}.log") for name in ("coloured", "plain"))
    assert coloured.name == plain.name == "tracing"
    assert coloured.votes[0] == ("tracing", len(one))
    # colours take bytes
    assert_frame_equal(one.drop("offset"), other.drop("offset"))
    assert not one["message"].str.contains("\x1b").any()


def test_one_session_comes_out(dataset: Path) -> None:
    tables = {name: pl.read_parquet(dataset / name) for name in ("conversations", "ice_stats", "connection_legs")}
    assert tables["conversations"]["conversation_id"].to_list() == [CONVERSATION]
    assert tables["conversations"]["connected"].to_list() == [True]
    (stats,) = tables["ice_stats"].to_dicts()
    assert (stats["tube_id"], stats["conversation_id"]) == (TUBE, CONVERSATION)
    counts = [stats[f"{kind}_candidates"] for kind in ("total", "host", "srflx", "relay")]
    assert counts == [3, 1, 1, 1]
    (legs,) = tables["connection_legs"].to_dicts()
    assert legs["client_to_krelay_latency_ms"] == pytest.approx(42.9)
    assert legs["client_to_krelay_method"] == "gathering_srflx"
    assert legs["end_to_end_latency_ms"] == pytest.approx(118.95)
    assert legs["end_to_end_method"] == "dtls_handshake"


def test_records_are_accounted_for(dataset: Path) -> None:
    (source,) = pl.read_parquet(dataset / "sources").to_dicts()
    assert (source["dialect"], source["rejected"], source["unmatched"]) == ("tracing", 0, 1)
    assert source["records"] == source["events"] + source["noise"] + 1


def test_secrets_are_in_no_table(dataset: Path) -> None:
    log = (CASES / "plain.log").read_text(encoding="utf-8")
    tables = [pl.read_parquet(table) for table in dataset.iterdir() if any(table.glob("*.parquet"))]
    assert tables
    held = "\n".join(str(table.to_dicts()) for table in tables)
    for secret in SECRETS:
        assert secret in log
        assert secret not in held


def test_a_message_of_several_lines_ends_with_its_fields() -> None:
    _, found = split(CASES / "coloured.log")
    (described,) = found.filter(pl.col("lines") > 1).to_dicts()
    assert described["message"].startswith("Initial v=0\no=- ")
    assert described["message"].endswith(f"\n SDP (tube_id: {TUBE})")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("text", "text"),
        ("text key=value", "text (key: value)"),
        ('text key="a text" other=3', "text (key: a text, other: 3)"),
        ('text key="a, b" other=3', 'text (key: "a, b", other: 3)'),
        (r'text key="a \"quoted=1\" b" other=3', r'text (key: "a \"quoted=1\" b", other: 3)'),
        ("text candidate=candidate:1 1 udp 2 10.0.0.1 5 typ host index=0", None),
        ("text: old=1 key= last=", "text: (old: 1, key: , last: )"),
        ("text v=0", "text v=0"),
    ],
)
def test_fields_are_a_tail(written: str, read: str | None) -> None:
    found = pl.select(tracing.spelled(pl.lit(written))).item()
    assert found == (read or "text (candidate: candidate:1 1 udp 2 10.0.0.1 5 typ host, index: 0)")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("keeper_pam_webrtc_rs::channel::core", "keeper_pam_webrtc_rs.channel.core"),
        ("ice_config", "keeper_pam_webrtc_rs.tube_registry"),
        ("webrtc_ice", "webrtc_ice"),
        ("hyper::client", "hyper.client"),
    ],
)
def test_a_logger_has_one_name(target: str, name: str) -> None:
    assert pl.select(tracing.logger(pl.lit(target))).item() == name


def test_it_is_read_inside_a_wrap_and_by_force(tmp_path: Path) -> None:
    rows = (CASES / "coloured.log").read_bytes().decode().split("\n")[:3]
    wrapped = written(tmp_path, *(f"2026-11-22T13:19:35.253000123Z stdout F {row}" for row in rows))
    dialect, found = split(wrapped)
    assert dialect.name == "cri/tracing"
    assert found["ts"].dt.year().to_list() == [2025] * 3
    forced, again = split(CASES / "coloured.log", dialects.forced("tracing"))
    assert (forced.name, len(again)) == ("tracing", 32)


def test_colours_elsewhere_make_no_record_of_this_dialect(tmp_path: Path) -> None:
    head = "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: "
    dialect, found = split(written(tmp_path, *[f"{head}\x1b[94mkey=value\x1b[0m"] * 3))
    assert dialect.name == "std"
    assert found["message"].to_list() == ["\x1b[94mkey=value\x1b[0m"] * 3


@pytest.mark.parametrize("line", [1, 12, 15, 37])
def test_explanations_show_no_escape_and_no_secret(line: int) -> None:
    told = render(explain(CASES / "coloured.log", line))
    assert "  tracing\n" in told
    assert not ACTS.search(told)
    assert not [secret for secret in SECRETS if secret in told]


def test_an_event_is_explained_by_the_rule_of_later_releases() -> None:
    kinds = {told.kind.name for told in (explain(CASES / "coloured.log", line) for line in range(20, 30)) if told.kind}
    assert {"candidate_gathered", "gathering_started", "tube_registered"} <= kinds
