"""Workflow tasks that fail, time out, stick to a worker, or come back wrong."""

import asyncio
from collections.abc import Callable

import grpc
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import CommandType, EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.errordetails.v1 import NotFoundFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueResponse,
    ResetStickyTaskQueueRequest,
    RespondWorkflowTaskFailedRequest,
)

from tests.support.raw import IDENTITY, Namespace, refusal, refusals
from tests.support.values import (
    application_failure,
    cancel_timer,
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    result_of,
    schedule_activity,
    start_timer,
    sticky_queue,
)

Cause = WorkflowTaskFailedCause
WORKFLOW_TASK_TIMED_OUT = EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT


async def fail_task(orders: Namespace, task: PollWorkflowTaskQueueResponse, message: str = "no such workflow") -> None:
    await orders.service.RespondWorkflowTaskFailed(
        RespondWorkflowTaskFailedRequest(
            namespace=orders.name,
            task_token=task.task_token,
            cause=Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE,
            failure=application_failure(message),
            identity=IDENTITY,
        )
    )


async def test_a_failed_task_is_in_history_once_and_tried_again_until_it_completes(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    for attempt in (1, 2, 3):
        task = await orders.poll_workflow_task(queue)
        assert task.attempt == attempt
        await fail_task(orders, task, f"failed attempt {attempt}")
    task = await orders.poll_workflow_task(queue)
    assert task.attempt == 4
    await orders.complete_workflow_task(task, complete_workflow())
    history = await orders.history(workflow_id)
    assert event_names(history) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert [event.event_id for event in history] == list(range(1, 9))
    failed = history[3].workflow_task_failed_event_attributes
    assert failed.cause == Cause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    assert failed.failure == application_failure("failed attempt 1")
    assert (failed.scheduled_event_id, failed.started_event_id, failed.identity) == (2, 3, IDENTITY)
    assert history[4].workflow_task_scheduled_event_attributes.attempt == 4


async def test_a_task_of_a_later_attempt_shows_a_start_that_is_not_stored_yet(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await fail_task(orders, await orders.poll_workflow_task(queue))
    task = await orders.poll_workflow_task(queue)
    assert task.started_event_id == 6
    assert event_names(task.history.events)[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    assert (await orders.describe(workflow_id)).pending_workflow_task.attempt == 2


async def test_a_task_that_is_not_answered_in_time_is_given_out_again(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_task_timeout=duration(1))
    lost = await orders.poll_workflow_task(queue)
    again = await orders.poll_workflow_task(queue)
    assert again.attempt == 2
    timed_out = again.history.events[3].workflow_task_timed_out_event_attributes
    assert (timed_out.scheduled_event_id, timed_out.started_event_id) == (2, 3)
    assert timed_out.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    late = await refusal(orders.complete_workflow_task(lost, complete_workflow("late")))
    assert late.code == grpc.StatusCode.NOT_FOUND
    await orders.complete_workflow_task(again, complete_workflow("in time"))
    assert result_of(await orders.close_event(workflow_id)) == "in time"


@pytest.mark.parametrize("first", ["completed", "failed"])
async def test_a_task_can_be_answered_once_only(orders: Namespace, workflow_id: str, queue: str, first: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    if first == "completed":
        await orders.complete_workflow_task(task, start_timer("long", 3600))
    else:
        await fail_task(orders, task)
    history = event_names(await orders.history(workflow_id))
    for refused in await refusals(orders.complete_workflow_task(task, complete_workflow()), fail_task(orders, task)):
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "task" in refused.message.lower()
        refused.detail(NotFoundFailure)
    assert event_names(await orders.history(workflow_id)) == history


async def test_a_task_of_a_closed_workflow_is_not_found(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.run_workflow_task(queue, complete_workflow())
    for refused in await refusals(orders.complete_workflow_task(task, complete_workflow()), fail_task(orders, task)):
        assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_worker_that_asks_gets_the_next_task_on_its_own_queue_with_new_events_only(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    own = unique("sticky")
    await orders.start(workflow_id, queue)
    first = await orders.poll_workflow_task(queue)
    polling = await orders.begin_sticky_poll(own, queue)
    await orders.complete_workflow_task(first, start_timer("short", 0.01), sticky=sticky_queue(own, queue))
    task = await polling
    assert task.previous_started_event_id == 3
    assert [event.event_id for event in task.history.events] == [4, 5, 6, 7, 8]
    assert event_names(task.history.events) == [
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
        "TIMER_FIRED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    assert task.workflow_execution_task_queue.name == queue
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_task_that_its_sticky_worker_does_not_take_falls_back_to_the_normal_queue_with_all_events(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    own = unique("sticky")
    await orders.start(workflow_id, queue)
    first = await orders.poll_workflow_task(queue)
    polling = await orders.begin_sticky_poll(own, queue)
    await orders.complete_workflow_task(first, start_timer("one", 0.01), sticky=sticky_queue(own, queue))
    second = await polling
    await orders.complete_workflow_task(second, start_timer("two", 0.01), sticky=sticky_queue(own, queue, timeout=1))
    task = await orders.poll_workflow_task(queue)
    assert [event.event_id for event in task.history.events] == list(range(1, task.started_event_id + 1))
    timed_out = [event for event in task.history.events if event.event_type == WORKFLOW_TASK_TIMED_OUT]
    assert [event.workflow_task_timed_out_event_attributes.timeout_type for event in timed_out] == [
        TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
    ]
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_workflow_whose_stickiness_is_reset_comes_to_any_worker(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    await orders.start(workflow_id, queue)
    first = await orders.poll_workflow_task(queue)
    await orders.complete_workflow_task(first, sticky=sticky_queue(unique("sticky"), queue, timeout=600))
    execution = WorkflowExecution(workflow_id=workflow_id)
    request = ResetStickyTaskQueueRequest(namespace=orders.name, execution=execution)
    await orders.service.ResetStickyTaskQueue(request)
    await orders.signal(workflow_id, "go")
    task = await orders.poll_workflow_task(queue)
    assert task.history.events[0].event_id == 1
    await orders.complete_workflow_task(task, complete_workflow())
    refused = await refusal(orders.service.ResetStickyTaskQueue(request))
    assert (refused.code, refused.message) == (
        grpc.StatusCode.NOT_FOUND,
        "workflow execution already completed",
    )


async def test_a_sticky_queue_that_nobody_polled_is_not_waited_for(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    await orders.start(workflow_id, queue)
    first = await orders.poll_workflow_task(queue)
    gone = sticky_queue(unique("sticky"), queue, timeout=3600)
    await orders.complete_workflow_task(first, start_timer("short", 0.01), sticky=gone)
    task = await orders.poll_workflow_task(queue)
    assert [event.event_id for event in task.history.events] == list(range(1, task.started_event_id + 1))
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_completion_can_bring_the_next_task_in_its_answer(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    answer = await orders.complete_workflow_task(
        task, return_new_workflow_task=True, force_create_new_workflow_task=True
    )
    following = answer.workflow_task
    assert following.started_event_id == 6
    # The worker has the workflow at hand, though it did not ask for a sticky queue: it is told what is new.
    assert [event.event_id for event in following.history.events] == [4, 5, 6]
    await orders.complete_workflow_task(following, complete_workflow("in two tasks"))
    assert result_of(await orders.close_event(workflow_id)) == "in two tasks"


async def test_what_arrives_while_a_task_runs_comes_after_it_in_history(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("first", queue), schedule_activity("second", queue))
    first = await orders.poll_activity_task(queue)
    second = await orders.poll_activity_task(queue)
    await orders.complete_activity(first, 1)
    task = await orders.poll_workflow_task(queue)
    await orders.complete_activity(second, 2)
    refused = await refusal(orders.complete_workflow_task(task, complete_workflow("too early")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "UnhandledCommand" in refused.message
    retried = await orders.poll_workflow_task(queue)
    names = event_names(retried.history.events)
    assert names.index("WORKFLOW_TASK_FAILED") < len(names) - 1 - names[::-1].index("ACTIVITY_TASK_COMPLETED")
    assert [event.event_id for event in retried.history.events] == list(range(1, len(names) + 1))
    await orders.complete_workflow_task(retried, complete_workflow("in order"))
    assert result_of(await orders.close_event(workflow_id)) == "in order"


BAD_COMMANDS = {
    "two timers with one id": (
        [start_timer("same", 5), start_timer("same", 5)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_START_TIMER_DUPLICATE_ID,
        "same",
    ),
    "a timer without an id": (
        [start_timer("", 5)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES,
        "TimerId",
    ),
    "a timer that fires before it starts": (
        [start_timer("early", -1)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES,
        "early",
    ),
    "a timer id that is too long": (
        [start_timer("t" * 1001, 5)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES,
        "TimerId",
    ),
    "a timer cancelled that was never started": (
        [cancel_timer("never-started")],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_TIMER_ATTRIBUTES,
        "never-started",
    ),
    "an activity without a type": (
        [schedule_activity("a", "queue", activity_type="")],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES,
        "activityType",
    ),
    "an activity without an id": (
        [schedule_activity("", "queue")],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES,
        "activityId",
    ),
    "an activity without a queue": (
        [schedule_activity("a", "")],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES,
        "task queue",
    ),
    "an activity without a timeout": (
        [schedule_activity("unbounded", "queue", start_to_close=0)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES,
        "unbounded",
    ),
    "two activities with one id": (
        [schedule_activity("same", "queue"), schedule_activity("same", "queue")],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID,
        "same",
    ),
    "a command without its attributes": (
        [Command(command_type=CommandType.COMMAND_TYPE_START_TIMER)],
        Cause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES,
        "StartTimer",
    ),
}


@pytest.mark.parametrize(("commands", "cause", "named"), BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
async def test_a_bad_command_fails_the_task_and_nothing_of_it_is_done(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    commands: list[Command],
    cause: Cause.ValueType,
    named: str,
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, *commands))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(named)
    again = await orders.poll_workflow_task(queue)
    assert again.attempt == 2
    assert event_names(again.history.events)[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    failed = again.history.events[3].workflow_task_failed_event_attributes
    assert failed.cause == cause
    assert named.lower() in failed.failure.message.lower()
    await orders.complete_workflow_task(again, complete_workflow())
    assert (await orders.close_event(workflow_id)).HasField("workflow_execution_completed_event_attributes")


@pytest.mark.parametrize(
    "commands",
    [
        [complete_workflow(), start_timer("after", 5)],
        [complete_workflow(1), complete_workflow(2)],
        [fail_workflow(), complete_workflow()],
    ],
    ids=["a timer", "a second completion", "a completion after a failure"],
)
async def test_nothing_may_follow_the_command_that_closes_the_workflow(
    orders: Namespace, workflow_id: str, queue: str, commands: list[Command]
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, *commands))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "last" in refused.message
    await orders.complete_workflow_task(task, complete_workflow("as it should be"))
    assert result_of(await orders.close_event(workflow_id)) == "as it should be"


async def test_two_workers_that_answer_one_task_at_once_do_not_both_win(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    answers = await asyncio.gather(
        *(orders.complete_workflow_task(task, complete_workflow(number)) for number in range(8)),
        return_exceptions=True,
    )
    lost = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(lost) == 7
    assert {error.code() for error in lost} == {grpc.StatusCode.NOT_FOUND}
    assert len(await orders.history(workflow_id)) == 5


async def test_a_command_without_a_type_is_refused(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, Command()))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith("unknown command type")
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_failure_too_large_to_be_kept_is_cut_and_the_task_comes_again(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.fail_workflow_task(task, Failure(message="m" * 2_200_000))
    again = await orders.poll_workflow_task(queue)
    assert again.attempt == 2
    failed = next(event for event in await orders.history(workflow_id) if event.event_id == 4)
    kept = failed.workflow_task_failed_event_attributes.failure
    assert kept.message == "Failure exceeds size limit."
    assert 500_000 < kept.ByteSize() < 550_000
    assert kept.cause.message.startswith("mmm")
    await orders.terminate(workflow_id)
