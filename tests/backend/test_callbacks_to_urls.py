"""Completion callbacks to URLs: whoever asked is told by HTTP how a run, an update or an activity ended."""

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from nexusrpc import Content, OperationError
from temporalio.api.common.v1 import Callback, WorkflowExecution
from temporalio.api.enums.v1 import CallbackState, UpdateWorkflowExecutionLifecycleStage, WorkflowIdConflictPolicy
from temporalio.api.update.v1 import Input, Meta, Outcome, Request, Response, WaitPolicy
from temporalio.api.workflow.v1 import CallbackInfo, OnConflictOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionRequest

from nexuskit.protocol.completion import parse_completion
from nexuskit.protocol.values import Completion, HttpRequest, HttpResponse
from tests.backend.conftest import Endpoint
from tests.protocol.loopback import Scripted
from tests.support.alone import Alone
from tests.support.messages import acceptance, place_of, response
from tests.support.operation import Operation
from tests.support.outside import answering, json_answer
from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import (
    application_failure,
    cancel_workflow,
    complete_workflow,
    continue_as_new,
    fail_workflow,
    payloads,
    sync_result,
)

OK = HttpResponse(200)
TOLD = CallbackState.CALLBACK_STATE_SUCCEEDED
FAILED = CallbackState.CALLBACK_STATE_FAILED
BACKING_OFF = CallbackState.CALLBACK_STATE_BACKING_OFF
BLOCKED = CallbackState.CALLBACK_STATE_BLOCKED


def to(url: str, **header: str) -> Callback:
    """A callback to a URL."""
    return Callback(nexus=Callback.Nexus(url=url, header=header))


async def told(payments: Namespace, workflow_id: str, state: Any = TOLD, number: int = 0) -> CallbackInfo:
    """The callback of a run, once it is in that state."""
    async with asyncio.timeout(20):
        while True:
            info = (await payments.describe(workflow_id)).callbacks[number]
            if info.state == state:
                return info


def parsed(request: HttpRequest) -> Completion:
    return parse_completion(request, received=datetime.now(UTC))


async def the_only(asked: Scripted) -> HttpRequest:
    """The one request that came."""
    async with asyncio.timeout(20):
        await asked.came.wait()
    (request,) = asked.requests
    return request


# --- what is told


async def test_a_url_is_told_the_result_of_a_workflow(payments: Namespace, workflow_id: str, queue: str) -> None:
    async with answering(OK) as (asked, url):
        callback = to(f"{url}/done?order=1", token="secret", **{"nexus-operation-token": "t-1"})
        run_id = await payments.start(workflow_id, queue, completion_callbacks=[callback])
        assert (await payments.describe(workflow_id)).callbacks[0].state == CallbackState.CALLBACK_STATE_STANDBY
        await payments.run_workflow_task(queue, complete_workflow({"charged": 5}))
        info = await told(payments, workflow_id)
        request = await the_only(asked)
    assert (info.attempt, info.callback.nexus.url) == (1, f"{url}/done?order=1")
    assert (request.method, request.target) == ("POST", "/done?order=1")
    completion = parsed(request)
    assert completion.outcome == Content(headers={"content-type": "application/json"}, data=b'{"charged": 5}')
    assert completion.operation_token == "t-1"
    assert completion.headers["token"] == "secret"
    (link,) = completion.links
    assert link.type == "temporal.api.common.v1.Link.WorkflowEvent"
    assert link.url.startswith(f"temporal:///namespaces/payments/workflows/{workflow_id}/{run_id}/history?")
    assert "eventType=WorkflowExecutionStarted" in link.url
    first, *_, last = await payments.history(workflow_id)
    began, closed = (event.event_time.ToDatetime(UTC) for event in (first, last))
    assert completion.start_time == began.replace(microsecond=0)
    assert completion.close_time is not None
    assert abs(completion.close_time - closed) < timedelta(milliseconds=1)


async def test_no_result_is_no_body(payments: Namespace, workflow_id: str, queue: str) -> None:
    async with answering(HttpResponse(204)) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(url)])
        await payments.run_workflow_task(queue, complete_workflow())
        await told(payments, workflow_id)
        request = await the_only(asked)
    assert request.body == b""
    assert "content-type" not in dict(request.headers)
    assert dict(request.headers)["nexus-operation-state"] == "succeeded"


def of_an_application(failure: dict[str, Any]) -> bool:
    info = failure["details"]["applicationFailureInfo"]
    return failure["message"] == "no stock" and info["type"] == "OutOfStock"


@pytest.mark.parametrize(
    ("how", "state", "is_right"),
    [
        ("fail", "failed", of_an_application),
        ("cancel", "canceled", lambda failure: "canceledFailureInfo" in failure["details"]),
        ("terminate", "failed", lambda failure: failure["message"] == "operation terminated"),
        ("time out", "failed", lambda failure: failure["message"] == "operation exceeded internal timeout"),
    ],
    ids=["failed", "cancelled", "terminated", "timed out"],
)
async def test_a_url_is_told_how_a_workflow_failed(
    payments: Namespace,
    workflow_id: str,
    queue: str,
    how: str,
    state: str,
    is_right: Callable[[dict[str, Any]], bool],
) -> None:
    async with answering(OK) as (asked, url):
        options = {"workflow_run_timeout": timedelta(seconds=1)} if how == "time out" else {}
        await payments.start(workflow_id, queue, completion_callbacks=[to(url)], **options)
        if how == "fail":
            await payments.run_workflow_task(queue, fail_workflow(application_failure()))
        elif how == "cancel":
            await payments.run_workflow_task(queue, cancel_workflow("why"))
        elif how == "terminate":
            await payments.terminate(workflow_id, reason="nobody's business")
        await told(payments, workflow_id)
        request = await the_only(asked)
    failure = json.loads(request.body)
    assert dict(request.headers)["nexus-operation-state"] == state
    assert failure["metadata"]["type"] == "temporal.api.failure.v1.Failure"
    assert is_right(failure)
    assert b"nobody's business" not in request.body
    completion = parsed(request)
    assert isinstance(completion.outcome, OperationError)
    assert completion.outcome.state.value == state


async def test_an_attached_callback_is_told_with_the_first(payments: Namespace, workflow_id: str, queue: str) -> None:
    async with answering(OK) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(f"{url}/first")])
        request_id = str(uuid.uuid4())
        await payments.start(
            workflow_id,
            queue,
            request_id=request_id,
            completion_callbacks=[to(f"{url}/second")],
            workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
            on_conflict_options=OnConflictOptions(
                attach_request_id=True, attach_completion_callbacks=True, attach_links=True
            ),
        )
        await payments.run_workflow_task(queue, complete_workflow("done"))
        for number in range(2):
            await told(payments, workflow_id, number=number)
    assert sorted(request.target for request in asked.requests) == ["/first", "/second"]
    second = next(request for request in asked.requests if request.target == "/second")
    (link,) = parsed(second).links
    assert f"requestID={request_id}" in link.url
    assert "eventType=WorkflowExecutionOptionsUpdated" in link.url


async def test_the_end_of_the_chain_is_told(payments: Namespace, workflow_id: str, queue: str) -> None:
    async with answering(OK) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(url)])
        await payments.run_workflow_task(queue, continue_as_new("Order", queue))
        await payments.run_workflow_task(queue, complete_workflow("at last"))
        await told(payments, workflow_id)
        request = await the_only(asked)
    assert request.body == b'"at last"'


@pytest.mark.parametrize("good", [True, False])
async def test_a_url_is_told_the_outcome_of_an_update(
    payments: Namespace, workflow_id: str, queue: str, good: bool
) -> None:
    accepted = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
    async with answering(OK) as (asked, url):
        await payments.start(workflow_id, queue)
        await payments.run_workflow_task(queue)
        request = UpdateWorkflowExecutionRequest(
            namespace=payments.name,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            wait_policy=WaitPolicy(lifecycle_stage=accepted),
            request=Request(
                meta=Meta(update_id="one", identity=IDENTITY),
                input=Input(name="add", args=payloads("a book")),
                request_id="a-request",
                completion_callbacks=[to(url)],
            ),
        )
        updating = asyncio.ensure_future(payments.service.UpdateWorkflowExecution(request))
        task = await payments.poll_workflow_task(queue)
        (message,) = task.messages
        accepting = acceptance(message)
        answer = response("one", b'"added"')
        if not good:
            failed = Response(meta=Meta(update_id="one"), outcome=Outcome(failure=application_failure()))
            answer.body.Pack(failed)
        await payments.complete_workflow_task(task, place_of(accepting), place_of(answer), messages=[accepting, answer])
        await updating
        completion = parsed(await the_only(asked))
        await payments.terminate(workflow_id)
    if good:
        assert isinstance(completion.outcome, Content)
        assert completion.outcome.data == b'"added"'
    else:
        assert isinstance(completion.outcome, OperationError)
    (link,) = completion.links
    assert "requestID=a-request" in link.url


@pytest.mark.parametrize("good", [True, False])
async def test_a_url_is_told_the_outcome_of_an_activity_that_stands_alone(
    payments: Namespace, unique: Callable[[str], str], queue: str, good: bool
) -> None:
    activity = Alone(payments, unique("activity"), queue)
    async with answering(OK) as (asked, url):
        await activity.start(completion_callbacks=[to(url)], request_id=str(uuid.uuid4()))
        task = await payments.poll_activity_task(queue)
        if good:
            await payments.complete_activity(task, "shipped")
        else:
            await payments.fail_activity(task, application_failure(non_retryable=True))
        completion = parsed(await the_only(asked))
    if good:
        assert isinstance(completion.outcome, Content)
        assert completion.outcome.data == b'"shipped"'
    else:
        assert isinstance(completion.outcome, OperationError)
        assert str(completion.outcome) == "no stock"
    (link,) = completion.links
    assert link.type == "temporal.api.common.v1.Link.Activity"
    path = f"temporal:///namespaces/payments/activities/{activity.id}/{activity.run_id}/details"
    assert link.url == path


@pytest.mark.usefixtures("embedded_only")
async def test_a_url_is_told_the_outcome_of_an_operation_that_stands_alone(
    payments: Namespace, unique: Callable[[str], str], endpoint: Endpoint
) -> None:
    """A real server of before that API takes no callbacks for them."""
    operation = Operation(payments, unique("operation"), endpoint.name)
    async with answering(OK) as (asked, url):
        await operation.start(completion_callbacks=[to(url)])
        await payments.answer_nexus_task(await payments.poll_nexus_task(endpoint.queue), sync_result("paid"))
        completion = parsed(await the_only(asked))
    assert isinstance(completion.outcome, Content)
    assert completion.outcome.data == b'"paid"'
    (link,) = completion.links
    assert link.type == "temporal.api.common.v1.Link.NexusOperation"
    assert link.url.endswith(f"/nexus-operations/{operation.id}/{operation.run_id}/details")


# --- what comes of it


@pytest.mark.parametrize(
    ("answer", "told_why"),
    [
        (json_answer(404, b'{"message": "nobody waits"}'), "NOT_FOUND"),
        (HttpResponse(400), "BAD_REQUEST"),
        (HttpResponse(500, (("nexus-request-retryable", "false"),)), "INTERNAL"),
    ],
    ids=["not found", "bad request", "for good"],
)
async def test_a_refusal_for_good_is_the_end_of_a_callback(
    payments: Namespace, workflow_id: str, queue: str, answer: HttpResponse, told_why: str
) -> None:
    async with answering(answer) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(url)])
        await payments.run_workflow_task(queue, complete_workflow())
        info = await told(payments, workflow_id, FAILED)
        assert len(asked.requests) == 1
    assert told_why in info.last_attempt_failure.message
    assert info.last_attempt_failure.application_failure_info.non_retryable


@pytest.mark.parametrize(
    "answer", [HttpResponse(503), HttpResponse(500), HttpResponse(418)], ids=["503", "500", "no Nexus"]
)
async def test_a_callback_is_tried_until_it_is_taken(
    payments: Namespace, workflow_id: str, queue: str, answer: HttpResponse
) -> None:
    async with answering(answer, OK) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(url)])
        await payments.run_workflow_task(queue, complete_workflow("done"))
        waiting = await told(payments, workflow_id, BACKING_OFF)
        info = await told(payments, workflow_id)
    assert waiting.attempt == 1
    assert not waiting.last_attempt_failure.application_failure_info.non_retryable
    assert waiting.HasField("next_attempt_schedule_time")
    assert info.attempt == 2
    assert [request.body for request in asked.requests] == [b'"done"', b'"done"']


async def test_a_callback_to_where_nobody_is_waits(payments: Namespace, workflow_id: str, queue: str) -> None:
    async with answering(OK) as (_, url):
        pass
    await payments.start(workflow_id, queue, completion_callbacks=[to(url)])
    await payments.run_workflow_task(queue, complete_workflow("done"))
    assert (await told(payments, workflow_id, BACKING_OFF)).last_attempt_failure.message


@pytest.mark.usefixtures("embedded_only")
async def test_after_more_than_five_failures_in_a_row_a_host_is_left_alone(
    payments: Namespace, workflow_id: str, queue: str
) -> None:
    """So it is on a real server, but describe does not tell it."""
    async with answering(HttpResponse(503)) as (_, url):
        callbacks = [to(f"{url}/{number}") for number in range(6)]
        await payments.start(workflow_id, queue, completion_callbacks=callbacks)
        await payments.run_workflow_task(queue, complete_workflow("done"))
        async with asyncio.timeout(20):
            blocked: list[CallbackInfo] = []
            while not blocked:
                infos = (await payments.describe(workflow_id)).callbacks
                blocked = [info for info in infos if info.state == BLOCKED]
    assert blocked[0].blocked_reason.startswith("The circuit breaker is open.")


# --- where callbacks do not go


@pytest.mark.parametrize(
    "url",
    [
        "https://payments.example/done",
        "http://localhost:8080",
        "http://10.0.0.1",
        "http://[::1]:80",
        "https://",
        "http://",
    ],
)
async def test_a_callback_to_where_it_may_not_go_is_refused_when_it_is_asked_for(
    payments: Namespace, workflow_id: str, queue: str, url: str
) -> None:
    refused = await refusal(payments.start(workflow_id, queue, completion_callbacks=[to(url)]))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "invalid url" in refused.message
    assert (await refusal(payments.describe(workflow_id))).code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("temporal://elsewhere/done", "invalid url: unknown scheme: "),
        ("https:///done", "invalid url: missing host"),
        ("http://127.0.0.1:port/done", "port"),
    ],
)
async def test_why_a_url_cannot_be_called_back_is_told(
    payments: Namespace, workflow_id: str, queue: str, url: str, told: str
) -> None:
    refused = await refusal(payments.start(workflow_id, queue, completion_callbacks=[to(url)]))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.message


async def test_a_callback_with_a_fragment_is_delivered_without_it(
    payments: Namespace, workflow_id: str, queue: str
) -> None:
    async with answering(OK) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(f"{url}/done?order=1#part")])
        await payments.run_workflow_task(queue, complete_workflow("done"))
        await told(payments, workflow_id)
        assert (await the_only(asked)).target == "/done?order=1"


@pytest.mark.usefixtures("embedded_only")
async def test_the_refusal_says_what_would_let_it_go(payments: Namespace, workflow_id: str, queue: str) -> None:
    refused = await refusal(payments.start(workflow_id, queue, completion_callbacks=[to("http://hooks.example/a")]))
    assert "'http://hooks.example:80', to be added to 'allow' in [outbound]" in refused.message


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize(
    "header", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "\u20ac"}, {"Nexus-Operation-Token": "a\nb"}]
)
async def test_header_fields_that_are_none_are_refused(
    payments: Namespace, workflow_id: str, queue: str, header: dict[str, str]
) -> None:
    """A real server takes them, and tries for ever to send them."""
    callback = to("http://127.0.0.1:1/", **header)
    refused = await refusal(payments.start(workflow_id, queue, completion_callbacks=[callback]))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "invalid header" in refused.message


@pytest.mark.usefixtures("embedded_only")
async def test_header_fields_of_a_callback_never_replace_what_is_told(
    payments: Namespace, workflow_id: str, queue: str
) -> None:
    """On a real server they do."""
    header = {
        "Nexus-Operation-State": "failed",
        "Nexus-Link": '<https://me.example>; type="mine"',
        "Content-Type": "text/plain",
        "Nexus-Operation-Close-Time": "mine",
        "Host": "elsewhere.example",
    }
    async with answering(OK) as (asked, url):
        await payments.start(workflow_id, queue, completion_callbacks=[to(url, **header)])
        await payments.run_workflow_task(queue, complete_workflow("done"))
        await told(payments, workflow_id)
        request = await the_only(asked)
    assert isinstance(parsed(request).outcome, Content)
    assert "mine" not in str(request.headers)
    assert dict(request.headers)["host"] == url.removeprefix("http://")
