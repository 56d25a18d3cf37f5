"""Runs orders against any Temporal-compatible server that has the two namespaces: all it needs is a client for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from nexuskit.demo import orders, payments
from nexuskit.demo.contract import Payment
from nexuskit.demo.orders import OrderResult, PlaceOrder
from nexuskit.demo.payments import PaymentHandler, ProcessPayment, charge_card
from nexuskit.trace import Connect, Node, trace

ORDERS = "orders"
PAYMENTS = "payments"

GOOD = Payment(order_id="order-1", card="4242 4242 4242 4242", amount_cents=4200)
REFUSED = Payment(order_id="order-2", card="4000 0000 0000 0000", amount_cents=9900)


class Clients:
    """Connects to each namespace once, however often it is asked."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: dict[str, Client] = {}

    async def __call__(self, namespace: str) -> Client:
        """The client of a namespace."""
        if namespace not in self._clients:
            self._clients[namespace] = await self._connect(namespace)
        return self._clients[namespace]


class WorkflowOver(Exception):
    """A workflow ended before the event that was waited for."""


@dataclass(frozen=True)
class Order:
    """One order and what became of it."""

    payment: Payment
    result: OrderResult | None
    """What the workflow answered; None if it failed."""
    error: str | None
    """Why it failed."""
    trace: Node


async def register_endpoint(client: Client) -> None:
    """Register the endpoint that orders call; it routes to the payments team's task queue."""
    worker = EndpointTarget.Worker(namespace=PAYMENTS, task_queue=payments.TASK_QUEUE)
    spec = EndpointSpec(name=orders.ENDPOINT, target=EndpointTarget(worker=worker))
    await client.operator_service.create_nexus_endpoint(CreateNexusEndpointRequest(spec=spec))


@asynccontextmanager
async def workers(connect: Connect) -> AsyncGenerator[None]:
    """The workers of both teams, each connected to its own namespace."""
    orders_worker = Worker(await connect(ORDERS), task_queue=orders.TASK_QUEUE, workflows=[PlaceOrder])
    payments_worker = Worker(
        await connect(PAYMENTS),
        task_queue=payments.TASK_QUEUE,
        workflows=[ProcessPayment],
        activities=[charge_card],
        nexus_service_handlers=[PaymentHandler()],
    )
    async with orders_worker, payments_worker:
        yield


async def start_order(client: Client, payment: Payment) -> WorkflowHandle[PlaceOrder, OrderResult]:
    """Place an order; answers as soon as it is recorded."""
    return await client.start_workflow(PlaceOrder.run, payment, id=payment.order_id, task_queue=orders.TASK_QUEUE)


async def finish_order(connect: Connect, payment: Payment) -> Order:
    """Wait until an order has ended, then trace it."""
    result, error = None, None
    handle = (await connect(ORDERS)).get_workflow_handle_for(PlaceOrder.run, payment.order_id)
    try:
        result = await handle.result()
    except WorkflowFailureError as failed:
        error = f"{type(failed.cause).__name__}: {failed.cause}"
    return Order(payment, result, error, await trace(connect, ORDERS, payment.order_id))


async def wait_for(client: Client, workflow_id: str, event_type: EventType.ValueType) -> list[HistoryEvent]:
    """The history up to the first event of a type, by long poll.

    Raises:
        WorkflowOver: The workflow ended without one.
    """
    seen: list[HistoryEvent] = []
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events(wait_new_event=True):
        seen.append(event)
        if event.event_type == event_type:
            return seen
    raise WorkflowOver(f"workflow {workflow_id!r} ended without {EventType.Name(event_type)}")


async def history(client: Client, workflow_id: str) -> list[HistoryEvent]:
    """The whole history as it is now."""
    return [event async for event in client.get_workflow_handle(workflow_id).fetch_history_events()]
