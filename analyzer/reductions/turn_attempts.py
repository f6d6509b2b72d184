"""Every attempt to get a TURN allocation, or the credentials for one: who was asked, what came of it, and how long it took.

The library counts credential fetches and calls them allocations. Here an allocation is granted where a relay candidate
came of it, refused where the server answered with an error code, unanswered where the TURN client gave up, unresolved
where the server's name has no address. A generation that ended with a server configured and none of these is a row too.
`ice_stats` counts these rows and nothing else.
"""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import CLOCK, LONGEST_MS, Facts, elapsed_ms, known_ms
from analyzer.reductions.query import collected
from analyzer.reductions.seen_candidates import PEER
from analyzer.tables.declare import Column, Table

ALLOCATION, CREDENTIALS = "allocation", "credentials"
#: the TURN client sends seven requests, 0.2 to 1.6 s apart, and gives up after 7.8 s (turn crate, retransmission)
GIVEN_UP_MS = 7500.0
#: STUN and TURN error codes, in their registry's words (RFC 8489, 8656)
ERROR_CODES = {
    300: "Try Alternate",
    400: "Bad Request",
    401: "Unauthenticated",
    403: "Forbidden",
    420: "Unknown Attribute",
    437: "Allocation Mismatch",
    438: "Stale Nonce",
    440: "Address Family not Supported",
    441: "Wrong Credentials",
    442: "Unsupported Transport Protocol",
    443: "Peer Address Family Mismatch",
    486: "Allocation Quota Reached",
    487: "Role Conflict",
    500: "Server Error",
    508: "Insufficient Capacity",
}

TURN_ATTEMPTS = Table(
    "turn_attempts",
    row="One attempt to get a TURN allocation, or the credentials for one.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube that asked."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation, 1 for the first."),
        Column("step", pl.String(), "allocation: asked of the relay; credentials: asked of the router, no TURN traffic."),
        Column("server", pl.String(), "Relay as host:port, as configured; null where the log does not tell which one. Never with credentials."),
        Column("transport", pl.String(), "Transport to the relay by its URL: udp unless it says otherwise (RFC 7065); null without a URL."),
        Column("asked_at", TIMESTAMP, "First Allocate request, else the start of the generation's gathering; of credentials, the request."),
        Column("outcome", pl.String(), "granted, refused, timed_out, unresolved; unknown: neither a grant nor an error came, and the log does not tell why."),
        Column("error_code", pl.Int64(), "Error code of the relay's answer (RFC 8489 section 14.8)."),
        Column("reason", pl.String(), "What the error code means by its registry (RFC 8489, RFC 8656), or what the log shows instead."),
        Column("duration_ms", pl.Float64(), "From asked_at to the outcome; of credentials the duration that was printed. Null in whole seconds.", unit="ms"),
        Column("method", pl.String(), "turn_transaction, gathering_relay, allocation_error, resolution_error, gathering_end, credential_fetch, reported."),
        Column("counted", pl.Boolean(), "Whether ice_stats counts it: allocations, and credentials only where no allocation was tried."),
        Column("origin", pl.String(), "`source:line` of the outcome."),
    ),
    sort=("conversation_id", "tube_id", "generation", "step", "asked_at", "origin"),
)  # fmt: skip

_KIND = pl.col("kind")
_HOST_PORT = r"^(?:turns?:)?([^?]+)"


def _of_peers(facts: Facts, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the times of their generation."""
    peers = facts.generations.select(*PEER, "started_at", "completed_at", "turn_requested_at", "turn_allocated_at")
    return rows.join(peers, on=PEER, how="left", maintain_order="left")


def _granted(facts: Facts) -> pl.DataFrame:
    """Relay candidates: an allocation each. The first request and grant that were told time the first one."""
    relays = facts.candidates.filter(pl.col("direction") == "local", pl.col("candidate_type") == "relay")
    rows = _of_peers(facts, relays.select("seq", *PEER, "ts", "origin", "kind"))
    timed = pl.col("turn_requested_at").is_not_null() & pl.col("turn_allocated_at").is_not_null()
    exact = timed & (pl.col("seq") == pl.col("seq").min().over(PEER))
    # a description names what was gathered, not when
    came = pl.when(exact).then("turn_allocated_at").when(_KIND == "candidate_gathered").then("ts")
    return rows.select(
        *PEER,
        "origin",
        asked_at=pl.when(exact).then("turn_requested_at").otherwise("started_at"),
        ended_at=came,
        outcome=pl.lit("granted"),
        method=pl.when(exact).then(pl.lit("turn_transaction")).otherwise(pl.lit("gathering_relay")),
    )


def _failed(facts: Facts) -> pl.DataFrame:
    """Errors the ICE agent told: the relay's, or that none came, or that there is no such relay."""
    told = facts.streams.events.lazy().filter(
        _KIND.is_in(["allocation_failed", "relay_unresolved"]), pl.col("tube_id").is_not_null()
    )
    named = collected(told.select("seq", *PEER, "ts", "origin", _KIND.cast(pl.String), "server", "error_code"))
    rows = _of_peers(facts, named)
    waited = elapsed_ms("started_at", "ts")
    outcome = (
        pl.when(_KIND == "relay_unresolved").then(pl.lit("unresolved"))
        .when(pl.col("error_code").is_not_null()).then(pl.lit("refused"))
        .when(waited >= GIVEN_UP_MS).then(pl.lit("timed_out"))
        .otherwise(pl.lit("unknown"))
    )  # fmt: skip
    in_words = pl.col("error_code").replace_strict(ERROR_CODES, default=None, return_dtype=pl.String)
    reason = (
        pl.when(outcome == "unresolved").then(pl.lit("its name could not be resolved"))
        .when(outcome == "timed_out").then(pl.lit("no answer before the TURN client gave up"))
        .when(outcome == "refused").then(in_words)
        .when(waited.is_null()).then(pl.lit("it failed without an error code; how long it waited is not told"))
        .otherwise(pl.lit("it failed without an error code, before it would have given up"))
    )  # fmt: skip
    return rows.select(
        *PEER,
        "origin",
        "server",
        "error_code",
        asked_at="started_at",
        ended_at="ts",
        outcome=outcome,
        reason=reason,
        method=pl.when(_KIND == "relay_unresolved")
        .then(pl.lit("resolution_error"))
        .otherwise(pl.lit("allocation_error")),
    )


def _silent(facts: Facts, told: pl.DataFrame) -> pl.DataFrame:
    """Generations that ended, with a relay configured, and told neither a grant nor an error."""
    tubes = facts.tubes.select(
        "tube_id",
        searched="candidates_known",
        configured=pl.col("turn_configured"),
    )
    ended = facts.generations.filter("gathered").join(told.select(PEER).unique(), on=PEER, how="anti")
    rows = ended.join(tubes, on="tube_id").filter(pl.col("searched") & pl.col("configured"))
    given_up = (elapsed_ms("started_at", "completed_at") >= GIVEN_UP_MS).fill_null(False)
    return rows.select(
        *PEER,
        origin="completed_origin",
        asked_at="started_at",
        ended_at="completed_at",
        outcome=pl.when(given_up).then(pl.lit("timed_out")).otherwise(pl.lit("unknown")),
        reason=pl.when(given_up)
        .then(pl.lit("gathering lasted until the TURN client gave up"))
        .otherwise(pl.lit("gathering ended with neither a relay candidate nor an error")),
        method=pl.lit("gathering_end"),
    )


def _printed(facts: Facts) -> pl.DataFrame:
    """Credential fetches, and allocations as the library would record them: durations are printed."""
    kinds = {
        "credentials_fetched": (CREDENTIALS, "granted", "credential_fetch"),
        "credentials_failed": (CREDENTIALS, "refused", "credential_fetch"),
        "turn_allocation_recorded": (ALLOCATION, "granted", "reported"),
    }
    told = facts.streams.events.lazy().filter(_KIND.is_in(list(kinds)), pl.col("tube_id").is_not_null())
    events = collected(told.select("seq", *PEER, "ts", "origin", "kind", "duration_ms", "success"))
    step, outcome, method = (
        _KIND.cast(pl.String).replace_strict(
            {kind: said[place] for kind, said in kinds.items()}, return_dtype=pl.String
        )
        for place in range(3)
    )
    # the first line that asks tells when: a fetch is tried again without saying so
    asked = facts.tubes.select("tube_id", "credentials_requested_at", fetch_ms="credential_fetch_ms")
    rows = events.join(asked, on="tube_id", how="left", maintain_order="left")
    first = pl.col("seq") == pl.col("seq").filter(_KIND == "credentials_fetched").min().over("tube_id")
    before = pl.col("ts") - pl.duration(microseconds=(pl.col("duration_ms") * 1000).round(0))
    return rows.select(
        *PEER,
        "origin",
        asked_at=pl.when(step == CREDENTIALS).then(
            pl.coalesce(before, pl.when(first).then("credentials_requested_at"))
        ),
        step=step,
        outcome=pl.when((_KIND == "turn_allocation_recorded") & ~pl.col("success"))
        .then(pl.lit("refused"))
        .otherwise(outcome),
        method=method,
        printed_ms=pl.coalesce("duration_ms", pl.when(first).then("fetch_ms")),
    )


def _sole(facts: Facts) -> pl.DataFrame:
    """The relay of each tube that has just one, with the transport its URL asks for."""
    relays = facts.servers.filter("turn").select("tube_id", "transport", sole="host_port").unique()
    return relays.filter(pl.len().over("tube_id") == 1)


def attempts(facts: Facts) -> pl.DataFrame:
    """All attempts of every tube, with the columns of `TURN_ATTEMPTS` but for the conversation."""
    told = pl.concat([_granted(facts), _failed(facts)], how="diagonal_relaxed")
    found = pl.concat([told, _silent(facts, told)], how="diagonal_relaxed").with_columns(step=pl.lit(ALLOCATION))
    rows = pl.concat([found, _printed(facts)], how="diagonal_relaxed")
    standing = (
        pl.when(pl.col("method") == "reported").then(0).when(pl.col("step") == ALLOCATION).then(1).otherwise(2)
    )  # fmt: skip
    span = known_ms("asked_at", "ended_at")
    return (
        rows.join(facts.tubes.select("tube_id", "side", *CLOCK), on="tube_id", how="left", maintain_order="left")
        .join(_sole(facts), on="tube_id", how="left", maintain_order="left")
        .with_columns(
            server=pl.when(pl.col("step") == ALLOCATION).then(
                pl.coalesce(pl.col("server").str.extract(_HOST_PORT, 1), "sole")
            ),
            transport=pl.when(pl.col("step") == ALLOCATION).then("transport"),
            duration_ms=pl.coalesce("printed_ms", pl.when(span >= 0, span < LONGEST_MS).then(span)),
            counted=standing == standing.min().over("tube_id"),
        )
        .drop("sole", *CLOCK, "printed_ms", "ended_at")
    )


def reduce(facts: Facts, found: pl.DataFrame) -> pl.DataFrame:
    """List the attempts, for every conversation of their tube."""
    links = facts.streams.links.select("conversation_id", "tube_id")
    return TURN_ATTEMPTS.loose(links.join(found, on="tube_id", how="inner"))
