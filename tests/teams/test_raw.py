"""Handlers that decode nothing: any operation of a service, untouched there and back, and a proxy made of one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from nexusrpc import HandlerError, HandlerErrorType
from temporalio.api.common.v1 import Payload
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client
from temporalio.worker import Worker

import nexuskit
from tests.support.servers import HANDLERS
from tests.teams.conftest import Teams
from tests.teams.services import SECRET


class Proxy(nexuskit.RawHandler):
    """Stands in front of a service, and reads nothing of what it passes on."""

    def __init__(self) -> None:
        self.seen: list[nexuskit.RawRequest] = []

    async def start(self, request: nexuskit.RawRequest) -> nexuskit.RawResult | nexuskit.RawToken:
        self.seen.append(request)
        if request.operation == "answer":
            return nexuskit.RawResult(request.payload)
        if request.operation == "process":
            return nexuskit.RawToken("a token")
        if request.operation == "quote":
            raise ValueError(SECRET)
        if request.operation == "process/status":
            return nexuskit.RawResult(Payload(metadata={"encoding": b"json/plain"}, data=b'"passed on"'))
        raise HandlerError("not through here", type=HandlerErrorType.UNAUTHORIZED)


@pytest.fixture(scope="module")
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture(scope="module")
async def through(teams: Teams, proxy: Proxy) -> AsyncIterator[str]:
    """An endpoint whose worker has the proxy for the payments' service."""
    name = f"proxy-{uuid.uuid4().hex[:8]}"
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=HANDLERS, task_queue=name))
    request = CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    await teams.orders.operator_service.create_nexus_endpoint(request)
    client: Client = teams.payments
    handlers = [nexuskit.raw_service("PaymentService", proxy)]
    async with Worker(client, task_queue=name, nexus_service_handlers=handlers):
        yield name


async def test_what_goes_through_is_untouched(teams: Teams, proxy: Proxy, through: str) -> None:
    told = await teams.call("answer", endpoint=through, id="order-1", cents=3)
    assert told.result == {"id": "order-1", "cents": 3}
    request = proxy.seen[-1]
    assert (request.service, request.operation) == ("PaymentService", "answer")
    assert request.payload.metadata["encoding"] == b"json/plain"
    assert b'"id":"order-1"' in request.payload.data
    assert request.request_id
    assert request.callback_url
    assert len(request.links) == 1
    assert request.deadline is not None


async def test_any_name_of_the_service_arrives_as_callers_know_it(teams: Teams, proxy: Proxy, through: str) -> None:
    told = await teams.call("status", endpoint=through, limit_s=30)
    assert told.result == "passed on"
    assert proxy.seen[-1].operation == "process/status"


async def test_a_refusal_of_a_raw_handler_is_a_refusal(teams: Teams, through: str) -> None:
    told = await teams.call("nothing", endpoint=through)
    assert told.error == "NexusUnauthorizedError"
    assert "not through here" in told.message


async def test_a_bug_of_a_raw_handler_stays_there(teams: Teams, through: str) -> None:
    told = await teams.call("quote", endpoint=through, limit_s=2)
    assert told.error == "NexusTimeoutError"
    assert SECRET not in str(told)


async def test_a_cancel_that_nobody_handles_is_refused_in_words(teams: Teams, through: str) -> None:
    """The operation goes on: nobody completes it, and the call's own timeout ends it."""
    told = await teams.call("process", endpoint=through, cancel=True, limit_s=3)
    assert told.error == "NexusTimeoutError"
