"""The events of a workflow task, as history has them, and as a worker is shown those that are not in it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType, SuggestContinueAsNewReason, TaskQueueKind
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowTaskScheduledEventAttributes,
    WorkflowTaskStartedEventAttributes,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend.times import SECOND, duration, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.history.state import Info
    from nexuskit.backend.history.workflow_task import WorkflowTask
    from nexuskit.backend.settings import Limits


ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    }
)
"""Events that end the run."""

TIMEOUT_GROWS_FROM = 3
"""From this attempt on, a task that keeps failing is given longer and longer, so that a broken worker is not kept
busy.
"""
TIMEOUT_GROWTH_MAX = 600 * SECOND

NOT_HELD_BACK = ENDS | frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)
"""Events that are part of a workflow task, or end the run: they never wait for the task in flight."""


def transient_events(limits: Limits, info: Info, task: WorkflowTask) -> tuple[HistoryEvent, HistoryEvent]:
    """The scheduled and started event of a task of which they are not in history."""
    scheduled = HistoryEvent(
        event_id=task.scheduled_id,
        event_time=timestamp(task.scheduled_time),
        event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        workflow_task_scheduled_event_attributes=scheduled_attributes(
            info, task.timeout, task.attempt, sticky=task.sticky_timeout != 0
        ),
    )
    started = HistoryEvent(
        event_id=task.scheduled_id + 1,
        event_time=timestamp(task.started_time),
        event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        workflow_task_started_event_attributes=started_attributes(
            limits, info, task, task.identity, task.request_id, many_updates=task.many_updates
        ),
    )
    return scheduled, started


def started_attributes(
    limits: Limits, info: Info, task: WorkflowTask, identity: str, request_id: str, *, many_updates: bool
) -> WorkflowTaskStartedEventAttributes:
    """What the started event says; `task` is the task as it was scheduled."""
    reasons: list[SuggestContinueAsNewReason.ValueType] = []
    if info.history_size >= limits.SUGGEST_CONTINUE_AS_NEW_SIZE:
        reasons.append(SuggestContinueAsNewReason.SUGGEST_CONTINUE_AS_NEW_REASON_HISTORY_SIZE_TOO_LARGE)
    if info.next_event_id >= limits.SUGGEST_CONTINUE_AS_NEW_EVENTS:
        reasons.append(SuggestContinueAsNewReason.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_HISTORY_EVENTS)
    if many_updates:
        reasons.append(SuggestContinueAsNewReason.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_UPDATES)
    return WorkflowTaskStartedEventAttributes(
        scheduled_event_id=task.scheduled_id,
        identity=identity,
        request_id=request_id,
        suggest_continue_as_new=bool(reasons),
        suggest_continue_as_new_reasons=reasons,
        history_size_bytes=info.history_size,
    )


def scheduled_attributes(
    info: Info, timeout: int, attempt: int = 1, *, sticky: bool
) -> WorkflowTaskScheduledEventAttributes:
    """What the scheduled event says, in the worker's own queue (`sticky`) or the workflow's; the timeout in ns."""
    queue = TaskQueue(name=info.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    if sticky:
        kind = TaskQueueKind.TASK_QUEUE_KIND_STICKY
        queue = TaskQueue(name=info.sticky_queue, kind=kind, normal_name=info.task_queue)
    return WorkflowTaskScheduledEventAttributes(
        task_queue=queue, start_to_close_timeout=duration(timeout), attempt=attempt
    )


def attempt_timeout(timeout: int, attempt: int) -> int:
    """Start to close of an attempt (ns): the workflow's own for the first ones, then growing."""
    if attempt < TIMEOUT_GROWS_FROM:
        return timeout
    return timeout + min(5 * SECOND * 2 ** min(attempt - TIMEOUT_GROWS_FROM, 10), TIMEOUT_GROWTH_MAX)
