"""Coverage: counts by logger are those by source, and an unknown shape comes with a rule that takes its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analyzer
from analyzer import pipeline
from analyzer.accounting.shapes import SKELETON_CHARS, skeleton
from analyzer.errors import DatasetError
from analyzer.grammar import shipped
from analyzer.grammar.draft import draft
from analyzer.grammar.laws import LAWS
from analyzer.grammar.lower import lower
from analyzer.grammar.pattern import EventKind, captures
from analyzer.grammar.regex import message_regex
from analyzer.grammar.source import parse
from analyzer.pipeline import ingest
from analyzer.tables import dataset as stored
from analyzer.views import coverage
from tests.datasets import ACTS, CAPTURED, SEED_LINES, seed_dataset
from tests.test_cli import run

COUNTED = ["events", "noise", "unmatched"]
UNKNOWN = (
    "DEBUG keeper_pam_webrtc_rs.tube: Relay 'eu-1' probed after 41.5ms, try #3 (tube_id: abc-123, rtt: 41.0ms, ttl: 3)",
    "DEBUG keeper_pam_webrtc_rs.tube: Relay 'eu-2' probed after 7ms, try #1 (tube_id: abc-124, rtt: 8.0ms, ttl: 5)",
    "DEBUG keeper_pam_webrtc_rs.tube: Password is hunter2hunter2, token=abcdef (tube_id: abc-123)",
    "DEBUG keeper_pam_webrtc_rs.brand_new: Nothing known of this",
    "DEBUG webrtc_ice.mdns: mDNS went astray",
    "DEBUG somebody.else: their business",
)


def lowered(rules: dict[str, str]) -> dict[str, EventKind]:
    """Drafts as one grammar, read as any other. They break no law, but where the shape cannot tell what is wanted."""
    listed = "?message: " + " | ".join(rules) + "\n\n"
    read = parse("x", listed + "\n\n".join(rules.values()) + "\n")
    kinds = lower(read, "x")
    for broken in (violation for law in LAWS for violation in law(read, kinds)):
        rule = rules[broken.rule]
        begins_with_a_value, unprintable = rule.startswith("// begins with a value"), "/// > " not in rule
        assert begins_with_a_value or unprintable, str(broken)
        assert broken.what in ("does not begin with literal text", "has no sample"), str(broken)
    return {kind.name: kind for kind in kinds}


def drafts(lines: list[str]) -> list[tuple[str, str]]:
    """Name and draft of each message, no name twice."""
    shapes = pl.DataFrame({"message": lines}, schema={"message": pl.String}).select(skeleton(pl.col("message")))
    found: dict[str, str] = {}
    for shape in shapes.to_series():
        name, rule = draft(shape, found, cut=len(shape) >= SKELETON_CHARS)
        found[name] = rule
    return list(found.items())


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> analyzer.Dataset:
    return analyzer.open(seed_dataset(tmp_path_factory.mktemp("unknown"), [*SEED_LINES, *UNKNOWN]))


# -- counts -----------------------------------------------------------------------------------------------------------


def sums_agree(dataset: analyzer.Dataset) -> None:
    by_source = dataset.coverage.group_by("source").agg(pl.col("records", *COUNTED).sum())
    joined = dataset.sources.join(by_source, left_on="name", right_on="source", how="left").collect()
    for row in joined.to_dicts():
        assert [row[name] for name in COUNTED] == [row[f"{name}_right"] or 0 for name in COUNTED], row["name"]
        assert row["records"] - row["rejected"] == (row["records_right"] or 0), row["name"]


def test_counts_by_target_are_those_by_source(tmp_path: Path, unknown: analyzer.Dataset) -> None:
    sums_agree(unknown)
    ingest([str(CAPTURED / "2.2.9" / "D-relay-client"), str(CAPTURED / "wrapped")], tmp_path / "out")
    dataset = analyzer.open(tmp_path / "out")
    sums_agree(dataset)
    rows = dataset.coverage.collect()
    assert (rows["records"] == rows.select(pl.sum_horizontal(COUNTED)).to_series()).all()
    assert (rows["records"] > 0).all()
    assert not rows.select("source", "target").is_duplicated().any()


def test_other_programs_are_one_row_without_a_target(unknown: analyzer.Dataset) -> None:
    others = unknown.coverage.filter(pl.col("target").is_null()).collect().drop("source").rows()
    assert others == [(None, 1, 0, 1, 0)]


def test_counts_do_not_depend_on_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [str(path) for path in sorted((CAPTURED / "2.2.9" / "D-relay-client").glob("*.log"))]
    ingest(logs, tmp_path / "whole")
    monkeypatch.setattr(pipeline, "BATCH_RECORDS", 7)
    monkeypatch.setattr(pipeline, "SMALL_BYTES", 0)
    ingest(logs, tmp_path / "parted")
    for name in ("coverage", "sources", "unmatched"):
        parted, whole = (analyzer.open(tmp_path / out).tables[name].collect() for out in ("parted", "whole"))
        assert parted.equals(whole), name


# -- drafts -----------------------------------------------------------------------------------------------------------


def test_an_unknown_line_comes_with_its_origin_and_a_rule_that_takes_it(unknown: analyzer.Dataset) -> None:
    shapes = coverage.gather(unknown)["shapes"]
    probed = next(shape for shape in shapes if shape["skeleton"].startswith("Relay"))
    assert (probed["count"], probed["origin"]) == (2, f"seed.log:{len(SEED_LINES) + 1}")
    assert probed["grammar"] == "grammars/tube.lark"
    (kind,) = lowered({"relay_probed_after_try": probed["rule"]}).values()
    assert probed["rule"].endswith(
        '\nrelay_probed_after_try: "Relay \'" /[^,()|\\r\\n\']+/ "\' probed after " duration_ms__relay_probed_after_try'
        ' ", try #" try__relay_probed_after_try _keys1{reported_rtt_ms}'
        "\n/// What this number is.\nduration_ms__relay_probed_after_try: DURATION"
        "\n/// What this number is.\ntry__relay_probed_after_try: INT"
    )
    assert {"duration_ms", "try"} <= {one.column for one in captures(kind.sequence)}
    lines = [line.split(": ", 1)[1] for line in UNKNOWN[:2]]
    assert pl.Series(lines).str.contains(message_regex(kind.sequence).text).all()


def test_the_rule_of_a_draft_makes_an_event_of_every_sample_of_the_grammars() -> None:
    samples = sorted({sample for one in shipped().values() for kind in one.kinds for sample in kind.samples})
    rules = drafts(samples)
    kinds = lowered(dict(rules))
    taken = [
        bool(pl.Series([sample]).str.contains(message_regex(kinds[name].sequence).text).item())
        for sample, (name, _) in zip(samples, rules, strict=True)
    ]
    # a shape does not tell everything: a value may stand for several words
    assert sum(taken) > 0.95 * len(taken)


#: pieces of messages, and single signs
PIECES = (
    *(
        "Tube ",
        "tube_id: abc-1",
        "attempt ",
        "#3",
        " bytes",
        " ms",
        "after ",
        "5s",
        ". Closing",
        "rtt: 1.5ms",
        "changed to ",
    ),
    *(
        "channel ",
        "'x 1'",
        '"a, b"',
        "{a: 1}",
        "[0.0.0.0, 1.1.1.1]",
        "state: ",
        "=7 ",
        "is_answer: true",
        ", ",
        " (",
        ")",
    ),
    *"ab C1.:,()|[]'\"#=\\/→\t\x1b\u202e{}_-<>*",
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map("".join), min_size=1, max_size=8))
def test_any_line_gives_a_rule_that_lowers(lines: list[str]) -> None:
    rules = drafts(lines)
    assert len(lowered(dict(rules))) == len(lines)
    assert all(text.isprintable() for _, rule in rules for text in rule.split("\n"))


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("Relay answered in 41.5 ms", ["answered_ms"]),
        ("Sent 12 bytes", ["bytes"]),
        ("Retry #3 failed after 5 attempts (rtt: 4.0ms)", ["retry", "attempts"]),
        ("Took 5s, then took 7ms", ["duration_ms", "duration_2_ms"]),
        ("Seen on port 5", ["port_2"]),
        ("Token number 5 refused", []),
    ],
)
def test_numbers_of_the_head_become_columns(line: str, columns: list[str]) -> None:
    rules = drafts([line])
    (kind,) = lowered(dict(rules)).values()
    assert [one.column for one in captures(kind.sequence) if f"{one.column}__" in rules[0][1]] == columns
    assert pl.Series([line]).str.contains(message_regex(kind.sequence).text).all()


def test_names_are_free_and_of_plain_words() -> None:
    name, rule = draft(
        "Tube <*> état probed for the 2nd time", {"tube_tat_probed_nd_time", "tube_tat_probed_nd_time_2"}
    )
    assert name == "tube_tat_probed_nd_time_3"
    assert rule.splitlines()[-1].startswith(f"{name}: ")
    assert draft("<*>", ())[0] == "unknown_shape"
    assert draft("state (tube_id: <*>)", ())[0] == "state_2"


def test_no_secret_reaches_a_shape_or_a_draft(unknown: analyzer.Dataset) -> None:
    said = json.dumps(coverage.gather(unknown))
    assert "Password" in said
    assert not re.search("hunter2|abcdef", said)
    glued = ["key 'abc'def1", 'key "abc" #12abc', "key #12 #34abc", "key x#1abc", "key {abc: 'def'}"]
    shapes = pl.DataFrame({"message": glued}).select(skeleton(pl.col("message"))).to_series().to_list()
    assert shapes == ["key <*>", 'key "<*>" <*>', "key #<*>", "key <*>", "key <*>"]


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        ("Received instruction: 7.connect,8.hunter) correct horse (battery,6.staple", "Received instruction: <*>"),
        ("Data: a, sesame=x, state: y", "Data: <*>, state: <*>"),
        ("Something new: x (src/x.rs:12) word (tube_id: a", "Something new: <*>(tube_id: <*>)"),
        ("Something new (tries: 1, sesame: 2, rtt: 3) open (barley)", "Something new (tries: <*>, rtt: <*>)"),
        ("Something (new) is there | way: up | state: a|b", "Something (new) is there | way: <*>| state: <*>"),
        ("Nothing follows:", "Nothing follows:"),
    ],
)
def test_behind_a_value_nothing_but_known_keys_is_in_a_shape(message: str, shape: str) -> None:
    assert pl.select(skeleton(pl.lit(message))).item() == shape


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_worst_covered_comes_first(unknown: analyzer.Dataset) -> None:
    values = coverage.gather(unknown)
    shares = [row["accounted"] for row in values["targets"]]
    assert shares == sorted(shares)
    assert values["targets"][0]["target"] == "keeper_pam_webrtc_rs.brand_new"
    assert values["totals"] == {"records": 10, "events": 5, "noise": 0, "unmatched": 5}
    order = [row["target"] for row in values["targets"]]
    places = [order.index(shape["target"]) for shape in values["shapes"]]
    assert places == sorted(places)
    drawn = coverage.render(values, unknown.path)
    assert not ACTS.search(drawn)
    assert "keeper_pam_webrtc_rs.brand_new  no grammar yet" in drawn
    assert "2 records, first at seed.log:6" in drawn


def test_one_unknown_among_many_is_not_nothing() -> None:
    row = {"target": "x", "records": 100_000, "events": 99_999, "noise": 0, "unmatched": 1}
    values = {"targets": [row], "totals": row, "other_programs": 0, "not_counted": [], "shapes": []}
    assert "99.9 %" in coverage.render(values, "metrics")


def test_the_command(tmp_path: Path) -> None:
    seed_dataset(tmp_path, [*SEED_LINES, *UNKNOWN])
    drawn = run("coverage", cwd=tmp_path)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert re.search(r"^keeper_pam_webrtc_rs\.brand_new +1 +0 +0 +1 +0 %$", drawn.stdout, re.MULTILINE)
    values = json.loads(run("coverage", "--json", cwd=tmp_path).stdout)
    assert values["other_programs"] == 1
    assert [set(shape) for shape in values["shapes"]] == [
        {"target", "skeleton", "count", "origin", "grammar", "rule"}
    ] * 4


def test_an_empty_dataset_says_so(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("no log\n")
    ingest([str(tmp_path / "other.txt")], tmp_path / "out")
    dataset = analyzer.open(tmp_path / "out")
    assert coverage.render(coverage.gather(dataset), "out") == coverage.EMPTY.format(path="out")


def forget(out: Path) -> None:
    """Make a dataset what the version before this table wrote."""
    path = out / stored.STATE / stored.MANIFEST
    manifest = json.loads(path.read_text())
    for entry in manifest["sources"].values():
        del entry["coverage"]
    for relative in [one for one in manifest["files"] if one.startswith("coverage/")]:
        del manifest["files"][relative]
        (out / relative).unlink()
    path.write_text(json.dumps(manifest))


def test_a_dataset_of_an_older_version_says_what_to_do(tmp_path: Path) -> None:
    out = seed_dataset(tmp_path)
    forget(out)
    with pytest.raises(DatasetError, match="ingest its logs into a new folder") as raised:
        coverage.gather(analyzer.open(out))
    assert "\n" not in str(raised.value)
    # what is read from now on is counted, and what was read before is named
    values = coverage.gather(analyzer.open(seed_dataset(tmp_path, UNKNOWN, name="later.log")))
    assert (values["not_counted"], values["totals"]["unmatched"]) == (["seed.log"], 5)
    assert "1 source read by an older version" in coverage.render(values, out)
