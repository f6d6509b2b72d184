"""Marks of tubes → windows: when a line without any id can only be meant for one tube.

Lines of the WebRTC crates carry no id. They speak of gathering, of the handshake, or of the agent's whole life, and go
to a tube only while that is going on in a single tube of their log.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from analyzer.events.portions import in_portions

GATHERING_KINDS = (
    "allocation_failed",
    "stun_failed",
    "server_unresolved",
    "relay_unresolved",
    "turn_requested",
    "turn_received",
    "turn_resolved",
    "turn_allocated",
)
HANDSHAKE_KINDS = ("dtls_hello_received", "dtls_finished_queued")
CHECK_KINDS = ("check_sent", "pair_nominated", "check_answered")
ASSOCIATION_KINDS = ("sctp_rtt_measured",)
AGENT_KINDS = ("agent_started", "agent_state_changed", "pair_selected", *CHECK_KINDS, *ASSOCIATION_KINDS)
ANONYMOUS_KINDS = (*GATHERING_KINDS, *HANDSHAKE_KINDS, *AGENT_KINDS)
GENERATION = "gathering_started"
ENDINGS = ("tube_closing", "tube_closed", "tube_removed")
_KIND = pl.col("kind")


def _entered(kind: str) -> pl.Expr:
    return (_KIND == kind) & (pl.col("state") == "Connected")


#: what is noted of a tube's line, so that windows and generations can be told
MARKS = {
    "starts": _KIND == GENERATION,
    "complete": (_KIND == "gathering_completed")
    | ((_KIND == "gathering_state_changed") & (pl.col("state") == "Complete")),
    "ended": _KIND.is_in(ENDINGS),
    "ice_connected": _entered("ice_state_changed"),
    "peer_connected": _entered("peer_state_changed"),
}


@dataclass(frozen=True, slots=True)
class Window:
    """Kinds of lines, and the marks between which they are meant for a tube; `generation`: once in each of them."""

    kinds: tuple[str, ...]
    begins: pl.Expr
    ends: pl.Expr
    each_generation: bool = False


WINDOWS = (
    Window(GATHERING_KINDS, pl.col("starts"), pl.col("complete") | pl.col("ended"), each_generation=True),
    Window(HANDSHAKE_KINDS, pl.col("ice_connected"), pl.col("peer_connected") | pl.col("ended")),
    Window(AGENT_KINDS, pl.col("first"), pl.col("ended")),
)


def marks(events: pl.DataFrame) -> pl.DataFrame:
    """Lines of tubes that begin or end something: `scope`, `tube_id`, `seq`, `MARKS`, and whether it is the `first`."""
    named = events.filter(pl.col("tube_id").is_not_null())
    first = pl.struct("scope", "tube_id").is_first_distinct()
    told = named.select("scope", "tube_id", "seq", **MARKS, first=first)
    return told.filter(pl.any_horizontal(*MARKS, "first"))


def generations(marked: pl.DataFrame) -> pl.DataFrame:
    """Where the ICE generations of each tube begin, in order: each start of gathering begins one."""
    starts = marked.filter("starts").sort("seq").select("tube_id", "seq")
    return starts.with_columns(generation=pl.int_range(1, pl.len() + 1).over("tube_id").cast(pl.Int64))


def _spans(marked: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Spans of places `(scope, tube_id, begin, end)` between the first begin and the first end after it."""
    number = pl.col("starts").cum_sum().over("tube_id") if window.each_generation else pl.lit(1)
    spans = marked.sort("seq").select(
        "scope", "tube_id", "seq", generation=number, begins=window.begins, ends=window.ends
    )
    return (
        spans.group_by("scope", "tube_id", "generation")
        .agg(
            begin=pl.col("seq").filter("begins").min(),
            end=pl.col("seq").filter(pl.col("ends") & (pl.col("seq") > pl.col("seq").filter("begins").min())).min(),
        )
        .filter(pl.col("begin").is_not_null())
        # the next generation ends one whose end was not told
        .sort("begin")
        .with_columns(end=pl.min_horizontal("end", pl.col("begin").shift(-1).over("scope", "tube_id")))
    )


def owners(marked: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Who owns an anonymous line from `seq` on, by scope: `scope`, `seq`, `found`; null while it is none or several.

    Open windows are counted by running sums over the places; while one is open, the sum of their numbers names it.
    """
    spans = in_portions(marked, pl.col("tube_id"), lambda some: _spans(some, window))
    spans = spans.with_row_index("number", 1).with_columns(pl.col("number").cast(pl.Int64))
    opened = spans.select("scope", seq="begin", count=pl.lit(1), number="number")
    closed = spans.filter(pl.col("end").is_not_null()).select(
        "scope", seq="end", count=pl.lit(-1), number=-pl.col("number")
    )
    running = (
        pl.concat([opened, closed])
        .sort("scope", "seq")
        .with_columns(pl.col("count", "number").cum_sum().over("scope"))
        .unique(["scope", "seq"], keep="last", maintain_order=True)
        .with_columns(number=pl.when(pl.col("count") == 1).then("number"))
    )
    return (
        running.join(spans.select("number", found="tube_id"), on="number", how="left")
        .select("scope", "seq", "found")
        .sort("seq")
    )
