"""What a connection tells the one who answers its requests, and what it may hold for its peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Head = TypeVar("Head")

HELD_MAX = 256 * 1024 * 1024
"""Bytes of requests that are not answered, and again of answers that are not sent, on one connection."""


@dataclass(frozen=True)
class Bounds:
    """What a peer may make us hold.

    Attributes:
        body: bytes of one request's body.
        fields: bytes of one request's header fields, as RFC 9113 counts them (section 6.5.2).
        streams: requests at a time, on one connection.
        held: bytes of the bodies of those requests together, and of their answers together. A request that goes beyond
            is refused; when answers are beyond, the next ones are not sent.
    """

    body: int
    fields: int
    streams: int
    held: int = HELD_MAX


@dataclass(frozen=True, slots=True)
class Request(Generic[Head]):
    """A request that is there whole; or one of which more than it may have came, without its body.

    Attributes:
        oversized: what there is too much of, "body" or "fields"; else "".
    """

    stream: int
    head: Head
    body: bytes
    oversized: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer wants no answer any more."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is over: what is left to send says why, and then it is to be closed.

    Attributes:
        http1: whether the peer speaks HTTP/1, and so reads no frame.
    """

    why: str
    http1: bool = False


Event = Request[Head] | Reset | Ended
