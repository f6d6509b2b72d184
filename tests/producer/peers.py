"""Two peers of the real library on one machine: a client, a gateway, and data through the tunnel between them.

Run by a Python that has `keeper-pam-webrtc-rs` installed; it needs nothing else but the standard library:

    python -m tests.producer.peers OUT

writes `client.log` and `gateway.log` as the library's hosts do, and `facts.json`: what the run knows by itself, and
what the library's live API says shortly before the end.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.producer.counterparts import answer_stun, carried, echo

#: a step that takes longer is given up
PATIENCE_S = 15.0
#: the library asks its WebRTC stack for statistics every five seconds; one such round has to pass
STATISTICS_S = 5.5
#: so often data is sent before the tunnel counts as broken
ATTEMPTS = 8
NO_TURN = {"use_turn": False}
PAYLOAD = bytes(range(256)) * 256
#: the STUN server of each side's relay, and how late it answers: the round trip of that side's leg
RELAYS_S = {"client": ("127.0.0.2", 0.150), "gateway": ("127.0.0.3", 0.300)}
#: crates that a host keeps quiet, as Commander does
QUIET = ("webrtc", "webrtc_ice", "webrtc_mdns", "webrtc_sctp", "webrtc_dtls", "turn", "stun")


class Precise(logging.Formatter):
    """Times to the microsecond, as ISO 8601 spells them."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - so it is called
        del datefmt  # there is one form only
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")


def side(role: str, log: str, pipe: Connection, precise: bool = False) -> None:
    """Be one peer: call the registry's methods as the other end of the pipe asks, hand its signals over."""
    logging.Formatter.converter = time.gmtime
    handler = logging.FileHandler(log)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(Precise("[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s") if precise else plain)
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])
    for crate in QUIET:
        logging.getLogger(crate).setLevel(logging.WARNING)
    library = importlib.import_module("keeper_pam_webrtc_rs")
    library.initialize_logger("keeper-pam-webrtc-rs", verbose=False, level=logging.DEBUG)
    registry = library.PyTubeRegistry()
    lock = threading.Lock()

    def say(*what: object) -> None:
        with lock:
            pipe.send(what)

    def signalled(signal: dict[str, Any]) -> None:
        say("signal", str(signal.get("kind")), str(signal.get("data")))

    while True:
        method, arguments = pipe.recv()
        if method == "leave":
            logging.shutdown()
            os._exit(0)  # the library's own threads would keep the process
        if method == "create_tube":
            arguments["signal_callback"] = signalled
        try:
            say("result", getattr(registry, method)(**arguments))
        except Exception as problem:  # noqa: BLE001 - whatever the library raises belongs to who asked
            say("problem", f"{role}: {method}: {problem}")


class Peer:
    """One side's process as the run sees it: calls go in, results and signals come out."""

    def __init__(self, role: str, log: Path, server: str, *, precise: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self.role, self.server, self.tube = role, server, ""
        self.states: list[str] = []
        self.gathered: list[str] = []
        self.untold: list[str] = []
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=side, args=(role, str(log), theirs, precise), daemon=True)
        self._process.start()

    def call(self, method: str, /, **arguments: object) -> Any:
        """Call a method of the registry over there; what it raises is raised here."""
        self._pipe.send((method, arguments))
        kind, *rest = self._next(PATIENCE_S)
        while kind == "signal":
            kind, *rest = self._next(PATIENCE_S)
        if kind == "problem":
            raise RuntimeError(rest[0])
        return rest[0]

    def listen(self) -> None:
        """Take the signals that have come."""
        while self._pipe.poll():
            self._next(0)

    def _next(self, patience_s: float) -> tuple[Any, ...]:
        if not self._pipe.poll(patience_s):
            raise queue.Empty(f"{self.role} says nothing for {patience_s} s")
        said: tuple[Any, ...] = self._pipe.recv()
        if said[:2] == ("signal", "icecandidate"):
            self.untold.append(said[2])
            self.gathered += [said[2]] * bool(said[2])  # the last one is empty: no more to come
        elif said[:2] == ("signal", "connection_state_changed"):
            self.states.append(said[2].lower())
        return said

    def leave(self) -> None:
        """End the process, in good order if it still can."""
        self._pipe.send(("leave", {}))
        self._process.join(5)
        self._process.kill()


def pass_candidates(*peers: Peer) -> None:
    """Tell each of two peers the other's candidates."""
    for giver, taker in (peers, peers[::-1]):
        giver.listen()
        while giver.untold:
            taker.call("add_ice_candidate", tube_id=taker.tube, candidate=giver.untold.pop(0))


def waited(for_it: Callable[[], bool], peers: tuple[Peer, Peer], patience_s: float) -> bool:
    """Keep signalling until something is so; whether it came to be."""
    end = time.monotonic() + patience_s
    while not for_it() and time.monotonic() < end:
        pass_candidates(*peers)
        time.sleep(0.01)
    return for_it()


def connect(
    client: Peer,
    gateway: Peer,
    conversation: str,
    *,
    asked: Mapping[str, object] = NO_TURN,
    given: Mapping[str, object] = NO_TURN,
) -> str:
    """Create a tube on either side, with further settings for each, and let them find each other.

    Returns where the client listens for data.
    """
    shared = {"conversation_id": conversation, "trickle_ice": True, "client_version": "ms16.5.0"}
    # without a configuration there is no router to ask, and the STUN server is used as given
    shared |= {"callback_token": "token", "ksm_config": ""}
    asks = {"conversationType": "tunnel", "local_listen_addr": "127.0.0.1:0", **asked}
    gives = {"conversationType": "tunnel", "target_host": "127.0.0.1", "target_port": str(echo()), **given}
    offer = client.call("create_tube", settings=asks, krelay_server=client.server, **shared)
    client.tube = offer["tube_id"]
    answer = gateway.call("create_tube", settings=gives, krelay_server=gateway.server, offer=offer["offer"], **shared)
    gateway.tube = answer["tube_id"]
    client.call("set_remote_description", tube_id=client.tube, sdp=answer["answer"], is_answer=True)
    return str(offer.get("actual_local_listen_addr", ""))


def delivered(listens: str, peers: tuple[Peer, Peer]) -> int:
    """Send the payload through the tunnel, as soon as it takes it; the bytes that came back."""
    for _ in range(ATTEMPTS):
        # the data channel opens a moment after the connection, and until then whoever comes is turned away
        waited(lambda: False, peers, 0.3)
        if came_back := carried(listens, PAYLOAD, patience_s=5):
            return came_back
    return 0


def run(out: Path) -> dict[str, Any]:
    """Connect, carry data, ask the live API, close; what is known of it all."""
    late_s = {role: late for role, (host, late) in RELAYS_S.items() if answer_stun(host, late)}
    servers = {role: RELAYS_S[role][0] if role in late_s else "" for role in RELAYS_S}
    client, gateway = (Peer(role, out / f"{role}.log", servers[role]) for role in ("client", "gateway"))
    peers = (client, gateway)
    conversation = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    try:
        listens = connect(client, gateway, conversation)
        connected = waited(lambda: all("connected" in peer.states for peer in peers), peers, PATIENCE_S)
        came_back = delivered(listens, peers) if connected and listens else 0
        waited(lambda: False, peers, STATISTICS_S)
        live = {
            peer.role: {
                "live_stats": peer.call("get_live_stats", conversation_id=conversation),
                "connection_stats": peer.call("get_connection_stats", tube_id=peer.tube),
                "connection_state": str(peer.call("get_connection_state", tube_id=peer.tube)),
            }
            for peer in peers
        }
        for peer in peers:
            # one end closes with the other, in some releases before it is told to
            with contextlib.suppress(RuntimeError):
                peer.call("close_tube", tube_id=peer.tube, reason=0)
        waited(lambda: False, peers, 1.5)
    finally:
        for peer in peers:
            peer.leave()
    return {
        "release": importlib.metadata.version("keeper-pam-webrtc-rs"),
        "conversation_id": conversation,
        "connected": connected,
        "bytes_sent": len(PAYLOAD),
        "bytes_back": came_back,
        "sides": {
            peer.role: {
                "tube_id": peer.tube,
                "states": peer.states,
                "candidates": peer.gathered,
                "relay_ms": late_s[peer.role] * 1000 if peer.role in late_s else None,
                **live[peer.role],
            }
            for peer in peers
        },
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "facts.json").write_text(json.dumps(run(folder), indent=1))
