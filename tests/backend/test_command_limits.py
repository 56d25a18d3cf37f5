"""What a command may hold: just under a limit it is taken, just over it fails the task, in the real server's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.command.v1 import (
    Command,
    CompleteWorkflowExecutionCommandAttributes,
    ModifyWorkflowPropertiesCommandAttributes,
    RecordMarkerCommandAttributes,
)
from temporalio.api.common.v1 import Memo, Payloads
from temporalio.api.enums.v1 import CommandType

from tests.support.blobs import PAYLOAD_SIZE, blob, memo
from tests.support.raw import Namespace, refusal
from tests.support.servers import Server
from tests.support.values import (
    application_failure,
    cancel_external,
    cancel_timer,
    complete_workflow,
    continue_as_new,
    event_names,
    fail_workflow,
    schedule_activity,
    signal_external,
    start_child,
    start_timer,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ID_LENGTH = 1_000
TOO_LONG = "x" * (ID_LENGTH + 1)


# --- commands


def command(kind: str, **attributes: Any) -> Command:
    """A command of this type."""
    return Command(command_type=CommandType.Value(f"COMMAND_TYPE_{kind}"), **attributes)


def marker(name: str = "note", **more: Any) -> Command:
    """Records a marker."""
    attributes = RecordMarkerCommandAttributes(marker_name=name, **more)
    return command("RECORD_MARKER", record_marker_command_attributes=attributes)


COMMAND_NAMES: dict[str, tuple[Callable[[str], Command], str]] = {
    "an activity's id": (
        lambda name: schedule_activity(name, "queue"),
        "BadScheduleActivityAttributes: activityId exceeds length limit. Length=1001 Limit=1000",
    ),
    "an activity's type": (
        lambda name: schedule_activity("a", "queue", activity_type=name),
        "BadScheduleActivityAttributes: activityType exceeds length limit. Length=1001 Limit=1000",
    ),
    "an activity's task queue": (
        lambda name: schedule_activity("a", name),
        "BadScheduleActivityAttributes: taskQueue length exceeds limit",
    ),
    "a timer's id": (
        lambda name: start_timer(name, 100),
        "BadStartTimerAttributes: TimerId on StartTimerCommand exceeds length limit. TimerId=xxx",
    ),
    "a marker's name": (
        lambda name: marker(name),
        "BadRecordMarkerAttributes: MarkerName on RecordMarkerCommand exceeds length limit. MarkerName=xxx",
    ),
    "a child's id": (
        lambda name: start_child(name, "queue"),
        "BadStartChildExecutionAttributes: WorkflowId on StartChildWorkflowExecutionCommand exceeds length limit."
        " WorkflowId=xxx",
    ),
    "a child's type": (
        lambda name: start_child("child", "queue", workflow_type=name),
        "BadStartChildExecutionAttributes: WorkflowType on StartChildWorkflowExecutionCommand exceeds length limit.",
    ),
    "a child's task queue": (
        lambda name: start_child("child", name),
        "BadStartChildExecutionAttributes: invalid TaskQueue on StartChildWorkflowExecutionCommand: taskQueue length"
        " exceeds limit",
    ),
    "the id of a workflow that is signalled": (
        lambda name: signal_external(name, "go"),
        "BadSignalWorkflowExecutionAttributes: WorkflowId on SignalExternalWorkflowExecutionCommand exceeds length"
        " limit. WorkflowId=xxx",
    ),
    "the id of a workflow that is to stop": (
        lambda name: cancel_external(name),
        "BadRequestCancelExternalWorkflowExecutionAttributes: WorkflowId on"
        " RequestCancelExternalWorkflowExecutionCommand exceeds length limit. WorkflowId=xxx",
    ),
    "the type of the run that follows": (
        lambda name: continue_as_new(name, "queue"),
        "BadContinueAsNewAttributes: WorkflowType on ContinueAsNewWorkflowExecutionCommand exceeds length limit."
        " WorkflowType=xxx",
    ),
    "the task queue of the run that follows": (
        lambda name: continue_as_new("", name),
        "BadContinueAsNewAttributes: error validating ContinueAsNewWorkflowExecutionCommand TaskQueue: taskQueue"
        " length exceeds limit",
    ),
}
"""What a command names → the command, and what the server says of a name that is too long."""


@pytest.mark.parametrize(("make", "says"), COMMAND_NAMES.values(), ids=COMMAND_NAMES.keys())
async def test_a_name_in_a_command_has_a_thousand_bytes_at_most(
    orders: Namespace, workflow_id: str, queue: str, make: Callable[[str], Command], says: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, make(TOO_LONG)))
    assert refused.code == INVALID
    assert refused.message.startswith(says)
    failed = (await orders.history(workflow_id))[3].workflow_task_failed_event_attributes
    assert failed.failure.message.startswith(says)
    await orders.run_workflow_task(queue, make("x" * ID_LENGTH))


async def test_a_timer_that_is_cancelled_by_too_long_an_id_fails_the_task(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, cancel_timer(TOO_LONG)))
    assert refused.message.startswith(
        "BadCancelTimerAttributes: TimerId on CancelTimerCommand exceeds length limit. TimerId=xxx"
    )


async def test_the_name_of_a_signal_to_another_workflow_has_no_limit(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, signal_external("nobody", TOO_LONG))
    initiated = (await orders.history(workflow_id))[4].signal_external_workflow_execution_initiated_event_attributes
    assert initiated.signal_name == TOO_LONG


def complete(result: Payloads) -> Command:
    """Closes the workflow with this result."""
    attributes = CompleteWorkflowExecutionCommandAttributes(result=result)
    return command("COMPLETE_WORKFLOW_EXECUTION", complete_workflow_execution_command_attributes=attributes)


def cancelled(details: Payloads) -> Command:
    """Closes the workflow as cancelled, with these details."""
    made = command("CANCEL_WORKFLOW_EXECUTION")
    made.cancel_workflow_execution_command_attributes.details.CopyFrom(details)
    return made


def modify(memo: Memo) -> Command:
    """Changes the workflow's memo."""
    attributes = ModifyWorkflowPropertiesCommandAttributes(upserted_memo=memo)
    return command("MODIFY_WORKFLOW_PROPERTIES", modify_workflow_properties_command_attributes=attributes)


COMMAND_BLOBS: dict[str, tuple[Callable[[int], Command], str]] = {
    "an activity's input": (
        lambda size: schedule_activity("a", "queue", input=blob(size)),
        "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit.",
    ),
    "a child's input": (
        lambda size: start_child("child", "queue", input=blob(size)),
        "BadStartChildExecutionAttributes: StartChildWorkflowExecutionCommandAttributes. Input exceeds size limit.",
    ),
    "a child's memo": (
        lambda size: start_child("child", "queue", memo=memo(size)),
        "BadStartChildExecutionAttributes: StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.",
    ),
    "a signal's input": (
        lambda size: signal_external("nobody", "go", input=blob(size)),
        "BadSignalWorkflowExecutionAttributes: SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size"
        " limit.",
    ),
    "the input of the run that follows": (
        lambda size: continue_as_new("", "", input=blob(size)),
        "BadContinueAsNewAttributes: ContinueAsNewWorkflowExecutionCommandAttributes. Input exceeds size limit.",
    ),
    "the memo of the run that follows": (
        lambda size: continue_as_new("", "", memo=memo(size)),
        "BadContinueAsNewAttributes: ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit.",
    ),
    "the workflow's failure": (
        lambda size: fail_workflow(application_failure("x" * (size - application_failure("").ByteSize() - 4))),
        "BadFailWorkflowExecutionAttributes: FailWorkflowExecutionCommandAttributes.Failure exceeds size limit.",
    ),
    "a marker's details": (
        lambda size: marker(details={"note": blob(size - len("note"))}),
        "BadRecordMarkerAttributes: RecordMarkerCommandAttributes.Details exceeds size limit.",
    ),
}
"""What a command brings → the command, and what the server says of one that is too large."""


@pytest.mark.parametrize(("make", "says"), COMMAND_BLOBS.values(), ids=COMMAND_BLOBS.keys())
async def test_a_payload_of_a_command_has_two_mebibytes_at_most(
    orders: Namespace, unique: Callable[[str], str], make: Callable[[int], Command], says: str
) -> None:
    over, under = unique("over"), unique("under")
    for workflow_id in (over, under):
        await orders.start(workflow_id, workflow_id)
    task = await orders.poll_workflow_task(over)
    refused = await refusal(orders.complete_workflow_task(task, make(PAYLOAD_SIZE + 1)))
    assert refused.code == INVALID
    assert refused.message.startswith(says)
    failed, closed = (await orders.history(over))[3:]
    assert failed.workflow_task_failed_event_attributes.failure.message.startswith(says)
    assert closed.workflow_execution_terminated_event_attributes.reason.startswith(says)
    assert closed.workflow_execution_terminated_event_attributes.identity == "history-service"
    await orders.run_workflow_task(under, make(PAYLOAD_SIZE))


async def test_a_result_that_is_too_large_ends_the_workflow(
    orders: Namespace, server: Server, unique: Callable[[str], str]
) -> None:
    over, under = unique("over"), unique("under")
    for workflow_id in (over, under):
        await orders.start(workflow_id, workflow_id)
    task = await orders.poll_workflow_task(over)
    refused = await refusal(orders.complete_workflow_task(task, complete(blob(PAYLOAD_SIZE + 1))))
    # A real server names the cause that is the activities'.
    cause = "BadCompleteWorkflowExecutionAttributes" if server.kind == "embedded" else "BadScheduleActivityAttributes"
    says = f"{cause}: CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit."
    assert refused.message.startswith(says)
    closed = (await orders.history(over))[-1].workflow_execution_terminated_event_attributes
    assert closed.reason.startswith(says)
    await orders.run_workflow_task(under, complete(blob(PAYLOAD_SIZE)))


async def test_a_memo_that_is_changed_has_two_mebibytes_at_most(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, modify(memo(PAYLOAD_SIZE + 100))))
    says = "BadModifyWorkflowPropertiesAttributes: ModifyWorkflowPropertiesCommandAttributes exceeds size limit."
    assert refused.message.startswith(says)
    closed = (await orders.history(workflow_id))[-1].workflow_execution_terminated_event_attributes
    assert closed.reason.startswith(says)


async def test_the_details_of_a_cancelled_workflow_have_no_limit(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, cancelled(blob(PAYLOAD_SIZE + 1)))
    assert event_names([await orders.close_event(workflow_id)]) == ["WORKFLOW_EXECUTION_CANCELED"]


PENDING: dict[str, tuple[Callable[[int], Command], str]] = {
    "activities": (
        lambda number: schedule_activity(f"{number}", "queue"),
        "PendingActivitiesLimitExceeded: the number of pending activities, 2000, has reached the per-workflow limit"
        " of 2000",
    ),
    "children": (
        lambda number: start_child(f"child-{number}", "queue"),
        "PendingChildWorkflowsLimitExceeded: the number of pending child workflow executions, 2000, has reached the"
        " per-workflow limit of 2000",
    ),
    "signals": (
        lambda number: signal_external(f"other-{number}", "go"),
        "PendingSignalsLimitExceeded: the number of pending signals to external workflows, 2000, has reached the"
        " per-workflow limit of 2000",
    ),
    "cancel requests": (
        lambda number: cancel_external(f"other-{number}"),
        "PendingRequestCancelLimitExceeded: the number of pending requests to cancel external workflows, 2000, has"
        " reached the per-workflow limit of 2000",
    ),
}


@pytest.mark.parametrize(("make", "says"), PENDING.values(), ids=PENDING.keys())
async def test_of_each_kind_so_many_may_be_pending(
    orders: Namespace, workflow_id: str, queue: str, make: Callable[[int], Command], says: str
) -> None:
    """That the 2,000th is taken is seen by the message, which is about the one after it."""
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, *(make(number) for number in range(2_001))))
    assert refused.code == INVALID
    assert refused.message == says
    await orders.terminate(workflow_id)


# --- what no command may be


RESERVED = "task queue name cannot start with reserved prefix /_sys/"
SYSTEM_QUEUE = "/_sys/queue/1"
RESERVED_IN_COMMANDS: dict[str, tuple[Command, str]] = {
    "an activity": (schedule_activity("a", SYSTEM_QUEUE), f"BadScheduleActivityAttributes: {RESERVED}"),
    "a child": (
        start_child("child", SYSTEM_QUEUE),
        f"BadStartChildExecutionAttributes: invalid TaskQueue on StartChildWorkflowExecutionCommand: {RESERVED}",
    ),
    "the run that follows": (
        continue_as_new("", SYSTEM_QUEUE),
        "BadContinueAsNewAttributes: error validating ContinueAsNewWorkflowExecutionCommand TaskQueue: " + RESERVED,
    ),
}


@pytest.mark.parametrize(("bad", "says"), RESERVED_IN_COMMANDS.values(), ids=RESERVED_IN_COMMANDS.keys())
async def test_a_command_that_names_a_queue_of_the_servers_own_fails_the_task(
    orders: Namespace, workflow_id: str, queue: str, bad: Command, says: str
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(orders.complete_workflow_task(await orders.poll_workflow_task(queue), bad))
    assert refused.code == INVALID
    assert refused.message.startswith(says)
    assert event_names(await orders.history(workflow_id))[3:] == ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]


ATTRIBUTES = {
    "SCHEDULE_ACTIVITY_TASK": "BadScheduleActivityAttributes",
    "REQUEST_CANCEL_ACTIVITY_TASK": "BadRequestCancelActivityAttributes",
    "START_TIMER": "BadStartTimerAttributes",
    "CANCEL_TIMER": "BadCancelTimerAttributes",
    "COMPLETE_WORKFLOW_EXECUTION": "BadCompleteWorkflowExecutionAttributes",
    "FAIL_WORKFLOW_EXECUTION": "BadFailWorkflowExecutionAttributes",
    "CANCEL_WORKFLOW_EXECUTION": "BadCancelWorkflowExecutionAttributes",
    "CONTINUE_AS_NEW_WORKFLOW_EXECUTION": "BadContinueAsNewAttributes",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION": "BadRequestCancelExternalWorkflowExecutionAttributes",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION": "BadSignalWorkflowExecutionAttributes",
    "RECORD_MARKER": "BadRecordMarkerAttributes",
    "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES": "BadSearchAttributes",
    "MODIFY_WORKFLOW_PROPERTIES": "BadModifyWorkflowPropertiesAttributes",
    "PROTOCOL_MESSAGE": "BadUpdateWorkflowExecutionMessage",
}
"""Type of command → the cause of the failed task. A child's is not here: a real server answers INTERNAL."""


@pytest.mark.parametrize("kind", ATTRIBUTES)
async def test_a_command_without_its_attributes_fails_the_task(
    orders: Namespace, workflow_id: str, queue: str, kind: str
) -> None:
    await orders.start(workflow_id, queue)
    refused = await refusal(orders.complete_workflow_task(await orders.poll_workflow_task(queue), command(kind)))
    name = kind.title().replace("_", "")
    assert refused.code == INVALID
    assert refused.message == f"{ATTRIBUTES[kind]}: {name}CommandAttributes is not set on {name}Command."
    assert event_names(await orders.history(workflow_id))[3:] == ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_SCHEDULED"]
    await orders.run_workflow_task(queue, complete_workflow())
