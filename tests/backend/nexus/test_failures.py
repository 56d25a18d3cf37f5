"""Failures on their way from a handler to its caller."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import HandlerErrorType
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    Failure,
    NexusHandlerFailureInfo,
    NexusOperationFailureInfo,
    ServerFailureInfo,
    TerminatedFailureInfo,
    TimeoutFailureInfo,
)
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.nexus.v1 import HandlerError

from nexuskit.backend.nexus import failures
from nexuskit.backend.nexus.failures import TEMPORAL_FAILURE

ASK_AGAIN = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
DO_NOT = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE
UNSPECIFIED = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_UNSPECIFIED


# --- whether to ask again


ASKED_AGAIN = {
    "BAD_REQUEST": False,
    "UNAUTHENTICATED": False,
    "UNAUTHORIZED": False,
    "NOT_FOUND": False,
    "CONFLICT": False,
    "NOT_IMPLEMENTED": False,
    "REQUEST_TIMEOUT": True,
    "RESOURCE_EXHAUSTED": True,
    "INTERNAL": True,
    "UNAVAILABLE": True,
    "UPSTREAM_TIMEOUT": True,
    "UNKNOWN": True,
    "SOMETHING_OF_TOMORROW": True,
    "": True,
}


@pytest.mark.parametrize(("kind", "again"), ASKED_AGAIN.items())
def test_a_handler_error_is_asked_again_by_its_type_unless_it_says_otherwise(kind: str, again: bool) -> None:
    for behavior, expected in ((UNSPECIFIED, again), (ASK_AGAIN, True), (DO_NOT, False)):
        info = NexusHandlerFailureInfo(type=kind, retry_behavior=behavior)
        assert failures.retryable(Failure(nexus_handler_failure_info=info)) is expected


def test_every_type_of_the_specification_is_in_that_table() -> None:
    assert set(ASKED_AGAIN) >= set(HandlerErrorType.__members__)


def test_a_failure_that_is_no_handler_error_is_asked_again() -> None:
    assert failures.retryable(Failure(message="what?"))


def test_a_handler_error_of_ours_has_its_type_and_message() -> None:
    made = failures.handler_error(HandlerErrorType.NOT_FOUND, "no such thing")
    assert made.message == "no such thing"
    assert made.nexus_handler_failure_info.type == "NOT_FOUND"


# --- the older form of a handler error


def test_a_handler_error_in_the_older_form_keeps_its_type_its_retry_behaviour_and_its_cause() -> None:
    read = failures.from_handler_error(
        HandlerError(error_type="CONFLICT", retry_behavior=ASK_AGAIN, failure=NexusFailure(message="busy"))
    )
    assert read == Failure(
        message="busy",
        nexus_handler_failure_info=NexusHandlerFailureInfo(type="CONFLICT", retry_behavior=ASK_AGAIN),
        cause=Failure(message="busy"),
    )
    assert failures.retryable(read)


def test_a_handler_error_in_the_older_form_that_says_nothing_has_a_message_and_no_cause() -> None:
    read = failures.from_handler_error(HandlerError(error_type="INTERNAL"))
    assert read == Failure(message="handler error", nexus_handler_failure_info=NexusHandlerFailureInfo(type="INTERNAL"))


# --- Nexus' form of a failure


def temporal(failure: Failure) -> NexusFailure:
    """Temporal's failure inside Nexus', as workers write it: message and stack trace outside, the rest as JSON."""
    inside = Failure()
    inside.CopyFrom(failure)
    inside.ClearField("message")
    inside.ClearField("stack_trace")
    return NexusFailure(
        message=failure.message,
        stack_trace=failure.stack_trace,
        metadata={"type": TEMPORAL_FAILURE},
        details=json_format.MessageToJson(inside).encode(),
    )


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
payloads = st.builds(
    Payloads, payloads=st.lists(st.builds(Payload, data=st.binary(max_size=20), metadata=st.just({"encoding": b"x"})))
)
infos = st.one_of(
    st.just({}),
    st.builds(
        lambda **info: {"application_failure_info": ApplicationFailureInfo(**info)},
        type=texts,
        non_retryable=st.booleans(),
        details=payloads,
    ),
    st.builds(lambda details: {"canceled_failure_info": CanceledFailureInfo(details=details)}, payloads),
    st.builds(
        lambda kind: {"timeout_failure_info": TimeoutFailureInfo(timeout_type=kind)},
        st.sampled_from(TimeoutType.values()),
    ),
    st.builds(lambda final: {"server_failure_info": ServerFailureInfo(non_retryable=final)}, st.booleans()),
    st.just({"terminated_failure_info": TerminatedFailureInfo()}),
    st.builds(
        lambda kind, behavior: {
            "nexus_handler_failure_info": NexusHandlerFailureInfo(type=kind, retry_behavior=behavior)
        },
        texts,
        st.sampled_from([UNSPECIFIED, ASK_AGAIN, DO_NOT]),
    ),
    st.builds(
        lambda number: {"nexus_operation_execution_failure_info": NexusOperationFailureInfo(scheduled_event_id=number)},
        st.integers(0, 2**63 - 1),
    ),
)
FAILURES = st.recursive(
    st.builds(lambda message, info: Failure(message=message, **info), texts, infos),
    lambda cause: st.builds(
        lambda message, stack, info, cause: Failure(message=message, stack_trace=stack, cause=cause, **info),
        texts,
        texts,
        infos,
        cause,
    ),
    max_leaves=4,
)


@given(FAILURES)
def test_temporals_failure_is_the_same_after_its_way_through_nexus(failure: Failure) -> None:
    assert failures.from_nexus(temporal(failure)) == failure


def test_a_field_of_tomorrow_in_temporals_failure_is_passed_over() -> None:
    details = b'{"canceledFailureInfo": {}, "fieldOfTomorrow": {"a": [1]}}'
    read = failures.from_nexus(NexusFailure(message="off", metadata={"type": TEMPORAL_FAILURE}, details=details))
    assert read == Failure(message="off", canceled_failure_info=CanceledFailureInfo())


def test_a_cause_beside_the_details_is_the_cause() -> None:
    nexus = temporal(Failure(message="outer", application_failure_info=ApplicationFailureInfo(type="Outer")))
    nexus.cause.CopyFrom(temporal(Failure(message="inner", canceled_failure_info=CanceledFailureInfo())))
    nexus.cause.cause.CopyFrom(NexusFailure(message="innermost"))
    read = failures.from_nexus(nexus)
    assert [read.message, read.cause.message, read.cause.cause.message] == ["outer", "inner", "innermost"]
    assert read.application_failure_info.type == "Outer"
    assert read.cause.HasField("canceled_failure_info")


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (b'{"state": "canceled"}', Failure(message="off", canceled_failure_info=CanceledFailureInfo())),
        *(
            (
                details,
                Failure(
                    message="off",
                    application_failure_info=ApplicationFailureInfo(type="OperationError", non_retryable=True),
                ),
            )
            for details in (b'{"state": "failed"}', b"", b"[]", b"5", b"\xff", b'{"state": ["canceled"]}')
        ),
    ],
)
def test_an_operation_error_of_nexus_is_cancelled_or_failed_for_good(details: bytes, expected: Failure) -> None:
    nexus = NexusFailure(message="off", metadata={"type": "nexus.OperationError"}, details=details)
    assert failures.from_nexus(nexus) == expected


def test_a_failure_with_a_message_alone_is_that() -> None:
    read = failures.from_nexus(NexusFailure(message="no", stack_trace="at home"))
    assert read == Failure(message="no", stack_trace="at home")


def kept(failure: Failure) -> object:
    """What an application failure of type NexusFailure keeps of the one that could not be read."""
    assert failure.application_failure_info.type == "NexusFailure"
    (payload,) = failure.application_failure_info.details.payloads
    assert payload.metadata == {"encoding": b"json/plain"}
    return json.loads(payload.data)


@pytest.mark.parametrize(
    ("details", "content"),
    [
        (b'{"why": ["a", 1, null]}', {"why": ["a", 1, None]}),
        (b"just text", "just text"),
        (b"\xff\xfe", "��"),
        (b"", None),
    ],
)
def test_a_failure_of_another_kind_is_kept_whole(details: bytes, content: object) -> None:
    read = failures.from_nexus(NexusFailure(message="odd", metadata={"type": "theirs", "a": "b"}, details=details))
    assert read.message == "odd"
    assert kept(read) == {"metadata": {"type": "theirs", "a": "b"}, "details": content}


@pytest.mark.parametrize(
    "details",
    [
        b"not JSON",
        b'{"message": 5}',
        b'{"message": "\\ud800"}',
        b'{"timeoutFailureInfo": {"timeoutType": 1e400}}',
        b'{"applicationFailureInfo": {"nextRetryDelay": "99999999999999999999s"}}',
        b"\xff",
    ],
)
def test_what_says_that_it_is_temporals_failure_and_is_not_is_kept_whole(details: bytes) -> None:
    read = failures.from_nexus(NexusFailure(message="odd", metadata={"type": TEMPORAL_FAILURE}, details=details))
    assert read.message == "odd"
    assert kept(read)


KINDS = st.sampled_from([TEMPORAL_FAILURE, "nexus.OperationError", "theirs", ""])


@pytest.mark.parametrize("kind", [TEMPORAL_FAILURE, "nexus.OperationError", "theirs"])
@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"cause":' * 50_000, b'{"cause":' * 200 + b"{}" + b"}" * 200])
def test_details_that_are_endlessly_deep_are_no_reason_to_fall(kind: str, deep: bytes) -> None:
    assert failures.from_nexus(NexusFailure(message="deep", metadata={"type": kind}, details=deep)).message == "deep"


FIELDS = [field.json_name for field in Failure.DESCRIPTOR.fields] + ["details", "payloads", "state", "type", "data"]
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner),
    max_leaves=8,
)


@given(KINDS, st.one_of(st.binary(max_size=50), values.map(lambda value: json.dumps(value).encode())), texts)
def test_whatever_a_handler_sends_becomes_a_failure_with_its_message(kind: str, details: bytes, message: str) -> None:
    nexus = NexusFailure(message=message, metadata={"type": kind} if kind else {}, details=details)
    for read in (
        failures.from_nexus(nexus),
        failures.from_handler_error(HandlerError(error_type="INTERNAL", failure=nexus)).cause,
    ):
        assert read.message == message
        assert Failure.FromString(read.SerializeToString()) == read


# --- a handler error within another failure


@pytest.mark.parametrize(
    ("override", "behavior"),
    [("", UNSPECIFIED), (', "retryableOverride": true', ASK_AGAIN), (', "retryableOverride": false', DO_NOT)],
)
def test_a_handler_error_as_nexus_writes_it_is_one(override: str, behavior: int) -> None:
    details = f'{{"type": "NOT_FOUND"{override}}}'.encode()
    failure = NexusFailure(message="none", metadata={"type": "nexus.HandlerError"}, details=details)
    read = failures.from_nexus(failure)
    assert read.message == "none"
    assert read.nexus_handler_failure_info.type == "NOT_FOUND"
    assert read.nexus_handler_failure_info.retry_behavior == behavior


@pytest.mark.parametrize("details", [b"", b"no json", b"[]", b"5"])
def test_one_that_cannot_be_read_is_kept_whole(details: bytes) -> None:
    failure = NexusFailure(message="none", metadata={"type": "nexus.HandlerError"}, details=details)
    assert failures.from_nexus(failure).application_failure_info.type == "NexusFailure"


# --- what we say ourselves


def test_no_worker_is_told_with_the_queue_and_its_namespace() -> None:
    message = failures.no_worker("work", "payments").message
    assert message.startswith("no worker polls task queue 'work' in namespace 'payments'")


def test_a_slow_handler_is_told_how_often_and_what_to_do() -> None:
    message = failures.too_slow(3, 10_000_000_000).message
    assert "3 times" in message
    assert "the request timeout of 10 s" in message
    assert "workflow" in message


def test_a_type_with_half_a_character_is_a_type_nobody_knows() -> None:
    sent = NexusFailure(metadata={"type": "nexus.HandlerError"}, details=b'{"type": "\\ud800"}')
    assert failures.from_nexus(sent).nexus_handler_failure_info.type == "?"
