"""What calls by HTTP may carry: just under each limit, and just over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest

from nexuskit.backend.server import Backend, running
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import SECOND
from nexuskit.identity.allowed_callers import ALLOWED_CALLERS_KEY
from nexuskit.identity.uris import instance_uri
from tests.backend.conftest import Endpoint
from tests.backend.test_nexus_http import JSON, LINK_TYPE, answers, called, failure_of, path
from tests.support.raw import Namespace, endpoint_spec
from tests.support.values import payload, sync_result

UNDER = [False, True]


async def told(http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, over: bool, **request: Any) -> str:
    """What the caller is told of what is wrong; empty if a worker got the request."""
    url: str = request.pop("url", path(endpoint))
    if not over:
        answer = answers(payments, sync_result(1))
        if "/cancel" in url:
            answer = payments.answer_nexus_cancellation
        _, response = await called(http, payments, endpoint.queue, url, answer, **request)
        assert response.status_code < 300
        return ""
    response = await http.post(url, **request)
    assert response.status_code == 400
    assert failure_of(response)["details"] == {"type": "BAD_REQUEST"}
    return failure_of(response)["message"]


@pytest.mark.parametrize("over", UNDER)
@pytest.mark.parametrize("what", ["service", "operation"])
async def test_names(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, what: str, over: bool, embedded_only: None
) -> None:
    names = {"service": "s", "operation": "o", what: "n" * (1_000 + over)}
    message = await told(http, payments, endpoint, over, url=path(endpoint, names["operation"], names["service"]))
    assert not over or f"the name of the {what}" in message


async def test_names_are_measured_in_bytes_as_those_of_commands(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, embedded_only: None
) -> None:
    assert "1001" in await told(http, payments, endpoint, True, url=path(endpoint, "%C3%A9" * 500 + "n"))
    assert not await told(http, payments, endpoint, False, url=path(endpoint, "%C3%A9" * 500))


@pytest.mark.parametrize("over", UNDER)
async def test_the_token_of_a_cancel(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, over: bool, embedded_only: None
) -> None:
    for given in (
        {"headers": {"Nexus-Operation-Token": "t" * (4_096 + over)}},
        {"params": {"token": "t" * (4_096 + over)}},
    ):
        message = await told(http, payments, endpoint, over, url=path(endpoint) + "/cancel", **given)
        assert message == ("operation token length exceeds allowed limit (4097/4096)" if over else "")


@pytest.mark.parametrize("over", UNDER)
@pytest.mark.parametrize("name", ["x-trace", "nexus-callback-trace"])
async def test_header_fields(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, name: str, over: bool, embedded_only: None
) -> None:
    given = name.removeprefix("nexus-callback-")
    own = {} if given != name else {field.lower(): value for field, value in http.headers.items()}
    counted = sum(len(field) + len(value) for field, value in own.items() if field not in _NOT_HANDED_ON)
    headers = {name: "v" * (8_192 - len(given) - counted + over)}
    message = await told(http, payments, endpoint, over, headers=headers)
    assert message == ("header fields exceed size limit: 8193 bytes, at most 8192" if over else "")


_NOT_HANDED_ON = ("accept-encoding", "connection", "content-length", "host")


@pytest.mark.parametrize("over", UNDER)
async def test_links(
    http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, over: bool, embedded_only: None
) -> None:
    link = f'<temporal:///a>; type="{LINK_TYPE}"'
    message = await told(http, payments, endpoint, over, headers={"Nexus-Link": ",".join([link] * (10 + over))})
    assert message == ("cannot attach more than 10 links per request, got 11" if over else "")
    long = "temporal:///" + "n" * (4_000 - 12 - len(LINK_TYPE) - 5 + over)
    message = await told(http, payments, endpoint, over, headers={"Nexus-Link": f'<{long}>; type="{LINK_TYPE}"'})
    assert message == ("link exceeds allowed size of 4000, got 4001" if over else "")


SIZE = 2 * 1024 * 1024
METADATA = Payload(metadata={"encoding": b"json/plain"}, data=b"1" * (SIZE - 99)).ByteSize() - (SIZE - 99)


@pytest.mark.parametrize("over", UNDER)
async def test_the_input(http: httpx.AsyncClient, payments: Namespace, endpoint: Endpoint, over: bool) -> None:
    body = b"1" * (SIZE - METADATA + over)
    message = await told(http, payments, endpoint, over, content=body, headers=JSON)
    assert message.startswith("input exceeds size limit" if over else "")


@pytest.mark.parametrize("length", ["with its length", "without"])
async def test_a_body_beyond_the_limit_is_not_read(http: httpx.AsyncClient, endpoint: Endpoint, length: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(SIZE // 65_536 + 1):
            yield b"1" * 65_536

    body = b"1" * (SIZE + 1) if length == "with its length" else chunks()
    response = await http.post(path(endpoint), content=body, headers=JSON)
    assert response.status_code == 400
    assert failure_of(response)["details"] == {"type": "BAD_REQUEST"}


# --- who may call


async def test_an_endpoint_with_a_list_is_closed_to_callers_without_a_namespace(
    http: httpx.AsyncClient, payments: Namespace, unique: Callable[[str], str], embedded_only: None
) -> None:
    description = payload("for orders")
    description.metadata[ALLOWED_CALLERS_KEY] = b'["orders"]'
    name, queue = unique("endpoint"), unique("nexus")
    spec = endpoint_spec(name, payments.name, queue, description)
    made = (await payments.operator.CreateNexusEndpoint(CreateNexusEndpointRequest(spec=spec))).endpoint
    straight = f"/namespaces/{payments.name}/task-queues/{queue}/nexus-services/Payments/quote"
    paths = [f"/nexus/endpoints/{where}/services/Payments/quote" for where in (made.id, name, instance_uri(made.id))]
    for url in (*paths, straight, *(f"{each}/cancel?token=t" for each in (*paths, straight))):
        response = await http.post(url, headers={"Temporal-Source-Namespace": "orders"})
        assert response.status_code == 403
        assert failure_of(response)["details"] == {"type": "UNAUTHORIZED"}


# --- what is under way


@dataclass
class Limited:
    """A backend with other limits, and where a task queue that nobody polls is called."""

    backend: Backend
    http: httpx.AsyncClient
    url: str = "/namespaces/payments/task-queues/q/nexus-services/Payments/quote"

    async def refused(self, **request: Any) -> bool:
        """Whether one that waits for no worker is told to come again."""
        response = await self.http.post(self.url, headers={**JSON, "Request-Timeout": "0ms"}, **request)
        if response.status_code == 429:
            assert failure_of(response)["details"] == {"type": "RESOURCE_EXHAUSTED"}
            return True
        assert response.status_code == 520
        return False

    @contextlib.asynccontextmanager
    async def waiting(self, **request: Any) -> AsyncIterator[None]:
        """Meanwhile one waits for a worker."""
        tasks = self.backend._services.nexus_tasks._waiting
        calling = asyncio.create_task(self.http.post(self.url, headers=JSON, **request))
        while not tasks:  # noqa: ASYNC110, what the backend waits for tells nobody
            await asyncio.sleep(0)
        yield
        calling.cancel()
        while tasks:  # noqa: ASYNC110, likewise
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def limited(**limits: int) -> AsyncIterator[Limited]:
    changed = Limits(limits)
    async with (
        running(":memory:", namespaces=["payments"], host="127.0.0.1", port=0, http_port=0, limits=changed) as made,
        httpx.AsyncClient(base_url=made.http_address, timeout=30) as http,
    ):
        yield Limited(made, http)


async def connected(http: httpx.AsyncClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection for requests that no client would make."""
    return await asyncio.open_connection(http.base_url.host, http.base_url.port)


async def test_more_requests_than_may_be_under_way_are_told_to_come_again() -> None:
    async with limited(HTTP_REQUESTS=1) as here:
        async with here.waiting():
            assert await here.refused()
            assert (await here.http.get("/health")).status_code == 200
        assert not await here.refused()


async def test_bodies_that_are_too_large_together_are_told_to_come_again() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1"

    async with limited(HTTP_BODIES_SIZE=SIZE) as here:
        async with here.waiting(content=b"1" * (SIZE // 2)):
            assert await here.refused(content=b"1" * (SIZE // 2 + 1))
            assert not await here.refused(content=b"1" * (SIZE // 2))
            assert await here.refused(content=chunks())  # which may be as long as any
            assert not await here.refused()
        assert not await here.refused(content=chunks())


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with limited(HTTP_REQUEST_TIME=SECOND // 5) as here:
        reader, writer = await connected(here.http)
        writer.write(f"POST {here.url} HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\n1".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_header_that_does_not_end_is_not_kept() -> None:
    async with limited() as here:
        reader, writer = await connected(here.http)
        writer.write(f"POST {here.url} HTTP/1.1\r\nhost: here\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for number in range(1_000):
                writer.write(f"x-{number}: {'v' * 1_000}\r\n".encode())
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        assert (await here.http.get("/health")).status_code == 200


async def test_more_connections_than_there_may_be_are_refused() -> None:
    async with limited(HTTP_CONNECTIONS=3) as here:
        assert (await here.http.get("/health")).status_code == 200
        connections = [await connected(here.http) for _ in range(3)]
        reader, writer = connections[-1]
        writer.write(b"GET /health HTTP/1.1\r\nhost: here\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        for _, writer in connections:
            writer.close()
