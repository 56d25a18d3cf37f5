"""A timer of a workflow.

nothing ── start ──> PENDING ── its time comes, or it is cancelled ──> nothing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import (
    HistoryEvent,
    TimerCanceledEventAttributes,
    TimerFiredEventAttributes,
    TimerStartedEventAttributes,
)

from nexuskit.backend.history import buffer, workflow_task
from nexuskit.backend.history.command import CommandError, check_given, check_id, check_timeout
from nexuskit.backend.history.state import Index, Info, Row
from nexuskit.backend.times import moment, span

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD_START = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_TIMER_ATTRIBUTES
_BAD_CANCEL = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_TIMER_ATTRIBUTES


class Timer(Row, frozen=True):
    """A pending timer. The key is the timer's id."""

    kind = "timer"
    timer_id: str
    started_id: int
    fires: int
    """When (ns)."""

    def index(self, info: Info) -> Index:
        return Index(due=self.fires, stamp=self.started_id)


def apply_started(state: Execution, event: HistoryEvent) -> None:
    attributes = event.timer_started_event_attributes
    row = Timer(
        timer_id=attributes.timer_id,
        started_id=event.event_id,
        fires=moment(event.event_time) + span(attributes.start_to_fire_timeout),
    )
    state.of(Timer).put(row.timer_id, row)


def apply_fired(state: Execution, event: HistoryEvent) -> None:
    attributes = event.timer_fired_event_attributes
    row = state.of(Timer).get(attributes.timer_id)
    # While the event waited for its place in history, the workflow may have started another timer of the same id.
    if row is not None and row.started_id == attributes.started_event_id:
        state.of(Timer).remove(attributes.timer_id)


def apply_cancelled(state: Execution, event: HistoryEvent) -> None:
    timer_id = event.timer_canceled_event_attributes.timer_id
    if state.of(Timer).get(timer_id) is not None:  # it may have fired, and the event been withdrawn
        state.of(Timer).remove(timer_id)


def start(tx: Transaction, command: Command, completed_id: int) -> None:
    """StartTimer."""
    check_given(_BAD_START, command)
    attributes = command.start_timer_command_attributes
    check_id(_BAD_START, "TimerId", "StartTimerCommand", attributes.timer_id, tx.limits)
    before, after = "An invalid StartToFireTimeout is set on StartTimerCommand", f" TimerId={attributes.timer_id}"
    check_timeout(_BAD_START, before, attributes.start_to_fire_timeout, after=after)
    if tx.state.of(Timer).get(attributes.timer_id) is not None:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_START_TIMER_DUPLICATE_ID
        raise CommandError(cause, f"TimerId {attributes.timer_id!r} is already in use by a pending timer.")
    tx.add(
        EventType.EVENT_TYPE_TIMER_STARTED,
        timer_started_event_attributes=TimerStartedEventAttributes(
            timer_id=attributes.timer_id,
            start_to_fire_timeout=attributes.start_to_fire_timeout,
            workflow_task_completed_event_id=completed_id,
        ),
    )


def cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """CancelTimer. A timer that fired while the workflow's task was under way is taken back before history sees it."""
    check_given(_BAD_CANCEL, command)
    timer_id = command.cancel_timer_command_attributes.timer_id
    check_id(_BAD_CANCEL, "TimerId", "CancelTimerCommand", timer_id, tx.limits)
    row = tx.state.of(Timer).get(timer_id)
    if row is not None:
        started_id = row.started_id
    else:
        fired = buffer.withdraw(tx, lambda event: event.timer_fired_event_attributes.timer_id == timer_id)
        if fired is None:
            raise CommandError(_BAD_CANCEL, f"TimerId {timer_id!r} names no pending timer.")
        started_id = fired.timer_fired_event_attributes.started_event_id
    tx.add(
        EventType.EVENT_TYPE_TIMER_CANCELED,
        timer_canceled_event_attributes=TimerCanceledEventAttributes(
            timer_id=timer_id,
            started_event_id=started_id,
            workflow_task_completed_event_id=completed_id,
            identity=_worker(tx, completed_id),
        ),
    )


def _worker(tx: Transaction, completed_id: int) -> str:
    """Who completed the workflow task that brings the command."""
    task = next(event for event in tx.events if event.event_id == completed_id)
    return task.workflow_task_completed_event_attributes.identity


def due(tx: Transaction, row: Timer) -> None:
    """Its time has come: the workflow is told."""
    if row.fires > tx.now or not tx.state.info.running:
        return
    tx.add(
        EventType.EVENT_TYPE_TIMER_FIRED,
        timer_fired_event_attributes=TimerFiredEventAttributes(timer_id=row.timer_id, started_event_id=row.started_id),
    )
    workflow_task.schedule(tx)
