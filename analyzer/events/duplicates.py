"""Events told twice: a log that was delivered again, lines that several handlers write, a copy of a log.

To lose nothing, a shipper may send again what it has sent; a program whose logger has two handlers writes every line
twice; and who collects logs may have one of them in two files. No number may depend on that, so an event counts once.
Two lines tell one event where they say the same at the same time, and one of three things proves that they are no two
events which look alike: time went back between them, nearly all lines of their log stand so often, or they stand in two
logs that speak of the same tube. Lines without a time are never taken for the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from analyzer.events.envelope import ENVELOPE, typed_columns
from analyzer.events.portions import in_portions
from analyzer.grammar.types import TIMESTAMP

#: lines of several threads may stand this much out of order
DISORDER = pl.duration(seconds=1)
#: so many handlers may write a line
HANDLERS = (4, 3, 2)
#: a share of a log's lines that stand so often, and a number of lines, which are no accident
HANDLED_SHARE, HANDLED_EVENTS = 0.9, 12
#: and a share of lines that say what the line before says, without which it is not looked for
BESIDE_SHARE = 0.25
#: what tells whether a log may tell events twice
LOOKED_AT = ("ts", "kind", "tube_id", "conversation_id", "state")
#: known events are looked up in so many frames, then these are made one
MOST_RUNS = 16


def said() -> tuple[str, ...]:
    """The columns that two lines of one event share: not where a line stands, nor what a wrapper may add or drop."""
    of_line = ("level", "source", "line", "origin", "location")
    return *(name for name in ENVELOPE if name not in of_line), *typed_columns(), "fields"


_SPANS: dict[str, pl.DataType] = {"scope": pl.UInt32(), "low": TIMESTAMP, "high": TIMESTAMP}


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Logs that may tell events twice.

    `scopes`: scope; `group`, the same for logs that speak of the same tubes; and `handlers`, how many write each line.
    `spans`: the times that a group may tell twice, as group, low and high, apart and in order.
    """

    scopes: pl.DataFrame
    spans: pl.DataFrame


def _merged(spans: pl.DataFrame, key: str) -> pl.DataFrame:
    """Spans of time, those of one key that overlap made one, in order."""
    apart = (pl.col("low") > pl.col("high").cum_max().shift().over(key)).fill_null(False)
    numbered = spans.sort(key, "low").with_columns(number=apart.cum_sum())
    merged = numbered.group_by(key, "number", maintain_order=True).agg(pl.col("low").min(), pl.col("high").max())
    return merged.select(key, "low", "high")


def _groups(pairs: pl.DataFrame) -> pl.DataFrame:
    """Scopes that share tubes, directly or by way of others: scope, and group, the least of them."""
    least = pl.col("scope").min().over("tube").alias("least")
    several = pl.col("scope") != pl.col("least")
    tied = in_portions(pairs, pl.col("tube"), lambda some: some.with_columns(least).filter(several))
    found: dict[int, int] = {}

    def root(scope: int) -> int:
        while found.setdefault(scope, scope) != scope:
            scope = found[scope]
        return scope

    for pair in tied.select("scope", "least").unique().rows():
        low, high = sorted(map(root, pair))
        found[high] = low
    rows = [(scope, root(scope)) for scope in sorted(found)]
    return pl.DataFrame(rows, schema={"scope": pl.UInt32, "group": pl.UInt32}, orient="row")


class Look:
    """A first look at all events, in order: are there any that may be told twice? Hardly any log has some."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tubes = [pl.DataFrame(schema={"scope": pl.UInt32, "tube": pl.UInt64})]
        self._gone_through = [pl.DataFrame(schema=_SPANS)]
        self._times = [pl.DataFrame(schema={**_SPANS, "lines": pl.UInt32})]
        self._often = [pl.DataFrame(schema={"scope": pl.UInt32, "times": pl.UInt32, "often": pl.UInt32})]
        #: of scopes that go on the latest time, and that of the last line
        self._carried = pl.DataFrame(schema={"scope": pl.UInt32, "ts": TIMESTAMP, "said": pl.UInt64})

    def at(self, events: pl.DataFrame, goes_on: Collection[int]) -> None:
        """Look at some events, which have `scope` and `LOOKED_AT`; `goes_on` are those with more to come."""
        named = events.filter(pl.col("tube_id").is_not_null())
        self._tubes.append(named.select("scope", tube=pl.col("tube_id").hash()).unique())
        timed = events.select("scope", "ts", said=pl.struct(LOOKED_AT).hash()).filter(pl.col("ts").is_not_null())
        self._times.append(timed.group_by("scope").agg(low=pl.col("ts").min(), high=pl.col("ts").max(), lines=pl.len()))
        # `said` is null where a row is carried
        rows = pl.concat([self._carried, timed]).with_columns(
            back=went_back(pl.col("ts").shift().over("scope")), high=pl.col("ts").cum_max().shift().over("scope")
        )
        back = rows.filter("back", pl.col("said").is_not_null())
        self._gone_through.append(_merged(back.select("scope", "high", low=pl.col("ts") - DISORDER), "scope"))
        # where lines stand several times, many say what the one before said
        if (timed["said"] == timed["said"].shift()).sum() >= BESIDE_SHARE * len(timed):
            told = rows.filter(pl.col("said").is_not_null()).group_by("scope", "said", pl.col("back").cum_sum())
            self._often.append(told.len("times").group_by("scope", "times").len("often"))
        ends = rows.filter(pl.col("scope").is_in(goes_on)).group_by("scope", maintain_order=True)
        kept = ends.agg(ts=pl.concat_list(pl.col("ts").max(), pl.col("ts").last()).first())
        self._carried = kept.explode("ts").with_columns(said=pl.lit(None, pl.UInt64))

    def found(self) -> Doubtful | None:
        """Tell which logs may tell events twice; None where there is no such log."""
        sums = (pl.col("low").min(), pl.col("high").max(), pl.col("lines").sum())
        times = pl.concat(self._times).group_by("scope").agg(sums)
        groups, handled = _groups(pl.concat(self._tubes)), self._handled(times)
        own = pl.concat([*self._gone_through, times.join(handled, on="scope", how="semi").select(list(_SPANS))])
        alone = own.join(groups, on="scope", how="anti").select("scope", group="scope").unique()
        grouped = pl.concat([groups, alone])
        # of two logs at a time: when both were written
        before = pl.col("high").cum_max().shift().over("group")
        together = times.join(grouped, on="scope").sort("group", "low", "scope").with_columns(before=before)
        both = together.filter(pl.col("low") <= pl.col("before")).with_columns(high=pl.min_horizontal("high", "before"))
        twice = [frame.select("group", "low", "high") for frame in (own.join(grouped, on="scope"), both)]
        spans = _merged(pl.concat(twice), "group")
        if spans.is_empty():
            return None
        scopes = grouped.join(spans, on="group", how="semi").join(handled, on="scope", how="left").sort("scope")
        return Doubtful(scopes.with_columns(pl.col("handlers").fill_null(1)), spans)

    def _handled(self, times: pl.DataFrame) -> pl.DataFrame:
        """Scopes of which several `handlers` wrote each line."""
        told = pl.concat(self._often).join(times, on="scope").filter(pl.col("lines") >= HANDLED_EVENTS)
        lines = pl.col("times") * pl.col("often")
        needed = HANDLED_SHARE * pl.col("lines").first()
        most = [
            pl.when(lines.filter(pl.col("times") % count == 0).sum() >= needed).then(pl.lit(count, pl.UInt32))
            for count in HANDLERS
        ]
        return told.group_by("scope").agg(handlers=pl.coalesce(most)).drop_nulls()


def went_back(before: pl.Expr) -> pl.Expr:
    """Whether `ts` is earlier than that of the line before by more than disorder."""
    return (pl.col("ts") < before - DISORDER).fill_null(False)


class Deliveries:
    """What doubtful logs have told so far, each event with the delivery that told it first.

    A delivery is a stretch of a log in which time does not go back; they are numbered as they come.
    """

    def __init__(self, doubtful: Doubtful) -> None:
        """Begin with nothing told."""
        self._doubtful = doubtful
        self._known: list[pl.DataFrame] = []
        #: the last delivery, and the scope and time of its last line
        self._delivery = 0
        self._last = pl.DataFrame(schema={"scope": pl.UInt32, "ts": TIMESTAMP})
        #: lines that not all handlers have written yet
        self._written = pl.DataFrame(schema={"said": pl.UInt64, "delivery": pl.UInt32, "written": pl.UInt32})

    def again(self, events: pl.DataFrame) -> pl.Series:
        """Say of events whether one before told the same.

        They have a `scope` and the columns that are `said`, and stand in order, one scope after the other.
        """
        told = self._in_doubt(events)
        known = self._first(told["said"])
        found = told.with_columns(known, first=pl.col("delivery").min().over("said"))
        again = found.select(pl.col("delivery") > pl.min_horizontal("first", "known")).to_series()
        if (told["handlers"] > 1).any():
            again |= self._by_another(told)
        self._learn(found.filter(pl.col("known").is_null()).select("said", delivery="first").unique())
        return pl.Series([False]).new_from_index(0, len(events)).scatter(told["at"].filter(again), True)

    def _numbered(self, events: pl.DataFrame) -> pl.Series:
        """The delivery of each event."""
        latest = pl.col("ts").forward_fill().over("scope")
        rows = pl.concat([self._last, events.select("scope", "ts")]).with_columns(latest)
        other = pl.col("scope") != pl.col("scope").shift()
        begins = other.fill_null(True) | went_back(pl.col("ts").shift())
        numbers = rows.select(begins.cast(pl.UInt32).cum_sum() + self._delivery).to_series().tail(len(events))
        # the row before was counted in its own frame
        numbers = numbers - len(self._last)
        self._delivery, self._last = max([self._delivery, *numbers.tail(1)]), rows.tail(1)
        return numbers

    def _in_doubt(self, events: pl.DataFrame) -> pl.DataFrame:
        """Those of the times that may be told twice: `at`, `said`, `delivery`, `handlers`."""
        rows = events.select("scope", "ts", said=pl.struct(said()).hash()).with_row_index("at")
        rows = rows.with_columns(delivery=self._numbered(events)).join(self._doubtful.scopes, on="scope")
        timed = rows.filter(pl.col("ts").is_not_null()).sort("ts", maintain_order=True)
        near = timed.join_asof(
            self._doubtful.spans, left_on="ts", right_on="low", by="group", check_sortedness=False
        ).filter(pl.col("ts") <= pl.col("high"))
        # the same words in logs that have nothing to do with one another are two events
        key = pl.struct("group", "said").hash()
        return near.select("at", "delivery", "handlers", said=key).sort("at")

    def _by_another(self, told: pl.DataFrame) -> pl.Series:
        """Of lines that stand several times in one delivery all but one for all of its handlers."""
        key = ["said", "delivery"]
        numbered = told.join(self._written, on=key, how="left", maintain_order="left").select(
            *key, "handlers", nth=pl.int_range(pl.len()).over(key) + pl.col("written").fill_null(0)
        )
        counted = numbered.group_by(key).agg(
            pl.col("handlers").first(), written=(pl.col("nth").max() + 1).cast(pl.UInt32)
        )
        # the end of a part may come between
        self._written = counted.filter(pl.col("written") % pl.col("handlers") != 0).drop("handlers")
        return numbered["nth"] % numbered["handlers"] != 0

    def _first(self, wanted: pl.Series) -> pl.Series:
        """The delivery that told each first; null where none did."""
        found = pl.Series("known", [None], pl.UInt32).new_from_index(0, len(wanted))
        for run in self._known:
            near = run[run["said"].search_sorted(wanted).clip(upper_bound=len(run) - 1)]
            found = near["delivery"].zip_with(near["said"] == wanted, found)
        return found.alias("known")

    def _learn(self, new: pl.DataFrame) -> None:
        if len(new):
            self._known.append(new.sort("said"))
        if len(self._known) > MOST_RUNS:
            self._known = [pl.concat(self._known).sort("said")]
