"""Task queue calls: who polls a queue, what waits in it, and how fast it may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import DescribeTaskQueueMode, RateLimitSource, TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import (
    ConfigMetadata,
    PollerInfo,
    RateLimit,
    RateLimitConfig,
    TaskQueueConfig,
    TaskQueuePartitionMetadata,
    TaskQueueStats,
    TaskQueueStatus,
    TaskQueueTypeInfo,
    TaskQueueVersionInfo,
    TaskQueueVersioningInfo,
)
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListTaskQueuePartitionsRequest,
    ListTaskQueuePartitionsResponse,
    UpdateTaskQueueConfigRequest,
    UpdateTaskQueueConfigResponse,
)

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend.checks import check_id_length, check_text
from nexuskit.backend.history import queue_name
from nexuskit.backend.history.state import Destination
from nexuskit.backend.times import duration, timestamp
from nexuskit.identity.callers import EMBEDDED_CLUSTER

if TYPE_CHECKING:
    from temporalio.api.taskqueue.v1 import TaskQueue

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services

KINDS = {
    TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW: "workflow",
    TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY: "activity",
    TaskQueueType.TASK_QUEUE_TYPE_NEXUS: "nexus",
}
"""Type of task queue → the kind of destination that it is."""

UNVERSIONED = "__unversioned__"
"""The version of workers that name none, as the real server tells it."""

ONE_PRIORITY = 3
"""The priority key of whatever has none; tasks leave a queue in the order of their coming, whatever theirs is."""


async def describe(services: Services, _: Call, request: DescribeTaskQueueRequest) -> DescribeTaskQueueResponse:
    """DescribeTaskQueue: one queue of one type, or in the enhanced mode all types that are asked for."""
    namespace = services.namespaces.get(request.namespace)
    name = _checked(services, request.task_queue)
    if request.api_mode == DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED:
        return _enhanced(services, namespace.id, request)
    if request.task_queue_type not in (TaskQueueType.TASK_QUEUE_TYPE_UNSPECIFIED, *KINDS):
        raise invalid_argument(f"TaskQueueType {request.task_queue_type} is not known.")
    kind = KINDS.get(request.task_queue_type, "workflow")
    queue = Destination(kind, namespace.id, name)
    tasks = services.engine.tasks
    set_rate = services.task_queues.get(queue)
    by_hand = set_rate is not None and set_rate.queue_rate_limit.HasField("rate_limit")
    asked = tasks.rate(queue)
    rate = min(services.limits.TASKS_PER_SECOND, services.limits.TASKS_PER_SECOND if asked is None else asked)
    source = RateLimitSource.RATE_LIMIT_SOURCE_API if by_hand else RateLimitSource.RATE_LIMIT_SOURCE_WORKER
    answer = DescribeTaskQueueResponse(
        versioning_info=TaskQueueVersioningInfo(current_version=UNVERSIONED),
        pollers=_pollers(services, queue),
        effective_rate_limit=DescribeTaskQueueResponse.EffectiveRateLimit(
            requests_per_second=rate,
            rate_limit_source=RateLimitSource.RATE_LIMIT_SOURCE_SYSTEM
            if rate >= services.limits.TASKS_PER_SECOND
            else source,
        ),
        config=set_rate if request.report_config else None,
    )
    if request.report_stats:
        answer.stats.CopyFrom(_stats(services, queue))
        answer.stats_by_priority_key[ONE_PRIORITY].CopyFrom(answer.stats)
    if request.include_task_queue_status:
        answer.task_queue_status.CopyFrom(
            TaskQueueStatus(backlog_count_hint=tasks.stats(queue).backlog, rate_per_second=rate)
        )
    return answer


def _enhanced(services: Services, namespace_id: str, request: DescribeTaskQueueRequest) -> DescribeTaskQueueResponse:
    if request.task_queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY:
        raise invalid_argument("Enhanced DescribeTaskQueue is not supported for sticky queues.")
    types = request.task_queue_types or [TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY]
    info = TaskQueueVersionInfo()
    for each in types:
        if each not in KINDS:
            raise invalid_argument(f"TaskQueueType {each} is not known.")
        queue = Destination(KINDS[each], namespace_id, request.task_queue.name)
        info.types_info[each].CopyFrom(
            TaskQueueTypeInfo(
                pollers=_pollers(services, queue) if request.report_pollers else [],
                stats=_stats(services, queue) if request.report_stats else None,
            )
        )
    return DescribeTaskQueueResponse(versions_info={"": info})


def _pollers(services: Services, queue: Destination) -> list[PollerInfo]:
    return [
        PollerInfo(
            identity=identity,
            last_access_time=timestamp(seen.time),
            rate_per_second=services.limits.TASKS_PER_SECOND if seen.rate is None else seen.rate,
        )
        for identity, seen in services.engine.tasks.seen(queue).items()
    ]


def _stats(services: Services, queue: Destination) -> TaskQueueStats:
    stats = services.engine.tasks.stats(queue)
    age = max(services.clock.now() - stats.oldest, 0) if stats.backlog else 0
    return TaskQueueStats(
        approximate_backlog_count=stats.backlog,
        approximate_backlog_age=duration(age),
        tasks_add_rate=stats.added,
        tasks_dispatch_rate=stats.dispatched,
        rate_limiting_active=stats.limited,
    )


async def list_partitions(
    services: Services, _: Call, request: ListTaskQueuePartitionsRequest
) -> ListTaskQueuePartitionsResponse:
    """ListTaskQueuePartitions: a queue is in one part."""
    name = _checked(services, request.task_queue)
    services.namespaces.get(request.namespace)
    whole = [TaskQueuePartitionMetadata(key=name, owner_host_name=EMBEDDED_CLUSTER)]
    return ListTaskQueuePartitionsResponse(activity_task_queue_partitions=whole, workflow_task_queue_partitions=whole)


async def configure(
    services: Services, _: Call, request: UpdateTaskQueueConfigRequest
) -> UpdateTaskQueueConfigResponse:
    """UpdateTaskQueueConfig: a rate limit for a whole queue, which counts more than what its workers ask for."""
    namespace = services.namespaces.get(request.namespace)
    check_text("TaskQueue", request.task_queue, services.limits)
    most = services.limits.ID_LENGTH
    check_id_length(f"Identity field too long (max {most} characters).", request.identity, services.limits)
    if request.task_queue_type not in KINDS:
        raise invalid_argument(f"TaskQueueType {request.task_queue_type} is not one of a task queue.")
    queue = Destination(KINDS[request.task_queue_type], namespace.id, request.task_queue)
    update = request.update_queue_rate_limit
    config = TaskQueueConfig()
    before = services.task_queues.get(queue)
    if before is not None:
        config.CopyFrom(before)
    if not request.HasField("update_queue_rate_limit"):
        return UpdateTaskQueueConfigResponse(config=config)
    if update.HasField("rate_limit"):
        if request.task_queue_type == TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW:
            raise invalid_argument("Setting rate limit on workflow task queues is not allowed.")
        if not update.rate_limit.requests_per_second >= 0:
            raise invalid_argument(
                f"UpdateQueueRateLimit: a rate must not be negative, got {update.rate_limit.requests_per_second:g}."
            )
    check_id_length(
        f"UpdateQueueRateLimit.Reason field too long (max {most} characters).", update.reason, services.limits
    )
    config.queue_rate_limit.CopyFrom(
        RateLimitConfig(
            rate_limit=RateLimit(requests_per_second=update.rate_limit.requests_per_second)
            if update.HasField("rate_limit")
            else None,
            metadata=ConfigMetadata(
                reason=update.reason,
                update_identity=request.identity,
                update_time=timestamp(services.clock.now()),
            ),
        )
    )
    await services.task_queues.change(queue, config).wait()
    return UpdateTaskQueueConfigResponse(config=config)


def _checked(services: Services, queue: TaskQueue) -> str:
    queue_name.check(queue.name, services.limits)
    return queue.name
