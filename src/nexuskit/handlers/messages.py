"""Operations that are messages to a running workflow: queries, signals, updates."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from nexusrpc import HandlerError, HandlerErrorType, InputT, OutputT
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultSync,
)
from temporalio import nexus
from temporalio.client import WorkflowUpdateStage
from temporalio.common import RawValue
from temporalio.nexus import TemporalOperationHandler

from nexuskit.contract.payloads import to_payload
from nexuskit.handlers.calls import calling
from nexuskit.handlers.options import Option, found, given
from nexuskit.handlers.outcomes import NO_TRACE

if TYPE_CHECKING:
    from nexusrpc import Operation
    from temporalio.common import QueryRejectCondition, WorkflowIDReusePolicy
    from temporalio.nexus import (
        CancelUpdateWorkflowOptions,
        TemporalCancelOperationContext,
        TemporalNexusClient,
        TemporalOperationResult,
        TemporalStartOperationContext,
    )

    from nexuskit.contract import OperationContract

W = TypeVar("W")

Start = Callable[["OperationContract", dict[str, Any], Any], Awaitable[Any]]
"""Makes the call of one operation: its contract, its options for this input, the input."""


class Message(Generic[InputT, OutputT]):
    """An operation that answers at once, from a workflow; see the functions that make one."""

    def __init__(self, operation: Operation[InputT, OutputT], options: Mapping[str, Any], send: Start) -> None:
        self.operation = operation
        self._options = given(options)
        self._send = send

    def build(self, contract: OperationContract) -> OperationHandler[InputT, OutputT]:
        """The handler that sends the message."""
        return _MessageHandler(contract, self._options, self._send)


class _MessageHandler(OperationHandler[Any, Any]):
    def __init__(self, contract: OperationContract, options: Mapping[str, Any], send: Start) -> None:
        self._contract = contract
        self._options = options
        self._send = send

    async def start(self, ctx: StartOperationContext, input: Any) -> StartOperationResultSync[Any]:
        return StartOperationResultSync(await self._send(self._contract, found(self._options, input), input))

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        raise HandlerError(
            f"{self._contract} answers at once: there is nothing to cancel",
            type=HandlerErrorType.NOT_IMPLEMENTED,
            stack_trace=NO_TRACE,
        )


def query_workflow(
    operation: Operation[InputT, OutputT],
    query: Callable[[W], OutputT] | Callable[[W, InputT], OutputT] | str,
    *,
    id: Option[str, InputT] | None = None,
    run_id: Option[str, InputT] | None = None,
    reject_condition: Option[QueryRejectCondition, InputT] | None = None,
) -> Message[InputT, OutputT]:
    """An operation that a query of a workflow answers.

    Args:
        operation: the operation of the contract.
        query: the workflow's query method, which takes nothing or the operation's input; or its name, which takes it.
        id: the workflow's id, or a function of the input that finds it; without it, the id that the caller chose.
        run_id: which run of it; without it, the newest.
        reject_condition: when it is not asked at all, such as when the workflow is closed.

    A workflow that is not there is NOT_FOUND; a query that is rejected or fails is a failed operation.
    """

    async def send(contract: OperationContract, options: dict[str, Any], input: Any) -> Any:
        # The SDK's overloads ask for one kind of method each; what goes in here is any of them.
        handle: Any = nexus.client().get_workflow_handle(options["id"], run_id=options.get("run_id"))
        argument = _argument(query, contract, input)
        with calling(contract, f"workflow {options['id']!r}"):
            return await handle.query(
                query,
                *argument,
                reject_condition=options.get("reject_condition"),
                result_type=contract.output_type,
            )

    return Message(operation, {"id": id, "run_id": run_id, "reject_condition": reject_condition}, send)


def signal_workflow(
    operation: Operation[InputT, None],
    signal: Callable[[W, InputT], Any] | Callable[[W], Any] | str,
    *,
    id: Option[str, InputT] | None = None,
    run_id: Option[str, InputT] | None = None,
) -> Message[InputT, None]:
    """An operation that sends a signal to a workflow, and is done when the signal is in its history.

    Args:
        operation: the operation of the contract.
        signal: the workflow's signal method, which takes nothing or the operation's input; or its name, which takes it.
        id: the workflow's id, or a function of the input that finds it; without it, the id that the caller chose.
        run_id: which run of it; without it, the one that runs.

    A workflow that is not there, or is closed, is NOT_FOUND.
    """

    async def send(contract: OperationContract, options: dict[str, Any], input: Any) -> None:
        handle: Any = nexus.client().get_workflow_handle(options["id"], run_id=options.get("run_id"))
        with calling(contract, f"workflow {options['id']!r}"):
            await handle.signal(signal, *_argument(signal, contract, input))

    return Message(operation, {"id": id, "run_id": run_id}, send)


def signal_with_start(
    operation: Operation[InputT, None],
    workflow: Callable[[W, InputT], Awaitable[Any]] | str,
    signal: Callable[[W, InputT], Any] | Callable[[W], Any] | str,
    *,
    id: Option[str, InputT] | None = None,
    task_queue: Option[str, InputT] | None = None,
    id_reuse_policy: Option[WorkflowIDReusePolicy, InputT] | None = None,
) -> Message[InputT, None]:
    """An operation that sends a signal to a workflow, and starts it first where it does not run.

    Args:
        operation: the operation of the contract.
        workflow: the workflow's run method, or its name; it takes the operation's input.
        signal: the workflow's signal method, which takes nothing or the operation's input; or its name, which takes it.
        id: the workflow's id, or a function of the input that finds it; without it, the id that the caller chose.
        task_queue: its task queue; without it, the one of the handler.
        id_reuse_policy: whether the id of a closed workflow may be taken.
    """
    # Here and not at the first call: a method that is no signal is told when it is imported.
    name = signal if isinstance(signal, str) else _signal_name(signal)

    async def send(contract: OperationContract, options: dict[str, Any], input: Any) -> None:
        options.setdefault("task_queue", nexus.info().task_queue)
        argument = RawValue(to_payload(contract.input_type, input))
        client: Any = nexus.client()
        with calling(contract, f"workflow {options['id']!r}"):
            await client.start_workflow(
                workflow,
                argument,
                start_signal=name,
                start_signal_args=_argument(signal, contract, input),
                **options,
            )

    return Message(operation, {"id": id, "task_queue": task_queue, "id_reuse_policy": id_reuse_policy}, send)


class UpdateWorkflow(Generic[InputT, OutputT]):
    """An operation that is an update of a workflow; see `update_workflow`."""

    def __init__(self, operation: Operation[InputT, OutputT], update: Any, options: Mapping[str, Any]) -> None:
        self.operation = operation
        self._update = update
        self._options = given(options)

    def build(self, contract: OperationContract) -> OperationHandler[InputT, OutputT]:
        """The handler that sends the update."""
        return _UpdateHandler(contract, self._update, self._options)


def update_workflow(
    operation: Operation[InputT, OutputT],
    update: Callable[[W, InputT], Awaitable[OutputT] | OutputT] | str,
    *,
    id: Option[str, InputT] | None = None,
    run_id: Option[str, InputT] | None = None,
    update_id: Option[str, InputT] | None = None,
) -> UpdateWorkflow[InputT, OutputT]:
    """An operation that is an update of a workflow, however long the update takes: it completes by callback.

    Args:
        operation: the operation of the contract.
        update: the workflow's update method, or its name; it takes the operation's input.
        id: the workflow's id, or a function of the input that finds it; without it, the id that the caller chose.
        run_id: which run of it; without it, the one that runs.
        update_id: the update's id; without it the call's request id, so that a call that is tried again is one update.

    An update that the workflow refuses is a failed operation; a workflow that is not there is NOT_FOUND. It cannot be
    cancelled, which callers are told.
    """
    return UpdateWorkflow(operation, update, {"id": id, "run_id": run_id, "update_id": update_id})


class _UpdateHandler(TemporalOperationHandler[Any, Any]):
    def __init__(self, contract: OperationContract, update: Any, options: Mapping[str, Any]) -> None:
        self._contract = contract
        self._update = update
        self._options = options

    async def start_operation(
        self, ctx: TemporalStartOperationContext, client: TemporalNexusClient, input: Any
    ) -> TemporalOperationResult[Any]:
        options = found(self._options, input)
        start: Any = cast("Any", client).start_workflow_update  # whose overloads leave a type open
        workflow_id = options.pop("id")
        options.setdefault("update_id", ctx.request_id or None)
        with calling(self._contract, f"workflow {workflow_id!r}"):
            return await start(
                workflow_id,
                self._update,
                *_argument(self._update, self._contract, input),
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                result_type=self._contract.output_type,
                **options,
            )

    async def cancel_workflow_update(
        self, ctx: TemporalCancelOperationContext, options: CancelUpdateWorkflowOptions
    ) -> None:
        raise HandlerError(
            f"{self._contract}: an update that a workflow has accepted cannot be cancelled",
            type=HandlerErrorType.NOT_IMPLEMENTED,
            stack_trace=NO_TRACE,
        )


def _signal_name(method: Any) -> str:
    """The name of a signal method, which the SDK takes only as text where a workflow is started with one."""
    definition = getattr(method, "__temporal_signal_definition", None)
    if definition is None or not definition.name:
        raise TypeError(f"{method.__qualname__} is no signal: put @workflow.signal above it, or give the signal's name")
    return str(definition.name)


def _argument(method: Any, contract: OperationContract, input: Any) -> list[RawValue]:
    """The operation's input as the argument of a method that takes it."""
    takes = isinstance(method, str) or len(inspect.signature(method).parameters) > 1
    return [RawValue(to_payload(contract.input_type, input))] if takes else []
