"""Services served as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import nexusrpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexusrpc import Link
from nexusrpc.handler import (
    Handler,
    MiddlewareSafeOperationHandler,
    OperationContext,
    OperationHandler,
    OperationHandlerMiddleware,
    StartOperationContext,
    StartOperationResultAsync,
    operation_handler,
    service_handler,
    sync_operation,
)
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.routing import Mount

from nexuskit.protocol import STATUS_BY_TYPE, Callback
from nexuskit.protocol.asgi import NexusApp
from tests.protocol.services import LINK, Answering, PaymentsHandler, http_to, never, scope

START = "/nexus/Payments"


@pytest.fixture
def handler() -> PaymentsHandler:
    return PaymentsHandler()


@pytest.fixture
async def http(handler: PaymentsHandler) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=[Mount("/nexus", NexusApp([handler], max_body_bytes=1000))])
    async with http_to(app) as client:
        yield client


async def test_a_result_is_answered_at_once(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{START}/process%2Fnow", json={"order": "1", "cents": 5})
    assert (answer.status_code, answer.json()) == (200, {"order": "1", "charged": 5})
    assert answer.headers["nexus-operation-state"] == "succeeded"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["nexus-link"] == f'<{LINK.url}>; type="{LINK.type}"'


async def test_bytes_and_nothing_travel_as_the_specification_says(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{START}/echo", content=b"\x00\xff", headers={"content-type": "application/octet-stream"})
    assert (answer.content, answer.headers["content-type"]) == (b"\x00\xff", "application/octet-stream")
    answer = await http.post(f"{START}/nothing")
    assert (answer.status_code, answer.content, answer.headers.get("content-type")) == (200, b"", None)


async def test_a_handler_sees_what_the_caller_said(http: httpx.AsyncClient, handler: PaymentsHandler) -> None:
    answer = await http.post(
        f"{START}/seen?callback=http%3A%2F%2Forders%2Fcb",
        headers={
            "nexus-request-id": "id-1",
            "nexus-callback-token": "t",
            "nexus-link": '<a:b>; type="c"',
            "authorization": "Bearer x",
            "request-timeout": "5s",
            "operation-timeout": "3s",
        },
    )
    seen = answer.json()
    assert (seen["request_id"], seen["callback_url"]) == ("id-1", "http://orders/cb")
    assert (seen["callback_headers"], seen["links"]) == ({"token": "t"}, [["a:b", "c"]])
    assert seen["headers"]["authorization"] == "Bearer x"
    assert seen["headers"]["operation-timeout"] == "3s"
    assert not [name for name in seen["headers"] if name.startswith(("nexus-callback-", "content-"))]
    context = handler.contexts[0]
    assert context.request_deadline is not None
    assert timedelta(seconds=2) < context.request_deadline - datetime.now(UTC) <= timedelta(seconds=3)
    assert context.inbound_links == (Link(url="a:b", type="c"),)


async def test_an_operation_that_completes_later_is_answered_with_its_token(
    http: httpx.AsyncClient, handler: PaymentsHandler
) -> None:
    answer = await http.post(f"{START}/later?callback=http://orders/cb", json={"order": "1", "cents": 5})
    assert (answer.status_code, answer.json()) == (201, {"token": "token 1", "state": "running"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["nexus-link"].startswith(f"<{LINK.url}>")
    assert handler.waiting.started[0][:2] == ("token 1", Callback("http://orders/cb"))


async def test_cancel_takes_the_token_from_the_header_field_or_the_query(
    http: httpx.AsyncClient, handler: PaymentsHandler
) -> None:
    answer = await http.post(f"{START}/later/cancel", headers={"nexus-operation-token": "token 1", "x-mine": "2"})
    assert (answer.status_code, answer.content) == (202, b"")
    assert (await http.post(f"{START}/later/cancel?token=token%202")).status_code == 202
    assert [token for token, _ in handler.waiting.cancelled] == ["token 1", "token 2"]
    headers = handler.waiting.cancelled[0][1].headers
    assert headers["x-mine"] == "2"
    assert "nexus-operation-token" not in headers
    assert (await http.post(f"{START}/later/cancel?token=other")).status_code == 404


async def test_what_answers_at_once_cannot_be_cancelled(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{START}/echo/cancel?token=t")
    assert (answer.status_code, answer.json()["details"]["type"]) == (501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("kind", ["failed", "canceled"])
async def test_an_operation_that_fails_is_answered_with_424(http: httpx.AsyncClient, kind: str) -> None:
    answer = await http.post(f"{START}/end", json={"kind": kind})
    assert (answer.status_code, answer.headers["nexus-operation-state"]) == (424, kind)
    assert answer.json() == {
        "message": f"it {kind}",
        "metadata": {"type": "nexus.OperationError"},
        "details": {"state": kind},
    }


async def test_causes_that_are_failures_are_told(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{START}/end", json={"kind": "caused"})
    assert answer.json()["cause"]["details"] == {"type": "NOT_FOUND"}


@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("kind", [kind.value for kind in STATUS_BY_TYPE])
async def test_a_handler_error_has_the_status_of_its_type(
    http: httpx.AsyncClient, kind: str, override: bool | None
) -> None:
    answer = await http.post(f"{START}/end", json={"kind": "handler", "type": kind, "retryable": override})
    assert answer.status_code == {key.value: status for key, status in STATUS_BY_TYPE.items()}[kind]
    assert answer.json()["details"] == {"type": kind} | ({} if override is None else {"retryableOverride": override})
    assert answer.headers.get("nexus-request-retryable") == (None if override is None else str(override).lower())


async def test_an_unexpected_error_tells_an_id_and_the_log_the_rest(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await http.post(f"{START}/end", json={"kind": "unexpected"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    failure = answer.json()
    correlation_id = failure["details"]["correlationId"]
    assert failure["details"]["type"] == "INTERNAL"
    assert correlation_id in failure["message"]
    [record] = caplog.records
    assert correlation_id in record.getMessage()
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "secret 4711" in str(record.exc_info[1])


class Public(BaseModel):
    order_id: str = Field(alias="orderId")


class Private(Public):
    password: str = "secret"


@service_handler(name="Shop")
class Shop:
    @sync_operation
    async def order(self, ctx: StartOperationContext, order: Public) -> Public:
        return Private(orderId=order.order_id)


async def test_a_result_is_written_as_its_operation_declares_it_and_by_alias() -> None:
    async with http_to(NexusApp([Shop()])) as http:
        answer = await http.post("/Shop/order", json={"orderId": "1"})
    assert (answer.status_code, answer.json()) == (200, {"orderId": "1"})


@service_handler(name="Odd")
class Odd:
    """Answers as it is told, with what no type checker lets through."""

    answer: Any = None

    @operation_handler
    def odd(self) -> OperationHandler[None, None]:
        return Answering(self.answer)


@pytest.mark.parametrize(
    "answer",
    [
        "no result",
        StartOperationResultAsync(""),
        StartOperationResultAsync("a\nb"),
        nexusrpc.HandlerError("m", type="INTERNAL", original_failure=nexusrpc.Failure("m", details={"a": object()})),
        nexusrpc.handler.StartOperationResultSync(object()),
        ExceptionGroup("many", [ValueError("secret")]),
        NotImplementedError("secret"),
        TimeoutError("secret"),
    ],
    ids=lambda answer: type(answer).__name__,
)
async def test_an_answer_that_cannot_be_written_is_the_handlers_fault(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Odd()
    odd.answer = answer
    async with http_to(NexusApp([odd])) as http:
        response = await http.post("/Odd/odd")
    assert (response.status_code, response.json()["details"]["type"]) == (500, "INTERNAL")
    assert "secret" not in response.text
    assert "correlation id" in caplog.text


@service_handler(name="Falling")
class Falling:
    error: BaseException = asyncio.CancelledError("secret")

    @sync_operation
    async def fall(self, ctx: StartOperationContext, nothing: None) -> None:
        raise self.error


class OwnError(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError("secret"),
        BaseExceptionGroup("secret", [asyncio.CancelledError()]),
        OwnError("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_handler_that_nobody_cancelled_has_no_way_around_an_answer(error: BaseException) -> None:
    falling = Falling()
    falling.error = error
    async with http_to(NexusApp([falling])) as http:
        answer = await http.post("/Falling/fall")
    assert (answer.status_code, answer.json()["details"]["type"]) == (500, "INTERNAL")
    assert answer.json()["details"]["correlationId"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("error", [GeneratorExit(), BaseExceptionGroup("m", [SystemExit()])])
async def test_what_ends_the_process_passes(error: BaseException) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    falling = Falling()
    falling.error = error
    with pytest.raises(type(error)):
        await NexusApp([falling])(scope("/Falling/fall"), receive, never)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "message"),
    [
        ("GET", "/Payments/echo", {}, 400, "expected method POST"),
        ("POST", "/", {}, 404, "expected a path"),
        ("POST", "/Payments", {}, 404, "expected a path"),
        ("POST", "/Payments/a/b", {}, 404, "expected a path"),
        ("POST", "/Payments/process/now", {}, 404, "expected a path"),
        ("POST", "/Payments/%ff", {}, 400, "UTF-8"),
        ("POST", "/Other/echo", {}, 404, "'Other'"),
        ("POST", "/Payments/other", {}, 404, "'other'"),
        ("POST", "/Payments/other/cancel?token=t", {}, 404, "'other'"),
        ("POST", "/Payments/later/cancel", {}, 400, "operation token"),
        ("POST", "/Payments/echo", {"headers": {"request-timeout": "5h"}}, 400, "request-timeout"),
        ("POST", "/Payments/echo", {"headers": {"nexus-link": "x"}}, 400, "nexus-link"),
        ("POST", "/Payments/process%2Fnow", {"content": b"{"}, 400, "content-type"),
        ("POST", "/Payments/process%2Fnow", {"json": {"order": 5}}, 400, "order: .*; cents: "),
        ("POST", "/Payments/process%2Fnow", {"json": {"order": "1", "cents": 0}}, 400, "cents: .*greater than 0"),
        ("POST", "/Payments/process%2Fnow", {}, 400, "invalid input"),
        ("POST", "/Payments/echo", {"content": b"x" * 1001}, 400, "at most 1000 bytes.* '1001'"),
    ],
)
async def test_bad_input_is_a_4xx_that_says_what_is_wrong(
    http: httpx.AsyncClient, method: str, path: str, options: Any, status: int, message: str
) -> None:
    answer = await http.request(method, "/nexus" + path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(answer.json()["message"])


async def test_a_body_without_a_length_is_not_read_beyond_the_limit(http: httpx.AsyncClient) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            yield b"x" * 100

    answer = await http.post(f"{START}/echo", content=endless())
    assert (answer.status_code, read <= 1200) == (400, True)
    assert "at most 1000 bytes" in answer.json()["message"]


async def test_a_body_may_come_in_pieces(http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100

    octets = {"content-type": "application/octet-stream"}
    assert (await http.post(f"{START}/echo", content=pieces(), headers=octets)).content == b"x" * 1000


@pytest.mark.parametrize("name", ["request-timeout", "operation-timeout"])
async def test_a_handler_has_as_long_as_the_caller_says(
    http: httpx.AsyncClient, handler: PaymentsHandler, name: str
) -> None:
    # Long enough for the handler to begin, on a machine that is busy with other things.
    answer = await http.post(f"{START}/hang", headers={name: "500ms"})
    assert (answer.status_code, answer.json()["details"]["type"]) == (408, "REQUEST_TIMEOUT")
    assert handler.let_go.is_set()
    assert handler.contexts[0].task_cancellation.is_cancelled()
    assert handler.contexts[0].task_cancellation.cancellation_reason() == "the request took too long"


async def test_a_handler_has_no_longer_than_the_application_says(handler: PaymentsHandler) -> None:
    async with http_to(NexusApp([handler], max_request_time=timedelta(milliseconds=10))) as http:
        assert (await http.post("/Payments/hang", headers={"request-timeout": "5m"})).status_code == 408


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(handler: PaymentsHandler) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await NexusApp([handler], max_request_time=timedelta(milliseconds=10))(scope(), receive, send)
    assert sent[0]["status"] == 408


async def test_a_caller_that_goes_away_cancels_the_handler(handler: PaymentsHandler) -> None:
    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    running = asyncio.create_task(NexusApp([handler])(scope(), receive, never))
    await handler.hanging.wait()
    assert not handler.let_go.is_set()
    gone.set()
    await running
    assert handler.let_go.is_set()
    assert handler.contexts[0].task_cancellation.cancellation_reason() == "the caller closed the connection"
    await handler.contexts[0].task_cancellation.wait_until_cancelled()


async def test_a_caller_that_goes_away_in_the_middle_of_its_body_is_let_go(handler: PaymentsHandler) -> None:
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Any:
        return messages.pop()

    await NexusApp([handler])(scope(), receive, never)
    assert not handler.contexts


async def test_the_server_that_stops_cancels_the_handler_too(handler: PaymentsHandler) -> None:
    messages = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    running = asyncio.create_task(NexusApp([handler])(scope(), receive, never))
    await handler.hanging.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert handler.let_go.is_set()


class Noting(OperationHandlerMiddleware):
    """Notes each call on its way in and out."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def intercept(self, ctx: OperationContext, next: MiddlewareSafeOperationHandler) -> MiddlewareSafeOperationHandler:
        noting = self

        class Noted(MiddlewareSafeOperationHandler):
            async def start(self, ctx: StartOperationContext, input: Any) -> Any:
                noting.notes.append(f"{noting.name} in {ctx.operation} {type(input).__name__}")
                try:
                    return await next.start(ctx, input)
                finally:
                    noting.notes.append(f"{noting.name} out")

            async def cancel(self, ctx: Any, token: str) -> None:
                noting.notes.append(f"{noting.name} cancel {token}")
                await next.cancel(ctx, token)

        return Noted()


async def test_middleware_wraps_starts_and_cancels(handler: PaymentsHandler) -> None:
    notes: list[str] = []
    app = NexusApp([handler], middleware=[Noting("a", notes), Noting("b", notes)])
    async with http_to(app) as http:
        await http.post("/Payments/process%2Fnow", json={"order": "1", "cents": 5})
        await http.post("/Payments/later/cancel?token=token")
    assert notes == [
        "a in process/now Payment",
        "b in process/now Payment",
        "b out",
        "a out",
        "a cancel token",
        "b cancel token",
    ]


async def test_a_handler_that_was_made_elsewhere_is_served_as_it_is(handler: PaymentsHandler) -> None:
    async with http_to(NexusApp(Handler([handler]))) as http:
        assert (await http.post("/Payments/nothing")).status_code == 200
    with pytest.raises(TypeError, match="of its own"):
        NexusApp(Handler([handler]), middleware=[Noting("a", [])])
    with pytest.raises(TypeError):
        NexusApp([PaymentsHandler])


async def test_the_application_runs_by_itself_and_knows_no_websocket(handler: PaymentsHandler) -> None:
    sent: list[str] = []
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    app = NexusApp([handler])
    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
    with pytest.raises(RuntimeError, match="other"):
        await app({"type": "other"}, receive, send)


async def test_below_any_mount_a_slash_in_a_name_is_told_from_one_in_the_path(handler: PaymentsHandler) -> None:
    inner = Starlette(routes=[Mount("/in ner", NexusApp([handler]))])
    async with http_to(Starlette(routes=[Mount("/{tenant}", inner)])) as http:
        body = {"order": "1", "cents": 5}
        assert (await http.post("/café/in%20ner/Payments/process%2Fnow", json=body)).status_code == 200
        assert (await http.post("/café/in%20ner/Payments/process/now", json=body)).status_code == 404


async def test_a_server_without_raw_paths_serves_names_without_slashes(handler: PaymentsHandler) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await NexusApp([handler])(scope("/nexus/Payments/nothing", raw_path=None, root_path="/nexus"), receive, send)
    assert sent[0]["status"] == 200


FUZZED = NexusApp([PaymentsHandler()], max_body_bytes=50)


@settings(max_examples=300)
@given(
    st.sampled_from(["POST", "POST", "GET", "\xff"]),
    st.sampled_from([b"/Payments/process%2Fnow", b"/Payments/later/cancel", b"/Payments/end", b"/Payments/echo"])
    | st.binary(max_size=30),
    st.binary(max_size=20) | st.just(b"callback=http://x") | st.just(b"token=token"),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"content-type",
                    b"content-length",
                    b"request-timeout",
                    b"operation-timeout",
                    b"nexus-link",
                    b"nexus-callback-a",
                ]
            )
            | st.binary(max_size=5),
            st.sampled_from([b"application/json", b"5s", b"application/octet-stream", b"12"]) | st.binary(max_size=10),
        ),
        max_size=5,
    ),
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b'{"order": "1", "cents": 5}', b'{"kind": "x"}', b"[" * 30]),
        max_size=3,
    ),
    st.sampled_from(["", "/Payments", "/é"]),
)
async def test_any_request_is_answered_and_only_a_handlers_fault_is_a_500(
    method: str, path: bytes, query: bytes, headers: Any, body: list[bytes], root: str
) -> None:
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    pieces.append({"type": "http.request", "body": b""})
    sent: list[Any] = []

    async def receive() -> Any:
        return pieces.pop(0) if pieces else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    connection = scope("/x", raw_path=path, method=method, query_string=query, headers=headers, root_path=root)
    await FUZZED(connection, receive, send)
    status = sent[0]["status"]
    assert status in {200, 201, 202, 501} or 400 <= status < 500
    if status >= 400:
        assert json.loads(sent[1]["body"])["message"]
