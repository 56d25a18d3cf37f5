"""Queries: questions to a workflow's code that leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Link, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    QueryRejectCondition,
    QueryResultType,
    ResourceExhaustedCause,
    ResourceExhaustedScope,
    TaskQueueKind,
    WorkflowExecutionStatus,
)
from temporalio.api.errordetails.v1 import (
    QueryFailedFailure,
    ResourceExhaustedFailure,
    WorkflowNotReadyFailure,
)
from temporalio.api.history.v1 import History
from temporalio.api.query.v1 import QueryRejected, WorkflowQueryResult
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueResponse,
    QueryWorkflowRequest,
    QueryWorkflowResponse,
    RespondQueryTaskCompletedRequest,
    RespondQueryTaskCompletedResponse,
)

from nexuskit.backend import conversations, tokens
from nexuskit.backend.conversations import Question
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.frontend import describe
from nexuskit.backend.frontend.checks import TOO_LARGE, Named, check_size
from nexuskit.backend.history import workflow_task
from nexuskit.backend.history.start import ONLY, FirstTask
from nexuskit.backend.history.state import Destination

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.services import Services
    from nexuskit.backend.settings import Limits

FAILING_FROM = 3
"""While a workflow task is at this attempt or beyond, its workflow is taken to be broken and is not asked."""

_REJECT = QueryRejectCondition
_ANSWERED = QueryResultType.QUERY_RESULT_TYPE_ANSWERED
_FAILED = QueryResultType.QUERY_RESULT_TYPE_FAILED


async def query(services: Services, call: Call, request: QueryWorkflowRequest) -> QueryWorkflowResponse:
    """QueryWorkflow: the answer of the workflow's code, which has seen all that was acknowledged before."""
    if not request.HasField("query"):
        raise invalid_argument("WorkflowQuery is not set on request.")
    if not request.query.query_type:
        raise invalid_argument("QueryType is not set on request.")
    of = Named(request.namespace, request.execution.workflow_id)
    check_size("QueryWorkflow", request.query.query_args, services.limits, of)
    resident = await describe.find(services, request.namespace, request.execution)
    info = resident.execution.info
    until = call.deadline or services.clock.now() + services.limits.QUERY_TIMEOUT
    link = Link.Workflow(
        namespace=request.namespace, workflow_id=info.workflow_id, run_id=info.run_id, reason="Query processed"
    )
    if _rejects(request.query_reject_condition, info.status):
        status = WorkflowExecutionStatus.ValueType(info.status)
        await services.engine.durable(resident)
        link.reason = "Query rejected"
        return QueryWorkflowResponse(query_rejected=QueryRejected(status=status), link=Link(workflow=link))
    _check_ready(resident, until)
    answer = None
    if not info.previous_started_id or (info.running and workflow_task.current(resident.execution) is not None):
        answer = await _with_a_task(services, resident, request, until)
    if answer is None:
        answer = await _by_itself(services, resident, request, until)
    # The code answered from what it did in a task that may not be on disk yet.
    await services.engine.durable(resident)
    return QueryWorkflowResponse(query_result=_result(answer, services.limits, of), link=Link(workflow=link))


def _rejects(condition: int, status: int) -> bool:
    if status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING:
        return False
    if condition == _REJECT.QUERY_REJECT_CONDITION_NOT_COMPLETED_CLEANLY:
        return status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    return condition == _REJECT.QUERY_REJECT_CONDITION_NOT_OPEN


def _check_ready(resident: Resident, until: int) -> None:
    info = resident.execution.info
    pause = resident.execution.of(FirstTask).get(ONLY)
    if pause is not None and pause.at > until:
        raise _not_ready("Workflow task is not scheduled yet.")
    if not info.running and not info.previous_started_id:
        raise _not_ready("Workflow execution closed before WorkflowTaskStarted event")
    task = workflow_task.current(resident.execution)
    if task is not None and task.attempt >= FAILING_FROM:
        raise _not_ready("Unable to query workflow due to Workflow Task in failed state.")


def _not_ready(message: str) -> StatusError:
    return StatusError(Code.FAILED_PRECONDITION, message, [WorkflowNotReadyFailure()])


def _too_late() -> StatusError:
    return StatusError(Code.DEADLINE_EXCEEDED, "query timed out before a worker could process it")


def _result(answer: WorkflowQueryResult | RespondQueryTaskCompletedRequest, limits: Limits, of: Named) -> Payloads:
    """The answer's payloads.

    Raises:
        StatusError: the query failed, with the failure as a typed detail; or its answer is too long.
    """
    if isinstance(answer, WorkflowQueryResult):
        kind, result = answer.result_type, answer.answer
    else:
        kind, result = answer.completed_type, answer.query_result
    if kind == _FAILED:
        failure = answer.failure if answer.HasField("failure") else None
        raise StatusError(Code.INVALID_ARGUMENT, answer.error_message, [QueryFailedFailure(failure=failure)])
    if kind != _ANSWERED:
        raise invalid_argument("query entered invalid state, this should be impossible")
    try:
        check_size("ConsistentQuery", result, limits, of)
    except StatusError as error:
        raise invalid_argument(TOO_LARGE) from error
    return result


async def _with_a_task(
    services: Services, resident: Resident, request: QueryWorkflowRequest, until: int
) -> WorkflowQueryResult | RespondQueryTaskCompletedRequest | None:
    """The answer that comes with a workflow task; None if there is no task any more that it could come with."""
    conversation = conversations.of(resident)
    size = sum(each.query.ByteSize() for each in conversation.waiting.values()) + request.query.ByteSize()
    if len(conversation.waiting) >= services.limits.BUFFERED_QUERIES or size > services.limits.BUFFERED_QUERIES_SIZE:
        detail = ResourceExhaustedFailure(
            cause=ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW,
            scope=ResourceExhaustedScope.RESOURCE_EXHAUSTED_SCOPE_NAMESPACE,
        )
        text = (
            "consistent query buffer is full, this may be caused by too many queries and workflow not able to process"
            f" query fast enough ({len(conversation.waiting)} wait)"
        )
        raise StatusError(Code.RESOURCE_EXHAUSTED, text, [detail])
    question = Question(resident.execution.id, services.draw.uuid(), request.query)
    conversation.waiting[question.query_id] = question
    try:
        if not await question.wait(services.clock, until):
            raise _too_late()
    finally:
        del conversation.waiting[question.query_id]
    return question.answer


async def _by_itself(
    services: Services, resident: Resident, request: QueryWorkflowRequest, until: int
) -> WorkflowQueryResult | RespondQueryTaskCompletedRequest:
    """The answer of a worker that takes the query from a task queue: the one that has the workflow, or any."""
    info = resident.execution.info
    if not info.previous_started_id:
        raise _not_ready("Workflow execution closed before WorkflowTaskStarted event")
    clock, tasks = services.clock, services.engine.tasks
    if info.sticky_queue:
        sticky = Destination("workflow", info.namespace_id, info.sticky_queue)
        if tasks.polled(sticky, services.limits.STICKY_POLLED_WITHIN):
            soon = min(until, clock.now() + info.sticky_timeout)
            answer = await _offer(services, resident, request, sticky, soon, sticky=True)
            if answer is not None:
                return answer
        if resident.execution.info.running:
            services.engine.run(resident, _forget_worker)
    normal = Destination("workflow", info.namespace_id, info.task_queue)
    answer = await _offer(services, resident, request, normal, until, sticky=False)
    if answer is None:
        raise _too_late()
    return answer


def _forget_worker(tx: Transaction) -> None:
    tx.note(workflow_task.Sticky("", 0))


async def _offer(
    services: Services,
    resident: Resident,
    request: QueryWorkflowRequest,
    place: Destination,
    until: int,
    *,
    sticky: bool,
) -> WorkflowQueryResult | RespondQueryTaskCompletedRequest | None:
    """Put the query into a queue. The answer, or None if there is none until then, or that queue was given up."""
    question = Question(resident.execution.id, services.draw.uuid(), request.query)
    asked = conversations.of(resident).asked
    tasks = services.engine.tasks
    asked[question.query_id] = question
    tasks.offer(place, question.key, question)
    try:
        soon = until - services.limits.QUERY_MARGIN
        answered = await question.wait(services.clock, soon)
        if not sticky and not answered and not tasks.polled(place, services.limits.QUERY_POLLED_WITHIN):
            text = f"no poller seen for task queue recently, worker may be down: {place.queue!r}"
            raise StatusError(Code.FAILED_PRECONDITION, text)
        await question.wait(services.clock, until)
        return question.answer
    finally:
        question.end(None)
        del asked[question.query_id]
        tasks.withdraw(place, question.key)


async def task(services: Services, question: Question, place: Destination) -> PollWorkflowTaskQueueResponse | None:
    """A query, as a worker that polls gets it; None if nobody waits for its answer any more."""
    if question.ended:
        return None
    resident = await services.engine.get(question.execution)
    info = resident.execution.info
    await services.engine.durable(resident)
    history, more = History(), b""
    if place.queue != info.sticky_queue:
        last = info.next_event_id - 1
        history.events.extend(await services.engine.events(resident, 1, last, services.limits.HISTORY_PAGE_SIZE))
        if history.events[-1].event_id < last:
            page = tokens.HistoryPage(
                question.execution, info.namespace_id, info.run_id, history.events[-1].event_id + 1, last
            )
            more = tokens.write(page)
    token = tokens.QueryTaskToken(question.execution, info.namespace_id, info.run_id, question.query_id)
    return PollWorkflowTaskQueueResponse(
        task_token=tokens.write(token),
        workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
        workflow_type=WorkflowType(name=info.workflow_type),
        previous_started_event_id=info.previous_started_id,
        attempt=1,
        query=question.query,
        history=history,
        next_page_token=more,
        workflow_execution_task_queue=TaskQueue(name=info.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
    )


async def respond(
    services: Services, _: Call, request: RespondQueryTaskCompletedRequest
) -> RespondQueryTaskCompletedResponse:
    """RespondQueryTaskCompleted: a worker answers a query that it took from a task queue."""
    token = tokens.read(tokens.QueryTaskToken, request.task_token, "task token")
    if request.namespace and services.namespaces.get(request.namespace).id != token.namespace_id:
        raise invalid_argument(
            f"Operation requested with a token from a different namespace than {request.namespace!r}."
        )
    resident = services.engine.at_hand(token.execution)
    conversation = resident.conversation if resident is not None else None
    question = conversation.asked.get(token.query_id) if conversation is not None else None
    if resident is None or question is None:
        raise not_found("query task not found, or already expired")
    info = resident.execution.info
    of = Named(request.namespace or info.namespace_id, info.workflow_id)
    try:
        check_size("RespondQueryTaskCompleted", request.query_result, services.limits, of)
    except StatusError:
        request = RespondQueryTaskCompletedRequest(completed_type=_FAILED, error_message=TOO_LARGE)
    question.end(request)
    return RespondQueryTaskCompletedResponse()
