"""What a dataset knows of each source, kept as compressed text: as values it is thirty times as large."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

#: what the manifest has of one source
Entry: TypeAlias = dict[str, Any]
#: what tells the entry of a source among the objects of a manifest
_KEYS = {"row", "parts"}
#: so much of a text helps to compress another one like it
_WINDOW = 1 << 15


def _text(entry: Entry) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


class Entries(MutableMapping[str, Entry]):
    """Entries by identity, in its order. An entry that is looked up is a copy: to change one, set it."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        #: the first text: what all say is not kept in each
        self._like = b""

    def pack(self, value: Entry) -> Entry | bytes:
        """An object of a manifest as it is read: the entry of a source as it is kept, to be taken."""
        return self._pack(_text(value)) if value.keys() >= _KEYS else value

    def take(self, entries: Mapping[str, Entry | bytes]) -> None:
        """Keep entries, be they packed already or not."""
        for one, entry in entries.items():
            self._packed[one] = entry if isinstance(entry, bytes) else self._pack(_text(entry))

    def _pack(self, text: bytes) -> bytes:
        self._like = self._like or text[-_WINDOW:]
        packer = zlib.compressobj(1, zdict=self._like)
        return packer.compress(text) + packer.flush()

    def _unpacked(self, identity: str) -> bytes:
        return zlib.decompressobj(zdict=self._like).decompress(self._packed[identity])

    def copy(self) -> Entries:
        """The same entries, to be changed apart."""
        return self.of(self._packed)

    def of(self, identities: Iterable[str]) -> Entries:
        """Those of some sources, as far as they are known."""
        some = Entries()
        some._like = self._like
        some._packed = {one: self._packed[one] for one in identities if one in self._packed}
        return some

    def alike(self, other: Entries, identity: str) -> bool:
        """Whether both know the same of a source."""
        if identity not in self or identity not in other:
            return identity not in self and identity not in other
        # most are copies of one another
        same = self._packed[identity] is other._packed[identity] and self._like is other._like
        return same or self._unpacked(identity) == other._unpacked(identity)

    def having(self, key: str) -> set[str]:
        """Identities of those that may have a key."""
        named = json.dumps(key).encode()
        return {one for one in self._packed if named in self._unpacked(one)}

    def __getitem__(self, identity: str) -> Entry:
        entry: Entry = json.loads(self._unpacked(identity))
        return entry

    def __setitem__(self, identity: str, entry: Entry) -> None:
        self._packed[identity] = self._pack(_text(entry))

    def __delitem__(self, identity: str) -> None:
        del self._packed[identity]

    def __contains__(self, identity: object) -> bool:
        return identity in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._packed))

    def __len__(self) -> int:
        return len(self._packed)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Entries)
            and self._packed.keys() == other._packed.keys()
            and all(self.alike(other, one) for one in self._packed)
        )

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
