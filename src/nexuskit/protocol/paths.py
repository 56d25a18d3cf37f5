"""Paths: how the names of services and operations stand in a URL.

Specification: Operation Addressability. Names may hold any characters; each is one segment of the path, in
percent-encoding, so that a slash in a name is `%2F` and the slashes of the path are no part of a name. Segments are
decoded once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "OperationPath",
    "cancel_path",
    "http_url_fault",
    "is_http_url",
    "operation_path",
    "parse_path",
    "parse_segment",
    "relative_path",
    "shown_url",
]

MAX_NAME = 1000
"""Characters of the name of a service or operation, as a Temporal server has it."""

MAX_CACHED = 256
"""Characters of a path that is remembered: with 1,024 of them a megabyte at most."""

MAX_SHOWN = 100
"""Characters of a URL that a message shows."""

_UNPRINTABLE = re.compile(r"[^!-~]")
_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class OperationPath(NamedTuple):
    """What a path names."""

    service: str
    """The service's name, decoded."""
    operation: str
    """The operation's name, decoded."""
    cancel: bool
    """Whether the request is to cancel; else it is to start."""


def operation_path(service: str, operation: str) -> str:
    """The path that starts an operation, `/{service}/{operation}`, percent-encoded.

    Specification: Start Operation.

    Raises:
        LocalProtocolError: a name is empty or too long.
    """
    return f"/{_segment(service, 'service')}/{_segment(operation, 'operation')}"


def cancel_path(service: str, operation: str) -> str:
    """The path that cancels an operation, `/{service}/{operation}/cancel`, percent-encoded.

    Specification: Cancel Operation.

    Raises:
        LocalProtocolError: a name is empty or too long.
    """
    return operation_path(service, operation) + "/cancel"


def parse_path(path: str) -> OperationPath | None:
    """What a percent-encoded path names, without its query; None if it has not the form of any request.

    Specification: Start Operation, Cancel Operation.

    Raises:
        RemoteProtocolError: a name is empty, too long or wrongly encoded.
    """
    # A program has few operations, so nearly every path was read before; long ones are not worth their place.
    return _cached_path(path) if len(path) <= MAX_CACHED else _parsed_path(path)


def _parsed_path(path: str) -> OperationPath | None:
    segments = path.split("/", 5)
    count = len(segments)
    if segments[0] or not (count == 3 or (count == 4 and segments[3] == "cancel")):
        return None
    return OperationPath(parse_segment(segments[1], "service"), parse_segment(segments[2], "operation"), count == 4)


_cached_path = lru_cache(maxsize=1024)(_parsed_path)


def parse_segment(segment: str, what: str) -> str:
    """The name that a segment of a path holds, decoded once.

    Args:
        segment: percent-encoded.
        what: what it names, for the message.

    Raises:
        RemoteProtocolError: the name is empty, too long or wrongly encoded.
    """
    name = segment
    if not segment.isascii() or "%" in segment:
        if _BROKEN_ESCAPE.search(segment):
            raise RemoteProtocolError(f"expected the name of the {what} percent-encoded, but a % has no two hex digits")
        try:
            name = unquote_to_bytes(segment.encode("latin-1")).decode("utf-8")
        except UnicodeError:
            raise RemoteProtocolError(f"expected the name of the {what} in UTF-8, percent-encoded") from None
    if not name:
        raise RemoteProtocolError(f"expected the name of the {what}, but it is empty")
    if len(name) > MAX_NAME:
        raise RemoteProtocolError(
            f"expected at most {MAX_NAME} characters in the name of the {what}, but got {len(name)}"
        )
    return name


def relative_path(raw_path: bytes, root_path: str) -> str:
    """The path as it was sent, below where an application is mounted.

    Args:
        raw_path: the whole path as it was sent, percent-encoded, without its query.
        root_path: where the application is mounted, decoded.
    """
    path = raw_path.decode("latin-1")
    if not root_path:
        return path
    root = root_path.rstrip("/")
    if path == root:
        return "/"
    # Only at the end of a segment: "/nexusS" is not below "/nexus".
    if path.startswith(f"{root}/"):
        return path[len(root) :]
    return _below(path, root.encode("utf-8", "surrogatepass"))


def is_http_url(url: str) -> bool:
    """Whether a text is an absolute URL with scheme http or https and a host, of printable ASCII alone."""
    return not http_url_fault(url)


def http_url_fault(url: str) -> str:
    """Why a text is no such URL: what was expected, and what came; empty if it is one.

    What came is told as far as `shown_url` does.
    """
    if not url:
        return "expected a URL, but it is empty"
    shown = shown_url(url)
    if odd := _UNPRINTABLE.search(url):
        where = f"character {odd.start() + 1} of {shown}"
        return f"expected printable ASCII, percent-encoded where it is not, but {where} is none"
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"expected a host, an IPv6 address in brackets, but got {shown}"
    if parts.scheme not in {"http", "https"}:
        return f"unknown scheme: expected http or https, but got {shown}"  # begins as Temporal's server does
    if not parts.hostname:
        return f"missing host: expected one after {parts.scheme}://, but got {shown}"
    try:
        good = parts.port != 0
    except ValueError:
        good = False
    return "" if good else f"expected a port from 1 to 65535, but got {shown}"


def shown_url(url: str) -> str:
    """A URL as a message may have it: scheme, host and port, in quotes.

    The path may hold what is nobody's business, query and user certainly do. An @ anywhere may be that of a user, whose
    password may hold whatever ends a host; of such a URL nothing is shown.
    """
    if "@" in url:
        return "a URL with an @"
    found = _ORIGIN.match(url)
    origin = found[0] if found else ""
    return repr(origin if len(origin) <= MAX_SHOWN else f"{origin[:MAX_SHOWN]}...")


def _below(path: str, root: bytes) -> str:
    """Walks along a path until what it passed, decoded, is the root: the root may have been sent percent-encoded."""
    at = matched = 0
    while matched < len(root):
        step = 3 if path[at : at + 1] == "%" else 1
        passed = unquote_to_bytes(path[at : at + step]) if step == 3 else path[at : at + 1].encode("latin-1")
        if len(passed) != 1 or passed[0] != root[matched]:
            return path  # the server in front took the root away already
        at, matched = at + step, matched + 1
    rest = path[at:]
    return rest or "/" if not rest or rest.startswith("/") else path


def _segment(name: str, what: str) -> str:
    if not name:
        raise LocalProtocolError(f"the name of {what} is empty")
    if len(name) > MAX_NAME:
        raise LocalProtocolError(f"the name of {what} has {len(name)} characters, more than {MAX_NAME}")
    # A dot is never encoded, but a segment of dots alone means another folder to whoever normalises the URL.
    try:
        return name.replace(".", "%2E") if name in {".", ".."} else quote(name, safe="")
    except UnicodeEncodeError:
        raise LocalProtocolError(f"the name of {what} has characters that are no text: {name!r}") from None
