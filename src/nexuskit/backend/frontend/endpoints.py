"""Endpoint calls of the operator service: create, get, list, update, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    CreateNexusEndpointResponse,
    DeleteNexusEndpointRequest,
    DeleteNexusEndpointResponse,
    GetNexusEndpointRequest,
    GetNexusEndpointResponse,
    ListNexusEndpointsRequest,
    ListNexusEndpointsResponse,
    UpdateNexusEndpointRequest,
    UpdateNexusEndpointResponse,
)

from nexuskit.backend import tokens
from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.history.nexus_operation import polled_queue

if TYPE_CHECKING:
    from temporalio.api.nexus.v1 import Endpoint

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.services import Services


async def create(services: Services, _: Call, request: CreateNexusEndpointRequest) -> CreateNexusEndpointResponse:
    """CreateNexusEndpoint: calls by its name work as soon as this is answered."""
    endpoint, ticket = services.endpoints.create(request.spec, services.draw.uuid(), services.clock.now())
    await ticket.wait()
    return CreateNexusEndpointResponse(endpoint=endpoint)


async def get(services: Services, _: Call, request: GetNexusEndpointRequest) -> GetNexusEndpointResponse:
    """GetNexusEndpoint, by id."""
    return GetNexusEndpointResponse(endpoint=services.endpoints.get(request.id))


async def list_all(services: Services, _: Call, request: ListNexusEndpointsRequest) -> ListNexusEndpointsResponse:
    """ListNexusEndpoints, by id; or the one of a name."""
    if request.page_size < 0 or request.page_size > services.limits.ENDPOINT_PAGE_SIZE_MAX:
        raise invalid_argument(
            f"page_size must be from 0 to {services.limits.ENDPOINT_PAGE_SIZE_MAX}, got {request.page_size}"
        )
    size = request.page_size or services.limits.ENDPOINT_PAGE_SIZE
    after = (
        tokens.read(tokens.NamePage, request.next_page_token, "next page token").after
        if request.next_page_token
        else ""
    )
    rest = [each for each in services.endpoints.all() if each.id > after and request.name in ("", each.spec.name)]
    page = rest[:size]
    more = tokens.write(tokens.NamePage(page[-1].id)) if len(rest) > len(page) else b""
    return ListNexusEndpointsResponse(endpoints=page, next_page_token=more)


async def update(services: Services, _: Call, request: UpdateNexusEndpointRequest) -> UpdateNexusEndpointResponse:
    """UpdateNexusEndpoint: replaces the spec of the version that the request names."""
    before = services.endpoints.find(request.id)
    endpoint, ticket = services.endpoints.update(request.id, request.version, request.spec, services.clock.now())
    await ticket.wait()
    _wake(services, before)
    return UpdateNexusEndpointResponse(endpoint=endpoint)


async def delete(services: Services, _: Call, request: DeleteNexusEndpointRequest) -> DeleteNexusEndpointResponse:
    """DeleteNexusEndpoint: of the version that the request names."""
    before = services.endpoints.find(request.id)
    await services.endpoints.delete(request.id, request.version).wait()
    _wake(services, before)
    return DeleteNexusEndpointResponse()


def _wake(services: Services, before: Endpoint | None) -> None:
    """Calls that wait for a worker where the endpoint routed to are made anew: it may route elsewhere now."""
    worker = before.spec.target.worker if before is not None else None
    if worker is not None and services.namespaces.has(worker.namespace):
        namespace_id = services.namespaces.get(worker.namespace).id
        services.engine.agenda.wake(polled_queue(namespace_id, worker.task_queue))
