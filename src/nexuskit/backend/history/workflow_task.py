"""The workflow task: the turn of a workflow's own code. At most one is there, waiting in a queue or with a worker.

    nothing ── schedule ──> SCHEDULED ── start ──> STARTED ── complete ──> nothing
                                ^  │ nobody came to         │ fail, or timeout: attempt + 1
                                │  │ the sticky queue       │
                                └──┴────────────────────────┘

The first attempt writes its scheduled and started events at once. Later attempts are transient: a task that fails a
thousand times must not fill history with its failures, so their two events are shown to the worker at the end of the
history it gets, and are written only when the task completes. Should events have come in between, the task is no repeat
any more and becomes a first attempt (temporalio/temporal: service/history/workflow/workflow_task_state_machine.go).

A task goes to the sticky queue of the worker that has the workflow in its cache. If nobody takes it there in time it
goes to the workflow's own queue, which any worker polls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.enums.v1 import EventType, TaskQueueKind, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowTaskCompletedEventAttributes,
    WorkflowTaskFailedEventAttributes,
    WorkflowTaskScheduledEventAttributes,
    WorkflowTaskStartedEventAttributes,
    WorkflowTaskTimedOutEventAttributes,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend import limits
from nexuskit.backend.errors import InvariantError, invariant, not_found
from nexuskit.backend.history import buffer
from nexuskit.backend.history.state import Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import SECOND, duration, timestamp

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure
    from temporalio.api.sdk.v1 import WorkflowTaskCompletedMetadata

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

ONLY = 0
"""The key of the one row."""

TIMEOUT_GROWS_FROM = 3
"""From this attempt on, a task that keeps failing is given longer and longer, so that a broken worker is not kept
busy.
"""
TIMEOUT_GROWTH_MAX = 600 * SECOND

_SCHEDULED = EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
_STARTED = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED

NOT_HELD_BACK = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)
"""Events that are part of a workflow task, or end the run: they never wait for the task in flight."""


class WorkflowTask(Row, frozen=True, omit_defaults=True):
    """The task that waits (`started_time` 0) or is with a worker. Ids of events, times in ns."""

    kind = "workflow_task"
    scheduled_id: int
    scheduled_time: int
    queue: str
    timeout: int
    """Start to close, for this attempt."""
    attempt: int = 1
    sticky_timeout: int = 0
    """How long it may wait in a sticky queue; 0: the queue is the workflow's own."""
    original_scheduled_time: int = 0
    started_id: int = 0
    started_time: int = 0
    request_id: str = ""
    identity: str = ""

    @property
    def started(self) -> bool:
        return self.started_time != 0

    @property
    def transient(self) -> bool:
        """Its scheduled and started events are not in history yet."""
        return self.attempt > 1

    def index(self, info: Info) -> Index:
        if self.started:
            return Index(due=self.started_time + self.timeout, stamp=self.stamp)
        due = self.scheduled_time + self.sticky_timeout if self.sticky_timeout else 0
        return Index(due, Destination("workflow", info.namespace_id, self.queue), self.scheduled_time, self.stamp)

    @property
    def stamp(self) -> int:
        """Changes whenever the task starts to wait anew: in another queue, or for another attempt."""
        return self.scheduled_id * 2 + (1 if self.sticky_timeout else 0) + (self.attempt << 32)


class Scheduled(Record, frozen=True):
    """A transient attempt waits."""

    scheduled_id: int
    attempt: int
    time: int
    original_time: int


class Queued(Record, frozen=True):
    """Where the task waits, which its scheduled event does not say in full."""

    queue: str
    sticky_timeout: int
    timeout: int


class Started(Record, frozen=True):
    """A worker took the task. For a transient one there is no event that says so."""

    scheduled_id: int
    started_id: int
    time: int
    request_id: str
    identity: str
    attempt: int


def current(state: Execution) -> WorkflowTask | None:
    """The task that waits or is with a worker."""
    return state.of(WorkflowTask).get(ONLY)


def holds_back(state: Execution, event_type: int) -> bool:
    """Whether an event of this type must wait until the task in flight has ended."""
    if event_type in NOT_HELD_BACK:
        return False
    task = current(state)
    return task is not None and task.started


# --- what happened


def apply_scheduled(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_task_scheduled_event_attributes
    time = event.event_time.seconds * SECOND + event.event_time.nanos
    task = WorkflowTask(
        scheduled_id=event.event_id,
        scheduled_time=time,
        original_scheduled_time=time,
        queue=attributes.task_queue.name,
        timeout=attributes.start_to_close_timeout.seconds * SECOND + attributes.start_to_close_timeout.nanos,
        attempt=attributes.attempt,
    )
    state.of(WorkflowTask).put(ONLY, task)


def apply_transient(state: Execution, record: Scheduled) -> None:
    info = state.info
    task = WorkflowTask(
        scheduled_id=record.scheduled_id,
        scheduled_time=record.time,
        original_scheduled_time=record.original_time,
        queue=info.task_queue,
        timeout=attempt_timeout(info.task_timeout, record.attempt),
        attempt=record.attempt,
    )
    state.of(WorkflowTask).put(ONLY, task)


def apply_queued(state: Execution, record: Queued) -> None:
    task = _required(state)
    row = msgspec.structs.replace(
        task, queue=record.queue, sticky_timeout=record.sticky_timeout, timeout=record.timeout
    )
    state.of(WorkflowTask).put(ONLY, row)


def apply_started(state: Execution, record: Started) -> None:
    row = msgspec.structs.replace(
        _required(state),
        scheduled_id=record.scheduled_id,
        started_id=record.started_id,
        started_time=record.time,
        request_id=record.request_id,
        identity=record.identity,
        attempt=record.attempt,
    )
    state.of(WorkflowTask).put(ONLY, row)


def apply_started_event(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_task_started_event_attributes
    apply_started(
        state,
        Started(
            scheduled_id=attributes.scheduled_event_id,
            started_id=event.event_id,
            time=event.event_time.seconds * SECOND + event.event_time.nanos,
            request_id=attributes.request_id,
            identity=attributes.identity,
            attempt=_required(state).attempt,
        ),
    )


def apply_completed(state: Execution, event: HistoryEvent) -> None:
    state.info.previous_started_id = event.workflow_task_completed_event_attributes.started_event_id
    state.of(WorkflowTask).remove(ONLY)


def apply_failed(state: Execution, _: HistoryEvent) -> None:
    state.info.sticky_queue = ""
    state.info.sticky_timeout = 0
    state.of(WorkflowTask).remove(ONLY)


class Unstuck(Record, frozen=True):
    """Nobody polls the sticky queue: the task waits in the workflow's own."""


def apply_unstuck(state: Execution, _: Unstuck) -> None:
    info = state.info
    info.sticky_queue = ""
    info.sticky_timeout = 0
    row = msgspec.structs.replace(_required(state), queue=info.task_queue, sticky_timeout=0)
    state.of(WorkflowTask).put(ONLY, row)


class Sticky(Record, frozen=True):
    """The worker asks to be given the workflow's next tasks in a queue of its own (empty: any worker)."""

    queue: str
    timeout: int


def apply_sticky(state: Execution, record: Sticky) -> None:
    state.info.sticky_queue = record.queue
    state.info.sticky_timeout = record.timeout


class Dropped(Record, frozen=True):
    """A transient attempt ended without a trace in history, or the run closed under its task."""


def apply_dropped(state: Execution, _: Dropped) -> None:
    state.info.sticky_queue = ""
    state.info.sticky_timeout = 0
    state.of(WorkflowTask).remove(ONLY)


# --- what is to be done


def attempt_timeout(timeout: int, attempt: int) -> int:
    """Start to close of an attempt (ns): the workflow's own for the first ones, then growing."""
    if attempt < TIMEOUT_GROWS_FROM:
        return timeout
    return timeout + min(5 * SECOND * 2 ** min(attempt - TIMEOUT_GROWS_FROM, 10), TIMEOUT_GROWTH_MAX)


def schedule(tx: Transaction) -> None:
    """The workflow has something to do: a task waits for a worker, unless one is there already."""
    info = tx.state.info
    task = current(tx.state)
    if info.running and task is not None and task.started and buffer.full(tx.state):
        # More than the task in flight can be waited for: it is failed, and they take their place (as on a real server).
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
        fail(tx, task, cause, None, "history-service")
        return
    if not info.running or task is not None:
        return
    tx.add(
        _SCHEDULED,
        workflow_task_scheduled_event_attributes=WorkflowTaskScheduledEventAttributes(
            task_queue=_queue(info, sticky=bool(info.sticky_queue)),
            start_to_close_timeout=duration(info.task_timeout),
            attempt=1,
        ),
    )
    if info.sticky_queue:
        tx.note(Queued(info.sticky_queue, info.sticky_timeout, info.task_timeout))


class Start(NamedTuple):
    """A worker comes for the task that it was told of.

    Attributes:
        stamp: the stamp of the index that brought it here.
        identity: who the worker says it is.
    """

    stamp: int
    identity: str


class StartedTask(NamedTuple):
    """What the worker is to be given, but for the history itself.

    Attributes:
        task: the task, as it is now.
        history_from: the first event the worker needs.
        history_to: the last event in history.
        transient: the task's scheduled and started events, if they are not in history yet.
    """

    task: WorkflowTask
    history_from: int
    history_to: int
    transient: tuple[HistoryEvent, ...]


def start(tx: Transaction, request: Start) -> StartedTask | None:
    """A worker takes the task. None if the task has moved on since the worker was told of it."""
    task = current(tx.state)
    info = tx.state.info
    if task is None or task.started or task.stamp != request.stamp or not info.running:
        return None
    request_id = tx.draw.uuid()
    if task.transient and task.scheduled_id != info.next_event_id:
        # Events have come since the attempt before failed: this is no repeat, so it is written like a first attempt.
        tx.note(Dropped())
        tx.add(
            _SCHEDULED,
            workflow_task_scheduled_event_attributes=WorkflowTaskScheduledEventAttributes(
                task_queue=_queue(info, sticky=False), start_to_close_timeout=duration(task.timeout), attempt=1
            ),
        )
        task = _required(tx.state)
    sticky = task.sticky_timeout != 0
    transient: tuple[HistoryEvent, ...] = ()
    if task.transient:
        tx.note(Started(task.scheduled_id, task.scheduled_id + 1, tx.now, request_id, request.identity, task.attempt))
        transient = transient_events(info, _required(tx.state))
    else:
        tx.add(
            _STARTED,
            workflow_task_started_event_attributes=_started_attributes(info, task, request.identity, request_id),
        )
    return StartedTask(
        task=_required(tx.state),
        history_from=info.previous_started_id + 1 if sticky else 1,
        history_to=info.next_event_id - 1,
        transient=transient,
    )


def find(state: Execution, scheduled_id: int, attempt: int, started_time: int) -> WorkflowTask:
    """The task that a token names, with a worker.

    Raises:
        StatusError: NOT_FOUND, if it has ended or timed out, or the run is closed.
    """
    if not state.info.running:
        raise not_found(f"workflow execution already completed: {state.info.workflow_id!r}, run {state.info.run_id}")
    task = current(state)
    if (
        task is None
        or not task.started
        or task.scheduled_id != scheduled_id
        or task.attempt != attempt
        or task.started_time != started_time
    ):
        raise not_found(
            f"Workflow task not found: workflow {state.info.workflow_id!r}, scheduled event {scheduled_id},"
            f" attempt {attempt} has completed, failed or timed out."
        )
    return task


def complete(
    tx: Transaction, task: WorkflowTask, identity: str, sdk_metadata: WorkflowTaskCompletedMetadata | None
) -> int:
    """The worker has answered: write the task's end. Returns the completed event's id, which its commands refer to."""
    if task.transient:
        _write_transient(tx, task)
        task = _required(tx.state)
    return tx.add(
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        workflow_task_completed_event_attributes=WorkflowTaskCompletedEventAttributes(
            scheduled_event_id=task.scheduled_id,
            started_event_id=task.started_id,
            identity=identity,
            sdk_metadata=sdk_metadata,
        ),
    )


def fail(
    tx: Transaction, task: WorkflowTask, cause: int, failure: Failure | None, identity: str, *, again: bool = True
) -> None:
    """The attempt failed: the first one in history, later ones without a trace; with `again` the task waits anew."""
    if not task.transient:
        tx.add(
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
            workflow_task_failed_event_attributes=WorkflowTaskFailedEventAttributes(
                scheduled_event_id=task.scheduled_id,
                started_event_id=task.started_id,
                cause=WorkflowTaskFailedCause.ValueType(cause),
                failure=failure,
                identity=identity,
            ),
        )
    else:
        tx.note(Dropped())
    if again:
        _again(tx, task, task.attempt + 1)


def force_close(tx: Transaction) -> None:
    """The run is to be ended from outside: a task in flight has failed, and what waited for it takes its place."""
    task = current(tx.state)
    if task is not None and task.started:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
        fail(tx, task, cause, None, "history-service", again=False)
        buffer.release(tx)


def due(tx: Transaction, task: WorkflowTask) -> None:
    """Its time has come: nobody took it from the sticky queue, or the worker that took it did not answer."""
    if not task.started:
        if task.sticky_timeout and task.scheduled_time + task.sticky_timeout <= tx.now:
            leave_sticky(tx)
        return
    if task.started_time + task.timeout > tx.now:
        return
    if task.transient:
        tx.note(Dropped())
    else:
        tx.add(
            EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
            workflow_task_timed_out_event_attributes=WorkflowTaskTimedOutEventAttributes(
                scheduled_event_id=task.scheduled_id,
                started_event_id=task.started_id,
                timeout_type=TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE,
            ),
        )
    _again(tx, task, task.attempt + 1)


def unstick(tx: Transaction) -> None:
    """Nobody polls the sticky queue that the task was to wait in, so it does not go there at all."""
    task = current(tx.state)
    if task is not None and not task.started and task.sticky_timeout:
        tx.note(Unstuck())


def leave_sticky(tx: Transaction) -> None:
    """A task that waits in a sticky queue goes to the workflow's own, which any worker polls."""
    task = current(tx.state)
    if task is None or task.started or not task.sticky_timeout:
        return
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
        workflow_task_timed_out_event_attributes=WorkflowTaskTimedOutEventAttributes(
            scheduled_event_id=task.scheduled_id,
            timeout_type=TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START,
        ),
    )
    schedule(tx)


def _again(tx: Transaction, task: WorkflowTask, attempt: int) -> None:
    """The task waits again: as a repeat, or as a first attempt if events have come while it was with the worker."""
    if buffer.release(tx):
        schedule(tx)
        return
    tx.note(Scheduled(tx.state.info.next_event_id, attempt, tx.now, task.original_scheduled_time))


def _write_transient(tx: Transaction, task: WorkflowTask) -> None:
    """A repeat has succeeded: its two events take their place in history, at the ids that the worker was shown."""
    invariant(task.scheduled_id == tx.state.info.next_event_id, "a transient task's events come next in history")
    for event in transient_events(tx.state.info, task):
        tx.place(event)


def transient_events(info: Info, task: WorkflowTask) -> tuple[HistoryEvent, HistoryEvent]:
    scheduled = HistoryEvent(
        event_id=task.scheduled_id,
        event_time=timestamp(task.scheduled_time),
        event_type=_SCHEDULED,
        workflow_task_scheduled_event_attributes=WorkflowTaskScheduledEventAttributes(
            task_queue=_queue(info, sticky=False),
            start_to_close_timeout=duration(task.timeout),
            attempt=task.attempt,
        ),
    )
    started = HistoryEvent(
        event_id=task.scheduled_id + 1,
        event_time=timestamp(task.started_time),
        event_type=_STARTED,
        workflow_task_started_event_attributes=_started_attributes(info, task, task.identity, task.request_id),
    )
    return scheduled, started


def _started_attributes(
    info: Info, task: WorkflowTask, identity: str, request_id: str
) -> WorkflowTaskStartedEventAttributes:
    return WorkflowTaskStartedEventAttributes(
        scheduled_event_id=task.scheduled_id,
        identity=identity,
        request_id=request_id,
        suggest_continue_as_new=info.next_event_id > limits.SUGGEST_CONTINUE_AS_NEW_EVENTS
        or info.history_size > limits.SUGGEST_CONTINUE_AS_NEW_SIZE,
        history_size_bytes=info.history_size,
    )


def _queue(info: Info, *, sticky: bool) -> TaskQueue:
    if sticky:
        return TaskQueue(name=info.sticky_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=info.task_queue)
    return TaskQueue(name=info.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)


def _required(state: Execution) -> WorkflowTask:
    task = current(state)
    if task is None:
        raise InvariantError("there is no workflow task")
    return task
