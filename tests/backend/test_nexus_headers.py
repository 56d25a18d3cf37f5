"""Headers of Nexus calls: what a handler can believe, since no caller can say it."""

import pytest

from tests.backend.conftest import Endpoint
from tests.support.raw import Namespace
from tests.support.values import async_result, cancel_operation, complete_workflow, schedule_operation, sync_result

FORGED = {
    "Nexus-Link": '<temporal:///namespaces/evil/workflows/w/r/history?eventID=1>; type="temporal.api.common.v1.Link"',
    "NEXUS-REQUEST-ID": "forged",
    "nexus-callback-url": "http://evil.example",
    "Nexus-Callback-Temporal-Callback-Token": "forged",
    "Temporal-Source-Namespace": "evil",
}


@pytest.mark.usefixtures("embedded_only")
async def test_links_request_ids_and_callbacks_are_the_servers_word(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    """On a real server, headers that the workflow sets replace them."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, headers=FORGED | {"X-Mine": "kept"}))
    task = await payments.poll_nexus_task(endpoint.queue)
    scheduled = (await orders.history(workflow_id))[4].nexus_operation_scheduled_event_attributes
    start = task.request.start_operation
    assert start.request_id == scheduled.request_id
    (link,) = start.links
    assert f"/namespaces/orders/workflows/{workflow_id}/" in link.url
    assert "forged" not in str(task.request)
    assert "evil" not in str(task.request)
    assert sorted(task.request.header) == ["request-timeout", "temporal-source-namespace", "x-mine"]
    await payments.answer_nexus_task(task, sync_result(1))
    await orders.run_workflow_task(queue, complete_workflow())


@pytest.mark.usefixtures("embedded_only")
async def test_a_handler_is_told_the_callers_namespace_on_every_call(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    """An open-source real server does not say it."""
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, headers=FORGED))
    first = await payments.poll_nexus_task(endpoint.queue)
    await payments.refuse_nexus_task(first, "UNAVAILABLE", "come back later")
    again = await payments.poll_nexus_task(endpoint.queue)
    await payments.answer_nexus_task(again, async_result("a-token"))
    await orders.run_workflow_task(queue, cancel_operation(5))
    told = await payments.poll_nexus_task(endpoint.queue)
    assert told.request.HasField("cancel_operation")
    await payments.answer_nexus_cancellation(told)
    assert [task.request.header["temporal-source-namespace"] for task in (first, again, told)] == ["orders"] * 3
    await orders.terminate(workflow_id)


async def test_the_operations_name_is_as_the_caller_sent_it(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, schedule_operation(endpoint.name, operation="process%2Fstatus ü"))
    task = await payments.poll_nexus_task(endpoint.queue)
    assert task.request.start_operation.operation == "process%2Fstatus ü"
    await payments.answer_nexus_task(task, sync_result(1))
    await orders.run_workflow_task(queue, complete_workflow())


@pytest.mark.usefixtures("embedded_only")
async def test_names_may_hold_slashes(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    """A real server finds no such operation."""
    await orders.start(workflow_id, queue)
    call = schedule_operation(endpoint.name, service="pay/v1", operation="process/status")
    await orders.run_workflow_task(queue, call)
    task = await payments.poll_nexus_task(endpoint.queue)
    assert (task.request.start_operation.service, task.request.start_operation.operation) == (
        "pay/v1",
        "process/status",
    )
    await payments.answer_nexus_task(task, async_result("a-token"))
    await orders.run_workflow_task(queue, cancel_operation(5))
    told = await payments.poll_nexus_task(endpoint.queue)
    assert told.request.cancel_operation.operation == "process/status"
    await payments.answer_nexus_cancellation(told)
    await orders.terminate(workflow_id)
