"""Nexus operations that their workflow wants to stop: what the handler is told, and what history says of it."""

import asyncio
from typing import Any

import pytest
from temporalio.api.common.v1 import Callback
from temporalio.api.enums.v1 import EventType, NexusOperationCancellationState, WorkflowTaskFailedCause
from temporalio.api.workflow.v1 import NexusOperationCancellationInfo
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse, PollWorkflowTaskQueueResponse

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    async_result,
    cancel_operation,
    cancel_workflow,
    complete_workflow,
    duration,
    event_names,
    result_of,
    schedule_operation,
    start_timer,
    sync_result,
)

COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED
FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED
KEY = 5
"""The scheduled event of a workflow whose first command is the operation."""


async def called(orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, **options: Any) -> None:
    """Starts a workflow that calls the endpoint."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, **options))


async def started(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, **options: Any
) -> PollNexusTaskQueueResponse:
    """Starts a workflow whose operation goes on, and answers with the task that started it."""
    await called(orders, workflow_id, queue, endpoint, **options)
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, async_result("a-token"))
    return task


async def cancelling(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, **options: Any
) -> PollNexusTaskQueueResponse:
    """Starts a workflow that cancels an operation which goes on; answers with the task that tells the handler."""
    await started(orders, payments, workflow_id, queue, endpoint, **options)
    await orders.run_workflow_task(queue, cancel_operation(KEY))
    return await payments.poll_nexus_task(endpoint.queue)


async def shown(orders: Namespace, workflow_id: str) -> NexusOperationCancellationInfo:
    """What describe tells of the cancellation."""
    (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
    assert pending.HasField("cancellation_info")
    return pending.cancellation_info


async def backing_off(orders: Namespace, workflow_id: str) -> NexusOperationCancellationInfo:
    """The same once an attempt has failed; what describe tells, the server announces to nobody."""
    async with asyncio.timeout(5):
        while True:
            info = await shown(orders, workflow_id)
            if info.state == state("BACKING_OFF"):
                return info


def state(name: str) -> int:
    """A state by its short name."""
    return NexusOperationCancellationState.Value(f"NEXUS_OPERATION_CANCELLATION_STATE_{name}")


async def finish(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


async def test_the_handler_of_an_operation_that_goes_on_is_told_by_its_token(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await cancelling(
        orders, payments, workflow_id, queue, endpoint, headers={"X-Trace": "7"}, operation="process"
    )
    asked = task.request.cancel_operation
    assert (asked.service, asked.operation, asked.operation_token) == ("Payments", "process", "a-token")
    assert task.request.endpoint == endpoint.name
    assert task.request.header["x-trace"] == "7"
    assert "request-timeout" in task.request.header
    info = await shown(orders, workflow_id)
    assert info.state == state("SCHEDULED")
    assert info.HasField("requested_time")
    await payments.answer_nexus_cancellation(task)
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[-5:] == [
        "WORKFLOW_TASK_COMPLETED",
        "NEXUS_OPERATION_CANCEL_REQUESTED",
        "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    requested, completed = woken.history.events[-4:-2]
    attributes = requested.nexus_operation_cancel_requested_event_attributes
    assert (attributes.scheduled_event_id, attributes.workflow_task_completed_event_id) == (
        KEY,
        requested.event_id - 1,
    )
    told = completed.nexus_operation_cancel_request_completed_event_attributes
    assert (told.scheduled_event_id, told.requested_event_id) == (KEY, requested.event_id)
    assert completed.worker_may_ignore
    info = await shown(orders, workflow_id)
    assert (info.state, info.attempt) == (state("SUCCEEDED"), 1)
    await finish(orders, woken)


async def test_a_cancellation_that_comes_before_the_start_is_known_is_sent_after_it(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await called(orders, workflow_id, queue, endpoint)
    task = await payments.poll_nexus_task(endpoint.queue)
    await orders.signal(workflow_id, "wake")
    await orders.run_workflow_task(queue, cancel_operation(KEY))
    assert (await shown(orders, workflow_id)).state == state("UNSPECIFIED")
    await payments.answer_nexus_task(task, async_result("late"))
    told = await payments.poll_nexus_task(endpoint.queue)
    assert told.request.cancel_operation.operation_token == "late"
    await payments.answer_nexus_cancellation(told)
    await orders.wait_for_event(workflow_id, COMPLETED)
    names = event_names(await orders.history(workflow_id))
    assert names.index("NEXUS_OPERATION_CANCEL_REQUESTED") < names.index("NEXUS_OPERATION_STARTED")
    await orders.terminate(workflow_id)


async def test_an_operation_cancelled_before_its_handler_was_asked_is_started_all_the_same(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await called(orders, workflow_id, queue, endpoint)
    await orders.signal(workflow_id, "wake")
    await orders.run_workflow_task(queue, cancel_operation(KEY))
    names = event_names(await orders.history(workflow_id))
    assert names[-1] == "NEXUS_OPERATION_CANCEL_REQUESTED"
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, sync_result("done anyway"))
    woken = await orders.poll_workflow_task(queue)
    assert result_of(woken.history.events[-3]) == "done anyway"
    await finish(orders, woken)


async def test_a_handler_that_cannot_be_told_now_is_told_again(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await cancelling(orders, payments, workflow_id, queue, endpoint)
    await payments.refuse_nexus_task(task, "UNAVAILABLE", "come back later")
    info = await backing_off(orders, workflow_id)
    assert info.attempt == 1
    assert info.last_attempt_failure.message == "come back later"
    assert info.last_attempt_failure.nexus_handler_failure_info.type == "UNAVAILABLE"
    wait = info.next_attempt_schedule_time.ToDatetime() - info.last_attempt_complete_time.ToDatetime()
    assert 0 < wait.total_seconds() <= 1.5
    again = await payments.poll_nexus_task(endpoint.queue)
    assert again.request.cancel_operation == task.request.cancel_operation
    await payments.answer_nexus_cancellation(again)
    await orders.wait_for_event(workflow_id, COMPLETED)
    await orders.terminate(workflow_id)


async def test_a_handler_that_will_not_hear_of_it_is_not_told_again_and_the_operation_goes_on(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await cancelling(orders, payments, workflow_id, queue, endpoint)
    await payments.refuse_nexus_task(task, "NOT_IMPLEMENTED", "cannot be cancelled")
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[-3]
    assert failed.event_type == FAILED
    attributes = failed.nexus_operation_cancel_request_failed_event_attributes
    assert (attributes.scheduled_event_id, attributes.requested_event_id) == (KEY, failed.event_id - 1)
    assert attributes.failure.message == "cannot be cancelled"
    assert attributes.failure.nexus_handler_failure_info.type == "NOT_IMPLEMENTED"
    assert failed.worker_may_ignore
    (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
    assert pending.operation_token == "a-token"
    info = pending.cancellation_info
    assert (info.state, info.attempt) == (state("FAILED"), 1)
    assert info.last_attempt_failure.message == "cannot be cancelled"
    await finish(orders, woken)


async def test_too_little_time_to_tell_the_handler_is_a_failed_request(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await started(orders, payments, workflow_id, queue, endpoint, start_to_close_timeout=duration(1))
    await orders.run_workflow_task(queue, cancel_operation(KEY))
    woken = await orders.poll_workflow_task(queue)
    failure = woken.history.events[-3].nexus_operation_cancel_request_failed_event_attributes.failure
    assert failure.message == "not enough time to execute another request before StartToClose timeout"
    assert failure.application_failure_info.type == "CallError"
    assert failure.application_failure_info.non_retryable
    await finish(orders, woken)


async def test_a_second_request_fails_the_workflow_task(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await cancelling(orders, payments, workflow_id, queue, endpoint)
    await payments.answer_nexus_cancellation(task)
    woken = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(woken, cancel_operation(KEY)))
    assert f"cancelation was already requested for an operation with scheduled event ID {KEY}" in refused.message
    last = (await orders.history(workflow_id))[-3:]
    (failed,) = (event.workflow_task_failed_event_attributes for event in last if "FAILED" in event_names([event])[0])
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_NEXUS_OPERATION_ATTRIBUTES
    assert failed.cause == cause
    await orders.terminate(workflow_id)


@pytest.mark.parametrize("which", ["none", "ended"])
async def test_what_is_not_pending_cannot_be_cancelled(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, which: str
) -> None:
    await called(orders, workflow_id, queue, endpoint)
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, sync_result(1))
    woken = await orders.poll_workflow_task(queue)
    scheduled_id = KEY if which == "ended" else 2
    refused = await refusal(orders.complete_workflow_task(woken, cancel_operation(scheduled_id)))
    assert "requested cancelation for a non-existing or already completed operation" in refused.message
    assert f"scheduled event ID of {scheduled_id}" in refused.message
    await orders.terminate(workflow_id)


async def test_an_operation_that_ends_while_its_workflow_asks_has_both_in_history(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await called(orders, workflow_id, queue, endpoint)
    task = await payments.poll_nexus_task(endpoint.queue)
    await orders.signal(workflow_id, "wake")
    working = await orders.poll_workflow_task(queue)
    await payments.answer_nexus_task(task, sync_result(1))
    async with asyncio.timeout(5):
        while (await orders.describe(workflow_id)).pending_nexus_operations:
            pass  # the server tells nobody of an event that waits
    await orders.complete_workflow_task(working, cancel_operation(KEY))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[-5:-2] == [
        "WORKFLOW_TASK_COMPLETED",
        "NEXUS_OPERATION_CANCEL_REQUESTED",
        "NEXUS_OPERATION_COMPLETED",
    ]
    await finish(orders, woken)


async def test_an_operation_whose_workflow_was_cancelled_is_cancelled(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    start = await started(orders, payments, workflow_id, queue, endpoint)
    callback = Callback(
        nexus=Callback.Nexus(
            url=start.request.start_operation.callback, header=start.request.start_operation.callback_header
        )
    )
    await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback])
    await orders.run_workflow_task(queue, cancel_operation(KEY))
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.request_cancel(workflow_id)
    await payments.answer_nexus_cancellation(task)
    await payments.run_workflow_task(endpoint.queue, cancel_workflow("enough"))
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED)
    events = await orders.history(workflow_id)
    ended = next(event for event in events if event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED)
    failure = ended.nexus_operation_canceled_event_attributes.failure
    assert failure.message == "nexus operation completed unsuccessfully"
    assert failure.cause.HasField("canceled_failure_info")
    assert not (await orders.describe(workflow_id)).pending_nexus_operations
    await orders.terminate(workflow_id)


async def test_a_caller_that_closes_tells_nobody(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await cancelling(orders, payments, workflow_id, queue, endpoint)
    await payments.refuse_nexus_task(task, "UNAVAILABLE", "come back later")
    await backing_off(orders, workflow_id)
    await orders.terminate(workflow_id)
    # The retry would come after a second; a call made by another workflow two seconds later comes first.
    other = f"{workflow_id}-other"
    await orders.start(other, queue)
    await orders.run_workflow_task(queue, start_timer("later", seconds=2))
    woken = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(woken, schedule_operation(endpoint.name, operation="another"))
    next_task = await payments.poll_nexus_task(endpoint.queue)
    assert next_task.request.start_operation.operation == "another"
    await payments.answer_nexus_task(next_task, sync_result(1))
    await orders.terminate(other)
