"""What a dataset knows of each source, kept as the text that the manifest has: as values it is four times as large."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

#: what the manifest has of one source
Entry: TypeAlias = dict[str, Any]
#: what tells the entry of a source among the objects of a manifest
_KEYS = {"row", "parts"}


def _text(entry: Entry) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def packed(value: Entry) -> Entry | bytes:
    """An object of a manifest as it is read: the entry of a source as its text."""
    return _text(value) if value.keys() >= _KEYS else value


class Entries(MutableMapping[str, Entry]):
    """Entries by identity, in its order. An entry that is looked up is a copy: to change one, set it."""

    def __init__(self, entries: Mapping[str, Entry | bytes] | None = None) -> None:
        given = (entries or {}).items()
        self._texts = {one: entry if isinstance(entry, bytes) else _text(entry) for one, entry in given}

    def copy(self) -> Entries:
        """The same entries, to be changed apart."""
        return Entries(self._texts)

    def of(self, identities: Iterable[str]) -> Entries:
        """Those of some sources, as far as they are known."""
        return Entries({one: self._texts[one] for one in identities if one in self._texts})

    def alike(self, other: Entries, identity: str) -> bool:
        """Whether both know the same of a source."""
        return self._texts.get(identity) == other._texts.get(identity)

    def having(self, key: str) -> set[str]:
        """Identities of those that may have a key."""
        named = json.dumps(key).encode()
        return {one for one, text in self._texts.items() if named in text}

    def __getitem__(self, identity: str) -> Entry:
        entry: Entry = json.loads(self._texts[identity])
        return entry

    def __setitem__(self, identity: str, entry: Entry) -> None:
        self._texts[identity] = _text(entry)

    def __delitem__(self, identity: str) -> None:
        del self._texts[identity]

    def __contains__(self, identity: object) -> bool:
        return identity in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._texts))

    def __len__(self) -> int:
        return len(self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entries) and self._texts == other._texts

    __hash__ = None  # type: ignore[assignment] # it changes


def note_duplicates(entries: MutableMapping[str, Entry], found: Iterable[tuple[str, int]]) -> None:
    """Enter how many events of each source tell what was told before: `found` has some for its identity, or several."""
    counts: Counter[str] = Counter()
    for identity, events in found:
        counts[identity] += events
    for identity in entries:
        entry = entries[identity]
        if entry["row"].get("duplicates") != counts[identity]:
            entry["row"]["duplicates"] = counts[identity]
            entries[identity] = entry


def note_left_out(entries: Entries, found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Enter what of each source no table tells of: `found` has rows of `refusals` for its identity, if any."""
    for identity in entries.having("left_out") | found.keys():
        entry = entries[identity]
        entry["left_out"] = found.get(identity, [])
        entries[identity] = {key: value for key, value in entry.items() if key != "left_out" or value}
