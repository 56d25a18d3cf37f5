"""Task queues: who polls, what waits, and how fast it may go."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import DoubleValue
from temporalio.api.enums.v1 import DescribeTaskQueueMode, RateLimitSource, TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue, TaskQueueMetadata, TaskQueueVersionSelection
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    ListTaskQueuePartitionsRequest,
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    UpdateTaskQueueConfigRequest,
)

from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.servers import Server
from tests.support.values import complete_workflow, schedule_activity

WORKFLOW = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITY = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def describe(namespace: Namespace, queue: str, kind: Any = WORKFLOW, **more: Any) -> DescribeTaskQueueResponse:
    return await namespace.service.DescribeTaskQueue(
        DescribeTaskQueueRequest(
            namespace=namespace.name, task_queue=TaskQueue(name=queue), task_queue_type=kind, **more
        )
    )


async def poll_activity(namespace: Namespace, queue: str, rate: float | None = None, timeout: float = 20) -> Any:
    metadata = TaskQueueMetadata(max_tasks_per_second=DoubleValue(value=rate)) if rate is not None else None
    return await namespace.service.PollActivityTaskQueue(
        PollActivityTaskQueueRequest(
            namespace=namespace.name,
            task_queue=TaskQueue(name=queue),
            identity=IDENTITY,
            task_queue_metadata=metadata,
        ),
        timeout=timeout,
    )


async def test_a_queue_that_nobody_uses_is_described_too(orders: Namespace, queue: str) -> None:
    described = await describe(orders, queue, report_stats=True, include_task_queue_status=True, report_config=True)
    assert not described.pollers
    assert described.stats.approximate_backlog_count == 0
    assert described.task_queue_status.backlog_count_hint == 0
    assert not described.config.HasField("queue_rate_limit")
    limit = described.effective_rate_limit
    assert limit.rate_limit_source == RateLimitSource.RATE_LIMIT_SOURCE_SYSTEM
    assert described.versioning_info.current_version == "__unversioned__"


async def test_a_poller_is_shown_with_its_identity_and_last_poll(
    orders: Namespace, queue: str, workflow_id: str
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    described = await describe(orders, queue)
    assert [poller.identity for poller in described.pollers] == [IDENTITY]
    assert described.pollers[0].last_access_time.seconds > 0
    assert described.pollers[0].rate_per_second > 0
    assert not (await describe(orders, queue, ACTIVITY)).pollers


async def test_what_waits_is_counted(orders: Namespace, queue: str, workflow_id: str) -> None:
    for number in range(3):
        await orders.start(f"{workflow_id}-{number}", queue)
    described = await describe(orders, queue, report_stats=True)
    while described.stats.approximate_backlog_count < 3:  # a real server counts a moment later
        described = await describe(orders, queue, report_stats=True)
    stats = described.stats
    assert stats.approximate_backlog_count == 3
    assert stats.approximate_backlog_age.ToNanoseconds() > 0
    assert stats.tasks_add_rate > 0
    assert sum(each.approximate_backlog_count for each in described.stats_by_priority_key.values()) == 3


async def test_the_enhanced_mode_tells_of_all_types_at_once(orders: Namespace, queue: str, workflow_id: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue))
    described = await describe(
        orders,
        queue,
        api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
        task_queue_types=[WORKFLOW, ACTIVITY],
        report_pollers=True,
        report_stats=True,
    )
    assert list(described.versions_info) == [""]
    types = described.versions_info[""].types_info
    assert set(types) == {WORKFLOW, ACTIVITY}
    assert [poller.identity for poller in types[WORKFLOW].pollers] == [IDENTITY]
    assert not types[ACTIVITY].pollers


async def test_a_queue_must_be_named_and_not_as_the_server_names_its_parts(orders: Namespace, queue: str) -> None:
    assert (await refusal(describe(orders, ""))).code == grpc.StatusCode.INVALID_ARGUMENT
    for name in ("", f"/_sys/{queue}/1"):
        listed = orders.service.ListTaskQueuePartitions(
            ListTaskQueuePartitionsRequest(namespace=orders.name, task_queue=TaskQueue(name=name))
        )
        assert (await refusal(listed)).code == grpc.StatusCode.INVALID_ARGUMENT, name


async def test_the_enhanced_mode_is_not_for_sticky_queues(orders: Namespace, queue: str) -> None:
    refused = await refusal(
        orders.service.DescribeTaskQueue(
            DescribeTaskQueueRequest(
                namespace=orders.name,
                task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name="normal"),
                api_mode=DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED,
            )
        )
    )
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("embedded_only")  # a real server knows versions
async def test_versions_are_refused_by_name(orders: Namespace, queue: str) -> None:
    enhanced = DescribeTaskQueueMode.DESCRIBE_TASK_QUEUE_MODE_ENHANCED
    versions = TaskQueueVersionSelection(build_ids=["1.0"])
    for more, named in (({"versions": versions}, "versions"), ({"report_task_reachability": True}, "reachability")):
        refused = await refusal(describe(orders, queue, api_mode=enhanced, **more))
        assert refused.code == grpc.StatusCode.UNIMPLEMENTED
        assert refused.names(named)


async def test_the_parts_of_a_queue_are_listed(orders: Namespace, queue: str, server: Server) -> None:
    answer = await orders.service.ListTaskQueuePartitions(
        ListTaskQueuePartitionsRequest(namespace=orders.name, task_queue=TaskQueue(name=queue))
    )
    for parts in (answer.workflow_task_queue_partitions, answer.activity_task_queue_partitions):
        assert queue in [part.key for part in parts]
        assert server.kind == "real" or len(parts) == 1


async def test_a_rate_that_a_worker_asks_for_is_kept(orders: Namespace, queue: str, workflow_id: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *(schedule_activity(f"a{number}", queue) for number in range(2)))
    assert (await poll_activity(orders, queue, rate=0.01)).task_token
    described = await describe(orders, queue, ACTIVITY)
    assert math.isclose(described.effective_rate_limit.requests_per_second, 0.01, rel_tol=0.01)
    assert described.effective_rate_limit.rate_limit_source == RateLimitSource.RATE_LIMIT_SOURCE_WORKER
    assert [poller.rate_per_second for poller in described.pollers] == [0.01]


@pytest.mark.usefixtures("embedded_only")  # a real server lets the parts of a queue go on by themselves for a while
async def test_a_rate_of_nothing_stops_a_queue(orders: Namespace, queue: str, workflow_id: str) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_activity("reserve", queue))
    assert not (await poll_activity(orders, queue, rate=0, timeout=1)).task_token
    described = await describe(orders, queue, ACTIVITY, report_stats=True)
    assert described.stats.approximate_backlog_count == 1
    assert (await poll_activity(orders, queue)).task_token


def set_rate(namespace: Namespace, queue: str, rate: float | None, kind: Any = ACTIVITY, **more: Any) -> Any:
    update = UpdateTaskQueueConfigRequest.RateLimitUpdate(
        rate_limit=RateLimit(requests_per_second=rate) if rate is not None else None, reason="a sale"
    )
    return namespace.service.UpdateTaskQueueConfig(
        UpdateTaskQueueConfigRequest(
            namespace=namespace.name,
            identity=IDENTITY,
            task_queue=queue,
            task_queue_type=kind,
            update_queue_rate_limit=update,
            **more,
        )
    )


async def test_a_queue_is_given_a_rate_and_loses_it(orders: Namespace, queue: str) -> None:
    answer = await set_rate(orders, queue, 5.0)
    limit = answer.config.queue_rate_limit
    assert limit.rate_limit.requests_per_second == 5.0
    assert (limit.metadata.reason, limit.metadata.update_identity) == ("a sale", IDENTITY)
    described = await describe(orders, queue, ACTIVITY, report_config=True)
    assert described.config.queue_rate_limit == limit
    await set_rate(orders, queue, None)
    described = await describe(orders, queue, ACTIVITY, report_config=True)
    assert not described.config.queue_rate_limit.HasField("rate_limit")


async def test_a_rate_that_was_set_counts_more_than_a_worker_s(orders: Namespace, queue: str) -> None:
    await set_rate(orders, queue, 5.0)
    waiting = asyncio.ensure_future(poll_activity(orders, queue, rate=7))
    described = await describe(orders, queue, ACTIVITY)
    while not described.pollers:
        described = await describe(orders, queue, ACTIVITY)
    limit = described.effective_rate_limit
    assert (limit.requests_per_second, limit.rate_limit_source) == (5.0, RateLimitSource.RATE_LIMIT_SOURCE_API)
    waiting.cancel()


async def test_workflow_queues_have_no_rate_and_rates_are_not_negative(orders: Namespace, queue: str) -> None:
    refused = await refusal(set_rate(orders, queue, 5.0, WORKFLOW))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.message == "Setting rate limit on workflow task queues is not allowed."
    assert (await refusal(set_rate(orders, queue, -1.0))).code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("embedded_only")  # a real server knows fairness
async def test_fairness_is_refused_by_name(orders: Namespace, queue: str) -> None:
    refused = await refusal(set_rate(orders, queue, 5.0, set_fairness_weight_overrides={"gold": 2.0}))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert refused.names("set_fairness_weight_overrides")


async def test_a_workflow_poll_is_not_limited(orders: Namespace, queue: str, workflow_id: str) -> None:
    """Its requests have no field that would say so; a poll of the same name for activities does not count."""
    await orders.start(workflow_id, queue)
    task = await orders.service.PollWorkflowTaskQueue(
        PollWorkflowTaskQueueRequest(namespace=orders.name, task_queue=TaskQueue(name=queue), identity=IDENTITY),
        timeout=20,
    )
    assert task.task_token
    limit = (await describe(orders, queue)).effective_rate_limit
    assert limit.rate_limit_source == RateLimitSource.RATE_LIMIT_SOURCE_SYSTEM
