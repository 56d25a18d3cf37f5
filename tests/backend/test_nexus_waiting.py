"""Calls that wait: for a worker, for a handler that is slow, for a destination that is unwell, for their turn.

Each test has a backend of its own, whose limits are such that nobody waits long.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import grpc.aio
import pytest
from temporalio.api.enums.v1 import NexusOperationCancellationState, PendingNexusOperationState
from temporalio.api.operatorservice.v1 import UpdateNexusEndpointRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingNexusOperationInfo
from temporalio.api.workflowservice.v1 import PollNexusTaskQueueRequest, PollNexusTaskQueueResponse

from nexuskit.backend.clock import Alarm, Clock, RealClock
from nexuskit.backend.server import running
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import HOUR, MILLISECOND
from nexuskit.identity.uris import instance_uri
from tests.support.operation import Operation
from tests.support.raw import IDENTITY, Namespace, endpoint_spec
from tests.support.values import (
    async_result,
    cancel_operation,
    event_names,
    payload,
    schedule_operation,
    sync_result,
)

ENDPOINT = "payments"
QUEUE = "payments-work"
ORDERS = "orders-work"
State = PendingNexusOperationState


class Teams(NamedTuple):
    """The two namespaces of a backend."""

    orders: Namespace
    payments: Namespace

    async def call(self, workflow_id: str, operations: int = 1) -> None:
        """Starts a workflow that calls the endpoint so many times."""
        await self.orders.start(workflow_id, ORDERS)
        await self.orders.run_workflow_task(ORDERS, *[schedule_operation(ENDPOINT) for _ in range(operations)])

    async def pending(self, workflow_id: str) -> list[PendingNexusOperationInfo]:
        """What describe tells of its operations."""
        return list((await self.orders.describe(workflow_id)).pending_nexus_operations)

    async def shows(self, workflow_id: str, words: str) -> PendingNexusOperationInfo:
        """Waits until the last failure of the workflow's operation says this; nobody announces it."""
        async with asyncio.timeout(10):
            while True:
                (pending,) = await self.pending(workflow_id)
                if words in pending.last_attempt_failure.message:
                    return pending

    async def poll(self) -> PollNexusTaskQueueResponse:
        """The next task of the handlers' queue."""
        return await self.payments.poll_nexus_task(QUEUE)

    async def poll_in_vain(self) -> None:
        """A poll that waits a moment and gets nothing: from then on somebody has polled."""
        request = PollNexusTaskQueueRequest(namespace="payments", task_queue=TaskQueue(name=QUEUE), identity=IDENTITY)
        assert not (await self.payments.service.PollNexusTaskQueue(request, timeout=0.6)).task_token


class EarlyClock(RealClock):
    """Rings a little before its time, as timers may: they do not count in nanoseconds."""

    def at(self, moment: int, call: Callable[[], None]) -> Alarm:
        """As `Clock.at`, but for that."""
        return super().at(moment - 5 * MILLISECOND, call)


@asynccontextmanager
async def backend(db: Path | str = ":memory:", clock: Clock | None = None, **limits: object) -> AsyncIterator[Teams]:
    """A backend with these limits, an endpoint and its callers."""
    namespaces, changed = ["orders", "payments"], Limits(limits)
    async with (
        running(db, namespaces=namespaces, host="127.0.0.1", port=0, http_port=0, limits=changed, clock=clock) as made,
        grpc.aio.insecure_channel(made.address) as channel,
    ):
        yield Teams(Namespace("orders", channel), Namespace("payments", channel))


async def test_a_call_that_nobody_is_there_for_says_so_and_is_made_when_the_first_worker_polls() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order")
        pending = await teams.shows("order", "no worker polls")
        assert repr(QUEUE) in pending.last_attempt_failure.message
        assert "'payments'" in pending.last_attempt_failure.message
        assert pending.state == State.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF
        assert pending.HasField("next_attempt_schedule_time")
        assert pending.attempt == 0
        task = await teams.poll()
        (pending,) = await teams.pending("order")
        assert pending.state == State.PENDING_NEXUS_OPERATION_STATE_SCHEDULED
        await teams.payments.answer_nexus_task(task, sync_result(1))
        woken = await teams.orders.poll_workflow_task(ORDERS)
        assert "NEXUS_OPERATION_COMPLETED" in event_names(woken.history.events)


async def test_a_call_waits_for_its_worker_through_a_restart(tmp_path: Path) -> None:
    async with backend(tmp_path / "a.db", NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order")
        await teams.shows("order", "no worker polls")
    async with backend(tmp_path / "a.db", NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.shows("order", "no worker polls")
        task = await teams.poll()
        await teams.payments.answer_nexus_task(task, sync_result(1))
        woken = await teams.orders.poll_workflow_task(ORDERS)
        assert "NEXUS_OPERATION_COMPLETED" in event_names(woken.history.events)


async def test_an_operation_that_stands_alone_waits_for_its_worker_through_a_restart(tmp_path: Path) -> None:
    async with backend(tmp_path / "a.db", NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        alone = Operation(teams.orders, "operation", ENDPOINT)
        await alone.start()
        async with asyncio.timeout(10):
            while "no worker polls" not in (info := await alone.info()).last_attempt_failure.message:
                pass
        assert (info.state, info.attempt) == (State.PENDING_NEXUS_OPERATION_STATE_BACKING_OFF, 0)
    async with backend(tmp_path / "a.db", NEXUS_RETRY_INTERVAL=HOUR) as teams:
        alone = Operation(teams.orders, "operation", ENDPOINT)
        await teams.payments.answer_nexus_task(await teams.poll(), sync_result("paid"))
        assert await alone.outcome() == payload("paid")


async def test_a_call_that_waits_for_a_worker_goes_where_its_endpoint_is_turned_to() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=HOUR) as teams:
        made = await teams.payments.create_endpoint(ENDPOINT, "nobody-is-here")
        await teams.call("order")
        await teams.shows("order", "no worker polls task queue 'nobody-is-here'")
        await teams.poll_in_vain()
        spec = endpoint_spec(ENDPOINT, "payments", QUEUE)
        await teams.payments.operator.UpdateNexusEndpoint(
            UpdateNexusEndpointRequest(id=made.id, version=made.version, spec=spec)
        )
        task = await teams.poll()
        assert task.request.endpoint == ENDPOINT


async def test_a_cancellation_waits_for_a_worker_too() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=HOUR, NEXUS_POLLED_WITHIN=1) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order")
        await teams.payments.answer_nexus_task(await teams.poll(), async_result("a-token"))
        await teams.orders.run_workflow_task(ORDERS, cancel_operation(5))
        backing_off = NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_BACKING_OFF
        async with asyncio.timeout(10):
            while True:
                (pending,) = await teams.pending("order")
                if pending.cancellation_info.state == backing_off:
                    break
        assert "no worker polls" in pending.cancellation_info.last_attempt_failure.message
        task = await teams.poll()
        assert task.request.cancel_operation.operation_token == "a-token"


async def test_having_no_worker_opens_no_breaker() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=MILLISECOND, NEXUS_RETRY_INTERVAL_MAX=MILLISECOND) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order", operations=20)
        seen: set[str] = set()
        async with asyncio.timeout(10):
            while len(seen) < 200:
                for pending in await teams.pending("order"):
                    seen.add(f"{pending.scheduled_event_id} {pending.last_attempt_complete_time.ToNanoseconds()}")
                    assert pending.state != State.PENDING_NEXUS_OPERATION_STATE_BLOCKED
        await teams.payments.answer_nexus_task(await teams.poll(), sync_result(1))


@pytest.mark.parametrize("clock", [RealClock, EarlyClock])
async def test_a_handler_that_is_too_slow_again_is_told_what_to_do(clock: Callable[[], Clock]) -> None:
    slow = {"NEXUS_REQUEST_TIMEOUT": 300 * MILLISECOND, "NEXUS_RETRY_INTERVAL": MILLISECOND}
    async with backend(clock=clock(), **slow) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order")
        first = await teams.poll()
        pending = await teams.shows("order", "upstream timeout")
        assert pending.last_attempt_failure.message == "upstream timeout"
        second = await teams.poll()
        pending = await teams.shows("order", "did not answer within the request timeout of 0.3 s")
        assert "an operation that a workflow is behind" in pending.last_attempt_failure.message
        assert pending.last_attempt_failure.nexus_handler_failure_info.type == "UPSTREAM_TIMEOUT"
        assert pending.attempt == 2
        assert first.request.start_operation.request_id == second.request.start_operation.request_id


async def refuse(teams: Teams, times: int) -> None:
    """A handler that is unwell, so many times."""
    for _ in range(times):
        await teams.payments.refuse_nexus_task(await teams.poll(), "UNAVAILABLE", "out of order")


async def blocked(teams: Teams, workflow_id: str) -> PendingNexusOperationInfo:
    """Waits until an operation of the workflow is blocked."""
    async with asyncio.timeout(10):
        while True:
            for pending in await teams.pending(workflow_id):
                if pending.state == State.PENDING_NEXUS_OPERATION_STATE_BLOCKED:
                    return pending


async def test_a_breaker_is_the_endpoints_however_a_call_names_it() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=MILLISECOND) as teams:
        made = await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("by-name", operations=6)
        await refuse(teams, 6)
        await blocked(teams, "by-name")
        await teams.orders.start("by-uri", "by-uri")
        await teams.orders.run_workflow_task("by-uri", schedule_operation(instance_uri(made.id)))
        pending = await blocked(teams, "by-uri")
        assert repr(instance_uri(made.id)) in pending.blocked_reason


async def test_a_blocked_operation_says_why_and_whose_failures_it_were() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=MILLISECOND) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order-a", operations=3)
        await teams.call("order-b", operations=3)
        await refuse(teams, 6)
        pending = await blocked(teams, "order-b")
        assert pending.blocked_reason.startswith("The circuit breaker is open.")
        for words in ("'order-a'", "'order-b'", f"'{ENDPOINT}'", "UNAVAILABLE: out of order"):
            assert words in pending.blocked_reason
        assert pending.last_attempt_failure.message == "out of order"


async def test_after_the_pause_a_destination_that_is_well_again_gets_all_its_calls() -> None:
    quick = {"NEXUS_RETRY_INTERVAL": MILLISECOND, "BREAKER_PAUSE": 300 * MILLISECOND}
    async with backend(**quick) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order", operations=6)
        await refuse(teams, 6)
        await blocked(teams, "order")
        for _ in range(6):
            await teams.payments.answer_nexus_task(await teams.poll(), sync_result(1))
        async with asyncio.timeout(10):
            while await teams.pending("order"):
                pass


async def test_an_open_breaker_for_starts_holds_up_no_cancellation() -> None:
    async with backend(NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order")
        await teams.payments.answer_nexus_task(await teams.poll(), async_result("a-token"))
        await teams.orders.run_workflow_task(ORDERS)
        await teams.call("others", operations=6)
        await refuse(teams, 6)
        await teams.call("later")
        await blocked(teams, "later")
        await teams.orders.signal("order", "wake")
        await teams.orders.run_workflow_task(ORDERS, cancel_operation(5))
        assert (await teams.poll()).request.HasField("cancel_operation")


@pytest.mark.parametrize("limit", [1, 3])
async def test_so_many_calls_are_under_way_to_one_endpoint_and_the_others_wait_also_after_a_restart(
    tmp_path: Path, limit: int
) -> None:
    async with backend(tmp_path / "a.db", NEXUS_RETRY_INTERVAL=HOUR) as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order", operations=7)
    async with backend(tmp_path / "a.db", NEXUS_CALLS_IN_FLIGHT=limit, NEXUS_LOADS_IN_FLIGHT=1) as teams:
        under_way = [await teams.poll() for _ in range(limit)]
        await teams.poll_in_vain()
        done = 0
        while under_way:
            await teams.payments.answer_nexus_task(under_way.pop(), sync_result(1))
            done += 1
            if done + len(under_way) < 7:
                under_way.append(await teams.poll())
        assert done == 7
        async with asyncio.timeout(10):
            while await teams.pending("order"):
                pass


async def test_what_waits_in_the_queue_when_its_caller_closes_is_never_given_to_a_worker() -> None:
    async with backend() as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.poll_in_vain()
        await teams.call("order")
        await teams.orders.terminate("order")
        await teams.orders.start("other", ORDERS)
        await teams.orders.run_workflow_task(ORDERS, schedule_operation(ENDPOINT, operation="another"))
        task = await teams.poll()
        assert task.request.start_operation.operation == "another"
        await teams.poll_in_vain()


@pytest.mark.slow
async def test_two_thousand_operations_of_one_workflow_are_in_flight_and_all_end() -> None:
    async with backend() as teams:
        await teams.payments.create_endpoint(ENDPOINT, QUEUE)
        await teams.call("order", operations=2_000)
        left = 2_000

        async def handler() -> None:
            nonlocal left
            while left > 0:
                left = number = left - 1
                await teams.payments.answer_nexus_task(await teams.poll(), async_result(f"token-{number}"))

        await asyncio.gather(*[handler() for _ in range(20)])
        async with asyncio.timeout(20):
            while any(not each.operation_token for each in await teams.pending("order")):
                pass
        assert len({each.operation_token for each in await teams.pending("order")}) == 2_000
