"""An activity: work outside the workflow's own code, tried again until it succeeds or its policy ends.

    SCHEDULED ── start ──> STARTED ── complete, fail for good, cancelled, timeout ──> nothing
        ^                     │
        └──── failed, try again (attempt + 1, after a pause) ────┘

The scheduled event is written at once. The started event is written only together with the event that closes the
activity, as Temporal does, since until then an attempt may be followed by another; in between, the attempt, its last
failure and its last heartbeat live in the row alone. The input stays in the scheduled event.

Timeouts: schedule-to-close bounds all attempts together, schedule-to-start the wait for a worker, start-to-close one
attempt, heartbeat the silence within one. The first two are final; the other two are failures like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.common.v1 import Payloads, RetryPolicy
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import ApplicationFailureInfo, Failure, ServerFailureInfo, TimeoutFailureInfo
from temporalio.api.history.v1 import (
    ActivityTaskCanceledEventAttributes,
    ActivityTaskCancelRequestedEventAttributes,
    ActivityTaskCompletedEventAttributes,
    ActivityTaskFailedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes,
    ActivityTaskTimedOutEventAttributes,
    HistoryEvent,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend import limits
from nexuskit.backend.errors import StatusError, not_found
from nexuskit.backend.history import retry, workflow_task
from nexuskit.backend.history.command import CommandError, check_id, check_payloads, check_span
from nexuskit.backend.history.state import Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import duration, moment, span, timestamp

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES
_BAD_CANCEL = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES


class Activity(Row, frozen=True, omit_defaults=True):
    """A pending activity; waits for a worker while `started_time` is 0. The key is its scheduled event's id."""

    kind = "activity"
    scheduled_id: int
    activity_id: str
    queue: str
    scheduled_time: int
    attempt_time: int
    """From when on this attempt may be taken."""
    schedule_to_close: int = 0
    schedule_to_start: int = 0
    start_to_close: int = 0
    heartbeat: int = 0
    policy: bytes = b""
    """`RetryPolicy`, serialised, with all defaults filled in."""
    attempt: int = 1
    started_time: int = 0
    request_id: str = ""
    identity: str = ""
    last_failure: bytes = b""
    """`Failure` of the attempt before, serialised, cut to its limit."""
    last_attempt_end: int = 0
    last_started: int = 0
    heartbeat_time: int = 0
    heartbeat_details: bytes = b""
    """`Payloads`, serialised; they outlive the attempt."""
    cancel_requested: bool = False
    cancel_requested_id: int = 0

    @property
    def expires(self) -> int:
        """When the activity ends whatever the attempt (ns), 0 for never."""
        return self.scheduled_time + self.schedule_to_close if self.schedule_to_close else 0

    def index(self, info: Info) -> Index:
        due = min(filter(None, (moment for moment, _ in deadlines(self))), default=0)
        if self.started_time:
            return Index(due=due, stamp=self.attempt)
        return Index(due, Destination("activity", info.namespace_id, self.queue), self.attempt_time, self.attempt)


def deadlines(row: Activity) -> list[tuple[int, int]]:
    """The moments at which this activity times out, 0 for never, each with its `TimeoutType`."""
    ends: list[tuple[int, int]] = [(row.expires, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)]
    if not row.started_time:
        wait = row.attempt_time + row.schedule_to_start if row.schedule_to_start else 0
        ends.append((wait, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START))
    else:
        run = row.started_time + row.start_to_close if row.start_to_close else 0
        ends.append((run, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE))
        beat = max(row.heartbeat_time, row.started_time) + row.heartbeat if row.heartbeat else 0
        ends.append((beat, TimeoutType.TIMEOUT_TYPE_HEARTBEAT))
    return ends


# --- what happened


class Started(Record, frozen=True):
    """A worker took an attempt."""

    scheduled_id: int
    time: int
    request_id: str
    identity: str


class Retried(Record, frozen=True):
    """An attempt failed and another one follows."""

    scheduled_id: int
    attempt_time: int
    failure: bytes
    ended: int


class Heartbeat(Record, frozen=True):
    """The worker says that it is alive, and how far it has come."""

    scheduled_id: int
    time: int
    details: bytes | None


def apply_scheduled(state: Execution, event: HistoryEvent) -> None:
    attributes = event.activity_task_scheduled_event_attributes
    time = moment(event.event_time)
    row = Activity(
        scheduled_id=event.event_id,
        activity_id=attributes.activity_id,
        queue=attributes.task_queue.name,
        scheduled_time=time,
        attempt_time=time,
        schedule_to_close=span(attributes.schedule_to_close_timeout),
        schedule_to_start=span(attributes.schedule_to_start_timeout),
        start_to_close=span(attributes.start_to_close_timeout),
        heartbeat=span(attributes.heartbeat_timeout),
        policy=attributes.retry_policy.SerializeToString(),
    )
    state.of(Activity).put(event.event_id, row)


def apply_started(state: Execution, record: Started) -> None:
    _change(
        state,
        record.scheduled_id,
        started_time=record.time,
        last_started=record.time,
        request_id=record.request_id,
        identity=record.identity,
        heartbeat_time=0,
    )


def apply_retried(state: Execution, record: Retried) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    attempt = row.attempt + 1 if row else 1
    _change(
        state,
        record.scheduled_id,
        attempt=attempt,
        attempt_time=record.attempt_time,
        started_time=0,
        request_id="",
        last_failure=record.failure,
        last_attempt_end=record.ended,
    )


def apply_heartbeat(state: Execution, record: Heartbeat) -> None:
    if record.details is None:
        _change(state, record.scheduled_id, heartbeat_time=record.time)
    else:
        _change(state, record.scheduled_id, heartbeat_time=record.time, heartbeat_details=record.details)


def apply_cancel_requested(state: Execution, event: HistoryEvent) -> None:
    scheduled_id = event.activity_task_cancel_requested_event_attributes.scheduled_event_id
    _change(state, scheduled_id, cancel_requested=True, cancel_requested_id=event.event_id)


def apply_nothing(state: Execution, event: HistoryEvent) -> None:
    """The started event says nothing that the row did not know."""


def apply_closed(state: Execution, event: HistoryEvent) -> None:
    """Completed, failed, timed out or cancelled: it is pending no more."""
    attributes = (
        event.activity_task_completed_event_attributes
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        else event.activity_task_failed_event_attributes
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
        else event.activity_task_canceled_event_attributes
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED
        else event.activity_task_timed_out_event_attributes
    )
    state.of(Activity).remove(attributes.scheduled_event_id)


def _change(state: Execution, scheduled_id: int, **fields: object) -> None:
    row = state.of(Activity).get(scheduled_id)
    if row is not None:
        state.of(Activity).put(scheduled_id, msgspec.structs.replace(row, **fields))


# --- what a workflow commands


def schedule(tx: Transaction, command: Command, completed_id: int) -> None:
    """ScheduleActivityTask: the activity waits for a worker of its task queue."""
    attributes = command.schedule_activity_task_command_attributes
    name = f"activity {attributes.activity_id!r} of type {attributes.activity_type.name!r}"
    check_id(_BAD, "ActivityId", attributes.activity_id)
    check_id(_BAD, "ActivityType", attributes.activity_type.name)
    check_id(_BAD, f"task queue (TaskQueue) of {name}", attributes.task_queue.name)
    to_close, to_start, run, beat = (
        check_span(_BAD, f"{field} of {name}", getattr(attributes, proto))
        for field, proto in (
            ("ScheduleToCloseTimeout", "schedule_to_close_timeout"),
            ("ScheduleToStartTimeout", "schedule_to_start_timeout"),
            ("StartToCloseTimeout", "start_to_close_timeout"),
            ("HeartbeatTimeout", "heartbeat_timeout"),
        )
    )
    if not to_close and not run:
        raise CommandError(_BAD, f"A valid StartToClose or ScheduleToCloseTimeout is not set on command: {name}.")
    # A part cannot last longer than the whole (temporalio/temporal: service/history/api/command_attr_validator.go).
    run_timeout = tx.state.info.run_timeout
    whole = min(filter(None, (to_close, run_timeout)), default=0)
    to_start = min(to_start or whole, whole) if whole else to_start
    run = min(run or whole, whole) if whole else run
    check_payloads(_BAD, f"ScheduleActivityTaskCommandAttributes.Input of {name}", attributes.input)
    table = tx.state.of(Activity)
    if any(row.activity_id == attributes.activity_id for _, row in table.items()):
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID
        raise CommandError(cause, f"ActivityId {attributes.activity_id!r} is already in use by a pending activity.")
    if len(table) >= limits.PENDING_ACTIVITIES:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED
        raise CommandError(
            cause,
            f"the number of pending activities, {len(table)}, has reached the per-workflow limit of"
            f" {limits.PENDING_ACTIVITIES}",
        )
    try:
        policy = retry.filled(attributes.retry_policy if attributes.HasField("retry_policy") else None)
    except StatusError as error:
        raise CommandError(_BAD, error.message) from error
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        user_metadata=command.user_metadata if command.HasField("user_metadata") else None,
        activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(
            activity_id=attributes.activity_id,
            activity_type=attributes.activity_type,
            task_queue=TaskQueue(name=attributes.task_queue.name, kind=attributes.task_queue.kind),
            header=attributes.header if attributes.HasField("header") else None,
            input=attributes.input if attributes.HasField("input") else None,
            schedule_to_close_timeout=duration(whole),
            schedule_to_start_timeout=duration(to_start),
            start_to_close_timeout=duration(run),
            heartbeat_timeout=duration(min(beat, run) if run else beat),
            workflow_task_completed_event_id=completed_id,
            retry_policy=policy,
            use_workflow_build_id=attributes.use_workflow_build_id,
            priority=attributes.priority if attributes.HasField("priority") else None,
        ),
    )


def request_cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """RequestCancelActivityTask: one that waits is cancelled, one that runs is told by its next heartbeat."""
    scheduled_id = command.request_cancel_activity_task_command_attributes.scheduled_event_id
    row = tx.state.of(Activity).get(scheduled_id)
    if row is None and not 0 < scheduled_id < tx.state.info.next_event_id:
        raise CommandError(_BAD_CANCEL, f"ScheduledEventId {scheduled_id} names no activity of this workflow.")
    requested = tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        activity_task_cancel_requested_event_attributes=ActivityTaskCancelRequestedEventAttributes(
            scheduled_event_id=scheduled_id, workflow_task_completed_event_id=completed_id
        ),
    )
    if row is not None and not row.started_time:
        tx.add(
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
            activity_task_canceled_event_attributes=ActivityTaskCanceledEventAttributes(
                latest_cancel_requested_event_id=requested, scheduled_event_id=scheduled_id, identity="history-service"
            ),
        )
        tx.wakes = True


# --- what workers and time say


class Start(NamedTuple):
    """A worker comes for an activity that it was told of."""

    scheduled_id: int
    stamp: int
    identity: str


def start(tx: Transaction, request: Start) -> Activity | None:
    """A worker takes an attempt. None if the activity has moved on since the worker was told of it."""
    row = tx.state.of(Activity).get(request.scheduled_id)
    if row is None or row.started_time or row.attempt != request.stamp or row.attempt_time > tx.now:
        return None
    if not tx.state.info.running:
        return None
    tx.note(Started(request.scheduled_id, tx.now, tx.draw.uuid(), request.identity))
    return tx.state.of(Activity).get(request.scheduled_id)


def find(state: Execution, scheduled_id: int, attempt: int, started_time: int) -> Activity:
    """The attempt that a token names, with a worker.

    Raises:
        StatusError: NOT_FOUND, if it has ended or timed out, or the run is closed.
    """
    if not state.info.running:
        raise not_found(f"workflow execution already completed: {state.info.workflow_id!r}, run {state.info.run_id}")
    row = state.of(Activity).get(scheduled_id)
    if row is None or not row.started_time or row.attempt != attempt or row.started_time != started_time:
        raise not_found(
            f"invalid activityID or activity already timed out or invoking workflow is completed: workflow"
            f" {state.info.workflow_id!r}, scheduled event {scheduled_id}, attempt {attempt}"
        )
    return row


def complete(tx: Transaction, row: Activity, result: Payloads | None, identity: str) -> None:
    """The attempt succeeded."""
    started_id = _write_started(tx, row)
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
        activity_task_completed_event_attributes=ActivityTaskCompletedEventAttributes(
            result=result, scheduled_event_id=row.scheduled_id, started_event_id=started_id, identity=identity
        ),
    )
    workflow_task.schedule(tx)


def fail(tx: Transaction, row: Activity, failure: Failure, identity: str) -> None:
    """The attempt failed: the next one waits its pause out, or the activity has failed."""
    verdict = _verdict(tx, row, failure)
    if verdict.after is not None:
        _retry(tx, row, failure, verdict.after)
        return
    started_id = _write_started(tx, row)
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
        activity_task_failed_event_attributes=ActivityTaskFailedEventAttributes(
            failure=failure,
            scheduled_event_id=row.scheduled_id,
            started_event_id=started_id,
            identity=identity,
            retry_state=RetryState.ValueType(verdict.state),
        ),
    )
    workflow_task.schedule(tx)


def cancelled(tx: Transaction, row: Activity, details: Payloads | None, identity: str) -> None:
    """The worker confirms that the activity stopped because it was asked to."""
    started_id = _write_started(tx, row)
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
        activity_task_canceled_event_attributes=ActivityTaskCanceledEventAttributes(
            details=details,
            latest_cancel_requested_event_id=row.cancel_requested_id,
            scheduled_event_id=row.scheduled_id,
            started_event_id=started_id,
            identity=identity,
        ),
    )
    workflow_task.schedule(tx)


def heartbeat(tx: Transaction, row: Activity, details: Payloads | None) -> bool:
    """The worker is alive. Returns whether the workflow has asked the activity to stop."""
    tx.note(Heartbeat(row.scheduled_id, tx.now, None if details is None else details.SerializeToString()))
    return row.cancel_requested


def due(tx: Transaction, row: Activity) -> None:
    """Its time has come: one of its timeouts, the first of those that are over."""
    over = [(moment, kind) for moment, kind in deadlines(row) if moment and moment <= tx.now]
    if not over or not tx.state.info.running:
        return
    _, kind = min(over)
    failure = _timeout_failure(row, kind)
    final = kind in (TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START)
    verdict = retry.Again(None, RetryState.RETRY_STATE_TIMEOUT) if final else _verdict(tx, row, failure)
    if verdict.after is not None:
        _retry(tx, row, failure, verdict.after)
        return
    if verdict.state == RetryState.RETRY_STATE_TIMEOUT and not final:
        # No time for another attempt: it is the whole that timed out, and the attempt's timeout is why.
        failure = _timeout_failure(row, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE, cause=failure)
    started_id = _write_started(tx, row) if row.started_time else 0
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
        activity_task_timed_out_event_attributes=ActivityTaskTimedOutEventAttributes(
            failure=failure,
            scheduled_event_id=row.scheduled_id,
            started_event_id=started_id,
            retry_state=RetryState.ValueType(verdict.state),
        ),
    )
    workflow_task.schedule(tx)


def _write_started(tx: Transaction, row: Activity) -> int:
    last = Failure.FromString(row.last_failure) if row.last_failure else None
    event = HistoryEvent(
        event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        event_time=timestamp(row.started_time),
        activity_task_started_event_attributes=ActivityTaskStartedEventAttributes(
            scheduled_event_id=row.scheduled_id,
            identity=row.identity,
            request_id=row.request_id,
            attempt=row.attempt,
            last_failure=last,
        ),
    )
    return tx.put(event)


def _verdict(tx: Transaction, row: Activity, failure: Failure) -> retry.Again:
    if row.cancel_requested:
        return retry.Again(None, RetryState.RETRY_STATE_CANCEL_REQUESTED)
    policy = RetryPolicy.FromString(row.policy)
    info = failure.application_failure_info
    kind = failure.WhichOneof("failure_info")
    final = (
        (kind == "application_failure_info" and (info.non_retryable or info.type in policy.non_retryable_error_types))
        or (kind == "server_failure_info" and failure.server_failure_info.non_retryable)
        or kind in ("canceled_failure_info", "terminated_failure_info")
    )
    if final:
        return retry.Again(None, RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE)
    delay = span(info.next_retry_delay)
    return retry.again(policy, attempt=row.attempt, now=tx.now, expires=row.expires, delay=delay)


def _retry(tx: Transaction, row: Activity, failure: Failure, pause: int) -> None:
    tx.note(Retried(row.scheduled_id, tx.now + pause, cut(failure).SerializeToString(), tx.now))


def cut(failure: Failure) -> Failure:
    """A failure small enough to be kept with a pending activity: what is too large loses its details and trace."""
    if failure.ByteSize() <= limits.FAILURE_SIZE:
        return failure
    short = Failure(
        message=failure.message.encode()[: limits.FAILURE_SIZE // 2].decode(errors="ignore"), source=failure.source
    )
    if failure.HasField("application_failure_info"):
        info = failure.application_failure_info
        kind = info.type.encode()[: limits.FAILURE_SIZE // 4].decode(errors="ignore")
        short.application_failure_info.CopyFrom(ApplicationFailureInfo(type=kind, non_retryable=info.non_retryable))
    else:
        short.server_failure_info.CopyFrom(ServerFailureInfo())
    return short


_TIMEOUT_NAMES = {
    TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE: "StartToClose",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START: "ScheduleToStart",
    TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "ScheduleToClose",
    TimeoutType.TIMEOUT_TYPE_HEARTBEAT: "Heartbeat",
}


def _timeout_failure(row: Activity, kind: int, cause: Failure | None = None) -> Failure:
    details = Payloads.FromString(row.heartbeat_details) if row.heartbeat_details else None
    if cause is None and kind != TimeoutType.TIMEOUT_TYPE_HEARTBEAT and row.last_failure:
        cause = Failure.FromString(row.last_failure)
    return Failure(
        message=f"activity {_TIMEOUT_NAMES[TimeoutType.ValueType(kind)]} timeout",
        source="Server",
        timeout_failure_info=TimeoutFailureInfo(
            timeout_type=TimeoutType.ValueType(kind), last_heartbeat_details=details
        ),
        cause=cause,
    )
