"""Namespaces: register, describe, update, list."""

from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.errordetails.v1 import NamespaceAlreadyExistsFailure, NamespaceNotFoundFailure
from temporalio.api.namespace.v1 import NamespaceConfig, UpdateNamespaceInfo
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    ListNamespacesRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)

from tests.support.raw import Namespace, refusal
from tests.support.real_server import wait_until_usable
from tests.support.values import complete_workflow, duration

DAY = timedelta(days=1)
NAME_LIMIT = 1000


def register_request(name: str, retention: timedelta = DAY, **more: object) -> RegisterNamespaceRequest:
    return RegisterNamespaceRequest(
        namespace=name, workflow_execution_retention_period=duration(retention.total_seconds()), **more
    )


async def describe(orders: Namespace, name: str) -> DescribeNamespaceResponse:
    return await orders.service.DescribeNamespace(DescribeNamespaceRequest(namespace=name))


async def test_a_registered_namespace_is_described_as_it_was_registered(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    name = unique("team")
    await orders.service.RegisterNamespace(
        register_request(name, description="the team's own", owner_email="team@example.com", data={"cost": "42"})
    )
    described = await describe(orders, name)
    info = described.namespace_info
    assert (info.name, info.description, info.owner_email, dict(info.data)) == (
        name,
        "the team's own",
        "team@example.com",
        {"cost": "42"},
    )
    assert info.state == NamespaceState.NAMESPACE_STATE_REGISTERED
    assert described.config.workflow_execution_retention_ttl.ToTimedelta() == DAY


async def test_a_namespace_is_found_by_its_id(orders: Namespace, unique: Callable[[str], str]) -> None:
    name = unique("team")
    await orders.service.RegisterNamespace(register_request(name))
    by_name = await describe(orders, name)
    by_id = await orders.service.DescribeNamespace(DescribeNamespaceRequest(id=by_name.namespace_info.id))
    assert by_id.namespace_info.name == name


async def test_workflows_run_in_a_namespace_that_was_just_registered(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    team = Namespace(unique("team"), orders.channel)
    await team.service.RegisterNamespace(register_request(team.name))
    await wait_until_usable(team.service, team.name)
    await team.start("first", "queue")
    await team.run_workflow_task("queue", complete_workflow())
    assert (await team.close_event("first")).HasField("workflow_execution_completed_event_attributes")


async def test_the_same_workflow_id_in_two_namespaces_is_two_workflows(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str
) -> None:
    here = await orders.start(workflow_id, queue)
    there = await payments.start(workflow_id, queue)
    assert here != there
    assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == here
    assert (await payments.describe(workflow_id)).workflow_execution_info.execution.run_id == there


async def test_a_name_that_is_taken_is_refused(orders: Namespace) -> None:
    refused = await refusal(orders.service.RegisterNamespace(register_request("payments")))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert "payments" in refused.message
    refused.detail(NamespaceAlreadyExistsFailure)


@pytest.mark.parametrize("retention", [timedelta(0), timedelta(minutes=59), timedelta(seconds=-5)])
async def test_a_retention_under_an_hour_is_refused(
    orders: Namespace, unique: Callable[[str], str], retention: timedelta
) -> None:
    refused = await refusal(orders.service.RegisterNamespace(register_request(unique("team"), retention)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "retention" in refused.message


async def test_a_retention_of_an_hour_is_accepted(orders: Namespace, unique: Callable[[str], str]) -> None:
    name = unique("team")
    await orders.service.RegisterNamespace(register_request(name, timedelta(hours=1)))
    described = await describe(orders, name)
    assert described.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(hours=1)


async def test_a_namespace_needs_a_name(orders: Namespace) -> None:
    refused = await refusal(orders.service.RegisterNamespace(register_request("")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "Namespace" in refused.message


async def test_a_name_may_have_a_thousand_bytes_and_no_more(orders: Namespace, unique: Callable[[str], str]) -> None:
    longest = unique("team").ljust(NAME_LIMIT, "x")
    await orders.service.RegisterNamespace(register_request(longest))
    assert (await describe(orders, longest)).namespace_info.name == longest
    refused = await refusal(orders.service.RegisterNamespace(register_request(longest + "x")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "length" in refused.message


@pytest.mark.parametrize("begins", ["a team ", "-team", "tëam/", "team:", "'team'", '"', "%2f", ".."])
async def test_a_name_may_hold_whatever_can_be_printed(
    orders: Namespace, unique: Callable[[str], str], begins: str
) -> None:
    name = begins + unique("team")
    await orders.service.RegisterNamespace(register_request(name))
    assert (await describe(orders, name)).namespace_info.name == name


async def test_the_servers_own_name_is_taken(orders: Namespace) -> None:
    refused = await refusal(orders.service.RegisterNamespace(register_request("temporal-system")))
    assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    assert refused.message.startswith('Namespace "temporal-system" already exists')
    refused.detail(NamespaceAlreadyExistsFailure)


@pytest.mark.usefixtures("embedded_only")  # a real server takes it
async def test_a_name_that_cannot_be_printed_is_refused(orders: Namespace) -> None:
    refused = await refusal(orders.service.RegisterNamespace(register_request("te\nam")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert r"'te\nam' is not a valid name" in refused.message


async def test_an_unknown_namespace_is_not_found_by_name(orders: Namespace) -> None:
    refused = await refusal(describe(orders, "no-such-team"))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert "no-such-team" in refused.message
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"


async def test_describing_needs_a_name_or_an_id(orders: Namespace) -> None:
    refused = await refusal(orders.service.DescribeNamespace(DescribeNamespaceRequest()))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_an_update_changes_what_it_names_and_keeps_the_rest(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    name = unique("team")
    await orders.service.RegisterNamespace(
        register_request(name, description="old", owner_email="old@example.com", data={"kept": "1", "changed": "1"})
    )
    updated = await orders.service.UpdateNamespace(
        UpdateNamespaceRequest(
            namespace=name,
            update_info=UpdateNamespaceInfo(description="new", data={"changed": "2", "added": "3"}),
            config=NamespaceConfig(workflow_execution_retention_ttl=duration(2 * DAY.total_seconds())),
        )
    )
    described = await describe(orders, name)
    assert updated.namespace_info == described.namespace_info
    assert described.namespace_info.description == "new"
    assert described.namespace_info.owner_email == "old@example.com"
    assert dict(described.namespace_info.data) == {"kept": "1", "changed": "2", "added": "3"}
    assert described.config.workflow_execution_retention_ttl.ToTimedelta() == 2 * DAY


async def test_an_update_of_an_unknown_namespace_is_not_found(orders: Namespace) -> None:
    refused = await refusal(orders.service.UpdateNamespace(UpdateNamespaceRequest(namespace="no-such-team")))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"


async def test_an_update_cannot_shorten_the_retention_below_an_hour(orders: Namespace) -> None:
    config = NamespaceConfig(workflow_execution_retention_ttl=duration(60))
    refused = await refusal(orders.service.UpdateNamespace(UpdateNamespaceRequest(namespace="payments", config=config)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "retention" in refused.message


async def test_the_list_has_every_namespace_once_over_all_its_pages(
    orders: Namespace, unique: Callable[[str], str]
) -> None:
    made = {unique("team") for _ in range(3)}
    for name in made:
        await orders.service.RegisterNamespace(register_request(name))
    seen: list[str] = []
    token = b""
    while True:
        page = await orders.service.ListNamespaces(ListNamespacesRequest(page_size=2, next_page_token=token))
        assert len(page.namespaces) <= 2
        seen += [each.namespace_info.name for each in page.namespaces]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert made | {"default", "orders", "payments"} <= set(seen)
