"""Nothing blocks the event loop, and the guard that says so would notice."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

import nexuskit.backend.server  # noqa: F401, else it is imported while the loop is watched
from nexuskit import backend
from tests.support.loop_guard import LoopGuard
from tests.support.raw import Namespace
from tests.support.values import (
    complete_workflow,
    event_names,
    result_of,
    schedule_activity,
    schedule_operation,
    start_child,
    start_timer,
    sync_result,
)
from tests.support.world import record_marker

WORKFLOWS = 12
CHILDREN = 800
"""Of one parent, all at once; it might have more than twice as many."""
LONG = 30_000
"""Events of a history that is not far from the limit."""
LARGE = "x" * 1_500_000
"""Close to the largest payload there may be."""


async def one(orders: Namespace, payments: Namespace, number: int) -> None:
    """A workflow with an activity, a call and a timer, played by hand on both sides."""
    name, value = f"order-{number}", LARGE if number == 0 else "small"
    await orders.start(name, name)
    closing = asyncio.ensure_future(orders.close_event(name))
    await orders.run_workflow_task(name, schedule_activity("a", name), start_timer("t", 0.01))
    await orders.complete_activity(await orders.poll_activity_task(name), value)
    await orders.run_workflow_task(name, schedule_operation("payments", value=value))
    task = await payments.poll_nexus_task("nexus")
    await payments.answer_nexus_task(task, sync_result(value))
    turn = await orders.poll_workflow_task(name)
    while not {"NEXUS_OPERATION_COMPLETED", "TIMER_FIRED"} <= set(event_names(await orders.history(name))):
        await orders.complete_workflow_task(turn)
        turn = await orders.poll_workflow_task(name)
    await orders.complete_workflow_task(turn, complete_workflow(value))
    assert result_of(await closing) == value


@pytest.mark.usefixtures("loop_guard")
async def test_nothing_blocks_the_loop_while_workflows_run(tmp_path: Path) -> None:
    async with (
        backend.serve(tmp_path / "nexus.db", namespaces=["orders", "payments"]) as running,
        grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        orders, payments = Namespace("orders", channel), Namespace("payments", channel)
        await payments.create_endpoint("payments", "nexus")
        await asyncio.gather(*(one(orders, payments, number) for number in range(WORKFLOWS)))


@pytest.mark.usefixtures("loop_guard")
async def test_hundreds_of_children_that_start_and_end_at_once_block_the_loop_for_nobody(tmp_path: Path) -> None:
    async with (
        backend.serve(tmp_path / "nexus.db", namespaces=["orders"]) as running,
        grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        orders = Namespace("orders", channel)
        await orders.start("parent", "parent")
        commands = [start_child(f"child-{number}", queue="children") for number in range(CHILDREN)]
        await orders.run_workflow_task("parent", *commands)
        turns = [await orders.poll_workflow_task("children") for _ in range(CHILDREN)]
        assert len({turn.workflow_execution.workflow_id for turn in turns}) == CHILDREN
        await orders.terminate("parent")
        ended = [await orders.close_event(f"child-{number}") for number in range(CHILDREN)]
        assert set(event_names(ended)) == {"WORKFLOW_EXECUTION_TERMINATED"}


@pytest.mark.usefixtures("loop_guard")
async def test_a_long_history_that_is_read_and_reset_blocks_the_loop_for_nobody(tmp_path: Path) -> None:
    async with (
        backend.serve(tmp_path / "nexus.db", namespaces=["orders"]) as running,
        grpc.aio.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        orders = Namespace("orders", channel)
        await orders.start("long", "queue")
        while not (task := await orders.poll_workflow_task("queue")).started_event_id > LONG:
            await orders.complete_workflow_task(task, *[record_marker() for _ in range(2000)], start_timer("t", 0.01))
        await orders.complete_workflow_task(task, start_timer("t", 600))
        reset = ResetWorkflowExecutionRequest(
            namespace="orders",
            workflow_execution=WorkflowExecution(workflow_id="long"),
            workflow_task_finish_event_id=task.started_event_id + 1,
            request_id="reset",
        )
        run_id = (await orders.service.ResetWorkflowExecution(reset)).run_id
        again = await orders.history("long", run_id)
        assert [event.event_id for event in again] == list(range(1, len(again) + 1))
        assert len(again) > LONG


# --- the guard itself


def sleep_in_a_callback(guard: LoopGuard) -> None:
    """Until it is found: how often a busy machine lets the guard look is nobody's fault here."""
    given_up = time.monotonic() + 20
    while not guard.faults and time.monotonic() < given_up:
        time.sleep(0.02)


def compute_in_a_callback(_: LoopGuard) -> None:
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        sum(range(100_000))


def hold_the_interpreter(_: LoopGuard) -> None:
    sum(range(8_000_000))  # one call, during which no other thread runs


@pytest.mark.parametrize(
    ("callback", "limit_s"), [(sleep_in_a_callback, 0.08), (compute_in_a_callback, 0.05), (hold_the_interpreter, 0.03)]
)
async def test_a_callback_that_blocks_is_found_and_named(callback: Callable[[LoopGuard], None], limit_s: float) -> None:
    async def guarded() -> None:
        async with LoopGuard(limit_s) as guard:
            asyncio.get_running_loop().call_soon(callback, guard)

    with pytest.raises(AssertionError, match="blocks the event loop") as found:
        await guarded()
    if callback is sleep_in_a_callback:  # one that computes may be over before it is looked at again
        assert callback.__name__ in str(found.value)


async def test_a_task_that_blocks_is_found_and_named() -> None:
    async def polite(guard: LoopGuard) -> None:
        await asyncio.sleep(0)
        sleep_in_a_callback(guard)

    with pytest.raises(AssertionError, match="sleep_in_a_callback"):
        async with LoopGuard(0.08) as guard:
            await polite(guard)


async def test_what_waits_as_it_should_or_computes_a_little_at_a_time_is_let_pass() -> None:
    async with LoopGuard(0.15) as guard:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(time.sleep, 0.2)
        for _ in range(300):
            sum(range(20_000))
            await asyncio.sleep(0)
    assert guard.faults == []


async def test_the_garbage_collectors_time_is_nobodys() -> None:
    async with LoopGuard(0.05) as guard:
        held = [[number] for number in range(400_000)]
        await asyncio.sleep(0.05)
        guard.faults.clear()  # to make these takes its time
        began = time.thread_time()
        while time.thread_time() - began < 0.2:
            gc.collect()
        await asyncio.sleep(0.05)
    assert len(held) == 400_000
    assert guard.faults == []


async def test_an_error_of_what_is_watched_comes_first() -> None:
    async def guarded() -> None:
        async with LoopGuard(0.05) as guard:
            sleep_in_a_callback(guard)
            raise ValueError("their own")

    with pytest.raises(ValueError, match="their own"):
        await guarded()
