"""Asking a workflow to stop, and ending it without asking."""

from uuid import uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus

from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    duration,
    event_names,
    payloads,
    start_timer,
)

STATUS = WorkflowExecutionStatus


def a_link() -> Link:
    return Link(workflow_event=Link.WorkflowEvent(namespace="elsewhere", workflow_id="w", run_id=str(uuid4())))


async def status(orders: Namespace, workflow_id: str, run_id: str = "") -> str:
    info = (await orders.describe(workflow_id, run_id)).workflow_execution_info
    return STATUS.Name(info.status).removeprefix("WORKFLOW_EXECUTION_STATUS_")


async def test_a_cancel_request_wakes_the_workflow_which_says_what_comes_of_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue)
    link = a_link()
    await orders.request_cancel(workflow_id, reason="changed my mind", links=[link])
    task = await orders.poll_workflow_task(queue)
    event = task.history.events[4]
    assert event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    attributes = event.workflow_execution_cancel_requested_event_attributes
    assert (attributes.cause, attributes.identity) == ("changed my mind", IDENTITY)
    assert list(event.links) == [link]
    assert await status(orders, workflow_id) == "RUNNING"
    await orders.complete_workflow_task(task, cancel_workflow("so far"))
    closed = await orders.close_event(workflow_id)
    told = closed.workflow_execution_canceled_event_attributes
    assert (told.details, told.workflow_task_completed_event_id) == (payloads("so far"), 8)
    assert await status(orders, workflow_id) == "CANCELED"


async def test_a_workflow_need_not_heed_a_cancel_request(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.request_cancel(workflow_id)
    await orders.run_workflow_task(queue, complete_workflow())
    assert await status(orders, workflow_id) == "COMPLETED"


async def test_a_workflow_may_cancel_itself_unasked(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, cancel_workflow())
    closed = await orders.close_event(workflow_id)
    assert not closed.workflow_execution_canceled_event_attributes.HasField("details")


@pytest.mark.parametrize("same", [True, False])
async def test_a_workflow_is_asked_once(orders: Namespace, workflow_id: str, queue: str, same: bool) -> None:
    await orders.start(workflow_id, queue)
    request_id = str(uuid4())
    await orders.request_cancel(workflow_id, request_id=request_id)
    await orders.request_cancel(workflow_id, request_id=request_id if same else str(uuid4()))
    names = event_names(await orders.history(workflow_id))
    assert names.count("WORKFLOW_EXECUTION_CANCEL_REQUESTED") == 1


async def test_a_cancel_request_that_comes_while_a_task_is_in_flight_follows_it(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.request_cancel(workflow_id)
    await orders.request_cancel(workflow_id)
    await orders.complete_workflow_task(task, start_timer("wait", 60))
    assert event_names(await orders.history(workflow_id))[3:] == [
        "WORKFLOW_TASK_COMPLETED",
        "TIMER_STARTED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "WORKFLOW_TASK_SCHEDULED",
    ]


async def test_a_closed_workflow_may_be_asked_to_stop_and_an_unknown_one_may_not(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    assert (await refusal(orders.request_cancel(workflow_id))).code == grpc.StatusCode.NOT_FOUND
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    await orders.request_cancel(workflow_id)
    await orders.request_cancel(workflow_id, run_id)
    await orders.request_cancel(workflow_id, first_execution_run_id=run_id)
    assert event_names(await orders.history(workflow_id))[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    assert (await refusal(orders.request_cancel(workflow_id, str(uuid4())))).code == grpc.StatusCode.NOT_FOUND


async def test_a_cancel_request_cuts_a_start_delay_short(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(60))
    await orders.request_cancel(workflow_id)
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]


async def test_the_first_run_of_a_chain_names_whichever_run_is_open(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, continue_as_new())
    second = (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id
    assert second != first
    # The run that is named has closed; with the chain's first run the open one is meant, whatever else is named.
    await orders.request_cancel(workflow_id, first, first_execution_run_id=first)
    names = event_names(await orders.history(workflow_id, second))
    assert "WORKFLOW_EXECUTION_CANCEL_REQUESTED" in names
    refused = await refusal(orders.request_cancel(workflow_id, first_execution_run_id=second))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    refused = await refusal(orders.terminate(workflow_id, first_execution_run_id=second))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert await status(orders, workflow_id) == "RUNNING"
    await orders.terminate(workflow_id, first_execution_run_id=first)
    assert await status(orders, workflow_id, second) == "TERMINATED"
    assert await status(orders, workflow_id, first) == "CONTINUED_AS_NEW"


async def test_a_terminated_workflow_keeps_reason_and_details(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    link = a_link()
    await orders.terminate(workflow_id, reason="enough", details=payloads("so far"), links=[link])
    history = await orders.history(workflow_id)
    assert event_names(history)[2:] == ["WORKFLOW_EXECUTION_TERMINATED"]
    attributes = history[-1].workflow_execution_terminated_event_attributes
    assert (attributes.reason, attributes.details, attributes.identity) == ("enough", payloads("so far"), IDENTITY)
    assert list(history[-1].links) == [link]
    assert await status(orders, workflow_id) == "TERMINATED"


async def test_a_termination_without_a_reason_is_given_one(orders: Namespace, workflow_id: str, queue: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.terminate(workflow_id)
    closed = await orders.close_event(workflow_id)
    assert closed.workflow_execution_terminated_event_attributes.reason == "terminated by user via frontend"


async def test_a_workflow_is_terminated_once(orders: Namespace, workflow_id: str, queue: str) -> None:
    assert (await refusal(orders.terminate(workflow_id))).code == grpc.StatusCode.NOT_FOUND
    await orders.start(workflow_id, queue)
    await orders.terminate(workflow_id)
    refused = await refusal(orders.terminate(workflow_id))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.message.startswith("workflow execution already completed")


async def test_a_worker_that_answers_after_the_termination_is_refused(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    await orders.terminate(workflow_id)
    assert event_names(await orders.history(workflow_id))[3:] == [
        "WORKFLOW_TASK_FAILED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]
    refused = await refusal(orders.complete_workflow_task(task, complete_workflow()))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_a_run_that_waits_for_its_start_delay_can_be_terminated(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    await orders.start(workflow_id, queue, workflow_start_delay=duration(60))
    await orders.terminate(workflow_id)
    assert event_names(await orders.history(workflow_id)) == [
        "WORKFLOW_EXECUTION_STARTED",
        "WORKFLOW_EXECUTION_TERMINATED",
    ]


@pytest.mark.usefixtures("embedded_only")
async def test_the_details_of_a_termination_have_a_limit(orders: Namespace, workflow_id: str, queue: str) -> None:
    """A real server takes whatever fits a gRPC message; then one page of history need not fit one any more."""
    await orders.start(workflow_id, queue)
    refused = await refusal(orders.terminate(workflow_id, details=payloads("x" * (2 * 1024 * 1024))))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    await orders.terminate(workflow_id, details=payloads("x" * (2 * 1024 * 1024 - 100)))
