"""Calls from one server to another by HTTP: starts and cancels one way, completions back.

The two know nothing of each other but URLs. With a real server in the tests, it is one of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc.aio
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Worker

from tests.backend.conftest import CALLERS, HANDLERS, fresh_name
from tests.support.outside import routes_to
from tests.support.raw import Namespace
from tests.support.samples import (
    ACTIVITIES,
    WORKFLOWS,
    CallOff,
    CatchError,
    Payment,
    PaymentsHandler,
    PlaceOrder,
    Receipt,
)
from tests.support.servers import Kind, Server, serve

CANCELLED = EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED


@dataclass(frozen=True)
class Across:
    """Callers on one server, handlers on another; the endpoint is the callers'."""

    orders: Namespace
    payments: Namespace
    callers: Client
    handlers: Client
    queue: str
    endpoint: str


@pytest.fixture(
    scope="module",
    params=[("embedded", "embedded"), ("embedded", "real"), ("real", "embedded")],
    ids=lambda kinds: f"{kinds[0]} calls {kinds[1]}",
)
async def across(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[Across]:
    """Two servers, a worker at each."""
    calling: Kind
    handling: Kind
    calling, handling = request.param
    if (server.kind == "real") != ("real" in request.param):
        pytest.skip("not with this server")
    async with contextlib.AsyncExitStack() as stack:
        here = await stack.enter_async_context(serve(calling, [CALLERS]))
        there = await stack.enter_async_context(serve(handling, [HANDLERS]))
        orders = Namespace(CALLERS, await stack.enter_async_context(grpc.aio.insecure_channel(here.address)))
        payments = Namespace(HANDLERS, await stack.enter_async_context(grpc.aio.insecure_channel(there.address)))
        behind = await payments.create_endpoint("payments", "payments-team")
        url = f"{there.http_url}/{behind.url_prefix.strip('/')}"
        endpoint = await routes_to(here, orders, "elsewhere", url)
        callers = await Client.connect(here.address, namespace=CALLERS)
        handlers = await Client.connect(there.address, namespace=HANDLERS)
        await stack.enter_async_context(
            Worker(callers, task_queue="orders-team", workflows=WORKFLOWS, activities=ACTIVITIES)
        )
        await stack.enter_async_context(
            Worker(
                handlers,
                task_queue="payments-team",
                workflows=WORKFLOWS,
                activities=ACTIVITIES,
                nexus_service_handlers=[PaymentsHandler()],
            )
        )
        yield Across(orders, payments, callers, handlers, "orders-team", endpoint)


async def test_an_order_is_paid_and_each_side_shows_the_other(across: Across) -> None:
    order = fresh_name("order")
    receipt = await across.callers.execute_workflow(
        PlaceOrder.run, args=[across.endpoint, Payment(order)], id=order, task_queue=across.queue
    )
    assert isinstance(receipt, Receipt)
    started = await across.orders.wait_for_event(order, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    (there,) = started.links
    assert there.workflow_event.workflow_id == f"payment-{order}"
    assert there.workflow_event.namespace == HANDLERS
    first = (await across.payments.history(f"payment-{order}"))[0]
    (callback,) = first.workflow_execution_started_event_attributes.completion_callbacks
    assert callback.nexus.url.startswith("http://127.0.0.1:")
    (back,) = callback.links
    assert back.workflow_event.workflow_id == order


@pytest.mark.parametrize(
    ("operation", "way", "kinds"),
    [
        ("misbehave", "NOT_FOUND", ["NexusOperationError", "HandlerError"]),
        ("misbehave", "operation failed", ["NexusOperationError", "ApplicationError"]),
        (
            "misbehave",
            "operation failed, with a cause",
            ["NexusOperationError", "ApplicationError", "ApplicationError"],
        ),
        ("misbehave", "operation cancelled", ["NexusOperationError", "CancelledError"]),
        ("misbehave", "non-retryable application error", ["NexusOperationError", "HandlerError", "ApplicationError"]),
        ("misbehave_later", "application error", ["NexusOperationError", "ApplicationError"]),
        ("misbehave_later", "activity failed", ["NexusOperationError", "ActivityError", "ApplicationError"]),
        ("misbehave_later", "run timeout", ["NexusOperationError", "TimeoutError"]),
    ],
)
async def test_each_failure_arrives_with_its_causes(across: Across, operation: str, way: str, kinds: list[str]) -> None:
    order = fresh_name("order")
    caught = await across.callers.execute_workflow(
        CatchError.run, args=[across.endpoint, operation, way], id=order, task_queue=across.queue
    )
    assert [link.kind for link in caught] == kinds


async def test_an_operation_is_called_off(across: Across) -> None:
    order, held = fresh_name("order"), fresh_name("held")
    handle = await across.callers.start_workflow(
        CallOff.run, args=[across.endpoint, held, "WAIT_COMPLETED"], id=order, task_queue=across.queue
    )
    await across.orders.wait_for_event(order, CANCELLED)
    assert (await across.handlers.get_workflow_handle(held).describe()).status == WorkflowExecutionStatus.CANCELED
    await handle.signal(CallOff.leave)
    assert [link.kind for link in await handle.result()] == ["NexusOperationError", "CancelledError"]
