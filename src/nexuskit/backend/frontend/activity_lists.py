"""Lists and counts of activities that stand alone: with the same filters as those of workflows, of other attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.activity.v1 import ActivityExecutionListInfo
from temporalio.api.common.v1 import ActivityType, SearchAttributes
from temporalio.api.enums.v1 import ActivityExecutionStatus
from temporalio.api.workflowservice.v1 import (
    CountActivityExecutionsRequest,
    CountActivityExecutionsResponse,
    ListActivityExecutionsRequest,
    ListActivityExecutionsResponse,
)

from nexuskit.backend.frontend.search_attributes import visible
from nexuskit.backend.frontend.visibility import keyword, read_count, read_page
from nexuskit.backend.history.state import ACTIVITY, Info, space
from nexuskit.backend.times import duration, timestamp
from nexuskit.backend.visibility.plans import plan
from nexuskit.backend.visibility.subjects import ACTIVITIES, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def list_all(
    services: Services, _: Call, request: ListActivityExecutionsRequest
) -> ListActivityExecutionsResponse:
    """ListActivityExecutions."""
    namespace = services.namespaces.get(request.namespace)
    planned = plan(request.query, ACTIVITIES, space(namespace.id, ACTIVITY), namespace.search_attributes)
    found, token = await read_page(
        services,
        planned,
        request.page_size,
        request.next_page_token,
        lambda info: _listed(info, namespace.search_attributes),
    )
    return ListActivityExecutionsResponse(executions=found, next_page_token=token)


async def count(
    services: Services, _: Call, request: CountActivityExecutionsRequest
) -> CountActivityExecutionsResponse:
    """CountActivityExecutions, in all or for each status."""
    namespace = services.namespaces.get(request.namespace)
    where = space(namespace.id, ACTIVITY)
    planned = plan(request.query, ACTIVITIES, where, namespace.search_attributes, count=True)
    found = await read_count(services, planned)
    answer = CountActivityExecutionsResponse(count=sum(number for _, number in found))
    if planned.grouped:
        for status, number in found:
            name = ActivityExecutionStatus.Name(ActivityExecutionStatus.ValueType(status))
            shown = written(name, "ACTIVITY_EXECUTION_STATUS_")
            answer.groups.add(group_values=[keyword(shown)], count=number)
    return answer


def _listed(info: Info, custom: Mapping[str, int]) -> ActivityExecutionListInfo:
    shown = ActivityExecutionListInfo(
        activity_id=info.workflow_id,
        run_id=info.run_id,
        activity_type=ActivityType(name=info.workflow_type),
        schedule_time=timestamp(info.start_time),
        close_time=timestamp(info.close_time),
        status=ActivityExecutionStatus.ValueType(info.status),
        search_attributes=SearchAttributes.FromString(info.search_attributes),
        task_queue=info.task_queue,
        execution_time=timestamp(info.execution_time),
    )
    visible(shown.search_attributes, custom)
    if not info.running:
        # As in the real server, a list knows these only of closed ones.
        shown.state_transition_count = info.transitions
        shown.state_size_bytes = info.history_size
        shown.execution_duration.CopyFrom(duration(info.close_time - info.start_time) or shown.execution_duration)
    return shown
