"""Who waits for an answer of a workflow's code, on an engine with a real file: memory, evictions, commits that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.query.v1 import WorkflowQuery

from nexuskit.backend import conversations, limits
from nexuskit.backend.conversations import Question
from nexuskit.backend.engine import Resident
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import update, workflow, workflow_task
from nexuskit.backend.times import SECOND
from tests.support import disk
from tests.support.clock import settle
from tests.support.engine import QUEUE, Orders, orders
from tests.support.world import start_timer, update_request


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Orders]:
    async with orders(tmp_path / "nexus.db") as made:
        yield made


@pytest.fixture
async def order(backend: Orders) -> Resident:
    """A workflow that has had its first turn, and waits."""
    return await backend.engine.get(await backend.started("order", start_timer("t", 60)))


def admit(backend: Orders, resident: Resident, update_id: str = "one") -> None:
    backend.engine.run(resident, lambda tx: update.admit(tx, update_request(update_id)))


async def test_an_update_alone_writes_nothing_and_its_task_waits_all_the_same(backend: Orders, order: Resident) -> None:
    transitions = order.execution.info.transitions
    admit(backend, order)
    assert order.settled
    assert order.execution.info.transitions == transitions
    assert backend.engine.tasks.backlog(QUEUE) == 1
    stored = await backend.engine.store.reader.execution(order.execution.id)
    assert stored is not None
    assert not update.waits(stored)
    assert workflow_task.current(stored) is None


async def test_after_a_restart_there_is_a_clean_start(tmp_path: Path) -> None:
    async with orders(tmp_path / "nexus.db") as before:
        number = await before.started("order", start_timer("t", 60))
        admit(before, await before.engine.get(number))
    async with orders(tmp_path / "nexus.db") as after:
        resident = await after.engine.get(number)
        assert update.status(resident.execution, "one") is None
        admit(after, resident)
        assert after.engine.tasks.backlog(QUEUE) == 1


async def test_an_execution_that_somebody_talks_with_stays_in_memory(
    backend: Orders, order: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    with conversations.of(order).listening("one"):
        admit(backend, order)
    assert order.watched  # its task is nowhere else
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    for number in range(5):
        await backend.started(f"another {number}")
    assert order.execution.id in backend.engine._residents
    await backend.idle()
    backend.take(order)
    backend.complete(order)
    assert not order.watched


async def test_who_waits_for_an_update_is_woken_when_it_moves_and_not_before(backend: Orders, order: Resident) -> None:
    with conversations.of(order).listening("one") as listener:
        waiting = asyncio.ensure_future(listener.moved(backend.clock, backend.clock.now() + 60 * SECOND))
        await settle()
        backend.engine.run(order, lambda tx: workflow_task.schedule(tx))
        await settle()
        assert not waiting.done()
        admit(backend, order)
        await asyncio.wait_for(waiting, 5)


async def test_who_waits_for_an_update_longer_than_he_will_is_let_go(backend: Orders, order: Resident) -> None:
    with conversations.of(order).listening("one") as listener:
        waiting = asyncio.ensure_future(listener.moved(backend.clock, backend.clock.now() + SECOND))
        await settle()
        backend.clock.pass_time(SECOND)
        await asyncio.wait_for(waiting, 5)
        assert listener.verdict is None


async def test_when_a_commit_fails_all_who_wait_are_told(backend: Orders, order: Resident) -> None:
    conversation = conversations.of(order)
    question = Question(order.execution.id, "q", WorkflowQuery(query_type="items"))
    conversation.waiting["q"] = question
    with conversation.listening("one") as listener, disk.broken(backend.database):
        admit(backend, order)
        backend.engine.run(order, lambda tx: workflow_task.schedule(tx))
        backend.engine.run(order, lambda tx: tx.note(workflow_task.Sticky("mine", SECOND)))
        with pytest.raises(StatusError):
            await backend.engine.durable(order)
        assert listener.ended
        with pytest.raises(StatusError) as refused:
            await question.wait(backend.clock, 0)
        assert refused.value.code == Code.UNAVAILABLE


async def test_queries_take_another_road_when_there_is_no_task_any_more(backend: Orders, order: Resident) -> None:
    backend.engine.run(order, lambda tx: workflow_task.schedule(tx))
    question = Question(order.execution.id, "q", WorkflowQuery(query_type="items"))
    conversations.of(order).waiting["q"] = question
    backend.take(order)
    assert list(conversations.queries_for_task(order)) == ["q"]
    assert not question.ended
    backend.engine.run(order, lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert question.ended
    assert question.answer is None
