"""Nexus operations of programs as users write them: called off in each way, linked on both sides."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionStatus

from tests.backend.conftest import Teams
from tests.support.raw import Namespace
from tests.support.samples import Basket, CallOff, Payment, PlaceOrder, TouchBasket
from tests.support.values import event_names

REQUESTED = "NEXUS_OPERATION_CANCEL_REQUESTED"
TOLD = "NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED"
CANCELLED = "NEXUS_OPERATION_CANCELED"


@pytest.mark.parametrize("way", ["ABANDON", "TRY_CANCEL", "WAIT_REQUESTED", "WAIT_COMPLETED"])
async def test_an_operation_is_called_off_in_each_of_the_four_ways(
    teams: Teams, orders: Namespace, unique: Callable[[str], str], way: str
) -> None:
    order, held = unique("order"), unique("held")
    handle = await teams.orders.start_workflow(
        CallOff.run, args=[teams.endpoint, held, way], id=order, task_queue=teams.orders_queue
    )
    holding = teams.payments.get_workflow_handle(held)
    if way == "ABANDON":
        await orders.wait_for_event(order, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
    else:
        await orders.wait_for_event(order, EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED)
        assert (await holding.describe()).status == WorkflowExecutionStatus.CANCELED
    await handle.signal(CallOff.leave)
    outer, inner = await handle.result()
    assert (outer.kind, inner.kind) == ("NexusOperationError", "CancelledError")
    names = event_names(await orders.history(order))
    if way == "ABANDON":
        assert REQUESTED not in names
        assert (await holding.describe()).status == WorkflowExecutionStatus.RUNNING
        await holding.terminate()
    else:
        assert names.index(REQUESTED) < names.index(CANCELLED)
        # A handler may have ended it before its answer to the cancel request is there: then nothing is said of that.
        assert TOLD not in names or names.index(REQUESTED) < names.index(TOLD)


@pytest.mark.parametrize("way", ["signal", "update", "query"])
async def test_what_a_handler_does_to_a_workflow_is_linked_on_both_sides(
    teams: Teams, orders: Namespace, payments: Namespace, unique: Callable[[str], str], way: str
) -> None:
    order, basket = unique("order"), unique("basket")
    await teams.payments.start_workflow(Basket.run, id=basket, task_queue=teams.payments_queue)
    touched = await teams.orders.execute_workflow(
        TouchBasket.run, args=[teams.endpoint, basket, way], id=order, task_queue=teams.orders_queue
    )
    assert touched == (0 if way == "query" else 1)
    history = await orders.history(order)
    scheduled = next(event for event in history if event.HasField("nexus_operation_scheduled_event_attributes"))
    assert f"a {way} for the basket".encode() in scheduled.user_metadata.summary.data
    if way != "query":  # the SDK sends no links with a query
        (to_basket,) = linked(await orders.history(order), "payments")
        assert to_basket.workflow_event.workflow_id == basket
    if way == "signal":  # an update of a sync handler brings none
        (back,) = linked(await payments.history(basket), "orders")
        assert back.workflow_event.workflow_id == order
        assert back.workflow_event.event_ref.event_id == scheduled.event_id
    await teams.payments.get_workflow_handle(basket).terminate()


async def test_a_handlers_workflow_is_linked_on_both_sides(
    teams: Teams, orders: Namespace, payments: Namespace, unique: Callable[[str], str]
) -> None:
    order = unique("order")
    await teams.orders.execute_workflow(
        PlaceOrder.run, args=[teams.endpoint, Payment(order)], id=order, task_queue=teams.orders_queue
    )
    history = await orders.history(order)
    (to_payment,) = linked(history, "payments")
    assert to_payment.workflow_event.workflow_id == f"payment-{order}"
    started = (await payments.history(f"payment-{order}"))[0]
    assert not started.links
    (callback,) = started.workflow_execution_started_event_attributes.completion_callbacks
    (back,) = callback.links
    assert back.workflow_event.workflow_id == order
    scheduled = history[back.workflow_event.event_ref.event_id - 1]
    assert scheduled.nexus_operation_scheduled_event_attributes.operation == "process"


def linked(history: Sequence[HistoryEvent], namespace: str) -> list[Link]:
    """The links of a history's events to workflows of a namespace."""
    links = [link for event in history for link in event.links]
    return [link for link in links if link.workflow_event.namespace == namespace]


async def test_many_operations_of_many_workflows_are_called_off_at_once(
    teams: Teams, orders: Namespace, unique: Callable[[str], str]
) -> None:
    async def one() -> None:
        order = unique("order")
        handle = await teams.orders.start_workflow(
            CallOff.run,
            args=[teams.endpoint, unique("held"), "WAIT_COMPLETED"],
            id=order,
            task_queue=teams.orders_queue,
        )
        await handle.signal(CallOff.leave)
        assert len(await handle.result()) == 2
        assert event_names(await orders.history(order)).count(CANCELLED) == 1

    await asyncio.gather(*(one() for _ in range(10)))
