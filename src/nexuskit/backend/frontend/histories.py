"""GetWorkflowExecutionHistory: pages of a run's events, and the long poll by which results are waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryResponse,
    GetWorkflowExecutionHistoryReverseRequest,
    GetWorkflowExecutionHistoryReverseResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import Code, StatusError, invalid_argument, not_found
from nexuskit.backend.frontend import describe, workflow_tasks

if TYPE_CHECKING:
    from nexuskit.backend.engine import Resident
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services

_CLOSE_EVENT = HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT
_PEOPLE = frozenset({"temporal-cli", "temporal-ui"})
"""Clients by which people read: they are shown what is in history, and no event that may never be in it."""


async def get(
    services: Services, call: Call, request: GetWorkflowExecutionHistoryRequest
) -> GetWorkflowExecutionHistoryResponse:
    """GetWorkflowExecutionHistory; with `wait_new_event` once there is something new, or empty after a while."""
    resident, page = await _open(services, request)
    if request.wait_new_event:
        resident = await _wait(services, call, resident, page, closed=request.history_event_filter_type == _CLOSE_EVENT)
    # What is shown is what was there before we waited for the disk: what came since may not be on it.
    info = resident.execution.info
    seen = Seen(info.next_event_id - 1, info.running, info.close_event_id)
    await services.engine.durable(resident)
    if request.history_event_filter_type == _CLOSE_EVENT:
        return await _close_event(services, resident, seen, page, waited=request.wait_new_event)
    return await _events(services, call, resident, seen, page, request)


class Seen(NamedTuple):
    """How far an execution had come."""

    last_id: int
    running: bool
    close_event_id: int


async def _open(
    services: Services, request: GetWorkflowExecutionHistoryRequest | GetWorkflowExecutionHistoryReverseRequest
) -> tuple[Resident, tokens.HistoryPage]:
    if not request.next_page_token:
        resident = await describe.find(services, request.namespace, request.execution)
        info = resident.execution.info
        return resident, tokens.HistoryPage(resident.execution.id, info.namespace_id, info.run_id, 1, 0)
    namespace_id = services.namespaces.get(request.namespace).id
    page = tokens.read(tokens.HistoryPage, request.next_page_token, "next page token")
    resident = await _still_there(services, page.execution, f"run {page.run_id}")
    info = resident.execution.info
    if info.run_id != page.run_id or info.namespace_id != namespace_id:
        raise not_found(f"workflow execution not found: the next page token names run {page.run_id}")
    if request.execution.workflow_id not in ("", info.workflow_id) or request.execution.run_id not in ("", info.run_id):
        raise invalid_argument("the next page token is of another run than the one that the request names")
    return resident, page


def _count(
    services: Services, request: GetWorkflowExecutionHistoryRequest | GetWorkflowExecutionHistoryReverseRequest
) -> int:
    """How many events a page has; a size of less than nothing is none that is asked for, as on a real server."""
    most = services.limits.HISTORY_PAGE_EVENTS
    return min(request.maximum_page_size, most) if request.maximum_page_size > 0 else most


async def get_reverse(
    services: Services, _: Call, request: GetWorkflowExecutionHistoryReverseRequest
) -> GetWorkflowExecutionHistoryReverseResponse:
    """GetWorkflowExecutionHistoryReverse: the newest event first; each page ends with the oldest of its events."""
    resident, page = await _open(services, request)
    last_id = page.next_id if request.next_page_token else resident.execution.info.next_event_id - 1
    await services.engine.durable(resident)
    count = _count(services, request)
    first_id = max(last_id - count + 1, 1)
    events = await services.engine.events(resident, first_id, last_id, services.limits.HISTORY_PAGE_SIZE)
    while events and events[-1].event_id < last_id:
        # More than a page: what is nearest to the end is wanted.
        first_id = events[-1].event_id + 1
        events = await services.engine.events(resident, first_id, last_id, services.limits.HISTORY_PAGE_SIZE)
    more = b""
    if first_id > 1:
        more = tokens.write(tokens.HistoryPage(page.execution, page.namespace_id, page.run_id, first_id - 1, last_id=0))
    return GetWorkflowExecutionHistoryReverseResponse(history=History(events=reversed(events)), next_page_token=more)


async def _wait(
    services: Services, call: Call, resident: Resident, page: tokens.HistoryPage, *, closed: bool
) -> Resident:
    """Wait for an event that the caller does not have (or, with `closed`, for the last one)."""
    until = call.until(services.limits.HISTORY_LONG_POLL, services.clock.now(), services.limits.POLL_MARGIN)
    number = resident.execution.id
    names = f"workflow {resident.execution.info.workflow_id!r}, run {resident.execution.info.run_id}"
    while services.clock.now() < until and not services.engine.stopping:
        info = resident.execution.info
        if not info.running or (not closed and info.next_event_id > page.next_id):
            break
        await services.engine.more_events(resident, until, last=closed)
        resident = await _still_there(services, number, names)
    return resident


async def _still_there(services: Services, number: int, names: str) -> Resident:
    """A run that was there, by its number in the store; `names` is what its caller calls it.

    Raises:
        StatusError: NOT_FOUND, if it has been deleted meanwhile.
    """
    try:
        return await services.engine.get(number)
    except StatusError as error:
        if error.code != Code.NOT_FOUND:
            raise
        raise not_found(f"Workflow execution history not found. It was that of {names}.") from None


async def _close_event(
    services: Services, resident: Resident, seen: Seen, page: tokens.HistoryPage, *, waited: bool
) -> GetWorkflowExecutionHistoryResponse:
    if seen.running:
        if waited:
            return GetWorkflowExecutionHistoryResponse(history=History(), next_page_token=tokens.write(page))
        return GetWorkflowExecutionHistoryResponse(history=History())
    return GetWorkflowExecutionHistoryResponse(
        history=History(events=[await services.engine.event(resident, seen.close_event_id)])
    )


async def _events(
    services: Services,
    call: Call,
    resident: Resident,
    seen: Seen,
    page: tokens.HistoryPage,
    request: GetWorkflowExecutionHistoryRequest,
) -> GetWorkflowExecutionHistoryResponse:
    last_id = page.last_id or seen.last_id
    count = _count(services, request)
    events: list[HistoryEvent] = []
    if page.next_id <= last_id:
        events = (await services.engine.events(resident, page.next_id, last_id, services.limits.HISTORY_PAGE_SIZE))[
            :count
        ]
    next_id = events[-1].event_id + 1 if events else page.next_id
    more = b""
    if next_id <= last_id:
        following = tokens.HistoryPage(
            page.execution, page.namespace_id, page.run_id, next_id, page.last_id or last_id, page.transient
        )
        more = tokens.write(following)
    elif request.wait_new_event and seen.running:
        # The caller wants what comes after, too.
        more = tokens.write(tokens.HistoryPage(page.execution, page.namespace_id, page.run_id, next_id, 0))
    elif seen.running and call.metadata.get("client-name") not in _PEOPLE:
        # A worker that lost the workflow reads all of it again, and needs the events of the task that it has.
        events.extend(workflow_tasks.transient_events(resident, next_id, services.limits))
    return GetWorkflowExecutionHistoryResponse(history=History(events=events), next_page_token=more)
