"""What a worker's answer to a workflow task does: its commands, one after another, all of them or none.

A command that cannot be carried out fails the task, and the worker is told why; so does closing the workflow while
events wait that its code has not seen (Temporal: UNHANDLED_COMMAND). Everything that came while the task was under way
takes its place in history after it, and makes the next task.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import CommandType, EventType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure, ServerFailureInfo

from nexuskit.backend.errors import StatusError, invalid_argument, not_found, unimplemented
from nexuskit.backend.history import activity, buffer, update, workflow, workflow_task
from nexuskit.backend.history.command import CommandError
from nexuskit.backend.history.identities import SERVER
from nexuskit.backend.history.state import Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import WorkerVersionStamp
    from temporalio.api.protocol.v1 import Message
    from temporalio.api.query.v1 import WorkflowQueryResult
    from temporalio.api.sdk.v1 import WorkflowTaskCompletedMetadata

    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.history.workflow_task import StartedTask

CLOSING = frozenset(
    {
        CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
        CommandType.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
        CommandType.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION,
        CommandType.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION,
    }
)
"""Commands that end the run: nothing may follow them."""


class CompleteTask(NamedTuple):
    """A worker's answer.

    Attributes:
        scheduled_id, attempt, started_time: from the task's token.
        commands: what the workflow's code wants.
        identity: who the worker says it is.
        sdk_metadata: what the SDK wants to be kept with the completed event.
        worker_version: the worker's build, likewise.
        sticky_queue, sticky_timeout: where the workflow's next tasks are to go first, and for how long (ns).
        another: give the worker another task at once even if there is nothing new (a heartbeat of a long task).
        take_next: the worker takes the next task with the answer, if there is one.
        messages: what it says to updates.
        answers: what it says to queries.
        discards_events: it can take back events that it was shown with a task of which no trace stays.
    """

    scheduled_id: int
    attempt: int
    started_time: int
    commands: Sequence[Command]
    identity: str
    sdk_metadata: WorkflowTaskCompletedMetadata | None
    worker_version: WorkerVersionStamp | None
    sticky_queue: str
    sticky_timeout: int
    another: bool
    take_next: bool
    messages: Sequence[Message] = ()
    answers: Mapping[str, WorkflowQueryResult] = MappingProxyType({})
    discards_events: bool = False


class CompletedTask(NamedTuple):
    """What comes of it.

    Attributes:
        next_task: the next task, already the worker's; None if there is none or it did not ask.
        eager: keys of the activities that the worker gets with the answer.
        error: the answer is this refusal instead; the failed task is in history all the same.
        reset_to: no trace stays of the task: history ends with this event again, for the worker too; 0: it stays.
    """

    next_task: StartedTask | None = None
    eager: tuple[Key, ...] = ()
    error: StatusError | None = None
    reset_to: int = 0


def decide(tx: Transaction, request: CompleteTask) -> CompletedTask:
    """Carry out a worker's answer.

    Raises:
        StatusError: NOT_FOUND, if the task is not with a worker any more; UNIMPLEMENTED, for a command not served here.
    """
    task = workflow_task.find(tx.state, request.scheduled_id, request.attempt, request.started_time)
    for command in request.commands:
        if command.command_type not in CommandType.values() or not command.command_type:
            raise invalid_argument(f"unknown command type: {command.command_type}")
        if command.command_type not in tx.rules.commands:
            raise unimplemented(f"command {CommandType.Name(command.command_type)} is not served by this backend")
    tx.messages = list(request.messages)
    idle = request.another and not request.commands and not request.messages
    if idle and task.original_scheduled_time + tx.limits.WORKFLOW_TASK_KEPT_ALIVE < tx.now:
        tx.answers = request.answers
        workflow_task.time_out(tx, task, sticky=False)
        return CompletedTask(error=not_found("workflow task heartbeat timeout"))
    try:
        completed_id = _carry_out(tx, task, request)
    except CommandError as error:
        tx.reset()
        return _refuse(tx, task, request, error)
    tx.answers = request.answers
    if not tx.state.info.running:
        return CompletedTask()
    released = buffer.release(tx)
    if idle:
        workflow_task.prolong(tx, task)
    elif released or request.another:
        workflow_task.schedule(tx)
    elif update.waits(tx.state):
        workflow_task.speculate(tx)
    next_task = None
    waiting = workflow_task.current(tx.state)
    if request.take_next and waiting is not None:
        start = workflow_task.Start(waiting.stamp, request.identity)
        next_task = update.deliver(tx, start, again=not request.another)
        if next_task is not None:
            # Sticky or not: the worker has just answered, knows what was before, and begins anew if it is shown that.
            next_task = next_task._replace(history_from=tx.state.info.previous_started_id + 1)
    reset_to = 0 if completed_id else tx.state.info.previous_started_id
    return CompletedTask(next_task, _start_eager(tx, request), reset_to=reset_to)


def _carry_out(tx: Transaction, task: workflow_task.WorkflowTask, request: CompleteTask) -> int:
    """Returns the id of the event that says that the task is completed, 0 if no trace of it stays."""
    # Not what its own commands bring at once: that may be closed over.
    unseen = bool(buffer.waiting(tx.state).events)
    idle = not request.commands and not request.another
    if idle and update.may_discard(tx.state, task, request.messages, discards_events=request.discards_events):
        tx.note(workflow_task.Discarded())
        completed_id = 0
    else:
        completed_id = workflow_task.complete(tx, task, request.identity, request.sdk_metadata, request.worker_version)
    tx.note(workflow_task.Sticky(request.sticky_queue, request.sticky_timeout))
    for place, command in enumerate(request.commands):
        if command.command_type in CLOSING:
            if unseen:
                cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
                raise CommandError(cause, "UnhandledCommand")
            if place + 1 < len(request.commands):
                name = CommandType.Name(command.command_type)
                raise invalid_argument(
                    f"{name} must be the last command, {len(request.commands) - place - 1} follow it"
                )
        tx.command = command
        tx.rules.commands[command.command_type](tx, command, completed_id)
        tx.command = None
    update.carry_out_rest(tx)
    if tx.state.info.running and not request.another:
        update.reject_unanswered(tx)
    return completed_id


def _refuse(
    tx: Transaction, task: workflow_task.WorkflowTask, request: CompleteTask, error: CommandError
) -> CompletedTask:
    name = WorkflowTaskFailedCause.Name(WorkflowTaskFailedCause.ValueType(error.cause))
    short = "".join(word.title() for word in name.removeprefix("WORKFLOW_TASK_FAILED_CAUSE_").split("_"))
    text = error.message if error.message == short else f"{short}: {error.message}"
    refusal = CompletedTask(error=invalid_argument(text))
    unhandled = error.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
    update.give_up_sent(tx)
    if task.repeat and not error.terminate and not unhandled:
        # It would fail again at once and keep everybody busy: the task is left to time out before it is repeated.
        return refusal
    failure = Failure(message=text, server_failure_info=ServerFailureInfo())
    workflow_task.fail(tx, task, error.cause, failure, request.identity, again=not error.terminate)
    if error.terminate:
        workflow.terminate(tx, text, SERVER)
    return refusal


def _start_eager(tx: Transaction, request: CompleteTask) -> tuple[Key, ...]:
    wanted = {
        command.schedule_activity_task_command_attributes.activity_id
        for command in request.commands
        if command.command_type == CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
        and command.schedule_activity_task_command_attributes.request_eager_execution
    }
    if not wanted:
        return ()
    keys = [
        event.event_id
        for event in tx.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_id in wanted
    ]
    return tuple(key for key in keys if activity.start(tx, activity.Start(key, 1, request.identity)) is not None)
