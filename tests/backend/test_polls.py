"""Polls whose task comes to nothing: the next one is taken, and what was handed over gets back into its queue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temporalio.api.nexus.v1 import Request
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
)

from nexuskit.backend.agenda import Waiting
from nexuskit.backend.frontend import activity_tasks, nexus_tasks, workflow_tasks
from nexuskit.backend.frontend.call import Call
from nexuskit.backend.history.state import Destination
from nexuskit.backend.matching.workers import Workers
from nexuskit.backend.nexus.tasks import NexusTasks
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.clock import NOW, settle
from tests.support.engine import NAMESPACE, QUEUE, Orders, orders
from tests.support.values import schedule_activity

CALL = Call("Poll")
GONE = Waiting(12345, "workflow_task", 5, 1)


def services(made: Orders) -> Any:
    namespace = SimpleNamespace(id=NAMESPACE, name="orders")
    return SimpleNamespace(
        engine=made.engine,
        limits=made.engine.limits,
        clock=made.clock,
        namespaces=SimpleNamespace(get=lambda _: namespace, get_by_id=lambda _: namespace),
        nexus_tasks=NexusTasks(made.engine.tasks, made.clock, made.engine.draw),
        workers=Workers(made.clock, limits=DEFAULTS),
    )


async def test_a_workflow_poll_passes_over_a_task_whose_execution_is_gone(tmp_path: Path) -> None:
    async with orders(tmp_path / "db") as made:
        made.engine.tasks.offer(QUEUE, "gone", GONE)
        made.start("order")
        request = PollWorkflowTaskQueueRequest(namespace="orders", task_queue=TaskQueue(name=QUEUE.queue))
        task = await workflow_tasks.poll(services(made), CALL, request)
        assert task.workflow_execution.workflow_id == "order"


async def test_an_activity_poll_passes_over_a_task_whose_execution_is_gone(tmp_path: Path) -> None:
    async with orders(tmp_path / "db") as made:
        made.engine.tasks.offer(QUEUE._replace(kind="activity"), "gone", GONE)
        made.turn(made.start("order"), schedule_activity("reserve", QUEUE.queue))
        request = PollActivityTaskQueueRequest(namespace="orders", task_queue=TaskQueue(name=QUEUE.queue))
        task = await activity_tasks.poll(services(made), CALL, request)
        assert task.activity_id == "reserve"


async def test_a_nexus_poll_that_is_cancelled_at_its_match_gives_the_task_back(tmp_path: Path) -> None:
    async with orders(tmp_path / "db") as made:
        parts = services(made)
        queue = Destination("nexus", NAMESPACE, "payments")
        request = PollNexusTaskQueueRequest(namespace="orders", task_queue=TaskQueue(name=queue.queue))
        asking = asyncio.ensure_future(
            parts.nexus_tasks.ask(NAMESPACE, queue.queue, Request(endpoint="payments"), NOW + 10 * SECOND)
        )
        await asyncio.sleep(0)
        assert made.engine.tasks.backlog(queue) == 1
        poll = asyncio.ensure_future(nexus_tasks.poll(parts, CALL, request))
        await asyncio.sleep(0)
        assert made.engine.tasks.backlog(queue) == 0
        poll.cancel()
        await settle()
        assert poll.cancelled()
        assert made.engine.tasks.backlog(queue) == 1
        assert (await nexus_tasks.poll(parts, CALL, request)).request.endpoint == "payments"
        asking.cancel()
