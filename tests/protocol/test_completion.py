"""Completions: what the handler's side writes the caller's side reads, and what is broken is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Content, Failure, HandlerError, HandlerErrorType, Link, OperationError, OperationErrorState

from nexuskit.protocol import (
    Callback,
    Completion,
    FailureError,
    HttpRequest,
    HttpResponse,
    LocalProtocolError,
    OperationState,
    UnexpectedResponseError,
    parse_completion,
    parse_completion_response,
    write_completion,
    write_completion_accepted,
    write_error,
)

CALLBACK = Callback("https://orders.example/callback?call=1", {"Token": "t", "authorization": "Bearer x"})
STARTED = datetime(2025, 1, 31, 8, 49, 37, tzinfo=UTC)
CLOSED = datetime(2025, 1, 31, 8, 50, 0, 125000, tzinfo=UTC)
RECEIVED = datetime(2025, 2, 1, tzinfo=UTC)
LINKS = (Link(url="a://b;c", type="d"),)
RESULT = Content(headers={"content-type": "application/json"}, data=b"5")


def completed(outcome: Any) -> Completion:
    return Completion(outcome=outcome, operation_token="op", start_time=STARTED, close_time=CLOSED, links=LINKS)


def test_a_result_arrives_as_it_was_sent() -> None:
    request = write_completion(CALLBACK, completed(RESULT))
    assert (request.method, request.target, request.body) == ("POST", CALLBACK.url, b"5")
    assert dict(request.headers) == {
        "token": "t",
        "authorization": "Bearer x",
        "nexus-operation-state": "succeeded",
        "nexus-operation-token": "op",
        "nexus-operation-start-time": "Fri, 31 Jan 2025 08:49:37 GMT",
        "nexus-operation-close-time": "2025-01-31T08:50:00.125000Z",
        "nexus-link": '<a://b;c>; type="d"',
        "content-type": "application/json",
    }
    read = parse_completion(request, received=RECEIVED)
    assert read.state is OperationState.SUCCEEDED
    assert (read.outcome, read.operation_token, read.start_time, read.close_time) == (RESULT, "op", STARTED, CLOSED)
    assert read.links == LINKS
    assert read.headers["token"] == "t"


@pytest.mark.parametrize("state", list(OperationErrorState))
def test_an_error_arrives_as_it_was_sent(state: OperationErrorState) -> None:
    error = OperationError("m", state=state)
    error.__cause__ = FailureError(Failure("inner", details={"a": 1}))
    request = write_completion(CALLBACK, completed(error))
    assert dict(request.headers)["content-type"] == "application/json"
    assert json.loads(request.body)["details"] == {"state": state.value}
    read = parse_completion(request, received=RECEIVED)
    assert isinstance(read.outcome, OperationError)
    assert (read.outcome.message, read.outcome.state, read.state.value) == ("m", state, state.value)
    assert isinstance(read.outcome.__cause__, FailureError)


@pytest.mark.parametrize("state", list(OperationErrorState))
def test_an_older_peer_sends_the_cause_alone(state: OperationErrorState) -> None:
    headers = (("nexus-operation-state", state.value), ("content-type", "application/json"))
    read = parse_completion(HttpRequest("POST", "/", headers, b'{"message": "inner"}'), received=RECEIVED)
    assert isinstance(read.outcome, OperationError)
    assert (read.outcome.message, read.outcome.state) == ("inner", state)


def test_without_times_the_start_is_when_it_was_received() -> None:
    read = parse_completion(write_completion(Callback("http://a"), Completion(outcome=RESULT)), received=RECEIVED)
    assert (read.start_time, read.close_time, read.operation_token) == (RECEIVED, None, "")


STATE = ("nexus-operation-state", "succeeded")
FAILED = (("nexus-operation-state", "failed"), ("content-type", "application/json"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (HttpRequest("GET", "/", (STATE,)), "expected method POST"),
        (HttpRequest("POST", "/"), "nexus-operation-state: expected succeeded, failed, canceled, but got ''"),
        (HttpRequest("POST", "/", (("nexus-operation-state", "running"),)), "got 'running'"),
        (HttpRequest("POST", "/", (STATE, ("nexus-operation-start-time", "x"))), "start-time: expected a date"),
        (HttpRequest("POST", "/", (STATE, ("nexus-operation-close-time", "x"))), "close-time: expected a timestamp"),
        (HttpRequest("POST", "/", (STATE, ("nexus-link", "x"))), "nexus-link: "),
        (HttpRequest("POST", "/", (STATE, ("x", "y" * 70_000))), "header fields"),
        (HttpRequest("POST", "/", FAILED[:1], b"{}"), "content-type"),
        (HttpRequest("POST", "/", FAILED, b"x"), "the body: expected a Failure"),
        (
            HttpRequest(
                "POST", "/", FAILED, b'{"metadata": {"type": "nexus.OperationError"}, "details": {"state": "canceled"}}'
            ),
            "says failed, but the details of the Failure say canceled",
        ),
    ],
)
def test_a_broken_completion_is_refused_with_what_is_wrong(request_: HttpRequest, message: str) -> None:
    with pytest.raises(HandlerError, match=message) as raised:
        parse_completion(request_, received=RECEIVED)
    assert raised.value.type is HandlerErrorType.BAD_REQUEST


FIELD = st.tuples(
    st.sampled_from(["nexus-operation-start-time", "nexus-operation-close-time", "nexus-link", "content-type"])
    | st.text(max_size=5),
    st.text(max_size=20) | st.just("application/json"),
)


@given(
    st.sampled_from(["succeeded", "failed", "canceled"]) | st.text(max_size=5),
    st.lists(FIELD, max_size=5),
    st.binary(max_size=20) | st.just(b'{"message": "m"}'),
)
def test_any_completion_is_read_or_refused_with_a_4xx(state: str, fields: Any, body: bytes) -> None:
    request = HttpRequest("POST", "/", (("nexus-operation-state", state), *fields), body)
    try:
        answer = HttpResponse(parse_completion(request, received=RECEIVED) and 400)
    except HandlerError as error:
        answer = write_error(error)
    assert 400 <= answer.status < 500


@pytest.mark.parametrize(
    ("callback", "change"),
    [
        (Callback("ftp://a"), {}),
        (Callback("http://a", {"host": "b"}), {}),
        (Callback("http://a", {"nexus-operation-state": "b"}), {}),
        (Callback("http://a", {"a": "b\n"}), {}),
        (Callback("http://a"), {"operation_token": "a\nb"}),
        (Callback("http://a"), {"start_time": datetime(2025, 1, 1)}),  # noqa: DTZ001, which is what is refused
        (Callback("http://a"), {"links": [Link(url="", type="")]}),
    ],
)
def test_what_cannot_travel_is_not_sent(callback: Callback, change: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        write_completion(callback, Completion(**{"outcome": RESULT, **change}))


def test_the_answer_says_whether_the_completion_was_taken() -> None:
    assert write_completion_accepted() == HttpResponse(200)
    for status in (200, 204):
        assert parse_completion_response(HttpResponse(status)) is None
    with pytest.raises(HandlerError, match="gone"):
        parse_completion_response(write_error(HandlerError("gone", type=HandlerErrorType.NOT_FOUND)))
    with pytest.raises(UnexpectedResponseError):
        parse_completion_response(HttpResponse(302, (("location", "http://127.0.0.1"),)))
