"""What the package exports, imports and costs to import."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.house.tree import ROOT, Module, imported, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

NEEDED_BY_OTHERS = {
    "googleapis-common-protos": "temporalio imports it for its service descriptors, and declares it in an extra only",
}
"""Dependencies that the package does not import itself, and why they are there all the same."""

PACKAGES = sorted(name for name in sources() if name.count(".") <= 1 and sources()[name].path.name == "__init__.py")

# Whose module a package's first name is; `google` is shared by many distributions.
DISTRIBUTIONS = {
    **packages_distributions(),
    "google.protobuf": ["protobuf"],
    "google.rpc": ["googleapis-common-protos"],
}


@pytest.mark.parametrize("name", sorted(sources()))
def test_module_imports_without_a_warning(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_what_is_importable_and_nothing_else(name: str) -> None:
    package = importlib.import_module(name)
    exported: list[str] = list(getattr(package, "__all__", []))
    assert not [member for member in exported if not hasattr(package, member)], "in __all__, but not there"
    assert not sorted(public_names(sources()[name]) - set(exported)), "there, but not in __all__"
    assert len(exported) == len(set(exported)), "twice in __all__"


def public_names(package: Module) -> set[str]:
    """The public names that a package's `__init__.py` defines, or takes from its own project."""
    names: set[str] = set()
    for node in package.tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.ImportFrom(module=str(source)) if source.partition(".")[0] == "nexuskit":
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


def test_importing_the_package_is_cheap() -> None:
    heavy = ["asyncio", "grpc", "google.protobuf", "pydantic", "rich", "temporalio", "typer"]
    code = f"import sys; import nexuskit; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_dependencies_are_what_the_package_imports() -> None:
    declared = {_normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in PROJECT["dependencies"]}
    used = {}
    for module in sources().values():
        for name, line in imported(module.tree):
            root, second, *_ = *name.split("."), ""
            if root not in sys.stdlib_module_names and root != "nexuskit":
                found = DISTRIBUTIONS.get(f"{root}.{second}") or DISTRIBUTIONS.get(root) or [root]
                used[_normal(found[0])] = f"{module.where}:{line}"
    assert not {name: where for name, where in used.items() if name not in declared}, (
        "imported, but not in pyproject.toml"
    )
    assert not sorted(declared - set(used) - set(NEEDED_BY_OTHERS)), "in pyproject.toml, but not imported"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
