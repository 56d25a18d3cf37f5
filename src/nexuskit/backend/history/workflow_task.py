"""The workflow task: the turn of a workflow's own code. At most one is there, waiting in a queue or with a worker.

    nothing ── schedule ──> SCHEDULED ── start ──> STARTED ── complete ──> nothing
                                ^  │ nobody came to         │ fail, or timeout: attempt + 1
                                │  │ the sticky queue       │
                                └──┴────────────────────────┘

The first attempt writes its scheduled and started events at once. Later attempts are transient: a task that fails a
thousand times must not fill history with its failures, so their two events are shown to the worker at the end of the
history it gets, and are written only when the task completes. Should events have come in between, the task is no repeat
any more and becomes a first attempt (temporalio/temporal: service/history/workflow/workflow_task_state_machine.go).

A task that is there for updates alone is speculative: it is in memory only, and its two events are shown to the worker
as those of a transient one. If the worker rejects all of them the task is discarded, and there is no trace of it. As
soon as anything else is to be written while it is there, its own events are written first, and from then on it is a
normal task. A crash may lose it, and the updates with it.

A task goes to the sticky queue of the worker that has the workflow in its cache. If nobody takes it there in time it
goes to the workflow's own queue, which any worker polls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from temporalio.api.enums.v1 import (
    EventType,
    TimeoutType,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowTaskCompletedEventAttributes,
    WorkflowTaskFailedEventAttributes,
    WorkflowTaskTimedOutEventAttributes,
)

from nexuskit.backend import limits
from nexuskit.backend.errors import InvariantError, invariant, not_found
from nexuskit.backend.history import buffer, task_events
from nexuskit.backend.history.identities import SERVER
from nexuskit.backend.history.state import Destination, Index, Info, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from temporalio.api.common.v1 import WorkerVersionStamp
    from temporalio.api.failure.v1 import Failure
    from temporalio.api.protocol.v1 import Message
    from temporalio.api.sdk.v1 import WorkflowTaskCompletedMetadata

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

ONLY = 0
"""The key of the one row."""

_SCHEDULED = EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
_STARTED = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED


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
    speculative: bool = False
    """It is there for updates alone, and in memory only."""
    many_updates: bool = False
    """It was said, when it started, that there are so many that the workflow should continue as new."""

    @property
    def volatile(self) -> bool:
        return self.speculative

    @property
    def started(self) -> bool:
        return self.started_time != 0

    @property
    def repeat(self) -> bool:
        """The attempt before failed."""
        return self.attempt > 1

    @property
    def transient(self) -> bool:
        """Its scheduled and started events are not in history yet."""
        return self.repeat or self.speculative

    @property
    def waits_until(self) -> int:
        """When it has waited too long for a worker (ns), 0 for never."""
        if self.sticky_timeout:
            return self.scheduled_time + self.sticky_timeout
        return self.scheduled_time + limits.SPECULATIVE_TASK_WAITS if self.speculative else 0

    def index(self, info: Info) -> Index:
        if self.started:
            return Index(due=self.started_time + self.timeout, stamp=self.stamp)
        due = self.waits_until
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


class Carried(Record, frozen=True):
    """The task goes on with one that its worker kept alive: since when it has (ns)."""

    since: int


class Started(Record, frozen=True):
    """A worker took the task. For a transient one there is no event that says so."""

    scheduled_id: int
    started_id: int
    time: int
    request_id: str
    identity: str
    attempt: int
    many_updates: bool = False


class Speculated(Record, frozen=True):
    """A speculative task waits."""

    time: int


class Materialized(Record, frozen=True):
    """The speculative task is a normal one from now on."""


class Discarded(Record, frozen=True):
    """The speculative task has done nothing that is worth a trace."""


def current(state: Execution) -> WorkflowTask | None:
    """The task that waits or is with a worker."""
    return state.of(WorkflowTask).get(ONLY)


def holds_back(state: Execution, event_type: int) -> bool:
    """Whether an event of this type must wait until the task in flight has ended."""
    if event_type in task_events.NOT_HELD_BACK:
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
        timeout=task_events.attempt_timeout(info.task_timeout, record.attempt),
        attempt=record.attempt,
    )
    state.of(WorkflowTask).put(ONLY, task)


def apply_queued(state: Execution, record: Queued) -> None:
    task = _required(state)
    row = msgspec.structs.replace(
        task, queue=record.queue, sticky_timeout=record.sticky_timeout, timeout=record.timeout
    )
    state.of(WorkflowTask).put(ONLY, row)


def apply_carried(state: Execution, record: Carried) -> None:
    row = msgspec.structs.replace(_required(state), original_scheduled_time=record.since)
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
        many_updates=record.many_updates,
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


def apply_speculated(state: Execution, record: Speculated) -> None:
    info = state.info
    task = WorkflowTask(
        scheduled_id=info.next_event_id,
        scheduled_time=record.time,
        original_scheduled_time=record.time,
        queue=info.sticky_queue or info.task_queue,
        sticky_timeout=info.sticky_timeout if info.sticky_queue else 0,
        timeout=info.task_timeout,
        speculative=True,
    )
    state.of(WorkflowTask).put(ONLY, task)


def apply_materialized(state: Execution, _: Materialized) -> None:
    state.of(WorkflowTask).put(ONLY, msgspec.structs.replace(_required(state), speculative=False))


def apply_discarded(state: Execution, _: Discarded) -> None:
    state.of(WorkflowTask).remove(ONLY)


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


def schedule(tx: Transaction) -> None:
    """The workflow has something to do: a task waits for a worker, unless one is there already."""
    info = tx.state.info
    if info.archetype:
        return  # no workflow, whose machines it shares: there is no code to be woken
    task = current(tx.state)
    if info.running and task is not None and task.started and buffer.full(tx):
        # More than the task in flight can be waited for: it is failed, and they take their place (as on a real server).
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
        fail(tx, task, cause, None, SERVER)
        return
    if not info.running or task is not None:
        return
    tx.add(
        _SCHEDULED,
        workflow_task_scheduled_event_attributes=task_events.scheduled_attributes(
            info, info.task_timeout, sticky=bool(info.sticky_queue)
        ),
    )
    if info.sticky_queue:
        tx.note(Queued(info.sticky_queue, info.sticky_timeout, info.task_timeout))


def prolong(tx: Transaction, task: WorkflowTask) -> None:
    """The worker only keeps the task alive: another one follows it, which began when this one did."""
    schedule(tx)
    tx.note(Carried(task.original_scheduled_time))


def speculate(tx: Transaction) -> None:
    """Updates wait for the workflow's code, and nothing else does: a speculative task, unless there is one already."""
    if tx.state.info.running and current(tx.state) is None:
        tx.note(Speculated(tx.now))


def materialize(tx: Transaction, event_type: int) -> None:
    """An event of this type is to be written: a speculative task that is there becomes a normal one before it.

    One that no worker has yet is simply gone when the run ends.
    """
    task = current(tx.state)
    if task is None or not task.speculative or (event_type in task_events.ENDS and not task.started):
        return
    tx.note(Materialized())
    _write_transient(tx, task)


class Start(NamedTuple):
    """A worker comes for the task that it was told of.

    Attributes:
        stamp: the stamp of the index that brought it here.
        identity: who the worker says it is.
        many_updates: the workflow got so many updates that it should continue as new.
    """

    stamp: int
    identity: str
    many_updates: bool = False


class StartedTask(NamedTuple):
    """What the worker is to be given, but for the history itself.

    Attributes:
        task: the task, as it is now.
        history_from: the first event the worker needs.
        history_to: the last event in history.
        transient: the task's scheduled and started events, if they are not in history yet.
        messages: the updates that come with it.
    """

    task: WorkflowTask
    history_from: int
    history_to: int
    transient: tuple[HistoryEvent, ...]
    messages: tuple[Message, ...] = ()


def start(tx: Transaction, request: Start) -> StartedTask | None:
    """A worker takes the task. None if the task has moved on since the worker was told of it."""
    task = current(tx.state)
    info = tx.state.info
    if task is None or task.started or task.stamp != request.stamp or not info.running:
        return None
    request_id = tx.draw.uuid()
    if task.repeat and task.scheduled_id != info.next_event_id:
        # Events have come since the attempt before failed: this is no repeat, so it is written like a first attempt.
        tx.note(Dropped())
        tx.add(
            _SCHEDULED,
            workflow_task_scheduled_event_attributes=task_events.scheduled_attributes(info, task.timeout, sticky=False),
        )
        task = _required(tx.state)
    sticky = task.sticky_timeout != 0
    transient: tuple[HistoryEvent, ...] = ()
    if task.transient:
        tx.note(
            Started(
                scheduled_id=task.scheduled_id,
                started_id=task.scheduled_id + 1,
                time=tx.now,
                request_id=request_id,
                identity=request.identity,
                attempt=task.attempt,
                many_updates=request.many_updates,
            )
        )
        transient = task_events.transient_events(tx.limits, info, _required(tx.state))
    else:
        tx.add(
            _STARTED,
            workflow_task_started_event_attributes=task_events.started_attributes(
                tx.limits, info, task, request.identity, request_id, many_updates=request.many_updates
            ),
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
    tx: Transaction,
    task: WorkflowTask,
    identity: str,
    sdk_metadata: WorkflowTaskCompletedMetadata | None,
    worker_version: WorkerVersionStamp | None = None,
) -> int:
    """The worker has answered: write the task's end. Returns the completed event's id, which its commands refer to."""
    if task.repeat:
        _write_transient(tx, task)
        task = _required(tx.state)
    return tx.add(
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        workflow_task_completed_event_attributes=WorkflowTaskCompletedEventAttributes(
            scheduled_event_id=task.scheduled_id,
            started_event_id=task.started_id,
            identity=identity,
            sdk_metadata=sdk_metadata,
            worker_version=worker_version,
        ),
    )


def fail(
    tx: Transaction, task: WorkflowTask, cause: int, failure: Failure | None, identity: str, *, again: bool = True
) -> None:
    """The attempt failed: the first one in history, later ones without a trace; with `again` the task waits anew."""
    info = tx.state.info
    sticky = bool(info.sticky_queue)
    if not task.repeat:
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
        _again(tx, task, sticky=sticky)


def force_close(tx: Transaction) -> None:
    """The run is to be ended from outside: a task in flight has failed, and what waited for it takes its place."""
    task = current(tx.state)
    if task is not None and task.started:
        cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND
        fail(tx, task, cause, None, SERVER, again=False)
        buffer.release(tx)


def due(tx: Transaction, task: WorkflowTask) -> None:
    """Its time has come: nobody took it from the sticky queue, or the worker that took it did not answer."""
    if not task.started:
        if task.waits_until and task.waits_until <= tx.now:
            _wait_elsewhere(tx, task)
        return
    if task.started_time + task.timeout > tx.now:
        return
    time_out(tx, task, sticky=bool(tx.state.info.sticky_queue))


def time_out(tx: Transaction, task: WorkflowTask, *, sticky: bool) -> None:
    """The worker took too long: the task waits again."""
    if task.repeat:
        tx.note(Dropped())
    else:
        _timed_out(tx, task, TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
    _again(tx, task, sticky=sticky)


def unstick(tx: Transaction) -> None:
    """Nobody polls the sticky queue that the task waits in: it waits in the workflow's own, which any worker polls."""
    task = current(tx.state)
    if task is not None and not task.started and task.sticky_timeout:
        tx.note(Unstuck())


def _wait_elsewhere(tx: Transaction, task: WorkflowTask) -> None:
    """Nobody took the task in time: it waits anew, as a normal one in the workflow's own queue."""
    _timed_out(tx, task, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START)
    schedule(tx)


def _timed_out(tx: Transaction, task: WorkflowTask, timeout: TimeoutType.ValueType) -> None:
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
        workflow_task_timed_out_event_attributes=WorkflowTaskTimedOutEventAttributes(
            scheduled_event_id=task.scheduled_id, started_event_id=task.started_id, timeout_type=timeout
        ),
    )


def _again(tx: Transaction, task: WorkflowTask, *, sticky: bool) -> None:
    """The task waits again: as a repeat, or as a first attempt if events have come while it was with the worker.

    A worker that has the workflow in its cache may have failed for that reason alone: that does not count either.
    """
    if buffer.release(tx) or (sticky and not task.repeat):
        schedule(tx)
        return
    tx.note(Scheduled(tx.state.info.next_event_id, task.attempt + 1, tx.now, task.original_scheduled_time))


def _write_transient(tx: Transaction, task: WorkflowTask) -> None:
    """A transient task's events take their place in history, at the ids that the worker was shown."""
    invariant(task.scheduled_id == tx.state.info.next_event_id, "a transient task's events come next in history")
    for event in task_events.transient_events(tx.limits, tx.state.info, task)[: 2 if task.started else 1]:
        tx.place(event)


def _required(state: Execution) -> WorkflowTask:
    task = current(state)
    if task is None:
        raise InvariantError("there is no workflow task")
    return task
