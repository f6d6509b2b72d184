"""Shared fixtures: captures are rebuilt once for the whole run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests import truth


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures")


@pytest.fixture(scope="session")
def rebuilt(scratch: Path) -> object:
    """Rebuild a capture folder, once."""

    @cache
    def build(folder: Path) -> truth.Capture:
        return truth.rebuild(folder, scratch / "-".join(folder.parts[-2:]))

    return build
