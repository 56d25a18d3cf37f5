"""How a run begins: its first event, the time it has, and the pause before its first workflow task, if there is one.

    nothing ── begin ──> RUNNING, its first workflow task waits
                    └──> RUNNING, nothing waits until its start delay, retry or cron pause is over

A run begins at a client's request, as a child, by continue-as-new, by a retry, on its cron schedule, or as the reset of
another: whoever starts it fills in the started event, and everything else is the same for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import ContinueAsNewInitiator, EventType, TaskQueueKind
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend.errors import invariant
from nexuskit.backend.history import callback, cron, retry, workflow_task
from nexuskit.backend.history.state import Index, Info, Parent, Root, Row
from nexuskit.backend.history.transaction import Record
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import duration, moment, span
from nexuskit.backend.visibility.search_attributes import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from temporalio.api.command.v1 import (
        ContinueAsNewWorkflowExecutionCommandAttributes,
        StartChildWorkflowExecutionCommandAttributes,
    )
    from temporalio.api.common.v1 import Callback, Link
    from temporalio.api.history.v1 import StartChildWorkflowExecutionInitiatedEventAttributes
    from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

    from nexuskit.backend.history.state import Execution
    from nexuskit.backend.history.transaction import Transaction

    Repeating = (
        StartWorkflowExecutionRequest
        | StartChildWorkflowExecutionCommandAttributes
        | ContinueAsNewWorkflowExecutionCommandAttributes
    )

ONLY = 0
"""The key of the one row of each kind here."""


class RunDeadline(Row, frozen=True):
    """When the run's time is over."""

    kind = "run_deadline"
    at: int

    def index(self, info: Info) -> Index:
        return Index(due=self.at)


class FirstTask(Row, frozen=True):
    """When the first workflow task is to be scheduled; gone once one was."""

    kind = "first_task"
    at: int

    def index(self, info: Info) -> Index:
        return Index(due=self.at)


class Template(Row, frozen=True):
    """What the next run of a chain starts with; kept only where a retry policy or a cron schedule may ask for one."""

    kind = "template"
    started: bytes
    """A `HistoryEvent` with the attributes and links of this run's started event, serialised."""

    def index(self, info: Info) -> Index:
        return Index()


class Requested(Record, frozen=True):
    """The request that starts the run; history does not hold its id."""

    request_id: str


class FirstTaskReady(Record, frozen=True):
    """The pause before the first workflow task is over, or is cut short."""


class StartRun(NamedTuple):
    """How a run is to begin.

    Attributes:
        attributes: of the started event; ids, timeouts and attempt that are not set are filled in.
        request_id: the request that starts it, answered with this run if it comes again.
        links, user_metadata: of the started event.
    """

    attributes: WorkflowExecutionStartedEventAttributes
    request_id: str
    links: Sequence[Link] = ()
    user_metadata: UserMetadata | None = None


# --- what happened


def apply_requested(state: Execution, record: Requested) -> None:
    state.info.start_request_id = record.request_id


def apply_started(state: Execution, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_started_event_attributes
    info = state.info
    info.workflow_type = attributes.workflow_type.name
    info.task_queue = attributes.task_queue.name
    info.start_time = moment(event.event_time)
    info.execution_time = info.start_time + span(attributes.first_workflow_task_backoff)
    info.execution_timeout = span(attributes.workflow_execution_timeout)
    info.run_timeout = span(attributes.workflow_run_timeout)
    info.task_timeout = span(attributes.workflow_task_timeout)
    info.execution_expiration = moment(attributes.workflow_execution_expiration_time)
    info.first_run_id = attributes.first_execution_run_id
    info.attempt = attributes.attempt
    info.memo = attributes.memo.SerializeToString()
    info.search_attributes = merge(b"", attributes.search_attributes).SerializeToString(deterministic=True)
    info.priority = attributes.priority.SerializeToString()
    info.serialization_context = attributes.propagated_nexus_serialization_context.SerializeToString()
    info.user_metadata = event.user_metadata.SerializeToString()
    if attributes.HasField("parent_workflow_execution"):
        parent = attributes.parent_workflow_execution
        info.parent = Parent(
            attributes.parent_workflow_namespace_id,
            parent.workflow_id,
            parent.run_id,
            attributes.parent_initiated_event_id,
            attributes.parent_workflow_namespace,
        )
        root = attributes.root_workflow_execution
        info.root = Root(root.workflow_id, root.run_id)
    if attributes.HasField("retry_policy"):
        info.retry_policy = attributes.retry_policy.SerializeToString()
    info.cron_schedule = attributes.cron_schedule
    if info.retry_policy or info.cron_schedule:
        template = HistoryEvent(links=event.links, workflow_execution_started_event_attributes=attributes)
        template.workflow_execution_started_event_attributes.ClearField("identity")
        state.of(Template).put(ONLY, Template(template.SerializeToString()))
    if info.run_deadline:
        state.of(RunDeadline).put(ONLY, RunDeadline(info.run_deadline))
    if info.execution_time > info.start_time:
        state.of(FirstTask).put(ONLY, FirstTask(info.execution_time))


def apply_first_task_ready(state: Execution, _: FirstTaskReady) -> None:
    state.of(FirstTask).remove(ONLY)


# --- what is to be done


def from_request(request: StartWorkflowExecutionRequest, now: int, limits: Limits) -> StartRun:
    """What a client asks for. The request has been checked."""
    pause = span(request.workflow_start_delay) or first_pause(request.cron_schedule, now)
    attributes = WorkflowExecutionStartedEventAttributes(
        workflow_type=request.workflow_type,
        task_queue=TaskQueue(name=request.task_queue.name, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        input=request.input if request.HasField("input") else None,
        workflow_execution_timeout=request.workflow_execution_timeout,
        workflow_run_timeout=request.workflow_run_timeout,
        workflow_task_timeout=request.workflow_task_timeout,
        identity=request.identity,
        continued_failure=request.continued_failure if request.HasField("continued_failure") else None,
        last_completion_result=request.last_completion_result if request.HasField("last_completion_result") else None,
        retry_policy=retry.filled(request.retry_policy, limits) if request.HasField("retry_policy") else None,
        cron_schedule=request.cron_schedule,
        initiator=cron_initiator(request.cron_schedule),
        first_workflow_task_backoff=duration(pause) or Duration(),
        memo=request.memo if request.HasField("memo") else None,
        search_attributes=request.search_attributes if request.HasField("search_attributes") else None,
        header=request.header if request.HasField("header") else None,
        completion_callbacks=request.completion_callbacks,
        eager_execution_accepted=request.request_eager_execution and not pause,
        priority=request.priority if request.HasField("priority") else None,
    )
    if request.HasField("propagated_nexus_serialization_context"):
        attributes.propagated_nexus_serialization_context.CopyFrom(request.propagated_nexus_serialization_context)
    metadata = request.user_metadata if request.HasField("user_metadata") else None
    links = own_links(request.links, request.completion_callbacks)
    return StartRun(attributes, request.request_id, links, metadata)


def first_pause(cron_schedule: str, now: int) -> int:
    """How long a run waits for the first moment of its cron schedule (ns); 0 where it has none."""
    return cron.pause(cron_schedule, now, now) or 0 if cron_schedule else 0


def own_links(links: Sequence[Link], callbacks: Sequence[Callback]) -> list[Link]:
    """Those of a request's links that none of its callbacks to a Nexus caller has: they would be shown twice."""
    shown = [link for each in callbacks if each.HasField("nexus") for link in each.links]
    return [link for link in links if link not in shown]


def checked_repeats(given: Repeating, now: int, limits: Limits) -> RetryPolicy | None:
    """The retry policy that was given, filled in; it and the cron schedule are checked.

    Raises:
        StatusError: INVALID_ARGUMENT, for either.
    """
    policy = retry.filled(given.retry_policy, limits) if given.HasField("retry_policy") else None
    if given.cron_schedule:
        cron.check(given.cron_schedule, now)
    return policy


def cron_initiator(cron_schedule: str) -> ContinueAsNewInitiator.ValueType:
    """What the started event of a chain's first run says of who started it."""
    if cron_schedule:
        return ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE
    return ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_UNSPECIFIED


def begin(tx: Transaction, run: StartRun, *, before_task: Callable[[Transaction], None] | None = None) -> None:
    """A new run begins, on an execution of which nothing is known but its ids; its first workflow task follows.

    Args:
        tx: the transaction.
        run: how it begins.
        before_task: what else happens before the first workflow task is scheduled.
    """
    info = tx.state.info
    invariant(info.next_event_id == 1, "a run starts once")
    attributes = run.attributes
    fill_timeouts(attributes, tx.limits)
    whole = span(attributes.workflow_execution_timeout)
    if whole and not attributes.HasField("workflow_execution_expiration_time"):
        attributes.workflow_execution_expiration_time.FromNanoseconds(tx.now + whole)
    attributes.original_execution_run_id = info.run_id
    attributes.first_execution_run_id = attributes.first_execution_run_id or info.run_id
    attributes.attempt = attributes.attempt or 1
    attributes.workflow_id = info.workflow_id
    tx.note(Requested(run.request_id))
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        links=list(run.links),
        user_metadata=run.user_metadata,
        workflow_execution_started_event_attributes=attributes,
    )
    for each in attributes.completion_callbacks:
        tx.note(callback.Registered(each.SerializeToString(), run.request_id, tx.now))
    if before_task is not None:
        before_task(tx)
    wake(tx)


def fill_timeouts(
    attributes: WorkflowExecutionStartedEventAttributes | StartChildWorkflowExecutionInitiatedEventAttributes,
    limits: Limits,
) -> None:
    """Timeouts that are left out get their defaults, and a part lasts no longer than the whole."""
    whole = span(attributes.workflow_execution_timeout)
    run = span(attributes.workflow_run_timeout) or whole
    run = min(run, whole) if whole else run
    task = min(span(attributes.workflow_task_timeout) or limits.WORKFLOW_TASK_TIMEOUT, limits.WORKFLOW_TASK_TIMEOUT_MAX)
    task = min(task, run) if run else task
    attributes.ClearField("workflow_execution_timeout")
    attributes.ClearField("workflow_run_timeout")
    if whole:
        attributes.workflow_execution_timeout.FromNanoseconds(whole)
    if run:
        attributes.workflow_run_timeout.FromNanoseconds(run)
    attributes.workflow_task_timeout.FromNanoseconds(task)


def pausing(state: Execution) -> bool:
    """Whether the run waits for its start delay, retry or cron pause, and no workflow task was ever scheduled."""
    return state.of(FirstTask).get(ONLY) is not None


def wake(tx: Transaction) -> None:
    """The workflow has something to do; while it pauses before its first task, that waits."""
    if not pausing(tx.state):
        workflow_task.schedule(tx)


def wake_now(tx: Transaction) -> None:
    """The workflow has something to do that cuts the pause before its first task short (Temporal: a cancel request)."""
    if pausing(tx.state):
        tx.note(FirstTaskReady())
    workflow_task.schedule(tx)


def due(tx: Transaction, row: FirstTask) -> None:
    """The pause is over."""
    if row.at <= tx.now and tx.state.info.running:
        wake_now(tx)


def retry_policy(info: Info) -> RetryPolicy | None:
    """The run's own retry policy."""
    return RetryPolicy.FromString(info.retry_policy) if info.retry_policy else None
