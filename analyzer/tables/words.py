"""The words of ids, which stand in events as numbers: laid aside while all are correlated, looked up for a few."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from analyzer.errors import AccountingError
from analyzer.tables.declare import ID

#: words that are kept in memory; those of further events are laid aside
KEPT_WORDS = 100_000


@dataclass(slots=True)
class Words:
    """Frames of `id`, a number, and `word`, by the events that name them; `folder` takes what is too much to keep."""

    folder: Path
    #: `seq` of the first event of each frame
    _begins: list[int] = field(default_factory=list)
    _frames: list[pl.DataFrame | Path] = field(default_factory=list)

    def add(self, begin: int, words: pl.DataFrame) -> None:
        """Take the words of some events, the first of which is `begin`; they come in the order of events."""
        self._begins.append(begin)
        kept = sum(len(frame) for frame in self._frames if isinstance(frame, pl.DataFrame))
        if kept + len(words) <= KEPT_WORDS:
            self._frames.append(words)
            return
        path = self.folder / f"words-{len(self._frames)}.chunk"
        words.write_parquet(path, compression="lz4", statistics=False)
        self._frames.append(path)

    def near(self, events: pl.DataFrame, *ids: pl.Series) -> pl.DataFrame:
        """Words of all `ids`, which are numbers, that were named with `events`, which are in order."""
        ends = [*(events["seq"].search_sorted(begin) for begin in self._begins), len(events)]
        return self._of(ids, [number for number, end in enumerate(ends[1:]) if ends[number] < end])

    def anywhere(self, *ids: pl.Series) -> pl.DataFrame:
        """Words of all `ids`, whichever events named them."""
        return self._of(ids, range(len(self._frames)))

    def _of(self, ids: Iterable[pl.Series], numbers: Iterable[int]) -> pl.DataFrame:
        wanted = pl.concat([some.alias("id") for some in ids]).unique().to_frame()
        found = [pl.DataFrame(schema={"id": wanted.schema["id"], "word": pl.String()})]
        for number in numbers:
            frame = self._frames[number]
            words = pl.read_parquet(frame, glob=False) if isinstance(frame, Path) else frame
            found.append(words.join(wanted, on="id", how="semi"))
        return pl.concat(found).unique()


def spelled(rows: pl.DataFrame, words: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Rows whose columns of these `names` are words instead of numbers, by the `words` that `Words` gives.

    Raises:
        AccountingError: two ids have one number, or one has no word.
    """
    if words["id"].n_unique() < len(words):
        raise AccountingError("two ids of these logs have one number", "that happens once in millions of datasets")
    known = words.with_columns(pl.col("word").cast(ID))
    for name in names:
        found = rows.select(id=name).join(known, on="id", how="left", maintain_order="left")["word"]
        if found.null_count() > rows[name].null_count():
            raise AccountingError(f"not every {name} that was found has a word", "nothing was written; report it")
        rows = rows.with_columns(found.alias(name))
    return rows
