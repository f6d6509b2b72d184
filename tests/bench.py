"""How long the analyzer takes: against a plain search for the same words, and stage by stage.

`python -m tests.bench [--size MB] [--noise SHARE] [--repeat N] [--smoke] [--keep FILE]` writes a synthetic log, ingests
it, and prints times, ratios first. Times are never judged; what was read is: exit code 1 when it is not what was written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar, cast

import polars as pl

from analyzer import pipeline
from analyzer.catalogue import EVENTS, TABLES
from analyzer.events.correlate import correlate
from analyzer.grammar import shipped
from analyzer.grammar.pattern import heads
from analyzer.lines import Tally, discover, read
from analyzer.records import split
from analyzer.reductions import reduce
from analyzer.tables.dataset import writing
from tests import synthetic

T = TypeVar("T")
MB = 1_000_000
STAGES = ("read", "split", "extract", "reduce", "write")
#: what each stage is, for people
WHAT = {
    "read": "bytes → lines",
    "split": "lines → records",
    "extract": "records → events",
    "reduce": "load, correlate, reduce",
    "write": "Parquet, synced",
}
#: run in a process of its own, so small that the peak it reports is the command's
_MEASURE = """
import json, os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
begun = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, used = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - begun,
                  used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took: seconds, seconds of all cores, bytes of memory at its peak."""

    wall: float
    cpu: float
    peak: float


def measure(command: Sequence[str]) -> Cost:
    """Run a command in a fresh process, its output thrown away."""
    run = [sys.executable, "-I", "-S", "-c", _MEASURE, *command]
    done = subprocess.run(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    code, wall, cpu, peak = json.loads(done.stdout) if done.returncode == 0 else (done.returncode, 0, 0, 0)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{done.stderr}")
    return Cost(wall, cpu, peak)


# -- against a plain search ---------------------------------------------------------------------------------------------


def searcher() -> tuple[str, ...]:
    """The command that counts lines with any of the words of a file; empty where there is none."""
    program = next((name for name in ("rg", "grep") if shutil.which(name)), None)
    return (program, "-c", "-F", "-f") if program else ()


def literals() -> list[str]:
    """What lines of all kinds can begin with."""
    texts = {text for grammar in shipped().values() for kind in grammar.kinds for text in heads(kind.sequence)}
    return sorted(text for text in texts if text)


def _pairs(ingest: Sequence[str], out: Path, search: Sequence[str], repeat: int) -> list[tuple[Cost, Cost | None]]:
    """Run both in turn. The dataset of the last run is left."""
    found = []
    for _ in range(repeat):
        shutil.rmtree(out, ignore_errors=True)
        found.append((measure(ingest), measure(search) if search else None))
    return found


def _compared(pairs: list[tuple[Cost, Cost | None]], name: str) -> Iterator[str]:
    both = [(ingest, search) for ingest, search in pairs if search]
    units = {"wall": ("s", 1.0), "cpu": ("s", 1.0), "peak": ("MB", 1 / MB)}
    if not both:
        yield "analyzer ingest, without a ratio: neither ripgrep nor grep is installed"
    else:
        missing = "" if name.startswith("rg") else " (ripgrep is not installed)"
        yield f"analyzer ingest ÷ {name}{missing}, median of {len(pairs)} paired runs"
    for what, (unit, scale) in units.items():
        ours = statistics.median(getattr(ingest, what) for ingest, _ in pairs) * scale
        if not both:
            yield f"  {what:5} {ours:9.2f} {unit}"
            continue
        theirs = statistics.median(getattr(search, what) for _, search in both) * scale
        ratios = sorted(getattr(ingest, what) / max(getattr(search, what), 1e-3) for ingest, search in both)
        middle, spread = statistics.median(ratios), f"({ratios[0]:.1f} – {ratios[-1]:.1f})"
        yield f"  {what:5} {middle:8.1f} ×  {spread:>17}  {ours:9.2f} ÷ {theirs:.2f} {unit}"


# -- stage by stage -----------------------------------------------------------------------------------------------------


class Clock:
    """Seconds spent in each stage, those of a stage it waits for not among them."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Spend time on a stage."""
        self._turn()
        self._running.append(stage)
        yield
        self._turn()
        self._running.pop()

    def pulled(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, each made on this stage's time."""
        ahead, end = iter(items), object()
        while True:
            with self.on(stage):
                one = next(ahead, end)
            if one is end:
                return
            yield cast("T", one)


def stages(log: Path, out: Path) -> dict[str, float]:
    """Do what an ingest does, one stage after the other, and tell the seconds of each."""
    clock, tally = Clock(), Tally()
    (one,) = discover([str(log)])
    blocks = clock.pulled("split", split(clock.pulled("read", read(one, tally))))
    placed = (frame.with_columns(source=pl.lit(one.name), part=pl.lit(part)) for part, (_, frame) in enumerate(blocks))
    with writing(out) as commit:
        for number, batch in enumerate(pipeline._batched(placed)):
            with clock.on("extract"):
                events = EVENTS.conform(pipeline._process(batch).events.drop("part"))
            with clock.on("write"):
                commit.write(EVENTS, f"{number:05}", events)
        with clock.on("reduce"):
            streams = correlate(pipeline._events(commit))
            tables = reduce(streams, pl.DataFrame({"source": [one.name], "resolution_ms": [1.0]}))
        with clock.on("write"):
            for name, frame in tables.items():
                commit.write(TABLES[name], "part-0", frame)
            commit.publish()
    return clock.seconds


def _staged(seconds: dict[str, float], written: synthetic.Written) -> Iterator[str]:
    yield "stages in this process, one after the other (an ingest has several at work at once)"
    yield f"  {'':30} {'share':>6} {'seconds':>9} {'MB/s':>8} {'records/s':>11} {'events/s':>11}"
    total = sum(seconds.values())
    counted = (written.bytes / MB, written.records, sum(written.events.values()))
    for stage, took in (*seconds.items(), ("all", total)):
        speed = [amount / max(took, 1e-9) for amount in counted]
        label = f"{stage:8} {WHAT.get(stage, '')}"
        yield f"  {label:30} {took / total:6.1%} {took:9.2f} {speed[0]:8.1f} {speed[1]:11,.0f} {speed[2]:11,.0f}"


# -- what was read ------------------------------------------------------------------------------------------------------


def differences(out: Path, written: synthetic.Written) -> list[str]:
    """In what a dataset is not what was written."""
    rows = pl.scan_parquet(out / "events").group_by("target", "kind").len().collect().rows()
    events = Counter({(target, kind): count for target, kind, count in rows})
    found = [
        f"{' '.join(key)}: {written.events[key]:,} events written, {events[key]:,} read"
        for key in sorted(events.keys() | written.events.keys())
        if events[key] != written.events[key]
    ]
    (source,) = pl.read_parquet(out / "sources").to_dicts()
    source["conversations"] = len(pl.read_parquet(out / "conversations"))
    expected = {name: getattr(written, name) for name in ("bytes", "lines", "records", "noise", "conversations")}
    expected |= {"events": sum(written.events.values()), "unmatched": 0, "rejected": 0, "cut_lines": 0}
    return found + [
        f"{name}: {count:,} written, {source[name]:,} read" for name, count in expected.items() if source[name] != count
    ]


# -- the command --------------------------------------------------------------------------------------------------------


def _header(search: Sequence[str]) -> str:
    names = {"analyzer": "keeper-webrtc-analyzer"} | {name: name for name in ("polars", "pyarrow", "lark")}
    versions = [f"{name} {version(package)}" for name, package in names.items()]
    if search:
        said = subprocess.run([search[0], "--version"], capture_output=True, text=True, check=True).stdout
        versions.append(said.splitlines()[0])
    machine = f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    # others at work on the machine blur every figure
    load = f"load {os.getloadavg()[0]:.2f} before"
    return f"machine  {machine}, {load}\nversions Python {platform.python_version()}, {', '.join(versions)}"


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 0.99:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 0.99")
    return share


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=float, default=100, metavar="MB", help="size of the log (100)")
    parser.add_argument(
        "--noise",
        type=_share,
        default=synthetic.NOISE,
        metavar="SHARE",
        help=f"share of records that inform nothing ({synthetic.NOISE}); the rest are events",
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="paired runs (3)")
    parser.add_argument("--smoke", action="store_true", help="2 MB and one run: is it correct, not is it fast")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the log here, and keep it")
    given = parser.parse_args()
    if given.smoke:
        given.size, given.repeat = 2, 1
    given.repeat = max(1, given.repeat)
    return given


def main() -> int:
    """Write, measure, print, check."""
    given, search = _arguments(), searcher()
    print(_header(search), flush=True)
    with tempfile.TemporaryDirectory(prefix="analyzer-bench-") as folder:
        scratch = Path(folder)
        log, out, words = given.keep or scratch / "synthetic.log", scratch / "metrics", scratch / "literals"
        words.write_text("".join(f"{text}\n" for text in literals()), encoding="utf-8")
        begun = time.perf_counter()
        written = synthetic.write(log, round(given.size * MB), noise=given.noise)
        took, share = time.perf_counter() - begun, written.noise / written.records
        print(
            f"log      {written.bytes / MB:.1f} MB, {written.records:,} records ({1 - share:.1%} events, {share:.1%} noise), "
            f"{written.conversations:,} conversations, written in {took:.1f} s\n",
            flush=True,
        )
        ingest = [sys.executable, "-m", "analyzer", "ingest", str(log), "--out", str(out)]
        against = [*search, str(words), str(log)] if search else []
        pairs = _pairs(ingest, out, against, given.repeat)
        print("\n".join(_compared(pairs, " ".join((*search, "literals")))), end="\n\n", flush=True)
        found = differences(out, written)
        shutil.rmtree(out)
        print("\n".join(_staged(stages(log, out), written)), end="\n\n")
    for one in found:
        print(f"differs: {one}")
    kinds = f"{sum(written.events.values()):,} events of {len(written.events)} kinds, {written.noise:,} lines of noise"
    print("what was read is not what was written" if found else f"read as written: {kinds}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
