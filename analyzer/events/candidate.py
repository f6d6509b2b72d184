"""ICE candidates: attribute texts → fields, with what is wrong about each as a list of violations (RFC 8839, 8445)."""

from __future__ import annotations

import polars as pl

from analyzer.addresses import address_class
from analyzer.grammar import candidate_forms
from analyzer.grammar.pattern import captures
from analyzer.grammar.regex import message_regex
from analyzer.grammar.types import TYPES

EXTENSION = pl.Struct({"key": pl.String(), "value": pl.String()})
CANDIDATE_SCHEMA = pl.Schema(
    {
        "foundation": pl.String(),
        "component": pl.Int64(),
        "transport": pl.String(),
        "priority": pl.Int64(),
        "address": pl.String(),
        "address_class": pl.String(),
        "port": pl.Int64(),
        "candidate_type": pl.String(),
        "related_address": pl.String(),
        "related_port": pl.Int64(),
        "tcp_type": pl.String(),
        "extensions": pl.List(EXTENSION),
        "violations": pl.List(pl.String()),
    }
)

#: so many are parsed together
PARSED_ROWS = 20_000
KNOWN_TYPES = ("host", "srflx", "prflx", "relay")
_REFLEXIVE = ("srflx", "prflx", "relay")


def _extension(name: str) -> pl.Expr:
    """Value of the first extension called `name`: pairs are read two by two, so a value is never taken for a name."""
    return pl.col("extension_text").str.extract(rf"^(?:[^ ]+ [^ ]* )*?{name} ([^ ]+)", 1)


def _violation(name: str, broken: pl.Expr) -> pl.Expr:
    return pl.when(broken.fill_null(False)).then(pl.lit(name))


def _violations() -> pl.Expr:
    kind, text = pl.col("candidate_type"), pl.col("extension_text")
    related, taken = pl.col("related_address").is_not_null(), pl.col("foundation").is_not_null()

    def outside(column: str, least: int, most: int) -> pl.Expr:
        # a number that is null here is larger than any column holds
        return _violation(f"{column}_out_of_range", taken & ~pl.col(column).is_between(least, most).fill_null(False))

    return pl.concat_list(
        _violation("not_a_candidate", ~taken),
        _violation("foundation_too_long", pl.col("foundation").str.len_chars() > 32),
        outside("component", 1, 256),
        outside("priority", 1, 2**31 - 1),
        outside("port", 0, 65535),
        _violation("unknown_type", ~kind.is_in(KNOWN_TYPES)),
        _violation("related_address_missing", kind.is_in(_REFLEXIVE) & ~related),
        _violation("related_address_on_host", (kind == "host") & related),
        _violation("extension_order", text.str.contains(r"^(?:[^ ]+ [^ ]* )*?tcptype .* raddr ")),
        _violation("extension_without_value", text.str.strip_chars().str.split(" ").list.len() % 2 == 1),
    ).list.drop_nulls()


def parse_candidates(text: pl.Series) -> pl.DataFrame:
    """Parse candidate attributes, one row per text, in order; a text that is none has a null type and says so.

    Columns: `CANDIDATE_SCHEMA`. Transports and known types are lower case, whatever the sender wrote.
    """
    # what they are parsed by is many times their size
    portions = range(0, max(len(text), 1), PARSED_ROWS)
    return pl.concat([_parsed(text[first : first + PARSED_ROWS]) for first in portions])


def _parsed(text: pl.Series) -> pl.DataFrame:
    form = candidate_forms()[0]
    regex = message_regex(form.sequence)
    raw = pl.DataFrame({"text": text}).select(pl.col("text").str.extract_groups(regex.text)).unnest("text")
    fields = raw.select(
        TYPES[capture.terminal].expr(pl.col(f"{capture.column}__1")).alias(capture.column)
        for capture in captures(form.sequence)
    )
    parsed = fields.with_columns(
        transport=pl.col("transport").str.to_lowercase(),
        candidate_type=pl.col("candidate_type").str.to_lowercase(),
        address_class=address_class(pl.col("address")),
        related_address=_extension("raddr"),
        related_port=_extension("rport").cast(pl.Int64, strict=False),
        tcp_type=_extension("tcptype"),
    )
    return (
        parsed.with_columns(extensions=_kept_extensions(parsed["extension_text"]), violations=_violations())
        .select(CANDIDATE_SCHEMA.names())
        .cast(CANDIDATE_SCHEMA)
    )


def _kept_extensions(text: pl.Series) -> pl.Series:
    """Extensions beside the related address and tcptype, as pairs in their order, duplicates kept."""
    pair = pl.element().str.extract_groups("^(?P<key>[^ ]+) (?P<value>[^ ]*)$")
    pairs = text.str.extract_all("[^ ]+ [^ ]*(?: |$)").list.eval(pl.element().str.strip_suffix(" "))
    kept = pairs.list.eval(pl.element().filter(~pl.element().str.contains("^(?:raddr|rport|tcptype) ")))
    return kept.list.eval(pair).cast(pl.List(EXTENSION))


def parse_pair_candidate(text: pl.Expr) -> dict[str, pl.Expr]:
    """Type, address and port of a candidate in the ICE agent's own spelling."""
    regex = message_regex(candidate_forms()[1].sequence).text
    groups = text.str.extract_groups(regex)
    endpoint = groups.struct.field("endpoint__1")
    return {
        "type": groups.struct.field("candidate_type__1"),
        "address": endpoint.str.extract(r"^\[?(.*?)\]?:[0-9]+$", 1),
        "port": endpoint.str.extract(r":([0-9]+)$", 1).cast(pl.Int64, strict=False),
    }
