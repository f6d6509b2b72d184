"""Runs stopped from outside: killed at any moment, by strace at a system call, and by disks with little room."""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.crash.synced import STRACE
from tests.crash.trial import REFUSED, Ground, forked, lay, verdict

#: bytes a file may have: nothing, less than a Parquet file, some of them, less than the manifest
FILE_SIZES = (0, 1, 100, 1_000, 4_000, 8_000, 16_000, 32_000)
#: KiB that a disk has left: from too little for one file to enough for all
ROOMS = tuple(range(8, 264, 16))


def _judged(ground: Ground, name: str, stop: Callable[[Path], list[str]]) -> list[str]:
    folder = ground.folder / name
    out = folder / "metrics"
    lay(ground, out)
    wrong = stop(out) + verdict(ground, out)
    shutil.rmtree(folder)
    return [f"{ground.scenario.name}, {name}: {one}" for one in wrong]


def at_random(ground: Ground, times: int, seed: int = 1) -> tuple[int, list[str]]:
    """Kill the deed at random moments of the time it takes."""
    chance = random.Random(seed)
    folder = ground.folder / "timed"
    lay(ground, folder / "metrics")
    began = time.monotonic()
    code, said = forked(partial(ground.scenario.deed, folder / "metrics"), folder / "said")
    longest = time.monotonic() - began
    wrong = [f"{ground.scenario.name} ends with {code}: {said[-800:]}"] if code else []
    landed = 0
    for number in range(times):

        def stop(out: Path) -> list[str]:
            nonlocal landed
            child = os.fork()
            if not child:
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, 1)
                os._exit(ground.scenario.deed(out))
            time.sleep(chance.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            landed += os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            return []

        wrong += _judged(ground, f"killed-{number}", stop)
    print(f"  {landed} of {times} kills found the run still running")
    return times, wrong


def _refused(code: int, said: str) -> list[str]:
    if "Traceback" in said or code not in (0, REFUSED) or (code and len(said.strip().splitlines()) != 1):
        return [f"ends with {code}: {said[-800:]}"]
    return []


def in_small_files(ground: Ground, sizes: Sequence[int] = FILE_SIZES) -> tuple[int, list[str]]:
    """Run the deed where no file may be larger than so many bytes."""

    def limited(size: int) -> Callable[[Path], list[str]]:
        def work(out: Path) -> int:
            # what the run says goes to a pipe, which has no size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return ground.scenario.deed(out)

        return lambda out: _refused(*_piped(lambda: work(out)))

    return len(sizes), [one for size in sizes for one in _judged(ground, f"size-{size}", limited(size))]


def _piped(work: Callable[[], int]) -> tuple[int, str]:
    """Like `forked`, what is said on standard error through a pipe."""
    read, write = os.pipe()

    def said() -> int:
        os.dup2(write, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return work()

    code, _ = forked(said)
    os.close(write)
    with os.fdopen(read, errors="replace") as stream:
        return code, stream.read()


def on_small_disks(ground: Ground, rooms: Sequence[int] = ROOMS) -> tuple[int, list[str]]:
    """Run the deed on disks with so many KiB left, which needs the right to mount one; judged with room again."""
    wrong: list[str] = []
    for room in rooms:
        folder = ground.folder / f"room-{room}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
            print("  no right to mount a disk: left out")
            return 0, wrong
        try:
            out = folder / "x" / "metrics"
            lay(ground, out)
            disk = os.statvfs(folder)
            _resize(folder, (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024 + room)
            found = _refused(*_piped(partial(ground.scenario.deed, out)))
            _resize(folder, 65536)
            found += verdict(ground, out)
            wrong += [f"{ground.scenario.name}, room for {room} KiB: {one}" for one in found]
        finally:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)
    return len(rooms), wrong


def _resize(mounted: Path, size: int) -> None:
    """Give a disk in memory another size, in KiB."""
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(mounted)], check=True, capture_output=True)


#: system calls at which a run is killed
AT = ("fsync", "rename", "unlink", "unlinkat", "mkdir", "rmdir")


def by_strace(ground: Ground, command: Sequence[str], step: int = 1) -> tuple[int, list[str]]:
    """Kill `analyzer` with these arguments at every `step`th call of each sort of `AT`, until it has no more of them.

    One sort at a time: strace counts each by itself, so that the more frequent would always come before the others.
    """
    if not STRACE:
        print("  no strace: left out")
        return 0, []
    wrong: list[str] = []
    tried = 0
    for call in AT:
        for at in itertools.count(1, step):
            ended: list[int] = []

            def stop(out: Path, call: str = call, at: int = at, ended: list[int] = ended) -> list[str]:
                inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={at}"]
                given = [sys.executable, "-m", "analyzer", "ingest", "--out", str(out), *command]
                run = subprocess.run(
                    [STRACE or "", "-f", "-o", os.devnull, *inject, *given], check=False, capture_output=True
                )
                ended.append(run.returncode)
                return []

            wrong += _judged(ground, f"{call}-{at}", stop)
            tried += 1
            if ended == [0]:
                break
        print(f"  {call}: {tried} trials so far", flush=True)
    return tried, wrong
