"""What is wrong with a value: field, constraint and type, and never the value itself.

A refusal crosses a team boundary and stands in histories and logs, where a card's number has no business. So what
pydantic and msgspec say is said again here from what the type asks for; what a type's own checks say is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticKnownError

if TYPE_CHECKING:
    from pydantic import ValidationError

SAID_BY_THE_TYPE = frozenset(
    {
        *("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "max_digits", "decimal_places"),
        *("whole_digits", "pattern", "expected", "expected_tags", "discriminator", "class", "class_name", "field_type"),
        *("expected_schemes", "tz_expected", "expected_version", "cls"),
    }
)
"""What pydantic fills into its messages that comes from the type; everything else may come from the value."""
AUTHORS = frozenset({"value_error", "assertion_error"})
"""Kinds of errors whose words are those of a check that the contract's author wrote."""
OWN_CHECK = "refused by a check of the type's own"
"""What is said of a check whose words are the contract author's, and may hold the value."""
ANY_KEY = "*"
"""Stands in a path for the key of a mapping, which is a value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a value.

    Attributes:
        path: where, such as "items.0.cents"; "" for the value as a whole.
        problem: what was expected, in words.
        code: the same for programs, such as "greater_than".
    """

    path: str
    problem: str
    code: str

    def __str__(self) -> str:
        """For people: `items.0.cents: Input should be greater than 0`."""
        return f"{self.path}: {self.problem}" if self.path else self.problem


class InvalidValueError(ValueError):
    """A value is not what its type asks for.

    Attributes:
        faults: all that is wrong, at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


def of_pydantic(error: ValidationError, fields: frozenset[str]) -> tuple[Fault, ...]:
    """What a validation of pydantic's found.

    Args:
        error: what it raised.
        fields: the names of fields that the type has; any other name in a path is a key, and so a value.
    """
    found = error.errors(include_url=False, include_input=False)
    return tuple(Fault(_path(each["loc"], each["type"], fields), _problem(each), each["type"]) for each in found)


def of_msgspec(error: Exception) -> tuple[Fault, ...]:
    """What a validation of msgspec's found: it stops at the first fault."""
    said, _, path = str(error).partition(" - at ")
    where = path.strip("`").removeprefix("$").removeprefix(".").replace("[...]", f".{ANY_KEY}")
    known = _MSGSPEC.match(said)
    return (Fault(where, known[0] if known else OWN_CHECK, "msgspec" if known else "own_check"),)


_MSGSPEC = re.compile(
    r"Expected `[^`]+`(, got `[^`]+`)?( (of length )?(<=|>=|<|>) \S+)?"
    r"|Object (missing required|contains unknown) field `[^`]+`"
    r"|Invalid (enum value|UUID|date|datetime|time|duration|base64 encoded string|decimal string)"
    r"|Input data was truncated|JSON is malformed"
)


class _Said(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "…"


def _problem(error: Any) -> str:
    if error["type"] in AUTHORS:
        return OWN_CHECK
    context: dict[str, Any] = error.get("ctx", {})
    try:
        template = PydanticKnownError(error["type"], context or None).message_template
    except KeyError:  # an error of the author's own kind
        return OWN_CHECK
    said = {key: value for key, value in context.items() if key in SAID_BY_THE_TYPE}
    one = 1 in (said.get("min_length"), said.get("max_length"))
    return template.format_map(_Said(said, expected_plural="" if one else "s"))


def _path(loc: tuple[int | str, ...], code: str, fields: frozenset[str]) -> str:
    last = len(loc) - 1
    return ".".join(
        str(part) if isinstance(part, int) or part in fields or (code == "extra_forbidden" and at == last) else ANY_KEY
        for at, part in enumerate(loc)
    )
