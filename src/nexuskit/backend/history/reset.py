"""A reset: a new run that has the history of another one up to one of its workflow tasks, and goes on from there anew.

The base run's events are copied and applied again, which gives all that history determines. The workflow task is failed
with the cause RESET_WORKFLOW, so that workers throw away what they remember; activities that were under way start anew.
The new run is given, too, what came after the point of the reset: signals, updates that were accepted, and what became
of children and Nexus operations that were pending then
(temporalio/temporal: service/history/ndc/workflow_resetter.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure, ResetWorkflowFailureInfo
from temporalio.api.history.v1 import WorkflowTaskFailedEventAttributes

from nexuskit.backend.errors import invalid_argument, invariant
from nexuskit.backend.history import (
    attach,
    callback,
    child,
    nexus_operation,
    signal,
    start,
    update,
    workflow,
    workflow_task,
)
from nexuskit.backend.history.activity import Activity
from nexuskit.backend.history.identities import RESETTER, SERVER
from nexuskit.backend.history.transaction import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.history.signal import Signal
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction


_NEXUS = frozenset(
    {
        EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
        EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT,
    }
)
_CHILD = frozenset(
    {
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
    }
)
_REAPPLIED = dict.fromkeys(_CHILD, child.reapply) | dict.fromkeys(_NEXUS, nexus_operation.reapply)
"""What became of things that were pending at the point of the reset → who says it to the new run."""


class Rebuild(NamedTuple):
    """What the new run is made of.

    Attributes:
        base_run_id: the run that is reset.
        later: what the chain's histories hold after that point.
        signals: what the new run is sent besides.
        reapply_signals: whether the signals among `later` are given to the new run.
        reapply_updates: whether the updates among `later` are.
        reapply_nexus: whether what became of Nexus operations is.
        request_id: the request for the reset.
        reason: why.
    """

    base_run_id: str
    later: Sequence[HistoryEvent]
    signals: Sequence[Signal]
    reapply_signals: bool
    reapply_updates: bool
    reapply_nexus: bool
    request_id: str
    reason: str


class WasReset(Record, frozen=True):
    """Another run goes on: `run_id`, from a point of this one; or, if that is empty, from a point of an earlier one."""

    run_id: str


class Rebuilt(Record, frozen=True):
    """The run came about by a reset; activities that were under way start anew."""

    request_id: str
    time: int


# --- what happened


def apply_was_reset(state: Execution, record: WasReset) -> None:
    state.info.was_reset = True
    state.info.reset_run_id = record.run_id or state.info.reset_run_id


def apply_rebuilt(state: Execution, record: Rebuilt) -> None:
    state.info.reset_request_id = record.request_id
    state.info.reset_time = record.time
    table = state.of(Activity)
    for key, row in list(table.items()):
        table.put(key, msgspec.structs.replace(row, scheduled_time=record.time, attempt_time=record.time))
    callbacks = state.of(callback.Callback)
    for number, told in callbacks.items():
        if told.state != callback.State.STANDBY:  # by the base run, when an update completed there
            callbacks.remove(number)


# --- what is to be done


def copy(tx: Transaction, events: Sequence[HistoryEvent], start_request_id: str) -> None:
    """The next events of the run that is reset, up to the workflow task at which the new run goes on.

    Args:
        tx: a transaction of the new run, of which nothing is known but its ids and what was copied before.
        events: the events, in order; the first ever is the started one.
        start_request_id: the request that started the run.
    """
    for event in events:
        tx.copy(event)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            tx.note(start.Requested(start_request_id))
            for each in event.workflow_execution_started_event_attributes.completion_callbacks:
                tx.note(callback.Registered(each.SerializeToString(), start_request_id, tx.now))


def rebuild(tx: Transaction, made_of: Rebuild) -> None:
    """The new run goes on from where its copied history ends.

    Raises:
        StatusError: INVALID_ARGUMENT, if that is not within a workflow task.
    """
    info = tx.state.info
    task = workflow_task.current(tx.state)
    if task is None:
        raise invalid_argument(
            "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]:"
            f" {info.next_event_id}"
        )
    if not task.started:
        workflow_task.start(tx, workflow_task.Start(task.stamp, SERVER))
        task = workflow_task.current(tx.state)
    invariant(task is not None, "a task that was started is there")
    if task is not None:
        tx.add(
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
            workflow_task_failed_event_attributes=WorkflowTaskFailedEventAttributes(
                scheduled_event_id=task.scheduled_id,
                started_event_id=task.started_id,
                cause=WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
                failure=Failure(message=made_of.reason, reset_workflow_failure_info=ResetWorkflowFailureInfo()),
                identity=SERVER,
                base_run_id=made_of.base_run_id,
                new_run_id=info.run_id,
            ),
        )
    tx.note(Rebuilt(made_of.request_id, tx.now))
    continued = False
    for event in made_of.later:
        if event.event_type in _REAPPLIED and not continued:  # they name events of the run that they are of
            if event.event_type not in _NEXUS or made_of.reapply_nexus:
                _REAPPLIED[event.event_type](tx, event)
        else:
            _reapply(tx, event, made_of)
        continued = continued or event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    for sent in made_of.signals:
        signal.take(tx, sent, wake=signal.Wake.NOT)
    workflow_task.schedule(tx)


def _reapply(tx: Transaction, event: HistoryEvent, made_of: Rebuild) -> None:
    """What came after the point of the reset and came from outside comes again."""
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED and made_of.reapply_signals:
        given = event.workflow_execution_signaled_event_attributes
        again = signal.Signal(
            name=given.signal_name,
            input=given.input if given.HasField("input") else None,
            header=given.header if given.HasField("header") else None,
            identity=given.identity,
            request_id=given.request_id,
            links=list(event.links),
            sender=given.external_workflow_execution if given.HasField("external_workflow_execution") else None,
        )
        signal.take(tx, again, wake=signal.Wake.NOT)
    elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED and made_of.reapply_updates:
        update.reapply(tx, event.workflow_execution_update_admitted_event_attributes.request)
    elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED and made_of.reapply_updates:
        accepted = event.workflow_execution_update_accepted_event_attributes
        if accepted.HasField("accepted_request"):  # if not, the event that admitted it has the request
            update.reapply(tx, accepted.accepted_request)
    elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED:
        options = event.workflow_execution_options_updated_event_attributes
        attach.attach(
            tx,
            options.attached_request_id,
            list(options.attached_completion_callbacks),
            list(event.links),
        )


def leave(tx: Transaction, run_id: str, reason: str) -> None:
    """Another run goes on: this one ends, if it is open.

    Args:
        tx: the transaction.
        run_id: the new run, if it has the history of this one; empty if it has that of an earlier run of the chain.
        reason: why.
    """
    if run_id or tx.state.info.running:
        tx.note(WasReset(run_id))
    if tx.state.info.running:
        workflow.terminate(tx, reason, RESETTER)
