"""Nexus operations that stand alone, with no workflow behind them: started, described, waited for, ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from temporalio.api.callback.v1 import CallbackInfo as CommonCallbackInfo
from temporalio.api.common.v1 import Link, Payload, SearchAttributes
from temporalio.api.enums.v1 import (
    NexusOperationCancellationState,
    NexusOperationExecutionStatus,
    NexusOperationIdConflictPolicy,
    NexusOperationIdReusePolicy,
    NexusOperationWaitStage,
    PendingNexusOperationState,
)
from temporalio.api.errordetails.v1 import NexusOperationExecutionAlreadyStartedFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import NexusOperationExecutionCancellationInfo, NexusOperationExecutionInfo
from temporalio.api.nexusoperation.v1 import CallbackInfo
from temporalio.api.workflowservice.v1 import (
    DeleteNexusOperationExecutionRequest,
    DeleteNexusOperationExecutionResponse,
    DescribeNexusOperationExecutionRequest,
    DescribeNexusOperationExecutionResponse,
    PollNexusOperationExecutionRequest,
    PollNexusOperationExecutionResponse,
    RequestCancelNexusOperationExecutionRequest,
    RequestCancelNexusOperationExecutionResponse,
    StartNexusOperationExecutionRequest,
    StartNexusOperationExecutionResponse,
    TerminateNexusOperationExecutionRequest,
    TerminateNexusOperationExecutionResponse,
)

from nexuskit.backend import starting, tokens
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.frontend.callback_checks import check_callbacks
from nexuskit.backend.frontend.describe import callback_fields
from nexuskit.backend.frontend.pending_operations import Standing, cancellation_fields, standing
from nexuskit.backend.frontend.search_attributes import check_attributes, visible
from nexuskit.backend.frontend.standalone import attach, changed, check_attaching, until
from nexuskit.backend.history import callback, standalone, standalone_operation
from nexuskit.backend.history.lengths import check_length
from nexuskit.backend.history.nexus_cancellation import NexusCancellation
from nexuskit.backend.history.nexus_commands import RESERVED_HEADERS
from nexuskit.backend.history.standalone import SCHEDULED_ID
from nexuskit.backend.history.state import OPERATION, Execution, Info, space
from nexuskit.backend.times import duration, fault, span, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services

_REUSE = NexusOperationIdReusePolicy
_CONFLICT = NexusOperationIdConflictPolicy
_Status = NexusOperationExecutionStatus
_Stage = NexusOperationWaitStage
_UNDER_WAY = (
    NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_SCHEDULED,
    NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_BLOCKED,
)
"""A cancellation whose attempt under way is counted as one, unlike those that a workflow's description shows."""
_NOT_PENDING = Standing(PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_UNSPECIFIED)


# --- starting


async def start(
    services: Services, _: Call, request: StartNexusOperationExecutionRequest
) -> StartNexusOperationExecutionResponse:
    """StartNexusOperationExecution. The same request id again gets the operation that it started, even a closed one."""
    namespace = services.namespaces.get(request.namespace)
    headers = _check_start(services, namespace, request)
    endpoint_id = _called(services, namespace, request.endpoint)
    request.request_id = request.request_id or services.draw.uuid()
    engine = services.engine
    there = await starting.newest(engine, space(namespace.id, OPERATION), request.operation_id)
    # Nothing is awaited from here to the end of the decision.
    if there is not None and _uses(services, there, request):
        run_id = there.execution.info.run_id
        await engine.durable(there)
        return StartNexusOperationExecutionResponse(run_id=run_id)
    if there is not None and (taken := _taken(request, there.execution.info)) is not None:
        await engine.durable(there)
        raise taken
    run_id = services.draw.run_id(services.clock.now())
    info = Info(namespace_id=namespace.id, workflow_id=request.operation_id, run_id=run_id, archetype=OPERATION)
    resident, _none = engine.create(info, lambda tx: standalone_operation.start(tx, request, endpoint_id, headers))
    await engine.durable(resident)
    return StartNexusOperationExecutionResponse(run_id=run_id, started=True)


def _called(services: Services, caller: Namespace, name: str) -> str:
    """The id of the endpoint that is to be called: here it is looked at who calls what, before anything is written.

    Raises:
        StatusError: NOT_FOUND, if there is none; PERMISSION_DENIED, if that namespace may not call it.
    """
    route = services.endpoints.routes.get(name)
    if route is None:
        raise not_found(f"could not find Nexus endpoint by name: {name}")
    if not route.allowed.allows(caller.name):
        raise StatusError(Code.PERMISSION_DENIED, route.allowed.refusal(name, caller.name))
    return route.id


def _uses(services: Services, there: Resident, request: StartNexusOperationExecutionRequest) -> bool:
    """Whether the request gets the operation that is there: it came before, or wants to use one that runs."""
    info = there.execution.info
    if request.request_id in (info.start_request_id, *standalone.about(there.execution).requests):
        return True
    if not info.running or request.id_conflict_policy != _CONFLICT.NEXUS_OPERATION_ID_CONFLICT_POLICY_USE_EXISTING:
        return False
    attach(services, there, request)
    return True


def _taken(request: StartNexusOperationExecutionRequest, info: Info) -> StatusError | None:
    """The refusal, if no new operation may follow the newest one of the id."""
    policy = request.id_reuse_policy
    only_failed = policy == _REUSE.NEXUS_OPERATION_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    if (
        info.running
        or policy == _REUSE.NEXUS_OPERATION_ID_REUSE_POLICY_REJECT_DUPLICATE
        or (only_failed and info.status == _Status.NEXUS_OPERATION_EXECUTION_STATUS_COMPLETED)
    ):
        detail = NexusOperationExecutionAlreadyStartedFailure(
            start_request_id=info.start_request_id, run_id=info.run_id
        )
        return StatusError(
            Code.ALREADY_EXISTS,
            f"nexus operation execution already started: request_id={info.start_request_id}, run_id={info.run_id}",
            [detail],
        )
    return None


def _check_start(
    services: Services, namespace: Namespace, request: StartNexusOperationExecutionRequest
) -> dict[str, str]:
    """The request can be carried out; its timeouts are cut to the longest. Returns the headers of the call."""
    limits = services.limits
    check_length("request_id", request.request_id, services.limits.ID_LENGTH)
    _check_id(services, request.operation_id)
    check_length("identity", request.identity, services.limits.ID_LENGTH)
    if not request.endpoint:
        raise invalid_argument("endpoint is required")
    for field in ("service", "operation"):
        name = getattr(request, field)
        if not name:
            raise invalid_argument(f"{field} is required")
        check_length(field, name, limits.NEXUS_NAME_LENGTH)
    _check_timeouts(request)
    if request.input.ByteSize() > limits.PAYLOAD_SIZE:
        size = request.input.ByteSize()
        raise invalid_argument(f"input exceeds size limit. Length={size} Limit={limits.PAYLOAD_SIZE}")
    for field, limit in (
        ("summary", limits.USER_METADATA_SUMMARY_SIZE),
        ("details", limits.USER_METADATA_DETAILS_SIZE),
    ):
        size = getattr(request.user_metadata, field).ByteSize()
        if size > limit:
            raise invalid_argument(f"user_metadata.{field} exceeds size limit. Length={size} Limit={limit}")
    headers = _check_headers(services, request.nexus_header)
    check_attributes(services, namespace, request.search_attributes)
    for policies, field in ((_REUSE, "id_reuse_policy"), (_CONFLICT, "id_conflict_policy")):
        if getattr(request, field) not in policies.values():
            raise invalid_argument(f"unsupported {field}: {getattr(request, field)}")
    check_callbacks(services, request)
    check_attaching(services, request)
    return headers


def _check_timeouts(request: StartNexusOperationExecutionRequest) -> None:
    for field in ("schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout"):
        if wrong := fault(getattr(request, field)):
            raise invalid_argument(f"{field} is invalid: {wrong}")
    whole = span(request.schedule_to_close_timeout)
    for part in (request.schedule_to_start_timeout, request.start_to_close_timeout):
        # A part cannot last longer than the whole.
        if whole and span(part) > whole:
            part.CopyFrom(duration(whole) or Duration())


def _check_headers(services: Services, given: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in given.items():
        if name.lower() in RESERVED_HEADERS:
            raise invalid_argument(f'nexus_header contains a disallowed key: "{name}"')
        headers[name.lower()] = value
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    limit = services.limits.NEXUS_HEADERS_SIZE
    if size > limit:
        raise invalid_argument(f"nexus_header exceeds size limit: {size} bytes, at most {limit}")
    return headers


def _check_id(services: Services, operation_id: str) -> None:
    if not operation_id:
        raise invalid_argument("operation_id is required")
    check_length("operation_id", operation_id, services.limits.ID_LENGTH)


# --- looking


async def find(services: Services, namespace: str, operation_id: str, run_id: str) -> Resident:
    """The operation that a request names; the newest one of its id where no run is named.

    Raises:
        StatusError: INVALID_ARGUMENT, for ids that cannot be; NOT_FOUND, if it is not there.
    """
    namespace_id = services.namespaces.get(namespace).id
    _check_id(services, operation_id)
    if run_id:
        try:
            UUID(run_id)
        except ValueError:
            raise invalid_argument("run_id is not a valid UUID") from None
    try:
        return await services.engine.find(space(namespace_id, OPERATION), operation_id, run_id)
    except StatusError as error:
        if error.code != Code.NOT_FOUND:
            raise
        run = f", run {run_id}" if run_id else ""
        raise not_found(f"operation not found for ID: {operation_id}{run}") from None


async def poll(
    services: Services, call: Call, request: PollNexusOperationExecutionRequest
) -> PollNexusOperationExecutionResponse:
    """PollNexusOperationExecution: that it has started, or how it ended, once that is so; empty after a while."""
    if request.wait_stage not in _Stage.values():
        raise invalid_argument(f"unsupported wait_stage: {request.wait_stage}")
    resident = await find(services, request.namespace, request.operation_id, request.run_id)
    if request.wait_stage == _Stage.NEXUS_OPERATION_WAIT_STAGE_STARTED:
        there = await until(services, call, resident, _has_started)
    else:
        there = await until(services, call, resident, lambda execution: not execution.info.running, last=True)
    if there is None:
        return PollNexusOperationExecutionResponse()
    execution = there.execution
    answer = PollNexusOperationExecutionResponse(
        run_id=execution.info.run_id,
        operation_token=standalone_operation.alone(execution).token,
        wait_stage=_Stage.NEXUS_OPERATION_WAIT_STAGE_STARTED,
    )
    if not execution.info.running:
        answer.wait_stage = _Stage.NEXUS_OPERATION_WAIT_STAGE_CLOSED
        _tell(answer, await _outcome(services, there))
    await services.engine.durable(there)
    return answer


def _has_started(execution: Execution) -> bool:
    return not execution.info.running or bool(standalone_operation.alone(execution).started_time)


async def _outcome(services: Services, resident: Resident) -> Payload | Failure:
    closing = await services.engine.event(resident, resident.execution.info.close_event_id)
    return standalone_operation.outcome(closing)


def _tell(
    answer: PollNexusOperationExecutionResponse | DescribeNexusOperationExecutionResponse, outcome: Payload | Failure
) -> None:
    if isinstance(outcome, Failure):
        answer.failure.CopyFrom(outcome)
    else:
        answer.result.CopyFrom(outcome)


async def describe(
    services: Services, call: Call, request: DescribeNexusOperationExecutionRequest
) -> DescribeNexusOperationExecutionResponse:
    """DescribeNexusOperationExecution; with an earlier answer's token once something has changed, or after a while."""
    if request.long_poll_token and not request.run_id:
        _check_id(services, request.operation_id)
        raise invalid_argument("run_id is required when long_poll_token is provided")
    resident = await find(services, request.namespace, request.operation_id, request.run_id)
    if request.long_poll_token:
        another = await changed(services, call, resident, tokens.OperationState, request.long_poll_token)
        if another is None:
            return DescribeNexusOperationExecutionResponse()
        resident = another
    scheduled = await services.engine.event(resident, SCHEDULED_ID)
    # What is shown is what is there now, and the answer leaves when that is on disk.
    execution = resident.execution
    info = execution.info
    answer = DescribeNexusOperationExecutionResponse(
        run_id=info.run_id,
        info=_described(services, execution, scheduled),
        long_poll_token=tokens.write(tokens.OperationState(execution.id, info.run_id, info.transitions)),
        completion_callbacks=[_callback(services, info, row) for _, row in execution.of(callback.Callback).items()],
    )
    attributes = scheduled.nexus_operation_scheduled_event_attributes
    if request.include_input and attributes.HasField("input"):
        answer.input.CopyFrom(attributes.input)
    if not info.running:
        outcome = await _outcome(services, resident)
        if standalone_operation.ended_by_answer(execution) and isinstance(outcome, Failure):
            answer.info.last_attempt_failure.CopyFrom(outcome)
        if request.include_outcome:
            _tell(answer, outcome)
    await services.engine.durable(resident)
    return answer


def _described(services: Services, execution: Execution, scheduled: HistoryEvent) -> NexusOperationExecutionInfo:
    info, row, about = execution.info, standalone_operation.alone(execution), standalone.about(execution)
    attributes = scheduled.nexus_operation_scheduled_event_attributes
    now = services.clock.now()
    state, ready, blocked = standing(execution, row, services.lanes, now) if info.running else _NOT_PENDING
    made = row.attempt - row.unmade
    shown = NexusOperationExecutionInfo(
        operation_id=info.workflow_id,
        run_id=info.run_id,
        endpoint=row.endpoint,
        service=row.service,
        operation=row.operation,
        status=_Status.ValueType(info.status),
        state=state,
        schedule_to_close_timeout=duration(row.schedule_to_close),
        schedule_to_start_timeout=duration(row.schedule_to_start),
        start_to_close_timeout=duration(row.start_to_close),
        # The one that is under way is one of them; while it waits for the next one, that is none yet.
        attempt=made - 1 if ready else made,
        schedule_time=timestamp(row.scheduled_time),
        expiration_time=timestamp(row.scheduled_time + row.schedule_to_close) if row.schedule_to_close else None,
        close_time=timestamp(info.close_time),
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        last_attempt_failure=Failure.FromString(row.last_failure) if row.last_failure else None,
        next_attempt_schedule_time=timestamp(ready),
        execution_duration=duration((info.close_time or now) - row.scheduled_time),
        blocked_reason=blocked,
        request_id=row.request_id,
        operation_token=row.token,
        state_transition_count=info.transitions,
        state_size_bytes=info.history_size,
        search_attributes=SearchAttributes.FromString(info.search_attributes),
        nexus_header=attributes.nexus_header,
        user_metadata=scheduled.user_metadata if scheduled.HasField("user_metadata") else None,
        links=[Link.FromString(link) for link in about.links],
        identity=about.identity,
    )
    visible(shown.search_attributes, services.namespaces.get_by_id(info.namespace_id).search_attributes)
    cancellation = execution.of(NexusCancellation).get(SCHEDULED_ID)
    if cancellation is not None:
        fields = cancellation_fields(execution, cancellation, row, services.lanes, now)
        fields["reason"] = about.cancel.reason if about.cancel else ""
        if fields["state"] in _UNDER_WAY:
            fields["attempt"] += 1
        shown.cancellation_info.CopyFrom(NexusOperationExecutionCancellationInfo(**fields))
    return shown


def _callback(services: Services, info: Info, row: callback.Callback) -> CallbackInfo:
    fields = callback_fields(services.lanes, info.namespace_id, row, services.clock.now())
    shown = CallbackInfo(info=CommonCallbackInfo(**fields))
    shown.trigger.operation_completed.SetInParent()
    return shown


# --- ending


async def request_cancel(
    services: Services, _: Call, request: RequestCancelNexusOperationExecutionRequest
) -> RequestCancelNexusOperationExecutionResponse:
    """RequestCancelNexusOperationExecution."""
    resident = await _to_end(services, request)
    asked = standalone.Asked(request.request_id, request.identity, request.reason)
    services.engine.run(resident, lambda tx: standalone_operation.request_cancel(tx, asked))
    await services.engine.durable(resident)
    return RequestCancelNexusOperationExecutionResponse()


async def terminate(
    services: Services, _: Call, request: TerminateNexusOperationExecutionRequest
) -> TerminateNexusOperationExecutionResponse:
    """TerminateNexusOperationExecution."""
    resident = await _to_end(services, request)
    services.engine.run(
        resident, lambda tx: standalone_operation.terminate(tx, request.request_id, request.identity, request.reason)
    )
    await services.engine.durable(resident)
    return TerminateNexusOperationExecutionResponse()


async def _to_end(
    services: Services,
    request: RequestCancelNexusOperationExecutionRequest | TerminateNexusOperationExecutionRequest,
) -> Resident:
    check_length("request_id", request.request_id, services.limits.ID_LENGTH)
    check_length("identity", request.identity, services.limits.ID_LENGTH)
    check_length("reason", request.reason, services.limits.NEXUS_REASON_LENGTH)
    request.request_id = request.request_id or services.draw.uuid()
    return await find(services, request.namespace, request.operation_id, request.run_id)


async def delete(
    services: Services, _: Call, request: DeleteNexusOperationExecutionRequest
) -> DeleteNexusOperationExecutionResponse:
    """DeleteNexusOperationExecution: a running one is terminated first, and callbacks are delivered before it goes."""
    resident = await find(services, request.namespace, request.operation_id, request.run_id)
    services.remover.delete(resident)
    await services.engine.store.group()[1].wait()
    return DeleteNexusOperationExecutionResponse()
