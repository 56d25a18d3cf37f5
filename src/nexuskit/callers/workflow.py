"""Calls from workflows: the contract decides types, deadlines and errors; the SDK's Nexus client makes the call."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack, cast, overload

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

MISSING_TIMEOUT = "MissingTimeout"
"""The type of the failure of a workflow that made a call without a timeout, where that is an error."""
CALLERS_LINE = 3
"""Frames from the warning to the line of the workflow that makes the call."""


class NexusTimeoutWarning(UserWarning):
    """A call that nothing limits: it waits for ever if the handler is never there."""


State = Literal["started", "succeeded", "failed", "cancelled"]


class CallOptions(TypedDict, total=False):
    """What a call may say beside its operation and input."""

    schedule_to_close_timeout: timedelta | None
    """How long it takes at most; without it, the contract's deadline."""
    schedule_to_start_timeout: timedelta | None
    """How long until its handler has started it."""
    start_to_close_timeout: timedelta | None
    """How long from then on."""
    cancellation_type: NexusOperationCancellationType
    """What a cancelled workflow waits for; without it, for the end of the operation."""
    headers: Mapping[str, str] | None
    """What goes to the handler beside the input."""
    summary: str | None
    """What people see of it."""
    id: str | None
    """The caller's own id for the operation, by which anybody reaches it again; see `WorkflowCaller.handle`."""


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
        options["id"] = self.id
        return await self._caller.execute(operation, input, **options)

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

    @overload
    async def execute(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        forget: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> OutputT: ...
    @overload
    async def execute(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        forget: Literal[True],
        **options: Unpack[CallOptions],
    ) -> None: ...
    async def execute(
        self,
        operation: Operation[InputT, OutputT],
        input: InputT,
        *,
        forget: bool = False,
        **options: Unpack[CallOptions],
    ) -> OutputT | None:
        """Call an operation and wait for its result.

        Args:
            operation: the operation of the contract.
            input: its input.
            forget: do not wait for the result, but until the handler has started the operation, or has answered. It
                then goes on, whatever becomes of this workflow. A workflow that closes earlier takes the call with it.
            options: see `CallOptions`.

        Raises:
            NexusInvalidInputError: the contract refuses the input; nothing was scheduled.
            DeclaredError: one that the contract declares.
            NexusCallError: anything else.
        """
        if forget:
            options.setdefault("cancellation_type", NexusOperationCancellationType.ABANDON)
        handle = await self._start(operation, input, options)
        return None if forget else await handle.result()

    async def start(
        self, operation: Operation[InputT, OutputT], input: InputT, **options: Unpack[CallOptions]
    ) -> CallHandle[OutputT]:
        """Call an operation; returns when its handler has started it, or answered. Arguments and errors: `execute`."""
        return await self._start(operation, input, options)

    def handle(self, operation: Operation[InputT, OutputT], *, id: str) -> BoundHandle[OutputT]:
        """An operation that somebody started with this id: a way to send other operations to what is behind it.

        Args:
            operation: the operation that was started.
            id: the id that its caller chose.
        """
        return BoundHandle(self, operation_contract(self._contract, operation), id)

    async def _start(
        self, operation: Operation[InputT, OutputT], input: InputT, options: CallOptions
    ) -> CallHandle[OutputT]:
        contract = operation_contract(self._contract, operation)
        try:
            payload = to_payload(contract.input_type, input)
            id = options.pop("id", None)
            chosen = {OPERATION_ID: checked_id(id)} if id is not None else {}
        except InvalidValueError as error:
            raise invalid_input(contract, error, self._endpoint) from None
        limit = options.pop("schedule_to_close_timeout", None) or contract.deadline
        if limit is None and not workflow.unsafe.is_replaying():
            message = (
                f"{contract} at endpoint {self._endpoint!r} is called without a schedule-to-close timeout, and would"
                " wait for ever. Give the operation a deadline in its contract, or the call a schedule_to_close_timeout"
            )
            try:
                warnings.warn(message, NexusTimeoutWarning, stacklevel=CALLERS_LINE)
            except NexusTimeoutWarning:
                # Where warnings are errors: this one ends the workflow, as any other exception would stop it for ever.
                raise ApplicationError(message, type=MISSING_TIMEOUT, non_retryable=True) from None
        client = workflow.create_nexus_client(service=encoded(self._contract.name), endpoint=self._endpoint)
        try:
            handle = await client.start_operation(
                encoded(contract.name),
                RawValue(payload),
                output_type=RawValue,
                schedule_to_close_timeout=limit,
                headers={**(options.pop("headers", None) or {}), **chosen} or None,
                **cast("Any", options),
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
