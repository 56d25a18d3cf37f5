"""SIGKILL in the middle of everything: nothing that was acknowledged is lost, and every order completes exactly once.

Each round runs on a new database file. NEXUSKIT_CRASH_ROUNDS says how many rounds (1 by default); NEXUSKIT_CRASH_SEED
repeats the moments of a run that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from temporalio.api.common.v1 import Callback, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    PollNexusTaskQueueResponse,
    PollWorkflowTaskQueueResponse,
    RecordActivityTaskHeartbeatRequest,
    UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from tests.support.alone import Alone
from tests.support.backend_process import BackendProcess
from tests.support.crash_samples import LOST_AFTER, Order, Pay, PaymentsHandler, Place, charge, charged
from tests.support.messages import acceptance, place_of, response
from tests.support.operation import Operation
from tests.support.raw import Namespace, refusal
from tests.support.values import (
    application_failure,
    async_result,
    complete_workflow,
    duration,
    event_names,
    payload,
    payloads,
    result_of,
    schedule_activity,
    schedule_operation,
    sync_result,
)

CALLERS, HANDLERS = "orders", "payments"
ENDPOINT = "payments"
ORDERS = 20
"""Enough that some are at every step when the backend dies."""


@dataclass(frozen=True)
class Raw:
    """Both namespaces, for calls by hand."""

    orders: Namespace
    payments: Namespace


@contextlib.asynccontextmanager
async def connected(backend: BackendProcess) -> AsyncIterator[Raw]:
    """A connection of its own: one that saw the backend die would wait before it tries again."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(backend.address, options=options) as channel:
        yield Raw(Namespace(CALLERS, channel), Namespace(HANDLERS, channel))


@contextlib.asynccontextmanager
async def workers(backend: BackendProcess) -> AsyncIterator[Client]:
    """Both teams' workers, which stay while the backend comes and goes; answers with the callers' client."""
    async with connected(backend) as raw:
        await raw.payments.create_endpoint(ENDPOINT, HANDLERS)
    orders = await Client.connect(backend.address, namespace=CALLERS)
    payments = await Client.connect(backend.address, namespace=HANDLERS)
    callers = Worker(orders, task_queue=CALLERS, workflows=[Place])
    handlers = Worker(
        payments,
        task_queue=HANDLERS,
        workflows=[Pay],
        activities=[charge],
        nexus_service_handlers=[PaymentsHandler()],
    )
    async with callers, handlers:
        yield orders


async def place(client: Client, order: Order) -> WorkflowHandle[Place, str]:
    return await client.start_workflow(
        Place.run, args=[ENDPOINT, order], id=order.name, task_queue=CALLERS, task_timeout=LOST_AFTER
    )


async def restart(backend: BackendProcess) -> None:
    backend.kill()
    await backend.start()


def new_orders(dice: random.Random, wait: Callable[[], float]) -> list[Order]:
    run = f"{dice.getrandbits(32):08x}"
    return [Order(f"{run}-{number}", wait()) for number in range(ORDERS)]


Histories = dict[str, list[HistoryEvent]]


async def read(backend: BackendProcess, orders: Sequence[Order]) -> Histories:
    """The histories that exist now, by workflow id."""
    found: Histories = {}
    async with connected(backend) as raw:
        for order in orders:
            for namespace, workflow_id in ((raw.orders, order.name), (raw.payments, f"pay-{order.name}")):
                try:
                    found[workflow_id] = await namespace.history(workflow_id)
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.NOT_FOUND:
                        raise
    return found


def check_kept(before: Histories, after: Histories) -> None:
    """What was read once is there for ever."""
    for workflow_id, events in before.items():
        stored = [event for event in events if not is_transient(event, events)]
        assert after[workflow_id][: len(stored)] == stored, workflow_id


def is_transient(event: HistoryEvent, events: Sequence[HistoryEvent]) -> bool:
    """Whether the event belongs to a workflow task of a later attempt, which is shown before it is stored."""
    for scheduled in events[-2:]:
        if scheduled.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            attempt = scheduled.workflow_task_scheduled_event_attributes.attempt
            return attempt > 1 and event.event_id >= scheduled.event_id
    return False


def check_done_once(orders: Sequence[Order], histories: Histories) -> None:
    """Each step of each order is in history exactly once; the activity ran at least once."""
    for order in orders:
        caller, handler = histories[order.name], histories[f"pay-{order.name}"]
        for events in (caller, handler):
            assert [event.event_id for event in events] == list(range(1, len(events) + 1))
            assert event_names(events)[-1] == "WORKFLOW_EXECUTION_COMPLETED"
        check_counts(
            caller,
            WORKFLOW_EXECUTION_STARTED=1,
            NEXUS_OPERATION_SCHEDULED=1,
            NEXUS_OPERATION_STARTED=1,
            NEXUS_OPERATION_COMPLETED=1,
            WORKFLOW_EXECUTION_COMPLETED=1,
        )
        check_counts(
            handler,
            WORKFLOW_EXECUTION_STARTED=1,
            ACTIVITY_TASK_SCHEDULED=1,
            ACTIVITY_TASK_STARTED=1,
            ACTIVITY_TASK_COMPLETED=1,
            TIMER_STARTED=1,
            TIMER_FIRED=1,
            WORKFLOW_EXECUTION_COMPLETED=1,
        )
        assert result_of(caller[-1]) == result_of(handler[-1]) == f"receipt of {order.name}"
        assert charged[order.name] >= 1


def check_counts(events: Sequence[HistoryEvent], **expected: int) -> None:
    counts = Counter(event_names(events))
    assert {name: counts[name] for name in expected} == expected


async def finish(handles: Sequence[WorkflowHandle[Any, str]], orders: Sequence[Order]) -> None:
    async with asyncio.timeout(40):
        results = await asyncio.gather(*(handle.result() for handle in handles))
    assert results == [f"receipt of {order.name}" for order in orders]


async def test_orders_that_wait_on_their_timers_go_on_after_a_kill(
    backend: BackendProcess, dice: random.Random
) -> None:
    orders = new_orders(dice, lambda: 1.0)
    async with workers(backend) as client:
        handles = [await place(client, order) for order in orders]
        async with connected(backend) as raw:
            for order in orders:
                await raw.orders.wait_for_event(order.name, EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
                await raw.payments.wait_for_event(f"pay-{order.name}", EventType.EVENT_TYPE_TIMER_STARTED)
        before = await read(backend, orders)
        await restart(backend)
        await finish(handles, orders)
    after = await read(backend, orders)
    check_kept(before, after)
    check_done_once(orders, after)


async def test_a_timer_whose_time_passes_while_the_backend_is_down_fires_when_it_is_back(
    backend: BackendProcess, dice: random.Random
) -> None:
    orders = new_orders(dice, lambda: 0.5)
    async with workers(backend) as client:
        handles = [await place(client, order) for order in orders]
        async with connected(backend) as raw:
            for order in orders:
                await raw.payments.wait_for_event(f"pay-{order.name}", EventType.EVENT_TYPE_TIMER_STARTED)
        backend.kill()
        await asyncio.sleep(0.6)
        await backend.start()
        await finish(handles, orders)
    check_done_once(orders, await read(backend, orders))


async def test_callbacks_on_their_way_arrive_once(backend: BackendProcess, dice: random.Random) -> None:
    """All payments end at once, and the backend dies as the first of them is acknowledged."""
    async with connected(backend) as raw:
        await raw.payments.create_endpoint(ENDPOINT, "nexus")
        handling = [await handled(raw, f"order-{number}") for number in range(ORDERS)]
        ends = [asyncio.ensure_future(end_payment(raw, task)) for task in handling]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(dice.choice([0, 0, 0.001, 0.003]))
        backend.kill()
        acknowledged = [each for each in await asyncio.gather(*ends, return_exceptions=True) if each is True]
    await backend.start()
    async with connected(backend) as raw:
        # What was not acknowledged is sent again: it is new to the backend, or it is refused because it was not.
        again = await asyncio.gather(*(end_payment(raw, task) for task in handling))
        assert again.count(False) >= len(acknowledged) >= 1
        for number in range(ORDERS):
            order = f"order-{number}"
            completed = await raw.orders.wait_for_event(order, EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
            assert result_of(completed) == f"receipt of {order}"
            history = await raw.orders.history(order)
            check_counts(history, NEXUS_OPERATION_STARTED=1, NEXUS_OPERATION_COMPLETED=1)
            assert event_names(await raw.payments.history(f"payment-of-{order}"))[-1] == "WORKFLOW_EXECUTION_COMPLETED"


async def handled(raw: Raw, order: str) -> PollWorkflowTaskQueueResponse:
    """A workflow that waits for its operation; answers with the task of the workflow behind that, not yet completed."""
    await raw.orders.start(order, order)
    await raw.orders.run_workflow_task(order, schedule_operation(ENDPOINT))
    task = await raw.payments.poll_nexus_task("nexus")
    await start_payment(raw, task, f"payment-of-{order}")
    await raw.payments.answer_nexus_task(task, async_result("token"))
    return await raw.payments.poll_workflow_task("payments")


async def end_payment(raw: Raw, task: PollWorkflowTaskQueueResponse) -> bool:
    """Completes a payment; False if it was completed before."""
    order = task.workflow_execution.workflow_id.removeprefix("payment-of-")
    try:
        await raw.payments.complete_workflow_task(task, complete_workflow(f"receipt of {order}"))
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


@pytest.mark.slow
async def test_orders_complete_once_however_often_the_backend_dies(
    backend: BackendProcess, dice: random.Random
) -> None:
    orders = new_orders(dice, lambda: dice.uniform(0, 1))
    async with workers(backend) as client:
        handles: list[WorkflowHandle[Place, str]] = []
        placing = asyncio.ensure_future(place_all(client, orders, handles))
        for _ in range(3):
            await asyncio.sleep(dice.uniform(0.05, 0.6))
            before = await read(backend, orders)
            await restart(backend)
            check_kept(before, await read(backend, orders))
        await placing
        await finish(handles, orders)
    check_done_once(orders, await read(backend, orders))


async def place_all(client: Client, orders: Sequence[Order], handles: list[WorkflowHandle[Place, str]]) -> None:
    for order in orders:
        handles.append(await place(client, order))
        await asyncio.sleep(0.02)


async def test_a_workflow_task_polled_before_a_kill_can_be_completed_after_it(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        run_id = await raw.orders.start("order", "queue")
        task = await raw.orders.poll_workflow_task("queue")
    await restart(backend)
    async with connected(backend) as raw:
        await raw.orders.complete_workflow_task(task, complete_workflow("after the kill"))
        assert result_of(await raw.orders.close_event("order", run_id)) == "after the kill"
        history = await raw.orders.history("order")
        assert list(task.history.events) == history[:3]
        assert event_names(history)[3:] == ["WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_COMPLETED"]


async def test_an_activity_polled_before_a_kill_can_be_completed_after_it(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        await raw.orders.start("order", "queue")
        await raw.orders.run_workflow_task("queue", schedule_activity("reserve", "queue"))
        task = await raw.orders.poll_activity_task("queue")
    await restart(backend)
    async with connected(backend) as raw:
        await raw.orders.complete_activity(task, "after the kill")
        again = await refusal(raw.orders.complete_activity(task, "twice"))
        assert again.code == grpc.StatusCode.NOT_FOUND
        woken = await raw.orders.poll_workflow_task("queue")
        await raw.orders.complete_workflow_task(woken, complete_workflow())
        history = await raw.orders.history("order")
        check_counts(history, ACTIVITY_TASK_STARTED=1, ACTIVITY_TASK_COMPLETED=1)
        assert result_of(history[6]) == "after the kill"


async def test_heartbeats_and_pauses_that_were_acknowledged_are_there_after_a_kill(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        await raw.orders.start("order", "orders")
        await raw.orders.run_workflow_task(
            "orders", schedule_activity("charge", "orders"), schedule_activity("pack", "orders", activity_type="pack")
        )
        task = await raw.orders.poll_activity_task("orders")
        await raw.orders.service.RecordActivityTaskHeartbeat(
            RecordActivityTaskHeartbeatRequest(namespace=CALLERS, task_token=task.task_token, details=payloads("half"))
        )
        await raw.orders.service.PauseActivity(
            PauseActivityRequest(
                namespace=CALLERS, execution=WorkflowExecution(workflow_id="order"), type="pack", reason="wait"
            )
        )
    await restart(backend)
    async with connected(backend) as raw:
        charge, pack = (await raw.orders.describe("order")).pending_activities
        assert charge.heartbeat_details == payloads("half")
        assert (pack.paused, pack.pause_info.manual.reason) == (True, "wait")
        await raw.orders.fail_activity(task, application_failure(next_retry_delay=duration(0.01)))
        again = await raw.orders.poll_activity_task("orders")
        assert (again.activity_id, again.heartbeat_details) == ("charge", payloads("half"))


async def test_an_activity_that_stands_alone_goes_on_after_a_kill(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        first, second = Alone(raw.orders, "first", "orders"), Alone(raw.orders, "second", "orders")
        await first.start(input=payloads(1))
        task = await raw.orders.poll_activity_task("orders")
        await second.start(input=payloads(2))
    await restart(backend)
    async with connected(backend) as raw:
        await raw.orders.complete_activity(task, "once")
        other = await raw.orders.poll_activity_task("orders")
        assert (other.activity_id, other.input) == ("second", payloads(2))
        await raw.orders.complete_activity(other, "twice")
    await restart(backend)
    async with connected(backend) as raw:
        assert (await Alone(raw.orders, "first", "orders").outcome()).result == payloads("once")
        assert (await Alone(raw.orders, "second", "orders").outcome()).result == payloads("twice")
        refused = await refusal(raw.orders.describe("first"))
        assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_what_was_acknowledged_before_a_kill_is_there_after_it(backend: BackendProcess) -> None:
    """Not one request later: the kill comes with the answer."""
    async with connected(backend) as raw:
        runs = await asyncio.gather(*(raw.orders.start(f"order-{n}", "queue", request_id=f"{n}") for n in range(50)))
        backend.kill()
    await backend.start()
    async with connected(backend) as raw:
        again = await asyncio.gather(*(raw.orders.start(f"order-{n}", "queue", request_id=f"{n}") for n in range(50)))
        assert again == runs
        tasks = [await raw.orders.poll_workflow_task("queue") for _ in runs]
        assert {task.workflow_execution.run_id for task in tasks} == set(runs)


async def test_a_handlers_workflow_task_polled_before_a_kill_still_completes_the_caller(
    backend: BackendProcess,
) -> None:
    async with connected(backend) as raw:
        await called(raw)
        task = await raw.payments.poll_nexus_task("nexus")
        await start_payment(raw, task)
        await raw.payments.answer_nexus_task(task, async_result("token"))
        await raw.orders.wait_for_event("order", EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
        handling = await raw.payments.poll_workflow_task("payments")
    await restart(backend)
    async with connected(backend) as raw:
        await raw.payments.complete_workflow_task(handling, complete_workflow("paid"))
        completed = await raw.orders.wait_for_event("order", EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
        assert result_of(completed) == "paid"
        history = await raw.orders.history("order")
        check_counts(history, NEXUS_OPERATION_STARTED=1, NEXUS_OPERATION_COMPLETED=1)


async def test_operations_that_stand_alone_go_on_after_a_kill_wherever_they_are(backend: BackendProcess) -> None:
    """One has not been called, one is with its handler, one has started, one has ended."""
    names = ["waits", "asked", "started", "ended"]
    async with connected(backend) as raw:
        for name in names:
            await raw.payments.create_endpoint(name, name)
            await Operation(raw.orders, name, name).start(input=payload(name), request_id=name)
        asked = await raw.payments.poll_nexus_task("asked")
        await start_payment(raw, asked, "pay-asked")
        began = await raw.payments.poll_nexus_task("started")
        await start_payment(raw, began, "pay-started")
        await raw.payments.answer_nexus_task(began, async_result("token"))
        await Operation(raw.orders, "started", "started").started()
        await raw.payments.answer_nexus_task(await raw.payments.poll_nexus_task("ended"), sync_result("at once"))
        await Operation(raw.orders, "ended", "ended").outcome()
    await restart(backend)
    async with connected(backend) as raw:
        operations = {name: Operation(raw.orders, name, name) for name in names}
        for name in names:  # the repeat of what was acknowledged
            assert not (await operations[name].start(input=payload(name), request_id=name)).started
        again = await raw.payments.poll_nexus_task("asked")
        assert again.request.start_operation.request_id == asked.request.start_operation.request_id
        await raw.payments.answer_nexus_task(again, async_result("token"))
        for _ in range(2):
            task = await raw.payments.poll_workflow_task("payments")
            await raw.payments.complete_workflow_task(task, complete_workflow(task.workflow_execution.workflow_id))
        await raw.payments.answer_nexus_task(await raw.payments.poll_nexus_task("waits"), sync_result("late"))
        outcomes = {name: await operations[name].outcome() for name in names}
    await restart(backend)
    async with connected(backend) as raw:
        expected = {"waits": "late", "asked": "pay-asked", "started": "pay-started", "ended": "at once"}
        for name in names:
            assert outcomes[name] == await Operation(raw.orders, name, name).outcome() == payload(expected[name])


async def test_a_nexus_task_lost_in_a_kill_comes_again_as_the_same_request(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        await called(raw)
        lost = await raw.payments.poll_nexus_task("nexus")
        run_id = await start_payment(raw, lost)
    await restart(backend)
    async with connected(backend) as raw:
        refused = await refusal(raw.payments.answer_nexus_task(lost, async_result("token")))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        task = await raw.payments.poll_nexus_task("nexus")
        assert task.request.start_operation.request_id == lost.request.start_operation.request_id
        assert await start_payment(raw, task) == run_id
        await raw.payments.answer_nexus_task(task, async_result("token"))
        await raw.orders.wait_for_event("order", EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED)
        await raw.payments.run_workflow_task("payments", complete_workflow("paid"))
        await raw.orders.wait_for_event("order", EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED)
        history = await raw.orders.history("order")
        check_counts(history, NEXUS_OPERATION_STARTED=1, NEXUS_OPERATION_COMPLETED=1)


async def test_a_backend_that_is_stopped_goes_on_like_one_that_was_killed(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        run_id = await raw.orders.start("order", "queue")
    assert backend.stop() == 0
    await backend.start()
    async with connected(backend) as raw:
        await raw.orders.run_workflow_task("queue", complete_workflow("after the stop"))
        assert result_of(await raw.orders.close_event("order", run_id)) == "after the stop"


async def called(raw: Raw) -> None:
    """Starts a workflow `order` that calls an endpoint on queue `nexus`."""
    await raw.payments.create_endpoint("payments", "nexus")
    await raw.orders.start("order", "queue")
    await raw.orders.run_workflow_task("queue", schedule_operation("payments"))


def start_payment(raw: Raw, task: PollNexusTaskQueueResponse, workflow_id: str = "payment") -> Awaitable[str]:
    """Starts the workflow behind an operation as the SDK does: under the operation's request id, with its callback."""
    start = task.request.start_operation
    callback = Callback(nexus=Callback.Nexus(url=start.callback, header=start.callback_header))
    return raw.payments.start(workflow_id, "payments", request_id=start.request_id, completion_callbacks=[callback])


def asked(raw: Raw, workflow_id: str, update_id: str) -> asyncio.Task[UpdateWorkflowExecutionResponse]:
    async def ask() -> UpdateWorkflowExecutionResponse:
        return await raw.orders.service.UpdateWorkflowExecution(
            UpdateWorkflowExecutionRequest(
                namespace=CALLERS,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id),
                request=Request(meta=Meta(update_id=update_id), input=Input(name="add")),
            )
        )

    return asyncio.create_task(ask())


async def play_update(raw: Raw) -> str:
    """A worker accepts and completes the update that comes; answers with its id."""
    task = await raw.orders.poll_workflow_task("updates")
    (message,) = task.messages
    accepted, done = acceptance(message), response(message.protocol_instance_id)
    await raw.orders.complete_workflow_task(task, place_of(accepted), place_of(done), messages=[accepted, done])
    return message.protocol_instance_id


async def test_an_update_is_lost_before_it_is_accepted_and_never_after_it_is_answered(backend: BackendProcess) -> None:
    async with connected(backend) as raw:
        await raw.orders.start("cart", "updates")
        await raw.orders.run_workflow_task("updates")
        first = asked(raw, "cart", "completed")
        assert await play_update(raw) == "completed"
        outcome = (await first).outcome
        second = asked(raw, "cart", "admitted")
        task = await raw.orders.poll_workflow_task("updates")
        assert task.messages
        before = await raw.orders.history("cart")
        await restart(backend)
        assert (await refusal(second)).code == grpc.StatusCode.UNAVAILABLE
    async with connected(backend) as raw:
        assert await raw.orders.history("cart") == before[:-2]  # less the two events of the task that was lost
        assert (await asked(raw, "cart", "completed")).outcome == outcome
        again = asked(raw, "cart", "admitted")
        assert await play_update(raw) == "admitted"
        assert (await again).outcome == outcome
        lost = await refusal(raw.orders.complete_workflow_task(task, messages=[acceptance(task.messages[0])]))
        assert lost.code == grpc.StatusCode.NOT_FOUND
