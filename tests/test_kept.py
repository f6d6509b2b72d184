"""What is kept of compiled grammars is never anything but what compiling them would give."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.grammar import grammar, keep
from analyzer.grammar.text import stems, text_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keep, "folder", lambda: tmp_path)
    return tmp_path


def compiled() -> str:
    raise AssertionError("compiled again")


def test_what_is_kept_is_not_compiled_again(folder: Path) -> None:
    assert keep.kept("words", "tube", lambda: "made") == "made"
    assert keep.kept("words", "tube", compiled) == "made"
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".pickle"]


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_damaged_file_is_compiled_anew(folder: Path, place: int) -> None:
    keep.kept("words", "tube", lambda: "made")
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(raw)
    assert keep.kept("words", "tube", lambda: "again") == "again"
    assert keep.kept("words", "tube", compiled) == "again"


@pytest.mark.parametrize("changed", ["fields", "tube"])
def test_a_changed_grammar_is_compiled_anew(folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    keep.kept("words", "tube", lambda: "made")
    monkeypatch.setattr(keep, "text_of", lambda stem: text_of(stem) + ("\n// more" if stem == changed else ""))
    assert keep.kept("words", "tube", lambda: "again") == "again"


def test_another_compiler_compiles_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep.kept("words", "tube", lambda: "made")
    monkeypatch.setattr(keep, "_compiler", lambda: b"another")
    assert keep.kept("words", "tube", lambda: "again") == "again"


def test_where_nothing_can_be_written_it_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a file"
    file.touch()
    monkeypatch.setattr(keep, "folder", lambda: file)
    assert [keep.kept("words", "tube", lambda: "made") for _ in range(2)] == ["made", "made"]


def test_a_grammar_comes_back_as_it_was(folder: Path) -> None:
    made = {stem: grammar.__wrapped__(stem) for stem in stems()}
    for stem, one in made.items():
        again = grammar.__wrapped__(stem)
        assert again.noise == one.noise
        # there is one of each kind in a process, so kinds are compared by what they hold
        assert [repr(kind) for kind in again.kinds] == [repr(kind) for kind in one.kinds]
