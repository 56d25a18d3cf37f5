"""Size, silence and leftovers: what every file of the project keeps to."""

import ast
import re

import pytest

from nexuskit.backend import limits
from tests.house.tree import ROOT, files, modules

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80

BROAD = frozenset({"Exception", "BaseException"})

# Written in two parts, so that this file passes its own test.
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def test_files_have_one_subject_and_a_few_hundred_lines() -> None:
    lengths = {module.where: len(module.text.splitlines()) for module in modules()}
    assert not {where: length for where, length in lengths.items() if length > MAX_FILE_LINES}


def test_functions_fit_on_a_screen_or_two() -> None:
    faults = [
        f"{module.where}:{node.lineno}: {node.name} has {length} lines"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_files_are_text_and_hold_no_leftovers() -> None:
    faults = []
    for path in files():
        where, content = path.relative_to(ROOT).as_posix(), path.read_bytes()
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            faults.append(f"{where} is not text")
            continue
        if b"\0" in content:
            faults.append(f"{where} is not text")
        if b"\r" in content:
            faults.append(f"{where} has carriage returns")
        faults += [f"{where}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if LEFTOVER.search(line)]
    assert not faults, "\n" + "\n".join(faults)


def test_every_module_says_what_it_is() -> None:
    assert not [module.where for module in modules() if module.text.strip() and not ast.get_docstring(module.tree)]


def test_the_package_holds_no_assert_and_no_silent_except() -> None:
    faults = [f"{module.where}:{line}: {what}" for module in modules("src") for line, what in silences(module.tree)]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "assert x",
        "try: f()\nexcept: pass",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept (ValueError, BaseException): ...",
        "for x in y:\n  try: f()\n  except Exception: continue",
        "def g():\n  try: f()\n  except Exception: return None",
        "with suppress(Exception): f()",
        "with contextlib.suppress(BaseException): f()",
    ],
)
def test_the_rule_of_silence_refuses(code: str) -> None:
    assert silences(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept KeyError: pass",
        "try: f()\nexcept Exception as error: log(error)",
        "with suppress(asyncio.CancelledError): f()",
    ],
)
def test_the_rule_of_silence_lets_pass(code: str) -> None:
    assert silences(ast.parse(code)) == []


def silences(tree: ast.Module) -> list[tuple[int, str]]:
    """Where a fault could go unseen: an `assert` (gone under -O), or a broad `except` that does nothing about it."""
    faults: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Assert():
                faults.append((node.lineno, "an assert; raise instead"))
            case ast.ExceptHandler(type=None):
                faults.append((node.lineno, "a bare except"))
            case ast.ExceptHandler(type=ast.expr() as caught, body=[statement]) if _broad(caught) and _idle(statement):
                faults.append((node.lineno, "a broad except that says nothing"))
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args) if any(
                map(_broad, args)
            ):
                faults.append((node.lineno, "a broad suppress"))
            case _:
                pass
    return faults


def _broad(caught: ast.expr) -> bool:
    return any(isinstance(name, ast.Name) and name.id in BROAD for name in ast.walk(caught))


def _idle(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Break() | ast.Expr(ast.Constant()) | ast.Return(None | ast.Constant()):
            return True
        case _:
            return False


def test_every_limit_that_is_asked_for_is_one() -> None:
    # The type checker cannot tell: a backend's own limits are made when it starts.
    faults = [
        f"{module.where}:{node.lineno}: {node.attr}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr.isupper() and _is_limits(node.value)
        if not hasattr(limits, node.attr)
    ]
    assert not faults, "\n" + "\n".join(faults)


def _is_limits(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.strip("_") in {"limits", "DEFAULTS"}
