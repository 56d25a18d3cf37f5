"""Workers: how they are, who is there, and that one that shut down gets nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType, WorkerStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.worker.v1 import WorkerHeartbeat, WorkerHostInfo
from temporalio.api.workflowservice.v1 import (
    CountWorkersRequest,
    DescribeNamespaceRequest,
    DescribeWorkerRequest,
    ListWorkersRequest,
    PollActivityTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    RecordWorkerHeartbeatRequest,
    ShutdownWorkerRequest,
)

from tests.support.raw import IDENTITY, Namespace, refusal
from tests.support.values import complete_workflow, event_names, schedule_activity, sticky_queue

NORMAL = TaskQueueKind.TASK_QUEUE_KIND_NORMAL
STICKY = TaskQueueKind.TASK_QUEUE_KIND_STICKY
RUNNING = WorkerStatus.WORKER_STATUS_RUNNING


def worker(key: str, queue: str, **more: Any) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        worker_instance_key=key,
        worker_identity=IDENTITY,
        task_queue=queue,
        status=more.pop("status", RUNNING),
        host_info=WorkerHostInfo(host_name="here", process_id="42"),
        sdk_name="temporal-python",
        **more,
    )


async def record(namespace: Namespace, *heartbeats: WorkerHeartbeat) -> None:
    await namespace.service.RecordWorkerHeartbeat(
        RecordWorkerHeartbeatRequest(namespace=namespace.name, identity=IDENTITY, worker_heartbeat=heartbeats)
    )


async def listed(namespace: Namespace, query: str, **more: Any) -> list[str]:
    answer = await namespace.service.ListWorkers(ListWorkersRequest(namespace=namespace.name, query=query, **more))
    return sorted(each.worker_instance_key for each in answer.workers)


def poll(namespace: Namespace, queue: str, key: str = "", kind: Any = NORMAL) -> Any:
    return namespace.service.PollWorkflowTaskQueue(
        PollWorkflowTaskQueueRequest(
            namespace=namespace.name,
            task_queue=TaskQueue(name=queue, kind=kind, normal_name="normal" if kind == STICKY else ""),
            identity=IDENTITY,
            worker_instance_key=key,
        ),
        timeout=30,
    )


def shut_down(namespace: Namespace, **more: Any) -> Any:
    return namespace.service.ShutdownWorker(
        ShutdownWorkerRequest(namespace=namespace.name, identity=IDENTITY, reason="done", **more)
    )


@pytest.fixture
def key(unique: Callable[[str], str]) -> str:
    """A worker of this test alone."""
    return unique("worker")


async def test_workers_that_tell_how_they_are_are_listed(orders: Namespace, queue: str, key: str) -> None:
    await record(
        orders, worker(f"{key}-1", queue), worker(f"{key}-2", queue, status=WorkerStatus.WORKER_STATUS_SHUTTING_DOWN)
    )
    assert await listed(orders, f"TaskQueue = '{queue}'") == [f"{key}-1", f"{key}-2"]
    answer = await orders.service.ListWorkers(
        ListWorkersRequest(namespace=orders.name, query=f"WorkerInstanceKey = '{key}-1'")
    )
    (found,) = answer.workers
    assert (found.task_queue, found.status, found.host_name, found.process_id) == (queue, RUNNING, "here", "42")
    assert (found.worker_identity, found.sdk_name) == (IDENTITY, "temporal-python")
    described = await orders.service.DescribeWorker(
        DescribeWorkerRequest(namespace=orders.name, worker_instance_key=f"{key}-1")
    )
    assert described.worker_info.worker_heartbeat == worker(f"{key}-1", queue)
    count = CountWorkersRequest(namespace=orders.name, query=f"TaskQueue = '{queue}'")
    assert (await orders.service.CountWorkers(count)).count == 2


async def test_a_worker_that_has_shut_down_is_not_listed(orders: Namespace, queue: str, key: str) -> None:
    await record(orders, worker(key, queue))
    await shut_down(orders, worker_heartbeat=worker(key, queue, status=WorkerStatus.WORKER_STATUS_SHUTDOWN))
    assert await listed(orders, f"TaskQueue = '{queue}'") == []
    refused = await refusal(
        orders.service.DescribeWorker(DescribeWorkerRequest(namespace=orders.name, worker_instance_key=key))
    )
    assert (refused.code, refused.message) == (grpc.StatusCode.NOT_FOUND, f"Worker {key} not found")


async def test_workers_come_in_pages(orders: Namespace, queue: str, key: str) -> None:
    await record(orders, *(worker(f"{key}-{number}", queue) for number in range(5)))
    found: list[str] = []
    token = b""
    while True:
        request = ListWorkersRequest(
            namespace=orders.name, query=f"TaskQueue = '{queue}'", page_size=2, next_page_token=token
        )
        answer = await orders.service.ListWorkers(request)
        assert len(answer.workers) <= 2
        found += [each.worker_instance_key for each in answer.workers]
        token = answer.next_page_token
        if not token:
            break
    assert found == [f"{key}-{number}" for number in range(5)]


@pytest.mark.parametrize(
    "query",
    [
        "TaskQueue = '{queue}' AND WorkerInstanceKey = '{key}-b'",
        "TaskQueue = '{queue}' AND WorkerInstanceKey != '{key}-a'",
        "TaskQueue = '{queue}' AND WorkerStatus = 'Draining' OR WorkerInstanceKey = '{key}-b'",
        "TaskQueue = '{queue}' AND (StartTime > '2026-01-01T00:00:00Z' OR SdkName = 'nothing')",
        "TaskQueue = '{queue}' AND StartTime BETWEEN '2026-01-02T00:00:00Z' AND '2026-01-02T00:00:00Z'",
        "TaskQueue = '{queue}' AND StartTime NOT BETWEEN '2025-01-02T00:00:00Z' AND '2026-01-01T00:00:00Z'",
        "TaskQueue = '{queue}' AND SdkVersion IS NOT NULL",
        "TaskQueue = '{queue}' AND SdkVersion STARTS_WITH '1.'",
        "TaskQueue = '{queue}' AND Status = 'ShuttingDown'",
    ],
)
async def test_a_filter_finds_some_of_them(orders: Namespace, queue: str, key: str, query: str) -> None:
    later = worker(f"{key}-b", queue, sdk_version="1.2", status=WorkerStatus.WORKER_STATUS_SHUTTING_DOWN)
    later.start_time.FromJsonString("2026-01-02T00:00:00Z")
    earlier = worker(f"{key}-a", queue)
    earlier.start_time.FromJsonString("2025-12-31T00:00:00Z")
    await record(orders, earlier, later)
    assert await listed(orders, query.format(queue=queue, key=key)) == [f"{key}-b"]


@pytest.mark.parametrize("query", ["TaskQueue =", "TaskQueue = 'a' AND", "(TaskQueue = 'a'", "=", "TaskQueue 'a'"])
async def test_a_filter_that_is_none_is_refused(orders: Namespace, query: str) -> None:
    refused = await refusal(orders.service.ListWorkers(ListWorkersRequest(namespace=orders.name, query=query)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "malformed query" in refused.message


@pytest.mark.usefixtures("embedded_only")  # a real server lists no worker by most of these, and says nothing
@pytest.mark.parametrize(
    "query",
    [
        "NOT TaskQueue = 'a'",
        "TaskQueue IN ('a', 'b')",
        "TaskQueue < 'a'",
        "TaskQueue BETWEEN 'a' AND 'b'",
        "StartTime STARTS_WITH '2026'",
        "StartTime = 'yesterday'",
        "TaskQueue = 1",
        "TaskQueue = ''",
        "TaskQueue",
        "'TaskQueue' = 'a'",
        "Colour = 'blue'",
        "TaskQueue = lower('A')",
        "TaskQueue = 'a' LIMIT 3",
    ],
)
async def test_what_a_filter_of_workers_does_not_take_is_refused(orders: Namespace, query: str) -> None:
    refused = await refusal(orders.service.ListWorkers(ListWorkersRequest(namespace=orders.name, query=query)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("embedded_only")  # no limit on what is within each other there
async def test_a_filter_of_workers_that_nests_too_deep_is_refused(orders: Namespace) -> None:
    query = "TaskQueue = 'a'"
    for _ in range(60):
        query = f"(TaskQueue = 'a' OR (TaskQueue = 'b' AND {query}))"
    refused = await refusal(orders.service.ListWorkers(ListWorkersRequest(namespace=orders.name, query=query)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "within each other" in refused.message


@pytest.mark.usefixtures("embedded_only")  # the polls' end is a setting of the real server that is off by default
async def test_a_namespace_says_that_workers_may_tell_and_that_polls_end(orders: Namespace) -> None:
    described = await orders.service.DescribeNamespace(DescribeNamespaceRequest(namespace=orders.name))
    assert described.namespace_info.capabilities.worker_heartbeats
    assert described.namespace_info.capabilities.worker_poll_complete_on_shutdown


@pytest.mark.usefixtures("embedded_only")  # a setting of the real server that is off by default
async def test_the_polls_of_a_worker_that_shuts_down_end_and_get_nothing_any_more(
    orders: Namespace, queue: str, key: str, workflow_id: str
) -> None:
    waiting = asyncio.ensure_future(poll(orders, queue, key))
    await orders.polled(queue)
    types = [TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY]
    await shut_down(orders, worker_instance_key=key, task_queue=queue, task_queue_types=types)
    assert not (await asyncio.wait_for(waiting, 10)).task_token
    await orders.start(workflow_id, queue)
    assert not (await poll(orders, queue, key)).task_token
    task = await poll(orders, queue, f"{key}-2")
    assert task.workflow_execution.workflow_id == workflow_id
    await orders.complete_workflow_task(task, schedule_activity("reserve", queue))
    request = PollActivityTaskQueueRequest(
        namespace=orders.name, task_queue=TaskQueue(name=queue), identity=IDENTITY, worker_instance_key=key
    )
    assert not (await orders.service.PollActivityTaskQueue(request, timeout=30)).task_token
    assert (await orders.poll_activity_task(queue)).activity_id == "reserve"


@pytest.mark.usefixtures("embedded_only")  # a real server goes on waiting at the sticky queue while somebody polls it
async def test_a_sticky_queue_whose_worker_has_shut_down_falls_back_at_once(
    orders: Namespace, queue: str, key: str, workflow_id: str
) -> None:
    sticky = f"{queue}-sticky"
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    waiting = asyncio.ensure_future(poll(orders, sticky, kind=STICKY))
    await orders.polled(sticky, sticky_of=queue)
    await orders.complete_workflow_task(
        task, schedule_activity("reserve", queue), sticky=sticky_queue(sticky, queue, timeout=600)
    )
    await shut_down(orders, sticky_task_queue=sticky)
    assert not (await asyncio.wait_for(waiting, 10)).task_token
    assert not (await poll(orders, sticky, kind=STICKY)).task_token
    await orders.complete_activity(await orders.poll_activity_task(queue))
    await orders.run_workflow_task(queue, complete_workflow())
    assert (await orders.close_event(workflow_id)).HasField("workflow_execution_completed_event_attributes")


@pytest.mark.usefixtures("embedded_only")  # there the task waits until its time in the sticky queue is over
async def test_a_task_that_waits_for_a_worker_which_shuts_down_has_not_failed(
    orders: Namespace, queue: str, workflow_id: str
) -> None:
    sticky = f"{queue}-sticky"
    await orders.start(workflow_id, queue)
    task = await orders.poll_workflow_task(queue)
    polling = asyncio.ensure_future(poll(orders, sticky, kind=STICKY))
    await orders.polled(sticky, sticky_of=queue)
    own = sticky_queue(sticky, queue, timeout=600)
    await orders.complete_workflow_task(task, sticky=own)
    await orders.signal(workflow_id, "one")
    await orders.complete_workflow_task(await polling, sticky=own)
    await orders.signal(workflow_id, "two")
    await shut_down(orders, sticky_task_queue=sticky)
    task = await orders.poll_workflow_task(queue)
    assert event_names(task.history.events)[-3:] == [
        "WORKFLOW_EXECUTION_SIGNALED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
    ]
