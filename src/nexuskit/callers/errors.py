"""What a caller catches: the errors of a contract, and one tree for everything else that can go wrong with a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from temporalio.exceptions import NexusOperationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexusrpc import HandlerErrorType
    from temporalio.exceptions import TimeoutType

    from nexuskit.contract import Fault


class NexusCallError(NexusOperationError):
    """Root of every error of a call, except the declared ones, whose cause it is.

    It is a `NexusOperationError` of the SDK, with its endpoint, service, operation, token and failure, so that code
    which knows only the SDK catches it too, and a workflow that fails with it keeps the whole cause.
    """

    def __init__(self, message: str, of: NexusOperationError) -> None:
        super().__init__(
            message,
            scheduled_event_id=of.scheduled_event_id,
            endpoint=of.endpoint,
            service=of.service,
            operation=of.operation,
            operation_token=of.operation_token,
        )
        self._failure = of.failure
        self.__cause__ = of.__cause__


class NexusOperationFailedError(NexusCallError):
    """The operation failed, and not with an error that the contract declares.

    Attributes:
        type: the type of the failure, where it has one.
        details: its details, as they came.
        retryable: whether the one who raised it thought that another attempt could help.
    """

    def __init__(
        self, message: str, of: NexusOperationError, type: str | None, details: Sequence[Any], *, retryable: bool
    ) -> None:
        super().__init__(message, of)
        self.type = type
        self.details = tuple(details)
        self.retryable = retryable


class NexusTimeoutError(NexusCallError):
    """A timeout of the call passed.

    Attributes:
        timeout_type: which one; None where the workflow behind the operation timed out.
    """

    def __init__(self, message: str, of: NexusOperationError, timeout_type: TimeoutType | None) -> None:
        super().__init__(message, of)
        self.timeout_type = timeout_type


class NexusUnauthorizedError(NexusCallError):
    """The caller is not allowed to call this, or has not proven who it is."""


class NexusNotFoundError(NexusCallError):
    """There is no such thing.

    Attributes:
        what: "endpoint", "service", "operation", or "resource" where the handler itself said so.
    """

    def __init__(self, message: str, of: NexusOperationError, what: str) -> None:
        super().__init__(message, of)
        self.what = what


class NexusInvalidInputError(NexusCallError):
    """The contract refuses the input.

    Attributes:
        faults: each field, and what is wrong with it.
    """

    def __init__(self, message: str, of: NexusOperationError, faults: Sequence[Fault]) -> None:
        super().__init__(message, of)
        self.faults = tuple(faults)


class NexusInvalidOutputError(NexusCallError):
    """The contract refuses the output, at the handler or where it arrives.

    Attributes:
        faults: each field, and what is wrong with it.
    """

    def __init__(self, message: str, of: NexusOperationError, faults: Sequence[Fault]) -> None:
        super().__init__(message, of)
        self.faults = tuple(faults)


class NexusHandlerError(NexusCallError):
    """The handler answered with any other error that is not tried again.

    Attributes:
        type: its type in the Nexus protocol.
    """

    def __init__(self, message: str, of: NexusOperationError, type: HandlerErrorType) -> None:
        super().__init__(message, of)
        self.type = type


class NexusCancelledError(NexusCallError):
    """The operation was cancelled."""
