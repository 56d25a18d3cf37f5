"""Types of a contract: how a value of each is checked, written and read, and what its JSON Schema is.

pydantic knows its models, dataclasses, TypedDict and plain types; msgspec knows its structs; protobuf messages pass as
they are, since their own definition is the contract.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, core_schema, to_json

from nexuskit.contract.faults import Fault, InvalidValueError, of_msgspec, of_pydantic

T = TypeVar("T")

Mode = Literal["validation", "serialization"]
"""Of a schema: of what is read, or of what is written."""
Schema = dict[str, Any]
"""A JSON Schema, 2020-12."""

UNSERIALIZABLE = "not_serializable"
OPAQUE = "x-opaque-type"
"""Keyword of a schema that says nothing but this: values are of the type that it names, and travel as they are."""


class TypeFaultError(TypeError):
    """A type that no value of can travel."""


class Adapter(ABC, Generic[T]):
    """What can be done with values of one type.

    Attributes:
        type: the type.
    """

    def __init__(self, type_: type[T]) -> None:
        self.type = type_

    @abstractmethod
    def encode(self, value: T) -> bytes:
        """The JSON of a value, which need not be checked.

        Raises:
            InvalidValueError: it has none.
        """

    @abstractmethod
    def decode(self, data: bytes) -> T:
        """The value that JSON means.

        Raises:
            InvalidValueError: the type does not take it.
        """

    @abstractmethod
    def schema(self, mode: Mode) -> Schema:
        """The type's JSON Schema."""

    def check(self, value: T) -> T:
        """The value as whoever it is sent to will see it.

        A model that was changed after it was made, or made without a check, is looked at again: what counts is what
        travels.

        Raises:
            InvalidValueError: the type does not take it.
        """
        return self.decode(self.encode(value))


class _PydanticAdapter(Adapter[T]):
    def __init__(self, type_: type[T]) -> None:
        super().__init__(type_)
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(type_)
            self._fields = _names(self.schema("validation"))
        except (PydanticSchemaGenerationError, PydanticUserError, PydanticInvalidForJsonSchema, NameError) as error:
            raise TypeFaultError(f"{_shown(type_)} cannot travel: {_first_sentence(error)}") from None

    def encode(self, value: T) -> bytes:
        try:
            return to_json(value)
        except (PydanticSerializationError, ValueError, TypeError) as error:
            problem = f"a {type(value).__name__} has no JSON: expected was {_shown(self.type)}"
            raise InvalidValueError([Fault("", problem, UNSERIALIZABLE)]) from (
                error if isinstance(error, InvalidValueError) else None
            )

    def decode(self, data: bytes) -> T:
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise InvalidValueError(of_pydantic(error, self._fields)) from None

    def schema(self, mode: Mode) -> Schema:
        with warnings.catch_warnings():
            # A default that has no JSON is left out of the schema, which is all that the warning says.
            warnings.simplefilter("ignore")
            return self._adapter.json_schema(mode=mode, by_alias=True, schema_generator=_SchemaGenerator)


class _SchemaGenerator(GenerateJsonSchema):
    """Says of a field with a default what `encode` does: it may be left out by others, and is always written here."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return not field.get("serialization_exclude") and not field.get("serialization_exclude_if")
        return super().field_is_required(field, total)


class _MsgspecAdapter(Adapter[T]):
    def __init__(self, type_: type[T]) -> None:
        import msgspec

        super().__init__(type_)
        self._msgspec = msgspec
        try:
            self._decoder = msgspec.json.Decoder(type_)
            self.schema("validation")
        except (TypeError, NameError) as error:
            raise TypeFaultError(f"{_shown(type_)} cannot travel: {_first_sentence(error)}") from None

    def encode(self, value: T) -> bytes:
        try:
            return self._msgspec.json.encode(value)
        except (TypeError, ValueError, self._msgspec.MsgspecError):
            problem = f"a {type(value).__name__} has no JSON: expected was {_shown(self.type)}"
            raise InvalidValueError([Fault("", problem, UNSERIALIZABLE)]) from None

    def decode(self, data: bytes) -> T:
        try:
            return self._decoder.decode(data)
        except self._msgspec.MsgspecError as error:
            raise InvalidValueError(of_msgspec(error)) from None

    def schema(self, mode: Mode) -> Schema:
        (found,), definitions = self._msgspec.json.schema_components([self.type], ref_template="#/$defs/{name}")
        return {**found, "$defs": definitions} if definitions else found


class _OpaqueAdapter(Adapter[T]):
    """Of values that travel as they are: protobuf messages, raw payloads."""

    def encode(self, value: T) -> bytes:
        raise NotImplementedError(f"a {_shown(self.type)} travels as it is, and not as JSON")

    def decode(self, data: bytes) -> T:
        raise NotImplementedError(f"a {_shown(self.type)} travels as it is, and not as JSON")

    def schema(self, mode: Mode) -> Schema:
        return {"title": self.type.__name__, OPAQUE: _message_name(self.type)}

    def check(self, value: T) -> T:
        if isinstance(value, self.type):
            return value
        problem = f"expected was {_shown(self.type)}, not {_shown(type(value))}"
        raise InvalidValueError([Fault("", problem, "is_instance_of")])


def adapter(type_: type[T]) -> Adapter[T]:
    """The adapter of a type.

    Raises:
        TypeFaultError: no value of the type can travel.
    """
    try:
        hash(type_)
    except TypeError:  # an Annotated with something in it that has no hash
        return _made(type_)
    return _kept(type_)


def _made(type_: type[T]) -> Adapter[T]:
    if is_opaque(type_):
        return _OpaqueAdapter(type_)
    if hasattr(type_, "__struct_fields__"):  # msgspec's own way to tell a struct, without the package
        return _MsgspecAdapter(type_)
    return _PydanticAdapter(type_)


_kept = lru_cache(maxsize=1024)(_made)


def is_opaque(type_: object) -> bool:
    """Whether values of the type travel as they are."""
    if not isinstance(type_, type):
        return False
    # By name and by descriptor: neither library is imported for contracts that do not use it.
    raw = (type_.__module__, type_.__qualname__) == ("temporalio.common", "RawValue")
    return raw or (hasattr(type_, "DESCRIPTOR") and hasattr(type_, "SerializeToString"))


def _message_name(type_: Any) -> str:
    """The name that a protobuf message has in every language."""
    return getattr(getattr(type_, "DESCRIPTOR", None), "full_name", None) or _shown(type_)


def _names(schema: Any) -> frozenset[str]:
    """The names of all fields anywhere in a schema."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += cast("list[Any]", part)
        elif isinstance(part, dict):
            node = cast("dict[str, Any]", part)
            found |= {*node.get("properties", {})}
            waiting += node.values()
    return frozenset(found)


def _shown(type_: object) -> str:
    if isinstance(type_, type) and type_.__module__ != "builtins":
        return f"{type_.__module__}.{type_.__qualname__}"
    return getattr(type_, "__name__", None) or repr(type_)


def _first_sentence(error: Exception) -> str:
    """Of what a library says: the rest tells how to use that library."""
    return str(error).splitlines()[0].split(". ")[0].rstrip(".")
