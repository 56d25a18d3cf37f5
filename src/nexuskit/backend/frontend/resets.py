"""ResetWorkflowExecution: a workflow goes on from an earlier point of its history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType, ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse

from nexuskit.backend import starting
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found, unimplemented
from nexuskit.backend.frontend import describe
from nexuskit.backend.frontend.checks import check_text
from nexuskit.backend.history import buffer, reset, signal
from nexuskit.backend.history.state import Info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from temporalio.api.history.v1 import HistoryEvent

    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services

_EXCLUDE = ResetReapplyExcludeType


async def reset_workflow(
    services: Services, _: Call, request: ResetWorkflowExecutionRequest
) -> ResetWorkflowExecutionResponse:
    """ResetWorkflowExecution. The same request id again gets the run that it made."""
    check_text("RequestId", request.request_id, services.limits)
    if request.reset_reapply_type not in ResetReapplyType.values():
        raise invalid_argument(f"unknown reset reapply type: {request.reset_reapply_type}")
    sent = [_signal(services, request, place) for place in range(len(request.post_reset_operations))]
    engine = services.engine
    base = await describe.find(services, request.namespace, request.workflow_execution)
    point = request.workflow_task_finish_event_id
    if not 1 < point < base.execution.info.next_event_id:
        raise invalid_argument("Workflow task finish ID must be > 1 && <= workflow last event ID.")
    await engine.durable(base)  # what is copied stays as it is
    run_id = services.draw.run_id(services.clock.now())
    made = engine.conceive(Info(base.execution.info.namespace_id, base.execution.info.workflow_id, run_id))
    await _copy(services, base, point - 1, made)
    signals, updates = _reapplied(request)
    while True:
        base = await describe.find(services, request.namespace, request.workflow_execution)
        later, last = await _later(services, base, point)
        there = await starting.newest(engine, base.execution.info.namespace_id, base.execution.info.workflow_id)
        # Nothing is awaited from here on, so what was read is how things are, or it is read again.
        if base.lost or last.changed() or there is None:
            continue
        if there.execution.info.reset_request_id == request.request_id:
            run_id = there.execution.info.run_id
            await engine.durable(there)
            return ResetWorkflowExecutionResponse(run_id=run_id)
        break
    made_of = reset.Rebuild(
        base_run_id=base.execution.info.run_id,
        later=[*later, *buffer.in_order(last.run.execution)],
        signals=sent,
        reapply_signals=signals,
        reapply_updates=updates,
        reapply_nexus=_EXCLUDE.RESET_REAPPLY_EXCLUDE_TYPE_NEXUS not in request.reset_reapply_exclude_types,
        request_id=request.request_id,
        reason=request.reason,
    )
    engine.bear(made, lambda tx: reset.rebuild(tx, made_of))
    engine.run(base, lambda tx: reset.leave(tx, run_id, request.reason))
    if there is not base:
        engine.run(there, lambda tx: reset.leave(tx, "", request.reason))
    await engine.durable(made)
    return ResetWorkflowExecutionResponse(run_id=run_id)


class _Read(NamedTuple):
    """A run, and how far its history was read."""

    run: Resident
    next_event_id: int

    def changed(self) -> bool:
        """Whether there is more of it, or what was read is not how things are."""
        return self.run.lost or self.run.execution.info.next_event_id != self.next_event_id


def _reapplied(request: ResetWorkflowExecutionRequest) -> tuple[bool, bool]:
    """Whether signals that came later are given to the new run, and whether updates are."""
    excluded = request.reset_reapply_exclude_types
    only = request.reset_reapply_type  # the older way to say it
    signals = only != ResetReapplyType.RESET_REAPPLY_TYPE_NONE
    updates = signals and only != ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL
    return (
        signals and _EXCLUDE.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL not in excluded,
        updates and _EXCLUDE.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE not in excluded,
    )


def _signal(services: Services, request: ResetWorkflowExecutionRequest, place: int) -> signal.Signal:
    """What a post-reset operation sends.

    Raises:
        StatusError: UNIMPLEMENTED, for another kind of operation than a signal.
    """
    operation = request.post_reset_operations[place]
    variant = operation.WhichOneof("variant")
    if variant != "signal_workflow":
        name = f"ResetWorkflowExecutionRequest.post_reset_operations[{place}].{variant}"
        raise unimplemented(f"{name} is set, and not served by this backend")
    given = operation.signal_workflow
    check_text("SignalName", given.signal_name, services.limits)
    return signal.Signal(
        name=given.signal_name,
        input=given.input if given.HasField("input") else None,
        header=given.header if given.HasField("header") else None,
        identity=request.identity,
        request_id=services.draw.uuid(),
        links=list(given.links),
    )


async def _copy(services: Services, base: Resident, last_id: int, made: Resident) -> None:
    """Give the new run the base run's history up to that event, piece by piece, so that nobody waits for all of it."""
    request_id = base.execution.info.start_request_id
    async for piece in _pieces(services, base, 1, last_id):
        services.engine.copy(made, lambda tx, piece=piece: reset.copy(tx, piece, request_id))


async def _pieces(
    services: Services, resident: Resident, first_id: int, last_id: int
) -> AsyncIterator[list[HistoryEvent]]:
    """The events from `first_id` to `last_id`, some at a time; others work in between."""
    while first_id <= last_id:
        piece = await services.engine.events(resident, first_id, last_id, services.limits.RESET_PIECE_SIZE)
        if not piece:
            raise not_found(f"event {first_id} of run {resident.execution.info.run_id} is not there")
        yield piece
        first_id = piece[-1].event_id + 1
        await asyncio.sleep(0)


async def _later(services: Services, base: Resident, point: int) -> tuple[list[HistoryEvent], _Read]:
    """What the histories of the base run, and of those that continue it as new, hold from that event on; the last run.

    What waits there for a workflow task in flight is in no history yet.
    """
    events: list[HistoryEvent] = []
    resident, first_id = base, point
    while True:
        last = None
        read = _Read(resident, resident.execution.info.next_event_id)
        async for piece in _pieces(services, resident, first_id, read.next_event_id - 1):
            events.extend(piece)
            last = piece[-1]
        if last is None or last.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            return events, read
        following = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        info = base.execution.info
        try:
            resident = await services.engine.find(info.namespace_id, info.workflow_id, following)
        except StatusError as error:
            if error.code != Code.NOT_FOUND:
                raise
            return events, read  # its retention is over, and that of all before it
        first_id = 1
