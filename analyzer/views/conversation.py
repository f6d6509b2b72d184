"""One conversation: everything the tables and the events tell of it, gathered for a view or a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import polars as pl

from analyzer.api import Dataset
from analyzer.events.links import canonical
from analyzer.views import ending, timeline
from analyzer.views.timeline import Milestone

Row: TypeAlias = dict[str, Any]
#: what each outcome means, and its colour; the worst first
OUTCOMES: dict[str, tuple[str, str]] = {
    "failed": ("could not connect: ICE or the peer connection failed", "red"),
    "connected_lost": ("connected, then the connection was lost", "red"),
    "never_connected": ("closed before it ever connected", "red"),
    "unknown": ("unknown: its lines prove neither a connection nor a failure", "yellow"),
    "connected_open": ("connected, and not closed where the logs end", "green"),
    "connected_closed": ("connected, then closed", "green"),
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything shown of one conversation: its rows of the tables, and what its tubes went through."""

    row: Row
    tubes: list[Row]
    legs: Row
    measurements: list[Row]
    channels: list[Row]
    #: phases of its set-ups, candidate pairs and TURN attempts, in the order of their tables
    phases: list[Row]
    pairs: list[Row]
    attempts: list[Row]
    #: its rows of `links` and `generations`, the client's first, and the events that name a cause of its end
    links: list[Row]
    generations: list[Row]
    causes: list[Row]
    #: by tube
    milestones: dict[str, list[Milestone]]
    #: other conversations its tubes carried
    shared: list[str]
    #: sources its events came from: name, dialect, resolution_ms
    sources: list[Row]
    #: sessions of the relay, where its own log is there
    relay: list[Row]
    #: pairs of tubes that met, and how far the clocks of their logs are apart
    offsets: list[Row]


def gather(dataset: Dataset, text: str) -> Conversation:
    """Gather one conversation by its id, the beginning of its id, or a tube.

    Raises:
        UnknownConversation: there is none, or more than one.
    """
    conversation_id = dataset.find(text)
    mine = pl.col("conversation_id") == conversation_id
    tubes = dataset.ice_stats.filter(mine).collect()
    tube_ids = tubes["tube_id"].to_list()
    events = timeline.collect(dataset.events, conversation_id, tube_ids)
    sharing = dataset.ice_stats.filter(pl.col("tube_id").is_in(tube_ids), ~mine).select("conversation_id").collect()
    row = dataset.conversations.filter(mine).collect().row(0, named=True)
    sources = dataset.sources.filter(pl.col("name").is_in(row["sources"])).collect()
    if sources["duplicates"].sum():
        events = list(timeline.once(events))
    found = dataset.connection_legs.filter(mine).collect().to_dicts()
    links = dataset.links.filter(mine).sort("side", "from_at", "tube_id", nulls_last=True).collect().to_dicts()
    reached = {tube_id: timeline.milestones(events, conversation_id, tube_id) for tube_id in tube_ids}
    for link in links:
        reached[link["tube_id"]] += timeline.closing(link)
    return Conversation(
        row=row,
        tubes=tubes.to_dicts(),
        legs=found[0] if found else {},
        measurements=dataset.leg_measurements.filter(mine).collect().to_dicts(),
        channels=dataset.channels.filter(mine).collect().to_dicts(),
        phases=dataset.setup_phases.filter(mine).collect().to_dicts(),
        pairs=dataset.candidate_pairs.filter(mine).collect().to_dicts(),
        attempts=dataset.turn_attempts.filter(mine).collect().to_dicts(),
        links=links,
        generations=dataset.generations.filter(mine).sort("side", "tube_id", "attempt").collect().to_dicts(),
        causes=_causes(dataset, conversation_id, tube_ids),
        milestones=reached,
        shared=sharing.to_series().unique().sort().to_list(),
        sources=sources.select("name", "dialect", "resolution_ms", "levels").to_dicts(),
        relay=dataset.relay_sessions.filter(mine).collect().to_dicts(),
        offsets=dataset.clock_offsets.filter(mine).collect().to_dicts(),
    )


def _causes(dataset: Dataset, conversation_id: str, tube_ids: list[str]) -> list[Row]:
    named = pl.col("tube_id").is_in(tube_ids) | (canonical(pl.col("conversation_id")) == conversation_id)
    rows = dataset.events.filter(pl.col("kind").is_in(ending.CAUSES), named)
    wanted = rows.select("ts", "kind", "close_reason", "tube_id", "source", "line")
    return wanted.sort("ts", "source", "line", nulls_last=True).collect().to_dicts()


def as_values(one: Conversation) -> dict[str, Any]:
    """Give the conversation as plain values, under the names of the tables."""
    return {
        "conversations": [one.row],
        "ice_stats": one.tubes,
        "connection_legs": [one.legs] if one.legs else [],
        "leg_measurements": one.measurements,
        "relay_sessions": one.relay,
        "channels": one.channels,
        "setup_phases": one.phases,
        "candidate_pairs": one.pairs,
        "turn_attempts": one.attempts,
        "links": one.links,
        "generations": one.generations,
        "clock_offsets": one.offsets,
        "timeline": [
            {"side": tube["side"], **asdict(step)} for tube in one.tubes for step in one.milestones[tube["tube_id"]]
        ],
    }
