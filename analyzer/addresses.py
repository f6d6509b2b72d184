"""Addresses: what class one is of, and how much of an endpoint's public one is kept.

What diagnosis needs is no person's: private and shared addresses, mDNS names, those of relays and STUN servers. They
stay under every policy. A public address of an endpoint is somebody's, and so is a host name: a policy tells what
stands in its place. A pseudonym is a name below `.invalid` (RFC 2606), which no machine has; it begins with its class,
so that a log or a table that holds one can be read again, and is itself under every policy.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal, TypeAlias

import polars as pl

#: what may stand in the place of an endpoint's public address
POLICIES: Mapping[str, str] = {
    "hash": "class and a keyed pseudonym, equal for equal addresses: public-3f9a2c1b7e04.invalid",
    "masked": "the host's part is zero: of IPv4 the last 8 bits, of IPv6 the last 80",
    "class": "nothing but the class: public",
    "raw": "the address itself",
}
DEFAULT = "hash"
KEY_BYTES = 32

#: address class by pattern, first match wins (RFC 1918, 6598, 3927, 4193, 4291; mDNS names of the ICE draft)
ADDRESS_CLASSES: tuple[tuple[str, str], ...] = (
    ("unspecified", r"^(?:0\.0\.0\.0|::)$"),
    ("loopback", r"^(?:127\.|::1$|localhost$)"),
    ("private", r"^(?:10\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.)"),
    ("cgnat", r"^100\.(?:6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\."),
    ("link_local", r"^(?:169\.254\.|(?i:fe[89ab][0-9a-f]:))"),
    ("ula", r"^(?i:f[cd][0-9a-f]{2}:)"),
    ("multicast", r"^(?:2(?:2[4-9]|3[0-9])\.[0-9]|(?i:ff[0-9a-f]{2}:))"),
    ("mdns", r"(?i)\.local$"),
    ("public", r"^(?:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%]*)$"),
    ("public", r"^(?:[0-9A-Fa-f:.]+%.*|public(?:-v6)?(?:-[0-9a-f]{12}\.invalid)?)$"),
    ("fqdn", r"."),
)
#: classes whose addresses are somebody's
SOMEBODYS = ("public", "fqdn")
#: an IPv4 address as IPv6 spells it (RFC 4291 section 2.5.5.2); one address, however it is spelled
_MAPPED = r"^(?i:(?:0{0,4}:){2,5}:?ffff:)([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)$"
_HIDDEN = re.compile(r"(?:public(?:-v6)?|fqdn)(?:-[0-9a-f]{12}\.invalid)?")
#: in free text an IPv6 address is one of those that are given out, or holds an IPv4 one (RFC 6052, 8215), no `a::b`
_GIVEN_OUT = tuple(map(IPv6Network, ("2000::/3", "64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0/96")))

#: how a value holds an address: it is one, perhaps with its port; one with its port; any text that may name some
Form: TypeAlias = Literal["address", "endpoint", "text"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of endpoints' public addresses: the name of a policy, the key of its pseudonyms, and exceptions."""

    name: str = DEFAULT
    key: bytes = b""
    #: addresses and names of servers, in canonical spelling (`canonical`), which stay in any text
    servers: frozenset[str] = frozenset()


def address_class(address: pl.Expr) -> pl.Expr:
    """Class of an address: what diagnosis needs of it, without the address."""
    plain = address.str.replace(_MAPPED, "${1}")
    return pl.coalesce(*(pl.when(plain.str.contains(pattern)).then(pl.lit(name)) for name, pattern in ADDRESS_CLASSES))


def is_ipv6(address: pl.Expr) -> pl.Expr:
    """Whether an address that is no name is of IPv6, hidden or not."""
    return address.str.contains(":", literal=True) | address.str.starts_with("public-v6")


def tells_apart(address: pl.Expr) -> pl.Expr:
    """Whether equal addresses are one: not where a policy left the class alone, or no host in a public one."""
    plain = address.str.replace(_MAPPED, "${1}")
    vague = plain.is_in(["public", "public-v6", "fqdn"])
    masked = (address_class(address) == "public") & (plain.str.ends_with(".0") | plain.str.ends_with("::"))
    return ~(vague | masked)


# -- one address ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 12)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def canonical(address: str) -> str:
    """One spelling for all of an address: no zone, v4 where v6 only wraps it, names in lower case."""
    return str(_parsed(address) or address.lower())


def class_of(address: str) -> str:
    """Class of one address, as `address_class` has it."""
    spelled = canonical(address)
    return next((name for name, pattern in ADDRESS_CLASSES if re.search(pattern, spelled)), "fqdn")


# ports are many, addresses are few
@lru_cache(maxsize=1 << 16)
def hidden(address: str, policy: Policy) -> str:
    """One address or host name of an endpoint, as the policy leaves it; what is nobody's stays as it is spelled."""
    kind, spelled = class_of(address), canonical(address)
    if (
        policy.name == "raw"
        or kind not in SOMEBODYS
        or not address
        or _HIDDEN.fullmatch(spelled)
        or spelled in policy.servers
    ):
        return address
    parsed = _parsed(address)
    word = f"{kind}-v6" if kind == "public" and (isinstance(parsed, IPv6Address) or ":" in spelled) else kind
    match policy.name:
        # the address of a network was masked before: a pseudonym would make one host of all in it
        case "hash" if not _is_network(parsed):
            return f"{word}-{hmac.digest(policy.key, spelled.encode(), 'sha256').hex()[:12]}.invalid"
        case "masked" if isinstance(parsed, IPv4Address):
            return str(IPv4Address(int(parsed) >> 8 << 8))
        case "masked" if parsed is not None:
            return str(IPv6Address(int(parsed) >> 80 << 80))
    return word


def _is_network(parsed: IPv4Address | IPv6Address | None) -> bool:
    return parsed is not None and int(parsed) % (1 << (8 if isinstance(parsed, IPv4Address) else 80)) == 0


_BRACKETS = re.compile(r"\[([^\[\]]*)\]?(:[0-9]+)?")
_PORT = re.compile(r"(.*?)(:[0-9]+)")


def _of_address(text: str, policy: Policy) -> str:
    """An address that may have its port behind it."""
    if found := _BRACKETS.fullmatch(text):
        return _joined(text, found[1], found[2], policy)
    found = _PORT.fullmatch(text)
    if _parsed(text) is None and found and (_parsed(found[1]) or ":" not in found[1]):
        return _joined(text, found[1], found[2], policy)
    return hidden(text, policy)


def _of_endpoint(text: str, policy: Policy) -> str:
    """An address with its port; of IPv6 with brackets or without, where only the place tells what is the port."""
    found = _BRACKETS.fullmatch(text) or _PORT.fullmatch(text)
    return _joined(text, found[1], found[2], policy) if found else _of_address(text, policy)


def _joined(text: str, address: str, port: str | None, policy: Policy) -> str:
    kept = hidden(address, policy)
    if kept == address:
        return text
    return f"[{kept}]{port or ''}" if ":" in kept else f"{kept}{port or ''}"


# -- free text --------------------------------------------------------------------------------------------------------

#: a sign behind it is none of it
_WORD = r"[0-9A-Za-z:.%_\[\]-]*[0-9A-Za-z%_\]-]"
#: an address or a name where nothing else can stand: a full stop or two colons at its end are its own
_HOST = r"[0-9A-Za-z:.%_\[\]-]+"
_V4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
#: what may hold an address, the surest first: a relay's own stays, and a server's; in a candidate a name is an address,
#: too; elsewhere numbers between dots are one, and words of several colons may be
_TOKEN = (
    rf"{_HOST} [0-9]+ (?i:typ) relay\b|\brelay_ip: {_HOST}|\btype: relay, ip: {_HOST}|\b(?:udp|tcp)[46] relay {_WORD}"
    rf"|\b[Rr]elay addr: {_WORD}|\b(?:stuns?|turns?):{_WORD}|\bturn\.Client {_WORD}|\bstun host: {_WORD}"
    rf"|\b(?:(?:turn_|stun_)?url|turnServ|stunServ): {_WORD}|\bbytes of udp from {_WORD}|, local {_WORD}, remote "
    rf"|{_HOST} [0-9]+ (?i:typ) |\b(?i:raddr) {_HOST}|\btype: (?:host|srflx|prflx), ip: {_HOST}"
    rf"|\b(?:udp|tcp)[46] (?:host|srflx|prflx) {_WORD}|\brelated {_WORD}:[0-9]+"
    rf"|[0-9A-Za-z_.]*(?::[0-9A-Za-z_.]*){{2,}}(?:%[0-9A-Za-z]+)?|{_V4}"
)
_KEPT = re.compile(
    r"(?i:typ) relay$|^relay_ip: |^type: relay, ip: |^(?:udp|tcp)[46] relay |^[Rr]elay addr: |^(?:stuns?|turns?):"
    r"|^turn\.Client |^stun host: |^(?:(?:turn_|stun_)?url|turnServ|stunServ): |^bytes of udp from |, remote $"
)
_CANDIDATES = re.compile(rf"({_HOST})( [0-9]+ (?i:typ) )|((?i:raddr) )({_HOST})")
_TYPED = re.compile(rf"(type: (?:host|srflx|prflx), ip: )({_HOST})")
_PAIRS = re.compile(rf"((?:udp|tcp)[46] (?:host|srflx|prflx) |related )({_WORD})")
#: a text without any of these names no address
_HINT = (
    r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::|(?::[0-9A-Fa-f]{1,4}){7}|(?i: typ |raddr )"
    r"|[46] (?:host|srflx|prflx) |(?:host|srflx|prflx), ip: "
)
#: so many texts are parted together
TEXTS = 20_000
#: stands for a token while a text is parted; a text that holds it shows a replacement character there
_MARK, _INSTEAD = "\0", "\ufffd"


def _of_colons(word: str, policy: Policy) -> str:
    """A word of several colons: an IPv6 address, with a key before it, a port or a sign behind it, or none."""
    for start in (0, *(place.end() for place in re.finditer(":", word))):
        rest = word[start:].rstrip(".")
        core = rest if rest.endswith("::") else rest.rstrip(":")
        for text in (core, core.rpartition(":")[0]):
            parsed = ip_address(found) if _is_ipv6(found := text.partition("%")[0]) else None
            if parsed is not None and any(parsed in network for network in _GIVEN_OUT):
                # whatever stands around it is kept
                return f"{word[:start]}{hidden(text, policy)}{word[start + len(text) :]}"
    return re.sub(_V4, lambda match: hidden(match[0], policy), word)


def _is_ipv6(text: str) -> bool:
    return isinstance(_unmapped(text), IPv6Address)


def _unmapped(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _of_token(token: str, policy: Policy) -> str:
    if _KEPT.search(token):
        return token
    if found := _TYPED.fullmatch(token):
        return f"{found[1]}{_of_address(found[2], policy)}"
    if found := _CANDIDATES.fullmatch(token):
        address, behind, before, related = found.groups()
        return f"{before}{_of_address(related, policy)}" if before else f"{_of_address(address, policy)}{behind}"
    if found := _PAIRS.fullmatch(token):
        return f"{found[1]}{_of_endpoint(found[2], policy)}"
    return _of_colons(token, policy) if ":" in token else hidden(token, policy)


# -- columns ----------------------------------------------------------------------------------------------------------


def _mapped(values: pl.Series, of: Callable[[str], str]) -> pl.Series:
    """Every distinct value through a Python function, once."""
    distinct = values.drop_nulls().unique()
    return values.replace_strict(distinct, pl.Series(map(of, distinct), dtype=pl.String), return_dtype=pl.String)


def may_name_one(values: pl.Series) -> bool:
    """Whether any of some texts may hold an address."""
    return bool(values.drop_nulls().unique().str.contains(_HINT).any())


def hidden_texts(texts: pl.Series, policy: Policy) -> pl.Series:
    """Any texts, with the endpoints' public addresses in them as the policy leaves them; all else stands as it stood.

    Where nothing but the address is known, names stay: only in a candidate a name is an address. A relay candidate's
    own address stays, and so do those of servers, as far as the text says so or the policy names them.
    """
    if policy.name == "raw":
        return texts
    asked = texts.drop_nulls().unique()
    asked = asked.filter(asked.str.contains(_HINT))
    # the words of a text are many times its size
    portions = [_parted(asked[first : first + TEXTS], policy) for first in range(0, len(asked), TEXTS)]
    if not portions:
        return texts
    changed = pl.concat(portions)
    return texts.replace(changed["text"], changed["kept"])


def _parted(asked: pl.Series, policy: Policy) -> pl.DataFrame:
    """Distinct texts that hold what may be an address (`text`), and what is kept of them (`kept`)."""
    parted = (
        pl.DataFrame({"text": asked, "plain": asked.str.replace_all(_MARK, _INSTEAD, literal=True)})
        .with_row_index("place")
        .with_columns(token=pl.col("plain").str.extract_all(_TOKEN))
        .filter(pl.col("token").list.len() > 0)
        .with_columns(between=pl.col("plain").str.replace_all(_TOKEN, _MARK).str.split(_MARK))
    )
    # one more between the tokens than there are: the last one has none behind it
    tokens = parted.select("place", pl.col("token").list.concat(pl.lit([""]))).explode("token")["token"]
    between = parted.select("place", "between").explode("between")
    kept = _mapped(tokens, partial(_of_token, policy=policy))
    changed = (
        between.with_columns(kept=pl.concat_str("between", pl.Series("kept", kept)))
        .group_by("place", maintain_order=True)
        .agg(pl.col("kept").str.join(""))
    )
    return pl.DataFrame({"text": parted["text"], "kept": changed["kept"]})


def hidden_value(text: str, policy: Policy, form: str) -> str:
    """One value of a column, in a form of `Form`; of any other it is nobody's and stays."""
    match form:
        case "address" | "endpoint" | "text":
            return str(hidden_values(pl.Series([text], dtype=pl.String), policy, form).item())
    return text


def hidden_values(values: pl.Series, policy: Policy, form: Form) -> pl.Series:
    """A column of addresses, of endpoints or of texts, each distinct value looked at once; null stays null."""
    match form:
        case _ if policy.name == "raw":
            return values
        case "address":
            return _mapped(values, partial(_of_address, policy=policy))
        case "endpoint":
            return _mapped(values, partial(_of_endpoint, policy=policy))
    return hidden_texts(values, policy)
