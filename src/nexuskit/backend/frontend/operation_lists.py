"""Lists and counts of Nexus operations that stand alone: with the same filters as workflows', of other attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import NexusOperationExecutionStatus
from temporalio.api.nexus.v1 import NexusOperationExecutionListInfo
from temporalio.api.workflowservice.v1 import (
    CountNexusOperationExecutionsRequest,
    CountNexusOperationExecutionsResponse,
    ListNexusOperationExecutionsRequest,
    ListNexusOperationExecutionsResponse,
)

from nexuskit.backend.frontend.search_attributes import visible
from nexuskit.backend.frontend.visibility import keyword, read_count, read_page
from nexuskit.backend.history.state import OPERATION, Info, space
from nexuskit.backend.times import duration, timestamp
from nexuskit.backend.visibility.plans import plan
from nexuskit.backend.visibility.subjects import OPERATIONS, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def list_all(
    services: Services, _: Call, request: ListNexusOperationExecutionsRequest
) -> ListNexusOperationExecutionsResponse:
    """ListNexusOperationExecutions."""
    namespace = services.namespaces.get(request.namespace)
    planned = plan(request.query, OPERATIONS, space(namespace.id, OPERATION), namespace.search_attributes)
    found, token = await read_page(
        services,
        planned,
        request.page_size,
        request.next_page_token,
        lambda info: _listed(info, namespace.search_attributes),
    )
    return ListNexusOperationExecutionsResponse(operations=found, next_page_token=token)


async def count(
    services: Services, _: Call, request: CountNexusOperationExecutionsRequest
) -> CountNexusOperationExecutionsResponse:
    """CountNexusOperationExecutions, in all or for each status."""
    namespace = services.namespaces.get(request.namespace)
    where = space(namespace.id, OPERATION)
    planned = plan(request.query, OPERATIONS, where, namespace.search_attributes, count=True)
    found = await read_count(services, planned)
    answer = CountNexusOperationExecutionsResponse(count=sum(number for _, number in found))
    if planned.grouped:
        for status, number in found:
            name = NexusOperationExecutionStatus.Name(NexusOperationExecutionStatus.ValueType(status))
            shown = written(name, "NEXUS_OPERATION_EXECUTION_STATUS_")
            answer.groups.add(group_values=[keyword(shown)], count=number)
    return answer


def _listed(info: Info, custom: Mapping[str, int]) -> NexusOperationExecutionListInfo:
    shown = NexusOperationExecutionListInfo(
        operation_id=info.workflow_id,
        run_id=info.run_id,
        endpoint=info.task_queue,
        service=info.keywords["Service"],
        operation=info.workflow_type,
        schedule_time=timestamp(info.start_time),
        close_time=timestamp(info.close_time),
        status=NexusOperationExecutionStatus.ValueType(info.status),
        search_attributes=SearchAttributes.FromString(info.search_attributes),
    )
    visible(shown.search_attributes, custom)
    if not info.running:
        # As in the real server, a list knows these only of closed ones.
        shown.state_transition_count = info.transitions
        shown.state_size_bytes = info.history_size
        shown.execution_duration.CopyFrom(duration(info.close_time - info.start_time) or shown.execution_duration)
    return shown
