"""Nexus operations that fail: what the handler's answer becomes in the caller's history, and bad commands."""

from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Callback
from temporalio.api.enums.v1 import (
    EventType,
    NexusHandlerErrorRetryBehavior,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure, NexusHandlerFailureInfo
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.nexus.v1 import HandlerError, StartOperationResponse, UnsuccessfulOperationError
from temporalio.api.workflowservice.v1 import (
    PollNexusTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
    RespondNexusTaskFailedRequest,
)

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    async_result,
    cancelled_failure,
    complete_workflow,
    event_names,
    payloads,
    schedule_operation,
    sync_result,
)

DECLINED = application_failure(
    "declined", failure_type="CardDeclined", non_retryable=True, details=payloads({"reason": "no money"})
)
MESSAGE = "nexus operation completed unsuccessfully"
BAD_ATTRIBUTES = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_NEXUS_OPERATION_ATTRIBUTES


async def called(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, **options: Any
) -> PollNexusTaskQueueResponse:
    """Starts a workflow that calls the endpoint; answers with the task that the handler gets."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, **options))
    return await Namespace("payments", orders.channel).poll_nexus_task(endpoint.queue)


async def fail_task(payments: Namespace, task: PollNexusTaskQueueResponse, **failed: Any) -> None:
    await payments.service.RespondNexusTaskFailed(
        RespondNexusTaskFailedRequest(namespace=payments.name, task_token=task.task_token, **failed)
    )


async def finish(orders: Namespace, task: PollWorkflowTaskQueueResponse) -> None:
    await orders.complete_workflow_task(task, complete_workflow())


def handler_failure(error_type: str, message: str = "refused", **more: Any) -> Failure:
    return Failure(message=message, nexus_handler_failure_info=NexusHandlerFailureInfo(type=error_type, **more))


@pytest.mark.parametrize("cause", [DECLINED, application_failure("no retry type", failure_type="")])
async def test_a_failed_operation_has_the_handlers_failure_as_its_cause(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, cause: Failure
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, StartOperationResponse(failure=cause))
    woken = await orders.poll_workflow_task(queue)
    attributes = woken.history.events[5].nexus_operation_failed_event_attributes
    assert attributes.scheduled_event_id == 5
    assert attributes.request_id == task.request.start_operation.request_id
    assert attributes.failure.message == MESSAGE
    info = attributes.failure.nexus_operation_execution_failure_info
    assert (info.scheduled_event_id, info.endpoint, info.service, info.operation, info.operation_token) == (
        5,
        endpoint.name,
        "Payments",
        "process",
        "",
    )
    assert attributes.failure.cause == cause
    await finish(orders, woken)


async def test_an_operation_that_its_handler_cancelled_is_cancelled(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, StartOperationResponse(failure=cancelled_failure("called off")))
    woken = await orders.poll_workflow_task(queue)
    attributes = woken.history.events[5].nexus_operation_canceled_event_attributes
    assert attributes.failure.message == MESSAGE
    assert attributes.failure.cause == cancelled_failure("called off")
    await finish(orders, woken)


@pytest.mark.parametrize(
    ("state", "event_type"),
    [
        ("failed", EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED),
        ("canceled", EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED),
    ],
)
async def test_an_older_sdks_operation_error_is_understood(
    orders: Namespace,
    payments: Namespace,
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
    state: str,
    event_type: EventType.ValueType,
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    error = UnsuccessfulOperationError(operation_state=state, failure=NexusFailure(message="old style"))
    await payments.answer_nexus_task(task, StartOperationResponse(operation_error=error))
    woken = await orders.poll_workflow_task(queue)
    event = woken.history.events[5]
    assert event.event_type == event_type
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    assert attributes.failure.message == MESSAGE
    assert attributes.failure.cause.message == "old style"
    assert attributes.failure.cause.HasField("canceled_failure_info") == (state == "canceled")
    await finish(orders, woken)


@pytest.mark.parametrize(
    "error_type", ["BAD_REQUEST", "UNAUTHENTICATED", "UNAUTHORIZED", "NOT_FOUND", "CONFLICT", "NOT_IMPLEMENTED"]
)
async def test_a_handler_error_for_good_fails_the_operation_at_its_first_attempt(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, error_type: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    failure = handler_failure(error_type)
    failure.cause.CopyFrom(DECLINED)
    await fail_task(payments, task, failure=failure)
    woken = await orders.poll_workflow_task(queue)
    attributes = woken.history.events[5].nexus_operation_failed_event_attributes
    assert attributes.failure.message == MESSAGE
    assert attributes.failure.cause == failure
    await finish(orders, woken)


async def test_a_handler_may_say_that_an_error_is_not_to_be_tried_again(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    never = NexusHandlerErrorRetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
    await fail_task(payments, task, failure=handler_failure("INTERNAL", retry_behavior=never))
    woken = await orders.poll_workflow_task(queue)
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause == handler_failure("INTERNAL", retry_behavior=never)
    await finish(orders, woken)


async def test_a_handler_may_say_that_an_error_is_to_be_tried_again(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    retry = NexusHandlerErrorRetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
    await fail_task(payments, task, failure=handler_failure("BAD_REQUEST", retry_behavior=retry))
    again = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(again, sync_result("at last"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5] == "NEXUS_OPERATION_COMPLETED"
    await finish(orders, woken)


async def test_an_older_sdks_handler_error_is_understood(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await fail_task(payments, task, error=HandlerError(error_type="NOT_FOUND", failure=NexusFailure(message="none")))
    woken = await orders.poll_workflow_task(queue)
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.nexus_handler_failure_info.type == "NOT_FOUND"
    assert "none" in (cause.message, cause.cause.message)
    await finish(orders, woken)


@pytest.mark.parametrize("failed", [{}, {"failure": DECLINED}], ids=["nothing", "a failure of another kind"])
async def test_failing_a_nexus_task_needs_a_handler_error(
    orders: Namespace,
    payments: Namespace,
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
    failed: dict[str, Any],
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    refused = await refusal(fail_task(payments, task, **failed))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "failure" in refused.message.lower()


async def test_a_result_that_is_too_large_fails_the_operation(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, sync_result("x" * (2 * 1024 * 1024 + 1)))
    woken = await orders.poll_workflow_task(queue)
    failure = woken.history.events[5].nexus_operation_failed_event_attributes.failure
    assert "large" in failure.cause.message or "size limit" in failure.cause.message
    await finish(orders, woken)


BAD_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "a service name that is too long": ({"service": "s" * 1001}, "Service"),
    "an operation name that is too long": ({"operation": "o" * 1001}, "Operation"),
    "a header that is the server's own": ({"headers": {"Request-Timeout": "1s"}}, "Request-Timeout"),
    "a principal's type": ({"headers": {"Temporal-Principal-Type": "user"}}, "Temporal-Principal-Type"),
    "a principal's name": ({"headers": {"temporal-principal-name": "root"}}, "temporal-principal-name"),
    "a redirection": ({"headers": {"xdc-redirection": "true"}}, "xdc-redirection"),
    "a caller": ({"headers": {"caller-name": "payments"}}, "caller-name"),
    "a caller's type": ({"headers": {"Caller-Type": "operator"}}, "Caller-Type"),
    "where a call came from": ({"headers": {"call-initiation": "x"}}, "call-initiation"),
    "headers that are too large": ({"headers": {"a": "b" * 8192}}, "Header"),
    "a timeout below zero": ({"schedule_to_close": -1}, "ScheduleToCloseTimeout"),
}


@pytest.mark.parametrize(("options", "named"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
async def test_a_call_that_is_wrong_fails_the_workflow_task(
    orders: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, options: dict[str, Any], named: str
) -> None:
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    refused = await refusal(orders.complete_workflow_task(task, schedule_operation(endpoint.name, **options)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(named)
    again = await orders.poll_workflow_task(queue)
    assert event_names(again.history.events)[3] == "WORKFLOW_TASK_FAILED"
    assert again.history.events[3].workflow_task_failed_event_attributes.cause == BAD_ATTRIBUTES
    await finish(orders, again)


@pytest.mark.parametrize("name", ["service", "operation"])
async def test_a_name_may_be_as_long_as_the_limit(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, name: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint, **{name: "n" * 1000})
    assert getattr(task.request.start_operation, name) == "n" * 1000
    await payments.answer_nexus_task(task, sync_result(1))
    await finish(orders, await orders.poll_workflow_task(queue))


async def test_a_token_may_be_as_long_as_the_limit(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, async_result("t" * 4096))
    woken = await orders.poll_workflow_task(queue)
    assert woken.history.events[5].nexus_operation_started_event_attributes.operation_token == "t" * 4096
    await finish(orders, woken)


@pytest.mark.parametrize("token", ["t" * 4097, ""])
async def test_a_token_that_is_too_long_or_missing_is_not_taken(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, token: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    refused = await refusal(payments.answer_nexus_task(task, async_result(token)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "token" in refused.message
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")
async def test_an_operation_whose_token_cannot_be_has_failed(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    """On a real server its start is tried again, for ever."""
    task = await called(orders, workflow_id, queue, endpoint)
    await refusal(payments.answer_nexus_task(task, async_result("t" * 4097)))
    woken = await orders.poll_workflow_task(queue)
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.nexus_handler_failure_info.type == "INTERNAL"
    assert "(4097/4096)" in cause.message
    await finish(orders, woken)


def nested(depth: int) -> Failure:
    """A failure with so many causes."""
    failure = application_failure(f"cause {depth}", failure_type="Deep", details=payloads(depth))
    if depth:
        failure.cause.CopyFrom(nested(depth - 1))
    return failure


def nested_the_older_way(failure: Failure) -> NexusFailure:
    """The same as Nexus itself writes it: Temporal's failure as JSON, its cause beside it."""
    alone = Failure()
    alone.CopyFrom(failure)
    for field in ("cause", "message", "stack_trace"):
        alone.ClearField(field)
    return NexusFailure(
        message=failure.message,
        metadata={"type": "temporal.api.failure.v1.Failure"},
        details=json_format.MessageToJson(alone).encode(),
        cause=nested_the_older_way(failure.cause) if failure.HasField("cause") else None,
    )


@pytest.mark.parametrize("form", ["newer", "older"])
@pytest.mark.parametrize("outcome", ["operation failed", "handler error"])
async def test_the_whole_chain_of_causes_arrives_in_either_form(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint, form: str, outcome: str
) -> None:
    task = await called(orders, workflow_id, queue, endpoint)
    chain = nested(4)
    if (form, outcome) == ("newer", "operation failed"):
        await payments.answer_nexus_task(task, StartOperationResponse(failure=chain))
    elif outcome == "operation failed":
        error = UnsuccessfulOperationError(operation_state="failed", failure=nested_the_older_way(chain))
        await payments.answer_nexus_task(task, StartOperationResponse(operation_error=error))
    elif form == "newer":
        failure = handler_failure("BAD_REQUEST")
        failure.cause.CopyFrom(chain)
        await fail_task(payments, task, failure=failure)
    else:
        error = HandlerError(error_type="BAD_REQUEST", failure=nested_the_older_way(chain))
        await fail_task(payments, task, error=error)
    woken = await orders.poll_workflow_task(queue)
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    if outcome == "handler error":
        assert cause.nexus_handler_failure_info.type == "BAD_REQUEST"
        cause = cause.cause
    assert cause == chain
    await finish(orders, woken)


async def test_headers_may_be_as_large_as_the_limit(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    task = await called(orders, workflow_id, queue, endpoint, headers={"a": "b" * 8191})
    assert task.request.header["a"] == "b" * 8191
    await payments.answer_nexus_task(task, sync_result(1))
    await finish(orders, await orders.poll_workflow_task(queue))


@pytest.mark.usefixtures("embedded_only")
async def test_a_call_to_an_unknown_endpoint_is_an_operation_that_failed(
    orders: Namespace, workflow_id: str, queue: str
) -> None:
    """A real server fails the workflow task, for ever: no workflow can catch that."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation("no-such-endpoint"))
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[4:6] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_FAILED"]
    cause = woken.history.events[5].nexus_operation_failed_event_attributes.failure.cause
    assert cause.nexus_handler_failure_info.type == "NOT_FOUND"
    assert "no-such-endpoint" in cause.message
    await finish(orders, woken)


@pytest.mark.parametrize(
    ("callback", "code"),
    [
        (Callback(), grpc.StatusCode.UNIMPLEMENTED),
        (Callback(nexus=Callback.Nexus(url="ftp://example.com")), grpc.StatusCode.INVALID_ARGUMENT),
        (Callback(internal=Callback.Internal(data=b"x")), grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["of no kind", "to another scheme", "of the server's own kind"],
)
async def test_a_callback_that_cannot_be_delivered_is_refused_at_the_start(
    payments: Namespace, workflow_id: str, queue: str, callback: Callback, code: grpc.StatusCode
) -> None:
    refused = await refusal(payments.start(workflow_id, queue, completion_callbacks=[callback]))
    assert refused.code == code
    assert (await refusal(payments.describe(workflow_id))).code == grpc.StatusCode.NOT_FOUND
