"""Starting workflows, and telling what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import (
    EventType,
    WorkflowExecutionStatus,
    WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
)
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest, StartWorkflowExecutionResponse

from nexuskit.backend import limits, tokens
from nexuskit.backend.errors import Code, StatusError, invalid_argument, unimplemented
from nexuskit.backend.frontend.checks import check_fields, check_size, check_span, check_text
from nexuskit.backend.history import workflow
from nexuskit.backend.history.state import Info
from nexuskit.backend.nexus.operations import CALLBACK_TOKEN_HEADER, SYSTEM_CALLBACK_URL, header

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services

_REUSE = WorkflowIdReusePolicy
_CONFLICT = WorkflowIdConflictPolicy
_UNSUCCESSFUL = frozenset(
    {
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    }
)


async def start(services: Services, _: Call, request: StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse:
    """StartWorkflowExecution. The same request id again gets the run that it started, even after that has closed."""
    namespace = services.namespaces.get(request.namespace)
    _check(services, request)
    engine = services.engine
    number = await engine.current(namespace.id, request.workflow_id)
    existing = await engine.get(number) if number is not None else None
    if existing is not None:
        info = existing.execution.info
        if request.request_id and info.start_request_id == request.request_id:
            answer = _answer(namespace, existing, started=True)
            await engine.durable(existing)
            return answer
        if info.running and request.workflow_id_conflict_policy == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING:
            answer = _answer(namespace, existing, started=False)
            await engine.durable(existing)
            return answer
        await engine.durable(existing)
        _check_reuse(request, info)
        # Nothing was awaited since, or it would have to be looked at again.
        if await engine.current(namespace.id, request.workflow_id) != existing.execution.id:
            return await start(services, _, request)
    if not request.request_id:
        request.request_id = services.draw.uuid()
    info = Info(
        namespace_id=namespace.id,
        workflow_id=request.workflow_id,
        run_id=services.draw.run_id(services.clock.now()),
    )
    resident, _none = engine.create(info, lambda tx: workflow.start(tx, request))
    answer = _answer(namespace, resident, started=True)
    await engine.durable(resident)
    return answer


def _answer(namespace: Namespace, resident: Resident, *, started: bool) -> StartWorkflowExecutionResponse:
    info = resident.execution.info
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
                event_ref=Link.WorkflowEvent.EventReference(
                    event_id=1, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
                ),
            )
        ),
    )


def _check_reuse(request: StartWorkflowExecutionRequest, info: Info) -> None:
    """Whether a new run may follow the newest one of the same workflow id."""
    policy = request.workflow_id_reuse_policy
    if info.running:
        message = "Workflow execution is already running."
    elif policy == _REUSE.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE:
        message = "Workflow execution already finished."
    elif policy == _REUSE.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY and info.status not in _UNSUCCESSFUL:
        message = "Workflow execution already finished successfully."
    else:
        return
    detail = WorkflowExecutionAlreadyStartedFailure(
        start_request_id=info.start_request_id, run_id=info.run_id, first_execution_run_id=info.first_run_id
    )
    text = f"{message} WorkflowId: {info.workflow_id}, RunId: {info.run_id}."
    raise StatusError(Code.ALREADY_EXISTS, text, [detail])


def _check(services: Services, request: StartWorkflowExecutionRequest) -> None:
    check_fields(request)
    check_text("WorkflowId", request.workflow_id)
    check_text("WorkflowType", request.workflow_type.name)
    check_text("task queue (TaskQueue.Name)", request.task_queue.name)
    check_text("RequestId", request.request_id, required=False)
    check_text("Identity", request.identity, required=False)
    for field in ("execution", "run", "task"):
        check_span(f"Workflow{field.title()}Timeout", getattr(request, f"workflow_{field}_timeout"))
    check_size("WorkflowStartRequest.Input", request.input)
    check_size("WorkflowStartRequest.Header", request.header)
    check_size("WorkflowStartRequest.Memo", request.memo, limits.MEMO_SIZE)
    check_size("UserMetadata.Summary", request.user_metadata.summary, limits.USER_METADATA_SUMMARY_SIZE)
    check_size("UserMetadata.Details", request.user_metadata.details, limits.USER_METADATA_DETAILS_SIZE)
    if request.workflow_id_reuse_policy == _REUSE.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING:
        raise unimplemented("workflow_id_reuse_policy TERMINATE_IF_RUNNING is not served by this backend")
    if request.workflow_id_conflict_policy == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING:
        raise unimplemented("workflow_id_conflict_policy TERMINATE_EXISTING is not served by this backend")
    if (
        request.workflow_id_conflict_policy == _CONFLICT.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
        and request.completion_callbacks
    ):
        raise unimplemented(
            "workflow_id_conflict_policy USE_EXISTING with completion callbacks is not served by this backend"
        )
    _check_callbacks(services, request)


def _check_callbacks(services: Services, request: StartWorkflowExecutionRequest) -> None:
    if len(request.completion_callbacks) > limits.CALLBACKS:
        raise invalid_argument(
            f"{len(request.completion_callbacks)} completion callbacks on request, at most {limits.CALLBACKS}"
        )
    for each in request.completion_callbacks:
        if each.WhichOneof("variant") == "internal":
            raise invalid_argument("completion callback of kind 'internal': only the server itself makes such")
        if each.WhichOneof("variant") != "nexus":
            raise unimplemented(
                f"completion callback of kind {each.WhichOneof('variant')!r} is not served by this backend"
            )
        if urlsplit(each.nexus.url).scheme not in ("http", "https", "temporal"):
            raise invalid_argument(f"invalid url: unknown scheme: {each.nexus.url[:100]!r}")
        if len(each.nexus.url) > limits.CALLBACK_URL_LENGTH:
            raise invalid_argument(
                f"invalid url: url length longer than max length allowed of {limits.CALLBACK_URL_LENGTH}"
            )
        size = sum(len(name) + len(value) for name, value in each.nexus.header.items())
        if size > limits.CALLBACK_HEADERS_SIZE:
            raise invalid_argument(
                f"invalid header: header size longer than max allowed size of {limits.CALLBACK_HEADERS_SIZE}"
            )
        if each.nexus.url != SYSTEM_CALLBACK_URL:
            raise unimplemented(
                f"completion callback to {each.nexus.url!r}: only {SYSTEM_CALLBACK_URL} is served by this backend"
            )
        tokens.verify(header(each.nexus.header, CALLBACK_TOKEN_HEADER), services.callback_key)
