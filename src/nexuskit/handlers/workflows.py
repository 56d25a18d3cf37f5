"""Operations that are runs of workflows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nexusrpc import InputT, OutputT
from temporalio.common import RawValue
from temporalio.nexus import TemporalOperationHandler

from nexuskit.contract.payloads import to_payload
from nexuskit.handlers.calls import calling
from nexuskit.handlers.options import Option, found, given

if TYPE_CHECKING:
    from datetime import timedelta

    from nexusrpc import Operation
    from temporalio.common import Priority, RetryPolicy, TypedSearchAttributes, WorkflowIDConflictPolicy
    from temporalio.common import WorkflowIDReusePolicy as ReusePolicy
    from temporalio.nexus import TemporalNexusClient, TemporalOperationResult, TemporalStartOperationContext

    from nexuskit.contract import OperationContract

W = TypeVar("W")


class RunWorkflow(Generic[InputT, OutputT]):
    """An operation that is a run of a workflow; see `run_workflow`."""

    def __init__(self, operation: Operation[InputT, OutputT], workflow: Any, options: Mapping[str, Any]) -> None:
        self.operation = operation
        self._workflow = workflow
        self._options = given(options)

    def build(self, contract: OperationContract) -> TemporalOperationHandler[InputT, OutputT]:
        """The handler that starts the workflow, and cancels it."""
        return _RunWorkflowHandler(contract, self._workflow, self._options)


def run_workflow(
    operation: Operation[InputT, OutputT],
    workflow: Callable[[W, InputT], Awaitable[OutputT]] | str,
    *,
    id: Option[str, InputT] | None = None,
    task_queue: Option[str, InputT] | None = None,
    execution_timeout: Option[timedelta, InputT] | None = None,
    run_timeout: Option[timedelta, InputT] | None = None,
    task_timeout: Option[timedelta, InputT] | None = None,
    id_reuse_policy: Option[ReusePolicy, InputT] | None = None,
    id_conflict_policy: Option[WorkflowIDConflictPolicy, InputT] | None = None,
    retry_policy: Option[RetryPolicy, InputT] | None = None,
    memo: Option[Mapping[str, Any], InputT] | None = None,
    search_attributes: Option[TypedSearchAttributes, InputT] | None = None,
    static_summary: Option[str, InputT] | None = None,
    static_details: Option[str, InputT] | None = None,
    start_delay: Option[timedelta, InputT] | None = None,
    priority: Option[Priority, InputT] | None = None,
) -> RunWorkflow[InputT, OutputT]:
    """An operation that is a run of a workflow: its result is the workflow's, and a cancel cancels the workflow.

    Args:
        operation: the operation of the contract.
        workflow: the workflow's run method, or its name.
        id: the workflow's id, or a function of the input; without it, the id that the caller chooses. One id for one
            piece of business: a second call of the same id is refused while the first runs, or attaches to it with
            `WorkflowIDConflictPolicy.USE_EXISTING`.
        task_queue: its task queue; without it, the one of the handler.

        execution_timeout: how long the workflow takes at most, with its retries and continuations.
        run_timeout: how long one run of it does.
        task_timeout: how long a worker has for one of its tasks.
        id_reuse_policy: whether the id of a closed workflow may be taken.
        id_conflict_policy: what happens while one of that id runs.
        retry_policy: whether it is tried again when it fails.
        memo: what is kept beside it.
        search_attributes: what it is found by.
        static_summary: what people see of it, in a line.
        static_details: and in more.
        start_delay: how long it waits before it begins.
        priority: its place among others.

    Each is a value, or a function of the input that finds it; they mean what they mean to the client of the SDK.
    """
    options = {name: value for name, value in locals().items() if name not in {"operation", "workflow"}}
    return RunWorkflow(operation, workflow, options)


class _RunWorkflowHandler(TemporalOperationHandler[Any, Any]):
    def __init__(self, contract: OperationContract, workflow: Any, options: Mapping[str, Any]) -> None:
        self._contract = contract
        self._workflow = workflow
        self._options = options

    async def start_operation(
        self, ctx: TemporalStartOperationContext, client: TemporalNexusClient, input: Any
    ) -> TemporalOperationResult[Any]:
        options = found(self._options, input)
        argument = RawValue(to_payload(self._contract.input_type, input))
        with calling(self._contract, f"workflow {options['id']!r}"):
            return await client.start_workflow(self._workflow, argument, **options)
