"""The application that takes completions: what it lets in."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from nexusrpc import Content

from nexuskit.protocol import Callback, Completion, LocalProtocolError, write_completion
from nexuskit.protocol.receiver import GRACE, CallbackReceiver, WaitingCall
from tests.protocol.services import http_to

URL = "http://test/callback"
RESULT = Completion(outcome=Content(headers={"content-type": "application/json"}, data=b"5"), operation_token="op")


@pytest.fixture
def receiver() -> CallbackReceiver:
    return CallbackReceiver(URL, max_body_bytes=100)


@pytest.fixture
async def http(receiver: CallbackReceiver) -> AsyncIterator[httpx.AsyncClient]:
    async with http_to(receiver) as client:
        yield client


async def send(http: httpx.AsyncClient, callback: Callback, completion: Completion = RESULT) -> httpx.Response:
    request = write_completion(callback, completion)
    return await http.post(request.target, headers=list(request.headers), content=request.body)


async def test_a_completion_wakes_who_waits(http: httpx.AsyncClient, receiver: CallbackReceiver) -> None:
    call = receiver.expect()
    assert call.callback.url == URL + "/"
    answer = await send(http, call.callback)
    assert (answer.status_code, answer.content) == (200, b"")
    completion = await call.completion
    assert (completion.outcome, completion.operation_token) == (RESULT.outcome, "op")
    assert completion.start_time is not None


def forged(call: WaitingCall) -> Callback:
    return Callback(call.callback.url, {"token": call.callback.headers["token"][:-2] + "AA"})


async def test_without_a_valid_token_nothing_is_read(receiver: CallbackReceiver) -> None:
    other = CallbackReceiver(URL).expect()
    call = receiver.expect()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send_back(message: Any) -> None:
        sent.append(message)

    for headers in (
        [],
        [(b"token", b"")],
        [(b"token", b"\xff")],
        [(b"token", forged(call).headers["token"].encode())],
        [(b"token", other.callback.headers["token"].encode())],
    ):
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        await receiver(scope, receive, send_back)
    assert [message["status"] for message in sent if "status" in message] == [401] * 5
    assert not call.completion.done()


async def test_a_token_that_has_ended_is_none(http: httpx.AsyncClient, receiver: CallbackReceiver) -> None:
    call = receiver.expect(-GRACE - timedelta(seconds=1))
    answer = await send(http, call.callback)
    assert (answer.status_code, answer.json()["message"]) == (401, "header field token: the token has ended")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"", "nexus-operation-state"),
        ({"nexus-operation-state": "running"}, b"", "nexus-operation-state"),
        ({"nexus-operation-state": "failed"}, b"{}", "content-type"),
        ({"nexus-operation-state": "failed", "content-type": "application/json"}, b"{", "Failure"),
        ({"nexus-operation-state": "succeeded", "nexus-operation-close-time": "x"}, b"", "close-time"),
        ({"nexus-operation-state": "succeeded"}, b"x" * 101, "at most 100 bytes"),
    ],
)
async def test_a_broken_completion_is_a_400_and_wakes_nobody(
    http: httpx.AsyncClient, receiver: CallbackReceiver, headers: dict[str, str], body: bytes, message: str
) -> None:
    call = receiver.expect()
    answer = await http.post(call.callback.url, headers={**call.callback.headers, **headers}, content=body)
    assert (answer.status_code, message in answer.json()["message"]) == (400, True)
    assert not call.completion.done()


async def test_other_methods_are_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get(URL)).status_code == 400


async def test_keys_may_be_given(receiver: CallbackReceiver) -> None:
    keys = [os.urandom(32)]
    call = CallbackReceiver(URL, keys=keys).expect()
    async with http_to(CallbackReceiver(URL, keys=keys)) as http:
        assert (await send(http, call.callback)).status_code == 404  # believed, but nobody waits here
    with pytest.raises(ValueError, match="32"):
        CallbackReceiver(URL, keys=[b"short"])
    with pytest.raises(LocalProtocolError):
        CallbackReceiver("nowhere")


async def test_who_waits_may_do_so_in_another_threads_loop(receiver: CallbackReceiver) -> None:
    call = receiver.expect()

    def serve() -> int:
        async def serving() -> int:
            async with http_to(receiver) as http:
                return (await send(http, call.callback)).status_code

        return asyncio.run(serving())

    assert await asyncio.to_thread(serve) == 200
    assert (await call.completion).operation_token == "op"


async def test_a_handler_that_goes_away_wakes_nobody(receiver: CallbackReceiver) -> None:
    call = receiver.expect()
    token = call.callback.headers["token"].encode()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send_back(message: Any) -> None:
        raise AssertionError("nobody is there")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"token", token)]}
    await receiver(scope, receive, send_back)
    assert not call.completion.done()
