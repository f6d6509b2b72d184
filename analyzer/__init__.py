"""True metrics of WebRTC tunnels, rebuilt from debug logs.

    import analyzer
    metrics = analyzer.open("metrics")

Everything is imported when it is first asked for: the command's `--help` must not wait for a data frame library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyzer.api import Dataset as Dataset
    from analyzer.api import open as open  # noqa: A004 - read as analyzer.open
    from analyzer.errors import AnalyzerError as AnalyzerError
    from analyzer.pipeline import ingest as ingest

_HOME = {
    "AnalyzerError": "analyzer.errors",
    "Dataset": "analyzer.api",
    "ingest": "analyzer.pipeline",
    "open": "analyzer.api",
}
# spelled out, because type checkers do not read `_HOME`
__all__ = ["AnalyzerError", "Dataset", "ingest", "open"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'analyzer' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
