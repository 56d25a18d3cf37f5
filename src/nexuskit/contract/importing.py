"""Imports a contract's code and writes what it says to a file: the other half of `nexuskit.contract.sources`.

python -m nexuskit.contract.importing ANSWER --file FILE NAME [INSTEAD_OF]
python -m nexuskit.contract.importing ANSWER --module MODULE NAME
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import sysconfig
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import nexusrpc

from nexuskit.contract.definition import ContractError, ServiceContract, service_contract
from nexuskit.contract.document import describe
from nexuskit.contract.sources import Answer, Location, write_answer

LIBRARY = sysconfig.get_path("stdlib")
"""Where Python's own modules are, whose lines tell nobody what is wrong."""


class _FoundNothingError(ValueError):
    pass


def main(arguments: list[str]) -> None:
    """Import what is named, and leave the answer."""
    answer, how, *named = arguments
    try:
        module = _file(*named) if how == "--file" else _module(named[0])
        classes = _classes(module, named[1])
        contracts = [service_contract(each) for each in classes]
        found = Answer(describe(*contracts), _locations(classes, contracts))
    except (ContractError, _FoundNothingError) as error:
        found = Answer(fault=str(error))
    except Exception as error:  # noqa: BLE001 - whatever somebody's code raises on import is the answer
        found = Answer(fault=_at(error))
    write_answer(Path(answer), found)


def _file(file: str, name: str, instead_of: str = "") -> ModuleType:
    """The module of a file, under the name that its own package knows it by."""
    path = Path(file)
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    if instead_of:
        _turn_aside(Path(instead_of), _top(path, Path.cwd()))
    sys.path.insert(0, str(root))
    found = importlib.import_module(".".join(parts))
    if Path(found.__file__ or "").resolve() != path.resolve():
        raise _FoundNothingError(
            f"Python knows {'.'.join(parts)} from another file, {found.__file__}: rename {path.name}, or put it in a"
            " package."
        )
    return found


def _top(path: Path, folder: Path) -> Path:
    return folder if path.is_relative_to(folder) else path.parent


def _turn_aside(today: Path, revision: Path) -> None:
    """Let what is installed from today's files, as in development, be found in the revision's."""
    for at, each in enumerate(sys.path):
        if each and Path(each).resolve().is_relative_to(today.resolve()):
            inside = Path(each).resolve().relative_to(today.resolve())
            if (revision / inside).is_dir():
                sys.path[at] = str(revision / inside)


def _module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _classes(module: ModuleType, name: str) -> list[type[Any]]:
    if name:
        found: Any = getattr(module, name, None)
        if not isinstance(found, type):
            raise _FoundNothingError(f"{module.__name__} has no class {name}.")
        return [found]
    members = [
        each for each in vars(module).values() if isinstance(each, type) and nexusrpc.get_service_definition(each)
    ]
    exported: Iterable[str] | None = getattr(module, "__all__", None)
    if exported is not None:
        own = [each for each in members if each.__name__ in exported]
    else:
        own = [each for each in members if f"{each.__module__}.".startswith(f"{module.__name__}.")]
    if not own:
        there = f" It imports {', '.join(each.__name__ for each in members)}: name one, or __all__." if members else ""
        raise _FoundNothingError(f"{module.__name__} has no service: put @nexuskit.service above a class.{there}")
    return list(dict.fromkeys(own))


def _locations(classes: list[type[Any]], contracts: list[ServiceContract]) -> dict[str, Location]:
    found: dict[str, Location] = {}
    for each, contract in zip(classes, contracts, strict=True):
        try:
            lines, first = inspect.getsourcelines(each)
            file = inspect.getsourcefile(each) or ""
            tree = ast.parse(textwrap.dedent("".join(lines)))
        except (OSError, TypeError, SyntaxError):  # made by a program
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        places = {
            target.id: statement.lineno + first - 1
            for statement in body
            if isinstance(statement, ast.Assign | ast.AnnAssign)
            for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
            if isinstance(target, ast.Name)
        }
        found[contract.name] = Location(file, first)
        for operation in contract.operations.values():
            found[str(operation)] = Location(file, places.get(operation.attribute, first))
    return found


def _at(error: Exception) -> str:
    """What code raised on import, in one sentence, and where."""
    said = str(error).strip().splitlines()
    line = f": {said[0]}" if said else ""
    where = ""
    trace = error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", LIBRARY)) and Path(file) != Path(__file__):
            where = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"its import fails: {type(error).__name__}{line}{where}."


if __name__ == "__main__":
    main(sys.argv[1:])
