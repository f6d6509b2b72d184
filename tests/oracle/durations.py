"""Durations of a set-up once more, from the fold of one tube's events, and what the tables have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
import pytest

from tests.oracle.fold import Generation, Tube, _first_of, _span, connection_times
from tests.oracle.scenarios import ADJACENT, Life

#: duration → column of ice_stats, and of connection_legs, that shows it
SHOWN = {
    "stun_response": (None, "stun_response_time_ms"),
    "turn_allocation": ("turn_allocation_time_ms", "turn_allocation_latency_ms"),
    "credential_fetch": ("turn_credential_fetch_ms", None),
    "gathering": ("gathering_complete_time_ms", None),
    "ice_connection_establishment": ("connection_time_ms", "ice_connection_establishment_ms"),
    "data_channel_establishment": (None, "data_channel_establishment_ms"),
}
#: what the library itself needs: from the start of gathering, and from the first host candidate, ms
WORK = {"srflx": (2.1, 1.2), "relay": (2.3, 1.5)}
LONGEST = {"srflx": 5000, "relay": 15600}


def _to_candidate(one: Generation, kind: str) -> list[float]:
    """From the start, and from a host candidate that came soon, to the first of a kind: the lowest, if any."""
    host, found = _first_of(one, "host"), _first_of(one, kind)
    prompt = host if host is not None and one.started is not None and host - one.started <= 10 else None
    soon = None if host is not None and one.started is not None and host - one.started > 20 else one.started
    spans = [
        found - start - work
        for start, work in zip((soon, prompt), WORK[kind], strict=True)
        if start is not None and found is not None and found > start
    ]
    return sorted(span for span in spans if 0 < span <= LONGEST[kind])[:1]


def _first(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None][:1]


def _printed(one: Generation, *, from_first: bool) -> float | None:
    """What the collector printed; where it counts from the first candidate, only if that came with the set-up."""
    kinds = [kind for (kind, _), at in one.candidates if at is not None]
    return one.printed_ms if not from_first or kinds[:1] == ["host"] else None


def chosen(tube: Tube, *, from_first: bool) -> dict[str, list[float]]:
    """What is shown of each duration of a tube; of STUN responses one for each generation."""
    generations = tube.generations
    connected = min((one.peer_connected for one in generations if one.peer_connected is not None), default=None)
    relays = any(kind == "relay" for one in generations for (kind, _), _ in one.candidates)
    allocated = [value for one in generations for value in _to_candidate(one, "relay")][:1]
    timed = _first(_span(one.started, one.completed) for one in generations)
    return {
        "stun_response": [value for one in generations for value in _to_candidate(one, "srflx")],
        # the fetch of credentials stands for an allocation only where none is told
        "turn_allocation": allocated or ([] if relays else list(tube.fetches[:1])),
        "credential_fetch": list(tube.fetches[:1]),
        "gathering": timed or _first(_printed(one, from_first=from_first) for one in generations),
        "ice_connection_establishment": _first(connection_times(tube)),
        "data_channel_establishment": _first([_span(connected, tube.channel_at)]),
    }


def check_durations(tables: dict[str, pl.DataFrame], lives: Sequence[Life]) -> None:
    """The chosen rows are those of the fold, and the tables show them and nothing else."""
    rows = tables["leg_measurements"].filter(pl.col("leg").is_in(list(SHOWN)))
    assert rows.filter(pl.col("refused_reason").is_not_null(), pl.col("chosen") | pl.col("chosen_for_tube")).is_empty()
    assert rows.filter(pl.col("chosen") & ~pl.col("chosen_for_tube")).is_empty()
    stats = {(row["conversation_id"], row["tube_id"]): row for row in tables["ice_stats"].to_dicts()}
    for life in lives:
        mine = rows.filter(pl.col("tube_id") == life.tube_id, "chosen_for_tube").sort("generation", nulls_last=True)
        shown = stats[life.conversation_id, life.tube_id]
        started = any(event.kind == "gathering_started" for event in life.events)
        for leg, told in chosen(life.folded(), from_first=life.era == ADJACENT and started).items():
            found = mine.filter(pl.col("leg") == leg)["value_ms"].to_list()
            assert found == pytest.approx(told, abs=1e-6), (leg, life.tube_id)
            if column := SHOWN[leg][0]:
                assert shown[column] == (found[0] if found else None), (column, life.tube_id)
        assert (shown["stun_response_times"] or []) == mine.filter(pl.col("leg") == "stun_response")[
            "value_ms"
        ].to_list()
    for conversation in tables["connection_legs"].to_dicts():
        here = rows.filter(pl.col("conversation_id") == conversation["conversation_id"])
        for leg, (_, column) in SHOWN.items():
            of_leg = here.filter(pl.col("leg") == leg)
            picked = of_leg.filter("chosen")["value_ms"].to_list()
            assert len(picked) == of_leg["chosen_for_tube"].any(), leg
            if column:
                assert conversation[column] == (picked[0] if picked else None), column
