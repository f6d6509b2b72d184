"""What tells a secret where no rule does: the names it goes by, and texts that can be nothing else.

A second net. The first one is that nothing leaves a record but what a rule names.
"""

from __future__ import annotations

import re
from functools import cache

import polars as pl

from analyzer.grammar import extensions
from analyzer.grammar.text import notes_of, stems

#: stands for a value in a shape, and for whatever was taken out of a log
MASK = "<*>"
#: words that name a secret, in the syntax of both engines
NAMED = (
    "passw|passphrase|pwd|ufrag|token|secret|credential|private|ksm_config|ksmconfig|api_?key|app_?key|"
    r"bearer|authorization|cookie|fingerprint|signature|mismatchusername|passcode|\bpass\b|\bcreds?\b|\botp\b"
)
#: a word of a key: of one case, but for its first letter, as no random text is
_WORD = r"(?:[A-Z]?[a-z]{1,24}|[A-Z]{1,6}|(?:ip|IP)?v[46])"
#: what may be kept of a segment as its key: a few words before a colon or an equals sign
KEY = rf" *_?{_WORD}(?:[ _-]{{1,2}}{_WORD}){{0,7}} ?(?:: ?|=)"
#: what stands before a key
BEFORE_KEY = r"[,(|]"
#: names that are harmless in a sentence, and of a secret before a value
_ASSIGNED = r"user(?:_?name)?|login|otp|totp|pin|keys?"
#: a private key with its header, a JSON web token, an authorization, a digest, a long base64 text, bytes as numbers
_TOLD = (
    r"(?s)-----BEGIN [A-Z ]*-----.*?(?:-----END [A-Z ]*-----|$)",
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*",
    r"(?i)\b(?:bearer|basic) +[^\s\"',]+",
    r"(?:[0-9A-Fa-f]{2}:){7,}[0-9A-Fa-f]{2}",
    r"[A-Za-z0-9+/_-]{40,}=*",
    r"(?:\b[0-9]{1,3}, *){7,}[0-9]{1,3}\b",
)


@cache
def known_key() -> str:
    """What a key looks like that the samples of the grammars spell, with its colon or equals sign.

    Behind a value no other word counts as a key: it may be a piece of that value.
    """
    samples = (sample for stem in stems() for note in notes_of(stem).values() for sample in note.samples)
    found = {key.rstrip(" :=") for sample in samples for key in re.findall(f"{BEFORE_KEY} *({KEY})", sample)}
    return rf"(?:{'|'.join(sorted(found, key=lambda key: (-len(key), key)))})(?:: ?|=)"


def without_credentials(text: pl.Expr) -> pl.Expr:
    """Texts with candidates that tell there is a credential, and not which."""
    return extensions.kept(text, MASK)


def denied(text: pl.Expr) -> pl.Expr:
    """Texts without what is told for a secret by its form, and without the rest behind a secret's name.

    A secret may go on in further lines, as keys and lists of tokens do.
    """
    for form in _TOLD:
        text = text.str.replace_all(form, MASK)
    text = text.str.replace(rf"(?is)((?:{NAMED})\w*[^\w\r\n<]{{0,4}}).+", "${1}" + MASK)
    return text.str.replace(rf"(?is)(\b(?:{_ASSIGNED})\b[\"']?\s*[:=]\s*).+", "${1}" + MASK)
