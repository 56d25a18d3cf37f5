"""Instance URIs: `temporal:<id>` names an endpoint wherever it lives.

The id is the endpoint's UUID in base62 (digits, then capitals, then small letters), always 22 characters, so that each
endpoint has one URI and each URI is one endpoint's.
"""

from __future__ import annotations

import string
import uuid

SCHEME = "temporal:"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_BASE = len(_DIGITS)
_LENGTH = 22
"""Digits of a number of 128 bits."""


def instance_uri(id: str) -> str:
    """The instance URI of an endpoint.

    Args:
        id: the endpoint's UUID.

    Raises:
        ValueError: it is no UUID.
    """
    number = uuid.UUID(id).int
    digits: list[str] = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, _BASE)
        digits.append(_DIGITS[digit])
    return SCHEME + "".join(reversed(digits))


def endpoint_id(uri: str) -> str | None:
    """The UUID of the endpoint that an instance URI names; None for what is no instance URI."""
    digits = uri.removeprefix(SCHEME)
    if digits == uri or len(digits) != _LENGTH:
        return None
    number = 0
    for digit in digits:
        value = _VALUES.get(digit)
        if value is None:
            return None
        number = number * _BASE + value
    return None if number >> 128 else str(uuid.UUID(int=number))
