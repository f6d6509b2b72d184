"""Releases 1.0 to 1.2 hold the library's callbacks back at the end of gathering: the artefact `six_second_sleep`."""

from __future__ import annotations

#: how long they sleep where the line does not say
SLEEP_MS = 6000.0
#: how soon after the sleep what it held back is told, and how much before its line it may have begun
SOON_MS = 50.0
