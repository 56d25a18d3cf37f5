"""Makes the reference part of docs/cli.md from the commands: `python -m nexuskit.cli.reference docs/cli.md`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from nexuskit.cli.app import app

BEGIN = "<!-- from here: made by `python -m nexuskit.cli.reference docs/cli.md` -->"
END = "<!-- to here -->"


def reference() -> str:
    """The commands and their options, as Markdown; the same whatever version of Typer is installed."""
    group = typer.main.get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"nexus has more than one command, so it is a group, not {type(group).__name__}")
    return "\n\n".join(_parts("nexus", group))


def _parts(name: str, command: TyperCommand | TyperGroup) -> list[str]:
    parts = [f"### {name}", _text(command.help)]
    if isinstance(command, TyperGroup):
        parts += [_options(command)] if any(isinstance(each, TyperOption) for each in command.params) else []
        for below, each in command.commands.items():
            if isinstance(each, TyperCommand | TyperGroup):
                parts += _parts(f"{name} {below}", each)
    else:
        arguments = [each for each in command.params if isinstance(each, TyperArgument)]
        if arguments:
            parts.append("\n".join(["| argument | meaning |", "| --- | --- |", *map(_argument, arguments)]))
        parts.append(_options(command))
    return parts


def _argument(argument: TyperArgument) -> str:
    return f"| `{argument.metavar or (argument.name or '').upper()}` | {_text(argument.help)} |"


def rewritten(document: str) -> str:
    """The document with its reference part made new.

    Raises:
        ValueError: It does not have the two marks between which the reference stands.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN!r} with a {END!r} after it")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def _text(text: str | None) -> str:
    return inspect.cleandoc(text or "")


def _options(command: TyperCommand | TyperGroup) -> str:
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    rows += [_row(option) for option in command.params if isinstance(option, TyperOption)]
    return "\n".join(rows)


def _row(option: TyperOption) -> str:
    names = ", ".join(option.opts)
    usage = f"{names} {option.metavar}" if option.metavar else names
    default = option.default
    shown = "" if default is None or default is False or option.multiple else f"`{default}`"
    return f"| `{usage}` | {shown} | {_text(option.help)} |"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
