"""Endpoints that route to a URL: operations of handlers outside, by HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nexusrpc import OperationError, OperationErrorState
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, PendingNexusOperationState, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingNexusOperationInfo

from nexuskit.protocol.allow_list import AllowList
from nexuskit.protocol.callbacks import complete_operation
from nexuskit.protocol.values import HttpResponse
from tests.backend.conftest import Server
from tests.support.operation import Operation
from tests.support.outside import answering, handler_at_a_url, json_answer, routes_to
from tests.support.raw import Namespace
from tests.support.values import cancel_operation, payload, result_of, schedule_operation

COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
FAILED = EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED
CANCELED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED
STARTED = EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED
TIMED_OUT = EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT
HERE = AllowList(["http://127.0.0.1:*"])
BLOCKED = PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BLOCKED

Call = Callable[..., Awaitable[None]]


@pytest.fixture
def call(server: Server, orders: Namespace, unique: Callable[[str], str], workflow_id: str, queue: str) -> Call:
    """Makes a workflow call an operation of the handlers at a URL."""

    async def make(url: str, operation: str = "process/now", *, times: int = 1, **options: Any) -> None:
        endpoint = await routes_to(server, orders, unique("endpoint"), url)
        await orders.start(workflow_id, queue)
        commands = [schedule_operation(endpoint, operation=operation, **options) for _ in range(times)]
        await orders.run_workflow_task(queue, *commands)

    return make


def payload_of_json(data: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


async def ended(orders: Namespace, workflow_id: str, event_type: EventType.ValueType) -> HistoryEvent:
    """The event by which the operation ended; the workflow is not needed any more."""
    found = await orders.wait_for_event(workflow_id, event_type)
    await orders.terminate(workflow_id)
    return found


async def cause(orders: Namespace, workflow_id: str) -> Any:
    """Why the operation failed."""
    return (await ended(orders, workflow_id, FAILED)).nexus_operation_failed_event_attributes.failure.cause


async def pending(
    orders: Namespace, workflow_id: str, until: Callable[[PendingNexusOperationInfo], Any]
) -> PendingNexusOperationInfo:
    """The pending operation of which that is true."""
    async with asyncio.timeout(20):
        while True:
            for each in (await orders.describe(workflow_id)).pending_nexus_operations:
                if until(each):
                    return each


# --- what the handler is asked, and answers


async def test_a_handler_at_a_url_answers_at_once(orders: Namespace, workflow_id: str, call: Call) -> None:
    async with handler_at_a_url() as (_, url):
        await call(url, value={"order": "1", "cents": 5})
        event = await ended(orders, workflow_id, COMPLETED)
    assert result_of(event) == {"order": "1", "charged": 5}
    assert event.nexus_operation_completed_event_attributes.result.metadata == {"encoding": b"json/plain"}


async def test_it_is_told_who_calls_how_long_it_has_and_where_to_call_back(
    orders: Namespace, workflow_id: str, call: Call
) -> None:
    async with handler_at_a_url() as (_, url):
        await call(url, "seen", headers={"X-Trace": "7"}, schedule_to_close=60)
        seen = result_of(await ended(orders, workflow_id, COMPLETED))
    run_id = (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id
    assert seen["request_id"]
    assert seen["callback_url"].startswith("http://127.0.0.1:")
    assert seen["callback_url"].endswith("/nexus/callback")
    assert list(seen["callback_headers"]) == ["temporal-callback-token"]
    ((link, kind),) = seen["links"]
    assert kind == "temporal.api.common.v1.Link.WorkflowEvent"
    assert link.startswith(f"temporal:///namespaces/orders/workflows/{workflow_id}/{run_id}/history?")
    headers = seen["headers"]
    assert headers["x-trace"] == "7"
    assert 0 < int(headers["request-timeout"].removesuffix("ms")) <= 10_000
    assert 50_000 < int(headers["operation-timeout"].removesuffix("ms")) <= 60_000


@pytest.mark.usefixtures("embedded_only")
async def test_it_is_told_the_callers_namespace_when_it_is_to_start_and_to_cancel(
    orders: Namespace, workflow_id: str, queue: str, call: Call
) -> None:
    """A real server tells it only to its own."""
    started = json_answer(201, b'{"token": "t", "state": "running"}')
    async with answering(started, HttpResponse(202)) as (asked, url):
        await call(url, headers={"Temporal-Source-Namespace": "mine"})
        scheduled = (await orders.wait_for_event(workflow_id, STARTED)).nexus_operation_started_event_attributes
        await orders.run_workflow_task(queue, cancel_operation(scheduled.scheduled_event_id))
        async with asyncio.timeout(20):
            while len(asked.requests) < 2:
                await orders.describe(workflow_id)
        await orders.terminate(workflow_id)
    assert [dict(request.headers)["temporal-source-namespace"] for request in asked.requests[:2]] == ["orders"] * 2
    assert asked.requests[1].target.endswith("/cancel")


@pytest.mark.usefixtures("embedded_only")
async def test_what_a_workflow_sets_never_replaces_what_the_server_says(
    orders: Namespace, workflow_id: str, call: Call
) -> None:
    """On a real server it does."""
    given = {
        "Nexus-Request-Id": "mine",
        "Nexus-Link": '<https://me.example>; type="mine"',
        "Nexus-Callback-Temporal-Callback-Token": "mine",
        "Nexus-Operation-Token": "mine",
        "Content-Type": "text/plain",
        "Host": "elsewhere.example",
        "Temporal-Source-Namespace": "mine",
    }
    async with handler_at_a_url() as (_, url):
        await call(url, "seen", headers=given)
        seen = result_of(await ended(orders, workflow_id, COMPLETED))
    assert "mine" not in json.dumps(seen)
    assert seen["headers"].get("host", "").startswith("127.0.0.1") or "host" not in seen["headers"]


@pytest.mark.parametrize("value", [None, "text", {"a": [1, None]}], ids=["null", "text", "object"])
async def test_values_go_there_and_back_as_json(orders: Namespace, workflow_id: str, call: Call, value: Any) -> None:
    body = json.dumps({"back": value}).encode()
    async with answering(json_answer(200, body)) as (asked, url):
        await call(url, value=value)
        assert result_of(await ended(orders, workflow_id, COMPLETED)) == {"back": value}
    (request,) = asked.requests
    assert request.target.startswith("/Payments/process%2Fnow?callback=http%3A%2F%2F127.0.0.1")
    assert request.body == (b"" if value is None else json.dumps(value).encode())
    assert dict(request.headers).get("content-type") == (None if value is None else "application/json")


async def test_an_answer_of_no_known_type_keeps_its_header_fields(
    orders: Namespace, workflow_id: str, call: Call
) -> None:
    fields = (("content-type", "text/csv"), ("content-language", "de"))
    async with answering(HttpResponse(200, fields, b"a;b")) as (_, url):
        await call(url)
        result = (await ended(orders, workflow_id, COMPLETED)).nexus_operation_completed_event_attributes.result
    assert result.data == b"a;b"
    assert result.metadata == {"encoding": b"unknown/nexus-content", "type": b"text/csv", "language": b"de"}


# --- operations that complete later


@pytest.mark.parametrize("how", ["succeeded", "failed", "canceled"])
async def test_a_handler_completes_an_operation_later_by_its_callback(
    orders: Namespace, workflow_id: str, call: Call, how: str
) -> None:
    async with handler_at_a_url() as (handler, url):
        await call(url, "later", value={"order": "1", "cents": 5})
        started = await orders.wait_for_event(workflow_id, STARTED)
        assert started.nexus_operation_started_event_attributes.operation_token == "token 1"
        ((token, callback, _),) = handler.waiting.started
        assert callback is not None
        outcome: Any = {"order": "1"}
        if how != "succeeded":
            outcome = OperationError("not today", state=OperationErrorState(how))
        await complete_operation(callback, outcome, allow=HERE, operation_token=token)
    event = await ended(orders, workflow_id, {"succeeded": COMPLETED, "failed": FAILED, "canceled": CANCELED}[how])
    if how == "succeeded":
        assert result_of(event) == {"order": "1"}
    elif how == "failed":
        told = event.nexus_operation_failed_event_attributes.failure.cause
        assert (told.message, told.application_failure_info.type) == ("not today", "OperationError")
    else:
        told = event.nexus_operation_canceled_event_attributes.failure.cause
        assert told.message == "not today"
        assert told.HasField("canceled_failure_info")


async def test_a_handler_is_told_to_stop(orders: Namespace, workflow_id: str, queue: str, call: Call) -> None:
    async with handler_at_a_url() as (handler, url):
        await call(url, "later", value={"order": "1", "cents": 5}, headers={"X-Trace": "7"})
        await orders.wait_for_event(workflow_id, STARTED)
        await orders.run_workflow_task(queue, cancel_operation(5))
        await ended(orders, workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED)
        ((token, ctx),) = handler.waiting.cancelled
    assert token == "token 1"
    assert ctx.headers["x-trace"] == "7"
    assert "request-timeout" in ctx.headers


async def test_a_handler_that_will_not_hear_of_it_is_not_told_again(
    orders: Namespace, workflow_id: str, queue: str, call: Call
) -> None:
    refusal = json_answer(404, b'{"message": "gone", "metadata": {"type": "x"}}')
    async with answering(json_answer(201, b'{"token": "t", "state": "running"}'), refusal) as (asked, url):
        await call(url)
        await orders.wait_for_event(workflow_id, STARTED)
        await orders.run_workflow_task(queue, cancel_operation(5))
        event = await ended(orders, workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED)
        assert [request.target.partition("?")[0] for request in asked.requests] == [
            "/Payments/process%2Fnow",
            "/Payments/process%2Fnow/cancel",
        ]
    told = event.nexus_operation_cancel_request_failed_event_attributes.failure
    assert told.nexus_handler_failure_info.type == "NOT_FOUND"
    assert told.cause.message == "gone"


async def test_an_operation_that_stands_alone_goes_to_a_url(
    server: Server, orders: Namespace, unique: Callable[[str], str]
) -> None:
    async with handler_at_a_url() as (handler, url):
        endpoint = await routes_to(server, orders, unique("endpoint"), url)
        operation = Operation(orders, unique("operation"), endpoint)
        await operation.start(operation="process/now", input=payload({"order": "1", "cents": 5}))
        assert await operation.outcome() == payload_of_json(b'{"order":"1","charged":5}')
        later = Operation(orders, unique("operation"), endpoint)
        await later.start(operation="later", input=payload({"order": "2", "cents": 5}))
        assert (await later.started()).operation_token == "token 2"
        ((_, _, ctx),) = handler.waiting.started
        (link,) = ctx.inbound_links
        assert link.type == "temporal.api.common.v1.Link.NexusOperation"
        await later.cancel()
        async with asyncio.timeout(20):
            while not handler.waiting.cancelled:
                await later.describe()
        await later.terminate()


# --- failures


@pytest.mark.parametrize("state", ["failed", "canceled"])
async def test_an_operation_that_fails_at_once(orders: Namespace, workflow_id: str, call: Call, state: str) -> None:
    async with handler_at_a_url() as (_, url):
        await call(url, "end", value={"kind": state})
        event = await ended(orders, workflow_id, FAILED if state == "failed" else CANCELED)
    if state == "failed":
        told = event.nexus_operation_failed_event_attributes.failure.cause
        assert told.application_failure_info.type == "OperationError"
        assert told.application_failure_info.non_retryable
    else:
        told = event.nexus_operation_canceled_event_attributes.failure.cause
        assert told.HasField("canceled_failure_info")
    assert told.message == f"it {state}"


async def test_a_cause_comes_along(orders: Namespace, workflow_id: str, call: Call) -> None:
    async with handler_at_a_url() as (_, url):
        await call(url, "end", value={"kind": "caused"})
        outer = await cause(orders, workflow_id)
    assert (outer.message, outer.cause.message) == ("outer", "inner")
    assert outer.cause.nexus_handler_failure_info.type == "NOT_FOUND"


@pytest.mark.parametrize("kind", ["BAD_REQUEST", "UNAUTHENTICATED", "UNAUTHORIZED", "NOT_FOUND", "NOT_IMPLEMENTED"])
async def test_handler_errors_that_are_not_asked_again(
    orders: Namespace, workflow_id: str, call: Call, kind: str
) -> None:
    async with handler_at_a_url() as (_, url):
        await call(url, "end", value={"kind": "handler", "type": kind})
        told = await cause(orders, workflow_id)
    assert (told.message, told.nexus_handler_failure_info.type) == (f"said {kind}", kind)


@pytest.mark.parametrize(
    ("answer", "message", "kind"),
    [
        (json_answer(503, b"{}"), "", "UNAVAILABLE"),
        (json_answer(500, b'{"message": "oops"}'), "", "INTERNAL"),
        (HttpResponse(429), "", "RESOURCE_EXHAUSTED"),
        (HttpResponse(520), "", "UPSTREAM_TIMEOUT"),
        (HttpResponse(418), "418", "CallError"),
        (HttpResponse(201, (), b"no JSON"), "", "CallError"),
        (json_answer(201, b'{"token": "", "state": "running"}'), "", "CallError"),
    ],
    ids=["503", "500", "429", "520", "418", "no JSON", "no token"],
)
async def test_what_may_get_better_is_asked_again_with_the_same_request_id(
    orders: Namespace, workflow_id: str, call: Call, answer: HttpResponse, message: str, kind: str
) -> None:
    async with answering(answer, json_answer(200, b'"at last"')) as (asked, url):
        await call(url)
        failed = await pending(orders, workflow_id, lambda each: each.last_attempt_failure.message or each.attempt)
        last = failed.last_attempt_failure
        assert kind in (last.nexus_handler_failure_info.type, last.application_failure_info.type)
        assert message in last.message
        assert result_of(await ended(orders, workflow_id, COMPLETED)) == "at last"
    first, second = (dict(request.headers) for request in asked.requests)
    assert first["nexus-request-id"] == second["nexus-request-id"]


async def test_a_handler_error_says_itself_whether_it_is_asked_again(
    orders: Namespace, workflow_id: str, call: Call
) -> None:
    async with answering(HttpResponse(500, (("nexus-request-retryable", "false"),))) as (_, url):
        await call(url)
        told = await cause(orders, workflow_id)
    assert told.nexus_handler_failure_info.type == "INTERNAL"


async def test_nobody_there_is_asked_again(orders: Namespace, workflow_id: str, call: Call) -> None:
    async with answering(HttpResponse(200)) as (_, url):
        pass
    await call(url)
    failed = await pending(orders, workflow_id, lambda each: each.HasField("last_attempt_failure"))
    assert failed.last_attempt_failure.application_failure_info.type == "CallError"
    assert not failed.last_attempt_failure.application_failure_info.non_retryable
    await orders.terminate(workflow_id)


async def test_an_operation_whose_time_is_over_times_out(orders: Namespace, workflow_id: str, call: Call) -> None:
    async with handler_at_a_url() as (handler, url):
        await call(url, "hang", schedule_to_close=2)
        event = await ended(orders, workflow_id, TIMED_OUT)
        assert handler.contexts
        handler.let_go.set()
    timeout = event.nexus_operation_timed_out_event_attributes.failure.cause.timeout_failure_info
    assert timeout.timeout_type == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE


async def test_a_result_beyond_the_limit_fails_the_operation(orders: Namespace, workflow_id: str, call: Call) -> None:
    body = b"x" * (2 * 1024 * 1024 - 4)
    async with answering(HttpResponse(200, (("content-type", "application/octet-stream"),), body)) as (asked, url):
        await call(url)
        told = await cause(orders, workflow_id)
        assert len(asked.requests) == 1
    assert told.message.startswith("http: response body too large")
    assert told.application_failure_info.non_retryable


@pytest.mark.usefixtures("embedded_only")
async def test_an_answer_beyond_the_limit_is_not_read(orders: Namespace, workflow_id: str, call: Call) -> None:
    """A real server asks again, and again."""
    async with answering(json_answer(200, b'"' + b"x" * 2 * 1024 * 1024 + b'"')) as (_, url):
        await call(url)
        told = await cause(orders, workflow_id)
    assert told.message.startswith("http: response body too large")


async def test_a_token_beyond_the_limit_fails_the_operation(orders: Namespace, workflow_id: str, call: Call) -> None:
    answer = json_answer(201, json.dumps({"token": "t" * 4097, "state": "running"}).encode())
    async with answering(answer) as (_, url):
        await call(url)
        told = await cause(orders, workflow_id)
    assert told.message == "invalid operation token: length exceeds allowed limit (4097/4096)"


async def test_after_more_than_five_failures_in_a_row_what_is_to_be_called_is_blocked(
    orders: Namespace, workflow_id: str, call: Call
) -> None:
    async with answering(HttpResponse(503)) as (_, url):
        await call(url, times=6)
        blocked = await pending(orders, workflow_id, lambda each: each.state == BLOCKED)
        assert blocked.blocked_reason.startswith("The circuit breaker is open.")
        await orders.terminate(workflow_id)


# --- where calls do not go


@pytest.mark.usefixtures("embedded_only")
async def test_redirects_are_not_followed(orders: Namespace, workflow_id: str, call: Call) -> None:
    """A real server follows them, wherever they lead."""
    async with answering(HttpResponse(200)) as (elsewhere, there):
        async with answering(HttpResponse(307, (("location", there),))) as (asked, url):
            await call(url)
            failed = await pending(orders, workflow_id, lambda each: each.HasField("last_attempt_failure"))
            assert asked.requests
        assert not elsewhere.requests
    assert "307; redirects are not followed" in failed.last_attempt_failure.message
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://payments.example/nexus", "payments.example:443"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("https://[fd00::1]:8443", "[fd00::1]:8443"),
        ("https://127.0.0.1:8443", "127.0.0.1:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
async def test_a_call_to_where_it_may_not_go_fails_and_says_what_would_let_it(
    orders: Namespace, workflow_id: str, call: Call, url: str, pattern: str
) -> None:
    await call(url)
    told = await cause(orders, workflow_id)
    assert told.nexus_handler_failure_info.type == "UNAUTHORIZED"
    assert "is not in the allow-list" in told.message
    assert f"{pattern!r}, to be added to 'allow' in [outbound] of the backend's configuration" in told.message
