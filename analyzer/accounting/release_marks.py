"""What a release of the library is known by: its wordings, and the lines of its source that its records name.

Each fact is one declaration. A wording, the first words of a message up to where a value may begin, stands between the
first and the last release that can hold it: those published next to the releases whose wheels were looked into and do
not hold it; None where the oldest or the newest of them does. So a declaration may be wide, but it is not wrong by a
release nobody looked into.
"""

from __future__ import annotations

#: wheels whose texts were looked into
WORDED_IN = ("0.2.24", "1.0.0", "1.0.2", "1.0.5", "1.0.9", "1.1.0", "1.1.4", "1.1.9", "1.2.3", "1.2.6", "1.6.2", "2.0.1",
             "2.1.1", "2.1.8", "2.1.12", "2.1.16", "2.1.20", "2.1.22", "2.2.0", "2.2.3", "2.2.6", "2.2.8", "2.2.9")  # fmt: skip

#: first words of a message, the first and the last release that can hold them
WORDINGS: tuple[tuple[str, str | None, str | None], ...] = (
    ("New ICE candidate details", None, "0.2.24"),
    ("Received end-of-candidates signal", None, "0.2.24"),
    ("Both descriptions set after signaling state change, flushing buffered INCOMING I", None, "1.0.1"),
    ("Both descriptions set, adding incoming ICE candidate immediately", None, "1.0.1"),
    ("Final list of ICE server URLs to be used", None, "1.0.4"),
    ("Logger initialized for", None, "1.0.4"),
    ("Logging bridge setup complete", None, "1.0.4"),
    ("TubeRegistry::new", None, "1.0.4"),
    ("Tube processing complete.", None, "1.0.4"),
    ("close_tube: Transitioned tube status to Closing. Proceeding with close.", None, "1.0.4"),
    ("create_channel: Called.", None, "1.1.8"),
    ("Successfully queued bytes for backend task", None, "1.0.8"),
    ("ULTRA HOT PATH: Connection", None, "1.0.8"),
    ("Channel cleanup completed", None, "1.1.3"),
    ("Checking if can add ICE candidate immediately", None, "1.1.8"),
    ("Initializing global metrics collector", None, "1.1.8"),
    ("on_data_channel: Data channel added to tube", None, "1.2.0"),
    ("Current signaling state before set_local_description", None, "2.1.15"),
    ("Set buffered amount low threshold to", None, "2.1.15"),
    ("Trickle ICE: Setting local description in Tube::create_session_description", None, "2.1.15"),
    ("Sending connection_open callback to router", None, "2.2.5"),
    ("Triggered ICE connectivity check after adding trickle candidate", "1.0.0", "1.1.8"),
    ("[TUBE_CALLBACK] on_data_channel FIRED! tube_id:", "1.0.0", "1.2.0"),
    ("ICE gathering completed early", "1.0.0", "1.6.1"),
    ("Stopped adaptive quality monitoring for tube", "1.0.0", "2.1.15"),
    ("[SDP_DEBUG] SDP contains data channel", "1.0.0", None),
    ("[SDP_DEBUG] set_remote_description called", "1.0.0", None),
    ("Unregistered original conversation from metrics", "1.0.1", "1.0.4"),
    ("Current signaling state before set_remote_description", "1.0.1", "1.1.8"),
    ("Remote description set, adding incoming ICE candidate immediately", "1.0.1", "1.1.8"),
    ("✓ WebRTC peer connection closed", "1.0.3", "1.0.8"),
    ("Tube closed via actor - Tube::drop", "1.0.3", "1.0.8"),
    ("Actor closing tube:", "1.0.3", "1.0.9"),
    ("Sent EOF for graceful shutdown", "1.0.3", "1.1.3"),
    ("Tube created with RAII resources", "1.0.3", "1.1.8"),
    ("Using krelay_server for ICE configuration", "1.0.3", "1.1.8"),
    ("Metrics auto-registered", "1.0.3", None),
    ("Registry configured with max_concurrent_creates:", "1.0.3", None),
    ("ICE disconnected wait:", "1.0.6", None),
    ("ICE restart answer timeout:", "1.0.6", None),
    ("Removed shutdown notifier for channel", "1.0.6", None),
    ("Shutdown notification received, exiting channel run loop", "1.0.6", None),
    ("Successfully closed connection with graceful TCP shutdown", "1.1.0", "2.1.7"),
    ("Quality monitoring started", "1.1.0", "2.1.15"),
    ("Quality monitoring: Aborted monitoring task immediately", "1.1.0", "2.1.15"),
    ("Backend task completed gracefully with TCP shutdown", "1.1.0", None),
    ("Spawned task closing tube:", "1.1.0", None),
    ("Cancelled backend read task for immediate exit", "1.1.1", "2.1.7"),
    ("Failed to send CloseConnection control message, continuing with cleanup anyway", "1.1.1", None),
    ("Sent CloseConnection", "1.1.1", None),
    ("on_data_channel: About to call channel.run", "1.1.5", None),
    ("Client tube will receive data channel via on_data_channel", "1.2.0", None),
    ("Server tube creating data channel locally", "1.2.0", None),
    ("Tube status changed to Ready", "1.2.0", None),
    ("[SETUP_DATA_CHANNEL_HANDLERS] Task started - waiting for channel open", "1.2.0", None),
    ("to_webrtc task completed gracefully with buffer cleanup", "1.2.4", "2.1.7"),
    ("Marked connection", "1.2.4", None),
    ("to_webrtc task completed", "1.2.4", None),
    ("DEBUG_CHANNEL_RUN: Channel.run", "1.6.0", "2.0.0"),
    ("Channel-based logger initialized for", "1.6.0", None),
    ("Channel.run", "1.6.0", None),
    ("Logger task started - forwarding Rust logs to Python", "1.6.0", None),
    ("WebRTC closed. Initiating tube close.", "2.0.0", None),
    ("Backend received EOF, shutting down TCP write to guacd", "2.1.2", None),
    ("Remote ICE candidate #", "2.1.2", None),
    ("close_single_connection: Sending EOF for TCP shutdown", "2.1.2", None),
    ("close_single_connection: graceful_shutdown complete", "2.1.2", None),
    ("graceful_shutdown: Dropping data_tx to signal backend", "2.1.2", None),
    ("Patching SDP max-message-size: remote=", "2.1.13", "2.2.8"),
    ("DataChannel stats", "2.1.13", None),
    ("Last channel deregistered on a terminal/active tube — auto-closing to prevent zo", "2.1.13", None),
    ("Skipping channel_closed for already-deregistered channel", "2.1.17", None),
    ("Skipping channel_closed signal — tube is closing, step", "2.1.17", None),
)

#: releases that print where in the source a record was written, as published
PUBLISHED = (
    "1.6.0", "1.6.1", "1.6.2", "2.0.0", "2.0.1", "2.1.0", "2.1.1", "2.1.2", "2.1.4", "2.1.5", "2.1.6", "2.1.7", "2.1.8",
    "2.1.9", "2.1.10", "2.1.12", "2.1.13", "2.1.14", "2.1.15", "2.1.16", "2.1.17", "2.1.18", "2.1.19", "2.1.20",
    "2.1.21", "2.1.22", "2.2.0", "2.2.1", "2.2.2", "2.2.3", "2.2.4", "2.2.5", "2.2.6", "2.2.7", "2.2.8", "2.2.9",
)  # fmt: skip
#: those among them that were run to see
LOCATED_IN = ("1.6.2", "2.0.1", "2.1.1", "2.1.8", "2.1.12", "2.1.16", "2.1.20", "2.1.22", "2.2.0", "2.2.3", "2.2.6",
              "2.2.8", "2.2.9")  # fmt: skip
#: event kind and source file: the line it was written at, in each release of LOCATED_IN
LOCATIONS: dict[str, tuple[int | None, ...]] = {
    "channel_closing src/channel/core.rs": (
        1796,
        1832,
        1870,
        1573,
        1615,
        1687,
        1802,
        1776,
        1838,
        1842,
        1842,
        1842,
        1842,
    ),
    "channel_initialized src/channel/core.rs": (758, 797, 797, 813, 813, 862, 926, 900, 978, 982, 982, 982, 982),
    "channel_opened src/tube.rs": (1071, 937, 937, 979, 1011, 1029, 1057, 1057, 1122, 1122, 1149, 1149, 1152),
    "tube_removed src/tube_registry.rs": (333, 333, 333, 341, 341, 341, 379, 379, 385, 385, 385, 385, 385),
    "candidate_gathered src/webrtc_core.rs": (763, 763, 763, 907, 907, 895, 927, 927, 957, 957, 957, 960, 980),
    "channel_awaited src/webrtc_data_channel.rs": (298, 298, 298, 298, 310, 217, 217, 217, 268, 264, 264, 264, 356),
    "channel_closed src/tube.rs": (2223, 2091, 2091, 2189, 2257, 2380, 2472, 2472, 2569, 2569, 2562, 2562, 2565),
    "channel_state_changed src/channel/protocol.rs": (140, 140, 140, 155, 155, 155, 187, 187, 187, 187, 187, 229, 229),
    "close_reason_retrieved src/tube.rs": (812, 678, 678, 692, 715, 718, 724, 724, 748, 748, 775, 775, 777),
    "gathering_started src/tube.rs": (548, 414, 414, 426, 448, 448, 452, 452, 467, 467, 499, 499, 500),
    "gathering_state_changed src/tube.rs": (525, 391, 391, 403, 425, 425, 429, 429, 444, 444, 476, 476, 477),
    "ice_state_changed src/tube.rs": (438, 304, 304, 316, 338, 338, 342, 342, 357, 357, 389, 389, 390),
    "pair_reported src/metrics/collector.rs": (573, 573, 573, 573, 573, 601, 601, 601, 603, 555, 555, 555, 555),
    "peer_connection_requested src/tube.rs": (195, 195, 195, 206, 228, 228, 228, 228, 242, 242, 274, 274, 275),
    "peer_state_changed src/tube.rs": (255, 249, 249, 261, 283, 283, 284, 284, 299, 299, 331, 331, 332),
    "remote_candidate_numbered src/webrtc_core.rs": (
        None,
        None,
        None,
        1771,
        1778,
        1778,
        1834,
        1834,
        1864,
        1864,
        1864,
        1867,
        1864,
    ),
    "remote_description_set src/tube.rs": (
        1653,
        1521,
        1521,
        1588,
        1656,
        1681,
        1763,
        1763,
        1836,
        1836,
        1888,
        1888,
        1891,
    ),
    "signaling_state_changed src/webrtc_core.rs": (693, 693, 693, 837, 837, 825, 857, 857, 887, 887, 887, 890, 910),
    "server_tube_created src/tube_registry.rs": (694, 694, 694, 733, 733, 733, 789, 789, 795, 795, 795, 795, 795),
    "client_tube_created src/tube_registry.rs": (721, 721, 721, 760, 760, 760, 816, 816, 822, 822, 822, 822, 822),
}

#: folder of the library's source in the repository, as printed: the first and the last release that can print it
FOLDERS: tuple[tuple[str, str | None, str | None], ...] = (
    ("src/", "1.6.0", "2.0.0"),
    ("crates/keeper-pam-webrtc-rs/src/", "2.0.0", None),
)
#: the last release that can leave all locations out
NO_LOCATIONS_UNTIL = "1.6.1"
#: layouts of lines that only some releases write by themselves
DIALECTS = {"tracing": ("0.2.0", "0.2.23")}
