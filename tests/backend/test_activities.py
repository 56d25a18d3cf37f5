"""Activities: given out, completed, failed, tried again, timed out, kept alive by heartbeats."""

from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Payload, Payloads, Priority
from temporalio.api.enums.v1 import EventType, PendingActivityState, RetryState, TimeoutType
from temporalio.api.errordetails.v1 import NotFoundFailure
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
)

from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    cancelled_failure,
    complete_workflow,
    duration,
    event_names,
    payloads,
    result_of,
    retry_policy,
    schedule_activity,
    start_timer,
)

TOO_LARGE = Payloads(payloads=[Payload(data=b"x" * (2 * 1024 * 1024 + 1))])


async def heartbeat(
    orders: Namespace, task: PollActivityTaskQueueResponse, details: Payloads | None = None
) -> RecordActivityTaskHeartbeatResponse:
    return await orders.service.RecordActivityTaskHeartbeat(
        RecordActivityTaskHeartbeatRequest(
            namespace=orders.name, task_token=task.task_token, details=details, identity=IDENTITY
        )
    )


async def scheduled(orders: Namespace, workflow_id: str, queue: str, **options: Any) -> None:
    """Starts a workflow that schedules the activity `reserve`."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue, **options))


async def finish(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


async def test_an_activity_task_tells_all_that_its_worker_needs(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, input=payloads({"book": 1}), heartbeat_timeout=duration(7))
    task = await orders.poll_activity_task(queue)
    assert (task.activity_id, task.activity_type.name, task.attempt) == ("reserve", "reserve", 1)
    assert task.workflow_namespace == orders.name
    assert task.workflow_execution.workflow_id == workflow_id
    assert task.workflow_type.name == "Order"
    assert task.input == payloads({"book": 1})
    assert task.start_to_close_timeout.seconds == 30
    assert task.heartbeat_timeout.seconds == 7
    assert task.scheduled_time == task.current_attempt_scheduled_time
    assert task.started_time.ToDatetime() >= task.scheduled_time.ToDatetime()
    assert (task.retry_policy.initial_interval.seconds, task.retry_policy.backoff_coefficient) == (1, 2)
    assert (task.retry_policy.maximum_interval.seconds, task.retry_policy.maximum_attempts) == (100, 0)


async def test_a_completed_activity_wakes_the_workflow_with_its_result(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    assert event_names(await orders.history(workflow_id))[4:] == ["ACTIVITY_TASK_SCHEDULED"]
    task = await orders.poll_activity_task(queue)
    assert event_names(await orders.history(workflow_id))[4:] == ["ACTIVITY_TASK_SCHEDULED"]
    await orders.complete_activity(task, {"shelf": 3})
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:] == [
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    started = woken.history.events[5].activity_task_started_event_attributes
    assert (started.scheduled_event_id, started.attempt, started.identity) == (5, 1, IDENTITY)
    assert started.request_id
    completed = woken.history.events[6].activity_task_completed_event_attributes
    assert (completed.scheduled_event_id, completed.started_event_id) == (5, 6)
    assert result_of(woken.history.events[6]) == {"shelf": 3}
    await finish(orders, woken)


async def test_a_failed_activity_is_tried_again_until_its_attempts_are_used_up(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=3))
    for attempt in (1, 2, 3):
        task = await orders.poll_activity_task(queue)
        assert task.attempt == attempt
        await orders.fail_activity(task, application_failure(f"attempt {attempt}"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:7] == [
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_FAILED",
    ]
    started = woken.history.events[5].activity_task_started_event_attributes
    assert (started.attempt, started.last_failure.message) == (3, "attempt 2")
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure == application_failure("attempt 3")
    assert failed.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    await finish(orders, woken)


async def test_between_attempts_describe_shows_the_last_failure_and_the_next_time(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=5, first=3600))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    task = await orders.poll_activity_task(queue)
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    assert pending.last_worker_identity == IDENTITY
    await orders.fail_activity(task, application_failure("try later"))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    assert (pending.activity_id, pending.activity_type.name) == ("reserve", "reserve")
    assert (pending.attempt, pending.maximum_attempts) == (2, 5)
    assert pending.last_failure == application_failure("try later")
    wait = pending.next_attempt_schedule_time.ToDatetime() - pending.last_attempt_complete_time.ToDatetime()
    assert 3500 < wait.total_seconds() < 3700


async def test_an_activity_that_completes_at_a_later_attempt_shows_that_attempt(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy())
    first = await orders.poll_activity_task(queue)
    await orders.fail_activity(first, application_failure("try again"))
    second = await orders.poll_activity_task(queue)
    assert second.scheduled_time == first.scheduled_time
    assert second.current_attempt_scheduled_time.ToDatetime() > first.current_attempt_scheduled_time.ToDatetime()
    late = await refusal(orders.complete_activity(first, "of the first attempt"))
    assert late.code == grpc.StatusCode.NOT_FOUND
    await orders.complete_activity(second, "of the second attempt")
    woken = await orders.poll_workflow_task(queue)
    assert woken.history.events[5].activity_task_started_event_attributes.attempt == 2
    assert result_of(woken.history.events[6]) == "of the second attempt"
    await finish(orders, woken)


@pytest.mark.parametrize(
    ("failure", "policy"),
    [
        (application_failure(non_retryable=True), retry_policy(attempts=5)),
        (application_failure(failure_type="Fatal"), retry_policy(non_retryable_error_types=["Fatal"])),
    ],
    ids=["by the failure itself", "by the policy's list of types"],
)
async def test_a_failure_that_is_not_retryable_ends_the_activity(
    orders: Namespace, workflow_id: str, queue: str, failure: Any, policy: Any
) -> None:
    await scheduled(orders, workflow_id, queue, retry=policy)
    await orders.fail_activity(await orders.poll_activity_task(queue), failure)
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure == failure
    assert failed.retry_state == RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE
    await finish(orders, woken)


async def test_a_failure_can_say_when_the_next_attempt_comes(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(first=3600))
    first = await orders.poll_activity_task(queue)
    await orders.fail_activity(first, application_failure(next_retry_delay=duration(0.01)))
    second = await orders.poll_activity_task(queue)
    assert second.attempt == 2
    await orders.complete_activity(second)
    await finish(orders, await orders.poll_workflow_task(queue))


@pytest.mark.parametrize(
    ("options", "started", "timeout_type"),
    [
        ({"start_to_close": 1, "retry": retry_policy(attempts=1)}, True, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE),
        (
            {"heartbeat_timeout": duration(1), "retry": retry_policy(attempts=1)},
            True,
            TimeoutType.TIMEOUT_TYPE_HEARTBEAT,
        ),
        ({"schedule_to_start_timeout": duration(1)}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        ({"schedule_to_close_timeout": duration(1)}, False, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
        ({"schedule_to_close_timeout": duration(1)}, True, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
    ],
    ids=[
        "start to close",
        "heartbeat",
        "schedule to start",
        "schedule to close, not started",
        "schedule to close, started",
    ],
)
async def test_an_activity_that_takes_too_long_is_timed_out(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    options: dict[str, Any],
    started: bool,
    timeout_type: TimeoutType.ValueType,
) -> None:
    await scheduled(orders, workflow_id, queue, **options)
    task = await orders.poll_activity_task(queue) if started else None
    woken = await orders.poll_workflow_task(queue)
    over = woken.history.events[-3]
    assert over.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
    attributes = over.activity_task_timed_out_event_attributes
    assert attributes.failure.timeout_failure_info.timeout_type == timeout_type
    assert attributes.scheduled_event_id == 5
    if task:
        late = await refusal(orders.complete_activity(task, "late"))
        assert late.code == grpc.StatusCode.NOT_FOUND
    await finish(orders, woken)


async def test_an_attempt_that_times_out_is_followed_by_another(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, start_to_close=1, retry=retry_policy(attempts=2))
    lost = await orders.poll_activity_task(queue)
    task = await orders.poll_activity_task(queue)
    assert task.attempt == 2
    assert (await refusal(orders.complete_activity(lost))).code == grpc.StatusCode.NOT_FOUND
    await orders.complete_activity(task)
    woken = await orders.poll_workflow_task(queue)
    started = woken.history.events[5].activity_task_started_event_attributes
    assert started.last_failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    await finish(orders, woken)


async def test_heartbeats_keep_an_activity_alive_and_their_details_reach_the_next_attempt(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(
        orders, workflow_id, queue, heartbeat_timeout=duration(2), start_to_close=60, retry=retry_policy(attempts=2)
    )
    await orders.start(workflow_id + "-clock", queue + "-clock")
    task = await orders.poll_activity_task(queue)
    for beat in range(3):
        answer = await heartbeat(orders, task, payloads({"beat": beat}))
        assert not answer.cancel_requested
        await orders.run_workflow_task(queue + "-clock", start_timer(f"{beat}", 1))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.heartbeat_details == payloads({"beat": 2})
    assert pending.HasField("last_heartbeat_time")
    await orders.fail_activity(task, application_failure())
    again = await orders.poll_activity_task(queue)
    assert again.attempt == 2
    assert again.heartbeat_details == payloads({"beat": 2})
    await orders.complete_activity(again)
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_a_heartbeat_timeout_keeps_the_last_details(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, heartbeat_timeout=duration(1), retry=retry_policy(attempts=1))
    task = await orders.poll_activity_task(queue)
    await heartbeat(orders, task, payloads({"page": 4}))
    woken = await orders.poll_workflow_task(queue)
    info = woken.history.events[6].activity_task_timed_out_event_attributes.failure.timeout_failure_info
    assert info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT
    assert info.last_heartbeat_details == payloads({"page": 4})
    assert (await refusal(heartbeat(orders, task))).code == grpc.StatusCode.NOT_FOUND
    await finish(orders, woken)


async def test_when_the_whole_times_out_the_failure_before_is_its_cause(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, schedule_to_close_timeout=duration(2), retry=retry_policy(attempts=9))
    first = await orders.poll_activity_task(queue)
    await heartbeat(orders, first, payloads("half"))
    await orders.fail_activity(first, application_failure("at first"))
    await orders.poll_activity_task(queue)
    woken = await orders.poll_workflow_task(queue)
    over = woken.history.events[6].activity_task_timed_out_event_attributes
    assert over.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert over.failure.message == (
        "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying"
    )
    assert over.failure.source == "Server"
    assert over.failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
    assert over.failure.timeout_failure_info.last_heartbeat_details == payloads("half")
    assert over.failure.cause == application_failure("at first")
    await finish(orders, woken)


async def test_an_attempt_that_times_out_with_no_time_for_another_is_a_timeout_of_the_whole(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    options = {"start_to_close": 1, "schedule_to_close_timeout": duration(3), "retry": retry_policy(first=60)}
    await scheduled(orders, workflow_id, queue, **options)
    await orders.poll_activity_task(queue)
    woken = await orders.poll_workflow_task(queue)
    over = woken.history.events[6].activity_task_timed_out_event_attributes
    assert over.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert over.failure.message.startswith("Not enough time to schedule next retry")
    assert over.failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
    assert not over.failure.HasField("cause")
    await finish(orders, woken)


async def test_a_failure_with_no_time_for_another_attempt_is_final(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, schedule_to_close_timeout=duration(30), retry=retry_policy(first=60))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure("once"))
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.retry_state == RetryState.RETRY_STATE_TIMEOUT
    assert failed.failure == application_failure("once")
    await finish(orders, woken)


async def test_a_timeout_that_the_policy_names_is_not_retried(orders: Namespace, workflow_id: str, queue: str) -> None:
    policy = retry_policy(non_retryable_error_types=["TemporalTimeout:StartToClose"])
    await scheduled(orders, workflow_id, queue, start_to_close=1, retry=policy)
    await orders.poll_activity_task(queue)
    woken = await orders.poll_workflow_task(queue)
    over = woken.history.events[6].activity_task_timed_out_event_attributes
    assert over.retry_state == RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE
    assert over.failure.message == "activity StartToClose timeout"
    await finish(orders, woken)


async def test_a_heartbeat_without_details_forgets_those_before(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy())
    task = await orders.poll_activity_task(queue)
    await heartbeat(orders, task, payloads("half"))
    await heartbeat(orders, task)
    await orders.fail_activity(task, application_failure())
    again = await orders.poll_activity_task(queue)
    assert not again.HasField("heartbeat_details")
    await orders.complete_activity(again)
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_a_failure_says_how_far_the_attempt_had_come(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy())
    task = await orders.poll_activity_task(queue)
    answer = await orders.service.RespondActivityTaskFailed(
        RespondActivityTaskFailedRequest(
            namespace=orders.name,
            task_token=task.task_token,
            failure=application_failure(),
            last_heartbeat_details=payloads("half"),
        )
    )
    assert not answer.failures
    again = await orders.poll_activity_task(queue)
    assert again.heartbeat_details == payloads("half")
    answer = await orders.service.RespondActivityTaskFailed(
        RespondActivityTaskFailedRequest(
            namespace=orders.name,
            task_token=again.task_token,
            failure=application_failure("y" * (2 * 1024 * 1024 + 1), non_retryable=True),
            last_heartbeat_details=payloads("more"),
        )
    )
    (said,) = answer.failures
    assert said.message == "Failure exceeds size limit."
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure == said
    assert failed.failure.cause.message.startswith("yyy")
    await finish(orders, woken)


async def test_a_failure_that_no_code_raised_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue)
    task = await orders.poll_activity_task(queue)
    refused = await refusal(orders.fail_activity(task, cancelled_failure()))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Failure must have ApplicationFailureInfo.",
    )
    await orders.complete_activity(task)
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_a_long_failure_is_cut_while_it_is_kept(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=2))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure("x" * 3_900))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.last_failure.message == "x" * 3_900
    again = await orders.poll_activity_task(queue)
    await orders.fail_activity(again, application_failure("y" * 5_000))
    woken = await orders.poll_workflow_task(queue)
    assert woken.history.events[6].activity_task_failed_event_attributes.failure == application_failure("y" * 5_000)
    await orders.complete_workflow_task(
        woken, schedule_activity("again", queue, retry=retry_policy(attempts=2, first=3600))
    )
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure("z" * 5_000))
    kept = (await orders.describe(workflow_id)).pending_activities[0].last_failure
    assert kept.message == "Failure exceeds size limit."
    assert kept.cause.message.startswith("zzz")
    assert kept.ByteSize() < 4_300


async def test_a_task_carries_the_priority_of_its_activity_and_else_of_its_workflow(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, priority=Priority(priority_key=2, fairness_key="books"))
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue, priority=Priority(priority_key=4)))
    pending = (await orders.describe(workflow_id)).pending_activities[0]
    assert pending.priority == Priority(priority_key=4)
    task = await orders.poll_activity_task(queue)
    assert task.priority == Priority(priority_key=4, fairness_key="books")


@pytest.mark.parametrize("first", ["completed", "failed"])
async def test_an_activity_can_be_answered_once_only(
    orders: Namespace, workflow_id: str, queue: str, first: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=1))
    task = await orders.poll_activity_task(queue)
    await (
        orders.complete_activity(task) if first == "completed" else orders.fail_activity(task, application_failure())
    )
    history = await orders.history(workflow_id)
    again = await refusals(
        orders.complete_activity(task), orders.fail_activity(task, application_failure()), heartbeat(orders, task)
    )
    for refused in again:
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "activity" in refused.message.lower()
        refused.detail(NotFoundFailure)
    assert await orders.history(workflow_id) == history
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_an_activity_of_a_closed_workflow_is_not_found(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue), start_timer("short", 0.01))
    task = await orders.poll_activity_task(queue)
    await orders.run_workflow_task(queue, complete_workflow())
    closed = await orders.history(workflow_id)
    for refused in await refusals(orders.complete_activity(task), heartbeat(orders, task)):
        assert refused.code == grpc.StatusCode.NOT_FOUND
    assert await orders.history(workflow_id) == closed


async def test_an_activity_that_was_not_started_before_its_workflow_closed_is_not_given_out(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("too-late", queue), complete_workflow())
    await scheduled(orders, workflow_id + "-next", queue)
    task = await orders.poll_activity_task(queue)
    assert task.workflow_execution.workflow_id == workflow_id + "-next"


async def test_an_activity_goes_to_the_queue_that_its_command_names(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(
        queue, schedule_activity("here", queue), schedule_activity("there", queue + "-other")
    )
    assert (await orders.poll_activity_task(queue)).activity_id == "here"
    assert (await orders.poll_activity_task(queue + "-other")).activity_id == "there"


async def test_a_worker_that_asks_gets_an_activity_with_the_answer_to_its_workflow_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    answer = await orders.complete_workflow_task(
        task,
        schedule_activity("eager", queue, request_eager_execution=True, input=payloads(7)),
        schedule_activity("polled", queue),
    )
    (eager,) = answer.activity_tasks
    assert (eager.activity_id, eager.attempt, eager.input) == ("eager", 1, payloads(7))
    assert (await orders.poll_activity_task(queue)).activity_id == "polled"
    await orders.complete_activity(eager, "at once")
    woken = await orders.poll_workflow_task(queue)
    completed = [e for e in woken.history.events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED]
    assert [result_of(event) for event in completed] == ["at once"]
    await finish(orders, woken)


async def test_a_result_that_is_too_large_fails_the_activity(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue)
    task = await orders.poll_activity_task(queue)
    await orders.service.RespondActivityTaskCompleted(
        RespondActivityTaskCompletedRequest(namespace=orders.name, task_token=task.task_token, result=TOO_LARGE)
    )
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure.server_failure_info.non_retryable
    assert "result" in failed.failure.message.lower()
    await finish(orders, woken)


async def test_a_failure_that_is_too_large_is_cut(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=1))
    task = await orders.poll_activity_task(queue)
    await orders.fail_activity(task, application_failure("x" * 3_000_000))
    woken = await orders.poll_workflow_task(queue)
    failure = woken.history.events[6].activity_task_failed_event_attributes.failure
    assert "size limit" in failure.message
    assert failure.ByteSize() < 2 * 1024 * 1024
    await finish(orders, woken)


async def test_heartbeat_details_that_are_too_large_fail_the_activity(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, heartbeat_timeout=duration(5))
    task = await orders.poll_activity_task(queue)
    assert (await heartbeat(orders, task, TOO_LARGE)).cancel_requested
    woken = await orders.poll_workflow_task(queue)
    failed = woken.history.events[6].activity_task_failed_event_attributes
    assert failed.failure.server_failure_info.non_retryable
    assert "heartbeat" in failed.failure.message.lower()
    await finish(orders, woken)
