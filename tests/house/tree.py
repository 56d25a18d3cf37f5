"""The files and modules that the house rules are held against."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"

_FOLDERS = ("src", "tests", "benchmarks", "docs", ".ci")


@dataclass(frozen=True)
class Module:
    """One Python file: where it is, its dotted name (for src/ only), its text and its tree."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def where(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project: what git tracks or would track; outside a checkout, what the folders hold."""
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if answer.returncode == 0:
        found = [ROOT / name.decode() for name in answer.stdout.split(b"\0") if name]
    else:
        found = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        found += ROOT.glob("*.*")
    return tuple(sorted(path for path in found if path.is_file()))


@cache
def modules(folder: str = "") -> tuple[Module, ...]:
    """Every Python file under a folder of the project."""
    return tuple(_module(path) for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / folder))


def _module(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    name = ""
    if path.is_relative_to(SOURCE):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path, name, text, ast.parse(text, filename=str(path)))


@cache
def sources() -> dict[str, Module]:
    """Every module of the package, by its dotted name."""
    return {module.name: module for module in modules("src")}


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    """What a module imports, with the line: the longest dotted name written there (`from a.b import c` is `a.b.c`)."""
    names: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return names
