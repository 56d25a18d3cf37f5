"""A child workflow, as its parent's history keeps it, and what binds the two when either of them closes.

    INITIATED ── the child is started ──> STARTED ── the child closes ──> nothing
        └── it cannot be started ──> nothing

A child is started by an effect (see `nexuskit.backend.transfers.children`), and so is everything else here that touches
two runs: the parent is told of the child's end (`Report`), the child is ended or cancelled with its parent (`Orphan`).
Both sides are always in one commit. A parent that continues as new has closed, too: its children are treated likewise
(temporalio/temporal: service/history/transfer_queue_active_task_executor.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from temporalio.api.common.v1 import WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    EventType,
    ParentClosePolicy,
    RetryState,
    StartChildWorkflowExecutionFailedCause,
    TaskQueueKind,
    WorkflowIdReusePolicy,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import (
    ChildWorkflowExecutionCanceledEventAttributes,
    ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes,
    ChildWorkflowExecutionStartedEventAttributes,
    ChildWorkflowExecutionTerminatedEventAttributes,
    ChildWorkflowExecutionTimedOutEventAttributes,
    HistoryEvent,
    StartChildWorkflowExecutionFailedEventAttributes,
    StartChildWorkflowExecutionInitiatedEventAttributes,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import start, workflow_task
from nexuskit.backend.history.attributes import check as check_attributes
from nexuskit.backend.history.command import (
    CommandError,
    check_given,
    check_id,
    check_payloads,
    check_queue,
    check_timeout,
    own_namespace,
)
from nexuskit.backend.history.state import Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import Header

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_START_CHILD_EXECUTION_ATTRIBUTES
_COMMAND = "StartChildWorkflowExecutionCommand"
ONLY = 0
"""The key of the one `Report`."""


class Child(Row, frozen=True, omit_defaults=True):
    """A pending child; started once `run_id` is set. The key is its initiated event's id."""

    kind = "child"
    initiated_id: int
    namespace: str
    namespace_id: str
    workflow_id: str
    workflow_type: str
    policy: int
    """A `ParentClosePolicy`."""
    run_id: str = ""
    """The first run of its chain."""
    started_id: int = 0

    def index(self, info: Info) -> Index:
        if self.run_id:
            return Index(stamp=1)
        return Index(0, Destination(self.kind, info.namespace_id))


class Orphan(Row, frozen=True):
    """A child that is to be ended or cancelled because its parent has closed. The key is its initiated event."""

    kind = "orphan"
    outlives = True
    initiated_id: int
    workflow_id: str
    run_id: str
    policy: int
    ready: int

    def index(self, info: Info) -> Index:
        return Index(0, Destination(self.kind, info.namespace_id), self.ready)


class Report(Row, frozen=True):
    """This run was a child, and its parent is to be told how it ended."""

    kind = "report"
    outlives = True
    ready: int

    def index(self, info: Info) -> Index:
        return Index(0, Destination(self.kind, info.namespace_id), self.ready)


class Reported(Record, frozen=True):
    """The parent was told, or is gone."""


class Treated(Record, frozen=True):
    """The child was ended or cancelled with its parent, or is gone."""

    initiated_id: int


# --- what happened


def apply_initiated(state: Execution, event: HistoryEvent) -> None:
    attributes = event.start_child_workflow_execution_initiated_event_attributes
    row = Child(
        initiated_id=event.event_id,
        namespace=attributes.namespace,
        namespace_id=attributes.namespace_id,
        workflow_id=attributes.workflow_id,
        workflow_type=attributes.workflow_type.name,
        policy=int(attributes.parent_close_policy),
    )
    state.of(Child).put(event.event_id, row)


def apply_started(state: Execution, event: HistoryEvent) -> None:
    """The child runs; the event has no id yet if it waits for the workflow task in flight (see `apply_placed`)."""
    attributes = event.child_workflow_execution_started_event_attributes
    row = state.of(Child).get(attributes.initiated_event_id)
    if row is not None:
        changed = msgspec.structs.replace(row, run_id=attributes.workflow_execution.run_id, started_id=event.event_id)
        state.of(Child).put(row.initiated_id, changed)


def apply_placed(state: Execution, event: HistoryEvent) -> None:
    """The started event has its id now; the child may have closed meanwhile."""
    apply_started(state, event)


def apply_start_failed(state: Execution, event: HistoryEvent) -> None:
    state.of(Child).remove(event.start_child_workflow_execution_failed_event_attributes.initiated_event_id)


def apply_ended(state: Execution, event: HistoryEvent) -> None:
    """Completed, failed, cancelled, timed out or terminated: it is pending no more."""
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    state.of(Child).remove(attributes.initiated_event_id)


def apply_parent_closed(state: Execution, time: int) -> None:
    """This run has closed: children that are not to be left alone are to be ended or cancelled."""
    for _, row in list(state.of(Child).items()):
        if row.run_id and row.policy != ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
            orphan = Orphan(row.initiated_id, row.workflow_id, row.run_id, row.policy, time)
            state.of(Orphan).put(row.initiated_id, orphan)


def apply_child_closed(state: Execution, time: int) -> None:
    """This run has closed and no other follows it: its parent, if it has one, is to be told."""
    if state.info.parent is not None:
        state.of(Report).put(ONLY, Report(time))


def apply_reported(state: Execution, _: Reported) -> None:
    state.of(Report).remove(ONLY)


def apply_treated(state: Execution, record: Treated) -> None:
    state.of(Orphan).remove(record.initiated_id)


# --- what a workflow commands


def schedule(tx: Transaction, command: Command, completed_id: int) -> None:
    """StartChildWorkflowExecution: it is written down, and the child is started as soon as that is on disk."""
    given = command.start_child_workflow_execution_command_attributes
    check_given(_BAD, command)
    name = f"{_COMMAND} of workflow {given.workflow_id!r}"
    namespace = own_namespace(tx, _BAD, name, given.namespace)
    for field, value in (("WorkflowId", given.workflow_id), ("WorkflowType", given.workflow_type.name)):
        check_id(_BAD, field, _COMMAND, value, tx.limits, required="Required field ")
    for field in ("Execution", "Run", "Task"):
        before, after = f"Invalid Workflow{field}Timeout on {_COMMAND}", f" WorkflowId={given.workflow_id}"
        check_timeout(_BAD, before, getattr(given, f"workflow_{field.lower()}_timeout"), after=after)
    of = f"workflow {given.workflow_id!r}"
    check_payloads(_BAD, f"{_COMMAND}Attributes. Input", given.input, tx.limits, of=of)
    check_payloads(_BAD, f"{_COMMAND}Attributes.Memo", given.memo, tx.limits, of=of)
    check_attributes(tx, given.search_attributes)
    try:
        policy = start.checked_repeats(given, tx.now, tx.limits)
    except StatusError as error:
        raise CommandError(_BAD, f"{name}: {error.message}") from error
    if len(tx.state.of(Child)) >= tx.limits.PENDING_CHILDREN:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED
        message = (
            f"the number of pending child workflow executions, {len(tx.state.of(Child))}, has reached the per-workflow"
            f" limit of {tx.limits.PENDING_CHILDREN}"
        )
        raise CommandError(cause, message)
    info = tx.state.info
    queue = given.task_queue.name or info.task_queue
    check_queue(_BAD, f"invalid TaskQueue on {_COMMAND}", queue, tx.limits)
    attributes = StartChildWorkflowExecutionInitiatedEventAttributes(
        namespace=namespace,
        namespace_id=info.namespace_id,
        workflow_id=given.workflow_id,
        workflow_type=given.workflow_type,
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        input=given.input if given.HasField("input") else None,
        workflow_execution_timeout=given.workflow_execution_timeout,
        workflow_run_timeout=given.workflow_run_timeout,
        workflow_task_timeout=given.workflow_task_timeout,
        parent_close_policy=given.parent_close_policy or ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE,
        control=given.control,
        workflow_task_completed_event_id=completed_id,
        workflow_id_reuse_policy=given.workflow_id_reuse_policy
        or WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
        retry_policy=policy,
        cron_schedule=given.cron_schedule,
        header=given.header if given.HasField("header") else None,
        memo=given.memo if given.HasField("memo") else None,
        search_attributes=given.search_attributes if given.HasField("search_attributes") else None,
        priority=given.priority if given.HasField("priority") else None,
    )
    start.fill_timeouts(attributes, tx.limits)
    tx.add(
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        start_child_workflow_execution_initiated_event_attributes=attributes,
    )


# --- what becomes of it


def waiting(state: Execution, initiated_id: int) -> Child | None:
    """The child, if it still waits to be started."""
    row = state.of(Child).get(initiated_id)
    return row if row is not None and not row.run_id and state.info.running else None


def started(tx: Transaction, row: Child, run_id: str, header: Header | None) -> None:
    """The child runs."""
    tx.add(
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
        child_workflow_execution_started_event_attributes=ChildWorkflowExecutionStartedEventAttributes(
            namespace=row.namespace,
            namespace_id=row.namespace_id,
            initiated_event_id=row.initiated_id,
            workflow_execution=WorkflowExecution(workflow_id=row.workflow_id, run_id=run_id),
            workflow_type=WorkflowType(name=row.workflow_type),
            header=header,
        ),
    )
    workflow_task.schedule(tx)


def start_failed(
    tx: Transaction, row: Child, cause: int, initiated: StartChildWorkflowExecutionInitiatedEventAttributes
) -> None:
    """The child cannot be started."""
    tx.add(
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
        start_child_workflow_execution_failed_event_attributes=StartChildWorkflowExecutionFailedEventAttributes(
            namespace=row.namespace,
            namespace_id=row.namespace_id,
            workflow_id=row.workflow_id,
            workflow_type=WorkflowType(name=row.workflow_type),
            cause=StartChildWorkflowExecutionFailedCause.ValueType(cause),
            control=initiated.control,
            initiated_event_id=row.initiated_id,
        ),
    )
    workflow_task.schedule(tx)


def ended(tx: Transaction, row: Child, run_id: str, close_event: HistoryEvent) -> None:
    """The child has closed, with this event of its own history."""
    common: dict[str, Any] = {
        "namespace": row.namespace,
        "namespace_id": row.namespace_id,
        "workflow_execution": WorkflowExecution(workflow_id=row.workflow_id, run_id=run_id),
        "workflow_type": WorkflowType(name=row.workflow_type),
        "initiated_event_id": row.initiated_id,
        "started_event_id": row.started_id,
    }
    match close_event.WhichOneof("attributes"):
        case "workflow_execution_completed_event_attributes":
            closed = close_event.workflow_execution_completed_event_attributes
            tx.add(
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
                child_workflow_execution_completed_event_attributes=ChildWorkflowExecutionCompletedEventAttributes(
                    result=closed.result if closed.HasField("result") else None, **common
                ),
            )
        case "workflow_execution_failed_event_attributes":
            failed = close_event.workflow_execution_failed_event_attributes
            tx.add(
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
                child_workflow_execution_failed_event_attributes=ChildWorkflowExecutionFailedEventAttributes(
                    failure=failed.failure, retry_state=failed.retry_state, **common
                ),
            )
        case "workflow_execution_canceled_event_attributes":
            cancelled = close_event.workflow_execution_canceled_event_attributes
            tx.add(
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
                child_workflow_execution_canceled_event_attributes=ChildWorkflowExecutionCanceledEventAttributes(
                    details=cancelled.details if cancelled.HasField("details") else None, **common
                ),
            )
        case "workflow_execution_timed_out_event_attributes":
            state = close_event.workflow_execution_timed_out_event_attributes.retry_state
            tx.add(
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
                child_workflow_execution_timed_out_event_attributes=ChildWorkflowExecutionTimedOutEventAttributes(
                    retry_state=RetryState.ValueType(state), **common
                ),
            )
        case _:
            tx.add(
                EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
                child_workflow_execution_terminated_event_attributes=ChildWorkflowExecutionTerminatedEventAttributes(
                    **common
                ),
            )
    workflow_task.schedule(tx)


def reapply(tx: Transaction, event: HistoryEvent) -> None:
    """What became of a child comes again, with a reset of its parent to a point at which the child was pending."""
    name = event.WhichOneof("attributes") or ""
    attributes = type(getattr(event, name))()
    attributes.CopyFrom(getattr(event, name))
    row = tx.state.of(Child).get(attributes.initiated_event_id)
    if row is None:
        return
    if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
        if row.run_id:
            return
    elif event.event_type != EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
        attributes.started_event_id = row.started_id
    tx.add(event.event_type, **{name: attributes})


def find(state: Execution, initiated_id: int, workflow_id: str, run_id: str) -> Child | None:
    """The pending child that a closed run was, if its parent still waits for it.

    Not by the initiated event alone: a run that was reset counts its events anew, and may have got another child there.
    """
    row = state.of(Child).get(initiated_id)
    if row is None or (row.workflow_id, row.run_id) != (workflow_id, run_id) or not state.info.running:
        return None
    return row
