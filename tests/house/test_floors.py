"""Which part may import which: the floors of the house, and the core of the backend that does no I/O."""

import ast
import subprocess
import sys

import pytest

from tests.house.tree import ROOT, imported, sources

CORE = "nexuskit.backend.history"

# Parts of the project whose work is I/O. Whatever else of the project the core imports is held to the core's own rule.
OTHER_FLOORS = (
    "nexuskit.backend.frontend",
    "nexuskit.backend.matching",
    "nexuskit.backend.nexus",
    "nexuskit.backend.store",
)

# The parts of other libraries that are values and pure functions.
PURE_LIBRARIES = ("croniter", "google.protobuf", "msgspec", "nexusrpc", "temporalio.api", "typing_extensions")

# The parts of the standard library that are values and pure functions. Anything else has a clock, a file, a socket, a
# thread or a source of randomness in it, or was never needed; add what is pure.
PURE_STANDARD = (
    "__future__", "abc", "base64", "binascii", "bisect", "calendar", "collections", "copy", "dataclasses", "datetime",
    "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "operator",
    "re", "string", "struct", "textwrap", "types", "typing", "urllib.parse", "zlib", "zoneinfo",
)  # fmt: skip

# Impure though their module is not, and what depends on the process (`hash` of a string, `id`).
IMPURE_CALLS = frozenset({"open", "print", "input", "hash", "id", "__import__", "exec", "eval", "breakpoint"})
IMPURE_METHODS = frozenset({"now", "utcnow", "today", "GetCurrentTime", "timestamp_ns"})


def test_every_floor_imports_only_what_its_contract_allows() -> None:
    # In a process of its own: it turns off every logger of the one it runs in.
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_of_the_backend_is_pure() -> None:
    reached = [name for name in sources() if within(name, CORE)]
    faults: list[str] = []
    for name in reached:  # grows: what the core imports of the project is held to the same rule, however far it goes
        module = sources()[name]
        faults += [f"{module.where}:{line}: {what}" for line, what in impurities(module.tree)]
        for target, _ in imported(module.tree):
            found = target if target in sources() else target.rpartition(".")[0]
            # The packages above are entered for their modules' sake; what they import is not the core's doing.
            if found in sources() and found not in reached and not within(CORE, found):
                reached.append(found)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "import os.path",
        "from asyncio import sleep",
        "from urllib.request import urlopen",
        "import temporalio.client",
        "from nexuskit.backend.store import rows",
        "from nexuskit.backend import store",
        "from . import state",
        "now = datetime.now(UTC)",
        "stamp.GetCurrentTime()",
        "open('file')",
        "key = hash(name)",
    ],
)
def test_the_rule_of_the_core_refuses(code: str) -> None:
    assert impurities(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "from datetime import UTC, datetime, timedelta",
        "from collections.abc import Callable",
        "from temporalio.api.enums.v1 import EventType",
        "from google.protobuf.timestamp_pb2 import Timestamp",
        "from nexuskit.backend.history.state import Execution",
        "from nexuskit.backend.history import state",
        "from nexuskit.backend import limits",
        "from nexuskit.backend.errors import NotFoundError",
        "due = now + timedelta(seconds=1)",
    ],
)
def test_the_rule_of_the_core_lets_pass(code: str) -> None:
    assert impurities(ast.parse(code)) == []


def impurities(tree: ast.Module) -> list[tuple[int, str]]:
    """The lines of a module that the core of the backend may not hold, and why."""
    faults = [
        (line, f"imports {name}, which the core may not")
        for name, line in imported(tree)
        if within(name, *OTHER_FLOORS) or not within(name, "nexuskit", *PURE_LIBRARIES, *PURE_STANDARD)
    ]
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=level) if level:
                faults.append((node.lineno, "imports by a relative name"))
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                faults.append((node.lineno, f"calls {name}()"))
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                faults.append((node.lineno, f"calls .{name}(): the time comes in as an argument"))
            case _:
                pass
    return faults


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)
