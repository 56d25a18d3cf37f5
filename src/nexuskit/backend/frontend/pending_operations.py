"""What is shown of a Nexus operation that is pending, and of its cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
            info.cancellation_info.CopyFrom(_cancellation(execution, cancellation, row.endpoint, lanes, now))
        infos.append(info)
    return infos


def _operation(execution: Execution, row: NexusOperation, lanes: Lanes, now: int) -> PendingNexusOperationInfo:
    states = PendingNexusOperationState
    made = row.attempt - row.unmade
    info = PendingNexusOperationInfo(
        endpoint=row.endpoint,
        service=row.service,
        operation=row.operation,
        operation_id=row.token,
        operation_token=row.token,
        schedule_to_close_timeout=duration(row.schedule_to_close),
        schedule_to_start_timeout=duration(row.schedule_to_start),
        start_to_close_timeout=duration(row.start_to_close),
        scheduled_time=timestamp(row.scheduled_time),
        # Those that have ended: the one whose answer started the operation is one of them.
        attempt=made if row.started_time else made - 1,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        scheduled_event_id=row.scheduled_id,
    )
    waiting = Waiting(execution.id, row.kind, row.scheduled_id, row.attempt)
    if row.started_time:
        info.state = states.PENDING_NEXUS_OPERATION_STATE_STARTED
    elif row.ready > now and not lanes.holds(waiting):
        info.state = states.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
        info.next_attempt_schedule_time.FromNanoseconds(row.ready)
    else:
        info.blocked_reason = lanes.blocked(Place(row.kind, execution.info.namespace_id, row.endpoint))
        info.state = _BLOCKED if info.blocked_reason else states.PENDING_NEXUS_OPERATION_STATE_SCHEDULED
    return info


def _cancellation(
    execution: Execution, row: NexusCancellation, endpoint: str, lanes: Lanes, now: int
) -> NexusOperationCancellationInfo:
    info = NexusOperationCancellationInfo(
        requested_time=timestamp(row.requested_time),
        state=NexusOperationCancellationState.ValueType(int(row.state)),
        attempt=row.attempt - row.unmade,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
    )
    if row.state not in (State.SCHEDULED, State.BACKING_OFF):
        return info
    waiting = Waiting(execution.id, row.kind, row.scheduled_id, row.attempt)
    if row.state == State.BACKING_OFF and row.ready > now and not lanes.holds(waiting):
        info.next_attempt_schedule_time.FromNanoseconds(row.ready)
        return info
    info.blocked_reason = lanes.blocked(Place(row.kind, execution.info.namespace_id, endpoint))
    scheduled = NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_SCHEDULED
    info.state = _CANCELLATION_BLOCKED if info.blocked_reason else scheduled
    return info
