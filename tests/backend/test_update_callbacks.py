"""Completion callbacks of updates: an operation that an update is behind ends when the update has its outcome."""

import asyncio
from typing import Any

import grpc
import pytest
from temporalio.api.common.v1 import Callback, WorkflowExecution
from temporalio.api.enums.v1 import CallbackState, EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.failure.v1 import Failure
from temporalio.api.protocol.v1 import Message
from temporalio.api.update.v1 import Input, Meta, Outcome, Request, Response, WaitPolicy
from temporalio.api.workflow.v1 import CallbackInfo
from temporalio.api.workflowservice.v1 import (
    PollNexusTaskQueueResponse,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)

from tests.backend.conftest import Endpoint
from tests.support.messages import acceptance, place_of, response
from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    application_failure,
    async_result,
    complete_workflow,
    continue_as_new,
    payloads,
    result_of,
    schedule_operation,
)

ACCEPTED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED


def callback_of(task: PollNexusTaskQueueResponse) -> Callback:
    """Where the handler of this task is asked to report the end of its operation."""
    start = task.request.start_operation
    return Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))


def update(
    payments: Namespace, workflow_id: str, callbacks: list[Callback], request_id: str = "a-request", name: str = "one"
) -> "asyncio.Task[UpdateWorkflowExecutionResponse]":
    """Asks for an update with callbacks; the answer comes when it is accepted."""
    request = Request(
        meta=Meta(update_id=name, identity=IDENTITY),
        input=Input(name="add", args=payloads("a book")),
        request_id=request_id,
        completion_callbacks=callbacks,
    )

    async def ask() -> UpdateWorkflowExecutionResponse:
        return await payments.service.UpdateWorkflowExecution(
            UpdateWorkflowExecutionRequest(
                namespace=payments.name,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                wait_policy=WaitPolicy(lifecycle_stage=ACCEPTED),
                request=request,
            )
        )

    return asyncio.create_task(ask())


async def called(orders: Namespace, payments: Namespace, caller: str, endpoint: Endpoint) -> PollNexusTaskQueueResponse:
    """A workflow calls the endpoint; answers with the handler's task."""
    await orders.start(caller, caller)
    await orders.run_workflow_task(caller, schedule_operation(endpoint.name))
    return await payments.poll_nexus_task(endpoint.queue)


async def behind(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> PollNexusTaskQueueResponse:
    """An accepted update is behind the operation of the workflow `workflow_id` in `orders`."""
    task = await called(orders, payments, workflow_id, endpoint)
    await payments.start(workflow_id, queue)
    await payments.run_workflow_task(queue)
    asked = update(payments, workflow_id, [callback_of(task)])
    await accept(payments, queue)
    await asked
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    return task


async def accept(payments: Namespace, queue: str) -> None:
    """The workflow's worker accepts the update that its next task brings."""
    task = await payments.poll_workflow_task(queue)
    (message,) = task.messages
    accepting = acceptance(message)
    await payments.complete_workflow_task(task, place_of(accepting), messages=[accepting])


async def answer(payments: Namespace, workflow_id: str, queue: str, message: Message) -> None:
    """The workflow's worker gives the update its outcome."""
    await payments.signal(workflow_id, "wake")
    task = await payments.poll_workflow_task(queue)
    await payments.complete_workflow_task(task, place_of(message), messages=[message])


async def shown(payments: Namespace, workflow_id: str, run_id: str = "") -> CallbackInfo:
    """The one callback of a run."""
    (info,) = (await payments.describe(workflow_id, run_id)).callbacks
    return info


async def ended(orders: Namespace, workflow_id: str, event_type: int) -> Any:
    """The event by which the operation ended."""
    await orders.wait_for_event(workflow_id, event_type)
    found = next(event for event in await orders.history(workflow_id) if event.event_type == event_type)
    await orders.terminate(workflow_id)
    return found


async def test_the_result_of_an_update_is_the_result_of_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await behind(orders, payments, workflow_id, queue, endpoint)
    waiting = await shown(payments, workflow_id)
    assert waiting.state == CallbackState.CALLBACK_STATE_STANDBY
    assert waiting.trigger.update_workflow_execution_completed.update_id == "one"
    await answer(payments, workflow_id, queue, response("one", b'"booked"'))
    assert result_of(await ended(orders, workflow_id, COMPLETED)) == "booked"
    async with asyncio.timeout(10):
        while (await shown(payments, workflow_id)).state != CallbackState.CALLBACK_STATE_SUCCEEDED:
            pass
    await payments.terminate(workflow_id)


async def test_an_update_that_fails_fails_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await behind(orders, payments, workflow_id, queue, endpoint)
    message = response("one")
    failure = application_failure("sold out", failure_type="SoldOut")
    message.body.Pack(Response(meta=Meta(update_id="one"), outcome=Outcome(failure=failure)))
    await answer(payments, workflow_id, queue, message)
    event = await ended(orders, workflow_id, FAILED)
    assert event.nexus_operation_failed_event_attributes.failure.cause == failure
    await payments.terminate(workflow_id)


@pytest.mark.parametrize("how", ["completes", "goes on as another"])
async def test_a_run_that_ends_before_its_update_fails_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, how: str
) -> None:
    await behind(orders, payments, workflow_id, queue, endpoint)
    await payments.signal(workflow_id, "wake")
    end = complete_workflow() if how == "completes" else continue_as_new("Order", queue)
    await payments.run_workflow_task(queue, end)
    event = await ended(orders, workflow_id, FAILED)
    cause: Failure = event.nexus_operation_failed_event_attributes.failure.cause
    assert cause.application_failure_info.type == "AcceptedUpdateCompletedWorkflow"
    if how != "completes":
        assert not (await payments.describe(workflow_id)).callbacks
        await payments.terminate(workflow_id)


async def test_whoever_asks_for_an_update_that_is_accepted_is_told_of_its_outcome_too(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await behind(orders, payments, workflow_id, queue, endpoint)
    other = f"{workflow_id}-other"
    task = await called(orders, payments, other, endpoint)
    for _ in range(2):  # the second one is the first one's repeat
        await update(payments, workflow_id, [callback_of(task)], "another-request")
    await payments.answer_nexus_task(task, async_result("another-token"))
    await orders.wait_for_event(other, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    assert len((await payments.describe(workflow_id)).callbacks) == 2
    options = (await payments.history(workflow_id))[-1].workflow_execution_options_updated_event_attributes
    (attached,) = options.workflow_update_options
    assert (attached.update_id, attached.attached_request_id) == ("one", "another-request")
    await answer(payments, workflow_id, queue, response("one", b'"booked"'))
    for caller in (workflow_id, other):
        assert result_of(await ended(orders, caller, COMPLETED)) == "booked"
    await payments.terminate(workflow_id)


async def test_so_is_who_asks_before_it_is_accepted(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    callers = [workflow_id, f"{workflow_id}-other"]
    tasks = [await called(orders, payments, caller, endpoint) for caller in callers]
    await payments.start(workflow_id, queue)
    await payments.run_workflow_task(queue)
    first = update(payments, workflow_id, [callback_of(tasks[0])], "first")
    working = await payments.poll_workflow_task(queue)
    second = update(payments, workflow_id, [callback_of(tasks[1])], "second")
    done, _ = await asyncio.wait({second}, timeout=0.3)
    assert not done
    accepting = acceptance(working.messages[0])
    await payments.complete_workflow_task(working, place_of(accepting), messages=[accepting])
    await asyncio.gather(first, second)
    assert len((await payments.describe(workflow_id)).callbacks) == 2
    await answer(payments, workflow_id, queue, response("one", b'"booked"'))
    for caller in callers:
        assert result_of(await ended(orders, caller, COMPLETED)) == "booked"
    await payments.terminate(workflow_id)


async def test_callbacks_need_a_request_id(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, payments, workflow_id, endpoint)
    await payments.start(workflow_id, queue)
    refused = await refusal(update(payments, workflow_id, [callback_of(task)], request_id=""))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "request_id is required when completion_callbacks are set" in refused.message
    await payments.terminate(workflow_id)
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")
async def test_an_update_has_at_most_thirty_two_callbacks(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    """A real server refuses the worker's acceptance instead, for ever."""
    task = await called(orders, payments, workflow_id, endpoint)
    await payments.start(workflow_id, queue)
    await payments.run_workflow_task(queue)
    refused = await refusal(update(payments, workflow_id, [callback_of(task)] * 33))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "cannot attach more than 32 callbacks to update" in refused.message
    asked = update(payments, workflow_id, [callback_of(task)] * 32)
    await accept(payments, queue)
    await asked
    assert len((await payments.describe(workflow_id)).callbacks) == 32
    refused = await refusal(update(payments, workflow_id, [callback_of(task)], "another-request"))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    await payments.terminate(workflow_id)
    await orders.terminate(workflow_id)
