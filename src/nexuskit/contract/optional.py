"""Fields that may be missing, and are not null: other languages have them, and Python has no word for it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class _NeverNull:
    """Of `T | None`: None is what Python has for a field that is missing, and null is refused."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        there = tuple(each for each in get_args(source) if each is not type(None))
        schema = handler.generate_schema(Union[there])  # noqa: UP007 - of a tuple
        return core_schema.json_or_python_schema(schema, core_schema.nullable_schema(schema))


def _is_missing(value: object) -> bool:
    return value is None


MayBeMissing = Annotated[T | None, _NeverNull(), Field(exclude_if=_is_missing)]
"""A field of a pydantic model that may be missing, and is None then: `nickname: MayBeMissing[str] = None`.

None is not sent, and null is not accepted.
"""
