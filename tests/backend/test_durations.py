"""Spans of time that cannot be: less than nothing, or with seconds and nanoseconds of different signs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import Command, StartTimerCommandAttributes
from temporalio.api.common.v1 import ActivityType, RetryPolicy
from temporalio.api.enums.v1 import CommandType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest

from tests.support.raw import Namespace, refusal
from tests.support.values import continue_as_new, schedule_activity, start_child

FAULTS = {
    "duration has seconds and nanos with different signs": [
        Duration(seconds=1, nanos=-5),
        Duration(seconds=-1, nanos=5),
    ],
    "negative duration": [Duration(seconds=-1), Duration(nanos=-5)],
}
CASES = [(span, says) for says, spans in FAULTS.items() for span in spans]

CALLS: dict[str, tuple[Callable[[Namespace, str, str, Duration], Awaitable[Any]], str]] = {
    "a run timeout": (
        lambda at, run, queue, span: at.start(run, queue, workflow_run_timeout=span),
        "An invalid WorkflowRunTimeoutSeconds is set on request. cause: ",
    ),
    "a start delay": (
        lambda at, run, queue, span: at.start(run, queue, workflow_start_delay=span),
        "An invalid WorkflowStartDelaySeconds is set on request. cause: ",
    ),
    "a retry policy's interval": (
        lambda at, run, queue, span: at.start(run, queue, retry_policy=RetryPolicy(initial_interval=span)),
        "invalid InitialInterval set on retry policy: ",
    ),
    "an activity's timeout": (
        lambda at, run, queue, span: at.service.StartActivityExecution(
            StartActivityExecutionRequest(
                namespace=at.name,
                activity_id=run,
                activity_type=ActivityType(name="pack"),
                task_queue=TaskQueue(name=queue),
                start_to_close_timeout=span,
            )
        ),
        "invalid StartToCloseTimeout: ",
    ),
}


@pytest.mark.parametrize(("span", "says"), CASES)
@pytest.mark.parametrize(("send", "before"), CALLS.values(), ids=CALLS.keys())
async def test_a_span_that_cannot_be_is_refused(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    send: Callable[[Namespace, str, str, Duration], Awaitable[Any]],
    before: str,
    span: Duration,
    says: str,
) -> None:
    refused = await refusal(send(orders, workflow_id, queue, span))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == before + says


def start_timer(span: Duration) -> Command:
    attributes = StartTimerCommandAttributes(timer_id="timer", start_to_fire_timeout=span)
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_TIMER,
        start_timer_command_attributes=attributes,
    )


COMMANDS: dict[str, tuple[Callable[[Duration], Command], str, str]] = {
    "a timer": (
        start_timer,
        "BadStartTimerAttributes: An invalid StartToFireTimeout is set on StartTimerCommand: ",
        ". TimerId=timer",
    ),
    "an activity": (
        lambda span: schedule_activity("a", "queue", heartbeat_timeout=span),
        "BadScheduleActivityAttributes: invalid HeartbeatTimeout: ",
        "",
    ),
    "a child": (
        lambda span: start_child("child", "queue", workflow_run_timeout=span),
        "BadStartChildExecutionAttributes: Invalid WorkflowRunTimeout on StartChildWorkflowExecutionCommand: ",
        ". WorkflowId=child",
    ),
    "the run that follows": (
        lambda span: continue_as_new("", "", workflow_run_timeout=span),
        "BadContinueAsNewAttributes: Invalid WorkflowRunTimeout on ContinueAsNewWorkflowExecutionCommand: ",
        ".",
    ),
    "the pause before the run that follows": (
        lambda span: continue_as_new("", "", backoff_start_interval=span),
        "BadContinueAsNewAttributes: Invalid BackoffStartInterval on ContinueAsNewWorkflowExecutionCommand: ",
        ".",
    ),
}


@pytest.mark.parametrize(("span", "says"), CASES)
@pytest.mark.parametrize(("make", "before", "after"), COMMANDS.values(), ids=COMMANDS.keys())
async def test_a_command_with_a_span_that_cannot_be_fails_the_task(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    make: Callable[[Duration], Command],
    before: str,
    after: str,
    span: Duration,
    says: str,
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, make(span)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message.startswith(before + says + after)
