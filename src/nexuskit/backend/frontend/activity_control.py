"""Calls by which operators pause, unpause and reset pending activities, and change their options.

There are two of each: an older one that names activities of a workflow by id, by type or all, and a newer one that
names one by its ids, and means an activity that stands alone where no workflow is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseActivityExecutionRequest,
    PauseActivityExecutionResponse,
    PauseActivityRequest,
    PauseActivityResponse,
    ResetActivityExecutionRequest,
    ResetActivityExecutionResponse,
    ResetActivityRequest,
    ResetActivityResponse,
    UnpauseActivityExecutionRequest,
    UnpauseActivityExecutionResponse,
    UnpauseActivityRequest,
    UnpauseActivityResponse,
    UpdateActivityExecutionOptionsRequest,
    UpdateActivityExecutionOptionsResponse,
    UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse,
)

from nexuskit.backend.errors import invalid_argument, unimplemented
from nexuskit.backend.frontend import describe
from nexuskit.backend.frontend.checks import check_span
from nexuskit.backend.history import activity_control, activity_options
from nexuskit.backend.history.activity import Pause
from nexuskit.backend.history.activity_control import ResetRequest, Which
from nexuskit.backend.history.activity_options import Options
from nexuskit.backend.history.lengths import check_length

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.services import Services

T = TypeVar("T")

_Older = PauseActivityRequest | UnpauseActivityRequest | ResetActivityRequest | UpdateActivityOptionsRequest
_Newer = (
    PauseActivityExecutionRequest
    | UnpauseActivityExecutionRequest
    | ResetActivityExecutionRequest
    | UpdateActivityExecutionOptionsRequest
)


async def pause(services: Services, _: Call, request: PauseActivityRequest) -> PauseActivityResponse:
    """PauseActivity."""
    which = _which(services, request)
    await _pause(services, await _workflow(services, request), which, request)
    return PauseActivityResponse()


async def pause_execution(
    services: Services, _: Call, request: PauseActivityExecutionRequest
) -> PauseActivityExecutionResponse:
    """PauseActivityExecution."""
    resident, which = await _named(services, request)
    await _pause(services, resident, which, request)
    return PauseActivityExecutionResponse()


async def _pause(
    services: Services, resident: Resident, which: Which, request: PauseActivityRequest | PauseActivityExecutionRequest
) -> None:
    pause = Pause(services.clock.now(), request.identity, request.reason, request.request_id)
    await _run(services, resident, lambda tx: activity_control.pause(tx, which, pause))


async def unpause(services: Services, _: Call, request: UnpauseActivityRequest) -> UnpauseActivityResponse:
    """UnpauseActivity: does nothing to an activity that is not paused."""
    which = _which(services, request)
    jitter = check_span("Jitter", request.jitter)
    resident = await _workflow(services, request)
    attempts, beats = request.reset_attempts, request.reset_heartbeat
    await _run(
        services,
        resident,
        lambda tx: activity_control.unpause(tx, which, reset_attempts=attempts, reset_heartbeat=beats, jitter=jitter),
    )
    return UnpauseActivityResponse()


async def unpause_execution(
    services: Services, _: Call, request: UnpauseActivityExecutionRequest
) -> UnpauseActivityExecutionResponse:
    """UnpauseActivityExecution: the reason is told to nobody."""
    jitter = check_span("Jitter", request.jitter)
    resident, which = await _named(services, request)
    await _run(
        services,
        resident,
        lambda tx: activity_control.unpause(tx, which, reset_attempts=False, reset_heartbeat=False, jitter=jitter),
    )
    return UnpauseActivityExecutionResponse()


async def reset(services: Services, _: Call, request: ResetActivityRequest) -> ResetActivityResponse:
    """ResetActivity."""
    which = _which(services, request)
    await _reset(services, await _workflow(services, request), which, request)
    return ResetActivityResponse()


async def reset_execution(
    services: Services, _: Call, request: ResetActivityExecutionRequest
) -> ResetActivityExecutionResponse:
    """ResetActivityExecution."""
    resident, which = await _named(services, request)
    await _reset(services, resident, which, request)
    return ResetActivityExecutionResponse()


async def _reset(
    services: Services, resident: Resident, which: Which, request: ResetActivityRequest | ResetActivityExecutionRequest
) -> None:
    jitter = check_span("Jitter", request.jitter)
    originals = await _originals(services, resident, which) if request.restore_original_options else None
    wanted = ResetRequest(request.reset_heartbeat, request.keep_paused, jitter, originals)
    await _run(services, resident, lambda tx: activity_control.reset(tx, which, wanted))


async def update_options(
    services: Services, _: Call, request: UpdateActivityOptionsRequest
) -> UpdateActivityOptionsResponse:
    """UpdateActivityOptions: answers with the options as they are now."""
    which = _which(services, request)
    resident = await _workflow(services, request)
    return UpdateActivityOptionsResponse(activity_options=await _update(services, resident, which, request))


async def update_execution_options(
    services: Services, _: Call, request: UpdateActivityExecutionOptionsRequest
) -> UpdateActivityExecutionOptionsResponse:
    """UpdateActivityExecutionOptions."""
    resident, which = await _named(services, request)
    return UpdateActivityExecutionOptionsResponse(activity_options=await _update(services, resident, which, request))


async def _update(
    services: Services,
    resident: Resident,
    which: Which,
    request: UpdateActivityOptionsRequest | UpdateActivityExecutionOptionsRequest,
) -> ActivityOptions:
    paths = list(request.update_mask.paths)
    if request.restore_original:
        if paths:
            raise invalid_argument("Both UpdateMask and RestoreOriginal are provided")
        originals = await _originals(services, resident, which)
        changed = await _run(services, resident, lambda tx: activity_control.restore_options(tx, which, originals))
        return activity_options.shown(changed)
    if not request.HasField("activity_options"):
        raise invalid_argument("ActivityOptions are not provided")
    if not request.HasField("update_mask"):
        raise invalid_argument("UpdateMask is not provided")
    options = request.activity_options
    changed = await _run(services, resident, lambda tx: activity_control.update_options(tx, which, options, paths))
    return activity_options.shown(changed)


async def _originals(services: Services, resident: Resident, which: Which) -> dict[int, Options]:
    """The options with which the activities that are meant were scheduled: their events hold them."""
    originals: dict[int, Options] = {}
    while missing := [
        row.scheduled_id
        for row in activity_control.matching(resident.execution, which)
        if row.scheduled_id not in originals
    ]:  # others may come while we read
        for scheduled_id in missing:
            event = await services.engine.event(resident, scheduled_id)
            originals[scheduled_id] = activity_options.scheduled(event.activity_task_scheduled_event_attributes)
    return originals


async def _run(services: Services, resident: Resident, decide: Callable[[Transaction], T]) -> T:
    answer = services.engine.run(resident, decide)
    await services.engine.durable(resident)
    return answer


async def _workflow(services: Services, request: _Older) -> Resident:
    return await describe.find(services, request.namespace, request.execution)


def _which(services: Services, request: _Older) -> Which:
    if not request.execution.workflow_id:
        raise invalid_argument("WorkflowId is not set on request.")
    kind = request.WhichOneof("activity")
    if kind is None:
        raise invalid_argument("Either Activity.Id or Activity.Type should be set on request.")
    if kind == "id":
        return Which(activity_id=request.id)
    if kind == "type":
        return Which(activity_type=request.type)
    return Which(all=getattr(request, kind))


async def _named(services: Services, request: _Newer) -> tuple[Resident, Which]:
    services.namespaces.get(request.namespace)
    if not request.workflow_id:
        raise unimplemented("Standalone activity operator commands are disabled")
    if not request.activity_id:
        raise invalid_argument("activity ID is required")
    for field, value in (
        ("activity ID", request.activity_id),
        ("identity", request.identity),
        ("request ID", request.request_id),
    ):
        check_length(field, value, services.limits.ID_LENGTH)
    execution = WorkflowExecution(workflow_id=request.workflow_id, run_id=request.run_id)
    resident = await describe.find(services, request.namespace, execution)
    return resident, Which(activity_id=request.activity_id)
