"""Events → a tube's life: its states as they change, its outages dated back, how it was lost.

The ICE agent calls a path disconnected only after a time without traffic, and failed after a further one. So a loss
is older than its line by what the agent waited: as it printed, else as the library sets it.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.correlate import Streams
from analyzer.events.links import canonical
from analyzer.events.windows import ENDINGS
from analyzer.reductions.dropped import GONE, as_outages, dropped
from analyzer.reductions.query import collected

#: what the library sets, where no line prints it: without traffic until disconnected, from there until failed
DISCONNECTED_MS, FAILED_MS, KEEPALIVE_MS = 30_000.0, 60_000.0, 200.0
#: a verdict comes this much early at most, by what forwarding of lines differs
SLACK_MS = 1000.0
UP, DOWN = ("connected", "completed"), ("disconnected", "failed")
#: lines of a tube's first moments, which no later one repeats
BEGINNINGS = (
    "peer_connection_requested",
    "server_tube_created",
    "client_tube_created",
    "credentials_requested",
    "credentials_fetched",
    "credentials_failed",
    "credentials_given",
    "server_added",
)
#: lines of gathering, of which one that begins it comes first
_OF_GATHERING = (
    "gathering_started",
    "gathering_state_changed",
    "first_candidate_gathered",
    "candidate_gathered",
    "candidate_described",
    "session_described",
    "gathering_completed",
    "gathering_reported",
)
_KIND = pl.col("kind")
_STATE = pl.col("state").str.to_lowercase()
#: event kind → machine, and the state it tells
_MACHINES: dict[str, tuple[str, pl.Expr]] = {
    "peer_state_changed": ("peer_connection", pl.col("state")),
    "ice_state_changed": ("ice", pl.col("state")),
    "signaling_state_changed": ("signaling", pl.col("signaling_state")),
    "gathering_state_changed": ("gathering", pl.col("state")),
    "gathering_started": ("gathering", pl.lit("gathering")),
    "gathering_completed": ("gathering", pl.lit("complete")),
    "channel_state_changed": ("data_channel", pl.col("state")),
    "channel_opened": ("data_channel", pl.lit("open")),
    "channel_seen_open": ("data_channel", pl.lit("open")),
    "channel_closed": ("data_channel", pl.lit("closed")),
}


def changes(events: pl.DataFrame) -> pl.DataFrame:
    """State changes of every tube, in order: two lines that tell of one change are one.

    Out: `tube_id`, `machine`, `label` (of a data channel), `state` (W3C spelling), `seq`, `ts`, `origin`.
    """
    told = collected(
        events.lazy()
        .filter(_KIND.is_in(list(_MACHINES)), pl.col("tube_id").is_not_null())
        .select("tube_id", "seq", _KIND.cast(pl.String), "ts", "origin", "state", "signaling_state", "channel_label")
    )
    machine = _KIND.replace_strict({kind: name for kind, (name, _) in _MACHINES.items()}, return_dtype=pl.String)
    state = pl.coalesce(pl.when(_KIND == kind).then(state) for kind, (_, state) in _MACHINES.items())
    rows = told.select(
        "tube_id",
        "seq",
        "ts",
        "origin",
        machine=machine,
        label=pl.when(machine == "data_channel").then(canonical(pl.col("channel_label"))),
        state=state.str.replace_all("([a-z])([A-Z])", "${1}-${2}").str.to_lowercase(),
    ).drop_nulls("state")
    ordered = rows.sort("tube_id", "machine", "label", "seq")
    return ordered.filter(pl.col("state").ne_missing(pl.col("state").shift().over("tube_id", "machine", "label")))


def _timeouts(events: pl.DataFrame) -> pl.DataFrame:
    """How long each tube's agent waits, and whether it said so itself."""
    printed = events.lazy().filter(_KIND == "timeouts_configured", pl.col("tube_id").is_not_null())
    waits = pl.col("disconnected_timeout_ms", "failed_timeout_ms", "keepalive_ms")
    return collected(printed.group_by("tube_id").agg(waits.drop_nulls().first()))


def outages(found: pl.DataFrame, events: pl.DataFrame, resolution: pl.DataFrame) -> pl.DataFrame:
    """Spans in which a tube's path was down, first to last.

    `found` are the changes, `resolution` has `tube_id` and `resolution_ms`. Out: `tube_id`, `down_state`, `down_at` as
    logged, `down_seq`, `up_before_at`, `up_at` and `up_seq` of the recovery, `lost_low_at`, `lost_high_at`, `lost_method`;
    where the library gave the tube up for it, `close_reason`, `reason_at` and `reason_seq`.
    """
    closed = ended(events)
    paths = found.filter(pl.col("machine").is_in(["ice", "peer_connection"]), pl.col("state").is_in([*UP, *DOWN]))
    # a tube that closes itself for a state says so where state lines are not written
    closing = events.lazy().filter(_KIND == "tube_closing", _STATE.is_in(DOWN), pl.col("tube_id").is_not_null())
    said = collected(closing.select("tube_id", "seq", "ts", "origin", machine=pl.lit("peer_connection"), state=_STATE))
    up = pl.col("state").is_in(UP)
    runs = (
        pl.concat([paths.drop("label"), said], how="diagonal")
        .join(closed, on="tube_id", how="left")
        # what follows the close belongs to it
        .filter((pl.col("seq") <= pl.col("ended_seq")).fill_null(True))
        .sort("tube_id", "seq")
        .with_columns(run=up.cum_sum().over("tube_id"))
    )
    down = ~up
    spans = (
        runs.group_by("tube_id", "run", maintain_order=True)
        .agg(
            down_state=pl.col("state").filter(down).first(),
            down_machine=pl.col("machine").filter(down).first(),
            down_at=pl.col("ts").filter(down).first(),
            down_seq=pl.col("seq").filter(down).first(),
            up_before_at=pl.col("ts").filter(up).first(),
            first_seq=pl.col("seq").first(),
            first_at=pl.col("ts").first(),
        )
        .with_columns(
            up_at=pl.col("first_at").shift(-1).over("tube_id"), up_seq=pl.col("first_seq").shift(-1).over("tube_id")
        )
        .filter(pl.col("down_state").is_not_null())
        .join(_timeouts(events), on="tube_id", how="left")
        .join(resolution, on="tube_id", how="left")
    )
    dated = _dated(spans).drop("first_seq", "first_at", "run")
    still_down = dated.filter(pl.col("up_seq").is_null()).select("tube_id")
    given_up = as_outages(dropped(events, found).join(still_down, on="tube_id", how="anti"), found)
    return pl.concat([dated, given_up], how="diagonal_relaxed")


def _dated(spans: pl.DataFrame) -> pl.DataFrame:
    """Date the loss of each span back by the timeouts of the ICE agent."""
    quiet = pl.col("disconnected_timeout_ms").fill_null(DISCONNECTED_MS)
    waited = quiet + pl.when(pl.col("down_state") == "failed").then(
        pl.col("failed_timeout_ms").fill_null(FAILED_MS)
    ).otherwise(0)
    # one keepalive until the agent looks, one that the path may have missed; and what the times themselves leave open
    around = 2 * pl.col("keepalive_ms").fill_null(KEEPALIVE_MS) + pl.col("resolution_ms").fill_null(0)
    since_up = (pl.col("down_at") - pl.col("up_before_at")).dt.total_microseconds() / 1000
    by_agent = (pl.col("down_state") == "disconnected") | (pl.col("down_machine") == "ice")
    timed = (
        pl.col("down_at").is_not_null()
        & by_agent
        & (since_up >= waited - SLACK_MS).fill_null(
            pl.col("up_before_at").is_null() & (pl.col("down_state") == "disconnected")
        )
    )

    def back(ms: pl.Expr) -> pl.Expr:
        return pl.when(timed).then(pl.col("down_at") - pl.duration(microseconds=ms * 1000))

    return spans.with_columns(
        # sooner than the agent can tell: not its verdict
        early=(since_up < quiet - SLACK_MS).fill_null(False) & (pl.col("down_state") == "disconnected"),
        lost_at=back(waited),
        lost_low_at=back(waited + around),
        lost_high_at=back(waited - around),
        lost_method=pl.when(timed).then(
            pl.when(pl.col("disconnected_timeout_ms").is_not_null())
            .then(pl.lit("timeout_printed"))
            .otherwise(pl.lit("timeout_default"))
        ),
    )


def ended(events: pl.DataFrame) -> pl.DataFrame:
    """Where each tube began to close: `tube_id`, `ended_seq`."""
    closing = events.lazy().filter(_KIND.is_in(ENDINGS), pl.col("tube_id").is_not_null())
    return collected(closing.group_by("tube_id").agg(ended_seq=pl.col("seq").min()))


def _orderly(found: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    """Tubes whose data channels had all been closed before the path went down: the peer had said goodbye."""
    channels = found.filter(pl.col("machine") == "data_channel").join(last.select("tube_id", "down_seq"), on="tube_id")
    before = channels.filter(pl.col("seq") < pl.col("down_seq")).sort("tube_id", "label", "seq")
    ends = before.group_by("tube_id", "label").agg(closed=pl.col("state").last() == "closed")
    return ends.group_by("tube_id").agg(orderly=pl.col("closed").all())


def _asked(events: pl.DataFrame) -> pl.DataFrame:
    """Where each tube was asked to close with a reason, `tube_id` and `asked_seq`: not where the library gave it up."""
    gives_up = (_KIND == "restart_timed_out") | ((_KIND == "tube_closing") & _STATE.is_not_null())
    asks = (_KIND == "tube_closing") & pl.col("close_reason").is_not_null()
    lines = events.lazy().filter(pl.col("tube_id").is_not_null(), gives_up | asks)
    first = lines.group_by("tube_id").agg(
        asked_seq=pl.col("seq").filter(asks).min(), given_up_seq=pl.col("seq").filter(gives_up).min()
    )
    asked = first.filter((pl.col("asked_seq") < pl.col("given_up_seq")).fill_null(True))
    return collected(asked.select("tube_id", "asked_seq").drop_nulls())


def close_reasons(streams: Streams, spans: pl.DataFrame) -> pl.DataFrame:
    """Reason of the first close of each conversation on each tube: that of its own channel, else that of the tube.

    `spans` are the outages: of a tube that was given up, the library says why before it closes it as if asked.
    Out: `conversation_id`, `tube_id`, `close_reason`, null where no line gives one, and `reason_at`, when it was told.
    """
    kinds = ["channel_close_requested", "close_reason_retrieved", "tube_closing"]
    told = streams.events.lazy().filter(
        _KIND.is_in(kinds), pl.col("tube_id").is_not_null(), pl.col("close_reason").is_not_null()
    )
    of_tubes = collected(
        told.select(
            "tube_id",
            "seq",
            "ts",
            "close_reason",
            of_tube=_KIND == "tube_closing",
            label=canonical(pl.col("channel_label")),
        )
    )
    given_up = spans.filter(pl.col("reason_seq").is_not_null()).select(
        "tube_id", "close_reason", seq="reason_seq", ts="reason_at", of_tube=pl.lit(True)
    )
    reasons = pl.concat([of_tubes, given_up], how="diagonal_relaxed")
    links = streams.links.select("conversation_id", "tube_id", name=pl.col("conversation_id").cast(pl.String))
    named = reasons.join(links, left_on=["tube_id", "label"], right_on=["tube_id", "name"], how="left")
    own = (
        named.filter(pl.col("conversation_id").is_not_null())
        .join(_asked(streams.events), on="tube_id", how="left")
        # what ends behind a close that was asked for with a reason ends by it, and tells but its default
        .filter((pl.col("seq") < pl.col("asked_seq")).fill_null(True))
        .drop("asked_seq")
        .with_columns(rank=0)
    )
    # a label that names no conversation of the tube may be the peer's spelling of its only one
    of_tube = named.with_columns(rank=pl.when("of_tube").then(1).when(pl.col("conversation_id").is_null()).then(2))
    shared = of_tube.drop_nulls("rank").sort("rank", "seq").unique("tube_id", keep="first", maintain_order=True)
    every = links.join(shared.drop("conversation_id"), on="tube_id")
    return (
        pl.concat([own, every], how="diagonal_relaxed")
        .sort("rank", "seq")
        .group_by("conversation_id", "tube_id", maintain_order=True)
        .agg(pl.col("close_reason").first(), reason_at=pl.col("ts").first())
    )


def of_tubes(streams: Streams, found: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """What became of each tube.

    Out: `tube_id`, `begun` (its log saw its beginning), `whole` (and all of its gathering), `states_told` (its log has the
    states of its path, which INFO leaves out), `was_connected` (something proves it), `never` (its log proves
    that it was not), `was_failed`, `timed_out` (a restart), `was_closed`, `closed_itself` (for its state), `given_up`
    (for its data channel), `lost` (the path was down, or the process gone, and nobody had closed it before), and
    `lost_seq`, the line that told the path down.
    """
    own = streams.events.lazy().filter(pl.col("tube_id").is_not_null())
    path = _KIND.is_in(["ice_state_changed", "peer_state_changed"])
    counted = _KIND.is_in(["bytes_sent_counted", "bytes_received_counted"])
    channel = _KIND == "channel_state_changed"
    gathers = (_KIND == "gathering_started") | ((_KIND == "gathering_state_changed") & (_STATE == "gathering"))
    begins = _STATE.filter(path).first().is_in(["new", "checking", "connecting"])
    # ICE may connect and be lost again before the handshake ends: then nothing ever was connected
    connecting = pl.col("seq").filter((_KIND == "peer_state_changed") & (_STATE == "connecting")).min()
    connects = (connecting < pl.col("seq")).fill_null(False)
    # what a tube tells behind its close is no cause of it
    before_end = (pl.col("seq") <= pl.col("seq").filter(_KIND.is_in(ENDINGS)).min()).fill_null(True)
    facts = own.group_by("tube_id").agg(
        # a tube that is set up checks and connects; one that was there before is already connected
        begun=_KIND.is_in(BEGINNINGS).any() | begins.fill_null(False),
        # of what such a tube gathered before its first line nothing is known
        whole=_KIND.is_in(BEGINNINGS).any() | (begins.fill_null(True) & gathers.filter(_KIND.is_in(_OF_GATHERING)).first()),
        # what only says that something broke (it is spelled in small letters) does not say when it was well again
        states_told=(path & pl.col("state").str.contains("^[A-Z]")).fill_null(False).any(),
        was_connected=(
            ((_KIND == "peer_state_changed") & (_STATE == "connected"))
            | (path & (_STATE == "disconnected") & ~connects)
            | _KIND.is_in(["channel_opened", "channel_received", "channel_seen_open", "backend_connected"])
            | (channel & ((_STATE == "open") | (pl.col("previous_state").str.to_lowercase() == "open")))
            | (counted & ((pl.col("bytes_sent") > 0) | (pl.col("bytes_received") > 0)).fill_null(False))
        ).fill_null(False).any(),
        # a tube whose state makes it close
        was_failed=(((path | (_KIND == "tube_closing")) & (_STATE == "failed")) | ((_KIND == "tube_closing") & (_STATE == "disconnected"))).fill_null(False).any(),
        closed_itself=((_KIND == "tube_closing") & _STATE.is_not_null() & before_end).any(),
        timed_out=((_KIND == "restart_timed_out") & before_end).any(),
        never_opened=(_KIND == "channel_never_opened").any(),
        was_closed=(_KIND.is_in(ENDINGS) | (path & (_STATE == "closed")).fill_null(False)).any(),
    )  # fmt: skip
    last = spans.filter(pl.col("up_seq").is_null())
    joined = (
        collected(facts).join(last.select("tube_id", "down_seq", "down_state", "early"), on="tube_id", how="left")
        .join(_orderly(found, last), on="tube_id", how="left")
    )  # fmt: skip
    early = pl.col("early").fill_null(False) & pl.col("was_closed")
    sure = (
        pl.col("states_told") | pl.col("closed_itself") | pl.col("down_state").is_in(["failed", GONE]).fill_null(False)
    )
    broken = pl.col("down_seq").is_not_null() & sure & ~early & ~pl.col("orderly").fill_null(False)
    gone = streams.links.group_by("tube_id").agg(pl.col("restarted").any())
    ends = joined.join(gone, on="tube_id", how="left").with_columns(
        gone=pl.col("restarted").fill_null(False) & ~pl.col("was_closed")
    )
    told = pl.col("begun") & (
        pl.col("was_failed") | (pl.col("was_closed") & (pl.col("states_told") | pl.col("never_opened")))
    )
    return ends.select(
        "tube_id", "begun", pl.col("whole").fill_null(False), "states_told", "was_connected", "was_failed", "timed_out", "was_closed", "closed_itself",
        given_up=(pl.col("down_state") == GONE).fill_null(False),
        lost=pl.col("was_connected") & (broken | pl.col("timed_out") | pl.col("gone")),
        lost_seq="down_seq",
        never=~pl.col("was_connected") & told,
    )  # fmt: skip
