"""A marker: a note that a workflow's code makes in its history for its own replay.

SDKs keep the results of local activities and side effects in markers, and which branch of a patch was taken. To the
backend a marker says nothing: it is written, and no state follows from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent, MarkerRecordedEventAttributes

from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.command import CommandError, check_given, check_id

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_RECORD_MARKER_ATTRIBUTES


def apply_recorded(state: Execution, event: HistoryEvent) -> None:
    """A marker means something to the workflow's code alone."""


def record(tx: Transaction, command: Command, completed_id: int) -> None:
    """RecordMarker."""
    check_given(_BAD, command)
    attributes = command.record_marker_command_attributes
    name = attributes.marker_name
    check_id(_BAD, "MarkerName", "RecordMarkerCommand", name, tx.limits)
    size = sum(len(key.encode()) + payloads.ByteSize() for key, payloads in attributes.details.items())
    if size > tx.limits.PAYLOAD_SIZE:
        # The workflow would send it again and again, so the task is not repeated.
        raise CommandError(_BAD, "RecordMarkerCommandAttributes.Details exceeds size limit.", terminate=True)
    cut_causes(attributes.failure, tx.limits)
    tx.add(
        EventType.EVENT_TYPE_MARKER_RECORDED,
        marker_recorded_event_attributes=MarkerRecordedEventAttributes(
            marker_name=name,
            details=attributes.details,
            workflow_task_completed_event_id=completed_id,
            header=attributes.header if attributes.HasField("header") else None,
            failure=attributes.failure if attributes.HasField("failure") else None,
        ),
    )
