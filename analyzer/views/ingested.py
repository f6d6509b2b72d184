"""What an ingest did, for a person: what was read, what it was, what came of it, and what to do next."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from analyzer.api import Dataset
from analyzer.events.rotation import numbered
from analyzer.pipeline import Ingested
from analyzer.refusals import REASONS
from analyzer.views.text import WIDTH, Cell, Paint, counted, grid, plain, shown, size

UNTIMED = "its records have no times: a line inside a message that looks like a record is taken for one"
FATES = {
    "events": "a rule took them",
    "noise": "of other programs, or known to inform nothing",
    "unmatched": "of the library's own, and no rule takes them",
    "rejected": "lines that belong to no record",
}
UNKNOWN = "unknown"
#: what a policy keeps of an address, in a few words
KEPT = {
    "hash": "a pseudonym each",
    "masked": "their networks only",
    "class": "not kept",
    "raw": "kept as they are",
}
#: a runner-up with this share of the winner's votes makes a vote worth telling
CONTESTED = 0.5
#: so many sources of one remark are named
NAMED = 12


def _rows(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sources one by one: as values, all of a hundred thousand take more memory than reading them did."""
    return iter(values["sources"].iter_rows(named=True))


def unreadable(values: dict[str, Any]) -> str | None:
    """Say so where not one record of what was given could be read."""
    if any(source["records"] > source["rejected"] for source in _rows(values)):
        return None
    given = values["given"]
    return "the one source has no record" if given == 1 else f"none of the {given:,} sources has a record"


def gather(done: Ingested, dataset: Dataset) -> dict[str, Any]:
    """Gather the outcome: totals, the table of its sources, and counts of the conversations of the whole dataset."""
    connected = dataset.conversations.select("connected").collect().to_series()
    sources = done.sources
    dialects = sources["dialect"].value_counts().sort("count", "dialect", descending=[True, False]).rows()
    seen = dataset.relay_sessions.select("conversation_id").collect().to_series()
    return {
        "changed": done.changed,
        "addresses": done.addresses,
        "given": done.given,
        "records_added": done.added,
        "conversations_rebuilt": done.rebuilt,
        "already_known": [{"name": name, "known_as": known_as} for name, known_as in done.known],
        "totals": {name: int(sources[name].sum()) for name in ("bytes", "lines", "records", *FATES)},
        "dialects": dict(sorted(dialects, key=lambda one: one[0] == UNKNOWN)),
        "releases": _releases(sources),
        "refusals": _refused(done.refusals),
        "conversations": {
            "total": len(connected),
            "connected": int(connected.fill_null(False).sum()),
            "not_connected": int((~connected.fill_null(True)).sum()),
            "unknown": connected.null_count(),
        },
        "relay_sessions": {
            "total": len(seen),
            "joined": len(seen) - seen.null_count(),
        },
        "sources": sources,
    }


def as_values(values: dict[str, Any]) -> dict[str, Any]:
    """The same as plain values, each source an object."""
    return {**values, "sources": values["sources"].to_dicts()}


def _refused(refusals: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Add up what was refused by reason, in the order of reasons: rows of `refusals`, whole lines, and bytes known."""
    sums = refusals.group_by("reason").agg(pl.len().alias("rows"), pl.col("lines", "bytes").sum())
    found = {row.pop("reason"): row for row in sums.to_dicts()}
    return {reason: found[reason] for reason in REASONS if reason in found}


def _releases(sources: pl.DataFrame) -> dict[str, int]:
    """Count the estimates of the producer's release, the most frequent first."""
    estimates = sources.select(f"producer_release_{name}" for name in ("low", "high", "confidence"))
    told = Counter(
        (" to ".join(dict.fromkeys((low, high))) if low and high else f"{low} or newer" if low else f"{high} or older")
        + (", mixed" if confidence == "mixed" else "")
        for low, high, confidence in estimates.iter_rows()
        if low or high
    )
    return dict(sorted(told.items(), key=lambda one: (-one[1], one[0])))


def _votes(source: dict[str, Any]) -> list[tuple[str, int]]:
    pairs = (vote.rsplit(" ", 1) for vote in (source["dialect_votes"] or "").split(", ") if vote)
    return [(name, int(count)) for name, count in pairs]


def _remarks(source: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Find what a user should know about one source, with a rank: the graver the lower."""
    if source["problem"]:
        broke_off = f"reading broke off ({source['problem']}); what came before is in the tables"
        yield 0, broke_off if source["bytes"] else f"not read: {source['problem']}"
    votes = _votes(source)
    overruled = bool(votes) and votes[0][0] != source["dialect"]
    unread = source["lines"] > 0 and source["records"] == source["rejected"]
    if unread and overruled:
        name, count = votes[0]
        yield 0, f"no line is in dialect {source['dialect']}; {count:,} of them are in {name}: leave out --dialect"
        return
    if len(votes) > 1 and not overruled and votes[1][1] >= CONTESTED * votes[0][1]:
        told = ", ".join(f"{name} {count}" for name, count in votes)
        yield 1, f"its dialect was a close vote: {told}; --dialect decides"
    if source["pending_bytes"]:
        yield 2, f"{source['pending_bytes']:,} B of a last line wait for its end; --final reads them"
    if source["duplicates"]:
        yield 5, _told_before(source["duplicates"], source["events"])
    if numbered(source["name"]):
        yield 5, "another log of that name is in the dataset, which is why this one has a number"
    if source["cut_lines"]:
        yield 2, f"{counted(source['cut_lines'], 'line')} longer than the limit, cut there"
    if unread:
        dialect = "no known dialect" if source["dialect"] == UNKNOWN else f"none is in dialect {source['dialect']}"
        yield 4, f"{counted(source['lines'], 'line')} set aside: {dialect}; see --dialect"
    elif not source["events"] and not source["problem"] and not source["pending_bytes"]:
        yield 3, "empty" if not source["lines"] else "nothing recognised: no DEBUG line of the library in it"
    elif source["header"] == "untimed":
        yield 6, UNTIMED


def _told_before(duplicates: int, events: int) -> str:
    """Say that events count once, and where the others are."""
    if duplicates == events:
        return f"a copy of what another log tells: its {counted(events, 'event')} count once"
    return f"{duplicates:,} of its {events:,} events repeat earlier lines, its own or another log's: they count once"


def _conversations(counts: dict[str, int]) -> str:
    named = {"connected": "connected", "not_connected": "not connected", "unknown": "not told"}
    return ", ".join(f"{counts[key]} {name}" for key, name in named.items() if counts[key] or key == "connected")


def _read(values: dict[str, Any], path: object) -> list[str]:
    """Say what was given, and how much of it was new."""
    totals, known = values["totals"], values["already_known"]
    given = values["given"]
    if not values["changed"]:
        return [f"{counted(given, 'source')}: nothing new, {shown(path)} is as it was"]
    lines = [f"{counted(given, 'source')}, {counted(totals['lines'], 'line')}, {size(totals['bytes'])}"]
    if values["records_added"] != totals["records"]:
        lines.append(f"{values['records_added']:,} of the records below are new, the others were there before")
    if known:
        lines.append(f"{counted(len(known), 'source')} of the same bytes as one that was read before: added once")
    return lines


def _doubled(values: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Inputs whose bytes the dataset has under another name, the one in its tables; empty ones are alike."""
    empty = {source["name"] for source in _rows(values) if not source["bytes"]}
    for one in values["already_known"]:
        if one["name"] == one["known_as"]:
            continue
        if one["known_as"] in empty:
            yield 3, one["name"], "empty"
        else:
            yield 5, one["name"], f"has the same bytes as {one['known_as']}: in the tables by that name"


def _tables(values: dict[str, Any], paint: Paint) -> list[str]:
    totals = values["totals"]
    rows = []
    for name in ("dialects", "releases"):
        listed = ", ".join(f"{one} ({count})" for one, count in values[name].items())
        wrapped = textwrap.wrap(shown(listed), WIDTH - 12)
        rows += [(name if not place else "", line) for place, line in enumerate(wrapped)]
    fates: list[list[Cell | str]] = [
        [f"  {name}", f"{totals[name]:,}", [(meaning, "dim")]] for name, meaning in FATES.items()
    ]
    meaning = [("entries of a log, each of one line or several", "dim")]
    records: list[list[Cell | str]] = [["records", f"{totals['records']:,}", meaning], *fates]
    return [*grid(rows, paint), *grid(records, paint, right=(1,))]


def _secrets(values: dict[str, Any], paint: Paint) -> list[str]:
    """Say which secrets the sources hold, and where each is first met."""
    found: dict[str, tuple[int, str]] = {}
    for source in _rows(values):
        for one in source["secrets"] or ():
            records, place = found.get(one["secret"], (0, f"{source['name']}:{one['line']}"))
            found[one["secret"]] = records + one["records"], place
    if not found:
        return []
    rows: list[list[Cell | str]] = [
        [f"  {shown(name.replace('_', ' '))}", f"{records:,}", [(f"first at {shown(place)}", "dim")]]
        for name, (records, place) in found.items()
    ]
    return [
        "",
        paint("The logs hold secrets; the dataset does not.", "yellow"),
        *grid(rows, paint, right=(1,)),
        "  before they are handed on: analyzer redact LOGS -o DIR",
    ]


def render(values: dict[str, Any], path: object, paint: Paint = plain) -> str:
    """Draw up the summary."""
    lines, found = _read(values, path), values["conversations"]
    if len(values["sources"]):
        lines += _tables(values, paint)
    some = values["conversations_rebuilt"] < found["total"] and values["changed"]
    rebuilt = f"; {values['conversations_rebuilt']:,} of them rebuilt" if some else ""
    lines.append(
        f"  conversations in {shown(path)}: {paint(str(found['total']), 'bold')}, {_conversations(found)}{rebuilt}"
    )
    if found["total"]:
        lines.append(f"  public addresses of endpoints: {KEPT[values['addresses']]}; see --addresses")
    relay = values["relay_sessions"]
    if relay["total"]:
        lines.append(f"  relay sessions, by the relay's own log: {relay['total']}, {relay['joined']} of them joined")
    if values["refusals"]:
        listed = ", ".join(f"{reason} {one['lines'] or one['rows']:,}" for reason, one in values["refusals"].items())
        told = f"refused, in lines or pieces: {listed}; the table refusals says where"
        lines += textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ")
    remarked = sorted(
        [
            *((rank, source["name"], remark) for source in _rows(values) for rank, remark in _remarks(source)),
            *_doubled(values),
        ],
        key=lambda one: one[0],
    )
    if remarked:
        lines += ["", *grid([[shown(name), shown(remark)] for _, name, remark in remarked[:NAMED]], paint)]
        if len(remarked) > NAMED:
            lines.append(f"  and {len(remarked) - NAMED} more; --json lists every source")
    lines += _secrets(values, paint)
    option = "" if str(path) == "metrics" else f" --data {shown(path)}"
    if found["total"]:
        return "\n".join([*lines, "", f"Next: analyzer summarize{option}"])
    if relay["total"]:
        lines += [
            "",
            "The relay's sessions are in the table relay_sessions; logs of the two sides tell whose they are.",
        ]
    return "\n".join([*lines, "", "No conversation yet: logs of the library at DEBUG level are needed."])
