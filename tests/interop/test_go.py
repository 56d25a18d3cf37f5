"""Our application and client with the Go implementation as the other side: every outcome, both ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from nexusrpc import Content, Failure, HandlerError, HandlerErrorType, Link, OperationError, OperationErrorState
from starlette.applications import Starlette
from starlette.routing import Mount

from nexuskit.protocol import (
    STATUS_BY_TYPE,
    AllowList,
    Callback,
    FailureError,
    UnexpectedResponseError,
)
from nexuskit.protocol.asgi import NexusApp
from nexuskit.protocol.callbacks import complete_operation
from nexuskit.protocol.client import NexusClient
from nexuskit.protocol.content import RawValue
from nexuskit.protocol.receiver import CallbackReceiver
from nexuskit.protocol.retries import RetryPolicy
from tests.interop.peers import PEERS, GoPeer, built, missing_reason, running
from tests.protocol.loopback import Switch, served
from tests.protocol.services import Payment, PaymentsHandler, Receipt

# The first build on a machine fetches and compiles what the peers are made of.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ONCE = RetryPolicy(attempts=1)
LINK = Link(url="https://orders.example/records/1?a=b", type="orders.Record")
GO_LINK = Link(url="https://peer.example/records/1?a=b", type="peer.Record")
NEWER = {HandlerErrorType.CONFLICT, HandlerErrorType.REQUEST_TIMEOUT}
"""Types that the elder peer does not know."""
STARTED = datetime(2025, 1, 31, 8, 49, 37, tzinfo=UTC)
CLOSED = datetime(2025, 1, 31, 8, 50, 0, 125000, tzinfo=UTC)


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoPeer]:
    name: str = request.param
    if reason := missing_reason(name):
        pytest.skip(reason)
    with running(name, built(name, tmp_path_factory.mktemp("go"))) as found:
        yield found


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[tuple[Switch, str]]:
    app = Switch()
    async with served(app) as url:
        yield app, url


class Here:
    """Our side: handlers, and a receiver of completions."""

    def __init__(self, port: tuple[Switch, str]) -> None:
        app, url = port
        self.handler = PaymentsHandler()
        self.receiver = CallbackReceiver(f"{url}/callback")
        self.url = f"{url}/nexus"
        nexus = NexusApp([self.handler])
        app.app = Starlette(routes=[Mount("/nexus", nexus), Mount("/callback", self.receiver)])


@pytest.fixture
def here(port: tuple[Switch, str]) -> Here:
    return Here(port)


@pytest.fixture
async def client(peer: GoPeer, here: Here) -> AsyncIterator[NexusClient]:
    async with httpx.AsyncClient(verify=False) as http:
        yield NexusClient(peer.services, "peer", receiver=here.receiver, retry=ONCE, http=http)


def links(*given: Link) -> list[dict[str, str]]:
    return [{"url": link.url, "type": link.type} for link in given]


# The Go client against our application.


async def test_go_starts_what_answers_at_once(peer: GoPeer, here: Here) -> None:
    body = b'{"order": "1", "cents": 5}'
    outcome = await peer.call(here.url, "process/now", body, content_type="application/json")
    assert (outcome["kind"], json.loads(outcome["content"])) == ("succeeded", {"order": "1", "charged": 5})
    assert outcome["content_type"] == "application/json"
    assert outcome["links"] == [{"url": "https://payments.example/records/1?a=b%2Cc", "type": "example.Record"}]
    outcome = await peer.call(here.url, "echo", b"\x00\xff", content_type="application/octet-stream")
    assert (outcome["content"], outcome["content_type"]) == (b"\x00\xff", "application/octet-stream")
    outcome = await peer.call(here.url, "nothing")
    assert (outcome["kind"], outcome["content"], outcome["content_type"]) == ("succeeded", b"", "")


async def test_go_tells_all_that_a_start_can(peer: GoPeer, here: Here) -> None:
    outcome = await peer.call(
        here.url,
        "seen",
        request_id="id-1",
        callback_url="http://orders.example/cb?a=b&c=%20",
        callback_header={"token": "t"},
        header={"x-mine": "1", "operation-timeout": "30s"},
        links=links(LINK),
        timeout_ms=20_000,
    )
    seen = json.loads(outcome["content"])
    assert (seen["request_id"], seen["callback_url"]) == ("id-1", "http://orders.example/cb?a=b&c=%20")
    assert (seen["callback_headers"], seen["links"]) == ({"token": "t"}, [[LINK.url, LINK.type]])
    assert (seen["headers"]["x-mine"], seen["headers"]["operation-timeout"]) == ("1", "30s")
    deadline = here.handler.contexts[0].request_deadline
    assert deadline is not None
    assert timedelta(seconds=10) < deadline - datetime.now(UTC) < timedelta(seconds=20)


async def test_go_starts_what_completes_later_and_is_told(peer: GoPeer, here: Here) -> None:
    outcome = await peer.call(
        here.url,
        "later",
        b'{"order": "1", "cents": 5}',
        content_type="application/json",
        callback_url=peer.callback,
        callback_header={"token": "known", "x-mine": "1"},
    )
    assert (outcome["kind"], outcome["token"]) == ("started", "token 1")
    token, callback, _ = here.handler.waiting.started[0]
    assert callback == Callback(peer.callback, {"token": "known", "x-mine": "1"})
    await finish(callback, Receipt(order="1", charged=5), operation_token=token)
    [completion] = (await peer.told())["completions"]
    assert (completion["state"], completion["token"]) == ("succeeded", "token 1")
    assert (completion["content"], completion["content_type"]) == (b'{"order":"1","charged":5}', "application/json")
    assert completion["header"]["X-Mine"] == "1"
    assert completion["links"] == links(LINK)
    assert completion["start_time_ms"] == STARTED.timestamp() * 1000
    if peer.name == "current":
        assert completion["close_time_ms"] == CLOSED.timestamp() * 1000


async def finish(callback: Callback, outcome: Any, **more: Any) -> None:
    await complete_operation(
        callback,
        outcome,
        allow=AllowList(["http://127.0.0.1:*"]),
        start_time=STARTED,
        close_time=CLOSED,
        links=[LINK],
        retry=ONCE,
        **more,
    )


@pytest.mark.parametrize("state", list(OperationErrorState))
async def test_go_is_told_of_what_fails_later(peer: GoPeer, state: OperationErrorState) -> None:
    error = OperationError("sorry", state=state)
    error.__cause__ = FailureError(Failure("inner", details={"a": 1}))
    await finish(Callback(peer.callback, {"token": "known"}), error)
    [completion] = (await peer.told())["completions"]
    assert completion["state"] == state.value
    told = completion["error"]
    if peer.name == "current":
        assert (told["kind"], told["state"], told["message"]) == ("operation_error", state.value, "sorry")
        assert (told["cause"]["message"], told["cause"]["details"]) == ("inner", {"a": 1})
    else:
        assert (told["message"], told["details"]) == ("sorry", {"state": state.value})


async def test_go_refuses_a_completion(peer: GoPeer) -> None:
    with pytest.raises(HandlerError) as raised:
        await finish(Callback(peer.callback, {"token": "unknown"}), None)
    assert raised.value.type is HandlerErrorType.NOT_FOUND


@pytest.mark.parametrize("kind", ["failed", "canceled"])
async def test_go_learns_what_fails_at_once(peer: GoPeer, here: Here, kind: str) -> None:
    outcome = await peer.call(here.url, "end", json.dumps({"kind": kind}).encode(), content_type="application/json")
    assert (outcome["kind"], outcome["state"]) == ("operation_error", kind)
    told = outcome if peer.name == "current" else outcome["cause"]
    assert told["message"] == f"it {kind}"


@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("kind", list(STATUS_BY_TYPE))
async def test_go_learns_what_is_not_handled(
    peer: GoPeer, here: Here, kind: HandlerErrorType, override: bool | None
) -> None:
    body = json.dumps({"kind": "handler", "type": kind.value, "retryable": override}).encode()
    outcome = await peer.call(here.url, "end", body, content_type="application/json")
    if peer.name == "sdk04" and kind in NEWER:
        assert outcome["kind"] == "error"
        return
    expected = HandlerError("", type=kind, retryable_override=override).retryable
    assert (outcome["kind"], outcome["type"], outcome["retryable"]) == ("handler_error", kind.value, expected)
    assert outcome["override"] == override
    told = outcome if peer.name == "current" else outcome["cause"]
    assert told["message"] == f"said {kind.value}"


async def test_go_learns_the_causes(peer: GoPeer, here: Here) -> None:
    outcome = await peer.call(here.url, "end", b'{"kind": "caused"}', content_type="application/json")
    if peer.name == "current":
        inner = outcome["cause"]
        assert (inner["kind"], inner["type"], inner["message"]) == ("handler_error", "NOT_FOUND", "inner")


async def test_go_cancels(peer: GoPeer, here: Here) -> None:
    outcome = await peer.call(here.url, "later", token="token 1", header={"x-mine": "1"})
    assert outcome["kind"] == "canceled"
    token, context = here.handler.waiting.cancelled[0]
    assert (token, context.headers["x-mine"]) == ("token 1", "1")
    outcome = await peer.call(here.url, "later", token="unknown")
    assert (outcome["kind"], outcome["type"]) == ("handler_error", "NOT_FOUND")


async def test_go_cancels_the_request_and_so_the_handler(peer: GoPeer, here: Here) -> None:
    outcome = await peer.call(here.url, "hang", timeout_ms=200)
    assert outcome["kind"] in {"error", "handler_error"}  # who gives up first
    await here.handler.let_go.wait()


# Our client against the Go server.


async def test_go_answers_at_once(client: NexusClient) -> None:
    assert await client.execute_operation("echo", {"a": [1]}) == {"a": [1]}
    assert await client.execute_operation("echo", b"\x00\xff") == b"\x00\xff"
    assert await client.execute_operation("echo", None) is None
    assert await client.execute_operation("with/slash", Payment(order="1", cents=5), output_type=Payment) == Payment(
        order="1", cents=5
    )
    raw = RawValue(Content(headers={"content-type": "application/x-protobuf; message-type=a.B"}, data=b"\x08\x01"))
    answer = await client.execute_operation("echo", raw, output_type=RawValue)
    assert (answer.content.data, answer.content.headers["content-type"]) == (
        raw.content.data,
        raw.content.headers["content-type"],
    )
    assert (await client.start_operation("echo", None)).links == (GO_LINK,)


async def test_go_sees_all_that_a_start_can_tell(client: NexusClient) -> None:
    seen = await client.execute_operation(
        "seen",
        None,
        headers={"x-mine": "1"},
        request_id="id-1",
        links=[LINK, GO_LINK],
        operation_timeout=timedelta(seconds=30),
    )
    assert (seen["service"], seen["operation"], seen["request_id"]) == ("peer", "seen", "id-1")
    assert seen["callback_url"].endswith("/callback/")
    assert set(seen["callback_header"]) == {"token"}
    assert seen["header"]["x-mine"] == "1"
    assert seen["header"]["operation-timeout"].endswith("ms")
    assert seen["links"] == links(LINK, GO_LINK)
    assert seen["has_deadline"]


@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled"])
async def test_go_completes_later(peer: GoPeer, client: NexusClient, state: str) -> None:
    handle = await client.start_operation("later", None, output_type=dict[str, int])
    assert (handle.token, handle.links) == ("token of go", (GO_LINK,))
    assert handle._waiting is not None
    callback = handle._waiting.callback
    times = {"start_time_ms": int(STARTED.timestamp() * 1000), "close_time_ms": int(CLOSED.timestamp() * 1000)}
    outcome = await peer.complete(
        callback.url,
        b'{"a": 1}',
        content_type="application/json",
        header=dict(callback.headers),
        token="token of go",
        links=links(GO_LINK),
        state=state,
        message="sorry",
        **times,
    )
    assert outcome["kind"] == "completed"
    completion = await handle._waiting.completion
    assert (completion.start_time, completion.links) == (STARTED, (GO_LINK,))
    if peer.name == "current" or state == "succeeded":  # the elder one leaves it out of what is unsuccessful
        assert completion.operation_token == "token of go"
    assert completion.close_time == (CLOSED if peer.name == "current" else None)
    if state == "succeeded":
        assert await handle.result() == {"a": 1}
        return
    with pytest.raises(OperationError, match="sorry") as raised:
        await handle.result()
    assert raised.value.state.value == state


async def test_go_completes_with_the_cause_alone(peer: GoPeer, client: NexusClient) -> None:
    handle = await client.start_operation("later", None)
    assert handle._waiting is not None
    callback = handle._waiting.callback
    await peer.complete(
        callback.url, header=dict(callback.headers), state="failed", message="inner", details={"a": [1]}
    )
    with pytest.raises(OperationError, match="inner") as raised:
        await handle.result()
    assert isinstance(raised.value.__cause__, FailureError)
    assert raised.value.__cause__.failure.details == {"a": [1]}


async def test_go_learns_that_its_completion_is_refused(peer: GoPeer, here: Here) -> None:
    outcome = await peer.complete(here.receiver.url, header={"token": "forged"}, state="succeeded")
    assert (outcome.get("type") or outcome["message"]) in {"UNAUTHENTICATED", "401 Unauthorized"}


NEW_FORM = {"temporal-nexus-failure-support": "true"}
"""Makes the peer of today answer with the whole failure, and not with its cause alone as its elder does."""


@pytest.mark.parametrize("form", [{}, NEW_FORM], ids=["deprecated", "whole"])
@pytest.mark.parametrize("kind", ["failed", "canceled"])
async def test_go_fails_at_once(client: NexusClient, peer: GoPeer, kind: str, form: dict[str, str]) -> None:
    wanted = {"kind": kind, "message": "sorry", "details": {"a": 1}}
    with pytest.raises(OperationError) as raised:
        await client.execute_operation("end", wanted, headers=form)
    assert raised.value.state.value == kind
    if form and peer.name == "current":
        assert raised.value.message == "sorry"
    cause = raised.value.__cause__
    assert isinstance(cause, FailureError)
    assert (cause.failure.metadata, cause.failure.details) == ({"type": "peer.Inner"}, {"a": 1})


@pytest.mark.parametrize("form", [{}, NEW_FORM], ids=["deprecated", "whole"])
@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("kind", list(STATUS_BY_TYPE))
async def test_go_does_not_handle(
    client: NexusClient, peer: GoPeer, kind: HandlerErrorType, override: bool | None, form: dict[str, str]
) -> None:
    if peer.name == "sdk04" and kind in NEWER:
        pytest.skip("the elder peer knows no such type")
    wanted = {"kind": "handler", "type": kind.value, "retryable": override, "message": "sorry", "details": {"a": 1}}
    with pytest.raises(HandlerError) as raised:
        await client.execute_operation("end", wanted, headers=form)
    error = raised.value
    assert (error.type, error.retryable_override) == (kind, override)
    if form and peer.name == "current":
        assert error.message == "sorry"
    assert isinstance(error.__cause__, FailureError)
    assert (error.__cause__.failure.metadata, error.__cause__.failure.details) == ({"type": "peer.Inner"}, {"a": 1})


async def test_go_knows_no_such_operation(client: NexusClient) -> None:
    with pytest.raises((HandlerError, UnexpectedResponseError)) as raised:
        await client.execute_operation("other", None)
    assert getattr(raised.value, "type", None) is HandlerErrorType.NOT_FOUND


async def test_go_is_asked_to_cancel(peer: GoPeer, client: NexusClient) -> None:
    await client.cancel_operation("later", "token of go", headers={"x-mine": "1"})
    [seen] = (await peer.told())["cancels"]
    assert (seen["service"], seen["operation"], seen["token"]) == ("peer", "later", "token of go")
    assert seen["header"]["x-mine"] == "1"
    with pytest.raises(HandlerError) as raised:
        await client.cancel_operation("later", "unknown")
    assert raised.value.type is HandlerErrorType.NOT_FOUND


async def test_both_sides_at_once(peer: GoPeer, here: Here, client: NexusClient) -> None:
    calls = [client.execute_operation("echo", number) for number in range(20)]
    back = [peer.call(here.url, "echo", b"x", content_type="application/octet-stream") for _ in range(20)]
    assert await asyncio.gather(*calls) == list(range(20))
    assert {outcome["kind"] for outcome in await asyncio.gather(*back)} == {"succeeded"}
