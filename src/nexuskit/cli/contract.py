"""`nexus contract ...`: what a contract says, and what a change of it breaks."""

from __future__ import annotations

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nexuskit.cli.exit_code import ExitCode

if TYPE_CHECKING:
    from nexuskit.contract.compatibility import Change
    from nexuskit.contract.sources import Loaded

app = typer.Typer(
    name="contract",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What a contract says, and what a change of it breaks.\n\n"
    "A contract is named by a module (`payments.contract`, `payments.contract:PaymentService`), a file (`contract.py`,"
    " `contract.json`), or a file of a git revision (`main:contract.py`). See docs/contracts.md.",
)

Source = Annotated[str, typer.Argument(metavar="CONTRACT", help="A module, a file, or REVISION:FILE.")]
Old = Annotated[str, typer.Argument(metavar="OLD", help="The version that is in use.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The version that is to come.")]
Output = Annotated[str | None, typer.Option(metavar="FILE", help="Write to this file. Without it: to standard output.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document, and nothing else.")]


class Whom(StrEnum):
    """Who may break."""

    CALLERS = "callers"
    HANDLERS = "handlers"
    IN_FLIGHT = "in-flight"


class Form(StrEnum):
    """What a contract is written as."""

    PYTHON = "python"
    NEXUSRPC = "nexusrpc"


@app.command()
def show(source: Source, json: AsJson = False) -> None:
    """Show services, operations, their types, deadlines and errors.

    With --json, the whole contract as a document: keep it, and compare a later version with it.
    """
    from rich.console import Console

    from nexuskit.cli.contract_report import show_contract

    found = _load(source)
    if json:
        typer.echo(found.document.to_json(), nl=False)
    else:
        show_contract(Console(), found.document)


@app.command()
def schema(
    source: Source,
    operation: Annotated[
        str | None, typer.Option(metavar="NAME", help="One operation only, `NAME` or `Service.NAME`.")
    ] = None,
) -> None:
    """Write the JSON Schema (2020-12) of every operation's input, output and errors, as one JSON document."""
    from nexuskit.contract.document import schemas

    found = schemas(_load(source).document)
    if operation is not None:
        found = {name: each for name, each in found.items() if name == operation or name.endswith(f".{operation}")}
        if not found:
            _refuse(f"{source}: there is no operation {operation}.")
    typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False))


@app.command()
def docs(
    source: Source,
    html: Annotated[bool, typer.Option("--html", help="HTML that stands alone; without it: Markdown.")] = False,
    output: Output = None,
) -> None:
    """Write a page about a contract: every operation with the fields of its input, output and errors."""
    from nexuskit.contract.pages import page

    _deliver(page(_load(source).document, "html" if html else "markdown"), output)


@app.command()
def check(
    old: Old,
    new: New,
    breaks: Annotated[
        list[Whom] | None,
        typer.Option(
            metavar="WHOM",
            help="Look only at what breaks 'callers', 'handlers' (of the old version) or 'in-flight' (operations that"
            " were started before). May repeat; all three without it.",
        ),
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Write annotations for GitHub: one line for each break.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Find what a new version of a contract breaks. Exit code 1 if anything.

    Tells what breaks callers that stay on the old version, handlers that stay, and operations that were started before
    the change, each with its place, the reason and what to do instead.
    """
    found, loaded = _compared(old, new)
    whom = {each.value for each in breaks or Whom}
    broken = [each for each in found if whom & {*each.breaks}]
    _report(broken, loaded, json=json, github=github, nothing="Nothing breaks.")
    raise typer.Exit(ExitCode.FAILED if broken else ExitCode.OK)


@app.command()
def diff(old: Old, new: New, json: AsJson = False) -> None:
    """Show all that has changed between two versions of a contract, also what breaks nobody. Exit code 0."""
    found, loaded = _compared(old, new)
    _report(found, loaded, json=json, github=False, nothing="Nothing has changed.")


@app.command()
def generate(
    source: Source,
    to: Annotated[
        Form,
        typer.Option(metavar="FORM", help="'python', a module of models and services; or 'nexusrpc', a nexgen file."),
    ] = Form.PYTHON,
    output: Output = None,
) -> None:
    """Make a Python contract of a document or a nexusrpc file, or such a file of a Python contract.

    A nexusrpc file is what temporalio/nexgen makes Go, Java, Python and TypeScript from.
    """
    from nexuskit.contract.file_form import FileFormError, to_file
    from nexuskit.contract.generate import GenerateError, python

    document = _load(source).document
    try:
        if to is Form.PYTHON:
            made = python(document, source)
        else:
            made = json_module.dumps(to_file(document), indent=2, ensure_ascii=False) + "\n"
    except (FileFormError, GenerateError) as error:
        _refuse(f"{source}: {error}")
    _deliver(made, output)


def _deliver(text: str, file: str | None) -> None:
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        _refuse(f"{file} cannot be written: {error.strerror}.")


def _compared(old: str, new: str) -> tuple[list[Change], Loaded]:
    from nexuskit.contract.compatibility import compare
    from nexuskit.contract.sources import SourceError, load_both

    try:
        before, after = load_both(old, new)
    except SourceError as error:
        _refuse(str(error))
    return [*compare(before.document, after.document)], after


def _report(changes: list[Change], loaded: Loaded, *, json: bool, github: bool, nothing: str) -> None:
    from rich.console import Console

    from nexuskit.cli.contract_report import github_lines, show_changes

    if json:
        typer.echo(json_module.dumps({"changes": [each.as_json() for each in changes]}, indent=2, ensure_ascii=False))
    elif github:
        for line in github_lines(changes, loaded):
            typer.echo(line)
    else:
        show_changes(Console(), changes, nothing)


def _load(source: str) -> Loaded:
    from nexuskit.contract.sources import SourceError, load

    try:
        return load(source)
    except SourceError as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    typer.echo(f"nexus: {why}", err=True)
    raise typer.Exit(ExitCode.REFUSED)
