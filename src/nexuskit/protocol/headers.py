"""Header fields: which belong to the protocol, which to the content, which to the callback, and which to the caller.

Specification: Start Operation (request headers, `Nexus-Callback-`), Callback URLs, Content Types.

A field that comes more than once counts with its first value, as in the reference implementation; `Nexus-Link` alone is
read whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexusrpc import Content

__all__ = [
    "CALLBACK_PREFIX",
    "CONTENT_PREFIX",
    "Fields",
    "check_callback_headers",
    "check_header",
    "check_headers",
    "check_token",
    "content_fields",
    "is_json",
    "is_reserved",
    "media_type",
    "read_fields",
]

CONTENT_PREFIX = "content-"
"""Begins the fields that say how to read the body."""
CALLBACK_PREFIX = "nexus-callback-"
"""Begins the fields that the completion carries, without the prefix."""

REQUEST_ID = "nexus-request-id"
"""The same for every attempt of one start. Not in SPEC.md; the reference implementation's name for it."""
LINK = "nexus-link"
"""Specification: Nexus-Link."""
REQUEST_TIMEOUT = "request-timeout"
"""Specification: Request-Timeout."""
OPERATION_TIMEOUT = "operation-timeout"
"""Specification: Start Operation, request headers."""
OPERATION_TOKEN = "nexus-operation-token"
"""Specification: Cancel Operation; Callback URLs."""
OPERATION_STATE = "nexus-operation-state"
"""Specification: Start Operation, response codes; Callback URLs."""
START_TIME = "nexus-operation-start-time"
"""Specification: Callback URLs."""
CLOSE_TIME = "nexus-operation-close-time"
"""Specification: Callback URLs."""
RETRYABLE = "nexus-request-retryable"
"""Specification: Nexus-Request-Retryable; deprecated there, and the only way to tell peers of before
`retryableOverride`."""

CONNECTION_FIELDS = frozenset(
    {
        "connection", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Fields that belong to one connection and not to the message (RFC 9110 section 7.6.1). They are not carried."""

PROTOCOL_FIELDS = frozenset(
    {
        REQUEST_ID, LINK, REQUEST_TIMEOUT, OPERATION_TIMEOUT, OPERATION_TOKEN, OPERATION_STATE, START_TIME, CLOSE_TIME,
        RETRYABLE,
    }
)  # fmt: skip
"""Fields with a meaning of their own, which are set by what they mean and never by name."""

MAX_HEADER_BYTES = 64 * 1024
"""Names and values of all fields of one message: what uvicorn takes, too. A server before us may take more."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_USUAL = frozenset({("content-type", "application/json"), ("content-type", "application/octet-stream")})


@dataclass(slots=True)
class Fields:
    """The header fields of one message, each where it belongs."""

    content: dict[str, str]
    """`content-*`, with their whole names. The length is left out: the body has one."""
    callback: dict[str, str]
    """`nexus-callback-*`, without the prefix."""
    others: dict[str, str]
    """All the rest, but what belongs to the connection."""
    links: list[str]
    """Each value of `nexus-link`."""


def read_fields(headers: Iterable[tuple[str, str]]) -> Fields:
    """Puts the header fields of a message where they belong.

    Specification: Start Operation (request headers), Callback URLs, Nexus-Link.

    Raises:
        RemoteProtocolError: all together are too long.
    """
    content: dict[str, str] = {}
    callback: dict[str, str] = {}
    others: dict[str, str] = {}
    links: list[str] = []
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        name = name.lower()
        if not name.startswith(("content-", "nexus-")):
            if name not in CONNECTION_FIELDS and name not in others:
                others[name] = value
        elif name.startswith(CONTENT_PREFIX):
            if name != "content-length":
                content.setdefault(name, value)
        elif name == LINK:
            links.append(value)
            others.setdefault(name, value)
        elif name.startswith(CALLBACK_PREFIX):
            callback.setdefault(name.removeprefix(CALLBACK_PREFIX), value)
        else:
            others.setdefault(name, value)
    if size > MAX_HEADER_BYTES:
        raise RemoteProtocolError(f"expected at most {MAX_HEADER_BYTES} bytes of header fields, but got {size}")
    return Fields(content, callback, others, links)


def check_header(name: str, value: str) -> None:
    """Refuses what would not be one header field on the wire (RFC 9110 section 5).

    Raises:
        LocalProtocolError: the name is no token, or the value has line breaks, control characters or characters beyond
            Latin-1.
    """
    if not _TOKEN.fullmatch(name):
        raise LocalProtocolError(f"{name!r} is no name of a header field: use letters, digits and -_.")
    if not _VALUE.fullmatch(value) or value != value.strip(" \t"):
        raise LocalProtocolError(
            f"the value of header field {name} has a space at an end, a line break, a control character or a character"
            " beyond Latin-1; percent-encode it"
        )


def is_reserved(name: str) -> bool:
    """Whether a header field, its name in lower case, belongs to the connection, the content or the protocol.

    Whoever passes on fields that somebody else set, such as a callback's, leaves these out: the message has its own.
    """
    return name in CONNECTION_FIELDS or name in PROTOCOL_FIELDS or name.startswith(CONTENT_PREFIX)


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Header fields that a caller gives along, with their names in lower case.

    Specification: Start Operation ("A client may attach arbitrary headers to the request").

    Raises:
        LocalProtocolError: one of them is no header field, or has a meaning of its own in the protocol or in HTTP.
    """
    checked: dict[str, str] = {}
    for given, value in headers.items():
        check_header(given, value)
        name = given.lower()
        if is_reserved(name) or name.startswith(CALLBACK_PREFIX):
            raise LocalProtocolError(f"header field {given} has a meaning of its own; set what it means, not the field")
        checked[name] = value
    return checked


def check_callback_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Header fields that a completion is to carry, without the prefix, with their names in lower case.

    Fields that belong to the connection, to the content or to the protocol are refused: a completion has its own, and a
    caller that sets them would change what the completion says, or where one message ends and the next begins.

    Specification: Start Operation (`Nexus-Callback-`).

    Raises:
        LocalProtocolError: one of them is no header field, or is one that a completion has of its own.
    """
    checked: dict[str, str] = {}
    for given, value in headers.items():
        check_header(given, value)
        name = given.lower()
        if is_reserved(name):
            raise LocalProtocolError(f"a completion has its own header field {given}; a callback cannot set it")
        checked[name] = value
    return checked


def check_token(token: str) -> None:
    """Refuses an operation token that could not travel in a header field.

    Specification: Operation Addressability.

    Raises:
        LocalProtocolError: it is empty, begins or ends with a space, or has characters that no header field may have.
    """
    if not token:
        raise LocalProtocolError("the operation token is empty")
    if token != token.strip() or not _VALUE.fullmatch(token):
        raise LocalProtocolError(
            "the operation token has a space at an end, or characters that no header field may have; encode it, for "
            "example as base64"
        )


def content_fields(content: Content) -> list[tuple[str, str]]:
    """The header fields of content, as they are written.

    Specification: Content Types.

    Raises:
        LocalProtocolError: one of them does not begin with `content-`, or is no header field.
    """
    fields: list[tuple[str, str]] = []
    for name, value in content.headers.items():
        pair = (name.lower(), value)
        if pair in _USUAL:
            fields.append(pair)
            continue
        check_header(name, value)
        if not pair[0].startswith(CONTENT_PREFIX):
            raise LocalProtocolError(f"a header field of content begins with {CONTENT_PREFIX}, but this one is {name}")
        if pair[0] != "content-length":
            fields.append(pair)
    return fields


def media_type(content_headers: Mapping[str, str]) -> str:
    """The media type of content, in lower case and without parameters; empty if it says none."""
    return content_headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a message says that its body is JSON."""
    for name, value in headers:
        if name.lower() == "content-type":
            return value.partition(";")[0].strip().lower() == "application/json"
    return False
