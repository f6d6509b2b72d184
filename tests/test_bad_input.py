"""Everything bad that can be put in gives a clear error or an accounted row, and nothing of the rest is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from analyzer.errors import AnalyzerError, BusyError, InputError, OutputError
from analyzer.pipeline import ingest
from analyzer.tables.dataset import writing

GOOD = Path(__file__).parent.parent / "fixtures/captured/2.2.9/D-relay-client/client.log"


def sources(out: Path) -> dict[str, dict[str, object]]:
    rows = pl.read_parquet(out / "sources").to_dicts()
    for row in rows:
        assert row["records"] == row["events"] + row["noise"] + row["unmatched"] + row["rejected"]
    return {str(row["name"]): row for row in rows}


def beside_good(tmp_path: Path, name: str, content: bytes) -> dict[str, object]:
    """Ingest a bad file beside a good one; what became of the bad one, once the good one is seen to be whole."""
    (tmp_path / name).write_bytes(content)
    ingest([str(tmp_path / name), str(GOOD)], tmp_path / "metrics")
    found = sources(tmp_path / "metrics")
    alone = tmp_path / "alone"
    ingest([str(GOOD)], alone)
    assert found["client.log"] == sources(alone)["client.log"]
    assert pl.read_parquet(tmp_path / "metrics/connection_legs").equals(pl.read_parquet(alone / "connection_legs"))
    return found[name]


def test_a_missing_path_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ingest([str(GOOD), str(tmp_path / "nowhere.log")], tmp_path / "metrics")
    assert not (tmp_path / "metrics").exists()


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(InputError, match="nothing to read"):
        ingest([str(tmp_path / "logs")], tmp_path / "metrics")


def test_an_empty_file_is_a_row_of_zeros(tmp_path: Path) -> None:
    row = beside_good(tmp_path, "empty.log", b"")
    assert (row["bytes"], row["lines"], row["records"]) == (0, 0, 0)


def test_a_dataset_without_events_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_bytes(b"")
    ingest([str(tmp_path / "empty.log")], tmp_path / "metrics")
    assert pl.read_parquet(tmp_path / "metrics/events").is_empty()


@pytest.mark.parametrize(
    "content",
    [bytes(range(256)) * 200, b"\x00" * 5000, b"\xff\xfe\n" * 50, b"PK\x03\x04" + b"\x80\n" * 99],
    ids=["bytes", "nul", "bom16", "zip"],
)
def test_a_binary_file_is_rejected_line_by_line(tmp_path: Path, content: bytes) -> None:
    row = beside_good(tmp_path, "binary.log", content)
    assert row["dialect"] == "unknown"
    assert row["records"] == row["rejected"] == row["lines"]


def test_a_log_of_another_program(tmp_path: Path) -> None:
    nginx = b'10.0.0.1 - - [22/Nov/2026:13:19:35 +0000] "GET / HTTP/1.1" 200 612\n' * 20
    assert beside_good(tmp_path, "access.log", nginx)["rejected"] == 20
    python = b"2026-11-22 13:19:35,251 INFO django.request: hello\n  a traceback\n" * 20
    row = beside_good(tmp_path, "django.log", python)
    assert (row["noise"], row["lines"], row["events"]) == (20, 40, 0)


def test_a_truncated_gzip_gives_what_came_before_the_break(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD.read_bytes() * 3)
    row = beside_good(tmp_path, "broken.log.gz", whole[: len(whole) // 2])
    assert "ends too early" in str(row["problem"])
    assert int(str(row["events"])) > 0


def test_lines_before_the_first_header_are_rejected(tmp_path: Path) -> None:
    row = beside_good(tmp_path, "cut.log", b"tail of a message\nand more\n" + GOOD.read_bytes()[:2000])
    assert row["rejected"] == 2


def test_a_very_long_line_is_cut_and_counted(tmp_path: Path) -> None:
    head = b"2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: t-1, x: "
    row = beside_good(tmp_path, "long.log", head + b"y" * 3_000_000 + b")\n")
    assert (row["cut_lines"], row["events"]) == (1, 1)


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"], ids=["crlf", "lf"])
@pytest.mark.parametrize("final", [True, False], ids=["final newline", "none"])
def test_line_ends_change_nothing(tmp_path: Path, ending: bytes, final: bool) -> None:
    lines = GOOD.read_bytes().splitlines()
    (tmp_path / "client.log").write_bytes(ending.join(lines) + (ending if final else b""))
    ingest([str(tmp_path / "client.log")], tmp_path / "metrics")
    ingest([str(GOOD)], tmp_path / "plain")
    for table in ("events", "ice_stats", "connection_legs", "candidates"):
        assert pl.read_parquet(tmp_path / "metrics" / table).equals(pl.read_parquet(tmp_path / "plain" / table))


def test_invalid_bytes_are_shown_and_lose_nothing(tmp_path: Path) -> None:
    raw = GOOD.read_bytes().replace(b"capture_driver:", b"capture_driver: \xff\xfe\x00", 1)
    row = beside_good(tmp_path, "odd.log", raw)
    assert row["events"] == sources(tmp_path / "alone")["client.log"]["events"]


def test_an_unwritable_output_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        with pytest.raises(OutputError):
            ingest([str(GOOD)], out)


def test_an_unknown_dialect_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="commander_file"):
        ingest([str(GOOD)], tmp_path / "metrics", dialect="nonsense")


def test_a_second_writer_is_told_so(tmp_path: Path) -> None:
    with writing(tmp_path / "metrics"), pytest.raises(BusyError):
        ingest([str(GOOD)], tmp_path / "metrics")


def test_the_same_bytes_again_change_no_file(tmp_path: Path) -> None:
    out = tmp_path / "metrics"
    ingest([str(GOOD)], out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    (tmp_path / "copy.log.gz").write_bytes(gzip.compress(GOOD.read_bytes()))
    again = ingest([str(GOOD), str(tmp_path / "copy.log.gz")], out)
    assert not again.changed
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == before


def test_a_grown_file_adds_only_what_is_new(tmp_path: Path) -> None:
    log, lines = tmp_path / "client.log", GOOD.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:60]))
    ingest([str(log)], tmp_path / "metrics")
    log.write_bytes(b"".join(lines))
    ingest([str(log)], tmp_path / "metrics")
    ingest([str(log)], tmp_path / "clean")
    for path in sorted((tmp_path / "clean").rglob("*.parquet")):
        assert (tmp_path / "metrics" / path.relative_to(tmp_path / "clean")).read_bytes() == path.read_bytes(), path
    assert len(list((tmp_path / "metrics/events").iterdir())) == 1


def test_a_sealed_commit_is_finished_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.tables import dataset

    out = tmp_path / "metrics"
    ingest([str(GOOD)], out)
    old = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.parquet")}

    def dies(_: Path) -> None:
        raise KeyboardInterrupt

    gateway = GOOD.with_name("gateway.log")
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "_roll_forward", dies)
        patched.setattr("analyzer.tables.dataset.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            ingest([str(gateway)], out)
    # sealed and not published: a reader of the files sees the old dataset, whole
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*.parquet")} == old
    ingest([str(GOOD)], out)
    ingest([str(GOOD), str(gateway)], tmp_path / "clean")
    new = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.parquet")}
    assert new == {p.relative_to(tmp_path / "clean"): p.read_bytes() for p in (tmp_path / "clean").rglob("*.parquet")}


def test_errors_have_an_exit_code() -> None:
    codes = [error.exit_code for error in AnalyzerError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert {4, 65, 66, 70, 73, 75} <= set(codes)
