"""The same request sent twice is one request: its first answer comes again, and nothing happens twice."""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Callback
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    async_result,
    complete_workflow,
    event_names,
    fail_workflow,
    result_of,
    schedule_operation,
)


def callback_of(task: PollNexusTaskQueueResponse) -> Callback:
    """Where the handler of this task is asked to report the end of its operation."""
    start = task.request.start_operation
    return Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))


async def test_a_start_repeated_gives_the_same_run(orders: Namespace, workflow_id: str, queue: str) -> None:
    request_id = str(uuid4())
    first = await orders.service.StartWorkflowExecution(orders.start_request(workflow_id, queue, request_id=request_id))
    again = await orders.service.StartWorkflowExecution(orders.start_request(workflow_id, queue, request_id=request_id))
    assert again == first
    assert again.started
    assert len(await orders.history(workflow_id)) == 2


async def test_a_start_repeated_after_the_run_is_closed_gives_that_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request_id = str(uuid4())
    run_id = await orders.start(workflow_id, queue, request_id=request_id)
    await orders.run_workflow_task(queue, complete_workflow())
    again = await orders.service.StartWorkflowExecution(orders.start_request(workflow_id, queue, request_id=request_id))
    assert again.run_id == run_id
    assert again.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    assert len(await orders.history(workflow_id)) == 5


async def test_a_start_of_a_running_workflow_under_another_request_id_is_refused_and_names_the_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request_id = str(uuid4())
    run_id = await orders.start(workflow_id, queue, request_id=request_id)
    refused = await refusal(orders.start(workflow_id, queue))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert workflow_id in refused.message
    assert run_id in refused.message
    failure = refused.detail(WorkflowExecutionAlreadyStartedFailure)
    assert (failure.run_id, failure.start_request_id) == (run_id, request_id)


async def test_a_start_under_another_request_id_after_the_run_is_closed_is_a_new_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request_id = str(uuid4())
    first = await orders.start(workflow_id, queue, request_id=request_id)
    await orders.run_workflow_task(queue, fail_workflow())
    second = await orders.start(workflow_id, queue)
    assert second != first
    # The first request's answer is no longer that of the current run, so a real server calls it a new start.
    refused = await refusal(orders.start(workflow_id, queue, request_id=request_id))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert second in refused.message


async def test_starts_repeated_at_the_same_time_all_give_one_run(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    request_id = str(uuid4())
    runs = await asyncio.gather(*(orders.start(workflow_id, queue, request_id=request_id) for _ in range(20)))
    assert len(set(runs)) == 1
    assert len(await orders.history(workflow_id)) == 2


async def test_of_different_starts_at_the_same_time_one_wins(orders: Namespace, workflow_id: str, queue: str) -> None:
    answers = await asyncio.gather(*(orders.start(workflow_id, queue) for _ in range(20)), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, str)]
    lost = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert (len(won), len(lost)) == (1, 19)
    assert {error.code() for error in lost} == {grpc.StatusCode.ALREADY_EXISTS}
    assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == won[0]


async def test_one_request_id_for_two_workflow_ids_is_two_requests(
    orders: Namespace, unique: Callable[[str], str], queue: str
) -> None:
    request_id = str(uuid4())
    one = await orders.start(unique("one"), queue, request_id=request_id)
    two = await orders.start(unique("two"), queue, request_id=request_id)
    assert one != two


async def test_starts_without_a_request_id_are_all_different(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, request_id="")
    refused = await refusal(orders.start(workflow_id, queue, request_id=""))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS


async def test_a_nexus_request_that_is_tried_again_keeps_its_id_callback_and_links(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, headers={"x-trace": "7"}))
    first = await payments.poll_nexus_task(endpoint.queue)
    await payments.refuse_nexus_task(first, "UNAVAILABLE", "try again")
    second = await payments.poll_nexus_task(endpoint.queue)
    assert second.task_token != first.task_token
    asked, again = first.request.start_operation, second.request.start_operation
    assert (again.request_id, again.callback, again.payload) == (asked.request_id, asked.callback, asked.payload)
    assert list(again.links) == list(asked.links)
    assert second.request.header["x-trace"] == "7"
    scheduled = (await orders.history(workflow_id))[4].nexus_operation_scheduled_event_attributes
    assert asked.request_id == scheduled.request_id


async def test_a_handler_that_starts_its_workflow_again_for_the_same_request_gets_the_same_run(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name))
    lost = await payments.poll_nexus_task(endpoint.queue)
    request_id = lost.request.start_operation.request_id
    run = await payments.start(
        workflow_id, endpoint.queue, request_id=request_id, completion_callbacks=[callback_of(lost)]
    )
    await payments.refuse_nexus_task(lost, "INTERNAL", "the answer was lost")
    task = await payments.poll_nexus_task(endpoint.queue)
    again = await payments.start(
        workflow_id,
        endpoint.queue,
        request_id=task.request.start_operation.request_id,
        completion_callbacks=[callback_of(task)],
    )
    assert again == run
    assert len((await payments.describe(workflow_id)).callbacks) == 1
    await payments.answer_nexus_task(task, async_result("token"))
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await payments.run_workflow_task(endpoint.queue, complete_workflow("once"))
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    names = event_names(await orders.history(workflow_id))
    assert names.count("NEXUS_OPERATION_COMPLETED") == 1


@pytest.mark.parametrize("which", ["callback first", "answer first"])
async def test_an_operation_completes_once_whatever_comes_first(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, which: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name))
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)])
    if which == "answer first":
        await payments.answer_nexus_task(task, async_result("token"))
        await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    await payments.run_workflow_task(endpoint.queue, complete_workflow("done"))
    completed = await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    assert result_of(completed) == "done"
    if which == "callback first":
        await payments.answer_nexus_task(task, async_result("token"))
    woken = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(woken, complete_workflow())
    names = event_names(await orders.history(workflow_id))
    assert names.count("NEXUS_OPERATION_STARTED") == 1
    assert names.count("NEXUS_OPERATION_COMPLETED") == 1
    assert names.index("NEXUS_OPERATION_STARTED") < names.index("NEXUS_OPERATION_COMPLETED")
