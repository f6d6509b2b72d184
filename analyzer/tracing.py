"""What Rust's `tracing` formatter adds to a record of releases 0.2.0 to 0.2.23, taken off a whole batch at a time.

Later releases write the same messages through `log`, as `text (key: value, key: value)` from the logger of a module.
Their grammars read these records too, once these are spelled so; only sources of that dialect are looked at.
"""

from __future__ import annotations

import polars as pl

DIALECT = "tracing"

#: CSI escapes: the formatter colours time, level, target and the names of fields, even into a file
_ESCAPE = r"\x1b\[[0-9;]*m"
#: ` key=value`. Texts are quoted; one that a tail would cut, or that holds escapes, keeps its quotes, by which it is
#: masked where nothing takes the line. Names have two letters or more: what has one is a line of a session description.
_FIELD = r" ([A-Za-z_][A-Za-z0-9_.]+)=(?:\"([^\"\\,()|\r\n]*)\"|(\"(?:[^\"\\]|\\.)*\"))?"
#: Told where the peer connection's state is not, by that branch of its handler; later releases tell both.
_ACTIVE, _CONNECTED = "^Tube connection state changed to Active", "Connection state changed to: Connected"
#: stands before every field until it is known which is the first; a message that holds it loses it
_MARK = "\x1f"

_CRATE = "keeper_pam_webrtc_rs"
#: Targets that were written out, which never were anything but a name for a subject, by the module that wrote to them.
#: `webrtc_ice` has a grammar of its own: two modules share it that mean two things by the same words.
_MODULES = {
    "channel.connections": "guac_disconnect guac_error_handling guac_opcode_debug guac_opcode_dispatch guac_protocol "
    "guac_protocol_debug guac_size_instruction_handshake guac_size_instruction_outbound guac_special_opcodes",
    "channel.core": "channel_cleanup channel_flow channel_lifecycle channel_setup channel_summary connection_lifecycle",
    "channel.protocol": "protocol_connect protocol_event",
    "channel.utils": "channel_health",
    "python.connectivity": "connectivity_test",
    "python.signal_handler": "signal_handler",
    "python.tube_registry_binding": "lifecycle python_bindings",
    "resource_manager": "resource_recovery rtc_config",
    "router_helpers": "router_communication",
    "router_helpers.challenge_response": "challenge_response",
    "tube": "keeper_pam_webrtc_rs_webrtc webrtc_ice_connection webrtc_ice_gathering webrtc_ice_selected "
    "webrtc_lifecycle webrtc_state webrtc_state_report",
    "tube_and_channel_helpers": "on_message",
    "tube_protocol": "protocol_parse",
    "tube_registry": "ice_config registry tube_lifecycle",
    "webrtc_core": "resource_management webrtc_activity webrtc_ice_internal webrtc_ice_restart webrtc_ice_verbose "
    "webrtc_keepalive webrtc_sdp webrtc_signal",
}
_LOGGERS = {target: f"{_CRATE}.{module}" for module, targets in _MODULES.items() for target in targets.split()}


def uncoloured(text: pl.Series) -> pl.Series:
    """Lines without their colours."""
    return text.str.replace_all(_ESCAPE, "")


def logger(target: pl.Expr) -> pl.Expr:
    """The name that later releases give the logger: `a::b` is `a.b`, a subject is the module that wrote of it.

    Tables hold this one spelling, so that a logger is the same in all releases; a subject such as `registry` would
    also be taken for another program's logger.
    """
    return target.str.replace_all("::", ".", literal=True).replace(_LOGGERS)


def spelled(message: pl.Expr) -> pl.Expr:
    """`text key=value key="a text"` as `text (key: value, key: a text)`, in the words of later releases."""
    unmarked = message.str.replace(_ACTIVE, _CONNECTED).str.replace_all(_MARK, " ", literal=True)
    marked = unmarked.str.replace_all(_FIELD, f"{_MARK}${{1}}: ${{2}}${{3}}")
    listed = marked.str.replace(_MARK, " (", literal=True).str.replace_all(_MARK, ", ", literal=True)
    return pl.when(marked.str.contains(_MARK, literal=True)).then(listed + ")").otherwise(unmarked)
