"""What a request by HTTP may carry. A worker's command has the same limits, and a real server has them there alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.protocol.handling import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

    from nexuskit.backend.settings import Limits


def check_name(what: str, name: str, limits: Limits) -> None:
    """Raises `HandlerError` BAD_REQUEST, if the name of a service or operation is too long."""
    size = len(name.encode())
    if size > limits.NEXUS_NAME_LENGTH:
        raise bad_request(f"the name of the {what} exceeds length limit of {limits.NEXUS_NAME_LENGTH}: {size} bytes")


def check_token(token: str, limits: Limits) -> None:
    """Raises `HandlerError` BAD_REQUEST, if an operation token is too long."""
    size = len(token.encode())
    if size > limits.NEXUS_TOKEN_SIZE:
        raise bad_request(f"operation token length exceeds allowed limit ({size}/{limits.NEXUS_TOKEN_SIZE})")


def check_headers(headers: Mapping[str, str], limits: Limits) -> None:
    """Raises `HandlerError` BAD_REQUEST, if all together are too long."""
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > limits.NEXUS_HEADERS_SIZE:
        raise bad_request(f"header fields exceed size limit: {size} bytes, at most {limits.NEXUS_HEADERS_SIZE}")


def check_links(links: Sequence[Message], limits: Limits) -> None:
    """Raises `HandlerError` BAD_REQUEST, if they are too many, or one is too long."""
    if len(links) > limits.LINKS_PER_REQUEST:
        raise bad_request(f"cannot attach more than {limits.LINKS_PER_REQUEST} links per request, got {len(links)}")
    for link in links:
        if link.ByteSize() > limits.LINK_SIZE:
            raise bad_request(f"link exceeds allowed size of {limits.LINK_SIZE}, got {link.ByteSize()}")
