"""Stop runs in every way there is and judge what they leave: `python -m tests.crash [PART …] [--step N] [--kills N]`.

Everything takes an hour or two on two cores; tests/test_crash.py runs a sample of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.crash.power import cut
from tests.crash.race import race
from tests.crash.scenarios import Scenario, commits, ingests
from tests.crash.stopped import at_random, by_strace, in_small_files, on_small_disks
from tests.crash.synced import STRACE, traced, unsynced
from tests.crash.trial import done, every, prepare

Part = Iterator[tuple[str, int, list[str]]]


def _tried(scenarios: Iterator[Scenario], given: argparse.Namespace, scratch: Path) -> Part:
    for scenario in scenarios:
        if given.only in scenario.name:
            found = every(
                prepare(scenario, scratch), given.mode, given.step, sample=given.sample, thrifty=given.thrifty
            )
            yield scenario.name, *found


def _commits(given: argparse.Namespace, scratch: Path) -> Part:
    return _tried(commits(), given, scratch)


def _ingests(given: argparse.Namespace, scratch: Path) -> Part:
    return _tried(ingests(scratch / "logs"), given, scratch)


def _random(given: argparse.Namespace, scratch: Path) -> Part:
    chosen = [one for one in ingests(scratch / "logs") if given.only in one.name]
    for scenario in chosen:
        yield scenario.name, *at_random(prepare(scenario, scratch), given.kills // len(chosen))


def _room(given: argparse.Namespace, scratch: Path) -> Part:
    for scenario in ingests(scratch / "logs"):
        if given.only in scenario.name:
            ground = prepare(scenario, scratch)
            yield f"{scenario.name}, sizes of files", *in_small_files(ground)
            yield f"{scenario.name}, room on disks", *on_small_disks(ground)


def _power(given: argparse.Namespace, scratch: Path) -> Part:
    for scenario in (*commits(), *ingests(scratch / "logs")):
        if given.only in scenario.name:
            yield scenario.name, *cut(prepare(scenario, scratch), given.sample)


def _strace(given: argparse.Namespace, scratch: Path) -> Part:
    for scenario in ingests(scratch / "logs"):
        if scenario.name == "ingest grown":
            log = str(scratch / "logs" / "whole" / "app.log")
            yield scenario.name, *by_strace(prepare(scenario, scratch), [log], given.step)


def _synced(given: argparse.Namespace, scratch: Path) -> Part:
    for scenario in (*commits(), *ingests(scratch / "logs")):
        if given.only in scenario.name:
            ground = prepare(scenario, scratch)
            yield scenario.name, 1, list(unsynced(done(ground), ground.folder / "counted" / "metrics"))
    if STRACE and not given.only:
        out = scratch / "traced" / "metrics"
        out.parent.mkdir()
        yield "by strace", 1, list(unsynced(traced(out, [scratch / "logs" / "whole" / "app.log"]), out))


def _race(given: argparse.Namespace, scratch: Path) -> Part:
    seen, wrong = race(scratch / "race", given.commits)
    for name, counts in seen.items():
        print(f"  {name}: {counts}")
    yield "race", given.commits, wrong


PARTS: dict[str, Callable[[argparse.Namespace, Path], Part]] = {
    "commits": _commits,
    "ingests": _ingests,
    "random": _random,
    "room": _room,
    "power": _power,
    "strace": _strace,
    "synced": _synced,
    "race": _race,
}


def main() -> int:
    """Run the parts asked for, or all; print figures, and what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--mode", nargs="*", default=["kill", "full", "error", "gone"])
    parser.add_argument("--step", type=int, default=1, help="every so many operations before the seal")
    parser.add_argument("--thrifty", action="store_true", help="judge what differs in an unsealed stage only once")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--sample", type=int, default=0, help="trials of each scenario; 0: all")
    parser.add_argument("--commits", type=int, default=1000)
    given = parser.parse_args()
    failed = False
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="crash-") as scratch:
            for what, trials, wrong in _timed(PARTS[name](given, Path(scratch).resolve())):
                print(f"{name}: {what}: {trials} trials, {len(wrong)} wrong", flush=True)
                for one in wrong:
                    print(f"  {one}")
                failed |= bool(wrong)
    return int(failed)


def _timed(part: Part) -> Part:
    began = time.monotonic()
    yield from part
    print(f"  {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
