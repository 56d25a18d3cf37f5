"""Starts and cancels: what one side writes the other reads, and what is broken is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexusrpc import Content, Failure, HandlerError, HandlerErrorType, Link, OperationError, OperationErrorState

from nexuskit.protocol import (
    STATUS_BY_TYPE,
    CancelRequest,
    FailureError,
    HttpRequest,
    HttpResponse,
    LocalProtocolError,
    Started,
    StartRequest,
    Succeeded,
    UnexpectedResponseError,
    parse_cancel_response,
    parse_request,
    parse_start_response,
    write_cancel,
    write_cancel_accepted,
    write_error,
    write_start,
    write_started,
    write_succeeded,
)
from nexuskit.protocol.headers import MAX_HEADER_BYTES
from tests.protocol.messages import BASE, received

JSON = (("content-type", "application/json"),)
LINKS = (Link(url="a://b?c=d%2Ce", type="x.Y"), Link(url="f", type="g"))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)

FULL = StartRequest(
    service="a service/ü",
    operation="%2F/..",
    content=Content(headers={"content-type": "application/json", "content-x": "y"}, data=b"{}"),
    headers={"authorization": "Bearer x", "x-mine": "1"},
    request_id="id-1",
    callback_url="https://orders.example/callback?a=b&c=%20d",
    callback_headers={"token": "t", "authorization": "Bearer y"},
    links=LINKS,
    request_timeout=timedelta(milliseconds=1500),
    operation_timeout=timedelta(hours=1),
)


def test_a_start_arrives_as_it_was_sent() -> None:
    sent = write_start(BASE + "/", FULL)
    assert sent.target.startswith(f"{BASE}/a%20service%2F%C3%BC/%252F%2F..?callback=https%3A%2F%2F")
    read = parse_request(received(sent))
    assert isinstance(read, StartRequest)
    own = {name: value for name, value in read.headers.items() if name in FULL.headers}
    assert own == FULL.headers
    assert {"nexus-request-id", "request-timeout", "operation-timeout"} <= set(read.headers)
    assert not [name for name in read.headers if name.startswith(("nexus-callback-", "content-"))]
    for field in (
        "service",
        "operation",
        "content",
        "request_id",
        "callback_url",
        "callback_headers",
        "request_timeout",
        "operation_timeout",
    ):
        assert getattr(read, field) == getattr(FULL, field), field
    assert tuple(read.links) == LINKS


def test_the_fields_of_the_specification() -> None:
    headers = dict(write_start(BASE, FULL).headers)
    assert headers["nexus-callback-token"] == "t"
    assert headers["request-timeout"] == "1500ms"
    assert headers["operation-timeout"] == "3600000ms"
    assert headers["nexus-link"] == '<f>; type="g"'


def test_a_start_may_say_nothing() -> None:
    read = parse_request(HttpRequest("POST", "/a/b"))
    assert read == StartRequest(service="a", operation="b", content=Content(headers={}, data=b""))


def test_a_cancel_arrives_as_it_was_sent() -> None:
    sent = CancelRequest(
        service="a/b", operation="c", token="t ü", headers={"x": "y"}, request_timeout=timedelta(seconds=1)
    )
    written = write_cancel(BASE, sent)
    assert written.target == f"{BASE}/a%2Fb/c/cancel"
    read = parse_request(received(written))
    assert isinstance(read, CancelRequest)
    assert (read.service, read.operation, read.token, read.request_timeout) == ("a/b", "c", "t ü", timedelta(seconds=1))
    assert read.headers == {"x": "y", "request-timeout": "1000ms"}


def test_a_cancel_may_have_its_token_in_the_query() -> None:
    read = parse_request(HttpRequest("POST", "/a/b/cancel?x&token=t%20%2F+&token=u"))
    assert isinstance(read, CancelRequest)
    assert read.token == "t / "


def test_a_field_that_comes_twice_counts_once() -> None:
    read = parse_request(
        HttpRequest("POST", "/a/b", (("X", "1"), ("x", "2"), ("nexus-callback-a", "1"), ("Nexus-Callback-A", "2")))
    )
    assert isinstance(read, StartRequest)
    assert (read.headers, read.callback_headers) == ({"x": "1"}, {"a": "1"})


def test_what_belongs_to_the_connection_goes_no_further() -> None:
    read = parse_request(
        HttpRequest("POST", "/a/b", (("host", "h"), ("connection", "close"), ("content-length", "0"), ("te", "x")))
    )
    assert isinstance(read, StartRequest)
    assert (read.headers, read.content.headers) == ({}, {})


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (HttpRequest("GET", "/a/b"), "BAD_REQUEST", "expected method POST, but got 'GET'"),
        (HttpRequest("POST", "/"), "NOT_FOUND", "expected a path of the form"),
        (HttpRequest("POST", "/a/b/c"), "NOT_FOUND", "expected a path of the form"),
        (HttpRequest("POST", "/a/%"), "BAD_REQUEST", "path: .* no two hex digits"),
        (HttpRequest("POST", "//b"), "BAD_REQUEST", "path: .* empty"),
        (HttpRequest("POST", "/a/b", (("request-timeout", "soon"),)), "BAD_REQUEST", "request-timeout: .*'soon'"),
        (HttpRequest("POST", "/a/b/cancel", (("request-timeout", "1h"),)), "BAD_REQUEST", "operation token"),
        (HttpRequest("POST", "/a/b/cancel?token=t", (("request-timeout", "1h"),)), "BAD_REQUEST", "request-timeout"),
        (HttpRequest("POST", "/a/b", (("operation-timeout", "1h"),)), "BAD_REQUEST", "operation-timeout: .*'1h'"),
        (HttpRequest("POST", "/a/b", (("nexus-link", "x"),)), "BAD_REQUEST", "nexus-link: .*link 1"),
        (HttpRequest("POST", "/a/b?callback=ftp://x"), "BAD_REQUEST", "parameter callback"),
        (HttpRequest("POST", "/a/b?callback=http://" + "x" * 5000), "BAD_REQUEST", "at most 4096 characters"),
        (HttpRequest("POST", "/a/b?a=%ff"), "BAD_REQUEST", "UTF-8"),
        (HttpRequest("POST", "/a/b?" + "&" * 200), "BAD_REQUEST", "at most 100 parameters"),
        (HttpRequest("POST", "/a/b", (("nexus-callback-content-length", "5"),)), "BAD_REQUEST", "content-length"),
        (HttpRequest("POST", "/a/b", (("nexus-callback-host", "x"),)), "BAD_REQUEST", "host"),
        (
            HttpRequest("POST", "/a/b", (("nexus-callback-nexus-operation-state", "x"),)),
            "BAD_REQUEST",
            "operation-state",
        ),
        (HttpRequest("POST", "/a/b", (("nexus-callback-", "x"),)), "BAD_REQUEST", "no name"),
        (HttpRequest("POST", "/a/b", (("x", "y" * MAX_HEADER_BYTES),)), "BAD_REQUEST", "header fields"),
    ],
)
def test_a_broken_request_is_refused_with_what_is_wrong(request_: HttpRequest, kind: str, message: str) -> None:
    with pytest.raises(HandlerError, match=message) as raised:
        parse_request(request_)
    assert raised.value.type.value == kind
    answer = write_error(raised.value)
    assert 400 <= answer.status < 500
    assert json.loads(answer.body)["message"] == raised.value.message
    assert len(answer.body) < 1000


FIELD = st.tuples(
    st.sampled_from(
        [
            "request-timeout",
            "operation-timeout",
            "nexus-link",
            "nexus-callback-a",
            "content-type",
            "x",
            "nexus-operation-token",
        ]
    )
    | st.text(max_size=5),
    st.text(max_size=20) | st.sampled_from(["5s", '<a>; type="b"', "application/json"]),
)


@settings(max_examples=300)
@given(
    st.sampled_from(["POST"]) | st.text(max_size=5),
    st.sampled_from(["/a/b", "/a/b/cancel", "/a/b?callback=http://x", "/a/b/cancel?token=x"]) | st.text(max_size=40),
    st.text("?&=%callbacktoken/ÿ\ud800", max_size=20),
    st.lists(FIELD, max_size=5),
    st.binary(max_size=20),
)
def test_any_request_is_read_or_refused_with_a_4xx(method: str, path: str, tail: str, fields: Any, body: bytes) -> None:
    try:
        read = parse_request(HttpRequest(method, path + tail, tuple(fields), body))
    except HandlerError as error:
        answer = write_error(error)
    else:
        assert isinstance(read, StartRequest | CancelRequest)
        return
    assert 400 <= answer.status < 500
    assert json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"service": ""},
        {"operation": ""},
        {"headers": {"content-type": "x"}},
        {"headers": {"Nexus-Link": "x"}},
        {"headers": {"request-timeout": "5s"}},
        {"headers": {"Host": "x"}},
        {"headers": {"a b": "x"}},
        {"headers": {"a": "x\r\ny: z"}},
        {"headers": {"a": "€"}},
        {"callback_headers": {"host": "x"}},
        {"callback_headers": {"a": "\n"}},
        {"callback_url": "ftp://x"},
        {"request_id": "a\nb"},
        {"links": [Link(url="a b", type="c")]},
        {"links": [Link(url="a", type="c d")]},
        {"request_timeout": timedelta(seconds=-1)},
        {"content": Content(headers={"x-type": "y"}, data=b"")},
        {"content": Content(headers={"content-type": "a\nb"}, data=b"")},
    ],
    ids=str,
)
def test_what_cannot_travel_is_not_sent(change: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        write_start(BASE, StartRequest(**{"service": "a", "operation": "b", **change}))


@pytest.mark.parametrize("url", ["", "a", "ftp://a", "http://a?b", "http://a#b"])
def test_an_endpoint_is_a_url_prefix(url: str) -> None:
    with pytest.raises(LocalProtocolError, match="endpoint"):
        write_start(url, StartRequest(service="a", operation="b"))


@pytest.mark.parametrize("token", ["", " a", "a ", "a\nb", "€"])
def test_a_token_that_cannot_travel_is_not_sent(token: str) -> None:
    with pytest.raises(LocalProtocolError, match="token"):
        write_cancel(BASE, CancelRequest(service="a", operation="b", token=token))
    with pytest.raises(LocalProtocolError, match="token"):
        write_started(token)


def test_a_result_arrives_as_it_was_sent() -> None:
    content = Content(headers={"content-type": "a/b", "content-language": "de"}, data=b"x")
    answer = write_succeeded(content, LINKS)
    assert answer.status == 200
    assert ("nexus-operation-state", "succeeded") in answer.headers
    assert parse_start_response(answer) == Succeeded(content, LINKS)
    assert parse_start_response(write_succeeded()) == Succeeded()


def test_a_token_arrives_as_it_was_sent() -> None:
    answer = write_started("token ü", LINKS)
    assert answer.status == 201
    assert json.loads(answer.body) == {"token": "token ü", "state": "running"}
    assert parse_start_response(answer) == Started("token ü", LINKS)


@pytest.mark.parametrize("state", list(OperationErrorState))
def test_an_operation_error_arrives_as_it_was_sent(state: OperationErrorState) -> None:
    error = OperationError("m", state=state)
    error.__cause__ = FailureError(Failure("inner", details={"a": 1}))
    answer = write_error(error)
    assert answer.status == 424
    assert ("nexus-operation-state", state.value) in answer.headers
    with pytest.raises(OperationError, match="m") as raised:
        parse_start_response(answer)
    assert raised.value.state is state
    assert isinstance(raised.value.__cause__, FailureError)
    assert raised.value.__cause__.failure.details == {"a": 1}


@pytest.mark.parametrize("override", [None, True, False])
@pytest.mark.parametrize("kind", list(STATUS_BY_TYPE))
def test_a_handler_error_arrives_as_it_was_sent(kind: HandlerErrorType, override: bool | None) -> None:
    error = HandlerError("m", type=kind, retryable_override=override)
    answer = write_error(error)
    assert answer.status == STATUS_BY_TYPE[kind]
    assert dict(answer.headers).get("nexus-request-retryable") == (None if override is None else str(override).lower())
    for parse in (parse_start_response, parse_cancel_response):
        with pytest.raises(HandlerError, match="m") as raised:
            parse(answer)
        assert (raised.value.type, raised.value.retryable_override) == (kind, override)
        assert raised.value.retryable == error.retryable


def test_a_handler_error_of_an_unknown_type_is_a_500_that_keeps_its_type(caplog: pytest.LogCaptureFixture) -> None:
    answer = write_error(HandlerError("m", type="TEAPOT"))
    assert answer.status == 500
    assert json.loads(answer.body)["details"] == {"type": "TEAPOT"}


def test_the_failure_counts_more_than_the_status() -> None:
    answer = write_error(HandlerError("m", type=HandlerErrorType.CONFLICT))
    with pytest.raises(HandlerError) as raised:
        parse_start_response(HttpResponse(500, answer.headers, answer.body))
    assert raised.value.type is HandlerErrorType.CONFLICT


@pytest.mark.parametrize("body", [b"", b"oops", b'{"message": "inner", "details": 5}'])
@pytest.mark.parametrize(
    ("status", "message"), [(404, "Not Found"), (503, "Service Unavailable"), (520, "Upstream Timeout")]
)
def test_any_other_answer_is_wrapped_by_its_status(body: bytes, status: int, message: str) -> None:
    headers = (*JSON, ("nexus-request-retryable", "false"))
    with pytest.raises(HandlerError, match=message) as raised:
        parse_start_response(HttpResponse(status, headers, body))
    assert STATUS_BY_TYPE[raised.value.type] == status
    assert raised.value.retryable_override is False
    cause = raised.value.__cause__
    assert (cause is None) == (not body.startswith(b"{"))
    if isinstance(cause, FailureError):
        assert cause.failure == Failure("inner", details=5)


@pytest.mark.parametrize("state", list(OperationErrorState))
def test_an_older_peer_says_the_state_in_a_header_field(state: OperationErrorState) -> None:
    headers = (*JSON, ("nexus-operation-state", state.value))
    with pytest.raises(OperationError, match="inner") as raised:
        parse_start_response(HttpResponse(424, headers, b'{"message": "inner", "metadata": {"a": "b"}}'))
    assert raised.value.state is state
    assert isinstance(raised.value.__cause__, FailureError)
    assert raised.value.__cause__.failure.metadata == {"a": "b"}


@pytest.mark.parametrize(
    "answer",
    [
        HttpResponse(204),
        HttpResponse(301, (("location", "http://x"),)),
        HttpResponse(418, JSON, b'{"message": "teapot"}'),
        HttpResponse(201, JSON, b""),
        HttpResponse(201, JSON, b'{"token": "t", "state": "failed"}'),
        HttpResponse(201, JSON, b'{"token": "", "state": "running"}'),
        HttpResponse(201, JSON, b'{"token": "a\\nb", "state": "running"}'),
        HttpResponse(201, JSON, b'{"state": "running"}'),
        HttpResponse(201, JSON, b"[" * 100_000),
        HttpResponse(200, (("nexus-link", "x"),)),
        HttpResponse(200, (("x", "y" * MAX_HEADER_BYTES),)),
        HttpResponse(201, (("nexus-link", "x"),), b'{"token": "t", "state": "running"}'),
        HttpResponse(424),
        HttpResponse(424, JSON, b'{"message": "m"}'),
        HttpResponse(424, (*JSON, ("nexus-operation-state", "running")), b'{"message": "m"}'),
        HttpResponse(502, JSON, b'{"message": "m"}'),
    ],
)
def test_a_broken_answer_is_unexpected(answer: HttpResponse) -> None:
    with pytest.raises(UnexpectedResponseError) as raised:
        parse_start_response(answer)
    assert raised.value.status == answer.status


def test_a_cancel_is_answered_with_202_alone() -> None:
    assert parse_cancel_response(write_cancel_accepted()) is None
    assert write_cancel_accepted() == HttpResponse(202)
    with pytest.raises(UnexpectedResponseError):
        parse_cancel_response(HttpResponse(200))


@given(
    st.sampled_from([200, 201, 202, 400, 424, 500]) | st.integers(100, 999),
    st.lists(FIELD, max_size=4),
    st.binary(max_size=20),
)
def test_any_answer_is_read_or_refused(status: int, fields: Any, body: bytes) -> None:
    for parse in (parse_start_response, parse_cancel_response):
        try:
            parse(HttpResponse(status, tuple(fields), body))
        except (HandlerError, OperationError, UnexpectedResponseError) as error:
            told = str(error)
        else:
            told = "read"
        assert told


@given(
    NAMES,
    NAMES,
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1).filter(
        lambda text: text == text.strip()
    ),
)
def test_any_names_and_token_travel(service: str, operation: str, token: str) -> None:
    start = parse_request(received(write_start(BASE, StartRequest(service=service, operation=operation))))
    assert (start.service, start.operation) == (service, operation)
    cancel = parse_request(
        received(write_cancel(BASE, CancelRequest(service=service, operation=operation, token=token)))
    )
    assert isinstance(cancel, CancelRequest)
    assert cancel.token == token
