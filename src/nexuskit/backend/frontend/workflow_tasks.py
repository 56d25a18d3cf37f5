"""Workflow task calls: workers poll for turns of workflows, and answer with commands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, cast

from temporalio.api.common.v1 import WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    PollWorkflowTaskQueueResponse,
    ResetStickyTaskQueueRequest,
    ResetStickyTaskQueueResponse,
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
)

from nexuskit.backend import conversations, tokens
from nexuskit.backend.conversations import Question
from nexuskit.backend.errors import invalid_argument, not_found
from nexuskit.backend.frontend import activity_tasks, describe, polls, queries
from nexuskit.backend.frontend.checks import check_queue, check_text
from nexuskit.backend.history import activity_failures, task_completion, task_events, update, workflow_task
from nexuskit.backend.history.activity import Activity
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.state import Destination
from nexuskit.backend.times import span, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.query.v1 import WorkflowQuery

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.state import Info
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.services import Services
    from nexuskit.backend.settings import Limits


async def poll(services: Services, call: Call, request: PollWorkflowTaskQueueRequest) -> PollWorkflowTaskQueueResponse:
    """PollWorkflowTaskQueue: the next task that waits in this queue, or nothing after a while."""
    namespace = services.namespaces.get(request.namespace)
    check_queue(request, services.limits)
    check_text("Identity", request.identity, services.limits, required=False)
    until = call.until(services.limits.LONG_POLL, services.clock.now(), services.limits.POLL_MARGIN)
    destination = Destination("workflow", namespace.id, request.task_queue.name)
    while (taken := await services.engine.tasks.take(destination, until, polls.poller(services, request))) is not None:
        key, handed = taken
        if isinstance(handed, Question):
            question = await _query(services, handed, destination)
            if question is not None:
                return question
            continue
        waiting = cast("Waiting", handed)
        resident = await polls.execution(services, destination, key, waiting)
        if resident is None:
            continue
        start = workflow_task.Start(waiting.stamp, request.identity)
        started = services.engine.run(resident, lambda tx, start=start: update.deliver(tx, start))
        if started is not None:
            summary = Summary.of(resident.execution.info)
            asked = conversations.queries_for_task(resident)
            await services.engine.store.under_way()
            answer = await task(services, resident, summary, started, asked)
            await services.engine.durable(resident)
            return answer
    return PollWorkflowTaskQueueResponse()


async def _query(
    services: Services, question: Question, destination: Destination
) -> PollWorkflowTaskQueueResponse | None:
    try:
        return await queries.task(services, question, destination)
    except asyncio.CancelledError:  # the poller went away
        if not question.ended:
            services.engine.tasks.offer(destination, question.key, question, first=True)
        raise


class Summary(NamedTuple):
    """What a task says of its execution, as it was when the task was started."""

    namespace_id: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    previous_started_id: int

    @classmethod
    def of(cls, info: Info) -> Summary:
        return cls(
            info.namespace_id,
            info.workflow_id,
            info.run_id,
            info.workflow_type,
            info.task_queue,
            info.previous_started_id,
        )


async def task(
    services: Services,
    resident: Resident,
    info: Summary,
    started: workflow_task.StartedTask,
    asked: Mapping[str, WorkflowQuery],
) -> PollWorkflowTaskQueueResponse:
    """A started task, as its worker gets it."""
    row = started.task
    token = tokens.WorkflowTaskToken(
        resident.execution.id, info.namespace_id, info.run_id, row.scheduled_id, row.attempt, row.started_time
    )
    answer = PollWorkflowTaskQueueResponse(
        task_token=tokens.write(token),
        workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
        workflow_type=WorkflowType(name=info.workflow_type),
        previous_started_event_id=info.previous_started_id,
        started_event_id=row.started_id,
        attempt=row.attempt,
        history=History(),
        workflow_execution_task_queue=TaskQueue(name=info.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        scheduled_time=timestamp(row.scheduled_time),
        started_time=timestamp(row.started_time),
        queries=asked,
        messages=started.messages,
    )
    size = services.limits.HISTORY_PAGE_SIZE
    last = await services.engine.read_history(
        resident, started.history_from, started.history_to, size, into=answer.history
    )
    if last < started.history_to:
        transient = row.scheduled_id if started.transient else 0
        page = tokens.HistoryPage(
            resident.execution.id, info.namespace_id, info.run_id, last + 1, started.history_to, transient
        )
        answer.next_page_token = tokens.write(page)
    else:
        answer.history.events.extend(started.transient)
    return answer


async def complete(
    services: Services, _: Call, request: RespondWorkflowTaskCompletedRequest
) -> RespondWorkflowTaskCompletedResponse:
    """RespondWorkflowTaskCompleted: the workflow's commands, all or none."""
    check_text("Identity", request.identity, services.limits, required=False)
    token = _read_token(services, request.namespace, request.task_token)
    sticky = request.sticky_attributes
    resident = await services.resident(token)
    decision = task_completion.CompleteTask(
        scheduled_id=token.key,
        attempt=token.attempt,
        started_time=token.started_time,
        commands=request.commands,
        identity=request.identity,
        sdk_metadata=request.sdk_metadata if request.HasField("sdk_metadata") else None,
        worker_version=request.worker_version_stamp if request.HasField("worker_version_stamp") else None,
        sticky_queue=sticky.worker_task_queue.name,
        sticky_timeout=span(sticky.schedule_to_start_timeout),
        another=request.force_create_new_workflow_task,
        take_next=request.return_new_workflow_task,
        messages=request.messages,
        answers=request.query_results,
        discards_events=request.capabilities.discard_speculative_workflow_task_with_events,
    )
    outcome = services.engine.run(resident, lambda tx: task_completion.decide(tx, decision))
    summary = Summary.of(resident.execution.info)
    asked = conversations.queries_for_task(resident) if outcome.next_task is not None else {}
    eager = [(key, resident.execution.of(Activity).get(key)) for key in outcome.eager]
    await services.engine.store.under_way()
    answer = RespondWorkflowTaskCompletedResponse(reset_history_event_id=outcome.reset_to)
    for key, row in eager:
        if row is not None:
            scheduled = await services.engine.event(resident, int(key))
            answer.activity_tasks.append(activity_tasks.task(services, resident, row, scheduled))
    if outcome.next_task is not None:
        answer.workflow_task.CopyFrom(await task(services, resident, summary, outcome.next_task, asked))
    await services.engine.durable(resident)
    if outcome.error is not None:
        raise outcome.error
    return answer


async def fail(
    services: Services, _: Call, request: RespondWorkflowTaskFailedRequest
) -> RespondWorkflowTaskFailedResponse:
    """RespondWorkflowTaskFailed: the task waits again."""
    check_text("Identity", request.identity, services.limits, required=False)
    token = _read_token(services, request.namespace, request.task_token)
    resident = await services.resident(token)
    failure = request.failure if request.HasField("failure") else None
    if failure is not None:
        if failure.ByteSize() > services.limits.PAYLOAD_SIZE:  # refused, the task would seem to be with the worker
            short = activity_failures.truncated(failure, services.limits.FAILURE_SIZE_LARGE)
            failure = activity_failures.server_failure(activity_failures.FAILURE_TOO_LARGE, cause=short)
        cut_causes(failure, services.limits)

    def decide(tx: Transaction) -> None:
        task = workflow_task.find(tx.state, token.key, token.attempt, token.started_time)
        workflow_task.fail(tx, task, request.cause, failure, request.identity)

    services.engine.run(resident, decide)
    await services.engine.durable(resident)
    return RespondWorkflowTaskFailedResponse()


async def reset_sticky(
    services: Services, _: Call, request: ResetStickyTaskQueueRequest
) -> ResetStickyTaskQueueResponse:
    """ResetStickyTaskQueue: the next tasks come to any worker. A task that waits already stays where it is."""
    resident = await describe.find(services, request.namespace, request.execution)
    if not resident.execution.info.running:
        await services.engine.durable(resident)
        raise not_found("workflow execution already completed")
    services.engine.run(resident, lambda tx: tx.note(workflow_task.Sticky("", 0)))
    await services.engine.durable(resident)
    return ResetStickyTaskQueueResponse()


def _read_token(services: Services, namespace: str, raw: bytes) -> tokens.WorkflowTaskToken:
    namespace_id = services.namespaces.get(namespace).id
    token = tokens.read(tokens.WorkflowTaskToken, raw, "task token")
    if namespace_id != token.namespace_id:
        raise invalid_argument(f"Operation requested with a token from a different namespace than {namespace!r}.")
    return token


def transient_events(resident: Resident, scheduled_id: int, limits: Limits) -> tuple[HistoryEvent, ...]:
    """The events of the transient task that would come next in history, if there is one."""
    task = workflow_task.current(resident.execution)
    if task is None or not task.transient or task.scheduled_id != scheduled_id:
        return ()
    return task_events.transient_events(limits, resident.execution.info, task)[: 2 if task.started else 1]
