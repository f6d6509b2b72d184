"""That a log holds secrets, of which kind and where; never which.

What is looked for are the places where the library prints them, and the names and forms of others. Few lines hold any
of the words that are looked for first, so that this costs next to nothing.
"""

from __future__ import annotations

import polars as pl

#: words without which a message holds no secret that would be told
_WORDS = (
    "passw|Passw|PASSW|ksm_config|PRIVATE KEY|rivate_key|rivateKey|ice-pwd:|ice-ufrag:|emotePwd|emoteUfrag| ufrag |"
    'allback token|allback_token|oken=|oken:|oken\\\\?"|Bearer |eyJ|a=fingerprint:|guacd_params|[.]connect,|connect_as|'
    'first_bytes|first bytes|few bytes|try_send data|Data: |Data .first |args: .|TURN credentials|credential\\\\?"'
)
#: what stands between a name and its value, and a value that is there and not masked
_IS = r"\\?[\"']?\s*[:=]\s*(?:String\(|Some\()?\\?[\"']?"
_VALUE = r"[^\s\"',(){}<\\]"
#: secrets by what tells each, in the order in which they are named
SECRETS: dict[str, str] = {
    "private_key": rf"PRIVATE KEY-----\s*[^\s<]|(?i:private_?key){_IS}{_VALUE}",
    "ksm_config": rf"ksm_config{_IS}(?:\{{|{_VALUE})",
    "password": rf"(?i:passw(?:or)?d|credential){_IS}{_VALUE}",
    "token": rf"(?i:\b\w*tokens?){_IS}{_VALUE}|Callback token[^:]*: *{_VALUE}|Bearer {_VALUE}|eyJ[A-Za-z0-9_-]{{8}}",
    "turn_user": rf"TURN credentials.*\busername{_IS}{_VALUE}",
    "ice_credentials": rf"ice-(?:pwd|ufrag):{_VALUE}|remote(?:Pwd|Ufrag): {_VALUE}| ufrag {_VALUE}",
    "fingerprint": rf"a=fingerprint:\S+ {_VALUE}",
    "guacd_parameters": rf"guacd_params[^:=(]{{0,60}}{_IS}(?:\{{|{_VALUE})|[0-9][.]connect,|connect_as\w*{_IS}(?:\{{|{_VALUE})"
    r"|\bargs: \[\\?\"[^\"<]",
    "payload": r"(?i:first.(?:few.)?bytes)(?: of received data)?\W+[0-9b]|(?:try_send data =|Data:) \[ *[0-9]|Data \(first [0-9]+ bytes\): \\?\"",
}
HELD = pl.Struct({"secret": pl.String(), "records": pl.Int64(), "line": pl.Int64()})


def holds(message: pl.Expr) -> pl.Expr:
    """Whether a message holds a secret of any kind."""
    return message.str.contains(_WORDS) & pl.any_horizontal(message.str.contains(tells) for tells in SECRETS.values())


def held(records: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Count the records that hold a secret: secret, records, line of the first, of each `by`; mergeable."""
    message = pl.col("message")
    few = records.select(*by, "line", "message").filter(message.str.contains(_WORDS))
    # most batches hold none, and the patterns are many to compile for nothing
    told = SECRETS if len(few) else {}
    each = [pl.when(message.str.contains(tells)).then(pl.lit(name)) for name, tells in told.items()]
    kinds = pl.concat_list(pl.lit(None, pl.String), *each)
    found = few.select(*by, "line", secret=kinds).explode("secret", empty_as_null=True).drop_nulls("secret")
    return found.group_by(*by, "secret").agg(records=pl.len().cast(pl.Int64), line=pl.col("line").min())
