"""What can go wrong in the protocol itself, beside the errors of an operation.

    ProtocolError
    ├── LocalProtocolError           this side asked for something that the protocol cannot carry; nothing was sent
    ├── RemoteProtocolError          the other side sent something that is no Nexus message
    │   ├── UnexpectedResponseError  an answer that is none of those the specification knows
    │   └── ResponseTooLargeError    an answer beyond the limit; the rest was not read
    ├── SerializerError              content and type do not fit: a value cannot be written, or content cannot be read
    ├── DestinationRefusedError      an address that the allow-list does not let requests go to; nothing was sent
    ├── TransportError               there was no answer: no connection, or one that broke
    │   └── RequestTimedOutError     there was no answer in time
    └── OperationTimedOutError       the operation did not complete within its operation timeout

What an operation or its handler says is no `ProtocolError`: that is `nexusrpc.OperationError` and
`nexusrpc.HandlerError`, and `FailureError` for a cause that is neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nexusrpc import Failure

__all__ = [
    "DestinationRefusedError",
    "FailureError",
    "LocalProtocolError",
    "OperationTimedOutError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestTimedOutError",
    "ResponseTooLargeError",
    "SerializerError",
    "TransportError",
    "UnexpectedResponseError",
]


class ProtocolError(Exception):
    """The root of what can go wrong in the protocol itself."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol cannot carry. Nothing was sent; a repetition will not help."""


class RemoteProtocolError(ProtocolError):
    """The other side sent something that is no Nexus message, or a broken one.

    The parsers of single fields raise it. `parse_request` and `parse_completion` turn it into a `HandlerError` of type
    BAD_REQUEST, the parsers of responses into an `UnexpectedResponseError`.
    """


class UnexpectedResponseError(RemoteProtocolError):
    """An answer that is none of those the specification knows for this request. It is not retried.

    Attributes:
        status: the HTTP status code of the answer.
        failure: the `Failure` in its body, if there was one.
    """

    def __init__(self, message: str, *, status: int, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.failure = failure


class ResponseTooLargeError(RemoteProtocolError):
    """An answer that is longer than the limit for answers; what is beyond the limit was not read."""


class SerializerError(ProtocolError):
    """Content and type do not fit: a value cannot be written, or content cannot be read as the type that is expected.

    The message names fields and what was expected of them, never a value: it may go to the other side and to logs.
    """


class DestinationRefusedError(ProtocolError):
    """The allow-list does not let requests go there. Nothing was sent; sending it again will not help."""


class TransportError(ProtocolError):
    """There was no answer: no connection, or one that broke. The request may or may not have been handled."""


class RequestTimedOutError(TransportError):
    """There was no answer within the request timeout. The request may or may not have been handled."""


class OperationTimedOutError(ProtocolError):
    """The operation did not complete within its operation timeout. It may still complete at its handler."""


class FailureError(Exception):
    """A failure that is neither an operation error nor a handler error: most often the cause of one.

    Specification: Failure.

    Attributes:
        failure: the failure as it came, with its metadata, details and causes.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
