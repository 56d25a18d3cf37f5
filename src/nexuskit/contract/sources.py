"""Where a version of a contract comes from: code, a document, or a revision of git.

| written | what is read |
| --- | --- |
| `payments.contract` | the services of a module |
| `payments.contract:PaymentService` | one of them |
| `contract.py`, `contract.py:PaymentService` | the same of a file |
| `contract.json` | a document, or a `nexusrpc` file |
| `main:contract.py`, `git:v1.2:contract.json` | a file as it was in that revision |

Code is imported in a Python of its own, so that two versions of one module do not meet, and what they do on import does
not happen here. That isolates names, not rights: to look at a revision runs its code as this user, as to check it out
and import it does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from nexuskit.contract.document import ContractDocument, DocumentError, read
from nexuskit.contract.file_form import from_file, is_file_form

IMPORT_TIMEOUT_S = 120.0
"""Seconds that an import may take: more than any needs, so that one which waits for something does not hang a build."""
MAX_ARCHIVE_BYTES = 2 * 1024**3
"""Bytes of a revision's files: more than this is hardly the repository that a contract was meant to be read from."""

_GIT = re.compile(r"^(?:git:)?(?P<revision>[^:]+):(?P<path>[^:]+\.(?:py|json))(?::(?P<name>\w+))?$")
_FILE = re.compile(r"^(?P<path>.+\.(?:py|json))(?::(?P<name>\w+))?$")
_MODULE = re.compile(r"^(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?::(?P<name>\w+))?$")


class SourceError(ValueError):
    """A version of a contract cannot be read: it is not there, it is none, or its code fails. One plain sentence."""


@dataclass(frozen=True)
class Location:
    """A place in a file.

    Attributes:
        file: the file as it was named, or found.
        line: counted from 1.
    """

    file: str
    line: int


@dataclass(frozen=True)
class Loaded:
    """A version of a contract, and where its parts are written.

    Attributes:
        document: what it says.
        locations: places by `Service` and `Service.operation`, as far as they are known.
        file: the file that was named, or "".
    """

    document: ContractDocument
    locations: Mapping[str, Location] = field(default_factory=dict[str, Location])
    file: str = ""


def load(source: str) -> Loaded:
    """The version of a contract that something names; see the table above.

    Raises:
        SourceError: it cannot be read.
    """
    if Path(source).is_file() and (found := _FILE.match(source)):
        return _file(Path(source), found["name"] or "", source)
    if found := _GIT.match(source):
        # On Windows `C:\contract.py` looks like a revision; such a file was found above, where it is there.
        return _revision(found["revision"], found["path"], found["name"] or "", source)
    if found := _FILE.match(source):
        if not Path(found["path"]).is_file():
            raise SourceError(f"{source}: there is no file {found['path']}.")
        return _file(Path(found["path"]), found["name"] or "", source)
    if found := _MODULE.match(source):
        return _imported(["--module", found["path"], found["name"] or ""], Path.cwd(), source)
    raise SourceError(
        f"{source!r} names no contract: expected was a module (`payments.contract`, or `payments.contract:Service`), a"
        " file (`contract.py`, `contract.json`), or a file of a revision (`main:contract.py`)."
    )


def load_both(old: str, new: str) -> tuple[Loaded, Loaded]:
    """Two versions, at the same time: each of them takes a Python's start.

    Raises:
        SourceError: one of them cannot be read.
    """
    with ThreadPoolExecutor(max_workers=2) as threads:
        first, second = threads.submit(load, old), threads.submit(load, new)
        return first.result(), second.result()


def _file(path: Path, name: str, source: str) -> Loaded:
    if path.suffix == ".py":
        return _imported(["--file", str(path.resolve()), name], Path.cwd(), source)
    try:
        return _chosen(_written(path.read_bytes()), name, source, str(path))
    except (OSError, DocumentError) as error:
        raise SourceError(f"{source}: {error}.") from None


def _written(text: bytes) -> ContractDocument:
    """The contract of a file that is no code."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DocumentError(f"it is no JSON: {error}") from None
    return from_file(cast("dict[str, Any]", value)) if is_file_form(value) else read(text)


def _chosen(document: ContractDocument, name: str, source: str, file: str) -> Loaded:
    if name:
        found = tuple(each for each in document.services if each.name == name)
        if not found:
            raise SourceError(f"{source}: there is no service {name}.")
        document = document.model_copy(update={"services": found})
    return Loaded(document, file=file)


# --- code


def _imported(arguments: list[str], folder: Path, source: str, shown: tuple[str, str] = ("", "")) -> Loaded:
    with tempfile.TemporaryDirectory(prefix="nexuskit-") as temporary:
        answer = Path(temporary) / "answer.json"
        command = [sys.executable, "-P", "-m", "nexuskit.contract.importing", str(answer), *arguments]
        # No bytecode is left beside somebody's files.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(_search_path())}
        try:
            run = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=IMPORT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SourceError(f"{source}: its import does not end within {IMPORT_TIMEOUT_S:.0f} s.") from None
        if not answer.is_file():
            said = (run.stderr or run.stdout).strip().splitlines()
            raise SourceError(
                f"{source}: its import ended Python ({run.returncode}): {said[-1] if said else 'silently'}."
            )
        return _answered(answer.read_bytes(), source, shown)


def _search_path() -> list[str]:
    """Where this Python finds modules, but for the folder of its program."""
    return [each for each in sys.path if each and Path(each).exists()]


def _answered(data: bytes, source: str, shown: tuple[str, str]) -> Loaded:
    try:
        answer = _AnswerModel.validate_json(data)
    except ValidationError as error:
        raise SourceError(f"{source}: the Python that imported it said something else: {error}.") from None
    if answer.fault:
        raise SourceError(f"{source}: {answer.fault}")
    if answer.document is None:
        raise SourceError(f"{source}: the Python that imported it said nothing.")
    here, there = shown
    locations = {
        name: Location(there + each.file.removeprefix(here) if here else _relative(each.file), each.line)
        for name, each in answer.locations.items()
    }
    file = next((each.file for each in locations.values()), "")
    return Loaded(answer.document, locations, file)


def _relative(file: str) -> str:
    try:
        return Path(file).relative_to(Path.cwd()).as_posix()
    except ValueError:
        return file


@dataclass(frozen=True)
class Answer:
    """What the Python that imports says.

    Attributes:
        document: what it found.
        locations: where it is written.
        fault: why there is nothing, in one sentence.
    """

    document: ContractDocument | None = None
    locations: dict[str, Location] = field(default_factory=dict[str, Location])
    fault: str = ""


_AnswerModel = TypeAdapter(Answer)


def write_answer(path: Path, answer: Answer) -> None:
    """Leave what was found for whoever asked."""
    path.write_bytes(_AnswerModel.dump_json(answer))


# --- revisions


def _revision(revision: str, path: str, name: str, source: str) -> Loaded:
    top = Path(_git(["rev-parse", "--show-toplevel"], source).decode().strip())
    # A path is as it would be typed here, and git counts from the top.
    where = PurePosixPath(os.path.relpath(Path(path).absolute(), top.resolve())).as_posix().replace("\\", "/")
    if where.startswith("../"):
        raise SourceError(f"{source}: {path} is not in this repository.")
    commit = _git(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], source, revision)
    named = commit.decode().strip()
    if not path.endswith(".py"):
        text = _git(["cat-file", "blob", f"{named}:{where}"], source, f"{path} in {revision}")
        try:
            return _chosen(_written(text), name, source, path)
        except DocumentError as error:
            raise SourceError(f"{source}: {error}.") from None
    # All of the revision: a contract's modules import one another, and none may come from today's files.
    archive = _git(["-C", str(top), "archive", "--format=zip", named], source)
    with tempfile.TemporaryDirectory(prefix="nexuskit-") as temporary:
        folder = Path(temporary).resolve()
        _unpack(archive, folder, source)
        file = folder / where
        if not file.is_file():
            raise SourceError(f"{source}: {revision} has no file {where}.")
        return _imported(["--file", str(file), name, str(top)], folder, source, (f"{folder}{os.sep}", ""))


def _unpack(archive: bytes, folder: Path, source: str) -> None:
    # A zip, since zipfile keeps every name below the folder and makes no links.
    with zipfile.ZipFile(BytesIO(archive)) as packed:
        size = sum(each.file_size for each in packed.infolist())
        if size > MAX_ARCHIVE_BYTES:
            raise SourceError(
                f"{source}: that revision has {size} bytes of files; at most {MAX_ARCHIVE_BYTES} are read."
            )
        packed.extractall(folder)


def _git(arguments: list[str], source: str, what: str = "") -> bytes:
    try:
        run = subprocess.run(["git", *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise SourceError(f"{source}: there is no git here.") from None
    if run.returncode:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        raise SourceError(f"{source}: git finds no {what}." if what else f"{source}: git says: {''.join(said[-1:])}")
    return run.stdout
