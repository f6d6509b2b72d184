"""Times that name no zone: read in the zone given for their source, which stays with it until another is given."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from analyzer.errors import UsageError
from analyzer.inputs import zones_for
from analyzer.pipeline import ingest
from tests.datasets import SEED_LINES

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
IN_BERLIN, IN_NEW_YORK = NOON.replace(hour=10), NOON.replace(hour=16)


def log(path: Path, lines: int = len(SEED_LINES), *, last: str = "") -> Path:
    """A log that begins at noon on the wall; a last line that differs makes it another source."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [f"2026-07-01 12:00:0{second},000 {line}\n" for second, line in enumerate(SEED_LINES[:lines])]
    path.write_text("".join(told) + (f"{last}\n" if last else ""))
    return path


def begins(out: Path) -> dict[str, tuple[str, datetime]]:
    """Zone and first time of each source; and no time of an event but those of the sources."""
    sources = pl.read_parquet(out / "sources")
    found = {row["name"]: (row["zone"], row["first_ts"]) for row in sources.to_dicts()}
    events = pl.read_parquet(out / "events").group_by("source").agg(pl.col("ts").min())
    assert dict(events.rows()) == {name: first for name, (_, first) in found.items()}
    return found


def test_each_source_is_read_in_its_own_zone(tmp_path: Path) -> None:
    given = [str(log(tmp_path / name, last=name)) for name in ("client.log", "gateway.log", "late/gateway.log.1")]
    zones = [("gateway*", NEW_YORK), ("gateway.log", BERLIN)]
    ingest(given, tmp_path / "out", zones=zones)
    assert begins(tmp_path / "out") == {
        "client.log": ("UTC", NOON),
        "gateway.log": (BERLIN, IN_BERLIN),
        "gateway.log.1": (NEW_YORK, IN_NEW_YORK),
    }
    ingest(given, tmp_path / "all", zone=NEW_YORK, zones=zones[1:])
    assert begins(tmp_path / "all")["client.log"] == (NEW_YORK, IN_NEW_YORK)
    assert begins(tmp_path / "all")["gateway.log"] == (BERLIN, IN_BERLIN)


def test_a_source_is_named_by_its_name_its_last_part_or_a_glob() -> None:
    names = ["a/gateway.log", "b/gateway.log", "client[1].log"]
    assert set(zones_for(names, [("gateway.log", BERLIN)])) == {"a/gateway.log", "b/gateway.log"}
    assert set(zones_for(names, [("a/*", BERLIN)])) == {"a/gateway.log"}
    assert set(zones_for(names, [("client[1].log", BERLIN)])) == {"client[1].log"}
    with pytest.raises(UsageError, match=r"no source is called c/\*.* a/gateway\.log, b/gateway\.log"):
        zones_for(names, [("a/*", BERLIN), ("c/*", BERLIN)])


def test_another_zone_reads_a_known_source_anew(tmp_path: Path) -> None:
    given, out = [str(log(tmp_path / "app.log"))], tmp_path / "out"
    ingest(given, out)
    done = ingest(given, out, zones=[("app.log", BERLIN)])
    assert done.changed
    assert done.known == ()
    assert begins(out) == {"app.log": (BERLIN, IN_BERLIN)}
    # who says nothing of zones changes nothing
    assert not ingest(given, out).changed
    assert begins(out) == {"app.log": (BERLIN, IN_BERLIN)}
    assert ingest(given, out, zone="UTC").changed
    ingest(given, tmp_path / "fresh", zone="UTC")
    for table in ("events", "conversations", "ice_stats", "sources"):
        assert pl.read_parquet(out / table).equals(pl.read_parquet(tmp_path / "fresh" / table)), table


def test_a_log_that_grows_keeps_its_zone(tmp_path: Path) -> None:
    out, path = tmp_path / "out", tmp_path / "app.log"
    ingest([str(log(path, 2))], out, zones=[("app.log", BERLIN)])
    for lines in (3, 5):
        ingest([str(log(path, lines))], out)
        assert begins(out) == {"app.log": (BERLIN, IN_BERLIN)}
    # one that only has the same name is another log
    ingest([str(log(tmp_path / "other" / "app.log", 3, last="other\n"))], out)
    zones = pl.read_parquet(out / "sources").sort("bytes")["zone"].to_list()
    assert sorted(zones) == [BERLIN, "UTC"]


def test_the_same_bytes_twice_are_one_source_whatever_is_said(tmp_path: Path) -> None:
    given = [str(log(tmp_path / name)) for name in ("a.log", "b.log")]
    done = ingest(given, tmp_path / "out", zones=[("b.log", BERLIN)])
    assert done.known == (("b.log", "a.log"),)
    assert begins(tmp_path / "out") == {"a.log": ("UTC", NOON)}


def test_of_two_copies_of_a_log_one_is_read_in_another_zone(tmp_path: Path) -> None:
    message = "ICE gathering started (tube_id: a, conversation_id: c)"
    text = f"2026-11-22 13:00:00,000 DEBUG keeper_pam_webrtc_rs.tube: {message}\n"
    for name in ("one.log", "two.log"):
        (tmp_path / name).write_text(text)
    first = ingest([str(tmp_path / "one.log")], tmp_path / "metrics")
    again = ingest([str(tmp_path / "*.log")], tmp_path / "metrics", zone="America/Chicago")
    assert first.sources["records"].to_list() == again.sources["records"].to_list() == [1]
    assert again.sources["zone"].to_list() == ["America/Chicago"]
    assert again.known == (("two.log", "one.log"),)
