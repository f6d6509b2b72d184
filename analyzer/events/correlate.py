"""Events → streams: which tube and which conversation each event belongs to, and in which ICE generation it happened.

A tube is one peer connection of one process; the two sides of a conversation have different tubes and one
conversation id. Lines that name both link them, in families of decreasing trust; lines that name neither are given to
a tube only when a single one can be meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

#: the family of evidence that is no line: the candidates that two tubes exchanged (`meetings`)
CANDIDATES = "candidates"
#: families of evidence that a tube carries a conversation, the strongest first: name, event kinds
LINK_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("registered", ("connection_registered",)),
    ("auto_registered", ("metrics_attached",)),
    ("registry", ("tube_registered", "server_tube_created", "client_tube_created", "binding_linked")),
    ("monitored", ("metrics_linked",)),
    ("closed_signal", ("channel_closed_signalled",)),
    ("collected", ("stats_collected",)),
    ("channel_label", ("channel_attached", "channel_received", "channel_opened", "side_declared")),
    ("keyed", ()),
    ("adjacency", ()),
    (CANDIDATES, ()),
)
LINK_METHODS = tuple(name for name, _ in LINK_FAMILIES)
_RANK = {name: rank for rank, name in enumerate(LINK_METHODS)}
#: what the collector reports on behalf of the line just before it: (reported kind, kinds it may follow)
ADJACENT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gathering_started_reported", ("gathering_started", "first_candidate_gathered")),
    ("gathering_completed_reported", ("gathering_completed", "gathering_reported")),
)
#: a label that names no conversation
CONTROL = "control"
#: lines of the WebRTC crates carry no id; they speak of gathering, of the handshake, or of the agent's whole life
GATHERING_KINDS = (
    "allocation_failed",
    "stun_failed",
    "server_unresolved",
    "relay_unresolved",
    "turn_requested",
    "turn_received",
    "turn_resolved",
    "turn_allocated",
)
HANDSHAKE_KINDS = ("dtls_hello_received", "dtls_finished_queued")
CHECK_KINDS = ("check_sent", "pair_nominated", "check_answered")
AGENT_KINDS = ("agent_started", "agent_state_changed", "pair_selected", *CHECK_KINDS)
ENDINGS = ("tube_closing", "tube_closed", "tube_removed")


#: the columns of events that correlation reads, and those it finds
NEEDED = ("scope", "kind", "tube_id", "conversation_id", "channel_label", "state")
PLACE = ("scope", "tube_id", "conversation_id", "generation")


@dataclass(frozen=True, slots=True)
class Streams:
    """Events with `seq`, their order, their place (`PLACE`) and their `scope`; and the links found."""

    events: pl.DataFrame
    #: conversation_id, tube_id, link_method, and whether another process began behind the tube's last line; after
    #: `meetings.joined` other_id, too: its name in the tube's own log
    links: pl.DataFrame


def coded(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its ids as codes: a word that stands in a million rows is one word, and compared as a number."""
    return frame.with_columns(pl.col("conversation_id", "tube_id").cast(pl.Categorical))


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


def _spelled_once(ids: pl.Series) -> pl.Series:
    """Ids in their one spelling; each distinct id is judged once."""
    found = ids.unique().drop_nulls()
    known = pl.DataFrame({"found": found}).with_columns(canonical=canonical(pl.col("found")))
    spelled = dict(known.filter(pl.col("found") != pl.col("canonical")).rows())
    return ids.replace(spelled) if spelled else ids


def with_canonical_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Events with every conversation id in its one spelling."""
    return events.with_columns(_spelled_once(events["conversation_id"]))


def _narrow(events: pl.DataFrame) -> pl.DataFrame:
    """What correlation itself looks at: places, ids, states."""
    label = _spelled_once(events["channel_label"].cast(pl.String)).alias("label")
    narrow = events.select("scope", "kind", "tube_id", "conversation_id", "state").with_columns(label)
    ids = pl.col("conversation_id", "label")
    named = narrow.with_row_index("seq").with_columns(pl.when(ids != CONTROL).then(ids))
    # a word that stands in a million rows is one word: codes are a quarter of the size
    return named.with_columns(pl.col(pl.String).cast(pl.Categorical))


def _adjacent(events: pl.DataFrame) -> pl.DataFrame:
    """Pairs (tube event, collector event) that stand next to each other: `seq` of the latter, and the tube."""
    kinds = [kind for kinds in ADJACENT for kind in (kinds[0], *kinds[1])]
    # the line of another tube in between parts the two
    named = pl.col("tube_id").is_not_null()
    following = events.filter(pl.col("kind").is_in(kinds) | named)
    before = following.select(
        "scope",
        "seq",
        "kind",
        "tube_id",
        "conversation_id",
        last_tube=pl.col("tube_id").forward_fill().over("scope"),
    )
    before = before.filter(pl.col("kind").is_in(kinds)).with_columns(
        before_kind=pl.col("kind").shift().over("scope"),
        before_tube=pl.col("tube_id").shift().over("scope"),
    )
    fits = pl.any_horizontal(
        (pl.col("kind") == reported) & pl.col("before_kind").is_in(told) for reported, told in ADJACENT
    )
    apart = pl.col("last_tube") != pl.col("before_tube")
    return before.filter(fits & pl.col("tube_id").is_null() & pl.col("before_tube").is_not_null(), ~apart).select(
        "scope", "seq", "conversation_id", tube_id="before_tube"
    )


def _links(events: pl.DataFrame, adjacent: pl.DataFrame) -> pl.DataFrame:
    """Which tubes carry which conversations, by the strongest evidence, and where it was first seen."""
    family = (
        pl.col("kind")
        .cast(pl.String)
        .replace_strict(
            {kind: _RANK[name] for name, kinds in LINK_FAMILIES for kind in kinds},
            default=_RANK["keyed"],
            return_dtype=pl.Int64,
        )
    )
    named = events.filter(pl.col("tube_id").is_not_null())
    by_id = named.filter(pl.col("conversation_id").is_not_null()).select(
        "scope", "conversation_id", "tube_id", "seq", rank=family
    )
    by_label = named.filter(pl.col("label").is_not_null()).select(
        "scope", "tube_id", "seq", conversation_id="label", rank=pl.lit(_RANK["channel_label"], pl.Int64)
    )
    by_place = adjacent.with_columns(rank=pl.lit(_RANK["adjacency"], pl.Int64))
    found = (
        pl.concat([by_id, by_label, by_place], how="diagonal")
        .with_columns(pl.col("conversation_id", "tube_id").cast(pl.String))
        # the library itself passes a tube id where a conversation id belongs: no conversation
        .filter(
            pl.col("conversation_id").is_not_null(),
            ~pl.col("conversation_id").is_in(named["tube_id"].unique().cast(pl.String).to_list()),
        )
        .group_by("scope", "conversation_id", "tube_id")
        .agg(pl.col("rank", "seq").min())
    )
    label, place = _RANK["channel_label"], _RANK["adjacency"]
    # over all logs: a tube is of one process, whoever tells of it, and only the peer may know a label as a conversation
    best_of_tube = pl.col("rank").min().over("tube_id")
    best_of_conversation = pl.col("rank").min().over("conversation_id")
    # in one log: that the peer's, perhaps of another release, names its own tube says nothing of the tube in this one
    best_in_scope = pl.col("rank").min().over("scope", "conversation_id")
    kept = found.filter(
        # a label alone makes no conversation where the tube has one; the label of one known elsewhere is the peer's
        ~((pl.col("rank") == label) & (best_of_tube < label) & (best_of_conversation >= label)),
        # what only stands next to a tube's line counts where its own log tells no better
        ~((pl.col("rank") == place) & ((best_of_tube < place) | (best_in_scope < place))),
    )
    return (
        kept.group_by("conversation_id", "tube_id")
        .agg(pl.col("rank", "seq").min())
        .with_columns(link_method=pl.col("rank").replace_strict(dict(enumerate(LINK_METHODS)), return_dtype=pl.String))
        .sort("conversation_id", "tube_id")
    )


def _by_conversation(events: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Tube of events that name only a conversation or a label: the one last tied to it in their scope."""
    key = pl.coalesce("conversation_id", "label")
    waiting = events.filter(pl.col("tube_id").is_null(), key.is_not_null()).select("seq", "scope", key=key)
    known = links.select("conversation_id", "tube_id").unique()
    ties = (
        events.filter(pl.col("tube_id").is_not_null())
        .select("scope", "seq", "tube_id")
        .join(known, on="tube_id", how="inner")
        .rename({"conversation_id": "key"})
        .sort("seq")
        # of a run of lines that say the same the first is enough
        .filter(pl.col("tube_id").ne_missing(pl.col("tube_id").shift().over("scope", "key")))
    )
    before = waiting.join_asof(ties, on="seq", by=["scope", "key"], strategy="backward", check_sortedness=False)
    after = waiting.join_asof(ties, on="seq", by=["scope", "key"], strategy="forward", check_sortedness=False)
    # a tube that this log never names is another process's, perhaps the peer's
    return (
        before.select("seq", near="tube_id")
        .join(after.select("seq", far="tube_id"), on="seq", how="left")
        .select("seq", found=pl.coalesce("near", "far"))
    )


def _windows(events: pl.DataFrame, begins: pl.Expr, ends: pl.Expr) -> pl.DataFrame:
    """Spans of places `(scope, tube_id, begin, end)` between the first begin and the first end after it."""
    spans = events.filter(pl.col("tube_id").is_not_null()).select(
        "scope", "tube_id", "generation", "seq", begins=begins, ends=ends
    )
    return (
        spans.group_by("scope", "tube_id", "generation")
        .agg(
            begin=pl.col("seq").filter("begins").min(),
            end=pl.col("seq").filter(pl.col("ends") & (pl.col("seq") > pl.col("seq").filter("begins").min())).min(),
        )
        .filter(pl.col("begin").is_not_null())
        # the next generation ends one whose end was not told
        .sort("begin")
        .with_columns(end=pl.min_horizontal("end", pl.col("begin").shift(-1).over("scope", "tube_id")))
    )


def _sole_owner(anonymous: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Tube of events without any id that fall into the window of exactly one tube of their scope.

    Open windows are counted by running sums over the places; while one is open, the sum of their numbers names it.
    """
    if anonymous.is_empty() or windows.is_empty():
        return anonymous.select("seq").clear().with_columns(found=pl.lit(None, pl.Categorical))
    numbered = windows.with_row_index("number", 1).with_columns(pl.col("number").cast(pl.Int64))
    opened = numbered.select("scope", seq="begin", count=pl.lit(1), number="number")
    closed = numbered.filter(pl.col("end").is_not_null()).select(
        "scope", seq="end", count=pl.lit(-1), number=-pl.col("number")
    )
    asked = anonymous.select("scope", "seq", count=pl.lit(0), number=pl.lit(0, pl.Int64), asked=pl.lit(True))
    running = (
        pl.concat([opened, closed, asked], how="diagonal")
        .sort("scope", "seq")
        .with_columns(pl.col("count", "number").cum_sum().over("scope"))
        .filter(pl.col("asked"), pl.col("count") == 1)
    )
    return running.join(numbered.select("number", "tube_id"), on="number").select("seq", found="tube_id")


def _generations(events: pl.DataFrame) -> pl.DataFrame:
    """Number the ICE generations of each tube: each start of gathering begins one, what came before is in the first."""
    starts = (pl.col("kind") == "gathering_started").cum_sum().over("tube_id")
    return events.with_columns(
        generation=pl.when(pl.col("tube_id").is_not_null()).then(pl.max_horizontal(starts, pl.lit(1))).cast(pl.Int64)
    )


def _attributed(events: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    return (
        events.join(found.unique("seq"), on="seq", how="left", maintain_order="left")
        .with_columns(tube_id=pl.coalesce("tube_id", "found"))
        .drop("found")
    )


def correlate(events: pl.DataFrame) -> Streams:
    """Give every event its tube, conversation and generation.

    `events` has the columns `NEEDED`; further ones come out beside the place. `scope` is a number for each log,
    whatever number of files it was cut into. The events of a scope come in the order in which they were written; `seq`
    is their order.
    """
    narrow = _narrow(events)
    adjacent = _adjacent(narrow)
    links = _links(narrow, adjacent)
    links = coded(links)
    # next to a line of another conversation's tube a report only happens to stand
    apt = adjacent.join(links, on=["conversation_id", "tube_id"], how="semi")
    streams = _attributed(narrow, apt.select("seq", found="tube_id"))
    streams = _generations(_attributed(streams, _by_conversation(streams, links)))
    complete = (pl.col("kind") == "gathering_completed") | (
        (pl.col("kind") == "gathering_state_changed") & (pl.col("state") == "Complete")
    )
    ended = pl.col("kind").is_in(ENDINGS)

    def entered(kind: str) -> pl.Expr:
        return (pl.col("kind") == kind) & (pl.col("state") == "Connected")

    for kinds, per, begins, ends in (
        (GATHERING_KINDS, pl.col("generation"), pl.col("kind") == "gathering_started", complete | ended),
        (HANDSHAKE_KINDS, pl.lit(1), entered("ice_state_changed"), entered("peer_state_changed") | ended),
        (AGENT_KINDS, pl.lit(1), pl.lit(True), ended),
    ):
        anonymous = streams.filter(pl.col("kind").is_in(kinds), pl.col("tube_id").is_null())
        if len(anonymous):
            near = streams.filter(pl.col("scope").is_in(anonymous["scope"].unique().to_list()))
            windows = _windows(near.with_columns(generation=per), begins, ends)
            streams = _attributed(streams, _sole_owner(anonymous, windows))
    placed = _with_conversation(_generations(streams), links)
    links = links.join(_outlived(placed), on="tube_id", how="left").with_columns(pl.col("restarted").fill_null(False))
    handed_through = events.drop(NEEDED, strict=False)
    return Streams(handed_through.with_columns(placed.select("seq", *PLACE)), links)


def _outlived(events: pl.DataFrame) -> pl.DataFrame:
    """Tubes after whose last line another process began to write their log: their own is gone."""
    last = events.filter(pl.col("tube_id").is_not_null()).group_by("scope", "tube_id").agg(pl.col("seq").max())
    begun = events.filter(pl.col("kind") == "process_started").group_by("scope").agg(begun=pl.col("seq").max())
    outlived = last.join(begun, on="scope", how="left").select("tube_id", restarted=pl.col("begun") > pl.col("seq"))
    # a tube that writes several logs is gone when it is gone from all
    return outlived.group_by("tube_id").agg(pl.col("restarted").fill_null(False).all())


def _with_conversation(events: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Conversation of events that name only a tube: the first that was tied to the tube."""
    original = (
        links.sort("seq")
        .unique("tube_id", keep="first", maintain_order=True)
        .select("tube_id", original="conversation_id")
    )
    return events.join(original, on="tube_id", how="left", maintain_order="left").with_columns(
        conversation_id=pl.coalesce("conversation_id", "original")
    )
