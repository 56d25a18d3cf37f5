"""A Nexus operation, as its caller's history keeps it.

    SCHEDULED ── the handler answers with a result ─────────────────> nothing (completed, failed, cancelled)
        │ ^  └── the handler answers with a token ──> STARTED ── completion, or timeout ──> nothing
        └─┘ the attempt failed and may be repeated: attempt + 1, after a pause

Each attempt carries the same request id, so that a handler can tell a repeat. A completion that comes before the answer
to the start (the handler was quick, or its answer was lost) starts the operation first. Timeouts: schedule-to-close
bounds all, schedule-to-start the wait until the handler has answered, start-to-close an asynchronous operation's run
(temporalio/temporal: components/nexusoperations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from temporalio.api.common.v1 import Link, Payload
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.failure.v1 import (
    CanceledFailureInfo,
    Failure,
    NexusOperationFailureInfo,
    TimeoutFailureInfo,
)
from temporalio.api.history.v1 import (
    HistoryEvent,
    NexusOperationCanceledEventAttributes,
    NexusOperationCompletedEventAttributes,
    NexusOperationFailedEventAttributes,
    NexusOperationStartedEventAttributes,
    NexusOperationTimedOutEventAttributes,
)

from nexuskit.backend.errors import not_found
from nexuskit.backend.history import nexus_cancellation, retry, workflow_task
from nexuskit.backend.history.state import NOTHING, OPERATION, Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import SECOND, moment, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.settings import Limits


class NexusOperation(Row, frozen=True, omit_defaults=True):
    """A pending operation; started once `started_time` is set. The key is its scheduled event's id."""

    kind = "nexus_operation"
    scheduled_id: int
    endpoint: str
    endpoint_id: str
    service: str
    operation: str
    request_id: str
    scheduled_time: int
    ready: int
    """From when on the next attempt may be made."""
    schedule_to_close: int = 0
    schedule_to_start: int = 0
    start_to_close: int = 0
    attempt: int = 1
    last_failure: bytes = b""
    """`Failure` of the attempt before, serialised, cut to its limit."""
    last_attempt_end: int = 0
    started_time: int = 0
    token: str = ""
    awaits: str = ""
    """The task queue that nobody polled, as `polled_queue` writes it; empty if there was somebody. It is in the index,
    so that the first who polls there ends the pause, also after a restart.
    """
    unmade: int = 0
    """Attempts that were not made, because nobody was there to be asked: they lengthen no pause after the others."""
    too_slow: int = 0
    """Attempts that a handler took and did not answer in time."""
    ended: bool = False
    """It stands alone, and is shown though it is over; a workflow's is gone then."""

    def index(self, info: Info) -> Index:
        if self.ended:
            return NOTHING
        due = min(filter(None, (end for end, _ in deadlines(self))), default=0)
        if self.started_time:
            return Index(due=due, stamp=self.attempt)
        return Index(due, Destination(self.kind, info.namespace_id, self.awaits), self.ready, self.attempt)


def polled_queue(namespace_id: str, queue: str) -> str:
    """A task queue of whatever namespace, in one word."""
    return f"{namespace_id}/{queue}"


def deadlines(row: NexusOperation) -> list[tuple[int, int]]:
    """The moments at which this operation times out, 0 for never, each with its `TimeoutType`."""
    close = row.scheduled_time + row.schedule_to_close if row.schedule_to_close else 0
    ends: list[tuple[int, int]] = [(close, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)]
    if row.started_time:
        run = row.started_time + row.start_to_close if row.start_to_close else 0
        ends.append((run, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE))
    else:
        start = row.scheduled_time + row.schedule_to_start if row.schedule_to_start else 0
        ends.append((start, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START))
    return ends


def attempt_until(row: NexusOperation, now: int, limits: Limits) -> tuple[int, int | None]:
    """Until when an attempt that begins now may last, and the `TimeoutType` that leaves it too little time, if any."""
    ends = [(end, kind) for end, kind in deadlines(row) if end]
    until = min([now + limits.NEXUS_REQUEST_TIMEOUT, *(end for end, _ in ends)])
    too_short = bool(ends) and until - now < limits.NEXUS_REQUEST_TIMEOUT_MIN
    return until, min(ends)[1] if too_short else None


class AttemptFailed(Record, frozen=True):
    """The handler could not be asked, or said to ask again."""

    scheduled_id: int
    failure: bytes
    ended: int
    ready: int
    awaits: str = ""
    too_slow: bool = False


# --- what happened


def apply_scheduled(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_scheduled_event_attributes
    time = moment(event.event_time)
    row = NexusOperation(
        scheduled_id=event.event_id,
        endpoint=attributes.endpoint,
        endpoint_id=attributes.endpoint_id,
        service=attributes.service,
        operation=attributes.operation,
        request_id=attributes.request_id,
        scheduled_time=time,
        ready=time,
        schedule_to_close=span(attributes.schedule_to_close_timeout),
        schedule_to_start=span(attributes.schedule_to_start_timeout),
        start_to_close=span(attributes.start_to_close_timeout),
    )
    state.of(NexusOperation).put(event.event_id, row)


def apply_started(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_started_event_attributes
    row = state.of(NexusOperation).get(attributes.scheduled_event_id)
    if row is not None:
        changed = msgspec.structs.replace(
            row,
            started_time=moment(event.event_time),
            token=attributes.operation_token,
            last_failure=b"",
            last_attempt_end=moment(event.event_time),
            ready=0,
            awaits="",
        )
        state.of(NexusOperation).put(row.scheduled_id, changed)
        nexus_cancellation.operation_started(state, row.scheduled_id, changed.started_time)


def apply_cancel_requested(state: Execution, event: HistoryEvent) -> None:
    scheduled_id = event.nexus_operation_cancel_requested_event_attributes.scheduled_event_id
    row = state.of(NexusOperation).get(scheduled_id)
    if row is not None:
        nexus_cancellation.put(state, event, started=bool(row.started_time))


def apply_attempt_failed(state: Execution, record: AttemptFailed) -> None:
    row = state.of(NexusOperation).get(record.scheduled_id)
    if row is not None:
        changed = msgspec.structs.replace(
            row,
            attempt=row.attempt + 1,
            last_failure=record.failure,
            last_attempt_end=record.ended,
            ready=record.ready,
            awaits=record.awaits,
            unmade=row.unmade + bool(record.awaits),
            too_slow=row.too_slow + record.too_slow,
        )
        state.of(NexusOperation).put(row.scheduled_id, changed)


def apply_ended(state: Execution, event: HistoryEvent) -> None:
    """It has completed, failed, timed out or been cancelled: it is pending no more."""
    scheduled_id = of(event)
    state.of(NexusOperation).remove(scheduled_id)
    nexus_cancellation.operation_ended(state, scheduled_id)


def of(event: HistoryEvent) -> int:
    """The scheduled event's id of the operation that an event is about."""
    return getattr(event, event.WhichOneof("attributes") or "").scheduled_event_id


def reapply(tx: Transaction, event: HistoryEvent) -> None:
    """What became of an operation comes again, with a reset to a point at which the operation was under way."""
    name = event.WhichOneof("attributes") or ""
    row = tx.state.of(NexusOperation).get(of(event))
    started = event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED
    if row is not None and not (started and row.started_time):
        tx.add(event.event_type, links=list(event.links), **{name: getattr(event, name)})


# --- what the handler and time say


def find(state: Execution, scheduled_id: int, request_id: str) -> NexusOperation:
    """The pending operation that a completion names.

    Raises:
        StatusError: NOT_FOUND, if it has ended, is another one, or the caller has closed.
    """
    row = state.of(NexusOperation).get(scheduled_id)
    if not state.info.running or row is None or row.request_id != request_id:
        if state.info.archetype == OPERATION:
            raise not_found(f"operation not found: Nexus operation {state.info.workflow_id!r} has ended")
        raise not_found(
            f"operation not found: workflow {state.info.workflow_id!r} has no pending Nexus operation at event"
            f" {scheduled_id}"
        )
    return row


def attempted(state: Execution, scheduled_id: int, attempt: int) -> NexusOperation | None:
    """The operation, if it still waits for the answer of that attempt."""
    row = state.of(NexusOperation).get(scheduled_id)
    if not state.info.running or row is None or row.started_time or row.attempt != attempt:
        return None
    return row


def start(
    tx: Transaction, row: NexusOperation, token: str, links: Sequence[Link], *, at: int = 0, ended: bool = False
) -> None:
    """The handler works on it and will complete it later.

    Args:
        tx: the transaction.
        row: the operation.
        token: names it at its handler.
        links: to the handler's side.
        at: when it started (ns); 0 for now.
        ended: its end follows in the same transaction, and it is that which the workflow is woken for.
    """
    event = HistoryEvent(
        event_type=EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED,
        links=links,
        nexus_operation_started_event_attributes=NexusOperationStartedEventAttributes(
            scheduled_event_id=row.scheduled_id,
            operation_id=token,
            operation_token=token,
            request_id=row.request_id,
        ),
    )
    event.event_time.seconds, event.event_time.nanos = divmod(at or tx.now, SECOND)
    tx.put(event)
    if not ended:
        workflow_task.schedule(tx)


def complete(tx: Transaction, row: NexusOperation, result: Payload | None, links: Sequence[Link] = ()) -> None:
    """It succeeded."""
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
        links=list(links),
        nexus_operation_completed_event_attributes=NexusOperationCompletedEventAttributes(
            scheduled_event_id=row.scheduled_id, result=result, request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def fail(tx: Transaction, row: NexusOperation, cause: Failure, *, at_once: bool = False) -> None:
    """It failed for good, because of `cause`; `at_once`: while the commands that scheduled it are carried out."""
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
        later=at_once,
        nexus_operation_failed_event_attributes=NexusOperationFailedEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )
    if not at_once:  # else the events that wait are given their places, and a task with them
        workflow_task.schedule(tx)


def cancel(tx: Transaction, row: NexusOperation, cause: Failure) -> None:
    """It was cancelled, as `cause` says."""
    if not cause.HasField("canceled_failure_info"):
        cause = Failure(
            message=cause.message,
            stack_trace=cause.stack_trace,
            canceled_failure_info=CanceledFailureInfo(),
            cause=cause.cause if cause.HasField("cause") else None,
        )
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
        nexus_operation_canceled_event_attributes=NexusOperationCanceledEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def attempt_failed(
    tx: Transaction, row: NexusOperation, failure: Failure, awaits: str = "", *, too_slow: bool = False
) -> None:
    """The attempt failed and may be repeated: the next one waits its pause out, for ever if it must.

    Args:
        tx: the transaction.
        row: the operation.
        failure: why.
        awaits: the queue that nobody polls, as `polled_queue` writes it.
        too_slow: a handler took it and did not answer in time.
    """
    before = row.unmade if awaits else row.attempt - 1 - row.unmade
    pause = retry.doubling(tx.limits.NEXUS_RETRY_INTERVAL, tx.limits.NEXUS_RETRY_INTERVAL_MAX, before + 1)
    ready = tx.now + tx.draw.jitter(pause)
    tx.note(AttemptFailed(row.scheduled_id, failure.SerializeToString(), tx.now, ready, awaits, too_slow))


def time_out(tx: Transaction, row: NexusOperation, kind: int) -> None:
    """One of its timeouts is over."""
    cause = Failure(
        message="operation timed out",
        timeout_failure_info=TimeoutFailureInfo(timeout_type=TimeoutType.ValueType(kind)),
    )
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT,
        nexus_operation_timed_out_event_attributes=NexusOperationTimedOutEventAttributes(
            scheduled_event_id=row.scheduled_id, failure=_failure(row, cause), request_id=row.request_id
        ),
    )
    workflow_task.schedule(tx)


def due(tx: Transaction, row: NexusOperation) -> None:
    """Its time has come."""
    over = [(end, kind) for end, kind in deadlines(row) if end and end <= tx.now]
    if over and tx.state.info.running:
        time_out(tx, row, min(over)[1])


def _failure(row: NexusOperation, cause: Failure) -> Failure:
    return Failure(
        message="nexus operation completed unsuccessfully",
        nexus_operation_execution_failure_info=NexusOperationFailureInfo(
            scheduled_event_id=row.scheduled_id,
            endpoint=row.endpoint,
            service=row.service,
            operation=row.operation,
            operation_id=row.token,
            operation_token=row.token,
        ),
        cause=cause,
    )
