"""Deleting: a workflow execution, a namespace, and what a namespace's state forbids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import NamespaceState
from temporalio.api.errordetails.v1 import NamespaceInvalidStateFailure, NamespaceNotFoundFailure
from temporalio.api.namespace.v1 import NamespaceConfig, NamespaceFilter, UpdateNamespaceInfo
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    DeprecateNamespaceRequest,
    DescribeNamespaceRequest,
    ListNamespacesRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)

from nexuskit.backend.server import running
from tests.support.clock import FakeClock
from tests.support.raw import Namespace, refusal
from tests.support.real_server import wait_until_usable
from tests.support.values import complete_workflow, duration, start_timer

DEPRECATED = NamespaceState.NAMESPACE_STATE_DEPRECATED
REGISTERED = NamespaceState.NAMESPACE_STATE_REGISTERED
DELETED = NamespaceState.NAMESPACE_STATE_DELETED


def delete(namespace: Namespace, workflow_id: str, run_id: str = "") -> Any:
    execution = WorkflowExecution(workflow_id=workflow_id, run_id=run_id)
    return namespace.service.DeleteWorkflowExecution(
        DeleteWorkflowExecutionRequest(namespace=namespace.name, workflow_execution=execution)
    )


async def gone(namespace: Namespace, workflow_id: str, run_id: str = "") -> None:
    """Waits until the run is not found: a real server deletes a moment later."""
    while True:
        try:
            await namespace.describe(workflow_id, run_id)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return
            raise


async def test_a_closed_workflow_is_deleted(orders: Namespace, queue: str, workflow_id: str) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    await orders.close_event(workflow_id)
    await delete(orders, workflow_id, run_id)
    await gone(orders, workflow_id)
    assert (await refusal(delete(orders, workflow_id))).code == grpc.StatusCode.NOT_FOUND
    assert await orders.start(workflow_id, queue) != run_id


async def test_a_running_workflow_is_deleted_without_a_run_id(orders: Namespace, queue: str, workflow_id: str) -> None:
    run_id = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, start_timer("t", 600))
    await delete(orders, workflow_id)
    await gone(orders, workflow_id, run_id)


async def test_the_older_run_is_deleted_and_the_newer_one_stays(
    orders: Namespace, queue: str, workflow_id: str
) -> None:
    first = await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, complete_workflow())
    second = await orders.start(workflow_id, queue)
    await delete(orders, workflow_id, first)
    await gone(orders, workflow_id, first)
    assert (await orders.describe(workflow_id)).workflow_execution_info.execution.run_id == second


@pytest.mark.parametrize(
    ("workflow_id", "run_id", "code"),
    [
        ("", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("nothing", "no-run-id", grpc.StatusCode.INVALID_ARGUMENT),
        ("nothing", "", grpc.StatusCode.NOT_FOUND),
        ("nothing", "0198c9a2-5c6b-7000-8000-000000000000", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_what_is_not_there_cannot_be_deleted(
    orders: Namespace, workflow_id: str, run_id: str, code: grpc.StatusCode
) -> None:
    assert (await refusal(delete(orders, workflow_id, run_id))).code == code


# --- namespaces


@pytest.fixture
async def team(orders: Namespace, unique: Callable[[str], str]) -> Namespace:
    """A namespace of this test alone."""
    made = Namespace(unique("team"), orders.channel)
    await made.service.RegisterNamespace(
        RegisterNamespaceRequest(namespace=made.name, workflow_execution_retention_period=duration(3600 * 24))
    )
    await wait_until_usable(made.service, made.name)
    return made


async def state(namespace: Namespace, name: str = "") -> Any:
    request = DescribeNamespaceRequest(namespace=name or namespace.name)
    return (await namespace.service.DescribeNamespace(request)).namespace_info.state


async def test_no_workflow_starts_in_a_deprecated_namespace_and_those_that_run_go_on(team: Namespace) -> None:
    await team.start("order", "queue")
    await team.service.DeprecateNamespace(DeprecateNamespaceRequest(namespace=team.name))
    assert await state(team) == DEPRECATED
    number = 0
    while True:  # a real server hears of it a moment later
        try:
            await team.start(f"late-{number}", "another-queue")
            number += 1
        except grpc.aio.AioRpcError:
            break
    refused = await refusal(team.start("late", "queue"))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.message == "Namespace has invalid state: Deprecated. Must be Registered."
    detail = refused.detail(NamespaceInvalidStateFailure)
    assert (detail.namespace, detail.state, list(detail.allowed_states)) == (team.name, DEPRECATED, [REGISTERED])
    await team.run_workflow_task("queue", complete_workflow())
    assert (await team.close_event("order")).HasField("workflow_execution_completed_event_attributes")


async def test_there_is_no_way_back_from_deprecated(team: Namespace) -> None:
    def update(wanted: Any) -> Any:
        request = UpdateNamespaceRequest(namespace=team.name, update_info=UpdateNamespaceInfo(state=wanted))
        return team.service.UpdateNamespace(request)

    assert (await update(DEPRECATED)).namespace_info.state == DEPRECATED
    refused = await refusal(update(REGISTERED))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_deprecating_an_unknown_namespace_is_not_found(orders: Namespace) -> None:
    refused = await refusal(orders.service.DeprecateNamespace(DeprecateNamespaceRequest(namespace="no-such-team")))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.detail(NamespaceNotFoundFailure).namespace == "no-such-team"


async def test_a_deleted_namespace_is_renamed_and_goes_with_what_is_in_it(orders: Namespace, team: Namespace) -> None:
    for number in range(5):
        await team.start(f"order-{number}", "queue")
    answer = await team.operator.DeleteNamespace(DeleteNamespaceRequest(namespace=team.name), timeout=50)
    assert answer.deleted_namespace.startswith(f"{team.name}-deleted-")
    refused = await refusal(state(team))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    shown = ListNamespacesRequest(page_size=1000)
    names = [each.namespace_info.name for each in (await team.service.ListNamespaces(shown)).namespaces]
    assert team.name not in names
    assert answer.deleted_namespace not in names


@pytest.mark.usefixtures("embedded_only")  # a real server takes longer
async def test_a_deleted_namespace_is_gone_soon_and_its_name_is_free_at_once(team: Namespace) -> None:
    await team.start("order", "queue")
    answer = await team.operator.DeleteNamespace(DeleteNamespaceRequest(namespace=team.name))
    await team.service.RegisterNamespace(
        RegisterNamespaceRequest(namespace=team.name, workflow_execution_retention_period=duration(3600))
    )
    assert await state(team) == REGISTERED
    filtered = ListNamespacesRequest(page_size=1000, namespace_filter=NamespaceFilter(include_deleted=True))
    while answer.deleted_namespace in [
        each.namespace_info.name for each in (await team.service.ListNamespaces(filtered)).namespaces
    ]:
        pass
    assert (await refusal(team.describe("order"))).code == grpc.StatusCode.NOT_FOUND


async def test_a_namespace_that_an_endpoint_leads_to_is_not_deleted(
    team: Namespace, unique: Callable[[str], str]
) -> None:
    endpoint = unique("endpoint")
    await team.create_endpoint(endpoint, "queue")
    refused = await refusal(team.operator.DeleteNamespace(DeleteNamespaceRequest(namespace=team.name), timeout=50))
    assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.message == f"cannot delete a namespace that is a target of a Nexus endpoint {endpoint}"


async def test_a_namespace_is_deleted_by_name_or_by_id(orders: Namespace) -> None:
    refused = await refusal(orders.operator.DeleteNamespace(DeleteNamespaceRequest()))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    refused = await refusal(orders.operator.DeleteNamespace(DeleteNamespaceRequest(namespace="a", namespace_id="b")))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("embedded_only")  # a real server with an archive does otherwise
async def test_what_is_not_honoured_is_refused_by_name(team: Namespace) -> None:
    config = NamespaceConfig(history_archival_uri="file:///tmp")
    request = UpdateNamespaceRequest(namespace=team.name, config=config)
    refused = await refusal(team.service.UpdateNamespace(request))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert refused.names("history_archival_uri")


async def test_a_deleted_namespace_cannot_be_deprecated_while_its_last_runs_go(tmp_path: Path) -> None:
    async with (
        running(
            tmp_path / "nexus.db", namespaces=["team"], host="127.0.0.1", port=0, http_port=0, clock=FakeClock()
        ) as backend,  # no time passes, so nothing is removed yet
        grpc.aio.insecure_channel(backend.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        team = Namespace("team", channel)
        await team.start("order", "queue")
        deleted = (await team.operator.DeleteNamespace(DeleteNamespaceRequest(namespace="team"))).deleted_namespace
        refused = await refusal(team.service.DeprecateNamespace(DeprecateNamespaceRequest(namespace=deleted)))
        assert (refused.code, refused.message) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "Invalid namespace state update.",
        )
        assert await state(team, deleted) == NamespaceState.NAMESPACE_STATE_DELETED
