"""Nexus by HTTP with real clients on both sides: temporalio's workers, `NexusClient`, and handlers outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from nexusrpc import HandlerError, HandlerErrorType, Link, OperationError, OperationErrorState
from temporalio.api.enums.v1 import EventType, NexusOperationExecutionStatus
from temporalio.client import WorkflowExecutionStatus

from nexuskit.backend.server import running
from nexuskit.backend.settings import DEFAULTS
from nexuskit.identity.uris import instance_uri
from nexuskit.protocol import AllowList, Callback
from nexuskit.protocol.callbacks import complete_operation
from nexuskit.protocol.client import NexusClient
from nexuskit.protocol.receiver import CallbackReceiver
from nexuskit.protocol.retries import RetryPolicy
from tests.backend.conftest import Endpoint, Teams
from tests.protocol.loopback import Listener
from tests.protocol.services import PaymentsHandler as OutsideHandler
from tests.protocol.services import Receipt as OutsideReceipt
from tests.support.operation import Operation
from tests.support.outside import handler_at_a_url, routes_to
from tests.support.raw import Namespace
from tests.support.samples import Payment, Payments, Receipt
from tests.support.servers import Server
from tests.support.values import async_result, payload, result_of, schedule_operation

HERE = AllowList(["http://127.0.0.1:*"])
ONCE = RetryPolicy(attempts=1)
JSON = {"content-type": "application/json"}


@pytest.fixture
async def receiver() -> AsyncIterator[CallbackReceiver]:
    """Takes completions on a port of this machine."""
    listener = Listener()
    made = CallbackReceiver(listener.url)
    async with listener.serve(made):
        yield made


@pytest.fixture
async def payments_team(server: Server, teams: Teams, receiver: CallbackReceiver) -> AsyncIterator[NexusClient]:
    """A client of the payments team's endpoint."""
    if server.http_url is None:
        pytest.skip("the HTTP address of that server is not known")
    url = f"{server.http_url}/nexus/endpoints/{teams.endpoint_id}/services"
    async with NexusClient(url, Payments, receiver=receiver, retry=ONCE) as client:
        yield client


async def test_a_typed_client_calls_a_worker(payments_team: NexusClient) -> None:
    assert await payments_team.execute_operation(Payments.quote, Payment("1", cents=500)) == 10


async def test_a_workflow_behind_an_operation_completes_a_call_by_http(
    payments_team: NexusClient, workflow_id: str
) -> None:
    receipt = await payments_team.execute_operation(Payments.process, Payment(workflow_id, cents=500))
    assert receipt == Receipt(workflow_id, 500)


async def test_a_workflow_that_fails_fails_the_call(payments_team: NexusClient, workflow_id: str) -> None:
    with pytest.raises(OperationError) as raised:
        await payments_team.execute_operation(Payments.process, Payment(workflow_id, card="declined"))
    assert raised.value.state == OperationErrorState.FAILED


async def test_a_call_is_cancelled(payments_team: NexusClient, teams: Teams, workflow_id: str) -> None:
    handle = await payments_team.start_operation(Payments.hold, workflow_id)
    await handle.cancel()
    with pytest.raises(OperationError) as raised:
        await handle.result()
    assert raised.value.state == OperationErrorState.CANCELED
    described = await teams.payments.get_workflow_handle(workflow_id).describe()
    assert described.status == WorkflowExecutionStatus.CANCELED


@pytest.mark.parametrize(
    ("way", "state", "message"),
    [
        ("operation failed", OperationErrorState.FAILED, "no money"),
        ("operation cancelled", OperationErrorState.CANCELED, "called off"),
    ],
)
async def test_what_fails_at_once(
    payments_team: NexusClient, way: str, state: OperationErrorState, message: str
) -> None:
    with pytest.raises(OperationError, match=message) as raised:
        await payments_team.execute_operation(Payments.misbehave, way)
    assert raised.value.state == state


@pytest.mark.parametrize("kind", [kind for kind in HandlerErrorType if kind != HandlerErrorType.UNKNOWN])
async def test_what_is_not_handled(payments_team: NexusClient, server: Server, kind: HandlerErrorType) -> None:
    with pytest.raises(HandlerError) as raised:
        await payments_team.execute_operation(Payments.misbehave, kind.name)
    assert raised.value.type == kind
    # A real server tells the cause alone, if the caller does not say that it reads both.
    assert str(raised.value) == "refused" or server.kind == "real"


async def test_an_unknown_operation(payments_team: NexusClient) -> None:
    with pytest.raises(HandlerError) as raised:
        await payments_team.execute_operation("no/such%operation", 1, output_type=int)
    assert raised.value.type == HandlerErrorType.NOT_FOUND


@pytest.mark.usefixtures("embedded_only")
async def test_an_endpoint_by_its_name_and_by_its_uri(server: Server, teams: Teams) -> None:
    for name in (teams.endpoint, instance_uri(teams.endpoint_id)):
        async with NexusClient(f"{server.http_url}/nexus/endpoints/{name}/services", Payments) as client:
            assert await client.execute_operation(Payments.quote, Payment("1", cents=500)) == 10


# --- handlers outside complete operations of workflows


async def started_outside(handler: OutsideHandler) -> tuple[str, Callback]:
    """The token and the callback of the first operation that goes on at a handler outside."""
    async with asyncio.timeout(20):
        while not handler.waiting.started:  # noqa: ASYNC110, the handler is of another test, and has no event
            await asyncio.sleep(0)
    token, callback, _ = handler.waiting.started[0]
    assert callback is not None
    return token, callback


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
async def test_a_handler_outside_completes_an_operation_of_a_workflow(
    server: Server, orders: Namespace, unique: Callable[[str], str], workflow_id: str, queue: str, end: str
) -> None:
    async with handler_at_a_url() as (handler, url):
        endpoint = await routes_to(server, orders, unique("endpoint"), url)
        await orders.start(workflow_id, queue)
        value = {"order": "1", "cents": 5}
        await orders.run_workflow_task(queue, schedule_operation(endpoint, operation="later", value=value))
        token, callback = await started_outside(handler)
        outcome: Any = OutsideReceipt(order="1", charged=5)
        if end != "succeeded":
            outcome = OperationError("sorry", state=OperationErrorState(end))
        await complete_operation(
            callback,
            outcome,
            allow=HERE,
            operation_token=token,
            start_time=datetime.now(UTC),
            close_time=datetime.now(UTC),
            links=[Link(url="https://payments.example/records/1", type="example.Record")],
        )
        kinds = {
            "succeeded": EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
            "failed": EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
            "canceled": EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
        }
        event = await orders.wait_for_event(workflow_id, kinds[end])
        if end == "succeeded":
            assert result_of(event) == {"order": "1", "charged": 5}
        else:
            attributes = getattr(event, event.WhichOneof("attributes") or "")
            assert attributes.failure.cause.message == "sorry"
        with pytest.raises(HandlerError) as again:
            await complete_operation(callback, outcome, allow=HERE, operation_token=token)
        assert again.value.type == HandlerErrorType.NOT_FOUND
        await orders.terminate(workflow_id)


async def test_an_operation_without_a_workflow_is_completed_by_http(
    server: Server,
    http: httpx.AsyncClient,
    orders: Namespace,
    payments: Namespace,
    unique: Callable[[str], str],
    endpoint: Endpoint,
) -> None:
    operation = Operation(orders, unique("operation"), endpoint.name)
    await operation.start(input=payload(1))
    task = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(task, async_result("token-7"))
    await operation.started()
    headers = {**JSON, "Nexus-Operation-State": "succeeded", **task.request.start_operation.callback_header}
    response = await http.post("/namespaces/orders/nexus/callback", content=b'{"fee": 2}', headers=headers)
    assert response.status_code == 200
    assert (await operation.poll()).result == payload({"fee": 2})
    described = await operation.describe()
    assert described.info.status == NexusOperationExecutionStatus.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED
    again = await http.post("/nexus/callback", content=b"1", headers=headers)
    assert again.status_code == (404 if server.kind == "embedded" else 400)


# --- when the backend stops


async def test_whoever_waits_when_the_backend_stops_is_told_to_come_again() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running(
            ":memory:", namespaces=["payments"], host="127.0.0.1", port=0, http_port=0, limits=DEFAULTS
        ) as backend:
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=backend.http_address, timeout=30))
            url = "/namespaces/payments/task-queues/q/nexus-services/Payments/quote"
            waiting = asyncio.create_task(http.post(url, content=b"1", headers=JSON))
            while not backend._services.nexus_tasks._waiting:  # noqa: ASYNC110, what the backend waits for tells nobody
                await asyncio.sleep(0)
        response = await waiting
        assert response.status_code == 503
        assert response.json()["details"] == {"type": "UNAVAILABLE"}
