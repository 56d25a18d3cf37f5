"""Operations that are activities of their own, without a workflow around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic

from nexusrpc import InputT, OutputT
from temporalio.common import RawValue
from temporalio.nexus import TemporalOperationHandler

from nexuskit.contract.payloads import to_payload
from nexuskit.handlers.calls import calling
from nexuskit.handlers.options import Option, found, given

if TYPE_CHECKING:
    from datetime import timedelta

    from nexusrpc import Operation
    from temporalio.common import Priority, RetryPolicy
    from temporalio.nexus import TemporalNexusClient, TemporalOperationResult, TemporalStartOperationContext

    from nexuskit.contract import OperationContract


class RunActivity(Generic[InputT, OutputT]):
    """An operation that is an activity; see `run_activity`."""

    def __init__(self, operation: Operation[InputT, OutputT], activity: Any, options: Mapping[str, Any]) -> None:
        self.operation = operation
        self._activity = activity
        self._options = given(options)

    def build(self, contract: OperationContract) -> TemporalOperationHandler[InputT, OutputT]:
        """The handler that starts the activity, and cancels it."""
        return _RunActivityHandler(contract, self._activity, self._options)


def run_activity(
    operation: Operation[InputT, OutputT],
    activity: Callable[[InputT], Awaitable[OutputT] | OutputT] | str,
    *,
    id: Option[str, InputT] | None = None,
    task_queue: Option[str, InputT] | None = None,
    schedule_to_close_timeout: Option[timedelta, InputT] | None = None,
    schedule_to_start_timeout: Option[timedelta, InputT] | None = None,
    start_to_close_timeout: Option[timedelta, InputT] | None = None,
    heartbeat_timeout: Option[timedelta, InputT] | None = None,
    retry_policy: Option[RetryPolicy, InputT] | None = None,
    summary: Option[str, InputT] | None = None,
    priority: Option[Priority, InputT] | None = None,
) -> RunActivity[InputT, OutputT]:
    """An operation that is an activity: tried again by its retry policy, and cancelled with the operation.

    Args:
        operation: the operation of the contract.
        activity: the activity, or its name.
        id: the activity's id, or a function of the input; without it, the id that the caller chooses. One id for one
            piece of business.
        task_queue: its task queue; without it, the one of the handler.
        schedule_to_close_timeout: how long it takes at most, with its retries.
        schedule_to_start_timeout: how long until a worker takes it.
        start_to_close_timeout: how long one attempt takes.
        heartbeat_timeout: how long between its signs of life.
        retry_policy: whether and how it is tried again.
        summary: what people see of it.
        priority: its place among others.

    Each is a value, or a function of the input that finds it; one of the two timeouts to the close must be there.
    """
    options = {name: value for name, value in locals().items() if name not in {"operation", "activity"}}
    return RunActivity(operation, activity, options)


class _RunActivityHandler(TemporalOperationHandler[Any, Any]):
    def __init__(self, contract: OperationContract, activity: Any, options: Mapping[str, Any]) -> None:
        self._contract = contract
        self._activity = activity
        self._options = options

    async def start_operation(
        self, ctx: TemporalStartOperationContext, client: TemporalNexusClient, input: Any
    ) -> TemporalOperationResult[Any]:
        options = found(self._options, input)
        argument = RawValue(to_payload(self._contract.input_type, input))
        with calling(self._contract, f"activity {options['id']!r}"):
            return await client.start_activity(self._activity, argument, **options)
