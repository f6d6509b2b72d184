"""What was counted of sources, part by part: what became of their records, shapes of unmatched ones, marks of releases.

Counts add up in any order, so those of the parts before a checkpoint can be kept and the others counted anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import polars as pl

from analyzer.accounting import ledger, releases
from analyzer.accounting.ledger import merge_coverage, merge_tallies
from analyzer.accounting.secrets import SECRETS, held
from analyzer.grammar.types import TIMESTAMP

_PLACE = ("source", "part")
_COUNT = pl.Int64()
#: of one record that a whole second stands for its time is chance, once in a thousand
SEVERAL_RECORDS = 3


def _by_part(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a batch with their source and part as one word, as which they are counted."""
    return frame.with_columns(source=pl.format("{}:{}", "part", "source"))


def _placed(counted: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    named = pl.col("source").str.splitn(":", 2).struct
    placed = counted.with_columns(part=named.field("field_0").cast(_COUNT), source=named.field("field_1"))
    return placed.select(like.columns).cast(like.schema)


@dataclass(frozen=True, slots=True)
class Account:
    """What the dataset keeps of the counts of one source, as plain values: frames of few rows are large."""

    #: counts, times and levels, as in the table of sources
    totals: Mapping[str, Any] = field(default_factory=lambda: dict.fromkeys(("records", *ledger.FATES), 0))
    #: kinds of secrets that it holds, as there
    secrets: Sequence[Mapping[str, Any]] = ()
    #: counts by target, as in the table of coverage: all but the source
    coverage: Sequence[tuple[Any, ...]] = ()
    #: shapes of what is unmatched: target, skeleton, count, line of the first
    unmatched: Sequence[tuple[Any, ...]] = ()


def _rows_of_each(frame: pl.DataFrame) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each source, in order, without its name; equal rows are one."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    alike: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for source, *values in frame.iter_rows():
        row = tuple(values)
        found.setdefault(source, []).append(alike.setdefault(row, row))
    return found


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of `source` and `part`: by target, by shape of what is unmatched, by mark of the release, by secret."""

    tallies: pl.DataFrame
    shapes: pl.DataFrame
    marks: pl.DataFrame
    secrets: pl.DataFrame

    def of(self, wanted: pl.Expr) -> Counted:
        """Keep the counts of some sources or parts."""
        return Counted(*(frame.filter(wanted) for frame in self.frames()))

    def frames(self) -> Iterable[pl.DataFrame]:
        """Its frames, in order."""
        return (getattr(self, one.name) for one in fields(self))

    def summed(self) -> Counted:
        """The same with one row for what was counted several times."""
        lines = (pl.col("line").min(),)
        found = (
            ledger.added(self.tallies, *_PLACE, "target"),
            ledger.added_shapes(self.shapes, *_PLACE),
            self.marks.group_by(*_PLACE, "mark").agg(pl.col("records").sum()),
            self.secrets.group_by(*_PLACE, "secret").agg(pl.col("records").sum(), *lines),
        )
        return Counted(*(frame.select(like.columns) for frame, like in zip(found, self.frames(), strict=True)))

    def whole_seconds(self) -> frozenset[str]:
        """Sources with several records, none of which has a time of more than whole seconds: they are cut.

        The first and the last time of each target stand for all of them: no sum of parts has others.
        """
        ends = ledger.added(self.tallies, "source", "target")
        times = pl.concat([ends.select("source", ts=name) for name in ("first_ts", "last_ts")]).drop_nulls().unique()
        several = ends.group_by("source").agg(pl.col("records").sum()).filter(pl.col("records") >= SEVERAL_RECORDS)
        cut = times.group_by("source").agg((pl.col("ts").dt.microsecond() == 0).all()).filter("ts")
        return frozenset(cut.join(several, on="source")["source"])

    @property
    def records(self) -> int:
        """All records."""
        return int(self.tallies["records"].sum())

    def accounts(self) -> dict[str, Account]:
        """What is kept of each source, by name; those that nothing was counted of are left out."""
        totals = json.loads(merge_tallies([self.tallies]).write_json())
        coverage, unmatched, secrets = (
            _rows_of_each(frame)
            for frame in (merge_coverage([self.tallies]), self._unmatched("source"), self._held("source"))
        )
        return {
            name: Account(
                row,
                [dict(zip(("secret", "records", "line"), held, strict=True)) for held in secrets.get(name, ())],
                coverage.get(name, []),
                unmatched.get(name, []),
            )
            for row in totals
            for name in (row.pop("source"),)
        }

    def _unmatched(self, *by: str) -> pl.DataFrame:
        """Shapes of what is unmatched: `target`, `skeleton`, `count`, `line` of the first."""
        return ledger.added_shapes(self.shapes, *by).sort("target", "skeleton")

    def _held(self, *by: str) -> pl.DataFrame:
        order = pl.col("secret").replace_strict({name: place for place, name in enumerate(SECRETS)})
        return self.secrets.group_by(*by, "secret").agg(pl.col("records").sum(), pl.col("line").min()).sort(order)

    def stored(self) -> dict[str, Any]:
        """The same as JSON, the parts taken together, without the name of the source."""
        tallies = ledger.added(self.tallies, "target")
        marks = self.marks.group_by("mark").agg(pl.col("records").sum())
        named = {
            "tallies": tallies.sort("target"),
            "shapes": self._unmatched(),
            "marks": marks.sort("mark"),
            "secrets": self._held(),
        }
        return {name: json.loads(frame.write_json()) for name, frame in named.items()}

    def named(self, source: str) -> Counted:
        """The same as counts of the first part of a source."""
        first = {"source": pl.lit(source), "part": pl.lit(0, pl.Int64)}
        none = nothing()
        named = (frame.with_columns(**first) for frame in self.frames())
        return Counted(*(frame.select(like.columns) for frame, like in zip(named, none.frames(), strict=True)))


@cache
def nothing() -> Counted:
    """No counts."""
    place = {"source": pl.String(), "part": _COUNT}
    fates = {"records": _COUNT, **dict.fromkeys(ledger.FATES, _COUNT)}
    times = {"first_ts": TIMESTAMP, "last_ts": TIMESTAMP, "levels": pl.List(pl.String())}
    return Counted(
        pl.DataFrame(schema={**place, "target": pl.String(), **fates, **times}),
        pl.DataFrame(schema={**place, "target": pl.String(), "skeleton": pl.String(), "count": _COUNT, "line": _COUNT}),
        pl.DataFrame(schema={**place, "mark": pl.String(), "records": _COUNT}),
        pl.DataFrame(schema={**place, "secret": pl.String(), "records": _COUNT, "line": _COUNT}),
    )


def added(parts: Iterable[Counted]) -> Counted:
    """Counts of several batches."""
    return Counted(*map(pl.concat, zip(*(one.frames() for one in (nothing(), *parts)), strict=True)))


def restored(entry: Mapping[str, Any]) -> Counted:
    """Counts as they were stored, of no source yet."""
    found = []
    for name, like in zip((one.name for one in fields(Counted)), nothing().frames(), strict=True):
        schema = {column: dtype for column, dtype in like.schema.items() if column not in _PLACE}
        found.append(
            pl.read_json(json.dumps(entry[name]).encode(), schema=schema)
            if entry[name]
            else pl.DataFrame(schema=schema)
        )
    return Counted(*found)


def counted(fates: pl.DataFrame, marks: Iterable[pl.DataFrame] = ()) -> Counted:
    """Count what became of the records of a batch (`plan.fates`), beside the `marks` found in it."""
    by_part, none = _by_part(fates), nothing()
    found = (
        [ledger.tally(ledger.alike(by_part, "source", "target", "fate"), "source")],
        [ledger.shapes(by_part, "source")],
        marks,
        (),
    )
    placed = ((_placed(one, like) for one in some) for some, like in zip(found, none.frames(), strict=True))
    return Counted(*(pl.concat([like, *some]) for some, like in zip(placed, none.frames(), strict=True)))


def settled(sifted: pl.DataFrame, one: tuple[str, int] | None = None) -> Counted:
    """Count what `sift` settled of records, by their source and part; the marks and secrets of all of them.

    Where all are of `one` source and part, it is told.
    """
    by, rows = ((), sifted) if one else (("source",), _by_part(sifted))
    # all that is told of a record but its shape and its secrets is told by its first words
    alike = ledger.alike(rows, *by, "target", "words", "fate")
    known = alike.filter(pl.col("fate").is_not_null())
    found = ledger.tally(known, *by), ledger.shapes(rows, *by), releases.worded(alike), held(rows, *by)
    if one is None:
        return Counted(*(_placed(some, like) for some, like in zip(found, nothing().frames(), strict=True)))
    place = {"source": pl.lit(one[0]), "part": pl.lit(one[1], _COUNT)}
    return Counted(
        *(some.with_columns(**place).select(like.columns) for some, like in zip(found, nothing().frames(), strict=True))
    )


def located(events: pl.DataFrame) -> pl.DataFrame:
    """Marks among the places in the library's source that a batch's events name."""
    return releases.located(_by_part(events.select("source", "part", "target", "kind", "location")))
