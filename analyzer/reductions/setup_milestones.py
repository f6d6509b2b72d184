"""Milestones of a set-up: which line ends which phase, per tube and, for its data channel, per conversation."""

from __future__ import annotations

import polars as pl

from analyzer.events.links import CONTROL, canonical
from analyzer.reductions.facts import CLOCK, COMPLETED, LONGEST_MS, OPENED, Facts

PHASES: tuple[tuple[str, str], ...] = (
    ("preparation", "first line of the tube → credentials requested, else peer connection requested"),
    ("credential_fetch", "credentials requested → fetched or refused, the last before gathering"),
    ("description", "peer connection requested → gathering started: it is created and described"),
    ("gathering", "gathering started → complete"),
    ("signalling", "→ both descriptions set, and a remote candidate there"),
    ("checks", "→ ICE connected; the wait before a nomination is in it"),
    ("dtls", "ICE connected → peer connection connected"),
    ("sctp", "peer connection connected → the peer's data channel announced; only the answerer's log tells"),
    ("data_channel", "→ data channel open"),
)
NAMES = tuple(name for name, _ in PHASES)

_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()
PAIR = ["conversation_id", "tube_id"]


#: time, origin, generation and place in the log of an event; a milestone `x` of several becomes `x_at`, `x_origin`, …
_MARK = pl.struct(pl.col("ts").alias("at"), "origin", pl.col("generation").alias("in"), "seq")


def _tube_marks(events: pl.LazyFrame) -> pl.LazyFrame:
    """Milestones of every tube that are not a conversation's own."""
    credentials = _KIND.is_in(["credentials_fetched", "credentials_failed"])
    reported, held = _KIND == "gathering_completed_reported", _KIND == "gathering_held_back"
    gathering = pl.col("seq").filter(_KIND == "gathering_started").first()
    before = gathering.is_null() | (pl.col("seq") < gathering)
    described = (_KIND == "signaling_state_changed") & (pl.col("signaling_state") == "Stable")
    remote = _KIND.is_in(["remote_candidate_added", "remote_candidate_numbered", "remote_candidate_counted"])
    incoming = (_KIND == "candidate_described") & (pl.col("direction") == "INCOMING")
    ends = {
        "requested": _KIND == "credentials_requested",
        "peer_requested": _KIND == "peer_connection_requested",
        "gathering_started": _KIND == "gathering_started",
        "gathered": COMPLETED,
        "stable": described,
        "checking": (_KIND == "ice_state_changed") & (_STATE == "checking"),
        "remote": (remote & ((_KIND != "remote_candidate_added") | pl.col("candidate").is_not_null())) | incoming,
        "ice_connected": (_KIND == "ice_state_changed") & _STATE.is_in(["connected", "completed"]),
        "peer_connected": (_KIND == "peer_state_changed") & (_STATE == "connected"),
    }
    marks = {
        "begins": _MARK.first(),
        **{name: _MARK.filter(shows).first() for name, shows in ends.items()},
        "fetched": _MARK.filter(credentials & before).last(),
    }
    return (
        events.filter(pl.col("tube_id").is_not_null())
        # most lines of a tube are none of these; it begins with its first one, whatever that is
        .filter(pl.any_horizontal(*ends.values(), credentials, reported, held, pl.col("tube_id").is_first_distinct()))
        .group_by("tube_id")
        .agg(
            **marks,
            # one fetch is as long as it says; of several what passed between them is not told
            fetch_ms=pl.when((credentials & before).sum() == 1).then(pl.col("duration_ms").filter(credentials & before).last()),
            fetch_began_at=(pl.col("ts") - pl.duration(microseconds=(pl.col("duration_ms") * 1000).round(0)))
            .filter(credentials & before)
            .min(),
            fetch_told=pl.col("duration_ms").filter(credentials & before).count() > 0,
            gathering_ms=pl.col("duration_ms")
            .filter(reported, pl.col("duration_ms").is_between(0, LONGEST_MS, closed="right"))
            .first(),
            held_at=pl.col("ts").filter(held).first(),
            held_for_ms=pl.col("delay_ms").filter(held).first(),
        )
        .unnest(*marks, separator="_")
    )  # fmt: skip


def _own_marks(facts: Facts) -> pl.LazyFrame:
    """Milestones of each conversation on each of its tubes: its first line there, and its data channel."""
    links = facts.streams.links.lazy().select(PAIR)
    events = facts.streams.events.lazy().filter(pl.col("tube_id").is_not_null())
    label = canonical(pl.col("channel_label"))
    channels = events.filter(OPENED | (_KIND == "channel_received")).select(
        "seq", "tube_id", "ts", "origin", "generation", label=label, opens=OPENED
    )
    own = pl.col("label") == pl.col("conversation_id").cast(pl.String)
    found = (
        links.join(channels, on="tube_id")
        # of several channels the conversation's own, where labels tell
        .filter(own | pl.col("label").is_null() | (pl.col("label") == CONTROL))
        .with_columns(own=own.fill_null(False))
        .filter(pl.col("own") | ~pl.col("own").any().over(PAIR))
        .sort("seq")
        .group_by(PAIR, maintain_order=True)
        .agg(opened=_MARK.filter("opens").first(), received=_MARK.filter(~pl.col("opens")).first())
    )
    lines = events.group_by(PAIR).agg(joined=_MARK.first())
    marked = links.join(found, on=PAIR, how="left").join(lines, on=PAIR, how="left")
    return marked.unnest("opened", "received", "joined", separator="_")


def _latest(*names: str) -> dict[str, pl.Expr]:
    """The latest of several marks, by place in the log."""
    seq = pl.max_horizontal(*(f"{name}_seq" for name in names))
    return {
        key: pl.coalesce(*(pl.when(pl.col(f"{name}_seq") == seq).then(f"{name}_{key}") for name in names))
        for key in ("at", "origin", "in", "seq")
    }


def _renamed(name: str, marks: dict[str, pl.Expr]) -> list[pl.Expr]:
    return [expr.alias(f"{name}_{key}") for key, expr in marks.items()]


def _as(name: str, mark: str, when: pl.Expr | None = None) -> list[pl.Expr]:
    found = {key: pl.col(f"{mark}_{key}") for key in ("at", "origin", "in", "seq")}
    return _renamed(name, found if when is None else {key: pl.when(when).then(expr) for key, expr in found.items()})


def phase_ends(facts: Facts) -> pl.LazyFrame:
    """Per conversation and tube the end of each phase (`<phase>_at`, …), and which phases there are (`<phase>_is`)."""
    fetched = pl.col("fetched_seq").is_not_null()
    # one that came to a tube which was connected already opens its channel and no more
    joined = (pl.col("joined_seq") > pl.col("peer_connected_seq")).fill_null(False)
    described = pl.coalesce("stable_seq", "checking_seq")
    remote_in_time = (pl.col("remote_seq") < pl.col("ice_connected_seq")).fill_null(True)
    # a fetch whose request is not told began as long before its end as it says
    requested_at = pl.coalesce("requested_at", pl.max_horizontal("begins_at", "fetch_began_at"))
    marks = _own_marks(facts).join(_tube_marks(facts.streams.events.lazy()), on="tube_id")
    tubes = facts.tubes.lazy().select(
        "tube_id", "side", *CLOCK, "was_failed", "was_closed", "was_connected", "generations"
    )
    return (
        marks.join(tubes, on="tube_id")
        .with_columns(
            *_renamed("described", {k: pl.coalesce(f"stable_{k}", f"checking_{k}") for k in ("at", "origin", "in", "seq")}),
            *_as("arrived", "remote", remote_in_time),
            # preparation ends at the last line before what follows it
            requested_at=requested_at,
            requested_seq=pl.coalesce("requested_seq", pl.when("fetch_told").then("fetched_seq")),
            requested_origin=pl.coalesce("requested_origin", "fetched_origin"),
            requested_in=pl.coalesce("requested_in", "fetched_in"),
            joined=joined,
        )
        .with_columns(
            *(
                pl.when(fetched).then(f"requested_{key}").otherwise(f"peer_requested_{key}").alias(f"preparation_{key}")
                for key in ("at", "origin", "in", "seq")
            ),
            *_as("credential_fetch", "fetched"),
            *_as("description", "gathering_started"),
            *_as("gathering", "gathered"),
            *_renamed("signalling", {k: pl.when(described.is_not_null()).then(e) for k, e in _latest("described", "arrived").items()}),
            *_as("checks", "ice_connected"),
            *_as("dtls", "peer_connected"),
            *_as("sctp", "received", pl.col("opened_seq").is_not_null()),
            *_renamed("data_channel", {k: pl.coalesce(f"opened_{k}", f"received_{k}") for k in ("at", "origin", "in", "seq")}),
            *(
                pl.when("joined").then(f"joined_{key}").otherwise(f"begins_{key}").alias(f"begins_{key}")
                for key in ("at", "origin")
            ),
            **{f"{name}_is": ~pl.col("joined") for name in NAMES if name not in ("credential_fetch", "data_channel")},
            credential_fetch_is=fetched & ~pl.col("joined"),
            data_channel_is=pl.lit(True),
        )
    )  # fmt: skip
