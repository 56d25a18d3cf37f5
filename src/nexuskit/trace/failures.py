"""From a failure in a history to a `Failure` of a trace. Stack traces stay behind: they are not for other teams."""

from __future__ import annotations

from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure as HistoryFailure

from nexuskit.trace.model import Failure

_KINDS = {
    "application_failure_info": "application",
    "timeout_failure_info": "timeout",
    "canceled_failure_info": "cancelled",
    "terminated_failure_info": "terminated",
    "server_failure_info": "server",
    "nexus_handler_failure_info": "handler",
    "nexus_operation_execution_failure_info": "nexus_operation",
    "activity_failure_info": "activity",
    "child_workflow_execution_failure_info": "child_workflow",
    "reset_workflow_failure_info": "reset",
}


def read_failure(failure: HistoryFailure) -> Failure:
    """The whole chain of causes. A kind of failure that is newer than this code is `unknown`."""
    info = failure.WhichOneof("failure_info")
    return Failure(
        kind=_KINDS.get(info or "", "unknown"),
        message=failure.message,
        type=_type(failure),
        cause=read_failure(failure.cause) if failure.HasField("cause") else None,
    )


def _type(failure: HistoryFailure) -> str | None:
    match failure.WhichOneof("failure_info"):
        case "application_failure_info":
            return failure.application_failure_info.type or None
        case "nexus_handler_failure_info":
            return failure.nexus_handler_failure_info.type or None
        case "timeout_failure_info":
            return TimeoutType.Name(failure.timeout_failure_info.timeout_type).removeprefix("TIMEOUT_TYPE_")
        case _:
            return None
