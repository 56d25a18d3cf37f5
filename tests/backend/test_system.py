"""What a client asks before anything else: who are you, are you well."""

import asyncio

import grpc
import grpc.aio
import pytest
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetClusterInfoRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client

from tests.support.raw import Namespace, refusal
from tests.support.servers import Server

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"


def health_request(service: str) -> bytes:
    """A `HealthCheckRequest`: its one field is the service's name."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


async def test_system_info_names_a_version_and_what_the_server_can_do(orders: Namespace) -> None:
    info = await orders.service.GetSystemInfo(GetSystemInfoRequest())
    assert info.server_version
    assert info.capabilities.nexus
    assert info.capabilities.sdk_metadata
    assert info.capabilities.encoded_failure_attributes
    assert info.capabilities.internal_error_differentiation
    assert info.capabilities.activity_failure_include_heartbeat
    assert info.capabilities.upsert_memo
    assert info.capabilities.count_group_by_execution_status
    assert info.capabilities.eager_workflow_start


@pytest.mark.usefixtures("embedded_only")  # a real server serves more
async def test_nothing_is_announced_that_is_not_served(orders: Namespace) -> None:
    info = await orders.service.GetSystemInfo(GetSystemInfoRequest())
    assert not info.capabilities.supports_schedules
    assert not info.capabilities.server_scaled_deployments
    described = await orders.service.DescribeNamespace(DescribeNamespaceRequest(namespace=orders.name))
    announced = {field.name for field, _ in described.namespace_info.capabilities.ListFields()}
    assert announced == {
        "eager_workflow_start",
        "sync_update",
        "async_update",
        "worker_heartbeats",
        "worker_poll_complete_on_shutdown",
        "standalone_activities",
        "standalone_activity_start_delay",
        "standalone_nexus_operation",
        "workflow_update_callbacks",
    }


async def test_a_namespace_announces_what_it_can_do(orders: Namespace) -> None:
    described = await orders.service.DescribeNamespace(DescribeNamespaceRequest(namespace=orders.name))
    capabilities = described.namespace_info.capabilities
    assert capabilities.eager_workflow_start
    assert capabilities.standalone_activities
    assert capabilities.standalone_activity_start_delay
    assert capabilities.sync_update
    assert capabilities.async_update
    assert capabilities.worker_heartbeats
    assert capabilities.standalone_nexus_operation
    assert capabilities.workflow_update_callbacks


async def test_cluster_info_names_the_cluster_and_its_version(orders: Namespace) -> None:
    info = await orders.service.GetClusterInfo(GetClusterInfoRequest())
    assert info.cluster_name
    assert info.server_version.startswith("1.32")
    assert info.history_shard_count >= 1


async def test_health_is_serving_for_the_server_and_for_the_workflow_service(channel: grpc.aio.Channel) -> None:
    check = channel.unary_unary(HEALTH)
    assert await check(health_request("")) == SERVING
    assert await check(health_request("temporal.api.workflowservice.v1.WorkflowService")) == SERVING


async def test_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel) -> None:
    refused = await refusal(channel.unary_unary(HEALTH)(health_request("no.such.Service")))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_the_sdk_connects_and_finds_the_server_healthy(server: Server) -> None:
    client = await Client.connect(server.address, namespace="orders")
    assert await client.service_client.check_health()


async def test_a_namespace_tells_its_limits(orders: Namespace) -> None:
    described = await orders.service.DescribeNamespace(DescribeNamespaceRequest(namespace="orders"))
    limits = described.namespace_info.limits
    assert (limits.blob_size_limit_error, limits.memo_size_limit_error) == (2 * 1024 * 1024, 2 * 1024 * 1024)


async def test_a_burst_of_thousands_of_calls_is_answered_call_by_call(orders: Namespace) -> None:
    calls = (orders.service.GetSystemInfo(GetSystemInfoRequest(), timeout=50) for _ in range(5_000))
    answers = await asyncio.gather(*calls)
    assert len(answers) == 5_000
