"""Two teams on a server: workers of the callers in one namespace, of the handlers in the other, and an endpoint."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client
from temporalio.worker import Worker

import nexuskit
from tests.support.servers import CALLERS, HANDLERS, Server
from tests.teams.builders import Foo, KeepNotes, NotesHandler, shout
from tests.teams.services import Payments, ProcessPayment, charge
from tests.teams.workflows import Ask, AskWho, CallAndForget, CallAndLetGo, CallOnce, Told, WalkFoo


@dataclass(frozen=True)
class Teams:
    """What a test needs of the two teams."""

    orders: Client
    payments: Client
    endpoint: str
    queue: str

    async def call(self, operation: str = "quote", **asked: Any) -> Told:
        """What a workflow of the callers' team learns from one call."""
        ask = Ask(**{"endpoint": self.endpoint, "operation": operation, "id": uuid.uuid4().hex, **asked})
        return await self.orders.execute_workflow(CallOnce.run, ask, id=uuid.uuid4().hex, task_queue=self.queue)


@pytest.fixture(scope="session")
async def teams(server: Server) -> AsyncIterator[Teams]:
    """The two teams, at work for the session."""
    name = f"payments-{uuid.uuid4().hex[:8]}"
    orders = await Client.connect(server.address, namespace=CALLERS, plugins=[nexuskit.Plugin()])
    payments = await Client.connect(server.address, namespace=HANDLERS, plugins=[nexuskit.Plugin()])
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=HANDLERS, task_queue=name))
    spec = EndpointSpec(name=name, target=target)
    await orders.operator_service.create_nexus_endpoint(CreateNexusEndpointRequest(spec=spec))
    async with (
        Worker(orders, task_queue=name, workflows=[CallOnce, CallAndLetGo, AskWho, WalkFoo, CallAndForget]),
        Worker(
            payments,
            task_queue=name,
            workflows=[ProcessPayment, KeepNotes, Foo],
            activities=[charge, shout],
            nexus_service_handlers=[Payments(), NotesHandler()],
        ),
    ):
        yield Teams(orders, payments, name, name)


@pytest.fixture
def call(teams: Teams) -> Callable[..., Awaitable[Told]]:
    """One call; see `Teams.call`."""
    return teams.call
