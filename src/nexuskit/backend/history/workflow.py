"""How a run ends.

    RUNNING ── complete, fail, cancel, continue as new, its time is over, terminate ──> CLOSED

A closed run accepts nothing. Its pending things are gone with it, all but what others wait for: its callbacks are to be
delivered, its parent is to be told, and its children are to be ended as their parent close policy says. Another run may
follow it (see `chain`): then callbacks and parent wait for the end of that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import Link, Payloads
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType, WorkflowExecutionStatus, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import CanceledFailureInfo, Failure, TimeoutFailureInfo
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionTerminatedEventAttributes,
    WorkflowExecutionTimedOutEventAttributes,
)

from nexuskit.backend.history import callback, chain, child, workflow_task
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.command import CommandError, check_given, check_payloads
from nexuskit.backend.history.identities import RESETTER
from nexuskit.backend.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.start import RunDeadline
    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD_COMPLETE = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES
_BAD_FAIL = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES


class Outcome(NamedTuple):
    """How a run ended, for whoever waits for it.

    Attributes:
        status: a `WorkflowExecutionStatus`.
        result: of a completed run.
        failure: of a failed or cancelled one.
    """

    status: int
    result: Payloads | None = None
    failure: Failure | None = None


# --- what happened


def apply_closed(state: Execution, event: HistoryEvent) -> None:
    """The run has ended, one way or another."""
    info = state.info
    info.status = int(CLOSED_BY[event.event_type])
    info.close_time = moment(event.event_time)
    info.close_event_id = event.event_id
    info.new_run_id = successor_of(event)
    left = info.was_reset and event.workflow_execution_terminated_event_attributes.identity == RESETTER
    if not (left and info.reset_run_id):
        child.apply_parent_closed(state, info.close_time)
    for _, key, row in list(state.rows()):
        if not row.outlives or row.volatile:
            state.of(type(row)).remove(key)
    if info.new_run_id or left:
        callback.apply_handed_on(state, info.close_time, reset=left)
    else:
        callback.apply_closed(state, info.close_time)
        child.apply_child_closed(state, info.close_time)


CLOSED_BY = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: (
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
    ),
}
"""Event that closes a run → the status it leaves."""


def successor_of(close_event: HistoryEvent) -> str:
    """The run id of the run that goes on; empty if the chain ends here."""
    attributes = getattr(close_event, close_event.WhichOneof("attributes") or "", None)
    return getattr(attributes, "new_execution_run_id", "")


# --- what is to be done


def complete(tx: Transaction, command: Command, completed_id: int) -> None:
    """CompleteWorkflowExecution."""
    check_given(_BAD_COMPLETE, command)
    attributes = command.complete_workflow_execution_command_attributes
    check_payloads(_BAD_COMPLETE, "CompleteWorkflowExecutionCommandAttributes.Result", attributes.result, tx.limits)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        workflow_execution_completed_event_attributes=WorkflowExecutionCompletedEventAttributes(
            result=attributes.result if attributes.HasField("result") else None,
            workflow_task_completed_event_id=completed_id,
            new_execution_run_id=chain.after_completion(tx, attributes.result),
        ),
    )


def fail(tx: Transaction, command: Command, completed_id: int) -> None:
    """FailWorkflowExecution."""
    check_given(_BAD_FAIL, command)
    attributes = command.fail_workflow_execution_command_attributes
    if not attributes.HasField("failure"):
        raise CommandError(_BAD_FAIL, "Failure is not set on FailWorkflowExecutionCommand.")
    check_payloads(_BAD_FAIL, "FailWorkflowExecutionCommandAttributes.Failure", attributes.failure, tx.limits)
    cut_causes(attributes.failure, tx.limits)
    new_run_id, retry_state = chain.after_failure(tx, attributes.failure)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        workflow_execution_failed_event_attributes=WorkflowExecutionFailedEventAttributes(
            failure=attributes.failure,
            retry_state=RetryState.ValueType(retry_state),
            workflow_task_completed_event_id=completed_id,
            new_execution_run_id=new_run_id,
        ),
    )


def terminate(
    tx: Transaction, reason: str, identity: str, details: Payloads | None = None, links: Sequence[Link] = ()
) -> None:
    """The run is ended, whatever its code would say."""
    workflow_task.force_close(tx)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        links=list(links),
        workflow_execution_terminated_event_attributes=WorkflowExecutionTerminatedEventAttributes(
            reason=reason, details=details, identity=identity
        ),
    )


def due(tx: Transaction, row: RunDeadline) -> None:
    """The run's time is over: a retry policy or a cron schedule may ask for another one."""
    if row.at > tx.now or not tx.state.info.running:
        return
    timeout = TimeoutFailureInfo(timeout_type=TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
    failure = Failure(message="workflow timeout", source="Server", timeout_failure_info=timeout)
    expires = tx.state.info.execution_expiration
    if expires and expires <= tx.now:
        new_run_id, retry_state = "", int(RetryState.RETRY_STATE_TIMEOUT)
    else:
        new_run_id, retry_state = chain.after_failure(tx, failure)
    workflow_task.force_close(tx)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        workflow_execution_timed_out_event_attributes=WorkflowExecutionTimedOutEventAttributes(
            retry_state=RetryState.ValueType(retry_state), new_execution_run_id=new_run_id
        ),
    )


def outcome(close_event: HistoryEvent) -> Outcome:
    """How the run ended, from the event that closed it."""
    status = int(CLOSED_BY[close_event.event_type])
    if close_event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        return Outcome(status, result=close_event.workflow_execution_completed_event_attributes.result)
    if close_event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return Outcome(status, failure=close_event.workflow_execution_failed_event_attributes.failure)
    if close_event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
        details = close_event.workflow_execution_canceled_event_attributes.details
        info = CanceledFailureInfo(details=details if details.payloads else None)
        return Outcome(status, failure=Failure(message="operation canceled", canceled_failure_info=info))
    return Outcome(status)
