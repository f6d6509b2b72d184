"""The set-up of a tube as a waterfall: the time from its first line to the open data channel, parted by milestones.

Phases follow one another and overlap nowhere, so they add up to the whole. The rule of the parting: a phase ends at its
milestone, or where a later phase's milestone was reached before it. What gathering or signalling still did while checks
ran already is not theirs; `span_ms` has it. A milestone that no line tells is not a phase of zero length: its phase
becomes one with the next, and the name says so (`sctp+data_channel`). The first milestone of each kind counts, whatever
the ICE generation; that of its end is the phase's.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.correlate import CONTROL, canonical
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts, elapsed_ms
from analyzer.tables.declare import Column, Table

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
#: releases 1.0 to 1.2 sleep so long where they do not say for how long
HELD_BACK_MS = 6000.0
#: how soon after the sleep what it held back is told
RELEASE_MS = 50.0

SETUP_PHASES = Table(
    "setup_phases",
    row="One phase of the set-up of one tube, for one conversation.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube that was set up."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation in which the phase ended; of one that did not, the tube's last."),
        Column("place", pl.Int64(), "Place of the phase in its set-up, 1 for the first."),
        Column("phase", pl.String(), f"{', '.join(NAMES)}; several joined by + where no line tells what parts them."),
        Column("state", pl.String(), "done; died: the tube failed or closed in it; open: the log ends in it; untold: no line tells its end, and the tube got past it."),
        Column("started_at", TIMESTAMP, "End of the phase before; of the first, the first line of the tube, or of the conversation where it came to a connected tube."),
        Column("ended_at", TIMESTAMP, "Milestone that ends it; null where it was not reached."),
        Column("offset_ms", pl.Float64(), "From the start of the set-up to the start of the phase. Null in whole seconds.", unit="ms"),
        Column("duration_ms", pl.Float64(), "ended_at − started_at; the durations of a set-up add up to its whole. Without fine times null, but for what was printed of the credential fetch.", unit="ms"),
        Column("span_ms", pl.Float64(), "The phase's own time: with what it did while later phases ran, and before the tube's first line; without fine times only what was printed.", unit="ms"),
        Column("wait_ms", pl.Float64(), "Wait before the nomination that is part of it: 2000 ms with a relay candidate in the pair, else what checks and round trip leave possible of 0, 500, 1000, 2000 ms; null where that is open.", unit="ms"),
        Column("method", pl.String(), "milestones: between two lines; printed: a duration in a line; null where the phase did not end."),
        Column("held_back", pl.Boolean(), "Whether the library told its start or end late: releases 1.0 to 1.2 sleep up to 6 s in the callback that ends gathering."),
        Column("held_back_ms", pl.Float64(), "How much of it lies in that sleep; null where it was not held back.", unit="ms"),
        Column("started_origin", pl.String(), "`source:line` of its start."),
        Column("ended_origin", pl.String(), "`source:line` of its end."),
    ),
    sort=("conversation_id", "tube_id", "place"),
)  # fmt: skip

_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()
_PAIR = ["conversation_id", "tube_id"]
_OPENS = _KIND.is_in(["channel_opened", "channel_seen_open"]) | (
    (_KIND == "channel_state_changed") & (_STATE == "open")
)


def _mark(name: str, shows: pl.Expr, *, last: bool = False) -> dict[str, pl.Expr]:
    """Time, origin, generation and place in the log of the first (or last) event that shows a milestone."""

    def one(column: str) -> pl.Expr:
        found = pl.col(column).filter(shows)
        return found.last() if last else found.first()

    return {
        f"{name}_{key}": one(column)
        for key, column in {"at": "ts", "origin": "origin", "in": "generation", "seq": "seq"}.items()
    }


def _tube_marks(events: pl.DataFrame) -> pl.DataFrame:
    """Milestones of every tube that are not a conversation's own."""
    credentials = _KIND.is_in(["credentials_fetched", "credentials_failed"])
    gathering = pl.col("seq").filter(_KIND == "gathering_started").first()
    before = gathering.is_null() | (pl.col("seq") < gathering)
    described = (_KIND == "signaling_state_changed") & (pl.col("signaling_state") == "Stable")
    remote = _KIND.is_in(["remote_candidate_added", "remote_candidate_numbered", "remote_candidate_counted"])
    incoming = (_KIND == "candidate_described") & (pl.col("direction") == "INCOMING")
    ends = {
        "requested": _KIND == "credentials_requested",
        "peer_requested": _KIND == "peer_connection_requested",
        "gathering_started": _KIND == "gathering_started",
        "gathered": (_KIND == "gathering_completed") | ((_KIND == "gathering_state_changed") & (_STATE == "complete")),
        "stable": described,
        "checking": (_KIND == "ice_state_changed") & (_STATE == "checking"),
        "remote": (remote & ((_KIND != "remote_candidate_added") | pl.col("candidate").is_not_null())) | incoming,
        "ice_connected": (_KIND == "ice_state_changed") & _STATE.is_in(["connected", "completed"]),
        "peer_connected": (_KIND == "peer_state_changed") & (_STATE == "connected"),
    }
    return (
        events.filter(pl.col("tube_id").is_not_null())
        .group_by("tube_id")
        .agg(
            **_mark("begins", pl.lit(True)),
            **{key: expr for name, shows in ends.items() for key, expr in _mark(name, shows).items()},
            **_mark("fetched", credentials & before, last=True),
            # one fetch is as long as it says; of several what passed between them is not told
            fetch_ms=pl.when((credentials & before).sum() == 1).then(pl.col("duration_ms").filter(credentials & before).last()),
            fetch_began_at=(pl.col("ts") - pl.duration(microseconds=(pl.col("duration_ms") * 1000).round(0)))
            .filter(credentials & before)
            .min(),
            fetch_told=pl.col("duration_ms").filter(credentials & before).count() > 0,
            gathering_ms=pl.col("duration_ms")
            .filter(_KIND == "gathering_completed_reported", pl.col("duration_ms").is_between(0, 600_000, closed="right"))
            .first(),
            held_at=pl.col("ts").filter(_KIND == "gathering_held_back").first(),
            held_for_ms=pl.col("delay_ms").filter(_KIND == "gathering_held_back").first(),
        )
    )  # fmt: skip


def _own_marks(facts: Facts) -> pl.DataFrame:
    """Milestones of each conversation on each of its tubes: its first line there, and its data channel."""
    links = facts.streams.links.select(_PAIR)
    events = facts.streams.events.filter(pl.col("tube_id").is_not_null())
    label = canonical(pl.col("channel_label"))
    channels = events.filter(_OPENS | (_KIND == "channel_received")).select(
        "seq", "tube_id", "ts", "origin", "generation", label=label, opens=_OPENS
    )
    own = pl.col("label") == pl.col("conversation_id").cast(pl.String)
    found = (
        links.join(channels, on="tube_id")
        # of several channels the conversation's own, where labels tell
        .filter(own | pl.col("label").is_null() | (pl.col("label") == CONTROL))
        .with_columns(own=own.fill_null(False))
        .filter(pl.col("own") | ~pl.col("own").any().over(_PAIR))
        .sort("seq")
        .group_by(_PAIR, maintain_order=True)
        .agg(**_mark("opened", pl.col("opens")), **_mark("received", ~pl.col("opens")))
    )
    lines = events.group_by(_PAIR).agg(**_mark("joined", pl.lit(True)))
    return links.join(found, on=_PAIR, how="left").join(lines, on=_PAIR, how="left")


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


def _ends(facts: Facts) -> pl.DataFrame:
    """Per conversation and tube the end of each phase (`<phase>_at`, …), and which phases there are (`<phase>_is`)."""
    fetched = pl.col("fetched_seq").is_not_null()
    # one that came to a tube which was connected already opens its channel and no more
    joined = (pl.col("joined_seq") > pl.col("peer_connected_seq")).fill_null(False)
    described = pl.coalesce("stable_seq", "checking_seq")
    remote_in_time = (pl.col("remote_seq") < pl.col("ice_connected_seq")).fill_null(True)
    # a fetch whose request is not told began as long before its end as it says
    requested_at = pl.coalesce("requested_at", pl.max_horizontal("begins_at", "fetch_began_at"))
    marks = _own_marks(facts).join(_tube_marks(facts.streams.events), on="tube_id")
    tubes = facts.tubes.select(
        "tube_id", "side", "sub_second", "was_failed", "was_closed", "was_connected", "generations"
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


def _phases(ends: pl.DataFrame) -> pl.DataFrame:
    """One row per phase, those without an end of their own joined to the next; `at` is clipped by what came later."""
    kept = ("side", "sub_second", "ended_badly", "was_connected", "last_generation", "begins_at", "begins_origin")
    rows = pl.concat(
        [
            ends.filter(f"{name}_is").select(
                *_PAIR, *kept, place=pl.lit(place), name=pl.lit(name), own_at=f"{name}_at", seq=f"{name}_seq",
                origin=f"{name}_origin", generation=f"{name}_in",
            )
            for place, name in enumerate(NAMES)
        ]
    ).sort(*_PAIR, "place")  # fmt: skip
    told = pl.col("seq").is_not_null()
    clipped = pl.max_horizontal(
        "begins_at",
        # a milestone reached only after a later one parts nothing
        pl.when(told).then("own_at").reverse().cum_min().reverse().over(_PAIR),
    )
    # of what is not reached only the first is named: the rest was not begun
    group = told.shift(1).over(_PAIR).fill_null(False).cast(pl.Int64).cum_sum().over(_PAIR)
    numbered = rows.with_columns(at=pl.when(told).then(clipped), told=told, group=group)
    unseen = (pl.col("name") == "sctp") & (pl.col("side").ne_missing("gateway"))
    # which of a run without an end is told by its first; what no log of this side tells goes with the next
    joined = pl.when(pl.col("told").any()).then(pl.col("name").str.join("+")).otherwise(
        pl.when(unseen.first()).then(pl.lit("sctp+data_channel")).otherwise(pl.col("name").first())
    )  # fmt: skip
    return (
        numbered.group_by(*_PAIR, "group", maintain_order=True)
        .agg(
            pl.col(*kept).first(),
            phase=joined,
            told=pl.col("told").any(),
            ended_at=pl.col("at").filter("told").last(),
            own_at=pl.col("own_at").filter("told").last(),
            ended_origin=pl.col("origin").filter("told").last(),
            generation=pl.col("generation").filter("told").last(),
        )
        .with_columns(
            started_at=pl.coalesce(pl.col("ended_at").shift(1).over(_PAIR), "begins_at"),
            started_origin=pl.coalesce(pl.col("ended_origin").shift(1).over(_PAIR), "begins_origin"),
            place=(pl.col("group") + 1).cast(pl.Int64),
        )
    )


def reduce(facts: Facts, waits: pl.DataFrame) -> pl.DataFrame:
    """Part the set-up of every tube of every conversation."""
    ends = _ends(facts)
    known = ends.select(*_PAIR, "fetch_ms", "gathering_ms", "held_at", "held_for_ms")
    rows = (
        _phases(
            ends.with_columns(
                ended_badly=pl.col("was_failed") | pl.col("was_closed"), last_generation=pl.col("generations")
            )
        )
        .join(known, on=_PAIR, how="left", maintain_order="left")
        .join(waits, on=_PAIR, how="left", maintain_order="left")
    )
    fine = pl.col("sub_second") & pl.col("begins_at").is_not_null()
    names = pl.col("phase").str.split("+")
    printed = pl.when(pl.col("phase") == "credential_fetch").then("fetch_ms")
    duration = pl.when(fine).then(elapsed_ms("started_at", "ended_at")).when(pl.col("told")).then(printed)
    # what is printed of gathering is all of it: how much of that checks ran beside is not told
    whole = pl.when(pl.col("phase") == "gathering").then("gathering_ms").otherwise(printed)
    # a fetch may have begun before the tube's first line: what it says of itself is all of it
    own = pl.when("told").then(
        pl.coalesce(printed, pl.when(fine).then(elapsed_ms("started_at", "own_at")).otherwise(whole))
    )
    released = pl.col("held_at") + pl.duration(milliseconds=pl.col("held_for_ms").fill_null(HELD_BACK_MS))
    soon = pl.duration(milliseconds=RELEASE_MS)
    in_sleep = pl.min_horizontal("ended_at", released) - pl.max_horizontal("started_at", "held_at")
    end_late = pl.col("ended_at").is_between(released - soon, released + soon) & (in_sleep > pl.duration())
    # the answerer's handshake began before its start was told
    start_late = (
        pl.col("started_at").is_between(released - soon, released + soon)
        & (pl.col("side") == "gateway")
        & names.list.contains("dtls")
    )
    held = pl.when("told").then((end_late | start_late).fill_null(False))
    waited = pl.when(names.list.contains("checks") & (pl.col("nomination_ms") <= duration)).then("nomination_ms")
    return SETUP_PHASES.conform(
        rows.with_columns(duration_ms=duration, held_back=held).select(
            *_PAIR,
            "side",
            "place",
            "phase",
            "duration_ms",
            "started_at",
            "ended_at",
            "held_back",
            "started_origin",
            "ended_origin",
            generation=pl.coalesce("generation", "last_generation"),
            state=pl.when("told").then(pl.lit("done"))
            .when("was_connected").then(pl.lit("untold"))
            .when("ended_badly").then(pl.lit("died"))
            .otherwise(pl.lit("open")),
            offset_ms=pl.when(fine).then(elapsed_ms("begins_at", "started_at")),
            span_ms=own,
            wait_ms=waited,
            method=pl.when("told").then(
                pl.when(fine).then(pl.lit("milestones")).when(pl.col("duration_ms").is_not_null()).then(pl.lit("printed"))
                .when(pl.col("ended_at").is_not_null()).then(pl.lit("milestones"))
            ),
            held_back_ms=pl.when("held_back").then(
                pl.max_horizontal(in_sleep, pl.duration()).dt.total_microseconds() / 1000
            ),
        )
    )  # fmt: skip
