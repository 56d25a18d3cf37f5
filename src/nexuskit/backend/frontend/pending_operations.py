"""What is shown of a Nexus operation that is pending, and of its cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from temporalio.api.enums.v1 import NexusOperationCancellationState, PendingNexusOperationState
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import NexusOperationCancellationInfo, PendingNexusOperationInfo

from nexuskit.backend.agenda import Waiting
from nexuskit.backend.history.nexus_cancellation import NexusCancellation, State
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.nexus.lanes import Place
from nexuskit.backend.times import duration, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.nexus.lanes import Lanes


_BLOCKED = PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BLOCKED
_CANCELLATION_BLOCKED = NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_BLOCKED


def shown(execution: Execution, lanes: Lanes, now: int) -> list[PendingNexusOperationInfo]:
    """All that are pending in a run."""
    cancellations = execution.of(NexusCancellation)
    infos: list[PendingNexusOperationInfo] = []
    for key, row in execution.of(NexusOperation).items():
        info = _operation(execution, row, lanes, now)
        cancellation = cancellations.get(key)
        if cancellation is not None:
            fields = cancellation_fields(execution, cancellation, row, lanes, now)
            info.cancellation_info.CopyFrom(NexusOperationCancellationInfo(**fields))
        infos.append(info)
    return infos


class Standing(NamedTuple):
    """Where a call stands that has no answer yet, or is being worked on.

    Attributes:
        state: one of `PendingNexusOperationState`.
        ready: when the next attempt is made (ns), if it waits for that; else 0.
        blocked: why no attempt is made at all.
    """

    state: PendingNexusOperationState.ValueType
    ready: int = 0
    blocked: str = ""


def standing(execution: Execution, row: NexusOperation, lanes: Lanes, now: int) -> Standing:
    """Where an operation stands that has not ended."""
    states = PendingNexusOperationState
    if row.started_time:
        return Standing(states.PENDING_NEXUS_OPERATION_STATE_STARTED)
    if row.ready > now and not lanes.holds(Waiting(execution.id, row.kind, row.scheduled_id, row.attempt)):
        return Standing(states.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF, row.ready)
    blocked = lanes.blocked(Place(row.kind, execution.info.namespace_id, row.endpoint_id), row.endpoint)
    return Standing(_BLOCKED if blocked else states.PENDING_NEXUS_OPERATION_STATE_SCHEDULED, blocked=blocked)


def _operation(execution: Execution, row: NexusOperation, lanes: Lanes, now: int) -> PendingNexusOperationInfo:
    made = row.attempt - row.unmade
    state, ready, blocked = standing(execution, row, lanes, now)
    return PendingNexusOperationInfo(
        endpoint=row.endpoint,
        service=row.service,
        operation=row.operation,
        operation_id=row.token,
        operation_token=row.token,
        schedule_to_close_timeout=duration(row.schedule_to_close),
        schedule_to_start_timeout=duration(row.schedule_to_start),
        start_to_close_timeout=duration(row.start_to_close),
        scheduled_time=timestamp(row.scheduled_time),
        state=state,
        # Those that have ended: the one whose answer started the operation is one of them.
        attempt=made if row.started_time else made - 1,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        next_attempt_schedule_time=timestamp(ready),
        scheduled_event_id=row.scheduled_id,
        blocked_reason=blocked,
    )


def cancellation_fields(
    execution: Execution, row: NexusCancellation, operation: NexusOperation, lanes: Lanes, now: int
) -> dict[str, Any]:
    """What is told of a cancellation, in whatever message: its fields have the same names there."""
    fields: dict[str, Any] = {
        "requested_time": timestamp(row.requested_time),
        "state": NexusOperationCancellationState.ValueType(int(row.state)),
        "attempt": row.attempt - row.unmade,
        "last_attempt_complete_time": timestamp(row.last_attempt_end),
        "last_attempt_failure": Failure.FromString(row.last_failure) if row.last_failure else None,
    }
    if row.ended or row.state not in (State.SCHEDULED, State.BACKING_OFF):
        return fields
    waiting = Waiting(execution.id, row.kind, row.scheduled_id, row.attempt)
    if row.state == State.BACKING_OFF and row.ready > now and not lanes.holds(waiting):
        return fields | {"next_attempt_schedule_time": timestamp(row.ready)}
    blocked = lanes.blocked(Place(row.kind, execution.info.namespace_id, operation.endpoint_id), operation.endpoint)
    scheduled = NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_SCHEDULED
    return fields | {"blocked_reason": blocked, "state": _CANCELLATION_BLOCKED if blocked else scheduled}
