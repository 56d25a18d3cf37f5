"""Requests to URLs that somebody else chose: they reach nothing that is not listed.

Each name is looked up by a resolver of the test, which counts how often it was asked and can change its mind.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trustme
from nexusrpc import HandlerError, HandlerErrorType, OperationError, OperationErrorState

from nexuskit.protocol import (
    AllowList,
    Callback,
    DestinationRefusedError,
    HttpRequest,
    HttpResponse,
    LocalProtocolError,
    RequestTimedOutError,
    ResponseTooLargeError,
    SerializerError,
    TransportError,
    UnexpectedResponseError,
    parse_completion,
    write_error,
)
from nexuskit.protocol.callbacks import complete_operation
from nexuskit.protocol.outbound import exchange, guarded_client, resolve
from nexuskit.protocol.retries import RetryPolicy
from tests.protocol.loopback import Listener, Scripted, Switch, served

AT_ONCE = RetryPolicy(attempts=3, initial=timedelta(), maximum=timedelta())
TIMEOUT = timedelta(seconds=20)
OK = HttpResponse(200)


class Names:
    """A resolver that gives each answer of a list once, and the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[tuple[Switch, int]]:
    app = Switch()
    async with served(app) as url:
        yield app, httpx.URL(url).port or 0


@pytest.fixture
def victim(port: tuple[Switch, int]) -> tuple[Scripted, int]:
    """A server in the network of this machine, which must not be reached unless it is listed."""
    app = Scripted(OK)
    port[0].app = app
    return app, port[1]


async def post(url: str, allow: AllowList, names: Names, **more: Any) -> HttpResponse:
    async with guarded_client(allow, resolver=names) as client:
        return await exchange(client, HttpRequest("POST", url), timeout=TIMEOUT, **more)


async def test_a_listed_name_at_a_listed_address_is_reached_by_its_name(victim: tuple[Scripted, int]) -> None:
    app, port = victim
    names = Names(["127.0.0.1"])
    allow = AllowList([f"http://hooks.example:{port}", f"127.0.0.0/8:{port}"])
    assert (await post(f"http://Hooks.example:{port}/a%2Fb?c=d", allow, names)).status == 200
    assert app.requests[0].target == "/a%2Fb?c=d"
    assert dict(app.requests[0].headers)["host"] == f"hooks.example:{port}"
    assert names.asked == [("hooks.example", port)]


async def test_an_address_in_a_url_is_not_looked_up(victim: tuple[Scripted, int]) -> None:
    _, port = victim
    names = Names([])
    assert (await post(f"http://127.0.0.1:{port}/", AllowList([f"http://127.0.0.1:{port}"]), names)).status == 200
    assert names.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://hooks.example:{port}/",
        "https://other.example:{port}/",
        "http://hooks.example.:1/",
        "http://hooks.example@127.0.0.1:{port}/",
        "http://user:password@hooks.example:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
    ],
)
async def test_what_is_not_listed_is_not_even_looked_up_or_is_refused_by_its_address(
    victim: tuple[Scripted, int], url: str
) -> None:
    app, port = victim
    names = Names(["127.0.0.1"])
    with pytest.raises(DestinationRefusedError):
        await post(url.format(port=port), AllowList([f"https://hooks.example:{port}", "*.example:443"]), names)
    assert app.requests == []
    assert names.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"])
async def test_a_listed_name_that_leads_inside_is_refused(victim: tuple[Scripted, int], address: str) -> None:
    app, port = victim
    names = Names([address])
    with pytest.raises(DestinationRefusedError, match="no address that requests may go to"):
        await post(f"http://hooks.example:{port}/", AllowList([f"http://hooks.example:{port}"]), names)
    assert app.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.2%x.evil.example", "127.0.0.2%25x.evil.example", "[fe80::1%25lo]", "xn--a.example", "a%00b"]
)
async def test_what_looks_like_an_address_and_is_none_is_refused(
    victim: tuple[Scripted, int], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    app, port = victim
    asked: list[Any] = []

    async def getaddrinfo(*arguments: Any, **_: Any) -> Any:
        asked.append(arguments)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    allow = AllowList(["http://127.0.0.2:*", "http://127.0.0.0/8:*", "http://[fe80::]/10:*"][:2])
    with pytest.raises((DestinationRefusedError, LocalProtocolError)):
        await post(f"http://{host}:{port}/", allow, Names(["127.0.0.2%x"]))
    assert (asked, app.requests) == ([], [])


async def test_a_port_that_there_is_not_is_refused(victim: tuple[Scripted, int]) -> None:
    with pytest.raises((DestinationRefusedError, LocalProtocolError)):
        await post("http://hooks.example:99999/", AllowList(["http://hooks.example:*"]), Names(["8.8.8.8"]))


async def test_a_name_cannot_change_its_address_after_it_was_checked(victim: tuple[Scripted, int]) -> None:
    """DNS rebinding: the second look would lead to the victim, and there is none."""
    app, port = victim
    elsewhere = Listener()
    elsewhere.socket.close()  # refuses connections; stands for a public address
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    allow = AllowList([f"http://hooks.example:{port}", f"127.0.0.2:{port}"])
    with pytest.raises(TransportError):
        await post(f"http://hooks.example:{port}/", allow, names)
    assert len(names.asked) == 1
    with pytest.raises(DestinationRefusedError):
        await post(f"http://hooks.example:{port}/", allow, names)
    assert app.requests == []


async def test_a_name_that_answers_both_goes_to_what_is_allowed(victim: tuple[Scripted, int]) -> None:
    app, port = victim
    allow = AllowList([f"http://hooks.example:{port}", f"127.0.0.1:{port}"])
    await post(f"http://hooks.example:{port}/", allow, Names(["10.0.0.1", "127.0.0.1"]))
    assert len(app.requests) == 1


async def test_the_next_address_is_tried_if_there_is_nobody(victim: tuple[Scripted, int]) -> None:
    app, port = victim
    allow = AllowList([f"http://hooks.example:{port}", f"127.0.0.0/8:{port}"])
    assert (await post(f"http://hooks.example:{port}/", allow, Names(["127.0.0.9", "127.0.0.1"]))).status == 200
    assert len(app.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_lead_nowhere(victim: tuple[Scripted, int], status: int) -> None:
    app, port = victim
    app.answers = [HttpResponse(status, (("location", f"http://127.0.0.1:{port}/secret"),)), OK]
    with pytest.raises(UnexpectedResponseError, match=str(status)):
        await complete_operation(
            Callback(f"http://localhost:{port}/"), None, allow=AllowList([f"http://localhost:{port}"]), retry=AT_ONCE
        )
    assert len(app.requests) == 1


async def test_an_answer_is_not_read_beyond_the_limit(victim: tuple[Scripted, int]) -> None:
    app, port = victim
    app.answers = [HttpResponse(200, (), b"x" * 100_000)]
    allow = AllowList([f"http://127.0.0.1:{port}"])
    with pytest.raises(ResponseTooLargeError):
        await post(f"http://127.0.0.1:{port}/", allow, Names([]), max_response_bytes=99_999)
    assert len((await post(f"http://127.0.0.1:{port}/", allow, Names([]), max_response_bytes=100_000)).body) == 100_000


async def test_one_that_answers_drop_by_drop_is_not_waited_for() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.002)
        except (ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(dripping, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with guarded_client(AllowList([f"http://127.0.0.1:{port}"])) as client:
        with pytest.raises(RequestTimedOutError):
            await exchange(client, HttpRequest("POST", f"http://127.0.0.1:{port}/"), timeout=timedelta(milliseconds=50))
    server.close()


async def test_what_breaks_off_is_no_answer() -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx")
        writer.close()

    server = await asyncio.start_server(breaking, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TransportError, match=f"no answer from http://127.0.0.1:{port}"):
        await post(f"http://127.0.0.1:{port}/secret?token=secret", AllowList([f"http://127.0.0.1:{port}"]), Names([]))
    server.close()


async def test_no_proxy_of_the_environment_is_used(
    victim: tuple[Scripted, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = victim
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await post(f"http://127.0.0.1:{port}/", AllowList([f"http://127.0.0.1:{port}"]), Names([]))).status == 200


async def test_connections_are_not_shared(victim: tuple[Scripted, int]) -> None:
    """A connection that was made for one name is not used for another at the same address."""
    app, port = victim
    allow = AllowList([f"http://*.example:{port}", f"127.0.0.1:{port}"])
    async with guarded_client(allow, resolver=Names(["127.0.0.1"])) as client:
        for name in ("a", "b"):
            await exchange(client, HttpRequest("POST", f"http://{name}.example:{port}/"), timeout=TIMEOUT)
    hosts = [dict(request.headers)["host"] for request in app.requests]
    assert hosts == [f"a.example:{port}", f"b.example:{port}"]
    assert len(set(app.callers)) == 2


async def test_a_name_that_does_not_exist_cannot_be_resolved() -> None:
    with pytest.raises(TransportError, match="cannot be resolved"):
        await resolve("no-such-name.invalid", 443)
    assert "127.0.0.1" in await resolve("127.0.0.1", 443)


@pytest.mark.parametrize("url", ["http://a:x/", "http://[::1/", "ftp://a/", "a", "http://"])
async def test_what_is_no_url_is_not_sent(url: str) -> None:
    with pytest.raises((LocalProtocolError, DestinationRefusedError)):
        await post(url, AllowList(["*.example:443"]), Names([]))


@pytest.mark.parametrize("url", ["http://me:secret@hooks.example/?secret", "http://xn--a.example/secret?secret"])
async def test_what_cannot_be_sent_is_told_without_what_may_be_secret(url: str) -> None:
    with pytest.raises((LocalProtocolError, DestinationRefusedError)) as refused:
        await post(url, AllowList(["http://*.example:80"]), Names([]))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"])
async def test_a_connection_that_is_reset_is_told_as_what_it_is(said: bytes) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        at_once = struct.pack("ii", 1, 0)  # closed by a reset, without waiting for what was written
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError) as told:
            await post(f"http://127.0.0.1:{port}/", AllowList([f"http://127.0.0.1:{port}"]), Names([]))
    assert str(told.value) == (
        f"no answer from http://127.0.0.1:{port}: the connection was closed or reset before the answer was complete"
    )


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (httpx.ConnectError(""), "no connection could be made"),
        (httpx.WriteError(""), "the connection was closed or reset before the request was sent"),
        (httpx.ReadError("as it says"), "as it says"),
        (httpx.CloseError(""), "CloseError"),
    ],
)
async def test_a_reason_is_never_empty(error: httpx.HTTPError, why: str) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        with pytest.raises(TransportError) as told:
            await exchange(client, HttpRequest("POST", "http://a.example/"), timeout=TIMEOUT)
    assert str(told.value) == f"no answer from http://a.example: {why}"


async def test_a_time_that_was_too_short_is_told_in_milliseconds() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        for timeout, told in ((1_999_620, "2 s"), (1_234_567, "1.235 s"), (90_000_400, "90 s")):
            request = HttpRequest("POST", "http://a.example/")
            with pytest.raises(RequestTimedOutError, match=f"within {told}$"):
                await exchange(client, request, timeout=timedelta(microseconds=timeout))


async def test_certificates_are_checked_for_the_name_and_not_for_the_address() -> None:
    authority = trustme.CA()
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.example").configure_cert(server_context)
    authority.configure_trust(client_context)
    names: list[Any] = []
    server_context.sni_callback = lambda _, name, __: names.append(name)

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answering, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    allow = AllowList([f"*.example:{port}", f"127.0.0.1:{port}"])
    async with guarded_client(allow, resolver=Names(["127.0.0.1"]), verify=client_context) as client:
        good = await exchange(client, HttpRequest("POST", f"https://hooks.example:{port}/"), timeout=TIMEOUT)
        assert good.status == 200
        with pytest.raises(TransportError, match=r"other\.example"):
            await exchange(client, HttpRequest("POST", f"https://other.example:{port}/"), timeout=TIMEOUT)
    assert names == ["hooks.example", "other.example"]
    server.close()


async def completed(victim: tuple[Scripted, int], outcome: Any, **more: Any) -> None:
    callback = Callback(f"http://localhost:{victim[1]}/callback?x=y", {"token": "t"})
    allow = AllowList([f"http://localhost:{victim[1]}"])
    await complete_operation(callback, outcome, allow=allow, retry=AT_ONCE, **more)


async def test_a_completion_is_sent_again_if_it_may_be(victim: tuple[Scripted, int]) -> None:
    app, _ = victim
    app.answers = [HttpResponse(503), HttpResponse(500), OK]
    await completed(victim, {"a": 1}, operation_token="op")
    assert len(app.requests) == 3
    assert len({request.body for request in app.requests}) == 1
    read = parse_completion(app.requests[0], received=datetime.now(UTC))
    assert (read.operation_token, read.headers["token"]) == ("op", "t")
    assert read.close_time is not None


async def test_a_completion_that_nobody_waits_for_is_not_sent_again(victim: tuple[Scripted, int]) -> None:
    app, _ = victim
    app.answers = [write_error(HandlerError("gone", type=HandlerErrorType.NOT_FOUND))]
    with pytest.raises(HandlerError, match="gone"):
        await completed(victim, OperationError("m", state=OperationErrorState.FAILED))
    assert len(app.requests) == 1


async def test_a_completion_is_not_sent_for_ever(victim: tuple[Scripted, int]) -> None:
    app, _ = victim
    app.answers = [HttpResponse(503)]
    with pytest.raises(HandlerError, match="Service Unavailable"):
        await completed(victim, None)
    assert len(app.requests) == 3


async def test_a_completion_that_cannot_be_written_is_not_sent(victim: tuple[Scripted, int]) -> None:
    with pytest.raises(SerializerError):
        await completed(victim, object())
    with pytest.raises(LocalProtocolError):
        await completed(victim, None, operation_token="a\nb")
    assert victim[0].requests == []


async def test_a_completion_goes_only_where_the_list_says(victim: tuple[Scripted, int]) -> None:
    app, port = victim
    with pytest.raises(DestinationRefusedError):
        await complete_operation(Callback(f"http://127.0.0.1:{port}/"), None, allow=AllowList(), retry=AT_ONCE)
    with pytest.raises(DestinationRefusedError):
        await complete_operation(
            Callback(f"http://hooks.example:{port}/"),
            None,
            allow=AllowList([f"http://hooks.example:{port}"]),
            resolver=Names(["127.0.0.1"]),
            retry=AT_ONCE,
        )
    assert app.requests == []
