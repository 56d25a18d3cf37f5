"""An activity: work outside the workflow's own code, tried again until it succeeds or its policy ends.

    SCHEDULED ── start ──> STARTED ── complete, fail for good, cancelled, timeout ──> nothing
        ^                     │
        └──── failed, try again (attempt + 1, after a pause) ────┘

The scheduled event is written at once. The started event is written only together with the event that closes the
activity, as Temporal does, since until then an attempt may be followed by another; in between, the attempt, its last
failure and its last heartbeat live in the row alone. The input stays in the scheduled event.

Timeouts: schedule-to-close bounds all attempts together, schedule-to-start the wait for a worker, start-to-close one
attempt, heartbeat the silence within one. The first two are final; the other two are failures like any other.

A paused activity is given to nobody and does not time out; what operators do to one is in `activity_control`, what a
workflow commands in `activity_commands`, and the options that both share in `activity_options`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.common.v1 import Payloads, RetryPolicy
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    ActivityTaskCanceledEventAttributes,
    ActivityTaskCompletedEventAttributes,
    ActivityTaskFailedEventAttributes,
    ActivityTaskStartedEventAttributes,
    ActivityTaskTimedOutEventAttributes,
    HistoryEvent,
)

from nexuskit.backend.errors import invalid_argument, not_found
from nexuskit.backend.history import activity_options, retry, workflow_task
from nexuskit.backend.history.activity_failures import NO_TIME_FOR_RETRY, TIMEOUT_NAMES, cut, timeout_failure
from nexuskit.backend.history.activity_options import Options
from nexuskit.backend.history.state import ACTIVITY, NOTHING, Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import moment, span, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
_SCHEDULE_TO_START = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
_SCHEDULE_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
_HEARTBEAT = TimeoutType.TIMEOUT_TYPE_HEARTBEAT


class Pause(msgspec.Struct, frozen=True):
    """Who paused an activity, when (ns) and why; the same request id again is no second pause."""

    time: int
    identity: str
    reason: str
    request_id: str


class Activity(Row, frozen=True, omit_defaults=True):
    """A pending activity; waits for a worker while `started_time` is 0. The key is its scheduled event's id."""

    kind = "activity"
    scheduled_id: int
    activity_id: str
    activity_type: str
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
    priority: bytes = b""
    """`Priority`, serialised; empty for none."""
    attempt: int = 1
    stamp: int = 1
    """Changes whenever the activity starts to wait anew: for another attempt, in another queue, after a pause."""
    started_time: int = 0
    started_attempt: int = 0
    """The attempt as its worker knows it; a reset sets `attempt` back while the worker goes on."""
    last_started: int = 0
    """When the newest attempt was taken, also after it has ended."""
    request_id: str = ""
    identity: str = ""
    last_failure: bytes = b""
    """`Failure` of the attempt before, serialised, cut to its limit."""
    last_attempt_end: int = 0
    heartbeat_time: int = 0
    heartbeat_details: bytes = b""
    """`Payloads`, serialised; they outlive the attempt."""
    heartbeats: int = 0
    cancel_requested: bool = False
    cancel_requested_id: int = 0
    pause: Pause | None = None
    reset: bool = False
    """Its worker is to be told that the activity starts anew."""
    reset_heartbeats: bool = False
    """The next attempt does not get the details of this one's heartbeats."""
    start_delay: int = 0
    """How long after it was scheduled its first attempt may be taken; none but one that stands alone has this."""
    ended: bool = False
    """It stands alone and is closed: the row stays, to be shown."""

    @property
    def first_time(self) -> int:
        """From when on the first attempt may be taken (ns)."""
        return self.scheduled_time + self.start_delay

    @property
    def expires(self) -> int:
        """When the activity ends whatever the attempt (ns), 0 for never."""
        return self.first_time + self.schedule_to_close if self.schedule_to_close else 0

    @property
    def options(self) -> Options:
        """What can be changed while it is pending."""
        return Options(**{field: getattr(self, field) for field in Options.__struct_fields__})

    def index(self, info: Info) -> Index:
        if self.pause is not None or self.ended:
            return NOTHING
        due = min(filter(None, (moment for moment, _ in deadlines(self))), default=0)
        if self.started_time:
            return Index(due=due, stamp=self.stamp)
        return Index(due, Destination("activity", info.namespace_id, self.queue), self.attempt_time, self.stamp)


def deadlines(row: Activity) -> list[tuple[int, int]]:
    """The moments at which this activity times out, 0 for never, each with its `TimeoutType`."""
    if row.pause is not None:
        return []
    ends: list[tuple[int, int]] = [(row.expires, _SCHEDULE_TO_CLOSE)]
    if not row.started_time:
        wait = row.attempt_time + row.schedule_to_start if row.schedule_to_start else 0
        ends.append((wait, _SCHEDULE_TO_START))
    else:
        run = row.started_time + row.start_to_close if row.start_to_close else 0
        ends.append((run, _START_TO_CLOSE))
        beat = max(row.heartbeat_time, row.started_time) + row.heartbeat if row.heartbeat else 0
        ends.append((beat, _HEARTBEAT))
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
    details: bytes


def apply_scheduled(state: Execution, event: HistoryEvent) -> None:
    attributes = event.activity_task_scheduled_event_attributes
    time = moment(event.event_time)
    row = Activity(
        scheduled_id=event.event_id,
        activity_id=attributes.activity_id,
        activity_type=attributes.activity_type.name,
        scheduled_time=time,
        attempt_time=time,
        **msgspec.structs.asdict(activity_options.scheduled(attributes)),
    )
    state.of(Activity).put(event.event_id, row)


def apply_started(state: Execution, record: Started) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    change(
        state,
        record.scheduled_id,
        started_time=record.time,
        last_started=record.time,
        started_attempt=row.attempt if row else 0,
        request_id=record.request_id,
        identity=record.identity,
    )


def apply_retried(state: Execution, record: Retried) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    if row is not None:
        change(
            state,
            record.scheduled_id,
            attempt=row.attempt + 1,
            attempt_time=record.attempt_time,
            last_failure=record.failure,
            last_attempt_end=record.ended,
            **waiting_anew(row),
        )


def waiting_anew(row: Activity) -> dict[str, object]:
    """The fields of a row whose next attempt waits: no worker has it, and what a reset left to be done is done."""
    fields: dict[str, object] = {
        "stamp": row.stamp + 1,
        "started_time": 0,
        "started_attempt": 0,
        "request_id": "",
        "reset": False,
        "reset_heartbeats": False,
    }
    if row.reset_heartbeats:
        fields |= {"heartbeat_time": 0, "heartbeat_details": b""}
    return fields


def apply_heartbeat(state: Execution, record: Heartbeat) -> None:
    row = state.of(Activity).get(record.scheduled_id)
    beats = row.heartbeats + 1 if row else 0
    change(
        state,
        record.scheduled_id,
        heartbeat_time=record.time,
        heartbeat_details=record.details,
        heartbeats=beats,
    )


def apply_cancel_requested(state: Execution, event: HistoryEvent) -> None:
    scheduled_id = event.activity_task_cancel_requested_event_attributes.scheduled_event_id
    change(state, scheduled_id, cancel_requested=True, cancel_requested_id=event.event_id)


def apply_nothing(state: Execution, event: HistoryEvent) -> None:
    """The started event says nothing that the row did not know."""


def apply_closed(state: Execution, event: HistoryEvent) -> None:
    """Completed, failed, timed out or cancelled: it is pending no more."""
    state.of(Activity).remove(closed_activity(event))


def closed_activity(event: HistoryEvent) -> int:
    """The scheduled event's id of the activity that an event closes; 0 for an event that closes none."""
    for name in _CLOSING:
        if event.HasField(name):
            return getattr(event, name).scheduled_event_id
    return 0


_CLOSING = (
    "activity_task_completed_event_attributes",
    "activity_task_failed_event_attributes",
    "activity_task_canceled_event_attributes",
    "activity_task_timed_out_event_attributes",
)


def change(state: Execution, scheduled_id: int, **fields: object) -> None:
    """Give a row's fields other values; for `apply` functions. Nothing happens if the activity is pending no more."""
    row = state.of(Activity).get(scheduled_id)
    if row is not None:
        state.of(Activity).put(scheduled_id, msgspec.structs.replace(row, **fields))


# --- what workers and time say


class Start(NamedTuple):
    """A worker comes for an activity that it was told of."""

    scheduled_id: int
    stamp: int
    identity: str


def start(tx: Transaction, request: Start) -> Activity | None:
    """A worker takes an attempt. None if the activity has moved on since the worker was told of it."""
    row = tx.state.of(Activity).get(request.scheduled_id)
    if row is None or row.started_time or row.stamp != request.stamp or row.attempt_time > tx.now:
        return None
    if row.pause is not None or not tx.state.info.running:
        return None
    tx.note(Started(request.scheduled_id, tx.now, tx.draw.uuid(), request.identity))
    return tx.state.of(Activity).get(request.scheduled_id)


def find(state: Execution, scheduled_id: int, attempt: int, started_time: int) -> Activity:
    """The attempt that a token names, with a worker.

    Raises:
        StatusError: NOT_FOUND, if it has ended or timed out, or the run is closed.
    """
    check_open(state)
    row = state.of(Activity).get(scheduled_id)
    if row is None or not row.started_time or (row.started_attempt, row.started_time) != (attempt, started_time):
        raise not_found(
            f"invalid activityID or activity already timed out or invoking workflow is completed: workflow"
            f" {state.info.workflow_id!r}, scheduled event {scheduled_id}, attempt {attempt}"
        )
    return row


def find_by_id(state: Execution, activity_id: str, *, started: bool = True) -> Activity:
    """The pending activity of that id; with `started` only if a worker has it.

    Raises:
        StatusError: NOT_FOUND, if there is none, or the run is closed.
    """
    check_open(state)
    row = next((row for _, row in state.of(Activity).items() if row.activity_id == activity_id), None)
    if row is None:
        raise not_found(
            f"cannot find pending activity with ActivityID {activity_id},"
            " check workflow execution history for more details"
        )
    if started and not row.started_time:
        raise not_found(
            f"invalid activityID or activity already timed out or invoking workflow is completed: activity"
            f" {activity_id!r} of workflow {state.info.workflow_id!r} is not with a worker"
        )
    return row


def check_open(state: Execution) -> None:
    """Raises `StatusError` NOT_FOUND, if the run is closed."""
    if not state.info.running:
        kind = state.info.archetype or "workflow"
        raise not_found(f"{kind} execution already completed: {state.info.workflow_id!r}, run {state.info.run_id}")


def complete(tx: Transaction, row: Activity, result: Payloads | None, identity: str) -> None:
    """It succeeded. Should no worker have it, somebody who knows its id says so, and stands for the worker."""
    if not row.started_time:
        tx.note(Started(row.scheduled_id, tx.now, "", identity))
        row = msgspec.structs.replace(row, started_time=tx.now, request_id="", identity=identity)
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
    """The worker confirms that the activity stopped because it was asked to.

    Raises:
        StatusError: INVALID_ARGUMENT, if nobody asked.
    """
    if not row.cancel_requested:
        raise invalid_argument(
            "unable to mark activity as canceled without activity being request canceled first:"
            f" activity {row.activity_id!r}"
        )
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


class Told(NamedTuple):
    """What a worker learns by its heartbeat.

    Attributes:
        cancel_requested: the activity is asked to stop.
        paused: it has been paused, and its next attempt will wait.
        reset: it starts anew, so this attempt is of no use.
    """

    cancel_requested: bool
    paused: bool
    reset: bool


def heartbeat(tx: Transaction, row: Activity, details: Payloads | None) -> Told:
    """The worker is alive; its details take the place of those before, also where it sends none."""
    tx.note(Heartbeat(row.scheduled_id, tx.now, details.SerializeToString() if details is not None else b""))
    return Told(row.cancel_requested, row.pause is not None, row.reset)


def due(tx: Transaction, row: Activity) -> None:
    """Its time has come: one of its timeouts, the first of those that are over."""
    over = [(moment, kind) for moment, kind in deadlines(row) if moment and moment <= tx.now]
    if not over or not tx.state.info.running:
        return
    _, kind = min(over)
    message = f"activity {TIMEOUT_NAMES[TimeoutType.ValueType(kind)]} timeout"
    failure = timeout_failure(message, kind)
    verdict = _verdict(tx, row, failure)
    if verdict.after is not None:
        _retry(tx, row, failure, verdict.after)
        return
    alone = tx.state.info.archetype == ACTIVITY
    own = (_SCHEDULE_TO_START, _SCHEDULE_TO_CLOSE) if alone else (_SCHEDULE_TO_START,)
    if verdict.state == RetryState.RETRY_STATE_TIMEOUT and kind not in own:
        # No time for another attempt: it is the whole that timed out. Of a workflow's activity Temporal says so always.
        message, kind = NO_TIME_FOR_RETRY, _SCHEDULE_TO_CLOSE
    # What made it fail before is why it was still going on, so that is the cause.
    failure = timeout_failure(
        message,
        kind,
        details=Payloads.FromString(row.heartbeat_details) if row.heartbeat_details else None,
        cause=Failure.FromString(row.last_failure) if row.last_failure else None,
    )
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
    """Whether another attempt follows, and when; in the order in which the real server asks."""
    policy = RetryPolicy.FromString(row.policy)
    if row.cancel_requested:
        return retry.Again(None, RetryState.RETRY_STATE_CANCEL_REQUESTED)
    if failure.timeout_failure_info.timeout_type in (_SCHEDULE_TO_START, _SCHEDULE_TO_CLOSE):
        return retry.Again(None, RetryState.RETRY_STATE_TIMEOUT)
    if not retry.retryable(failure, policy):
        return retry.Again(None, RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE)
    if row.pause is not None:  # it waits for somebody to go on with it, however many attempts there were
        return retry.Again(0, RetryState.RETRY_STATE_IN_PROGRESS)
    delay = span(failure.application_failure_info.next_retry_delay)
    return retry.again(policy, attempt=row.attempt, now=tx.now, expires=row.expires, delay=delay)


def _retry(tx: Transaction, row: Activity, failure: Failure, pause: int) -> None:
    tx.note(Retried(row.scheduled_id, tx.now + pause, cut(failure, tx.limits).SerializeToString(), tx.now))
