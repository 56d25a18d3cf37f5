"""Starting workflows, and telling what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
)

from nexuskit.backend import starting
from nexuskit.backend.errors import StatusError, invalid_argument
from nexuskit.backend.frontend import workflow_tasks
from nexuskit.backend.frontend.callback_checks import check_callbacks
from nexuskit.backend.frontend.checks import (
    Named,
    check_allowed_length,
    check_queue,
    check_size,
    check_span,
    check_text,
)
from nexuskit.backend.frontend.link_checks import check_links
from nexuskit.backend.frontend.search_attributes import check_attributes
from nexuskit.backend.history import attach, reuse, workflow_task
from nexuskit.backend.history import start as history_start
from nexuskit.backend.history.activity_options import check_priority

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services


_FIRST_STARTED = 3
"""The started event of a first workflow task that was given out with the answer to the start."""


async def start(services: Services, _: Call, request: StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse:
    """StartWorkflowExecution. The same request id again gets the run that it started, even after that has closed."""
    namespace = services.namespaces.get(request.namespace)
    check_start(services, request)
    engine = services.engine
    request.request_id = request.request_id or services.draw.uuid()
    there = await starting.newest(engine, namespace.id, request.workflow_id)
    # Nothing is awaited from here to the end of the decision.
    if there is not None and (answer := _repeated(namespace, there, request.request_id)) is not None:
        if request.request_eager_execution and answer.started:
            await _give_first_task_again(services, there, answer)
        await engine.durable(there)
        return answer
    try:
        verdict = _resolve(there, request)
    except StatusError:
        if there is not None:
            await engine.durable(there)
        raise
    if there is not None and verdict is reuse.Verdict.USE:
        attached = _attach(services, there, request)
        answer = respond(namespace, there, started=False, request_id=attached)
        await engine.durable(there)
        return answer
    run = history_start.from_request(request, services.clock.now(), services.limits)
    instead_of = there if verdict is reuse.Verdict.TERMINATE else None
    resident = starting.begin(engine, namespace.id, request.workflow_id, run, instead_of=instead_of)
    answer = respond(namespace, resident, started=True)
    if run.attributes.eager_execution_accepted:
        await _take_first_task(services, resident, request.identity, answer)
    await engine.durable(resident)
    return answer


async def _take_first_task(
    services: Services, resident: Resident, identity: str, answer: StartWorkflowExecutionResponse
) -> None:
    """The client has a worker of its own: it gets the first workflow task with the answer."""
    waiting = workflow_task.current(resident.execution)
    if waiting is None:
        return
    taken = workflow_task.Start(waiting.stamp, identity)
    started = services.engine.run(resident, lambda tx: workflow_task.start(tx, taken))
    if started is not None:
        summary = workflow_tasks.Summary.of(resident.execution.info)
        answer.eager_workflow_task.CopyFrom(await workflow_tasks.task(services, resident, summary, started, {}))


async def _give_first_task_again(
    services: Services, resident: Resident, answer: StartWorkflowExecutionResponse
) -> None:
    """A client that did not hear the answer asks again: it still has the first workflow task, if it got that."""
    task = workflow_task.current(resident.execution)
    if task is None or not task.started or task.repeat or task.started_id != _FIRST_STARTED:
        return
    summary = workflow_tasks.Summary.of(resident.execution.info)
    first = await services.engine.event(resident, 1)
    if first.workflow_execution_started_event_attributes.eager_execution_accepted:
        started = workflow_task.StartedTask(task, 1, task.started_id, ())
        answer.eager_workflow_task.CopyFrom(await workflow_tasks.task(services, resident, summary, started, {}))


def _resolve(there: Resident | None, request: StartWorkflowExecutionRequest) -> reuse.Verdict:
    if there is None:
        return reuse.Verdict.START
    return reuse.resolve(there.execution.info, request.workflow_id_reuse_policy, request.workflow_id_conflict_policy)


def _repeated(namespace: Namespace, there: Resident, request_id: str) -> StartWorkflowExecutionResponse | None:
    """The first answer again, if the newest run knows the request."""
    if there.execution.info.start_request_id == request_id:
        return respond(namespace, there, started=True)
    if there.execution.of(attach.Attached).get(request_id) is not None:
        return respond(namespace, there, started=False, request_id=request_id)
    return None


def _attach(services: Services, there: Resident, request: StartWorkflowExecutionRequest) -> str:
    """Leave with the run that is there what the request wants to be left. Returns the request's id, if that is."""
    if not request.HasField("on_conflict_options"):
        return ""
    options = request.on_conflict_options
    request_id = request.request_id if options.attach_request_id else ""
    callbacks = list(request.completion_callbacks) if options.attach_completion_callbacks else []
    links = history_start.own_links(request.links, request.completion_callbacks) if options.attach_links else []
    services.engine.run(there, lambda tx: attach.attach(tx, request_id, callbacks, links))
    return request_id


def respond(
    namespace: Namespace, resident: Resident, *, started: bool, request_id: str = ""
) -> StartWorkflowExecutionResponse:
    """The answer to who asked for a run, which is this one; `started` by him or not.

    `request_id` is that of a request that was attached, and the link names it.
    """
    info = resident.execution.info
    attached = Link.WorkflowEvent.RequestIdReference(
        request_id=request_id, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED
    )
    started_event = Link.WorkflowEvent.EventReference(
        event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
    )
    return StartWorkflowExecutionResponse(
        run_id=info.run_id,
        first_execution_run_id=info.first_run_id,
        started=started,
        status=WorkflowExecutionStatus.ValueType(info.status),
        link=Link(
            workflow_event=Link.WorkflowEvent(
                namespace=namespace.name,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                event_ref=None if request_id else started_event,
                request_id_ref=attached if request_id else None,
            )
        ),
    )


def check_start(services: Services, request: StartWorkflowExecutionRequest) -> None:
    """A start request holds what it must, and nothing that is not honoured.

    Raises:
        StatusError: INVALID_ARGUMENT or UNIMPLEMENTED.
    """
    if not request.workflow_id:
        raise invalid_argument("WorkflowId is not set on request.")
    check_allowed_length("WorkflowId", request.workflow_id, services.limits)
    check_text("WorkflowType", request.workflow_type.name, services.limits)
    check_queue(request, services.limits)
    check_text("RequestId", request.request_id, services.limits, required=False)
    for field in ("execution", "run", "task"):
        check_span(f"Workflow{field.title()}TimeoutSeconds", getattr(request, f"workflow_{field}_timeout"))
    of = Named(request.namespace, request.workflow_id)
    check_size("WorkflowStartRequest.Input", request.input, services.limits, of)
    check_size(
        "WorkflowStartRequest.Memo",
        request.memo,
        services.limits,
        of,
        limit=services.limits.MEMO_SIZE,
        refusal="Memo size exceeds limit.",
    )
    check_links(services.limits, request.links, request.completion_callbacks)
    check_span("WorkflowStartDelaySeconds", request.workflow_start_delay)
    check_attributes(services, services.namespaces.get(request.namespace), request.search_attributes)
    history_start.checked_repeats(request, services.clock.now(), services.limits)
    if request.cron_schedule and request.HasField("workflow_start_delay"):
        raise invalid_argument("CronSchedule and WorkflowStartDelay may not be used together.")
    check_priority(request.priority, services.limits, before="")
    reuse.check(request.workflow_id_reuse_policy, request.workflow_id_conflict_policy)
    options = request.on_conflict_options
    if options.attach_completion_callbacks and not options.attach_request_id:
        raise invalid_argument("attaching request ID is required for attaching completion callbacks")
    check_callbacks(services, request)
