"""Power cuts, by a model of a disk that keeps nothing but what it was told to keep.

A run is recorded; then, after each of its operations, the power goes. What is on the disk: of a file what was synced,
or some of the rest; of names those whose folder was synced, and any of the others. Assumed is that one rename happens
or does not, which ext4, XFS and btrfs promise, and nothing about the order of two.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.faults import Disk, Op
from tests.crash.seen import live
from tests.crash.trial import Ground, forked, judge, lay

#: what a file holds of what was written and not synced
UNSYNCED = ("nothing", "half", "all")
#: a path → what it holds; None: it is a folder
Tree = dict[str, bytes | None]


@dataclass(slots=True)
class _Node:
    """A file or folder, whatever its name: what is kept of it, and what was written."""

    is_folder: bool
    kept: bytes = b""
    written: bytearray = field(default_factory=bytearray)

    def after(self, unsynced: str) -> bytes:
        if unsynced == "all":
            return bytes(self.written)
        return self.kept if unsynced == "nothing" else self.kept + bytes(self.written[len(self.kept) :: 2])


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of names, each (folder, name); what loses a name and what gets one."""

    node: int
    lost: tuple[int, str] | None = None
    got: tuple[int, str] | None = None

    def touches(self, folder: int) -> bool:
        return any(place is not None and place[0] == folder for place in (self.lost, self.got))

    def apply(self, names: dict[tuple[int, str], int]) -> None:
        if self.lost and names.get(self.lost) == self.node:
            del names[self.lost]
        if self.got:
            names[self.got] = self.node


class _Model:
    """The disk: its nodes, the names that are kept, and the changes that are not yet."""

    def __init__(self, top: Path) -> None:
        self.nodes = [_Node(is_folder=True)]
        self.now: dict[str, int] = {str(top): 0}
        self.kept: dict[tuple[int, str], int] = {}
        self.pending: list[_Change] = []
        for path in sorted(top.rglob("*")):
            self._make(path, is_folder=path.is_dir())
            node = self.nodes[-1]
            node.kept = b"" if node.is_folder else path.read_bytes()
            node.written = bytearray(node.kept)
        for change in self.pending:
            change.apply(self.kept)
        self.pending = []

    def _place(self, path: Path) -> tuple[int, str]:
        return self.now[str(path.parent)], path.name

    def _make(self, path: Path, *, is_folder: bool) -> None:
        self.nodes.append(_Node(is_folder))
        self.now[str(path)] = len(self.nodes) - 1
        self.pending.append(_Change(len(self.nodes) - 1, got=self._place(path)))

    def do(self, op: Op) -> None:
        path = Path(op.path)
        if op.name in ("create", "mkdir"):
            if op.path not in self.now:
                self._make(path, is_folder=op.name == "mkdir")
        elif op.name == "write":
            written = self.nodes[self.now[op.path]].written
            written[op.offset : op.offset + len(op.data)] = op.data
        elif op.name == "fsync":
            at = self.now[op.path]
            self.nodes[at].kept = bytes(self.nodes[at].written)
            for change in [one for one in self.pending if one.touches(at)]:
                change.apply(self.kept)
                self.pending.remove(change)
        elif op.name in ("unlink", "rmdir"):
            if op.path in self.now:
                self.pending.append(_Change(self.now.pop(op.path), lost=self._place(path)))
        elif op.name == "rename":
            node = self.now.pop(op.path)
            self.pending.append(_Change(node, lost=self._place(path), got=self._place(Path(op.target))))
            self.now[op.target] = node

    def tree(self, changes: list[_Change], unsynced: str) -> Tree:
        """What is on the disk if, of the changes that nobody synced, these were kept."""
        names = dict(self.kept)
        for change in changes:
            change.apply(names)

        def below(folder: int, prefix: str) -> Iterator[tuple[str, bytes | None]]:
            for (parent, name), node in names.items():
                if parent == folder:
                    found = self.nodes[node]
                    yield f"{prefix}{name}", None if found.is_folder else found.after(unsynced)
                    if found.is_folder:
                        yield from below(node, f"{prefix}{name}/")

        return dict(below(0, ""))

    def trees(self) -> Iterator[Tree]:
        """Everything that may be on the disk now: no change, each beginning of them, each alone, each left out."""
        count = len(self.pending)
        kept = {tuple(range(size)) for size in range(count + 1)} | {(one,) for one in range(count)}
        kept |= {tuple(one for one in range(count) if one != out) for out in range(count)}
        for chosen in sorted(kept):
            for unsynced in UNSYNCED:
                yield self.tree([self.pending[one] for one in chosen], unsynced)


def record(ground: Ground) -> tuple[_Model, list[Op]]:
    """Run the deed once; the disk before it and what was done to it."""
    out = ground.folder / "power" / "metrics"
    lay(ground, out)
    model = _Model(out.parent)

    def work() -> int:
        disk = Disk(out, keep_data=True)
        disk.install()
        code = ground.scenario.deed(out)
        (ground.folder / "ops.pickle").write_bytes(pickle.dumps(disk.ops))
        return code

    code, said = forked(work, ground.folder / "said")
    assert not code, said
    shutil.rmtree(out.parent)
    return model, pickle.loads((ground.folder / "ops.pickle").read_bytes())  # noqa: S301 - our own, a moment old


def _key(tree: Tree) -> str:
    """What tells one disk from another. A stage that is not sealed is dropped unread and tells nothing."""
    sealed = "metrics/_analyzer/commit.json" in tree
    told = hashlib.sha256()
    for path, data in sorted(tree.items()):
        if sealed or "/stage" not in path:
            told.update(path.encode() + b"\0" + (hashlib.sha256(data).digest() if data is not None else b""))
    return told.hexdigest()


def disks(model: _Model, ops: list[Op]) -> tuple[list[Tree], list[Tree]]:
    """The different disks that a power cut may leave during a run, and those it may leave after it."""
    during: dict[str, Tree] = {}
    for op in ops:
        # whatever was written so far is there, half there or not there before the next operation of another sort
        if op.name not in ("write", "open", "chmod"):
            during |= {_key(tree): tree for tree in model.trees()}
        model.do(op)
    return list(during.values()), list({_key(tree): tree for tree in model.trees()}.values())


def _write(tree: Tree, top: Path) -> None:
    top.mkdir(parents=True)
    for path, data in tree.items():
        if data is None:
            (top / path).mkdir(mode=0o700)
        else:
            (top / path).write_bytes(data)


def cut(ground: Ground, sample: int = 0) -> tuple[int, list[str]]:
    """Judge what power cuts leave of a deed, or of a sample; how many disks, and what was wrong."""
    model, ops = record(ground)
    during, after = disks(model, ops)
    if sample and sample < len(during):
        during = random.Random(4).sample(during, sample)
    wrong: list[str] = []
    for number, tree in enumerate((*during, *after)):
        folder = ground.folder / f"cut-{number}"
        _write(tree, folder)
        out, is_over = folder / "metrics", number >= len(during)

        def judged(out: Path = out, is_over: bool = is_over) -> int:
            found = ["what was done is lost"] if is_over and live(out) != live(ground.new) else []
            (out.parent / "found.json").write_text(json.dumps([*found, *judge(ground, out)]))
            return 0

        code, said = forked(judged, folder / "said")
        found = json.loads((folder / "found.json").read_text()) if not code else [said[-1500:]]
        wrong += [f"{ground.scenario.name}, power cut {number}: {one}" for one in found]
        shutil.rmtree(folder)
    return len(during) + len(after), wrong
