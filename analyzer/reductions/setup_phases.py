"""The set-up of a tube as a waterfall: the time from its first line to the open data channel, parted by milestones.

Phases follow one another and overlap nowhere, so they add up to the whole. The rule of the parting: a phase ends at its
milestone, or where a later phase's milestone was reached before it. What gathering or signalling still did while checks
ran already is not theirs; `span_ms` has it. A milestone that no line tells is not a phase of zero length: its phase
becomes one with the next, and the name says so (`sctp+data_channel`). The first milestone of each kind counts, whatever
the ICE generation; that of its end is the phase's.
"""

from __future__ import annotations

import polars as pl

from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import CLOCK, Facts, known_ms
from analyzer.reductions.held_back import SLEEP_MS, SOON_MS
from analyzer.reductions.query import collected
from analyzer.reductions.setup_milestones import NAMES, PAIR, PHASES, phase_ends
from analyzer.tables.declare import Column, Table

SETUP_PHASES = Table(
    "setup_phases",
    row="One phase of the set-up of one tube, for one conversation.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation, in its canonical spelling."),
        Column("tube_id", pl.String(), "Tube that was set up."),
        Column("side", pl.String(), "Side of that tube: client or gateway."),
        Column("generation", pl.Int64(), "ICE generation in which the phase ended; of one that did not, the tube's last."),
        Column("place", pl.Int64(), "Place of the phase in its set-up, 1 for the first."),
        Column("phase", pl.String(), f"{'; '.join(f'{name}: {told}' for name, told in PHASES)}. Several joined by + where no line tells what parts them."),
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


def _phases(ends: pl.LazyFrame) -> pl.LazyFrame:
    """One row per phase, those without an end of their own joined to the next; `at` is clipped by what came later."""
    kept = ("side", *CLOCK, "ended_badly", "was_connected", "last_generation", "begins_at", "begins_origin")
    rows = pl.concat(
        [
            ends.filter(f"{name}_is").select(
                *PAIR, *kept, place=pl.lit(place), name=pl.lit(name), own_at=f"{name}_at", seq=f"{name}_seq",
                origin=f"{name}_origin", generation=f"{name}_in",
            )
            for place, name in enumerate(NAMES)
        ]
    ).sort(*PAIR, "place")  # fmt: skip
    told = pl.col("seq").is_not_null()
    clipped = pl.max_horizontal(
        "begins_at",
        # a milestone reached only after a later one parts nothing
        pl.when(told).then("own_at").reverse().cum_min().reverse().over(PAIR),
    )
    # of what is not reached only the first is named: the rest was not begun
    group = told.shift(1).over(PAIR).fill_null(False).cast(pl.Int64).cum_sum().over(PAIR)
    numbered = rows.with_columns(at=pl.when(told).then(clipped), told=told, group=group)
    unseen = (pl.col("name") == "sctp") & (pl.col("side").ne_missing("gateway"))
    # which of a run without an end is told by its first; what no log of this side tells goes with the next
    joined = pl.when(pl.col("told").any()).then(pl.col("name").str.join("+")).otherwise(
        pl.when(unseen.first()).then(pl.lit("sctp+data_channel")).otherwise(pl.col("name").first())
    )  # fmt: skip
    return (
        numbered.group_by(*PAIR, "group", maintain_order=True)
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
            started_at=pl.coalesce(pl.col("ended_at").shift(1).over(PAIR), "begins_at"),
            started_origin=pl.coalesce(pl.col("ended_origin").shift(1).over(PAIR), "begins_origin"),
            place=(pl.col("group") + 1).cast(pl.Int64),
        )
    )


def reduce(facts: Facts, waits: pl.DataFrame) -> pl.DataFrame:
    """Part the set-up of every tube of every conversation."""
    # without the beginning of a tube nothing of its set-up is known to be the first
    started = facts.generations.filter(pl.col("started_origin").is_not_null())["tube_id"].implode()
    begun = facts.tubes.lazy().filter(pl.col("begun") | pl.col("tube_id").is_in(started)).select("tube_id")
    ends = collected(
        phase_ends(facts)
        .join(begun, on="tube_id", how="semi")
        .with_columns(ended_badly=pl.col("was_failed") | pl.col("was_closed"), last_generation=pl.col("generations"))
    ).lazy()
    known = ends.select(*PAIR, "fetch_ms", "gathering_ms", "held_at", "held_for_ms")
    rows = (
        _phases(ends)
        .join(known, on=PAIR, how="left", maintain_order="left")
        .join(waits.lazy(), on=PAIR, how="left", maintain_order="left")
    )
    fine = pl.col("sub_second") & pl.col("begins_at").is_not_null()
    names = pl.col("phase").str.split("+")
    printed = pl.when(pl.col("phase") == "credential_fetch").then("fetch_ms")
    duration = pl.when(fine).then(known_ms("started_at", "ended_at")).when(pl.col("told")).then(printed)
    # what is printed of gathering is all of it: how much of that checks ran beside is not told
    whole = pl.when(pl.col("phase") == "gathering").then("gathering_ms").otherwise(printed)
    # a fetch may have begun before the tube's first line: what it says of itself is all of it
    own = pl.when("told").then(
        pl.coalesce(printed, pl.when(fine).then(known_ms("started_at", "own_at")).otherwise(whole))
    )
    released = pl.col("held_at") + pl.duration(milliseconds=pl.col("held_for_ms").fill_null(SLEEP_MS))
    soon = pl.duration(milliseconds=SOON_MS)
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
    phases = (
        rows.with_columns(duration_ms=duration, held_back=held)
        .select(
            *PAIR,
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
            offset_ms=known_ms("begins_at", "started_at"),
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
    return SETUP_PHASES.loose(collected(phases))
