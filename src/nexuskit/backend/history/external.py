"""Signals and cancel requests from a workflow to another one of its namespace.

    INITIATED ── the other one has it ──> nothing
        └── there is no such workflow, or it takes no more ──> nothing, with a failed event

Each is carried out by an effect (see `nexuskit.backend.transfers.externals`); both sides are in one commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    EventType,
    SignalExternalWorkflowExecutionFailedCause,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import (
    ExternalWorkflowExecutionCancelRequestedEventAttributes,
    ExternalWorkflowExecutionSignaledEventAttributes,
    HistoryEvent,
    RequestCancelExternalWorkflowExecutionFailedEventAttributes,
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    SignalExternalWorkflowExecutionFailedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes,
)

from nexuskit.backend.history import child, workflow_task
from nexuskit.backend.history.command import (
    CommandError,
    check_given,
    check_id,
    check_payloads,
    check_run_id,
    own_namespace,
)
from nexuskit.backend.history.state import Destination, Index, Info, Row

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_CAUSE = WorkflowTaskFailedCause
_BAD_SIGNAL = _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_BAD_SIGNAL_WORKFLOW_EXECUTION_ATTRIBUTES
_BAD_CANCEL = _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_ATTRIBUTES


class ExternalSignal(Row, frozen=True):
    """A signal on its way. The key is its initiated event's id."""

    kind = "external_signal"
    initiated_id: int
    request_id: str

    def index(self, info: Info) -> Index:
        return Index(0, Destination(self.kind, info.namespace_id))


class ExternalCancel(Row, frozen=True):
    """A cancel request on its way. The key is its initiated event's id."""

    kind = "external_cancel"
    initiated_id: int

    def index(self, info: Info) -> Index:
        return Index(0, Destination(self.kind, info.namespace_id))


# --- what happened


def apply_signal_initiated(state: Execution, event: HistoryEvent) -> None:
    # The run's id and the event's make a request id that is the same on every replay.
    row = ExternalSignal(event.event_id, f"{state.info.run_id}:{event.event_id}")
    state.of(ExternalSignal).put(event.event_id, row)


def apply_signal_ended(state: Execution, event: HistoryEvent) -> None:
    """It has arrived, or cannot."""
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    state.of(ExternalSignal).remove(attributes.initiated_event_id)


def apply_cancel_initiated(state: Execution, event: HistoryEvent) -> None:
    state.of(ExternalCancel).put(event.event_id, ExternalCancel(event.event_id))


def apply_cancel_ended(state: Execution, event: HistoryEvent) -> None:
    """It has arrived, or cannot."""
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    state.of(ExternalCancel).remove(attributes.initiated_event_id)


# --- what a workflow commands


def signal(tx: Transaction, command: Command, completed_id: int) -> None:
    """SignalExternalWorkflowExecution: it is written down, and sent as soon as that is on disk."""
    given = command.signal_external_workflow_execution_command_attributes
    name = "SignalExternalWorkflowExecutionCommand"
    check_given(_BAD_SIGNAL, command)
    namespace = own_namespace(tx, _BAD_SIGNAL, name, given.namespace)
    check_id(_BAD_SIGNAL, "WorkflowId", name, given.execution.workflow_id, tx.limits)
    check_run_id(_BAD_SIGNAL, name, given.execution.run_id)
    if not given.signal_name:
        raise CommandError(_BAD_SIGNAL, f"SignalName is not set on {name}. WorkflowId={given.execution.workflow_id}")
    of = f"signal {given.signal_name[:100]!r} to workflow {given.execution.workflow_id!r}"
    check_payloads(_BAD_SIGNAL, f"{name}Attributes.Input", given.input, tx.limits, of=of)
    pending = len(tx.state.of(ExternalSignal))
    if pending >= tx.limits.PENDING_SIGNALS:
        raise CommandError(
            _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED,
            f"the number of pending signals to external workflows, {pending}, has reached the per-workflow limit of"
            f" {tx.limits.PENDING_SIGNALS}",
        )
    tx.add(
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
        signal_external_workflow_execution_initiated_event_attributes=SignalExternalWorkflowExecutionInitiatedEventAttributes(
            workflow_task_completed_event_id=completed_id,
            namespace=namespace,
            namespace_id=tx.state.info.namespace_id,
            workflow_execution=given.execution,
            signal_name=given.signal_name,
            input=given.input if given.HasField("input") else None,
            control=given.control,
            child_workflow_only=given.child_workflow_only,
            header=given.header if given.HasField("header") else None,
        ),
    )


def request_cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """RequestCancelExternalWorkflowExecution: it is written down, and sent as soon as that is on disk."""
    given = command.request_cancel_external_workflow_execution_command_attributes
    name = "RequestCancelExternalWorkflowExecutionCommand"
    check_given(_BAD_CANCEL, command)
    namespace = own_namespace(tx, _BAD_CANCEL, name, given.namespace)
    check_id(_BAD_CANCEL, "WorkflowId", name, given.workflow_id, tx.limits)
    check_run_id(_BAD_CANCEL, name, given.run_id)
    for _, row in tx.state.of(child.Child).items():
        if row.workflow_id == given.workflow_id and row.initiated_id > completed_id:
            raise CommandError(
                _BAD_CANCEL,
                "Start and RequestCancel for child workflow is not allowed in same workflow task."
                f" WorkflowId={given.workflow_id}",
            )
    pending = len(tx.state.of(ExternalCancel))
    if pending >= tx.limits.PENDING_CANCEL_REQUESTS:
        raise CommandError(
            _CAUSE.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED,
            f"the number of pending requests to cancel external workflows, {pending}, has reached the per-workflow"
            f" limit of {tx.limits.PENDING_CANCEL_REQUESTS}",
        )
    tx.add(
        EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
        request_cancel_external_workflow_execution_initiated_event_attributes=RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(
            workflow_task_completed_event_id=completed_id,
            namespace=namespace,
            namespace_id=tx.state.info.namespace_id,
            workflow_execution=WorkflowExecution(workflow_id=given.workflow_id, run_id=given.run_id),
            control=given.control,
            child_workflow_only=given.child_workflow_only,
            reason=given.reason,
        ),
    )


# --- what becomes of it


def signalled(
    tx: Transaction, initiated_id: int, attributes: SignalExternalWorkflowExecutionInitiatedEventAttributes
) -> None:
    """The other workflow has the signal."""
    tx.add(
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
        external_workflow_execution_signaled_event_attributes=ExternalWorkflowExecutionSignaledEventAttributes(
            initiated_event_id=initiated_id,
            namespace=attributes.namespace,
            namespace_id=attributes.namespace_id,
            workflow_execution=attributes.workflow_execution,
            control=attributes.control,
        ),
    )
    workflow_task.schedule(tx)


def signal_failed(
    tx: Transaction, initiated_id: int, attributes: SignalExternalWorkflowExecutionInitiatedEventAttributes, cause: int
) -> None:
    """The other workflow cannot get the signal."""
    tx.add(
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
        signal_external_workflow_execution_failed_event_attributes=SignalExternalWorkflowExecutionFailedEventAttributes(
            cause=SignalExternalWorkflowExecutionFailedCause.ValueType(cause),
            namespace=attributes.namespace,
            namespace_id=attributes.namespace_id,
            workflow_execution=attributes.workflow_execution,
            initiated_event_id=initiated_id,
            control=attributes.control,
        ),
    )
    workflow_task.schedule(tx)


def cancel_requested(
    tx: Transaction, initiated_id: int, attributes: RequestCancelExternalWorkflowExecutionInitiatedEventAttributes
) -> None:
    """The other workflow was asked to stop."""
    tx.add(
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
        external_workflow_execution_cancel_requested_event_attributes=ExternalWorkflowExecutionCancelRequestedEventAttributes(
            initiated_event_id=initiated_id,
            namespace=attributes.namespace,
            namespace_id=attributes.namespace_id,
            workflow_execution=attributes.workflow_execution,
        ),
    )
    workflow_task.schedule(tx)


def cancel_failed(
    tx: Transaction,
    initiated_id: int,
    attributes: RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    cause: int,
) -> None:
    """The other workflow cannot be asked."""
    tx.add(
        EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
        request_cancel_external_workflow_execution_failed_event_attributes=RequestCancelExternalWorkflowExecutionFailedEventAttributes(
            cause=CancelExternalWorkflowExecutionFailedCause.ValueType(cause),
            namespace=attributes.namespace,
            namespace_id=attributes.namespace_id,
            workflow_execution=attributes.workflow_execution,
            initiated_event_id=initiated_id,
        ),
    )
    workflow_task.schedule(tx)
