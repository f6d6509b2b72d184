"""What may be kept of a candidate attribute: what RFC 8839 names, and of extensions behind it what can be no secret.

Peers put credentials there, their own and those of typing errors. So an extension that is known keeps its value where
that has the form it should have, another one only a number or a plain word, and none whose name sounds like a secret:
that it was there is kept. What is no pair of a plain name and a value is left out. One reading for both engines.
"""

from __future__ import annotations

import re

import polars as pl

#: what stands before the extensions: a text may go before it, and six fields at most
_HEAD = r"^((?s:.*[ =])?candidate:[^ ]*(?: [^ ]+){0,5} (?:typ|TYP) (?:[A-Z]?[a-z]{1,15}|[A-Z]{1,15}))"
#: a type that goes on with these is no word
_TYPE_GOES_ON = r"^[0-9A-Za-z!%'*+.`_~-]"
_BEGINS = r"^((?s:.*?)candidate:)"
#: a key of that name may stand before what is none
_IS_ONE = r"^candidate:.|candidate:[^ ]|candidate: +candidate:|a=candidate:.|candidate: .*\b(?:typ|TYP|ufrag|pwd)\b"
_NUMBERED = "generation|network-id|network-cost"
_KNOWN = rf"raddr [0-9A-Za-z:.%_-]{{1,255}}|rport [0-9]{{1,5}}|tcptype [A-Za-z]{{1,16}}|(?:{_NUMBERED}) [0-9]{{1,20}}"
_NAME = r"[a-z][a-z-]{0,30}"
_CREDENTIAL = r"[a-z-]{0,30}(?:fra|pw|pass|user|cred|tok|secr|fing|key|auth|sig|cert|hash)[a-z-]{0,30}"
#: ends a pair while a text is taken apart, before and after it is looked at; none holds them then
_END, _DONE = "\x1e", "\x1d"
_PAIR = r"( [^ ]+(?: [^ ]*)?)"
#: what is kept of a pair: all of it, or its name and the space behind that, or nothing
_KEPT = "|".join(
    (
        rf"( (?:{_KNOWN})){_END}",
        rf"( {_CREDENTIAL} )[^{_END}]*{_END}",
        rf"( {_NAME} (?:-?[0-9]{{1,20}}|[a-z]{{1,16}}[0-9]{{0,3}})){_END}",
        rf"( {_NAME} )[^{_END}]*{_END}",
        rf"( (?:raddr|rport|tcptype|{_NUMBERED})){_END}",
        rf"[^{_END}]*{_END}",
    )
)
_GROUPS = range(1, 6)
#: a text of which nothing is left out: most are
_CLEAN = rf"{_HEAD}(?: (?:{_KNOWN}))*$"


def kept(text: pl.Expr, mask: str = "") -> pl.Expr:
    """Texts that are a candidate, or end with one, as they may be kept, with a `mask` for values that are not."""
    asked = pl.when(text.str.contains(_IS_ONE) & ~text.str.contains(_CLEAN)).then(text)
    plain = asked.str.replace_all(f"[{_END}{_DONE}]", " ")
    head = plain.str.extract(_HEAD, 1)
    head = pl.when(~plain.str.strip_prefix(head).str.contains(_TYPE_GOES_ON)).then(head)
    pairs = plain.str.strip_prefix(head).str.extract(f"^((?:{_PAIR})*)", 1).str.replace_all(_PAIR, f"${{1}}{_END}")
    looked_at = pairs.str.replace_all(_KEPT, "".join(f"${{{group}}}" for group in _GROUPS) + _DONE)
    extensions = looked_at.str.replace_all(f" {_DONE}", f" {mask}").str.replace_all(_DONE, "")
    return pl.coalesce(head + extensions, plain.str.extract(_BEGINS, 1) + mask, text)


def kept_value(text: str, mask: str = "") -> str:
    """One text, as `kept` has it."""
    if not re.search(_IS_ONE, text) or re.search(_CLEAN.removesuffix("$") + r"\Z", text):
        return text
    plain = re.sub(f"[{_END}{_DONE}]", " ", text)
    found = re.search(_HEAD, plain)
    if not found or re.search(_TYPE_GOES_ON, plain[found.end() :]):
        return re.sub(f"{_BEGINS}(?s:.*)", rf"\1{mask}", plain)
    rest = re.match(f"(?:{_PAIR})*", plain[found.end() :])
    pairs = re.sub(_PAIR, rf"\1{_END}", rest[0] if rest else "")
    looked_at = re.sub(_KEPT, "".join(rf"\{group}" for group in _GROUPS) + _DONE, pairs)
    return found[1] + looked_at.replace(f" {_DONE}", f" {mask}").replace(_DONE, "")
