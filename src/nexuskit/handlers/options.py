"""Options of builders: each a value, or a function of the operation's input that finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nexusrpc import HandlerError, HandlerErrorType, InputT

from nexuskit.contract.operation_ids import OPERATION_ID
from nexuskit.handlers.context import operation_context

V = TypeVar("V")

Option = V | Callable[[InputT], V]
"""A value, or a function of the operation's input that finds it."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def found(options: Mapping[str, Any], input: Any) -> dict[str, Any]:
    """The values of options for one input.

    Without an id, it is the one that the caller chose, so that whoever knows it reaches the same again.

    Raises:
        HandlerError: BAD_REQUEST: the caller had to choose an id, and did not.
    """
    values = {name: value(input) if callable(value) else value for name, value in options.items()}
    if "id" not in values:
        context = operation_context()
        if not context.operation_id:
            raise HandlerError(
                f"{context.operation}: the caller chooses the id of this operation, and has chosen none. With nexuskit"
                f" that is `start(..., id=...)`; elsewhere the header {OPERATION_ID}",
                type=HandlerErrorType.BAD_REQUEST,
            )
        values["id"] = context.operation_id
    return values
