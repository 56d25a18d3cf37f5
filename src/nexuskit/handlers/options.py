"""Options of builders: each a value, or a function of the operation's input that finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nexusrpc import InputT

V = TypeVar("V")

Option = V | Callable[[InputT], V]
"""A value, or a function of the operation's input that finds it."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def found(options: Mapping[str, Any], input: Any) -> dict[str, Any]:
    """The values of options for one input."""
    return {name: value(input) if callable(value) else value for name, value in options.items()}
