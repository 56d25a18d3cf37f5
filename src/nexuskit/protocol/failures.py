"""Failures and errors, and what they are on the wire.

Specification: Failure, Predefined Failure Types, Predefined Handler Errors, Nexus-Request-Retryable.

    nexusrpc.HandlerError    a request was not handled: a status code by its type, metadata type nexus.HandlerError
    nexusrpc.OperationError  an operation failed or was cancelled: 424, metadata type nexus.OperationError
    FailureError             any other failure, most often the cause of one of these

An error's `__cause__` becomes the cause of its failure if it is one of these three. Any other exception stays here:
what a handler's library says in its messages is not meant for another team. So does a traceback, unless the handler put
one into the error itself.
"""

from __future__ import annotations

from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from nexusrpc import Failure, HandlerError, HandlerErrorType, OperationError, OperationErrorState

from nexuskit.protocol.errors import FailureError, LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "STATUS_BY_TYPE",
    "TYPE_BY_STATUS",
    "UNSUCCESSFUL_STATUS",
    "error_from_failure",
    "failure_from_error",
    "failure_from_json",
    "failure_to_json",
    "status_text",
]

STATUS_BY_TYPE: Mapping[HandlerErrorType, int] = MappingProxyType(
    {
        HandlerErrorType.BAD_REQUEST: 400,
        HandlerErrorType.UNAUTHENTICATED: 401,
        HandlerErrorType.UNAUTHORIZED: 403,
        HandlerErrorType.NOT_FOUND: 404,
        HandlerErrorType.REQUEST_TIMEOUT: 408,
        HandlerErrorType.CONFLICT: 409,
        HandlerErrorType.RESOURCE_EXHAUSTED: 429,
        HandlerErrorType.INTERNAL: 500,
        HandlerErrorType.NOT_IMPLEMENTED: 501,
        HandlerErrorType.UNAVAILABLE: 503,
        HandlerErrorType.UPSTREAM_TIMEOUT: 520,
    }
)
"""The status code of each type of handler error. Specification: Predefined Handler Errors."""

TYPE_BY_STATUS: Mapping[int, HandlerErrorType] = MappingProxyType(
    {status: kind for kind, status in STATUS_BY_TYPE.items()}
)
"""The type of handler error of each status code. Specification: Predefined Handler Errors."""

UNSUCCESSFUL_STATUS = 424
"""The status code of an operation that failed or was cancelled. Specification: Start Operation, response codes."""

MAX_CAUSES = 100
"""How deep causes are nested; as deep as anybody reads, and far from the depth at which recursion ends."""

HANDLER_ERROR = "nexus.HandlerError"
OPERATION_ERROR = "nexus.OperationError"


class _Wire(msgspec.Struct, omit_defaults=True, rename={"stack_trace": "stackTrace"}):
    """A failure as JSON has it."""

    message: str = ""
    stack_trace: str | None = None
    metadata: dict[str, str] | None = None
    details: Any = None
    cause: _Wire | None = None


_decoder = msgspec.json.Decoder(_Wire)
_encoder = msgspec.json.Encoder()


def status_text(status: int) -> str:
    """What a status code says in words: `Not Found` for 404."""
    if status == STATUS_BY_TYPE[HandlerErrorType.UPSTREAM_TIMEOUT]:
        return "Upstream Timeout"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def failure_from_json(body: bytes) -> Failure:
    """Reads a failure from the body of a message.

    Specification: Failure. Fields that it does not name are passed over.

    Raises:
        RemoteProtocolError: the body is not JSON, not an object, or a field is of another type; causes are nested too
            deep.
    """
    try:
        return _from_wire(_decoder.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # A message of the decoder's names the place and the types, not the value.
        raise RemoteProtocolError(f"expected a Failure as JSON, but: {error}") from None
    except RecursionError:
        raise RemoteProtocolError("expected a Failure as JSON, but it is nested too deep") from None


def failure_to_json(failure: Failure) -> bytes:
    """Writes a failure as the body of a message.

    Specification: Failure.

    Raises:
        LocalProtocolError: the details cannot be JSON, or causes are nested too deep.
    """
    try:
        return _encoder.encode(_to_wire(failure))
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"the details of a failure cannot be written as JSON: {error}") from None


def failure_from_error(error: BaseException) -> Failure:
    """The failure that an error is on the wire. What was a failure before is the same failure again.

    Specification: Predefined Failure Types.

    Args:
        error: an operation error, a handler error or a failure error. Of any other exception nothing but "internal
            error" is told.
    """
    return _failure(error, 0)


def error_from_failure(failure: Failure) -> HandlerError | OperationError | FailureError:
    """The error that a failure stands for, with its causes as `__cause__`; the whole failure is kept in it.

    Specification: Predefined Failure Types. A failure that says it is one of these but lacks what makes it one, such as
    the state of an operation error, is a `FailureError`.
    """
    error: HandlerError | OperationError | FailureError | None = None
    kind = (failure.metadata or {}).get("type")
    details = failure.details
    if isinstance(details, dict):
        if kind == HANDLER_ERROR and isinstance(raw := details.get("type"), str):
            override = details.get("retryableOverride")
            error = HandlerError(
                failure.message,
                type=HandlerErrorType.__members__.get(raw, HandlerErrorType.UNKNOWN),
                retryable_override=override if isinstance(override, bool) else None,
                stack_trace=failure.stack_trace,
                original_failure=failure,
            )
            error.raw_error_type = raw
        elif kind == OPERATION_ERROR and details.get("state") in ("failed", "canceled"):
            error = OperationError(
                failure.message,
                state=OperationErrorState(details["state"]),
                stack_trace=failure.stack_trace,
                original_failure=failure,
            )
    error = error or FailureError(failure)
    if failure.cause is not None:
        error.__cause__ = error_from_failure(failure.cause)
    return error


def _failure(error: BaseException, depth: int) -> Failure:
    match error:
        case HandlerError() | OperationError() if error.original_failure is not None:
            return error.original_failure
        case HandlerError():
            details: dict[str, Any] = {"type": error.raw_error_type}
            if error.retryable_override is not None:
                details["retryableOverride"] = error.retryable_override
            return Failure(error.message, error.stack_trace, {"type": HANDLER_ERROR}, details, _cause(error, depth))
        case OperationError():
            return Failure(
                error.message,
                error.stack_trace,
                {"type": OPERATION_ERROR},
                {"state": error.state.value},
                _cause(error, depth),
            )
        case FailureError():
            return error.failure
        case _:
            return Failure("internal error")


def _cause(error: BaseException, depth: int) -> Failure | None:
    cause = error.__cause__
    # Exceptions can be each other's causes; a chain ends where the other side would stop reading it.
    if depth + 1 == MAX_CAUSES or not isinstance(cause, HandlerError | OperationError | FailureError):
        return None
    return _failure(cause, depth + 1)


def _from_wire(wire: _Wire) -> Failure:
    chain = [wire]
    while chain[-1].cause is not None:
        if len(chain) > MAX_CAUSES:
            raise RemoteProtocolError(f"expected at most {MAX_CAUSES} causes in a Failure")
        chain.append(chain[-1].cause)
    cause: Failure | None = None
    for link in reversed(chain):
        cause = Failure(link.message, link.stack_trace, link.metadata, link.details, cause)
    return cause or Failure("")


def _to_wire(failure: Failure) -> _Wire:
    chain = [failure]
    while chain[-1].cause is not None:
        if len(chain) > MAX_CAUSES:
            raise LocalProtocolError(f"a failure has at most {MAX_CAUSES} causes; this one has more")
        chain.append(chain[-1].cause)
    cause: _Wire | None = None
    for link in reversed(chain):
        metadata = None if link.metadata is None else dict(link.metadata)
        cause = _Wire(link.message, link.stack_trace, metadata, link.details, cause)
    return cause or _Wire()
