"""Where the real library cannot be had, its tests say why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.producer.environment import Unavailable, installed


def test_without_an_index_the_reason_is_told(tmp_path: Path) -> None:
    nowhere = {"PATH": os.environ.get("PATH", ""), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    with pytest.raises(Unavailable, match=r"no package index to be reached.*: .*keeper-pam-webrtc-rs"):
        installed("newest", tmp_path / "venv", nowhere)
