"""The legs beyond the gateway, to Guacd and to the target: whose they are, which is shown, and why one is not."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from tests.test_reductions import rebuilt

GATEWAY_LINE = "2026-11-22 13:00:0{},000 DEBUG keeper_pam_webrtc_rs."
CONNECTED = (
    "channel.connections: Backend connection established (TCP_NODELAY) | channel_id: {}{} | Gateway<->{}: {}ms"
    " | addr: 127.0.0.1:4822\n"
)
TIED = "metrics.collector: Registered connection for metrics tracking (conversation_id: {}, tube_id: {})\n"
BEYOND = [f"gateway_to_{node}_{what}" for node in ("guacd", "target") for what in ("latency_ms", "method")]


def connects(*told: tuple[str, str, str, str]) -> str:
    """Lines of a gateway that connects: label, what follows it, node, printed milliseconds."""
    return "".join(GATEWAY_LINE.format(5) + CONNECTED.format(*one) for one in told)


def beyond(files: dict[str, str]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rows of connection_legs, and those of leg_measurements, as far as they go beyond the gateway."""
    tables = rebuilt({name: text.encode() for name, text in files.items()})
    estimates = tables["leg_measurements"].filter(pl.col("leg").str.starts_with("gateway_to_"))
    columns = ("conversation_id", "tube_id", "leg", "value_ms", "chosen", "refused_reason")
    return tables["connection_legs"].select("conversation_id", *BEYOND).rows(), estimates.select(columns).rows()


def test_the_lowest_of_several_connections_is_shown_and_all_are_listed() -> None:
    tube = GATEWAY_LINE.format(1) + TIED.format("c-1", "t-1")
    label = ("c-1", "", "Guacd")
    log = tube + connects((*label, "3.0"), (*label, "0.0"), (*label, "2.0"), (*label, "2.0"), (*label, "1000.0"))
    shown, listed = beyond({"gateway.log": log})
    assert shown == [("c-1", 2.0, "backend_connect", None, None)]
    guacd = ("c-1", "t-1", "gateway_to_guacd")
    assert listed == [
        (*guacd, 0.0, False, "less than 1 ms, the least that is printed"),
        (*guacd, 2.0, True, None),
        (*guacd, 2.0, False, None),
        (*guacd, 3.0, False, None),
        (*guacd, 1000.0, False, "the request to connect was repeated"),
    ]


def test_a_connection_is_of_the_conversation_that_its_label_names() -> None:
    ties = "".join(GATEWAY_LINE.format(1) + TIED.format(one, "t-1") for one in ("c-1", "c-2", "c-3"))
    shown, _ = beyond({"gateway.log": ties + connects(("c-1", "", "Guacd", "2.0"), ("c-2", "", "Target", "4.0"))})
    assert shown == [
        ("c-1", 2.0, "backend_connect", None, None),
        ("c-2", None, None, 4.0, "backend_connect"),
        ("c-3", None, None, None, None),
    ]


def test_a_connection_of_no_known_tube_is_the_conversations() -> None:
    late = connects(("c-1", " | conversation_id: c-1", "Target", "4.0"))
    told = [("c-1", None, None, 4.0, "backend_connect")], [("c-1", None, "gateway_to_target", 4.0, True, None)]
    assert beyond({"gateway.log": late}) == told
    declared = "tube: [DATA_CHANNEL_SETUP] Registering on_data_channel callback (tube_id: {}, is_server_mode: true)\n"
    client = GATEWAY_LINE.format(1) + TIED.format("c-1", "t-1") + GATEWAY_LINE.format(2) + declared.format("t-1")
    # a client connects to no backend: the only tube that is known did not write it
    assert beyond({"client.log": client, "gateway.log": late}) == told


def test_a_printed_time_needs_no_times_of_lines() -> None:
    log = GATEWAY_LINE.format(1) + TIED.format("c-1", "t-1") + connects(("c-1", "", "Target", "4.0"))
    bare = re.sub("(?m)^.*? DEBUG", "DEBUG", log)
    assert beyond({"gateway.log": bare})[0] == [("c-1", None, None, 4.0, "backend_connect")]
