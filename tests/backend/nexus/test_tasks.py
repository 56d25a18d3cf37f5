"""Nexus tasks: requests that wait for a worker's answer, and only as long as their caller does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.api.nexus.v1 import Request, Response

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history.state import Destination
from nexuskit.backend.matching.queues import Matching
from nexuskit.backend.nexus.tasks import NexusTask, NexusTasks
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.clock import NOW, FakeClock, settle
from tests.support.world import CountingDraw

QUEUE = Destination("nexus", "payments", "queue")
REQUEST = Request(header={"a": "b"})
ANSWER = Response()


class Handlers:
    """Tasks for one queue, and the worker that polls it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.matching: Matching[Any] = Matching(self.clock, limits=DEFAULTS)
        self.tasks = NexusTasks(self.matching, self.clock, CountingDraw())

    def ask(self, seconds: int = 10) -> asyncio.Task[Response | Failure | None]:
        return asyncio.ensure_future(
            self.tasks.ask(QUEUE.namespace, QUEUE.queue, REQUEST, self.clock.now() + seconds * SECOND)
        )

    async def poll(self) -> NexusTask:
        taken = await asyncio.wait_for(self.matching.take(QUEUE, NOW + 3600 * SECOND), timeout=10)
        assert taken is not None
        return taken[1]

    def settle(self, task: NexusTask, namespace: str = QUEUE.namespace) -> None:
        self.tasks.settle(task.number, namespace, ANSWER)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


def refusal(handlers: Handlers, task: NexusTask, namespace: str = QUEUE.namespace) -> Code:
    with pytest.raises(StatusError) as refused:
        handlers.settle(task, namespace)
    return refused.value.code


async def test_a_worker_gets_the_request_and_its_answer_goes_to_the_caller(handlers: Handlers) -> None:
    asking = handlers.ask()
    task = await handlers.poll()
    assert task.request is REQUEST
    assert handlers.tasks.waits(task)
    handlers.settle(task)
    assert await asking is ANSWER
    assert not handlers.tasks.waits(task)
    assert handlers.clock.asked == 0  # nobody waits for the end of the caller's patience


async def test_a_worker_that_came_first_gets_the_request_too(handlers: Handlers) -> None:
    polling = asyncio.ensure_future(handlers.poll())
    await settle()
    asking = handlers.ask()
    handlers.settle(await polling)
    assert await asking is ANSWER


async def test_a_caller_that_nobody_answers_in_time_is_told_so(handlers: Handlers) -> None:
    asking = handlers.ask(seconds=10)
    await settle()
    handlers.clock.pass_time(10 * SECOND - 1)
    await settle()
    assert not asking.done()
    handlers.clock.pass_time(1)
    assert await asking is None
    assert handlers.matching.backlog(QUEUE) == 0  # nobody does it for nothing


async def test_an_answer_that_comes_too_late_or_twice_is_not_found(handlers: Handlers) -> None:
    asking = handlers.ask()
    task = await handlers.poll()
    handlers.settle(task)
    assert refusal(handlers, task) == Code.NOT_FOUND  # before the caller had it
    await asking
    assert refusal(handlers, task) == Code.NOT_FOUND
    late = handlers.ask(seconds=1)
    task = await handlers.poll()
    handlers.clock.pass_time(SECOND)
    assert refusal(handlers, task) == Code.NOT_FOUND
    await late


async def test_an_answer_by_another_namespace_is_refused_and_the_right_one_still_counts(handlers: Handlers) -> None:
    asking = handlers.ask()
    task = await handlers.poll()
    assert refusal(handlers, task, "orders") == Code.INVALID_ARGUMENT
    handlers.settle(task)
    assert await asking is ANSWER


async def test_a_caller_that_goes_away_takes_its_request_along(handlers: Handlers) -> None:
    asking = handlers.ask()
    await settle()
    assert handlers.matching.backlog(QUEUE) == 1
    asking.cancel()
    await settle()
    assert handlers.matching.backlog(QUEUE) == 0
    assert handlers.clock.asked == 0


async def test_several_callers_get_each_their_own_answer(handlers: Handlers) -> None:
    asking = [handlers.ask() for _ in range(3)]
    tasks = [await handlers.poll() for _ in range(3)]
    for number, task in reversed(list(enumerate(tasks))):
        handlers.tasks.settle(task.number, QUEUE.namespace, Failure(message=f"answer {number}"))
    assert [answer.message for answer in await asyncio.gather(*asking) if isinstance(answer, Failure)] == [
        "answer 0",
        "answer 1",
        "answer 2",
    ]


async def test_a_worker_is_told_what_is_left_of_the_timeouts(handlers: Handlers) -> None:
    for operation_timeout, left in (("1m", "56000ms"), ("3s", "0ms"), ("soon", "soon")):
        request = Request(header={"request-timeout": "10000ms", "operation-timeout": operation_timeout})
        until = handlers.clock.now() + 10 * SECOND
        asking = asyncio.ensure_future(handlers.tasks.ask(QUEUE.namespace, QUEUE.queue, request, until))
        await settle()
        handlers.clock.pass_time(4 * SECOND)
        task = await handlers.poll()
        assert dict(handlers.tasks.give(task).header) == {"request-timeout": "6000ms", "operation-timeout": left}
        handlers.settle(task)
        await asking
