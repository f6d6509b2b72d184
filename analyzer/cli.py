"""The command `analyzer`: parse arguments, make one call, print one view.

Nothing heavy is imported at the top: `--help` must be there at once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyzer.errors import AnalyzerError, DatasetError, InputError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from analyzer.pipeline import Ingested

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

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset, as written by `analyzer ingest`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
DialectOption = Annotated[
    str | None,
    typer.Option("--dialect", metavar="NAME", help="Layout of the lines, not by vote: std, json, docker_json/std."),
]


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


def _zone(name: str) -> str:
    """Check the name of a time zone."""
    from zoneinfo import available_timezones

    # two entries of the database name no zone
    if name not in available_timezones() - {"localtime", "Factory"}:
        raise UsageError(f"there is no time zone {name}", "give an IANA name such as Europe/Berlin or UTC")
    return name


def _zones(given: list[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """The zone of all sources, and those of some."""
    pairs = [(source, found, _zone(zone)) for source, found, zone in (one.rpartition("=") for one in given)]
    everywhere = [zone for _, found, zone in pairs if not found]
    if len(set(everywhere)) > 1:
        raise UsageError(f"--timezone is {' and '.join(everywhere)} for all logs", "--timezone LOG=ZONE is for one")
    return (everywhere[0] if everywhere else None), [(source, zone) for source, found, zone in pairs if found]


@app.command()
def ingest(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS", help="Log files, folders, globs, .gz, .zst; '-' is standard input.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the dataset is kept.")] = Path("metrics"),
    dialect: DialectOption = None,
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
        bool, typer.Option("--trust-archives", help="Read archives of any size: beyond 4 GiB, or 200 bytes of one.")
    ] = False,
    final: Annotated[
        bool, typer.Option("--final", help="Read last lines that have no end; else they wait for it.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: look again at an interval, and commit what is new, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="The interval of --follow.")
    ] = 10.0,
    addresses: Annotated[
        str | None,
        typer.Option(
            "--addresses",
            metavar="POLICY",
            help="What to keep of endpoints' public addresses: hash (a keyed pseudonym, the default), masked (the "
            "network), class, raw. Private, shared, mDNS, relay and STUN server addresses stay. For good, per dataset.",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="Key of the pseudonyms, to share one between datasets; else a random one, made with the dataset.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Read logs into the tables of a dataset.

    What the dataset already has is not added twice: of a log that has grown what is new is read, and conversations that
    it says something of are rebuilt. A record is one entry of a log, of one line or several. Where no input holds any,
    the exit code is 66.

    Example: analyzer ingest client.log gateway.log.gz
    """
    from functools import partial

    from analyzer import api, pipeline
    from analyzer.views import ingested, progress, text

    zone, zones = _zones(timezone or [])
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
        _follow(read, paths, out, every, follow_symlinks=follow_symlinks, json=json)
        return
    with progress.watching(paths, out, sys.stderr, follow_symlinks=follow_symlinks) as advance:
        done = read(progress=advance)
    try:
        with api.opened(out, ["conversations", "relay_sessions"]) as dataset:
            values = ingested.gather(done, dataset)
    except DatasetError as error:
        # it has just been written: the disk does not give it back
        raise OutputError(f"written, but {error}", error.hint) from error
    text.write(text.as_json(values) if json else ingested.render(values, out, text.paint_for(sys.stdout)), sys.stdout)
    if problem := ingested.unreadable(values):
        raise InputError(f"nothing could be read: {problem}", "the summary says why")


def _follow(
    read: Callable[[], Ingested], paths: list[str], out: Path, every: float, *, follow_symlinks: bool, json: bool
) -> None:
    """Keep a dataset up with its logs, and print a line for each commit."""
    from analyzer import follow, inputs
    from analyzer.views import followed, text

    if inputs.STDIN in paths:
        raise UsageError("standard input cannot be followed", "name the files that it comes from")

    def discover() -> list[inputs.Input]:
        return inputs.discover(paths, skip=out, follow_symlinks=follow_symlinks)

    def told() -> None:
        text.write("stopping; once more stops at once", sys.stderr)

    try:
        discover()
    except InputError as error:
        text.write(f"waiting: {error}", sys.stderr)
    trouble: list[str] = []

    def failed(error: OutputError) -> None:
        # once, however often it is tried
        if str(error) not in trouble:
            text.write(f"trying again: {error}", sys.stderr)
            trouble.append(str(error))

    with follow.until_stopped(every, told) as wait:
        for done in follow.follow(discover, read, wait, failed):
            trouble.clear()
            values = followed.gather(done)
            text.write(text.as_json(values, indent=None) if json else followed.render(values, out), sys.stdout)


# an id in url-safe base64 may begin with a hyphen
@app.command(context_settings={"ignore_unknown_options": True})
def summarize(
    wanted: Annotated[
        str | None, typer.Argument(metavar="ID", help="A conversation's or a tube's id, or the beginning of one.")
    ] = None,
    data: Data = Path("metrics"),
    json: Json = False,
) -> None:
    """Show one conversation, or list all of them.

    One is shown from both sides. The list begins with the worst: those that failed, were lost or never connected,
    then the unknown, then the connected ones, the slowest end to end first.

    Example: analyzer summarize udIgwg
    """
    from analyzer import api
    from analyzer.views import conversation, conversations, summary, text

    if wanted is not None and not wanted.strip():
        raise UsageError("the ID is empty", "give the beginning of one, or none at all for the list of conversations")
    paint = text.paint_for(sys.stdout)
    with api.opened(data) as dataset:
        one = None if wanted is None else conversation.gather(dataset, wanted)
        rows = conversations.gather(dataset) if one is None else []
    if one is None:
        shown = text.as_json({"conversations": rows}) if json else conversations.render(rows, data, paint)
    else:
        shown = text.as_json(conversation.as_values(one)) if json else summary.render(one, paint)
    text.write(shown, sys.stdout)


@app.command()
def drift(data: Data = Path("metrics"), json: Json = False) -> None:
    """Show where the library's own numbers differ from its lines.

    Per field how often the two agree, and an example of each fault with its place: a bug report to the library.

    Example: analyzer drift --data metrics
    """
    from analyzer import api
    from analyzer.views import drift as view
    from analyzer.views import text

    with api.opened(data) as dataset:
        values = view.gather(dataset)
    text.write(text.as_json(values) if json else view.render(values, data, text.paint_for(sys.stdout)), sys.stdout)


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
    from analyzer.views import dictionary, text

    found = dictionary.tables(name)
    if markdown:
        text.write(dictionary.markdown_tables(found), sys.stdout)
    else:
        drawn = dictionary.render_tables(found, text.paint_for(sys.stdout))
        text.write(text.as_json({"tables": found}) if json else drawn, sys.stdout)


@app.command()
def events(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="One kind of event.")] = None, json: Json = False
) -> None:
    """Print what events the grammars know.

    For each kind what it means, its columns, and sample lines, by the logger they come from.

    Example: analyzer events gathering_completed
    """
    from analyzer.views import dictionary, text

    found = dictionary.events(kind)
    drawn = dictionary.render_events(found, text.paint_for(sys.stdout))
    text.write(text.as_json({"events": found}) if json else drawn, sys.stdout)


@app.command()
def coverage(data: Data = Path("metrics"), json: Json = False) -> None:
    """Show what the grammars leave unknown.

    For each logger its records by what became of them, the worst covered first; then the unknown shapes, each with
    where it was first seen and the draft of a grammar rule.

    Example: analyzer coverage --data metrics
    """
    from analyzer import api
    from analyzer.views import coverage as view
    from analyzer.views import text

    with api.opened(data, ["coverage", "sources", "unmatched"]) as dataset:
        values = view.gather(dataset)
    text.write(text.as_json(values) if json else view.render(values, data, text.paint_for(sys.stdout)), sys.stdout)


def _place(text: str) -> tuple[str, int]:
    path, _, line = text.rpartition(":")
    if not path or not line.isascii() or not line.isdigit() or int(line) < 1:
        raise UsageError(f"{text} is not FILE:LINE", "name a line such as app.log:1824")
    return path, int(line)


@app.command()
def explain(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE", help="A line of a log.")], dialect: DialectOption = None
) -> None:
    """Explain what a line of a log is taken for.

    Where no rule takes it: where it stops being one, and the nearest kind.

    Example: analyzer explain app.log:1824
    """
    path, line = _place(place)
    from analyzer.explain import explain as explained
    from analyzer.explain import render
    from analyzer.views import text

    text.write(text.paragraph(render(explained(path, line, dialect))), sys.stdout)


@app.command()
def redact(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS", help="Log files, folders, globs, .gz, .zst; '-' is standard input.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder for the copies.")],
    addresses: Annotated[
        str | None,
        typer.Option("--addresses", metavar="POLICY", help="Of endpoints' public addresses: hash, masked, class, raw."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="Key of the pseudonyms; else a random one.")
    ] = None,
    keep_unknown: Annotated[
        bool,
        typer.Option(
            "--keep-unknown",
            help="Keep the text of what no rule names and of other programs, without what looks like a secret: "
            "a password that nothing tells for one stays in it.",
        ),
    ] = False,
    dialect: DialectOption = None,
    json: Json = False,
) -> None:
    """Write copies of logs that can be handed on.

    Lines keep their numbers and layout, and what the rules read of them: the copies give the same tables. Every other
    value is masked, public addresses of endpoints become pseudonyms.

    Example: analyzer redact logs/ -o redacted/
    """
    from analyzer.redact import redact as redacted
    from analyzer.views import redacted as view
    from analyzer.views import text

    done = redacted(paths, out, addresses=addresses, key_file=key_file, keep_unknown=keep_unknown, dialect=dialect)
    values = view.gather(done)
    text.write(text.as_json(values) if json else view.render(values, out, text.paint_for(sys.stdout)), sys.stdout)


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
