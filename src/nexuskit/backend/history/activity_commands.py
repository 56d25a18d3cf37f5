"""What a workflow commands of its activities: to schedule one, and to ask one to stop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import (
    ActivityTaskCanceledEventAttributes,
    ActivityTaskCancelRequestedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    HistoryEvent,
)

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import activity_options, buffer
from nexuskit.backend.history.activity import Activity, closed_activity
from nexuskit.backend.history.command import CommandError, check_given, check_payloads

if TYPE_CHECKING:
    from temporalio.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes

    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES
_BAD_CANCEL = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_REQUEST_CANCEL_ACTIVITY_ATTRIBUTES

NOT_STARTED = "ACTIVITY_ID_NOT_STARTED"
"""The details of an activity that was cancelled before a worker had it."""


def schedule(tx: Transaction, command: Command, completed_id: int) -> None:
    """ScheduleActivityTask: the activity waits for a worker of its task queue."""
    check_given(_BAD, command)
    attributes = command.schedule_activity_task_command_attributes
    options = _options(tx, attributes)
    name = f"activity {attributes.activity_id!r} of type {attributes.activity_type.name!r}"
    check_payloads(_BAD, "ScheduleActivityTaskCommandAttributes.Input", attributes.input, tx.limits, of=name)
    table = tx.state.of(Activity)
    if any(row.activity_id == attributes.activity_id for _, row in table.items()):
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_SCHEDULE_ACTIVITY_DUPLICATE_ID
        raise CommandError(cause, f"ActivityId {attributes.activity_id!r} is already in use by a pending activity.")
    if len(table) >= tx.limits.PENDING_ACTIVITIES:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED
        raise CommandError(
            cause,
            f"the number of pending activities, {len(table)}, has reached the per-workflow limit of"
            f" {tx.limits.PENDING_ACTIVITIES}",
        )
    tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(
            activity_id=attributes.activity_id,
            activity_type=attributes.activity_type,
            task_queue=options.task_queue,
            header=attributes.header if attributes.HasField("header") else None,
            input=attributes.input if attributes.HasField("input") else None,
            schedule_to_close_timeout=options.schedule_to_close_timeout,
            schedule_to_start_timeout=options.schedule_to_start_timeout,
            start_to_close_timeout=options.start_to_close_timeout,
            heartbeat_timeout=options.heartbeat_timeout,
            workflow_task_completed_event_id=completed_id,
            retry_policy=options.retry_policy,
            use_workflow_build_id=attributes.use_workflow_build_id,
            priority=options.priority if options.HasField("priority") else None,
        ),
    )


def _options(tx: Transaction, attributes: ScheduleActivityTaskCommandAttributes) -> ActivityOptions:
    given = ActivityOptions(
        task_queue=attributes.task_queue,
        schedule_to_close_timeout=attributes.schedule_to_close_timeout,
        schedule_to_start_timeout=attributes.schedule_to_start_timeout,
        start_to_close_timeout=attributes.start_to_close_timeout,
        heartbeat_timeout=attributes.heartbeat_timeout,
        retry_policy=attributes.retry_policy if attributes.HasField("retry_policy") else None,
        priority=attributes.priority if attributes.HasField("priority") else None,
    )
    try:
        return activity_options.checked(
            given, attributes.activity_id, attributes.activity_type.name, tx.limits, tx.state.info.run_timeout
        )
    except StatusError as error:
        raise CommandError(_BAD, error.message) from error


def request_cancel(tx: Transaction, command: Command, completed_id: int) -> None:
    """RequestCancelActivityTask: one that waits is cancelled, one that runs is told by its next heartbeat."""
    check_given(_BAD_CANCEL, command)
    scheduled_id = command.request_cancel_activity_task_command_attributes.scheduled_event_id
    if scheduled_id <= 0:
        raise CommandError(_BAD_CANCEL, "ScheduledEventId is not set on RequestCancelActivityTaskCommand.")
    row = tx.state.of(Activity).get(scheduled_id)
    if row is not None and row.cancel_requested:
        raise CommandError(
            _BAD_CANCEL, f"ScheduledEventID: {scheduled_id}: the activity has been asked to stop already."
        )
    if row is None and not _ended_unseen(tx, scheduled_id):
        raise CommandError(_BAD_CANCEL, f"ScheduledEventID: {scheduled_id} names no pending activity of this workflow.")
    requested = tx.add(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        activity_task_cancel_requested_event_attributes=ActivityTaskCancelRequestedEventAttributes(
            scheduled_event_id=scheduled_id, workflow_task_completed_event_id=completed_id
        ),
    )
    if row is not None and not row.started_time:
        tx.add(
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
            later=True,
            activity_task_canceled_event_attributes=ActivityTaskCanceledEventAttributes(
                details=Payloads(payloads=[text_payload(NOT_STARTED)]),
                latest_cancel_requested_event_id=requested,
                scheduled_event_id=scheduled_id,
                identity=_identity(tx, completed_id),
            ),
        )


def text_payload(text: str) -> Payload:
    """Text as the SDKs' default converter encodes it."""
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(text, ensure_ascii=False).encode())


def _ended_unseen(tx: Transaction, scheduled_id: int) -> bool:
    """Whether the activity ended while the workflow's task was under way, so that its code could not know."""
    events = (HistoryEvent.FromString(raw) for raw in buffer.waiting(tx.state).events)
    return any(closed_activity(event) == scheduled_id for event in events)


def _identity(tx: Transaction, completed_id: int) -> str:
    """Who completed the workflow task that commands this."""
    completed = next((event for event in tx.events if event.event_id == completed_id), HistoryEvent())
    return completed.workflow_task_completed_event_attributes.identity
