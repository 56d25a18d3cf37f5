"""The system endpoint: a workflow signals another and starts it where there is none, as a Nexus operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Link, Payload, WorkflowType
from temporalio.api.enums.v1 import EventType, WorkflowIdConflictPolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueResponse,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
)
from temporalio.client import WorkflowExecutionStatus

from tests.backend.conftest import Teams
from tests.support.raw import Namespace, refusal
from tests.support.samples import Basket, FillBasket
from tests.support.values import complete_workflow, event_names, payload, payloads, schedule_operation

SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
OPERATION = "SignalWithStartWorkflowExecution"


def request(workflow_id: str, queue: str, **more: Any) -> SignalWithStartWorkflowExecutionRequest:
    return SignalWithStartWorkflowExecutionRequest(
        workflow_id=workflow_id,
        workflow_type=WorkflowType(name="Basket"),
        task_queue=TaskQueue(name=queue),
        signal_name="touch",
        signal_input=payloads("now"),
        **more,
    )


def encoded(given: SignalWithStartWorkflowExecutionRequest, encoding: str = "binary/protobuf") -> Payload:
    binary = encoding == "binary/protobuf"
    data = given.SerializeToString() if binary else json_format.MessageToJson(given).encode()
    metadata = {"encoding": encoding.encode(), "messageType": given.DESCRIPTOR.full_name.encode()}
    return Payload(metadata=metadata, data=data)


def call(given: Payload, service: str = SERVICE, operation: str = OPERATION, **more: Any) -> Command:
    made = schedule_operation("__temporal_system", service=service, operation=operation, **more)
    made.schedule_nexus_operation_command_attributes.input.CopyFrom(given)
    return made


async def called(orders: Namespace, workflow_id: str, queue: str, command: Command) -> PollWorkflowTaskQueueResponse:
    """A workflow that makes this call. Returns the workflow task that tells it what came of it."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, command)
    return await orders.poll_workflow_task(queue)


def completed(task: PollWorkflowTaskQueueResponse) -> tuple[HistoryEvent, SignalWithStartWorkflowExecutionResponse]:
    event = next(each for each in task.history.events if each.HasField("nexus_operation_completed_event_attributes"))
    result = event.nexus_operation_completed_event_attributes.result
    assert result.metadata["messageType"].endswith(b".SignalWithStartWorkflowExecutionResponse")
    if result.metadata["encoding"] == b"json/protobuf":
        return event, json_format.Parse(result.data, SignalWithStartWorkflowExecutionResponse())
    return event, SignalWithStartWorkflowExecutionResponse.FromString(result.data)


@pytest.mark.parametrize("encoding", ["binary/protobuf", "json/protobuf"])
async def test_a_workflow_starts_another_with_a_signal_and_both_histories_say_so(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str], encoding: str
) -> None:
    basket = unique("basket")
    woken = await called(orders, workflow_id, queue, call(encoded(request(basket, unique("their")), encoding)))
    assert event_names(woken.history.events)[4:6] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_COMPLETED"]
    event, answer = completed(woken)
    assert answer.started
    (link,) = event.links
    assert (link.workflow_event.workflow_id, link.workflow_event.run_id) == (basket, answer.run_id)
    theirs = await orders.history(basket)
    assert event_names(theirs)[:2] == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_SIGNALED"]
    (back,) = theirs[1].links
    assert back.workflow_event.workflow_id == workflow_id
    assert back.workflow_event.event_ref.event_id == woken.history.events[4].event_id
    assert back.workflow_event.event_ref.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED
    await orders.complete_workflow_task(woken, complete_workflow())
    await orders.terminate(basket)


async def test_a_workflow_that_runs_gets_the_signal_alone(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    basket = unique("basket")
    started = await orders.start(basket, unique("their"))
    woken = await called(orders, workflow_id, queue, call(encoded(request(basket, unique("their")))))
    _, answer = completed(woken)
    assert (answer.started, answer.run_id) == (False, started)
    assert event_names(await orders.history(basket))[-1] == "WORKFLOW_EXECUTION_SIGNALED"
    await orders.complete_workflow_task(woken, complete_workflow())
    await orders.terminate(basket)


async def test_what_is_refused_is_an_operation_that_failed(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    basket = unique("basket")
    await orders.start(basket, unique("their"))
    await orders.terminate(basket)
    only_failed = request(
        basket,
        unique("their"),
        workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
    )
    woken = await called(orders, workflow_id, queue, call(encoded(only_failed)))
    assert event_names(woken.history.events)[4:6] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_FAILED"]
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.HasField("server_failure_info")
    assert cause.server_failure_info.non_retryable
    assert cause.message.startswith("WorkflowExecutionAlreadyStarted: ")
    await orders.complete_workflow_task(woken, complete_workflow())


def _named(what: str) -> SignalWithStartWorkflowExecutionRequest:
    given = request("basket", "their")
    if what == "namespace":
        given.namespace = "payments"
    elif what == "request id":
        given.request_id = "mine"
    else:
        given.links.append(Link(workflow_event=Link.WorkflowEvent(namespace="evil")))
    return given


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (call(encoded(_named("namespace"))), "does not match namespace in context"),
        (call(encoded(_named("request id"))), "RequestID should not be set on the request"),
        (call(encoded(_named("links"))), "Links should not be set on the request"),
        (call(encoded(request("a", "b")), service="Other"), "not found"),
        (call(encoded(request("a", "b")), operation="StartWorkflowExecution"), "not found"),
        (call(encoded(request("a", "b")), headers={"tenant": "blue"}), "NexusHeader must be empty"),
        (call(payload("no request")), ""),
        (call(Payload(metadata={"encoding": b"binary/protobuf"}, data=b"\xff\xff")), ""),
    ],
    ids=["namespace", "request id", "links", "service", "operation", "headers", "plain JSON", "no message"],
)
async def test_a_call_that_cannot_be_fails_the_workflow_task(
    orders: Namespace, workflow_id: str, queue: str, command: Command, part: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, command))
    assert part in refused.message
    failed = (await orders.history(workflow_id))[3].workflow_task_failed_event_attributes
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")
async def test_a_policy_that_this_call_does_not_have_is_an_operation_that_failed(
    orders: Namespace, workflow_id: str, queue: str, unique: Callable[[str], str]
) -> None:
    """A real server fails the workflow task, for ever."""
    policy = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL
    given = request(unique("basket"), unique("their"), workflow_id_conflict_policy=policy)
    woken = await called(orders, workflow_id, queue, call(encoded(given)))
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.message.startswith("InvalidArgument: Invalid WorkflowIDConflictPolicy")
    await orders.complete_workflow_task(woken, complete_workflow())


async def test_the_sdk_signals_and_starts_from_a_workflow(teams: Teams, unique: Callable[[str], str]) -> None:
    basket = unique("basket")
    runs = [
        await teams.orders.execute_workflow(
            FillBasket.run, args=[basket, teams.orders_queue], id=unique("order"), task_queue=teams.orders_queue
        )
        for _ in range(2)
    ]
    handle = teams.orders.get_workflow_handle(basket)
    described = await handle.describe()
    assert runs == [described.run_id, described.run_id]
    assert described.status == WorkflowExecutionStatus.RUNNING
    assert await handle.query(Basket.query) == 2
    await handle.terminate()
