"""The one error that leaves the backend: a gRPC status with a message and typed details.

Every refusal, wherever it is decided, is a `StatusError`. The frontend turns it into a gRPC status; the details travel
in `grpc-status-details-bin`, where the SDKs look for them (`temporal.api.errordetails.v1`).

    StatusError            somebody asked for something that cannot be given: the message says which thing and why
    InvariantError         the backend broke one of its own rules: a bug here, never the caller's fault
    StartError             the backend cannot start: one sentence for the person who started it
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from temporalio.api.errordetails.v1 import NotFoundFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message


class Code(IntEnum):
    """gRPC status codes, by their numbers on the wire (grpc/grpc: doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A refusal, as the client will see it.

    Attributes:
        code: the gRPC status.
        message: which thing, what was expected, what came, what to do.
        details: typed details of `temporal.api.errordetails.v1`, at most one of each type.
    """

    def __init__(self, code: Code, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def __repr__(self) -> str:
        return f"StatusError({self.code.name}, {self.message!r})"


def invalid_argument(message: str) -> StatusError:
    """The request itself is wrong; sending it again will not help."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def not_found(message: str, *details: Message) -> StatusError:
    """The thing that the request names is not there (or not there any more).

    The details say which kind of thing; `NotFoundFailure`, as of the real server, where there is no better one.
    """
    return StatusError(Code.NOT_FOUND, message, details or (NotFoundFailure(),))


def unimplemented(message: str) -> StatusError:
    """The call or the field is known to Temporal's API and not served here."""
    return StatusError(Code.UNIMPLEMENTED, message)


class InvariantError(RuntimeError):
    """A rule of the core was broken: a bug of the backend. Never raised for what a client sent."""


def invariant(holds: object, what: str) -> None:
    """Check a rule of the core; unlike `assert` it is there under `python -O` too.

    Raises:
        InvariantError: if `holds` is false.
    """
    if not holds:
        raise InvariantError(what)


class StartError(Exception):
    """The backend cannot start, in one plain sentence: a port in use, a database held by another process or too new."""
