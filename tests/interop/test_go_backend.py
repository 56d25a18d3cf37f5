"""The backend's HTTP door with the Go implementation as the other side: its client, and its sender of completions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure
from temporalio.api.nexus.v1 import StartOperationResponse
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueResponse

from nexuskit.backend import serve
from tests.interop.peers import PEERS, GoPeer, built, missing_reason, running
from tests.support.raw import Namespace
from tests.support.values import async_result, payload, result_of, schedule_operation, sync_result

# The first build on a machine fetches and compiles what the peers are made of.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JSON = "application/json"
LINK = {"url": "temporal:///namespaces/n/workflows/w/r/history", "type": "temporal.api.common.v1.Link.WorkflowEvent"}


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPeer]:
    name: str = request.param
    if reason := missing_reason(name):
        pytest.skip(reason)
    with running(name, built(name, tmp_path_factory.mktemp("go"))) as found:
        yield found


@dataclass
class Here:
    """A backend, its namespaces, and the endpoint that Go calls."""

    orders: Namespace
    payments: Namespace
    url: str
    callback: str

    async def call(self, peer: GoPeer, answer: StartOperationResponse, **asked: Any) -> tuple[Any, dict[str, Any]]:
        """A call of Go's that a worker answers: what the worker got, and what Go learnt."""
        calling = asyncio.create_task(peer.call(self.url, asked.pop("operation", "quote"), **asked))
        task = await self.payments.poll_nexus_task("queue")
        if task.request.HasField("cancel_operation"):
            await self.payments.answer_nexus_cancellation(task)
        else:
            await self.payments.answer_nexus_task(task, answer)
        return task.request, await calling


@pytest.fixture(scope="module")
async def here() -> AsyncIterator[Here]:
    async with (
        serve(":memory:", namespaces=["orders", "payments"]) as backend,
        grpc.aio.insecure_channel(backend.address) as channel,
    ):
        payments = Namespace("payments", channel)
        endpoint = await payments.create_endpoint("payments", "queue")
        url = f"{backend.http_address}/nexus/endpoints/{endpoint.id}/services"
        yield Here(Namespace("orders", channel), payments, url, f"{backend.http_address}/nexus/callback")


async def test_go_starts_an_operation(peer: GoPeer, here: Here) -> None:
    request, outcome = await here.call(
        peer,
        sync_result({"fee": 2}),
        content=b'{"cents": 5}',
        content_type=JSON,
        operation="process/now",
        request_id="id-1",
        callback_url="http://orders.example/cb?a=b",
        callback_header={"token": "t"},
        header={"x-mine": "1"},
        links=[LINK],
    )
    asked = request.start_operation
    assert (asked.service, asked.operation, asked.request_id) == ("Payments", "process/now", "id-1")
    assert (asked.callback, dict(asked.callback_header)) == ("http://orders.example/cb?a=b", {"token": "t"})
    assert [{"url": link.url, "type": link.type} for link in asked.links] == [LINK]
    assert request.header["x-mine"] == "1"
    assert asked.payload.data == b'{"cents": 5}'
    assert (outcome["kind"], json.loads(outcome["content"])) == ("succeeded", {"fee": 2})


async def test_go_learns_a_token_and_cancels(peer: GoPeer, here: Here) -> None:
    _, outcome = await here.call(peer, async_result("token 1"))
    assert (outcome["kind"], outcome["token"]) == ("started", "token 1")
    request, outcome = await here.call(peer, async_result(""), token="token 1")
    assert outcome["kind"] == "canceled"
    assert request.cancel_operation.operation_token == "token 1"


@pytest.mark.parametrize("state", ["failed", "canceled"])
async def test_go_learns_that_an_operation_failed(peer: GoPeer, here: Here, state: str) -> None:
    failure = Failure(message="sorry", application_failure_info=ApplicationFailureInfo(type="T"))
    if state == "canceled":
        failure = Failure(message="sorry", canceled_failure_info=CanceledFailureInfo())
    _, outcome = await here.call(peer, StartOperationResponse(failure=failure))
    assert (outcome["kind"], outcome["state"]) == ("operation_error", state)
    assert "sorry" in (outcome["message"], outcome["cause"]["message"])


async def test_go_learns_that_a_request_was_not_handled(peer: GoPeer, here: Here) -> None:
    calling = asyncio.create_task(peer.call(here.url, "quote"))
    task = await here.payments.poll_nexus_task("queue")
    await here.payments.refuse_nexus_task(task, "NOT_FOUND", "no such order")
    outcome = await calling
    assert (outcome["kind"], outcome["type"]) == ("handler_error", "NOT_FOUND")
    assert "no such order" in (outcome["message"], (outcome.get("cause") or {}).get("message"))


async def pending(here: Here, workflow_id: str) -> PollNexusTaskQueueResponse:
    await here.orders.start(workflow_id, workflow_id)
    await here.orders.run_workflow_task(workflow_id, schedule_operation("payments", value=1))
    task = await here.payments.poll_nexus_task("queue")
    await here.payments.answer_nexus_task(task, async_result("token"))
    return task


async def test_go_completes_an_operation(peer: GoPeer, here: Here) -> None:
    order = f"order-{peer.name}"
    task = await pending(here, order)
    header = dict(task.request.start_operation.callback_header)
    outcome = await peer.complete(here.callback, b'{"fee": 2}', content_type=JSON, header=header, state="succeeded")
    assert outcome["kind"] == "completed"
    event = await here.orders.wait_for_event(order, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
    assert result_of(event) == {"fee": 2}
    assert event.nexus_operation_completed_event_attributes.result == payload({"fee": 2})
    again = await peer.complete(here.callback, b"1", content_type=JSON, header=header, state="succeeded")
    assert (again.get("type") or again["message"]) in {"NOT_FOUND", "404 Not Found"}


@pytest.mark.parametrize("state", ["failed", "canceled"])
async def test_go_tells_that_an_operation_failed(peer: GoPeer, here: Here, state: str) -> None:
    order = f"order-{peer.name}-{state}"
    task = await pending(here, order)
    header = dict(task.request.start_operation.callback_header)
    outcome = await peer.complete(here.callback, header=header, state=state, message="sorry", details={"a": 1})
    assert outcome["kind"] == "completed"
    ended = EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{state.upper()}")
    event = await here.orders.wait_for_event(order, ended)
    failure = getattr(event, event.WhichOneof("attributes") or "").failure.cause
    messages = [failure.message, failure.cause.message]
    assert "sorry" in messages
