"""Workflows on a cron schedule: one run follows another until the workflow is ended."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from temporalio.api.enums.v1 import ContinueAsNewInitiator, RetryState
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes

from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    event_names,
    fail_workflow,
    payloads,
    retry_policy,
)

CRON = ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE
EVERY_SECOND = "@every 1s"


async def begun(orders: Namespace, workflow_id: str) -> WorkflowExecutionStartedEventAttributes:
    return (await orders.history(workflow_id))[0].workflow_execution_started_event_attributes


def due(started: HistoryEvent) -> datetime:
    """When the run is to begin to work."""
    pause = started.workflow_execution_started_event_attributes.first_workflow_task_backoff.ToTimedelta()
    return started.event_time.ToDatetime(UTC) + pause


@pytest.mark.parametrize(
    ("schedule", "fits"),
    [
        ("* * * * *", lambda at: at.second <= 1),
        ("30 * * * *", lambda at: (at.minute, at.second // 2) == (30, 0)),
        ("@hourly", lambda at: (at.minute, at.second // 2) == (0, 0)),
        ("0 12 * * *", lambda at: (at.hour, at.minute) == (12, 0)),
        ("CRON_TZ=Asia/Tokyo 0 12 * * *", lambda at: (at.hour, at.minute) == (3, 0)),
        ("TZ=Asia/Tokyo 0 12 * * *", lambda at: (at.hour, at.minute) == (3, 0)),
        ("0 0 1 */2 *", lambda at: (at.day, at.hour, at.month % 2) == (1, 0, 1)),
        ("0 0 * * MON", lambda at: at.weekday() == 0),
        ("0 0 * * 0", lambda at: at.weekday() == 6),
        ("0 0 */2 * TUE", lambda at: at.day % 2 == 1 or at.weekday() == 1),
        ("0 0 */1 * TUE", lambda at: at.weekday() == 1),
        ("+5,,5/30 * * * ?", lambda at: at.minute in (5, 35)),
        ("@every 1h30m", lambda at: True),
    ],
)
async def test_the_first_run_waits_for_its_moment(
    orders: Namespace, workflow_id: str, queue: str, schedule: str, fits: object
) -> None:
    await orders.start(workflow_id, queue, cron_schedule=schedule)
    history = await orders.history(workflow_id)
    assert event_names(history) == ["WORKFLOW_EXECUTION_STARTED"]
    attributes = history[0].workflow_execution_started_event_attributes
    assert attributes.cron_schedule == schedule
    assert attributes.initiator == CRON
    assert callable(fits)
    assert fits(due(history[0])), due(history[0])
    if schedule.startswith("@every"):
        waits = attributes.first_workflow_task_backoff.ToTimedelta()
        assert timedelta(0) <= timedelta(minutes=90) - waits <= timedelta(seconds=1)
    await orders.terminate(workflow_id)


async def test_a_run_follows_a_run_with_its_result(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND, input=payloads("in"))
    await orders.run_workflow_task(queue, complete_workflow(1))
    closed = (await orders.last_event(workflow_id, first)).workflow_execution_completed_event_attributes
    second = await begun(orders, workflow_id)
    assert second.original_execution_run_id == closed.new_execution_run_id
    assert second.last_completion_result == payloads(1)
    assert second.initiator == CRON
    assert (second.attempt, second.cron_schedule, second.input) == (1, EVERY_SECOND, payloads("in"))
    assert (second.first_execution_run_id, second.continued_execution_run_id) == (first, first)
    assert not second.HasField("continued_failure")
    assert timedelta(0) < second.first_workflow_task_backoff.ToTimedelta() <= timedelta(seconds=1)
    await orders.terminate(workflow_id)


async def test_a_failure_is_handed_on_and_the_last_result_with_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND)
    await orders.run_workflow_task(queue, complete_workflow(1))
    task = await orders.run_workflow_task(queue, fail_workflow())
    closed = await orders.last_event(workflow_id, task.workflow_execution.run_id)
    assert closed.workflow_execution_failed_event_attributes.retry_state == RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
    third = await begun(orders, workflow_id)
    assert third.last_completion_result == payloads(1)
    assert third.continued_failure == application_failure()
    assert third.initiator == CRON
    await orders.run_workflow_task(queue, complete_workflow(3))
    fourth = await begun(orders, workflow_id)
    assert fourth.last_completion_result == payloads(3)
    assert not fourth.HasField("continued_failure")
    await orders.terminate(workflow_id)


async def test_attempts_come_before_the_next_moment(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND, retry_policy=retry_policy(attempts=2))
    await orders.run_workflow_task(queue, fail_workflow())
    second = await begun(orders, workflow_id)
    assert second.attempt == 2
    assert second.initiator == ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY
    await orders.run_workflow_task(queue, fail_workflow())
    third = await begun(orders, workflow_id)
    assert (third.attempt, third.initiator) == (1, CRON)
    assert third.continued_failure == application_failure()
    await orders.terminate(workflow_id)


async def test_a_run_whose_time_is_over_is_followed_by_the_next(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND, workflow_run_timeout=duration(0.3))
    closed = await orders.last_event(workflow_id, first)
    timed_out = closed.workflow_execution_timed_out_event_attributes
    assert timed_out.retry_state == RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
    second = await begun(orders, workflow_id)
    assert second.original_execution_run_id == timed_out.new_execution_run_id
    assert second.initiator == CRON
    await orders.terminate(workflow_id)


async def test_the_workflows_time_ends_the_schedule(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND, workflow_execution_timeout=duration(1.5))
    closed = await orders.last_event(workflow_id, first)
    timed_out = closed.workflow_execution_timed_out_event_attributes
    assert (timed_out.retry_state, timed_out.new_execution_run_id) == (RetryState.RETRY_STATE_TIMEOUT, "")


async def test_moments_that_a_run_overlaps_are_left_out(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, cron_schedule="@every 2s")
    task = await orders.poll_workflow_task(queue)
    first_due = due(task.history.events[0])
    await orders.signal(workflow_id, "wake")
    await orders.complete_workflow_task(task)
    # The run is held up until its next moment has passed: by a timer that is as long as the schedule's pause.
    again = await orders.poll_workflow_task(queue)
    while datetime.now(UTC) < first_due + timedelta(seconds=2.2):
        await orders.describe(workflow_id)
    await orders.complete_workflow_task(again, complete_workflow())
    second = (await orders.history(workflow_id))[0]
    late = due(second) - first_due
    assert timedelta(seconds=3) <= late <= timedelta(seconds=5)
    await orders.terminate(workflow_id)


@pytest.mark.parametrize("how", ["cancelled", "terminated", "continued as new"])
async def test_the_schedule_ends_with_the_workflow(orders: Namespace, workflow_id: str, queue: str, how: str) -> None:
    run_id = await orders.start(workflow_id, queue, cron_schedule=EVERY_SECOND)
    if how == "terminated":
        await orders.terminate(workflow_id)
    else:
        await orders.run_workflow_task(queue, cancel_workflow() if how == "cancelled" else continue_as_new())
    if how == "continued as new":
        following = await begun(orders, workflow_id)
        assert following.cron_schedule == ""
        await orders.terminate(workflow_id)
    else:
        assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == run_id


async def test_a_cancel_request_cuts_the_pause_before_a_run_short(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, cron_schedule="0 0 1 1 *")
    await orders.request_cancel(workflow_id)
    await orders.run_workflow_task(queue, cancel_workflow())
    assert event_names(await orders.history(workflow_id))[-1] == "WORKFLOW_EXECUTION_CANCELED"


@pytest.mark.parametrize(
    "schedule",
    ["nonsense", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "@every", "@every x",
     "@sometimes", "CRON_TZ=Mars/Olympus * * * * *", "*/0 * * * *", "0 12 * * 7", "0 0 * * 0-7", "5-1 * * * *",
     "0 12 L * *", "0 12 1W * *", "0 0 * * 1#2", "@every 1h ", " @daily", "-5 * * * *", "1_0 * * * *"],
)  # fmt: skip
async def test_a_schedule_that_cannot_be_read_is_refused(
    orders: Namespace, workflow_id: str, queue: str, schedule: str
) -> None:
    refused = await refusal(orders.start(workflow_id, queue, cron_schedule=schedule))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith("invalid CronSchedule")


@pytest.mark.parametrize(
    "schedule",
    [
        "0-59/15 * * * *",
        "*/5 1,2,3 * JAN-MAR *",
        "0 0 ? * ?",
        "@midnight",
        "@annually",
        "@every 90m",
        "@every 0s",
        "0 0 31 * *",
    ],
)
async def test_a_schedule_in_any_of_its_forms_is_taken(
    orders: Namespace, workflow_id: str, queue: str, schedule: str
) -> None:
    await orders.start(workflow_id, queue, cron_schedule=schedule)
    await orders.terminate(workflow_id)


async def test_a_moment_that_never_comes_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    refused = await refusal(orders.start(workflow_id, queue, cron_schedule="0 0 31 2 *"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_schedule_and_a_delay_do_not_go_together(orders: Namespace, workflow_id: str, queue: str) -> None:
    refused = await refusal(
        orders.start(workflow_id, queue, cron_schedule="* * * * *", workflow_start_delay=duration(1))
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "CronSchedule and WorkflowStartDelay may not be used together."
