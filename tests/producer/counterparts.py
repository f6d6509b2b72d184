"""What the peers of a run talk to besides each other: STUN servers that answer late, and an echo server."""

from __future__ import annotations

import contextlib
import socket
import threading

#: the library is told a host alone, the port is STUN's own
STUN_PORT = 3478
#: bytes sent before they are waited for
STEP = 8192
_COOKIE = 0x2112A442


def bound(host: str) -> socket.socket | None:
    """Take the port of STUN; None where it cannot be had."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind((host, STUN_PORT))
    except OSError:
        server.close()
        return None
    return server


def answer_stun(host: str, delay_s: float) -> bool:
    """Answer STUN Binding requests (RFC 8489 §14.2) so late; false where the port cannot be had."""
    server = bound(host)
    if server is None:
        return False

    def reply(transaction: bytes, peer: tuple[str, int]) -> None:
        port = peer[1] ^ _COOKIE >> 16
        address = int.from_bytes(socket.inet_aton(peer[0]), "big") ^ _COOKIE
        mapped = b"\0\x20\0\x08\0\x01" + port.to_bytes(2, "big") + address.to_bytes(4, "big")
        server.sendto(b"\x01\x01" + len(mapped).to_bytes(2, "big") + transaction + mapped, peer)

    def serve() -> None:
        while True:
            request, peer = server.recvfrom(2048)
            if request[:2] == b"\0\x01":
                threading.Timer(delay_s, reply, (request[4:20], peer)).start()

    threading.Thread(target=serve, daemon=True).start()
    return True


def echo() -> int:
    """Give whatever connects its own bytes back; the port."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


def carried(address: str, payload: bytes, *, patience_s: float) -> int:
    """Send bytes to what is an echo server in the end; how many came back as they were."""
    host, port = address.rsplit(":", 1)
    back = b""
    with socket.create_connection((host, int(port)), timeout=patience_s) as tunnel, contextlib.suppress(OSError):
        for start in range(0, len(payload), STEP):
            tunnel.sendall(payload[start : start + STEP])
            while len(back) < start + STEP and (data := tunnel.recv(65536)):
                back += data
    return len(back) if payload.startswith(back) else 0
