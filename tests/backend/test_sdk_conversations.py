"""Queries and updates as programs use them: temporalio's own client and worker, unmodified."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import QueryRejectCondition, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from tests.backend.conftest import CALLERS, fresh_name
from tests.support.servers import Server
from tests.support.talks import Cart

ACCEPTED = WorkflowUpdateStage.ACCEPTED


@dataclass(frozen=True)
class Shop:
    """A client, and a worker that runs carts."""

    client: Client
    queue: str

    async def open(self, workflow_id: str) -> WorkflowHandle[Cart, list[str]]:
        return await self.client.start_workflow(Cart.run, id=workflow_id, task_queue=self.queue)


@pytest.fixture(scope="session")
async def shop(server: Server) -> AsyncIterator[Shop]:
    client = await Client.connect(server.address, namespace=CALLERS)
    queue = fresh_name("carts")
    async with Worker(client, task_queue=queue, workflows=[Cart]):
        yield Shop(client, queue)


async def test_a_query_sees_what_was_acknowledged_before_it(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    for number in range(1, 6):
        await cart.execute_update(Cart.add, f"item {number}")
        assert len(await cart.query(Cart.items)) == number


async def test_many_queries_and_updates_at_once(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    added = await asyncio.gather(*(cart.execute_update(Cart.add, f"item {number}") for number in range(8)))
    assert sorted(added) == list(range(1, 9))
    seen = await asyncio.gather(*(cart.query(Cart.items) for _ in range(8)))
    assert all(len(each) == 8 for each in seen)


async def test_a_query_that_fails_says_why(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    with pytest.raises(WorkflowQueryFailedError, match="this question has no answer"):
        await cart.query(Cart.broken)
    with pytest.raises(WorkflowQueryFailedError, match="nothing"):
        await cart.query("nothing")


async def test_a_closed_workflow_is_asked_by_replaying_it(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    await cart.execute_update(Cart.add, "a book")
    assert await cart.execute_update(Cart.check_out) == "bye"
    assert await cart.result() == ["a book"]
    assert await cart.query(Cart.items) == ["a book"]
    with pytest.raises(WorkflowQueryRejectedError) as rejected:
        await cart.query(Cart.items, reject_condition=QueryRejectCondition.NOT_OPEN)
    assert rejected.value.status == WorkflowExecutionStatus.COMPLETED


async def test_a_rejected_update_leaves_no_trace_and_its_id_may_come_again(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    await cart.query(Cart.items)
    before = len((await cart.fetch_history()).events)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await cart.execute_update(Cart.add, "", id="an-id")
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == "NoName"
    assert len((await cart.fetch_history()).events) == before
    assert await cart.execute_update(Cart.add, "a book", id="an-id") == 1


async def test_an_update_that_fails_is_a_failed_update(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await cart.execute_update(Cart.fail)
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "OutOfStock"


async def test_the_same_update_id_is_carried_out_once_also_after_the_workflow_closed(
    shop: Shop, workflow_id: str
) -> None:
    cart = await shop.open(workflow_id)
    assert await cart.execute_update(Cart.add, "a book", id="once") == 1
    assert await cart.execute_update(Cart.add, "a book", id="once") == 1
    await cart.execute_update(Cart.check_out)
    assert await cart.result() == ["a book"]
    assert await cart.execute_update(Cart.add, "a book", id="once") == 1
    assert await cart.get_update_handle("once").result() == 1


async def test_an_accepted_update_is_waited_for_by_its_handle(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    handle = await cart.start_update(Cart.add_slowly, args=["a book", 0.05], wait_for_stage=ACCEPTED)
    assert await handle.result() == 1
    elsewhere = shop.client.get_workflow_handle(workflow_id).get_update_handle(handle.id)
    assert await elsewhere.result() == 1


async def test_a_workflow_that_closes_under_an_accepted_update_fails_it(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    handle = await cart.start_update(Cart.wait_for_ever, wait_for_stage=ACCEPTED)
    await cart.execute_update(Cart.check_out)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "AcceptedUpdateCompletedWorkflow"


async def test_an_update_of_a_closed_workflow_is_not_found(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    await cart.execute_update(Cart.check_out)
    await cart.result()
    with pytest.raises(RPCError) as refused:
        await cart.execute_update(Cart.add, "too late")
    assert refused.value.status == RPCStatusCode.NOT_FOUND


async def test_who_waits_too_long_for_an_update_is_told_so(shop: Shop, workflow_id: str) -> None:
    cart = await shop.open(workflow_id)
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
        await cart.execute_update(Cart.wait_for_ever, rpc_timeout=timedelta(seconds=0.5))


async def test_an_update_waits_for_a_worker(shop: Shop, workflow_id: str, unique: Callable[[str], str]) -> None:
    queue = unique("late")
    cart = await shop.client.start_workflow(Cart.run, id=workflow_id, task_queue=queue)
    waiting = asyncio.create_task(cart.execute_update(Cart.add, "a book"))
    async with Worker(shop.client, task_queue=queue, workflows=[Cart]):
        assert await waiting == 1


async def test_without_its_cache_a_worker_answers_as_well(
    shop: Shop, workflow_id: str, unique: Callable[[str], str]
) -> None:
    queue = unique("forgetful")
    async with Worker(shop.client, task_queue=queue, workflows=[Cart], max_cached_workflows=0):
        cart = await shop.client.start_workflow(Cart.run, id=workflow_id, task_queue=queue)
        assert await cart.execute_update(Cart.add, "a book") == 1
        with pytest.raises(WorkflowUpdateFailedError):
            await cart.execute_update(Cart.add, "")
        assert await cart.query(Cart.items) == ["a book"]
        assert await cart.execute_update(Cart.add, "a pen") == 2


async def test_another_worker_answers_when_the_one_with_the_workflow_in_its_cache_is_gone(
    shop: Shop, workflow_id: str, unique: Callable[[str], str]
) -> None:
    queue = unique("shifts")
    cart = await shop.client.start_workflow(Cart.run, id=workflow_id, task_queue=queue)
    async with Worker(shop.client, task_queue=queue, workflows=[Cart]):
        assert await cart.execute_update(Cart.add, "a book") == 1
    async with Worker(shop.client, task_queue=queue, workflows=[Cart]):
        assert await cart.query(Cart.items) == ["a book"]
        assert await cart.execute_update(Cart.add, "a pen") == 2
    async with Worker(shop.client, task_queue=queue, workflows=[Cart]):
        assert await cart.execute_update(Cart.add, "a cup") == 3
        assert await cart.query(Cart.items) == ["a book", "a pen", "a cup"]


def starting(
    shop: Shop, workflow_id: str, policy: WorkflowIDConflictPolicy
) -> WithStartWorkflowOperation[Cart, list[str]]:
    return WithStartWorkflowOperation(Cart.run, id=workflow_id, task_queue=shop.queue, id_conflict_policy=policy)


async def test_an_update_starts_its_workflow(shop: Shop, workflow_id: str) -> None:
    first = starting(shop, workflow_id, WorkflowIDConflictPolicy.USE_EXISTING)
    assert await shop.client.execute_update_with_start_workflow(Cart.add, "a book", start_workflow_operation=first) == 1
    again = starting(shop, workflow_id, WorkflowIDConflictPolicy.USE_EXISTING)
    assert await shop.client.execute_update_with_start_workflow(Cart.add, "a pen", start_workflow_operation=again) == 2
    assert (await first.workflow_handle()).first_execution_run_id == (
        await again.workflow_handle()
    ).first_execution_run_id


async def test_an_update_with_start_meets_a_running_workflow_that_it_may_not_use(shop: Shop, workflow_id: str) -> None:
    await shop.open(workflow_id)
    start = starting(shop, workflow_id, WorkflowIDConflictPolicy.FAIL)
    with pytest.raises(WorkflowAlreadyStartedError):
        await shop.client.execute_update_with_start_workflow(Cart.add, "a book", start_workflow_operation=start)


async def test_a_rejected_update_has_started_its_workflow_all_the_same(shop: Shop, workflow_id: str) -> None:
    start = starting(shop, workflow_id, WorkflowIDConflictPolicy.FAIL)
    with pytest.raises(WorkflowUpdateFailedError):
        await shop.client.execute_update_with_start_workflow(Cart.add, "", start_workflow_operation=start)
    assert await (await start.workflow_handle()).query(Cart.items) == []
