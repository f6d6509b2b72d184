"""Many conversations on one tube: each is there, and what the tube did is told of as many as there is room for."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analyzer.pipeline import ingest


def test_a_tube_of_many_conversations_has_no_rows_by_their_square(tmp_path: Path) -> None:
    said = "ICE gathering started (tube_id: f941a628-85ac-463c-a095-cfa7c8135155, conversation_id: conversation-{:05})"
    text = "".join(f"2026-11-22 13:19:35,251 DEBUG keeper_pam_webrtc_rs.tube: {said}\n".format(n) for n in range(3000))
    log = tmp_path / "app.log"
    log.write_text(text)
    ingest([str(log)], tmp_path / "m")
    names = pl.read_parquet(tmp_path / "m" / "conversations")["tube_ids"].list.len()
    # each is a conversation; as many as may be told of it are told what the tube did
    assert len(names) == 3000
    assert 0 < (names == 1).sum() < 3000
    assert len(pl.read_parquet(tmp_path / "m" / "generations")) <= 1_100_000
