"""Both ends of a conversation in one log: no line of one end is taken for the other's."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.test_cut_logs import lines, tables


def merged(capture: str) -> list[str]:
    """The logs of both ends as one, by time."""
    records: list[list[str]] = []
    for side in ("client", "gateway"):
        for line in lines(capture, side):
            if line[:4].isdigit():
                records.append([])
            records[-1].append(line)
    return ["".join(record) for record in sorted(records, key=lambda record: record[0][:23])]


#: what a log of both ends says as two logs do, or not at all
SAID = {
    "ice_stats": ("side", ("total_candidates", "connection_time_ms", "selected_pair_local_type", "pair_bytes_sent")),
    "connection_legs": (
        "conversation_id",
        ("data_channel_establishment_ms", "ice_connection_establishment_ms", "uses_relay"),
    ),
    "conversations": ("conversation_id", ("bytes_sent", "bytes_received", "outcome")),
}


def said(found: dict[str, pl.DataFrame]) -> dict[tuple[Any, ...], Any]:
    return {
        (table, row["conversation_id"], row[key], row.get("channel"), name): row[name]
        for table, (key, names) in SAID.items()
        for row in found[table].to_dicts()
        for name in names
    }


@pytest.mark.parametrize("capture", ["2.2.9/D-relay-client", "1.6.2/M-router-credentials", "2.2.9/C-srflx-nat"])
def test_one_log_of_both_ends_says_what_two_logs_say_or_nothing(capture: str) -> None:
    one = tables(both=merged(capture))
    two = tables(client=lines(capture, "client"), gateway=lines(capture, "gateway"))
    whole, told = said(two), {place: value for place, value in said(one).items() if value is not None}
    # a channel's own line that names its tube may come a little later, and its printed counts are rounded to 0.01 KiB
    off = {"data_channel_establishment_ms": 2, "bytes_sent": 6, "bytes_received": 6}
    for place, value in told.items():
        assert value == (pytest.approx(whole[place], abs=off[place[-1]]) if place[-1] in off else whole[place]), place
    assert len(told) > len(whole) / 2
    key = ["conversation_id", "side", "channel"]
    pairs = one["channels"].join(two["channels"], on=key, suffix="_two")
    assert len(pairs) == len(one["channels"])
    opened, closed = (
        (pairs[name] - pairs[f"{name}_two"]).dt.total_milliseconds().drop_nulls() for name in ("opened_at", "closed_at")
    )
    assert opened.is_between(0, 100).all()
    # the first line to tell the close may name no tube; the next one that does is that of the tube
    assert closed.is_between(0, 2000).all()
    for name in ("bytes_sent", "bytes_received"):
        assert ((pairs[name] - pairs[f"{name}_two"]).abs().drop_nulls() <= 6).all()
    # what falls was counted by both ends in turn
    counters = one["samples"].filter(pl.col("metric").str.contains("bytes"))
    fell = pl.col("value").diff().over("tube_id", "channel", "metric") < 0
    assert counters.filter(fell).is_empty()
