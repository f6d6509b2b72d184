"""What the beginning of a message tells of it is what the whole message says."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.events import recognise

_texts = st.text(" :,()|\r\nab'é", max_size=8)


@settings(deadline=None, max_examples=300)
@given(_texts, _texts, st.booleans())
def test_what_a_beginning_tells_holds_for_the_whole(text: str, rest: str, meant: bool) -> None:
    message = (text + rest) if meant else rest
    said = message.startswith(text)
    goes_on = said and bool(pl.Series([message[len(text) :]]).str.contains(recognise._GOES_ON)[0])
    whole, begin = message.encode(), text.encode()
    for size in range(len(whole) + 1):
        is_all = size == len(whole)
        of_kind, of_noise = (recognise._goes_on(whole[:size], is_all, begin, key) for key in ("kind", None))
        assert of_kind in ((goes_on,) if is_all else (goes_on, None))
        assert of_noise in ((said,) if is_all else (said, None))


@pytest.mark.parametrize("most", [0, 1_000_000])
def test_rows_are_picked_out_alike_by_slices_and_by_places(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    names = [chr(97 + number // 26) + chr(97 + number % 26) for number in range(200)]
    messages = [
        f"Tube {name}{what}" for name in names for what in (" removed from registry - Drop will verify cleanup", ": x")
    ]
    sifted = recognise.sift(
        pl.DataFrame({"message": messages}).with_columns(target=pl.lit("keeper_pam_webrtc_rs.tube_registry"))
    )
    keys, fates = recognise.recognise(sifted)
    assert any(keys.is_not_null())
    monkeypatch.setattr(recognise, "MOST_SLICES", most)
    again = recognise.recognise(sifted)
    assert keys.equals(again[0], null_equal=True)
    assert fates.equals(again[1])
