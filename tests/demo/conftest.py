"""The orders of the demo, run once on the server that `--server` names."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

import nexuskit
from nexuskit.demo.payments import payment_id
from nexuskit.demo.scenario import (
    GOOD,
    ORDERS,
    PAYMENTS,
    REFUSED,
    Clients,
    Order,
    finish_order,
    history,
    register_endpoint,
    start_order,
    workers,
)
from tests.support.servers import Server, serve, why_not


@pytest.fixture(scope="session")
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Server]:
    """The server under test, with the namespaces of the demo."""
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    async with serve(request.param, [ORDERS, PAYMENTS]) as running:
        yield running


@dataclass(frozen=True)
class Ran:
    """What is there once both orders have ended."""

    paid: Order
    declined: Order
    paid_history: list[HistoryEvent]
    payment_history: list[HistoryEvent]


@pytest.fixture(scope="session")
async def ran(server: Server) -> Ran:
    """Both orders, run to their end."""

    async def client(namespace: str) -> Client:
        return await Client.connect(server.address, namespace=namespace, plugins=[nexuskit.Plugin()])

    connect = Clients(client)
    orders, payments = await connect(ORDERS), await connect(PAYMENTS)
    await register_endpoint(orders)
    async with workers(connect):
        for payment in (GOOD, REFUSED):
            await start_order(orders, payment)
        return Ran(
            await finish_order(connect, GOOD),
            await finish_order(connect, REFUSED),
            await history(orders, GOOD.order_id),
            await history(payments, payment_id(GOOD)),
        )
