"""SIGKILL while operations of every kind are in flight: each of them ends with exactly one outcome, and the right one.

NEXUSKIT_CRASH_ROUNDS and NEXUSKIT_CRASH_SEED as in `test_crash`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client, NexusOperationFailureError, NexusOperationHandle
from temporalio.common import NexusOperationIDConflictPolicy, NexusOperationIDReusePolicy
from temporalio.exceptions import NexusOperationAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from tests.backend.test_crash import (
    CALLERS,
    ENDPOINT,
    HANDLERS,
    connected,
    restart,
)
from tests.support.backend_process import BackendProcess
from tests.support.crash_samples import (
    KINDS,
    LOST_AFTER,
    Held,
    Order,
    Pay,
    Payments,
    PaymentsHandler,
    PlaceMany,
    charge,
)
from tests.support.values import event_names

CALLING = 8
"""Workflows that call."""
TIMES = 5
"""How often each calls each operation: 200 operations are in flight together."""
KILLS = 3

ENDS = {
    "NEXUS_OPERATION_COMPLETED": "completed",
    "NEXUS_OPERATION_FAILED": "failed",
    "NEXUS_OPERATION_CANCELED": "canceled",
    "NEXUS_OPERATION_TIMED_OUT": "timed_out",
}
RIGHT = {
    "quote": "NEXUS_OPERATION_COMPLETED",
    "decline": "NEXUS_OPERATION_FAILED",
    "stumble": "NEXUS_OPERATION_COMPLETED",
    "pay": "NEXUS_OPERATION_COMPLETED",
    "hold": "NEXUS_OPERATION_CANCELED",
}


BY_HTTP = "payments-by-http"
"""An endpoint that routes to the URL of the other, at this very backend: calls go out by HTTP, and come back in."""


@pytest.fixture
async def backend(dice: random.Random, tmp_path: Path) -> AsyncIterator[BackendProcess]:
    """A backend of this test and round alone, whose requests may go to this machine."""
    config = tmp_path / "nexus.toml"
    config.write_text('[outbound]\nallow = ["http://127.0.0.1:*"]\n', encoding="utf-8")
    async with BackendProcess(tmp_path / "nexus.db", [CALLERS, HANDLERS], config) as process:
        yield process


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("endpoint", [ENDPOINT, BY_HTTP], ids=["by task queue", "by HTTP"])
async def test_each_of_200_operations_has_one_outcome_however_often_the_backend_dies(
    backend: BackendProcess,
    dice: random.Random,
    endpoint: str,
) -> None:
    async with connected(backend) as raw:
        made = await raw.payments.create_endpoint(ENDPOINT, HANDLERS)
        await raw.orders.create_external_endpoint(BY_HTTP, backend.http_url + made.url_prefix)
    orders = await Client.connect(backend.address, namespace=CALLERS)
    payments = await Client.connect(backend.address, namespace=HANDLERS)
    callers = Worker(orders, task_queue=CALLERS, workflows=[PlaceMany])
    handlers = Worker(
        payments,
        task_queue=HANDLERS,
        workflows=[Pay, Held],
        activities=[charge],
        nexus_service_handlers=[PaymentsHandler()],
    )
    names = [f"{dice.getrandbits(32):08x}-{number}" for number in range(CALLING)]
    async with callers, handlers:
        handles = [
            await orders.start_workflow(
                PlaceMany.run, args=[endpoint, name, TIMES], id=name, task_queue=CALLERS, task_timeout=LOST_AFTER
            )
            for name in names
        ]
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.05, 1))
            await restart(backend)
        async with asyncio.timeout(120):
            answers = await asyncio.gather(*(handle.result() for handle in handles))
    for name, outcomes in zip(names, answers, strict=True):
        assert outcomes == {each: told(each) for each in outcomes}
        assert len(outcomes) == TIMES * len(KINDS)
        await check_once(backend, name)
    for query in ("WorkflowType = 'Pay'", "WorkflowType = 'Held'"):
        status = "Completed" if "Pay" in query else "Canceled"
        for condition in (query, f"{query} AND ExecutionStatus = '{status}'"):
            assert (await payments.count_workflows(condition)).count == CALLING * TIMES


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_each_operation_that_stands_alone_has_one_outcome_however_often_the_backend_dies(
    backend: BackendProcess,
    dice: random.Random,
) -> None:
    async with connected(backend) as raw:
        await raw.payments.create_endpoint(ENDPOINT, HANDLERS)
    orders = await Client.connect(backend.address, namespace=CALLERS)
    payments = await Client.connect(backend.address, namespace=HANDLERS)
    handlers = Worker(
        payments,
        task_queue=HANDLERS,
        workflows=[Pay, Held],
        activities=[charge],
        nexus_service_handlers=[PaymentsHandler()],
    )
    name = f"{dice.getrandbits(32):08x}"
    names = [f"{kind}-{name}-{number}" for number in range(CALLING) for kind in KINDS]
    async with handlers:
        calling = [asyncio.create_task(call(orders, each)) for each in names]
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.05, 1))
            await restart(backend)
        async with asyncio.timeout(120):
            outcomes = await asyncio.gather(*calling)
    assert dict(zip(names, outcomes, strict=True)) == {each: told(each) for each in names}
    listed = [each async for each in orders.list_nexus_operations(f"Endpoint = '{ENDPOINT}'")]
    assert Counter(each.operation_id for each in listed) == Counter(names)
    for query, status in (("WorkflowType = 'Pay'", "Completed"), ("WorkflowType = 'Held'", "Canceled")):
        for condition in (query, f"{query} AND ExecutionStatus = '{status}'"):
            assert (await payments.count_workflows(condition)).count == CALLING


async def call(orders: Client, name: str) -> str:
    """Calls an operation, and asks again whenever the backend is not there. Answers with what the caller is told."""
    client = orders.create_nexus_client(Payments, ENDPOINT)
    kind = name.partition("-")[0]
    handle: NexusOperationHandle[str] | None = None
    called_off = kind != "hold"
    while True:
        try:
            if handle is None:  # a repeat gets the one that is there, also if that has ended
                handle = await client.start_operation(
                    kind,
                    Order(name, 0.3),
                    id=name,
                    result_type=str,
                    id_conflict_policy=NexusOperationIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=NexusOperationIDReusePolicy.REJECT_DUPLICATE,
                )
            if not called_off:
                await handle.cancel()
                called_off = True
            return await handle.result()
        except NexusOperationFailureError as error:
            return type(error.cause).__name__
        except NexusOperationAlreadyStartedError:
            handle = orders.get_nexus_operation_handle(name, result_type=str)
        except RPCError as error:
            # A cancel request whose answer was lost has been taken: each has an id of its own.
            called_off = called_off or error.status == RPCStatusCode.FAILED_PRECONDITION


def told(name: str) -> str:
    """What the caller's code is told of an operation."""
    kind = name.partition("-")[0]
    texts = {"quote": "quote of", "stumble": "second try of", "pay": "receipt of"}
    errors = {"decline": "ApplicationError", "hold": "CancelledError"}
    return errors.get(kind) or f"{texts[kind]} {name}"


async def check_once(process: BackendProcess, caller: str) -> None:
    """Each operation ends once in its caller's history, as it should."""
    async with connected(process) as raw:
        history = await raw.orders.history(caller)
        assert [event.event_id for event in history] == list(range(1, len(history) + 1))
        scheduled: dict[int, str] = {}
        ended: Counter[int] = Counter()
        for event, name in zip(history, event_names(history), strict=True):
            if name == "NEXUS_OPERATION_SCHEDULED":
                scheduled[event.event_id] = event.nexus_operation_scheduled_event_attributes.operation
            elif name in ENDS:
                attributes = getattr(event, f"nexus_operation_{ENDS[name]}_event_attributes")
                ended[attributes.scheduled_event_id] += 1
                assert name == RIGHT[scheduled[attributes.scheduled_event_id]]
        assert ended == Counter(scheduled.keys())
        assert Counter(scheduled.values()) == dict.fromkeys(KINDS, TIMES)
