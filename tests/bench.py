"""How long the analyzer takes: against a plain search for the same words, and stage by stage.

`python -m tests.bench [--size MB] [--noise SHARE] [--repeat N] [--smoke] [--keep FILE]` writes a synthetic log, ingests
it, and prints times, ratios first. Times are never judged. What was read is: exit code 1 if it is not what was written.
"""

from __future__ import annotations

import argparse
import compileall
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar, cast
from unittest.mock import patch

import polars as pl

from analyzer import pipeline
from analyzer.grammar import shipped
from analyzer.grammar.pattern import heads, options
from analyzer.tables.dataset import Commit
from tests import synthetic

P = ParamSpec("P")
T = TypeVar("T")
MB = 1_000_000
#: stages of an ingest, what each does, and the calls that are it
STAGES: dict[str, tuple[str, tuple[tuple[object, str], ...]]] = {
    "read": ("bytes → lines", ((pipeline, "read"),)),
    "split": ("lines → records", ((pipeline, "split"),)),
    "sift": ("records → settled, open", ((pipeline, "sift"),)),
    "extract": ("records → events, counts", ((pipeline, "_process"),)),
    "reduce": ("load, correlate, reduce", ((pipeline, "_rebuilt"),)),
    "write": ("Parquet, digests, syncs", ((Commit, "stage_frame"), (Commit, "publish"))),
    "other": ("", ()),
}
#: run in a process of its own, so small that the peak it reports is the command's
_MEASURE = """
import json, os, sys, time
aside = [(os.POSIX_SPAWN_DUP2, 2, 1)]  # not to /dev/null: there grep does not count
begun = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=aside)
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
    """Run a command in a fresh process. What it prints is shown when it fails; a peak below 10 MB is not seen."""
    run = [sys.executable, "-I", "-S", "-c", _MEASURE, *command]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    code, wall, cpu, peak = json.loads(done.stdout) if done.returncode == 0 else (done.returncode, 0, 0, 0)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}:\n{done.stderr}")
    return Cost(wall, cpu, peak)


def literals(*, events_only: bool) -> list[str]:
    """What messages can begin with, as the grammars know it: those of events, or those of noise, too."""
    grammars = shipped().values()
    known = [kind.sequence for grammar in grammars for kind in grammar.kinds]
    if not events_only:
        known += [option for grammar in grammars for option in options(grammar.noise or ())]
    return sorted({text for sequence in known for text in heads(sequence) if text})


def compared(ingest: Sequence[str], out: Path, searches: Mapping[str, Sequence[str]], repeat: int) -> Iterator[str]:
    """Run all in turn, and tell the ratios. The dataset of the last run is left."""
    runs: list[tuple[Cost, dict[str, Cost]]] = []
    for _ in range(repeat):
        shutil.rmtree(out, ignore_errors=True)
        runs.append((measure(ingest), {name: measure(search) for name, search in searches.items()}))
    for name in searches or ("nothing (neither ripgrep nor grep is installed)",):
        yield f"analyzer ingest ÷ {name}; median of {repeat} paired runs, lowest and highest"
        yield from _ratios([(ours, theirs.get(name)) for ours, theirs in runs])


def _searches(program: str, scratch: Path, log: Path) -> Iterator[tuple[str, list[str]]]:
    """Plain searches for what the analyzer looks for: for all of it, and for the events alone."""
    missing = ", ripgrep is not installed" if program == "grep" else ""
    for what, events_only in (("all beginnings the grammars know", False), ("the beginnings of events alone", True)):
        texts = literals(events_only=events_only)
        words = scratch / f"literals-{len(texts)}"
        words.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        yield (
            f"{program} -c -F -f literals ({len(texts)}: {what}{missing})",
            [program, "-c", "-F", "-f", str(words), str(log)],
        )


def _ratios(pairs: Sequence[tuple[Cost, Cost | None]]) -> Iterator[str]:
    for what, unit, scale in (("wall", "s", 1.0), ("cpu", "s", 1.0), ("peak", "MB", 1 / MB)):
        ours = [getattr(one, what) * scale for one, _ in pairs]
        theirs = [max(getattr(one, what) * scale, 1e-3) for _, one in pairs if one]
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=bool(theirs)))
        told = f"{statistics.median(ratios):7.1f} × {f'({ratios[0]:.1f} – {ratios[-1]:.1f})':>17}" if ratios else ""
        against = f" ÷ {statistics.median(theirs):.2f}" if theirs else ""
        yield f"  {what:5}{told}  {statistics.median(ours):9.2f}{against} {unit}"


class _Inline(Executor):
    """Does at once, in the caller's thread, what it is given: stages that overlap cannot be told apart."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Clock:
    """Seconds spent in each stage, those of a stage it waits for not among them."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._running, self._since = ["other"], time.perf_counter()

    def turn(self) -> None:
        """Enter the time since the last turn."""
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def _on(self, stage: str) -> Iterator[None]:
        self.turn()
        self._running.append(stage)
        yield
        self.turn()
        self._running.pop()

    def called(self, stage: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, its calls on this stage's time; of a generator, each of its steps."""

        def steps(made: Iterator[object]) -> Iterator[object]:
            end = object()
            while True:
                with self._on(stage):
                    one = next(made, end)
                if one is end:
                    return
                yield one

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._on(stage):
                made = function(*args, **kwargs)
                return cast("T", steps(made)) if isinstance(made, Iterator) else made

        return call


def staged(log: Path, out: Path, written: synthetic.Written) -> Iterator[str]:
    """Ingest in this process, one stage after the other, and tell how fast each is."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(pipeline, "ThreadPoolExecutor", lambda *_: _Inline()))
        clock = Clock()
        for stage, (_, calls) in STAGES.items():
            for owner, name in calls:
                stack.enter_context(patch.object(owner, name, clock.called(stage, getattr(owner, name))))
        pipeline.ingest([str(log)], out)
        clock.turn()
    yield "stages, one pass in this process, one after the other (an ingest has several at work at once)"
    yield f"  {'':32} {'share':>6} {'seconds':>8} {'MB/s':>8} {'records/s':>11} {'events/s':>11}"
    total = sum(clock.seconds.values())
    counted = (written.bytes / MB, written.records, written.events.total())
    for stage, took in (*clock.seconds.items(), ("all", total)):
        speed = [amount / max(took, 1e-9) for amount in counted]
        label = f"{stage:7} {STAGES.get(stage, ('',))[0]}"
        rates = f"{speed[0]:8.1f} {speed[1]:11,.0f} {speed[2]:11,.0f}" if stage != "other" else ""
        yield f"  {label:32} {took / total:6.1%} {took:8.2f} {rates}".rstrip()


def differences(out: Path, written: synthetic.Written) -> list[str]:
    """In what a dataset is not what was written."""
    rows = pl.scan_parquet(out / "events").group_by("target", "kind").len().collect().rows()
    events = Counter({(target, kind): count for target, kind, count in rows})
    found = [
        f"{' '.join(key)}: {written.events[key]:,} events written, {events[key]:,} read"
        for key in sorted(events.keys() | written.events.keys())
        if events[key] != written.events[key]
    ]
    source = pl.read_parquet(out / "sources").row(0, named=True)
    source["conversations"] = len(pl.read_parquet(out / "conversations"))
    expected = {name: getattr(written, name) for name in ("bytes", "lines", "records", "noise", "conversations")}
    expected |= {"events": written.events.total(), "unmatched": 0, "rejected": 0, "cut_lines": 0}
    return found + [
        f"{name}: {count:,} written, {source[name]:,} read" for name, count in expected.items() if source[name] != count
    ]


def _header(program: str | None) -> str:
    packages = {"analyzer": "keeper-webrtc-analyzer", "polars": "polars", "pyarrow": "pyarrow", "lark": "lark"}
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(of)}" for name, of in packages.items())]
    if program:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        versions.append(said.splitlines()[0])
    # others at work on the machine blur every figure
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before"
    return f"machine  {machine}\nversions {', '.join(versions)}"


def _share(text: str) -> float:
    if not 0 <= (share := float(text)) <= 0.99:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 0.99")
    return share


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    noise = f"share of records that inform nothing ({synthetic.NOISE}); the rest are events"
    parser.add_argument("--size", type=float, default=100, metavar="MB", help="size of the log (100)")
    parser.add_argument("--noise", type=_share, default=synthetic.NOISE, metavar="SHARE", help=noise)
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="paired runs (3)")
    parser.add_argument("--smoke", action="store_true", help="2 MB and one run: is it correct, not is it fast")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the log here, and keep it")
    given = parser.parse_args()
    given.size, given.repeat = (2, 1) if given.smoke else (given.size, max(1, given.repeat))
    return given


def main() -> int:
    """Write, measure, print, check."""
    given, program = _arguments(), next((name for name in ("rg", "grep") if shutil.which(name)), None)
    print(_header(program), flush=True)
    # as an installation has it
    compileall.compile_dir(Path(pipeline.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory(prefix="analyzer-bench-") as folder:
        scratch = Path(folder)
        log, out = given.keep or scratch / "synthetic.log", scratch / "metrics"
        begun = time.perf_counter()
        written = synthetic.write(log, round(given.size * MB), noise=given.noise)
        took, share = time.perf_counter() - begun, written.noise / written.records
        size = f"{written.bytes / MB:.1f} MB, {written.records:,} records ({1 - share:.1%} events, {share:.1%} noise)"
        print(f"log      {size}, {written.conversations:,} conversations, written in {took:.1f} s\n", flush=True)
        ingest = [sys.executable, "-m", "analyzer", "ingest", str(log), "--out", str(out)]
        searches = dict(_searches(program, scratch, log)) if program else {}
        print("\n".join(compared(ingest, out, searches, given.repeat)), end="\n\n", flush=True)
        found = differences(out, written)
        print("\n".join(staged(log, scratch / "staged", written)), end="\n\n")
        found += [f"{one} (in one thread)" for one in differences(scratch / "staged", written)]
    print("".join(f"differs: {one}\n" for one in found), end="")
    kinds = f"{written.events.total():,} events of {len(written.events)} kinds, {written.noise:,} lines of noise"
    print("what was read is not what was written" if found else f"read as written: {kinds}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
