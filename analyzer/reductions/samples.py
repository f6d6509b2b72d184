"""The course of a conversation over time: one row per value that the log repeats, wherever it changed.

What is counted is named once, in `SERIES`: a metric is one row there. A statistics task writes every value every few
seconds; of a run of equal values the first and the last stay here, so a plot is the same and the table is small. A state
stays until it changes: of a run of equal states only the first is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from analyzer.events.links import canonical
from analyzer.grammar.types import TIMESTAMP
from analyzer.reductions.facts import Facts, sole_tubes
from analyzer.reductions.query import collected
from analyzer.tables.declare import ID, Column, Table

COUNTER, GAUGE, STATE = "counter", "gauge", "state"
#: counters of a data channel whose lines do not say which channel they count
UNNAMED = ("bytes_sent_counted", "bytes_received_counted")
_KIB, _MEGA, _KILO = 1024.0, 1e6, 1e3


@dataclass(frozen=True, slots=True)
class Series:
    """One metric: the kind of event and the column it is read from, and what its values are."""

    metric: str
    kind: str
    column: str
    form: str
    unit: str
    doc: str
    #: the value in `unit` is the printed one times this
    scale: float = 1.0
    #: printed zeros say that nothing was measured
    zero_means_unknown: bool = False


SERIES = (
    Series("bytes_sent", "bytes_sent_counted", "bytes_sent", COUNTER, "By", "application bytes sent over a data channel"),
    Series("messages_sent", "bytes_sent_counted", "messages_sent", COUNTER, "{message}", "messages sent over a data channel"),
    Series("bytes_received", "bytes_received_counted", "bytes_received", COUNTER, "By", "application bytes received over a data channel"),
    Series("messages_received", "bytes_received_counted", "messages_received", COUNTER, "{message}", "messages received over a data channel"),
    Series("transport_bytes_sent", "transport_bytes_counted", "bytes_sent", COUNTER, "By", "bytes the tube sent on its transport, framing included"),
    Series("transport_bytes_received", "transport_bytes_counted", "bytes_received", COUNTER, "By", "bytes the tube received on its transport, framing included"),
    Series("channel_bytes_sent", "channel_stats_reported", "kilobytes_sent", COUNTER, "By", "bytes sent by a channel that its line names, printed to a hundredth of 1024", _KIB),
    Series("channel_messages_sent", "channel_stats_reported", "messages_sent", COUNTER, "{message}", "messages sent by a channel that its line names"),
    Series("channel_bytes_received", "channel_stats_reported", "kilobytes_received", COUNTER, "By", "bytes received by a channel that its line names, printed to a hundredth of 1024", _KIB),
    Series("channel_messages_received", "channel_stats_reported", "messages_received", COUNTER, "{message}", "messages received by a channel that its line names"),
    Series("buffered_bytes", "channel_closing", "buffered_bytes", GAUGE, "By", "bytes not yet acknowledged by the peer when the task of a channel ended"),
    Series("reported_rtt", "pair_reported", "reported_rtt_ms", GAUGE, "ms", "round trip as the library reports it; its 0.0 means that it never measured, and is no sample", zero_means_unknown=True),
    Series("sctp_rtt", "sctp_rtt_measured", "reported_rtt_ms", GAUGE, "ms", "round trip of a chunk of data to its acknowledgement, end to end; the peer may keep that back, by 200 ms at most, so the lowest are the network's"),
    Series("bandwidth_estimate", "quality_adjusted", "bandwidth_mbps", GAUGE, "bit/s", "bandwidth the quality manager assumes, between its clamps of 64 kbit/s and half a Gbit/s; no measurement", _MEGA),
    Series("target_bitrate", "quality_adjusted", "bitrate_kbps", GAUGE, "bit/s", "bitrate the quality manager set", _KILO),
    Series("quality_score", "metrics_summarized", "quality_score", GAUGE, "1", "the library's own mark from 0 to 100; it is made from a round trip, jitter and loss that it does not measure"),
    Series("ice_state", "ice_state_changed", "state", STATE, "", "W3C ICE connection state entered"),
    Series("peer_state", "peer_state_changed", "state", STATE, "", "W3C peer connection state entered"),
    Series("gathering_state", "gathering_state_changed", "state", STATE, "", "W3C ICE gathering state entered"),
    Series("signaling_state", "signaling_state_changed", "signaling_state", STATE, "", "W3C signaling state entered"),
    Series("channel_state", "channel_state_changed", "state", STATE, "", "W3C data channel state entered"),
)  # fmt: skip
KINDS = tuple(dict.fromkeys(one.kind for one in SERIES))
#: columns of each kind whose course is wanted
COURSE = {kind: tuple(one.column for one in SERIES if one.kind == kind) for kind in KINDS}
#: the columns of events that samples are read from
COLUMNS = tuple(dict.fromkeys((
    "kind", "ts", "source", "name", "line", "tube_id", "conversation_id", "channel_label", *(one.column for one in SERIES),
)))  # fmt: skip
_UNITS = tuple(dict.fromkeys(one.unit for one in SERIES if one.unit))

SAMPLES = Table(
    "samples",
    row="One value of one metric at one time, where it changed.",
    columns=(
        Column("conversation_id", pl.String(), "Conversation; for what belongs to a tube that several share, the one the line names, else the tube's first."),
        Column("tube_id", pl.String(), "Tube: a counter of the next tube starts anew."),
        Column("side", pl.String(), "Side whose log says so: client (offerer), gateway (answerer)."),
        Column("channel", pl.String(), "Label of the data channel, spelled as conversations are: named by the line, or the only one of its tube; null where it is not known which, and for what belongs to the tube."),
        Column("metric", pl.String(), "; ".join(f"{one.metric} ({one.form}): {one.doc}" for one in SERIES) + ".", source=KINDS),
        Column("number", pl.Int64(), "Place in its series (conversation, tube, channel, metric), from 1, in the order of the log: an axis where the log has no times."),
        Column("ts", TIMESTAMP, "Time of the line; null where the log has no times."),
        Column("value", pl.Float64(), "Value in `unit`: of a counter the total so far, never the increase; null for a state. Of a run of equal values the first and the last are kept, of equal states the first: steps drawn through them are those of all lines."),
        Column("state", pl.String(), "State entered, in W3C spelling (have-local-offer); null for a number. States have no order and no distance, so they are no numbers."),
        Column("unit", pl.String(), "Unit of the value (UCUM): By, {message}, bit/s, ms, 1; null for a state."),
        Column("run", pl.Int64(), "Of a counter: 1, and one more each time it fell within its tube, because it started anew, or because two peers in one process share the conversation. Differences hold within a run only. Null for what is no counter, and where the counters of several channels alternate."),
        Column("origin", pl.String(), "`source:line`."),
    ),
    sort=("conversation_id", "tube_id", "metric", "channel", "number"),
)  # fmt: skip
_SERIES_KEY = ("conversation_id", "tube_id", "metric", "channel")


def _w3c(state: pl.Expr) -> pl.Expr:
    return state.str.replace_all("([a-z])([A-Z])", "$1-$2").str.to_lowercase()


def _values(events: pl.LazyFrame) -> Iterable[pl.LazyFrame]:
    for one in SERIES:
        mine = events.filter(pl.col("kind") == one.kind, pl.col(one.column).is_not_null())
        if one.zero_means_unknown:
            mine = mine.filter(pl.col(one.column) > 0)
        stated = one.form == STATE
        # a product of a printed decimal has digits that were never printed
        value = pl.lit(None, pl.Float64) if stated else (pl.col(one.column).cast(pl.Float64) * one.scale).round(3)
        yield mine.select(
            "seq", "ts", "tube_id", "conversation_id", "channel", "shared", "name", "line",
            metric=pl.lit(one.metric).cast(pl.Categorical),
            form=pl.lit(one.form, pl.Enum([COUNTER, GAUGE, STATE])),
            unit=pl.lit(one.unit or None, pl.Enum(_UNITS)),
            value=value,
            state=(_w3c(pl.col(one.column)) if stated else pl.lit(None, pl.String)).cast(pl.Categorical),
        )  # fmt: skip


def _in_series(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the changes of each series, and count places and runs; neighbours are compared faster than windows are made."""
    rows = rows.sort(*(pl.col(name).to_physical() for name in _SERIES_KEY), "seq")

    def near(name: str, by: int) -> pl.Expr:
        return pl.col(name).eq_missing(pl.col(name).shift(by))

    def same(by: int) -> pl.Expr:
        # beyond the first and the last row stands nothing, which equals a missing value
        exists = pl.col("seq").shift(by).is_not_null()
        return exists & pl.all_horizontal(near(name, by) for name in (*_SERIES_KEY, "value", "state"))

    stated = pl.col("form") == STATE
    rows = rows.filter(~pl.when(stated).then(same(1)).otherwise(same(1) & same(-1)))
    begins = ~(pl.col("seq").shift().is_not_null() & pl.all_horizontal(near(name, 1) for name in _SERIES_KEY))
    fell = (pl.col("value") < pl.col("value").shift()).fill_null(False) & ~begins
    rows = rows.with_row_index("at").with_columns(begins=begins, falls=fell.cum_sum().cast(pl.Int64))
    first, before = (pl.when("begins").then(pl.col(name)).forward_fill() for name in ("at", "falls"))
    counts = (pl.col("form") == COUNTER) & ~pl.col("shared")
    return rows.with_columns(
        number=pl.col("at") - first + 1,
        run=pl.when(counts).then(pl.col("falls") - before + 1).cast(pl.UInt32),
    )


def values(facts: Facts, events: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Every value that some events tell, each in its series.

    `events` are of the `KINDS`, with their place; `owners` has for each tube with data channels `owner`, the only
    one, and `shared`, whether there are several.
    """
    linked = facts.streams.links.select(
        "tube_id", channel=pl.col("conversation_id").cast(pl.String), own="conversation_id"
    )
    unnamed = pl.col("kind").is_in(UNNAMED)
    placed = collected(
        events.lazy()
        .join(sole_tubes(facts).lazy(), on=["conversation_id", "scope"], how="left", maintain_order="left")
        .with_columns(
            tube_id=pl.coalesce("tube_id", "only"), channel=canonical(pl.col("channel_label").cast(pl.String))
        )
        .filter(pl.col("tube_id").is_not_null(), pl.col("conversation_id").is_not_null())
        .join(owners.lazy(), on="tube_id", how="left", maintain_order="left")
        .with_columns(
            channel=pl.when(unnamed).then("owner").otherwise("channel"),
            shared=unnamed & pl.col("shared").fill_null(False),
        )
        .join(linked.lazy(), on=["tube_id", "channel"], how="left", maintain_order="left")
        .with_columns(
            conversation_id=pl.coalesce("own", "conversation_id"),
            channel=pl.col("channel").cast(ID),
            line=pl.col("line").cast(pl.UInt32),
        )
    )
    return collected(pl.concat(_values(placed.lazy())))


def reduce(facts: Facts, told: pl.DataFrame) -> pl.DataFrame:
    """List the samples among all `values` told, small: words as codes, `source` and `line` for `origin`."""
    sides = facts.tubes.select("tube_id", pl.col("side").cast(pl.Enum(["client", "gateway"])))
    # no series is of two metrics: to sort one of them after the other takes less memory than to sort all
    series = [
        collected(
            _in_series(told.lazy().filter(pl.col("metric") == metric))
            .join(sides.lazy(), on="tube_id", how="left", maintain_order="left")
            .select(*(name for name in SAMPLES.schema if name != "origin"), "line", source="name")
        )
        for metric in (told["metric"].unique().sort() if len(told) else [""])
    ]
    return pl.concat(series)
