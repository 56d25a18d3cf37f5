"""Completions by HTTP: how an operation ends when whoever was given its callback says so."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import grpc.aio
import httpx
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse

from nexuskit.backend.server import running
from tests.backend.conftest import Endpoint
from tests.support import disk
from tests.support.operation import Operation
from tests.support.raw import Namespace
from tests.support.values import async_result, complete_workflow, event_names, payload, result_of, schedule_operation

CALLBACK = "/nexus/callback"
JSON = {"content-type": "application/json"}
SUCCEEDED = {**JSON, "Nexus-Operation-State": "succeeded"}
FAILED = {**JSON, "Nexus-Operation-State": "failed"}
CANCELED = {**JSON, "Nexus-Operation-State": "canceled"}
LINK_TYPE = "temporal.api.common.v1.Link.WorkflowEvent"
LINK = "temporal:///namespaces/payments/workflows/w/r/history?eventID=1&eventType=WorkflowExecutionStarted&referenceType=EventReference"

COMPLETED = EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED
ENDED = {
    "failed": EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
    "canceled": EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
}


@pytest.fixture
async def pending(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> PollNexusTaskQueueResponse:
    """A workflow's operation, which goes on at its handler; this is what the handler got."""
    task = await asked(orders, payments, workflow_id, queue, endpoint)
    await payments.answer_nexus_task(task, async_result("token-7"))
    await orders.wait_for_event(workflow_id, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    return task


async def asked(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> PollNexusTaskQueueResponse:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, schedule_to_close=60))
    return await payments.poll_nexus_task(endpoint.queue)


def token(task: PollNexusTaskQueueResponse) -> dict[str, str]:
    """The header fields that a completion of this operation carries."""
    return dict(task.request.start_operation.callback_header)


async def the_end(orders: Namespace, workflow_id: str, kind: EventType.ValueType) -> HistoryEvent:
    return await orders.wait_for_event(workflow_id, kind)


def failure_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    return response.json()


@pytest.mark.parametrize(
    "where", [CALLBACK, "/namespaces/orders/nexus/callback", "/namespaces/order%73/nexus/callback"]
)
async def test_an_operation_succeeds(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse, where: str
) -> None:
    response = await http.post(where, content=b'{"fee": 2}', headers={**SUCCEEDED, **token(pending)})
    assert (response.status_code, response.content) == (200, b"")
    # It is in history as soon as that is answered.
    (event,) = [event for event in await orders.history(workflow_id) if event.event_type == COMPLETED]
    assert result_of(event) == {"fee": 2}
    assert event.nexus_operation_completed_event_attributes.result == payload({"fee": 2})


async def test_a_result_of_nothing(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse
) -> None:
    headers = {"Nexus-Operation-State": "succeeded", **token(pending)}
    assert (await http.post(CALLBACK, headers=headers)).status_code == 200
    event = await the_end(orders, workflow_id, COMPLETED)
    result = event.nexus_operation_completed_event_attributes.result
    assert (dict(result.metadata), result.data) == ({"encoding": b"binary/null"}, b"")


OPERATION_ERROR: dict[str, Any] = {
    "message": "declined",
    "metadata": {"type": "nexus.OperationError"},
    "details": {"state": "failed"},
    "cause": {"message": "no money"},
}
TEMPORAL: dict[str, Any] = {
    "message": "declined",
    "metadata": {"type": "temporal.api.failure.v1.Failure"},
    "details": {"applicationFailureInfo": {"type": "CardDeclined"}},
    "cause": {"message": "no money"},
}
FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "an operation error": (OPERATION_ERROR, "OperationError"),
    "an operation error around a failure of Temporal's": (
        {
            "message": "operation error",
            "metadata": {"type": "nexus.OperationError", "unwrap-error": "true"},
            "details": {"state": "failed"},
            "cause": TEMPORAL,
        },
        "CardDeclined",
    ),
    "a failure of Temporal's": (TEMPORAL, "CardDeclined"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_an_operation_fails(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse, case: str
) -> None:
    sent, kind = FAILURES[case]
    response = await http.post(CALLBACK, json=sent, headers={**FAILED, **token(pending)})
    assert (response.status_code, response.content) == (200, b"")
    event = await the_end(orders, workflow_id, ENDED["failed"])
    failure = event.nexus_operation_failed_event_attributes.failure
    assert failure.nexus_operation_execution_failure_info.operation_token == "token-7"
    cause = failure.cause
    assert (cause.message, cause.application_failure_info.type) == ("declined", kind)
    assert cause.cause.message == "no money"


async def test_a_plain_failure_is_the_cause(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse
) -> None:
    sent = {"message": "declined"}
    assert (await http.post(CALLBACK, json=sent, headers={**FAILED, **token(pending)})).status_code == 200
    event = await the_end(orders, workflow_id, ENDED["failed"])
    assert event.nexus_operation_failed_event_attributes.failure.cause.message == "declined"


@pytest.mark.parametrize("form", ["an operation error", "alone"])
async def test_an_operation_is_cancelled(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse, form: str
) -> None:
    sent: dict[str, Any] = {"message": "called off"}
    if form == "an operation error":
        sent |= {"metadata": {"type": "nexus.OperationError"}, "details": {"state": "canceled"}}
    assert (await http.post(CALLBACK, json=sent, headers={**CANCELED, **token(pending)})).status_code == 200
    event = await the_end(orders, workflow_id, ENDED["canceled"])
    cause = event.nexus_operation_canceled_event_attributes.failure.cause
    assert cause.message == "called off"
    assert cause.HasField("canceled_failure_info")


async def test_a_completion_that_is_quicker_than_the_answer_to_the_start(
    http: httpx.AsyncClient,
    orders: Namespace,
    payments: Namespace,
    workflow_id: str,
    queue: str,
    endpoint: Endpoint,
) -> None:
    task = await asked(orders, payments, workflow_id, queue, endpoint)
    headers = {
        **SUCCEEDED,
        **token(task),
        "Nexus-Operation-Token": "early",
        "Nexus-Operation-Start-Time": "Sun, 06 Nov 1994 08:49:37 GMT",
        "Nexus-Operation-Close-Time": "1994-11-06T08:49:38.5Z",
        "Nexus-Link": f'<{LINK}>; type="{LINK_TYPE}"',
    }
    assert (await http.post(CALLBACK, content=b"1", headers=headers)).status_code == 200
    woken = await orders.poll_workflow_task(queue)
    assert event_names(woken.history.events)[5:7] == ["NEXUS_OPERATION_STARTED", "NEXUS_OPERATION_COMPLETED"]
    started = woken.history.events[5]
    assert started.nexus_operation_started_event_attributes.operation_token == "early"
    assert started.event_time.ToJsonString() == "1994-11-06T08:49:37Z"
    (link,) = started.links
    assert (link.workflow_event.namespace, link.workflow_event.workflow_id) == ("payments", "w")
    await orders.complete_workflow_task(woken, complete_workflow())


# --- what is refused


async def test_an_operation_that_has_ended(
    http: httpx.AsyncClient, orders: Namespace, pending: PollNexusTaskQueueResponse
) -> None:
    for status in (200, 404):
        response = await http.post(CALLBACK, content=b"1", headers={**SUCCEEDED, **token(pending)})
        assert response.status_code == status
    assert failure_of(response)["details"]["type"] == "NOT_FOUND"


async def test_an_operation_that_stands_alone_and_has_ended_or_was_deleted(
    http: httpx.AsyncClient, orders: Namespace, payments: Namespace, endpoint: Endpoint, workflow_id: str,
    embedded_only: None,
) -> None:  # fmt: skip
    operation = Operation(orders, workflow_id, endpoint.name)
    await operation.start()
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, async_result("token-7"))
    headers = {**SUCCEEDED, **token(task)}
    assert (await http.post(CALLBACK, content=b"1", headers=headers)).status_code == 200
    ended = await http.post(CALLBACK, content=b"1", headers=headers)
    await operation.delete()
    deleted = await http.post(CALLBACK, content=b"1", headers=headers)
    assert (ended.status_code, deleted.status_code) == (404, 404)
    assert failure_of(ended)["message"] == f"operation not found: Nexus operation {workflow_id!r} has ended"
    assert failure_of(deleted)["message"] == "operation not found: whatever waited for it was deleted"


async def test_a_caller_that_has_closed(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse
) -> None:
    await orders.terminate(workflow_id)
    response = await http.post(CALLBACK, content=b"1", headers={**SUCCEEDED, **token(pending)})
    assert response.status_code == 404
    assert failure_of(response)["details"]["type"] == "NOT_FOUND"


@pytest.mark.parametrize("given", [None, "", "nonsense", "####", "e30"])
async def test_a_token_that_is_none(http: httpx.AsyncClient, given: str | None) -> None:
    headers = {} if given is None else {"temporal-callback-token": given}
    response = await http.post(CALLBACK, content=b"1", headers={**SUCCEEDED, **headers})
    assert response.status_code == 400
    assert failure_of(response)["message"].startswith("invalid callback token")


async def test_a_token_cannot_be_forged(
    http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse, embedded_only: None
) -> None:
    """A real server's is not signed."""
    ((name, given),) = token(pending).items()
    raw = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
    for at in range(len(raw)):
        forged = base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode().rstrip("=")
        response = await http.post(CALLBACK, content=b"1", headers={**SUCCEEDED, name: forged})
        assert response.status_code == 400
        assert failure_of(response)["message"].startswith("invalid callback token")
    assert (await http.post(CALLBACK, content=b"1", headers={**SUCCEEDED, name: given})).status_code == 200


async def test_a_token_is_for_the_namespace_in_the_path(
    http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse
) -> None:
    for namespace in ("payments", "nowhere"):
        where = f"/namespaces/{namespace}/nexus/callback"
        response = await http.post(where, content=b"1", headers={**SUCCEEDED, **token(pending)})
        assert response.status_code == 400
        assert failure_of(response)["message"].startswith("invalid callback token")


BROKEN: dict[str, tuple[dict[str, str], bytes]] = {
    "no state": (JSON, b"1"),
    "a state that is none": ({**JSON, "Nexus-Operation-State": "running"}, b"1"),
    "a failure that is none": (FAILED, b"no"),
    "a failure that is no JSON": ({"content-type": "text/plain", "Nexus-Operation-State": "failed"}, b"{}"),
    "a start time": ({**SUCCEEDED, "Nexus-Operation-Start-Time": "soon"}, b"1"),
    "a close time": ({**SUCCEEDED, "Nexus-Operation-Close-Time": "soon"}, b"1"),
    "a link": ({**SUCCEEDED, "Nexus-Link": "somewhere"}, b"1"),
    "a result": ({**SUCCEEDED, "content-type": "application/x-temporal-payload"}, b"\xff"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_what_is_broken_is_a_bad_request_and_ends_nothing(
    http: httpx.AsyncClient, orders: Namespace, workflow_id: str, pending: PollNexusTaskQueueResponse, case: str
) -> None:
    headers, body = BROKEN[case]
    response = await http.post(CALLBACK, content=body, headers={**headers, **token(pending)})
    assert response.status_code == 400
    assert failure_of(response)["details"]["type"] == "BAD_REQUEST"
    assert (await orders.describe(workflow_id)).pending_nexus_operations


async def test_other_methods(http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse, embedded_only: None) -> None:
    response = await http.put(CALLBACK, content=b"1", headers={**SUCCEEDED, **token(pending)})
    assert response.status_code == 400
    assert "POST" in failure_of(response)["message"]


# --- limits


async def test_the_operation_token_has_a_limit(http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse) -> None:
    for size, status in ((4_097, 400), (4_096, 200)):
        headers = {**SUCCEEDED, **token(pending), "Nexus-Operation-Token": "t" * size}
        response = await http.post(CALLBACK, content=b"1", headers=headers)
        assert response.status_code == status
        if status == 400:
            assert failure_of(response)["message"] == "operation token length exceeds allowed limit (4097/4096)"


async def test_a_result_has_a_limit(http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse) -> None:
    limit, metadata = 2 * 1024 * 1024, 30
    for size, status in ((limit, 400), (limit - metadata, 200)):
        response = await http.post(CALLBACK, content=b"1" * size, headers={**SUCCEEDED, **token(pending)})
        assert response.status_code == status
        if status == 400:
            assert failure_of(response)["message"].startswith("result exceeds size limit")


async def test_links_have_a_limit(
    http: httpx.AsyncClient, pending: PollNexusTaskQueueResponse, embedded_only: None
) -> None:
    """On a real server those of a completion have none."""
    link = f'<{LINK}>; type="{LINK_TYPE}"'
    long = f'<temporal:///{"n" * 4_000}>; type="{LINK_TYPE}"'
    for links, status in (([link] * 11, 400), ([long], 400), ([link] * 10, 200)):
        headers = {**SUCCEEDED, **token(pending), "Nexus-Link": ", ".join(links)}
        response = await http.post(CALLBACK, content=b"1", headers=headers)
        assert response.status_code == status


async def test_a_failure_beyond_the_limit_is_cut(
    http: httpx.AsyncClient,
    orders: Namespace,
    workflow_id: str,
    pending: PollNexusTaskQueueResponse,
    embedded_only: None,
) -> None:
    sent: dict[str, Any] = {"message": "root"}
    for depth in range(90):
        sent = {"message": f"{depth}", "cause": sent}
    assert (await http.post(CALLBACK, json=sent, headers={**FAILED, **token(pending)})).status_code == 200
    event = await the_end(orders, workflow_id, ENDED["failed"])
    failure, causes = event.nexus_operation_failed_event_attributes.failure, 0
    while failure.HasField("cause"):
        failure, causes = failure.cause, causes + 1
    assert causes <= 52


# --- when it is answered


async def test_a_completion_is_answered_when_it_is_on_disk() -> None:
    async with (
        running(":memory:", namespaces=["orders", "payments"], host="127.0.0.1", port=0, http_port=0) as backend,
        grpc.aio.insecure_channel(backend.address) as channel,
        httpx.AsyncClient(base_url=backend.http_address, timeout=30) as http,
    ):
        orders, payments = Namespace("orders", channel), Namespace("payments", channel)
        made = await payments.create_endpoint("payments", "nexus")
        task = await asked(orders, payments, "order", "queue", Endpoint("payments", "nexus", made.id))
        store = backend._services.engine.store
        headers = {**SUCCEEDED, **token(task)}
        while store.group()[0]:  # noqa: ASYNC110, the disk breaks when the writer has nothing to do
            await asyncio.sleep(0)
        await store.group()[1].wait()
        with disk.broken(store._database):
            refused = await http.post(CALLBACK, content=b"1", headers=headers)
        assert refused.status_code == 503
        assert failure_of(refused)["details"]["type"] == "UNAVAILABLE"
        assert (await orders.describe("order")).pending_nexus_operations
        async with disk.held(store, store._database):
            answering = asyncio.create_task(http.post(CALLBACK, content=b"1", headers=headers))
            while store._writing is None:  # noqa: ASYNC110, nobody is told when something is being written
                await asyncio.sleep(0)
            assert (await http.get("/")).status_code == 404
            assert not answering.done()
        assert (await answering).status_code == 200
