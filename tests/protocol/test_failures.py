"""Failures and errors on the wire."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import Failure, HandlerError, HandlerErrorType, OperationError, OperationErrorState

from nexuskit.protocol import (
    STATUS_BY_TYPE,
    TYPE_BY_STATUS,
    FailureError,
    LocalProtocolError,
    RemoteProtocolError,
    error_from_failure,
    failure_from_error,
    failure_from_json,
    failure_to_json,
    status_text,
)
from nexuskit.protocol.failures import MAX_CAUSES

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FAILURES: st.SearchStrategy[Failure] = st.deferred(
    lambda: st.builds(
        Failure,
        message=TEXT,
        stack_trace=st.none() | TEXT,
        metadata=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
        details=JSON,
        cause=st.none() | FAILURES,
    )
)


def test_the_table_of_the_specification() -> None:
    assert {kind.value: status for kind, status in STATUS_BY_TYPE.items()} == {
        "BAD_REQUEST": 400,
        "UNAUTHENTICATED": 401,
        "UNAUTHORIZED": 403,
        "NOT_FOUND": 404,
        "REQUEST_TIMEOUT": 408,
        "CONFLICT": 409,
        "RESOURCE_EXHAUSTED": 429,
        "INTERNAL": 500,
        "NOT_IMPLEMENTED": 501,
        "UNAVAILABLE": 503,
        "UPSTREAM_TIMEOUT": 520,
    }
    assert {TYPE_BY_STATUS[status]: status for status in TYPE_BY_STATUS} == dict(STATUS_BY_TYPE)
    assert set(HandlerErrorType) == {*STATUS_BY_TYPE, HandlerErrorType.UNKNOWN}


def test_status_codes_in_words() -> None:
    assert [status_text(status) for status in (404, 520, 599)] == ["Not Found", "Upstream Timeout", "Status 599"]


def test_an_operation_error_as_the_specification_writes_it() -> None:
    error = OperationError("declined", state=OperationErrorState.CANCELED, stack_trace="there")
    assert json.loads(failure_to_json(failure_from_error(error))) == {
        "message": "declined",
        "stackTrace": "there",
        "metadata": {"type": "nexus.OperationError"},
        "details": {"state": "canceled"},
    }


@pytest.mark.parametrize(
    ("override", "details"), [(None, {}), (True, {"retryableOverride": True}), (False, {"retryableOverride": False})]
)
def test_a_handler_error_as_the_specification_writes_it(override: bool | None, details: dict[str, Any]) -> None:
    error = HandlerError("gone", type=HandlerErrorType.NOT_FOUND, retryable_override=override)
    assert json.loads(failure_to_json(failure_from_error(error))) == {
        "message": "gone",
        "metadata": {"type": "nexus.HandlerError"},
        "details": {"type": "NOT_FOUND", **details},
    }


def test_causes_that_are_failures_travel_and_others_stay_here() -> None:
    inner = FailureError(Failure("inner", metadata={"type": "mine"}, details={"a": [1]}))
    middle = HandlerError("middle", type=HandlerErrorType.CONFLICT)
    middle.__cause__ = inner
    outer = OperationError("outer", state=OperationErrorState.FAILED)
    outer.__cause__ = middle
    inner.__cause__ = ValueError("secret")
    failure = failure_from_error(outer)
    assert failure.cause is not None
    assert failure.cause.message == "middle"
    assert failure.cause.cause == inner.failure
    middle.__cause__ = ValueError("secret")
    assert failure_from_error(outer).cause == Failure(
        "middle", None, {"type": "nexus.HandlerError"}, {"type": "CONFLICT"}
    )
    assert failure_from_error(ValueError("secret")) == Failure("internal error")


@given(FAILURES)
def test_what_is_written_is_read_again(failure: Failure) -> None:
    assert failure_from_json(failure_to_json(failure)) == failure


@given(FAILURES, st.sampled_from(["nexus.HandlerError", "nexus.OperationError", "x"]), JSON)
def test_an_error_is_the_same_failure_again(failure: Failure, kind: str, details: Any) -> None:
    failure.metadata = {"type": kind}
    failure.details = details
    assert failure_from_error(error_from_failure(failure)) == failure


def test_errors_are_made_again_with_their_causes() -> None:
    body = {
        "message": "outer",
        "stackTrace": "there",
        "metadata": {"type": "nexus.HandlerError"},
        "details": {"type": "UNAVAILABLE", "retryableOverride": False, "more": 1},
        "cause": {
            "message": "middle",
            "metadata": {"type": "nexus.OperationError"},
            "details": {"state": "failed"},
            "cause": {"message": "inner", "metadata": {"type": "other"}, "details": "text"},
        },
    }
    error = error_from_failure(failure_from_json(json.dumps(body).encode()))
    assert isinstance(error, HandlerError)
    assert (error.message, error.type, error.retryable, error.stack_trace) == (
        "outer",
        HandlerErrorType.UNAVAILABLE,
        False,
        "there",
    )
    middle = error.__cause__
    assert isinstance(middle, OperationError)
    assert middle.state is OperationErrorState.FAILED
    inner = middle.__cause__
    assert isinstance(inner, FailureError)
    assert (str(inner), inner.failure.details) == ("inner", "text")


def test_an_unknown_type_is_kept_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    failure = Failure("m", metadata={"type": "nexus.HandlerError"}, details={"type": "TEAPOT"})
    error = error_from_failure(failure)
    assert isinstance(error, HandlerError)
    assert (error.type, error.raw_error_type, error.retryable) == (HandlerErrorType.UNKNOWN, "TEAPOT", True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("nexus.OperationError", {"state": "running"}),
        ("nexus.OperationError", {"state": []}),
        ("nexus.OperationError", None),
        ("nexus.HandlerError", {}),
        ("nexus.HandlerError", {"type": 5}),
        ("nexus.HandlerError", ["type"]),
    ],
)
def test_what_lacks_its_parts_is_a_plain_failure(kind: str, details: Any) -> None:
    assert isinstance(error_from_failure(Failure("m", metadata={"type": kind}, details=details)), FailureError)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"message": 5}',
        b'{"message": "a"',
        b'{"metadata": {"a": 1}}',
        b'{"cause": "x"}',
        b'{"details": NaN}',
        b'{"details": "\\ud800"}',
        b'{"details": ' + b"[" * 100_000,
        b'{"cause": ' * 5000 + b"null" + b"}" * 5000,
        b'{"cause": ' * (MAX_CAUSES + 2) + b"null" + b"}" * (MAX_CAUSES + 2),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_failure_is_refused_and_said(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        failure_from_json(body)


def test_causes_may_be_nested_so_deep_and_not_deeper() -> None:
    failure = Failure("0")
    for _ in range(MAX_CAUSES):
        failure = Failure("n", cause=failure)
    assert failure_from_json(failure_to_json(failure)) == failure
    with pytest.raises(LocalProtocolError, match="at most 100 causes"):
        failure_to_json(Failure("one more", cause=failure))


def test_details_that_are_no_json_are_not_written() -> None:
    with pytest.raises(LocalProtocolError, match="JSON"):
        failure_to_json(Failure("m", details={"a": object()}))


def test_a_chain_that_never_ends_does_not_keep_us() -> None:
    error = HandlerError("a", type=HandlerErrorType.INTERNAL)
    other = HandlerError("b", type=HandlerErrorType.INTERNAL)
    error.__cause__, other.__cause__ = other, error
    assert len(failure_to_json(failure_from_error(error))) < 20_000


@given(st.binary(max_size=50) | TEXT.map(str.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with suppress(RemoteProtocolError):
        failure_from_json(body)
