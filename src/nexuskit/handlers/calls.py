"""What the calls that a builder makes mean for its operation when they fail.

The SDK maps a failed call by its status alone, and its own errors (a refused update, a failed query) to INTERNAL, which
is tried again until the caller's timeout. A builder knows what it asked for.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState
from temporalio.client import WorkflowQueryFailedError, WorkflowQueryRejectedError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from nexuskit.handlers.outcomes import NO_TRACE

if TYPE_CHECKING:
    from collections.abc import Generator

    from nexuskit.contract import OperationContract

QUERY_REJECTED = "QueryRejected"
"""The type of the failure of a query that its reject condition refused."""
QUERY_FAILED = "QueryFailed"

_PASSES = {
    RPCStatusCode.NOT_FOUND: HandlerErrorType.NOT_FOUND,
    RPCStatusCode.ALREADY_EXISTS: HandlerErrorType.CONFLICT,
    RPCStatusCode.FAILED_PRECONDITION: HandlerErrorType.CONFLICT,
    RPCStatusCode.RESOURCE_EXHAUSTED: HandlerErrorType.RESOURCE_EXHAUSTED,
    RPCStatusCode.UNAVAILABLE: HandlerErrorType.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED: HandlerErrorType.UPSTREAM_TIMEOUT,
}
"""Statuses that say something of what was asked for. Any other one is the handler's own trouble."""


@contextlib.contextmanager
def calling(contract: OperationContract, what: str) -> Generator[None]:
    """Around the calls that a builder makes.

    Args:
        contract: the operation.
        what: what is called, such as "workflow 'payment-1'".

    Raises:
        HandlerError, OperationError: what a failed call means for the operation.
    """
    try:
        yield
    except WorkflowAlreadyStartedError:
        raise _refused(contract, f"{what} runs already, for another call", HandlerErrorType.CONFLICT) from None
    except WorkflowQueryRejectedError as error:
        status = error.status.name if error.status is not None else "unknown"
        raise _failed(f"{contract}: {what} is {status.lower()}", QUERY_REJECTED)  # noqa: B904, its cause is set
    except WorkflowQueryFailedError as error:
        raise _failed(f"{contract}: {what} could not answer: {error.message}", QUERY_FAILED)  # noqa: B904, its cause is set
    except OperationError as error:  # so the SDK says that an update was refused at once
        if not isinstance(error.__cause__, WorkflowUpdateFailedError):
            raise
        raise _update_failed(contract, what, error.__cause__.cause)  # noqa: B904, its cause is set
    except WorkflowUpdateFailedError as error:
        raise _update_failed(contract, what, error.cause)  # noqa: B904, its cause is set
    except RPCError as error:
        kind = _PASSES.get(error.status)
        if kind is None:
            raise
        raise _refused(contract, f"{what}: {error.message}", kind) from None


def _refused(contract: OperationContract, why: str, kind: HandlerErrorType) -> HandlerError:
    return HandlerError(f"{contract}: {why}", type=kind, stack_trace=NO_TRACE)


def _failed(why: str, kind: str) -> OperationError:
    error = OperationError(why, state=OperationErrorState.FAILED)
    error.__cause__ = ApplicationError(why, type=kind, non_retryable=True)
    return error


def _update_failed(contract: OperationContract, what: str, cause: BaseException) -> OperationError:
    if isinstance(cause, CancelledError):
        return OperationError(f"{contract}: {what}: the update was cancelled", state=OperationErrorState.CANCELED)
    error = OperationError(f"{contract}: {what} refused the update: {cause}", state=OperationErrorState.FAILED)
    error.__cause__ = cause
    return error
