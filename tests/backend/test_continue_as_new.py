"""Continue-as-new: what the next run is given, and what it keeps of the one before."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Callback, Header, Memo, Priority
from temporalio.api.enums.v1 import ContinueAsNewInitiator, EventType, WorkflowExecutionStatus
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.api.nexus.v1 import PropagatedSerializationContext
from temporalio.api.sdk.v1 import UserMetadata

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    async_result,
    complete_workflow,
    continue_as_new,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    result_of,
    retry_policy,
    schedule_operation,
    start_timer,
)


async def started(orders: Namespace, workflow_id: str, run_id: str = "") -> WorkflowExecutionStartedEventAttributes:
    """The started event of a run; of the newest one if none is named."""
    return (await orders.history(workflow_id, run_id))[0].workflow_execution_started_event_attributes


async def test_the_next_run_is_given_what_the_command_says(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue, input=payloads("one"))
    header, memo = Header(fields={"trace": payload("7")}), Memo(fields={"who": payload("me")})
    command = continue_as_new(
        "Another",
        f"{queue}-2",
        input=payloads("two"),
        workflow_run_timeout=duration(100),
        workflow_task_timeout=duration(20),
        header=header,
        memo=memo,
        retry_policy=retry_policy(attempts=3),
    )
    await orders.run_workflow_task(queue, command)
    closed = await orders.close_event(workflow_id, first)
    said = closed.workflow_execution_continued_as_new_event_attributes
    task = await orders.poll_workflow_task(f"{queue}-2")
    second = task.workflow_execution.run_id
    assert said.new_execution_run_id == second != first
    assert (said.workflow_type.name, said.task_queue.name) == ("Another", f"{queue}-2")
    assert (said.input, said.header, said.memo) == (payloads("two"), header, memo)
    assert said.workflow_task_completed_event_id == 4
    begun = await started(orders, workflow_id)
    assert (begun.workflow_type.name, begun.task_queue.name) == ("Another", f"{queue}-2")
    assert (begun.input, begun.header, begun.memo) == (payloads("two"), header, memo)
    assert (begun.workflow_run_timeout.seconds, begun.workflow_task_timeout.seconds) == (100, 20)
    assert begun.retry_policy.maximum_attempts == 3
    assert begun.initiator == ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW
    assert (begun.continued_execution_run_id, begun.first_execution_run_id) == (first, first)
    assert begun.original_execution_run_id == second
    assert begun.attempt == 1
    status = (await orders.describe(workflow_id, first)).workflow_execution_info.status
    assert status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
    await orders.terminate(workflow_id)


async def test_what_the_command_leaves_out_comes_from_the_run_before(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(
        workflow_id,
        queue,
        input=payloads("one"),
        workflow_execution_timeout=duration(300),
        workflow_run_timeout=duration(200),
        workflow_task_timeout=duration(20),
        memo=Memo(fields={"who": payload("me")}),
        header=Header(fields={"trace": payload("7")}),
        retry_policy=retry_policy(attempts=3),
        priority=Priority(priority_key=2),
        user_metadata=UserMetadata(summary=payload("an order")),
    )
    before = await started(orders, workflow_id)
    await orders.run_workflow_task(queue, continue_as_new())
    begun = await started(orders, workflow_id)
    assert (begun.workflow_type.name, begun.task_queue.name) == ("Order", queue)
    assert (begun.workflow_run_timeout.seconds, begun.workflow_task_timeout.seconds) == (200, 20)
    assert begun.workflow_execution_timeout.seconds == 300
    assert begun.workflow_execution_expiration_time == before.workflow_execution_expiration_time
    assert not begun.HasField("input")
    assert not begun.HasField("header")
    assert not begun.HasField("memo")
    assert not begun.HasField("retry_policy")
    assert begun.priority.priority_key == 2
    await orders.terminate(workflow_id)


async def test_a_chain_does_not_go_round_faster_than_once_a_second(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, continue_as_new())
    task = await orders.poll_workflow_task(queue)
    begun, scheduled = task.history.events[:2]
    pause = begun.workflow_execution_started_event_attributes.first_workflow_task_backoff.ToTimedelta()
    assert timedelta(seconds=0.5) < pause <= timedelta(seconds=1)
    old = (await orders.history(workflow_id, first))[0]
    assert scheduled.event_time.ToDatetime() - old.event_time.ToDatetime() >= timedelta(seconds=1)


async def test_the_next_run_waits_as_long_as_the_command_says(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, continue_as_new(backoff_start_interval=duration(30)))
    begun = await started(orders, workflow_id)
    assert begun.first_workflow_task_backoff.ToTimedelta() == timedelta(seconds=30)
    closed = await orders.close_event(workflow_id, first)
    said = closed.workflow_execution_continued_as_new_event_attributes
    assert said.backoff_start_interval.ToTimedelta() == timedelta(seconds=30)
    await orders.terminate(workflow_id)


async def test_a_result_or_failure_of_the_run_before_is_handed_on(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    command = continue_as_new(last_completion_result=payloads("so far"), failure=application_failure())
    await orders.run_workflow_task(queue, command)
    begun = await started(orders, workflow_id)
    assert begun.last_completion_result == payloads("so far")
    assert begun.continued_failure == application_failure()
    await orders.terminate(workflow_id)


async def test_the_time_of_the_chain_is_not_begun_anew(orders: Namespace, workflow_id: str, queue: str) -> None:
    first = await orders.start(workflow_id, queue, workflow_execution_timeout=duration(2))
    begun = (await orders.history(workflow_id))[0]
    await orders.run_workflow_task(queue, continue_as_new())
    second = (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id
    assert second != first
    closed = await orders.close_event(workflow_id, second)
    assert closed.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
    lasted = closed.event_time.ToDatetime() - begun.event_time.ToDatetime()
    assert timedelta(seconds=2) <= lasted < timedelta(seconds=4)


async def test_a_workflow_does_not_continue_as_new_over_a_signal_it_has_not_seen(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.signal(workflow_id, "wait")
    refused = await refusal(orders.complete_workflow_task(task, continue_as_new()))
    assert (refused.code, refused.message) == (grpc.StatusCode.INVALID_ARGUMENT, "UnhandledCommand")
    again = await orders.poll_workflow_task(queue)
    assert "WORKFLOW_EXECUTION_SIGNALED" in event_names(again.history.events)
    await orders.complete_workflow_task(again, continue_as_new())
    assert "WORKFLOW_EXECUTION_SIGNALED" not in event_names(await orders.history(workflow_id))


async def test_nothing_is_commanded_after_the_end(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, continue_as_new(), start_timer("late", 1)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    await orders.terminate(workflow_id)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (continue_as_new("x" * 1001), "WorkflowType"),
        (continue_as_new(workflow_run_timeout=duration(-1)), "WorkflowRunTimeout"),
        (continue_as_new(workflow_task_timeout=duration(-1)), "WorkflowTaskTimeout"),
        (continue_as_new(retry_policy=retry_policy(attempts=-1)), "MaximumAttempts"),
    ],
    ids=["type", "run timeout", "task timeout", "retry policy"],
)
async def test_a_run_that_cannot_follow_fails_the_workflow_task(
    orders: Namespace, workflow_id: str, queue: str, command: Command, says: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, command))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(says)
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)


@pytest.mark.usefixtures("embedded_only")
async def test_a_schedule_that_cannot_be_read_does_not_follow(orders: Namespace, workflow_id: str, queue: str) -> None:
    """A real server lets the next run have it, and there is none after that one."""
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, continue_as_new(cron_schedule="nonsense")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("CronSchedule")


async def test_an_operation_waits_for_the_end_of_the_chain_behind_it(
    orders: Namespace,
    payments: Namespace,
    unique: Callable[[str], str],
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
) -> None:
    caller = unique("caller")
    await orders.start(caller, caller)
    await orders.run_workflow_task(caller, schedule_operation(endpoint.name))
    task = await payments.poll_nexus_task(endpoint.queue)
    start: Any = task.request.start_operation
    back = Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))
    await payments.start(workflow_id, queue, completion_callbacks=[back])
    await payments.answer_nexus_task(task, async_result("token"))
    for _ in range(2):
        await payments.run_workflow_task(queue, continue_as_new())
    assert "NEXUS_OPERATION_COMPLETED" not in event_names(await orders.history(caller))
    await payments.run_workflow_task(queue, complete_workflow("at last"))
    completed = await orders.wait_for_event(caller, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    assert result_of(completed) == "at last"
    assert event_names(await orders.history(caller)).count("NEXUS_OPERATION_COMPLETED") == 1


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize("how", ["continue as new", "retry"])
async def test_the_callers_serialization_context_goes_along_a_chain(
    orders: Namespace, workflow_id: str, queue: str, how: str
) -> None:
    """A real server of version 1.32 does not keep it at all."""
    context = PropagatedSerializationContext(endpoint="payments", service="Payments", operation="process")
    await orders.start(workflow_id, queue, propagated_nexus_serialization_context=context, retry_policy=retry_policy())
    await orders.run_workflow_task(queue, continue_as_new() if how == "continue as new" else fail_workflow())
    assert (await started(orders, workflow_id)).propagated_nexus_serialization_context == context
    await orders.terminate(workflow_id)
