"""Which loggers are the library's own: its crate, and the WebRTC crates it is built on."""

from __future__ import annotations

import polars as pl

LIBRARY = "keeper_pam_webrtc_rs"
#: crates whose records are accounted for like the library's own; any other program's records are noise
OWN_CRATES = r"^(?:webrtc(?:_[a-z]+)*|turn|stun|dtls|guacr_[a-z_]+)(?:\.|$)"


def stem(target: pl.Expr) -> pl.Expr:
    """Logger name → stem of its grammar: the name without the library's crate; null for another program's."""
    return (
        pl.when(target == LIBRARY)
        .then(target)
        .when(target.str.starts_with(f"{LIBRARY}."))
        .then(target.str.strip_prefix(f"{LIBRARY}."))
        .when(target.str.contains(OWN_CRATES))
        .then(target)
    )


def logger(name: str) -> str:
    """Stem of a grammar → the logger's full name."""
    first = name.split(".", 1)[0]
    crates = {"webrtc", "webrtc_ice", "webrtc_mdns", "webrtc_sctp", "webrtc_data", "turn", "stun", "dtls"}
    return name if first in crates or first.startswith("guacr_") or name == LIBRARY else f"{LIBRARY}.{name}"
