"""The shape of a message that no rule takes: its plain words and keys, every value masked.

Nobody knows what such a message says, so nothing of it is kept that could be a value: not what stands behind `: ` or
`=`, in quotes or brackets, nor what is no plain word, nor anything behind the name of a secret. Where a value ends is
not known either: behind the first one only the keys stay that some grammar knows.
"""

from __future__ import annotations

import polars as pl

from analyzer.grammar.secret import BEFORE_KEY, KEY, MASK, NAMED, known_key

#: shapes keep this much of a message
SKELETON_CHARS = 160
#: words that can stand between a secret's name and the keys that go on after it; any other one may be the secret
_BETWEEN = (
    "a|an|and|are|at|by|cache|expired|failed|fetch|fetched|fetching|for|found|fresh|from|gateway|in|invalid|is|missing|"
    "new|not|of|on|or|pool|received|refresh|refreshed|relay|request|requested|response|router|server|servers|settings|"
    "stale|the|this|to|tube|valid|via|was|were|with"
)
#: stand behind a secret's name after which keys go on, before a known key, and behind a value: no text holds them
_GOES_ON, _KEYED, _BEHIND = "\x1f", "\x1e", "\x1d"
#: letters whose case changes as no name's does: random ones
_RANDOM = (
    r"[A-Za-z]*(?:[A-Z][a-z][A-Z]|[a-z][A-Z]{2,}[a-z])[A-Za-z]*"
    r"|\b[a-z]{1,2}[A-Z][A-Za-z]*|[A-Za-z]*[a-z][A-Z]\b|\b[A-Z]{15,}\b"
)
#: what words are made of, and signs that no plain word holds: anywhere, or before a letter
_ANY, _SIGN, _INNER = r"[^\s,()|:=\[\]]", r"[$%&^~`@/+\\{}]", r"[.!?;*<>#]"
#: words that are no plain ones: of digits, of letters and signs, of letters no name has, of signs that do something
_ODD = (
    rf"{_ANY}*[0-9]{_ANY}*",
    rf"{_ANY}*[A-Za-z]{_ANY}*{_SIGN}{_ANY}*|{_ANY}*{_SIGN}{_ANY}*[A-Za-z]{_ANY}*",
    rf"{_ANY}*{_INNER}[A-Za-z]{_ANY}*",
    rf"{_ANY}*[[\p{{L}}\p{{N}}\p{{M}}\p{{C}}\p{{Pi}}\p{{Pf}}]--[A-Za-z0-9\s]]{_ANY}*",
)


def _patterns() -> tuple[str, str, str]:
    """What a mask looks like, the sign before a value and its mask, and a list of keys up to its end."""
    mask = MASK.replace("*", r"\*")
    value = rf"(?:: ?|=){mask}"
    return mask, value, rf"\([^():=]*{value}(?:[,|] *{known_key()}{mask})*"


def _ends() -> tuple[tuple[str, str], ...]:
    _, value, listed = _patterns()
    return (rf"({value})[,(|][^>]*$", "${1}"), (f"({listed})$", "${1})")


def _steps() -> tuple[tuple[str, str], ...]:
    mask, value, listed = _patterns()
    return (
        # quotes and the sign of a number stay: a rule is drafted from the shape
        (f"[{_GOES_ON}{_KEYED}{_BEHIND}]", "\0"),
        (r"\"(?:[^\"\\]|\\.)*(\"?)", f'"{MASK}${{1}}'),
        (r"'(?:[^'\\]|\\.)*('?)", f"'{MASK}${{1}}"),
        (r"\{.*|\[[^\]]{12,}\]?", MASK),
        # a value may hold what ends one, and what looks like a key: behind the first one nothing stays but known keys
        (rf"({BEFORE_KEY} *{known_key()})", f"{_KEYED}${{1}}{MASK}{_BEHIND}"),
        (rf"^([^:={_KEYED}]*(?:: ?|=))([^{_KEYED}])", f"${{1}}{MASK}{_BEHIND}${{2}}"),
        (rf"{_BEHIND}[^{_KEYED}]*|{_KEYED}", ""),
        (f"({listed})", "${1})"),
        (rf"(?i)((?:{NAMED})\w*)((?: (?:{_BETWEEN}|{mask})){{0,6}} \({KEY})", f"${{1}}{_GOES_ON}${{2}}"),
        (rf"(?i)((?:{NAMED})\w*[^\w{_GOES_ON}<]{{1,3}}).+", f"${{1}}{MASK}"),
        # behind the keys there is no telling
        (rf"({_GOES_ON}[^()]*\([^()]*\)).+", f"${{1}} {MASK}"),
        (_GOES_ON, ""),
        (r"(^|\s)#[0-9]+([\s,()|:]|$)", f"${{1}}#{MASK}${{2}}"),
        *((odd, MASK) for odd in _ODD),
        (r"[A-Za-z_-]{25,}", MASK),
        (_RANDOM, MASK),
        (rf"({mask}[ ]?){{2,}}", f"{MASK} "),
        # what was left out between values leaves one, and no space before what follows
        (rf"({value})(?:{value})+", "${1}"),
        (rf"({value}) +([,()|])", "${1}${2}"),
    )


def skeleton(message: pl.Expr) -> pl.Expr:
    """Shape of the first line of a message; the shape of a shape is itself."""
    found = (
        message.str.replace(r" \([^()]*\.rs:[0-9]+\)\s*$", "")
        .str.head(4 * SKELETON_CHARS)
        .str.extract(r"^([^\r\n]*)", 1)
    )
    for pattern, kept in _steps():
        found = found.str.replace_all(pattern, kept)
    whole = found.str.strip_chars()
    cut = whole.str.head(SKELETON_CHARS).str.strip_chars()
    # nothing half stays of a list
    for pattern, kept in _ends():
        cut = cut.str.replace(pattern, kept)
    return pl.when(whole.str.len_chars() <= SKELETON_CHARS).then(whole).otherwise(cut)
