"""The relay's own log → its sessions: a third witness beside the two sides, by its own clock.

A session of coturn is one client's address at one of the relay's. Its lines tell the client's address only when it is
closed, and the address relayed from on a line without the session's number, right before the one that opens it: where
several threads open at once the two cannot be told apart, and the address stays unknown. Numbers begin anew with the
relay, so a session is told by its log, the run of the relay, and its number. What passed is counted anew after each
time it was told, so the sum is the total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from analyzer.events.portions import in_portions
from analyzer.reductions.relay_join import join
from analyzer.reductions.seen_candidates import CANDIDATE_KINDS, candidate_rows

#: kinds of events that the relay tells
KINDS = (
    "relay_started",
    "relay_challenged",
    "relay_refused",
    "relay_address_opened",
    "relay_session_opened",
    "relay_allocated",
    "relay_session_refreshed",
    "relay_usage_counted",
    "relay_peer_usage_counted",
    "relay_session_closed",
)
#: kinds that a session begins with; one whose first line is another began before it
BEGINNINGS = ("relay_challenged", "relay_refused", "relay_session_opened", "relay_allocated")
#: the columns of events that sessions are made from
COLUMNS = (
    "kind", "ts", "elapsed_s", "source", "name", "line", "scope", "relay_session", "endpoint", "error_code", "lifetime_s",
    "bytes_sent", "bytes_received", "packets_sent", "packets_received", "relay_close_reason",
)  # fmt: skip
#: the columns of events that the candidates of all sides are found from, to join them by
CANDIDATE_COLUMNS = (
    "kind", "ts", "source", "origin", "tube_id", "conversation_id", "candidate", "sdp_candidates", "candidate_type",
    "address", "port", "transport", "priority", "direction",
)  # fmt: skip
SESSION = ["scope", "run", "relay_session"]
#: asks for credentials, or for a newer nonce: not yet a refusal (RFC 8489 section 9.2)
UNAUTHORIZED, STALE_NONCE = 401, 438
#: lines of one request stand no further apart by a clock of whole seconds
NEAR_US = 1_000_000
#: what is one of a few words, or the same for all lines of a session
_WORDS = ("source", "name", "relay_session", "endpoint", "relay_close_reason")
_KIND = pl.col("kind")
_COUNTED = ("packets_received", "bytes_received", "packets_sent", "bytes_sent")


def clock_us(ts: str, elapsed_s: str) -> pl.Expr:
    """A time of the relay's clock as microseconds: since the epoch, or where it tells none since the relay started."""
    return pl.coalesce(pl.col(ts).dt.epoch("us"), pl.col(elapsed_s) * 1_000_000)


def address_of(endpoint: pl.Expr) -> pl.Expr:
    """Address of a transport address; IPv6 with brackets or without."""
    return endpoint.str.extract(r"^\[?(.*?)\]?:[0-9]+$", 1)


def port_of(endpoint: pl.Expr) -> pl.Expr:
    """Port of a transport address."""
    return endpoint.str.extract(r":([0-9]+)$", 1).cast(pl.Int64, strict=False)


def _narrow(events: pl.DataFrame) -> pl.DataFrame:
    """The columns `COLUMNS` in half of their memory: a relay tells of all its clients, for weeks."""
    kind, words = _KIND.cast(pl.String).cast(pl.Enum(KINDS)), pl.col(_WORDS).cast(pl.Categorical)
    return events.select(COLUMNS).with_columns(kind, words, pl.col("line").cast(pl.UInt32))


def _runs(events: pl.DataFrame) -> pl.DataFrame:
    """Number the runs of the relay in each log: it said that it starts, or its seconds began anew."""
    began = (_KIND == "relay_started") | (pl.col("elapsed_s") < pl.col("elapsed_s").shift().over("scope"))
    return events.with_columns(
        run=began.fill_null(False).cum_sum().over("scope").cast(pl.Int64), at_us=clock_us("ts", "elapsed_s")
    )


def _relayed(events: pl.DataFrame) -> pl.DataFrame:
    """Address relayed from per session, where an opened address and an opened session follow one another alone."""
    opened = events.filter(_KIND.is_in(["relay_address_opened", "relay_session_opened"]))
    is_address = _KIND == "relay_address_opened"

    def neighbour(by: int) -> pl.Expr:
        """Whether the line `by` places on is an address, and was written at about the same time; null where none was."""
        near = ((pl.col("at_us").shift(by) - pl.col("at_us")).abs() <= NEAR_US).fill_null(True)
        return pl.when(near).then(is_address.shift(by)).over("scope", "run")

    placed = opened.with_columns(
        two_before=neighbour(2),
        before=neighbour(1),
        behind=neighbour(-1),
        endpoint=pl.col("endpoint").shift().over("scope", "run"),
    )
    alone = ~is_address & pl.col("before") & ~pl.col("two_before").fill_null(False) & pl.col("behind").fill_null(True)
    return placed.filter(alone.fill_null(False)).select(*SESSION, relayed="endpoint")


def _summed(kind: str, name: str) -> pl.Expr:
    """Sum of what was counted, null where nothing was."""
    counted = pl.col(name).filter(_KIND == kind)
    return pl.when(counted.count() > 0).then(counted.sum())


def sessions(events: pl.DataFrame, resolution: pl.DataFrame) -> pl.DataFrame:
    """Make one row per session from the relay's events, in the order of their logs, with the columns `COLUMNS`, narrow.

    `resolution` has `source` and `resolution_ms` of its times. Beside what the table shows, a row has `started_us`, its
    start by the relay's clock, and the first challenge and what answered it.
    """
    ordered = _runs(events).with_row_index("place")
    told = ordered.filter(pl.col("relay_session").is_not_null())
    found = in_portions(told, pl.col("relay_session"), _summed_up).sort("place").drop("place")
    return (
        found.join(_relayed(ordered).unique(SESSION), on=SESSION, how="left", maintain_order="left")
        .with_columns(pl.col("source", "relay_session", "client", "relayed", "close_reason").cast(pl.String))
        .join(resolution, on="source", how="left", maintain_order="left")
        .with_columns(
            client_address=address_of(pl.col("client")),
            client_port=port_of(pl.col("client")),
            relayed_address=address_of(pl.col("relayed")),
            relayed_port=port_of(pl.col("relayed")),
            # seconds since the start are whole ones
            sub_second=pl.col("answered_at").is_not_null() & (pl.col("resolution_ms").fill_null(1e9) < 1000),
        )
        .drop("client", "relayed", "resolution_ms")
        .with_row_index("number")
    )


def _summed_up(told: pl.DataFrame) -> pl.DataFrame:
    """One row per session, in the order in which they began (`place`)."""
    challenge = (_KIND == "relay_challenged") & (pl.col("error_code") == UNAUTHORIZED)
    stale = pl.col("error_code") == STALE_NONCE
    named = (_KIND == "relay_refused") & ~stale
    refusal = named | ((_KIND == "relay_challenged") & ~challenge & ~stale)
    # the first request with credentials, granted or not, answers the challenge
    answer = (_KIND == "relay_allocated") | named
    asked = challenge & (pl.col("place") < pl.col("answered")).fill_null(False)
    closed = _KIND == "relay_session_closed"
    # a session of nothing but bindings is first told of when it is counted, long after it began
    begun = _KIND.is_in(BEGINNINGS).first()
    origin, answers = pl.format("{}:{}", "name", "line"), pl.col("place") == pl.col("answered")
    rows = told.with_columns(answered=pl.col("place").filter(answer).min().over(SESSION))
    return rows.group_by(SESSION).agg(
        pl.col("place", "source").first(),
        origin=origin.first(),
        started_us=pl.when(begun).then(pl.col("at_us").min()),
        started_at=pl.when(begun).then(pl.col("ts").min()),
        started_s=pl.when(begun).then(pl.col("elapsed_s").min()),
        ended_at=pl.col("ts").filter(closed).max(),
        ended_s=pl.col("elapsed_s").filter(closed).max(),
        ended_us=pl.col("at_us").filter(closed).max(),
        client=pl.col("endpoint").filter(closed).last(),
        close_reason=pl.col("relay_close_reason").filter(closed).last(),
        challenges=challenge.sum().cast(pl.Int64),
        allocations=(_KIND == "relay_allocated").sum().cast(pl.Int64),
        refusals=refusal.sum().cast(pl.Int64),
        refused_code=pl.col("error_code").filter(refusal).first(),
        stale_nonces=stale.sum().cast(pl.Int64),
        refreshes=((_KIND == "relay_session_refreshed") & (pl.col("lifetime_s") > 0)).sum().cast(pl.Int64),
        given_back=((_KIND == "relay_session_refreshed") & (pl.col("lifetime_s") == 0)).fill_null(False).any(),
        lifetime_s=pl.col("lifetime_s").filter(_KIND == "relay_session_opened").first(),
        **{name: _summed("relay_usage_counted", name) for name in _COUNTED},
        **{f"peer_{name}": _summed("relay_peer_usage_counted", name) for name in _COUNTED},
        asked_us=pl.col("at_us").filter(asked).first(),
        asked_again_us=pl.col("at_us").filter(asked).last(),
        times_asked=asked.sum().cast(pl.Int64),
        answered_us=pl.col("at_us").filter(answers).first(),
        answered_at=pl.col("ts").filter(answers).first(),
        answered_kind=_KIND.filter(answers).first().cast(pl.String),
        answered_origin=origin.filter(answers).first(),
    )


def witnessed(
    chunks: Iterable[pl.DataFrame],
    whole: Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame],
    resolution: pl.DataFrame,
) -> pl.DataFrame:
    """Sessions of the relay, joined to the tubes of all logs.

    `chunks` are events placed; `whole` gives rows of them the columns named.
    """
    of_relay, of_sides = [], []
    for events in chunks:
        of_relay.append(_narrow(whole(events.filter(_KIND.is_in(KINDS)), COLUMNS)))
        of_sides.append(whole(events.filter(_KIND.is_in(CANDIDATE_KINDS)), CANDIDATE_COLUMNS))
    told = pl.concat(of_sides)
    logs = told.select("seq", log="source")
    candidates = candidate_rows(told).join(logs, on="seq", how="left", maintain_order="left")
    return join(sessions(pl.concat(of_relay), resolution), candidates)
