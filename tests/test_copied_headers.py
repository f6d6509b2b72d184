"""The header of a record in JSON, and of its framing, in a redacted copy: what is read of it, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from analyzer.redact import redact
from tests.test_redact import LINE, text_of


def test_of_several_spellings_of_a_key_a_copy_has_the_one_that_is_read(tmp_path: Path) -> None:
    said = "ICE gathering started (tube_id: a)"
    of = {"time": "2026-11-22T13:19:35Z", "levelname": "DEBUG", "logger": "keeper_pam_webrtc_rs.tube", "message": said}
    spare = {"timestamp": "2026-11-22T13:19:34Z", "target": "other", "name": "third", "msg": "pwd hunter2"}
    both = dict(sorted({**of, **spare}.items()))
    lines = "".join(f"{json.dumps(one)}\n" for one in (of, both, of))
    (tmp_path / "app.log").write_text(lines)
    redact([str(tmp_path / "app.log")], tmp_path / "copy")
    first, second, _ = (json.loads(line) for line in text_of(tmp_path / "copy" / "app.log").splitlines())
    assert first == of
    kept = {key: of[key] for key in ("levelname", "logger", "message")}
    assert second == {**kept, "timestamp": spare["timestamp"]}
    assert "hunter2" not in text_of(tmp_path / "copy" / "app.log")


def test_of_the_header_of_json_a_copy_has_what_is_read(tmp_path: Path) -> None:
    of = {"time": "2026-11-22T13:19:35Z", "level": "info", "logger": "a.b", "msg": "said"}
    odd = [
        {"time": "4829135551234"},
        {"time": "1:2"},
        {"level": "hunter"},
        {"level": "482913"},
        {"logger": "a:482-913"},
    ]
    framed = {"log": f"{LINE}ICE gathering started (tube_id: a)\n", "time": "4829135551234"}
    for name, lines in (("app.log", [of, *({**of, **other} for other in odd)]), ("docker.log", [framed])):
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        redact([str(tmp_path / name)], tmp_path / "copy")
    rows = map(json.loads, text_of(tmp_path / "copy" / "app.log").splitlines())
    assert list(rows) == [of, *({**of, **dict.fromkeys(other, "<*>")} for other in odd)]
    assert json.loads(text_of(tmp_path / "copy" / "docker.log")) == {**framed, "time": "<*>"}
