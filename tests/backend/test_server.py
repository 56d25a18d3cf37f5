"""The backend inside a program's own event loop: started, used, stopped, started again."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import httpx
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ListNamespacesRequest

import nexuskit
from nexuskit import backend
from tests.support.raw import Namespace, refusal
from tests.support.values import complete_workflow, result_of, start_timer


@asynccontextmanager
async def raw(address: str, namespace: str = "orders") -> AsyncIterator[Namespace]:
    async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Namespace(namespace, channel)


async def namespaces(orders: Namespace) -> set[str]:
    answer = await orders.service.ListNamespaces(ListNamespacesRequest())
    return {each.namespace_info.name for each in answer.namespaces}


async def test_it_has_the_namespaces_that_were_asked_for_and_default() -> None:
    async with backend.serve(namespaces=["orders", "payments"]) as running, raw(running.address) as orders:
        assert {"default", "orders", "payments"} <= await namespaces(orders)


async def test_its_client_is_connected_to_the_namespace_that_was_asked_for() -> None:
    async with backend.serve(namespaces=["orders"]) as running:
        client = await running.client("orders")
        assert client.namespace == "orders"
        assert await client.service_client.check_health()
        handle = await client.start_workflow("Order", id="order", task_queue="queue")
        assert (await handle.describe()).workflow_type == "Order"


async def test_its_http_door_tells_its_health(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with backend.serve(file) as running, httpx.AsyncClient() as http:
        answer = await http.get(f"{running.http_address}/health")
        assert answer.status_code == httpx.codes.OK
        told = answer.json()
        assert told["version"] == nexuskit.__version__
        assert str(file) in str(told["database"])


async def test_two_in_one_program_know_nothing_of_each_other() -> None:
    async with (
        backend.serve(namespaces=["orders"]) as one,
        backend.serve(namespaces=["orders"]) as two,
        raw(one.address) as here,
        raw(two.address) as there,
    ):
        await here.start("order", "queue")
        assert (await refusal(there.describe("order"))).code == grpc.StatusCode.NOT_FOUND


async def test_what_it_holds_is_there_when_it_is_started_again_on_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with backend.serve(file, namespaces=["orders"]) as running, raw(running.address) as orders:
        endpoint = await orders.create_endpoint("payments", "nexus")
        closed = await orders.start("closed", "queue")
        await orders.run_workflow_task("queue", complete_workflow("done"))
        await orders.start("open", "queue")
        await orders.run_workflow_task("queue", start_timer("short", 0.05))
        before = await orders.history("closed")
    async with backend.serve(file) as running, raw(running.address) as orders:
        assert "orders" in await namespaces(orders)
        assert await orders.history("closed", closed) == before
        fired = await orders.wait_for_event("open", EventType.EVENT_TYPE_TIMER_FIRED)
        assert fired.timer_fired_event_attributes.timer_id == "short"
        await orders.run_workflow_task("queue", complete_workflow("later"))
        assert result_of(await orders.close_event("open")) == "later"
        taken = await refusal(orders.create_endpoint("payments", "another"))
        assert taken.code == grpc.StatusCode.ALREADY_EXISTS
        assert endpoint.spec.name in taken.message


async def test_a_file_is_given_back_whichever_thread_closes_it(tmp_path: Path) -> None:
    for _ in range(3):
        # Gives the event loop's executor more than one thread, as any program may.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.02) for _ in range(4)))
        async with backend.serve(tmp_path / "nexus.db"):
            await asyncio.to_thread(time.sleep, 0.01)


async def test_in_memory_nothing_is_kept() -> None:
    async with backend.serve(namespaces=["orders"]) as running, raw(running.address) as orders:
        await orders.start("order", "queue")
    async with backend.serve(namespaces=["orders"]) as running, raw(running.address) as orders:
        assert (await refusal(orders.describe("order"))).code == grpc.StatusCode.NOT_FOUND


async def test_stopping_waits_for_no_long_poll() -> None:
    async with backend.serve(namespaces=["orders"]) as running, raw(running.address) as orders:
        await orders.start("order", "elsewhere")
        polls = [
            asyncio.ensure_future(orders.poll_workflow_task("queue")),
            asyncio.ensure_future(orders.poll_activity_task("queue")),
            asyncio.ensure_future(orders.poll_nexus_task("queue")),
            asyncio.ensure_future(orders.close_event("order")),
        ]
        # The polls were sent before this call, and are at the server once it is answered.
        await orders.describe("order")
        began = time.monotonic()
        await running.stop()
        assert time.monotonic() - began < 3
        ended = await asyncio.gather(*polls, return_exceptions=True)
        assert all(isinstance(each, grpc.aio.AioRpcError | AssertionError) for each in ended)


async def test_a_port_in_use_is_told_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(backend.StartError, match=str(port)):
            async with backend.serve(port=port):
                pass


async def test_a_file_that_another_backend_holds_is_told_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with backend.serve(file):
        with pytest.raises(backend.StartError, match=r"nexus\.db"):
            async with backend.serve(file):
                pass


async def test_a_file_that_is_no_database_is_told_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    file.write_text("this is a letter to a friend, and not a database at all " * 100)
    with pytest.raises(backend.StartError, match=r"nexus\.db"):
        async with backend.serve(file):
            pass
    assert file.read_text().startswith("this is a letter")


async def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "nexus.db"
    async with backend.serve(file):
        assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir() if each.is_file()} == {0o600}
