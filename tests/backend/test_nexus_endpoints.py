"""The registry of Nexus endpoints: create, get, list, update and delete."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.nexus.v1 import Endpoint, EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import (
    CreateNexusEndpointRequest,
    DeleteNexusEndpointRequest,
    GetNexusEndpointRequest,
    ListNexusEndpointsRequest,
    UpdateNexusEndpointRequest,
)

from tests.support.raw import Namespace, endpoint_spec, refusal, refusals
from tests.support.values import payload

NAME_LIMIT = 200
DESCRIPTION_LIMIT = 20_000


async def create(orders: Namespace, spec: EndpointSpec) -> Endpoint:
    answer = await orders.operator.CreateNexusEndpoint(CreateNexusEndpointRequest(spec=spec))
    return answer.endpoint


async def get(orders: Namespace, endpoint_id: str) -> Endpoint:
    answer = await orders.operator.GetNexusEndpoint(GetNexusEndpointRequest(id=endpoint_id))
    return answer.endpoint


async def update(orders: Namespace, endpoint: Endpoint, spec: EndpointSpec, version: int) -> Endpoint:
    request = UpdateNexusEndpointRequest(id=endpoint.id, version=version, spec=spec)
    return (await orders.operator.UpdateNexusEndpoint(request)).endpoint


async def delete(orders: Namespace, endpoint_id: str, version: int) -> None:
    await orders.operator.DeleteNexusEndpoint(DeleteNexusEndpointRequest(id=endpoint_id, version=version))


async def test_a_created_endpoint_has_an_id_a_first_version_and_a_url(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    spec = endpoint_spec(unique("endpoint"), "payments", "queue", payload("takes *payments*"))
    created = await create(orders, spec)
    assert created.spec == spec
    assert created.version == 1
    assert str(UUID(created.id)) == created.id
    assert created.created_time.seconds > 0
    assert not created.HasField("last_modified_time")
    assert created.url_prefix == f"/nexus/endpoints/{created.id}/services"
    assert await get(orders, created.id) == created


async def test_metadata_of_the_description_is_kept_whatever_it_says(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    description = Payload(metadata={"encoding": b"json/plain", "nexuskit/any": b"\x00\xff"}, data=b'"words"')
    created = await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue", description))
    assert (await get(orders, created.id)).spec.description == description


def external_spec(name: str, url: str) -> EndpointSpec:
    return EndpointSpec(name=name, target=EndpointTarget(external=EndpointTarget.External(url=url)))


async def test_an_endpoint_may_route_to_a_url(orders: Namespace, unique: Callable[[str], str]) -> None:
    base = "https://payments.example.com/"
    spec = external_spec(unique("endpoint"), base + "n" * (4096 - len(base)))
    made = await create(orders, spec)
    found = await orders.operator.GetNexusEndpoint(GetNexusEndpointRequest(id=made.id))
    assert found.endpoint.spec == spec


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "empty target URL"),
        ("https://payments.example.com/" + "n" * 4096, "target URL length exceeds limit of 4096"),
        ("ftp://payments.example.com", 'invalid target URL scheme: "ftp", expected http or https'),
        ("payments.example.com/nexus", 'invalid target URL scheme: "", expected http or https'),
        ("https://[payments", "invalid target URL"),
    ],
    ids=["empty", "too long", "another scheme", "no scheme", "no URL"],
)
async def test_a_url_that_is_none_is_refused(
    orders: Namespace, unique: Callable[[str], str], url: str, told: str
) -> None:
    refused = await refusal(create(orders, external_spec(unique("endpoint"), url)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert told in refused.message


@pytest.mark.usefixtures("embedded_only")
@pytest.mark.parametrize(
    "url", ["https://", "https://me:secret@payments.example.com", "https://p.example/?a=1", "https://p.example/#a"]
)
async def test_a_url_that_no_call_could_go_to_is_refused(
    orders: Namespace, unique: Callable[[str], str], url: str
) -> None:
    """A real server takes them, and fails at each call."""
    refused = await refusal(create(orders, external_spec(unique("endpoint"), url)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "invalid target URL" in refused.message
    assert "secret" not in refused.message


async def test_a_name_that_is_taken_is_refused(orders: Namespace, unique: Callable[[str], str]) -> None:
    name = unique("endpoint")
    await create(orders, endpoint_spec(name, "payments", "queue"))
    refused = await refusal(create(orders, endpoint_spec(name, "orders", "another queue")))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert name in refused.message


@pytest.mark.parametrize("name", ["", "a", "9a", "-a", "a-", "a_b", "a b", "a.b", "a/b", "ü1", "x" * (NAME_LIMIT + 1)])
async def test_a_name_that_breaks_the_rules_is_refused(orders: Namespace, name: str) -> None:
    refused = await refusal(create(orders, endpoint_spec(name, "payments", "queue")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "name" in refused.message


@pytest.mark.parametrize("name", ["ab", "A1", "a-b", "x" * NAME_LIMIT])
async def test_a_name_that_keeps_the_rules_is_accepted(orders: Namespace, name: str) -> None:
    created = await create(orders, endpoint_spec(name, "payments", "queue"))
    await delete(orders, created.id, created.version)


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (None, "target"),
        (EndpointTarget(), "target"),
        (EndpointTarget(worker=EndpointTarget.Worker(task_queue="queue")), "namespace"),
        (EndpointTarget(worker=EndpointTarget.Worker(namespace="payments")), "task queue"),
        (EndpointTarget(worker=EndpointTarget.Worker(namespace="payments", task_queue="q" * 1001)), "limit"),
    ],
)
async def test_a_target_that_cannot_be_routed_to_is_refused(
    orders: Namespace, unique: Callable[[str], str], target: EndpointTarget | None, named: str
) -> None:
    refused = await refusal(create(orders, EndpointSpec(name=unique("endpoint"), target=target)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.names(named)


async def test_the_target_namespace_has_to_exist(orders: Namespace, unique: Callable[[str], str]) -> None:
    refused = await refusal(create(orders, endpoint_spec(unique("endpoint"), "no-such-team", "queue")))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "no-such-team" in refused.message


async def test_a_description_may_have_twenty_thousand_bytes_and_no_more(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    largest = Payload(data=b"x" * (DESCRIPTION_LIMIT - len(Payload(data=b"x" * 16384).SerializeToString()) + 16384))
    assert largest.ByteSize() == DESCRIPTION_LIMIT
    await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue", largest))
    too_large = Payload(data=largest.data + b"x")
    refused = await refusal(create(orders, endpoint_spec(unique("endpoint"), "payments", "queue", too_large)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "description" in refused.message


async def test_an_update_makes_the_next_version(orders: Namespace, unique: Callable[[str], str]) -> None:
    created = await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue", payload("old")))
    spec = endpoint_spec(unique("renamed"), "orders", "another queue")
    updated = await update(orders, created, spec, version=1)
    assert (updated.id, updated.version, updated.spec) == (created.id, 2, spec)
    assert updated.HasField("last_modified_time")
    assert updated.url_prefix == created.url_prefix
    assert await get(orders, created.id) == updated


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_an_update_of_another_version_is_refused_and_names_both(
    orders: Namespace, unique: Callable[[str], str], version: int
) -> None:
    spec = endpoint_spec(unique("endpoint"), "payments", "queue")
    created = await create(orders, spec)
    await update(orders, created, spec, version=1)
    refused = await refusal(update(orders, created, spec, version=version))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert str(version) in refused.message
    assert "2" in refused.message


async def test_an_update_of_an_unknown_endpoint_is_not_found(orders: Namespace, unique: Callable[[str], str]) -> None:
    unknown = Endpoint(id=str(uuid4()))
    refused = await refusal(update(orders, unknown, endpoint_spec(unique("endpoint"), "payments", "queue"), version=1))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert unknown.id in refused.message


async def test_an_update_cannot_route_to_an_unknown_namespace(orders: Namespace, unique: Callable[[str], str]) -> None:
    spec = endpoint_spec(unique("endpoint"), "payments", "queue")
    created = await create(orders, spec)
    refused = await refusal(update(orders, created, endpoint_spec(spec.name, "no-such-team", "queue"), version=1))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert await get(orders, created.id) == created


@pytest.mark.usefixtures("embedded_only")
async def test_an_update_cannot_take_another_endpoints_name(orders: Namespace, unique: Callable[[str], str]) -> None:
    """A real server lets two endpoints have one name, and then routes to either."""
    taken = endpoint_spec(unique("taken"), "payments", "queue")
    await create(orders, taken)
    created = await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue"))
    refused = await refusal(update(orders, created, taken, version=1))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert taken.name in refused.message
    assert await get(orders, created.id) == created


async def test_a_deleted_endpoint_is_gone_and_its_name_is_free(orders: Namespace, unique: Callable[[str], str]) -> None:
    spec = endpoint_spec(unique("endpoint"), "payments", "queue")
    created = await create(orders, spec)
    await delete(orders, created.id, created.version)
    refused = await refusal(get(orders, created.id))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert created.id in refused.message
    again = await create(orders, spec)
    assert again.id != created.id


async def test_deleting_an_unknown_endpoint_is_not_found(orders: Namespace) -> None:
    unknown = str(uuid4())
    refused = await refusal(delete(orders, unknown, 1))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert unknown in refused.message


async def test_deleting_needs_a_version(orders: Namespace, unique: Callable[[str], str]) -> None:
    created = await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue"))
    refused = await refusal(delete(orders, created.id, 0))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "version" in refused.message


@pytest.mark.parametrize("endpoint_id", ["", "not-a-uuid"])
async def test_an_id_that_is_none_is_refused(orders: Namespace, endpoint_id: str) -> None:
    for refused in await refusals(get(orders, endpoint_id), delete(orders, endpoint_id, 1)):
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert "ID" in refused.message


async def listed(orders: Namespace, **filters: Any) -> list[Endpoint]:
    """All endpoints, over all pages."""
    found: list[Endpoint] = []
    token = b""
    while True:
        page = await orders.operator.ListNexusEndpoints(ListNexusEndpointsRequest(next_page_token=token, **filters))
        if filters.get("page_size"):
            assert len(page.endpoints) <= filters["page_size"]
        found += page.endpoints
        token = page.next_page_token
        if not token:
            return found


async def test_the_list_has_every_endpoint_once_over_all_its_pages(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    made = [await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue")) for _ in range(5)]
    seen = await listed(orders, page_size=2)
    ids = [each.id for each in seen]
    assert len(ids) == len(set(ids))
    assert {each.id for each in made} <= set(ids)
    assert [each.id for each in await listed(orders)] == ids


async def test_the_list_can_be_asked_for_one_name(orders: Namespace, unique: Callable[[str], str]) -> None:
    created = await create(orders, endpoint_spec(unique("endpoint"), "payments", "queue"))
    assert await listed(orders, name=created.spec.name) == [created]
    assert await listed(orders, name=unique("no-such-endpoint")) == []


@pytest.mark.parametrize("page_size", [-1, 1001])
async def test_a_page_size_that_cannot_be_is_refused(orders: Namespace, page_size: int) -> None:
    refused = await refusal(orders.operator.ListNexusEndpoints(ListNexusEndpointsRequest(page_size=page_size)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "page_size" in refused.message
