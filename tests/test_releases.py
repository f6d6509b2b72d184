"""The release that wrote a log: in the interval, the interval narrow, and nothing said where nothing is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analyzer.accounting.release_marks import LOCATED_IN, LOCATIONS, PUBLISHED, WORDED_IN, WORDINGS
from analyzer.accounting.releases import estimate, order, spans, worded
from analyzer.events.recognise import sift
from analyzer.grammar import shipped
from analyzer.pipeline import ingest
from tests import truth
from tests.datasets import CAPTURED, SEED_LINES
from tests.truth import Capture

FOLDERS = truth.folders()
Rebuild = Callable[[Path], Capture]
#: the interval of a plain session at DEBUG, between what the marks of two releases tell apart
WIDEST = {
    "0.2.24": (None, "0.2.24"),
    "1.0.0": ("1.0.0", "1.0.1"),
    "1.6.2": ("1.6.0", "2.0.0"),
    "2.0.1": ("2.0.0", "2.1.0"),
    "2.1.22": ("2.1.21", "2.1.22"),
    "2.2.9": ("2.2.9", None),
}


def estimated(*logs: Path | str, out: Path) -> list[dict[str, Any]]:
    return ingest([str(log) for log in logs], out / "metrics").sources.sort("name").to_dicts()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_the_release_of_every_capture_is_in_its_interval(folder: Path, rebuilt: Rebuild) -> None:
    release = folder.parent.name
    for source in rebuilt(folder).tables["sources"].to_dicts():
        low, high = source["producer_release_low"], source["producer_release_high"]
        assert low is None or order(low) <= order(release)
        assert high is None or order(release) <= order(high)
        assert (low, high) == WIDEST.get(release, (low, high)) or folder.name.startswith("Q")
        assert source["producer_release_confidence"] != "mixed"
        assert source["producer_release_marks"] >= len(source["producer_release_evidence"]) > 0


@pytest.mark.parametrize(
    ("capture", "hint"), [("2.2.9/D-relay-client", ">=2.2.9"), ("1.0.0/D-relay-client", "1.0.0-1.0.4")]
)
def test_info_alone_tells_the_release_as_well(capture: str, hint: str, tmp_path: Path) -> None:
    lines = (CAPTURED / capture / "client.log").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "info.log").write_text("".join(line for line in lines if " DEBUG " not in line), encoding="utf-8")
    (source,) = estimated(tmp_path / "info.log", out=tmp_path)
    assert source["producer_version_hint"] == hint


def test_a_log_that_another_release_goes_on_with_is_mixed(tmp_path: Path) -> None:
    old, new = (next((CAPTURED / one).glob("client.log")) for one in ("1.0.0/D-relay-client", "2.2.9/D-relay-client"))
    (tmp_path / "client.log").write_bytes(old.read_bytes() + new.read_bytes())
    (source,) = estimated(tmp_path / "client.log", out=tmp_path)
    assert (source["producer_release_low"], source["producer_release_high"]) == ("1.0.0", None)
    assert source["producer_release_confidence"] == "mixed"


def test_little_evidence_is_weak_and_none_is_null(tmp_path: Path) -> None:
    (tmp_path / "seed.log").write_text("\n".join(SEED_LINES) + "\n")
    (tmp_path / "other.log").write_text("2026-11-22 13:19:35,251 DEBUG another.program: Channel.run\n" * 5)
    (tmp_path / "cut.log").write_text(
        "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: abc-123)"
        " (crates/keeper-pam-webrtc-rs/src/tube.rs:7)\n"
    )
    cut, other, seed = estimated(*tmp_path.glob("*.log"), out=tmp_path)
    assert {value for name, value in other.items() if name.startswith("producer_")} == {None}
    assert (seed["producer_version_hint"], seed["producer_release_confidence"]) == ("<=1.6.1", "weak")
    # a line of the source that no release looked into has there: only its folder is told
    assert (cut["producer_version_hint"], cut["producer_release_confidence"]) == (">=2.0.0", "weak")
    assert cut["producer_release_evidence"] == [">=2.0.0: source location in crates/keeper-pam-webrtc-rs/src/ ×1"]


def test_what_tracing_wrote_is_of_its_releases(tmp_path: Path) -> None:
    (source,) = estimated(CAPTURED.parent / "cases" / "tracing" / "plain.log", out=tmp_path)
    assert source["producer_version_hint"] == "0.2.0-0.2.23"


@pytest.mark.parametrize("mark", [words for words, _, _ in WORDINGS])
def test_a_wording_is_what_the_first_words_of_a_message_are(mark: str) -> None:
    target = "keeper_pam_webrtc_rs.tube"
    record = {"source": "a", "line": 1, "target": target, "message": f"{mark} (tube_id: abc-123)"}
    assert worded(sift(pl.DataFrame([record])).with_columns(records=1))["mark"].to_list() == [mark]


def test_marks_are_lawful() -> None:
    kinds = {kind.name for grammar in shipped().values() for kind in grammar.kinds}
    assert {what.split(" ")[0] for what in LOCATIONS} <= kinds
    assert {len(lines) for lines in LOCATIONS.values()} == {len(LOCATED_IN)}
    assert not {until for _, _, until in WORDINGS} & {WORDED_IN[-1]}
    assert set(LOCATED_IN) <= set(PUBLISHED)
    assert len({words for words, _, _ in WORDINGS}) == len(WORDINGS)
    for since, until in spans().values():
        assert since or until
        assert not (since and until) or order(since) <= order(until)


@pytest.mark.parametrize("release", LOCATED_IN)
def test_a_release_that_was_run_is_in_the_interval_of_its_lines(release: str) -> None:
    place = LOCATED_IN.index(release)
    marks = [f"{what}:{lines[place]}" for what, lines in LOCATIONS.items() if lines[place] is not None]
    seen = pl.DataFrame({"source": "a", "mark": marks, "records": 1})
    found = estimate([seen], {"a": "std"})["a"]
    neighbours = [other for other in LOCATED_IN if other != release]
    low, high = str(found["producer_release_low"] or "0"), str(found["producer_release_high"] or "99")
    assert order(low) <= order(release) <= order(high)
    assert not [other for other in neighbours if order(low) <= order(other) <= order(high)]


def test_marks_of_batches_add_up() -> None:
    parts = [
        pl.DataFrame({"source": "a", "mark": list(pair), "records": 1})
        for pair in zip(*[iter(spans())] * 2, strict=False)
    ]
    assert estimate(parts, {"a": "std"}) == estimate([pl.concat(parts[::-1])], {"a": "std"})
    assert estimate([], {"a": "std"})["a"]["producer_release_low"] is None
