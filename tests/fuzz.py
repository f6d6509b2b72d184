"""Real lines, damaged in every way, through the whole ingest: nothing raises, every line is accounted for.

`python -m tests.fuzz --lines 1000000 --seed 1` mutates that many lines of the shipped captures, a batch at a time, in
every dialect and several of them nested, and checks of each batch: no exception, the accounting law, tables that
conform to their declarations, and for a sample of messages that plan and reference agree.
"""

from __future__ import annotations

import argparse
import gzip
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random

import polars as pl
import pyarrow as pa

from analyzer import lines, records
from analyzer.catalogue import TABLES
from analyzer.events.targets import stem
from analyzer.grammar import shipped
from analyzer.grammar.reference import parse
from analyzer.inputs import Input
from analyzer.pipeline import ingest
from analyzer.tally import Tally
from tests.datasets import CAPTURED
from tests.strategies import bare, differences

BATCH_LINES = 20_000
#: this share of a batch is of one log
MOSTLY = 0.95
SAMPLED_MESSAGES = 40
#: the reference takes its time with long messages
SAMPLED_CHARS = 400
ODD = [bytes([byte]) for byte in (0, 1, 7, 8, 9, 10, 11, 12, 13, 27, 0x1F, 0x7F, 0x80, 0xC0, 0xE2, 0xF0, 0xFF)] + [
    text.encode() for text in ("\u0085", "\u2028", "\u202e", "\ufeff", "😀", "é", "µ", "٣", "→")
]
NUMBERS = [
    b"0",
    b"-1",
    b"-0.0",
    b"NaN",
    b"inf",
    b"-inf",
    b"1e999",
    b"9" * 20,
    b"9" * 400,
    b"0.1e-400",
    b"18446744073709551616",
]
HEADERS = [
    b"2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: ",
    b"2026-11-22 13:19:35,251 - keeper_pam_webrtc_rs.webrtc_core - DEBUG - ",
    b"[9999-99-99T25:61:61.251+99:99] [DEBUG] [keeper_pam_webrtc_rs.tube] ",
    b"DEBUG keeper_pam_webrtc_rs.metrics.collector: ",
    b"DEBUG:keeper_pam_webrtc_rs.channel.core:",
    b"2025-09-16T13:09:25.238054Z DEBUG keeper_pam_webrtc_rs::tube: ",
    b"4: : session 000000000000000001: ",
]
WRAPS: list[Callable[[bytes], bytes]] = [
    lambda line: b"2026-11-22T13:19:35.253000123Z stderr F " + line,
    lambda line: b"keeper-gateway-1  | " + line,
    lambda line: b"Nov 22 13:19:35 gw-host-1 keeper-gateway[4242]: " + line,
    lambda line: b'{"log":"' + re.sub(rb'[\\"]', rb"\\\g<0>", line) + b'\\n","time":"2026-11-22T13:19:35.253Z"}',
    lambda line: b'{"timestamp":"2026-11-22T13:19:35Z","level":"DEBUG","logger":"keeper_pam_webrtc_rs.tube","message":"'
    + re.sub(rb'[\\"]', rb"\\\g<0>", line)
    + b'"}',
]  # fmt: skip


@cache
def originals() -> tuple[tuple[bytes, ...], ...]:
    """Lines of every shipped log."""
    found = []
    for path in sorted(CAPTURED.rglob("*.log*")):
        with pa.input_stream(path, compression="detect") as stream:
            found.append(tuple(stream.read().splitlines()))
    return tuple(log for log in found if log)


def _flipped(line: bytes, random: Random) -> bytes:
    at = random.randrange(len(line))
    return line[:at] + bytes([line[at] ^ 1 << random.randrange(8)]) + line[at + 1 :]


def _spliced(line: bytes, random: Random) -> bytes:
    other = random.choice(random.choice(originals()))
    return line[: random.randrange(len(line) + 1)] + other[random.randrange(len(other) + 1) :]


def _inserted(line: bytes, random: Random) -> bytes:
    at = random.randrange(len(line) + 1)
    return line[:at] + random.choice(ODD) * random.choice((1, 1, 2, 300)) + line[at:]


def _renumbered(line: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"-?[0-9]+(?:\.[0-9]+)?", line))
    if not found:
        return line
    one = random.choice(found)
    return line[: one.start()] + random.choice(NUMBERS) + line[one.end() :]


def _headed(line: bytes, random: Random) -> bytes:
    return random.choice(HEADERS) + line[random.choice((0, line.find(b": ") + 2)) :]


def _wrapped(line: bytes, random: Random) -> bytes:
    for _ in range(random.randint(1, 3)):
        line = random.choice(WRAPS)(line)
    return line


def _repeated(line: bytes, random: Random) -> bytes:
    begin, end = sorted(random.randrange(len(line) + 1) for _ in range(2))
    return line[:end] + line[begin:end] * random.choice((1, 2, 50)) + line[end:]


def _shuffled(line: bytes, random: Random) -> bytes:
    parts = re.split(rb"([,()|: ])", line)
    one, other = random.randrange(len(parts)), random.randrange(len(parts))
    parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flipped,
    lambda line, random: line[: random.randrange(len(line) + 1)],
    lambda line, random: line[random.randrange(len(line) + 1) :],
    lambda line, random: line + b"\n" + line,
    _spliced,
    _inserted,
    _renumbered,
    _headed,
    _wrapped,
    _repeated,
    _shuffled,
)


def mutated(count: int, random: Random) -> bytes:
    """So many lines, most of them damaged, some as they were; most of one log, so that they have a dialect."""
    log = random.choice(originals())
    found = []
    for _ in range(count):
        line = random.choice(log if random.random() < MOSTLY else random.choice(originals()))
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            line = random.choice(MUTATIONS)(line, random) if line else line
        found.append(line)
    return random.choice((b"\n", b"\n", b"\r\n")).join(found) + random.choice((b"", b"\n"))


def packed(data: bytes, random: Random) -> tuple[str, bytes]:
    """The same as a file: its name, and its bytes, sometimes compressed, sometimes damaged after that."""
    kind = random.choice(("log", "log", "log", "gz", "zst", "utf-16"))
    if kind == "gz":
        data = gzip.compress(data)
    elif kind == "zst":
        data = bytes(pa.compress(data, codec="zstd", asbytes=True))
    elif kind == "utf-16":
        data = data.decode("utf-8", "backslashreplace").encode("utf-16")
    if kind != "log" and random.random() < 0.5:
        data = _flipped(data, random) if random.random() < 0.5 else data[: random.randrange(len(data))]
    return f"fuzz.{kind}", data


def _wrong(out: Path) -> Iterator[str]:
    """What is wrong with the tables of a dataset."""
    for name, table in TABLES.items():
        frame = pl.read_parquet(out / name)
        if frame.schema != table.schema:
            yield f"{name} has another schema than it declares"
        for column in (one for one, dtype in frame.schema.items() if dtype == pl.Float64):
            if not frame[column].is_finite().fill_null(True).all():
                yield f"{name}.{column} holds a number that is none"
    row = pl.read_parquet(out / "sources").row(0, named=True)
    if row["records"] != sum(row[fate] for fate in ("events", "noise", "unmatched", "rejected")):
        yield f"records are not accounted for: {row}"
    told = pl.read_parquet(out / "refusals")
    if told["records"].sum() != row["rejected"]:
        yield f"{row['rejected']} rejected records, {told['records'].sum()} of them with a reason"
    if len(pl.read_parquet(out / "events")) != row["events"]:
        yield "events are not as many as are counted"


def _disagreements(path: Path, random: Random) -> Iterator[str]:
    """Messages that plan and reference read in two ways."""
    frames = [frame for _, frame in records.split(lines.read(Input(path.name, path), Tally()))]
    found = pl.concat([records.empty(), *frames]).filter(pl.col("message").str.len_chars() < SAMPLED_CHARS)
    rows = found.drop_nulls("target").select("target", "message").rows()
    messages: dict[str, list[str]] = {}
    for target, message in random.sample(rows, min(SAMPLED_MESSAGES, len(rows))):
        name = stem(target)
        if name in shipped() and shipped()[name].kinds:
            messages.setdefault(name, []).append(message)
    for name, some in messages.items():
        yield from differences(name, bare(some), parse)


def fuzz(count: int, seed: int) -> tuple[int, list[str]]:
    """Ingest one batch of mutated lines: how many records it had, and what was wrong."""
    random = Random(seed)
    name, data = packed(mutated(count, random), random)
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, name), Path(folder, "out")
        path.write_bytes(data)
        wrong: list[str] = []
        try:
            done = ingest([str(path)], out)
            wrong += _wrong(out)
            wrong += _disagreements(path, random)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            return 0, [f"{type(error).__name__}: {error}"[:2000]]
        return int(done.sources["records"].sum()), wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz by command; the exit code is 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    begun, left, batch, found = time.monotonic(), asked.lines, 0, Counter[str]()
    while left > 0:
        seed = asked.seed * 1_000_003 + batch
        read, wrong = fuzz(min(BATCH_LINES, left), seed)
        found["records"] += read
        found["findings"] += len(wrong)
        for one in wrong:
            print(f"seed {seed}: {one}", flush=True)
        left, batch = left - BATCH_LINES, batch + 1
        print(f"{asked.lines - max(left, 0):,} lines, {dict(found)}, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
