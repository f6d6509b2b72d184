"""The zero of the scale: how long the spans of the estimators are where the network takes no time.

    python -m tests.producer.calibrate [RELEASE …]

lets two peers of each release connect again and again over loopback, with a relay that answers at once, and prints the
quartiles of each span. The median over the releases is what an estimator takes off (`own_ms`): the library's own work.
To be run on a machine that has nothing else to do.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.producer.environment import ROOT, installed
from tests.producer.peers import Peer, connect, waited
from tests.producer.relay import PASSWORD, USER, answer_at_once

RELEASES = ("0.2.24", "1.0.9", "1.6.2", "2.1.22", "newest")
#: sessions of one pair of processes, pairs of processes, and how long a session is waited for
SESSIONS, PAIRS, PATIENCE_S = 6, 6, 8.0
#: a name, since a real relay has one, too: the least that looking one up can take is in the span
RELAY, ADDRESS = "localhost", "127.0.0.1"


def _connected(peers: Iterable[Peer]) -> bool:
    return all("connected" in peer.states for peer in peers)


def sessions(out: Path) -> None:
    """Connect and close, run by a Python that has the library."""
    if not answer_at_once(ADDRESS):
        sys.exit(f"{ADDRESS}: no port for the relay")
    relay: dict[str, object] = {"turn_url": f"turn:{RELAY}:3478", "turn_username": USER, "turn_password": PASSWORD}
    # a relay alone has no host candidate to begin with: a span of its own; and what the relay does not relay does not
    # connect, so the handshake is timed without one
    kinds: list[tuple[dict[str, object], dict[str, object], bool]] = [
        (relay, relay, False),
        (relay | {"turn_only": True}, relay, False),
        ({"use_turn": False}, {"use_turn": False}, True),
    ]
    for pair in range(PAIRS):
        peers = client, gateway = [
            Peer(role, out / f"{role}-{pair}.log", RELAY, precise=True) for role in ("client", "gateway")
        ]
        try:
            for number in range(SESSIONS):
                name = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
                for peer in peers:
                    peer.states.clear()
                asked, given, connects = kinds[number % len(kinds)]
                connect(client, gateway, name, asked=asked, given=given)
                if connects:
                    waited(partial(_connected, peers), (client, gateway), PATIENCE_S)
                time.sleep(0.5)
                for peer in peers:
                    with suppress(RuntimeError):  # the other side's close may have come first
                        peer.call("close_tube", tube_id=peer.tube, reason=0)
        finally:
            for peer in peers:
                peer.leave()


def spans(logs: Path, out: Path) -> list[tuple[str, str, int, float, float, float]]:
    """Rebuild the estimates of logs: method, side, how many, and the quartiles of their spans, ms."""
    import polars as pl

    from analyzer.pipeline import ingest
    from analyzer.reductions.leg_measurements import ESTIMATORS
    from analyzer.reductions.leg_names import LEGS

    for pair in range(PAIRS):
        both = [str(path) for role in ("client", "gateway") if (path := logs / f"{role}-{pair}.log").exists()]
        ingest(both, out, addresses="raw")
    trips = {(one.method, one.side): one.round_trips for one in ESTIMATORS}
    rows_of_legs = pl.read_parquet(out / "leg_measurements").filter(pl.col("leg").is_in(LEGS))
    # nothing is taken off what the library prints
    found = rows_of_legs.filter(pl.col("bias_ms").is_not_null())
    rows: list[tuple[str, str, int, float, float, float]] = []
    for (method, side), mine in sorted(found.group_by("method", "side")):
        times = trips.get((str(method), str(side))) or trips[str(method), None]
        span = (mine["value_ms"] + mine["bias_ms"]) * times
        low, middle, high = (float(span.quantile(at) or 0) for at in (0.25, 0.5, 0.75))
        rows.append((str(method), str(side), len(span), low, middle, high))
    return rows


def main() -> None:
    """Print a table for each release."""
    for release in sys.argv[1:] or RELEASES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            python = installed(release, folder / "venv")
            (folder / "logs").mkdir()
            command = [str(python), "-m", "tests.producer.calibrate", "--run", str(folder / "logs")]
            subprocess.run(command, cwd=ROOT, check=False)
            print(f"{release}: spans in ms               number   lower quartile   median   upper quartile")
            for method, side, number, low, middle, high in spans(folder / "logs", folder / "metrics"):
                print(f"  {method:28} {side:8} {number:6} {low:16.2f} {middle:8.2f} {high:16.2f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        sessions(Path(sys.argv[2]))
    else:
        main()
