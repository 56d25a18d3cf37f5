"""A pending activity, as DescribeWorkflowExecution shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import ActivityType, Payloads, Priority, RetryPolicy
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo

from nexuskit.backend.history import activity_options
from nexuskit.backend.times import duration, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.history.activity import Activity

_State = PendingActivityState


def run_state(row: Activity) -> PendingActivityState.ValueType:
    """Where a pending activity stands."""
    if row.cancel_requested:
        return _State.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
    if row.started_time:
        paused, otherwise = _State.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED, _State.PENDING_ACTIVITY_STATE_STARTED
    else:
        paused, otherwise = _State.PENDING_ACTIVITY_STATE_PAUSED, _State.PENDING_ACTIVITY_STATE_SCHEDULED
    return paused if row.pause is not None else otherwise


def shown(row: Activity, now: int) -> PendingActivityInfo:
    """A pending activity at the moment `now` (ns)."""
    policy = RetryPolicy.FromString(row.policy)
    backing_off = run_state(row) == _State.PENDING_ACTIVITY_STATE_SCHEDULED and row.attempt_time > now
    retrying = backing_off and row.last_attempt_end
    options = activity_options.shown(row.options)
    options.task_queue.normal_name = row.queue
    options.retry_policy.ClearField("non_retryable_error_types")
    info = PendingActivityInfo(
        activity_id=row.activity_id,
        activity_type=ActivityType(name=row.activity_type),
        state=run_state(row),
        heartbeat_details=Payloads.FromString(row.heartbeat_details) if row.heartbeat_details else None,
        last_heartbeat_time=timestamp(row.heartbeat_time),
        last_started_time=timestamp(row.started_time),
        attempt=row.attempt,
        maximum_attempts=policy.maximum_attempts,
        scheduled_time=timestamp(row.attempt_time),
        expiration_time=timestamp(row.expires),
        last_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        last_worker_identity=row.identity,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        next_attempt_schedule_time=timestamp(row.attempt_time) if backing_off else None,
        current_retry_interval=duration(row.attempt_time - row.last_attempt_end) if retrying else None,
        paused=row.pause is not None,
        priority=Priority.FromString(row.priority) if row.priority else None,
        activity_options=options,
    )
    if row.pause is not None:
        info.pause_info.pause_time.CopyFrom(timestamp(row.pause.time) or info.pause_info.pause_time)
        info.pause_info.manual.identity = row.pause.identity
        info.pause_info.manual.reason = row.pause.reason
    return info
