"""Activities that their workflow asks to stop."""

import grpc
from temporalio.api.enums.v1 import EventType, PendingActivityState, RetryState
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueResponse,
)

from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    application_failure,
    cancel_activity,
    complete_workflow,
    event_names,
    payloads,
    schedule_activity,
    start_timer,
)


async def finish(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


async def test_one_that_no_worker_has_is_cancelled_at_once(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    await orders.run_workflow_task(queue, cancel_activity(5))
    woken = await orders.poll_workflow_task(queue)
    asked, cancelled = woken.history.events[-4:-2]
    assert asked.activity_task_cancel_requested_event_attributes.scheduled_event_id == 5
    attributes = cancelled.activity_task_canceled_event_attributes
    assert attributes.details == payloads("ACTIVITY_ID_NOT_STARTED")
    assert (attributes.identity, attributes.latest_cancel_requested_event_id) == (IDENTITY, asked.event_id)
    assert (attributes.scheduled_event_id, attributes.started_event_id) == (5, 0)
    refused = await refusal(orders.complete_workflow_task(woken, cancel_activity(5)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "BadRequestCancelActivityAttributes" in refused.message


async def test_what_a_command_brings_at_once_comes_after_all_that_is_commanded(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(
        queue, schedule_activity("unwanted", queue), cancel_activity(5), schedule_activity("wanted", queue)
    )
    woken = await orders.poll_workflow_task(queue)
    # The worker counts the events that its commands make, and names the second activity by the place that it has so.
    assert event_names(woken.history.events)[4:8] == [
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_CANCELED",
    ]
    await orders.complete_workflow_task(woken, cancel_activity(7))
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_a_workflow_may_cancel_what_has_not_started_and_end(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("unwanted", queue), cancel_activity(5), complete_workflow())
    names = event_names(await orders.history(workflow_id))
    assert names[4:] == ["ACTIVITY_TASK_SCHEDULED", "ACTIVITY_TASK_CANCEL_REQUESTED", "WORKFLOW_EXECUTION_COMPLETED"]


async def test_an_activity_is_asked_to_stop_once(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    task = await orders.poll_activity_task(queue)
    await orders.run_workflow_task(queue, cancel_activity(5), start_timer("next", 0.01))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
    woken = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(woken, cancel_activity(5)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    # One that was asked to stop is not tried again.
    await orders.fail_activity(task, application_failure("as asked"))
    woken = await orders.poll_workflow_task(queue)
    failed = next(
        event for event in woken.history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
    )
    state = failed.activity_task_failed_event_attributes.retry_state
    assert state == RetryState.RETRY_STATE_CANCEL_REQUESTED
    await finish(orders, woken)


async def test_a_workflow_may_cancel_what_ended_while_it_did_not_look(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    task = await orders.poll_activity_task(queue)
    woken = await orders.poll_workflow_task(queue)
    await orders.complete_activity(task)
    await orders.complete_workflow_task(woken, cancel_activity(5))
    last = await orders.poll_workflow_task(queue)
    assert event_names(last.history.events)[-5:-2] == [
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
    ]
    await finish(orders, last)
