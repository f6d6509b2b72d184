"""Events → links: which tube carries which conversation, and by what evidence.

A tube is one peer connection of one process; the two sides of a conversation have different tubes and one
conversation id. Lines that name both link them, in families of decreasing trust.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from analyzer.events.portions import in_portions, near

#: the family of evidence that is no line: the candidates that two tubes exchanged (`meetings`)
CANDIDATES = "candidates"
#: families of evidence that a tube carries a conversation, the strongest first: name, what it is, event kinds
LINK_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("registered", "the collector was given both", ("connection_registered",)),
    ("auto_registered", "its handle was", ("metrics_attached",)),
    (
        "registry",
        "the registry made the one for the other",
        ("tube_registered", "server_tube_created", "client_tube_created", "binding_linked"),
    ),
    ("monitored", "the quality monitor was given both", ("metrics_linked",)),
    ("closed_signal", "the host was told that the channel closed", ("channel_closed_signalled",)),
    ("collected", "statistics were collected for both", ("stats_collected", "stats_skipped")),
    (
        "channel_label",
        "a data channel of the tube is called like it",
        ("channel_attached", "channel_received", "channel_opened", "side_declared"),
    ),
    ("keyed", "any other line names both", ()),
    ("adjacency", "the collector's line stands behind one of the tube", ()),
    (CANDIDATES, "another tube was told of its candidates", ()),
)
LINK_METHODS = tuple(name for name, _, _ in LINK_FAMILIES)
METHOD = pl.Enum(LINK_METHODS)
_TOLD = "; ".join(f"{name}: {told}" for name, told, _ in LINK_FAMILIES)
LINK_DOC = f"Strongest evidence that this tube carries this conversation, the strongest first: {_TOLD}."
#: a line ties a tube to a conversation by an id, by a label or by its place
WAYS = 3
_RANK = {name: rank for rank, name in enumerate(LINK_METHODS)}
_FAMILY = {kind: _RANK[name] for name, _, kinds in LINK_FAMILIES for kind in kinds}
#: lines of the collector, which keeps counts by conversation, that name the tube it now keeps them of
KEEPER = ("connection_registered", "stats_collected")
#: what the collector reports on behalf of the line just before it: (reported kind, kinds it may follow)
ADJACENT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gathering_started_reported", ("gathering_started", "first_candidate_gathered")),
    ("gathering_completed_reported", ("gathering_completed", "gathering_reported")),
)
_NEIGHBOURS = [kind for kinds in ADJACENT for kind in (kinds[0], *kinds[1])]
_TUBE = pl.col("tube_id")
_PAIR = ("scope", "conversation_id", "tube_id")
#: a label that names no conversation
CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events in the order in which they were written, by `seq`, and the scopes that go on in later chunks.

    `scope` is a number for each log, whatever number of files it was cut into.
    """

    events: pl.DataFrame
    goes_on: Sequence[int]


@dataclass(frozen=True, slots=True)
class Links:
    """What ties tubes and conversations.

    `links`: conversation_id, tube_id, link_method, and `order`, by the first line that ties them: of two conversations
    that one line ties to a tube the one it names as such is before the one it names as a channel. `tubes`: scope,
    tube_id, seq of the first line that names it. `adjacent`: seq of a collector's line and the tube it stands next to.
    """

    links: pl.DataFrame
    tubes: pl.DataFrame
    adjacent: pl.DataFrame


def canonical(conversation_id: pl.Expr) -> pl.Expr:
    """One spelling of a conversation id: base64 becomes url-safe and unpadded, anything else stays as it is."""
    text = conversation_id
    plain = text.str.strip_chars_end("=")
    # 16, 24, 32 bytes are what base64 ids are made of; a padded text is base64 whatever its length
    is_base64 = text.str.contains(r"^[0-9A-Za-z+/_-]+={0,2}$") & (
        (text.str.ends_with("=") & (text.str.len_chars() % 4 == 0)) | plain.str.len_chars().is_in([22, 32, 43, 64])
    )
    url_safe = plain.str.replace_all("+", "-", literal=True).str.replace_all("/", "_", literal=True)
    return pl.when(is_base64).then(url_safe).otherwise(text)


def spelled_once(ids: pl.Series) -> pl.Series:
    """Ids in their one spelling; each distinct id is judged once."""
    found = ids.unique().drop_nulls()
    known = pl.DataFrame({"found": found}).with_columns(canonical=canonical(pl.col("found")))
    spelled = dict(known.filter(pl.col("found") != pl.col("canonical")).rows())
    return ids.replace(spelled) if spelled else ids


def with_canonical_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Events with every conversation id in its one spelling."""
    return events.with_columns(spelled_once(events["conversation_id"]))


def _adjacent(chunk: Chunk, carried: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs (tube event, collector event) that stand next to each other, and what the next chunk has to know.

    The pairs: `seq` of the latter, its conversation, and the tube.
    """
    named = pl.col("tube_id").is_not_null()
    told = pl.col("kind").is_in(_NEIGHBOURS)
    # the line of another tube in between parts the two
    own = chunk.events.filter(told | named).select("scope", "seq", "kind", "tube_id", "conversation_id")
    following = own if carried is None else pl.concat([carried, own])
    before = (
        following.with_columns(last_tube=pl.col("tube_id").forward_fill().over("scope"))
        .filter(told)
        .with_columns(
            before_kind=pl.col("kind").shift().over("scope"), before_tube=pl.col("tube_id").shift().over("scope")
        )
    )
    fits = pl.any_horizontal(
        (pl.col("kind") == reported) & pl.col("before_kind").is_in(kinds) for reported, kinds in ADJACENT
    )
    pairs = before.filter(
        fits & ~named & pl.col("before_tube").is_not_null(),
        pl.col("last_tube") == pl.col("before_tube"),
        pl.lit(True) if carried is None else pl.col("seq") >= chunk.events["seq"].first(),
    ).select("scope", "seq", "conversation_id", tube_id="before_tube")
    open_ = following.filter(pl.col("scope").is_in(chunk.goes_on))
    last = [open_.filter(one).unique("scope", keep="last", maintain_order=True) for one in (told, named)]
    return pairs, pl.concat(last).unique("seq").sort("seq")


def _named_together(events: pl.DataFrame, adjacent: pl.DataFrame) -> pl.DataFrame:
    """Tubes and conversations named together: by the best rank, and in which `order`."""
    rank = pl.col("kind").cast(pl.String).replace_strict(_FAMILY, default=_RANK["keyed"], return_dtype=pl.UInt8)
    named = events.filter(pl.col("tube_id").is_not_null())
    by_id = named.filter(pl.col("conversation_id").is_not_null()).select(
        "scope", "conversation_id", "tube_id", "seq", rank=rank
    )
    by_label = named.filter(pl.col("label").is_not_null()).select(
        "scope", "tube_id", "seq", conversation_id="label", rank=pl.lit(_RANK["channel_label"], pl.UInt8)
    )
    by_place = adjacent.filter(pl.col("conversation_id").is_not_null()).with_columns(
        rank=pl.lit(_RANK["adjacency"], pl.UInt8)
    )
    ways = [by_id, by_label, by_place]
    ordered = [
        rows.select(*_PAIR, "rank", order=pl.col("seq").cast(pl.UInt64) * WAYS + way) for way, rows in enumerate(ways)
    ]
    return _best(pl.concat(ordered))


def first_tied(order: pl.Expr) -> pl.Expr:
    """`seq` of the first line that ties a tube to a conversation, from the `order` of their link."""
    return order // WAYS


def _best(pairs: pl.DataFrame) -> pl.DataFrame:
    return in_portions(pairs, _TUBE, lambda some: some.group_by(_PAIR).agg(pl.col("rank", "order").min()))


def _first(tubes: pl.DataFrame) -> pl.DataFrame:
    """Where each tube is first named in each scope."""
    return in_portions(tubes, _TUBE, lambda some: some.group_by("scope", "tube_id").agg(pl.col("seq").min()))


def _with_best(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with the best rank of their tube, of their conversation, and of that in their scope."""
    # over all logs: a tube is of one process, whoever tells of it, and only the peer may know a label as a conversation
    of_tube = pl.col("rank").min().over("tube_id").alias("of_tube")
    of_conversation = pl.col("rank").min().over("conversation_id").alias("of_conversation")
    # in one log: that the peer's, perhaps of another release, names its own tube says nothing of the tube in this one
    in_scope = pl.col("rank").min().over("scope", "conversation_id").alias("in_scope")
    by_tube = in_portions(pairs, _TUBE, lambda some: some.with_columns(of_tube))
    return in_portions(by_tube, pl.col("conversation_id"), lambda some: some.with_columns(of_conversation, in_scope))


def _own_named(events: pl.DataFrame) -> pl.DataFrame:
    """Labels that a channel's own lines, which know no tube, call its conversation: scope, conversation_id."""
    own = events.filter(pl.col("tube_id").is_null(), pl.col("conversation_id") == pl.col("label"))
    return own.select("scope", "conversation_id").unique()


def _kept(pairs: pl.DataFrame, tubes: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """The links that hold. `named` are labels that are conversations (`_own_named`)."""
    # the library itself passes a tube id where a conversation id belongs: no conversation
    found = _with_best(pairs.join(tubes.select(conversation_id="tube_id"), on="conversation_id", how="anti"))
    label, place = _RANK["channel_label"], _RANK["adjacency"]
    # a label alone makes no conversation where the tube has one; the label of one known elsewhere is the peer's, and
    # one that its own channel calls its conversation is one of several on the tube
    bare = (pl.col("rank") == label) & (pl.col("of_tube") < label) & (pl.col("of_conversation") >= label)
    labels = found.filter(bare)
    own = labels.join(near(named, labels, "conversation_id"), on=["scope", "conversation_id"], how="semi")
    # what only stands next to a tube's line counts where its own log tells no better
    beside = (pl.col("rank") == place) & ((pl.col("of_tube") < place) | (pl.col("in_scope") < place))
    kept = pl.concat([found.filter(~bare, ~beside), own])
    best = in_portions(
        kept, _TUBE, lambda some: some.group_by("conversation_id", "tube_id").agg(pl.col("rank", "order").min())
    )
    methods = dict(enumerate(LINK_METHODS))
    return best.sort("conversation_id", "tube_id").select(
        "conversation_id",
        "tube_id",
        "order",
        link_method=pl.col("rank").replace_strict(methods, return_dtype=METHOD),
    )


def find(chunks: Iterable[Chunk]) -> Links:
    """Find which tubes carry which conversations, by the strongest evidence of all logs, and where it was first seen.

    Chunks hold `seq`, `scope`, `kind`, `tube_id`, `conversation_id` and `label`, ids as numbers.
    """
    pairs, tubes, places, named = [], [], [], []
    carried: pl.DataFrame | None = None
    for chunk in chunks:
        adjacent, carried = _adjacent(chunk, carried)
        pairs.append(_named_together(chunk.events, adjacent))
        named.append(_own_named(chunk.events))
        tubes.append(_first(chunk.events.filter(pl.col("tube_id").is_not_null())))
        places.append(adjacent)
    first = _first(pl.concat(tubes))
    links = _kept(_best(pl.concat(pairs)), first, pl.concat(named))
    # next to a line of another conversation's tube a report only happens to stand
    beside = pl.concat(places)
    apt = beside.join(near(links, beside, "tube_id"), on=["conversation_id", "tube_id"], how="semi")
    return Links(links, first, apt.select("seq", found="tube_id"))
