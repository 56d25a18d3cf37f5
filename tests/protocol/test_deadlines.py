"""Handlers that run in threads, or go on although they were cancelled: what they are told, and who waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
from nexusrpc import Operation
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation

from nexuskit.protocol.asgi import NexusApp
from tests.protocol.services import http_to, never, scope


@nexusrpc.service
class Deaf:
    run: Operation[None, str]


@service_handler(service=Deaf)
class DeafHandler:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.done = asyncio.Event()

    @sync_operation
    async def run(self, ctx: StartOperationContext, _: None) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await self.go_on.wait()
        self.done.set()
        return "late"


async def test_a_handler_that_does_not_heed_its_cancellation_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler, sent, answered = DeafHandler(), [], asyncio.Event()
    messages = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            answered.set()

    app = NexusApp([handler], max_request_time=timedelta(milliseconds=200))
    running = asyncio.create_task(app(scope("/Deaf/run"), receive, send))
    await answered.wait()
    assert sent[0]["status"] == 408
    assert not handler.done.is_set()
    handler.go_on.set()
    await running
    assert handler.done.is_set()
    assert len(sent) == 2
    assert [record.message for record in caplog.records] == [
        "the handler of /Deaf/run goes on after its time, and is waited for no longer"
    ]


@nexusrpc.service
class Threads:
    run: Operation[int, int]


@service_handler(service=Threads)
class ThreadsHandler:
    def __init__(self) -> None:
        self.began = threading.Event()
        self.told: list[bool] = []
        self.ended = threading.Event()

    @sync_operation
    def run(self, ctx: StartOperationContext, number: int) -> int:
        self.began.set()
        if number == 0:
            self.told.append(ctx.task_cancellation.wait_until_cancelled_sync(30))
            self.told.append(ctx.task_cancellation.wait_until_cancelled_sync(30))
            self.ended.set()
        return number + 1


async def test_operations_that_are_not_async_run_in_the_executor_and_are_told_of_their_end() -> None:
    handler = ThreadsHandler()
    messages = [{"type": "http.request", "body": b"0"}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await asyncio.to_thread(handler.began.wait, 30)
        return {"type": "http.disconnect"}

    with ThreadPoolExecutor(1) as executor:
        app = NexusApp([handler], executor=executor)
        async with http_to(app) as http:
            assert (await http.post("/Threads/run", json=4)).json() == 5
        handler.began.clear()
        await app(scope("/Threads/run", headers=[(b"content-type", b"application/json")]), receive, never)
        await asyncio.to_thread(handler.ended.wait, 30)
    assert handler.told == [True, True]


def test_operations_that_are_not_async_need_an_executor() -> None:
    with pytest.raises(RuntimeError, match="executor"):
        NexusApp([ThreadsHandler()])
