"""Nexus operations, task by task: what the handler is asked, and what becomes of its answer."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Callback
from temporalio.api.enums.v1 import CallbackState, EventType, PendingNexusOperationState, TimeoutType
from temporalio.api.errordetails.v1 import NotFoundFailure
from temporalio.api.operatorservice.v1 import UpdateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse, PollWorkflowTaskQueueResponse

from tests.backend.conftest import Endpoint
from tests.support.operation import Operation
from tests.support.raw import Namespace, endpoint_spec, refusal, wait_until_callable
from tests.support.servers import Server
from tests.support.values import (
    application_failure,
    async_result,
    complete_workflow,
    duration,
    event_names,
    fail_workflow,
    payload,
    payloads,
    result_of,
    schedule_operation,
    start_timer,
    sync_result,
)

STARTED = EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED


def callback_of(task: PollNexusTaskQueueResponse) -> Callback:
    """Where the handler of this task is asked to report the end of its operation."""
    start = task.request.start_operation
    return Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))


async def called(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, **options: Any
) -> PollNexusTaskQueueResponse:
    """Starts a workflow that calls the endpoint; answers with the task that the handler gets."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, **options))
    return await Namespace("payments", orders.channel).poll_nexus_task(endpoint.queue)


async def finish(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


async def test_a_handler_is_told_the_service_the_operation_the_input_and_where_to_call_back(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(
        orders,
        workflow_id,
        queue,
        endpoint,
        service="Payments",
        operation="process",
        value={"cents": 5},
        headers={"X-Trace": "7"},
        schedule_to_close=60,
    )
    asked = task.request.start_operation
    assert (asked.service, asked.operation, asked.payload) == ("Payments", "process", payload({"cents": 5}))
    assert asked.request_id
    assert asked.callback
    assert asked.callback_header
    assert task.request.endpoint == endpoint.name
    assert task.request.capabilities.temporal_failure_responses
    assert task.request.HasField("scheduled_time")
    run_id = (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id
    (link,) = asked.links
    assert link.type == "temporal.api.common.v1.Link.WorkflowEvent"
    assert f"temporal:///namespaces/orders/workflows/{workflow_id}/{run_id}/history?" in link.url
    assert "eventID=5" in link.url
    assert "eventType=NexusOperationScheduled" in link.url


async def test_the_handlers_headers_are_the_callers_in_lower_case_and_its_own_deadlines(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint, headers={"X-Trace": "7"}, schedule_to_close=60)
    header = dict(task.request.header)
    assert header["x-trace"] == "7"
    assert "request-timeout" in header
    assert header["operation-timeout"].endswith("ms")
    assert 50_000 < float(header["operation-timeout"].removesuffix("ms")) <= 60_000


@pytest.mark.parametrize("alone", [False, True], ids=["of a workflow", "alone"])
@pytest.mark.parametrize("given", ["1", "soon", "30s"])
async def test_an_operation_timeout_that_the_caller_sets_stays_and_counts_down_if_it_is_one(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, given: str, alone: bool
) -> None:
    headers = {"Operation-Timeout": given}
    if alone:
        operation = Operation(orders, workflow_id, endpoint.name)
        await operation.start(nexus_header=headers, schedule_to_close_timeout=timedelta(seconds=60))
        task = await Namespace("payments", orders.channel).poll_nexus_task(endpoint.queue)
    else:
        task = await called(orders, workflow_id, queue, endpoint, headers=headers, schedule_to_close=60)
    told = task.request.header["operation-timeout"]
    if given == "30s":
        assert 0 <= int(told.removesuffix("ms")) <= 30_000
    else:
        assert told == given


async def test_a_scheduled_operation_is_in_history_and_pending(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await called(orders, workflow_id, queue, endpoint, value=1, headers={"x-trace": "7"}, schedule_to_close=60)
    event = (await orders.history(workflow_id))[4]
    attributes = event.nexus_operation_scheduled_event_attributes
    assert (attributes.endpoint, attributes.service, attributes.operation) == (endpoint.name, "Payments", "process")
    assert attributes.input == payload(1)
    assert dict(attributes.nexus_header) == {"x-trace": "7"}
    assert attributes.schedule_to_close_timeout.ToTimedelta() == timedelta(seconds=60)
    assert attributes.workflow_task_completed_event_id == 4
    assert attributes.request_id
    assert attributes.endpoint_id
    (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
    assert (pending.endpoint, pending.service, pending.operation) == (endpoint.name, "Payments", "process")
    assert pending.scheduled_event_id == 5
    assert pending.state == PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_SCHEDULED


async def test_an_operation_with_its_result_at_once_completes_without_having_started(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, sync_result({"fee": 2}))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:] == [
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    completed = woken.history.events[5]
    attributes = completed.nexus_operation_completed_event_attributes
    assert result_of(completed) == {"fee": 2}
    assert attributes.scheduled_event_id == 5
    assert attributes.request_id == task.request.start_operation.request_id
    assert not (await orders.describe(workflow_id)).pending_nexus_operations
    await finish(orders, woken)


async def test_an_operation_that_goes_on_wakes_the_caller_with_its_token(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, async_result("a-token"))
    woken = await orders.poll_workflow_task(queue)
    started = woken.history.events[5].nexus_operation_started_event_attributes
    assert (started.scheduled_event_id, started.operation_token) == (5, "a-token")
    assert started.request_id == task.request.start_operation.request_id
    (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
    assert pending.state == PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_STARTED
    assert pending.operation_token == "a-token"
    await finish(orders, woken)


@pytest.mark.parametrize("end", ["completed", "failed", "timed out"])
async def test_the_end_of_the_handlers_workflow_is_the_end_of_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, end: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    timeout = duration(1) if end == "timed out" else None
    await payments.start(
        workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)], workflow_run_timeout=timeout
    )
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.run_workflow_task(queue)
    declined = application_failure("declined", failure_type="CardDeclined", details=payloads({"reason": "no money"}))
    if end == "completed":
        await payments.run_workflow_task(endpoint.queue, complete_workflow({"receipt": 5}))
    elif end == "failed":
        await payments.run_workflow_task(endpoint.queue, fail_workflow(declined))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5] == "NEXUS_OPERATION_STARTED"
    event = woken.history.events[9]
    if end == "completed":
        assert result_of(event) == {"receipt": 5}
        assert event.nexus_operation_completed_event_attributes.scheduled_event_id == 5
    else:
        attributes = event.nexus_operation_failed_event_attributes
        info = attributes.failure.nexus_operation_execution_failure_info
        assert attributes.failure.message == "nexus operation completed unsuccessfully"
        assert (info.scheduled_event_id, info.endpoint, info.operation_token) == (5, endpoint.name, "a-token")
        if end == "failed":
            assert attributes.failure.cause == declined
        else:
            assert attributes.failure.cause.HasField("timeout_failure_info")
    await finish(orders, woken)


async def test_the_handlers_workflow_shows_its_callback_from_waiting_to_delivered(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    run_id = await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("a-token"))
    (waiting,) = (await payments.describe(workflow_id, run_id)).callbacks
    assert waiting.state == CallbackState.CALLBACK_STATE_STANDBY
    assert waiting.callback.nexus.url == task.request.start_operation.callback
    started = (await payments.history(workflow_id))[0].workflow_execution_started_event_attributes
    assert started.completion_callbacks[0].nexus.url == task.request.start_operation.callback
    await orders.wait_for_event(workflow_id, STARTED)
    await payments.run_workflow_task(endpoint.queue, complete_workflow())
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    delivered = await settled_callback(payments, workflow_id)
    assert delivered.state == CallbackState.CALLBACK_STATE_SUCCEEDED
    assert delivered.attempt == 1


async def settled_callback(payments: Namespace, workflow_id: str) -> Any:
    """The workflow's one callback once it is delivered or given up; the caller may know of the delivery earlier."""
    over = (CallbackState.CALLBACK_STATE_SUCCEEDED, CallbackState.CALLBACK_STATE_FAILED)
    async with asyncio.timeout(10):
        while True:
            (callback,) = (await payments.describe(workflow_id)).callbacks
            if callback.state in over:
                return callback
            await asyncio.sleep(0.02)


async def test_a_callback_to_a_caller_that_is_closed_is_given_up(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.run_workflow_task(queue, complete_workflow())
    closed = await orders.history(workflow_id)
    await payments.run_workflow_task(endpoint.queue, complete_workflow("too late"))
    callback = await settled_callback(payments, workflow_id)
    assert callback.state == CallbackState.CALLBACK_STATE_FAILED
    failure = callback.last_attempt_failure.message
    assert "already completed" in failure or workflow_id in failure
    assert await orders.history(workflow_id) == closed


async def test_a_workflow_that_closes_before_the_handler_answered_completes_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)])
    await payments.run_workflow_task(endpoint.queue, complete_workflow("quick"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:] == [
        "NEXUS_OPERATION_SCHEDULED",
        "NEXUS_OPERATION_STARTED",
        "NEXUS_OPERATION_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
    assert result_of(woken.history.events[6]) == "quick"
    link = woken.history.events[5].links[0].workflow_event
    assert (link.namespace, link.workflow_id, link.event_ref.event_id) == ("payments", workflow_id, 1)
    await finish(orders, woken)


@pytest.mark.parametrize(
    "error_type", ["INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UPSTREAM_TIMEOUT", "UNHEARD_OF"]
)
async def test_an_error_that_may_pass_is_tried_again_and_shown_while_it_lasts(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, error_type: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.refuse_nexus_task(task, error_type, "come back later")
    again = await payments.poll_nexus_task(endpoint.queue)
    (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
    # A real server counts an attempt when it has ended, so that 1 is shown while the second one runs.
    assert pending.attempt in (1, 2)
    assert pending.last_attempt_failure.message == "come back later"
    assert pending.last_attempt_failure.nexus_handler_failure_info.type == error_type
    assert pending.HasField("last_attempt_complete_time")
    await payments.answer_nexus_task(again, sync_result("at last"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:6] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_COMPLETED"]
    assert result_of(woken.history.events[5]) == "at last"
    await finish(orders, woken)


async def test_between_attempts_an_operation_is_backing_off_until_a_time(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.refuse_nexus_task(task, "UNAVAILABLE", "come back later")
    async with asyncio.timeout(5):
        while True:
            (pending,) = (await orders.describe(workflow_id)).pending_nexus_operations
            if pending.state == PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF:
                break
            await asyncio.sleep(0.01)
    wait = pending.next_attempt_schedule_time.ToDatetime() - pending.last_attempt_complete_time.ToDatetime()
    assert timedelta(0) < wait <= timedelta(seconds=1.5)


@pytest.mark.parametrize(
    ("options", "timeout_type"),
    [
        ({"schedule_to_close": 1}, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"schedule_to_close": 2}, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE),
        ({"schedule_to_start_timeout": duration(1)}, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START),
    ],
    ids=["too short to be tried", "schedule to close", "schedule to start"],
)
async def test_an_operation_that_nobody_handles_in_time_is_timed_out(
    orders: Namespace,
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
    options: dict[str, Any],
    timeout_type: TimeoutType.ValueType,
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, **options))
    woken = await orders.poll_workflow_task(queue)
    attributes = woken.history.events[5].nexus_operation_timed_out_event_attributes
    assert attributes.scheduled_event_id == 5
    assert attributes.failure.message == "nexus operation completed unsuccessfully"
    assert attributes.failure.nexus_operation_execution_failure_info.endpoint == endpoint.name
    assert attributes.failure.cause.message == "operation timed out"
    assert attributes.failure.cause.timeout_failure_info.timeout_type == timeout_type
    await finish(orders, woken)


async def test_an_operation_that_started_and_does_not_end_in_time_is_timed_out(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint, start_to_close_timeout=duration(1))
    await payments.start(workflow_id, endpoint.queue, completion_callbacks=[callback_of(task)])
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.run_workflow_task(queue)
    woken = await orders.poll_workflow_task(queue)
    attributes = woken.history.events[-3].nexus_operation_timed_out_event_attributes
    assert attributes.failure.cause.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    await payments.run_workflow_task(endpoint.queue, complete_workflow("too late"))
    callback = await settled_callback(payments, workflow_id)
    assert callback.state == CallbackState.CALLBACK_STATE_FAILED
    assert await orders.history(workflow_id) == list(woken.history.events)
    await finish(orders, woken)


async def test_operations_answer_in_any_order_and_each_once(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *(schedule_operation(endpoint.name, value=number) for number in range(5)))
    tasks = await asyncio.gather(*(payments.poll_nexus_task(endpoint.queue) for _ in range(5)))
    for task in reversed(tasks):
        number = int(task.request.start_operation.payload.data)
        await payments.answer_nexus_task(task, sync_result(number * 10))
    done: dict[int, Any] = {}
    while len(done) < 5:
        woken = await orders.poll_workflow_task(queue)
        done = {
            event.nexus_operation_completed_event_attributes.scheduled_event_id: result_of(event)
            for event in woken.history.events
            if event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
        }
        await orders.complete_workflow_task(woken, *([complete_workflow()] if len(done) == 5 else []))
    assert done == {5 + number: number * 10 for number in range(5)}
    names = event_names(await orders.history(workflow_id))
    assert names.count("NEXUS_OPERATION_COMPLETED") == 5


@pytest.mark.parametrize("second", ["an answer", "an error"])
async def test_a_nexus_task_can_be_answered_once_only(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, second: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, sync_result("first"))
    again = (
        payments.answer_nexus_task(task, sync_result("second"))
        if second == "an answer"
        else payments.refuse_nexus_task(task, "INTERNAL", "second")
    )
    refused = await refusal(again)
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert "task" in refused.message.lower()
    refused.detail(NotFoundFailure)
    woken = await orders.poll_workflow_task(queue)
    assert result_of(woken.history.events[5]) == "first"
    await finish(orders, woken)


async def test_a_call_goes_where_its_endpoint_points_when_it_is_made(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str], queue: str, workflow_id: str, server: Server
) -> None:
    made = await payments.create_endpoint(unique("endpoint"), unique("old"))
    moved = endpoint_spec(unique("renamed"), "payments", unique("new"))
    await payments.operator.UpdateNexusEndpoint(UpdateNexusEndpointRequest(id=made.id, version=1, spec=moved))
    if server.kind == "real":
        await wait_until_callable(orders, moved.name)
    task = await called(orders, workflow_id, queue, Endpoint(moved.name, moved.target.worker.task_queue, made.id))
    await payments.answer_nexus_task(task, sync_result("from the new place"))
    woken = await orders.poll_workflow_task(queue)
    assert result_of(woken.history.events[5]) == "from the new place"
    await finish(orders, woken)


async def test_a_handler_that_polls_later_gets_the_call(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name), start_timer("later", 0.5))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[-3] == "TIMER_FIRED"
    await orders.complete_workflow_task(woken)
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, sync_result(1))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[-3] == "NEXUS_OPERATION_COMPLETED"
    await finish(orders, woken)
