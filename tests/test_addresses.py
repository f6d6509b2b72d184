"""Public addresses of endpoints never reach a dataset, and what is told by addresses is told as before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from analyzer.addresses import (
    POLICIES,
    Form,
    Policy,
    address_class,
    class_of,
    hidden,
    hidden_texts,
    hidden_value,
    is_ipv6,
    tells_apart,
)
from analyzer.errors import DatasetError, UsageError
from analyzer.events.candidate import parse_candidates, parse_pair_candidate
from analyzer.events.envelope import FIELD, events_schema, typed_columns
from analyzer.events.hidden import hidden_endpoints, holds
from analyzer.events.targets import logger
from analyzer.grammar import shipped
from analyzer.grammar.pattern import captures
from analyzer.grammar.terminal import automaton
from analyzer.grammar.types import TYPES
from analyzer.pipeline import ingest
from tests.datasets import CAPTURED

KEY = b"a key that is nobody's, of 32 B."
HASH = Policy("hash", KEY)
#: an ICE restart, descriptions and candidates told in parts, by an old release; beside it the relay's own log
CAPTURE = CAPTURED / "1.0.0" / "G-ice-restart"
#: networks of the test bed → networks of the documentation, which are public ones; the relay's is the last
NETWORKS = {"10.77.1.": "203.0.113.", "10.77.3.": "198.51.100.", "10.77.2.": "192.0.2."}
PUBLIC = ("203.0.113.", "198.51.100.")
#: columns whose addresses stay readable whoever they are: of servers. A new one is entered here deliberately.
SERVERS = {
    ("tube_registry", "credentials_given", "server"),
    ("tube_registry", "server_added", "server"),
    ("turn.client", "turn_received", "server"),
    ("turn.client", "turn_resolved", "server"),
    ("webrtc_ice.agent.agent_gather", "allocation_failed", "server"),
    ("webrtc_ice.agent.agent_gather", "stun_failed", "server"),
    ("webrtc_ice.agent.agent_gather", "relay_unresolved", "server"),
    ("webrtc_ice.agent.agent_gather", "server_unresolved", "server"),
    ("webrtc_core", "relay_candidate_described", "address"),
    ("coturn", "relay_address_opened", "endpoint"),
}


def one(expression: pl.Expr) -> object:
    return pl.select(expression).item()


# -- one address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("203.0.113.5", "public"), ("2001:db8::1", "public"), ("2001:db8::1%eth0", "public"), ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("100.64.0.1", "cgnat"), ("169.254.1.1", "link_local"), ("fe80::1%eth0", "link_local"),
        ("fd00::1", "ula"), ("::1", "loopback"), ("::", "unspecified"), ("a-b.local", "mdns"), ("a.example", "fqdn"),
        ("::ffff:10.0.0.1", "private"), ("::ffff:203.0.113.5", "public"), ("public", "public"), ("public-v6", "public"),
        ("public-3f9a2c1b7e04.invalid", "public"), ("public-v6-3f9a2c1b7e04.invalid", "public"),
        ("fqdn-3f9a2c1b7e04.invalid", "fqdn"),
    ],
)  # fmt: skip
def test_class_is_the_same_for_columns_and_single_addresses(address: str, kind: str) -> None:
    assert one(address_class(pl.lit(address))) == class_of(address) == kind


@pytest.mark.parametrize(
    "address", ["203.0.113.5", "2001:db8::1", "::ffff:203.0.113.5", "a.example", "999.1.1.1", "2001:DB8::1%eth0"]
)
@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "raw"])
def test_what_is_hidden_keeps_class_and_family_and_is_read_by_every_grammar(address: str, policy: str) -> None:
    kept = hidden(address, Policy(policy, KEY))
    assert kept != address
    assert class_of(kept) == class_of(address)
    # a pseudonym stands for one address, a class or a network does not
    assert one(tells_apart(pl.lit(kept))) == (policy == "hash")
    if class_of(address) == "public":
        assert one(is_ipv6(pl.lit(kept))) == ("db8" in address.lower())
    text = f"candidate:1 1 udp 1694498815 {kept} 50728 typ srflx raddr {kept} rport 50728"
    (row,) = parse_candidates(pl.Series([text])).to_dicts()
    assert (row["address"], row["related_address"], row["violations"]) == (kept, kept, [])
    endpoint = f"[{kept}]:5" if ":" in kept else f"{kept}:5"
    pair = parse_pair_candidate(pl.lit(f"udp4 srflx {endpoint} related {endpoint}"))
    assert (one(pair["address"]), one(pair["port"])) == (kept, 5)
    for name in ("ADDRESS", "ENDPOINT", "PAIR_CANDIDATE"):
        said = {"ADDRESS": kept, "ENDPOINT": endpoint, "PAIR_CANDIDATE": f"udp4 host {endpoint} related {endpoint}"}
        assert re.fullmatch(shared_terminals()[name], said[name])
    # what is hidden stays as it is, whatever is asked next; of a network no pseudonym is made, as of no host
    again = hidden(kept, HASH)
    assert again == kept or (policy == "masked" and again == ("public-v6" if ":" in kept else "public"))


def shared_terminals() -> dict[str, str]:
    return {
        capture.terminal: capture.regex
        for grammar in shipped().values()
        for kind in grammar.kinds
        for capture in captures(kind.sequence)
    }


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "100.64.3.4", "fe80::1", "fd00::1", "a-b.local", "::", "127.0.0.1", ""]
)
@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_nobodys_stays(address: str, policy: str) -> None:
    assert hidden(address, Policy(policy, KEY)) == address
    assert hidden("203.0.113.5", Policy(policy, KEY, frozenset({"203.0.113.5"}))) == "203.0.113.5"


def test_a_pseudonym_is_of_the_address_not_of_its_spelling() -> None:
    assert len({hidden(text, HASH) for text in ("203.0.113.5", "::ffff:203.0.113.5", "::FFFF:cb00:7105")}) == 1
    assert len({hidden(text, HASH) for text in ("2001:db8::1", "2001:DB8:0::1%eth0", "2001:db8:0:0:0:0:0:1")}) == 1
    assert hidden("203.0.113.5", HASH) != hidden("203.0.113.5", Policy("hash", KEY[::-1]))
    assert hidden("203.0.113.5", HASH) != hidden("203.0.113.6", HASH)


@pytest.mark.parametrize(
    ("form", "text", "kept"),
    [
        ("address", "203.0.113.5:80", "public:80"),
        ("address", "[2001:db8::1]:80", "public-v6:80"),
        ("address", "2001:db8::1", "public-v6"),
        ("endpoint", "2001:db8::1:80", "public-v6:80"),
        ("endpoint", "10.0.0.1:80", "10.0.0.1:80"),
        ("text", "candidate:1 1 udp 1 192.0.2.9 5 typ relay raddr 203.0.113.5 rport 6",
         "candidate:1 1 udp 1 192.0.2.9 5 typ relay raddr public rport 6"),
        ("text", "a=candidate:1 1 UDP 1 a.example 5 TYP host x 203.0.113.5",
         "a=candidate:1 1 UDP 1 fqdn 5 TYP host x public"),
        ("text", "udp4 srflx 203.0.113.5:7 related 0.0.0.0:7 <-> udp4 relay 192.0.2.9:7 related 203.0.113.5:4",
         "udp4 srflx public:7 related 0.0.0.0:7 <-> udp4 relay 192.0.2.9:7 related public:4"),
        ("text", "at 203.0.113.5: no, 2001:db8::7. key:2001:db8::8:40000 [2001:db8::9]:5 ::ffff:203.0.113.5:80",
         "at public: no, public-v6. key:public-v6:40000 [public-v6]:5 public:80"),
        ("text", "core::add d::e 13:19:35,251 AB:CD:EF:01:23:45:67:89:AB:CD 11:22:33:44:55:66 v1.2.3",
         "core::add d::e 13:19:35,251 AB:CD:EF:01:23:45:67:89:AB:CD 11:22:33:44:55:66 v1.2.3"),
        ("text", "(url: turn:203.0.113.5:3478, seen: 203.0.113.5) turn.Client [2001:db8::9]:5 stun host: 203.0.113.5:1",
         "(url: turn:203.0.113.5:3478, seen: public) turn.Client [2001:db8::9]:5 stun host: 203.0.113.5:1"),
        ("text", "(type: srflx, ip: 64:ff9b:1::cb00:7105) (type: host, ip: a.example) (type: relay, ip: 2001:db8::1)",
         "(type: srflx, ip: public-v6) (type: host, ip: fqdn) (type: relay, ip: 2001:db8::1)"),
        ("text", "origin <>, local 203.0.113.5:3478, remote 203.0.113.6:7, at 64:ff9b:1::cb00:7105",
         "origin <>, local 203.0.113.5:3478, remote public:7, at public-v6"),
        ("text", "candidate:1 1 udp 1 a.example. 5 typ host raddr 2001:db8:1:: rport 5) (type: host, ip: b.example.)",
         "candidate:1 1 udp 1 fqdn 5 typ host raddr public-v6 rport 5) (type: host, ip: fqdn)"),
        ("server", "203.0.113.5:80", "203.0.113.5:80"),
    ],
)  # fmt: skip
def test_addresses_are_found_in_values_of_every_form(form: Form, text: str, kept: str) -> None:
    assert hidden_value(text, Policy("class"), form) == kept


def test_texts_without_addresses_and_nulls_are_left_alone() -> None:
    texts = pl.Series([None, "", "no address", "\0 203.0.113.5", "a\0b"], dtype=pl.String)
    assert hidden_texts(texts, Policy("class")).to_list() == [None, "", "no address", "\ufffd public", "a\0b"]


# -- columns ----------------------------------------------------------------------------------------------------------


def _texts() -> Iterator[tuple[str, str, str, str, str]]:
    """Every text that a grammar captures: target, kind, column, terminal, regular expression."""
    for target, grammar in shipped().items():
        for kind in grammar.kinds:
            for capture in captures(kind.sequence):
                if TYPES[capture.terminal].dtype in (pl.String(), pl.List(pl.String())):
                    yield target, kind.name, capture.column, capture.terminal, capture.regex


def test_what_is_said_to_hold_no_address_cannot_spell_one() -> None:
    said = {(terminal, regex) for *_, terminal, regex in _texts() if TYPES[terminal].holds == "none"}
    assert said
    for terminal, regex in said:
        assert not automaton(regex).spells() & {".", ":"}, terminal


def test_only_columns_of_servers_keep_what_they_hold() -> None:
    kept = {
        (target, kind, column)
        for target, kind, column, *_ in _texts()
        if holds(logger(target), kind).get(column, "text") == "server"
    }
    assert kept == SERVERS


@pytest.mark.parametrize("spelled", ["203.0.113.5", "203.0.113.5:5000", "candidate:1 1 udp 1 203.0.113.5 5 typ host",
                                     "udp4 host 203.0.113.5:5", "2001:db8::1", "[2001:db8::1]:5000"])  # fmt: skip
def test_every_column_that_can_hold_an_address_is_covered(spelled: str) -> None:
    rows, typed = [], typed_columns()
    for target, kind, column, _, regex in _texts():
        if re.fullmatch(regex, spelled) and (target, kind, column) not in SERVERS:
            value = {column: [spelled] if typed.get(column) == pl.List(pl.String()) else spelled}
            own = {"fields": [{"key": column, "value": spelled}]}
            rows.append({"target": logger(target), "kind": kind, **(value if column in typed else own)})
    events = pl.DataFrame(rows, schema=events_schema())
    if len(events):
        assert events["fields"].dtype == pl.List(FIELD)
        assert not re.search(r"203\.0\.113\.5|2001:db8::1", hidden_endpoints(events, HASH).write_ndjson())
        assert hidden_endpoints(events, Policy("raw")).equals(events)


def test_a_relays_own_address_stays_by_its_type() -> None:
    rows = [
        {
            "target": logger("webrtc_core"),
            "kind": "candidate_described",
            "address": "203.0.113.5",
            "candidate_type": kind,
        }
        for kind in ("relay", "srflx")
    ]
    kept = hidden_endpoints(pl.DataFrame(rows, schema=events_schema()), Policy("class"))
    assert kept["address"].to_list() == ["203.0.113.5", "public"]


# -- datasets ---------------------------------------------------------------------------------------------------------


def public_logs(folder: Path) -> list[Path]:
    """The logs of the capture as they would be between public networks, in a folder."""
    folder.mkdir()
    for path in CAPTURE.iterdir():
        if ".log" in path.name or path.name == "coturn.txt":
            text = pa.input_stream(str(path)).read().decode()
            for private, public in NETWORKS.items():
                text = text.replace(private, public)
            (folder / path.name.removesuffix(".zst")).write_bytes(text.encode())
    return sorted(folder.iterdir())


def tables(out: Path) -> dict[str, pl.DataFrame]:
    return {folder.name: pl.read_parquet(folder) for folder in sorted(out.iterdir()) if folder.name != "_analyzer"}


def digests(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*.parquet")
    }


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same logs under every policy, and in another order as `other`, and those that were redacted as `redacted`."""
    folder = tmp_path_factory.mktemp("policies")
    logs, key = public_logs(folder / "logs"), folder / "shared.key"
    key.write_bytes(KEY)
    for policy in POLICIES:
        ingest([*map(str, logs)], folder / policy, addresses=policy, key_file=key if policy == "hash" else None)
    for log in reversed(logs):
        ingest([str(log)], folder / "other", key_file=key)
    (folder / "sent").mkdir()
    for log in logs:
        lines = log.read_bytes().decode().split("\n")
        servers = Policy("hash", KEY, frozenset(f"192.0.2.{number}" for number in range(256)))
        (folder / "sent" / log.name).write_bytes("\n".join(hidden_texts(pl.Series(lines), servers)).encode())
    ingest([str(folder / "sent")], folder / "redacted")
    return {name: folder / name for name in (*POLICIES, "other", "redacted")}


@pytest.mark.parametrize("policy", ["hash", "class", "masked"])
def test_no_public_address_of_an_endpoint_is_in_any_table(datasets: dict[str, Path], policy: str) -> None:
    said = {name: frame.write_ndjson() for name, frame in tables(datasets[policy]).items()}
    raw = "".join(frame.write_ndjson() for frame in tables(datasets["raw"]).values())
    for network in PUBLIC:
        # networks may be told where they are what the policy keeps
        pattern = re.escape(network) + ("[1-9]" if policy == "masked" else "")
        assert re.search(pattern, raw)
        assert not {name for name, text in said.items() if re.search(pattern, text)}
    assert NETWORKS["10.77.2."] in said["candidates"], "relays stay readable"
    state = "".join(path.read_text() for path in (datasets[policy] / "_analyzer").glob("*.json"))
    assert not any(network in state for network in PUBLIC)


def test_with_pseudonyms_every_table_says_what_it_says_without(datasets: dict[str, Path]) -> None:
    raw, kept = tables(datasets["raw"]), tables(datasets["hash"])
    assert raw.keys() == kept.keys()
    differing = {
        (name, column)
        for name, frame in raw.items()
        for column in frame.columns
        if not frame[column].equals(kept[name][column])
    }
    assert differing == {
        ("candidate_pairs", "local_address"), ("candidate_pairs", "remote_address"), ("candidates", "address"),
        ("events", "address"), ("events", "candidate"), ("events", "endpoint"), ("events", "remote_candidate"),
        ("events", "sdp_candidates"), ("relay_sessions", "client_address"),
    }  # fmt: skip
    for name, column in differing - {("events", "sdp_candidates")}:
        form = "address" if "address" in column else "endpoint" if column == "endpoint" else "text"
        servers = Policy("hash", KEY, frozenset(f"192.0.2.{number}" for number in range(256)))
        told = [None if value is None else hidden_value(value, servers, form) for value in raw[name][column]]
        assert told == kept[name][column].to_list()


def test_equal_keys_give_equal_bytes_in_any_order(datasets: dict[str, Path]) -> None:
    assert digests(datasets["hash"]) == digests(datasets["other"])


def test_redacted_logs_tell_what_the_logs_told(datasets: dict[str, Path]) -> None:
    kept, again = tables(datasets["hash"]), tables(datasets["redacted"])
    for name in ("conversations", "ice_stats", "connection_legs", "candidates", "candidate_pairs", "relay_sessions"):
        assert kept[name].equals(again[name]), name


def test_what_cannot_be_told_apart_is_not_joined(datasets: dict[str, Path]) -> None:
    joined = {
        policy: tables(datasets[policy])["relay_sessions"]
        .filter(pl.col("join_method").is_not_null())
        .select("session", "origin", "tube_id", "join_method")
        for policy in POLICIES
    }
    assert joined["hash"].equals(joined["raw"])
    for policy in ("masked", "class"):
        # what is joined is joined by the relay's own addresses, and as it was; the rest says why it is not
        assert 0 < len(joined[policy]) < len(joined["raw"])
        assert joined[policy].join(joined["raw"], on=["session", "origin", "tube_id"], how="anti").is_empty()
        reasons = tables(datasets[policy])["relay_sessions"]["join_reason"].unique().to_list()
        assert "the dataset keeps too little of its address" in reasons


def test_the_key_is_made_with_the_dataset_and_kept_for_the_owner_alone(tmp_path: Path) -> None:
    (log, *rest) = public_logs(tmp_path / "logs")
    for out in ("a", "b"):
        ingest([str(log)], tmp_path / out)
    one_, other = (tmp_path / out / "_analyzer" / "key" for out in ("a", "b"))
    key = one_.read_bytes()
    assert (one_.stat().st_mode & 0o777, len(key)) == (0o600, 32)
    assert key != other.read_bytes()
    ingest([str(rest[0])], tmp_path / "a")
    assert one_.read_bytes() == key
    # handed on without its key: to be read by all, and written by who has it
    taken = tmp_path / "taken.key"
    one_.rename(taken)
    with pytest.raises(DatasetError, match="without its key"):
        ingest([str(rest[1])], tmp_path / "a")
    ingest([str(rest[1])], tmp_path / "a", key_file=taken)
    with pytest.raises(UsageError, match="made with another key"):
        ingest([str(rest[1])], tmp_path / "a", key_file=other)


def test_a_policy_is_for_good(tmp_path: Path) -> None:
    (log, *_) = public_logs(tmp_path / "logs")
    out, short = tmp_path / "metrics", tmp_path / "short.key"
    short.write_bytes(b"short")
    for wrong, said in (
        ({"addresses": "none"}, "there is no address policy none"),
        ({"key_file": short}, "holds less than 16 bytes"),
        ({"key_file": tmp_path / "absent"}, "cannot be read"),
        ({"key_file": short, "addresses": "class"}, "needs no key"),
    ):
        with pytest.raises(UsageError, match=said):
            ingest([str(log)], out, **wrong)
    ingest([str(log)], out, addresses="class")
    assert not (out / "_analyzer" / "key").exists()
    with pytest.raises(UsageError, match="was made with --addresses class"):
        ingest([str(log)], out, addresses="hash")
    assert ingest([str(log)], out).addresses == "class"
