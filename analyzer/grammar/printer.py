"""Patterns → lines: gives a line back from its values, and makes up values for synthetic logs.

Printing and extracting again gives the same values: the round-trip law of the tests.
"""

from __future__ import annotations

import base64
import re
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from random import Random

from analyzer.grammar.pattern import Capture, Choice, Column, EventKind, Literal, Pairs, Sequence, Skip, captures, tail
from analyzer.grammar.terminal import example
from analyzer.grammar.types import TYPES, is_list

#: what names stand for in real logs, by column; any other name is spelled by its terminal
_NAMES = {
    "state": ("New", "Checking", "Connected", "Completed", "Disconnected", "Failed", "Closed"),
    "signaling_state": ("HaveLocalOffer", "HaveRemoteOffer", "Stable"),
    "candidate_type": ("host", "srflx", "prflx", "relay"),
    "reported_local_type": ("host", "srflx", "relay"),
    "reported_remote_type": ("host", "srflx", "relay"),
    "transport": ("udp", "tcp"),
    "ice_role": ("controlling", "controlled"),
    "close_reason": ("Normal", "AdminClosed", "Timeout", "ConnectionFailed"),
}
#: numbers that are larger or smaller than a few hundred, by column
_NUMBERS = {
    "port": (1024, 65535),
    "priority": (1, 2**31 - 1),
    "candidate_count": (1, 9),
    "total_candidates": (1, 9),
    "total_remote_candidates": (1, 9),
    "bytes_sent": (0, 10**9),
    "bytes_received": (0, 10**9),
    "timestamp_ms": (1_790_000_000_000, 1_800_000_000_000),
    "error_code": (300, 699),
}


def render(sequence: Sequence, values: Mapping[str, str]) -> str:
    """Print a pattern with the text of its columns; parts that are not given print an example of their terminal.

    A column of the tail that is a list is given as one text of lines. Of several branches the one that prints the most
    given columns and makes up the fewest is taken.
    """
    left = dict(values)
    return "".join(_printed(sequence, left))


def _printed(sequence: Sequence, left: dict[str, str]) -> Iterator[str]:
    for item in sequence:
        match item:
            case Literal(text):
                yield text
            case Skip(terminal, regex):
                yield _default(regex, terminal)
            case Capture(column, terminal, regex):
                given = left.pop(column, None)
                yield _default(regex, terminal) if given is None else given
            case Choice(options):
                yield from _printed(_best(options, left), left)
            case Pairs(columns):
                yield _tail(columns, left)


def _best(options: tuple[Sequence, ...], left: Mapping[str, str]) -> Sequence:
    def worth(option: Sequence) -> tuple[int, int]:
        columns = {capture.column for capture in captures(option)}
        fitting = {one.column for one in captures(option) if re.fullmatch(one.regex, left.get(one.column, ""))}
        return (-len(columns - fitting), len(fitting))

    # the first of equals: an optional part without columns is printed
    return max(options, key=worth)


def _tail(columns: tuple[Column, ...], left: dict[str, str]) -> str:
    segments = []
    for column in columns:
        texts = left.pop(column.name).split("\n") if column.name in left else ()
        segments += ["".join(_printed(column.sequence, {column.name: text})) for text in texts]
    return f" ({', '.join(segments)})" if segments else ""


@cache
def _default(regex: str, terminal: str) -> str:
    """An example of a terminal, the same in every process."""
    return _spelled(regex, terminal, "", Random(zlib.crc32(regex.encode())))


def text_of(terminal: str, value: object) -> str:
    """The text of a typed value, as its terminal spells it; of a list, one line each."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            # Rust prints floats without exponents
            return format(Decimal(repr(value)), "f") + ("ms" if terminal == "DURATION" else "")
        case list():
            return "\n".join(map(str, value))
    return str(value)


def texts_of(kind: EventKind, values: Mapping[str, object]) -> dict[str, str]:
    """Texts of the typed values of one message."""
    terminals = {capture.column: capture.terminal for capture in captures(kind.sequence)}
    return {column: text_of(terminals[column], value) for column, value in values.items()}


def sample_values(kind: EventKind, random: Random) -> dict[str, str]:
    """Make up values of a message: the columns of one way through the rule, and some of its tail."""
    values = dict(_made_up(kind.sequence, random))
    for column in tail(kind.sequence):
        if column.name not in values and random.random() < 0.7:
            values |= dict(_made_up(column.sequence, random))
    return values


def _made_up(sequence: Sequence, random: Random) -> Iterator[tuple[str, str]]:
    for item in sequence:
        match item:
            case Capture(column, terminal, regex):
                count = random.randint(1, 3) if terminal in TYPES and is_list(terminal) else 1
                yield column, "\n".join(_spelled(regex, terminal, column, random) for _ in range(count))
            case Choice(options):
                yield from _made_up(random.choice(options), random)
            case Literal() | Skip() | Pairs():
                pass


def _spelled(regex: str, terminal: str, column: str, random: Random) -> str:
    """A plausible text of a terminal; what the terminal does not take is replaced by one it does."""
    make = _MAKERS.get(terminal)
    text = make(column, random) if make else ""
    return text if make and re.fullmatch(regex, text) else example(regex, random)


def _address(column: str, random: Random) -> str:
    return f"10.{random.randint(0, 255)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def _id(column: str, random: Random) -> str:
    if column == "tube_id":
        return str(uuid.UUID(int=random.getrandbits(128), version=4))
    return base64.urlsafe_b64encode(random.randbytes(16)).decode().rstrip("=")


def _name(column: str, random: Random) -> str:
    return random.choice(_NAMES.get(column, ("",)))


def _integer(column: str, random: Random) -> str:
    return str(random.randint(*_NUMBERS.get(column, (0, 500))))


def _float(column: str, random: Random) -> str:
    low, high = _NUMBERS.get(column, (0, 500))
    return f"{random.uniform(low, high):.1f}"


def _candidate(column: str, random: Random) -> str:
    kind = random.choice(("host", "srflx", "relay"))
    related = "" if kind == "host" else f" raddr 0.0.0.0 rport {random.randint(1024, 65535)}"
    priority, port = random.randint(1, 2**31 - 1), random.randint(1024, 65535)
    return f"candidate:{random.getrandbits(32)} 1 udp {priority} {_address('', random)} {port} typ {kind}{related}"


def _pair_candidate(column: str, random: Random) -> str:
    return f"udp4 {random.choice(('host', 'srflx'))} {_address('', random)}:{random.randint(1024, 65535)}"


_MAKERS: dict[str, Callable[[str, Random], str]] = {
    "ID": _id,
    "NAME": _name,
    "INT": _integer,
    "FLOAT": _float,
    "DURATION": lambda column, random: f"{random.lognormvariate(4, 1):.1f}ms",
    "HOST": lambda column, random: "krelay.test:3478",
    "SERVER": lambda column, random: "krelay.test:3478",
    "ADDRESS": _address,
    "RELAY_ADDRESS": _address,
    "CANDIDATE": _candidate,
    "CANDIDATES": _candidate,
    "PAIR_CANDIDATE": _pair_candidate,
    "TEXT": lambda column, random: "some text of a person",
}
