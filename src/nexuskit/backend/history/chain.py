"""What follows a run that has ended: another run of its workflow id, by continue-as-new, a retry or a cron schedule.

The new run begins in the same commit in which the old one ends, so that a chain is never broken and never doubled. The
old one's callbacks go with it: whoever waits for the workflow waits for the end of the chain
(temporalio/temporal: service/history/workflow/retry.go).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.common.v1 import Payloads, Priority, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    ContinueAsNewInitiator,
    EventType,
    RetryState,
    TaskQueueKind,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import (
    HistoryEvent,
    WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionStartedEventAttributes,
)
from temporalio.api.taskqueue.v1 import TaskQueue

from nexuskit.backend.errors import StatusError
from nexuskit.backend.history import callback, cron, retry, start
from nexuskit.backend.history.attributes import check as check_attributes
from nexuskit.backend.history.command import (
    CommandError,
    check_given,
    check_length,
    check_payloads,
    check_queue,
    check_timeout,
)
from nexuskit.backend.history.transaction import Successor
from nexuskit.backend.times import duration, span, timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.api.command.v1 import Command
    from temporalio.api.common.v1 import Link
    from temporalio.api.failure.v1 import Failure

    from nexuskit.backend.history.state import Execution, Info
    from nexuskit.backend.history.transaction import Transaction

_BAD = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_CONTINUE_AS_NEW_ATTRIBUTES
_INITIATOR = ContinueAsNewInitiator


def continue_as_new(tx: Transaction, command: Command, completed_id: int) -> None:
    """ContinueAsNewWorkflowExecution: the workflow starts afresh, with an empty history."""
    given = command.continue_as_new_workflow_execution_command_attributes
    info = tx.state.info
    name = given.workflow_type.name or info.workflow_type
    queue = given.task_queue.name or info.task_queue
    check_given(_BAD, command)
    check_length(_BAD, "WorkflowType", "ContinueAsNewWorkflowExecutionCommand", name, tx.limits)
    before = "error validating ContinueAsNewWorkflowExecutionCommand TaskQueue"
    check_queue(_BAD, before, queue, tx.limits)
    command_name = "ContinueAsNewWorkflowExecutionCommandAttributes"
    on = "on ContinueAsNewWorkflowExecutionCommand"
    run = check_timeout(_BAD, f"Invalid WorkflowRunTimeout {on}", given.workflow_run_timeout) or info.run_timeout
    task = check_timeout(_BAD, f"Invalid WorkflowTaskTimeout {on}", given.workflow_task_timeout) or info.task_timeout
    pause = check_timeout(_BAD, f"Invalid BackoffStartInterval {on}", given.backoff_start_interval)
    check_payloads(_BAD, f"{command_name}. Input", given.input, tx.limits)
    check_payloads(_BAD, f"{command_name}. Memo", given.memo, tx.limits)
    check_attributes(tx, given.search_attributes)
    try:
        policy = start.checked_repeats(given, tx.now, tx.limits)
    except StatusError as error:
        raise CommandError(_BAD, error.message) from error
    attributes = WorkflowExecutionStartedEventAttributes(
        workflow_type=WorkflowType(name=name),
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        input=given.input if given.HasField("input") else None,
        workflow_run_timeout=duration(run),
        workflow_task_timeout=duration(task),
        retry_policy=policy,
        cron_schedule=given.cron_schedule,
        header=given.header if given.HasField("header") else None,
        memo=given.memo if given.HasField("memo") else None,
        search_attributes=given.search_attributes if given.HasField("search_attributes") else None,
        last_completion_result=given.last_completion_result if given.HasField("last_completion_result") else None,
        continued_failure=given.failure if given.HasField("failure") else None,
        initiator=given.initiator or _INITIATOR.CONTINUE_AS_NEW_INITIATOR_WORKFLOW,
        first_workflow_task_backoff=duration(_least_pause(tx, pause)),
        priority=Priority.FromString(info.priority) if info.priority else None,
    )
    run_id = _follow(tx, attributes)
    tx.add(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
        workflow_execution_continued_as_new_event_attributes=WorkflowExecutionContinuedAsNewEventAttributes(
            new_execution_run_id=run_id,
            workflow_type=attributes.workflow_type,
            task_queue=attributes.task_queue,
            input=given.input if given.HasField("input") else None,
            workflow_run_timeout=duration(run),
            workflow_task_timeout=duration(task),
            workflow_task_completed_event_id=completed_id,
            backoff_start_interval=given.backoff_start_interval if given.HasField("backoff_start_interval") else None,
            initiator=given.initiator,
            failure=given.failure if given.HasField("failure") else None,
            last_completion_result=given.last_completion_result if given.HasField("last_completion_result") else None,
            header=given.header if given.HasField("header") else None,
            memo=given.memo if given.HasField("memo") else None,
            search_attributes=given.search_attributes if given.HasField("search_attributes") else None,
        ),
    )


def after_completion(tx: Transaction, result: Payloads | None) -> str:
    """A run has completed: its cron schedule may ask for another. Returns the new run's id; empty for none."""
    pause = _cron_pause(tx)
    if pause is None:
        return ""
    return _next(tx, _INITIATOR.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, pause, result=result)


def after_failure(tx: Transaction, failure: Failure) -> tuple[str, int]:
    """A run has failed or timed out: its retry policy, or else its cron schedule, may ask for another.

    Returns:
        The new run's id, empty for none; and why it is retried or not, as a `RetryState`.
    """
    info = tx.state.info
    policy = start.retry_policy(info)
    state = int(RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET)
    if policy is not None:
        if not retry.retryable(failure, policy):
            state = int(RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE)
        else:
            delay = span(failure.application_failure_info.next_retry_delay)
            after, state = retry.again(
                policy, attempt=info.attempt, now=tx.now, expires=info.execution_expiration, delay=delay
            )
            if after is not None:
                return _next(tx, _INITIATOR.CONTINUE_AS_NEW_INITIATOR_RETRY, after, failure=failure), state
    pause = _cron_pause(tx)
    if pause is None:
        return "", state
    return _next(tx, _INITIATOR.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE, pause, failure=failure), state


def _cron_pause(tx: Transaction) -> int | None:
    info = tx.state.info
    if not info.cron_schedule or (info.execution_expiration and tx.now >= info.execution_expiration):
        return None
    return cron.pause(info.cron_schedule, info.execution_time, tx.now)


def _next(
    tx: Transaction, initiator: int, pause: int, *, result: Payloads | None = None, failure: Failure | None = None
) -> str:
    """Another run with what this one started with."""
    template = tx.state.of(start.Template).get(start.ONLY)
    started = HistoryEvent.FromString(template.started) if template is not None else HistoryEvent()
    attributes = started.workflow_execution_started_event_attributes
    retried = initiator == _INITIATOR.CONTINUE_AS_NEW_INITIATOR_RETRY
    attributes.initiator = ContinueAsNewInitiator.ValueType(initiator)
    attributes.attempt = tx.state.info.attempt + 1 if retried else 1
    # Memo and search attributes stay those that the run started with, as on a real server.
    attributes.ClearField("eager_execution_accepted")
    if result is not None:
        attributes.last_completion_result.CopyFrom(result)
    attributes.ClearField("continued_failure")
    if failure is not None:
        attributes.continued_failure.CopyFrom(failure)
    attributes.ClearField("first_workflow_task_backoff")
    first = duration(_least_pause(tx, pause))
    if first is not None:
        attributes.first_workflow_task_backoff.CopyFrom(first)
    return _follow(tx, attributes, started.links)


def _least_pause(tx: Transaction, pause: int) -> int:
    """No chain goes round faster than this, so that a mistake does not keep everybody busy."""
    lived = max(tx.now - tx.state.info.execution_time, 0)
    return max(pause, tx.limits.CHAIN_INTERVAL - lived, 0)


def _follow(tx: Transaction, attributes: WorkflowExecutionStartedEventAttributes, links: Sequence[Link] = ()) -> str:
    """Let a run follow this one, as part of the same chain. Returns its id."""
    info = tx.state.info
    whole, expiration = duration(info.execution_timeout), timestamp(info.execution_expiration)
    if whole is not None:
        attributes.workflow_execution_timeout.CopyFrom(whole)
    if expiration is not None:
        attributes.workflow_execution_expiration_time.CopyFrom(expiration)
    attributes.first_execution_run_id = info.first_run_id
    attributes.continued_execution_run_id = info.run_id
    if info.serialization_context:
        attributes.propagated_nexus_serialization_context.ParseFromString(info.serialization_context)
    _hand_on_parent(attributes, info)
    del attributes.completion_callbacks[:]
    attributes.completion_callbacks.extend(_callbacks(tx.state))
    run = start.StartRun(attributes, tx.draw.uuid(), links)
    tx.successor = Successor(tx.draw.run_id(tx.now), partial(start.begin, run=run))
    return tx.successor.run_id


def _hand_on_parent(attributes: WorkflowExecutionStartedEventAttributes, info: Info) -> None:
    if info.parent is None:
        return
    attributes.parent_workflow_namespace = info.parent.namespace
    attributes.parent_workflow_namespace_id = info.parent.namespace_id
    attributes.parent_workflow_execution.CopyFrom(
        WorkflowExecution(workflow_id=info.parent.workflow_id, run_id=info.parent.run_id)
    )
    attributes.parent_initiated_event_id = info.parent.initiated_id
    if info.root is not None:
        attributes.root_workflow_execution.CopyFrom(
            WorkflowExecution(workflow_id=info.root.workflow_id, run_id=info.root.run_id)
        )


def _callbacks(state: Execution) -> list[CallbackProto]:
    return [
        CallbackProto.FromString(row.callback)
        for _, row in state.of(callback.Callback).items()
        if row.state == callback.State.STANDBY and not row.update_id
    ]
