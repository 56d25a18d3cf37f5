"""What is shown of a Nexus operation that is pending, and of its cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import NexusOperationCancellationState, PendingNexusOperationState
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import NexusOperationCancellationInfo, PendingNexusOperationInfo

from nexuskit.backend.history.nexus_cancellation import NexusCancellation, State
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.times import duration, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.history.state import Execution


def shown(execution: Execution, now: int) -> list[PendingNexusOperationInfo]:
    """All that are pending in a run."""
    cancellations = execution.of(NexusCancellation)
    return [_operation(row, cancellations.get(key), now) for key, row in execution.of(NexusOperation).items()]


def _operation(row: NexusOperation, cancellation: NexusCancellation | None, now: int) -> PendingNexusOperationInfo:
    states = PendingNexusOperationState
    if row.started_time:
        state = states.PENDING_NEXUS_OPERATION_STATE_STARTED
    elif row.ready > now:
        state = states.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
    else:
        state = states.PENDING_NEXUS_OPERATION_STATE_SCHEDULED
    backing_off = state == states.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
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
        # Those that have ended: the one of the answer that started it is one of them.
        attempt=row.attempt if row.started_time else row.attempt - 1,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        next_attempt_schedule_time=timestamp(row.ready) if backing_off else None,
        scheduled_event_id=row.scheduled_id,
        cancellation_info=_cancellation(cancellation, now) if cancellation is not None else None,
    )


def _cancellation(row: NexusCancellation, now: int) -> NexusOperationCancellationInfo:
    backing_off = row.state == State.BACKING_OFF and row.ready > now
    state = State.SCHEDULED if row.state == State.BACKING_OFF and not backing_off else row.state
    return NexusOperationCancellationInfo(
        requested_time=timestamp(row.requested_time),
        state=NexusOperationCancellationState.ValueType(int(state)),
        attempt=row.attempt,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        next_attempt_schedule_time=timestamp(row.ready) if backing_off else None,
    )
