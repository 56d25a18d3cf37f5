"""From what the SDK raises for a call to what a caller catches; the table is in docs/errors.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nexusrpc import HandlerError, HandlerErrorType
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    NexusOperationError,
    TerminatedError,
    TimeoutError,
)

from nexuskit.callers.errors import (
    NexusCallError,
    NexusCancelledError,
    NexusHandlerError,
    NexusInvalidInputError,
    NexusInvalidOutputError,
    NexusNotFoundError,
    NexusOperationFailedError,
    NexusTimeoutError,
    NexusUnauthorizedError,
)
from nexuskit.contract import DeclaredError, Fault, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexuskit.contract import OperationContract

PAYLOAD_VALIDATION = "PayloadValidationError"
"""The type of the SDK's own failure for a payload that is refused."""
INVALID_OUTPUT = "InvalidOutput"
OPERATION_FAILED = "OperationError"
"""The type in which the SDK wraps what a handler's operation error was made of."""

_UNAUTHORIZED = (HandlerErrorType.UNAUTHORIZED, HandlerErrorType.UNAUTHENTICATED)
_MISSING = {
    "endpoint": ("endpoint", "Is it registered? `nexus list` shows what is"),
    "no handler for service": ("service", "Does a worker of the endpoint's task queue have its handler?"),
    "has no operation": ("operation", "Does the worker run a version of the handler that has it?"),
}
"""What the server and the SDKs say where something is not there → what it is, and what to check."""


def what_to_raise(contract: OperationContract, error: NexusOperationError) -> Exception:
    """What a caller of an operation catches for what the SDK raised."""
    declared = _declared(contract, error)
    call_error = _call_error(contract, error)
    if declared is None:
        return call_error
    declared.__cause__ = call_error
    return declared


def invalid_input(contract: OperationContract, error: InvalidValueError, endpoint: str) -> NexusCallError:
    """The error for an input that the contract refuses before anything is scheduled."""
    of = _not_sent(contract, error, endpoint)
    return NexusInvalidInputError(_told(contract, of, f"the contract refuses the input: {error}"), of, error.faults)


def invalid_output(contract: OperationContract, error: InvalidValueError, endpoint: str, token: str) -> NexusCallError:
    """The error for an output that arrived and is not what the contract says."""
    of = _not_sent(contract, error, endpoint, token)
    return NexusInvalidOutputError(
        _told(contract, of, f"the output is not what the contract says: {error}"), of, error.faults
    )


def _not_sent(
    contract: OperationContract, error: InvalidValueError, endpoint: str, token: str = ""
) -> NexusOperationError:
    """The SDK's error for what only this side of the call knows."""
    return NexusOperationError(
        str(error),
        scheduled_event_id=0,
        endpoint=endpoint,
        service=contract.service,
        operation=contract.name,
        operation_token=token,
    )


def _declared(contract: OperationContract, error: BaseException) -> DeclaredError | None:
    known = {each.error_name: each for each in contract.errors}
    for cause in _causes(error):
        if isinstance(cause, ApplicationError) and cause.type in known:
            try:
                return known[cause.type].from_details(cause.details[0] if cause.details else {})
            except InvalidValueError:
                return None  # an error of that name and other fields is none of the contract's
    return None


def _call_error(contract: OperationContract, error: NexusOperationError) -> NexusCallError:
    cause = error.__cause__
    match cause:
        case HandlerError():
            return _handler_error(contract, error, cause)
        case CancelledError():
            return NexusCancelledError(_told(contract, error, "the operation was cancelled"), error)
        case TimeoutError():
            which = cause.type.name.lower().replace("_", "-") if cause.type is not None else "workflow"
            return NexusTimeoutError(
                _told(contract, error, f"the {which} timeout passed. `nexus trace` shows where the time went"),
                error,
                cause.type,
            )
        case TerminatedError():
            said = "the workflow behind the operation was terminated"
            return NexusOperationFailedError(_told(contract, error, said), error, None, (), retryable=False)
        case ApplicationError():
            inner = cause
            if cause.type == OPERATION_FAILED and isinstance(cause.__cause__, ApplicationError):
                inner = cause.__cause__
            return NexusOperationFailedError(
                _told(contract, error, f"the operation failed: {inner.message}"),
                error,
                inner.type,
                inner.details,
                retryable=not inner.non_retryable,
            )
        case _:
            said = f"the operation failed: {cause if cause is not None else error.message}"
            return NexusOperationFailedError(_told(contract, error, said), error, None, (), retryable=False)


def _handler_error(contract: OperationContract, error: NexusOperationError, cause: HandlerError) -> NexusCallError:
    inner = cause.__cause__ if isinstance(cause.__cause__, ApplicationError) else None
    if cause.type in _UNAUTHORIZED:
        said = f"not allowed: {cause.message}. Is the caller's namespace among the endpoint's allowed callers?"
        return NexusUnauthorizedError(_told(contract, error, said), error)
    if cause.type is HandlerErrorType.NOT_FOUND:
        what, check = next(
            (found for sign, found in _MISSING.items() if sign in cause.message.lower()), ("resource", "")
        )
        return NexusNotFoundError(_told(contract, error, f"{cause.message}. {check}".rstrip(" .")), error, what)
    if inner is not None and inner.type == PAYLOAD_VALIDATION:
        return NexusInvalidInputError(
            _told(contract, error, f"the handler refused the input: {_shown(inner)}"), error, tuple(_faults(inner))
        )
    if inner is not None and inner.type == INVALID_OUTPUT:
        return NexusInvalidOutputError(
            _told(contract, error, f"the handler's output is not what the contract says: {_shown(inner)}"),
            error,
            tuple(_faults(inner)),
        )
    return NexusHandlerError(_told(contract, error, f"{cause.type.value}: {cause.message}"), error, cause.type)


def _told(contract: OperationContract, error: NexusOperationError, said: str) -> str:
    return f"{contract} at endpoint {error.endpoint!r}: {said}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _shown(error: ApplicationError) -> str:
    return "; ".join(map(str, _faults(error))) or error.message


def _faults(error: ApplicationError) -> Iterator[Fault]:
    """The fields that a failure's details name, as nexuskit writes them; other SDKs' details are shown as they are."""
    details = error.details[0] if error.details else None
    for each in cast("list[Any]", details if isinstance(details, list) else [] if details is None else [details]):
        if isinstance(each, dict):
            found = cast("dict[str, Any]", each)
            yield Fault(str(found.get("path", "")), str(found.get("problem", found)), str(found.get("code", "")))
        else:
            yield Fault("", str(each), "")
