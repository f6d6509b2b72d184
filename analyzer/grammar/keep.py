"""What is compiled from the grammars, kept beside them for the next process, as Python keeps its own modules.

A kept value is good for exactly the grammar text and the compiler that made it. Where nothing can be written, every
process compiles for itself.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TypeVar, cast

from analyzer.grammar.text import SHARED, folder, text_of

T = TypeVar("T")
_DIGEST_BYTES = 32


@cache
def _compiler() -> bytes:
    """Digest of all modules that have a part in compiling: those beside this one."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(module.read_bytes() for module in modules)).digest()


def _seal(stem: str, pickled: bytes) -> bytes:
    """Binds a kept value to what it was made from; a damaged or an outdated one does not have it."""
    texts = f"{text_of(SHARED)}\0{text_of(stem)}\0".encode()
    return hashlib.sha256(_compiler() + texts + pickled).digest()


def _keep(place: Path, sealed: bytes) -> None:
    place.parent.mkdir(exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=place.parent)
    os.fchmod(handle, 0o644)  # for all who run the code beside it
    with os.fdopen(handle, "wb") as stream:
        stream.write(sealed)
    Path(draft).replace(place)


def kept(name: str, stem: str, compiled: Callable[[], T]) -> T:
    """The value kept under `name` for the grammar `stem`; compiled, and kept, where there is none."""
    place = Path(cache_from_source(f"{folder()}/{name}.py")).with_suffix(".pickle")
    with suppress(OSError):
        found = place.read_bytes()
        if found[:_DIGEST_BYTES] == _seal(stem, found[_DIGEST_BYTES:]):
            return cast("T", pickle.loads(found[_DIGEST_BYTES:]))  # noqa: S301 - trusted as the code it lies beside
    value = compiled()
    with suppress(OSError):  # a read-only installation
        pickled = pickle.dumps(value, protocol=5)
        _keep(place, _seal(stem, pickled) + pickled)
    return value
