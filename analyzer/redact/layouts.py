"""Lines of a log → the same lines with other messages: what stands before a message stays, header and framings alike.

A framing in JSON is written anew, with nothing but what it is read by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import polars as pl

from analyzer import tracing
from analyzer.dialects import FREE, JSON_KEYS, JSON_LINE_KEYS, Dialect, framing, json_header, json_value, unwrapped
from analyzer.grammar.secret import MASK

#: what of lines is read here
NEEDED = ("line", "raw", "text", "resumed", "matched", "message")
#: what JSON wants escaped, a backslash first
_ESCAPES = {"\\": "\\\\", '"': '\\"'} | {chr(code): f"\\u{code:04x}" for code in range(32)} | {"\n": "\\n", "\t": "\\t"}


def _json_text(text: pl.Expr) -> pl.Expr:
    # only few lines hold any of these
    return pl.lit('"') + text.str.replace_many(list(_ESCAPES), list(_ESCAPES.values())) + '"'


def _json_line(text: pl.Series, keys: Iterable[tuple[str, Sequence[str]]], said: pl.Series) -> pl.Series:
    """JSON objects with the first present of each of the keys; `said` is the value of the last."""
    *header, (_, said_keys) = keys
    columns, parts = {"said": said}, []
    for number, (name, spelled) in enumerate((*header, ("", said_keys))):
        is_said = not name
        for key in spelled:
            columns[f"{number}{key}"] = json_value(text, (key,))
            first = pl.all_horizontal(
                pl.lit(True), *(pl.col(f"{number}{one}").is_null() for one in spelled[: spelled.index(key)])
            )
            value = pl.col("said" if is_said else f"{number}{key}")
            fits = pl.lit(True) if is_said else value.str.contains(json_header()[name])
            shown = pl.when(fits).then(value).otherwise(pl.lit(MASK))
            present = pl.col(f"{number}{key}").is_not_null() & first
            parts.append(pl.when(present).then(pl.lit(f'"{key}": ') + _json_text(shown)))
    joined = pl.concat_list(parts).list.drop_nulls().list.join(", ")
    return pl.DataFrame(columns).select(pl.lit("{") + joined + "}").to_series()


def _behind(before: pl.Series, inner: pl.Series, new: pl.Series) -> pl.Series:
    """What stood before `inner`, which ended `before`, with `new` behind it."""
    frame = pl.DataFrame({"before": before, "inner": inner, "new": new})
    length = pl.col("before").str.len_bytes() - pl.col("inner").str.len_bytes()
    head = pl.col("before").cast(pl.Binary).bin.head(length).cast(pl.String)
    return frame.select(head + pl.col("new")).to_series()


@cache
def _free(name: str) -> tuple[str, str] | None:
    """What finds the names in front of a framed line that may be any text, and what stands there instead."""
    parts = framing(name)
    if not any(terminal in FREE for terminal, _ in parts):
        return None
    kept = (MASK if terminal in FREE else f"${{{place}}}" for place, (terminal, _) in enumerate(parts, 1))
    return "^" + "".join(f"({regex})" for _, regex in parts), "".join(kept)


def _rewrapped(name: str, text: pl.Series, inner: pl.Series, new: pl.Series) -> pl.Series:
    """Lines of a framing with another line inside."""
    if name != "docker_json":
        whole, free = _behind(text, inner, new), _free(name)
        # any line may look as if it had such a name in front
        return whole if free is None else whole.zip_with(text == inner, whole.str.replace(*free))
    framed = json_value(text, JSON_LINE_KEYS)
    keys = (("ts", JSON_KEYS["ts"]), ("", JSON_LINE_KEYS))
    written = _json_line(text, keys, new + pl.Series(["\n"]))
    # a line that is no JSON was let through
    return written.zip_with(framed.is_not_null(), new)


def _texts(lines: pl.DataFrame, dialect: Dialect) -> list[pl.Series]:
    """The line as it is, then what each framing leaves of it."""
    frame, texts = lines.select(text="raw"), [lines["raw"]]
    for name in dialect.wraps:
        frame = unwrapped(name, frame, "UTC").select("text")
        texts.append(frame["text"])
    if dialect.record == tracing.DIALECT:
        texts[-1] = tracing.uncoloured(texts[-1])
    return texts


def _lined(lines: pl.DataFrame, message: pl.DataFrame) -> pl.Series:
    """The messages of records laid over the lines they came from, a blank line for a blank line."""
    own = (
        lines.select(
            "matched",
            said=pl.when("matched").then(pl.col("message").fill_null("")).otherwise(pl.col("text")),
            # a line before the first header is a record of its own
            record=(pl.col("matched") | (pl.col("matched").cum_sum() == 0)).cum_sum() - 1,
        )
        .with_row_index("row")
        .with_columns(count=1 + pl.col("said").str.count_matches("\n"))
    )
    place = pl.when(pl.col("location").is_not_null()).then(" (" + pl.col("location") + ")").otherwise(pl.lit(""))
    if len(own) == len(message) and (own["count"] == 1).all():
        return message.select(pl.col("message") + place).to_series()
    pieces = (
        message.select(piece=pl.col("message").str.split("\n"))
        .with_row_index("record")
        .with_columns(pl.col("record").cast(pl.Int64))
        .explode("piece")
        .with_columns(at=pl.int_range(pl.len()).over("record"))
    )
    asked = (
        own.with_columns(pl.col("record").cast(pl.Int64), one=pl.col("said").str.split("\n"))
        .explode("one")
        .with_columns(at=pl.int_range(pl.len()).over("record"))
    )
    # a message may have been cut: what is left of it is masked
    joined = asked.join(pieces, on=["record", "at"], how="left", maintain_order="left").with_columns(
        piece=pl.when(pl.col("one").str.strip_chars() == "").then("one").otherwise(pl.col("piece").fill_null(MASK))
    )
    ends = message.select(place=place).with_row_index("record").with_columns(pl.col("record").cast(pl.Int64))
    last = pl.col("record") != pl.col("record").shift(-1).fill_null(-1)
    return (
        joined.group_by("row", maintain_order=True).agg(pl.col("piece").str.join("\n"), pl.col("record").first())
        .join(ends, on="record", how="left", maintain_order="left")
        .select(pl.when(last).then(pl.col("piece") + pl.col("place")).otherwise("piece")).to_series()
    )  # fmt: skip


def rewritten(lines: pl.DataFrame, dialect: Dialect, messages: pl.DataFrame) -> pl.Series:
    """Write lines that come from `headed`, and have what they were in `raw`, with other messages.

    `messages` are those of the records that `folded` makes of the lines, in their order: `message`, `location`.
    """
    texts = _texts(lines, dialect)
    # what goes on with nothing is a record of its own
    pieces = lines["resumed"] & (dialect.record == "json") & (lines["matched"].cum_sum() > 0)
    whole = (~pieces).arg_true()
    # an object that its framing cut is written into its first piece, and nothing into the others
    new = pl.Series([""]).new_from_index(0, len(lines)).scatter(whole, _lined(lines.filter(~pieces), messages))
    begun, said = lines["matched"], lines["message"].fill_null("")
    if dialect.record == "json":
        keys = tuple((name, JSON_KEYS[name]) for name in ("ts", "level", "target", "message"))
        headed = _json_line(lines["text"], (*keys[:-1], ("", keys[-1][1])), new)
    else:
        headed = _behind(texts[-1], said, new)
    inner = headed.zip_with(begun, new)
    for name, outer, had in reversed(list(zip(dialect.wraps, texts, texts[1:], strict=False))):
        inner = _rewrapped(name, outer, had, inner)
    return inner
