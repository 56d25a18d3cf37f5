"""Activities that stand alone: an activity id, a task queue, and no workflow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import ActivityType, Callback, Header, Link, Payload, Payloads, Priority
from temporalio.api.enums.v1 import (
    ActivityExecutionStatus,
    ActivityIdConflictPolicy,
    ActivityIdReusePolicy,
    CallbackState,
    PendingActivityState,
    RetryState,
    TimeoutType,
)
from temporalio.api.errordetails.v1 import ActivityExecutionAlreadyStartedFailure
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest,
    DescribeActivityExecutionRequest,
    DescribeActivityExecutionResponse,
    PauseActivityExecutionRequest,
    PollActivityExecutionRequest,
    PollActivityExecutionResponse,
    RecordActivityTaskHeartbeatRequest,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedByIdRequest,
)

from tests.backend.conftest import Endpoint
from tests.support.alone import Alone
from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    async_result,
    complete_workflow,
    duration,
    payload,
    payloads,
    result_of,
    retry_policy,
    schedule_operation,
)

Status = ActivityExecutionStatus
State = PendingActivityState
REJECT = ActivityIdReusePolicy.ACTIVITY_ID_REUSE_POLICY_REJECT_DUPLICATE
FAILED_ONLY = ActivityIdReusePolicy.ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
USE_EXISTING = ActivityIdConflictPolicy.ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING


@pytest.fixture
def alone(orders: Namespace, unique: Callable[[str], str], queue: str) -> Alone:
    return Alone(orders, unique("activity"), queue)


async def test_an_activity_is_started_taken_completed_and_waited_for(alone: Alone) -> None:
    answer = await alone.start(input=payloads({"book": 1}), header=Header(fields={"trace": payload("1")}))
    assert answer.started
    assert answer.link.activity == Link.Activity(namespace="orders", activity_id=alone.id, run_id=answer.run_id)
    task = await alone.at.poll_activity_task(alone.queue)
    assert (task.activity_id, task.activity_type.name, task.attempt) == (alone.id, "reserve", 1)
    assert (task.activity_run_id, task.workflow_namespace) == (answer.run_id, "orders")
    assert (task.workflow_execution.workflow_id, task.workflow_type.name) == ("", "")
    assert (task.input, task.header.fields["trace"]) == (payloads({"book": 1}), payload("1"))
    assert task.start_to_close_timeout.seconds == 30
    await alone.at.complete_activity(task, {"shelf": 3})
    polled = await alone.poll()
    assert (polled.run_id, polled.outcome.result) == (answer.run_id, payloads({"shelf": 3}))
    assert (await alone.poll(run_id=answer.run_id)).outcome == polled.outcome
    again = await refusal(alone.at.complete_activity(task))
    assert again.code == grpc.StatusCode.NOT_FOUND


async def test_describe_tells_everything(alone: Alone) -> None:
    await alone.start(
        input=payloads(1),
        schedule_to_close_timeout=duration(90),
        heartbeat_timeout=duration(9),
        retry_policy=retry_policy(attempts=3, first=3600),
        priority=Priority(priority_key=2),
        user_metadata=UserMetadata(summary=payload("a summary")),
        header=Header(fields={"trace": payload("1")}),
        links=[Link(workflow_event=Link.WorkflowEvent(namespace="n", workflow_id="w", run_id="r"))],
    )
    described = await alone.describe()
    info = described.info
    assert (described.run_id, info.run_id, info.activity_id) == (alone.run_id, alone.run_id, alone.id)
    assert (info.status, info.run_state) == (
        Status.ACTIVITY_EXECUTION_STATUS_RUNNING,
        State.PENDING_ACTIVITY_STATE_SCHEDULED,
    )
    assert (info.activity_type.name, info.task_queue, info.attempt) == ("reserve", alone.queue, 1)
    assert (info.schedule_to_close_timeout.seconds, info.schedule_to_start_timeout.seconds) == (90, 90)
    assert (info.start_to_close_timeout.seconds, info.heartbeat_timeout.seconds) == (30, 9)
    assert (info.retry_policy.maximum_attempts, info.priority.priority_key) == (3, 2)
    assert info.user_metadata.summary == payload("a summary")
    assert info.header.fields["trace"] == payload("1")
    assert [link.workflow_event.workflow_id for link in info.links] == ["w"]
    assert info.execution_time == info.schedule_time
    assert (info.expiration_time.ToDatetime() - info.schedule_time.ToDatetime()).total_seconds() == 90
    assert not info.HasField("last_started_time")
    assert not info.HasField("close_time")
    assert not described.HasField("input")
    task = await alone.at.poll_activity_task(alone.queue)
    await alone.at.service.RecordActivityTaskHeartbeat(
        RecordActivityTaskHeartbeatRequest(namespace="orders", task_token=task.task_token, details=payloads("half"))
    )
    described = await alone.describe(include_input=True, include_heartbeat_details=True)
    assert described.input == payloads(1)
    assert described.info.run_state == State.PENDING_ACTIVITY_STATE_STARTED
    assert (described.info.heartbeat_details, described.info.total_heartbeat_count) == (payloads("half"), 1)
    assert (described.info.last_worker_identity, described.info.HasField("last_started_time")) == (IDENTITY, True)
    assert described.info.state_transition_count > info.state_transition_count
    await alone.at.fail_activity(task, application_failure("try later", next_retry_delay=duration(60)))
    info = (await alone.describe(include_last_failure=True)).info
    assert (info.run_state, info.attempt) == (State.PENDING_ACTIVITY_STATE_SCHEDULED, 2)
    assert info.last_failure.message == "try later"
    assert info.current_retry_interval.seconds == 60
    wait = info.next_attempt_schedule_time.ToDatetime() - info.last_attempt_complete_time.ToDatetime()
    assert wait.total_seconds() == pytest.approx(60, abs=0.01)
    assert not (await alone.describe()).info.HasField("last_failure")
    await alone.terminate()
    closed = await alone.describe(include_outcome=True)
    assert closed.info.status == Status.ACTIVITY_EXECUTION_STATUS_TERMINATED
    assert closed.info.run_state == State.PENDING_ACTIVITY_STATE_UNSPECIFIED
    assert closed.info.HasField("close_time")
    assert closed.info.HasField("execution_duration")
    assert closed.outcome.failure.terminated_failure_info.identity == "boss"


async def test_describe_waits_for_a_change(alone: Alone) -> None:
    await alone.start()
    first = await alone.describe()
    task = await alone.at.poll_activity_task(alone.queue)
    second = await alone.describe(long_poll_token=first.long_poll_token)
    assert second.info.run_state == State.PENDING_ACTIVITY_STATE_STARTED
    await alone.at.complete_activity(task)
    third = await alone.describe(long_poll_token=second.long_poll_token, include_outcome=True)
    assert third.info.status == Status.ACTIVITY_EXECUTION_STATUS_COMPLETED
    assert third.outcome.HasField("result")
    unnamed = await refusal(alone.describe(run_id="", long_poll_token=first.long_poll_token))
    assert (unnamed.code, unnamed.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "run id is required when long poll token is provided",
    )
    wrong = await refusal(alone.describe(long_poll_token=b"\xff\xff"))
    assert (wrong.code, wrong.message) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid long poll token")


async def test_nobody_waits_longer_than_a_client_does(alone: Alone) -> None:
    await alone.start()
    described = await alone.describe()
    waited = await alone.at.service.DescribeActivityExecution(
        DescribeActivityExecutionRequest(
            namespace="orders",
            activity_id=alone.id,
            run_id=alone.run_id,
            long_poll_token=described.long_poll_token,
        ),
        timeout=4,
    )
    assert waited == DescribeActivityExecutionResponse()
    polled = await alone.at.service.PollActivityExecution(
        PollActivityExecutionRequest(namespace="orders", activity_id=alone.id), timeout=4
    )
    assert polled == PollActivityExecutionResponse()


async def test_a_failed_attempt_is_followed_by_others_until_they_are_used_up(alone: Alone) -> None:
    await alone.start(retry_policy=retry_policy(attempts=2))
    await alone.at.fail_activity(await alone.at.poll_activity_task(alone.queue), application_failure("first"))
    second = await alone.at.poll_activity_task(alone.queue)
    assert second.attempt == 2
    await alone.at.fail_activity(second, application_failure("second"))
    outcome = await alone.outcome()
    assert outcome.failure == application_failure("second")
    assert outcome.retry_state == RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
    info = (await alone.describe()).info
    assert (info.status, info.attempt) == (Status.ACTIVITY_EXECUTION_STATUS_FAILED, 2)


@pytest.mark.parametrize(
    ("options", "taken", "message", "kind", "retry_state"),
    [
        (
            {"start_to_close_timeout": duration(1), "retry_policy": retry_policy(attempts=1)},
            True,
            "activity StartToClose timeout",
            TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE,
            RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED,
        ),
        (
            {"heartbeat_timeout": duration(1), "retry_policy": retry_policy(attempts=1)},
            True,
            "activity Heartbeat timeout",
            TimeoutType.TIMEOUT_TYPE_HEARTBEAT,
            RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED,
        ),
        (
            {"schedule_to_start_timeout": duration(1)},
            False,
            "activity ScheduleToStart timeout",
            TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START,
            RetryState.RETRY_STATE_TIMEOUT,
        ),
        (
            {"schedule_to_close_timeout": duration(1), "start_to_close_timeout": None},
            True,
            None,
            TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE,
            RetryState.RETRY_STATE_TIMEOUT,
        ),
        (
            {
                "start_to_close_timeout": duration(1),
                "schedule_to_close_timeout": duration(4),
                "retry_policy": retry_policy(first=60),
            },
            True,
            "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying",
            TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE,
            RetryState.RETRY_STATE_TIMEOUT,
        ),
    ],
    ids=["start to close", "heartbeat", "schedule to start", "schedule to close", "no time for a retry"],
)
async def test_an_activity_that_takes_too_long_is_timed_out(
    alone: Alone,
    options: dict[str, Any],
    taken: bool,
    message: str | None,
    kind: TimeoutType.ValueType,
    retry_state: RetryState.ValueType,
) -> None:
    await alone.start(**options)
    if taken:
        await alone.at.poll_activity_task(alone.queue)
    outcome = await alone.outcome()
    assert outcome.failure.timeout_failure_info.timeout_type == kind
    assert message is None or outcome.failure.message == message
    assert outcome.retry_state == retry_state
    assert (await alone.describe()).info.status == Status.ACTIVITY_EXECUTION_STATUS_TIMED_OUT


async def test_a_delayed_activity_is_given_out_later(alone: Alone) -> None:
    await alone.start(start_delay=duration(1), schedule_to_close_timeout=duration(30))
    info = (await alone.describe()).info
    assert info.start_delay.seconds == 1
    assert (info.execution_time.ToDatetime() - info.schedule_time.ToDatetime()).total_seconds() == 1
    assert (info.expiration_time.ToDatetime() - info.schedule_time.ToDatetime()).total_seconds() == 31
    assert info.next_attempt_schedule_time == info.execution_time
    task = await alone.at.poll_activity_task(alone.queue)
    assert (task.started_time.ToDatetime() - task.scheduled_time.ToDatetime()).total_seconds() >= 1
    await alone.at.complete_activity(task)


async def test_the_same_request_gets_the_same_activity(alone: Alone) -> None:
    first = await alone.start(request_id="one")
    again = await alone.start(request_id="one")
    assert again.run_id == first.run_id
    taken = await refusal(alone.start(request_id="two"))
    assert taken.code == grpc.StatusCode.ALREADY_EXISTS
    assert taken.message == "activity execution already started"
    detail = taken.detail(ActivityExecutionAlreadyStartedFailure)
    assert (detail.start_request_id, detail.run_id) == ("one", first.run_id)


async def test_an_open_activity_may_be_used_by_another_start(alone: Alone) -> None:
    first = await alone.start(request_id="one")
    link = Link(workflow_event=Link.WorkflowEvent(namespace="n", workflow_id="w", run_id="r"))
    used = await alone.start(
        request_id="two",
        id_conflict_policy=USE_EXISTING,
        links=[link],
        on_conflict_options={"attach_request_id": True, "attach_links": True},
    )
    assert (used.run_id, used.started) == (first.run_id, False)
    assert list((await alone.describe()).info.links) == [link]


@pytest.mark.parametrize(
    ("policy", "ended", "allowed"),
    [
        (0, "completed", True),
        (REJECT, "failed", False),
        (FAILED_ONLY, "completed", False),
        (FAILED_ONLY, "failed", True),
    ],
)
async def test_an_id_may_be_used_again_as_the_policy_says(
    alone: Alone, policy: ActivityIdReusePolicy.ValueType, ended: str, allowed: bool
) -> None:
    first = await alone.start()
    task = await alone.at.poll_activity_task(alone.queue)
    if ended == "completed":
        await alone.at.complete_activity(task)
    else:
        await alone.at.fail_activity(task, application_failure(non_retryable=True))
    if allowed:
        second = await alone.start(id_reuse_policy=policy)
        assert second.run_id != first.run_id
        assert (await alone.describe(run_id="")).info.run_id == second.run_id
        assert (await alone.describe(run_id=first.run_id)).info.run_id == first.run_id
    else:
        refused = await refusal(alone.start(id_reuse_policy=policy))
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
        assert refused.detail(ActivityExecutionAlreadyStartedFailure).run_id == first.run_id


async def test_one_that_no_worker_has_is_cancelled_at_once(alone: Alone) -> None:
    await alone.start()
    await alone.cancel(request_id="one")
    outcome = await alone.outcome()
    assert outcome.failure.message == "Activity canceled"
    assert outcome.failure.canceled_failure_info.details == payloads("no need")
    assert outcome.failure.canceled_failure_info.identity == "boss"
    info = (await alone.describe()).info
    assert (info.status, info.canceled_reason) == (Status.ACTIVITY_EXECUTION_STATUS_CANCELED, "no need")
    await alone.cancel(request_id="one")
    refused = await refusal(alone.cancel(request_id="two"))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "activity is in terminal state Canceled" in refused.message


async def test_one_that_runs_is_told_that_it_is_to_stop(alone: Alone) -> None:
    await alone.start()
    task = await alone.at.poll_activity_task(alone.queue)
    early = await refusal(
        alone.at.service.RespondActivityTaskCanceled(
            RespondActivityTaskCanceledRequest(namespace="orders", task_token=task.task_token)
        )
    )
    assert early.code == grpc.StatusCode.INVALID_ARGUMENT
    await alone.cancel(request_id="one")
    refused = await refusal(alone.cancel(request_id="two"))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "cancellation already requested with request ID one",
    )
    described = (await alone.describe()).info
    assert described.run_state == State.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
    beat = await alone.at.service.RecordActivityTaskHeartbeat(
        RecordActivityTaskHeartbeatRequest(namespace="orders", task_token=task.task_token)
    )
    assert beat.cancel_requested
    await alone.at.service.RespondActivityTaskCanceled(
        RespondActivityTaskCanceledRequest(
            namespace="orders", task_token=task.task_token, details=payloads("stopped"), identity=IDENTITY
        )
    )
    outcome = await alone.outcome()
    assert outcome.failure.canceled_failure_info.details == payloads("stopped")


async def test_an_activity_is_terminated(alone: Alone) -> None:
    await alone.start()
    task = await alone.at.poll_activity_task(alone.queue)
    await alone.terminate(request_id="one")
    outcome = await alone.outcome()
    assert (outcome.failure.message, outcome.failure.terminated_failure_info.identity) == ("enough", "boss")
    await alone.terminate(request_id="one")
    refused = await refusal(alone.terminate(request_id="two"))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "already terminated with request ID one",
    )
    assert (await refusal(alone.at.complete_activity(task))).code == grpc.StatusCode.NOT_FOUND


async def test_one_that_is_closed_cannot_be_terminated(alone: Alone) -> None:
    await alone.start()
    await alone.at.complete_activity(await alone.at.poll_activity_task(alone.queue))
    refused = await refusal(alone.terminate())
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION


async def test_an_activity_is_completed_by_its_id(alone: Alone) -> None:
    await alone.start()
    by_id = RespondActivityTaskCompletedByIdRequest(
        namespace="orders", activity_id=alone.id, result=payloads("by hand"), identity="somebody"
    )
    await alone.at.service.RespondActivityTaskCompletedById(by_id)
    assert (await alone.outcome()).result == payloads("by hand")
    info = (await alone.describe()).info
    assert (info.last_worker_identity, info.attempt) == ("somebody", 1)
    assert info.HasField("last_started_time")
    closed = await refusal(alone.at.service.RespondActivityTaskCompletedById(by_id))
    # A real server says FAILED_PRECONDITION here, and NOT_FOUND where the task's token is used.
    assert closed.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)


async def test_what_is_not_there_is_not_found(alone: Alone, orders: Namespace) -> None:
    for refused in await refusals(alone.describe(), alone.poll(), alone.cancel(), alone.terminate()):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert alone.id in refused.message
    unnamed = Alone(orders, "", alone.queue)
    for refused in await refusals(unnamed.describe(), unnamed.poll(), unnamed.cancel(), unnamed.terminate()):
        assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "activity ID is required")
    alone.run_id = "no-uuid"
    refused = await refusal(alone.describe())
    assert (refused.code, refused.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "invalid run id: must be a valid UUID",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_to_close_timeout": None}, "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set"),
        ({"start_to_close_timeout": duration(-1)}, "invalid StartToCloseTimeout: negative duration"),
        ({"activity_type": None}, "activityType is not set"),
        ({"activity_type": ActivityType(name="t" * 1001)}, "activityType exceeds length limit. Length=1001 Limit=1000"),
        ({"task_queue": None}, "taskQueue is not set"),
        ({"task_queue": TaskQueue()}, "missing task queue name"),
        ({"request_id": "r" * 1001}, "request ID exceeds length limit. Length=1001 Limit=1000"),
        ({"identity": "i" * 1001}, "identity exceeds length limit. Length=1001 Limit=1000"),
        ({"input": Payloads(payloads=[Payload(data=b"x" * (2 * 1024 * 1024))])}, "input exceeds length limit"),
        ({"priority": Priority(priority_key=-1)}, "priority key can't be negative"),
        ({"start_delay": duration(-1)}, "invalid StartDelay: negative duration"),
        ({"user_metadata": UserMetadata(summary=payload("s" * 400))}, "user_metadata.summary exceeds size limit"),
        ({"links": [Link(batch_job=Link.BatchJob(job_id="j"))] * 11}, "cannot attach more than 10 links per request"),
        (
            {"on_conflict_options": {"attach_completion_callbacks": True}},
            "attach_completion_callbacks requires attach_request_id",
        ),
        ({"on_conflict_options": {"attach_request_id": True}}, "attach_request_id requires at least one"),
    ],
)
async def test_a_start_that_makes_no_sense_is_refused(alone: Alone, options: dict[str, Any], message: str) -> None:
    refused = await refusal(alone.start(**options))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.message


async def test_an_activity_and_a_workflow_of_one_id_never_meet(alone: Alone, orders: Namespace) -> None:
    await alone.start()
    for refused in await refusals(orders.describe(alone.id), orders.describe(alone.id, alone.run_id)):
        assert refused.code == grpc.StatusCode.NOT_FOUND
    assert (await refusal(orders.history(alone.id, alone.run_id))).code == grpc.StatusCode.NOT_FOUND
    workflow_run = await orders.start(alone.id, alone.queue)
    assert (await alone.describe(run_id="")).info.run_id == alone.run_id
    assert (await refusal(alone.describe(run_id=workflow_run))).code == grpc.StatusCode.NOT_FOUND
    await orders.run_workflow_task(alone.queue, complete_workflow())
    assert (await orders.describe(alone.id)).workflow_execution_info.execution.run_id == workflow_run
    await alone.at.complete_activity(await alone.at.poll_activity_task(alone.queue))


@pytest.mark.parametrize("closed", [True, False])
async def test_an_activity_is_deleted(alone: Alone, closed: bool) -> None:
    await alone.start()
    task = await alone.at.poll_activity_task(alone.queue)
    if closed:
        await alone.at.complete_activity(task)
    await alone.at.service.DeleteActivityExecution(
        DeleteActivityExecutionRequest(namespace="orders", activity_id=alone.id, run_id=alone.run_id)
    )
    with contextlib.suppress(grpc.aio.AioRpcError):
        while True:  # a real server deletes a moment later
            await alone.describe()
    assert (await refusal(alone.describe())).code == grpc.StatusCode.NOT_FOUND
    assert (await refusal(alone.at.complete_activity(task))).code == grpc.StatusCode.NOT_FOUND
    assert (await alone.start()).started


@pytest.mark.parametrize("ended", ["completed", "failed", "cancelled", "terminated"])
async def test_an_activity_behind_a_nexus_operation_completes_it(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str], queue: str, endpoint: Endpoint, ended: str
) -> None:
    workflow_id = unique("order")
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name))
    task = await payments.poll_nexus_task(endpoint.queue)
    asked = task.request.start_operation
    handler = Alone(payments, unique("activity"), endpoint.queue)
    callback = Callback(nexus=Callback.Nexus(url=asked.callback, header=asked.callback_header))
    await handler.start(completion_callbacks=[callback], request_id=asked.request_id)
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.run_workflow_task(queue)
    (waiting,) = (await handler.describe()).callbacks
    assert waiting.trigger.HasField("activity_closed")
    assert waiting.info.state == CallbackState.CALLBACK_STATE_STANDBY
    if ended == "completed":
        await payments.complete_activity(await payments.poll_activity_task(endpoint.queue), "shipped")
    elif ended == "failed":
        failure = application_failure(non_retryable=True)
        await payments.fail_activity(await payments.poll_activity_task(endpoint.queue), failure)
    elif ended == "cancelled":
        await handler.cancel()
    else:
        await handler.terminate()
    woken = await orders.poll_workflow_task(queue)
    last = woken.history.events[-3]
    if ended == "completed":
        assert result_of(last) == "shipped"
    elif ended == "failed":
        cause = last.nexus_operation_failed_event_attributes.failure.cause
        assert (cause.message, cause.application_failure_info.type) == ("no stock", "OutOfStock")
    elif ended == "cancelled":
        cause = last.nexus_operation_canceled_event_attributes.failure.cause
        assert cause.HasField("canceled_failure_info")
    else:
        cause = last.nexus_operation_failed_event_attributes.failure.cause
        assert (cause.message, cause.HasField("terminated_failure_info")) == ("enough", True)
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_operators_commands_are_for_activities_of_workflows(alone: Alone) -> None:
    await alone.start()
    refused = await refusal(
        alone.at.service.PauseActivityExecution(PauseActivityExecutionRequest(namespace="orders", activity_id=alone.id))
    )
    assert (refused.code, refused.message) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "Standalone activity operator commands are disabled",
    )
