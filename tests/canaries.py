# ruff: noqa: E501 - a place is read as a row
"""Logs full of planted secrets, in every layout of lines: nothing of them may come out anywhere.

Each message is one place in which the library, a program beside it or the relay prints a secret. A canary holds one of
two marks at both of its ends, so that a piece of it is found, too, and so is any usual coding of it.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import polars as pl

from analyzer.events.targets import LIBRARY, logger
from analyzer.grammar import dialects, wraps
from analyzer.grammar.printer import render

#: a secret of any signs, and one of letters alone, as ICE's are; one that is a word, and one of another alphabet
MARKS, WORDS = ("c4N4rY", "QzXvKjWp"), ("kumquatel", "щукажбыт")
STAMP = "2026-11-22 13:19:35,251"
ZONED = "2026-11-22T13:19:35.251000Z"
IDS = "tube_id: abc-123, conversation_id: conv-456"
_PEM = "-----BEGIN PRIVATE KEY-----\n{0}\n{0}\n-----END PRIVATE KEY-----"
_KSM = r"{{\"hostname\":\"keeper.test\",\"clientId\":\"{0}\",\"privateKey\":\"{0}\",\"note\":\"very {0} old\"}}"
_MAP = '{{"hostname": String("{0}"), "password": String("{0} {0}"), "port": Number(22)}}'
_SDP = (
    "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=ice-ufrag:{0}\r\n"
    "a=ice-pwd:{0}\r\na=fingerprint:sha-256 {0}\r\n"
    "a=candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host ufrag {0} network-cost 5\r\n"
)

#: stem of the logger, and the message; `{0}` is the canary
PLACES: tuple[tuple[str, str], ...] = (
    ("router_helpers", f'Router request (method: GET, path: /a, instance_id: i, ksm_config: "{_KSM}", client_version: 1)'),
    ("router_helpers", 'Sending connection state to router (request_body: {{\n  "token": "{0}",\n  "tokens": [\n    "{0}"\n  ],\n  "note": "a {0} b"\n}})'),
    ("router_helpers", "TEST MODE: Skipping report_connection_open for ksm_config: {0}"),
    ("router_helpers", "Router request failed (status: 403, body: Forbidden for {0} of {0}\n<html>{0}</html>)"),
    ("tube", "[TUBE_DEBUG] Tube abc-123: About to call setup_ice_candidate_handler. Callback token (used as conv_id): {0}"),
    ("tube", f"Create_peer_connection protocol_settings ({IDS}): {_MAP}"),
    ("tube", f"create_channel: Initial parameters. (tube_id: abc-123, settings: {_MAP})"),
    ("tube", f"on_data_channel: Protocol settings ({IDS}, protocol_settings: {_MAP})"),
    ("tube", f"ICE gathering started ({IDS}, password: {{0}}, {{0}}, ufrag {{0}})"),
    ("tube", f"ICE gathering complete ({IDS})\nwith {{0}}\n{{0}}"),
    ("tube_registry", f"Pooled TURN credentials ({IDS}, username: 1790000000:{{0}}, password: {{0}})"),
    ("tube_registry", f"Fresh TURN credentials ({IDS}, username: {{0}}, password: a,b ({{0}}) c)"),
    ("tube_registry", 'Received TURN credentials (tube_id: abc-123, credentials: {{"username":"{0}","password":"{0}"}})'),
    ("tube_registry", "Fetched fresh TURN credentials (tube_id: abc-123, username: {0})"),
    ("tube_registry", "Successfully fetched TURN credentials (tube_id: abc-123, duration: 45.2ms, username: {0})"),
    ("tube_registry", 'Got TURN credentials: username={0}, password="{0}"'),
    ("tube_registry", "Received ksm_config for ICE server setup (tube_id: abc-123) ksm_config={0}"),
    ("webrtc_core", f"ICE restart TURN credentials ({IDS}, username: {{0}}, password: {{0}}, ttl: 60)"),
    ("webrtc_core", f"Initial offer SDP ({IDS}, sdp: {_SDP})"),
    ("webrtc_core", f"Initial {_SDP} SDP tube_id=abc-123"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufrag {{0}} pwd {{0}})"),
    ("channel.protocol", f"Channel(conv-456): Failed to parse gateway private key PKCS#8 PEM: E. PEM was: '{_PEM}'"),
    ("channel.protocol", "Channel state for OpenConnection (channel_id: conv-456, guacd_params: Some({0}), connect_as: {0})"),
    ("channel.protocol", "Endpoint Successfully decrypted 'connect_as' payload for conn_no 1 (channel_id: conv-456): {{\"user\": \"{0}\"}}"),
    ("channel.core", f"Raw guacd_params value for direct processing. (channel_id: conv-456, guacd_params: {_MAP})"),
    ("channel.core", f"Found 'guacd' block in protocol_settings: {_MAP} (channel_id: conv-456)"),
    ("channel.core", f"Raw connect_as_settings value. (channel_id: conv-456, value: {_MAP})"),
    ("channel.core", 'guacd_params was not a JSON object. Value: String("{0}") (channel_id: conv-456)'),
    ("channel.core", "CRITICAL: Failed to deserialize connect_as_settings: missing field. Value was: {0} {0}"),
    ("channel.core", "First few bytes of received data (channel_id: conv-456, first_bytes: {1})"),
    ("channel.core", 'First few bytes of received data: {1} b"{0}"'),
    ("channel.connections", "Failed to parse Guacd instruction (channel_id: conv-456, first_bytes: [{1}], text: 6.secret,9.{0};)"),
    ("channel.frame_handling", "Large payload first bytes (channel_id: conv-456, first_bytes: [{1}])"),
    ("channel.server", "Data: [{1}]"),
    ("channel.server", 'Data (first 50 bytes): "{0}\\" {0}" of 50'),
    ("guacr_guacd.client", "Guacd Handshake: params (channel_id: conv-456, instruction: 7.connect,13.VERSION_1_5_0,4.host,9.{0},20.correct {0} horse;)"),
    ("guacr_guacd.client", 'Guacd sent error during handshake (channel_id: conv-456, opcode: error, args: ["{0}", "519"])'),
    ("webrtc_ice.agent.agent_internal", "Started agent: isControlling? true, remoteUfrag: {0}, remotePwd: {0}"),
    ("turn.client", "try_send data = [{1}]"),
    ("turn.client", "Allocate refused for username {0} with password {0}"),
    ("brand_new", "Got a token {0} and {0}"),
    ("brand_new", "Authorization: Bearer {0}.{0}.{0}"),
    ("brand_new", 'Spoken: "{0}'),
    ("brand_new", "Split by nobody, password is {0} and {0}, state: {0}\npassword:\n  {0}\n{0}"),
    ("handler_integration", "Handler params password='{0}' api_key={0}"),
    ("python.handler_task", "Settings {{'password': '{0}', 'private_key': '{0}'}}"),
    ("keepercommander.tunnel", 'WebRTC settings before create_tube: {{"turn": {{"username": "{0}", "credential": "{0}"}}}}'),
    ("keepercommander.tunnel", 'Sending initial offer with connection parameters: {{\n  "callback_token": "{0}"\n}}'),
    ("urllib3.connectionpool", "GET /api?token={0} with {0} done"),
    ("coturn", "session 000000000000000001: new, realm=<{0}>, username=<1790000000:{0}>, lifetime=600"),
    ("coturn", "session 000000000000000001: realm <{0}> user <{0}>: incoming packet message processed, error 401: {0}"),
    ("coturn", "check_stun_auth: Cannot find credentials of user <{0}>"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate: 1 1 udp 1 10.0.0.1 5000 typ host ufrag {{0}} pwd {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate: ufrag {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ {{0}})"),
    ("webrtc_core", f"Initial offer SDP ({IDS}, sdp: v=0\r\na=candidate: 1 1 udp 1 10.0.0.1 5000 typ host ufrag {{0}} pwd {{0}}\r\n)"),
    ("brand_new", "Relay said a={0}({0}, {0}), b=({0}, x), c: d, {0} ({0})"),
    ("tube", f"ICE gathering started ({IDS}, ufrag: {{0}} at src/tube.rs:12)"),
    ("tube", f"ICE gathering complete ({IDS}) ({{0}} src/tube.rs:12)"),
    ("tube_registry", f"Successfully fetched TURN credentials ({IDS}, duration: 45.2ms, password: {{0}}, error: at src/tube_registry.rs:870)"),
    ("webrtc_core", f"Initial offer SDP ({IDS}, sdp: v=0\r\na=ice-pwd:{{0}}\r\ncrates/keeper/src/webrtc_core.rs:1437)"),
    ("tube_registry", f"Pooled TURN credentials ({IDS}, username: u, password: Qab,{{0}}=x)"),
    ("tube", "[TUBE_DEBUG] Tube abc-123: About to call setup_ice_candidate_handler. Callback token (used as conv_id): {0}=="),
    ("router_helpers", "Router request failed (status: 403, body: Forbidden\n{0}==\n)"),
    ("webrtc_ice.agent.agent_internal", "[controlling]: discard message from (10.77.3.2:48001), ErrMismatchUsername expected({0}:) actual({0}:{0})"),
    ("guacr_guacd.client", "Guacd Handshake: params (channel_id: conv-456, instruction: 7.connect,22.Pass,{0}=rest;)"),
    ("channel.protocol", "Channel(conv-456): Failed to parse gateway private key PKCS#8 PEM: E. PEM was: '-----BEGIN PRIVATE KEY-----\nAAAA\n{0}=\n-----END PRIVATE KEY-----'"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ice-pwd {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ice-ufrag:{{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufrag={{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host password:{{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host Ufrag {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufra {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host usernameFragment {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host fingerprint {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufrag  {{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufrag\t{{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host ufrag\u00a0{{0}})"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host \\r\\na=ice-pwd:{{0}}\\r\\n)"),
    ("webrtc_core", f"ICE candidate gathered ({IDS}, candidate: candidate:1 1 udp 1 10.0.0.1 5000 typ host generation 0 {{0}} {{0}})"),
    ("webrtc_core", f"Initial offer SDP ({IDS}, sdp: v=0\r\na=candidate:1 1 udp 1 10.0.0.1 5000 typ host\\r\\na=ice-ufrag:{{0}}\\r\\na=ice-pwd:{{0}})"),
    ("tube_registry", f"Fresh TURN credential ({IDS}, usernane: {{0}}({{0}}){{0}}, pasword: {{0}}({{0}}){{0}})"),
    ("brand_new", "Router response (status: 200, body: {0}({0}){0})"),
    ("brand_new", "token expired (label: x) then {0}"),
    ("brand_new", "Fetched credentials from router (label: x) {0}"),
    ("brand_new", "Connecting as admin Kx!{0}$vW~q now"),
    ("tube_registry", "Added TURN server (tube_id: abc-123, url: turn:krelay.test:3478?token={0})"),
    ("tube_registry", "Added TURN server (tube_id: abc-123, url: turns:{0}:{0}@krelay.test:5349)"),
    ("webrtc_ice.agent.agent_gather", "[controlling]: Failed to allocate on turn.Client turn:user:{0}@krelay.test:3478 Allocate error response (error 401: Unauthorized)"),
    ("coturn", "session 000000000000000001: delete: realm=<{0}({0}){0}>, username=<{0}({0}){0}>"),
    ("channel.protocols.guacd", "Received instruction: 7.connect,8.{0}) correct {0} ({0},6.{0}"),
    ("channel.protocol", "Endpoint conv-456: User details from 'connect_as' for conn_no 1: {0}) correct {0} ({0}"),
    ("channel.server", "Data: abc, {0}=x, state: {0}={0}"),
    ("channel.core", "Found 'guacd' block in protocol_settings: abc, {0}=x, {0} (channel_id: conv-456)"),
    ("channel.frame_handling", "Large payload first bytes len=abc, {0}=x"),
    ("brand_new", f"Something new ({IDS}, params: x) {{0}} ({{0}}, {{0}}: x) done"),
    ("brand_new", "Settings read: x (src/x.rs:12) {0} ({0} src/y.rs:4"),
    ("brand_new", "Settings read: {0} | {0}|{0}, {0} and {0}: {0}"),
)  # fmt: skip


def canary(mark: str, number: int) -> str:
    """One planted secret, of letters alone where its mark is."""
    inner = f"{number:04}"
    if mark.isalpha():
        inner = inner.translate(str.maketrans("0123456789", "abcdefghij" if mark.islower() else "aBcDeFgHiJ"))
    return f"{mark}{inner}{mark}"


def _behind_a_sign(text: str) -> bool:
    """Whether a sign before it tells a word for a value: a sentence or a candidate may hold any."""
    return "candidate:" not in text and any(sign in text.partition("{0}")[0] for sign in (": ", "="))


def messages() -> Iterator[tuple[str, str]]:
    """Every place with every canary: as the library writes it, misspelt, gone on, and cut in the secret."""
    number = 0
    for stem, text in PLACES:
        target = stem if "." in stem and stem.split(".")[0] in ("keepercommander", "urllib3") else logger(stem)
        for mark in (*MARKS, *(WORDS if _behind_a_sign(text) else ())):
            number += 1
            secret = canary(mark, number)
            said = text.format(secret, ", ".join(str(byte) for byte in secret.encode()))
            yield target, said
            yield target, said[:2] + said[3:]
            yield target, said.replace(" ", " quite ", 1)
            yield target, said[: said.rfind(secret[-4:])]
            yield target, f"{said} (src/tube.rs:12)"


def _lines(name: str) -> Iterator[str]:
    """Physical lines of all messages in one layout."""
    (kind,) = (kind for kind in dialects() if kind.name == name)
    values = {"level": "DEBUG", "elapsed_s": "4"}
    shared = {
        "ASCTIME": STAMP, "SECONDTIME": STAMP[:19], "ZONEDTIME": ZONED, "ZONEDSECOND": f"{ZONED[:19]}+00:00"
    }  # fmt: skip
    text = str(kind.sequence)
    values["ts"] = next((value for terminal, value in shared.items() if f"'{terminal}'" in text), "")
    for target, said in messages():
        spelled = target.replace(".", "::") if name == "tracing" else target
        yield from render(kind.sequence, {**values, "target": spelled, "message": said}).split("\n")


def _wrapped(name: str) -> Iterator[str]:
    (kind,) = (kind for kind in wraps() if kind.name == name)
    sample = kind.samples[0]
    before = sample[: sample.index("DEBUG keeper_pam_webrtc_rs")]
    return (before + line for line in _lines("std"))


def _framed(name: str) -> Iterator[str]:
    if name == "docker_json":
        return (json.dumps({"log": f"{line}\n", "stream": "stderr", "time": ZONED}) for line in _lines("std"))
    return (
        json.dumps({"timestamp": ZONED, "level": "DEBUG", "logger": target, "message": said, "password": canary(MARKS[0], 9999)})
        for target, said in messages()
    )  # fmt: skip


def _headers() -> Iterator[str]:
    """Records in JSON with a canary where another layout has a time, a level or a logger."""
    for number, mark in enumerate((*MARKS, *WORDS)):
        secret = canary(mark, number)
        for said in (
            f"https://relay.test/x?token={secret}&u=bob:{secret}",
            f"{LIBRARY}.tube {secret}",
            f"webrtc_ice.agent?password={secret} 81.2.69.160",
            f"{LIBRARY}.{secret}==",
            {"user": "bob", "password": secret},
        ):
            yield json.dumps({"timestamp": ZONED, "level": "DEBUG", "logger": said, "message": "x"}, ensure_ascii=False)
        for key in ("timestamp", "level"):
            of = {"timestamp": ZONED, "level": "DEBUG", "logger": f"{LIBRARY}.tube", "message": "x"}
            yield json.dumps({**of, key: secret}, ensure_ascii=False)


def layouts() -> dict[str, list[str]]:
    """All lines, by layout."""
    found = {kind.name: list(_lines(kind.name)) for kind in dialects()}
    found |= {kind.name: list(_wrapped(kind.name)) for kind in wraps()}
    return found | {name: list(_framed(name)) for name in ("docker_json", "json")}


def plant(folder: Path) -> list[Path]:
    """Write one log for each layout, and some that are damaged, compressed, without a header, or cut."""
    folder.mkdir()
    secret = canary(MARKS[0], 1)
    # a line before any header belongs to no record
    for name, lines in layouts().items():
        (folder / f"{name}.log").write_text("\n".join([f"password {secret}", secret, *lines]) + "\n", newline="")
    std = "\n".join(layouts()["std"]).encode()
    (folder / "std-gz.log.gz").write_bytes(gzip.compress(b"gz\n" + std, mtime=0))
    (folder / "std-cut.log.gz").write_bytes(gzip.compress(b"cut\n" + std, mtime=0)[:-2000])
    (folder / "std-damaged.log").write_bytes(std.replace(secret[:3].encode(), b"\xff\xfe" + secret[:3].encode(), 50))
    (folder / "std-utf16.log").write_bytes(std.decode().encode("utf-16"))
    (folder / "json-headers.log").write_text("\n".join(_headers()) + "\n")
    (folder / "no-dialect.log").write_bytes(b"\n".join([secret.encode()] * 50))
    (folder / "long.log").write_bytes(
        f"{STAMP} DEBUG {LIBRARY}.tube: ICE gathering started (tube_id: abc-123, token: {'x' * (1 << 20)}{secret})\n".encode() + std
    )  # fmt: skip
    return sorted(folder.iterdir())


def codings(mark: str) -> Iterator[str]:
    """Spellings of a mark: as it is, in base64 at any offset, in hex, as numbers, escaped in a URL or JSON."""
    raw = mark.encode()
    yield mark
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw + b"\0" * 3).decode()
        # the first and the last signs depend on the neighbours
        yield coded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
    yield raw.hex()
    yield ", ".join(map(str, raw))
    yield "".join(f"%{byte:02x}" for byte in raw)
    yield quote(mark)
    yield json.dumps(mark)[1:-1]
    yield "".join(f"\\x{byte:02x}" for byte in raw)


_ANY = re.compile("|".join(re.escape(text) for mark in (*MARKS, *WORDS) for text in codings(mark)), re.IGNORECASE)


def found(text: str) -> list[str]:
    """What is around each canary in a text; nothing should be."""
    return [text[max(0, one.start() - 80) : one.end() + 40] for one in _ANY.finditer(text)]


def spelled(path: Path) -> Iterator[str]:
    """Everything a file holds, as texts: the bytes as they are, and a table's values and notes decompressed."""
    yield path.read_bytes().decode("latin-1")
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes()).decode()
    if path.suffix == ".parquet":
        yield pl.read_parquet(path).write_ndjson()
        yield str(pl.read_parquet_metadata(path))
