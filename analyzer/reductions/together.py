"""A bound on what is reduced together: a conversation, and all that shares a tube with it, is in memory as a whole.

No session of weeks comes near it; a log that says a million things of one conversation does. It is told of what each log
says first, as of a log that ends there. Of values that are for time series alone some between others are left out. Both
have their rows in `refusals`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from analyzer.events.portions import in_portions

#: what belongs together weighs no more than so many events; each of their candidates weighs as much as another one
MOST_EVENTS = 200_000
#: a tube, and a conversation, have rows in every table: each weighs as so many events beside its own
TUBE_EVENTS, CONVERSATION_EVENTS = 20, 8
#: so much is told of each log, as long as all of them together are within the bound
LEAST_SHARE = 1_000
#: so many values of its time series beside those: a counter that is told every second has them in three days
MOST_VALUES = 250_000
#: events of a batch are looked at whenever there are so many of them, and when all have come
LOOKED_AT = 300_000
#: the golden ratio: its multiples lie evenly in a circle of 2^32, however many of them are taken
_TURN, _CIRCLE = 2_654_435_769, 1 << 32
_VALUE = pl.col("series_only")
#: what decides of an event
_LOOKED_AT = ("component", "scope", "series_only", "candidates", "at", "seq", "tube_id", "conversation_id")
#: what is left out: the part, the rows of it that it lies between, and how much it is
LEFT_OUT = pl.Schema(dict.fromkeys(("component", "part", "first", "last", "lines"), pl.UInt32) | {"reason": pl.String})


def share(weights: Sequence[int]) -> int:
    """How much of what belongs together each log may have, by what it has, so that all of them are within the bound."""
    left = MOST_EVENTS
    for place, weight in enumerate(sorted(weights)):
        each = left // (len(weights) - place)
        if weight > each:
            return max(each, LEAST_SHARE)
        left -= weight
    return MOST_EVENTS


def shares(extents: pl.DataFrame, per_event: int) -> dict[int, int]:
    """How much of each component beyond the bound each log may have, as far as lines that name an id tell.

    `extents` has the `weight` of the events of each tube in each log (`scope`), `per_event` what one of them weighs.
    """
    own = pl.col("weight").sum() // per_event + pl.col("tube_id").drop_nulls().n_unique() * TUBE_EVENTS

    def heavy(some: pl.DataFrame) -> pl.DataFrame:
        logs = some.group_by("component", "scope").agg(weight=own)
        return logs.filter(pl.col("weight").sum().over("component") > MOST_EVENTS)

    found = in_portions(extents, pl.col("component"), heavy)
    return {component: share(weights) for component, weights in found.group_by("component").agg("weight").rows()}


def _weights() -> pl.Expr:
    """What each event weighs, with its candidates, and the tubes and conversations that its log names with it first."""
    own = (("tube_id", TUBE_EVENTS), ("conversation_id", CONVERSATION_EVENTS))
    more = (
        pl.when((pl.col(name).is_first_distinct() & pl.col(name).is_not_null()).over("scope")).then(weight)
        for name, weight in own
    )
    return pl.sum_horizontal(pl.lit(1, pl.Int64), "candidates", *more)


def _heavy(events: pl.DataFrame) -> pl.DataFrame:
    """What events of each component weigh, and how many values it has: `component`, `weight`, `values`."""
    tubes, conversations = (pl.col(name).filter(~_VALUE).drop_nulls() for name in ("tube_id", "conversation_id"))
    own = (1 + pl.col("candidates").cast(pl.Int64)).filter(~_VALUE).sum()
    weight = own + tubes.n_unique() * TUBE_EVENTS + conversations.n_unique() * CONVERSATION_EVENTS
    of_logs = events.group_by("component", "scope").agg(weight=weight, values=_VALUE.sum())
    return of_logs.group_by("component").agg(pl.col("weight", "values").sum())


def _between(values: pl.DataFrame) -> pl.Series:
    """Rows of one component's values that are too many: those that stay lie evenly between them."""
    if len(values) <= MOST_VALUES:
        return values["index"].clear()
    turned = values["at"].cast(pl.UInt64) * _TURN % _CIRCLE
    return values["index"].filter(turned > turned.sort()[MOST_VALUES - 1])


def added(left_out: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up what is left out by part and reason."""
    told = pl.concat([LEFT_OUT.to_frame(), *left_out])
    ends = (pl.col("first").min(), pl.col("last").max(), pl.col("lines").sum())
    return told.group_by("part", "reason").agg(ends).sort("part", "reason")


def events_of(left_out: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Add up the events that are left out of components: `component`, `left_out`."""
    told = pl.concat([LEFT_OUT.to_frame(), *left_out]).filter(pl.col("reason") == "too_many_events")
    return told.group_by("component").agg(left_out=pl.col("lines").sum().cast(pl.Int64))


@dataclass(slots=True)
class Together:
    """Events of one batch as they come, in order; `left_out` is as `LEFT_OUT`.

    `shares` has, for each component that is beyond the bound, how much of it each log may have.
    """

    shares: Mapping[int, int]
    left_out: list[pl.DataFrame] = field(default_factory=list)
    #: tubes that are not told to their end
    cut: set[int] = field(default_factory=set)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _rows: int = 0
    #: of a component in a log, or in all of them, `seq` from which on it is left out
    _ends: dict[tuple[int, int | None], int] = field(default_factory=dict)

    def add(self, events: pl.DataFrame) -> None:
        """Take some more."""
        self._frames.append(events)
        self._rows += len(events)
        if self._rows > LOOKED_AT:
            self._look()

    def events(self) -> pl.DataFrame:
        """All that are within the bounds."""
        self._look()
        return pl.concat(self._frames, rechunk=True)

    def _look(self) -> None:
        """Leave out what is beyond: early or late, it is the same."""
        events = pl.concat(self._frames)
        looked_at = events.select(_LOOKED_AT).with_row_index()
        reason = pl.Series([None], dtype=pl.String).new_from_index(0, len(events))
        found = _heavy(looked_at)
        heavy = {*self.shares, *(component for component, _ in self._ends)}
        for component in found.filter((pl.col("weight") > MOST_EVENTS) | pl.col("component").is_in(heavy))["component"]:
            mine = looked_at.filter(pl.col("component") == component)
            reason = reason.scatter(self._behind(component, mine), "too_many_events")
        for component in found.filter(pl.col("values") > MOST_VALUES)["component"]:
            values = looked_at.filter(_VALUE & reason.is_null(), pl.col("component") == component)
            reason = reason.scatter(_between(values), "too_many_values")
        if reason.null_count() == len(events):
            return
        told = events.with_columns(reason.alias("reason")).filter(reason.is_not_null())
        place = {"first": pl.col("at").min(), "last": pl.col("at").max(), "lines": pl.len()}
        out = told.group_by("component", "part", "reason").agg(**place)
        self.left_out.append(out.select(LEFT_OUT.names()).cast(LEFT_OUT))
        self.cut.update(told.filter(pl.col("reason") == "too_many_events")["tube_id"].drop_nulls().unique())
        self._frames = [events.filter(reason.is_null())]
        self._rows = len(self._frames[0])

    def _behind(self, component: int, mine: pl.DataFrame) -> pl.Series:
        """Rows of a component that stand behind what is told of it: in their log, then in all of them."""
        most = self.shares.get(component, MOST_EVENTS)
        told = mine.filter(~_VALUE).with_columns(weight=_weights())
        reached = pl.col("weight").cum_sum()
        for scope, seq in told.filter(reached.over("scope") > most).group_by("scope").agg(pl.col("seq").min()).rows():
            self._ends.setdefault((component, scope), seq)
        ends = [(scope, seq) for (of, scope), seq in self._ends.items() if of == component and scope is not None]
        known = pl.DataFrame(ends, schema={"scope": mine.schema["scope"], "end": pl.UInt64}, orient="row")
        within = (pl.col("seq") < pl.col("end")).fill_null(True)
        placed = mine.join(known, on="scope", how="left", maintain_order="left").with_columns(within=within)
        rest = told.join(known, on="scope", how="left", maintain_order="left").filter(within)
        if (key := (component, None)) not in self._ends and len(over := rest.filter(reached > MOST_EVENTS)):
            self._ends[key] = over["seq"][0]
        end = self._ends.get(key)
        return placed.filter(~pl.col("within") | (pl.lit(False) if end is None else pl.col("seq") >= end))["index"]
