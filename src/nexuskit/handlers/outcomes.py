"""What goes over the boundary when a handler raises: what its contract says, and nothing of what it does not.

With the SDK alone, the message, the class and the stack trace of any exception go into the caller's history. Here an
unexpected exception is INTERNAL with a number that stands in the handler's log beside all of that.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, NoReturn

from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState
from temporalio.converter import create_payload_validation_error
from temporalio.exceptions import ApplicationError, CancelledError, FailureError, is_cancelled_exception

if TYPE_CHECKING:
    from nexuskit.contract import InvalidValueError, OperationContract

log = logging.getLogger("nexuskit.handlers")

NO_TRACE = " "
"""A stack trace that is none: with nothing there, the SDK puts in the one of the exception."""
INVALID_OUTPUT = "InvalidOutput"
"""The type of the failure that says that a handler broke its contract."""


def refuse_input(contract: OperationContract, error: InvalidValueError) -> NoReturn:
    """The caller's input is not what the contract says.

    It travels as the SDK's own payload validation error, which other languages' SDKs know too.

    Raises:
        HandlerError: BAD_REQUEST, never retried; its cause has each field and what is wrong with it.
    """
    details = [{"path": fault.path, "problem": fault.problem, "code": fault.code} for fault in error.faults]
    cause = create_payload_validation_error(details)
    raise HandlerError(
        f"{contract}: invalid input: {error}",
        type=HandlerErrorType.BAD_REQUEST,
        retryable_override=False,
        stack_trace=NO_TRACE,
    ) from cause


def refuse_output(contract: OperationContract, error: InvalidValueError) -> NoReturn:
    """What the handler answered is not what the contract says; no other attempt would be better.

    Raises:
        HandlerError: INTERNAL, not retried; its cause has each field and what is wrong with it.
    """
    log.error("%s: the handler's output is not what the contract says: %s", contract, error)
    details = [{"path": fault.path, "problem": fault.problem, "code": fault.code} for fault in error.faults]
    cause = ApplicationError(
        "the output is not what the contract says", details, type=INVALID_OUTPUT, non_retryable=True
    )
    raise HandlerError(
        f"{contract}: invalid output: {error}",
        type=HandlerErrorType.INTERNAL,
        retryable_override=False,
        stack_trace=NO_TRACE,
    ) from cause


def raise_outcome(contract: OperationContract, error: Exception) -> NoReturn:
    """What the caller is told of an exception in a handler.

    Raises:
        HandlerError: as the handler raised it, without what led to it; or INTERNAL for what it did not mean to raise.
        OperationError: the operation failed or was cancelled, as the handler says.
    """
    match error:
        case HandlerError():
            error.stack_trace = error.stack_trace or NO_TRACE
            raise error from _travelling(error.__cause__)
        case OperationError():
            raise error from _travelling(error.__cause__)
        case CancelledError():
            raise OperationError(error.message, state=OperationErrorState.CANCELED) from None
        case ApplicationError(non_retryable=True):
            raise OperationError(error.message, state=OperationErrorState.FAILED) from error
        case _:
            _raise_unexpected(contract, error)


def _travelling(cause: BaseException | None) -> BaseException | None:
    """A cause that was made to travel; any other one is the handler's own business."""
    return cause if isinstance(cause, FailureError) or (cause and is_cancelled_exception(cause)) else None


def _raise_unexpected(contract: OperationContract, error: Exception) -> NoReturn:
    number = secrets.token_hex(8)
    log.error("%s: unexpected exception (correlation id %s)", contract, number, exc_info=error)
    raise HandlerError(
        f"{contract}: internal error; the handler's log says more under correlation id {number}",
        type=HandlerErrorType.INTERNAL,
        stack_trace=NO_TRACE,
    ) from None
