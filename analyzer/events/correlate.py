"""Events → streams: which tube and which conversation each event belongs to, and in which ICE generation it happened.

Events are read in chunks, three times: for the links between tubes and conversations, for the moments at which
something begins or ends in a tube, and to be placed. What is kept between the readings grows with the number of tubes,
not of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from analyzer.events import links as linking
from analyzer.events.ids import NUMBER
from analyzer.events.links import Chunk, Links
from analyzer.events.portions import in_portions, near
from analyzer.events.thin import CUMULATIVE
from analyzer.events.windows import ANONYMOUS_KINDS, WINDOWS, generations, marks, owners

#: the columns of events that correlation reads, and those it finds
NEEDED = ("scope", "kind", "tube_id", "conversation_id", "channel_label", "state")
PLACE = ("scope", "tube_id", "conversation_id", "generation")
#: ids in what is `narrowed`; in the events of chunks they are numbers
IDS = ("tube_id", "conversation_id", "label")
_TUBE = pl.col("tube_id")
#: the same chunks each time it is called
Chunks: TypeAlias = Callable[[], Iterable[Chunk]]


@dataclass(frozen=True, slots=True)
class Streams:
    """Events with `seq`, their order, their place (`PLACE`) and their `scope`; and the links between their ids.

    `links`: conversation_id, tube_id, link_method, order; whether another process began behind the tube's last line
    (`restarted`); and the conversation's name in the tube's own log, where that is another one (`other_id`).
    `left_out`: for each conversation how many events of it, and of what shares a tube with it, are not there.
    """

    events: pl.DataFrame
    links: pl.DataFrame
    left_out: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """All that is known of tubes and conversations before their events are placed.

    `named` are the tubes and conversations that lines name together, whether a link ties them or not.
    `extent` has, for each tube, and for each conversation in lines that name no tube, or one that no line ties to any
    conversation: first and last `seq`, and the `weight` of its events. `names`: conversations that are another one of
    the peer's log, with its name (`told`).
    """

    links: pl.DataFrame
    named: pl.DataFrame
    tubes: pl.DataFrame
    extent: pl.DataFrame
    #: tube_id, and whether another process began behind its last line (`restarted`)
    outlived: pl.DataFrame
    generations: pl.DataFrame
    #: for each of `WINDOWS`, who owns anonymous lines
    owners: tuple[pl.DataFrame, ...]
    names: pl.DataFrame
    kinds: frozenset[str]


def narrowed(events: pl.DataFrame) -> pl.DataFrame:
    """What correlation itself looks at of `NEEDED`, words as codes, ids still as words; further columns stay."""
    label = linking.spelled_once(events["channel_label"].cast(pl.String)).alias("label")
    ids = pl.col("conversation_id", "label")
    named = events.drop("channel_label").with_columns(label).with_columns(pl.when(ids != linking.CONTROL).then(ids))
    return named.with_columns(pl.col(pl.String).exclude(IDS).cast(pl.Categorical))


def _attributed(events: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    if found.is_empty():
        return events
    return (
        events.join(found.unique("seq"), on="seq", how="left", maintain_order="left")
        .with_columns(tube_id=pl.coalesce("tube_id", "found"))
        .drop("found")
    )


@dataclass(frozen=True, slots=True)
class _Keys:
    """Tubes of a conversation as far as a scope names them: the `first`, and all of those that have `several`.

    `several` are in order, `seq` is where each is first named.
    """

    first: pl.DataFrame
    several: pl.DataFrame


def _keys(links: Links) -> _Keys:
    key = ["scope", "key"]
    # a tube that this log never names is another process's, perhaps the peer's
    known = in_portions(
        links.tubes, _TUBE, lambda some: some.join(links.links.select("tube_id", key="conversation_id"), on="tube_id")
    ).sort("seq")
    several = in_portions(known, pl.col("key"), lambda some: some.filter(pl.struct(key).is_duplicated()))
    first = in_portions(known, pl.col("key"), lambda some: some.filter(pl.struct(key).is_first_distinct()))
    return _Keys(first.select(*key, found="tube_id"), several.select(*key, "tube_id", "seq").sort("seq"))


def _last_named(events: pl.DataFrame, keys: _Keys) -> pl.DataFrame:
    """Places at which another tube of a conversation is named than before: `scope`, `key`, `seq`, `tube_id`."""
    mine = keys.several.drop("seq")
    return (
        events.select("scope", "seq", "tube_id")
        .join(mine, on=["scope", "tube_id"], how="semi", maintain_order="left")
        # of a run of lines that say the same the first is enough
        .filter(_TUBE.ne_missing(_TUBE.shift().over("scope")))
        .join(mine, on=["scope", "tube_id"], maintain_order="left")
        .filter(_TUBE.ne_missing(_TUBE.shift().over("scope", "key")))
        .select("scope", "key", "seq", "tube_id")
    )


def _kept(events: pl.DataFrame, keys: _Keys) -> pl.DataFrame:
    """The same of places at which the collector says of which tube it counts."""
    told = events.filter(pl.col("kind").is_in(linking.KEEPER), _TUBE.is_not_null())
    said = told.select("scope", "seq", "tube_id", key="conversation_id")
    mine = ["scope", "key", "tube_id"]
    return said.join(keys.several, on=mine, how="semi", maintain_order="left").select("scope", "key", "seq", "tube_id")


def _by_conversation(
    chunk: Chunk, events: pl.DataFrame, keys: _Keys, carried: tuple[pl.DataFrame, ...] | None
) -> tuple[pl.DataFrame, tuple[pl.DataFrame, ...] | None]:
    """Tube of events that name only a conversation or a label: the one last named in their scope, else the first.

    A counter is the collector's, which counts by conversation: it is of the tube that began last, or that the collector
    named since. Out, too: the last ties of scopes that go on.
    """
    by = ["scope", "key"]
    key, counts = pl.coalesce("conversation_id", "label"), pl.col("kind").is_in(CUMULATIVE)
    waiting = events.filter(_TUBE.is_null(), key.is_not_null()).select("seq", "scope", key=key, counts=counts)
    found = waiting.join(keys.first, on=by).select("seq", *by, "counts", "found")
    if keys.several.is_empty():
        return found.select("seq", "found"), None
    named, kept = (
        ties if before is None else pl.concat([before, ties])
        for ties, before in zip((_last_named(events, keys), _kept(events, keys)), carried or (None, None), strict=True)
    )
    begun = pl.concat([keys.several.select(kept.columns), kept]).sort("seq", maintain_order=True)
    for counted, ties in ((False, named), (True, begun)):
        tube = pl.when(pl.col("counts") == counted).then(pl.coalesce("tube_id", "found")).otherwise("found")
        near = found.join_asof(ties, on="seq", by=by, strategy="backward", check_sortedness=False)
        found = near.with_columns(found=tube).drop("tube_id")
    last = (
        ties.filter(pl.col("scope").is_in(chunk.goes_on)).unique(by, keep="last", maintain_order=True)
        for ties in (named, kept)
    )
    return found.select("seq", "found"), tuple(last)


def _tied(chunks: Iterable[Chunk], links: Links) -> Iterator[Chunk]:
    """Chunks whose events have the tube that they name in any way."""
    keys = _keys(links)
    carried: tuple[pl.DataFrame, ...] | None = None
    for chunk in chunks:
        events = _attributed(chunk.events, links.adjacent)
        found, carried = _by_conversation(chunk, events, keys, carried)
        yield Chunk(_attributed(events, found), chunk.goes_on)


def _extent(events: pl.DataFrame, links: pl.DataFrame, weight: pl.Expr) -> pl.DataFrame:
    """First and last place, and weight, of the events of each tube, and of those that name a conversation alone.

    A tube that nothing is linked to is no place for the conversation named with it.
    """
    linked = near(links, events, "tube_id")["tube_id"].unique()
    alone = pl.when(_TUBE.is_null() | ~_TUBE.is_in(linked.implode())).then("conversation_id")
    return (
        events.filter(pl.col("tube_id").is_not_null() | pl.col("conversation_id").is_not_null())
        .group_by("scope", "tube_id", conversation_id=alone)
        .agg(first=pl.col("seq").min(), last=pl.col("seq").max(), weight=weight.sum())
    )


def _together(extents: pl.DataFrame) -> pl.DataFrame:
    by_id = ("scope", "tube_id", "conversation_id")
    return in_portions(
        extents,
        pl.coalesce("tube_id", "conversation_id"),
        lambda some: some.group_by(by_id).agg(pl.col("first").min(), pl.col("last").max(), pl.col("weight").sum()),
    )


def _outlived(extent: pl.DataFrame, begun: pl.DataFrame) -> pl.DataFrame:
    """Tubes after whose last line another process began to write their log: their own is gone."""
    last = extent.filter(pl.col("tube_id").is_not_null()).select("scope", "tube_id", "last")
    gone = last.join(begun, on="scope", how="left").select(
        "tube_id", restarted=(pl.col("begun") > pl.col("last")).fill_null(False)
    )
    # a tube that writes several logs is gone when it is gone from all
    return in_portions(gone, _TUBE, lambda some: some.group_by("tube_id").agg(pl.col("restarted").all()))


def tied(chunks: Chunks) -> tuple[Links, Chunks]:
    """Links of all events, and the chunks with the tubes that their events name."""
    links = linking.find(chunks())
    return links, lambda: _tied(chunks(), links)


def correlate(links: Links, chunks: Chunks, weight: pl.Expr) -> Correlation:
    """Learn what events are placed by, from chunks that are `tied`. `weight` says what an event weighs."""
    marked, extents, begun, anonymous, named = [], [], [], [], []
    kinds: set[str] = set()
    for chunk in chunks():
        events = chunk.events
        marked.append(marks(events))
        extents.append(_extent(events, links.links, weight))
        named.append(events.select("tube_id", "conversation_id").drop_nulls().unique())
        begun.append(
            events.filter(pl.col("kind") == "process_started").group_by("scope").agg(begun=pl.col("seq").max())
        )
        unnamed = events.filter(pl.col("tube_id").is_null(), pl.col("kind").is_in(ANONYMOUS_KINDS))
        anonymous.append(unnamed.group_by("scope").agg(until=pl.col("seq").max()))
        kinds.update(events["kind"].unique().cast(pl.String).drop_nulls())
    together = pl.concat(marked)
    until = pl.concat(anonymous).group_by("scope").agg(pl.col("until").max())
    extent = _together(pl.concat(extents))
    last_begun = pl.concat(begun).group_by("scope").agg(pl.col("begun").max())
    # a line without any id may still come to a tube of its log
    reach = pl.when(pl.col("tube_id").is_not_null()).then(pl.max_horizontal("last", "until")).otherwise("last")
    return Correlation(
        links=links.links.with_columns(other_id=pl.lit(None, NUMBER)),
        named=in_portions(pl.concat(named), _TUBE, pl.DataFrame.unique),
        tubes=links.tubes,
        extent=extent.join(until, on="scope", how="left").with_columns(last=reach).drop("until"),
        outlived=_outlived(extent, last_begun),
        generations=generations(together),
        owners=tuple(owners(together, window) for window in WINDOWS) if len(until) else (),
        names=pl.DataFrame(schema={"conversation_id": NUMBER, "told": NUMBER}),
        kinds=frozenset(kinds),
    )


def _owned(events: pl.DataFrame, kinds: tuple[str, ...], owner: pl.DataFrame) -> pl.DataFrame:
    """Tube of events without any id, where only one can be meant."""
    anonymous = events.filter(pl.col("kind").is_in(kinds), pl.col("tube_id").is_null()).select("seq", "scope")
    found = anonymous.join_asof(owner, on="seq", by="scope", strategy="backward", check_sortedness=False)
    return found.filter(pl.col("found").is_not_null()).select("seq", "found")


def renamed(rows: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Rows with their conversations as the peer's log names them (`Correlation.names`)."""
    if names.is_empty():
        return rows
    told = pl.coalesce("told", "conversation_id")
    named = rows.join(names, on="conversation_id", how="left", maintain_order="left")
    return named.with_columns(conversation_id=told).drop("told")


def placed(chunks: Iterable[Chunk], known: Correlation) -> Iterator[pl.DataFrame]:
    """Give every event of chunks that are `tied` its tube, conversation and generation."""
    # the first conversation that was tied to the tube
    first = pl.col("tube_id").is_first_distinct()
    tied = known.links.select("tube_id", "order", original="conversation_id").sort("order").drop("order")
    original = in_portions(tied, _TUBE, lambda some: some.filter(first))
    # of all that is known no more is kept than is needed
    return _placed(chunks, original, known.generations, known.owners, known.names)


def _placed(
    chunks: Iterable[Chunk],
    original: pl.DataFrame,
    generations: pl.DataFrame,
    owners: tuple[pl.DataFrame, ...],
    names: pl.DataFrame,
) -> Iterator[pl.DataFrame]:
    for chunk in chunks:
        events = chunk.events
        for window, owner in zip(WINDOWS, owners, strict=False):
            events = _attributed(events, _owned(events, window.kinds, owner))
        begun = near(generations, events, "tube_id")
        numbered = events.join_asof(
            begun, on="seq", by="tube_id", strategy="backward", check_sortedness=False
        ).with_columns(
            # what came before a first start is in the first
            generation=pl.when(pl.col("tube_id").is_not_null()).then(pl.col("generation").fill_null(1))
        )
        own = near(original, events, "tube_id")
        named = numbered.join(own, on="tube_id", how="left", maintain_order="left").with_columns(
            conversation_id=pl.coalesce("conversation_id", "original")
        )
        yield renamed(named, names).drop("original", "label", "state", strict=False)
