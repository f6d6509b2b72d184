"""Events as they may be kept: public addresses of endpoints as the dataset's policy leaves them, before any is stored.

Which columns hold whose address is declared once, by the terminals that the grammars capture them with
(`grammar/types.py`): every text is looked through but what is declared a server's, so a new column is covered.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import get_args

import polars as pl

from analyzer.addresses import Form, Policy, hidden_values, may_name_one
from analyzer.events.envelope import typed_columns
from analyzer.events.targets import stem
from analyzer.grammar import grammar
from analyzer.grammar.pattern import captures
from analyzer.grammar.types import TYPES, Holds

#: values of lists that are looked at together
PORTION = 20_000
_TEXTS = pl.List(pl.String())
#: where branches of a kind capture a column by several terminals, the one that hides most counts
_STRICTEST: tuple[Holds, ...] = ("address", "endpoint", "text", "server", "none")
#: a candidate in split fields: its own address is a relay's by its type
_RELAYED = pl.col("candidate_type").str.to_lowercase() == "relay"


@cache
def holds(target: str, kind: str) -> dict[str, Holds]:
    """What each text of a kind's events holds of addresses, by column; columns of the tail's ids are texts."""
    name = stem(target)
    kinds = () if name is None else grammar(name).kinds
    found: dict[str, Holds] = {}
    for capture in (capture for one in kinds if one.name == kind for capture in captures(one.sequence)):
        told = TYPES[capture.terminal].holds
        found[capture.column] = min(told, found.get(capture.column, told), key=_STRICTEST.index)
    return found


def _hidden(rows: pl.DataFrame, policy: Policy) -> pl.Series:
    """The texts `value` of rows that are of one `column`, each by the kind it stands in (`target`, `kind`)."""
    kinds = rows.select("target", "kind", "column").unique()
    forms = [holds(target, kind).get(column, "text") for target, kind, column in kinds.rows()]
    if set(forms) == {"text"}:
        return hidden_values(rows["value"], policy, "text")
    told = rows.join(
        kinds.with_columns(form=pl.Series(forms, dtype=pl.String)),
        on=["target", "kind", "column"],
        how="left",
        maintain_order="left",
    )
    values = told["value"]
    form: Form
    for form in get_args(Form):
        asked = told["form"].eq(form).arg_true()
        if len(asked):
            values = values.scatter(asked, hidden_values(values.gather(asked), policy, form))
    return values


def _hidden_in_portions(rows: pl.DataFrame, policy: Policy) -> pl.Series:
    """The same, a portion at a time: a batch has many more values of lists than rows, and takes several times them."""
    return pl.concat([_hidden(some, policy) for some in rows.iter_slices(PORTION)], rechunk=True)


def _is_asked(values: pl.Series, kinds: Iterable[tuple[str, str]]) -> bool:
    """Whether a column of texts has to be looked through: few hold what looks like an address."""
    # a kind has no value in a column that it does not capture
    forms = {told[values.name] for told in (holds(target, kind) for target, kind in kinds) if values.name in told}
    forms = forms or {"text"}
    return not forms <= {"server", "none"} and (not forms.isdisjoint({"address", "endpoint"}) or may_name_one(values))


def _column(events: pl.DataFrame, name: str, policy: Policy) -> pl.Series:
    """One column of texts."""
    is_own = (pl.lit(name) == "address") & _RELAYED.fill_null(False)
    asked = events.select(pl.col(name).is_not_null() & ~is_own).to_series().arg_true()
    rows = events.select("target", "kind", column=pl.lit(name), value=name)[asked]
    return events[name].scatter(asked, _hidden(rows, policy)) if len(rows) else events[name]


def _lists(events: pl.DataFrame, name: str, policy: Policy) -> pl.Series:
    """One column of lists: of texts, or of keys and values, where the key is the column."""
    asked = (events[name].list.len() > 0).fill_null(False).arg_true()
    if asked.is_empty():
        return events[name]
    rows = events.select("target", "kind", value=name)[asked].with_row_index("row").explode("value")
    if events.schema[name] == _TEXTS:
        told = rows.with_columns(column=pl.lit(name))
        kept = told.with_columns(value=_hidden_in_portions(told, policy))
    else:
        told = rows.unnest("value").rename({"key": "column"})
        kept = told.select("row", value=pl.struct(key="column", value=_hidden_in_portions(told, policy)))
    lists = kept.group_by("row", maintain_order=True).agg("value")["value"]
    row = pl.int_range(len(events), eager=True)
    placed = pl.DataFrame({"row": row.gather(asked), "kept": lists})
    both = events.select(name).with_columns(row=row).join(placed, on="row", how="left", maintain_order="left")
    return both.select(pl.coalesce("kept", name).alias(name)).to_series()


def hidden_endpoints(events: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """The same events, with public addresses of endpoints as the policy leaves them; those of servers stay.

    Rows depend on themselves alone, so any batches give the same.
    """
    if policy.name == "raw":
        return events
    typed = [name for name, dtype in typed_columns().items() if events[name].null_count() < len(events)]
    kinds = events.select("target", "kind").unique().rows()
    named = [name for name in typed if typed_columns()[name] == pl.String()]
    texts = [_column(events, name, policy) for name in named if _is_asked(events[name], kinds)]
    lists = [_lists(events, name, policy) for name in typed if typed_columns()[name] == _TEXTS]
    return events.with_columns(*texts, *lists, _lists(events, "fields", policy))
