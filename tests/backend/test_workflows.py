"""Starting, describing and closing workflows, task by task."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from temporalio.api.enums.v1 import (
    EventType,
    PendingWorkflowTaskState,
    RetryState,
    TaskQueueKind,
    WorkflowExecutionStatus,
    WorkflowIdReusePolicy,
)
from temporalio.api.errordetails.v1 import NotFoundFailure
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest

from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    payloads,
    result_of,
)


async def test_a_started_workflow_has_its_start_and_a_task_in_its_history(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue, workflow_type="Order", input=payloads({"book": 1}, 2))
    started, scheduled = await orders.history(workflow_id)
    attributes = started.workflow_execution_started_event_attributes
    assert (started.event_id, scheduled.event_id) == (1, 2)
    assert attributes.workflow_type.name == "Order"
    assert attributes.task_queue.name == queue
    assert attributes.input == payloads({"book": 1}, 2)
    assert attributes.identity == IDENTITY
    assert attributes.workflow_id == workflow_id
    assert attributes.attempt == 1
    assert {attributes.original_execution_run_id, attributes.first_execution_run_id} == {run_id}
    assert attributes.workflow_task_timeout.ToTimedelta() == timedelta(seconds=10)
    task = scheduled.workflow_task_scheduled_event_attributes
    assert (task.task_queue.name, task.attempt) == (queue, 1)
    assert task.task_queue.kind == TaskQueueKind.TASK_QUEUE_KIND_NORMAL
    assert task.start_to_close_timeout.ToTimedelta() == timedelta(seconds=10)


async def test_the_answer_to_a_start_tells_the_run_and_that_it_runs(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    answer = await orders.service.StartWorkflowExecution(orders.start_request(workflow_id, queue))
    assert answer.started
    assert answer.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    link = answer.link.workflow_event
    assert (link.namespace, link.workflow_id, link.run_id) == (orders.name, workflow_id, answer.run_id)
    assert link.event_ref.event_id == 1


async def test_a_workflow_task_brings_the_history_up_to_its_own_start(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    assert (task.workflow_execution.workflow_id, task.workflow_execution.run_id) == (workflow_id, run_id)
    assert task.workflow_type.name == "Order"
    assert (task.attempt, task.started_event_id, task.previous_started_event_id) == (1, 3, 0)
    assert event_names(task.history.events) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    assert task.workflow_execution_task_queue.name == queue
    started = task.history.events[2].workflow_task_started_event_attributes
    assert (started.scheduled_event_id, started.identity) == (2, IDENTITY)
    assert started.request_id
    assert started.history_size_bytes > 0


async def test_a_completed_workflow_has_its_result_in_its_last_event(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow({"receipt": 7}))
    history = await orders.history(workflow_id)
    assert event_names(history) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert [event.event_id for event in history] == [1, 2, 3, 4, 5]
    completed = history[3].workflow_task_completed_event_attributes
    assert (completed.scheduled_event_id, completed.started_event_id, completed.identity) == (2, 3, IDENTITY)
    assert result_of(history[4]) == {"receipt": 7}
    assert history[4].workflow_execution_completed_event_attributes.workflow_task_completed_event_id == 4


async def test_a_failed_workflow_keeps_the_whole_failure(orders: Namespace, workflow_id: str, queue: str) -> None:
    failure = application_failure(
        "card declined", failure_type="CardDeclined", details=payloads({"reason": "no money"})
    )
    failure.cause.CopyFrom(application_failure("no money"))
    failure.stack_trace = "here"
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, fail_workflow(failure))
    closed = await orders.close_event(workflow_id)
    attributes = closed.workflow_execution_failed_event_attributes
    assert attributes.failure == failure
    assert attributes.retry_state == RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET


async def test_events_are_in_order_of_time_and_of_now(orders: Namespace, workflow_id: str, queue: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    times = [event.event_time.ToDatetime(UTC) for event in await orders.history(workflow_id)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= datetime.now(UTC) + timedelta(seconds=1)


async def test_describing_a_running_workflow_shows_its_open_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    described = await orders.describe(workflow_id)
    info = described.workflow_execution_info
    assert (info.execution.workflow_id, info.execution.run_id) == (workflow_id, run_id)
    assert (info.type.name, info.task_queue) == ("Order", queue)
    assert info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    assert info.history_length == 2
    assert info.history_size_bytes > 0
    assert info.HasField("start_time")
    assert not info.HasField("close_time")
    assert described.execution_config.task_queue.name == queue
    assert described.execution_config.default_workflow_task_timeout.ToTimedelta() == timedelta(seconds=10)
    scheduled = described.pending_workflow_task
    assert scheduled.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED

    await orders.poll_workflow_task(queue)
    started = (await orders.describe(workflow_id)).pending_workflow_task
    assert started.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED
    assert started.attempt == 1
    assert started.HasField("started_time")


async def test_describing_a_closed_workflow_shows_when_and_how_it_closed(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    for described in (await orders.describe(workflow_id), await orders.describe(workflow_id, run_id)):
        info = described.workflow_execution_info
        assert info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
        assert info.close_time.ToDatetime() >= info.start_time.ToDatetime()
        assert info.history_length == 5
        assert not described.HasField("pending_workflow_task")


async def test_a_workflow_that_takes_longer_than_its_run_may_is_timed_out(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_run_timeout=duration(1))
    task = await orders.poll_workflow_task(queue)
    closed = await orders.close_event(workflow_id)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
    late = await refusal(orders.complete_workflow_task(task, complete_workflow()))
    assert late.code == grpc.StatusCode.NOT_FOUND
    info = (await orders.describe(workflow_id)).workflow_execution_info
    assert info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT
    assert (await orders.history(workflow_id))[-1] == closed


async def test_a_workflow_id_can_be_used_again_once_its_run_is_closed(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow("first"))
    second = await orders.start(workflow_id, queue)
    assert second != first
    assert len(await orders.history(workflow_id)) == 2
    assert len(await orders.history(workflow_id, first)) == 5
    info = (await orders.describe(workflow_id)).workflow_execution_info
    assert info.execution.run_id == second
    await orders.run_workflow_task(queue, complete_workflow("second"))
    assert result_of(await orders.close_event(workflow_id, first)) == "first"
    assert result_of(await orders.close_event(workflow_id, second)) == "second"
    assert result_of(await orders.close_event(workflow_id)) == "second"


@pytest.mark.parametrize("wanted", ["no-such-order", "\N{SNOWMAN}"])
async def test_a_workflow_that_was_never_started_is_not_found(orders: Namespace, wanted: str) -> None:
    for refused in await refusals(orders.describe(wanted), orders.history(wanted)):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert wanted in refused.message
        refused.detail(NotFoundFailure)


async def test_a_run_that_never_was_is_not_found(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    unknown = "00000000-0000-4000-8000-000000000000"
    for refused in await refusals(orders.describe(workflow_id, unknown), orders.history(workflow_id, unknown)):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert unknown in refused.message


async def test_a_run_id_that_is_none_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    wrong = "not-a-uuid"
    for refused in await refusals(orders.describe(workflow_id, wrong), orders.history(workflow_id, wrong)):
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert "RunId" in refused.message


async def test_describing_needs_an_execution(orders: Namespace) -> None:
    refused = await refusal(
        orders.service.DescribeWorkflowExecution(DescribeWorkflowExecutionRequest(namespace=orders.name))
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("is not set")


async def test_tasks_go_only_to_pollers_of_their_own_queue_and_namespace(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str], queue: str
) -> None:
    other_queue = asyncio.ensure_future(orders.poll_workflow_task(unique("other")))
    other_namespace = asyncio.ensure_future(payments.poll_workflow_task(queue))
    here = unique("order")
    await orders.start(here, queue)
    task = await orders.poll_workflow_task(queue)
    assert task.workflow_execution.workflow_id == here
    assert not other_queue.done()
    assert not other_namespace.done()
    for poll in (other_queue, other_namespace):
        poll.cancel()
    await asyncio.gather(other_queue, other_namespace, return_exceptions=True)


async def test_a_poll_that_waits_gets_the_task_of_a_workflow_started_later(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    poll = asyncio.ensure_future(orders.poll_workflow_task(queue))
    run_id = await orders.start(workflow_id, queue)
    assert (await poll).workflow_execution.run_id == run_id


async def test_each_task_goes_to_one_of_many_pollers(
    orders: Namespace, unique: Callable[[str], str], queue: str
) -> None:
    polls = [asyncio.ensure_future(orders.poll_workflow_task(queue)) for _ in range(20)]
    started = {await orders.start(unique("order"), queue) for _ in range(20)}
    tasks = await asyncio.gather(*polls)
    assert {task.workflow_execution.run_id for task in tasks} == started
    assert {task.attempt for task in tasks} == {1}
    await asyncio.gather(*(orders.complete_workflow_task(task, complete_workflow()) for task in tasks))


async def test_input_and_result_may_be_as_large_as_a_payload_may(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    large = "x" * (2 * 1024 * 1024 - 100)
    await orders.start(workflow_id, queue, input=payloads(large))
    task = await orders.poll_workflow_task(queue)
    assert task.history.events[0].workflow_execution_started_event_attributes.input == payloads(large)
    await orders.complete_workflow_task(task, complete_workflow(large))
    assert result_of(await orders.close_event(workflow_id)) == large


REJECTING = [
    WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
    WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
]


@pytest.mark.parametrize("policy", REJECTING, ids=WorkflowIdReusePolicy.Name)
async def test_a_reuse_policy_can_keep_a_completed_workflows_id(
    orders: Namespace, workflow_id: str, queue: str, policy: WorkflowIdReusePolicy.ValueType
) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    refused = await refusal(orders.start(workflow_id, queue, workflow_id_reuse_policy=policy))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert workflow_id in refused.message
    assert run_id in refused.message
