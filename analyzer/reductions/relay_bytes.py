"""Whether the traffic passed the relay, by the bytes that the relay itself counted for a tube and for its peer.

What passes a TURN relay is a DTLS connection and the checks of ICE (RFC 8656 section 11, RFC 8445 section 7): a path
through it carries all that the tube counted, and framing besides, never less. An allocation that is not used carries the
checks of its pairs, each repeated at most seven times, some 15 kB in all; refreshes and permissions are between the side
and the relay, and are not among what the relay exchanged with its peers. So far below what was transferred the traffic
went another way; in between it may have changed its way, and nothing is said.
"""

from __future__ import annotations

import polars as pl

from analyzer.events.links import CONTROL
from analyzer.reductions.facts import Facts
from analyzer.tables.declare import ID

METHOD = "relay_bytes"
#: a transfer below this may be no more than what unused allocations carry; for each allocation again
SUBSTANCE_BYTES = 64 * 1024
#: a tenth may be lost before the relay, or not be counted yet when the last line was written
CARRIED_RATIO, IDLE_RATIO = 0.9, 0.1
_COUNTS = ("granted", "closed", "carried", "all_bytes")
_OTHER = "_other"


def _sessions(relay: pl.DataFrame) -> pl.DataFrame:
    """What the relay counted, by the tube it was joined to, for the tube's own allocations and for its peer's."""
    total = {
        name: pl.sum_horizontal(f"{prefix}_received", f"{prefix}_sent", ignore_nulls=False)
        for name, prefix in (("carried", "peer_bytes"), ("all_bytes", "bytes"))
    }
    rows = relay.filter(pl.col("tube_id").is_not_null(), pl.col("allocations") > 0).with_columns(**total)
    ended = pl.col("ended_us").is_not_null()
    return rows.group_by(pl.col("tube_id").cast(ID), "is_remote").agg(
        granted=pl.len(),
        # only what is counted at the end is all of it
        closed=(ended & pl.col("all_bytes").is_not_null()).sum(),
        carried=pl.col("carried").sum(),
        all_bytes=pl.col("all_bytes").sum(),
    )


def _met(facts: Facts) -> pl.DataFrame:
    """Tubes with the one they met, null where its log is not there: `tube_id`, `tube_id_other`; none that met several."""
    ends = (
        facts.streams.links.select("conversation_id", "tube_id")
        .unique()
        .join(facts.tubes.select("tube_id", "side"), on="tube_id")
        .with_columns(tubes=pl.len().over("conversation_id"))
        # of three each met two
        .with_columns(most=pl.col("tubes").max().over("tube_id"))
    )
    two = ends.filter(pl.col("tubes") == 2, pl.col("most") == 2).drop("tubes", "most")
    pairs = two.join(two, on="conversation_id", suffix=_OTHER).filter(pl.col("tube_id") != pl.col("tube_id_other"))
    met = pairs.select("tube_id", "tube_id_other", opposite=pl.col("side") != pl.col("side_other")).unique()
    sole = met.filter(pl.len().over("tube_id") == 1, pl.len().over("tube_id_other") == 1, pl.col("opposite"))
    alone = facts.tubes.select("tube_id").join(ends.filter(pl.col("most") > 1), on="tube_id", how="anti")
    return pl.concat([sole.select("tube_id", "tube_id_other"), alone], how="diagonal_relaxed")


def _tubes(facts: Facts, channels: pl.DataFrame) -> pl.DataFrame:
    """What each tube counted, and how many relay candidates it knows of either side."""
    relays = (
        facts.candidates.filter(pl.col("candidate_type") == "relay")
        .group_by("tube_id")
        .agg(
            pl.struct("address", "port").filter(pl.col("direction") == way).n_unique().alias(f"{way}_relays")
            for way in ("local", "remote")
        )
    )
    # channels whose bytes nobody knows may have carried any number
    known = pl.all_horizontal(pl.col("bytes_sent", "bytes_received").is_not_null().all())
    counted = (
        channels.filter(pl.col("channel").ne_missing(CONTROL))
        .group_by(pl.col("tube_id").cast(ID))
        .agg(by_channels=pl.when(known).then(pl.col("bytes_sent").sum() + pl.col("bytes_received").sum()))
    )
    own = pl.col("transport_bytes_sent") + pl.col("transport_bytes_received")
    return (
        facts.tubes.join(relays, on="tube_id", how="left")
        .join(counted, on="tube_id", how="left")
        .select(
            "tube_id",
            local_relays=pl.col("local_relays").fill_null(0),
            remote_relays=pl.col("remote_relays").fill_null(0),
            local_seen=pl.col("local_seen").fill_null(False) & pl.col("whole"),
            remote_seen=(pl.col("remote_types").list.len() > 0).fill_null(False) & pl.col("whole"),
            moved=pl.coalesce(own, "by_channels"),
        )
    )


def carried(facts: Facts, channels: pl.DataFrame, relay: pl.DataFrame) -> pl.DataFrame:
    """What the relay's counts say of each tube: `tube_id`, `by_relay` (null: nothing), `local_carried`, `remote_carried`.

    `channels` is the table of that name, `relay` has the joined sessions.
    """
    tubes, sessions = _tubes(facts, channels), _sessions(relay)
    rows = (
        _met(facts)
        .join(tubes, on="tube_id")
        .join(tubes, left_on="tube_id_other", right_on="tube_id", how="left", suffix=_OTHER)
    )
    # an allocation is this side's by its own log, or by that of the tube it met
    for place, remote in (("tube_id", False), ("tube_id_other", True), ("tube_id", True), ("tube_id_other", False)):
        names = {name: f"{place}_{remote}_{name}" for name in _COUNTS}
        here = sessions.filter(pl.col("is_remote") == remote).drop("is_remote").rename(names)
        rows = rows.join(here, left_on=place, right_on="tube_id", how="left")

    def count(name: str, *, local: bool) -> pl.Expr:
        return pl.sum_horizontal(f"tube_id_{not local}_{name}", f"tube_id_other_{local}_{name}")

    def known(way: str, other: str) -> tuple[pl.Expr, pl.Expr]:
        """Relay candidates of one end by whoever saw them, and whether anybody did."""
        seen = pl.col(f"{way}_seen") | pl.col(f"{other}_seen_other").fill_null(False)
        return pl.max_horizontal(f"{way}_relays", f"{other}_relays_other"), seen

    moved = pl.max_horizontal("moved", "moved_other")
    granted = count("granted", local=True) + count("granted", local=False)
    substance = moved >= SUBSTANCE_BYTES * pl.max_horizontal(pl.lit(1), granted)
    (local_known, local_seen), (remote_known, remote_seen) = known("local", "remote"), known("remote", "local")
    # a relay that nobody's log is of may have carried it all
    whole = (
        local_seen
        & remote_seen
        & (count("closed", local=True) >= local_known)
        & (count("closed", local=False) >= remote_known)
        & (count("closed", local=True) + count("closed", local=False) == granted)
        & (granted > 0)
    )
    idle = whole & (count("all_bytes", local=True) + count("all_bytes", local=False) <= IDLE_RATIO * moved)
    ends = {
        f"{end}_carried": (substance & (count("carried", local=local) >= CARRIED_RATIO * moved)).fill_null(False)
        for end, local in (("local", True), ("remote", False))
    }
    told = rows.select("tube_id", "tube_id_other", idle=(substance & idle).fill_null(False), **ends)
    through = pl.col("local_carried") | pl.col("remote_carried")
    return told.with_columns(by_relay=pl.when(through).then(True).when("idle").then(False)).drop("idle")


def settle(facts: Facts, selected: pl.DataFrame, channels: pl.DataFrame, relay: pl.DataFrame | None) -> pl.DataFrame:
    """Let the relay's counts decide the path of tubes of which nothing else tells it; other evidence stays.

    `selected` is what `selected_pair.resolve` gives. Adds `by_relay`, what those counts say in any case.
    """
    if relay is None:
        return selected.with_columns(by_relay=pl.lit(None, pl.Boolean))
    known = selected.select(tube_id_other="tube_id", told_other=pl.col("uses_relay").is_not_null())
    rows = (
        selected.join(carried(facts, channels, relay), on="tube_id", how="left", maintain_order="left")
        .join(known, on="tube_id_other", how="left", maintain_order="left")
        .join(facts.tubes.select("tube_id", "generations"), on="tube_id", how="left", maintain_order="left")
    )
    decides = pl.col("uses_relay").is_null() & ~pl.col("told_other").fill_null(False) & pl.col("by_relay").is_not_null()
    # the pair shown is the first generation's: which one carried the traffic of several is not told
    shown = decides & pl.col("by_relay") & (pl.col("generations").fill_null(1) <= 1)
    shown = (shown & pl.col("selected_pair_method").is_null()).fill_null(False)

    def end(name: str) -> pl.Expr:
        kept = pl.col(f"selected_pair_{name}_type")
        return pl.when(shown & pl.col(f"{name}_carried")).then(pl.lit("relay")).otherwise(kept)

    return rows.with_columns(
        selected_pair_local_type=end("local"),
        selected_pair_remote_type=end("remote"),
        selected_pair_method=pl.when(shown).then(pl.lit(METHOD)).otherwise("selected_pair_method"),
        uses_relay=pl.when(decides).then("by_relay").otherwise("uses_relay"),
        uses_relay_method=pl.when(decides).then(pl.lit(METHOD)).otherwise("uses_relay_method"),
    ).drop("tube_id_other", "told_other", "generations", "local_carried", "remote_carried")
