"""Links: pointers from one side's record of a call to the other's.

Specification: Nexus-Link. The field has the form of HTTP's `Link` (RFC 8288 section 3):

    Nexus-Link: <scheme://path?query>; type="com.example.Resource", <...>; type="..."

A URL may hold a comma, so values are read character by character and not split at commas. The reference implementation
does split there, and refuses the whole message; so a comma is written percent-encoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nexusrpc import Link

from nexuskit.protocol.errors import LocalProtocolError, RemoteProtocolError
from nexuskit.protocol.headers import LINK

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["format_link", "link_fields", "parse_links"]

MAX_LINKS = 100
"""Links of one message. Nobody follows more, and each costs a place in somebody's history."""

_URL = re.compile(r"[!#-;=?-~]+")  # printable ASCII, but for the space, the quote and <>
_TYPE = re.compile(r"[A-Za-z0-9_./]+")
_OPENING = re.compile(r"[\s,]*<\s*([^<>\s]+)\s*>")
_PARAMETER = re.compile(r"""\s*;\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+)))?""")
_END = re.compile(r"\s*(?:,|\Z)")


def parse_links(values: Iterable[str]) -> tuple[Link, ...]:
    """Reads the values of all `Nexus-Link` fields of a message.

    Specification: Nexus-Link. Parameters other than `type` are passed over.

    Raises:
        RemoteProtocolError: one of them is no link, has no type, or there are more than 100.
    """
    links: list[Link] = []
    for value in values:
        at, end = 0, len(value)
        while at < end and value[at:].strip(" \t,"):
            opening = _OPENING.match(value, at)
            if opening is None:
                raise RemoteProtocolError(f"expected link {len(links) + 1} to begin with a URL in <>")
            if len(links) == MAX_LINKS:
                raise RemoteProtocolError(f"expected at most {MAX_LINKS} links")
            kind, at = _parameters(value, opening.end(), len(links) + 1)
            url = opening[1]
            if not _URL.fullmatch(url):
                raise RemoteProtocolError(f"expected the URL of link {len(links) + 1} to be percent-encoded")
            links.append(Link(url=url, type=kind))
    return tuple(links)


def format_link(link: Link) -> str:
    """Writes one value of `Nexus-Link`.

    Specification: Nexus-Link.

    Raises:
        LocalProtocolError: the URL is empty or not percent-encoded, or the type has other characters than letters,
            digits, `_`, `.` and `/`.
    """
    if not _URL.fullmatch(link.url):
        raise LocalProtocolError(f"the URL of a link of type {link.type!r} is empty or not percent-encoded")
    if not _TYPE.fullmatch(link.type):
        raise LocalProtocolError(f"the type of a link has letters, digits, _ . and /, but this one is {link.type!r}")
    url = link.url.replace(",", "%2C")
    return f'<{url}>; type="{link.type}"'


def link_fields(links: Iterable[Link]) -> list[tuple[str, str]]:
    """The header fields of links, one for each, as the reference implementation writes them.

    Specification: Nexus-Link.

    Raises:
        LocalProtocolError: one of them cannot be written.
    """
    return [(LINK, format_link(link)) for link in links]


def _parameters(value: str, at: int, number: int) -> tuple[str, int]:
    """The type among a link's parameters, and where the next link begins."""
    kind: str | None = None
    while parameter := _PARAMETER.match(value, at):
        at = parameter.end()
        if parameter[1].lower() == "type" and kind is None:
            kind = parameter[2] if parameter[2] is not None else parameter[3] or ""
    end = _END.match(value, at)
    if end is None:
        raise RemoteProtocolError(f'expected parameters of the form ; name="value" after the URL of link {number}')
    if kind is None or not _TYPE.fullmatch(kind):
        raise RemoteProtocolError(f'expected link {number} to say type="...", of letters, digits, _ . and /')
    return kind, end.end()
