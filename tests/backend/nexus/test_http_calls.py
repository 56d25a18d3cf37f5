"""Requests for handlers as HTTP carries them, and answers by HTTP as a worker would have given them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import CancelOperationRequest, Link, Request, Response, StartOperationRequest

from nexuskit.backend import limits
from nexuskit.backend.nexus.failures import retryable
from nexuskit.backend.nexus.http_calls import USER_AGENT, failure_of, read, written
from nexuskit.backend.settings import DEFAULTS
from nexuskit.protocol.errors import (
    DestinationRefusedError,
    LocalProtocolError,
    RequestTimedOutError,
    ResponseTooLargeError,
    TransportError,
    UnexpectedResponseError,
)
from nexuskit.protocol.values import HttpRequest, HttpResponse

URL = "https://payments.example/nexus"
LINK = Link(url="temporal:///namespaces/ns/workflows/o/r/history?eventID=5", type="temporal.api.common.v1.Link")
STOP = Request(cancel_operation=CancelOperationRequest(service="Pay", operation="charge", operation_token="token"))
START = Request(
    header={"x-trace": "7", "temporal-source-namespace": "orders", "operation-timeout": "60000ms"},
    start_operation=StartOperationRequest(
        service="Pay ments",
        operation="charge/now",
        request_id="request",
        callback="https://orders.example/nexus/callback",
        callback_header={"temporal-callback-token": "token"},
        payload=Payload(metadata={"encoding": b"json/plain"}, data=b"5"),
        links=[LINK],
    ),
)


def sent(request: Request = START, **header: str) -> HttpRequest:
    made = Request()
    made.CopyFrom(request)
    made.header.update(header)
    return written(URL, made, timedelta(seconds=10))


def answered(status: int, body: bytes = b"", request: Request = START, **headers: str) -> Any:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return read(request, HttpResponse(status, fields, body), DEFAULTS)


def said(status: int, failure: dict[str, Any] | None = None, **headers: str) -> Any:
    body = b"" if failure is None else json.dumps(failure).encode()
    return answered(status, body, **{"content_type": "application/json", **headers})


# --- what is sent


def test_a_start() -> None:
    made = sent()
    assert (made.method, made.body) == ("POST", b"5")
    assert made.target == (f"{URL}/Pay%20ments/charge%2Fnow?callback=https%3A%2F%2Forders.example%2Fnexus%2Fcallback")
    assert dict(made.headers) == {
        "user-agent": USER_AGENT,
        "x-trace": "7",
        "temporal-source-namespace": "orders",
        "temporal-nexus-failure-support": "true",
        "content-type": "application/json",
        "nexus-callback-temporal-callback-token": "token",
        "nexus-link": f'<{LINK.url}>; type="{LINK.type}"',
        "nexus-request-id": "request",
        "request-timeout": "10000ms",
        "operation-timeout": "60000ms",
    }


def test_a_cancel() -> None:
    made = sent(STOP)
    assert (made.method, made.target, made.body) == ("POST", f"{URL}/Pay/charge/cancel", b"")
    assert dict(made.headers) == {
        "user-agent": USER_AGENT,
        "temporal-nexus-failure-support": "true",
        "nexus-operation-token": "token",
        "request-timeout": "10000ms",
    }


@pytest.mark.parametrize(
    "name",
    ["host", "connection", "transfer-encoding", "content-type", "nexus-request-id", "nexus-link", "nexus-callback-x"],
)
def test_header_fields_that_are_not_the_callers_are_left_out(name: str) -> None:
    for request in (START, STOP):
        assert "mine" not in dict(sent(request, **{name: "mine"}).headers).values()


def test_a_caller_may_say_who_sends_it() -> None:
    assert dict(sent(**{"user-agent": "mine"}).headers)["user-agent"] == "mine"


def test_an_operation_timeout_that_is_none_is_left_out() -> None:
    assert "operation-timeout" not in dict(sent(**{"operation-timeout": "soon"}).headers)


@pytest.mark.parametrize("header", [{"a b": "c"}, {"a": "b\r\nc: d"}, {"a": "\u20ac"}])
def test_header_fields_that_are_none_cannot_be_sent(header: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        sent(**header)


# --- what comes


def test_a_result_with_its_links() -> None:
    answer = answered(200, b"5", content_type="application/json", nexus_link=f'<{LINK.url}>; type="{LINK.type}"')
    success = answer.start_operation.sync_success
    assert success.payload == Payload(metadata={"encoding": b"json/plain"}, data=b"5")
    assert list(success.links) == [LINK]


def test_no_body_is_null() -> None:
    assert answered(200).start_operation.sync_success.payload == Payload(metadata={"encoding": b"binary/null"})


def test_a_payload_that_came_whole() -> None:
    payload = Payload(metadata={"encoding": b"json/plain", "more": b"x"}, data=b"5")
    answer = answered(200, payload.SerializeToString(), content_type="application/x-temporal-payload")
    assert answer.start_operation.sync_success.payload == payload


def test_a_result_at_the_limit_is_taken_and_one_beyond_is_not() -> None:
    less = limits.PAYLOAD_SIZE - 1000
    around = Payload(metadata={"encoding": b"binary/plain"}, data=b"x" * less).ByteSize() - less
    most = limits.PAYLOAD_SIZE - around
    taken = answered(200, b"x" * most, content_type="application/octet-stream")
    assert taken.start_operation.sync_success.payload.ByteSize() == limits.PAYLOAD_SIZE
    refused = answered(200, b"x" * (most + 1), content_type="application/octet-stream")
    assert refused.message.startswith("http: response body too large")
    assert not retryable(refused)


def test_a_body_that_is_packed_is_not_taken_for_what_is_in_it() -> None:
    refused = answered(200, b"\x1f\x8b", content_type="application/json", content_encoding="gzip")
    assert "'gzip'" in refused.message
    assert not retryable(refused)


def test_a_token_at_the_limit_is_taken_and_one_beyond_is_not() -> None:
    def token(size: int) -> Any:
        return said(201, {"token": "t" * size, "state": "running"})

    assert token(limits.NEXUS_TOKEN_SIZE).start_operation.async_success.operation_token
    refused = token(limits.NEXUS_TOKEN_SIZE + 1)
    assert refused.message == "invalid operation token: length exceeds allowed limit (4097/4096)"
    assert not retryable(refused)


def test_a_cancel_that_was_taken() -> None:
    assert answered(202, request=STOP).HasField("cancel_operation")


def operation_error(state: str, **more: Any) -> dict[str, Any]:
    return {
        "message": "no",
        "metadata": {"type": "nexus.OperationError", **more.pop("metadata", {})},
        "details": {"state": state},
        **more,
    }


TEMPORAL = {
    "message": "no stock",
    "metadata": {"type": "temporal.api.failure.v1.Failure"},
    "details": {"applicationFailureInfo": {"type": "OutOfStock"}},
}


def failed(answer: Any) -> Failure:
    assert isinstance(answer, Response)
    return answer.start_operation.failure


def test_an_operation_that_failed() -> None:
    failure = failed(said(424, operation_error("failed", cause={"message": "why"})))
    assert (failure.message, failure.application_failure_info.type) == ("no", "OperationError")
    assert failure.application_failure_info.non_retryable
    assert failure.cause.message == "why"


def test_an_operation_that_was_cancelled() -> None:
    failure = failed(said(424, operation_error("canceled")))
    assert (failure.message, failure.HasField("canceled_failure_info")) == ("no", True)


def test_what_a_temporal_server_puts_around_a_failure_is_taken_off() -> None:
    failure = failed(said(424, operation_error("failed", metadata={"unwrap-error": "true"}, cause=TEMPORAL)))
    assert (failure.message, failure.application_failure_info.type) == ("no stock", "OutOfStock")


@pytest.mark.parametrize(
    ("state", "info"), [("failed", "application_failure_info"), ("canceled", "canceled_failure_info")]
)
def test_the_older_form_with_the_state_in_a_header_field(state: str, info: str) -> None:
    failure = failed(said(424, {"message": "no"}, nexus_operation_state=state))
    assert (failure.message, failure.HasField(info)) == ("no", True)
    kept = failed(said(424, TEMPORAL, nexus_operation_state="failed"))
    assert kept.application_failure_info.type == "OutOfStock"


HANDLER_ERROR = {"message": "said so", "metadata": {"type": "nexus.HandlerError"}, "details": {"type": "NOT_FOUND"}}


def test_a_handler_error_in_the_body_counts_more_than_the_status() -> None:
    failure = said(500, HANDLER_ERROR)
    assert (failure.message, failure.nexus_handler_failure_info.type) == ("said so", "NOT_FOUND")
    assert not retryable(failure)


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        (400, "BAD_REQUEST", False),
        (401, "UNAUTHENTICATED", False),
        (403, "UNAUTHORIZED", False),
        (404, "NOT_FOUND", False),
        (408, "REQUEST_TIMEOUT", True),
        (409, "CONFLICT", False),
        (429, "RESOURCE_EXHAUSTED", True),
        (500, "INTERNAL", True),
        (501, "NOT_IMPLEMENTED", False),
        (503, "UNAVAILABLE", True),
        (520, "UPSTREAM_TIMEOUT", True),
    ],
)
def test_each_status_is_a_handler_error_with_what_came_as_its_cause(status: int, kind: str, again: bool) -> None:
    failure = said(status, TEMPORAL)
    assert failure.nexus_handler_failure_info.type == kind
    assert retryable(failure) == again
    assert failure.cause.application_failure_info.type == "OutOfStock"
    assert said(status).nexus_handler_failure_info.type == kind


@pytest.mark.parametrize(("field", "again"), [("true", True), ("false", False)])
def test_a_header_field_may_say_whether_to_ask_again(field: str, again: bool) -> None:
    for status, failure in ((500, None), (404, None), (500, HANDLER_ERROR)):
        assert retryable(said(status, failure, nexus_request_retryable=field)) == again


def test_the_failure_itself_counts_more_than_that_field() -> None:
    override = {**HANDLER_ERROR, "details": {"type": "NOT_FOUND", "retryableOverride": True}}
    failure = said(404, override, nexus_request_retryable="false")
    assert failure.nexus_handler_failure_info.retry_behavior == (
        RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
    )


@pytest.mark.parametrize(
    "answer",
    [
        said(418),
        said(302, location="http://10.0.0.1"),
        said(204),
        said(424),
        said(424, {"message": "of no state"}),
        said(201, {"token": "t", "state": "succeeded"}),
        said(201, {"token": "", "state": "running"}),
        answered(201, b"no JSON"),
        answered(200, b"no payload", content_type="application/x-temporal-payload"),
        answered(200, nexus_link="no link"),
        answered(200, request=STOP),
    ],
)
def test_what_is_no_answer_of_nexus_is_a_call_error_that_is_asked_again(answer: Any) -> None:
    assert answer.application_failure_info.type == "CallError"
    assert answer.message
    assert retryable(answer)


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (DestinationRefusedError("not there"), "UNAUTHORIZED", False),
        (LocalProtocolError("no header"), "BAD_REQUEST", False),
        (ResponseTooLargeError("long"), "CallError", False),
        (RequestTimedOutError("late"), "CallError", True),
        (TransportError("gone"), "CallError", True),
        (UnexpectedResponseError("odd", status=418), "CallError", True),
    ],
)
def test_a_call_without_an_answer(error: Any, kind: str, again: bool) -> None:
    failure = failure_of(error)
    assert kind in (failure.nexus_handler_failure_info.type, failure.application_failure_info.type)
    assert str(error) in failure.message
    assert retryable(failure) == again


def test_failures_that_are_nested_deep_are_no_trouble() -> None:
    deep: dict[str, Any] = {"message": "deepest"}
    for _ in range(90):
        deep = {"message": "deep", "cause": deep}
    assert said(500, deep).nexus_handler_failure_info.type == "INTERNAL"
    for depth in (*range(800, 1100, 5), 5000):
        nested = '{"message": "m", "details": ' + '{"a": ' * depth + "1" + "}" * depth + "}"
        failure = answered(500, nested.encode(), content_type="application/json")
        assert failure.nexus_handler_failure_info.type == "INTERNAL" or "nested too deep" in failure.message


# --- whatever it is

texts = st.text(max_size=20)
json_values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda of: st.dictionaries(texts, of))
failure_metadata = st.none() | st.dictionaries(
    st.sampled_from(["type", "unwrap-error", "x"]),
    st.sampled_from(["nexus.HandlerError", "nexus.OperationError", "temporal.api.failure.v1.Failure", "true", "y"]),
)
wire_failures = st.recursive(
    st.fixed_dictionaries({"message": texts, "metadata": failure_metadata, "details": json_values}),
    lambda of: st.fixed_dictionaries({"message": texts, "metadata": failure_metadata, "cause": of}),
    max_leaves=3,
)
bodies = st.binary(max_size=50) | wire_failures.map(lambda value: json.dumps(value).encode())
fields = st.tuples(
    st.sampled_from(
        ["content-type", "content-encoding", "nexus-link", "nexus-operation-state", "nexus-request-retryable", "x"]
    ),
    st.sampled_from(["application/json", "application/x-temporal-payload", "failed", "canceled", "true", "<a>; type=b"])
    | st.text(st.characters(max_codepoint=255), max_size=10),
)


@given(
    status=st.sampled_from([200, 201, 202, 204, 302, 404, 424, 500]) | st.integers(100, 599),
    headers=st.lists(fields, max_size=4),
    body=bodies,
    cancel=st.booleans(),
)
def test_whatever_comes_is_an_answer_or_a_failure(
    status: int, headers: list[tuple[str, str]], body: bytes, cancel: bool
) -> None:
    request = STOP if cancel else START
    answer = read(request, HttpResponse(status, tuple(headers), body), DEFAULTS)
    assert isinstance(answer, Response | Failure)
    if isinstance(answer, Failure):
        retryable(answer)
        assert answer.SerializeToString()


@given(service=texts, operation=texts, header=st.dictionaries(texts, texts, max_size=3), data=st.binary(max_size=10))
def test_whatever_is_asked_can_be_sent_or_is_refused(
    service: str, operation: str, header: dict[str, str], data: bytes
) -> None:
    asked = StartOperationRequest(
        service=service, operation=operation, request_id="r", callback=URL, payload=Payload(data=data)
    )
    try:
        made = written(URL, Request(header=header, start_operation=asked), timedelta(seconds=1))
    except LocalProtocolError:
        return
    assert made.target.startswith(f"{URL}/")
    assert all("\n" not in value for _, value in made.headers)
