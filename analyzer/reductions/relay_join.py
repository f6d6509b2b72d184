"""Sessions of the relay → the tubes they served: by addresses first, by times only where an address was used again.

Every method compares what the relay saw with what a side's log tells of its candidates (`METHODS`, the surest first).
Ports are used again, so one session and one tube must have found each other alone. Where they did not, times decide, if
they can: the clocks of the relay and of each log are other machines', whose distance is told by what addresses alone
have joined; two clocks that both tell the time of day may be taken to agree where nothing was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from analyzer.addresses import address_class, tells_apart
from analyzer.events.crowds import within

#: ways to join, the surest first; `remote_…`: told by the log of the other side, which received the candidate
METHODS = (
    "relayed_address",
    "relayed_port",
    "mapped_address",
    "related_address",
    "remote_relayed_address",
    "remote_mapped_address",
)
FOLLOWS = "same_client"
#: clocks of other machines, and lines of whole seconds: times tell apart what lies further from one another
TOLERANCE_US = 60_000_000
#: so many joined sessions are needed before one of another time is an exception
AGREED = 3
#: so many addresses of a tube are compared
MOST_HOSTS = 100
_UNSPECIFIED = pl.col("related_address").is_null() | (address_class(pl.col("related_address")) == "unspecified")
_RELAY = pl.col("candidate_type") == "relay"
_LOCAL = pl.col("direction") == "local"


@dataclass(frozen=True, slots=True)
class _Found:
    """Pairs of `number` and `candidate` whose addresses are equal, but for those of an address that too many had.

    `crowd` has the `number` of who had such an address, `crowded` the `candidate`, each with the `address`.
    """

    pairs: pl.DataFrame
    crowd: pl.DataFrame
    crowded: pl.DataFrame


def _equal(sessions: pl.DataFrame, told: list[str], candidates: pl.DataFrame, columns: list[str]) -> _Found:
    """Sessions and candidates of which `told` and `columns` are equal."""
    here = sessions.select("number", *told).drop_nulls(told)
    there = candidates.select("candidate", *columns).drop_nulls(columns).rename(dict(zip(columns, told, strict=True)))
    few, address = within(here, there, told), pl.struct(told).hash().alias("address")
    crowd, crowded = (
        some.join(few, on=told, how="anti").join(others, on=told, how="semi")
        for some, others in ((here, there), (there, here))
    )
    return _Found(
        here.join(few, on=told, how="semi").join(there, on=told).select("number", "candidate"),
        crowd.select("number", address),
        crowded.select("candidate", address),
    )


def _told_alike(sessions: pl.DataFrame, candidates: pl.DataFrame) -> Iterator[tuple[int, _Found]]:
    """What each of the methods compares as equal, by its rank."""
    client, relayed = ["client_address", "client_port"], ["relayed_address", "relayed_port"]
    own = ["address", "port"]
    hosts = candidates.filter(_LOCAL, ~_RELAY).select("tube_id", host="address").drop_nulls()
    hosts = hosts.unique(maintain_order=True).filter(pl.int_range(pl.len()).over("tube_id") < MOST_HOSTS)
    # the socket of a relay candidate is told without its address: any of the tube's own may be meant
    anywhere = (
        candidates.filter(_LOCAL, _UNSPECIFIED, pl.col("related_port").is_not_null())
        .join(hosts, on="tube_id")
        .with_columns(related_address="host")
        .drop("host")
    )
    told = candidates.filter(_LOCAL, ~_UNSPECIFIED, tells_apart(pl.col("related_address")))
    local = candidates.filter(_LOCAL, _RELAY)
    yield 0, _equal(sessions, relayed, local, own)
    # a relay behind address translation tells its inner address: the port is the same, and the client must be
    for client_is, candidate_is, rows in (
        ("client_port", "related_port", local),
        ("client_address", "host", local.join(hosts, on="tube_id")),
    ):
        found = _equal(sessions, ["relayed_port", client_is], rows, ["port", candidate_is])
        addresses = found.pairs.join(sessions.select("number", "relayed_address"), on="number").join(
            candidates.select("candidate", "address"), on="candidate"
        )
        inner = addresses.filter(pl.col("address") != pl.col("relayed_address")).select("number", "candidate")
        yield 1, replace(found, pairs=inner)
    yield 2, _equal(sessions, client, candidates.filter(_LOCAL, ~_RELAY), own)
    yield 3, _equal(sessions, client, pl.concat([told, anywhere]), ["related_address", "related_port"])
    yield 4, _equal(sessions, relayed, candidates.filter(~_LOCAL, _RELAY), own)
    yield 5, _equal(sessions, client, candidates.filter(~_LOCAL, ~_RELAY), own)


def _pairs(sessions: pl.DataFrame, candidates: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sessions with the candidates that one of the methods compares as equal, the surest of each tube.

    Then the `number` of the sessions that are compared with nothing, since too many had their address; a pair whose
    candidate these may have found as well is `crowded`.
    """
    found = [(alike, pl.lit(rank, pl.Int64).alias("rank")) for rank, alike in _told_alike(sessions, candidates)]
    pairs = pl.concat([alike.pairs.with_columns(rank) for alike, rank in found])
    crowd = pl.concat([alike.crowd.with_columns(rank) for alike, rank in found])
    crowded = pl.concat([alike.crowded.with_columns(rank) for alike, rank in found])
    surest = crowd.group_by("number").agg(surest=pl.col("rank").min())
    # what a surer method cannot decide no other one does
    told = pairs.join(surest, on="number", how="left").filter(
        pl.col("surest").is_null() | (pl.col("rank") < pl.col("surest"))
    )
    left = surest.join(told, on="number", how="anti")
    asked = crowd.join(left, left_on=["number", "rank"], right_on=["number", "surest"], how="semi")
    rivals = crowded.join(asked, on=["rank", "address"], how="semi")["candidate"].unique()
    placed = (
        told.drop("surest")
        .join(candidates.select("candidate", "tube_id", "generation", "candidate_at", "log"), on="candidate")
        .join(sessions.select("number", "scope", "run", "started_us", "is_dated"), on="number")
        # of one tube the surest, and of several equal ones the first
        .sort("rank", "candidate")
        .unique(["number", "tube_id"], keep="first", maintain_order=True)
        .filter(pl.col("rank") == pl.col("rank").min().over("number"))
        .with_columns(crowded=pl.col("candidate").is_in(rivals.implode()))
    )
    return placed, left.select("number").sort("number")


def _alone() -> pl.Expr:
    """Whether a session and a tube's candidate have found each other and nothing else."""
    return (pl.len().over("number") == 1) & (pl.len().over("candidate") == 1) & ~pl.col("crowded")


def _decided(pairs: pl.DataFrame, left: pl.DataFrame) -> pl.DataFrame:
    """The pairs that hold, and for sessions without one why: number, tube_id, generation, rank, reason."""
    between = pl.col("candidate_at").dt.epoch("us") - pl.col("started_us")
    clocks = ["scope", "run", "log"]
    timed = pairs.with_columns(between=between, alone=_alone())
    offset = (
        timed.filter("alone", pl.col("between").is_not_null())
        .group_by(clocks)
        .agg(offset=pl.col("between").median(), agreed=pl.len())
    )
    gap = (pl.col("between") - pl.col("offset")).abs()
    measured = (
        timed.join(offset, on=clocks, how="left", maintain_order="left")
        .with_columns(pl.coalesce("offset", pl.when("is_dated").then(0.0)))
        .with_columns(near=gap <= TOLERANCE_US)
    )
    strange = pl.col("alone") & (pl.col("agreed") >= AGREED) & ~pl.col("near")
    first = measured.filter(pl.col("alone"), ~strange.fill_null(False))
    unsure = measured.filter(~pl.col("alone"), pl.col("near").fill_null(False))
    second = unsure.filter(_alone())
    kept = pl.concat([first, second]).with_columns(reason=pl.lit(None, pl.String))
    tubes = pl.col("tube_id").n_unique().over("number")
    lost = (
        measured.with_columns(tubes=tubes, strange=strange.fill_null(False))
        .join(kept, on="number", how="anti")
        .unique("number", keep="first", maintain_order=True)
        .with_columns(
            reason=pl.when("strange")
            .then(pl.lit("the tube of its address lived at another time"))
            .when(pl.col("tubes") > 1)
            .then(pl.lit("several tubes had its address, and times do not tell which"))
            .otherwise(pl.lit("several sessions had the address of its tube, and times do not tell which")),
            tube_id=pl.lit(None, kept.schema["tube_id"]),
            generation=pl.lit(None, pl.Int64),
        )
    )
    columns = ["number", "tube_id", "generation", "rank", "reason"]
    decided = pl.concat([kept.select(columns), lost.select(columns)])
    return pl.concat(
        [decided, left.with_columns(reason=pl.lit("too many had its address to be compared"))], how="diagonal"
    )


def _following(joined: pl.DataFrame) -> pl.DataFrame:
    """Tube of sessions that go on from a joined one: the same client's address, right after that was closed.

    What a client still sends when the relay has forgotten it begins a session of its own.
    """
    client = ["scope", "run", "client_address", "client_port"]
    ended = joined.filter(pl.col("tube_id").is_not_null(), pl.col("ended_us").is_not_null()).select(
        *client, "ended_us", follows="tube_id", follows_generation="generation", followed="join_method"
    )
    waiting = joined.filter(pl.col("tube_id").is_null(), pl.col("client_port").is_not_null())
    after = pl.col("started_us") - pl.col("ended_us_right")
    few = within(waiting, ended, client)
    return (
        waiting.join(few, on=client, how="semi")
        .join(ended, on=client, how="inner", suffix="_right")
        .filter(after.is_between(-1_000_000, TOLERANCE_US))
        .filter(pl.col("follows").n_unique().over("number") == 1)
        .unique("number", keep="first", maintain_order=True)
        .select("number", "follows", "follows_generation", "followed")
    )


def join(sessions: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """Give each session the tube whose log knows its address, and how it was joined or why not.

    `candidates` has the columns of the table, `tube_id`, `generation` and `log`, the source they stand in. Adds
    `tube_id`, `generation`, `join_method`, `join_reason` and `is_remote`: it is that tube's peer that the relay served.
    """
    numbered = (
        candidates.filter(pl.col("address").is_not_null(), pl.col("port").is_not_null())
        # one of which a class or a network is left is no evidence; what is related to it may be
        .with_columns(pl.when(_RELAY | tells_apart(pl.col("address"))).then("address"))
        .rename({"ts": "candidate_at"})
        .drop("address_class", "origin", strict=False)
        .with_row_index("candidate")
    )
    told, is_vague = sessions["client_address"], ~tells_apart(pl.col("client_address"))
    sessions = sessions.with_columns(pl.when(~is_vague).then("client_address"), is_vague=is_vague.fill_null(False))
    dated = sessions.with_columns(is_dated=pl.col("started_s").is_null())
    decided = _decided(*_pairs(dated, numbered))
    silent = pl.col("client_port").is_null() & pl.col("relayed_port").is_null()
    ranks = dict(enumerate(METHODS))
    joined = (
        sessions.join(decided, on="number", how="left", maintain_order="left")
        .with_columns(
            join_method=pl.when(pl.col("tube_id").is_not_null()).then(
                pl.col("rank").replace_strict(ranks, default=None, return_dtype=pl.String)
            )
        )
        .drop("rank")
    )
    followed = joined.join(_following(joined), on="number", how="left", maintain_order="left")
    goes_on = pl.col("follows").is_not_null()
    method = pl.when(goes_on).then(pl.lit(FOLLOWS)).otherwise("join_method")
    return followed.with_columns(
        tube_id=pl.coalesce("tube_id", "follows"),
        generation=pl.coalesce("generation", "follows_generation"),
        join_method=method,
        client_address=told,
        is_remote=pl.coalesce("join_method", "followed").str.starts_with("remote_").fill_null(False),
        join_reason=pl.when(pl.col("tube_id").is_not_null() | goes_on)
        .then(None)
        .otherwise(
            pl.coalesce(
                "reason",
                pl.when(silent).then(pl.lit("the relay told no address of it")),
                pl.when(pl.col("is_vague")).then(pl.lit("the dataset keeps too little of its address")),
                pl.lit("no log of a side knows its address"),
            )
        ),
    ).drop("reason", "follows", "follows_generation", "followed", "is_vague")
