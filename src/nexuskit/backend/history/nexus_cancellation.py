"""The cancellation of a Nexus operation: its workflow wants it to stop, and its handler is to be told.

    UNSPECIFIED ── the operation has started ──> SCHEDULED ── its handler has been told ──> SUCCEEDED
                                                    │ ^  └── it cannot be told ───────────> FAILED
                                                    └─┘ the attempt failed: BACKING_OFF for a pause, then once more

A handler knows an operation by the token with which it answered the start, so a cancellation that is asked for before
that is kept until the token is there. To be told is not to have stopped: how the operation ends is for its handler to
say, and the row goes when the operation's does (temporalio/temporal: components/nexusoperations/statemachine.go).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import (
    HistoryEvent,
    NexusOperationCancelRequestCompletedEventAttributes,
    NexusOperationCancelRequestFailedEventAttributes,
)

from nexuskit.backend.history import retry, workflow_task
from nexuskit.backend.history.state import NOTHING, Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import moment

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


class State(IntEnum):
    """Where it stands; the numbers are those of `temporal.api.enums.v1.NexusOperationCancellationState`."""

    UNSPECIFIED = 0
    SCHEDULED = 1
    BACKING_OFF = 2
    SUCCEEDED = 3
    FAILED = 4


class NexusCancellation(Row, frozen=True, omit_defaults=True):
    """The cancellation of one operation. The key is the operation's: its scheduled event's id."""

    kind = "nexus_cancellation"
    scheduled_id: int
    requested_id: int
    """The event by which the workflow asked for it."""
    requested_time: int
    state: State = State.UNSPECIFIED
    ready: int = 0
    """From when on the next attempt may be made."""
    attempt: int = 0
    """How many attempts have ended."""
    last_failure: bytes = b""
    """`Failure` of the attempt before, serialised, cut to its limit."""
    last_attempt_end: int = 0
    awaits: str = ""
    """The task queue that nobody polled, as `nexus_operation.polled_queue` writes it; empty if there was somebody."""
    unmade: int = 0
    """Attempts that were not made, because nobody was there to be told: they lengthen no pause after the others."""
    ended: bool = False
    """Its operation stands alone, and both are shown though they are over; a workflow's are gone then."""

    def index(self, info: Info) -> Index:
        if self.ended or self.state not in (State.SCHEDULED, State.BACKING_OFF):
            return NOTHING
        # Numbers of attempts begin at 0 here, and a stamp of 0 is a stamp like any other.
        return Index(0, Destination(self.kind, info.namespace_id, self.awaits), self.ready, self.attempt)


class AttemptFailed(Record, frozen=True):
    """The handler could not be told, or said to tell it again."""

    scheduled_id: int
    failure: bytes
    ended: int
    ready: int
    awaits: str = ""


# --- what happened


def put(state: Execution, event: HistoryEvent, *, started: bool) -> None:
    """The workflow asked for it; `started`: the operation has its token already."""
    scheduled_id = event.nexus_operation_cancel_requested_event_attributes.scheduled_event_id
    row = NexusCancellation(scheduled_id, event.event_id, moment(event.event_time))
    state.of(NexusCancellation).put(scheduled_id, row)
    if started:
        operation_started(state, scheduled_id, row.requested_time)


def operation_started(state: Execution, scheduled_id: int, time: int) -> None:
    """The operation has its token: a cancellation that waited for it can be sent."""
    row = state.of(NexusCancellation).get(scheduled_id)
    if row is not None:
        scheduled = msgspec.structs.replace(row, state=State.SCHEDULED, ready=time)
        state.of(NexusCancellation).put(scheduled_id, scheduled)


def operation_ended(state: Execution, scheduled_id: int) -> None:
    """The operation is over, and nobody is to be told any more."""
    if state.of(NexusCancellation).get(scheduled_id) is not None:
        state.of(NexusCancellation).remove(scheduled_id)


def operation_closed(state: Execution, scheduled_id: int) -> None:
    """The operation, which stands alone, is over: nobody is to be told any more, and it is shown how far that came."""
    row = state.of(NexusCancellation).get(scheduled_id)
    if row is not None:
        state.of(NexusCancellation).put(scheduled_id, msgspec.structs.replace(row, ended=True, awaits=""))


def apply_attempt_failed(state: Execution, record: AttemptFailed) -> None:
    row = state.of(NexusCancellation).get(record.scheduled_id)
    if row is not None:
        changed = msgspec.structs.replace(
            row,
            state=State.BACKING_OFF,
            ready=record.ready,
            attempt=row.attempt + 1,
            last_failure=record.failure,
            last_attempt_end=record.ended,
            awaits=record.awaits,
            unmade=row.unmade + bool(record.awaits),
        )
        state.of(NexusCancellation).put(record.scheduled_id, changed)


def apply_completed(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_cancel_request_completed_event_attributes
    _end(state, attributes.scheduled_event_id, State.SUCCEEDED, b"", moment(event.event_time))


def apply_failed(state: Execution, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_cancel_request_failed_event_attributes
    failure = attributes.failure.SerializeToString()
    _end(state, attributes.scheduled_event_id, State.FAILED, failure, moment(event.event_time))


def _end(state: Execution, scheduled_id: int, how: State, failure: bytes, time: int) -> None:
    row = state.of(NexusCancellation).get(scheduled_id)
    if row is not None:
        ended = msgspec.structs.replace(
            row, state=how, ready=0, attempt=row.attempt + 1, last_failure=failure, last_attempt_end=time, awaits=""
        )
        state.of(NexusCancellation).put(scheduled_id, ended)


# --- what the handler says


def attempted(state: Execution, scheduled_id: int, attempt: int) -> NexusCancellation | None:
    """The cancellation, if it still waits for the answer of that attempt."""
    row = state.of(NexusCancellation).get(scheduled_id)
    if not state.info.running or row is None or row.attempt != attempt:
        return None
    return row if row.state in (State.SCHEDULED, State.BACKING_OFF) else None


def complete(tx: Transaction, row: NexusCancellation) -> None:
    """The handler has been told."""
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED,
        worker_may_ignore=True,
        nexus_operation_cancel_request_completed_event_attributes=NexusOperationCancelRequestCompletedEventAttributes(
            scheduled_event_id=row.scheduled_id, requested_event_id=row.requested_id
        ),
    )
    workflow_task.schedule(tx)


def fail(tx: Transaction, row: NexusCancellation, failure: Failure) -> None:
    """The handler cannot be told, or will not hear of it. The operation goes on."""
    tx.add(
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED,
        worker_may_ignore=True,
        nexus_operation_cancel_request_failed_event_attributes=NexusOperationCancelRequestFailedEventAttributes(
            scheduled_event_id=row.scheduled_id, requested_event_id=row.requested_id, failure=failure
        ),
    )
    workflow_task.schedule(tx)


def attempt_failed(tx: Transaction, row: NexusCancellation, failure: Failure, awaits: str = "") -> None:
    """The attempt failed and may be repeated, with the pauses of starts."""
    before = row.unmade if awaits else row.attempt - row.unmade
    pause = retry.doubling(tx.limits.NEXUS_RETRY_INTERVAL, tx.limits.NEXUS_RETRY_INTERVAL_MAX, before + 1)
    ready = tx.now + tx.draw.jitter(pause)
    tx.note(AttemptFailed(row.scheduled_id, failure.SerializeToString(), tx.now, ready, awaits))
