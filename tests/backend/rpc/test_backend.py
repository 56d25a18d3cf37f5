"""The backend behind its door: polls whose client is gone, messages of every size, many at once."""

from __future__ import annotations

import asyncio
import socket

import grpc.aio
import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest, PollWorkflowTaskQueueRequest

from nexuskit import backend
from nexuskit.backend.errors import StartError
from nexuskit.backend.rpc.fields import block
from nexuskit.backend.rpc.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from tests.backend.rpc.door import Raw, until
from tests.backend.rpc.peer import CALL, HELLO
from tests.support.raw import Namespace


def call(stream: int, method: str, message: bytes) -> bytes:
    path = f"/temporal.api.workflowservice.v1.WorkflowService/{method}".encode()
    fields = [(b":path", path) if name == b":path" else (name, value) for name, value in CALL]
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, END_HEADERS, stream, block(fields)) + frame(DATA, END_STREAM, stream, body)


@pytest.mark.parametrize("polls", [1, 20])
async def test_a_poll_whose_client_is_gone_takes_no_task(polls: int) -> None:
    poll = PollWorkflowTaskQueueRequest(namespace="orders", task_queue=TaskQueue(name="queue"))
    async with (
        backend.serve(namespaces=["orders"]) as running,
        grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        orders = Namespace("orders", channel)
        await orders.service.GetSystemInfo(GetSystemInfoRequest())
        host, _, port = running.address.rpartition(":")
        client = Raw(*await asyncio.open_connection(host, int(port)))
        client.send(HELLO)
        for number in range(polls):
            client.send(call(1 + 2 * number, "PollWorkflowTaskQueue", poll.SerializeToString()))
        doors = running._grpc_server.connections
        await until(lambda: any(len(each.calls()) == polls for each in doors))
        client.writer.transport.abort()
        await until(lambda: len(doors) == 1)
        await orders.start("order", "queue")
        assert (await orders.poll_workflow_task("queue")).workflow_execution.workflow_id == "order"


async def test_a_flood_of_calls_of_one_client_is_answered_whole_while_another_calls() -> None:
    async with (
        backend.serve(namespaces=["orders"]) as running,
        grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        orders = Namespace("orders", channel)
        host, _, port = running.address.rpartition(":")
        client = Raw(*await asyncio.open_connection(host, int(port)))
        client.send(HELLO + b"".join(call(stream, "GetSystemInfo", b"") for stream in range(1, 2_001, 2)))
        await orders.start("order", "queue", input=Payloads(payloads=[Payload(data=b"x" * 500_000)]))
        for stream in range(1, 2_001, 2):
            await client.answer(stream)
        client.writer.transport.abort()


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=str(port)):
            async with backend.serve(port=port):
                pass
