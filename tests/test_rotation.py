"""Which files are parts of one log, and in which order: told by names and times alone, never by how they were given."""

from __future__ import annotations

from itertools import permutations

import pytest

from analyzer.events.rotation import Part, log_of, placed

#: names of parts of `gateway.log`, the oldest first
ROTATIONS = {
    "numbers": ("gateway.log.10.gz", "gateway.log.2.gz", "gateway.log.1", "gateway.log"),
    "dates": ("gateway.log-20251231.zst", "gateway.log-20260101.gz", "gateway.log-20260102", "gateway.log"),
    "days": ("gateway.log.2025-12-31", "gateway.log.2026-01-01.gz", "gateway.log.2026-01-02", "gateway.log"),
    "hours": ("gateway.log.2026-01-01_23", "gateway.log.2026-01-02_00", "gateway.log.2026-01-02_00-30", "gateway.log"),
    "seconds": ("gateway.log.20260101-235959.gz", "gateway.log.20260102-000000", "gateway.log"),
    "before the extension": ("gateway-20260101.log.gz", "gateway-2026-01-02T13-05-09.123.log", "gateway.log"),
    "large days": ("gateway-20260101.log", "gateway-20260102.log.2", "gateway-20260102.log.1", "gateway-20260102.log"),
    "a day again": ("gateway.log.2026-01-01", "gateway.log.2026-01-01.1", "gateway.log.2026-01-01.10", "gateway.log"),
}  # fmt: skip


def part(name: str, *times: str) -> Part:
    return Part(f"identity of {name} {times}", name, min(times, default=None), max(times, default=None))


def scopes(parts: list[Part]) -> list[list[str]]:
    """Names of the parts of each scope, in order; the same however the parts were given."""
    found: list[list[list[str]]] = []
    for given in permutations(parts):
        logs: dict[int, list[str]] = {}
        for one, scope in placed(given):
            logs.setdefault(scope, []).append(one.name)
        found.append(list(logs.values()))
    assert all(one == found[0] for one in found)
    return found[0]


@pytest.mark.parametrize("names", ROTATIONS.values(), ids=ROTATIONS.keys())
@pytest.mark.parametrize("folder", ["", "logs/2026-01-01/"])
def test_parts_of_one_log_are_in_the_order_of_their_names(folder: str, names: tuple[str, ...]) -> None:
    told = [log_of(folder + name) for name in names]
    assert {log for log, _ in told} == {f"{folder}gateway.log"}
    ranks = [rank for _, rank in told]
    assert ranks == sorted(set(ranks))
    assert scopes([part(folder + name) for name in names]) == [[folder + name for name in names]]


@pytest.mark.parametrize(
    "name",
    [
        "gateway.log", "gateway-10.0.0.1", "gateway-2.2.9", "keeper_1.log", "gateway-12345678.log", "stdin", "",
        "gateway-20261301.log", "20260101/gateway.log", "20260101.log", ".1", "-20260101", "gateway.log.1.txt",
        "gateway.log.2048",
    ],
)  # fmt: skip
def test_other_names_are_logs_of_their_own(name: str) -> None:
    assert log_of(name) == (name, log_of("gateway.log")[1])


def test_times_go_before_names() -> None:
    # read once before a rotation and once after it: the name of each is that of its day
    parts = [part("gateway.log", "01", "02"), part("gateway.log.1", "02", "03"), part("gateway.log", "03", "04")]
    assert scopes(parts) == [["gateway.log", "gateway.log.1", "gateway.log"]]


def test_equal_times_are_in_the_order_of_names() -> None:
    parts = [part(name, "01") for name in ("app.log.2", "app.log.1", "app.log")]
    assert scopes(parts) == [["app.log.2", "app.log.1", "app.log"]]


def test_what_overlaps_is_no_part() -> None:
    first, second, third = part("app.log.2", "01", "02"), part("app.log.1", "02", "05"), part("app.log", "05", "09")
    assert scopes([first, second, third]) == [["app.log.2", "app.log.1", "app.log"]]
    foreign = part("app.log", "03", "04")
    assert scopes([first, second, foreign, third]) == [["app.log.2"], ["app.log.1"], ["app.log"], ["app.log"]]
    late = part("app.log", "08", "10")
    assert scopes([first, second, third, late]) == [["app.log.2", "app.log.1"], ["app.log"], ["app.log"]]


def test_folders_and_names_keep_logs_apart() -> None:
    parts = [part("a/app.log.1", "01"), part("b/app.log", "02"), part("a/app.log", "03"), part("a/apps.log", "04")]
    assert scopes(parts) == [["a/app.log.1", "a/app.log"], ["b/app.log"], ["a/apps.log"]]


def test_without_times_one_rank_is_no_order() -> None:
    twice = Part("another", "app.log", None, None)
    assert scopes([part("app.log.2"), part("app.log.1"), part("app.log"), twice]) == [
        ["app.log.2", "app.log.1"],
        ["app.log"],
        ["app.log"],
    ]
    assert scopes([part("app.log.1"), part("app.log", "01")]) == [["app.log.1"], ["app.log"]]
