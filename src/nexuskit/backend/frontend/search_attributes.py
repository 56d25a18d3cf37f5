"""Search attribute calls of the operator service, and checks of what a request sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    AddSearchAttributesResponse,
    ListSearchAttributesRequest,
    ListSearchAttributesResponse,
    RemoveSearchAttributesRequest,
    RemoveSearchAttributesResponse,
)

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.visibility.search_attributes import (
    INTERNAL,
    NAMES,
    PREDEFINED,
    SYSTEM,
    check,
    check_size,
    is_reserved,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.api.common.v1 import SearchAttributes

    from nexuskit.backend.frontend.call import Call
    from nexuskit.backend.namespaces import Namespace
    from nexuskit.backend.services import Services


def check_attributes(services: Services, namespace: Namespace, given: SearchAttributes) -> None:
    """Search attributes may be set in a namespace; each is given its type.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if given.indexed_fields:
        check(given, namespace.search_attributes, namespace.name, services.limits)
        check_size(given, services.limits)


def visible(shown: SearchAttributes, custom: Mapping[str, int]) -> None:
    """Leave out the attributes that the namespace has no more, or has with another type."""
    for name in list(shown.indexed_fields):
        if name in PREDEFINED or name in INTERNAL:
            continue
        if name not in custom or shown.indexed_fields[name].metadata["type"].decode() != NAMES[custom[name]]:
            del shown.indexed_fields[name]


async def add(services: Services, _: Call, request: AddSearchAttributesRequest) -> AddSearchAttributesResponse:
    """AddSearchAttributes, to a namespace. One that is there already stays as it is."""
    if not request.search_attributes:
        raise invalid_argument("SearchAttributes are not set on request.")
    for name, kind in request.search_attributes.items():
        if is_reserved(name):
            raise invalid_argument(f"Search attribute {name[:200]} is reserved by system.")
        if kind not in NAMES:
            raise invalid_argument(f"Unknown search attribute type: {kind}.")
        if not name or not name.isprintable() or any(char in name for char in "\"\\`'") or len(name) > 255:
            raise invalid_argument(
                f"Search attribute {name[:200]!r} is not a valid name: 1 to 255 characters, no quotes, no backslash."
            )
    namespace = services.namespaces.get(_named(request.namespace))
    added = {name: int(kind) for name, kind in request.search_attributes.items()} | namespace.search_attributes
    if added != namespace.search_attributes:
        if len(added) > services.limits.CUSTOM_ATTRIBUTES:
            raise invalid_argument(
                f"Unable to create search attributes: cannot have more than {services.limits.CUSTOM_ATTRIBUTES} search"
                f" attributes, {len(added)} were asked for."
            )
        await services.namespaces.change(msgspec.structs.replace(namespace, search_attributes=added)).wait()
    return AddSearchAttributesResponse()


async def remove(services: Services, _: Call, request: RemoveSearchAttributesRequest) -> RemoveSearchAttributesResponse:
    """RemoveSearchAttributes, from a namespace. What runs have of them is not shown and not found any more."""
    if not request.search_attributes:
        raise invalid_argument("SearchAttributes are not set on request.")
    namespace = services.namespaces.get(_named(request.namespace))
    for name in request.search_attributes:
        if name not in namespace.search_attributes and (name in SYSTEM or name in PREDEFINED or name in INTERNAL):
            raise invalid_argument(f"Unable to remove non-custom search attributes: {name}.")
    left = {name: kind for name, kind in namespace.search_attributes.items() if name not in request.search_attributes}
    if left != namespace.search_attributes:
        await services.namespaces.change(msgspec.structs.replace(namespace, search_attributes=left)).wait()
    return RemoveSearchAttributesResponse()


async def list_all(services: Services, _: Call, request: ListSearchAttributesRequest) -> ListSearchAttributesResponse:
    """ListSearchAttributes, of a namespace."""
    namespace = services.namespaces.get(_named(request.namespace))
    return ListSearchAttributesResponse(
        custom_attributes=_typed(namespace.search_attributes), system_attributes=_typed({**SYSTEM, **PREDEFINED})
    )


def _named(namespace: str) -> str:
    if not namespace:
        raise invalid_argument("Namespace is not set on request.")
    return namespace


def _typed(attributes: Mapping[str, int]) -> dict[str, IndexedValueType.ValueType]:
    return {name: IndexedValueType.ValueType(kind) for name, kind in attributes.items()}
