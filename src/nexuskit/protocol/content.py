"""Content: how the values of a program become bodies, and bodies values.

Specification: Content Types. A `nexusrpc.Serializer` does it; `JsonSerializer` is the default:

    value             body          content-type
    None              empty         none
    bytes             as they are   application/octet-stream
    anything else     JSON          application/json, by pydantic and with its aliases

`RawValue` carries content past any serializer, for whoever passes payloads on without looking into them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from nexusrpc import Content, HandlerError, HandlerErrorType, Serializer
from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from nexuskit.protocol.errors import LocalProtocolError, SerializerError
from nexuskit.protocol.headers import media_type
from nexuskit.protocol.values import NO_CONTENT

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["InputValue", "JsonSerializer", "RawValue", "deserialize", "serialize"]

JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
_JSON_HEADERS: Mapping[str, str] = MappingProxyType({"content-type": JSON})
_OCTET_HEADERS: Mapping[str, str] = MappingProxyType({"content-type": OCTET_STREAM})
_BYTES = (bytes, bytearray)

MAX_FAULTS = 20
"""Faults of one value that are told; who mends these sees the others next."""

_anything: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))


@dataclass(frozen=True, slots=True)
class RawValue:
    """Content that goes as it is, past any serializer: who takes it does the reading, who gives it did the writing.

    Specification: Content Types ("Nexus is not opinionated about request content types").
    """

    content: Content
    """The body and its `content-*` header fields."""


class JsonSerializer(Serializer):
    """The default serializer: JSON by pydantic, bytes as they are, None as an empty body.

    Specification: Content Types.
    """

    def serialize(self, value: Any, as_type: Any = None) -> Content:
        """Writes a value as one of a type, with no field that the type does not have; without a type, as it is.

        Raises:
            SerializerError: pydantic cannot write it as JSON, or it is no value of the type.
        """
        if value is None:
            return NO_CONTENT
        if isinstance(value, _BYTES):
            return Content(headers=_OCTET_HEADERS, data=bytes(value))
        try:
            return Content(headers=_JSON_HEADERS, data=_json(value, as_type))
        except ValidationError as error:
            raise SerializerError(
                f"a value of type {type(value).__name__} is none of its type: {_faults(error, as_type)}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise SerializerError(
                f"a value of type {type(value).__name__} cannot be written as JSON: {error}"
            ) from error

    def deserialize(self, content: Content, as_type: Any = None) -> Any:
        """Reads content as a value of a type; without a type, as whatever it is.

        Raises:
            SerializerError: the content is of no type that this serializer knows, or no value of the type.
        """
        encoding = content.headers.get("content-encoding")
        if encoding is not None and encoding.strip().lower() != "identity":
            raise SerializerError(f"expected a body without content-encoding, but it is {encoding[:40]!r}")
        kind = media_type(content.headers)
        if kind == JSON:
            if not content.data and as_type in (None, type(None)):
                return None
            return _validated_json(content.data, as_type)
        if kind == OCTET_STREAM:
            if as_type is None or as_type is bytes:
                return content.data
            return _validated(content.data, as_type)
        if not content.data:
            return None if as_type is None else _validated(None, as_type)
        raise SerializerError(f"expected content-type {JSON} or {OCTET_STREAM}, but got {kind[:100]!r}")


class InputValue:
    """The input of a start request, as `nexusrpc.handler.Handler` takes it: read when the operation's type is known.

    Args:
        serializer: reads it.
        content: what came.
    """

    __slots__ = ("content", "serializer")

    def __init__(self, serializer: Serializer, content: Content) -> None:
        self.serializer = serializer
        self.content = content

    async def consume(self, as_type: Any = None) -> Any:
        """Reads the input as a value of the operation's input type.

        Raises:
            HandlerError: BAD_REQUEST, if it is no such value; the message says which fields are wrong.
        """
        try:
            return await deserialize(self.serializer, self.content, as_type)
        except SerializerError as error:
            raise HandlerError(f"invalid input: {error}", type=HandlerErrorType.BAD_REQUEST) from error


async def serialize(serializer: Serializer, value: Any, as_type: Any = None) -> Content:
    """Writes a value with a serializer, be its methods plain or `async`.

    Args:
        serializer: writes it.
        value: what is written.
        as_type: what it was declared as. `JsonSerializer` writes it so; other serializers know nothing of it.

    Raises:
        SerializerError: the value cannot be written.
    """
    if isinstance(value, RawValue):
        return value.content
    if isinstance(serializer, JsonSerializer) and type(serializer).serialize is JsonSerializer.serialize:
        return serializer.serialize(value, as_type)
    content = serializer.serialize(value)
    return content if isinstance(content, Content) else await content


async def deserialize(serializer: Serializer, content: Content, as_type: Any) -> Any:
    """Reads content with a serializer, be its methods plain or `async`.

    Raises:
        SerializerError: the content is no value of the type.
    """
    if as_type is RawValue:
        return RawValue(content)
    if isinstance(serializer, JsonSerializer) and type(serializer).deserialize is JsonSerializer.deserialize:
        return serializer.deserialize(content, as_type)
    value: object = serializer.deserialize(content, as_type)
    # Not by `hasattr`: a model of pydantic's looks long for what it does not have.
    return await cast("Awaitable[Any]", value) if isinstance(value, Awaitable) else value


@lru_cache(maxsize=1024)
def _cached_adapter(as_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(as_type)


def adapter(as_type: Any) -> TypeAdapter[Any]:
    """What validates values of a type.

    Raises:
        LocalProtocolError: pydantic knows nothing of such a type. That is no fault of the content.
    """
    try:
        try:
            return _cached_adapter(as_type)
        except TypeError:  # a type that cannot be hashed
            return TypeAdapter(as_type)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError) as error:
        raise LocalProtocolError(
            f"pydantic cannot validate {as_type!r}; use a type that it knows, or a serializer of your own"
        ) from error


@lru_cache(maxsize=1024)
def _cached_writer(as_type: Any) -> TypeAdapter[Any]:
    try:
        return adapter(as_type)
    except LocalProtocolError:
        return _anything


def _writer(as_type: Any) -> TypeAdapter[Any]:
    """What writes values of a type; any value, if pydantic knows nothing of the type."""
    try:
        return _cached_writer(as_type)
    except TypeError:  # a type that cannot be hashed
        return _cached_writer.__wrapped__(as_type)


def _json(value: Any, as_type: Any) -> bytes:
    data, writer = _dumped(value, as_type)
    # Only then can there be what is no number: pydantic writes null for it, or no JSON, as the type says.
    if b"NaN" in data or b"Infinity" in data:
        json.loads(data, parse_constant=_refuse_constant)
    if b"null" in data and writer is not _anything:
        json.dumps(writer.dump_python(value, mode="json", by_alias=True, warnings=False), allow_nan=False)
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _dumped(value: Any, as_type: Any) -> tuple[bytes, TypeAdapter[Any]]:
    """A value as JSON, and what wrote it."""
    if as_type is None or as_type is RawValue:
        return _anything.dump_json(value, by_alias=True), _anything
    writer = _writer(as_type)
    try:
        # An error and not a warning: what is not of the type would be written with all that it has.
        return writer.dump_json(value, by_alias=True, warnings="error"), writer
    except PydanticUserError:  # a type that refers to one that is nowhere
        return _anything.dump_json(value, by_alias=True), _anything
    except ValueError:  # it is not of the type, or has more than that
        return writer.dump_json(writer.validate_python(value), by_alias=True, warnings=False), writer


def _validated_json(data: bytes, as_type: Any) -> Any:
    try:
        return (_anything if as_type is None else adapter(as_type)).validate_json(data)
    except ValidationError as error:
        raise SerializerError(_faults(error, as_type)) from None


def _validated(value: Any, as_type: Any) -> Any:
    try:
        return adapter(as_type).validate_python(value)
    except ValidationError as error:
        raise SerializerError(_faults(error, as_type)) from None


_TOLD = frozenset(
    """
    json_invalid json_type missing extra_forbidden none_required model_type model_attributes_type dataclass_type
    dataclass_exact_type greater_than greater_than_equal less_than less_than_equal multiple_of finite_number too_short
    too_long iterable_type string_type string_sub_type string_unicode string_too_short string_too_long
    string_pattern_mismatch string_not_ascii enum dict_type list_type tuple_type set_type frozen_set_type
    set_item_not_hashable bool_type bool_parsing int_type int_parsing int_parsing_size int_from_float float_type
    float_parsing bytes_type bytes_too_short bytes_too_long literal_error date_type date_parsing
    date_from_datetime_inexact date_past date_future time_type time_parsing datetime_type datetime_parsing
    datetime_past datetime_future timezone_naive timezone_aware time_delta_type time_delta_parsing is_instance_of
    is_subclass_of callable_type union_tag_not_found url_type url_parsing url_too_long url_scheme uuid_type uuid_version
    decimal_type decimal_parsing decimal_max_digits decimal_max_places decimal_whole_digits complex_type
    complex_str_parsing recursion_loop
    """.split()  # noqa: SIM905, a list of these is 50 lines
)
"""Types of pydantic's faults whose message is made of the schema alone."""

_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "bytes_invalid_encoding": "expected bytes in their encoding",
        "datetime_from_date_parsing": "expected a date or a datetime",
        "datetime_object_invalid": "expected a datetime",
        "timezone_offset": "expected another timezone offset",
        "union_tag_invalid": "expected one of the tags of a union",
        "uuid_parsing": "expected a UUID",
        "zoneinfo_str": "expected the name of a timezone",
    }
)
"""What is told in place of messages that repeat a value."""


def _faults(error: ValidationError, as_type: Any) -> str:
    """All faults of a value: where, and what was expected. Values are left out: they may be secret."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    names = _names(as_type)
    told: list[str] = []
    for fault in found[:MAX_FAULTS]:
        kind = fault["type"]
        message = fault["msg"] if kind in _TOLD else _EXPECTED.get(kind, "expected a value that its type accepts")
        # A key of a dict is a value, too.
        where = [str(part) if isinstance(part, int) or part in names else "*" for part in fault["loc"]]
        told.append(f"{'.'.join(where)}: {message}" if where else message)
    if len(found) > MAX_FAULTS:
        told.append(f"and {len(found) - MAX_FAULTS} more")
    return "; ".join(told)


def _names(as_type: Any) -> set[str]:
    """All words of a type's schema: the names of its fields and of its types."""
    names: set[str] = set()
    seen: set[int] = set()
    left: list[Any] = [] if as_type is None else [adapter(as_type).core_schema]
    while left:
        node = left.pop()
        if isinstance(node, str):
            names.add(node)
        elif isinstance(node, type):
            names.add(node.__name__)
        elif isinstance(node, dict | list | tuple) and id(cast("object", node)) not in seen:
            seen.add(id(cast("object", node)))
            parts = cast("dict[Any, Any] | list[Any] | tuple[Any, ...]", node)
            left += [*parts, *parts.values()] if isinstance(parts, dict) else parts
    return names
