"""Calls from workflows: the contract decides types, deadlines and errors; the SDK's Nexus client makes the call."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack

from nexusrpc import InputT, OutputT
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, CancelledError, NexusOperationError
from temporalio.workflow import NexusOperationCancellationType

from nexuskit.callers.outcomes import invalid_input, invalid_output, what_to_raise
from nexuskit.contract import InvalidValueError, operation_contract, service_contract
from nexuskit.contract.names import encoded
from nexuskit.contract.operation_ids import OPERATION_ID, checked_id
from nexuskit.contract.payloads import from_payload, to_payload

if TYPE_CHECKING:
    from nexusrpc import Operation

    from nexuskit.contract import OperationContract


T = TypeVar("T")

CALLERS_LINE = 3
"""Frames from the warning to the line of the workflow that makes the call."""


class NexusTimeoutWarning(UserWarning):
    """A call that nothing limits: it waits for ever if the handler is never there."""


State = Literal["started", "succeeded", "failed", "cancelled"]


class CallOptions(TypedDict, total=False):
    """What a call may say beside its operation and input; see `WorkflowCaller.execute`."""

    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    start_to_close_timeout: timedelta | None
    cancellation_type: NexusOperationCancellationType
    headers: Mapping[str, str] | None
    summary: str | None


@dataclass(frozen=True)
class CallInfo:
    """What a workflow knows of an operation that it started: the same whenever its history is read again.

    Attributes:
        state: where it stands; an outcome once it was awaited.
        operation_token: the handler's name for it; None where it answered at once.
    """

    state: State
    operation_token: str | None


class CallHandle(Generic[OutputT]):
    """One operation that was started.

    Attributes:
        operation_token: the handler's name for it; None where it answered at once.
    """

    def __init__(
        self, contract: OperationContract, endpoint: str, handle: workflow.NexusOperationHandle[RawValue]
    ) -> None:
        self._contract = contract
        self._endpoint = endpoint
        self._handle = handle
        self._state: State = "started" if handle.operation_token is not None else "succeeded"

    def info(self) -> CallInfo:
        """Where it stands, as far as the workflow knows."""
        return CallInfo(self._state, self.operation_token)

    @property
    def operation_token(self) -> str | None:
        """See the class."""
        return self._handle.operation_token

    def cancel(self) -> bool:
        """Ask the handler to cancel it. Whether this was the first time; the outcome tells whether it was cancelled."""
        return self._handle.cancel()

    async def result(self) -> OutputT:
        """Its result, when it is there.

        Raises:
            DeclaredError: one that the contract declares.
            NexusCallError: anything else.
        """
        try:
            raw = await self._handle
        except NexusOperationError as error:
            self._state = "cancelled" if isinstance(error.__cause__, CancelledError) else "failed"
            raise what_to_raise(self._contract, error)  # noqa: B904, its cause is set
        self._state = "succeeded"
        try:
            return from_payload(self._contract.output_type, raw.payload)
        except InvalidValueError as error:
            raise invalid_output(self._contract, error, self._endpoint, self.operation_token or "") from None

    def __await__(self) -> Generator[Any, Any, OutputT]:
        """The same as `result()`."""
        return self.result().__await__()


class NotStartedHereError(ApplicationError):
    """A workflow asks for the outcome of an operation that it has not started."""

    def __init__(self, contract: OperationContract, id: str, what: str) -> None:
        super().__init__(
            f"{contract} with id {id!r} was not started by this workflow, and Temporal lets nobody else {what}. Call an"
            " operation that asks or cancels what is behind it, such as a query or a signal, by this handle's execute",
            type="NotStartedHere",
            non_retryable=True,
        )


class BoundHandle(Generic[OutputT]):
    """An operation by its id, whoever started it; see `WorkflowCaller.handle`.

    Attributes:
        id: its id.
    """

    def __init__(self, caller: WorkflowCaller, contract: OperationContract, id: str) -> None:
        self.id = id
        self._caller = caller
        self._contract = contract

    async def execute(self, operation: Operation[InputT, T], input: InputT, **options: Unpack[CallOptions]) -> T:
        """Call another operation of the service with this id, and wait for its result; see `WorkflowCaller.execute`."""
        return await self._caller.execute(operation, input, id=self.id, **options)

    async def result(self) -> OutputT:
        """Not for a workflow that did not start it.

        Raises:
            NotStartedHereError: always.
        """
        raise NotStartedHereError(self._contract, self.id, "wait for its result")

    def cancel(self) -> bool:
        """Not for a workflow that did not start it.

        Raises:
            NotStartedHereError: always.
        """
        raise NotStartedHereError(self._contract, self.id, "cancel it")

    def info(self) -> CallInfo:
        """Not for a workflow that did not start it.

        Raises:
            NotStartedHereError: always.
        """
        raise NotStartedHereError(self._contract, self.id, "see how it is")


class WorkflowCaller:
    """A service at an endpoint, as a workflow calls it; see `caller`."""

    def __init__(self, service: type[Any], endpoint: str) -> None:
        self._contract = service_contract(service)
        self._endpoint = endpoint

    async def execute(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        cancellation_type: NexusOperationCancellationType = NexusOperationCancellationType.WAIT_COMPLETED,
        headers: Mapping[str, str] | None = None,
        summary: str | None = None,
        id: str | None = None,
    ) -> OutputT:
        """Call an operation and wait for its result.

        Args:
            operation: the operation of the contract.
            input: its input.
            schedule_to_close_timeout: how long it takes at most; without it, the contract's deadline.
            schedule_to_start_timeout: how long until its handler has started it.
            start_to_close_timeout: how long from then on.
            cancellation_type: what a cancelled workflow waits for.
            headers: what goes to the handler beside the input.
            summary: what people see of it.
            id: the caller's own id for the operation, by which anybody reaches it again; see `handle`.

        Raises:
            NexusInvalidInputError: the contract refuses the input; nothing was scheduled.
            DeclaredError: one that the contract declares.
            NexusCallError: anything else.
        """
        handle = await self._start(
            operation,
            input,
            schedule_to_close_timeout=schedule_to_close_timeout,
            schedule_to_start_timeout=schedule_to_start_timeout,
            start_to_close_timeout=start_to_close_timeout,
            cancellation_type=cancellation_type,
            headers=headers,
            summary=summary,
            id=id,
        )
        return await handle.result()

    async def start(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        schedule_to_close_timeout: timedelta | None = None,
        schedule_to_start_timeout: timedelta | None = None,
        start_to_close_timeout: timedelta | None = None,
        cancellation_type: NexusOperationCancellationType = NexusOperationCancellationType.WAIT_COMPLETED,
        headers: Mapping[str, str] | None = None,
        summary: str | None = None,
        id: str | None = None,
    ) -> CallHandle[OutputT]:
        """Call an operation; returns when its handler has started it, or answered. Arguments and errors: `execute`."""
        return await self._start(
            operation,
            input,
            schedule_to_close_timeout=schedule_to_close_timeout,
            schedule_to_start_timeout=schedule_to_start_timeout,
            start_to_close_timeout=start_to_close_timeout,
            cancellation_type=cancellation_type,
            headers=headers,
            summary=summary,
            id=id,
        )

    def handle(self, operation: Operation[InputT, OutputT], *, id: str) -> BoundHandle[OutputT]:
        """An operation that somebody started with this id: a way to send other operations to what is behind it.

        Args:
            operation: the operation that was started.
            id: the id that its caller chose.
        """
        return BoundHandle(self, operation_contract(self._contract, operation), id)

    async def _start(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        schedule_to_close_timeout: timedelta | None,
        headers: Mapping[str, str] | None,
        id: str | None,
        **options: Any,
    ) -> CallHandle[OutputT]:
        contract = operation_contract(self._contract, operation)
        try:
            payload = to_payload(contract.input_type, input)
            chosen = {OPERATION_ID: checked_id(id)} if id is not None else {}
        except InvalidValueError as error:
            raise invalid_input(contract, error, self._endpoint) from None
        limit = schedule_to_close_timeout or contract.deadline
        if limit is None and not workflow.unsafe.is_replaying():
            message = (
                f"{contract} at endpoint {self._endpoint!r} is called without a schedule-to-close timeout, and would"
                " wait for ever. Give the operation a deadline in its contract, or the call a schedule_to_close_timeout"
            )
            warnings.warn(message, NexusTimeoutWarning, stacklevel=CALLERS_LINE)
        client = workflow.create_nexus_client(service=encoded(self._contract.name), endpoint=self._endpoint)
        try:
            handle = await client.start_operation(
                encoded(contract.name),
                RawValue(payload),
                output_type=RawValue,
                schedule_to_close_timeout=limit,
                headers={**(headers or {}), **chosen} or None,
                **options,
            )
        except NexusOperationError as error:
            raise what_to_raise(contract, error)  # noqa: B904, its cause is set
        return CallHandle(contract, self._endpoint, handle)


def caller(service: type[Any], *, endpoint: str) -> WorkflowCaller:
    """A service at an endpoint, to be called from a workflow::

        payments = nexuskit.caller(PaymentService, endpoint="payments")
        receipt = await payments.execute(PaymentService.process, payment)

    Args:
        service: the class of the contract.
        endpoint: the name of the endpoint.
    """
    return WorkflowCaller(service, endpoint)
