"""Calls that reach a running workflow from outside: signal, signal with start, request cancel, terminate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType, WorkflowIdConflictPolicy
from temporalio.api.workflowservice.v1 import (
    RequestCancelWorkflowExecutionRequest,
    RequestCancelWorkflowExecutionResponse,
    SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse,
    SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
    TerminateWorkflowExecutionResponse,
)

from nexuskit.backend import starting
from nexuskit.backend.errors import StatusError, invalid_argument, not_found
from nexuskit.backend.frontend import describe, workflows
from nexuskit.backend.frontend.checks import Named, check_allowed_length, check_size, check_text
from nexuskit.backend.frontend.link_checks import check_links
from nexuskit.backend.history import cancel, reuse, signal, start, workflow

if TYPE_CHECKING:
    from temporalio.api.common.v1 import WorkflowExecution

    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.services import Services

_CONFLICT = WorkflowIdConflictPolicy
_NO_REASON = "terminated by user via frontend"


async def signal_workflow(
    services: Services, _: Call, request: SignalWorkflowExecutionRequest
) -> SignalWorkflowExecutionResponse:
    """SignalWorkflowExecution: taken once for each request id."""
    check_text("SignalName", request.signal_name, services.limits)
    check_text("RequestId", request.request_id, services.limits, required=False)
    of = Named(request.namespace, request.workflow_execution.workflow_id)
    check_size("SignalWorkflowExecutionRequest.Input", request.input, services.limits, of)
    check_links(services.limits, request.links)
    resident = await describe.find(services, request.namespace, request.workflow_execution)
    sent = signal.Signal(
        name=request.signal_name,
        input=request.input if request.HasField("input") else None,
        header=request.header if request.HasField("header") else None,
        identity=request.identity,
        request_id=request.request_id,
        links=list(request.links),
    )
    services.engine.run(resident, lambda tx: signal.take(tx, sent))
    link = _link(request.namespace, resident, request.request_id)
    await services.engine.durable(resident)
    return SignalWorkflowExecutionResponse(link=link)


async def signal_with_start(
    services: Services, _: Call, request: SignalWithStartWorkflowExecutionRequest
) -> SignalWithStartWorkflowExecutionResponse:
    """SignalWithStartWorkflowExecution: the running workflow gets the signal, or a new one starts with it."""
    if not request.signal_name:
        raise invalid_argument("SignalName is not set on request.")
    for field, text in (
        ("signal name", request.signal_name),
        ("workflow type name", request.workflow_type.name),
        ("Request ID", request.request_id),
    ):
        check_allowed_length(field, text, services.limits)
    of = Named(request.namespace, request.workflow_id)
    check_size("SignalWithStartWorkflowExecutionRequest.SignalInput", request.signal_input, services.limits, of)
    beginning = _as_start(request)
    workflows.check_start(services, beginning)
    if request.workflow_id_conflict_policy == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_FAIL:
        raise invalid_argument(
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation."
        )
    namespace_id = services.namespaces.get(request.namespace).id
    request.request_id = beginning.request_id = request.request_id or services.draw.uuid()
    sent = signal.Signal(
        name=request.signal_name,
        input=request.signal_input if request.HasField("signal_input") else None,
        header=request.header if request.HasField("header") else None,
        identity=request.identity,
        request_id=request.request_id,
        links=list(request.links),
    )
    engine = services.engine
    there = await starting.newest(engine, namespace_id, request.workflow_id)
    # Nothing is awaited from here to the end of the decision.
    verdict = reuse.Verdict.START
    if there is not None and there.execution.info.start_request_id == request.request_id:
        # It has done so, whatever became of the run since.
        verdict = reuse.Verdict.USE
    elif there is not None:
        if there.execution.of(signal.SignalRequest).get(request.request_id) is not None:
            verdict = reuse.Verdict.USE
        else:
            try:
                conflict = request.workflow_id_conflict_policy or _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
                verdict = reuse.resolve(there.execution.info, request.workflow_id_reuse_policy, conflict)
            except StatusError:
                await engine.durable(there)
                raise
    if there is not None and verdict is reuse.Verdict.USE:
        resident = there
        if there.execution.info.running or there.execution.info.start_request_id != request.request_id:
            engine.run(there, lambda tx: signal.take(tx, sent, wake=signal.Wake.NOW))
    else:
        run = start.from_request(beginning, services.clock.now(), services.limits)
        resident = starting.begin(
            engine,
            namespace_id,
            request.workflow_id,
            run,
            instead_of=there if verdict is reuse.Verdict.TERMINATE else None,
            before_task=lambda tx: signal.take(tx, sent, wake=signal.Wake.NOT),
        )
    info = resident.execution.info
    answer = SignalWithStartWorkflowExecutionResponse(
        run_id=info.run_id,
        first_execution_run_id=info.first_run_id,
        started=resident is not there,
        signal_link=_link(request.namespace, resident, request.request_id),
    )
    await engine.durable(resident)
    return answer


def _as_start(request: SignalWithStartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest:
    """What of it starts a workflow: the fields of the same names."""
    beginning = StartWorkflowExecutionRequest()
    for field, value in request.ListFields():
        if field.name not in StartWorkflowExecutionRequest.DESCRIPTOR.fields_by_name:
            continue
        if field.is_repeated:
            getattr(beginning, field.name).extend(value)
        elif field.message_type is not None:
            getattr(beginning, field.name).CopyFrom(value)
        else:
            setattr(beginning, field.name, value)
    return beginning


def _link(namespace: str, resident: Resident, request_id: str) -> Link:
    info = resident.execution.info
    reference = Link.WorkflowEvent.RequestIdReference(
        request_id=request_id, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    )
    return Link(
        workflow_event=Link.WorkflowEvent(
            namespace=namespace, workflow_id=info.workflow_id, run_id=info.run_id, request_id_ref=reference
        )
    )


async def request_cancel(
    services: Services, _: Call, request: RequestCancelWorkflowExecutionRequest
) -> RequestCancelWorkflowExecutionResponse:
    """RequestCancelWorkflowExecution: a workflow that was asked before, or has closed, is not asked again."""
    check_links(services.limits, request.links)
    resident = await _of_chain(services, request.namespace, request.workflow_execution, request.first_execution_run_id)
    asked = cancel.CancelRequest(request.reason, request.identity, list(request.links))
    services.engine.run(resident, lambda tx: cancel.request(tx, asked))
    await services.engine.durable(resident)
    return RequestCancelWorkflowExecutionResponse()


async def terminate(
    services: Services, _: Call, request: TerminateWorkflowExecutionRequest
) -> TerminateWorkflowExecutionResponse:
    """TerminateWorkflowExecution: ended at once, whatever its code would say."""
    of = Named(request.namespace, request.workflow_execution.workflow_id)
    check_size("TerminateWorkflowExecutionRequest.Details", request.details, services.limits, of)
    check_links(services.limits, request.links)
    resident = await _of_chain(services, request.namespace, request.workflow_execution, request.first_execution_run_id)
    details = request.details if request.HasField("details") else None

    def decide(tx: Transaction) -> None:
        info = tx.state.info
        if not info.running:
            raise not_found(f"workflow execution already completed: {info.workflow_id!r}, run {info.run_id}")
        workflow.terminate(tx, request.reason or _NO_REASON, request.identity, details, list(request.links))

    services.engine.run(resident, decide)
    await services.engine.durable(resident)
    return TerminateWorkflowExecutionResponse()


async def _of_chain(services: Services, namespace: str, execution: WorkflowExecution, first_run_id: str) -> Resident:
    """The run that a request names; with `first_run_id` the newest one, which must belong to that chain.

    Raises:
        StatusError: NOT_FOUND, if it is not there, or is of another chain.
    """
    if first_run_id:
        execution.run_id = ""
    resident = await describe.find(services, namespace, execution)
    info = resident.execution.info
    if first_run_id and info.running and info.first_run_id != first_run_id:
        raise not_found(
            f"workflow execution not found: workflow {info.workflow_id!r} does not run in the chain whose first run is"
            f" {first_run_id}"
        )
    return resident
