"""Updates: requests that a workflow's code validates, accepts, and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from temporalio.api.common.v1 import Link, WorkflowExecution
from temporalio.api.enums.v1 import EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.errordetails.v1 import PermissionDeniedFailure
from temporalio.api.update.v1 import Outcome, UpdateRef
from temporalio.api.workflowservice.v1 import (
    PollWorkflowExecutionUpdateRequest,
    PollWorkflowExecutionUpdateResponse,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)

from nexuskit.backend import conversations
from nexuskit.backend.errors import Code, StatusError, invalid_argument, invariant, not_found
from nexuskit.backend.frontend import describe
from nexuskit.backend.frontend.callback_checks import check_callbacks
from nexuskit.backend.frontend.checks import Named, check_size, check_text
from nexuskit.backend.frontend.link_checks import check_links
from nexuskit.backend.history import update

if TYPE_CHECKING:
    from nexuskit.backend.conversations import Listener
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services

_STAGE = UpdateWorkflowExecutionLifecycleStage
_ADMITTED = _STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ADMITTED
_COMPLETED = _STAGE.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED


class Reached(NamedTuple):
    """How far an update came while its caller waited."""

    stage: UpdateWorkflowExecutionLifecycleStage.ValueType
    outcome: Outcome | None = None


async def update_workflow(
    services: Services, call: Call, request: UpdateWorkflowExecutionRequest
) -> UpdateWorkflowExecutionResponse:
    """UpdateWorkflowExecution: answered when the update is accepted or completed, as the caller wishes.

    The same update id again gets what became of the update.
    """
    check(services, request)
    resident = await describe.find(services, request.namespace, request.workflow_execution)
    first = resident.execution.info.first_run_id
    if request.first_execution_run_id and request.first_execution_run_id != first:
        raise not_found("workflow execution not found")
    return await perform(services, call, resident, request)


def check(services: Services, request: UpdateWorkflowExecutionRequest) -> None:
    """Whether the request can be at all. One without an update id is given one.

    Raises:
        StatusError: INVALID_ARGUMENT, PERMISSION_DENIED (to wait for ADMITTED only).
    """
    if not request.request.HasField("meta"):
        raise invalid_argument("Update meta is not set on request.")
    check_text("UpdateId", request.request.meta.update_id, services.limits, required=False)
    if not request.request.meta.update_id:
        request.request.meta.update_id = services.draw.uuid()
    if not request.request.HasField("input"):
        raise invalid_argument("Update input is not set on request.")
    if not request.request.input.name:
        raise invalid_argument("Update name is not set on request.")
    if request.wait_policy.lifecycle_stage == _ADMITTED:
        text = "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported."
        raise StatusError(Code.PERMISSION_DENIED, text, [PermissionDeniedFailure()])
    of = Named(request.namespace, request.workflow_execution.workflow_id)
    check_size("UpdateWorkflowExecution.Request", request.request, services.limits, of)
    callbacks = request.request.completion_callbacks
    check_links(services.limits, request.request.links, callbacks)
    if callbacks and not request.request.request_id:
        raise invalid_argument("invalid *update.Request: request_id is required when completion_callbacks are set")
    check_callbacks(services, request.request)


async def perform(
    services: Services, call: Call, resident: Resident, request: UpdateWorkflowExecutionRequest
) -> UpdateWorkflowExecutionResponse:
    """Admit the update to a run, and wait as long as its caller wishes. The request has been checked."""
    info = resident.execution.info
    update_id = request.request.meta.update_id
    with conversations.of(resident).listening(update_id) as listener:
        services.engine.run(resident, lambda tx: update.admit(tx, request.request))
        stage = request.wait_policy.lifecycle_stage or _COMPLETED
        reached = await _wait(services, call, resident, update_id, stage, listener)
    execution = WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id)
    answer = UpdateWorkflowExecutionResponse(
        update_ref=UpdateRef(workflow_execution=execution, update_id=update_id),
        outcome=reached.outcome,
        stage=reached.stage,
    )
    if reached.outcome is not None and reached.outcome.HasField("failure"):
        answer.link.workflow.CopyFrom(
            Link.Workflow(
                namespace=request.namespace,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                reason="Update rejected",
            )
        )
    elif reached.stage != _ADMITTED:
        answer.link.workflow_event.CopyFrom(
            Link.WorkflowEvent(
                namespace=request.namespace,
                workflow_id=info.workflow_id,
                run_id=info.run_id,
                request_id_ref=Link.WorkflowEvent.RequestIdReference(
                    request_id=request.request.request_id,
                    event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
                ),
            )
        )
    return answer


async def poll(
    services: Services, call: Call, request: PollWorkflowExecutionUpdateRequest
) -> PollWorkflowExecutionUpdateResponse:
    """PollWorkflowExecutionUpdate: what became of an update; at once, unless the request names a stage to wait for."""
    if not request.HasField("update_ref"):
        raise invalid_argument("UpdateRef is not set on request.")
    update_id = request.update_ref.update_id
    resident = await describe.find(services, request.namespace, request.update_ref.workflow_execution)
    info = resident.execution.info
    if update.status(resident.execution, update_id) is None:
        await services.engine.durable(resident)
        raise not_found(f'update "{update_id}" not found')
    with conversations.of(resident).listening(update_id) as listener:
        reached = await _wait(services, call, resident, update_id, request.wait_policy.lifecycle_stage, listener)
    execution = WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id)
    return PollWorkflowExecutionUpdateResponse(
        outcome=reached.outcome,
        stage=reached.stage,
        update_ref=UpdateRef(workflow_execution=execution, update_id=update_id),
    )


async def _wait(
    services: Services, call: Call, resident: Resident, update_id: str, stage: int, listener: Listener
) -> Reached:
    """Wait until the update has come to a stage, or for as long as a long poll waits.

    Raises:
        StatusError: the update was given up; DEADLINE_EXCEEDED, if the client's patience ends before ours;
            UNAVAILABLE, if what was in memory is lost.
    """
    now = services.clock.now()
    until = now + services.limits.HISTORY_LONG_POLL
    while True:
        if listener.verdict is not None:
            verdict = listener.verdict
            await services.engine.durable(resident)
            if verdict.error is not None:
                raise verdict.error
            return Reached(_COMPLETED, Outcome(failure=verdict.failure))
        status = update.status(resident.execution, update_id)
        if status is None or status.stage >= stage or services.clock.now() >= until:
            break
        if listener.ended:
            raise StatusError(Code.UNAVAILABLE, "workflow update was aborted")
        if call.deadline and services.clock.now() >= call.deadline:
            raise StatusError(Code.DEADLINE_EXCEEDED, f"update {update_id!r} has not come so far in time")
        await listener.moved(services.clock, min(until, call.deadline) if call.deadline else until)
    gone = update.closed_under(resident.execution) if status is None else None
    await services.engine.durable(resident)
    if status is None:
        raise gone or not_found(f'update "{update_id}" not found')
    return await _reached(services, resident, status)


async def completed(services: Services, resident: Resident, update_id: str) -> Reached:
    """What became of an update that has its outcome."""
    status = update.status(resident.execution, update_id)
    invariant(status is not None and status.completed_id, "a completed update has an outcome")
    await services.engine.durable(resident)
    return await _reached(services, resident, cast("update.Status", status))


async def _reached(services: Services, resident: Resident, status: update.Status) -> Reached:
    outcome = Outcome(failure=status.failure) if status.failure is not None else None
    if status.completed_id:
        event = await services.engine.event(resident, status.completed_id)
        outcome = event.workflow_execution_update_completed_event_attributes.outcome
    return Reached(_STAGE.ValueType(status.stage), outcome)
