"""What a team writes to call operations: one shape inside workflows and outside, and one tree of errors."""

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
from nexuskit.callers.workflow import (
    BoundHandle,
    CallHandle,
    CallInfo,
    NexusTimeoutWarning,
    NotStartedHereError,
    WorkflowCaller,
    caller,
)

__all__ = [
    "BoundHandle",
    "CallHandle",
    "CallInfo",
    "NexusCallError",
    "NexusCancelledError",
    "NexusHandlerError",
    "NexusInvalidInputError",
    "NexusInvalidOutputError",
    "NexusNotFoundError",
    "NexusOperationFailedError",
    "NexusTimeoutError",
    "NexusTimeoutWarning",
    "NexusUnauthorizedError",
    "NotStartedHereError",
    "WorkflowCaller",
    "caller",
]
