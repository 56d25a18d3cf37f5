"""Nexus by HTTP: what a handler is asked, and what its answer is for the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    Failure,
    NexusHandlerFailureInfo,
)
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.nexus.v1 import HandlerError, Link, StartOperationResponse, UnsuccessfulOperationError
from temporalio.api.workflowservice.v1 import (
    PollNexusTaskQueueResponse,
    RespondNexusTaskFailedRequest,
)

from nexuskit.identity.uris import instance_uri
from nexuskit.protocol.times import parse_duration
from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace
from tests.support.servers import Server
from tests.support.values import async_result, sync_result

JSON = {"content-type": "application/json"}
LINK_TYPE = "temporal.api.common.v1.Link.WorkflowEvent"
LINK = "temporal:///namespaces/ns/workflows/id/run/history?eventID=1&eventType=WorkflowExecutionStarted"

Answer = Callable[[PollNexusTaskQueueResponse], Awaitable[None]]


def path(endpoint: Endpoint, operation: str = "quote", service: str = "Payments") -> str:
    return f"/nexus/endpoints/{endpoint.id}/services/{service}/{operation}"


async def called(
    http: httpx.AsyncClient, payments: Namespace, queue: str, url: str, answer: Answer, **request: Any
) -> tuple[PollNexusTaskQueueResponse, httpx.Response]:
    """A call that a worker answers: the task that it got, and what the caller got."""
    polled = asyncio.create_task(payments.poll_nexus_task(queue))
    calling = asyncio.create_task(http.post(url, **request))
    task = await polled
    await answer(task)
    return task, await calling


def answers(payments: Namespace, answer: StartOperationResponse) -> Answer:
    return lambda task: payments.answer_nexus_task(task, answer)


def failure_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    return response.json()


# --- what a handler is asked


async def test_a_start_by_http_is_a_nexus_task_and_its_result_the_answer(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    task, response = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        answers(payments, sync_result({"fee": 2})),
        content=b'{"cents": 5}',
        params={"callback": "http://127.0.0.1:1/callback"},
        headers={
            **JSON,
            "Nexus-Request-Id": "request-7",
            "Nexus-Callback-Token": "callback-token",
            "Nexus-Link": f'<{LINK}>; type="{LINK_TYPE}"',
            "X-Trace": "7",
            "Request-Timeout": "9s",
            "Operation-Timeout": "20s",
        },
    )
    asked = task.request.start_operation
    assert (asked.service, asked.operation, asked.payload) == (
        "Payments",
        "quote",
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"cents": 5}'),
    )
    assert asked.request_id == "request-7"
    assert asked.callback == "http://127.0.0.1:1/callback"
    assert dict(asked.callback_header) == {"token": "callback-token"}
    assert [(link.url, link.type) for link in asked.links] == [(LINK, LINK_TYPE)]
    assert task.request.endpoint == endpoint.name
    assert task.request.HasField("scheduled_time")
    headers = dict(task.request.header)
    assert headers["x-trace"] == "7"
    assert parse_duration(headers["operation-timeout"]) <= timedelta(seconds=20)
    assert headers["request-timeout"]
    assert not [name for name in headers if name.startswith(("content-", "nexus-callback-"))]
    assert (response.status_code, response.json()) == (200, {"fee": 2})
    assert response.headers["content-type"] == "application/json"


async def test_a_handler_is_told_how_long_the_caller_waits(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    shown: list[timedelta] = []
    for asked in ("10s", "9s", "500s"):
        headers = {"Request-Timeout": asked} if asked != "10s" else {}
        task, _ = await called(
            http, payments, endpoint.queue, path(endpoint), answers(payments, sync_result(1)), headers=headers
        )
        shown.append(parse_duration(task.request.header["request-timeout"]))
    assert shown[1] <= timedelta(seconds=9) < shown[0] <= timedelta(seconds=10) < shown[2] <= timedelta(minutes=1)


async def test_what_only_a_server_can_say_is_not_handed_on(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    task, _ = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        answers(payments, sync_result(1)),
        headers={
            "Temporal-Source-Namespace": "orders",
            "X-Forwarded-For": "10.0.0.1",
            "Nexus-Request-Id": "request-7",
            "Nexus-Link": f'<{LINK}>; type="{LINK_TYPE}"',
            "Nexus-Operation-Token": "token",
            "Temporal-Principal-Name": "root",
            "Temporal-Principal-Type": "user",
            "Caller-Name": "orders",
            "Caller-Type": "api",
            "Call-Initiation": "StartWorkflowExecution",
        },
    )
    headers = dict(task.request.header)
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert "temporal-source-namespace" not in headers
    assert not [name for name in headers if name.startswith(("nexus-", "temporal-", "caller-", "call-"))]


async def test_x_forwarded_for_of_a_caller_is_not_believed(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    task, _ = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        answers(payments, sync_result(1)),
        headers={"X-Forwarded-For": "10.0.0.1"},
    )
    assert task.request.header.get("x-forwarded-for") != "10.0.0.1"


async def test_an_endpoint_is_called_by_its_name_and_by_its_uri(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    uri = instance_uri(endpoint.id)
    for name in (endpoint.name, uri, uri.replace(":", "%3A"), endpoint.id):
        task, response = await called(
            http,
            payments,
            endpoint.queue,
            f"/nexus/endpoints/{name}/services/Payments/quote",
            answers(payments, sync_result(name)),
        )
        assert (response.status_code, response.json()) == (200, name)
        assert task.request.endpoint == endpoint.name


async def test_a_task_queue_is_called_straight(http: httpx.AsyncClient, payments: Namespace, queue: str) -> None:
    task, response = await called(
        http,
        payments,
        queue,
        f"/namespaces/{payments.name}/task-queues/{queue}/nexus-services/Payments/quote",
        answers(payments, sync_result(7)),
        content=b"5",
        headers=JSON,
    )
    assert task.request.endpoint == ""
    assert task.request.start_operation.operation == "quote"
    assert (response.status_code, response.json()) == (200, 7)


async def test_a_task_queue_with_a_slash_in_its_name(http: httpx.AsyncClient, payments: Namespace, queue: str) -> None:
    _, response = await called(
        http,
        payments,
        f"a/{queue}",
        f"/namespaces/{payments.name}/task-queues/a%2F{queue}/nexus-services/Payments/quote",
        answers(payments, sync_result(7)),
    )
    assert response.json() == 7


NAMES = {
    "process now": "process%20now",
    "quote-é-☃": "quote-%C3%A9-%E2%98%83",
    "a%2Fb": "a%252Fb",
    "100%": "100%25",
    "a?b#c": "a%3Fb%23c",
    "cancel": "cancel",
    "a:b@c;d=e,f+g": "a:b@c;d=e,f+g",
}


@pytest.mark.parametrize("name", NAMES)
async def test_names_in_a_path_are_decoded_once(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, name: str
) -> None:
    url = path(endpoint, NAMES[name], service=NAMES[name])
    task, response = await called(http, payments, endpoint.queue, url, answers(payments, sync_result(1)))
    assert task.request.start_operation.service == name
    assert task.request.start_operation.operation == name
    assert response.status_code == 200


async def test_a_slash_in_a_name(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    """A real server splits the path after it has decoded it, and finds nothing."""
    url = path(endpoint, "foo%2Fget", service="pay%2fments")
    task, response = await called(http, payments, endpoint.queue, url, answers(payments, sync_result(1)))
    assert task.request.start_operation.service == "pay/ments"
    assert task.request.start_operation.operation == "foo/get"
    assert response.status_code == 200


CONTENT: dict[str, tuple[dict[str, str], bytes, dict[str, bytes]]] = {
    "nothing": ({}, b"", {"encoding": b"binary/null"}),
    "JSON": (JSON, b"[1]", {"encoding": b"json/plain"}),
    "bytes": ({"content-type": "application/octet-stream"}, b"\0\xff", {"encoding": b"binary/plain"}),
    "a message": (
        {"content-type": 'application/x-protobuf; message-type="shop.v1.Payment"'},
        b"\x08\x01",
        {"encoding": b"binary/protobuf", "messageType": b"shop.v1.Payment"},
    ),
    "a message as JSON": (
        {"content-type": 'application/json; format=protobuf; message-type="shop.v1.Payment"'},
        b"{}",
        {"encoding": b"json/protobuf", "messageType": b"shop.v1.Payment"},
    ),
    "another type": (
        {"content-type": "image/png", "content-language": "en"},
        b"png",
        {"encoding": b"unknown/nexus-content", "type": b"image/png", "language": b"en"},
    ),
    "JSON in a charset": (
        {"content-type": "application/json; charset=utf-8"},
        b"1",
        {"encoding": b"unknown/nexus-content", "type": b"application/json; charset=utf-8"},
    ),
}


@pytest.mark.parametrize("case", CONTENT)
async def test_content_becomes_a_payload_and_comes_back(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, case: str
) -> None:
    headers, body, metadata = CONTENT[case]

    async def echo(task: PollNexusTaskQueueResponse) -> None:
        given = task.request.start_operation.payload
        await payments.answer_nexus_task(
            task, StartOperationResponse(sync_success=StartOperationResponse.Sync(payload=given))
        )

    task, response = await called(http, payments, endpoint.queue, path(endpoint), echo, content=body, headers=headers)
    given = task.request.start_operation.payload
    assert (dict(given.metadata), given.data) == (metadata, body)
    assert (response.status_code, response.content) == (200, body)
    assert {name: value for name, value in response.headers.items() if name in headers} == headers


async def test_a_payload_that_http_has_no_form_for_travels_whole(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    sealed = Payload(metadata={"encoding": b"binary/encrypted", "key": b"7"}, data=b"\1\2")
    task, response = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        answers(payments, StartOperationResponse(sync_success=StartOperationResponse.Sync(payload=sealed))),
        content=sealed.SerializeToString(),
        headers={"content-type": "application/x-temporal-payload"},
    )
    assert task.request.start_operation.payload == sealed
    assert response.headers["content-type"] == "application/x-temporal-payload"
    assert Payload.FromString(response.content) == sealed


# --- what its answer is for the caller


async def test_an_operation_that_goes_on_is_answered_with_its_token(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    answer = async_result("token-7")
    answer.async_success.links.append(Link(url=LINK, type=LINK_TYPE))
    _, response = await called(http, payments, endpoint.queue, path(endpoint), answers(payments, answer))
    assert response.status_code == 201
    assert response.json() == {"token": "token-7", "state": "running"}
    assert response.headers["nexus-link"] == f'<{LINK}>; type="{LINK_TYPE}"'


async def test_a_link_that_cannot_travel_is_left_out(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    """A real server answers 500 instead."""
    answer = sync_result(1)
    answer.sync_success.links.append(Link(url="", type=""))
    answer.sync_success.links.append(Link(url=LINK, type="com.example.Order"))
    answer.sync_success.links.append(Link(url="a b", type=LINK_TYPE))
    _, response = await called(http, payments, endpoint.queue, path(endpoint), answers(payments, answer))
    assert response.headers.get_list("nexus-link") == [f'<{LINK}>; type="com.example.Order"']


@pytest.mark.parametrize("where", ["header", "query"])
async def test_a_cancel_names_the_operation_by_its_token(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, where: str
) -> None:
    given: dict[str, Any] = {"headers": {"Nexus-Operation-Token": "a/b c"}}
    if where == "query":
        given = {"params": {"token": "a/b c"}}
    task, response = await called(
        http, payments, endpoint.queue, path(endpoint) + "/cancel", payments.answer_nexus_cancellation, **given
    )
    asked = task.request.cancel_operation
    assert (asked.service, asked.operation, asked.operation_token) == ("Payments", "quote", "a/b c")
    assert task.request.endpoint == endpoint.name
    assert "nexus-operation-token" not in task.request.header
    assert (response.status_code, response.content) == (202, b"")


def declined(info: str) -> Failure:
    if info == "canceled":
        return Failure(message="called off", canceled_failure_info=CanceledFailureInfo())
    return Failure(
        message="declined",
        application_failure_info=ApplicationFailureInfo(type="CardDeclined", non_retryable=True),
        cause=Failure(message="no money", application_failure_info=ApplicationFailureInfo(type="Bank")),
    )


@pytest.mark.parametrize("state", ["failed", "canceled"])
async def test_a_failed_operation(http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, state: str) -> None:
    answer = StartOperationResponse(failure=declined(state))
    _, response = await called(http, payments, endpoint.queue, path(endpoint), answers(payments, answer))
    assert response.status_code == 424
    assert response.headers["nexus-operation-state"] == state
    assert response.headers["temporal-nexus-failure-source"] == "worker"
    told = failure_of(response)
    assert told["message"] == declined(state).message
    assert told["metadata"] == {"type": "temporal.api.failure.v1.Failure"}
    if state == "failed":
        assert told["details"]["applicationFailureInfo"] == {"type": "CardDeclined", "nonRetryable": True}
        assert told["cause"]["message"] == "no money"
        assert told["cause"]["details"]["applicationFailureInfo"] == {"type": "Bank"}


async def test_a_failed_operation_for_a_caller_that_reads_operation_errors(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    answer = StartOperationResponse(failure=declined("failed"))
    _, response = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        answers(payments, answer),
        headers={"Temporal-Nexus-Failure-Support": "true"},
    )
    told = failure_of(response)
    assert told["metadata"] == {"type": "nexus.OperationError", "unwrap-error": "true"}
    assert told["details"] == {"state": "failed"}
    assert told["cause"]["message"] == "declined"
    assert told["cause"]["cause"]["message"] == "no money"


@pytest.mark.parametrize("state", ["failed", "canceled"])
async def test_a_failed_operation_in_the_older_form(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, state: str
) -> None:
    old = NexusFailure(message="declined", metadata={"kind": "card"}, details=b'{"reason": "no money"}')
    answer = StartOperationResponse(operation_error=UnsuccessfulOperationError(operation_state=state, failure=old))
    _, response = await called(http, payments, endpoint.queue, path(endpoint), answers(payments, answer))
    assert response.status_code == 424
    assert response.headers["nexus-operation-state"] == state
    assert failure_of(response) == {
        "message": "declined",
        "metadata": {"kind": "card"},
        "details": {"reason": "no money"},
    }


STATUS = {
    "BAD_REQUEST": 400,
    "UNAUTHENTICATED": 401,
    "UNAUTHORIZED": 403,
    "NOT_FOUND": 404,
    "REQUEST_TIMEOUT": 408,
    "CONFLICT": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "NOT_IMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UPSTREAM_TIMEOUT": 520,
}


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("kind", STATUS)
async def test_a_handler_error(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, kind: str, cancel: bool
) -> None:
    url = path(endpoint) + ("/cancel?token=7" if cancel else "")
    task, response = await called(
        http, payments, endpoint.queue, url, lambda task: payments.refuse_nexus_task(task, kind, "no")
    )
    assert task.request.HasField("cancel_operation") is cancel
    assert response.status_code == STATUS[kind]
    assert response.headers["temporal-nexus-failure-source"] == "worker"
    assert failure_of(response) == {
        "message": "no",
        "metadata": {"type": "nexus.HandlerError"},
        "details": {"type": kind},
    }


@pytest.mark.parametrize("cancel", [False, True])
async def test_a_handler_error_in_the_older_form_says_whether_to_ask_again(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, cancel: bool
) -> None:
    async def refuse(task: PollNexusTaskQueueResponse) -> None:
        error = HandlerError(
            error_type="CONFLICT",
            failure=NexusFailure(message="again, please"),
            retry_behavior=RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE,
        )
        await payments.service.RespondNexusTaskFailed(
            RespondNexusTaskFailedRequest(namespace=payments.name, task_token=task.task_token, error=error)
        )

    url = path(endpoint) + ("/cancel?token=7" if cancel else "")
    _, response = await called(http, payments, endpoint.queue, url, refuse)
    assert response.status_code == 409
    assert response.headers["nexus-request-retryable"] == "true"
    assert failure_of(response)["message"] == "again, please"


async def test_a_handler_error_is_told_with_its_causes(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint
) -> None:
    """A real server tells a caller that does not say that it reads them the cause alone."""

    async def refuse(task: PollNexusTaskQueueResponse) -> None:
        failure = Failure(
            message="no such order",
            nexus_handler_failure_info=NexusHandlerFailureInfo(
                type="NOT_FOUND", retry_behavior=RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
            ),
            cause=Failure(message="row 7", application_failure_info=ApplicationFailureInfo(type="KeyError")),
        )
        await payments.service.RespondNexusTaskFailed(
            RespondNexusTaskFailedRequest(namespace=payments.name, task_token=task.task_token, failure=failure)
        )

    _, response = await called(
        http,
        payments,
        endpoint.queue,
        path(endpoint),
        refuse,
        headers={"Temporal-Nexus-Failure-Support": "true"},
    )
    assert response.status_code == 404
    assert response.headers["nexus-request-retryable"] == "false"
    told = failure_of(response)
    assert told["details"] == {"type": "NOT_FOUND", "retryableOverride": False}
    assert (told["message"], told["cause"]["message"]) == ("no such order", "row 7")


# --- who is not asked


async def test_no_worker(http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, server: Server) -> None:
    response = await http.post(path(endpoint), headers={"Request-Timeout": "1500ms"})
    assert response.status_code == 520
    told = failure_of(response)
    assert told["message"].startswith("upstream timeout")
    assert told["details"]["type"] == "UPSTREAM_TIMEOUT"
    if server.kind == "embedded":
        assert "no worker polls" in told["message"]


async def test_a_handler_that_does_not_answer(http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint) -> None:
    polled = asyncio.create_task(payments.poll_nexus_task(endpoint.queue))
    response = await http.post(path(endpoint), headers={"Request-Timeout": "1500ms"})
    await polled
    assert response.status_code == 520
    assert failure_of(response)["message"].startswith("upstream timeout")


async def test_a_caller_that_gives_no_time_is_told_so(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    """A real server may hand it to a worker nevertheless."""
    polled = asyncio.create_task(payments.poll_nexus_task(endpoint.queue))
    while (response := await http.post(path(endpoint), headers={"Request-Timeout": "0s"})).status_code == 520:
        if "no worker polls" not in failure_of(response)["message"]:
            break
    assert response.status_code == 520
    assert "the request had 0ms, which were over before a worker took it" in failure_of(response)["message"]
    calling = asyncio.create_task(http.post(path(endpoint)))
    await payments.answer_nexus_task(await polled, sync_result(1))
    assert (await calling).status_code == 200


async def test_a_call_whose_caller_goes_away_is_given_to_no_worker(
    server: Server, payments: Namespace, http: httpx.AsyncClient, endpoint: Endpoint, embedded_only: None
) -> None:
    assert server.http_url is not None
    async with httpx.AsyncClient(base_url=server.http_url) as gone:
        with pytest.raises(httpx.ReadTimeout):
            await gone.post(path(endpoint), content=b"1", headers=JSON, timeout=0.2)
    task, _ = await called(
        http, payments, endpoint.queue, path(endpoint), answers(payments, sync_result(1)), content=b"2", headers=JSON
    )
    assert task.request.start_operation.payload.data == b"2"
