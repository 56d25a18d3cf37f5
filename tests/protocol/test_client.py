"""Calls over HTTP: the client against the application, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from nexusrpc import Content, HandlerError, HandlerErrorType, Link, OperationError, OperationErrorState
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.routing import Mount

from nexuskit.protocol import (
    STATUS_BY_TYPE,
    AllowList,
    Callback,
    HttpResponse,
    LocalProtocolError,
    OperationTimedOutError,
    RequestTimedOutError,
    ResponseTooLargeError,
    SerializerError,
    TransportError,
    UnexpectedResponseError,
    write_error,
    write_succeeded,
)
from nexuskit.protocol.asgi import NexusApp
from nexuskit.protocol.callbacks import complete_operation
from nexuskit.protocol.client import NexusClient
from nexuskit.protocol.content import RawValue
from nexuskit.protocol.receiver import CallbackReceiver
from nexuskit.protocol.retries import RetryPolicy
from tests.protocol.loopback import Listener, Scripted, Switch, served
from tests.protocol.services import LINK, Payment, Payments, PaymentsHandler, Receipt, Wanted, http_to

AT_ONCE = RetryPolicy(attempts=4, initial=timedelta(), maximum=timedelta())
PAYMENT = Payment(order="1", cents=5)
RECEIPT = Receipt(order="1", charged=5)


class World:
    """Handlers at one port, a receiver at another, and a client between them."""

    def __init__(self, handler: PaymentsHandler, client: NexusClient, receiver: CallbackReceiver) -> None:
        self.handler, self.client, self.receiver = handler, client, receiver
        self.allow = AllowList([f"http://127.0.0.1:{httpx.URL(receiver.url).port}"])

    async def complete(self, outcome: Any, **more: Any) -> None:
        token, callback, _ = self.handler.waiting.started[-1]
        assert callback is not None
        await complete_operation(callback, outcome, allow=self.allow, operation_token=token, retry=AT_ONCE, **more)


@pytest.fixture(scope="module")
async def ports() -> AsyncIterator[tuple[Switch, str, Switch, str]]:
    """Two servers, of handlers and of completions, and their URLs."""
    handlers, completions = Switch(), Switch()
    async with served(handlers) as handlers_url, served(completions) as completions_url:
        yield handlers, handlers_url, completions, completions_url


@pytest.fixture
async def world(ports: tuple[Switch, str, Switch, str]) -> AsyncIterator[World]:
    handlers, handlers_url, completions, completions_url = ports
    handler, receiver = PaymentsHandler(), CallbackReceiver(f"{completions_url}/callback")
    handlers.app = Starlette(routes=[Mount("/nexus", NexusApp([handler]))])
    completions.app = Starlette(routes=[Mount("/callback", receiver)])
    async with httpx.AsyncClient(verify=False) as http:
        client = NexusClient(f"{handlers_url}/nexus", Payments, receiver=receiver, retry=AT_ONCE, http=http)
        yield World(handler, client, receiver)


async def test_an_operation_that_answers_at_once(world: World) -> None:
    assert await world.client.execute_operation(Payments.process, PAYMENT) == RECEIPT
    assert await world.client.execute_operation(Payments.echo, b"\x00\xff") == b"\x00\xff"
    assert await world.client.execute_operation(Payments.nothing, None) is None
    handle = await world.client.start_operation(Payments.process, PAYMENT)
    assert (handle.token, handle.links) == (None, (LINK,))
    assert [await handle.result(), await handle.result()] == [RECEIPT, RECEIPT]
    with pytest.raises(LocalProtocolError, match="nothing to cancel"):
        await handle.cancel()


async def test_an_operation_may_be_named(world: World) -> None:
    body = {"order": "1", "cents": 5}
    assert await world.client.execute_operation("process/now", body) == {"order": "1", "charged": 5}
    assert await world.client.execute_operation("process/now", body, output_type=Receipt) == RECEIPT
    raw = RawValue(Content(headers={"content-type": "application/octet-stream", "content-x": "y"}, data=b"z"))
    answer = await world.client.execute_operation("echo", raw, output_type=RawValue)
    assert answer.content.data == b"z"


async def test_an_operation_that_completes_later(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT, request_id="id-1")
    assert (handle.token, handle.links) == ("token 1", (LINK,))
    waiting = [asyncio.create_task(handle.result()) for _ in range(2)]
    await world.complete(RECEIPT, start_time=datetime.now(UTC), links=[LINK])
    assert await asyncio.gather(*waiting) == [RECEIPT, RECEIPT]
    assert await handle.result() == RECEIPT
    assert world.handler.waiting.started[0][2].request_id == "id-1"


@pytest.mark.parametrize("state", list(OperationErrorState))
async def test_an_operation_that_fails_later(world: World, state: OperationErrorState) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT)
    error = OperationError("sorry", state=state)
    error.__cause__ = HandlerError("inner", type=HandlerErrorType.CONFLICT)
    await world.complete(error)
    for _ in range(2):
        with pytest.raises(OperationError, match="sorry") as raised:
            await handle.result()
        assert raised.value.state is state
        assert isinstance(raised.value.__cause__, HandlerError)


async def test_an_operation_that_is_cancelled(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT)
    await handle.cancel(headers={"x-mine": "1"})
    token, context = world.handler.waiting.cancelled[0]
    assert (token, context.headers["x-mine"]) == ("token 1", "1")
    await world.client.operation_handle(Payments.later, "token 2").cancel()
    with pytest.raises(HandlerError, match="no operation") as raised:
        await world.client.cancel_operation("later", "unknown")
    assert raised.value.type is HandlerErrorType.NOT_FOUND


async def test_a_completion_that_comes_twice_or_too_late(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT)
    await world.complete(RECEIPT)
    await world.complete(Receipt(order="2", charged=0))
    assert await handle.result() == RECEIPT
    del handle
    gc.collect()
    with pytest.raises(HandlerError, match="nobody waits") as raised:
        await world.complete(RECEIPT)
    assert raised.value.type is HandlerErrorType.NOT_FOUND


async def test_an_operation_that_takes_longer_than_it_may(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT, operation_timeout=timedelta(seconds=5))
    assert "operation-timeout" in world.handler.waiting.started[0][2].headers
    handle._ends = 0.0
    with pytest.raises(OperationTimedOutError, match="'later'"):
        await handle.result()
    await world.complete(RECEIPT)
    assert await handle.result() == RECEIPT


async def test_who_stops_waiting_takes_nothing_from_the_others(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT)
    impatient = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await world.complete(RECEIPT)
    assert await handle.result() == RECEIPT


async def test_a_result_that_is_none_of_its_type(world: World) -> None:
    handle = await world.client.start_operation(Payments.later, PAYMENT)
    await world.complete({"order": 5})
    with pytest.raises(SerializerError, match=r"order: .*charged: "):
        await handle.result()


async def test_without_a_receiver_there_is_no_later(world: World) -> None:
    async with NexusClient(world.client.url, Payments) as client:
        with pytest.raises(LocalProtocolError, match="CallbackReceiver"):
            await client.execute_operation(Payments.later, PAYMENT)
        handle = await client.start_operation(
            Payments.later, PAYMENT, callback_url="http://elsewhere/cb", callback_headers={"a": "b"}
        )
        assert world.handler.waiting.started[-1][1] == Callback("http://elsewhere/cb", {"a": "b"})
        with pytest.raises(LocalProtocolError, match="does not come here"):
            await handle.result()


@pytest.mark.parametrize("kind", ["failed", "canceled"])
async def test_an_operation_that_fails_at_once(world: World, kind: str) -> None:
    with pytest.raises(OperationError, match=f"it {kind}") as raised:
        await world.client.execute_operation(Payments.end, Wanted(kind=kind))
    assert raised.value.state.value == kind


@pytest.mark.parametrize("kind", list(STATUS_BY_TYPE))
async def test_a_request_that_is_not_handled(world: World, kind: HandlerErrorType) -> None:
    wanted = Wanted(kind="handler", type=kind.value, retryable=False)
    with pytest.raises(HandlerError, match=f"said {kind.value}") as raised:
        await world.client.execute_operation(Payments.end, wanted)
    assert (raised.value.type, raised.value.retryable) == (kind, False)


async def test_links_headers_and_the_time_left_arrive(world: World) -> None:
    link = Link(url="a:b?c;d", type="e.F")
    seen = await world.client.execute_operation(
        Payments.seen, None, headers={"X-Mine": "1"}, links=[link], request_timeout=timedelta(seconds=3)
    )
    assert seen["headers"]["x-mine"] == "1"
    assert seen["headers"]["request-timeout"] == "3000ms"
    assert seen["links"] == [[link.url, link.type]]
    assert seen["callback_url"] == world.receiver.url
    assert len(seen["request_id"]) == 36


async def test_a_caller_that_goes_away_cancels_the_handler(world: World) -> None:
    calling = asyncio.create_task(world.client.execute_operation(Payments.hang, None))
    await world.handler.hanging.wait()
    calling.cancel()
    await world.handler.let_go.wait()
    assert world.handler.contexts[0].task_cancellation.cancellation_reason() == "the caller closed the connection"


def client_of(app: Any, http: httpx.AsyncClient, **more: Any) -> NexusClient:
    return NexusClient("http://test/nexus", "S", http=http, retry=AT_ONCE, **more)


UNAVAILABLE = write_error(HandlerError("later", type=HandlerErrorType.UNAVAILABLE))
DONE = write_succeeded(Content(headers={"content-type": "application/json"}, data=b"5"))


async def test_what_may_be_sent_again_is_with_the_same_request_id() -> None:
    busy = write_error(HandlerError("m", type=HandlerErrorType.NOT_FOUND, retryable_override=True))
    app = Scripted(UNAVAILABLE, busy, HttpResponse(520), DONE)
    async with http_to(app) as http:
        assert await client_of(app, http).execute_operation("o", None, output_type=int) == 5
    assert len(app.requests) == 4
    assert len({dict(request.headers)["nexus-request-id"] for request in app.requests}) == 1


RETRYABLE = {
    HandlerErrorType.REQUEST_TIMEOUT,
    HandlerErrorType.RESOURCE_EXHAUSTED,
    HandlerErrorType.INTERNAL,
    HandlerErrorType.UNAVAILABLE,
    HandlerErrorType.UPSTREAM_TIMEOUT,
}
"""As the specification has it; of a type that it does not know nothing is said."""


@pytest.mark.parametrize("kind", list(HandlerErrorType))
@pytest.mark.parametrize("override", [None, True, False])
async def test_only_what_the_specification_calls_retryable_is_sent_again(
    kind: HandlerErrorType, override: bool | None
) -> None:
    error = HandlerError("m", type=kind, retryable_override=override)
    app = Scripted(write_error(error))
    async with http_to(app) as http:
        with pytest.raises(HandlerError, match="m"):
            await client_of(app, http).execute_operation("o", None)
        with pytest.raises(HandlerError, match="m"):
            await client_of(app, http).cancel_operation("o", "t")
    again = kind in RETRYABLE if override is None else override
    assert len(app.requests) == (8 if again else 2)


@pytest.mark.parametrize(
    "answer",
    [HttpResponse(302, (("location", "http://test/other"),)), HttpResponse(502), HttpResponse(418), HttpResponse(204)],
    ids=lambda answer: str(answer.status),
)
async def test_an_answer_that_is_none_is_not_asked_for_again(answer: HttpResponse) -> None:
    app = Scripted(answer)
    async with http_to(app) as http:
        with pytest.raises(UnexpectedResponseError, match=str(answer.status)):
            await client_of(app, http).execute_operation("o", None)
    assert len(app.requests) == 1


async def test_an_answer_that_is_too_long_is_not_read() -> None:
    app = Scripted(HttpResponse(200, (("content-type", "application/octet-stream"),), b"x" * 1001))
    async with http_to(app) as http:
        assert await client_of(app, http, max_response_bytes=1001).execute_operation("o", None) == b"x" * 1001
        with pytest.raises(ResponseTooLargeError, match="at most 1000 bytes"):
            await client_of(app, http, max_response_bytes=1000).execute_operation("o", None)


async def test_an_answer_is_not_unpacked() -> None:
    headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
    app = Scripted(HttpResponse(200, headers, gzip.compress(b"5")))
    async with http_to(app) as http:
        with pytest.raises(SerializerError, match="content-encoding"):
            await client_of(app, http).execute_operation("o", None)
    assert dict(app.requests[0].headers)["accept-encoding"] == "identity"


async def test_nobody_there_is_tried_again_and_then_told() -> None:
    nobody = Listener()
    nobody.socket.close()
    async with NexusClient(nobody.url, "S", retry=AT_ONCE) as client:
        with pytest.raises(TransportError, match=f"no answer from http://127.0.0.1:{nobody.port}"):
            await client.execute_operation("o", None)


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever() -> None:
    silent = Listener()
    once = RetryPolicy(attempts=1)
    async with NexusClient(silent.url, "S", retry=once, request_timeout=timedelta(milliseconds=20)) as client:
        with pytest.raises(RequestTimedOutError, match=r"within 0\.02 s"):
            await client.execute_operation("o", None)
    silent.socket.close()


async def test_attempts_end_with_the_operation_timeout() -> None:
    silent = Listener()
    many = RetryPolicy(attempts=1000, initial=timedelta(milliseconds=1), maximum=timedelta(milliseconds=1))
    async with NexusClient(silent.url, "S", retry=many) as client:
        with pytest.raises(OperationTimedOutError):
            await client.execute_operation("o", None, operation_timeout=timedelta(milliseconds=50))
    silent.socket.close()


async def test_a_completion_counts_though_the_answer_to_the_start_was_lost() -> None:
    receiver = CallbackReceiver("http://test/callback")
    lost = Scripted(write_error(HandlerError("down", type=HandlerErrorType.UNAVAILABLE)))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """The handler completes the operation, and then its answer is lost."""
        if scope["path"].startswith("/callback"):
            await receiver(scope, receive, send)
            return
        token = next(value.decode() for name, value in scope["headers"] if name == b"nexus-callback-token")
        answer = await http.post("http://test/callback/", headers={"token": token, **done}, content=b'"result"')
        assert answer.status_code == 200, answer.text
        await lost(scope, receive, send)

    done = {
        "nexus-operation-state": "succeeded",
        "content-type": "application/json",
        "nexus-operation-token": "the token",
    }
    async with http_to(app) as http:
        client = NexusClient("http://test", "S", receiver=receiver, http=http, retry=RetryPolicy(attempts=1))
        handle = await client.start_operation("o", None, output_type=str)
        assert (handle.token, await handle.result()) == ("the token", "result")


async def test_header_fields_and_tokens_may_be_latin_1() -> None:
    app = Scripted(
        HttpResponse(201, (("content-type", "application/json"),), '{"token":"é","state":"running"}'.encode())
    )
    async with http_to(app) as http:
        client = client_of(app, http)
        handle = await client.start_operation("o", None, headers={"x-name": "é"})
        assert dict(app.requests[-1].headers)["x-name"] == "é"
        with pytest.raises(UnexpectedResponseError):
            await handle.cancel()
        assert dict(app.requests[-1].headers)["nexus-operation-token"] == "é"
        with pytest.raises(LocalProtocolError, match="a space at an end"):
            await client.start_operation("o", None, headers={"x-name": " a "})


async def test_what_cannot_be_sent_is_not() -> None:
    app = Scripted(DONE)
    async with http_to(app) as http:
        client = client_of(app, http)
        with pytest.raises(LocalProtocolError):
            await client.execute_operation("", None)
        with pytest.raises(LocalProtocolError):
            await client.execute_operation("o", None, headers={"nexus-link": "x"})
        with pytest.raises(SerializerError):
            await client.execute_operation("o", object())
        with pytest.raises(LocalProtocolError):
            await NexusClient("nowhere", "S", http=http).execute_operation("o", None)
    assert not app.requests


async def test_header_fields_of_the_client_go_with_every_request() -> None:
    app = Scripted(HttpResponse(202))
    async with http_to(app) as http:
        await client_of(app, http, headers={"authorization": "Bearer x"}).cancel_operation("o", "t")
    assert dict(app.requests[0].headers)["authorization"] == "Bearer x"


def test_a_service_is_a_definition_or_a_name() -> None:
    assert NexusClient("http://a", Payments).service == "Payments"
    with pytest.raises(TypeError, match="Payment is no service definition"):
        NexusClient("http://a", Payment)


async def test_an_http_client_that_was_given_stays_open() -> None:
    app = Scripted(DONE)
    async with http_to(app) as http:
        async with client_of(app, http) as client:
            assert await client.execute_operation("o", None) == 5
        assert not http.is_closed


def test_waits_grow_up_to_a_maximum() -> None:
    policy = RetryPolicy(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=1))
    retrying = policy.retrying()

    class State:
        attempt_number = 0

    longest = []
    for number in (1, 2, 3, 4, 50):
        State.attempt_number = number
        longest.append(max(retrying.wait(State()) for _ in range(500)))
    assert all(drawn <= most for drawn, most in zip(longest, (0.2, 0.4, 0.8, 1.0, 1.0), strict=True))
    assert longest[3] > longest[0] > 0


def test_inputs_are_checked_by_their_own_types() -> None:
    with pytest.raises(ValidationError):
        Payment(order="1", cents=0)
