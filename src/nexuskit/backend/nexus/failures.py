"""What a handler answers when it does not succeed, in either form, and what becomes of it.

Workers of today answer with Temporal's `Failure`; older ones with Nexus' own failure, which may hold Temporal's inside,
as JSON. Both become Temporal's (temporalio/temporal: common/nexus/failure.go).
"""

from __future__ import annotations

import base64
import json
from typing import cast

from google.protobuf import json_format
from nexusrpc import HandlerError, HandlerErrorType
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import (
    ApplicationFailureInfo,
    CanceledFailureInfo,
    Failure,
    NexusHandlerFailureInfo,
)
from temporalio.api.nexus.v1 import Failure as NexusFailure
from temporalio.api.nexus.v1 import HandlerError as NexusHandlerError

from nexuskit.backend.times import SECOND

_UNSAID = RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_UNSPECIFIED

TEMPORAL_FAILURE = Failure.DESCRIPTOR.full_name
"""Metadata "type" of a Nexus failure that holds Temporal's in its details."""


def handler_error(kind: HandlerErrorType, message: str) -> Failure:
    """A handler error of ours."""
    return Failure(message=message, nexus_handler_failure_info=NexusHandlerFailureInfo(type=kind.value))


def no_worker(queue: str, namespace: str) -> Failure:
    """Nobody is there who could answer; the call waits for the first worker that polls."""
    message = (
        f"no worker polls task queue {queue!r} in namespace {namespace!r}, where the endpoint routes to: the call is"
        " made as soon as one does"
    )
    return handler_error(HandlerErrorType.UPSTREAM_TIMEOUT, message)


def too_slow(times: int, timeout: int) -> Failure:
    """A handler took the call, again and again, and did not answer within the request timeout (ns)."""
    message = (
        f"upstream timeout: {times} times a handler took the call and did not answer within the request timeout of"
        f" {timeout / SECOND:g} s. A handler must answer within that time; work that takes longer belongs in an"
        " operation that a workflow is behind (nexus.workflow_run_operation)"
    )
    return handler_error(HandlerErrorType.UPSTREAM_TIMEOUT, message)


def call_error(message: str, *, retryable: bool = True) -> Failure:
    """A call that no handler answered."""
    return Failure(
        message=message,
        application_failure_info=ApplicationFailureInfo(type="CallError", non_retryable=not retryable),
    )


def too_slow_at_a_url(times: int, timeout: int) -> Failure:
    """Nobody answered by HTTP within the request timeout (ns), again and again."""
    return call_error(
        f"request timed out: {times} times no answer came within the request timeout of {timeout / SECOND:g} s. A"
        " handler must answer within that time; work that takes longer is answered with an operation token, and"
        " completed later by its callback"
    )


def retryable(failure: Failure) -> bool:
    """Whether the handler may be asked again after this handler error: as it says, else by its type.

    A failure of the call itself, which no handler answered, says it, too.
    """
    if failure.HasField("application_failure_info"):
        return not failure.application_failure_info.non_retryable
    info = failure.nexus_handler_failure_info
    if info.retry_behavior == RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE:
        return True
    if info.retry_behavior == RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE:
        return False
    # One that nobody knows is asked again.
    kind = HandlerErrorType.__members__.get(info.type, HandlerErrorType.UNKNOWN)
    return HandlerError("", type=kind).retryable


def set_state(failure: Failure, *, canceled: bool) -> None:
    """Make a failure one of an operation that was cancelled; or of one that failed, if it does not say of what kind."""
    if canceled:
        failure.canceled_failure_info.SetInParent()
    elif failure.WhichOneof("failure_info") is None:
        failure.application_failure_info.type = "OperationError"
        failure.application_failure_info.non_retryable = True


def from_handler_error(error: NexusHandlerError) -> Failure:
    """A handler error in the older form."""
    cause = from_nexus(error.failure) if error.HasField("failure") else None
    return Failure(
        message=error.failure.message or "handler error",
        nexus_handler_failure_info=NexusHandlerFailureInfo(type=error.error_type, retry_behavior=error.retry_behavior),
        cause=cause,
    )


def from_nexus(failure: NexusFailure) -> Failure:
    """A Nexus failure as Temporal's; one that cannot be read is kept whole, as details of an application failure."""
    result = Failure()
    kind = failure.metadata.get("type", "")
    if kind == TEMPORAL_FAILURE:
        try:
            json_format.Parse(failure.details, result, ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError):
            result = _unread(failure)
    elif kind == "nexus.OperationError" and _state(failure.details) == "canceled":
        result.canceled_failure_info.CopyFrom(CanceledFailureInfo())
    elif kind == "nexus.OperationError":
        result.application_failure_info.CopyFrom(ApplicationFailureInfo(type="OperationError", non_retryable=True))
    elif kind == "nexus.HandlerError" and (fields := _object(failure.details)) is not None:
        result.nexus_handler_failure_info.CopyFrom(_handler_error(fields))
        if (attributes := _attributes(fields)) is not None:
            result.encoded_attributes.CopyFrom(attributes)
    elif failure.metadata or failure.details:
        result = _unread(failure)
    result.message = failure.message
    result.stack_trace = failure.stack_trace
    if failure.HasField("cause"):
        result.cause.CopyFrom(from_nexus(failure.cause))
    return result


def _unread(failure: NexusFailure) -> Failure:
    content: dict[str, object] = {"metadata": dict(failure.metadata)}
    try:
        content["details"] = json.loads(failure.details) if failure.details else None
    except (ValueError, RecursionError):
        content["details"] = failure.details.decode(errors="replace")
    data = json.dumps(content).encode()
    details = Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=data)])
    return Failure(application_failure_info=ApplicationFailureInfo(type="NexusFailure", details=details))


def _object(details: bytes) -> dict[str, object] | None:
    """A JSON object; None if it is none."""
    try:
        read: object = json.loads(details)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", read) if isinstance(read, dict) else None


def _handler_error(fields: dict[str, object]) -> NexusHandlerFailureInfo:
    """A handler error within another failure, as Nexus writes it."""
    behaviors = {
        True: RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE,
        False: RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE,
    }
    behavior = fields.get("retryableOverride")
    return NexusHandlerFailureInfo(
        type=str(fields.get("type", "")).encode("utf-8", "replace").decode(),
        retry_behavior=behaviors[behavior] if isinstance(behavior, bool) else _UNSAID,
    )


def _attributes(fields: dict[str, object]) -> Payload | None:
    """What a codec took out of the message of a handler error; None if there is none, or it cannot be read."""
    encoded = fields.get("encodedAttributes")
    if not isinstance(encoded, str):
        return None
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return json_format.Parse(text, Payload(), ignore_unknown_fields=True)
    except (ValueError, json_format.ParseError, RecursionError):
        return None


def _state(details: bytes) -> str:
    try:
        return str(json.loads(details).get("state", ""))
    except (ValueError, AttributeError, RecursionError):
        return ""
