"""Pending activities paused, unpaused, set back to the first attempt, and given other options by operators."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, RetryPolicy, WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    PauseActivityExecutionRequest,
    PauseActivityRequest,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    ResetActivityExecutionRequest,
    ResetActivityRequest,
    UnpauseActivityExecutionRequest,
    UnpauseActivityRequest,
    UpdateActivityExecutionOptionsRequest,
    UpdateActivityOptionsRequest,
)

from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    complete_workflow,
    duration,
    payloads,
    retry_policy,
    schedule_activity,
)

State = PendingActivityState


class Operator:
    """Somebody who looks after the activities of one workflow."""

    def __init__(self, at: Namespace, workflow_id: str) -> None:
        self._at = at
        self._execution = WorkflowExecution(workflow_id=workflow_id)

    async def pause(self, **which: Any) -> None:
        await self._at.service.PauseActivity(
            PauseActivityRequest(
                namespace=self._at.name,
                execution=self._execution,
                identity="operator",
                reason="look first",
                **(which or {"id": "reserve"}),
            )
        )

    async def unpause(self, **which: Any) -> None:
        await self._at.service.UnpauseActivity(
            UnpauseActivityRequest(namespace=self._at.name, execution=self._execution, **{"id": "reserve", **which})
        )

    async def reset(self, **which: Any) -> None:
        await self._at.service.ResetActivity(
            ResetActivityRequest(namespace=self._at.name, execution=self._execution, **{"id": "reserve", **which})
        )

    async def update(self, options: ActivityOptions | None, *paths: str, **more: Any) -> ActivityOptions:
        answer = await self._at.service.UpdateActivityOptions(
            UpdateActivityOptionsRequest(
                namespace=self._at.name,
                execution=self._execution,
                activity_options=options,
                update_mask=FieldMask(paths=paths) if paths else None,
                **{"id": "reserve", **more},
            )
        )
        return answer.activity_options

    async def pending(self) -> PendingActivityInfo:
        return (await self._at.describe(self._execution.workflow_id)).pending_activities[0]


@pytest.fixture
async def operator(orders: Namespace, workflow_id: str) -> Operator:
    return Operator(orders, workflow_id)


async def scheduled(orders: Namespace, workflow_id: str, queue: str, **options: Any) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue, **options))


async def finish(orders: Namespace, queue: str) -> None:
    """The activity is taken and completed, and then the workflow."""
    await orders.complete_activity(await orders.poll_activity_task(queue))
    await orders.run_workflow_task(queue, complete_workflow())


async def beat(orders: Namespace, task_token: bytes, details: Any = None) -> RecordActivityTaskHeartbeatResponse:
    return await orders.service.RecordActivityTaskHeartbeat(
        RecordActivityTaskHeartbeatRequest(
            namespace=orders.name, task_token=task_token, details=details, identity=IDENTITY
        )
    )


async def test_a_paused_activity_waits_until_it_is_unpaused(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    await operator.pause()
    pending = await operator.pending()
    assert (pending.state, pending.paused) == (State.PENDING_ACTIVITY_STATE_PAUSED, True)
    assert (pending.pause_info.manual.identity, pending.pause_info.manual.reason) == ("operator", "look first")
    assert pending.pause_info.HasField("pause_time")
    await operator.unpause()
    pending = await operator.pending()
    assert (pending.state, pending.paused) == (State.PENDING_ACTIVITY_STATE_SCHEDULED, False)
    assert not pending.HasField("pause_info")
    await finish(orders, queue)


async def test_a_paused_activity_is_not_given_out_nor_timed_out(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, schedule_to_start_timeout=duration(1))
    await operator.pause()
    # Another activity in the same queue, which waits longer than the timeout: it is the one that is given out.
    await scheduled(orders, workflow_id + "-2", queue + "-2")
    await orders.poll_activity_task(queue + "-2")
    late = schedule_activity("late", queue, retry=retry_policy(first=1.5))
    await orders.start(workflow_id + "-3", queue + "-3")
    await orders.run_workflow_task(queue + "-3", late)
    task = await orders.poll_activity_task(queue)
    assert task.activity_id == "late"
    await orders.fail_activity(task, application_failure())
    again = await orders.poll_activity_task(queue)
    assert (again.activity_id, again.attempt) == ("late", 2)
    assert (await operator.pending()).state == State.PENDING_ACTIVITY_STATE_PAUSED


async def test_one_that_runs_is_told_of_its_pause_and_waits_after_it(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(attempts=1))
    task = await orders.poll_activity_task(queue)
    assert not (await beat(orders, task.task_token)).activity_paused
    await operator.pause()
    assert (await operator.pending()).state == State.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED
    assert (await beat(orders, task.task_token)).activity_paused
    await orders.fail_activity(task, application_failure("at half time"))
    pending = await operator.pending()
    # A paused activity is tried again even when its attempts are used up.
    assert (pending.state, pending.attempt) == (State.PENDING_ACTIVITY_STATE_PAUSED, 2)
    assert pending.last_failure == application_failure("at half time")
    await operator.unpause(reset_attempts=True)
    assert (await operator.pending()).attempt == 1
    await finish(orders, queue)


async def test_one_that_runs_may_complete_while_it_is_paused(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    task = await orders.poll_activity_task(queue)
    await operator.pause()
    await orders.complete_activity(task, "done")
    await orders.run_workflow_task(queue, complete_workflow())


async def test_a_second_pause_is_refused_and_the_same_again_is_not(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    await operator.pause(id="reserve", request_id="one")
    await operator.pause(id="reserve", request_id="one")
    refused = await refusal(operator.pause(id="reserve", request_id="two"))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "activity is already paused" in refused.message
    await operator.unpause()
    await operator.unpause()
    await finish(orders, queue)


async def test_activities_are_paused_by_type(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(
        queue,
        schedule_activity("one", queue),
        schedule_activity("two", queue),
        schedule_activity("three", queue, activity_type="pack"),
    )
    await operator.pause(type="reserve")
    pending = (await orders.describe(workflow_id)).pending_activities
    assert {each.activity_id: each.paused for each in pending} == {"one": True, "two": True, "three": False}
    task = await orders.poll_activity_task(queue)
    assert task.activity_id == "three"


async def test_what_is_not_pending_is_not_found(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    mask = ("start_to_close_timeout",)
    for refused in await refusals(
        operator.pause(id="other"),
        operator.pause(type="other"),
        operator.unpause(id="other"),
        operator.reset(id="other"),
        operator.update(ActivityOptions(), *mask, id="other"),
    ):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "Can't find pending activity with such ID" in refused.message
    nobody = Operator(orders, workflow_id + "-2")
    for refused in await refusals(nobody.pause(), nobody.unpause(), nobody.reset()):
        assert refused.code == grpc.StatusCode.NOT_FOUND
    unnamed = Operator(orders, "")
    for refused in await refusals(unnamed.pause(), unnamed.unpause(), unnamed.reset()):
        assert (refused.code, refused.message) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "WorkflowId is not set on request.",
        )
    await finish(orders, queue)
    for refused in await refusals(operator.pause(), operator.unpause(), operator.reset()):
        assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_reset_starts_a_waiting_activity_over_at_once(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(first=3600))
    task = await orders.poll_activity_task(queue)
    await beat(orders, task.task_token, payloads("half"))
    await orders.fail_activity(task, application_failure())
    assert (await operator.pending()).attempt == 2
    await operator.reset(reset_heartbeat=True)
    task = await orders.poll_activity_task(queue)
    assert task.attempt == 1
    assert not task.HasField("heartbeat_details")
    await orders.complete_activity(task)
    await orders.run_workflow_task(queue, complete_workflow())


async def test_one_that_runs_is_told_of_its_reset(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy())
    task = await orders.poll_activity_task(queue)
    assert not (await beat(orders, task.task_token, payloads("half"))).activity_reset
    await operator.reset(reset_heartbeat=True)
    assert (await beat(orders, task.task_token, payloads("more"))).activity_reset
    await orders.fail_activity(task, application_failure())
    again = await orders.poll_activity_task(queue)
    assert not again.HasField("heartbeat_details")
    assert not (await beat(orders, again.task_token)).activity_reset
    await orders.complete_activity(again)
    await orders.run_workflow_task(queue, complete_workflow())


@pytest.mark.parametrize("keep_paused", [True, False])
async def test_a_reset_may_keep_what_is_paused(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str, keep_paused: bool
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(first=3600))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure())
    await operator.pause()
    await operator.reset(keep_paused=keep_paused)
    pending = await operator.pending()
    assert (pending.attempt, pending.paused) == (1, keep_paused)
    await operator.unpause()
    await finish(orders, queue)


async def test_options_that_a_mask_names_are_changed(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, heartbeat_timeout=duration(9), retry=retry_policy(attempts=3))
    options = ActivityOptions(
        task_queue=TaskQueue(name=queue + "-2"),
        start_to_close_timeout=duration(20),
        heartbeat_timeout=duration(1),
        priority=Priority(priority_key=4),
        retry_policy=RetryPolicy(maximum_attempts=7),
    )
    changed = await operator.update(
        options, "task_queue.name", "startToCloseTimeout", "retry_policy.maximum_attempts", "priority"
    )
    assert changed.task_queue.name == queue + "-2"
    assert changed.start_to_close_timeout.seconds == 20
    assert changed.heartbeat_timeout.seconds == 9
    assert changed.priority.priority_key == 4
    assert changed.retry_policy.maximum_attempts == 7
    assert changed.retry_policy.initial_interval == duration(0.01)
    shown = (await operator.pending()).activity_options
    assert shown.start_to_close_timeout.seconds == 20
    assert shown.retry_policy.maximum_attempts == 7
    task = await orders.poll_activity_task(queue + "-2")
    assert task.priority.priority_key == 4  # a real server still tells the worker the timeout of the scheduled event
    await orders.complete_activity(task)
    await orders.run_workflow_task(queue, complete_workflow())


async def test_a_shorter_interval_brings_the_next_attempt_forward(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue, retry=retry_policy(first=3600))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure())
    await operator.update(
        ActivityOptions(retry_policy=RetryPolicy(initial_interval=duration(0.01))), "retry_policy.initial_interval"
    )
    again = await orders.poll_activity_task(queue)
    assert again.attempt == 2
    await orders.complete_activity(again)
    await orders.run_workflow_task(queue, complete_workflow())


async def test_the_original_options_can_be_restored(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    await scheduled(orders, workflow_id, queue)
    options = ActivityOptions(start_to_close_timeout=duration(20))
    await operator.update(options, "start_to_close_timeout")
    both = await refusal(operator.update(options, "start_to_close_timeout", restore_original=True))
    assert (both.code, both.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Both UpdateMask and RestoreOriginal are provided",
    )
    restored = await operator.update(None, restore_original=True)
    assert restored.start_to_close_timeout.seconds == 30
    await operator.update(options, "start_to_close_timeout")
    await operator.reset(restore_original_options=True)
    assert (await operator.pending()).activity_options.start_to_close_timeout.seconds == 30
    await finish(orders, queue)


async def test_an_empty_mask_changes_nothing(orders: Namespace, workflow_id: str, queue: str) -> None:
    await scheduled(orders, workflow_id, queue)
    answer = await orders.service.UpdateActivityOptions(
        UpdateActivityOptionsRequest(
            namespace=orders.name,
            execution=WorkflowExecution(workflow_id=workflow_id),
            id="reserve",
            activity_options=ActivityOptions(heartbeat_timeout=duration(3)),
            update_mask=FieldMask(),
        )
    )
    assert answer.activity_options.start_to_close_timeout == duration(30)
    assert answer.activity_options.heartbeat_timeout == duration(0)
    await finish(orders, queue)


@pytest.mark.parametrize(
    ("options", "paths", "message"),
    [
        (None, ("start_to_close_timeout",), "ActivityOptions are not provided"),
        (ActivityOptions(), (), "UpdateMask is not provided"),
        (ActivityOptions(), ("retry_policy",), "RetryPolicy is not provided"),
        (ActivityOptions(), ("priority.priority_key",), "Priority is not provided"),
        (ActivityOptions(start_to_close_timeout=duration(-1)), ("start_to_close_timeout",), "StartToCloseTimeout"),
        (ActivityOptions(), ("start_to_close_timeout",), "a valid StartToCloseTimeout or ScheduleToCloseTimeout"),
        (ActivityOptions(priority=Priority(priority_key=-1)), ("priority",), "priority key can't be negative"),
        (
            ActivityOptions(retry_policy=RetryPolicy(maximum_attempts=-1)),
            ("retry_policy.maximum_attempts",),
            "MaximumAttempts cannot be negative",
        ),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    orders: Namespace,
    operator: Operator,
    workflow_id: str,
    queue: str,
    options: ActivityOptions | None,
    paths: tuple[str, ...],
    message: str,
) -> None:
    await scheduled(orders, workflow_id, queue)
    refused = await refusal(operator.update(options, *paths))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.message


async def test_an_unknown_path_of_a_mask_is_refused(
    embedded_only: None, orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    """A real server ignores it without a word."""
    await scheduled(orders, workflow_id, queue)
    refused = await refusal(operator.update(ActivityOptions(), "colour"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "colour" in refused.message


async def test_the_newer_calls_are_for_activities_of_workflows_too(
    orders: Namespace, operator: Operator, workflow_id: str, queue: str
) -> None:
    ids = {"namespace": orders.name, "workflow_id": workflow_id, "activity_id": "reserve", "identity": "operator"}
    await scheduled(orders, workflow_id, queue, retry=retry_policy(first=3600))
    await orders.fail_activity(await orders.poll_activity_task(queue), application_failure())
    await orders.service.PauseActivityExecution(PauseActivityExecutionRequest(**ids, reason="wait"))
    pending = await operator.pending()
    assert (pending.paused, pending.pause_info.manual.reason) == (True, "wait")
    answer = await orders.service.UpdateActivityExecutionOptions(
        UpdateActivityExecutionOptionsRequest(
            **ids,
            activity_options=ActivityOptions(start_to_close_timeout=duration(20)),
            update_mask=FieldMask(paths=["start_to_close_timeout"]),
        )
    )
    assert answer.activity_options.start_to_close_timeout.seconds == 20
    await orders.service.ResetActivityExecution(ResetActivityExecutionRequest(**ids, keep_paused=True))
    pending = await operator.pending()
    assert (pending.paused, pending.attempt) == (True, 1)
    await orders.service.UnpauseActivityExecution(UnpauseActivityExecutionRequest(**ids))
    assert not (await operator.pending()).paused
    await finish(orders, queue)
