"""Values of a contract as Temporal payloads, and payloads as values.

What the contract's types say decides what travels, not the data converter of whoever calls: two teams need not agree on
one. A codec of the converter is applied to it all the same, as to every payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import DefaultPayloadConverter

from nexuskit.contract.adapters import adapter, is_opaque
from nexuskit.contract.faults import Fault, InvalidValueError

if TYPE_CHECKING:
    from nexuskit.contract.adapters import Adapter

T = TypeVar("T")

ENCODING = "encoding"
JSON = b"json/plain"
NULL = b"binary/null"

_messages = DefaultPayloadConverter()
"""For protobuf messages, and for nothing: what every SDK does with them."""


def to_payload(type_: Any, value: Any) -> Payload:
    """A value of a contract's type as a payload, checked.

    Raises:
        InvalidValueError: the type does not take the value.
    """
    found: Adapter[Any] = adapter(type_)
    if is_opaque(type_):
        checked = found.check(value)
        return checked.payload if isinstance(checked, RawValue) else _messages.to_payload(checked)
    data = found.encode(value)
    found.decode(data)
    if data == b"null":
        return Payload(metadata={ENCODING: NULL})
    return Payload(metadata={ENCODING: JSON}, data=data)


def from_payload(type_: type[T], payload: Payload) -> T:
    """The value of a contract's type that a payload means.

    Raises:
        InvalidValueError: the type does not take it, or it is in an encoding that is not read.
    """
    found = adapter(type_)
    encoding = payload.metadata.get(ENCODING, b"")
    if is_opaque(type_):
        return RawValue(payload) if type_ is RawValue else found.check(_message(payload, type_))  # type: ignore[return-value]
    if encoding == NULL or (not encoding and not payload.data):
        return found.decode(b"null")
    if encoding != JSON:
        problem = f"expected was JSON (encoding json/plain), found encoding {encoding.decode('ascii', 'replace')!r}"
        raise InvalidValueError([Fault("", problem, "encoding")])
    return found.decode(payload.data)


def _message(payload: Payload, type_: type[T]) -> T:
    try:
        return _messages.from_payload(payload, type_)
    except (DecodeError, ParseError, RuntimeError, TypeError, ValueError) as error:
        # What it says may hold the value.
        problem = f"expected was a {type_.__module__}.{type_.__qualname__}, and the payload is none"
        raise InvalidValueError([Fault("", problem, type(error).__name__)]) from None
