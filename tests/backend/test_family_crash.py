"""SIGKILL between two runs: what one does to the other happens exactly once, whenever the backend dies.

NEXUSKIT_CRASH_ROUNDS and NEXUSKIT_CRASH_SEED as in `test_crash`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import grpc
import grpc.aio
import pytest
from temporalio.api.command.v1 import Command
from temporalio.api.enums.v1 import EventType, ParentClosePolicy
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueResponse

from tests.backend.test_crash import (
    Raw,
    check_counts,
    connected,
)
from tests.support.backend_process import BackendProcess
from tests.support.raw import Namespace
from tests.support.values import (
    cancel_external,
    complete_workflow,
    continue_as_new,
    event_names,
    result_of,
    signal_external,
    start_child,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FAMILIES = 20
"""Enough that some are at every step when the backend dies."""

NAMES = [f"{number}" for number in range(FAMILIES)]
PARENTS, CHILDREN = "parents", "children"
STARTED = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
COMPLETED = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED


async def once(call: Awaitable[object]) -> bool:
    """Makes a call; False if the backend says that it was made before."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


async def interrupted(
    process: BackendProcess, chance: random.Random, make: Callable[[Raw, str], Awaitable[object]]
) -> None:
    """Makes a call for each family, all at once; the backend dies as the first is acknowledged, and all come again."""
    async with connected(process) as raw:
        calls = [asyncio.ensure_future(once(make(raw, name))) for name in NAMES]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003, 0.01]))
        process.kill()
        acknowledged = [each for each in await asyncio.gather(*calls, return_exceptions=True) if each is True]
    await process.start()
    async with connected(process) as raw:
        again = await asyncio.gather(*(once(make(raw, name)) for name in NAMES))
        assert list(again).count(False) >= len(acknowledged) >= 1


async def tasks_of(orders: Namespace, queue: str, count: int = FAMILIES) -> dict[str, PollWorkflowTaskQueueResponse]:
    """A workflow task of each family, by its name."""
    tasks = [await orders.poll_workflow_task(queue) for _ in range(count)]
    return {task.workflow_execution.workflow_id.partition("-")[2]: task for task in tasks}


async def start_all(process: BackendProcess, what: str, queue: str) -> dict[str, PollWorkflowTaskQueueResponse]:
    """Starts a workflow of each family; answers with their tasks."""
    async with connected(process) as raw:
        for name in NAMES:
            await raw.orders.start(f"{what}-{name}", queue)
        return await tasks_of(raw.orders, queue)


def completing(
    tasks: dict[str, PollWorkflowTaskQueueResponse], commands: Callable[[str], Sequence[Command]]
) -> Callable[[Raw, str], Awaitable[object]]:
    return lambda raw, name: raw.orders.complete_workflow_task(tasks[name], *commands(name))


async def test_children_start_and_are_reported_once(backend: BackendProcess, dice: random.Random) -> None:
    parents = await start_all(backend, "parent", PARENTS)
    await interrupted(backend, dice, completing(parents, lambda name: [start_child(f"child-{name}", CHILDREN)]))
    async with connected(backend) as raw:
        for name in NAMES:
            started = await raw.orders.wait_for_event(f"parent-{name}", STARTED)
            run = started.child_workflow_execution_started_event_attributes.workflow_execution.run_id
            (begun, scheduled) = await raw.orders.history(f"child-{name}")
            attributes = begun.workflow_execution_started_event_attributes
            assert attributes.original_execution_run_id == run
            assert attributes.parent_workflow_execution.workflow_id == f"parent-{name}"
            assert scheduled.event_id == 2
        children = await tasks_of(raw.orders, CHILDREN)
    await interrupted(backend, dice, completing(children, lambda name: [complete_workflow(f"from {name}")]))
    async with connected(backend) as raw:
        for name in NAMES:
            completed = await raw.orders.wait_for_event(f"parent-{name}", COMPLETED)
            assert result_of(completed) == f"from {name}"
        for name in NAMES:
            history = await raw.orders.history(f"parent-{name}")
            check_counts(
                history,
                START_CHILD_WORKFLOW_EXECUTION_INITIATED=1,
                CHILD_WORKFLOW_EXECUTION_STARTED=1,
                CHILD_WORKFLOW_EXECUTION_COMPLETED=1,
            )
            assert [event.event_id for event in history] == list(range(1, len(history) + 1))


async def test_children_end_with_their_parents_once(backend: BackendProcess, dice: random.Random) -> None:
    parents = await start_all(backend, "parent", PARENTS)
    policies = [
        ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE,
        ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
        ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON,
    ]
    policy = {name: policies[number % 3] for number, name in enumerate(NAMES)}
    async with connected(backend) as raw:
        for name in NAMES:
            command = start_child(f"child-{name}", CHILDREN, parent_close_policy=policy[name])
            await raw.orders.complete_workflow_task(parents[name], command)
        for name in NAMES:
            await raw.orders.wait_for_event(f"parent-{name}", STARTED)
    await interrupted(backend, dice, lambda raw, name: raw.orders.terminate(f"parent-{name}"))
    async with connected(backend) as raw:
        for name in NAMES:
            child = f"child-{name}"
            if policy[name] == ParentClosePolicy.PARENT_CLOSE_POLICY_TERMINATE:
                closed = await raw.orders.close_event(child)
                assert closed.workflow_execution_terminated_event_attributes.reason == "by parent close policy"
            elif policy[name] == ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
                await raw.orders.wait_for_event(child, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
                check_counts(await raw.orders.history(child), WORKFLOW_EXECUTION_CANCEL_REQUESTED=1)
        for name in NAMES:
            if policy[name] == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
                assert event_names(await raw.orders.history(f"child-{name}"))[2:] == []


async def test_signals_and_cancel_requests_arrive_once(backend: BackendProcess, dice: random.Random) -> None:
    senders = await start_all(backend, "sender", PARENTS)
    await start_all(backend, "target", CHILDREN)
    await interrupted(
        backend,
        dice,
        completing(
            senders, lambda name: [signal_external(f"target-{name}", "paid"), cancel_external(f"target-{name}")]
        ),
    )
    async with connected(backend) as raw:
        for name in NAMES:
            for event_type in (
                EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
                EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
            ):
                await raw.orders.wait_for_event(f"sender-{name}", event_type)
            check_counts(
                await raw.orders.history(f"sender-{name}"),
                EXTERNAL_WORKFLOW_EXECUTION_SIGNALED=1,
                EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED=1,
            )
            # What waits for the target's task is in its history as soon as that is gone.
            await raw.orders.terminate(f"target-{name}")
            check_counts(
                await raw.orders.history(f"target-{name}"),
                WORKFLOW_EXECUTION_SIGNALED=1,
                WORKFLOW_EXECUTION_CANCEL_REQUESTED=1,
            )


async def test_a_chain_is_neither_broken_nor_doubled(backend: BackendProcess, dice: random.Random) -> None:
    tasks = await start_all(backend, "order", PARENTS)
    await interrupted(backend, dice, completing(tasks, lambda name: [continue_as_new()]))
    async with connected(backend) as raw:
        following = await tasks_of(raw.orders, PARENTS)
        for name in NAMES:
            first, second = tasks[name].workflow_execution.run_id, following[name].workflow_execution.run_id
            closed = (await raw.orders.history(f"order-{name}", first))[-1]
            said = closed.workflow_execution_continued_as_new_event_attributes
            assert said.new_execution_run_id == second
            begun = following[name].history.events[0].workflow_execution_started_event_attributes
            assert begun.continued_execution_run_id == first
            await raw.orders.complete_workflow_task(following[name], complete_workflow())
