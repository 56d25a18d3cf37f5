"""Cancellation: a workflow is asked to stop, and its code decides how; it ends cancelled when the code says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionCanceledEventAttributes,
    WorkflowExecutionCancelRequestedEventAttributes,
)

from nexuskit.backend.history import start
from nexuskit.backend.history.command import check_given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import Link

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_CANCEL_WORKFLOW_EXECUTION_ATTRIBUTES


class CancelRequest(NamedTuple):
    """Somebody wants the workflow to stop.

    Attributes:
        reason: why.
        identity: who asks.
        links: to where it came from.
        sender, initiated_id: the workflow that asks, if one does, and the event of its history that says so.
    """

    reason: str
    identity: str
    links: Sequence[Link] = ()
    sender: WorkflowExecution | None = None
    initiated_id: int = 0


def apply_requested(state: Execution, event: HistoryEvent) -> None:
    state.info.cancel_requested = True


def request(tx: Transaction, asked: CancelRequest) -> None:
    """The workflow is asked to stop; nothing happens if it was asked before, or has ended anyway."""
    info = tx.state.info
    if not info.running or info.cancel_requested:
        return
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
        links=list(asked.links),
        workflow_execution_cancel_requested_event_attributes=WorkflowExecutionCancelRequestedEventAttributes(
            cause=asked.reason,
            external_initiated_event_id=asked.initiated_id,
            external_workflow_execution=asked.sender,
            identity=asked.identity,
        ),
    )
    start.wake_now(tx)


def cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """CancelWorkflowExecution: the workflow's code has stopped."""
    check_given(_BAD, command)
    attributes = command.cancel_workflow_execution_command_attributes
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        workflow_execution_canceled_event_attributes=WorkflowExecutionCanceledEventAttributes(
            workflow_task_completed_event_id=completed_id,
            details=attributes.details if attributes.HasField("details") else None,
        ),
    )
