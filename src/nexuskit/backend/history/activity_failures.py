"""Failures that the server itself makes of activities, and cutting those that are too large to be kept."""

from __future__ import annotations

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, ServerFailureInfo, TimeoutFailureInfo

from nexuskit.backend.settings import Limits

SOURCE = "Server"
"""Where failures come from that no SDK made."""

COMPLETE_RESULT_TOO_LARGE = "Complete result exceeds size limit."
FAILURE_TOO_LARGE = "Failure exceeds size limit."
CANCEL_DETAILS_TOO_LARGE = "Cancel details exceed size limit."
HEARTBEAT_TOO_LARGE = "Heartbeat details exceed size limit."
NO_TIME_FOR_RETRY = "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying"

TIMEOUT_NAMES = {
    TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE: "StartToClose",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START: "ScheduleToStart",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "ScheduleToClose",
    TimeoutType.TIMEOUT_TYPE_HEARTBEAT: "Heartbeat",
}
"""How a timeout is called in messages, and after "TemporalTimeout:" in a policy's list of what is not retried."""

_TRUNCATED_DEPTH = 20
"""Causes that a failure keeps when it is cut."""


def server_failure(message: str, *, non_retryable: bool = True, cause: Failure | None = None) -> Failure:
    """A failure of the server's own."""
    return Failure(
        message=message,
        source=SOURCE,
        server_failure_info=ServerFailureInfo(non_retryable=non_retryable),
        cause=cause,
    )


def timeout_failure(
    message: str, kind: int, *, details: Payloads | None = None, cause: Failure | None = None
) -> Failure:
    """A timeout. `kind` is a `TimeoutType`, `details` what the last heartbeat said."""
    return Failure(
        message=message,
        source=SOURCE,
        timeout_failure_info=TimeoutFailureInfo(
            timeout_type=TimeoutType.ValueType(kind), last_heartbeat_details=details
        ),
        cause=cause,
    )


def cut(failure: Failure, limits: Limits) -> Failure:
    """A failure small enough to be kept with a pending thing: what is too large is the cause of one that says so."""
    if failure.ByteSize() <= limits.FAILURE_SIZE:
        return failure
    return server_failure(FAILURE_TOO_LARGE, non_retryable=False, cause=truncated(failure, limits.FAILURE_SIZE))


def truncated(failure: Failure, size: int, depth: int = _TRUNCATED_DEPTH) -> Failure:
    """What of a failure fits into about `size` bytes, what matters most first: type, message, trace, then the cause."""
    short = Failure()
    left = size

    def fitting(text: str) -> str:
        nonlocal left
        kept = text.encode()[: max(left, 0)].decode(errors="ignore")
        left -= len(kept.encode()) + 4  # what protobuf puts before a string
        return kept

    if failure.HasField("application_failure_info"):
        info = failure.application_failure_info
        kind = fitting(info.type)
        short.application_failure_info.CopyFrom(ApplicationFailureInfo(type=kind, non_retryable=info.non_retryable))
        left -= 8
    elif failure.HasField("server_failure_info"):
        info = failure.server_failure_info
        short.server_failure_info.CopyFrom(ServerFailureInfo(non_retryable=info.non_retryable))
        left -= 4
    short.source = fitting(failure.source)
    short.message = fitting(failure.message)
    short.stack_trace = fitting(failure.stack_trace)
    if failure.HasField("cause") and left > 4 and depth:
        short.cause.CopyFrom(truncated(failure.cause, left - 4, depth - 1))
    return short
