"""All tables of a dataset, by name, in the order people meet them."""

from __future__ import annotations

import polars as pl

from analyzer.accounting.ledger import COVERAGE, SOURCES, UNMATCHED
from analyzer.accounting.refusals import REFUSALS
from analyzer.events.envelope import ENVELOPE, FIELD, typed_columns
from analyzer.grammar.text import SHARED, notes_of
from analyzer.reductions.candidate_pairs import CANDIDATE_PAIRS
from analyzer.reductions.candidates import CANDIDATES
from analyzer.reductions.channels import CHANNELS
from analyzer.reductions.clock_offsets import CLOCK_OFFSETS
from analyzer.reductions.connection_legs import CONNECTION_LEGS
from analyzer.reductions.conversations import CONVERSATIONS
from analyzer.reductions.generations import GENERATIONS
from analyzer.reductions.ice_stats import ICE_STATS
from analyzer.reductions.leg_measurements import LEG_MEASUREMENTS
from analyzer.reductions.links import LINKS
from analyzer.reductions.relay_sessions import RELAY_SESSIONS
from analyzer.reductions.reported import REPORTED
from analyzer.reductions.samples import SAMPLES
from analyzer.reductions.setup_phases import SETUP_PHASES
from analyzer.reductions.states import STATES
from analyzer.reductions.turn_attempts import TURN_ATTEMPTS
from analyzer.tables.declare import Column, Table

_UNITS = {
    "_ms": "ms",
    "_mbps": "Mbit/s",
    "_kbps": "kbit/s",
    "_s": "s",
    "kilobytes_sent": "KiBy",
    "kilobytes_received": "KiBy",
    "bytes_sent": "By",
    "bytes_received": "By",
    "buffered_bytes": "By",
}


def _events_table() -> Table:
    notes = notes_of(SHARED)
    unit = {
        name: next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "") for name in typed_columns()
    }
    documented = {name: note.doc for name, note in reversed(notes.items()) if note.doc}
    spelled = {
        name: next((doc for rule, doc in documented.items() if rule.split("__")[0] == name), "")
        for name in typed_columns()
    }
    return Table(
        "events",
        row="One recognised record.",
        columns=(
            *(Column(name, dtype, doc) for name, (dtype, doc) in ENVELOPE.items()),
            *(Column(name, dtype, spelled[name], unit[name]) for name, dtype in typed_columns().items()),
            Column("fields", pl.List(FIELD), "Columns that only this kind has, as text."),
        ),
        sort=(),
    )


EVENTS = _events_table()
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        CONVERSATIONS,
        ICE_STATS,
        CONNECTION_LEGS,
        LEG_MEASUREMENTS,
        LINKS,
        GENERATIONS,
        STATES,
        CANDIDATES,
        CANDIDATE_PAIRS,
        CHANNELS,
        SAMPLES,
        TURN_ATTEMPTS,
        SETUP_PHASES,
        CLOCK_OFFSETS,
        REPORTED,
        RELAY_SESSIONS,
        EVENTS,
        SOURCES,
        COVERAGE,
        UNMATCHED,
        REFUSALS,
    )
}
