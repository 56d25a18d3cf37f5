"""Namespace calls: register, describe, list, update."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.namespace.v1 import NamespaceConfig, NamespaceInfo
from temporalio.api.replication.v1 import ClusterReplicationConfig, NamespaceReplicationConfig
from temporalio.api.workflowservice.v1 import (
    DeprecateNamespaceRequest,
    DeprecateNamespaceResponse,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    ListNamespacesRequest,
    ListNamespacesResponse,
    RegisterNamespaceRequest,
    RegisterNamespaceResponse,
    UpdateNamespaceRequest,
    UpdateNamespaceResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import invalid_argument, unimplemented
from nexuskit.backend.namespaces import Namespace, check_name
from nexuskit.backend.times import HOUR, duration, span
from nexuskit.identity.callers import EMBEDDED_CLUSTER

if TYPE_CHECKING:
    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


NEXT_STATES: Mapping[int, tuple[NamespaceState.ValueType, ...]] = MappingProxyType(
    {
        NamespaceState.NAMESPACE_STATE_REGISTERED: (
            NamespaceState.NAMESPACE_STATE_DEPRECATED,
            NamespaceState.NAMESPACE_STATE_DELETED,
        ),
        NamespaceState.NAMESPACE_STATE_DEPRECATED: (NamespaceState.NAMESPACE_STATE_DELETED,),
    }
)
"""State → those that may follow it; there is no way back."""


async def register(services: Services, _: Call, request: RegisterNamespaceRequest) -> RegisterNamespaceResponse:
    """RegisterNamespace: it can be used as soon as this is answered."""
    check_name(request.namespace, services.limits)
    if not request.HasField("workflow_execution_retention_period"):
        raise invalid_argument("Namespace's workflow_execution_retention_period is not set on request.")
    namespace = Namespace(
        id=services.draw.uuid(),
        name=request.namespace,
        retention=_retention(services, span(request.workflow_execution_retention_period)),
        description=request.description,
        owner_email=request.owner_email,
        data=dict(request.data),
        created=services.clock.now(),
    )
    await services.namespaces.add(namespace).wait()
    return RegisterNamespaceResponse()


async def describe(services: Services, _: Call, request: DescribeNamespaceRequest) -> DescribeNamespaceResponse:
    """DescribeNamespace, by name or id."""
    namespace = services.namespaces.get_by_id(request.id) if request.id else services.namespaces.get(request.namespace)
    return _described(services, namespace)


async def list_all(services: Services, _: Call, request: ListNamespacesRequest) -> ListNamespacesResponse:
    """ListNamespaces, by name."""
    if request.page_size < 0:
        raise invalid_argument(f"page_size must not be negative, got {request.page_size}")
    size = request.page_size or services.limits.NAMESPACE_PAGE_SIZE
    after = (
        tokens.read(tokens.NamePage, request.next_page_token, "next page token").after
        if request.next_page_token
        else ""
    )
    deleted = NamespaceState.NAMESPACE_STATE_DELETED
    shown = services.namespaces.all()
    rest = [
        each
        for each in shown
        if each.name > after and (request.namespace_filter.include_deleted or each.state != deleted)
    ]
    page = rest[:size]
    more = tokens.write(tokens.NamePage(page[-1].name)) if len(rest) > len(page) else b""
    return ListNamespacesResponse(namespaces=[_described(services, each) for each in page], next_page_token=more)


async def update(services: Services, _: Call, request: UpdateNamespaceRequest) -> UpdateNamespaceResponse:
    """UpdateNamespace: what the request sets is changed, data is added to."""
    namespace = services.namespaces.get(request.namespace)
    if request.HasField("update_info"):
        info = request.update_info
        namespace = msgspec.structs.replace(
            namespace,
            description=info.description or namespace.description,
            owner_email=info.owner_email or namespace.owner_email,
            data={**namespace.data, **info.data},
            state=_next_state(namespace, info.state),
        )
    if request.config.HasField("workflow_execution_retention_ttl"):
        retention = _retention(services, span(request.config.workflow_execution_retention_ttl))
        namespace = msgspec.structs.replace(namespace, retention=retention)
    await services.namespaces.change(namespace).wait()
    services.remover.wake()
    described = _described(services, namespace)
    return UpdateNamespaceResponse(
        namespace_info=described.namespace_info,
        config=described.config,
        replication_config=described.replication_config,
    )


async def deprecate(services: Services, _: Call, request: DeprecateNamespaceRequest) -> DeprecateNamespaceResponse:
    """DeprecateNamespace: no workflow starts in it any more; those that run go on."""
    namespace = services.namespaces.get(request.namespace)
    state = _next_state(namespace, NamespaceState.NAMESPACE_STATE_DEPRECATED)
    await services.namespaces.change(msgspec.structs.replace(namespace, state=state)).wait()
    return DeprecateNamespaceResponse()


def _next_state(namespace: Namespace, wanted: NamespaceState.ValueType) -> int:
    if wanted in (NamespaceState.NAMESPACE_STATE_UNSPECIFIED, namespace.state):
        return namespace.state
    if wanted not in NEXT_STATES.get(namespace.state, ()):
        raise invalid_argument("Invalid namespace state update.")
    if wanted == NamespaceState.NAMESPACE_STATE_DELETED:
        raise unimplemented("update_info.state DELETED is not served by this backend: DeleteNamespace is")
    return int(wanted)


def _retention(services: Services, value: int) -> int:
    least = services.limits.RETENTION_MIN
    if value < least:
        raise invalid_argument(
            f"A minimum retention of {least / HOUR:g} h is required; {value / HOUR:g} h was asked for."
        )
    return value


def _described(services: Services, namespace: Namespace) -> DescribeNamespaceResponse:
    return DescribeNamespaceResponse(
        namespace_info=NamespaceInfo(
            name=namespace.name,
            id=namespace.id,
            state=NamespaceState.ValueType(namespace.state),
            description=namespace.description,
            owner_email=namespace.owner_email,
            data=namespace.data,
            capabilities=NamespaceInfo.Capabilities(
                eager_workflow_start=True,
                sync_update=True,
                async_update=True,
                worker_heartbeats=True,
                worker_poll_complete_on_shutdown=True,
                standalone_activities=True,
                standalone_activity_start_delay=True,
                standalone_nexus_operation=True,
                workflow_update_callbacks=True,
            ),
            limits=NamespaceInfo.Limits(
                blob_size_limit_error=services.limits.PAYLOAD_SIZE, memo_size_limit_error=services.limits.MEMO_SIZE
            ),
        ),
        config=NamespaceConfig(workflow_execution_retention_ttl=duration(namespace.retention)),
        replication_config=NamespaceReplicationConfig(
            active_cluster_name=EMBEDDED_CLUSTER, clusters=[ClusterReplicationConfig(cluster_name=EMBEDDED_CLUSTER)]
        ),
    )
