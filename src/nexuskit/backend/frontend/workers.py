"""Worker calls: workers tell how they are, and that they stop; others ask who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.worker.v1 import WorkerHeartbeat, WorkerInfo, WorkerListInfo
from temporalio.api.workflowservice.v1 import (
    CountWorkersRequest,
    CountWorkersResponse,
    DescribeWorkerRequest,
    DescribeWorkerResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    RecordWorkerHeartbeatRequest,
    RecordWorkerHeartbeatResponse,
    ShutdownWorkerRequest,
    ShutdownWorkerResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.frontend import worker_filter
from nexuskit.backend.frontend.checks import check_text
from nexuskit.backend.history.state import Destination

if TYPE_CHECKING:
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def record_heartbeat(
    services: Services, _: Call, request: RecordWorkerHeartbeatRequest
) -> RecordWorkerHeartbeatResponse:
    """RecordWorkerHeartbeat: one process tells of all its workers."""
    namespace = services.namespaces.get(request.namespace)
    services.workers.record(namespace.id, request.worker_heartbeat)
    return RecordWorkerHeartbeatResponse()


async def shut_down(services: Services, _: Call, request: ShutdownWorkerRequest) -> ShutdownWorkerResponse:
    """ShutdownWorker: its polls get nothing any more, and what waits in its sticky queue goes to any worker at once."""
    namespace = services.namespaces.get(request.namespace)
    check_text("WorkerInstanceKey", request.worker_instance_key, services.limits, required=False)
    check_text("StickyTaskQueue", request.sticky_task_queue, services.limits, required=False)
    if request.HasField("worker_heartbeat"):
        services.workers.record(namespace.id, [request.worker_heartbeat])
    if request.worker_instance_key:
        services.engine.tasks.shut_down(request.worker_instance_key, request.identity)
    if request.sticky_task_queue:
        await services.abandon_sticky_queue(Destination("workflow", namespace.id, request.sticky_task_queue))
    return ShutdownWorkerResponse()


async def list_all(services: Services, _: Call, request: ListWorkersRequest) -> ListWorkersResponse:
    """ListWorkers: those that were heard of lately, by the keys of their instances."""
    if request.page_size < 0:
        raise invalid_argument(f"page_size must not be negative, got {request.page_size}")
    found = _found(services, request.namespace, request.query)
    if request.next_page_token:
        after = tokens.read(tokens.NamePage, request.next_page_token, "next page token").after
        found = [worker for worker in found if worker.worker_instance_key > after]
    page: list[WorkerHeartbeat] = []
    size = 0
    for worker in found[: min(request.page_size or services.limits.WORKER_PAGE_SIZE, services.limits.WORKER_PAGE_SIZE)]:
        size += 2 * worker.ByteSize()  # it is in the answer in two forms
        if page and size > services.limits.GRPC_MESSAGE_SIZE // 2:
            break
        page.append(worker)
    more = tokens.write(tokens.NamePage(page[-1].worker_instance_key)) if len(page) < len(found) else b""
    return ListWorkersResponse(
        workers_info=[WorkerInfo(worker_heartbeat=worker) for worker in page],
        workers=[_listed(worker) for worker in page],
        next_page_token=more,
    )


async def count(services: Services, _: Call, request: CountWorkersRequest) -> CountWorkersResponse:
    """CountWorkers."""
    return CountWorkersResponse(count=len(_found(services, request.namespace, request.query)))


async def describe(services: Services, _: Call, request: DescribeWorkerRequest) -> DescribeWorkerResponse:
    """DescribeWorker: its newest heartbeat."""
    namespace = services.namespaces.get(request.namespace)
    heartbeat = services.workers.get(namespace.id, request.worker_instance_key)
    return DescribeWorkerResponse(worker_info=WorkerInfo(worker_heartbeat=heartbeat))


def _found(services: Services, namespace: str, query: str) -> list[WorkerHeartbeat]:
    wanted = worker_filter.parse(query, services.limits)
    return [worker for worker in services.workers.all(services.namespaces.get(namespace).id) if wanted(worker)]


def _listed(worker: WorkerHeartbeat) -> WorkerListInfo:
    return WorkerListInfo(
        worker_instance_key=worker.worker_instance_key,
        worker_identity=worker.worker_identity,
        task_queue=worker.task_queue,
        deployment_version=worker.deployment_version if worker.HasField("deployment_version") else None,
        sdk_name=worker.sdk_name,
        sdk_version=worker.sdk_version,
        status=worker.status,
        start_time=worker.start_time if worker.HasField("start_time") else None,
        host_name=worker.host_info.host_name,
        worker_grouping_key=worker.host_info.worker_grouping_key,
        process_id=worker.host_info.process_id,
        plugins=worker.plugins,
        drivers=worker.drivers,
    )
