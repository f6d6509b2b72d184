"""Which tube met which: the one of the other side, where a conversation has one of each."""

from __future__ import annotations

import polars as pl

OTHER_SIDE = {"client": "gateway", "gateway": "client"}


def set_up_once(links: pl.DataFrame, tubes: pl.DataFrame) -> pl.DataFrame:
    """Conversations with one tube of each side at most, and these: `conversation_id`, `tube_id`, `side`.

    Each further round may have gone another way. `links` and `tubes` as in `Facts`.
    """
    ends = links.select("conversation_id", "tube_id").join(tubes.select("tube_id", "side"), on="tube_id")
    return ends.filter(~pl.struct("conversation_id", "side").is_duplicated().any().over("conversation_id"))


def met(links: pl.DataFrame, tubes: pl.DataFrame) -> pl.LazyFrame:
    """Tubes with the one they met, `tube_id` and `peer`, none that met several; `links` and `tubes` as in `Facts`.

    With several tubes of one side in turn, which of them met the other's is not told.
    """
    ends = links.lazy().select("conversation_id", "tube_id").join(tubes.lazy().select("tube_id", "side"), on="tube_id")
    sole = ends.filter(pl.len().over("conversation_id", "side") == 1).drop_nulls("side")
    both = sole.join(sole, on="conversation_id", suffix="_peer").filter(pl.col("side") != pl.col("side_peer"))
    # two that share several conversations met once
    return both.select("tube_id", peer="tube_id_peer").unique().unique("tube_id", keep="none")
