"""Header fields of HTTP/2: which are well formed, and how ours are written (RFC 9113, section 8)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hpack import Encoder, NeverIndexedHeaderTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    Field = tuple[bytes, bytes]
    Fields = tuple[Field, ...]

PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
WANTED = (b":method", b":scheme", b":path")
OF_A_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Fields of HTTP/1.1, which a message of HTTP/2 must not have (section 8.2.2)."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NO_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")


class Malformed(Exception):
    """A message that breaks a rule of its fields (section 8.1.1)."""


def checked(fields: Fields) -> tuple[dict[bytes, bytes], Fields]:
    """The pseudo-header fields of a request, and the others.

    Raises:
        Malformed: a field is wrong, twice, in the wrong place, or not there.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    for field in fields:
        name, value = field
        if _NO_VALUE.search(value):
            raise Malformed("the value of a field has a character that none may have")
        if name.startswith(b":"):
            if regular or name not in PSEUDO or name in pseudo:
                raise Malformed("a pseudo-header field is unknown, is said twice, or stands behind the others")
            pseudo[name] = value
        elif not _NAME.fullmatch(name):
            raise Malformed("the name of a field has a character that none may have")
        elif name in OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
            raise Malformed("a field belongs to HTTP/1.1")
        else:
            regular.append(field)
    if not all(pseudo.get(name) for name in WANTED):
        raise Malformed("a request has a method, a scheme and a path")
    return pseudo, tuple(regular)


def content_length(fields: Fields) -> int | None:
    """How many bytes a request says its body has.

    Raises:
        Malformed: it says nothing that is a number, or two numbers.
    """
    said = {value for name, value in fields if name == b"content-length"}
    if not said:
        return None
    (value, *more) = said
    if more or not value.isdigit() or len(value) > len(str(1 << 62)):
        raise Malformed("content-length is no number")
    return int(value)


_encoder = Encoder()


def block(fields: Iterable[Field]) -> bytes:
    """A header block that is the same on every connection: it uses and changes no dynamic table."""
    return _encoder.encode([NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False)
