"""Rebuilt tables against the truth that lies beside real captures: pings, the library's own API, the scenario.

`python -m tests.truth [FOLDER …]` prints the comparison; test_captures.py holds it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from analyzer.events.links import canonical
from analyzer.pipeline import ingest

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "fixtures" / "captured", ROOT.parent / "shared" / "captures")
#: scenarios in which the library's own counts are not those of the log, and why
COUNTS_DIFFER = {
    "G": "ICE restart: the log holds all generations, the library one",
    "B": "without trickle no candidate line is written",
    "Q": "at INFO no candidate line is written",
    "O": "the library keys its counts by conversation, which moved over three tubes",
}
LEGS = {
    "client_to_krelay": "client->relay_rtt_ms",
    "krelay_to_gateway": "gateway->relay_rtt_ms",
    "end_to_end": "client->gateway_rtt_ms",
}


@dataclass(frozen=True, slots=True)
class Capture:
    """A real run: its folder, its truth, and the tables rebuilt from its logs."""

    path: Path
    truth: dict[str, Any]
    tables: dict[str, pl.DataFrame]

    @property
    def scenario(self) -> str:
        return self.path.name.split("-")[0].rstrip("0123456789")


def canonical_id(text: str) -> str:
    return str(pl.select(canonical(pl.lit(text))).item())


def folders() -> list[Path]:
    """Capture folders that can be had here, shipped ones first, each once."""
    found: dict[str, Path] = {}
    for base in FOLDERS:
        for truth in sorted(base.glob("*/*/truth.json")):
            found.setdefault("/".join(truth.parts[-3:-1]), truth.parent)
    return list(found.values())


def rebuild(folder: Path, out: Path) -> Capture:
    """Ingest the logs of a capture."""
    logs = sorted(str(path) for path in folder.iterdir() if ".log" in path.name)
    ingest(logs, out)
    tables = {path.name: pl.read_parquet(path) for path in out.iterdir() if path.name != "_analyzer"}
    told = folder / "truth.json"
    return Capture(folder, json.loads(told.read_text()) if told.exists() else {}, tables)


def _oracle_lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = next(folder.glob("oracle.jsonl*"), None)
    if path is None:
        return
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = pa.input_stream(path, compression="zstd").read()
    for line in raw.decode().splitlines():
        yield json.loads(line)


def oracle_counts(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Largest candidate counts the library reported per tube: total, host, srflx, relay."""
    counts: dict[str, tuple[int, int, int, int]] = {}
    for row in _oracle_lines(folder):
        for tube, entry in (row.get("tubes") or {}).items():
            for live in (entry.get("live") or {}).values():
                stats = ((live or {}).get("webrtc_stats") or {}).get("ice_stats")
                if stats:
                    now = tuple(stats[f"{kind}_candidates"] for kind in ("total", "host", "srflx", "relay"))
                    counts[tube] = max(counts.get(tube, (0, 0, 0, 0)), now)
    return counts


def pings(truth: dict[str, Any]) -> dict[str, float]:
    """Round trips between the namespaces, measured before the run, by leg."""
    before = truth.get("ping_before") or {}
    known = {leg: before[key]["avg"] for leg, key in LEGS.items() if (before.get(key) or {}).get("avg")}
    network = truth.get("network") or {}
    # through a relay with a leg of its own the way is longer than the direct ping
    extra = 2 * float(network.get("relay_leg_one_way_ms") or 0)
    if extra and "end_to_end" in known and truth["scenario"].startswith(("D2", "N")):
        known["end_to_end"] = known["client_to_krelay"] + known["krelay_to_gateway"]
    return known


def leg_errors(capture: Capture) -> list[tuple[str, str, str, float]]:
    """(capture, leg, method, estimate − ping) of every leg that has both."""
    known = pings(capture.truth)
    name = "/".join(capture.path.parts[-2:])
    return [
        (name, leg, row[f"{leg}_method"], row[f"{leg}_latency_ms"] - known[leg])
        for row in capture.tables["connection_legs"].to_dicts()
        for leg in LEGS
        if leg in known and row[f"{leg}_latency_ms"] is not None
    ]


def estimate_errors(capture: Capture) -> list[tuple[str, str, str, float]]:
    """(capture, leg, method, estimate − ping) of every sound estimate, chosen or not."""
    known = pings(capture.truth)
    name = "/".join(capture.path.parts[-2:])
    return [
        (name, row["leg"], row["method"], row["value_ms"] - known[row["leg"]])
        for row in capture.tables["leg_measurements"].to_dicts()
        if row["leg"] in known and row["refused_reason"] is None
    ]


def summary(errors: list[tuple[str, str, str, float]], by: int = 1) -> dict[str, tuple[int, float, float, float]]:
    """Per leg (`by` 2: per method): number, median and 90th percentile of the absolute error, signed median."""
    found = {}
    keys = LEGS if by == 1 else sorted({str(error[by]) for error in errors})
    for key in keys:
        values = [error[-1] for error in errors if error[by] == key]
        if values:
            sizes = sorted(map(abs, values))
            found[key] = (
                len(values), statistics.median(sizes), sizes[int(0.9 * (len(sizes) - 1))], statistics.median(values)
            )  # fmt: skip
    return found


def main() -> None:
    """Print the comparison for the captures at hand, or for the folders named."""
    paths = [Path(argument) for argument in sys.argv[1:]] or folders()
    errors: list[tuple[str, str, str, float]] = []
    estimates: list[tuple[str, str, str, float]] = []
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            capture = rebuild(path, Path(scratch) / "metrics")
        found = leg_errors(capture)
        errors += found
        estimates += estimate_errors(capture)
        print("/".join(path.parts[-2:]), *(f"{leg}:{method}:{error:+.1f}" for _, leg, method, error in found))
    for title, by, values in (("legs, as shown", 1, errors), ("methods, every sound estimate", 2, estimates)):
        print(f"{title:31}  number  median |error|  90th percentile  signed median, ms")
        for key, (number, median, p90, signed) in summary(values, by).items():
            print(f"  {key:29}  {number:6}  {median:14.1f}  {p90:15.1f}  {signed:+13.1f}")


if __name__ == "__main__":
    main()
