"""Signals and cancel requests that one workflow sends to another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Header
from temporalio.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    EventType,
    SignalExternalWorkflowExecutionFailedCause,
)
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.history.v1 import HistoryEvent

from tests.support.raw import Namespace, refusal
from tests.support.values import (
    cancel_external,
    complete_workflow,
    continue_as_new,
    event_names,
    payload,
    payloads,
    signal_external,
    start_child,
)

SIGNALED = EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED
SIGNAL_FAILED = EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED
CANCEL_REQUESTED = EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED
CANCEL_FAILED = EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED
NO_TARGET = SignalExternalWorkflowExecutionFailedCause.Value(
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)
NOT_THERE = CancelExternalWorkflowExecutionFailedCause.Value(
    "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)


@dataclass(frozen=True)
class Pair:
    """A workflow that sends, one that receives, and their queues."""

    orders: Namespace
    sender: str
    queue: str
    target: str
    target_queue: str

    async def send(self, *commands: Command) -> str:
        """The sender starts, and commands this; answers with its run id."""
        run_id = await self.orders.start(self.sender, self.queue)
        await self.orders.run_workflow_task(self.queue, *commands)
        return run_id

    async def told(self, event_type: EventType.ValueType) -> Any:
        """The attributes of the sender's event of this type, when it has come."""
        event = await self.orders.wait_for_event(self.sender, event_type)
        return getattr(event, event.WhichOneof("attributes") or "")

    async def received(self) -> list[HistoryEvent]:
        """Signals and cancel requests in the target's history."""
        events = await self.orders.history(self.target)
        types = (
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
        )
        return [event for event in events if event.event_type in types]


@pytest.fixture
def pair(orders: Namespace, unique: Callable[[str], str]) -> Pair:
    return Pair(orders, unique("sender"), unique("queue"), unique("target"), unique("target-queue"))


@pytest.mark.parametrize("by_run", [False, True])
async def test_a_workflow_signals_another_one(pair: Pair, by_run: bool) -> None:
    target_run = await pair.orders.start(pair.target, pair.target_queue)
    header = Header(fields={"trace": payload("7")})
    run_id = await pair.send(
        signal_external(
            pair.target,
            "paid",
            run_id=target_run if by_run else "",
            input=payloads(5),
            header=header,
            control="control",
        )
    )
    told = await pair.told(SIGNALED)
    assert (told.initiated_event_id, told.control, told.namespace) == (5, "control", "orders")
    assert told.workflow_execution.workflow_id == pair.target
    assert told.workflow_execution.run_id == (target_run if by_run else "")
    initiated = (await pair.orders.history(pair.sender))[4]
    attributes = initiated.signal_external_workflow_execution_initiated_event_attributes
    assert (attributes.signal_name, attributes.input, attributes.header) == ("paid", payloads(5), header)
    assert attributes.workflow_task_completed_event_id == 4
    (received,) = await pair.received()
    signaled = received.workflow_execution_signaled_event_attributes
    assert (signaled.signal_name, signaled.input, signaled.header) == ("paid", payloads(5), header)
    assert signaled.external_workflow_execution.workflow_id == pair.sender
    assert signaled.external_workflow_execution.run_id == run_id
    assert signaled.identity == "history-service"
    # The sender is woken by it.
    await pair.orders.run_workflow_task(pair.queue, complete_workflow())


@pytest.mark.parametrize("by_run", [False, True])
async def test_a_workflow_asks_another_one_to_stop(pair: Pair, by_run: bool) -> None:
    target_run = await pair.orders.start(pair.target, pair.target_queue)
    run_id = await pair.send(
        cancel_external(pair.target, run_id=target_run if by_run else "", reason="enough", control="control")
    )
    told = await pair.told(CANCEL_REQUESTED)
    assert told.initiated_event_id == 5
    assert told.workflow_execution.workflow_id == pair.target
    (received,) = await pair.received()
    asked = received.workflow_execution_cancel_requested_event_attributes
    assert asked.external_workflow_execution.workflow_id == pair.sender
    assert asked.external_workflow_execution.run_id == run_id
    assert (asked.external_initiated_event_id, asked.cause) == (5, "enough")
    await pair.orders.run_workflow_task(pair.queue, complete_workflow())


async def target_gone(pair: Pair, how: str) -> str:
    """Sees to it that the target cannot be reached like this; answers with the run to be named."""
    match how:
        case "unknown":
            return ""
        case "closed":
            await pair.orders.start(pair.target, pair.target_queue)
            await pair.orders.run_workflow_task(pair.target_queue, complete_workflow())
            return ""
        case "an unknown run":
            await pair.orders.start(pair.target, pair.target_queue)
            return str(uuid4())
        case "a run that was continued as new":
            first = await pair.orders.start(pair.target, pair.target_queue)
            await pair.orders.run_workflow_task(pair.target_queue, continue_as_new())
            return first
        case _:
            await pair.orders.start(pair.target, pair.target_queue)
            return ""


@pytest.mark.parametrize("how", ["unknown", "closed", "an unknown run", "a run that was continued as new", "no child"])
async def test_a_signal_that_cannot_arrive_is_said_to_have_failed(pair: Pair, how: str) -> None:
    run_id = await target_gone(pair, how)
    await pair.send(
        signal_external(pair.target, "paid", run_id=run_id, control="c", child_workflow_only=how == "no child")
    )
    told = await pair.told(SIGNAL_FAILED)
    assert told.cause == NO_TARGET
    assert (told.initiated_event_id, told.control) == (5, "c")
    assert told.workflow_execution.workflow_id == pair.target
    if how != "unknown":
        assert await pair.received() == []
    await pair.orders.run_workflow_task(pair.queue, complete_workflow())


@pytest.mark.parametrize("how", ["unknown", "an unknown run", "no child"])
async def test_a_cancel_request_that_cannot_arrive_is_said_to_have_failed(pair: Pair, how: str) -> None:
    run_id = await target_gone(pair, how)
    await pair.send(cancel_external(pair.target, run_id=run_id, control="c", child_workflow_only=how == "no child"))
    told = await pair.told(CANCEL_FAILED)
    assert told.cause == NOT_THERE
    assert told.initiated_event_id == 5
    if how != "unknown":
        assert await pair.received() == []
    await pair.orders.run_workflow_task(pair.queue, complete_workflow())


@pytest.mark.parametrize("how", ["closed", "a run that was continued as new"])
async def test_a_workflow_that_has_closed_was_asked_to_stop(pair: Pair, how: str) -> None:
    run_id = await target_gone(pair, how)
    await pair.send(cancel_external(pair.target, run_id=run_id))
    await pair.told(CANCEL_REQUESTED)
    assert await pair.received() == []


async def test_a_workflow_that_was_asked_to_stop_is_not_asked_again(pair: Pair) -> None:
    await pair.orders.start(pair.target, pair.target_queue)
    await pair.orders.request_cancel(pair.target)
    await pair.send(cancel_external(pair.target))
    await pair.told(CANCEL_REQUESTED)
    assert len(await pair.received()) == 1


async def test_a_workflow_does_not_reach_itself(pair: Pair) -> None:
    await pair.send(signal_external(pair.sender, "paid"), cancel_external(pair.sender))
    assert (await pair.told(SIGNAL_FAILED)).cause == NO_TARGET
    assert (await pair.told(CANCEL_FAILED)).cause == NOT_THERE
    names = event_names(await pair.orders.history(pair.sender))
    assert "WORKFLOW_EXECUTION_SIGNALED" not in names
    assert "WORKFLOW_EXECUTION_CANCEL_REQUESTED" not in names


async def test_a_child_is_reached_as_a_child(pair: Pair) -> None:
    await pair.send(start_child(pair.target, pair.target_queue))
    await pair.told(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    await pair.orders.run_workflow_task(
        pair.queue,
        signal_external(pair.target, "paid", child_workflow_only=True),
        cancel_external(pair.target, child_workflow_only=True),
    )
    await pair.told(SIGNALED)
    await pair.told(CANCEL_REQUESTED)
    assert sorted(event_names(await pair.received())) == [
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "WORKFLOW_EXECUTION_SIGNALED",
    ]


async def test_a_child_that_is_only_about_to_start_is_not_asked_to_stop(pair: Pair) -> None:
    await pair.orders.start(pair.sender, pair.queue)
    task = await pair.orders.poll_workflow_task(pair.queue)
    refused = await refusal(
        pair.orders.complete_workflow_task(
            task, start_child(pair.target, pair.target_queue), cancel_external(pair.target)
        )
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names("Start and RequestCancel for child workflow is not allowed in same workflow task")


async def test_signals_arrive_while_a_task_is_in_flight_on_either_side(pair: Pair) -> None:
    await pair.orders.start(pair.target, pair.target_queue)
    busy = await pair.orders.poll_workflow_task(pair.target_queue)
    await pair.orders.start(pair.sender, pair.queue)
    first = await pair.orders.poll_workflow_task(pair.queue)
    await pair.orders.complete_workflow_task(
        first, signal_external(pair.target, "paid"), force_create_new_workflow_task=True
    )
    second = await pair.orders.poll_workflow_task(pair.queue)
    await pair.orders.complete_workflow_task(second)
    await pair.told(SIGNALED)
    await pair.orders.complete_workflow_task(busy)
    (received,) = await pair.received()
    assert received.workflow_execution_signaled_event_attributes.signal_name == "paid"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (signal_external("", "paid"), "WorkflowId"),
        (signal_external("x" * 1001, "paid"), "WorkflowId"),
        (signal_external("target", ""), "SignalName"),
        (signal_external("target", "paid", run_id="no uuid"), "RunId"),
        (signal_external("target", "paid", namespace="payments"), "cross namespace"),
        (cancel_external(""), "WorkflowId"),
        (cancel_external("x" * 1001), "WorkflowId"),
        (cancel_external("target", run_id="no uuid"), "RunId"),
        (cancel_external("target", namespace="payments"), "cross namespace"),
    ],
    ids=lambda value: None if isinstance(value, Command) else value,
)
async def test_what_names_no_workflow_fails_the_workflow_task(pair: Pair, command: Command, says: str) -> None:
    await pair.orders.start(pair.sender, pair.queue)
    task = await pair.orders.poll_workflow_task(pair.queue)
    refused = await refusal(pair.orders.complete_workflow_task(task, command))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(says)
    await pair.told(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)


@pytest.mark.parametrize(
    "command",
    [
        signal_external("target", "paid", namespace="no-such-team"),
        cancel_external("target", namespace="no-such-team"),
        start_child("child", "queue", namespace="no-such-team"),
    ],
    ids=["signal", "cancel", "child"],
)
async def test_what_names_an_unknown_namespace_is_refused_and_the_task_stays(pair: Pair, command: Command) -> None:
    await pair.orders.start(pair.sender, pair.queue)
    task = await pair.orders.poll_workflow_task(pair.queue)
    refused = await refusal(pair.orders.complete_workflow_task(task, command))
    assert (refused.code, refused.message) == (grpc.StatusCode.NOT_FOUND, "Namespace no-such-team is not found.")
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"
    await pair.orders.complete_workflow_task(task, complete_workflow())
    assert event_names(await pair.orders.history(pair.sender))[-1] == "WORKFLOW_EXECUTION_COMPLETED"


@pytest.mark.parametrize("how", ["signal", "cancel"])
async def test_what_is_sent_with_the_last_command_of_a_workflow_is_not_delivered(pair: Pair, how: str) -> None:
    """A run that has closed does nothing any more: whoever sends must wait until it is told what came of it."""
    await pair.orders.start(pair.target, pair.target_queue)
    command = signal_external(pair.target, "paid") if how == "signal" else cancel_external(pair.target)
    await pair.send(command, complete_workflow())
    assert event_names(await pair.orders.history(pair.sender))[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    # What was on its way would have come before this.
    await pair.orders.signal(pair.target, "by the way")
    await pair.orders.run_workflow_task(pair.target_queue)
    assert event_names(await pair.received()) == ["WORKFLOW_EXECUTION_SIGNALED"]
