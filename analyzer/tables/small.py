"""Rows of a table kept small until they are written: a word that stands in a million rows is one word."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analyzer.tables.declare import Table

#: what is different in nearly every row
_UNALIKE = ("origin", "address")


def coded(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their words as codes; `Table.spelled` is the way back."""
    alike = [name for name, dtype in frame.schema.items() if dtype == pl.String and not name.endswith(_UNALIKE)]
    return frame.with_columns(pl.col(alike).cast(pl.Categorical))


def in_order(table: Table, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put coded parts of a table together, in its order."""
    if not parts:
        return coded(table.empty())
    # sorting a million rows by words would spell each of them out: the few different words are ranked instead
    rows = pl.concat(parts)

    def rank(name: str) -> pl.Series:
        if not isinstance(rows.schema[name], pl.Categorical):
            return rows[name]
        words = rows.select(pl.col(name).unique()).drop_nulls().sort(pl.col(name).cast(pl.String))
        ranks = words.with_row_index("rank")
        return rows.select(name).join(ranks, on=name, how="left", maintain_order="left")["rank"].alias(name)

    ranked = pl.DataFrame([rank(name) for name in table.sort])
    return rows[ranked.select(pl.arg_sort_by(table.order, nulls_last=True)).to_series()]
