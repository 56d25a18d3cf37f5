"""Circuit breakers: a destination that is unwell is left alone, and what waits for it says so."""

import asyncio
from collections.abc import Callable

import pytest
from temporalio.api.enums.v1 import (
    NexusOperationCancellationState,
    NexusOperationExecutionStatus,
    PendingNexusOperationState,
)

from tests.backend.conftest import Endpoint
from tests.support.operation import Operation
from tests.support.raw import Namespace
from tests.support.values import async_result, cancel_operation, schedule_operation

BLOCKED = PendingNexusOperationState.PENDING_NEXUS_OPERATION_STATE_BLOCKED
CANCELLATION_BLOCKED = NexusOperationCancellationState.NEXUS_OPERATION_CANCELLATION_STATE_BLOCKED


async def test_after_more_than_five_failures_in_a_row_what_is_to_be_started_is_blocked(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *[schedule_operation(endpoint.name) for _ in range(6)])
    for _ in range(6):
        await payments.refuse_nexus_task(await payments.poll_nexus_task(endpoint.queue), "UNAVAILABLE", "out of order")
    async with asyncio.timeout(20):
        blocked = None
        while blocked is None:
            pending = (await orders.describe(workflow_id)).pending_nexus_operations
            blocked = next((each for each in pending if each.state == BLOCKED), None)
    assert blocked.blocked_reason.startswith("The circuit breaker is open.")
    assert blocked.last_attempt_failure.message == "out of order"
    await orders.terminate(workflow_id)


async def test_cancellations_have_a_breaker_of_their_own(
    orders: Namespace, payments: Namespace, workflow_id: str, queue: str, endpoint: Endpoint
) -> None:
    await orders.start(workflow_id, queue)
    await orders.run_workflow_task(queue, *[schedule_operation(endpoint.name) for _ in range(6)])
    for number in range(6):
        task = await payments.poll_nexus_task(endpoint.queue)
        await payments.answer_nexus_task(task, async_result(f"token-{number}"))
    async with asyncio.timeout(10):
        while any(not each.operation_token for each in (await orders.describe(workflow_id)).pending_nexus_operations):
            pass
    await orders.run_workflow_task(queue, *[cancel_operation(5 + number) for number in range(6)])
    for _ in range(6):
        task = await payments.poll_nexus_task(endpoint.queue)
        assert task.request.HasField("cancel_operation")
        await payments.refuse_nexus_task(task, "UNAVAILABLE", "out of order")
    async with asyncio.timeout(20):
        blocked = None
        while blocked is None:
            pending = (await orders.describe(workflow_id)).pending_nexus_operations
            infos = [each.cancellation_info for each in pending]
            blocked = next((each for each in infos if each.state == CANCELLATION_BLOCKED), None)
    assert blocked.blocked_reason.startswith("The circuit breaker is open.")
    other = f"{workflow_id}-other"
    await orders.start(other, f"{queue}-other")
    await orders.run_workflow_task(f"{queue}-other", schedule_operation(endpoint.name))
    assert (await payments.poll_nexus_task(endpoint.queue)).request.HasField("start_operation")
    await orders.terminate(other)
    await orders.terminate(workflow_id)


@pytest.mark.usefixtures("embedded_only")  # a real server describes it as scheduled
async def test_operations_that_stand_alone_are_blocked_too(
    orders: Namespace, payments: Namespace, unique: Callable[[str], str], endpoint: Endpoint
) -> None:
    called = [Operation(orders, unique(f"operation-{number}"), endpoint.name) for number in range(6)]
    for each in called:
        await each.start()
    for _ in called:
        await payments.refuse_nexus_task(await payments.poll_nexus_task(endpoint.queue), "UNAVAILABLE", "out of order")
    async with asyncio.timeout(20):
        blocked = None
        while blocked is None:
            infos = [await each.info() for each in called]
            blocked = next((each for each in infos if each.state == BLOCKED), None)
    assert blocked.status == NexusOperationExecutionStatus.NEXUS_OPERATION_EXECUTION_STATUS_RUNNING
    assert blocked.blocked_reason.startswith("The circuit breaker is open.")
    assert blocked.last_attempt_failure.message == "out of order"
    for each in called:
        await each.terminate()
