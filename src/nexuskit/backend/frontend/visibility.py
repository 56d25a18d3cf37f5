"""Lists and counts of workflow executions.

What a start or a close was answered for is in the very next list: lists are read from the rows that it committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import IndexedValueType, WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    GetSearchAttributesRequest,
    GetSearchAttributesResponse,
    ListClosedWorkflowExecutionsRequest,
    ListClosedWorkflowExecutionsResponse,
    ListOpenWorkflowExecutionsRequest,
    ListOpenWorkflowExecutionsResponse,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
    ScanWorkflowExecutionsRequest,
    ScanWorkflowExecutionsResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend.describe import execution_info
from nexuskit.backend.frontend.search_attributes import visible
from nexuskit.backend.history.state import Info
from nexuskit.backend.store import listing
from nexuskit.backend.times import moment
from nexuskit.backend.visibility.plans import plan
from nexuskit.backend.visibility.search_attributes import KEYWORD, NAMES, PREDEFINED, SYSTEM
from nexuskit.backend.visibility.subjects import WORKFLOWS, written

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from google.protobuf.timestamp_pb2 import Timestamp
    from temporalio.api.workflow.v1 import WorkflowExecutionInfo

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services
    from nexuskit.backend.visibility.plans import Plan

T = TypeVar("T")

_decode = msgspec.msgpack.Decoder(Info).decode

_STATUS_NAMES: dict[int, str] = {
    int(number): written(name, "WORKFLOW_EXECUTION_STATUS_") for name, number in WorkflowExecutionStatus.items()
}
"""As a count's groups show them: `TimedOut`."""


async def list_all(
    services: Services, _: Call, request: ListWorkflowExecutionsRequest
) -> ListWorkflowExecutionsResponse:
    """ListWorkflowExecutions."""
    found, token = await _page(services, request.namespace, request.query, request.page_size, request.next_page_token)
    return ListWorkflowExecutionsResponse(executions=found, next_page_token=token)


async def scan(services: Services, _: Call, request: ScanWorkflowExecutionsRequest) -> ScanWorkflowExecutionsResponse:
    """ScanWorkflowExecutions: an older name for a list."""
    found, token = await _page(services, request.namespace, request.query, request.page_size, request.next_page_token)
    return ScanWorkflowExecutionsResponse(executions=found, next_page_token=token)


async def list_open(
    services: Services, _: Call, request: ListOpenWorkflowExecutionsRequest
) -> ListOpenWorkflowExecutionsResponse:
    """ListOpenWorkflowExecutions: an older way to ask for a list."""
    parts = ["ExecutionStatus = 'Running'", *_older_filter(request, "StartTime")]
    found, token = await _page(
        services, request.namespace, " AND ".join(parts), request.maximum_page_size, request.next_page_token
    )
    return ListOpenWorkflowExecutionsResponse(executions=found, next_page_token=token)


async def list_closed(
    services: Services, _: Call, request: ListClosedWorkflowExecutionsRequest
) -> ListClosedWorkflowExecutionsResponse:
    """ListClosedWorkflowExecutions: an older way to ask for a list."""
    parts = ["ExecutionStatus != 'Running'", *_older_filter(request, "CloseTime")]
    if request.HasField("status_filter"):
        if request.status_filter.status in (0, WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING):
            raise invalid_argument("StatusFilter must be specified and must be not Running.")
        parts.append(f"ExecutionStatus = {int(request.status_filter.status)}")
    found, token = await _page(
        services, request.namespace, " AND ".join(parts), request.maximum_page_size, request.next_page_token
    )
    return ListClosedWorkflowExecutionsResponse(executions=found, next_page_token=token)


async def count(
    services: Services, _: Call, request: CountWorkflowExecutionsRequest
) -> CountWorkflowExecutionsResponse:
    """CountWorkflowExecutions, in all or for each status."""
    namespace = services.namespaces.get(request.namespace)
    planned = plan(request.query, WORKFLOWS, namespace.id, namespace.search_attributes, count=True)
    found = await read_count(services, planned)
    answer = CountWorkflowExecutionsResponse(count=sum(number for _, number in found))
    if planned.grouped:
        for status, number in found:
            answer.groups.add(group_values=[keyword(_STATUS_NAMES[status])], count=number)
    return answer


async def get_search_attributes(
    services: Services, _: Call, request: GetSearchAttributesRequest
) -> GetSearchAttributesResponse:
    """GetSearchAttributes: those of every namespace, since the request names none."""
    keys = {name: IndexedValueType.ValueType(kind) for name, kind in {**SYSTEM, **PREDEFINED}.items()}
    for namespace in services.namespaces.all():
        keys.update({name: IndexedValueType.ValueType(kind) for name, kind in namespace.search_attributes.items()})
    return GetSearchAttributesResponse(keys=keys)


def _older_filter(
    request: ListOpenWorkflowExecutionsRequest | ListClosedWorkflowExecutionsRequest, time: str
) -> list[str]:
    """Conditions of the older requests: at most one on an id or a type, and a range of that time."""
    parts = _times(request, time)
    if request.HasField("execution_filter"):
        parts.append(f"WorkflowId = {_quoted(request.execution_filter.workflow_id)}")
    elif request.HasField("type_filter"):
        parts.append(f"WorkflowType = {_quoted(request.type_filter.name)}")
    return parts


def _times(
    request: ListOpenWorkflowExecutionsRequest | ListClosedWorkflowExecutionsRequest, attribute: str
) -> list[str]:
    def given(stamp: Timestamp) -> int:
        return min(max(moment(stamp), 0), 2**63 - 1)

    earliest = given(request.start_time_filter.earliest_time)
    latest = given(request.start_time_filter.latest_time)
    if earliest and latest and earliest > latest:
        raise invalid_argument("EarliestTime in StartTimeFilter should not be larger than LatestTime.")
    parts = [f"{attribute} >= {earliest}"] if earliest else []
    return [*parts, f"{attribute} <= {latest}"] if latest else parts


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


async def _page(
    services: Services, name: str, query: str, size: int, token: bytes
) -> tuple[list[WorkflowExecutionInfo], bytes]:
    """A page of a list, and the token of the next one."""
    namespace = services.namespaces.get(name)
    planned = plan(query, WORKFLOWS, namespace.id, namespace.search_attributes)
    return await read_page(services, planned, size, token, lambda info: _listed(info, namespace.search_attributes))


async def read_page(
    services: Services, planned: Plan, size: int, token: bytes, shown: Callable[[Info], T]
) -> tuple[list[T], bytes]:
    """A page of what a plan finds, each `shown` on a reader's thread, and the token of the next one.

    Raises:
        StatusError: INVALID_ARGUMENT, if the token is none of such a list; RESOURCE_EXHAUSTED, if it is too much work.
    """
    if size <= 0 or size > services.limits.LIST_PAGE_SIZE:
        size = services.limits.LIST_PAGE_SIZE
    after = None
    if token:
        read = tokens.read(tokens.ListPage, token, "next page token")
        after = listing.After((read.listed, read.start_time, read.number), read.value)

    def read_on(connection: sqlite3.Connection) -> tuple[list[T], listing.After | None]:
        page = listing.read_page(connection, planned, after, size, services.limits.LIST_WORK)
        return [shown(_decode(body)) for body in page.bodies], page.after

    try:
        found, ended = await services.engine.store.reader.list(read_on)
    except OverflowError:
        raise invalid_argument("The next page token is not one of this list.") from None
    if ended is None:
        return found, b""
    return found, tokens.write(tokens.ListPage(*ended.place, ended.value))


async def read_count(services: Services, planned: Plan) -> list[tuple[int, int]]:
    """How many a plan finds: for each status where it groups by that, else in all, with the status 0."""
    return await services.engine.store.reader.list(
        lambda connection: listing.count(connection, planned, services.limits.LIST_WORK)
    )


def _listed(info: Info, custom: dict[str, int]) -> WorkflowExecutionInfo:
    shown = execution_info(info)
    visible(shown.search_attributes, custom)
    if info.running:
        # As in the real server, a list knows these only of closed runs.
        for field in ("history_length", "history_size_bytes", "state_transition_count"):
            shown.ClearField(field)
    return shown


def keyword(value: str) -> Payload:
    """A status, as a count's group names it."""
    return Payload(
        metadata={"encoding": b"json/plain", "type": NAMES[KEYWORD].encode()}, data=msgspec.json.encode(value)
    )
