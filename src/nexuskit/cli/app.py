"""The commands and their options. What a command does is imported when it runs, so that `nexus --help` is quick."""

from __future__ import annotations

from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from nexuskit import __version__
from nexuskit.cli import contract
from nexuskit.cli.exit_code import ExitCode

T = TypeVar("T")

app = typer.Typer(
    name="nexus",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(contract.app)


class LogLevel(StrEnum):
    """How much is written to standard error."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nexuskit {__version__}")
        raise typer.Exit


@app.callback()
def nexus(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable calls between teams: Nexus in Python, on one machine or on a Temporal cluster."""


@app.command()
def demo(
    json: Annotated[
        bool, typer.Option("--json", help="Write the trace and the result as one JSON document, and nothing else.")
    ] = False,
    crash: Annotated[
        bool, typer.Option("--crash", help="Kill the backend in the middle of the order and start it again.")
    ] = False,
) -> None:
    """Run one durable call across two namespaces and show its trace.

    Starts a backend on free ports and a temporary database, two workers, and places an order that is paid and one
    that is declined. Exit code 0 only if every step gave what it should.
    """
    from nexuskit.demo.run import quiet_runtime, run

    quiet_runtime()
    raise typer.Exit(_run(run(crash=crash, json=json)))


@app.command()
def serve(
    db: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The database file, made if it is not there; ':memory:' keeps nothing. "
            "Without it: nexus.db in the user's state directory.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port for gRPC; 0 takes a free one.")
    ] = 7233,
    http_port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port for HTTP; 0 takes a free one.")
    ] = 7243,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A namespace to make if it is not there. May repeat; 'default' always exists."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A TOML file: limits, and where requests may go; see docs/configuration.md."),
    ] = None,
    log_level: Annotated[
        LogLevel,
        typer.Option(
            metavar="LEVEL",
            help="What goes to standard error: 'debug' (a line for each request), 'info', 'warning' or 'error'.",
        ),
    ] = LogLevel.INFO,
) -> None:
    """Run the backend alone, until SIGINT or SIGTERM."""
    from nexuskit.cli.serve import configure_logging, run_backend

    configure_logging(log_level.value)
    _run(run_backend(db=db, host=host, port=port, http_port=http_port, namespaces=namespace or [], config=config))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. A backend that refuses to start ends the program, in one sentence."""
    from nexuskit.backend import StartError
    from nexuskit.cli.loop import run

    try:
        return run(work)
    except StartError as error:
        typer.echo(f"nexus: {error}", err=True)
        raise typer.Exit(ExitCode.REFUSED) from error


def main() -> None:
    """The entry point of `nexus`."""
    app(prog_name="nexus")
