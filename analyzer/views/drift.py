"""What the library reported beside what its lines prove, field by field, to be handed to the library's developers.

In: the tables `reported`, `ice_stats`, `connection_legs`. Out: per field how often the two agree, and an example of
each way in which they do not. A value that was rebuilt from the library's own word proves nothing about that word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from analyzer.api import Dataset
from analyzer.catalogue import TABLES
from analyzer.reductions.reported import REPORTED_FIELDS
from analyzer.tables.declare import Table
from analyzer.views.conversations import EMPTY
from analyzer.views.live_stats import ICE_FIELDS, LEG_FIELDS, PAIR_FIELDS
from analyzer.views.text import NOTHING, Cell, Paint, counted, grid, number, plain, shown

Row: TypeAlias = dict[str, Any]

#: two durations agree within the larger of the two; counts and words agree when they are equal
TOLERANCE_MS, TOLERANCE_SHARE = 1.0, 0.05
#: from here on, either way, a number of milliseconds is a date: as a duration it is three years
EPOCH_MS = 1e11
#: the column of a line that holds a reading of a clock, of whatever size
CLOCK_COLUMN = "timestamp_ms"

#: what may be wrong with a value; the worst first
FAULTS = {
    "differs": "another value than the lines prove",
    "clock": f"a clock's time where a duration is meant: printed as `timestamp`, or beyond ±{EPOCH_MS:,.0f} ms",
    "zero": "0 or empty where the lines prove a value; 0.0 ms agrees with 0 alone",
    "silent": "not printed for a tube whose lines prove a value; the library's API may still have it",
    "open": "something said, and nothing proven to hold against it",
}
#: everything that is counted; `neither` is a 0 or nothing said where nothing is proven
VERDICTS = ("agrees", *FAULTS, "neither")
COUNTS = ("said", *VERDICTS[:-1])
LEGEND = {
    "said": "values printed, each change once per tube; a 0 where nothing is proven is counted here alone",
    "agrees": f"a duration within {TOLERANCE_MS:g} ms or {TOLERANCE_SHARE:.0%}, a count or a word exactly",
    **FAULTS,
}
REMARK = (
    "Nothing counts as proven in a tube of several ICE generations, or where a value was rebuilt from the library's\n"
    "own word. A rebuilt round trip is an estimate: half of them are within 1 ms, nine in ten within 5 ms."
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field under the library's name, and the column of ours that says the same of the same tube."""

    name: str
    table: Table
    column: str

    @property
    def unit(self) -> str:
        """Unit of both values."""
        return next(column.unit for column in self.table.columns if column.name == self.column)

    @property
    def method(self) -> str | None:
        """Column that names how the rebuilt value was found: the longest that the value's name begins with."""
        stems = [name.removesuffix("_method") for name in self.table.schema if name.endswith("_method")]
        return max((f"{stem}_method" for stem in stems if self.column.startswith(stem)), key=len, default=None)

    @property
    def is_clock(self) -> bool:
        """Whether the library fills it with readings of a clock."""
        return any(name == self.name and column == CLOCK_COLUMN for name, _, column in REPORTED_FIELDS)


_ICE, _LEGS = TABLES["ice_stats"], TABLES["connection_legs"]
#: fields held against another column than the one of that name: their lines speak of one tube, legs of a conversation
_SAME_TUBE = {
    "connection_legs.ice_connection_establishment_ms": "connection_time_ms",
    "rtc_stats.rtt_ms": "current_rtt_ms",
}
#: fields that no line names: what the library makes them of, which is what stands under `said`
DERIVED = {
    "connection_legs.ice_connection_establishment_ms": (
        "no line has this field: the library sets it to the `duration` of its line `ICE gathering completed`,\n"
        "first candidate → gathering complete; that is held here against ICE checking → connected"
    ),
}
_OF_LEGS = {f"connection_legs.{name}": name for name in LEG_FIELDS}
#: the library's statistics as the API nests them, and what else it reports
FIELDS: tuple[Field, ...] = (
    *(Field(f"ice_stats.{name}", _ICE, name) for name in ICE_FIELDS),
    *(Field(f"ice_stats.selected_candidate_pair.{name}", _ICE, column) for name, column in PAIR_FIELDS.items()),
    *(Field(name, _LEGS, column) for name, column in _OF_LEGS.items() if name not in _SAME_TUBE),
    *(Field(name, _ICE, column) for name, column in _SAME_TUBE.items()),
)  # fmt: skip


def proven(field: Field, ice: pl.DataFrame, legs: pl.DataFrame) -> pl.DataFrame:
    """What the lines prove of a field: conversation_id, tube_id, side, rebuilt, method; null where nothing."""
    frame = ice if field.table is _ICE else legs
    # of several the last, as the library keeps them
    value = pl.col(field.column)
    value = value.list.last() if isinstance(frame.schema[field.column], pl.List) else value
    method = pl.col(field.method) if field.method else pl.lit(None, pl.String)
    # of a restarted tube ours is the first generation or all of them, the library's the one it is in
    single = pl.col("generations").fill_null(1) == 1 if field.table is _ICE else pl.lit(True)
    return frame.select(
        "conversation_id",
        tube_id=pl.col("tube_id") if field.table is _ICE else pl.lit(None, pl.String),
        side=pl.col("side") if field.table is _ICE else pl.lit(None, pl.String),
        rebuilt=pl.when(single, method.ne_missing(pl.lit("reported"))).then(value),
        method=method,
    )


def compare(field: Field, said: pl.DataFrame, rebuilt: pl.DataFrame) -> pl.DataFrame:
    """Hold every value the library printed for a field against the rebuilt one, and every rebuilt one it kept back.

    Columns: those of `proven` and `reported`, verdict, and off, by how much the two are apart.
    """
    key = ["conversation_id", "tube_id"] if field.table is _ICE else ["conversation_id"]
    # a line that names no tube may be of any tube of its conversation: none of them is said to be silent
    anyone = said.filter(pl.col("tube_id").is_null()).select("conversation_id").unique()
    known = rebuilt if field.table is _ICE else rebuilt.drop("tube_id", "side")
    printed = said.join(known, on=key, how="left").with_columns(verdict=_verdict(field, rebuilt.schema["rebuilt"]))
    kept_back = (
        rebuilt.filter(pl.col("rebuilt").is_not_null())
        .join(said, on=key, how="anti")
        .join(anyone, on="conversation_id", how="anti")
        .with_columns(verdict=pl.lit("silent"))
    )
    both = pl.concat([printed, kept_back], how="diagonal")
    is_word = both.schema["rebuilt"] == pl.String
    off = pl.lit(0.0) if is_word else (_number(pl.col("value")) - pl.col("rebuilt")).abs()
    # which clock it is, is told by the reading alone
    return both.with_columns(
        off=pl.when(pl.col("verdict") == "clock").then(_number(pl.col("value")).abs()).otherwise(off)
    )


def _number(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Float64, strict=False)


def _verdict(field: Field, dtype: pl.DataType) -> pl.Expr:
    value, rebuilt = pl.col("value"), pl.col("rebuilt")
    as_number = _number(value)
    says_nothing = value.str.strip_chars().is_in(["", "None", "null"]) | (as_number == 0).fill_null(False)
    if dtype == pl.String:
        agrees = value == rebuilt
    elif field.unit == "ms":
        # 0.0 is how the library says that it measured nothing: it agrees with nothing but 0
        near = (as_number - rebuilt).abs() <= pl.max_horizontal(pl.lit(TOLERANCE_MS), rebuilt.abs() * TOLERANCE_SHARE)
        agrees = pl.when(as_number == 0).then(rebuilt == 0).otherwise(near)
    else:
        agrees = as_number == rebuilt
    is_clock = pl.lit(field.is_clock) | ((as_number.abs() >= EPOCH_MS) & pl.lit(field.unit == "ms"))
    return (
        pl.when(is_clock.fill_null(False)).then(pl.lit("clock"))
        .when(rebuilt.is_null() & says_nothing).then(pl.lit("neither"))
        .when(rebuilt.is_null()).then(pl.lit("open"))
        .when(agrees.fill_null(False)).then(pl.lit("agrees"))
        .when(says_nothing).then(pl.lit("zero"))
        .otherwise(pl.lit("differs"))
    )  # fmt: skip


def note(verdict: str, value: str | None) -> str | None:
    """Say what a reading of a clock is: an epoch time, one that went into a difference, or a younger clock's."""
    if verdict != "clock" or value is None:
        return None
    if abs(float(value)) < EPOCH_MS:
        return "a reading of a clock, not a duration"
    return "an epoch time, not a duration" if float(value) > 0 else "an epoch time was subtracted: no duration"


def _examples(field: Field, rows: pl.DataFrame) -> Iterator[Row]:
    """One example of each fault: the middle one, neither the mildest nor the most striking; of clocks the plainest."""
    for fault in FAULTS:
        found = rows.filter(verdict=fault).sort("off", "conversation_id", "tube_id", "origin", nulls_last=True)
        if found.is_empty():
            continue
        row = found.row(-1 if fault == "clock" else (len(found) - 1) // 2, named=True)
        yield {
            "verdict": fault,
            "reported": row["value"],
            "note": note(fault, row["value"]),
            "rebuilt": row["rebuilt"],
            "method": row["method"] if row["rebuilt"] is not None else None,
            "conversation_id": row["conversation_id"],
            "tube_id": row["tube_id"],
            "side": row.get("side"),
            "ts": row["ts"],
            "origin": row["origin"],
            "release": row["release"],
        }


def _of_field(field: Field, rows: pl.DataFrame) -> Row:
    counts = {verdict: rows.filter(verdict=verdict).height for verdict in VERDICTS}
    return {
        "field": field.name,
        "rebuilt_as": f"{field.table.name}.{field.column}",
        "unit": field.unit or None,
        "derived": DERIVED.get(field.name, "").replace("\n", " ") or None,
        "said": rows.height - counts["silent"],
        **counts,
        "examples": list(_examples(field, rows)),
    }


def _badness(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """Rank fields: what was said wrongly before what was not said."""
    return -(row["clock"] + row["differs"] + row["zero"]), -row["silent"], row["field"]


def gather(dataset: Dataset) -> Row:
    """Gather the verdicts on every field, the most often wrong first, and apart those that were never printed."""
    ice, legs = dataset.ice_stats.collect(), dataset.connection_legs.collect()
    releases = dataset.sources.select(source="name", release="producer_version_hint").unique("source", keep="first")
    reported = (
        dataset.reported.with_columns(source=pl.col("origin").str.replace(r":[0-9]+$", ""))
        .join(releases, on="source", how="left")
        .drop("source")
        .collect()
    )
    rows = [
        _of_field(field, compare(field, reported.filter(field=field.name), proven(field, ice, legs)))
        for field in FIELDS
    ]
    ranked = sorted(rows, key=_badness)
    return {
        "conversations": dataset.conversations.select(pl.len()).collect().item(),
        "tolerance": {"duration_ms": TOLERANCE_MS, "duration_share": TOLERANCE_SHARE, "epoch_from_ms": EPOCH_MS},
        "legend": LEGEND,
        "fields": [row for row in ranked if row["said"]],
        "never_reported": [row for row in ranked if not row["said"]],
    }


# -- drawing ----------------------------------------------------------------------------------------------------------


def _rebuilt(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    value = one["rebuilt"]
    if value is None:
        return NOTHING
    text = number(value, row["unit"] if row["unit"] == "ms" else "") if isinstance(value, float | int) else shown(value)
    return f"{text} ({shown(one['method'])})" if one["method"] else text


def _whose(one: Mapping[str, Any]) -> str:
    tube = f"tube {shown(one['tube_id'])}" if one["tube_id"] else ""
    return ", ".join(filter(None, (f"conversation {shown(one['conversation_id'] or NOTHING)}", one["side"], tube)))


def _example(row: Mapping[str, Any], one: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    said = "not printed" if one["reported"] is None else f"reported {shown(one['reported'])}"
    remark = f", {one['note']}" if one["note"] else ""
    yield f"  {paint(one['verdict'].ljust(7), 'bold')}  {said}{remark}; rebuilt {_rebuilt(row, one)}"
    yield f"           {_whose(one)}"
    if one["origin"]:
        release = f", release {shown(one['release'])}" if one["release"] else ""
        yield f"           {shown(one['origin'])}{release}"


def _overview(rows: Iterable[Mapping[str, Any]], paint: Paint) -> list[str]:
    heads = ("field", *COUNTS)
    cells: list[list[Cell | str]] = [[[(head, "bold")] for head in heads]]
    cells += [[row["field"], *(f"{row[count]:,}" for count in COUNTS)] for row in rows]
    return grid(cells, paint, right=range(1, len(heads)), indent=0)


def _legend(paint: Paint) -> list[str]:
    lines = grid([[name, meaning] for name, meaning in LEGEND.items()], plain, indent=0)
    return [paint(line, "dim") for line in (*lines, *REMARK.split("\n"))]


def _never(rows: Iterable[Mapping[str, Any]], paint: Paint) -> list[str]:
    heads = ("never reported", "proven", "for example", "in conversation")
    cells: list[list[Cell | str]] = [[[(head, "bold")] for head in heads]]
    for row in rows:
        example = row["examples"][0] if row["examples"] else None
        shared = [_rebuilt(row, example), shown(example["conversation_id"])] if example else []
        cells.append([row["field"], f"{row['silent']:,}", *shared])
    return grid(cells, paint, right=(1,), indent=0)


def render(values: Mapping[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw the counts, then one example of each fault, then what was never printed."""
    if not values["conversations"]:
        return EMPTY.format(path=shown(path))
    fields, never = values["fields"], values["never_reported"]
    total = f"{counted(values['conversations'], 'conversation')} in {shown(path)}; the field most often wrong first"
    lines = [*_overview(fields, paint), "", paint(total, "dim"), *_legend(paint)] if fields else [paint(total, "dim")]
    for row in fields:
        if row["examples"]:
            lines += ["", paint(row["field"], "bold") + f", rebuilt as {row['rebuilt_as']}"]
            lines += [f"  {paint(line, 'dim')}" for line in DERIVED.get(row["field"], "").splitlines()]
            lines += [line for one in row["examples"] for line in _example(row, one, paint)]
    return "\n".join([*lines, "", *_never(never, paint)] if never else lines)
