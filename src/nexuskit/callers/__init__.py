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
from nexuskit.callers.workflow import CallHandle, NexusTimeoutWarning, WorkflowCaller, caller

__all__ = [
    "CallHandle",
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
    "WorkflowCaller",
    "caller",
]
