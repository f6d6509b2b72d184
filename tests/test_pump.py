"""The programme that measures lines made to be slow: that it tells slow from quick, and that its lines can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import pump

LONGEST = 1 << pump.EXPONENTS[-1]


@pytest.mark.parametrize(
    ("grows", "told"),
    [
        (lambda length: length * 1e-6, 1.0),
        (lambda length: length * length * 1e-9, 2.0),
        (lambda length: length**3 * 1e-14, 3.0),
        (lambda length: pump.QUICK_S * 0.9 * (length / LONGEST) ** 2, 0.0),
    ],
    ids=["linear", "quadratic", "cubic", "too quick to matter"],
)
def test_growth_is_told(grows: Callable[[int], float], told: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("tests.pump.time.process_time", lambda: now[0])

    def call(text: str) -> None:
        now[0] += grows(len(text))

    assert pump.slope(call, pump.Pump("", "a", "")) == pytest.approx(told)
    assert told in (0.0, 1.0) or told > pump.MAX_SLOPE


def test_lines_are_read_and_explained(tmp_path: Path) -> None:
    given = list(pump.lines(1000))
    assert {dialect for _, dialect, _ in given} >= {"std", "tracing", "cri/std", "docker_json/std", "json"}
    for name, dialect, text in given[::10]:
        assert len(text) > 1 << 19, name
        pump.ingested(text[:2000], dialect)
    name, dialect, text = given[0]
    path = tmp_path / "app.log"
    path.write_text(f"{text[:2000]}\n", encoding="utf-8")
    assert pump._explained(path, dialect)
