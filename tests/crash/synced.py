"""What of a run is not on the disk when it ends: from the operations that an interposer or strace has seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.crash.faults import Op

STRACE = shutil.which("strace")
_CALLS = "openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"
_CALL = re.compile(r"\d+ +(\w+)\((.*)")
_NAMES = {"fdatasync": "fsync", "pwrite64": "write", "writev": "write"}


def unsynced(ops: Sequence[Op], out: Path) -> Iterator[str]:
    """Files written and names changed without a sync after it. The stage, emptied in the end, is not looked at."""
    files: set[str] = set()
    folders: dict[str, str] = {}
    for op in ops:
        changed = {"create": [op.path], "mkdir": [op.path], "unlink": [op.path], "rename": [op.path, op.target]}
        for path in changed.get(op.name, []):
            folders[os.path.dirname(path)] = f"{op.name} {path}"  # noqa: PTH120 - as strace spells it
        if op.name == "write":
            files.add(op.path)
        elif op.name == "fsync":
            files.discard(op.path)
            folders.pop(op.path, None)
        elif op.name == "rename" and op.path in files:
            yield f"{op.target} got its name before its bytes were synced"
        elif op.name == "unlink":
            files.discard(op.path)
    kept = str(out / "_analyzer" / "stage")
    yield from (f"{path} is not synced" for path in sorted(files) if path.startswith(str(out)))
    yield from (f"{path} is not synced after {why}" for path, why in folders.items() if path != kept)


def traced(out: Path, logs: Sequence[Path]) -> list[Op]:
    """Run `analyzer ingest` under strace; what it did to the disk below the folder that holds `out`."""
    log = out.parent / "strace"
    command = [STRACE or "strace", "-f", "-y", "-s", "0", "-o", str(log), "-e", f"trace={_CALLS}"]
    given = [sys.executable, "-m", "analyzer", "ingest", "--out", str(out), *map(str, logs)]
    subprocess.run([*command, *given], check=True, capture_output=True)
    return [op for op in _ops(log.read_text()) if op.path == str(out.parent) or op.path.startswith(str(out))]


def _ops(text: str) -> Iterator[Op]:
    for line in text.splitlines():
        found = _CALL.match(line)
        if not found or " = -1 " in line or found[1] not in _CALLS.split(","):
            continue
        call, rest = found.groups()
        name = _NAMES.get(call, call.removesuffix("2").removesuffix("at"))
        quoted, handles = re.findall(r'"([^"]*)"', rest), re.findall(r"^\d+<([^>]*)>", rest)
        if name in ("write", "fsync"):
            yield from (Op(name, path) for path in handles)
            continue
        # relative to a folder that is open
        beside = re.findall(r"^(?:AT_FDCWD|\d+)<([^>]*)>", rest)[:1]
        paths = [str(Path(*beside, one)) for one in quoted]
        if name == "unlink" and "AT_REMOVEDIR" in rest:
            continue
        if name == "open":
            if "O_CREAT" in rest:
                yield Op("create", paths[0])
        else:
            yield Op(name, paths[0], paths[-1])
