"""Whatever is sent by HTTP is answered as the Nexus specification says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexuskit.backend import tokens
from nexuskit.backend.nexus.completions import CALLBACK_TOKEN_HEADER
from nexuskit.backend.server import Backend, start
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import MILLISECOND
from nexuskit.protocol.failures import TYPE_BY_STATUS
from tests.support.raw import endpoint_spec

EXPECTED = {400, 404, 408, 501, 520}
"""Of calls that no worker takes: never INTERNAL, whatever is wrong."""

segments = st.one_of(
    st.sampled_from(
        ["Payments", "quote", "cancel", "a%2Fb", "%", "%zz", "%ff", "..", "", "n" * 1_001, "%00", "temporal:1"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8),
)
prefixes = st.sampled_from(
    [
        "/nexus/endpoints/{endpoint}/services",
        "/nexus/endpoints/payments/services",
        "/namespaces/payments/task-queues/q/nexus-services",
    ]
)
words = st.sampled_from(["", "nexus", "endpoints", "services", "namespaces", "task-queues", "nexus-services", "api"])
elsewhere = st.lists(words | segments, max_size=6).map(lambda parts: "/" + "/".join(parts))
queries = st.one_of(
    st.just(""),
    st.sampled_from(["?token=t", "?token=%ff", "?callback=http://a", "?callback=temporal://system", "?callback=%zz"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map("?{}".format),
)
callbacks = st.sampled_from(["/nexus/callback", "/nexus/callback", "/namespaces/%/nexus/callback"])
calls = st.tuples(prefixes, st.lists(segments, min_size=2, max_size=3).map("/".join)).map("/".join)
fine = st.tuples(prefixes, st.sampled_from(["S/o", "S/o/cancel", "a%2Fb/%E2%98%83"])).map("/".join)

values = st.one_of(
    st.sampled_from(
        [
            "succeeded", "failed", "canceled", "5s", "9" * 30 + "ms", "-1s", "application/json", "gzip", "identity",
            "application/x-temporal-payload", 'application/x-protobuf; message-type="', "true", "<a>; type=b", "<a",
            '<temporal:///x>; type="T", <', "Sun, 06 Nov 1994 08:49:37 GMT", "9999-12-31T23:59:59.999999999-23:59",
            "Mon, 01 Jan 0001 00:00:00 +2359", "v" * 9_000,
        ]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
)  # fmt: skip
names = st.sampled_from(
    [
        "content-type", "content-encoding", "content-language", "request-timeout", "operation-timeout", "nexus-link",
        "nexus-request-id", "nexus-operation-token", "nexus-operation-state", "nexus-operation-start-time",
        "nexus-operation-close-time", "nexus-callback-token", "nexus-callback-host", "temporal-nexus-failure-support",
        "temporal-source-namespace", "x-forwarded-for", CALLBACK_TOKEN_HEADER, "x-trace",
    ]
)  # fmt: skip
states = st.sampled_from(["succeeded", "failed", "canceled"])
bodies = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b'{"message": "m", "metadata": {"type": "nexus.OperationError"}, "details": {"state": "failed"}}',
            b'{"message": "m", "metadata": {"type": "nexus.HandlerError"}, "details": {"type": 7}}',
            b'{"message": "m", "metadata": {"type": "temporal.api.failure.v1.Failure"}, "details": {"a": 1}}',
            b'{"cause": ' * 101 + b"{}" + b"}" * 101,
            b'{"details": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
            b"[" * 100_000,
        ]
    ),
)


def test_whatever_is_sent_is_answered_as_the_specification_says() -> None:
    limits = Limits({"NEXUS_REQUEST_TIMEOUT": MILLISECOND, "NEXUS_REQUEST_TIMEOUT_MAX": MILLISECOND})
    with running(limits) as (runner, backend, http):
        services = backend._services
        endpoint = services.endpoints.create(endpoint_spec("payments", "payments", "q"), services.draw.uuid(), 1)[0]
        namespace = services.namespaces.get("payments").id
        shown = services.completions.headers(tokens.CallbackToken(1, namespace, "run", 5, "request"))

        @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.data())
        def ask(data: st.DataObject) -> None:
            path = data.draw(fine | calls | callbacks | elsewhere)
            path = path.replace("{endpoint}", endpoint.id) + data.draw(st.just("") | queries)
            headers = data.draw(st.lists(st.tuples(names, values), max_size=4))
            if path.partition("?")[0].endswith("/callback") and data.draw(st.integers(0, 9)):
                headers = [*shown.items(), ("nexus-operation-state", data.draw(states)), *headers]
            given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
            extensions: dict[str, Any] = {"target": path.encode()}
            request = http.build_request("POST", "/", content=data.draw(bodies), headers=given, extensions=extensions)
            response = runner.run(http.send(request))
            assert response.status_code in EXPECTED
            told = response.json()
            assert told["message"]
            assert told["metadata"] == {"type": "nexus.HandlerError"}
            assert told["details"]["type"] == TYPE_BY_STATUS[response.status_code].value

        ask()
        assert not services.nexus_tasks._waiting


pieces = st.binary(max_size=30) | st.sampled_from(
    [
        b"POST ", b"GET ", b" HTTP/1.1\r\n", b"\r\n", b"host: a", b"/nexus/callback", b"content-length: 5",
        b"content-length: -1", b"transfer-encoding: chunked", b"expect: 100-continue", b"upgrade: h2c",
    ]
)  # fmt: skip


def test_what_is_no_http_is_no_reason_to_fall() -> None:
    with running(Limits({})) as (runner, _, http):

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(pieces, max_size=8).map(b"".join))
        def throw(sent: bytes) -> None:
            assert not runner.run(answer_to(http.base_url, sent)).startswith(b"HTTP/1.1 5")

        throw()
        assert runner.run(http.get("/health")).status_code == 200


def test_what_is_no_http_is_logged_at_debug_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Anybody could fill the log."""
    sent = [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"]
    with running(Limits({})) as (runner, _, http):
        for level in (logging.INFO, logging.DEBUG):
            caplog.clear()
            with caplog.at_level(level):
                for each in sent:
                    assert runner.run(answer_to(http.base_url, each))
            logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
            assert bool(logged) == (level == logging.DEBUG)


@contextlib.contextmanager
def running(limits: Limits) -> Iterator[tuple[asyncio.Runner, Backend, httpx.AsyncClient]]:
    """A backend, a client of its HTTP door, and what runs them from a function that is not async."""
    with asyncio.Runner() as runner:
        backend = runner.run(
            start(":memory:", namespaces=["payments"], host="127.0.0.1", port=0, http_port=0, limits=limits)
        )
        http = httpx.AsyncClient(base_url=backend.http_address, timeout=10)
        try:
            yield runner, backend, http
        finally:
            runner.run(http.aclose())
            runner.run(backend.stop())


async def answer_to(url: httpx.URL, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(sent)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), timeout=10)
    except ConnectionError:
        return b""
    finally:
        writer.close()
