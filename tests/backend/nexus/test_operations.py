"""What a worker's answer to a start means."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import HandlerErrorType
from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import ApplicationFailureInfo, CanceledFailureInfo, Failure, NexusHandlerFailureInfo
from temporalio.api.nexus.v1 import (
    CancelOperationResponse,
    Response,
    StartOperationResponse,
    UnsuccessfulOperationError,
)
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.nexus.v1 import Link as NexusLink

from nexuskit.backend import limits
from nexuskit.backend.nexus import links
from nexuskit.backend.nexus.calls import milliseconds
from nexuskit.backend.nexus.completions import CALLBACK_TOKEN_HEADER, header
from nexuskit.backend.nexus.failures import handler_error
from nexuskit.backend.nexus.operations import (
    Accepted,
    Failed,
    Refused,
    Succeeded,
    read_answer,
)
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import HOUR, MILLISECOND, SECOND

EVENT = Link.WorkflowEvent(
    namespace="payments",
    workflow_id="payment",
    run_id="run",
    event_ref=Link.WorkflowEvent.EventReference(event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED),
)
LINKS = [links.to_nexus(EVENT), NexusLink(url="https://somewhere.else", type="theirs")]


def sync(payload: Payload | None, **more: object) -> Response:
    success = StartOperationResponse.Sync(payload=payload, **more)
    return Response(start_operation=StartOperationResponse(sync_success=success))


def later(**success: object) -> Response:
    return Response(start_operation=StartOperationResponse(async_success=StartOperationResponse.Async(**success)))


def operation_error(state: str, failure: NexusFailure) -> Response:
    error = UnsuccessfulOperationError(operation_state=state, failure=failure)
    return Response(start_operation=StartOperationResponse(operation_error=error))


def payload_of(size: int) -> Payload:
    """A payload that takes exactly so many bytes."""
    made = (Payload(data=b"x" * (size - before)) for before in range(2, 7))
    return next(payload for payload in made if payload.ByteSize() == size)


def refused_as_internal(answer: object) -> str:
    assert isinstance(answer, Refused)
    assert answer.failure.nexus_handler_failure_info.type == "INTERNAL"
    return answer.failure.message


# --- results


def test_an_answer_with_a_result_has_succeeded_with_the_links_that_can_be_read() -> None:
    payload = Payload(data=b"5", metadata={"encoding": b"json/plain"})
    assert read_answer(sync(payload, links=LINKS), limits=DEFAULTS) == Succeeded(payload, [Link(workflow_event=EVENT)])


def test_an_answer_without_a_result_has_succeeded_with_none() -> None:
    assert read_answer(sync(None), limits=DEFAULTS) == Succeeded(None, [])


def test_an_empty_result_is_a_result() -> None:
    assert read_answer(sync(Payload()), limits=DEFAULTS) == Succeeded(Payload(), [])


def test_a_result_of_the_largest_size_has_succeeded() -> None:
    payload = payload_of(limits.PAYLOAD_SIZE)
    assert read_answer(sync(payload), limits=DEFAULTS) == Succeeded(payload, [])


def test_a_result_of_one_byte_more_is_refused_for_good() -> None:
    answer = read_answer(sync(payload_of(limits.PAYLOAD_SIZE + 1)), limits=DEFAULTS)
    assert f"{limits.PAYLOAD_SIZE + 1} bytes, at most {limits.PAYLOAD_SIZE}" in refused_as_internal(answer)
    assert isinstance(answer, Refused)
    assert not answer.retryable


# --- tokens


def test_an_answer_with_a_token_is_accepted_with_the_links_that_can_be_read() -> None:
    assert read_answer(later(operation_token="token", links=LINKS), limits=DEFAULTS) == Accepted(
        "token", [Link(workflow_event=EVENT)]
    )


@pytest.mark.parametrize(
    ("success", "token"),
    [({"operation_id": "id"}, "id"), ({"operation_id": "id", "operation_token": "token"}, "token")],
)
def test_an_older_workers_operation_id_is_its_token(success: dict[str, str], token: str) -> None:
    assert read_answer(later(**success), limits=DEFAULTS) == Accepted(token, [])


@pytest.mark.parametrize("token", ["x" * limits.NEXUS_TOKEN_SIZE, "ü" * (limits.NEXUS_TOKEN_SIZE // 2)])
def test_a_token_of_the_largest_size_is_accepted(token: str) -> None:
    assert read_answer(later(operation_token=token), limits=DEFAULTS) == Accepted(token, [])


@pytest.mark.parametrize("token", ["", "x" * (limits.NEXUS_TOKEN_SIZE + 1), "ü" * (limits.NEXUS_TOKEN_SIZE // 2) + "x"])
def test_no_token_or_one_of_a_byte_more_is_refused_for_good(token: str) -> None:
    answer = read_answer(later(operation_token=token), limits=DEFAULTS)
    assert f"({len(token.encode())}/{limits.NEXUS_TOKEN_SIZE})" in refused_as_internal(answer)
    assert isinstance(answer, Refused)
    assert not answer.retryable


# --- operations that failed


@pytest.mark.parametrize(
    "failure",
    [
        Failure(message="declined", application_failure_info=ApplicationFailureInfo(type="CardDeclined")),
        Failure(message="called off", canceled_failure_info=CanceledFailureInfo()),
        Failure(),
    ],
)
def test_a_failure_is_that_failure(failure: Failure) -> None:
    answer = read_answer(Response(start_operation=StartOperationResponse(failure=failure)), limits=DEFAULTS)
    assert answer == Failed(failure)


def test_an_older_workers_operation_error_has_failed_for_good() -> None:
    info = ApplicationFailureInfo(type="OperationError", non_retryable=True)
    expected = Failed(Failure(message="declined", application_failure_info=info))
    assert read_answer(operation_error("failed", NexusFailure(message="declined")), limits=DEFAULTS) == expected


def test_an_older_workers_operation_error_may_say_that_it_was_cancelled() -> None:
    expected = Failed(Failure(message="called off", canceled_failure_info=CanceledFailureInfo()))
    assert read_answer(operation_error("canceled", NexusFailure(message="called off")), limits=DEFAULTS) == expected


def test_an_older_workers_operation_error_with_temporals_failure_inside_is_that_failure() -> None:
    nexus = NexusFailure(
        message="declined",
        metadata={"type": "temporal.api.failure.v1.Failure"},
        details=b'{"applicationFailureInfo": {"type": "CardDeclined"}}',
    )
    expected = Failure(message="declined", application_failure_info=ApplicationFailureInfo(type="CardDeclined"))
    assert read_answer(operation_error("failed", nexus), limits=DEFAULTS) == Failed(expected)


# --- handlers that could not be asked


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (handler_error(HandlerErrorType.BAD_REQUEST, "no"), False),
        (handler_error(HandlerErrorType.UPSTREAM_TIMEOUT, "upstream timeout"), True),
        (Failure(nexus_handler_failure_info=NexusHandlerFailureInfo(type="ODD")), True),
    ],
)
def test_a_handler_error_is_refused_and_asked_again_if_that_can_help(failure: Failure, retryable: bool) -> None:
    assert read_answer(failure, limits=DEFAULTS) == Refused(failure, retryable)


@pytest.mark.parametrize(
    "response",
    [
        Response(),
        Response(start_operation=StartOperationResponse()),
        Response(cancel_operation=CancelOperationResponse()),
    ],
)
def test_an_answer_that_says_nothing_is_asked_again(response: Response) -> None:
    answer = read_answer(response, limits=DEFAULTS)
    assert refused_as_internal(answer) == "empty outcome"
    assert isinstance(answer, Refused)
    assert answer.retryable


@given(st.binary(max_size=60))
def test_whatever_a_worker_sends_is_one_of_the_four(raw: bytes) -> None:
    response = Response()
    try:
        response.ParseFromString(b"\x0a" + bytes([len(raw)]) + raw)  # as the answer to a start
    except DecodeError:
        return
    assert isinstance(read_answer(response, limits=DEFAULTS), Succeeded | Accepted | Failed | Refused)


# --- headers


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0ms"),
        (-SECOND, "0ms"),
        (MILLISECOND - 1, "0ms"),
        (MILLISECOND, "1ms"),
        (10 * SECOND - 1, "9999ms"),
        (HOUR, "3600000ms"),
    ],
)
def test_a_span_is_written_in_whole_milliseconds_rounded_down(span: int, text: str) -> None:
    assert milliseconds(span) == text


@pytest.mark.parametrize("name", ["temporal-callback-token", "Temporal-Callback-Token", "TEMPORAL-CALLBACK-TOKEN"])
def test_the_callback_token_is_found_however_its_header_is_written(name: str) -> None:
    assert header({"other": "x", name: "token"}, CALLBACK_TOKEN_HEADER) == "token"


def test_a_header_that_is_not_there_is_empty() -> None:
    assert header({"other": "x"}, CALLBACK_TOKEN_HEADER) == ""
