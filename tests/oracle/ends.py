"""A tube that several conversations share, step by step: what each one's own end is, folded without the reductions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TUBE = "tube-1"
#: what can be told of a channel, and of the path of its tube
CHANNEL, PATH = ("open", "request", "closing", "gone", "told"), ("down", "up")


@dataclass(frozen=True, slots=True)
class Step:
    """One line, at a second of its own."""

    what: str
    label: str = ""

    def line(self, at: int) -> str:
        name = self.label
        text = {
            "open": f"tube: Data channel '{name}' opened, setting tube status to Ready (tube_id: {TUBE})",
            "request": f"tube: Tube {TUBE}: Signaling channel '{name}' to close with AdminClosed reason.",
            "closing": f"channel.core: Channel '{name}' closing - Final stats: 0 connections: [], 0 bytes buffered"
            f" (channel_id: {name}, server_mode: true)",
            "gone": f"channel.protocol: Endpoint WebRTC state changed: Open -> Closed (channel_id: {name})",
            "told": f"tube: Successfully sent channel_closed signal to Python. (tube_id: {TUBE}, channel_name: {name})",
            "tube": f"tube: Tube {TUBE} explicit close starting (reason: Normal)",
            "down": f"tube: ICE connection state changed (tube_id: {TUBE}, state: Disconnected)",
            "up": f"tube: ICE connection state changed (tube_id: {TUBE}, state: Connected)",
        }
        return f"{at} {text[self.what]}"


@dataclass(frozen=True, slots=True)
class End:
    """When a conversation's own channel began to end, and the surest line of its end."""

    began: int
    gone: int


def own_end(steps: Sequence[tuple[int, Step]], label: str) -> End | None:
    """The own end of a conversation of the tube, None where it ended with the tube; steps have their seconds."""
    began: int | None = None
    seen: dict[str, int] = {}
    lost_at = last_loss(steps)
    for at, step in steps:
        if step.what == "tube" or at == lost_at:
            break
        if step.label != label or step.what in PATH:
            continue
        if step.what == "open":
            began, seen = None, {}
        elif began is not None or step.what != "told":
            began = at if began is None else began
            seen.setdefault(step.what, at)
    if began is None:
        return None
    return End(began, next(seen[what] for what in ("told", "closing", "gone", "request") if what in seen))


def last_loss(steps: Sequence[tuple[int, Step]]) -> int | None:
    """When the path went down for good, before anybody closed the tube and while a channel was still open."""
    lost: int | None = None
    ends: dict[str, bool] = {}
    orderly = False
    for at, step in steps:
        if step.what == "tube":
            break
        if step.what == "down" and lost is None:
            lost, orderly = at, bool(ends) and all(ends.values())
        elif step.what == "up":
            lost = None
        elif step.what in ("open", "gone"):
            ends[step.label] = step.what == "gone"
    return None if orderly else lost
