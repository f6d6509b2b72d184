"""A STUN and TURN server that answers at once and relays nothing: what is left of a span is the library's own work."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
import threading

from tests.producer.counterparts import bound

USER, PASSWORD, REALM = "test-user", "test-pass-123", "test.example"
_COOKIE = 0x2112A442
_KEY = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode(), usedforsecurity=False).digest()
_BINDING, _ALLOCATE = 0x001, 0x003
_SUCCESS, _ERROR = 0x100, 0x110
_ERROR_CODE, _INTEGRITY, _REALM, _NONCE = 0x0009, 0x0008, 0x0014, 0x0015
_LIFETIME, _RELAYED, _MAPPED = 0x000D, 0x0016, 0x0020


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _address(kind: int, address: tuple[str, int]) -> bytes:
    """XOR an address as RFC 8489 section 14.2 does."""
    number = int.from_bytes(socket.inet_aton(address[0]), "big") ^ _COOKIE
    return _attribute(kind, struct.pack("!BBHI", 0, 1, address[1] ^ _COOKIE >> 16, number))


def _message(kind: int, transaction: bytes, body: bytes, *, signed: bool = False) -> bytes:
    def head(length: int) -> bytes:
        return struct.pack("!HHI", kind, length, _COOKIE) + transaction

    if signed:
        digest = hmac.new(_KEY, head(len(body) + 24) + body, hashlib.sha1).digest()
        body += _attribute(_INTEGRITY, digest)
    return head(len(body)) + body


def _answer(request: bytes, peer: tuple[str, int]) -> bytes | None:
    """Answer a request; None for what is none: an indication, or data for a channel."""
    kind, length, _ = struct.unpack("!HHI", request[:8])
    if request[0] >= 0x40 or kind & _ERROR:
        return None
    transaction, attributes, at = request[8:20], set(), 20
    while at + 4 <= 20 + length:
        attribute, size = struct.unpack("!HH", request[at : at + 4])
        attributes.add(attribute)
        at += 4 + size + -size % 4
    if kind == _BINDING:
        return _message(kind | _SUCCESS, transaction, _address(_MAPPED, peer))
    if _INTEGRITY not in attributes:
        nonce = os.urandom(8).hex().encode()
        challenge = _attribute(_ERROR_CODE, b"\0\0\4\1Unauthorized") + _attribute(_NONCE, nonce)
        return _message(kind | _ERROR, transaction, challenge + _attribute(_REALM, REALM.encode()))
    lifetime = _attribute(_LIFETIME, struct.pack("!I", 600))
    if kind == _ALLOCATE:
        relayed = _address(_RELAYED, (peer[0], 40_000 + peer[1] % 20_000))
        return _message(kind | _SUCCESS, transaction, relayed + _address(_MAPPED, peer) + lifetime, signed=True)
    return _message(kind | _SUCCESS, transaction, lifetime, signed=True)


def answer_at_once(host: str) -> bool:
    """Serve at the port of STUN from now on; false where the port cannot be had."""
    server = bound(host)
    if server is None:
        return False

    def serve() -> None:
        while True:
            request, peer = server.recvfrom(2048)
            if len(request) >= 20 and (answer := _answer(request, peer)):
                server.sendto(answer, peer)

    threading.Thread(target=serve, daemon=True).start()
    return True
