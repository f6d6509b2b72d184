"""An environment of its own for one release of the real library, and a run of two peers in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "keeper-pam-webrtc-rs"
#: the package index may take so long, all in all; a run of the peers so long
INSTALL_S, RUN_S = 20, 35
ROOT = Path(__file__).parents[2]


class Unavailable(Exception):
    """The library cannot be had here, and why."""


def installed(release: str, folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Build an environment with the library in it; its Python.

    Args:
        release: a version to pip, like `1.0.*`, or `newest`.
        folder: does not exist yet.
        environ: where pip finds out about the package index.

    Raises:
        Unavailable: no index to be reached, or no wheel of it for this platform and Python.
    """
    wanted = PACKAGE if release == "newest" else f"{PACKAGE}=={release}"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=INSTALL_S)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--timeout", "5", "--retries", "0"]
    options = ["install", "-q", "--no-deps", "--only-binary", ":all:", "--no-input", wanted]
    try:
        done = subprocess.run(
            [*pip, *options], env=dict(environ), capture_output=True, encoding="utf-8", check=False, timeout=INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{wanted}: the package index took more than {INSTALL_S} s") from None
    if done.returncode:
        lines = done.stderr.splitlines()
        said = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        told = said[-1].removeprefix("ERROR: ") if said else "pip failed"
        raise Unavailable(f"no package index to be reached, or no wheel for this platform and Python: {told}")
    return python


def session(python: Path, folder: Path) -> dict[str, Any]:
    """Let two peers of that library talk; what the run knows, with `client.log` and `gateway.log` in the folder."""
    folder.mkdir()
    command = [str(python), "-m", "tests.producer.peers", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr[-2000:]
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return facts
