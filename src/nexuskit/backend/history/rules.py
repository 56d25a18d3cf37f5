"""The tables of the core: what each event, record, command and due row means, and the module that says so.

An addition to the backend touches one module of this package and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from temporalio.api.enums.v1 import CommandType, EventType

from nexuskit.backend.history import (
    activity,
    activity_commands,
    activity_control,
    attach,
    attributes,
    buffer,
    callback,
    cancel,
    chain,
    child,
    external,
    marker,
    nexus_operation,
    reset,
    signal,
    start,
    timer,
    workflow,
    workflow_task,
)
from nexuskit.backend.history.state import Row
from nexuskit.backend.history.transaction import Rules

ROWS: Mapping[str, type[Row]] = MappingProxyType(
    {
        row.kind: row
        for row in (
            activity.Activity,
            attach.Attached,
            buffer.Buffered,
            callback.Callback,
            child.Child,
            child.Orphan,
            child.Report,
            external.ExternalCancel,
            external.ExternalSignal,
            nexus_operation.NexusOperation,
            signal.SignalRequest,
            start.FirstTask,
            start.RunDeadline,
            start.Template,
            timer.Timer,
            workflow_task.WorkflowTask,
        )
    }
)
"""Kind of row → its type, for whoever reads rows from disk."""

RULES = Rules(
    events={
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: start.apply_started,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: attach.apply_options_updated,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: signal.apply_signaled,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: cancel.apply_requested,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: workflow.apply_closed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: workflow.apply_closed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: workflow.apply_closed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: workflow.apply_closed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: workflow.apply_closed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: workflow.apply_closed,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: attributes.apply_upserted,
        EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: attributes.apply_modified,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED: workflow_task.apply_scheduled,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: workflow_task.apply_started_event,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: workflow_task.apply_completed,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: workflow_task.apply_failed,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: workflow_task.apply_failed,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: activity.apply_scheduled,
        EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: activity.apply_nothing,
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: activity.apply_closed,
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: activity.apply_closed,
        EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: activity.apply_closed,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: activity.apply_closed,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: activity.apply_cancel_requested,
        EventType.EVENT_TYPE_MARKER_RECORDED: marker.apply_recorded,
        EventType.EVENT_TYPE_TIMER_STARTED: timer.apply_started,
        EventType.EVENT_TYPE_TIMER_FIRED: timer.apply_fired,
        EventType.EVENT_TYPE_TIMER_CANCELED: timer.apply_cancelled,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: child.apply_initiated,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: child.apply_start_failed,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: child.apply_started,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: child.apply_ended,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: child.apply_ended,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: child.apply_ended,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: child.apply_ended,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: child.apply_ended,
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: external.apply_signal_initiated,
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: external.apply_signal_ended,
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: external.apply_signal_ended,
        EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: external.apply_cancel_initiated,
        EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: external.apply_cancel_ended,
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED: external.apply_cancel_ended,
        EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: nexus_operation.apply_scheduled,
        EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED: nexus_operation.apply_started,
        EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: nexus_operation.apply_completed,
        EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED: nexus_operation.apply_failed,
        EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED: nexus_operation.apply_cancelled,
        EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: nexus_operation.apply_timed_out,
    },
    records={
        activity.Heartbeat: activity.apply_heartbeat,
        activity.Retried: activity.apply_retried,
        activity.Started: activity.apply_started,
        activity_control.OptionsChanged: activity_control.apply_options_changed,
        activity_control.Paused: activity_control.apply_paused,
        activity_control.Rescheduled: activity_control.apply_rescheduled,
        activity_control.Reset: activity_control.apply_reset,
        activity_control.Unpaused: activity_control.apply_unpaused,
        buffer.Held: buffer.apply_held,
        buffer.Released: buffer.apply_released,
        buffer.Withdrawn: buffer.apply_withdrawn,
        callback.Delivered: callback.apply_delivered,
        callback.Refused: callback.apply_refused,
        callback.Registered: callback.apply_registered,
        child.Reported: child.apply_reported,
        child.Treated: child.apply_treated,
        nexus_operation.AttemptFailed: nexus_operation.apply_attempt_failed,
        reset.Rebuilt: reset.apply_rebuilt,
        reset.WasReset: reset.apply_was_reset,
        start.FirstTaskReady: start.apply_first_task_ready,
        start.Requested: start.apply_requested,
        workflow_task.Dropped: workflow_task.apply_dropped,
        workflow_task.Queued: workflow_task.apply_queued,
        workflow_task.Scheduled: workflow_task.apply_transient,
        workflow_task.Started: workflow_task.apply_started,
        workflow_task.Unstuck: workflow_task.apply_unstuck,
        workflow_task.Sticky: workflow_task.apply_sticky,
    },
    commands={
        CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK: activity_commands.schedule,
        CommandType.COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK: activity_commands.request_cancel,
        CommandType.COMMAND_TYPE_RECORD_MARKER: marker.record,
        CommandType.COMMAND_TYPE_START_TIMER: timer.start,
        CommandType.COMMAND_TYPE_CANCEL_TIMER: timer.cancel,
        CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: attributes.upsert,
        CommandType.COMMAND_TYPE_MODIFY_WORKFLOW_PROPERTIES: attributes.modify,
        CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION: workflow.complete,
        CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION: workflow.fail,
        CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION: cancel.cancel,
        CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION: chain.continue_as_new,
        CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION: child.schedule,
        CommandType.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION: external.signal,
        CommandType.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: external.request_cancel,
        CommandType.COMMAND_TYPE_SCHEDULE_NEXUS_OPERATION: nexus_operation.schedule,
    },
    due={
        activity.Activity.kind: activity.due,
        nexus_operation.NexusOperation.kind: nexus_operation.due,
        timer.Timer.kind: timer.due,
        start.FirstTask.kind: start.due,
        start.RunDeadline.kind: workflow.due,
        workflow_task.WorkflowTask.kind: workflow_task.due,
    },
    holds_back=workflow_task.holds_back,
    hold=buffer.Held,
    placed={
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: child.apply_placed,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: attach.apply_placed,
    },
)
"""The tables, as a transaction takes them."""
