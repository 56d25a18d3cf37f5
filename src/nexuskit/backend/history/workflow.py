"""A run as a whole: how it starts, and how it ends.

    nothing ── start ──> RUNNING ── complete, fail, its time is over, terminate ──> CLOSED

A closed run accepts nothing. Its pending things are gone with it, all but the callbacks, which now are to be delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    RetryState,
    TaskQueueKind,
    WorkflowExecutionStatus,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionStartedEventAttributes,
    WorkflowExecutionTerminatedEventAttributes,
    WorkflowExecutionTimedOutEventAttributes,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend import limits
from nexuskit.backend.errors import invariant
from nexuskit.backend.history import callback, workflow_task
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.command import CommandError, check_payloads
from nexuskit.backend.history.state import Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import duration, moment, span, timestamp

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command
    from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD_COMPLETE = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_COMPLETE_WORKFLOW_EXECUTION_ATTRIBUTES
_BAD_FAIL = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_FAIL_WORKFLOW_EXECUTION_ATTRIBUTES

ONLY = 0
"""The key of the one `RunDeadline`."""


class RunDeadline(Row, frozen=True):
    """When the run's time is over."""

    kind = "run_deadline"
    at: int

    def index(self, info: Info) -> Index:
        return Index(due=self.at)


class Outcome(NamedTuple):
    """How a run ended, for whoever waits for it.

    Attributes:
        status: a `WorkflowExecutionStatus`.
        result: of a completed run.
        failure: of a failed one.
    """

    status: int
    result: Payloads | None = None
    failure: Failure | None = None


class Requested(Record, frozen=True):
    """The request that starts the run; history does not hold its id."""

    request_id: str


# --- what happened


def apply_requested(state: Execution, record: Requested) -> None:
    state.info.start_request_id = record.request_id


def apply_started(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_started_event_attributes
    info = state.info
    info.workflow_type = attributes.workflow_type.name
    info.task_queue = attributes.task_queue.name
    info.start_time = moment(event.event_time)
    info.execution_timeout = span(attributes.workflow_execution_timeout)
    info.run_timeout = span(attributes.workflow_run_timeout)
    info.task_timeout = span(attributes.workflow_task_timeout)
    info.execution_expiration = moment(attributes.workflow_execution_expiration_time)
    info.first_run_id = attributes.first_execution_run_id
    info.attempt = attributes.attempt
    info.memo = attributes.memo.SerializeToString()
    info.search_attributes = attributes.search_attributes.SerializeToString()
    info.priority = attributes.priority.SerializeToString()
    info.user_metadata = event.user_metadata.SerializeToString()
    if info.run_deadline:
        state.of(RunDeadline).put(ONLY, RunDeadline(info.run_deadline))


def apply_closed(state: Execution, event: HistoryEvent) -> None:
    """The run has ended, one way or another."""
    info = state.info
    info.status = int(CLOSED_BY[event.event_type])
    info.close_time = moment(event.event_time)
    info.close_event_id = event.event_id
    for kind, key, row in list(state.rows()):
        if kind != callback.Callback.kind:
            state.of(type(row)).remove(key)
    callback.apply_closed(state, info.close_time)


CLOSED_BY = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
}
"""Event that closes a run → the status it leaves."""


# --- what is to be done


def start(tx: Transaction, request: StartWorkflowExecutionRequest) -> None:
    """A new run begins, on an execution of which nothing is known but its ids. The request has been checked."""
    info = tx.state.info
    invariant(info.next_event_id == 1, "a run starts once")
    execution_timeout = span(request.workflow_execution_timeout)
    run_timeout = span(request.workflow_run_timeout) or execution_timeout
    if execution_timeout:
        run_timeout = min(run_timeout, execution_timeout)
    expiration = tx.now + execution_timeout if execution_timeout else 0
    task_timeout = min(
        span(request.workflow_task_timeout) or limits.WORKFLOW_TASK_TIMEOUT, limits.WORKFLOW_TASK_TIMEOUT_MAX
    )
    if run_timeout:
        task_timeout = min(task_timeout, run_timeout)
    tx.note(Requested(request.request_id))
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        links=list(request.links),
        user_metadata=request.user_metadata if request.HasField("user_metadata") else None,
        workflow_execution_started_event_attributes=WorkflowExecutionStartedEventAttributes(
            workflow_type=request.workflow_type,
            task_queue=TaskQueue(name=request.task_queue.name, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
            input=request.input if request.HasField("input") else None,
            workflow_execution_timeout=duration(execution_timeout),
            workflow_run_timeout=duration(run_timeout),
            workflow_task_timeout=duration(task_timeout),
            original_execution_run_id=info.run_id,
            identity=request.identity,
            first_execution_run_id=info.run_id,
            attempt=1,
            workflow_execution_expiration_time=timestamp(expiration),
            memo=request.memo if request.HasField("memo") else None,
            search_attributes=request.search_attributes if request.HasField("search_attributes") else None,
            header=request.header if request.HasField("header") else None,
            workflow_id=info.workflow_id,
            completion_callbacks=request.completion_callbacks,
            root_workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
            priority=request.priority if request.HasField("priority") else None,
        ),
    )
    for each in request.completion_callbacks:
        tx.note(callback.Registered(each.SerializeToString(), request.request_id, tx.now))
    workflow_task.schedule(tx)


def complete(tx: Transaction, command: Command, completed_id: int) -> None:
    """CompleteWorkflowExecution."""
    attributes = command.complete_workflow_execution_command_attributes
    check_payloads(_BAD_COMPLETE, "CompleteWorkflowExecutionCommandAttributes.Result", attributes.result)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        workflow_execution_completed_event_attributes=WorkflowExecutionCompletedEventAttributes(
            result=attributes.result if attributes.HasField("result") else None,
            workflow_task_completed_event_id=completed_id,
        ),
    )


def fail(tx: Transaction, command: Command, completed_id: int) -> None:
    """FailWorkflowExecution."""
    attributes = command.fail_workflow_execution_command_attributes
    if not attributes.HasField("failure"):
        raise CommandError(_BAD_FAIL, "Failure is not set on FailWorkflowExecutionCommand.")
    check_payloads(_BAD_FAIL, "FailWorkflowExecutionCommandAttributes.Failure", attributes.failure)
    cut_causes(attributes.failure)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        workflow_execution_failed_event_attributes=WorkflowExecutionFailedEventAttributes(
            failure=attributes.failure,
            retry_state=RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET,
            workflow_task_completed_event_id=completed_id,
        ),
    )


def terminate(tx: Transaction, reason: str, identity: str) -> None:
    """The run is ended, whatever its code would say."""
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        workflow_execution_terminated_event_attributes=WorkflowExecutionTerminatedEventAttributes(
            reason=reason, identity=identity
        ),
    )


def due(tx: Transaction, row: RunDeadline) -> None:
    """The run's time is over."""
    if row.at > tx.now or not tx.state.info.running:
        return
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        workflow_execution_timed_out_event_attributes=WorkflowExecutionTimedOutEventAttributes(
            retry_state=RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET
        ),
    )


def outcome(close_event: HistoryEvent) -> Outcome:
    """How the run ended, from the event that closed it."""
    status = int(CLOSED_BY[close_event.event_type])
    if close_event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        return Outcome(status, result=close_event.workflow_execution_completed_event_attributes.result)
    if close_event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return Outcome(status, failure=close_event.workflow_execution_failed_event_attributes.failure)
    return Outcome(status)
