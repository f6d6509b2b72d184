"""The command `analyzer`: parse arguments, make one call, print one view.

Nothing heavy is imported at the top: `--help` must be there at once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyzer.cli import options
from analyzer.cli.options import Data, DialectName, Json, KeyFile, Paths
from analyzer.errors import AnalyzerError, DatasetError, InputError, OutputError, UnknownConversation, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analyzer.views.text import Paint

EXIT_CODES = """Exit codes: 0 done; 1 failed; 2 wrong usage, unknown table or event; 4 unknown conversation;
65 not a dataset; 66 nothing to read; 70 broken grammar; 73 cannot write; 75 busy; 130 interrupted; 143 terminated."""

app = typer.Typer(
    name="analyzer",
    help="Rebuild the true ICE and connection-leg metrics of WebRTC tunnels from keeper_pam_webrtc_rs debug logs.\n\n"
    "Example: analyzer ingest logs/ && analyzer summarize",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    # a flag that is nowhere set has typer import pydantic to validate None, a third of a second for every `--help`
    context_settings={"default_map": {"help": False}},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print(values: Mapping[str, Any], drawn: Callable[[], str], *, json: bool) -> None:
    """Print what was gathered, as JSON or drawn for a person."""
    from analyzer.views import text

    text.write(text.as_json(values) if json else drawn(), sys.stdout)


def _paint() -> Paint:
    from analyzer.views import text

    return text.paint_for(sys.stdout)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"analyzer {version('keeper-webrtc-analyzer')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def ingest(
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the dataset is kept.")] = Path("metrics"),
    dialect: DialectName = None,
    timezone: Annotated[
        list[str] | None,
        typer.Option(
            "--timezone",
            metavar="[SOURCE=]ZONE",
            help="IANA zone of times that name none, of all logs or of one; else UTC.",
        ),
    ] = None,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Read symbolic links below a folder, too.")
    ] = False,
    trust_archives: Annotated[
        bool,
        typer.Option("--trust-archives", help="Lift the limits on archives: 4 GiB, and 200 times the compressed size."),
    ] = False,
    final: Annotated[
        bool, typer.Option("--final", help="Read last lines that have no end; else they wait for it.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: look again at an interval, and commit what is new, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Seconds between two looks with --follow.")
    ] = 10.0,
    addresses: Annotated[
        str | None,
        typer.Option(
            "--addresses",
            metavar="POLICY",
            help="What to keep of endpoints' public addresses: hash (a keyed pseudonym, the default), masked (the "
            "network), class, raw. Private, shared, mDNS, relay and STUN server addresses stay. Fixed when the dataset "
            "is made.",
        ),
    ] = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Read logs into the tables of a dataset.

    What the dataset already has is not added twice: only the new part of a grown log is read, and only conversations
    that it says something of are rebuilt. A record is one entry of a log, of one line or several. Where no input holds
    any, the exit code is 66.

    Example: analyzer ingest client.log gateway.log.gz
    """
    from functools import partial

    from analyzer import api, pipeline
    from analyzer.views import ingested, progress

    zone, zones = options.zones(timezone or [])
    read = partial(
        pipeline.ingest,
        paths,
        out,
        zone=zone,
        zones=zones,
        dialect=dialect,
        follow_symlinks=follow_symlinks,
        trust_archives=trust_archives,
        final=final,
        addresses=addresses,
        key_file=key_file,
    )
    if follow:
        from analyzer.cli import following

        following.keep_up(read, paths, out, every, follow_symlinks=follow_symlinks, json=json)
        return
    with progress.watching(paths, out, sys.stderr, follow_symlinks=follow_symlinks) as advance:
        done = read(progress=advance)
    try:
        with api.opened(out, ["conversations", "relay_sessions"]) as dataset:
            values = ingested.gather(done, dataset)
    except DatasetError as error:
        # it has just been written: the disk does not give it back
        raise OutputError(f"written, but {error}", error.hint) from error
    _print(ingested.as_values(values) if json else values, lambda: ingested.render(values, out, _paint()), json=json)
    if problem := ingested.unreadable(values):
        raise InputError(f"nothing could be read: {problem}", "the summary says why")


# an id in url-safe base64 may begin with a hyphen
@app.command(context_settings={"ignore_unknown_options": True})
def summarize(
    wanted: Annotated[
        str | None, typer.Argument(metavar="ID", help="A conversation's or a tube's id, or the beginning of one.")
    ] = None,
    data: Data = Path("metrics"),
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome", metavar="NAME", help="List those that came out so, such as connected_lost; repeatable."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="List those that went on at this time, or later.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="List those that had begun by then; UTC, or with a zone."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="List those that this log tells of; globs, too.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="List so many, the worst.")] = None,
    json: Json = False,
) -> None:
    """Show one conversation, or list all of them.

    One is shown from both sides. The list begins with the worst: those that failed, were lost or never connected,
    then the unknown, then the connected ones, the slowest end to end first.

    Example: analyzer summarize udIgwg
    """
    from analyzer import api
    from analyzer.views import conversation, conversations, summary

    only = conversations.Only(tuple(outcome or ()), options.moment(since), options.moment(until), source, limit)
    if wanted is None:
        with api.opened(data) as dataset:
            found = conversations.gather(dataset, only)
        _print(found, lambda: conversations.render(found, data, _paint()), json=json)
        return
    if only != conversations.Only():
        raise UsageError(
            f"{wanted} is one conversation", "--outcome, --since, --until, --source and --limit are for the list"
        )
    if not wanted.strip():
        raise UsageError("the ID is empty", "give the beginning of one, or none at all for the list of conversations")
    with api.opened(data) as dataset:
        try:
            one = conversation.gather(dataset, wanted)
        except UnknownConversation as error:
            # an id may begin with a hyphen, and one in four thousand with two
            if wanted.startswith("--"):
                raise UsageError(f"there is no option {wanted}, nor a conversation", "see --help") from error
            raise
    _print(conversation.as_values(one), lambda: summary.render(one, _paint()), json=json)


@app.command()
def drift(data: Data = Path("metrics"), json: Json = False) -> None:
    """Show where the library's own numbers differ from its lines.

    Per field how often the two agree, and an example of each fault with its place: a bug report to the library.

    Example: analyzer drift --data metrics
    """
    from analyzer import api
    from analyzer.views import drift as view

    with api.opened(data) as dataset:
        values = view.gather(dataset)
    _print(values, lambda: view.render(values, data, _paint()), json=json)


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One table.")] = None,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown instead.")] = False,
) -> None:
    """Print what tables and columns mean.

    For each column its type, its unit, what it says, and the events it is found from.

    Example: analyzer tables connection_legs
    """
    from analyzer.views import dictionary

    found = dictionary.tables(name)
    if markdown:
        from analyzer.views import text

        text.write(dictionary.markdown_tables(found), sys.stdout)
    else:
        _print({"tables": found}, lambda: dictionary.render_tables(found, _paint()), json=json)


@app.command()
def events(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="One kind of event.")] = None, json: Json = False
) -> None:
    """Print what events the grammars know.

    For each kind what it means, its columns, and sample lines, by the logger they come from.

    Example: analyzer events gathering_completed
    """
    from analyzer.views import dictionary

    found = dictionary.events(kind)
    _print({"events": found}, lambda: dictionary.render_events(found, _paint()), json=json)


@app.command()
def coverage(data: Data = Path("metrics"), json: Json = False) -> None:
    """Show what the grammars leave unknown.

    For each logger its records by what became of them, the worst covered first; then the unknown shapes, each with
    where it was first seen and the draft of a grammar rule.

    Example: analyzer coverage --data metrics
    """
    from analyzer import api
    from analyzer.views import coverage as view

    with api.opened(data, ["coverage", "sources", "unmatched"]) as dataset:
        values = view.gather(dataset)
    _print(values, lambda: view.render(values, data, _paint()), json=json)


@app.command()
def explain(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE", help="A line of a log.")], dialect: DialectName = None
) -> None:
    """Explain what a line of a log is taken for.

    Where no rule takes it: where it stops being one, and the nearest kind.

    Example: analyzer explain app.log:1824
    """
    path, line = options.place(place)
    from analyzer.explain import explain as explained
    from analyzer.explain import render
    from analyzer.views import text

    text.write(text.paragraph(render(explained(path, line, dialect))), sys.stdout)


@app.command()
def redact(
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder for the copies.")],
    addresses: Annotated[
        str | None,
        typer.Option("--addresses", metavar="POLICY", help="Of endpoints' public addresses: hash, masked, class, raw."),
    ] = None,
    key_file: KeyFile = None,
    keep_unknown: Annotated[
        bool,
        typer.Option(
            "--keep-unknown",
            help="Keep the text of what no rule names and of other programs, without what looks like a secret: "
            "a password that does not look like one stays in it.",
        ),
    ] = False,
    dialect: DialectName = None,
    json: Json = False,
) -> None:
    """Write copies of logs that can be handed on.

    Lines keep their numbers and layout, and what the rules read of them: the copies give the same tables. Every other
    value is masked, public addresses of endpoints become pseudonyms.

    Example: analyzer redact logs/ -o redacted/
    """
    from analyzer.redact import redact as redacted
    from analyzer.views import redacted as view

    done = redacted(paths, out, addresses=addresses, key_file=key_file, keep_unknown=keep_unknown, dialect=dialect)
    values = view.gather(done)
    _print(values, lambda: view.render(values, out, _paint()), json=json)


def _terminated(number: int, frame: object) -> None:
    # like any other end: what was staged is taken away
    sys.exit(128 + number)


def main() -> None:
    """Run the command; an error meant for the user is one line on standard error, and its exit code."""
    # memory that Polars' allocator keeps for later adds to the peak; what it gives back at once it soon asks for again.
    # What stands there already is no user's word: a process that has loaded Polars hands on what Polars sets
    os.environ["_RJEM_MALLOC_CONF"] = "narenas:1,dirty_decay_ms:500,muzzy_decay_ms:0"
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except AnalyzerError as error:
        from analyzer.views.text import shown, spelled

        sys.stderr.write(spelled(f"analyzer: {shown(error)}\n", sys.stderr.encoding))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
