"""The address policy of a dataset, fixed when it is made: which one, and the key of its pseudonyms.

The key lies in `_analyzer/key`, for later ingests. Who has it and a table can try addresses until one fits: a dataset
that is handed on goes without it.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from analyzer.addresses import DEFAULT, KEY_BYTES, POLICIES, Policy
from analyzer.errors import DatasetError, UsageError
from analyzer.tables.dataset import STATE, Commit

KEY = "key"
#: a key of fewer bytes can be guessed; one of more is the wrong file
SHORTEST, LONGEST = 16, 4096


def _check(key: bytes) -> str:
    """What is noted of a key to know it again; it tells nothing of it."""
    return hmac.digest(key, b"the key of this dataset", "sha256").hex()[:16]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            key = stream.read(LONGEST + 1)
    except OSError as error:
        raise UsageError(f"the key file {path} cannot be read ({error.strerror})", "name another --key-file") from None
    if not SHORTEST <= len(key) <= LONGEST:
        size = "less" if len(key) < SHORTEST else "more"
        bound = SHORTEST if len(key) < SHORTEST else LONGEST
        hint = f"a key is {KEY_BYTES} random bytes, as _analyzer/key of another dataset is"
        raise UsageError(f"the key file {path} holds {size} than {bound} bytes", hint)
    return key


def _made(commit: Commit, name: str, key_file: Path | None) -> Policy:
    if name != "hash":
        commit.addresses = {"policy": name}
        return Policy(name)
    key = _read(key_file) if key_file else secrets.token_bytes(KEY_BYTES)
    commit.keep(KEY, key)
    commit.addresses = {"policy": name, "key_check": _check(key)}
    return Policy(name, key)


def policy_for(name: str | None, key_file: Path | None) -> Policy:
    """The address policy of what is no dataset; without a key file the key is random, and nobody has it afterwards.

    Raises:
        UsageError: there is no such policy, or no such key, or it needs none.
    """
    policy = name or DEFAULT
    if policy not in POLICIES:
        raise UsageError(f"there is no address policy {policy}", f"it is one of {', '.join(POLICIES)}")
    if policy == "hash":
        return Policy(policy, _read(key_file) if key_file else secrets.token_bytes(KEY_BYTES))
    if key_file:
        raise UsageError(f"--addresses {policy} needs no key", "leave out --key-file")
    return Policy(policy)


def policy_of(commit: Commit, name: str | None, key_file: Path | None) -> Policy:
    """The address policy of the dataset that is written: the one it was made with, or for a new one the one asked for.

    Raises:
        UsageError: there is no such policy, or the dataset has another one, or another key.
        DatasetError: its key is not there any more.
    """
    if name is not None and name not in POLICIES:
        raise UsageError(f"there is no address policy {name}", f"it is one of {', '.join(POLICIES)}")
    is_new = not commit.before.snapshot
    has = commit.addresses.get("policy", DEFAULT)
    if not is_new and name not in (None, has):
        raise UsageError(
            f"{commit.out} was made with --addresses {has}", "leave the option out, or ingest all logs into a new --out"
        )
    policy = name or has
    if key_file and policy != "hash":
        raise UsageError(f"--addresses {policy} needs no key", "leave out --key-file")
    if is_new:
        return _made(commit, policy, key_file)
    if policy != "hash":
        return Policy(policy)
    stored = commit.out / STATE / KEY
    if not key_file and not stored.exists():
        raise DatasetError(f"{commit.out} was handed on without its key", "give it with --key-file, or use a new --out")
    key = _read(key_file or stored)
    if _check(key) != commit.addresses["key_check"]:
        raise UsageError(
            f"{commit.out} was made with another key than {key_file or stored}",
            "leave out --key-file, or ingest all logs into a new --out",
        )
    return Policy(policy, key)
