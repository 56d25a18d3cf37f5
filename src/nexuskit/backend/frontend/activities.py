"""Activities that stand alone, with no workflow behind them: started, described, waited for, ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from temporalio.api.activity.v1 import ActivityExecutionInfo, ActivityExecutionOutcome, ActivityOptions, CallbackInfo
from temporalio.api.callback.v1 import CallbackInfo as CommonCallbackInfo
from temporalio.api.common.v1 import (
    ActivityType,
    Link,
    Priority,
    RetryPolicy,
    SearchAttributes,
)
from temporalio.api.enums.v1 import (
    ActivityExecutionStatus,
    ActivityIdConflictPolicy,
    ActivityIdReusePolicy,
    PendingActivityState,
)
from temporalio.api.errordetails.v1 import ActivityExecutionAlreadyStartedFailure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest,
    DeleteActivityExecutionResponse,
    DescribeActivityExecutionRequest,
    DescribeActivityExecutionResponse,
    PollActivityExecutionRequest,
    PollActivityExecutionResponse,
    RequestCancelActivityExecutionRequest,
    RequestCancelActivityExecutionResponse,
    StartActivityExecutionRequest,
    StartActivityExecutionResponse,
    TerminateActivityExecutionRequest,
    TerminateActivityExecutionResponse,
)

from nexuskit.backend import starting, tokens
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.frontend.callback_checks import check_callbacks
from nexuskit.backend.frontend.describe import callback_fields
from nexuskit.backend.frontend.pending_activities import run_state
from nexuskit.backend.frontend.search_attributes import check_attributes, visible
from nexuskit.backend.frontend.standalone import attach, changed, check_attaching, until
from nexuskit.backend.history import activity_options, callback, standalone
from nexuskit.backend.history.lengths import check_length
from nexuskit.backend.history.state import ACTIVITY, Execution, Info, space
from nexuskit.backend.times import duration, fault, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services

_REUSE = ActivityIdReusePolicy
_CONFLICT = ActivityIdConflictPolicy
_Status = ActivityExecutionStatus


# --- starting


async def start(services: Services, _: Call, request: StartActivityExecutionRequest) -> StartActivityExecutionResponse:
    """StartActivityExecution. The same request id again gets the activity that it started, even a closed one."""
    namespace = services.namespaces.get(request.namespace)
    options = _check_start(services, namespace, request)
    request.request_id = request.request_id or services.draw.uuid()
    engine = services.engine
    there = await starting.newest(engine, space(namespace.id, ACTIVITY), request.activity_id)
    # Nothing is awaited from here to the end of the decision.
    if there is not None and _uses(services, there, request):
        answer = _answer(request, there, started=False)
        await engine.durable(there)
        return answer
    if there is not None and (taken := _taken(request, there.execution.info)) is not None:
        await engine.durable(there)
        raise taken
    run_id = services.draw.run_id(services.clock.now())
    info = Info(namespace_id=namespace.id, workflow_id=request.activity_id, run_id=run_id, archetype=ACTIVITY)
    resident, _none = engine.create(info, lambda tx: standalone.start(tx, request, options))
    answer = _answer(request, resident, started=True)
    await engine.durable(resident)
    return answer


def _uses(services: Services, there: Resident, request: StartActivityExecutionRequest) -> bool:
    """Whether the request gets the activity that is there: it came before, or wants to use one that runs."""
    info = there.execution.info
    if request.request_id in (info.start_request_id, *standalone.about(there.execution).requests):
        return True
    if not info.running or request.id_conflict_policy != _CONFLICT.ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING:
        return False
    attach(services, there, request)
    return True


def _taken(request: StartActivityExecutionRequest, info: Info) -> StatusError | None:
    """The refusal, if no new activity may follow the newest one of the id."""
    policy = request.id_reuse_policy
    only_failed = policy == _REUSE.ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
    if (
        info.running
        or policy == _REUSE.ACTIVITY_ID_REUSE_POLICY_REJECT_DUPLICATE
        or (only_failed and info.status == _Status.ACTIVITY_EXECUTION_STATUS_COMPLETED)
    ):
        detail = ActivityExecutionAlreadyStartedFailure(start_request_id=info.start_request_id, run_id=info.run_id)
        return StatusError(Code.ALREADY_EXISTS, "activity execution already started", [detail])
    return None


def _answer(
    request: StartActivityExecutionRequest, resident: Resident, *, started: bool
) -> StartActivityExecutionResponse:
    run_id = resident.execution.info.run_id
    link = Link.Activity(namespace=request.namespace, activity_id=request.activity_id, run_id=run_id)
    return StartActivityExecutionResponse(run_id=run_id, started=started, link=Link(activity=link))


def _check_start(services: Services, namespace: Namespace, request: StartActivityExecutionRequest) -> ActivityOptions:
    if fault(request.start_delay):
        raise invalid_argument(f"invalid StartDelay: {fault(request.start_delay)}")
    if not request.HasField("task_queue"):
        raise invalid_argument("taskQueue is not set")
    given = ActivityOptions(
        task_queue=request.task_queue,
        schedule_to_close_timeout=request.schedule_to_close_timeout,
        schedule_to_start_timeout=request.schedule_to_start_timeout,
        start_to_close_timeout=request.start_to_close_timeout,
        heartbeat_timeout=request.heartbeat_timeout,
        retry_policy=request.retry_policy if request.HasField("retry_policy") else None,
        priority=request.priority if request.HasField("priority") else None,
    )
    options = activity_options.checked(given, request.activity_id, request.activity_type.name, services.limits)
    check_length("request ID", request.request_id, services.limits.ID_LENGTH)
    check_length("identity", request.identity, services.limits.ID_LENGTH)
    for policies, field in ((_REUSE, "id_reuse_policy"), (_CONFLICT, "id_conflict_policy")):
        if getattr(request, field) not in policies.values():
            raise invalid_argument(f"unsupported {field}: {getattr(request, field)}")
    if request.input.ByteSize() > services.limits.PAYLOAD_SIZE:
        raise invalid_argument("input exceeds length limit")
    for field, limit in (
        ("summary", services.limits.USER_METADATA_SUMMARY_SIZE),
        ("details", services.limits.USER_METADATA_DETAILS_SIZE),
    ):
        size = getattr(request.user_metadata, field).ByteSize()
        if size > limit:
            raise invalid_argument(f"user_metadata.{field} exceeds size limit. Length={size} Limit={limit}")
    check_attributes(services, namespace, request.search_attributes)
    check_callbacks(services, request)
    check_attaching(services, request)
    return options


# --- looking


async def find(services: Services, namespace: str, activity_id: str, run_id: str) -> Resident:
    """The activity that a request names; the newest one of its id where no run is named.

    Raises:
        StatusError: INVALID_ARGUMENT, for ids that cannot be; NOT_FOUND, if it is not there.
    """
    namespace_id = services.namespaces.get(namespace).id
    if not activity_id:
        raise invalid_argument("activity ID is required")
    check_length("activity ID", activity_id, services.limits.ID_LENGTH)
    if run_id:
        try:
            UUID(run_id)
        except ValueError:
            raise invalid_argument("invalid run id: must be a valid UUID") from None
    try:
        return await services.engine.find(space(namespace_id, ACTIVITY), activity_id, run_id)
    except StatusError as error:
        if error.code != Code.NOT_FOUND:
            raise
        run = f", run {run_id}" if run_id else ""
        raise not_found(f"activity not found for ID: {activity_id}{run}") from None


async def poll(services: Services, call: Call, request: PollActivityExecutionRequest) -> PollActivityExecutionResponse:
    """PollActivityExecution: how it ended, once it has; empty after a while."""
    resident = await find(services, request.namespace, request.activity_id, request.run_id)
    closed = await until(services, call, resident, lambda execution: not execution.info.running, last=True)
    if closed is None:
        return PollActivityExecutionResponse()
    resident = closed
    answer = PollActivityExecutionResponse(
        run_id=resident.execution.info.run_id, outcome=await _outcome(services, resident)
    )
    context = standalone.about(resident.execution).serialization_context
    if context:
        answer.propagated_nexus_serialization_context.ParseFromString(context)
    return answer


async def _outcome(services: Services, resident: Resident) -> ActivityExecutionOutcome:
    await services.engine.durable(resident)
    closing = await services.engine.event(resident, resident.execution.info.close_event_id)
    return standalone.outcome(resident.execution, closing)


async def describe(
    services: Services, call: Call, request: DescribeActivityExecutionRequest
) -> DescribeActivityExecutionResponse:
    """DescribeActivityExecution; with an earlier answer's token once something has changed, or empty after a while."""
    if request.long_poll_token and not request.run_id:
        raise invalid_argument("run id is required when long poll token is provided")
    resident = await find(services, request.namespace, request.activity_id, request.run_id)
    if request.long_poll_token:
        another = await changed(services, call, resident, tokens.ActivityState, request.long_poll_token)
        if another is None:
            return DescribeActivityExecutionResponse()
        resident = another
    scheduled = await services.engine.event(resident, standalone.SCHEDULED_ID)
    # What is shown is what is there now, and the answer leaves when that is on disk.
    execution = resident.execution
    info = execution.info
    answer = DescribeActivityExecutionResponse(
        run_id=info.run_id,
        info=_described(execution, scheduled, services.clock.now()),
        long_poll_token=tokens.write(tokens.ActivityState(execution.id, info.run_id, info.transitions)),
        callbacks=[
            _callback(services, execution.info.namespace_id, row) for _, row in execution.of(callback.Callback).items()
        ],
    )
    visible(answer.info.search_attributes, services.namespaces.get_by_id(info.namespace_id).search_attributes)
    row = standalone.alone(execution)
    if request.include_heartbeat_details and row.heartbeat_details:
        answer.info.heartbeat_details.ParseFromString(row.heartbeat_details)
    if request.include_last_failure and row.last_failure:
        answer.info.last_failure.ParseFromString(row.last_failure)
    attributes = scheduled.activity_task_scheduled_event_attributes
    if request.include_input and attributes.HasField("input"):
        answer.input.CopyFrom(attributes.input)
    if request.include_outcome and not info.running:
        answer.outcome.CopyFrom(await _outcome(services, resident))
    await services.engine.durable(resident)
    return answer


def _described(execution: Execution, scheduled: HistoryEvent, now: int) -> ActivityExecutionInfo:
    info, row, about = execution.info, standalone.alone(execution), standalone.about(execution)
    attributes = scheduled.activity_task_scheduled_event_attributes
    waits = info.running and not row.started_time and row.attempt_time > now
    shown = ActivityExecutionInfo(
        activity_id=info.workflow_id,
        run_id=info.run_id,
        activity_type=ActivityType(name=row.activity_type),
        status=_Status.ValueType(info.status),
        run_state=run_state(row) if info.running else PendingActivityState.PENDING_ACTIVITY_STATE_UNSPECIFIED,
        task_queue=row.queue,
        schedule_to_close_timeout=activity_options.timeout(row.schedule_to_close),
        schedule_to_start_timeout=activity_options.timeout(row.schedule_to_start),
        start_to_close_timeout=activity_options.timeout(row.start_to_close),
        heartbeat_timeout=activity_options.timeout(row.heartbeat),
        retry_policy=RetryPolicy.FromString(row.policy),
        last_heartbeat_time=timestamp(row.heartbeat_time),
        last_started_time=timestamp(row.last_started),
        attempt=row.attempt,
        execution_duration=duration(info.close_time - info.start_time) if info.close_time else None,
        schedule_time=timestamp(row.scheduled_time),
        expiration_time=timestamp(row.expires),
        close_time=timestamp(info.close_time),
        last_worker_identity=row.identity,
        current_retry_interval=duration(row.attempt_time - row.last_attempt_end)
        if waits and row.last_attempt_end
        else None,
        last_attempt_complete_time=timestamp(row.last_attempt_end),
        next_attempt_schedule_time=timestamp(row.attempt_time) if waits else None,
        priority=Priority.FromString(row.priority) if row.priority else None,
        state_transition_count=info.transitions,
        state_size_bytes=info.history_size,
        search_attributes=SearchAttributes.FromString(info.search_attributes),
        header=attributes.header if attributes.HasField("header") else None,
        user_metadata=scheduled.user_metadata if scheduled.HasField("user_metadata") else None,
        canceled_reason=about.cancel.reason if about.cancel else "",
        links=[Link.FromString(link) for link in about.links],
        total_heartbeat_count=row.heartbeats,
        start_delay=duration(row.start_delay),
        execution_time=timestamp(row.first_time),
    )
    if about.serialization_context:
        shown.propagated_nexus_serialization_context.ParseFromString(about.serialization_context)
    return shown


def _callback(services: Services, namespace_id: str, row: callback.Callback) -> CallbackInfo:
    fields = callback_fields(services.lanes, namespace_id, row, services.clock.now())
    info = CallbackInfo(info=CommonCallbackInfo(**fields))
    info.trigger.activity_closed.SetInParent()
    return info


# --- ending


async def request_cancel(
    services: Services, _: Call, request: RequestCancelActivityExecutionRequest
) -> RequestCancelActivityExecutionResponse:
    """RequestCancelActivityExecution."""
    resident = await _to_end(services, request)
    asked = standalone.Asked(request.request_id, request.identity, request.reason)
    services.engine.run(resident, lambda tx: standalone.request_cancel(tx, asked))
    await services.engine.durable(resident)
    return RequestCancelActivityExecutionResponse()


async def terminate(
    services: Services, _: Call, request: TerminateActivityExecutionRequest
) -> TerminateActivityExecutionResponse:
    """TerminateActivityExecution."""
    resident = await _to_end(services, request)
    services.engine.run(
        resident, lambda tx: standalone.terminate(tx, request.request_id, request.identity, request.reason)
    )
    await services.engine.durable(resident)
    return TerminateActivityExecutionResponse()


async def _to_end(
    services: Services, request: RequestCancelActivityExecutionRequest | TerminateActivityExecutionRequest
) -> Resident:
    check_length("request ID", request.request_id, services.limits.ID_LENGTH)
    check_length("identity", request.identity, services.limits.ID_LENGTH)
    if len(request.reason.encode()) > services.limits.PAYLOAD_SIZE:
        raise invalid_argument("reason exceeds length limit")
    request.request_id = request.request_id or services.draw.uuid()
    return await find(services, request.namespace, request.activity_id, request.run_id)


async def delete(
    services: Services, _: Call, request: DeleteActivityExecutionRequest
) -> DeleteActivityExecutionResponse:
    """DeleteActivityExecution: a running one is terminated first, and callbacks are delivered before it goes."""
    resident = await find(services, request.namespace, request.activity_id, request.run_id)
    services.remover.delete(resident)
    await services.engine.store.group()[1].wait()
    return DeleteActivityExecutionResponse()
