"""An activity that stands alone: an execution of its own, which no workflow scheduled.

    nothing ── start ──> RUNNING ── completed, failed, timed out, cancelled, terminated ──> CLOSED

It is the same machine as a workflow's activity (`activity`): its attempts, timeouts and retries are decided there, and
the events that it writes make a short history that nobody is shown: the scheduled event, which holds the input, and
the one that closed it, which holds the outcome. What is different is here: how it starts, and that the execution ends
with its activity (temporalio/temporal: chasm/lib/activity).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.activity.v1 import ActivityExecutionOutcome
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import ActivityExecutionStatus, EventType, RetryState
from temporalio.api.failure.v1 import CanceledFailureInfo, Failure, TerminatedFailureInfo
from temporalio.api.history.v1 import (
    ActivityTaskCanceledEventAttributes,
    ActivityTaskCancelRequestedEventAttributes,
    ActivityTaskFailedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    HistoryEvent,
)

from nexuskit.backend.errors import Code, InvariantError, StatusError, invariant
from nexuskit.backend.history import activity, callback
from nexuskit.backend.history.activity import Activity
from nexuskit.backend.history.activity_commands import text_payload
from nexuskit.backend.history.state import ACTIVITY, NOTHING, OPERATION, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import moment, span
from nexuskit.backend.visibility.search_attributes import merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.activity.v1 import ActivityOptions
    from temporalio.api.common.v1 import Callback, Link
    from temporalio.api.workflowservice.v1 import StartActivityExecutionRequest

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

ONLY = 0
"""The key of the one `Standalone`."""
SCHEDULED_ID = 1
"""Its scheduled event is the first of its history, and so the key of its `Activity`."""

_CALLED = MappingProxyType({ACTIVITY: "an activity", OPERATION: "a Nexus operation"})
_Status = ActivityExecutionStatus
_RETRY_STATE_NONE = RetryState.RETRY_STATE_UNSPECIFIED


class Asked(msgspec.Struct, frozen=True):
    """Who asked for its cancellation, and why; the same request id again is no second request."""

    request_id: str
    identity: str
    reason: str


class Standalone(Row, frozen=True, omit_defaults=True):
    """What is known of it beside its attempts. There is one, and it stays when the activity is closed.

    A Nexus operation that stands alone has one as well.
    """

    kind = "standalone"
    outlives = True
    requests: tuple[str, ...] = ()
    """Ids of the start requests that came later and were attached."""
    links: tuple[bytes, ...] = ()
    """`temporal.api.common.v1.Link`, serialised."""
    cancel: Asked | None = None
    terminate_request_id: str = ""
    identity: str = ""
    """Who started it, as that one says: of a Nexus operation, which is described with it."""
    serialization_context: bytes = b""
    """`temporal.api.nexus.v1.PropagatedSerializationContext`, serialised: kept for whoever started it."""

    def index(self, info: Info) -> Index:
        return NOTHING

    def weight(self) -> int:
        return super().weight() + sum(map(len, self.links))


# --- what happened


class Begun(Record, frozen=True):
    """It was started by a request; history does not hold all of that."""

    request_id: str
    start_delay: int
    links: tuple[bytes, ...]
    search_attributes: bytes
    serialization_context: bytes


class Attached(Record, frozen=True):
    """Another start request found it running, and left its id and links with it."""

    request_id: str
    links: tuple[bytes, ...]


class CancelAsked(Record, frozen=True):
    """Somebody asked for its cancellation."""

    asked: Asked


class Terminated(Record, frozen=True):
    """The id of the request that terminated it."""

    request_id: str


def apply_begun(state: Execution, record: Begun) -> None:
    info = state.info
    row = alone(state)
    info.workflow_type = row.activity_type
    info.task_queue = row.queue
    info.start_time = row.scheduled_time
    info.execution_time = row.scheduled_time + record.start_delay
    info.priority = row.priority
    info.start_request_id = record.request_id
    info.search_attributes = record.search_attributes
    activity.change(state, SCHEDULED_ID, start_delay=record.start_delay, attempt_time=info.execution_time)
    table = state.of(Standalone)
    table.put(ONLY, Standalone(links=record.links, serialization_context=record.serialization_context))


def apply_attached(state: Execution, record: Attached) -> None:
    row = about(state)
    requests, links = (*row.requests, record.request_id), (*row.links, *record.links)
    state.of(Standalone).put(ONLY, msgspec.structs.replace(row, requests=requests, links=links))


def apply_cancel_asked(state: Execution, record: CancelAsked) -> None:
    state.of(Standalone).put(ONLY, msgspec.structs.replace(about(state), cancel=record.asked))


def apply_terminated(state: Execution, record: Terminated) -> None:
    row = msgspec.structs.replace(about(state), terminate_request_id=record.request_id)
    state.of(Standalone).put(ONLY, row)


def apply_closed(state: Execution, event: HistoryEvent) -> None:
    """An activity has ended: a workflow's is pending no more, one that stands alone is closed."""
    info = state.info
    if info.archetype != ACTIVITY:
        activity.apply_closed(state, event)
        return
    time = moment(event.event_time)
    info.status = int(_status(event))
    info.close_time = time
    info.close_event_id = event.event_id
    fields: dict[str, object] = {"ended": True, "stamp": alone(state).stamp + 1}
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        fields |= {"last_attempt_end": time, "identity": event.activity_task_completed_event_attributes.identity}
    elif info.status == _Status.ACTIVITY_EXECUTION_STATUS_FAILED:
        fields |= {"last_attempt_end": time, "identity": event.activity_task_failed_event_attributes.identity}
    activity.change(state, SCHEDULED_ID, **fields)
    callback.apply_closed(state, time)


def _status(event: HistoryEvent) -> ActivityExecutionStatus.ValueType:
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        return _Status.ACTIVITY_EXECUTION_STATUS_COMPLETED
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
        return _Status.ACTIVITY_EXECUTION_STATUS_CANCELED
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
        return _Status.ACTIVITY_EXECUTION_STATUS_TIMED_OUT
    # No retry was thought of: it is nobody's attempt that failed.
    terminated = event.activity_task_failed_event_attributes.retry_state == _RETRY_STATE_NONE
    return _Status.ACTIVITY_EXECUTION_STATUS_TERMINATED if terminated else _Status.ACTIVITY_EXECUTION_STATUS_FAILED


def alone(state: Execution) -> Activity:
    """The activity itself."""
    row = state.of(Activity).get(SCHEDULED_ID)
    if row is None:
        raise InvariantError("an activity that stands alone has its row, also when it is closed")
    return row


def about(state: Execution) -> Standalone:
    """What is known of it beside its attempts."""
    return state.of(Standalone).get(ONLY) or Standalone()


# --- what is to be done


def start(tx: Transaction, request: StartActivityExecutionRequest, options: ActivityOptions) -> None:
    """A new one begins, on an execution of which nothing is known but its ids. `options` are the checked ones."""
    invariant(tx.state.info.next_event_id == 1, "a run starts once")
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        user_metadata=request.user_metadata if request.HasField("user_metadata") else None,
        activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(
            activity_id=request.activity_id,
            activity_type=request.activity_type,
            task_queue=options.task_queue,
            header=request.header if request.HasField("header") else None,
            input=request.input if request.HasField("input") else None,
            schedule_to_close_timeout=options.schedule_to_close_timeout,
            schedule_to_start_timeout=options.schedule_to_start_timeout,
            start_to_close_timeout=options.start_to_close_timeout,
            heartbeat_timeout=options.heartbeat_timeout,
            retry_policy=options.retry_policy,
            priority=options.priority if options.HasField("priority") else None,
        ),
    )
    context = request.propagated_nexus_serialization_context
    tx.note(
        Begun(
            request.request_id,
            span(request.start_delay),
            packed(request.links),
            merge(b"", request.search_attributes).SerializeToString(deterministic=True),
            context.SerializeToString(),
        )
    )
    for each in request.completion_callbacks:
        tx.note(callback.Registered(each.SerializeToString(), request.request_id, tx.now))


def attach(tx: Transaction, request_id: str, callbacks: Sequence[Callback], links: Sequence[Link]) -> None:
    """Leave a start request's callbacks and links with the execution that runs; the same request again does nothing.

    Raises:
        StatusError: FAILED_PRECONDITION, if it would have more than it may.
    """
    row = about(tx.state)
    if request_id == tx.state.info.start_request_id or request_id in row.requests:
        return
    there = len(tx.state.of(callback.Callback))
    if there + len(callbacks) > tx.limits.CALLBACKS:
        raise precondition(
            f"cannot attach more than {tx.limits.CALLBACKS} callbacks to {_CALLED[tx.state.info.archetype]}"
            f" ({there} callbacks already attached)"
        )
    if len(row.links) + len(links) > tx.limits.LINKS or len(row.requests) >= tx.limits.LINKS:
        raise precondition(
            f"cannot attach more than {tx.limits.LINKS} links to {_CALLED[tx.state.info.archetype]}"
            f" ({len(row.links)} links already attached)"
        )
    tx.note(Attached(request_id, packed(links)))
    for each in callbacks:
        tx.note(callback.Registered(each.SerializeToString(), request_id, tx.now))


def packed(links: Sequence[Link]) -> tuple[bytes, ...]:
    """Links as they are kept."""
    return tuple(link.SerializeToString() for link in links)


def request_cancel(tx: Transaction, asked: Asked) -> None:
    """Ask it to stop: at once if no worker has it, else the worker is told by its next heartbeat.

    Raises:
        StatusError: FAILED_PRECONDITION, if it is closed, or somebody else has asked.
    """
    before = about(tx.state).cancel
    if before is not None and before.request_id == asked.request_id:
        return
    _check_open(tx.state)
    if before is not None:
        raise precondition(f"cancellation already requested with request ID {before.request_id}")
    tx.note(CancelAsked(asked))
    requested = tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        activity_task_cancel_requested_event_attributes=ActivityTaskCancelRequestedEventAttributes(
            scheduled_event_id=SCHEDULED_ID
        ),
    )
    if not alone(tx.state).started_time:
        tx.add(
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
            activity_task_canceled_event_attributes=ActivityTaskCanceledEventAttributes(
                details=Payloads(payloads=[text_payload(asked.reason)]),
                latest_cancel_requested_event_id=requested,
                scheduled_event_id=SCHEDULED_ID,
                identity=asked.identity,
            ),
        )


def terminate(tx: Transaction, request_id: str, identity: str, reason: str) -> None:
    """End it, whatever its worker does.

    Raises:
        StatusError: FAILED_PRECONDITION, if it is closed, but for the same request again.
    """
    if tx.state.info.status == _Status.ACTIVITY_EXECUTION_STATUS_TERMINATED:
        before = about(tx.state).terminate_request_id
        if before == request_id:
            return
        raise precondition(f"already terminated with request ID {before}")
    _check_open(tx.state)
    tx.note(Terminated(request_id))
    failure = Failure(message=reason, terminated_failure_info=TerminatedFailureInfo(identity=identity))
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
        activity_task_failed_event_attributes=ActivityTaskFailedEventAttributes(
            failure=failure, scheduled_event_id=SCHEDULED_ID, identity=identity, retry_state=_RETRY_STATE_NONE
        ),
    )


def _check_open(state: Execution) -> None:
    if not state.info.running:
        name = _Status.Name(_Status.ValueType(state.info.status)).removeprefix("ACTIVITY_EXECUTION_STATUS_")
        raise precondition(f"activity is in terminal state {''.join(word.title() for word in name.split('_'))}")


def precondition(message: str) -> StatusError:
    """The refusal of what cannot be done any more."""
    return StatusError(Code.FAILED_PRECONDITION, message)


def outcome(state: Execution, close_event: HistoryEvent) -> ActivityExecutionOutcome:
    """How it ended, from the event that closed it."""
    if close_event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        return ActivityExecutionOutcome(result=close_event.activity_task_completed_event_attributes.result)
    if close_event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
        asked = about(state).cancel
        details = close_event.activity_task_canceled_event_attributes
        info = CanceledFailureInfo(
            details=details.details if details.HasField("details") else None, identity=asked.identity if asked else ""
        )
        return ActivityExecutionOutcome(failure=Failure(message="Activity canceled", canceled_failure_info=info))
    if close_event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
        timed_out = close_event.activity_task_timed_out_event_attributes
        return ActivityExecutionOutcome(failure=timed_out.failure, retry_state=timed_out.retry_state)
    failed = close_event.activity_task_failed_event_attributes
    failure = failed.failure
    if failure == Failure():  # somebody who waits must see that it failed
        failure = Failure(message="activity task failed without failure details")
    return ActivityExecutionOutcome(failure=failure, retry_state=failed.retry_state)
