"""What the backend says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.workflowservice.v1 import (
    GetClusterInfoRequest,
    GetClusterInfoResponse,
    GetSystemInfoRequest,
    GetSystemInfoResponse,
)

from nexuskit.identity.callers import EMBEDDED_CLUSTER

if TYPE_CHECKING:
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services

REFERENCE = "1.32.1"
"""The Temporal server that the backend behaves like, by its version."""


async def get_system_info(services: Services, _: Call, request: GetSystemInfoRequest) -> GetSystemInfoResponse:
    """GetSystemInfo: the SDKs ask it before anything else, and use what it says is there."""
    return GetSystemInfoResponse(
        server_version=f"{REFERENCE}+nexuskit.{services.version}",
        capabilities=GetSystemInfoResponse.Capabilities(
            signal_and_query_header=True,
            internal_error_differentiation=True,
            activity_failure_include_heartbeat=True,
            encoded_failure_attributes=True,
            upsert_memo=True,
            count_group_by_execution_status=True,
            sdk_metadata=True,
            # Not the versioning itself: without this, workers do not say which build they are.
            build_id_based_versioning=True,
            eager_workflow_start=True,
            nexus=True,
        ),
    )


async def get_cluster_info(services: Services, _: Call, request: GetClusterInfoRequest) -> GetClusterInfoResponse:
    """GetClusterInfo."""
    return GetClusterInfoResponse(
        server_version=f"{REFERENCE}+nexuskit.{services.version}",
        cluster_id=services.cluster_id,
        cluster_name=EMBEDDED_CLUSTER,
        history_shard_count=1,
        persistence_store="sqlite",
        visibility_store="sqlite",
    )
