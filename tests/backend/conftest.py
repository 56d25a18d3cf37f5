"""What a behaviour test gets: a server with two namespaces, and names that no other test uses."""

from __future__ import annotations

import itertools
import os
import random
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from tests.support.backend_process import BackendProcess
from tests.support.loop_guard import LoopGuard
from tests.support.raw import Namespace, wait_until_callable
from tests.support.samples import ACTIVITIES, WORKFLOWS, PaymentsHandler
from tests.support.servers import CALLERS, HANDLERS, Server

ROUNDS = int(os.environ.get("NEXUSKIT_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("NEXUSKIT_CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
"""How often each crash test is run, and what its random moments come from; see `test_crash`."""

_session = uuid.uuid4().hex[:6]
"""A real server may outlive the session, and so may what the tests made there."""

_numbers = itertools.count(1)


def fresh_name(what: str) -> str:
    """A name that nothing has yet."""
    return f"{what}-{_session}-{next(_numbers)}"


@pytest.fixture(scope="session")
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """A connection for calls by hand."""
    async with grpc.aio.insecure_channel(server.address) as opened:
        yield opened


@pytest.fixture(scope="session")
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Calls by hand to the HTTP door."""
    if server.http_url is None:
        pytest.skip("the HTTP address of that server is not known")
    async with httpx.AsyncClient(base_url=server.http_url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="session")
def orders(channel: grpc.aio.Channel) -> Namespace:
    """The callers' namespace, for calls by hand."""
    return Namespace(CALLERS, channel)


@pytest.fixture(scope="session")
def payments(channel: grpc.aio.Channel) -> Namespace:
    """The handlers' namespace, for calls by hand."""
    return Namespace(HANDLERS, channel)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes names that no other test uses, from the test's own, so that a server's log tells whose they are."""
    test = re.sub("[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_").lower())[:60].strip("-")
    return lambda what: fresh_name(f"{what}-{test}")


@pytest.fixture
def queue(unique: Callable[[str], str]) -> str:
    """A task queue of this test alone."""
    return unique("queue")


@pytest.fixture
def workflow_id(unique: Callable[[str], str]) -> str:
    """A workflow id of this test alone."""
    return unique("order")


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and the queue in `payments` that it routes to."""

    name: str
    queue: str
    id: str


@pytest.fixture
async def make_endpoint(
    server: Server, orders: Namespace, payments: Namespace, unique: Callable[[str], str]
) -> Callable[[], Awaitable[Endpoint]]:
    """Makes endpoints of this test alone, each ready to be called."""

    async def make() -> Endpoint:
        name, queue = unique("endpoint"), unique("nexus")
        made = Endpoint(name, queue, (await payments.create_endpoint(name, queue)).id)
        if server.kind == "real":
            await wait_until_callable(orders, made.name)
        return made

    return make


@pytest.fixture
async def endpoint(make_endpoint: Callable[[], Awaitable[Endpoint]]) -> Endpoint:
    """An endpoint of this test alone, ready to be called."""
    return await make_endpoint()


@dataclass(frozen=True)
class Teams:
    """temporalio's own clients, with a worker running for each: callers in `orders`, handlers in `payments`."""

    orders: Client
    payments: Client
    orders_queue: str
    payments_queue: str
    endpoint: str
    endpoint_id: str


@pytest.fixture(scope="session")
async def teams(server: Server, orders: Namespace, payments: Namespace) -> AsyncIterator[Teams]:
    """Two unmodified temporalio workers with the workflows of `tests.support.samples`, one pair for the session."""
    name, queue = fresh_name("payments-team"), fresh_name("payments-team")
    made = Teams(
        await Client.connect(server.address, namespace=CALLERS),
        await Client.connect(server.address, namespace=HANDLERS),
        fresh_name("orders-team"),
        queue,
        name,
        (await payments.create_endpoint(name, queue)).id,
    )
    if server.kind == "real":
        await wait_until_callable(orders, made.endpoint)
    callers = Worker(made.orders, task_queue=made.orders_queue, workflows=WORKFLOWS, activities=ACTIVITIES)
    handlers = Worker(
        made.payments,
        task_queue=made.payments_queue,
        workflows=WORKFLOWS,
        activities=ACTIVITIES,
        nexus_service_handlers=[PaymentsHandler()],
    )
    async with callers, handlers:
        yield made


@pytest.fixture
async def loop_guard() -> AsyncIterator[LoopGuard]:
    """Fails the test if anything blocks the event loop meanwhile."""
    async with LoopGuard() as guard:
        yield guard


@pytest.fixture(params=range(ROUNDS), ids="round {}".format)
def dice(request: pytest.FixtureRequest) -> random.Random:
    """The random moments of this round."""
    print(f"to repeat: NEXUSKIT_CRASH_SEED={SEED} NEXUSKIT_CRASH_ROUNDS={request.param + 1}")
    return random.Random(SEED + request.param)


@pytest.fixture
async def backend(dice: random.Random, tmp_path: Path) -> AsyncIterator[BackendProcess]:
    """A backend of this test and round alone."""
    async with BackendProcess(tmp_path / "nexus.db", [CALLERS, HANDLERS]) as process:
        yield process
