"""Streams → facts: what was seen of each peer connection, per ICE generation and per tube.

The reductions read these instead of the events; a fact is a first time, a count or a last value, so any split of the
input gives the same. Times are null in dialects that print none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from analyzer.events.correlate import Streams
from analyzer.events.windows import ENDINGS
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions import life
from analyzer.reductions.own_ends import closings, own_ends
from analyzer.reductions.peers import OTHER_SIDE
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER, candidate_rows
from analyzer.reductions.set_back import around, set_back

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
#: what is known of the times of a tube
CLOCK = ("sub_second", "resolution_ms", "again_from", "again_to")
#: epoch ms are larger, ms since a connection was made smaller
EPOCH_MS = 1e11
#: a longer duration belongs to something else
LONGEST_MS = 600_000.0
#: the columns of events that reductions read
COLUMNS = (
    "kind", "ts", "source", "origin", "location", "tube_id", "conversation_id", "channel_label",
    "candidate", "sdp_candidates", "candidate_type", "address", "port", "transport", "priority", "direction",
    "state", "signaling_state", "is_answer", "is_server_mode", "trickle_ice", "turn_only", "reported_side",
    "total_candidates", "duration_ms", "delay_ms", "timestamp_ms", "success", "transaction", "error_code",
    "reported_local_type", "reported_remote_type", "reported_rtt_ms", "local_candidate", "remote_candidate",
    "previous_state", "restart_reason", "disconnected_timeout_ms", "failed_timeout_ms", "keepalive_ms",
    "bytes_sent", "bytes_received", "buffered_bytes", "close_reason", "server",
    "gateway_to_guacd_ms", "gateway_to_target_ms",
)  # fmt: skip
_KIND = pl.col("kind")
#: a line that tells a data channel open
OPENED = _KIND.is_in(["channel_opened", "channel_seen_open"]) | (
    (_KIND == "channel_state_changed") & (pl.col("state").str.to_lowercase() == "open")
)
#: a line that tells the end of gathering
COMPLETED = (_KIND == "gathering_completed") | (
    (_KIND == "gathering_state_changed") & (pl.col("state").str.to_lowercase() == "complete")
)


def first(kind: str, *more: pl.Expr) -> pl.Expr:
    """Time of the first event of a kind."""
    return pl.col("ts").filter(_KIND == kind, *more).min()


def entered(kind: str, state: str) -> pl.Expr:
    """Time a state was first entered."""
    return first(kind, pl.col("state").str.to_lowercase() == state)


def origin_of(kind: str, *more: pl.Expr) -> pl.Expr:
    """Origin of the first event of a kind."""
    return pl.col("origin").filter(_KIND == kind, *more).first()


def elapsed_ms(start: str, end: str) -> pl.Expr:
    """Milliseconds from one time column to another."""
    # Polars divides one row and many in different ways, whose last bits differ: rounded to what was measured, they agree
    return ((pl.col(end) - pl.col(start)).dt.total_microseconds() / 1000).round(3)


def known_ms(start: str, end: str) -> pl.Expr:
    """The same where times are finer than a second and of one clock, over rows with the columns of `CLOCK`; else null."""
    return pl.when("sub_second", ~around(start, end)).then(elapsed_ms(start, end))


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the tables are computed from."""

    streams: Streams
    #: one row per candidate seen, either direction
    candidates: pl.DataFrame
    #: one row per tube and generation
    generations: pl.DataFrame
    #: one row per tube
    tubes: pl.DataFrame
    #: one row per server that a tube was given: tube_id, turn (else STUN), host_port as configured, its host, transport
    servers: pl.DataFrame
    #: one row per change of state of a tube's machines
    changes: pl.DataFrame
    #: one row per span in which a tube's path was down
    outages: pl.DataFrame
    #: one row per conversation and tube: when it began to close there
    closings: pl.DataFrame
    #: one row per conversation that ended before the tube it shared
    ends: pl.DataFrame


# -- generations and tubes ----------------------------------------------------------------------------------------------


def sides(events: Frame) -> Frame:
    """Side of each tube: what the library says of its role, else who offered, else the side it says it runs on.

    Last comes who was given a data channel: of some releases that is all that is told at INFO.
    """
    first_known = {
        "declared": pl.col("is_server_mode").drop_nulls().first().replace_strict({True: "client", False: "gateway"}, return_dtype=pl.String),
        "registry": _KIND.filter(_KIND.is_in(["server_tube_created", "client_tube_created"])).first()
        .replace_strict({"server_tube_created": "client", "client_tube_created": "gateway"}, return_dtype=pl.String),
        "signalled": pl.col("signaling_state").filter(pl.col("signaling_state").is_in(["HaveLocalOffer", "HaveRemoteOffer"])).first()
        .replace_strict({"HaveLocalOffer": "client", "HaveRemoteOffer": "gateway"}, return_dtype=pl.String),
        "reported": pl.col("reported_side").drop_nulls().first().replace_strict({"Commander": "client", "Gateway": "gateway"}, return_dtype=pl.String),
        "received": pl.when((_KIND == "channel_received").any()).then(pl.lit("gateway")),
    }  # fmt: skip
    return (
        events.group_by("tube_id")
        .agg(**first_known)
        .filter(pl.col("tube_id").is_not_null())
        .select("tube_id", side=pl.coalesce(*first_known))
    )


def _candidate_times(candidates: pl.LazyFrame) -> pl.LazyFrame:
    local = (pl.col("direction") == "local") & (_KIND == "candidate_gathered")
    return candidates.group_by(PEER).agg(
        *(
            pl.col("ts").filter(local, pl.col("candidate_type") == kind).min().alias(f"{kind}_at")
            for kind in ("host", "srflx", "relay")
        ),
        *(
            pl.col("origin").filter(local, pl.col("candidate_type") == kind).first().alias(f"{kind}_origin")
            for kind in ("srflx", "relay")
        ),
        candidate_at=pl.col("ts").filter(local).min(),
    )


def _generations(events: pl.LazyFrame, candidates: pl.LazyFrame) -> pl.LazyFrame:
    facts = events.group_by(PEER).agg(
        started_at=first("gathering_started"),
        started_origin=origin_of("gathering_started"),
        # by the system's clock, and told with the line
        start_printed_at=pl.from_epoch(
            pl.col("timestamp_ms")
            .filter(_KIND == "gathering_started_reported", pl.col("timestamp_ms").is_between(EPOCH_MS, 100 * EPOCH_MS))
            .min(),
            "ms",
        )
        .dt.replace_time_zone("UTC")
        .cast(TIMESTAMP),
        first_candidate_at=first("first_candidate_gathered"),
        completed_at=pl.col("ts").filter(COMPLETED).min(),
        completed_origin=pl.coalesce(pl.col("origin").filter(COMPLETED).first(), origin_of("gathering_reported")),
        gathered=(COMPLETED | (_KIND == "gathering_reported")).any(),
        held_back_at=first("gathering_held_back"),
        delay_ms=pl.col("delay_ms").filter(_KIND == "gathering_held_back").first(),
        refused_at=first("allocation_failed", pl.col("error_code").is_not_null()),
        refused_origin=origin_of("allocation_failed", pl.col("error_code").is_not_null()),
        turn_requested_at=first("turn_requested", pl.col("transaction") == 1),
        turn_requested_origin=origin_of("turn_requested"),
        turn_challenged_at=first("turn_requested", pl.col("transaction") == 2),
        turn_allocated_at=first("turn_allocated"),
        turn_allocated_origin=origin_of("turn_allocated"),
        checking_at=entered("ice_state_changed", "checking"),
        ice_connected_at=entered("ice_state_changed", "connected"),
        ice_connected_origin=origin_of("ice_state_changed", pl.col("state").str.to_lowercase() == "connected"),
        peer_connected_at=entered("peer_state_changed", "connected"),
        peer_connected_origin=origin_of("peer_state_changed", pl.col("state").str.to_lowercase() == "connected"),
        connecting_at=entered("peer_state_changed", "connecting"),
        channel_opened_at=pl.col("ts").filter(OPENED).min(),
        channel_opened_origin=pl.col("origin").filter(OPENED).first(),
        channel_received_at=first("channel_received"),
        channel_received_origin=origin_of("channel_received"),
        hello_at=first("dtls_hello_received"),
        finished_at=first("dtls_finished_queued"),
        finished_origin=origin_of("dtls_finished_queued"),
        agent_checking_at=entered("agent_state_changed", "checking"),
        agent_connected_at=entered("agent_state_changed", "connected"),
        agent_connected_origin=origin_of("agent_state_changed", pl.col("state").str.to_lowercase() == "connected"),
    )
    # events without a tube are dropped here: their group is one row, they are many
    facts = facts.filter(pl.col("tube_id").is_not_null())
    return facts.join(_candidate_times(candidates), on=PEER, how="left").with_columns(
        first_candidate_at=pl.coalesce("first_candidate_at", "candidate_at")
    )


def _tubes(events: pl.LazyFrame, candidates: pl.LazyFrame, resolution: pl.LazyFrame) -> pl.LazyFrame:
    ends = _KIND.is_in(ENDINGS)
    shut = _KIND.is_in(["ice_state_changed", "peer_state_changed"]) & (pl.col("state").str.to_lowercase() == "closed")
    local = pl.col("direction") == "local"
    facts = (
        events.group_by("tube_id")
        .agg(
            source=pl.col("source").first(),
            begins_at=pl.col("ts").min(),
            **set_back(),
            scope=pl.col("scope").first(),
            generations=pl.col("generation").max(),
            ending_told=(_KIND == "gathering_reported").any(),
            located=pl.col("location").is_not_null().any(),
            trickle=pl.col("trickle_ice").drop_nulls().first(),
            turn_only=pl.col("turn_only").drop_nulls().first(),
            reported_total=pl.col("total_candidates").max(),
            connected_at=entered("peer_state_changed", "connected"),
            closed_at=pl.coalesce(pl.col("ts").filter(ends).min(), pl.col("ts").filter(shut).min()),
            closed_origin=pl.coalesce(pl.col("origin").filter(ends).first(), pl.col("origin").filter(shut).first()),
            gone_seq=pl.col("seq").filter(_KIND.is_in(["tube_closed", "tube_removed"])).max(),
            gone_at=pl.coalesce(pl.col("ts").filter(_KIND == "tube_closed").min(), pl.col("ts").filter(_KIND.is_in(["tube_closing", "tube_removed"])).max()),
            channel_received_at=first("channel_received"),
            channel_received_origin=origin_of("channel_received"),
            channel_open_at=pl.col("ts").filter(OPENED).min(),
            channel_open_origin=pl.col("origin").filter(OPENED).first(),
            credential_fetch_ms=pl.col("duration_ms").filter(_KIND == "credentials_fetched").first(),
            credentials_requested_at=first("credentials_requested"),
            credentials_fetched_at=first("credentials_fetched"),
            turn_configured=_KIND.is_in(["credentials_fetched", "credentials_given"]).any(),
            reported_local_type=pl.col("reported_local_type").drop_nulls().last(),
            reported_remote_type=pl.col("reported_remote_type").drop_nulls().last(),
            reported_rtt_ms=pl.col("reported_rtt_ms").filter(_KIND.is_in(["pair_reported", "rtt_reported"]), pl.col("reported_rtt_ms") > 0).last(),
            reported_rtt_origin=pl.col("origin").filter(_KIND.is_in(["pair_reported", "rtt_reported"]), pl.col("reported_rtt_ms") > 0).last(),
            stun_times=pl.col("reported_rtt_ms").filter(_KIND == "stun_response_recorded"),
            stun_origin=pl.col("origin").filter(_KIND == "stun_response_recorded").last(),
            transport_bytes_sent=pl.col("bytes_sent").filter(_KIND == "transport_bytes_counted").max(),
            transport_bytes_received=pl.col("bytes_received").filter(_KIND == "transport_bytes_counted").max(),
            selected_local=pl.col("local_candidate").filter(_KIND == "pair_selected").last(),
            selected_remote=pl.col("remote_candidate").filter(_KIND == "pair_selected").last(),
        )
    )  # fmt: skip
    counted = candidates.group_by("tube_id").agg(
        local_seen=local.any(),
        **{f"{kind}_count": (local & (pl.col("candidate_type") == kind)).sum() for kind in ("host", "srflx", "relay")},
        local_count=local.sum(),
        local_types=pl.col("candidate_type").filter(local).unique().sort(),
        remote_types=pl.col("candidate_type").filter(~local).unique().sort(),
        transports=pl.col("transport").filter(local).unique().sort(),
    )  # fmt: skip
    return (
        facts.filter(pl.col("tube_id").is_not_null())
        .join(counted, on="tube_id", how="left")
        .join(sides(events), on="tube_id", how="left")
        .join(resolution, on="source", how="left")
        .with_columns(sub_second=pl.col("resolution_ms").fill_null(1e9) < 1000)
        .with_columns(
            # 0.2.24 prints no duration: the times of request and answer hold it
            credential_fetch_ms=pl.coalesce(
                "credential_fetch_ms",
                pl.when(pl.col("sub_second")).then(elapsed_ms("credentials_requested_at", "credentials_fetched_at")),
            ),
            # the answerer of early releases tells no opening; that the channel arrived is the same moment
            channel_open_at=pl.coalesce("channel_open_at", "channel_received_at"),
            channel_open_origin=pl.coalesce("channel_open_origin", "channel_received_origin"),
        )
    )


def _servers(events: pl.LazyFrame) -> pl.LazyFrame:
    """The STUN and TURN servers that tubes were given, by their URLs (RFC 7064, RFC 7065)."""
    url = pl.col("server")
    scheme, host_port = (url.str.extract(r"^(?i:(stun|turn)(s?)):([^?]+)", group) for group in (1, 3))
    over_tls = url.str.contains("^(?i:turns|stuns):")
    return (
        events.filter(_KIND.is_in(["server_added", "credentials_given"]), pl.col("tube_id").is_not_null())
        .select(
            "tube_id",
            turn=scheme.str.to_lowercase() == "turn",
            host_port=host_port,
            host=host_port.str.to_lowercase().str.extract(r"^(\[[^\]]*\]|[^:]+)", 1),
            transport=pl.coalesce(
                url.str.extract(r"[?&]transport=([a-z]+)", 1),
                pl.when(over_tls).then(pl.lit("tcp")).otherwise(pl.lit("udp")),
            ),
        )
        .drop_nulls("host")
        .unique(maintain_order=True)
    )


def sole_tubes(facts: Facts) -> pl.DataFrame:
    """Conversations with a single tube: `conversation_id`, its log as `scope`, and the tube as `only`.

    A log that never names the tube is of another process, perhaps the peer's.
    """
    sole = facts.streams.links.filter(pl.len().over("conversation_id") == 1)
    return sole.join(facts.tubes.select("tube_id", "scope"), on="tube_id").select(
        "conversation_id", "scope", only="tube_id"
    )


def _told_apart(tubes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Tubes with a side where the other end tells it, and without counters that two ends wrote alike into one log."""
    ends = links.select("conversation_id", "tube_id").join(tubes.select("tube_id", "scope", "side"), on="tube_id")
    two = ends.filter(
        pl.len().over("conversation_id") == 2,
        pl.col("scope").n_unique().over("conversation_id") == 2,
        pl.col("side").count().over("conversation_id") == 1,
    )
    told = two.with_columns(
        other=pl.col("side")
        .drop_nulls()
        .first()
        .over("conversation_id")
        .replace_strict(OTHER_SIDE, return_dtype=pl.String)
    )
    # two that share several conversations are told apart as in one
    told = told.select("tube_id", "other").unique().unique("tube_id", keep="none")
    # where both sides are told, such counters are of no tube already (`one_log`); here one of them may not be
    both = ends.filter(pl.col("side").n_unique().over("conversation_id", "scope") > 1).select("tube_id").unique()
    alike = pl.col("tube_id").is_in(both["tube_id"].implode())
    return (
        tubes.join(told, on="tube_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(~alike).then(pl.col("transport_bytes_sent", "transport_bytes_received")),
            side=pl.coalesce("side", "other"),
        )
        .drop("other")
    )


def gather(streams: Streams, resolution: pl.DataFrame) -> Facts:
    """Find the facts of all peer connections. `resolution` has `source` and `resolution_ms` of its times."""
    candidates = candidate_rows(streams.events)
    events, known = streams.events.lazy(), candidates.lazy()
    tubes = _told_apart(collected(_tubes(events, known, resolution.lazy())), streams.links)
    changes = life.changes(streams.events)
    outages = life.outages(changes, streams.events, tubes.select("tube_id", "resolution_ms"))
    # candidate lines exist only with trickle; where who writes them told the end of a gathering and none, there was none
    none = pl.col("trickle").fill_null(False) & pl.col("ending_told") & (pl.col("reported_total").fill_null(0) == 0)
    # the library counts them from the first on, restarts included: where it counted more, lines of some are not there
    lacking = (pl.col("reported_total") > pl.col("local_count").fill_null(0)).fill_null(False)
    tubes = tubes.join(life.of_tubes(streams, changes, outages), on="tube_id", how="left").with_columns(
        candidates_known=pl.col("whole") & (pl.col("local_seen").fill_null(False) | none) & ~lacking,
        # releases that hold callbacks back print no places, and a log without its beginning may lack the line of it
        may_be_held=~pl.col("whole") & ~pl.col("located"),
    )
    generations = _generations(events, known).join(
        tubes.lazy().select("tube_id", "side", "may_be_held", "connected_at", *CLOCK), on="tube_id", how="left"
    )
    own = own_ends(streams, tubes)
    closed = closings(streams.links, tubes, own)
    servers = collected(_servers(events))
    return Facts(
        streams, candidates, collected(generations), tubes, servers, changes, outages, closed, own.filter("shared")
    )
