"""What an installation has: every package, every grammar, the command, the version."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

from analyzer.grammar.text import stems
from tests.truth import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed() -> None:
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "analyzer").rglob("__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == there | {"analyzer.grammars"}


def test_every_grammar_is_installed() -> None:
    installed = {entry.name for entry in resources.files("analyzer.grammars").iterdir()}
    assert {path.name for path in (ROOT / "grammars").glob("*.lark")} <= installed
    assert {f"{stem}.lark" for stem in stems()} <= installed
    assert {path.suffix for path in (ROOT / "grammars").iterdir() if path.is_file()} == {".lark", ".py"}


def test_the_command_and_the_version_are_those_declared() -> None:
    distribution = metadata.distribution(PROJECT["project"]["name"])
    (command,) = distribution.entry_points.select(group="console_scripts", name="analyzer")
    assert command.value == "analyzer.cli:main"
    assert distribution.version == PROJECT["project"]["version"]


def test_types_are_shipped() -> None:
    assert resources.files("analyzer").joinpath("py.typed").is_file()


def test_in_a_checkout_the_grammars_beside_the_package_are_read() -> None:
    """Python takes the folder it stands in before what is installed, and there the grammars are no package."""
    code = "import sys, analyzer.grammar.text as text; sys.modules['analyzer.grammars'] = None; print(text.folder())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == ROOT / "grammars"
