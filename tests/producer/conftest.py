"""The real library costs a download and half a minute: its tests run where they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "producer" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("producer"):
            item.add_marker(pytest.mark.skip(reason="the real library, from the package index: pytest -m producer"))
