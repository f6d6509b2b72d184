"""The declaration language of tables: one value per column says its name, dtype, unit, meaning and how it is found.

From a declaration follow the Polars schema, the Arrow schema with its metadata in every Parquet file, the check that a
frame conforms, and the printed data dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

SCHEMA_VERSION = "3"
#: ids while rows are made: words of a dictionary of their own, which goes when nothing holds a word of it
ID = pl.Categorical(pl.Categories("id", "analyzer"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `doc` says what it means and, where it is computed, the formula; `unit` is UCUM-like (`ms`, `By`)."""

    name: str
    dtype: pl.DataType
    doc: str
    unit: str = ""
    #: event kinds the value is found from
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A column with the expression that finds it, over the frame of facts its table is selected from."""

    name: str
    dtype: pl.DataType
    doc: str
    expr: pl.Expr
    unit: str = ""
    source: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the dataset: what a row is, its columns in order, and what sorts its rows (nothing: they stay).

    Its schemas are made once: a file of a few rows is written sooner than they are.
    """

    name: str
    row: str
    columns: tuple[Column | Metric, ...]
    sort: tuple[str, ...]

    @cached_property
    def schema(self) -> pl.Schema:
        """Polars schema, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def order(self) -> list[pl.Expr]:
        """What sorts its rows; of origins the line counts as a number, so that line 9 comes before line 10."""
        origin = pl.col("origin").str
        # patterns would take longer than the sorting
        source = origin.strip_chars_end("0123456789")
        as_place = [source.str.strip_suffix(":"), origin.strip_prefix(source).cast(pl.Int64, strict=False)]
        return [key for name in self.sort for key in (as_place if name == "origin" else [pl.col(name)])]

    def select(self, facts: pl.DataFrame) -> pl.DataFrame:
        """Compute every metric and take every column from a frame of facts."""
        return self.conform(
            facts.select(
                column.expr.alias(column.name) if isinstance(column, Metric) else pl.col(column.name)
                for column in self.columns
            )
        )

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns in declared order and dtype, rows in declared order; a missing column is null.

        Raises:
            ValueError: the frame has a column the table does not declare.
        """
        shaped = self._shaped(frame, ())
        return shaped.sort(self.order, nulls_last=True) if self.sort else shaped

    def loose(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns in declared order; words may stay codes, and rows stand in any order: `small` spells and sorts them.

        Raises:
            ValueError: the frame has a column the table does not declare.
        """
        return self._shaped(frame, (pl.Categorical(), ID))

    def _shaped(self, frame: pl.DataFrame, allowed: tuple[pl.DataType, ...]) -> pl.DataFrame:
        schema, given = self.schema, frame.schema
        if unknown := set(given) - set(schema):
            raise ValueError(f"table {self.name} does not declare {', '.join(sorted(unknown))}")
        return frame.select(
            pl.col(name) if given.get(name) in (dtype, *allowed)
            else (pl.col(name) if name in given else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in schema.items()
        )  # fmt: skip

    def spelled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Spell out rows that were kept small: words from codes, `origin` from `source` and `line`."""
        if "origin" in self.schema and "origin" not in frame.columns:
            frame = frame.with_columns(origin=pl.format("{}:{}", pl.col("source").cast(pl.String), "line"))
        if list(frame.schema.items()) == list(self.schema.items()):
            return frame
        return frame.select(self.schema.names()).cast(self.schema)

    def empty(self) -> pl.DataFrame:
        """A frame of this table without rows."""
        return pl.DataFrame(schema=self.schema)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema with units, docs and the schema version in its metadata."""
        bare = self.empty().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        fields = [
            bare.field(column.name).with_metadata(
                {"doc": column.doc, **({"unit": column.unit} if column.unit else {}),
                 **({"source": ", ".join(column.source)} if column.source else {})}
            )
            for column in self.columns
        ]  # fmt: skip
        return pa.schema(fields, metadata={"schema_version": SCHEMA_VERSION, "table": self.name, "row": self.row})
