"""Redacted copies: nothing secret in them, all else that the rules read, and nothing written where it should not be."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import analyzer
from analyzer.accounting.secrets import SECRETS
from analyzer.accounting.shapes import skeleton
from analyzer.cli import app
from analyzer.errors import InputError, OutputError, UsageError
from analyzer.pipeline import ingest
from analyzer.redact import copies, redact
from analyzer.redact.copies import MARK
from tests import canaries
from tests.datasets import CAPTURED
from tests.test_cli import run

#: what of a source is not in its copy
OWN = ("identity", "bytes", "cut_lines", "problem", "secrets")
#: captures of each family of releases, with every framing, all of the loggers, and the relay's own log
LOGS = (
    "0.2.24/M-router-credentials", "1.0.0/D-relay-client", "2.2.9/B-host-nontrickle", "2.2.9/G-ice-restart",
    "2.2.9/N-deps-debug", "wrapped",
)  # fmt: skip
LINE = "2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: "


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `logs` full of canaries and the `copy` of them."""
    folder = tmp_path_factory.mktemp("redacted")
    canaries.plant(folder / "logs")
    redact([str(folder / "logs")], folder / "copy")
    return folder


def text_of(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def log(folder: Path, *messages: str, name: str = "app.log") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{LINE}{message}\n" for message in messages))
    return folder / name


def copied(folder: Path, *messages: str, keep_unknown: bool = False) -> list[str]:
    """The messages of a copy."""
    redact([str(log(folder / "logs", *messages))], folder / "copy", keep_unknown=keep_unknown)
    return [line.removeprefix(LINE) for line in text_of(folder / "copy" / "app.log").splitlines()]


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_a_copy_holds_no_secret(planted: Path) -> None:
    copies = sorted((planted / "copy").iterdir())
    assert len(copies) == len(list((planted / "logs").iterdir())) + 1
    assert [leak for path in copies for text in canaries.spelled(path) for leak in canaries.found(text)] == []


def test_the_logs_are_told_to_hold_secrets_and_their_copies_not(planted: Path, tmp_path: Path) -> None:
    ingest([str(planted / "logs")], tmp_path / "logs")
    sources = analyzer.open(tmp_path / "logs").sources.collect()
    std = {one["secret"]: one for one in sources.filter(name="std.log")["secrets"][0]}
    assert list(std) == list(SECRETS)
    lines = (planted / "logs" / "std.log").read_text().split("\n")
    assert "ksm_config" in lines[std["ksm_config"]["line"] - 1]
    assert "ufrag" in lines[std["ice_credentials"]["line"] - 1]
    # of each canary one to four of the five spellings are cut before the secret or misspelt in its name
    places = sum("ksm_config: " in text or "ksm_config=" in text for _, text in canaries.PLACES)
    assert 4 * places <= std["ksm_config"]["records"] <= 20 * places
    ingest([str(planted / "copy")], tmp_path / "copy")
    assert [rows for rows in analyzer.open(tmp_path / "copy").sources.collect()["secrets"].to_list() if rows] == []


def test_a_person_is_told_where_secrets_are(tmp_path: Path) -> None:
    path = log(
        tmp_path, "ICE gathering started (tube_id: a)", "Pooled TURN credentials (tube_id: a, password: hunter2)"
    )
    done = CliRunner().invoke(app, ["ingest", str(path), "--out", str(tmp_path / "out")])
    assert "The logs hold secrets; the dataset does not." in done.output
    assert re.search("password +1 +first at app.log:2\n", done.output)
    assert "analyzer redact" in done.output
    assert "hunter2" not in done.output
    clean = log(
        tmp_path, "ICE gathering started (tube_id: a)", "Fetched TURN credentials (tube_id: a)", name="clean.log"
    )
    done = CliRunner().invoke(app, ["ingest", str(clean), "--out", str(tmp_path / "clean")])
    assert "secret" not in done.output
    assert analyzer.open(tmp_path / "clean").sources.collect()["secrets"].to_list() == [[]]


def test_what_a_rule_names_stays_and_all_else_is_masked(tmp_path: Path) -> None:
    started = "ICE gathering started (note: {}, {}, error: {}, conversation_id: conv-456, attempt: 3, user: {}, {})"
    shut = "Tube abc-123: Sending what nobody knows (tube_id: abc-123)"
    # behind a value what no grammar knows may be a piece of it, a key or not, up to the next column
    assert copied(tmp_path, started.format("my word", "its word: 3", "my (word)", "me", "login: me"), shut) == [
        started.format("<*>", "<*>", "<*>(<*>)", "<*>", "<*>"),
        "Tube <*>: <*>(tube_id: <*>)",
    ]


def test_a_number_stays_where_it_is_known_what_it_counts(tmp_path: Path) -> None:
    begun, keys = (
        "ICE gathering started (tube_id: a, count: 3, ttl: 60s, loud: true",
        ("access_code", "mfa", "cas_value"),
    )
    tails = [(key, code) for key in keys for code in ("482913", "078051120", "-7.5")]
    found = copied(tmp_path, *(f"{begun}, {key}: {code})" for key, code in tails))
    assert found == [f"{begun}, {key}: <*>)" for key, _ in tails]


def test_what_stands_behind_the_name_of_a_secret_is_masked_up_to_the_next_column(tmp_path: Path) -> None:
    begun, ended = "ICE gathering started (tube_id: a, attempt: 2, password: ", ", conversation_id: c, attempt: 3)"
    # a password may hold what looks like keys, and what parts them
    assert copied(tmp_path, f"{begun}hunter, x: 4711 | y: 4712{ended}") == [f"{begun}<*>, <*>| <*>{ended}"]


def test_the_shape_of_a_shape_is_itself() -> None:
    long = [f"Seen{' there' * ahead} (tube_id: a{', conversation_id: b' * 9})" for ahead in range(8)]
    said = pl.Series([*(text for _, text in canaries.messages()), *long])
    once = said.to_frame("message").select(skeleton(pl.col("message"))).to_series()
    assert once.to_frame("message").select(skeleton(pl.col("message"))).to_series().equals(once)


# -- still a log ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGS)
def test_a_copy_gives_the_same_tables(name: str, tmp_path: Path) -> None:
    shutil.copytree(
        CAPTURED / name,
        tmp_path / "logs",
        ignore=lambda _, names: [n for n in names if n.endswith((".json", ".toml", ".jsonl.zst"))],
    )
    redact([str(tmp_path / "logs")], tmp_path / "copy", addresses="raw")
    for which in ("logs", "copy"):
        ingest([str(tmp_path / which)], tmp_path / f"{which}-out", addresses="raw")
    was, now = (analyzer.open(tmp_path / f"{which}-out") for which in ("logs", "copy"))
    assert len(was.events.collect()) > 50
    for table in was.tables:
        before, after = was.tables[table].collect(), now.tables[table].collect()
        if table == "events":
            # its files are named by the bytes of their sources
            before, after = before.sort("source", "line"), after.sort("source", "line")
        own = OWN if table == "sources" else ()
        assert before.drop(own).equals(after.drop(own)), table


NEVER = re.compile("(?!)()")
MAY_BE_ANY = {
    "cloudwatch": re.compile(r"^(\S+ )\S+"),
    "grep": re.compile("^()[^ :]+"),
    "grep_places": re.compile("^()[^ :]+"),
}


def test_lines_keep_their_numbers_and_what_stands_before_a_message(planted: Path) -> None:
    for path in sorted((planted / "logs").iterdir()):
        if path.name in ("std-cut.log.gz", "std-utf16.log", "std-damaged.log"):
            continue
        was, now = text_of(path).split("\n"), text_of(planted / "copy" / path.name).split("\n")
        assert len(now) == len(was), path.name
        if not path.name.startswith(("json", "docker", "no-", "long")):
            heads = [(one, other) for one, other in zip(was, now, strict=False) if "keeper_pam_webrtc_rs.tube:" in one]
            # but for names that may be any text, which some framings have there
            before = (MAY_BE_ANY.get(path.stem, NEVER).sub(r"\1<*>", one) for one, _ in heads)
            after = (other for _, other in heads)
            assert all(
                one[: one.index("tube:")] == other[: other.index("tube:")]
                for one, other in zip(before, after, strict=True)
            ), path.name
    framed = json.loads(text_of(planted / "copy" / "json.log").split("\n")[3])
    assert set(framed) == {"timestamp", "level", "logger", "message"}


def test_a_copy_says_no_more_than_its_log(tmp_path: Path) -> None:
    said = (
        "ICE gathering complete (tube_id: abc-123)",
        " ICE gathering complete (tube_id: abc-123)",
        "Handshake Completed ",
        "\tHandshake Completed",
        "Handshake\x1fCompleted",
        "turnServ: 198.51.100.5:3478",
        "received 108 bytes of udp from 198.51.100.5:3478",
        "Added TURN server (tube_id: abc-123, url: turn:198.51.100.5:3478)",
        "ICE gathering complete (tube_id: abc-1",
    )
    path = tmp_path / "logs" / "app.log"
    heads = [LINE, LINE, *[LINE.replace("keeper_pam_webrtc_rs.tube", "dtls.conn")] * 3,
             *[LINE.replace("keeper_pam_webrtc_rs.tube", "turn.client")] * 2,
             LINE.replace(".tube", ".tube_registry"), LINE]  # fmt: skip
    path.parent.mkdir()
    path.write_text("\n".join(head + text for head, text in zip(heads, said, strict=True)))
    redact([str(path)], tmp_path / "copy")
    found = []
    for folder in ("logs", "copy"):
        ingest([str(tmp_path / folder)], tmp_path / f"{folder}-out")
        dataset = analyzer.open(tmp_path / f"{folder}-out")
        events = dataset.events.collect().select("line", "kind", "tube_id", "server")
        found.append((events.rows(), dataset.sources.collect()["pending_bytes"].to_list()))
    assert found[0] == found[1]
    assert found[0][1] == [len(LINE + said[-1])]
    servers = {row[0]: row[3] for row in found[0][0] if row[3]}
    assert servers == {6: "198.51.100.5:3478", 7: "198.51.100.5:3478", 8: "turn:198.51.100.5:3478"}
    # the text of one near miss is told from an event by a blank at its end
    assert [row[0] for row in found[0][0]][:1] == [1]


def test_a_copy_is_compressed_as_its_source(tmp_path: Path) -> None:
    raw = f"{LINE}ICE gathering started (tube_id: abc-123, password: hunter2)\n".encode()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "logs" / "b.zst").write_bytes(pa.compress(raw, codec="zstd", asbytes=True))
    redact([str(tmp_path / "logs")], tmp_path / "copy")
    expected = raw.replace(b"hunter2", b"<*>")
    assert gzip.decompress((tmp_path / "copy" / "a.gz").read_bytes()) == expected
    with pa.CompressedInputStream(pa.BufferReader((tmp_path / "copy" / "b.zst").read_bytes()), "zstd") as stream:
        assert stream.read() == expected


def test_addresses_are_what_the_policy_leaves_of_them(tmp_path: Path) -> None:
    candidate = "candidate:1 1 udp 1 203.0.113.9 5 typ srflx raddr 10.0.0.1 rport 5 ufrag hunter"
    path, head = tmp_path / "app.log", LINE.replace(".tube", ".webrtc_core")
    path.write_text(f"{head}ICE candidate gathered (tube_id: a, candidate: {candidate})\n")
    (tmp_path / "key").write_bytes(b"k" * 32)
    for name, policy in (("a", "hash"), ("b", "hash"), ("c", "class"), ("d", "raw")):
        key = tmp_path / "key" if policy == "hash" else None
        redact([str(path)], tmp_path / name, addresses=policy, key_file=key)
    told = {name: text_of(tmp_path / name / "app.log") for name in "abcd"}
    assert told["a"] == told["b"]
    assert ".invalid 5 typ srflx raddr 10.0.0.1" in told["a"]
    assert " public 5 typ" in told["c"]
    assert "203.0.113.9 5 typ srflx raddr 10.0.0.1 rport 5 ufrag <*>)" in told["d"]
    assert "203.0.113.9" not in told["a"] + told["c"]
    with pytest.raises(UsageError, match="no address policy nope"):
        redact([str(path)], tmp_path / "e", addresses="nope")


# -- what is written, and what is not ---------------------------------------------------------------------------------


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    path = log(tmp_path / "logs", "ICE gathering started (tube_id: a)")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for out in (tmp_path / "mine", tmp_path / "link", path, path.parent):
        before = {found: found.read_bytes() for found in tmp_path.rglob("*") if found.is_file()}
        with pytest.raises((OutputError, InputError)):
            redact([str(path)], out)
        assert {found: found.read_bytes() for found in tmp_path.rglob("*") if found.is_file()} == before
    (tmp_path / "mine" / MARK).write_text('{"copies": ["../logs/app.log"]}')
    with pytest.raises((OutputError, InputError)):
        redact([str(path)], tmp_path / "mine" / MARK)
    redact([str(path)], tmp_path / "mine")
    assert path.exists()


def test_a_second_run_adds_to_the_first(tmp_path: Path) -> None:
    first, second = (
        log(tmp_path / "logs", "ICE gathering started (tube_id: a)", name=name) for name in ("a.log", "b.log")
    )
    redact([str(first)], tmp_path / "copy")
    redact([str(second)], tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [MARK, "a.log", "b.log"]
    # copies are no inputs
    with pytest.raises(InputError):
        redact([str(tmp_path / "copy")], tmp_path / "copy")


def test_only_the_owner_can_read_copies(tmp_path: Path) -> None:
    log(tmp_path / "logs", "ICE gathering started (tube_id: a)")
    (tmp_path / "logs" / "sub").mkdir()
    log(tmp_path / "logs" / "sub", "ICE gathering started (tube_id: b)")
    before = os.umask(0)
    try:
        redact([str(tmp_path / "logs")], tmp_path / "copy")
    finally:
        os.umask(before)
    for path in (tmp_path / "copy", *(tmp_path / "copy").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert (tmp_path / "copy" / "sub" / "app.log").exists()


def test_a_copy_never_leaves_its_folder(tmp_path: Path) -> None:
    """A name with a line end, a leading hyphen, an argument above the working folder: all stay below the given one."""
    log(tmp_path / "a", "ICE gathering started (tube_id: a)", name="-x\n.log")
    (tmp_path / "b").mkdir()
    for given in (f"{tmp_path}/b/../a", f"{tmp_path}/b/../a/*.log"):
        redact([given], tmp_path / "copy")
        assert [path.name for path in (tmp_path / "copy").iterdir() if path.name != MARK] == ["-x\n.log"]


def test_a_folder_that_is_not_to_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path / "logs" / "sub", "ICE gathering started (tube_id: a)")
    with pytest.raises(OutputError, match=r"cannot write .*Not a directory"):
        redact([str(path)], path / "copy")
    for mark in ("no list", '{"copies": [".."]}', '{"copies": 1}', "{}"):
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / MARK).write_text(mark)
        with pytest.raises(OutputError, match="not a folder of redacted copies"):
            redact([str(path)], tmp_path / "copy")
    # a folder of the copies may have become a way out of them
    redact([str(tmp_path / "logs")], tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "sub")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="not a folder of redacted copies"):
        redact([str(tmp_path / "logs")], tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(OutputError, match="which is read"):
        redact([str(tmp_path / "logs")], tmp_path / "logs" / "copy")

    def failing(folder: Path) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", failing)
        with pytest.raises(OutputError, match=r"cannot write .*Permission denied"):
            redact([str(path)], tmp_path / "elsewhere")


def test_a_copy_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path / "logs", "ICE gathering started (tube_id: a)")
    synced = copies._synced

    def full(stream: IO[bytes]) -> None:
        if MARK not in str(stream.name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(stream)

    with monkeypatch.context() as patched:
        # a stream of a descriptor is called by its number
        patched.setattr(copies, "_created", lambda to: to.open("wb"))
        patched.setattr(copies, "_synced", full)
        with pytest.raises(OutputError, match=r"cannot write .*No space left"):
            redact([str(path)], tmp_path / "copy")
    assert [found.name for found in (tmp_path / "copy").iterdir()] == [MARK]
    redact([str(path)], tmp_path / "copy")
    assert (tmp_path / "copy" / path.name).exists()


def test_many_and_large_logs_are_copied_as_few_and_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [str(found) for found in sorted((CAPTURED / "wrapped").rglob("*")) if found.is_file()][:6]
    redact(logs, tmp_path / "once")
    monkeypatch.setattr("analyzer.lines.BLOCK_BYTES", 20_000)
    monkeypatch.setattr("analyzer.redact.BATCH_BYTES", 30_000)
    redact(logs, tmp_path / "in portions")
    once, portions = (
        {found: found.read_bytes() for found in (tmp_path / name).rglob("*") if found.is_file()}
        for name in ("once", "in portions")
    )
    assert list(portions.values()) == list(once.values())
    assert len(once) > 2


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path, "ICE gathering started (tube_id: a, password: hunter2)")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["redact", path.name, "-o", "copy"])
    assert done.exit_code == 0, done.output
    assert "1 source, 1 line, 1 of them redacted, in copy" in done.output
    told = json.loads(run("redact", "-", "-o", "copy", "--json", cwd=tmp_path, stdin=path.read_bytes()).stdout)
    assert told["totals"] == {"lines": 1, "changed": 1}
    assert "hunter2" not in (tmp_path / "copy" / "stdin").read_text()
    assert isinstance(CliRunner().invoke(app, ["redact", "nowhere.log", "-o", "copy"]).exception, InputError)
    assert isinstance(CliRunner().invoke(app, ["redact", path.name, "-o", "."]).exception, OutputError)
