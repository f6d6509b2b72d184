"""Nothing talks to a network: every command runs where a socket or a question for a name ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import analyzer
from analyzer.cli import app
from tests.datasets import CAPTURED

#: Python tells its own sockets to this hook; the libraries beside it are given nothing that they could take for a URL.
#: No handler of errors may take what it finds, so it ends the process.
GUARD = """
import os, sys

MODULES = {"socket", "urllib", "http", "ftplib", "smtplib", "poplib", "imaplib"}

def guard(event, arguments):
    if event.split(".")[0] in MODULES:
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
        sys.stderr.flush()
        os._exit(99)

sys.addaudithook(guard)
"""
#: commands one after the other, and the exit code of each
RUN = """
import json
from analyzer.cli import main

codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
        codes.append(0)
    except SystemExit as left:
        codes.append(left.code or 0)
sys.stderr.write(json.dumps(codes))
"""
FOLDER = CAPTURED / "2.2.9" / "A1-one-process"
URLS = ("https://log.example/app.log", "s3://bucket/app.log", "file://log.example/app.log")


def guarded(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", GUARD + code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_no_command_opens_a_socket_or_asks_for_a_name(tmp_path: Path) -> None:
    logs = sorted(str(path) for path in FOLDER.glob("*.log*"))
    commands = [
        ["ingest", *logs],
        ["summarize"],
        ["summarize", "--json"],
        ["drift"],
        ["coverage"],
        ["redact", *logs, "-o", "copies"],
        ["tables"],
        ["events"],
        ["explain", f"{logs[0]}:10"],
    ]
    assert {command.name or command.callback.__name__ for command in app.registered_commands if command.callback} == {
        command[0] for command in commands
    }
    done = guarded(RUN, json.dumps(commands), cwd=tmp_path)
    ids = analyzer.open(tmp_path / "metrics").conversations.collect()["conversation_id"].to_list()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr) == [0] * len(commands)
    shown = guarded(RUN, json.dumps([["summarize", one] for one in ids]), cwd=tmp_path)
    assert shown.stdout, shown.stderr


def test_a_url_is_no_input(tmp_path: Path) -> None:
    commands = [command for url in URLS for command in (["ingest", url], ["summarize", "--data", url])]
    done = guarded(RUN, json.dumps(commands), cwd=tmp_path)
    assert json.loads(done.stderr.splitlines()[-1]) == [66, 65] * len(URLS)


@pytest.mark.parametrize("code", [
    "import socket; socket.socket()",
    "import socket; socket.getaddrinfo('localhost', 80)",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
])  # fmt: skip
def test_the_guard_guards(tmp_path: Path, code: str) -> None:
    done = guarded(f"try:\n    {code}\nexcept BaseException:\n    pass\n", cwd=tmp_path)
    assert done.returncode == 99
    assert done.stderr.startswith("NETWORK ")
