"""Temporal's failures as the Nexus specification carries them."""

from __future__ import annotations

import contextlib
import json

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from nexusrpc import OperationErrorState
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    Failure,
    NexusHandlerFailureInfo,
    TerminatedFailureInfo,
)

from nexuskit.backend.nexus.wire_failures import from_wire, operation_error, to_wire, unwrapped
from nexuskit.protocol.errors import RemoteProtocolError
from nexuskit.protocol.failures import failure_from_error, failure_from_json, failure_to_json

TEMPORAL = {"type": "temporal.api.failure.v1.Failure"}


def test_a_handler_error_is_the_specifications() -> None:
    info = NexusHandlerFailureInfo(
        type="NOT_FOUND", retry_behavior=RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE
    )
    wire = to_wire(Failure(message="no such order", nexus_handler_failure_info=info))
    assert wire.metadata == {"type": "nexus.HandlerError"}
    assert wire.details == {"type": "NOT_FOUND", "retryableOverride": True}
    assert wire.message == "no such order"


def test_other_failures_hold_temporals_as_json_and_the_message_once() -> None:
    info = ApplicationFailureInfo(type="CardDeclined", non_retryable=True)
    wire = to_wire(Failure(message="declined", stack_trace="line 1", application_failure_info=info))
    assert wire.metadata == TEMPORAL
    assert wire.details == {"applicationFailureInfo": {"type": "CardDeclined", "nonRetryable": True}}
    assert (wire.message, wire.stack_trace) == ("declined", "line 1")


def test_causes_are_carried_by_themselves_and_once_in_the_details_for_older_peers() -> None:
    root = Failure(message="root", terminated_failure_info=TerminatedFailureInfo())
    middle = Failure(message="middle", canceled_failure_info=CanceledFailureInfo(), cause=root)
    wire = to_wire(Failure(message="top", application_failure_info=ApplicationFailureInfo(type="T"), cause=middle))
    assert wire.cause is not None
    assert wire.cause.cause is not None
    assert wire.details is not None
    assert wire.details["cause"]["cause"]["message"] == "root"
    assert wire.cause.details is not None
    assert "cause" not in wire.cause.details


def test_a_span_that_json_cannot_say_leaves_the_message() -> None:
    info = ApplicationFailureInfo(type="T", next_retry_delay=Duration(seconds=2**60))
    assert to_wire(Failure(message="later", application_failure_info=info)).message == "later"


def test_an_operation_error_stands_around_the_failure_that_counts() -> None:
    cause = to_wire(Failure(message="declined", application_failure_info=ApplicationFailureInfo(type="T")))
    error = operation_error(cause, OperationErrorState.FAILED)
    wire = failure_from_error(error)
    assert wire.metadata == {"type": "nexus.OperationError", "unwrap-error": "true"}
    assert wire.details == {"state": "failed"}
    assert unwrapped(wire) is cause
    assert unwrapped(cause) is cause


texts = st.text(max_size=5)
infos = st.one_of(
    st.builds(
        lambda kind, details, final: Failure(
            application_failure_info=ApplicationFailureInfo(
                type=kind,
                non_retryable=final,
                details=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=details)]),
            )
        ),
        texts,
        st.binary(max_size=5),
        st.booleans(),
    ),
    st.builds(
        lambda kind, behavior, encoded: Failure(
            nexus_handler_failure_info=NexusHandlerFailureInfo(type=kind, retry_behavior=behavior),
            encoded_attributes=encoded,
        ),
        texts,
        st.sampled_from([0, 1, 2]),
        st.none() | st.builds(lambda data: Payload(data=data), st.binary(max_size=5)),
    ),
    st.builds(Failure, canceled_failure_info=st.just(CanceledFailureInfo())),
    st.builds(Failure, terminated_failure_info=st.just(TerminatedFailureInfo(identity="somebody"))),
)


def _chain(links: list[tuple[Failure, str, str]]) -> Failure:
    made: Failure | None = None
    for info, message, trace in links:
        failure = Failure(message=message, stack_trace=trace, cause=made)
        failure.MergeFrom(info)
        made = failure
    return made or Failure()


@given(st.lists(st.tuples(infos, texts, texts), min_size=1, max_size=4).map(_chain))
def test_every_failure_comes_through_as_it_was(failure: Failure) -> None:
    on_the_wire = failure_from_json(failure_to_json(to_wire(failure)))
    assert from_wire(on_the_wire) == failure


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(["nexus.HandlerError", "nexus.OperationError", TEMPORAL["type"], "other"])
details = json_values | st.dictionaries(
    st.sampled_from(["type", "retryableOverride", "encodedAttributes", "state", "applicationFailureInfo", "cause"]),
    json_values,
    max_size=3,
)


@given(kinds, details, texts)
def test_whatever_others_send_is_some_failure(kind: str, details: object, message: str) -> None:
    body = json.dumps({"message": message, "metadata": {"type": kind}, "details": details}).encode()
    assert from_wire(failure_from_json(body)).message == message


@pytest.mark.parametrize("encoded", ["%%%", "e30", "W10"])
def test_attributes_that_cannot_be_read_are_left_out(encoded: str) -> None:
    body = json.dumps({"metadata": {"type": "nexus.HandlerError"}, "details": {"encodedAttributes": encoded}})
    assert from_wire(failure_from_json(body.encode())).encoded_attributes == Payload()


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1_000])
@pytest.mark.parametrize("kind", ["nexus.HandlerError", TEMPORAL["type"], "other"])
def test_details_that_are_endlessly_deep_are_no_reason_to_fall(kind: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    body = f'{{"message": "deep", "metadata": {{"type": "{kind}"}}, "details": {{"cause": {deep}}}}}'
    with contextlib.suppress(RemoteProtocolError):
        assert from_wire(failure_from_json(body.encode())).message == "deep"
