"""Which release of the library wrote a source: an interval, from the wordings and source locations of its records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache

import polars as pl

from analyzer.accounting.release_marks import (
    DIALECTS,
    FOLDERS,
    LOCATED_IN,
    LOCATIONS,
    NO_LOCATIONS_UNTIL,
    PUBLISHED,
    WORDINGS,
)
from analyzer.events.targets import LIBRARY
from analyzer.tables.declare import Column

#: so many different marks, none against another, are strong evidence
STRONG = 5
#: marks that are no wording: what the locations as a whole say
_BARE = "no source location"
_FOLDER = "source location in "

COLUMNS = (
    Column("producer_version_hint", pl.String(), "Release of the library in short: the two bounds as one text."),
    Column(
        "producer_release_low", pl.String(),
        "Earliest release that can have written all of its marks, wordings and source locations that only some releases have; null: no mark bounds it.",
    ),
    Column(
        "producer_release_high", pl.String(),
        f"Latest such release; null: no mark bounds it, so it may be newer than {LOCATED_IN[-1]}, the newest that marks are known of.",
    ),
    Column(
        "producer_release_confidence", pl.String(),
        f"`strong`: {STRONG} different marks or more that agree; `weak`: fewer; `mixed`: no one release writes all of them, as in a log that another release went on with, and the bounds span them all; null: no mark.",
    ),
    Column("producer_release_marks", pl.Int64(), "Different marks seen.", unit="{mark}"),
    Column(
        "producer_release_evidence", pl.List(pl.String()),
        "The marks that make the bounds, with the records that bear them: `>=2.1.17: Skipping … ×3`.",
    ),
)  # fmt: skip

Span = tuple[str | None, str | None]


def order(release: str) -> tuple[int, ...]:
    """Spell a release so that it compares as releases do."""
    return tuple(int(part) for part in release.split("."))


def _runs(lines: Sequence[int | None]) -> Iterator[tuple[int, Span]]:
    """Find where each line number can be met: between the neighbours, among the releases run, that have another."""
    for line in dict.fromkeys(lines):
        if line is not None:
            at = [place for place, other in enumerate(lines) if other == line]
            before, after = LOCATED_IN[at[0] - 1 : at[0]] if at[0] else (), LOCATED_IN[at[-1] + 1 : at[-1] + 2]
            since = PUBLISHED[PUBLISHED.index(before[0]) + 1] if before else None
            yield line, (since, PUBLISHED[PUBLISHED.index(after[0]) - 1] if after else None)


@cache
def spans() -> Mapping[str, Span]:
    """The releases that can bear each mark."""
    found: dict[str, Span] = {words: (since, until) for words, since, until in WORDINGS}
    for what, lines in LOCATIONS.items():
        found |= {f"{what}:{line}": span for line, span in _runs(lines)}
    found |= {_FOLDER + folder: (since, until) for folder, since, until in FOLDERS}
    return found | {_BARE: (None, NO_LOCATIONS_UNTIL)} | DIALECTS


_OWN = pl.col("target").str.starts_with(LIBRARY)
_SCHEMA = {"source": pl.String(), "mark": pl.String(), "records": pl.Int64()}


def _known(marks: pl.DataFrame) -> pl.DataFrame:
    """Keep what is a mark, as rows in a memory of their own: they outlive the batch."""
    found = marks.filter(pl.col("mark").is_in(list(spans())))
    schema = {name: kind for name, kind in _SCHEMA.items() if name in found.columns}
    return pl.DataFrame(found.select(pl.col(name).cast(kind) for name, kind in schema.items()).rows(), schema=schema, orient="row")  # fmt: skip


def worded(records: pl.DataFrame) -> pl.DataFrame:
    """Count the wordings among the first `words` of `records`: mark, records, of each source; mergeable.

    Few messages are different in their first words, so the records come counted (`accounting.alike`).
    """
    return _known(records.filter(_OWN).with_columns(mark=pl.col("words").str.strip_chars()))


def located(events: pl.DataFrame) -> pl.DataFrame:
    """Count what the locations of a batch's events tell: source, mark, records; mergeable."""
    own = events.filter(_OWN).group_by("source", "kind", "location").agg(records=pl.len())
    place = pl.col("location").str.replace_all("\\", "/", literal=True)
    marks = (
        pl.concat_str("kind", pl.lit(" "), place.str.extract("((?:^|/)src/.*)$").str.strip_prefix("/")),
        pl.coalesce(_FOLDER + place.str.extract("^(.*src/)[^:]*:"), pl.lit(_BARE)),
    )
    return _known(pl.concat([own.select("source", "records", mark=mark) for mark in marks]))


def estimate(parts: Sequence[pl.DataFrame], dialects: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """Estimate the release of each source from the marks of all batches: the columns above, by source.

    Args:
        parts: what `worded` and `located` found.
        dialects: the layout of each source.
    """
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    if parts:
        total = pl.concat(parts).group_by("source", "mark").agg(pl.col("records").sum())
        for source, mark, records in total.sort("source", "mark").rows():
            seen[source][mark] = records
    for source, dialect in dialects.items():
        for told in DIALECTS.keys() & {dialect.rsplit("/")[-1]} if seen[source] else ():
            # its messages are spelled anew on the way here, and none of the wheels that were looked into wrote it
            seen[source] = {told: sum(seen[source].values())}
    return {source: _bounded(tuple(seen[source].items())) for source in dialects}


@lru_cache(maxsize=1024)
def _bounded(marks: tuple[tuple[str, int], ...]) -> Mapping[str, object]:
    """Bound a release by its marks and how many records bear each. Small logs have few, and many have the same."""
    seen = dict(marks)
    if any(mark.startswith(_FOLDER) for mark in seen):
        seen = {mark: records for mark, records in seen.items() if mark != _BARE}
    held = {mark: spans()[mark] for mark in seen}
    lows = {mark: since for mark, (since, _) in held.items() if since}
    highs = {mark: until for mark, (_, until) in held.items() if until}
    low = max(lows.values(), key=order, default=None)
    high = min(highs.values(), key=order, default=None)
    mixed = low is not None and high is not None and order(low) > order(high)
    if low is not None and high is not None and mixed:
        # one release is not after `high`, another not before `low`: from the first one's low to the second one's high
        early = [since for since in lows.values() if order(since) <= order(high)]
        late = [until for until in highs.values() if order(until) >= order(low)]
        low, high = max(early, key=order, default=None), min(late, key=order, default=None)
    made = [f">={low}: {mark} ×{seen[mark]}" for mark, since in lows.items() if since == low]
    made += [f"<={high}: {mark} ×{seen[mark]}" for mark, until in highs.items() if until == high]
    bounding = len(lows.keys() | highs.keys())
    return {
        "producer_version_hint": _hint(low, high),
        "producer_release_low": low,
        "producer_release_high": high,
        "producer_release_confidence": (
            None if not bounding else "mixed" if mixed else "strong" if bounding >= STRONG else "weak"
        ),
        "producer_release_marks": bounding or None,
        "producer_release_evidence": made or None,
    }


def _hint(low: str | None, high: str | None) -> str | None:
    if low and high:
        return low if low == high else f"{low}-{high}"
    return f">={low}" if low else f"<={high}" if high else None
