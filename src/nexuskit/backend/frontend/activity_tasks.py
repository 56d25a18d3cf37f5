"""Activity task calls: workers poll for attempts, keep them alive, and say how they ended.

How it ended can be said with the task's token, by the worker that has it, or by the ids of the activity, by anybody
who knows them. Both find the same attempt, and then the same happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from temporalio.api.common.v1 import ActivityType, Payloads, RetryPolicy, WorkflowExecution
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    RecordActivityTaskHeartbeatByIdRequest,
    RecordActivityTaskHeartbeatByIdResponse,
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    RespondActivityTaskCanceledByIdRequest,
    RespondActivityTaskCanceledByIdResponse,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCanceledResponse,
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskCompletedByIdResponse,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskCompletedResponse,
    RespondActivityTaskFailedByIdRequest,
    RespondActivityTaskFailedByIdResponse,
    RespondActivityTaskFailedRequest,
    RespondActivityTaskFailedResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend import activities, describe, polls
from nexuskit.backend.frontend.checks import check_queue, check_text
from nexuskit.backend.history import activity, activity_failures, activity_options, standalone
from nexuskit.backend.history.activity_failures import server_failure
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.history.state import ACTIVITY, Destination, Execution
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.times import timestamp

if TYPE_CHECKING:
    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.agenda import Waiting
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.activity import Activity
    from nexuskit.backend.services import Services

T = TypeVar("T")


async def poll(services: Services, call: Call, request: PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse:
    """PollActivityTaskQueue: the next attempt that waits in this queue, or nothing after a while."""
    namespace = services.namespaces.get(request.namespace)
    check_queue(request, services.limits)
    check_text("Identity", request.identity, services.limits, required=False)
    until = call.until(services.limits.LONG_POLL, services.clock.now(), services.limits.POLL_MARGIN)
    destination = Destination("activity", namespace.id, request.task_queue.name)
    while (taken := await services.engine.tasks.take(destination, until, polls.poller(services, request))) is not None:
        key, waiting = taken[0], cast("Waiting", taken[1])
        resident = await polls.execution(services, destination, key, waiting)
        if resident is None:
            continue
        with services.engine.handing(destination, key, waiting):
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
    answer = PollActivityTaskQueueResponse(
        task_token=tokens.write(token),
        workflow_namespace=services.namespaces.get_by_id(info.namespace_id).name,
        activity_type=ActivityType(name=row.activity_type),
        activity_id=row.activity_id,
        header=attributes.header if attributes.HasField("header") else None,
        input=attributes.input if attributes.HasField("input") else None,
        heartbeat_details=Payloads.FromString(row.heartbeat_details) if row.heartbeat_details else None,
        scheduled_time=timestamp(row.scheduled_time),
        current_attempt_scheduled_time=timestamp(row.attempt_time),
        started_time=timestamp(row.started_time),
        attempt=row.attempt,
        schedule_to_close_timeout=activity_options.timeout(row.schedule_to_close),
        start_to_close_timeout=activity_options.timeout(row.start_to_close),
        heartbeat_timeout=activity_options.timeout(row.heartbeat),
        retry_policy=RetryPolicy.FromString(row.policy),
        priority=activity_options.effective_priority(info.priority, row.priority),
    )
    if info.archetype == ACTIVITY:
        answer.activity_run_id = info.run_id
        context = standalone.about(resident.execution).serialization_context
        if context:
            answer.propagated_nexus_serialization_context.ParseFromString(context)
    else:
        answer.workflow_type.name = info.workflow_type
        answer.workflow_execution.workflow_id = info.workflow_id
        answer.workflow_execution.run_id = info.run_id
    return answer


# --- how it ended, with a token


async def complete(
    services: Services, _: Call, request: RespondActivityTaskCompletedRequest
) -> RespondActivityTaskCompletedResponse:
    """RespondActivityTaskCompleted. A result over the limit fails the activity for good."""
    place = await _by_token(services, request.namespace, request.task_token)
    await _complete(services, place, request.result if request.HasField("result") else None, request.identity)
    return RespondActivityTaskCompletedResponse()


async def fail(
    services: Services, _: Call, request: RespondActivityTaskFailedRequest
) -> RespondActivityTaskFailedResponse:
    """RespondActivityTaskFailed. A failure over the limit is the cause of one that says so, and is final."""
    place = await _by_token(services, request.namespace, request.task_token)
    if request.HasField("failure") and not request.failure.HasField("application_failure_info"):
        raise invalid_argument("Failure must have ApplicationFailureInfo.")
    details = request.last_heartbeat_details if request.HasField("last_heartbeat_details") else None
    said = await _fail(services, place, request.failure, details, request.identity)
    return RespondActivityTaskFailedResponse(failures=said)


async def cancelled(
    services: Services, _: Call, request: RespondActivityTaskCanceledRequest
) -> RespondActivityTaskCanceledResponse:
    """RespondActivityTaskCanceled: only where the workflow has asked for it."""
    place = await _by_token(services, request.namespace, request.task_token)
    await _cancelled(services, place, request.details if request.HasField("details") else None, request.identity)
    return RespondActivityTaskCanceledResponse()


async def heartbeat(
    services: Services, _: Call, request: RecordActivityTaskHeartbeatRequest
) -> RecordActivityTaskHeartbeatResponse:
    """RecordActivityTaskHeartbeat: says whether the activity is asked to stop."""
    place = await _by_token(services, request.namespace, request.task_token)
    details = request.details if request.HasField("details") else None
    told = await _heartbeat(services, place, details, request.identity)
    return RecordActivityTaskHeartbeatResponse(
        cancel_requested=told.cancel_requested, activity_paused=told.paused, activity_reset=told.reset
    )


# --- how it ended, by ids


async def complete_by_id(
    services: Services, _: Call, request: RespondActivityTaskCompletedByIdRequest
) -> RespondActivityTaskCompletedByIdResponse:
    """RespondActivityTaskCompletedById: also of an activity that no worker has."""
    place = await _by_id(services, request, started=False)
    await _complete(services, place, request.result if request.HasField("result") else None, request.identity)
    return RespondActivityTaskCompletedByIdResponse()


async def fail_by_id(
    services: Services, _: Call, request: RespondActivityTaskFailedByIdRequest
) -> RespondActivityTaskFailedByIdResponse:
    """RespondActivityTaskFailedById."""
    place = await _by_id(services, request)
    details = request.last_heartbeat_details if request.HasField("last_heartbeat_details") else None
    said = await _fail(services, place, request.failure, details, request.identity)
    return RespondActivityTaskFailedByIdResponse(failures=said)


async def cancelled_by_id(
    services: Services, _: Call, request: RespondActivityTaskCanceledByIdRequest
) -> RespondActivityTaskCanceledByIdResponse:
    """RespondActivityTaskCanceledById."""
    place = await _by_id(services, request)
    await _cancelled(services, place, request.details if request.HasField("details") else None, request.identity)
    return RespondActivityTaskCanceledByIdResponse()


async def heartbeat_by_id(
    services: Services, _: Call, request: RecordActivityTaskHeartbeatByIdRequest
) -> RecordActivityTaskHeartbeatByIdResponse:
    """RecordActivityTaskHeartbeatById."""
    place = await _by_id(services, request)
    details = request.details if request.HasField("details") else None
    told = await _heartbeat(services, place, details, request.identity)
    return RecordActivityTaskHeartbeatByIdResponse(
        cancel_requested=told.cancel_requested, activity_paused=told.paused, activity_reset=told.reset
    )


# --- what both have in common


class _Place(NamedTuple):
    """An execution, and how the activity that is meant is found in it."""

    resident: Resident
    find: Callable[[Execution], Activity]


_ByIdRequest = (
    RespondActivityTaskCompletedByIdRequest
    | RespondActivityTaskFailedByIdRequest
    | RespondActivityTaskCanceledByIdRequest
    | RecordActivityTaskHeartbeatByIdRequest
)


async def _by_token(services: Services, namespace: str, raw: bytes) -> _Place:
    token = read_token(services, namespace, raw)
    resident = await services.resident(token)

    def find(state: Execution) -> Activity:
        return activity.find(state, token.key, token.attempt, token.started_time)

    return _Place(resident, find)


async def _by_id(services: Services, request: _ByIdRequest, *, started: bool = True) -> _Place:
    services.namespaces.get(request.namespace)
    if not request.activity_id:
        raise invalid_argument("ActivityId is not set on request.")
    if request.workflow_id:
        execution = WorkflowExecution(workflow_id=request.workflow_id, run_id=request.run_id)
        resident = await describe.find(services, request.namespace, execution)
    else:
        resident = await activities.find(services, request.namespace, request.activity_id, request.run_id)

    def find(state: Execution) -> Activity:
        return activity.find_by_id(state, request.activity_id, started=started)

    return _Place(resident, find)


async def _run(services: Services, place: _Place, decide: Callable[[Transaction, Activity], T]) -> T:
    answer = services.engine.run(place.resident, lambda tx: decide(tx, place.find(tx.state)))
    await services.engine.durable(place.resident)
    return answer


async def _complete(services: Services, place: _Place, result: Payloads | None, identity: str) -> None:
    _check_identity(services, identity)
    if _too_large(services, result):
        failure = server_failure(activity_failures.COMPLETE_RESULT_TOO_LARGE)
        await _run(services, place, lambda tx, row: activity.fail(tx, _with_worker(services, row), failure, identity))
    else:
        await _run(services, place, lambda tx, row: activity.complete(tx, row, result, identity))


def _with_worker(services: Services, row: Activity) -> Activity:
    if not row.started_time:
        raise invalid_argument(
            f"Activity {row.activity_id!r} is with no worker, and its result exceeds the size limit of"
            f" {services.limits.PAYLOAD_SIZE} bytes."
        )
    return row


async def _fail(
    services: Services, place: _Place, failure: Failure, details: Payloads | None, identity: str
) -> list[Failure]:
    """Returns what of the report was too large to be kept."""
    _check_identity(services, identity)
    said: list[Failure] = []
    if _too_large(services, details):
        said.append(server_failure(activity_failures.HEARTBEAT_TOO_LARGE))
        details = None
    if _too_large(services, failure):
        short = activity_failures.truncated(failure, services.limits.FAILURE_SIZE_LARGE)
        failure = server_failure(activity_failures.FAILURE_TOO_LARGE, cause=short)
        said.append(failure)
    cut_causes(failure, services.limits)

    def decide(tx: Transaction, row: Activity) -> None:
        if details is not None:
            activity.heartbeat(tx, row, details)
        activity.fail(tx, place.find(tx.state), failure, identity)

    await _run(services, place, decide)
    return said


async def _cancelled(services: Services, place: _Place, details: Payloads | None, identity: str) -> None:
    _check_identity(services, identity)
    if _too_large(services, details):
        failure = server_failure(activity_failures.CANCEL_DETAILS_TOO_LARGE)
        await _run(services, place, lambda tx, row: activity.fail(tx, row, failure, identity))
    else:
        await _run(services, place, lambda tx, row: activity.cancelled(tx, row, details, identity))


async def _heartbeat(services: Services, place: _Place, details: Payloads | None, identity: str) -> activity.Told:
    if _too_large(services, details):
        # It cannot go on from what it wants to remember, so it ends.
        failure = server_failure(activity_failures.HEARTBEAT_TOO_LARGE)
        await _run(services, place, lambda tx, row: activity.fail(tx, row, failure, identity))
        return activity.Told(cancel_requested=True, paused=False, reset=False)
    return await _run(services, place, lambda tx, row: activity.heartbeat(tx, row, details))


def _check_identity(services: Services, identity: str) -> None:
    check_text("Identity", identity, services.limits, required=False)


def _too_large(services: Services, message: Payloads | Failure | None) -> bool:
    return message is not None and message.ByteSize() > services.limits.PAYLOAD_SIZE


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
