"""Redacted copies that keep unknown text: nothing of it that is told to hold a secret, nor behind the name of one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import analyzer
from analyzer.accounting.secrets import holds
from analyzer.pipeline import ingest
from analyzer.redact import redact
from analyzer.redact.messages import masked
from tests import canaries
from tests.test_redact import copied

BEGUN = "ICE gathering started (tube_id: a, why: "


def test_unknown_text_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    said = (
        "Nobody knows 'this' of 7 words",
        "Nor this password: hunter2, nor that",
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x y",
    )
    assert copied(tmp_path / "a", *said) == ["Nobody knows '<*>' of <*> words", "Nor this password: <*>", "Bearer <*>"]
    kept = copied(tmp_path / "b", *said, keep_unknown=True)
    # what is told to hold a secret is masked as anywhere
    assert kept == ["Nobody knows 'this' of 7 words", "Nor this password: <*>", "Bearer <*>"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Nobody knows the secrets of\nthis\nand that", "Nobody knows the secrets <*>\n<*>\n<*>"),
        ('Nobody knows {\n  "tokens": [\n    "Qq91"\n  ]\n}', 'Nobody knows {\n  "tokens": [<*>\n<*>\n<*>\n<*>'),
        ("Nobody knows 112, 97, 115, 115, 119, 111, 114, 100 of 7", "Nobody knows <*> of 7"),
        (f"{BEGUN}my word, note: my secret b, c)", f"{BEGUN}my word, note: my secret <*>, <*>)"),
        (f'{BEGUN}x, args: ["P4ss", "769"])', f"{BEGUN}<*>, <*>, <*>)"),
    ],
)
def test_unknown_text_ends_before_a_secret(said: str, kept: str, tmp_path: Path) -> None:
    assert "\n".join(copied(tmp_path, said, keep_unknown=True)) == kept


def test_what_is_told_to_be_a_secret_is_never_kept(tmp_path: Path) -> None:
    said = pl.DataFrame(list(canaries.messages()), schema=["target", "message"], orient="row")
    told = said.filter(holds(pl.col("message")))
    assert len(told) > 0.4 * len(said)
    assert [leak for text in masked(told, keep_unknown=True)["message"] for leak in canaries.found(text)] == []
    (tmp_path / "std.log").write_text("\n".join(canaries.layouts()["std"]) + "\n", newline="")
    redact([str(tmp_path / "std.log")], tmp_path / "copy", keep_unknown=True)
    ingest([str(tmp_path / "copy")], tmp_path / "out")
    assert analyzer.open(tmp_path / "out").sources.collect()["secrets"].to_list() == [[]]
