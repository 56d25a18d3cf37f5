"""Limits can be set, and docs/configuration.md lists them."""

from __future__ import annotations

import ast

from nexuskit.backend import limits
from nexuskit.backend.configuration import FIXED, Kind, kind
from tests.house import configuration
from tests.house.tree import ROOT

UNITS = {"MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY"}


def test_the_page_is_the_one_that_the_limits_make() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == configuration.document(), "run: python -m tests.house.configuration docs/configuration.md"


def test_times_are_those_limits_that_are_written_as_times() -> None:
    module = ast.parse((ROOT / "src" / "nexuskit" / "backend" / "limits.py").read_text(encoding="utf-8"))
    written = {
        node.targets[0].id
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if any(isinstance(part, ast.Name) and part.id in UNITS for part in ast.walk(node.value))
    }
    shown = {name for name in vars(limits) if name.isupper() and kind(name) is Kind.TIME} - UNITS
    assert shown == written


def test_limits_are_read_from_what_a_backend_was_handed() -> None:
    """`limits.X` is the default, whatever is configured; `tx.limits.X`, `services.limits.X` and the like are not."""
    backend = ROOT / "src" / "nexuskit" / "backend"
    wrong: list[str] = []
    for path in sorted(backend.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "nexuskit.backend"
            and any(name.name == "limits" for name in node.names)
            for node in ast.walk(tree)
        )
        if imported and path.name not in ("settings.py", "configuration.py"):
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno}: limits.{node.attr}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "limits"
                and node.attr not in FIXED
            ]
    assert not wrong
