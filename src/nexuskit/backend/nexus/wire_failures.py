"""Failures over HTTP: Temporal's `Failure`, and the failure of the Nexus specification that carries it.

    Temporal's failure          the specification's
    a handler error             metadata type nexus.HandlerError, details its type and whether to ask again
    any other                   metadata type temporal.api.failure.v1.Failure, details the failure itself, as JSON

Each cause is converted by itself. From right to left `failures.from_nexus` says what becomes of what others send. Pure
(temporalio/temporal: common/nexus/failure.go).
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import nexusrpc
from google.protobuf import json_format
from nexusrpc import OperationError, OperationErrorState
from temporalio.api.enums.v1 import NexusHandlerErrorRetryBehavior as RetryBehavior
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import Failure as NexusFailure

from nexuskit.backend.nexus.failures import TEMPORAL_FAILURE, from_nexus
from nexuskit.protocol.failures import HANDLER_ERROR, OPERATION_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

__all__ = ["from_older", "from_wire", "operation_error", "to_wire", "unwrapped"]

UNWRAP = "unwrap-error"
"""Metadata: the failure says nothing, and stands only around its cause, which is the one that counts."""

_OVERRIDES = {
    RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_RETRYABLE: True,
    RetryBehavior.NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE: False,
}


def to_wire(failure: Failure) -> nexusrpc.Failure:
    """A failure of Temporal's as the specification carries it."""
    return _to_wire(failure, outermost=True)


def from_wire(failure: nexusrpc.Failure) -> Failure:
    """A failure that came by HTTP, as Temporal's; one that nobody here knows is kept whole, as details."""
    return from_nexus(_proto(failure))


def from_older(failure: NexusFailure) -> nexusrpc.Failure:
    """A failure in the form in which older workers answer: the specification's, but for how details are kept."""
    try:
        details: Any = msgspec.json.decode(failure.details) if failure.details else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return to_wire(from_nexus(failure))
    cause = from_older(failure.cause) if failure.HasField("cause") else None
    metadata = dict(failure.metadata) or None
    return nexusrpc.Failure(failure.message, failure.stack_trace or None, metadata, details, cause)


def unwrapped(failure: nexusrpc.Failure) -> nexusrpc.Failure:
    """The failure that counts: the cause of one that a Temporal server put around it, else the failure itself."""
    if failure.cause is not None and (failure.metadata or {}).get(UNWRAP) == "true":
        return failure.cause
    return failure


def operation_error(cause: nexusrpc.Failure, state: OperationErrorState) -> OperationError:
    """The error of an operation that failed or was cancelled, around the failure that says why."""
    metadata = {"type": OPERATION_ERROR, UNWRAP: "true"}
    failure = nexusrpc.Failure("operation error", None, metadata, {"state": state.value}, cause)
    return OperationError(failure.message, state=state, original_failure=failure)


def _to_wire(failure: Failure, *, outermost: bool) -> nexusrpc.Failure:
    cause = _to_wire(failure.cause, outermost=False) if failure.HasField("cause") else None
    if failure.HasField("nexus_handler_failure_info"):
        kind, details = HANDLER_ERROR, _handler_error(failure)
    else:
        kind, details = TEMPORAL_FAILURE, _details(failure, outermost=outermost)
    return nexusrpc.Failure(failure.message, failure.stack_trace or None, {"type": kind}, details, cause)


def _handler_error(failure: Failure) -> dict[str, Any]:
    info = failure.nexus_handler_failure_info
    details: dict[str, Any] = {"type": info.type}
    if info.retry_behavior in _OVERRIDES:
        details["retryableOverride"] = _OVERRIDES[info.retry_behavior]
    if failure.HasField("encoded_attributes"):
        encoded = json.dumps(_json(failure.encoded_attributes)).encode()
        details["encodedAttributes"] = base64.urlsafe_b64encode(encoded).decode().rstrip("=")
    return details


def _details(failure: Failure, *, outermost: bool) -> dict[str, Any]:
    """All but the message and the stack trace.

    Peers of before causes were carried by themselves read them here. The outermost alone has them: else each would hold
    all below it once more.
    """
    rest = Failure()
    rest.CopyFrom(failure)
    rest.ClearField("message")
    rest.ClearField("stack_trace")
    if not outermost:
        rest.ClearField("cause")
    return _json(rest)


def _json(message: Message) -> dict[str, Any]:
    try:
        return json_format.MessageToDict(message)
    except (json_format.SerializeToJsonError, ValueError):  # a span or a moment that JSON has no form for
        return {}


def _proto(failure: nexusrpc.Failure) -> NexusFailure:
    chain: list[nexusrpc.Failure] = []
    link: nexusrpc.Failure | None = failure
    while link is not None:
        chain.append(link)
        link = link.cause
    made: NexusFailure | None = None
    for one in reversed(chain):
        made = NexusFailure(
            message=one.message,
            stack_trace=one.stack_trace or "",
            metadata=one.metadata or {},
            details=_written(one.details),
            cause=made,
        )
    return made or NexusFailure()


def _written(details: Mapping[str, Any] | None) -> bytes:
    try:
        return b"" if details is None else json.dumps(details).encode()
    except RecursionError:  # as deep as nobody nests what he means
        return b""
