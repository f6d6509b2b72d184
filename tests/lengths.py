"""What a byte costs in long lines, against short ones.

    python -m tests.lengths [--size MB]

Writes logs of lines of 200 bytes and of 1 MiB, of several sorts, ingests them, and prints CPU time per megabyte, that
of an empty run taken off, and the ratio of the two; fails where a byte of a long line costs more than `MOST` times one
of a short line.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench import MB, measure

SHORT, LONG = 200, (1 << 20) - 1
MOST = 3.0
_STAMP = "2026-11-22 13:19:35,251 DEBUG "
_TUBE = f"{_STAMP}keeper_pam_webrtc_rs.tube: "
_REGISTERED = (
    f"{_STAMP}keeper_pam_webrtc_rs.metrics.collector: Registered connection for metrics tracking"
    " (conversation_id: c-1, tube_id: t-1"
)
#: the sort of line: what stands before and behind the filling, and what that is made of
SORTS: dict[str, tuple[str, str, str]] = {
    "of another program": (f"{_STAMP}urllib3.connectionpool: ", "", "GET /api/v1/items "),
    "known to inform nothing": (f"{_TUBE}  ✓ Active channels cleared", "", " word"),
    "of the library, unmatched": (f"{_TUBE}went ", "", "Aa0+ bytes_sent: 17 (x, y) "),
    "one word of it": (f"{_TUBE}went ", "", "abcdefghij"),
    "of brackets and quotes": (f"{_TUBE}went ", "", '([{"'),
    "an event, a long value": (f"{_REGISTERED}, x: ", ")", "abc"),
    "an event, many values": (_REGISTERED, ")", ", k: v"),
}


def _written(path: Path, sort: str, length: int, size: int) -> None:
    before, behind, unit = SORTS[sort]
    room = length - len(before) - len(behind) - 1
    line = f"{before}{(unit * (room // len(unit) + 1))[:room]}{behind}\n"
    with path.open("w", encoding="utf-8") as stream:
        for _ in range(max(1, size // length)):
            stream.write(line)


def main() -> int:
    """Write, measure, print; 1 where long lines cost too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=50, metavar="MB", help="size of each log (50)")
    size = parser.parse_args().size * MB
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        log, out = Path(scratch) / "app.log", Path(scratch) / "metrics"

        def cost(sort: str, length: int, amount: int) -> float:
            _written(log, sort, length, amount)
            shutil.rmtree(out, ignore_errors=True)
            return measure([sys.executable, "-m", "analyzer", "ingest", str(log), "--out", str(out)]).cpu

        for sort in SORTS:
            empty = cost(sort, SHORT, SHORT)
            short, long = ((cost(sort, length, size) - empty) / size * MB * 1000 for length in (SHORT, LONG))
            worst = max(worst, long / short)
            print(
                f"{sort:28} {short:7.1f} ms/MB in short lines {long:7.1f} in long ones {long / short:5.2f} ×",
                flush=True,
            )
    print(f"a byte of a long line costs at most {worst:.2f} × one of a short line (bound {MOST:.0f})")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
