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

if TYPE_CHECKING:
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
    endpoint, ticket = services.endpoints.update(request.id, request.version, request.spec, services.clock.now())
    await ticket.wait()
    return UpdateNexusEndpointResponse(endpoint=endpoint)


async def delete(services: Services, _: Call, request: DeleteNexusEndpointRequest) -> DeleteNexusEndpointResponse:
    """DeleteNexusEndpoint: of the version that the request names."""
    await services.endpoints.delete(request.id, request.version).wait()
    return DeleteNexusEndpointResponse()
