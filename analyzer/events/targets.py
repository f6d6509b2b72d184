"""Which loggers are the library's own: its crate, and the WebRTC crates it is built on; and who else is listened to."""

from __future__ import annotations

import re
from functools import cache

LIBRARY = "keeper_pam_webrtc_rs"
#: crates whose records are accounted for like the library's own; any other program's records are noise
_OWN_CRATES = re.compile(r"(?:webrtc(?:_[a-z]+)*|turn|stun|dtls|guacr_[a-z_]+)(?:\.|$)")
#: the same, without those the library's own modules are called like
_CRATES = frozenset({"webrtc", "webrtc_ice", "webrtc_mdns", "webrtc_sctp", "webrtc_data", "turn", "stun", "dtls"})


#: other programs that a grammar is written for: what its rules do not take is noise, as of any other program
WITNESSES = frozenset({"coturn"})


@cache
def stem(target: str) -> str | None:
    """Logger name → stem of its grammar: the name without the library's crate; null where none is meant for it."""
    if target == LIBRARY or target in WITNESSES:
        return target
    if target.startswith(f"{LIBRARY}."):
        return target.removeprefix(f"{LIBRARY}.")
    return target if _OWN_CRATES.match(target) else None


def logger(name: str) -> str:
    """Stem of a grammar → the logger's full name."""
    first = name.split(".", 1)[0]
    whole = first in _CRATES or first.startswith("guacr_") or name == LIBRARY or name in WITNESSES
    return name if whole else f"{LIBRARY}.{name}"
