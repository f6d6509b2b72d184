"""A bound on what is reduced together: a conversation, and all that shares a tube with it, is in memory as a whole.

No session of weeks comes near it; a log that says a million things of one conversation does. Of the events in each log
those in the middle are left out, so that beginnings, ends and totals stay true; of the values that are for time series
alone, some of those between others. Both have their rows in `refusals`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

#: what belongs together weighs no more than so many events: of each log the first ones, and as much of the last ones;
#: each of their candidates weighs as much as another one
MOST_EVENTS = 300_000
#: a tube, and a conversation, have rows in every table: each weighs as so many events beside its own
TUBE_EVENTS, CONVERSATION_EVENTS = 20, 8
#: so many values of its time series beside those: a counter that is told every second has them in three days
MOST_VALUES = 250_000
#: events of a batch are looked at whenever there are so many of them, and when all have come
LOOKED_AT = 1_000_000
#: the golden ratio: its multiples lie evenly in a circle of 2^32, however many of them are taken
_TURN, _CIRCLE = 2_654_435_769, 1 << 32
_VALUE = pl.col("series_only")
#: what decides of an event
_LOOKED_AT = ("component", "scope", "series_only", "candidates", "at", "seq", "tube_id", "conversation_id")
#: why either is left out
_REASON = pl.when(_VALUE).then(pl.lit("too_many_values")).otherwise(pl.lit("too_many_events"))
#: what is left out: the part, the rows of it that it lies between, and how much it is
LEFT_OUT = pl.Schema(dict.fromkeys(("component", "part", "first", "last", "lines"), pl.UInt32) | {"reason": pl.String})


def _weights(begins: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """What each event weighs, with its candidates, and the tubes and conversations that begin with it."""
    own = (("tube_id", TUBE_EVENTS), ("conversation_id", CONVERSATION_EVENTS))
    more = (pl.when(begins(pl.col(name)) & pl.col(name).is_not_null()).then(weight) for name, weight in own)
    return pl.sum_horizontal(pl.lit(1, pl.Int64), "candidates", *more)


def _weighed(events: pl.DataFrame) -> pl.DataFrame:
    """What events of each component and log (`scope`) weigh: `component`, `scope`, `weight`, `values`."""
    tubes, conversations = (
        pl.col(name).filter(~_VALUE).drop_nulls().n_unique() for name in ("tube_id", "conversation_id")
    )
    own = (1 + pl.col("candidates").cast(pl.Int64)).filter(~_VALUE).sum()
    weight = own + tubes * TUBE_EVENTS + conversations * CONVERSATION_EVENTS
    return events.group_by("component", "scope").agg(weight=weight, values=_VALUE.sum())


def _share(weights: Sequence[int]) -> int:
    """How much of what belongs together each log may have, so that all of them have no more than is allowed."""
    left = MOST_EVENTS
    for place, weight in enumerate(sorted(weights)):
        share = left // (len(weights) - place)
        if weight > share:
            return share
        left -= weight
    return MOST_EVENTS


def _first(told: pl.DataFrame, most: int) -> pl.Series:
    """Tell which events are the first ones that weigh no more."""
    return told.select(_weights(pl.Expr.is_first_distinct).cum_sum() <= most).to_series()


def _last(told: pl.DataFrame, most: int) -> pl.Series:
    """Tell which events are the last ones that weigh no more."""
    return told.select(_weights(pl.Expr.is_last_distinct).cum_sum(reverse=True) <= most).to_series()


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
    """Events of one batch as they come; `left_out` is as `LEFT_OUT`."""

    left_out: list[pl.DataFrame] = field(default_factory=list)
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _rows: int = 0
    #: of a component in a log that has too much of it, `seq` of the last of its first events
    _heads: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, events: pl.DataFrame) -> None:
        """Take some more."""
        self._frames.append(events)
        self._rows += len(events)
        if self._rows > LOOKED_AT:
            self._look(self._beyond_one_log)

    def events(self) -> pl.DataFrame:
        """All that are within the bounds."""
        self._look(self._beyond_one_log)
        self._look(_beyond_all_logs)
        return pl.concat(self._frames, rechunk=True)

    def _look(self, beyond: Callable[[pl.DataFrame], list[pl.Series]]) -> None:
        """Leave out rows that are beyond a bound."""
        events = pl.concat(self._frames)
        stays = pl.Series([True]).new_from_index(0, len(events))
        for rows in beyond(events.select(_LOOKED_AT).with_row_index()):
            stays = stays.scatter(rows, False)
        out = events.filter(~stays)
        if len(out):
            place = {"first": pl.col("at").min(), "last": pl.col("at").max(), "lines": pl.len()}
            told = out.group_by("component", "part", reason=_REASON).agg(**place)
            self.left_out.append(told.select(LEFT_OUT.names()).cast(LEFT_OUT))
            self._frames = [events.filter(stays)]
            self._rows = len(self._frames[0])

    def _beyond_one_log(self, events: pl.DataFrame) -> list[pl.Series]:
        """Rows beyond the bound of all in one log, and values: early or late, these are the same."""
        weighed = _weighed(events)
        heavy = weighed.filter(pl.col("weight") > MOST_EVENTS).select("component", "scope").rows()
        found = []
        # what was too much stays so: a little more may fit once some of it is left out
        for one in {*heavy, *self._heads}:
            told = _told(events, *one)
            first = _first(told, MOST_EVENTS // 2)
            # where the first ones end does not move when others, from further behind, come to stand next to them
            head = self._heads.setdefault(one, told["seq"][int(first.sum()) - 1])
            found.append(told["index"].filter(~_last(told, MOST_EVENTS // 2) & (told["seq"] > head)))
        counts = weighed.group_by("component").agg(pl.col("values").sum())
        for component in counts.filter(pl.col("values") > MOST_VALUES)["component"]:
            values = events.filter(_VALUE, pl.col("component") == component)
            turned = values["at"].cast(pl.UInt64) * _TURN % _CIRCLE
            found.append(values["index"].filter(turned > turned.sort()[MOST_VALUES - 1]))
        return found


def _told(events: pl.DataFrame, component: int, scope: int) -> pl.DataFrame:
    return events.filter(~_VALUE, pl.col("component") == component, pl.col("scope") == scope)


def _beyond_all_logs(events: pl.DataFrame) -> list[pl.Series]:
    """Rows of components that several logs have too much of together."""
    found = []
    heavy = _weighed(events).filter(pl.col("weight").sum().over("component") > MOST_EVENTS)
    for (component,), logs in heavy.group_by("component"):
        share = _share(logs["weight"].to_list())
        for scope in logs.filter(pl.col("weight") > share)["scope"]:
            told = _told(events, component, scope)
            found.append(told["index"].filter(~_first(told, share // 2) & ~_last(told, share // 2)))
    return found
