"""Datasets for the tests of views, commands and the API: from the seed's five lines, or from a shipped capture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import analyzer
from analyzer.pipeline import ingest
from analyzer.views import conversation, summary

CAPTURED = Path(__file__).parents[1] / "fixtures" / "captured"
#: signs that act on a terminal instead of showing
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SEED_LINES = (
    "DEBUG keeper_pam_webrtc_rs.tube: ICE gathering started (tube_id: abc-123)",
    (
        "DEBUG keeper_pam_webrtc_rs.tube_registry: Successfully fetched TURN credentials"
        " (tube_id: abc-123, duration: 45.2ms)"
    ),
    (
        "DEBUG keeper_pam_webrtc_rs.metrics.collector: Updated selected candidate pair stats"
        " (conversation_id: conv-456, local: relay, remote: host, rtt: 87.3ms)"
    ),
    "DEBUG keeper_pam_webrtc_rs.tube: ICE gathering complete (tube_id: abc-123)",
    (
        "DEBUG keeper_pam_webrtc_rs.metrics.collector: ICE gathering completed"
        " (conversation_id: conv-456, duration: 312.7ms)"
    ),
)


def seed_dataset(folder: Path, lines: Sequence[str] = SEED_LINES, *, name: str = "seed.log") -> Path:
    """Write lines as a log and ingest it into `folder/metrics`."""
    log = folder / name
    log.write_text("\n".join(lines) + "\n")
    ingest([str(log)], folder / "metrics")
    return folder / "metrics"


def built(capture: str, out: Path) -> Path:
    """Ingest the two logs of a shipped capture."""
    ingest([str(path) for path in sorted((CAPTURED / capture).glob("*.log*"))], out)
    return out


def summaries(dataset: analyzer.Dataset) -> dict[str, str]:
    """Render every conversation of a dataset, by id."""
    ids = dataset.conversations.collect()["conversation_id"].to_list()
    return {one: summary.render(conversation.gather(dataset, one)) for one in ids}
