"""ExecuteMultiOperation by hand: an update of a workflow that is started for it."""

import asyncio
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage, WorkflowIdConflictPolicy
from temporalio.api.errordetails.v1 import MultiOperationExecutionFailure, WorkflowExecutionAlreadyStartedFailure
from temporalio.api.failure.v1 import MultiOperationExecutionAborted
from temporalio.api.update.v1 import Input, Meta, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import ExecuteMultiOperationRequest, UpdateWorkflowExecutionRequest

from tests.support.messages import acceptance, place_of, response
from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import complete_workflow, payloads, value_of

COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
USE_EXISTING = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
FAIL = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL


def both(
    orders: Namespace, workflow_id: str, queue: str, *, update: dict[str, Any] | None = None, **start: Any
) -> ExecuteMultiOperationRequest:
    operation = ExecuteMultiOperationRequest.Operation
    start.setdefault("workflow_id_conflict_policy", USE_EXISTING)
    asked: dict[str, Any] = {
        "namespace": orders.name,
        "workflow_execution": WorkflowExecution(workflow_id=workflow_id),
        "wait_policy": WaitPolicy(lifecycle_stage=COMPLETED),
        "request": Request(meta=Meta(update_id="one", identity=IDENTITY), input=Input(name="add", args=payloads(1))),
        **(update or {}),
    }
    return ExecuteMultiOperationRequest(
        namespace=orders.name,
        operations=[
            operation(start_workflow=orders.start_request(workflow_id, queue, **start)),
            operation(update_workflow=UpdateWorkflowExecutionRequest(**asked)),
        ],
    )


async def execute(orders: Namespace, request: ExecuteMultiOperationRequest) -> Any:
    return await orders.service.ExecuteMultiOperation(request)


async def play(orders: Namespace, queue: str, *, close: bool = False) -> None:
    """A worker accepts and completes the one update that comes."""
    task = await orders.poll_workflow_task(queue)
    (message,) = task.messages
    accepted, done = acceptance(message), response("one")
    last = [complete_workflow()] if close else []
    await orders.complete_workflow_task(task, place_of(accepted), place_of(done), *last, messages=[accepted, done])


async def test_a_workflow_is_started_and_updated_with_its_first_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request = both(orders, workflow_id, queue)
    asked = asyncio.create_task(execute(orders, request))
    await play(orders, queue)
    started, updated = (await asked).responses
    assert started.start_workflow.started
    assert started.start_workflow.run_id == updated.update_workflow.update_ref.workflow_execution.run_id
    assert value_of(updated.update_workflow.outcome.success.payloads[0]) == "done"
    again = await execute(orders, request)
    assert not again.responses[0].start_workflow.started
    assert again.responses[0].start_workflow.run_id == started.start_workflow.run_id
    assert value_of(again.responses[1].update_workflow.outcome.success.payloads[0]) == "done"


async def test_a_running_workflow_is_updated(orders: Namespace, workflow_id: str, queue: str) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    asked = asyncio.create_task(execute(orders, both(orders, workflow_id, queue)))
    await play(orders, queue)
    started, updated = (await asked).responses
    assert not started.start_workflow.started
    assert started.start_workflow.run_id == run_id
    assert updated.update_workflow.stage == COMPLETED


async def test_an_update_that_is_known_is_not_done_again_by_another_start(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    asked = asyncio.create_task(execute(orders, both(orders, workflow_id, queue)))
    await play(orders, queue, close=True)
    first = await asked
    again = await execute(orders, both(orders, workflow_id, queue))
    assert again.responses[0].start_workflow.run_id == first.responses[0].start_workflow.run_id
    assert value_of(again.responses[1].update_workflow.outcome.success.payloads[0]) == "done"


async def test_a_start_that_is_refused_says_so_for_each_operation(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(execute(orders, both(orders, workflow_id, queue, workflow_id_conflict_policy=FAIL)))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "Update-with-Start could not be executed.",
    )
    start, update = refused.detail(MultiOperationExecutionFailure).statuses
    assert start.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    assert start.details[0].Is(WorkflowExecutionAlreadyStartedFailure.DESCRIPTOR)
    assert update.code == grpc.StatusCode.ABORTED.value[0]
    assert update.message == "Operation was aborted."
    assert update.details[0].Is(MultiOperationExecutionAborted.DESCRIPTOR)


@pytest.mark.parametrize(
    ("start", "update", "which", "says"),
    [
        ({"cron_schedule": "* * * * *"}, {}, 0, "CronSchedule is not allowed."),
        ({"request_eager_execution": True}, {}, 0, "RequestEagerExecution is not supported."),
        ({}, {"first_execution_run_id": "x"}, 1, "FirstExecutionRunId is not allowed."),
        ({}, {"workflow_execution": WorkflowExecution(workflow_id="another")}, 1, "WorkflowId is not consistent"),
        ({}, {"namespace": "another"}, 1, "Operation namespace did not match request's namespace."),
        ({}, {"request": Request(meta=Meta(update_id="x"))}, 1, "Update input is not set on request."),
    ],
)
async def test_operations_that_cannot_be_are_refused(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    start: dict[str, Any],
    update: dict[str, Any],
    which: int,
    says: str,
) -> None:
    refused = await refusal(execute(orders, both(orders, workflow_id, queue, update=update, **start)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    statuses = refused.detail(MultiOperationExecutionFailure).statuses
    assert says in statuses[which].message
    assert statuses[1 - which].code == grpc.StatusCode.ABORTED.value[0]


async def test_other_operations_are_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    request = both(orders, workflow_id, queue)
    del request.operations[1]
    refused = await refusal(execute(orders, request))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Operations have to be exactly [Start, Update].",
    )
