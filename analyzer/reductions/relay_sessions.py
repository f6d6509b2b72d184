"""What the relay saw: a session of its own log, the tube it served, and what passed through it."""

from __future__ import annotations

import polars as pl

from analyzer.addresses import address_class
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.peers import OTHER_SIDE
from analyzer.tables.declare import Column, Metric, Table
from analyzer.tables.words import Words, spelled

_TOLD = ("relay_usage_counted",)
_PEER = ("relay_peer_usage_counted",)
_CLOSED = ("relay_session_closed",)

RELAY_SESSIONS = Table(
    "relay_sessions",
    row="One session of the relay, by the relay's own log: one client's address, and what it asked of the relay.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation it was joined to, the first one of its tube; null where none."),
        Column("tube_id", pl.String(), "Tube whose traffic with the relay it is; null where only its peer's log is there."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation whose candidate joined it; null where only the peer's log is there."),
        Column("join_method", pl.String(), "Addresses that agree. relayed_address: the relay candidate; relayed_port: its port and the client's (the relay is behind address translation); mapped_address: a host or reflexive candidate is the client's address; related_address: the relay candidate's own socket is; remote_…: the same in the log of the other side, which received the candidate; same_client: right after a joined session of the same client."),
        Column("join_reason", pl.String(), "Why it was joined to none; null where it was."),
        Column("session", pl.String(), "Number of the session in its log; begins anew with the relay.", source=("relay_session_opened",)),
        Column("client_address", pl.String(), "The client as the relay sees it, behind address translation its mapped address; told at the end only.", source=_CLOSED),
        Column("client_port", pl.Int64(), "Port of the same.", source=_CLOSED),
        Metric("address_class", pl.String(), "Class of the client's address, as in candidates.", address_class(pl.col("client_address")), source=_CLOSED),
        Column("relayed_address", pl.String(), "Address relayed from; null where several threads opened theirs at once.", source=("relay_address_opened",)),
        Column("relayed_port", pl.Int64(), "Port of the same.", source=("relay_address_opened",)),
        Column("challenges", pl.Int64(), "Requests without credentials answered with 401: everyone's first.", "{request}", ("relay_challenged",)),
        Column("allocations", pl.Int64(), "Allocations granted.", "{allocation}", ("relay_allocated",)),
        Column("refusals", pl.Int64(), "Requests refused, but for those answered with a challenge or a newer nonce.", "{request}", ("relay_refused", "relay_challenged")),
        Column("refused_code", pl.Int64(), "STUN error code of the first refusal.", source=("relay_refused", "relay_challenged")),
        Column("stale_nonces", pl.Int64(), "Requests answered with 438, which asks for a newer nonce.", "{request}", ("relay_refused",)),
        Column("refreshes", pl.Int64(), "Refreshes that prolonged the allocation; those with a lifetime of 0, which end it, are not counted.", "{request}", ("relay_session_refreshed",)),
        Column("given_back", pl.Boolean(), "Whether the side ended the allocation itself, by a refresh with a lifetime of 0: coturn calls that an allocation timeout, too.", source=("relay_session_refreshed",)),
        Column("lifetime_s", pl.Int64(), "Lifetime granted when the allocation began.", "s", ("relay_session_opened",)),
        Column("packets_received", pl.Int64(), "Packets the relay received from the client; null where it counted none.", "{packet}", _TOLD),
        Column("bytes_received", pl.Int64(), "Bytes the relay received from the client, with the framing of TURN.", "By", _TOLD),
        Column("packets_sent", pl.Int64(), "Packets the relay sent to the client.", "{packet}", _TOLD),
        Column("bytes_sent", pl.Int64(), "Bytes the relay sent to the client, with the framing of TURN.", "By", _TOLD),
        Column("peer_packets_received", pl.Int64(), "Packets the relay received from the client's peers.", "{packet}", _PEER),
        Column("peer_bytes_received", pl.Int64(), "Bytes the relay received from the client's peers.", "By", _PEER),
        Column("peer_packets_sent", pl.Int64(), "Packets the relay sent to the client's peers.", "{packet}", _PEER),
        Column("peer_bytes_sent", pl.Int64(), "Bytes the relay sent to the client's peers.", "By", _PEER),
        Column("started_at", TIMESTAMP, "First request of the session by the relay's clock, which is another machine's; null where its log has no times of day, and where it tells of the session only later, as of one that held nothing but bindings."),
        Column("ended_at", TIMESTAMP, "When it was closed, by the same clock; null while it is open.", source=_CLOSED),
        Column("started_s", pl.Int64(), "The same in seconds since the relay started, as coturn counts by default.", "s"),
        Column("ended_s", pl.Int64(), "When it was closed, in seconds since the relay started.", "s", _CLOSED),
        Column("close_reason", pl.String(), "Why it was closed, in the relay's words; null also where more than words stand there.", source=_CLOSED),
        Column("origin", pl.String(), "`source:line` of its first line."),
    ),
    sort=("conversation_id", "side", "started_at", "started_s", "origin"),
)  # fmt: skip


def reduce(sessions: pl.DataFrame, links: pl.DataFrame, sides: pl.DataFrame, words: Words) -> pl.DataFrame:
    """List the joined sessions.

    `links` has `tube_id`, `conversation_id` and `order`, ids as numbers, as they are in `sessions`; `sides` has
    `tube_id`, a word, and `side`.
    """
    first = (
        links.join(sessions, on="tube_id", how="semi")
        .sort("order")
        .select("tube_id", "conversation_id")
        .unique("tube_id", keep="first", maintain_order=True)
    )
    named = sessions.join(first, on="tube_id", how="left")
    ids = ("tube_id", "conversation_id")
    told = spelled(named, words.anywhere(*named.select(ids)), *ids).with_columns(pl.col(ids).cast(pl.String))
    placed = told.join(sides.unique("tube_id"), on="tube_id", how="left")
    remote = pl.col("is_remote")
    return RELAY_SESSIONS.select(
        placed.with_columns(
            session="relay_session",
            tube_id=pl.when(~remote).then("tube_id"),
            generation=pl.when(~remote).then("generation"),
            side=pl.when(remote)
            .then(pl.col("side").replace_strict(OTHER_SIDE, default=None, return_dtype=pl.String))
            .otherwise("side"),
        )
    )
