"""Candidates as another implementation reads them: aioice, of the extra `oracles`, and every difference listed.

`python -m tests.test_candidate_oracle` reads fifty times as many.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import polars as pl
import pytest

from analyzer.events.candidate import parse_candidates
from tests.strategies import damaged

aioice = pytest.importorskip("aioice", reason="the second reader of candidates is in the extra `oracles`")

COUNT = 2000
PREFIX = "candidate:"
#: our columns by the names they have there
FIELDS = {
    "foundation": "foundation", "component": "component", "transport": "transport", "priority": "priority",
    "address": "host", "port": "port", "candidate_type": "type", "related_address": "related_address",
    "related_port": "related_port", "tcp_type": "tcptype",
}  # fmt: skip
#: the fields every candidate has; what follows them is pairs, which aioice finds beyond doubled spaces, too
BASIC = ("foundation", "component", "transport", "priority", "address", "port", "candidate_type")


def _made(random: Random) -> str:
    address = random.choice(("10.0.0.1", "203.0.113.7", "2001:db8::1", "fe80::1", "a1b2.local", "relay.example"))
    transport, kind = random.choice(("udp", "UDP", "tcp")), random.choice(("host", "srflx", "prflx", "relay"))
    text = f"{PREFIX}{random.randrange(10**9)} {random.randint(1, 2)} {transport} {random.randrange(1, 2**31)}"
    text += f" {address} {random.randrange(65536)} typ {kind}"
    if kind != "host":
        text += f" raddr {random.choice(('192.0.2.1', '10.0.0.1'))} rport {random.randrange(65536)}"
    if transport == "tcp":
        text += f" tcptype {random.choice(('active', 'passive', 'so'))}"
    return text + random.choice(("", " generation 0", " network-cost 999", " generation 0 network-id 1"))


def _theirs(text: str) -> dict[str, Any] | None:
    try:
        read = aioice.Candidate.from_sdp(text.removeprefix(PREFIX))
    except (ValueError, AssertionError, IndexError):
        return None
    found = {name: getattr(read, theirs) for name, theirs in FIELDS.items()}
    return found | {name: found[name].lower() for name in ("transport", "candidate_type")}


def _read(texts: list[str]) -> Iterator[tuple[str, dict[str, Any] | None, dict[str, Any] | None]]:
    for text, ours in zip(texts, parse_candidates(pl.Series(texts)).to_dicts(), strict=True):
        yield text, None if "not_a_candidate" in ours["violations"] else ours, _theirs(text)


def differences(texts: list[str]) -> Iterator[str]:
    """Well-formed candidates that the two read differently."""
    for text, ours, theirs in _read(texts):
        if ours is None or theirs is None or any(ours[name] != theirs[name] for name in FIELDS):
            yield f"{text!r}\n ours: {ours}\n theirs: {theirs}"


def liberties(texts: list[str]) -> Iterator[str]:
    """Candidates that we take and aioice does not, or reads otherwise; it is the more lenient of the two.

    Known: it reads two extensions as numbers, and has numbers of any size, where ours are then null.
    """
    for text, ours, theirs in _read(texts):
        if ours is None:
            continue
        if theirs is None:
            if not _has_no_number(text) and not any(ours[name] is None for name in BASIC):
                yield f"{text!r}\n ours: {ours}\n theirs: none"
        elif differ := [name for name in BASIC if ours[name] is not None and ours[name] != theirs[name]]:
            yield f"{text!r}: {differ}"


def _has_no_number(text: str) -> bool:
    """Whether an extension that is a number there is none here: aioice then refuses all of it."""
    numbers = [value for name, value in pairwise(text.split()[8:]) if name in ("rport", "generation")]
    return any(not value.isdecimal() or len(value) > len(str(2**63)) for value in numbers)


@pytest.mark.parametrize(("place", "violation"), [(1, "component"), (3, "priority"), (5, "port")])
def test_a_number_that_no_column_holds_is_out_of_range(place: int, violation: str) -> None:
    words = ["candidate:1", "1", "udp", "1", "10.0.0.1", "1", "typ", "host"]
    words[place] = "9" * 40
    assert parse_candidates(pl.Series([" ".join(words)]))["violations"].to_list() == [[f"{violation}_out_of_range"]]


def test_candidates_are_read_as_aioice_reads_them() -> None:
    random = Random(0)
    found = list(differences([_made(random) for _ in range(COUNT)]))
    assert not found, "\n".join(found[:5])


def test_no_damaged_candidate_is_taken_that_aioice_refuses() -> None:
    random = Random(1)
    found = list(liberties([damaged(_made(random), random) for _ in range(COUNT)]))
    assert not found, "\n".join(found[:5])


if __name__ == "__main__":
    random = Random(2)
    made = [_made(random) for _ in range(50 * COUNT)]
    told = [*differences(made), *liberties([damaged(text, random) for text in made])]
    print(2 * len(made), "candidates", len(told), "differences")
    print("\n".join(told[:20]))
    sys.exit(bool(told))
