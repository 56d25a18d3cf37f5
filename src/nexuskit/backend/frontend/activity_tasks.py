"""Activity task calls: workers poll for attempts, keep them alive, and say how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from temporalio.api.common.v1 import Payloads, RetryPolicy, WorkflowExecution, WorkflowType
from temporalio.api.failure.v1 import Failure, ServerFailureInfo
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCanceledResponse,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskCompletedResponse,
    RespondActivityTaskFailedRequest,
    RespondActivityTaskFailedResponse,
)

from nexuskit.backend import limits, tokens
from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend.checks import check_text
from nexuskit.backend.history import activity
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.state import Destination
from nexuskit.backend.times import duration, timestamp

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.activity import Activity
    from nexuskit.backend.services import Services


async def poll(services: Services, call: Call, request: PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse:
    """PollActivityTaskQueue: the next attempt that waits in this queue, or nothing after a while."""
    namespace = services.namespaces.get(request.namespace)
    check_text("TaskQueue", request.task_queue.name)
    check_text("Identity", request.identity, required=False)
    until = call.until(limits.LONG_POLL, services.clock.now(), limits.POLL_MARGIN)
    destination = Destination("activity", namespace.id, request.task_queue.name)
    while (taken := await services.engine.tasks.take(destination, until)) is not None:
        key, waiting = taken[0], cast("Waiting", taken[1])
        with services.engine.handing(destination, key, waiting):
            resident = services.engine.at_hand(waiting.execution) or await services.engine.get(waiting.execution)
            scheduled = await services.engine.event(resident, int(waiting.key))
        start = activity.Start(int(waiting.key), waiting.stamp, request.identity)
        row = services.engine.run(resident, lambda tx, start=start: activity.start(tx, start))
        if row is not None:
            await services.engine.durable(resident)
            return task(services, resident, row, scheduled)
    return PollActivityTaskQueueResponse()


def task(
    services: Services, resident: Resident, row: Activity, scheduled: HistoryEvent
) -> PollActivityTaskQueueResponse:
    """A started attempt, as its worker gets it."""
    info = resident.execution.info
    attributes = scheduled.activity_task_scheduled_event_attributes
    token = tokens.ActivityTaskToken(
        resident.execution.id, info.namespace_id, info.run_id, row.scheduled_id, row.attempt, row.started_time
    )
    return PollActivityTaskQueueResponse(
        task_token=tokens.write(token),
        workflow_namespace=services.namespaces.get_by_id(info.namespace_id).name,
        workflow_type=WorkflowType(name=info.workflow_type),
        workflow_execution=WorkflowExecution(workflow_id=info.workflow_id, run_id=info.run_id),
        activity_type=attributes.activity_type,
        activity_id=row.activity_id,
        header=attributes.header if attributes.HasField("header") else None,
        input=attributes.input if attributes.HasField("input") else None,
        heartbeat_details=Payloads.FromString(row.heartbeat_details) if row.heartbeat_details else None,
        scheduled_time=timestamp(row.scheduled_time),
        current_attempt_scheduled_time=timestamp(row.attempt_time),
        started_time=timestamp(row.started_time),
        attempt=row.attempt,
        schedule_to_close_timeout=duration(row.schedule_to_close),
        start_to_close_timeout=duration(row.start_to_close),
        heartbeat_timeout=duration(row.heartbeat),
        retry_policy=RetryPolicy.FromString(row.policy),
        priority=attributes.priority if attributes.HasField("priority") else None,
    )


async def complete(
    services: Services, _: Call, request: RespondActivityTaskCompletedRequest
) -> RespondActivityTaskCompletedResponse:
    """RespondActivityTaskCompleted. A result over the limit fails the activity for good."""
    token = read_token(services, request.namespace, request.task_token)
    check_text("Identity", request.identity, required=False)
    result = request.result if request.HasField("result") else None
    oversize = _oversize("RespondActivityTaskCompletedRequest.Result", result)

    resident = await services.resident(token)
    row = activity.find(resident.execution, token.key, token.attempt, token.started_time)
    if oversize is not None:
        services.engine.run(resident, lambda tx: activity.fail(tx, row, oversize, request.identity))
    else:
        services.engine.run(resident, lambda tx: activity.complete(tx, row, result, request.identity))
    await services.engine.durable(resident)
    return RespondActivityTaskCompletedResponse()


async def fail(
    services: Services, _: Call, request: RespondActivityTaskFailedRequest
) -> RespondActivityTaskFailedResponse:
    """RespondActivityTaskFailed. A failure over the limit is replaced by one that says so."""
    token = read_token(services, request.namespace, request.task_token)
    check_text("Identity", request.identity, required=False)
    resident = await services.resident(token)
    row = activity.find(resident.execution, token.key, token.attempt, token.started_time)
    failure = _oversize("RespondActivityTaskFailedRequest.Failure", request.failure) or request.failure
    cut_causes(failure)
    details = request.last_heartbeat_details if request.HasField("last_heartbeat_details") else None

    def decide(tx: activity.Transaction) -> None:
        if details is not None:
            activity.heartbeat(tx, row, details)
        found = activity.find(tx.state, token.key, token.attempt, token.started_time)
        activity.fail(tx, found, failure, request.identity)

    services.engine.run(resident, decide)
    await services.engine.durable(resident)
    return RespondActivityTaskFailedResponse()


async def cancelled(
    services: Services, _: Call, request: RespondActivityTaskCanceledRequest
) -> RespondActivityTaskCanceledResponse:
    """RespondActivityTaskCanceled: only where the workflow has asked for it."""
    token = read_token(services, request.namespace, request.task_token)
    check_text("Identity", request.identity, required=False)
    resident = await services.resident(token)
    row = activity.find(resident.execution, token.key, token.attempt, token.started_time)
    if not row.cancel_requested:
        raise invalid_argument(f"unable to cancel activity {row.activity_id!r}: its cancellation was not requested")
    details = request.details if request.HasField("details") else None
    services.engine.run(resident, lambda tx: activity.cancelled(tx, row, details, request.identity))
    await services.engine.durable(resident)
    return RespondActivityTaskCanceledResponse()


async def heartbeat(
    services: Services, _: Call, request: RecordActivityTaskHeartbeatRequest
) -> RecordActivityTaskHeartbeatResponse:
    """RecordActivityTaskHeartbeat: says whether the activity is asked to stop."""
    token = read_token(services, request.namespace, request.task_token)
    resident = await services.resident(token)
    row = activity.find(resident.execution, token.key, token.attempt, token.started_time)
    details = request.details if request.HasField("details") else None
    oversize = _oversize("RecordActivityTaskHeartbeatRequest.Details", details)
    if oversize is not None:
        services.engine.run(resident, lambda tx: activity.fail(tx, row, oversize, request.identity))
        await services.engine.durable(resident)
        return RecordActivityTaskHeartbeatResponse(cancel_requested=True)
    asked = services.engine.run(resident, lambda tx: activity.heartbeat(tx, row, details))
    await services.engine.durable(resident)
    return RecordActivityTaskHeartbeatResponse(cancel_requested=asked)


def read_token(services: Services, namespace: str, raw: bytes) -> tokens.ActivityTaskToken:
    """The token of an activity's attempt, of that namespace.

    Raises:
        StatusError: INVALID_ARGUMENT, if it is none; NOT_FOUND, for an unknown namespace.
    """
    namespace_id = services.namespaces.get(namespace).id
    token = tokens.read(tokens.ActivityTaskToken, raw, "task token")
    if namespace_id != token.namespace_id:
        raise invalid_argument(f"Operation requested with a token from a different namespace than {namespace!r}.")
    return token


def _oversize(field: str, message: Payloads | Failure | None) -> Failure | None:
    size = message.ByteSize() if message is not None else 0
    if size <= limits.PAYLOAD_SIZE:
        return None
    return Failure(
        message=f"{field} exceeds size limit: {size} bytes, at most {limits.PAYLOAD_SIZE}.",
        server_failure_info=ServerFailureInfo(non_retryable=True),
    )
