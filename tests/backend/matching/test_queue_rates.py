"""Task queues: how fast they may go, workers that shut down, and what is told of a queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexuskit.backend import limits
from nexuskit.backend.history.state import Destination
from nexuskit.backend.matching.queues import Matching, Poller
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.clock import NOW, FakeClock, settle

QUEUE = Destination("workflow", "ns", "orders")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def matching(clock: FakeClock) -> Matching[str]:
    return Matching(clock, limits=DEFAULTS)


def slow(rate: float | None, identity: str = "worker") -> Poller:
    return Poller(identity, rate=rate)


async def taken(matching: Matching[str], poller: Poller, count: int) -> list[asyncio.Task[Any]]:
    """Pollers that wait, or have been served."""
    tasks = [asyncio.ensure_future(matching.take(QUEUE, NOW + 600 * SECOND, poller)) for _ in range(count)]
    await settle()
    return tasks


async def test_a_rate_that_a_worker_asks_for_is_kept(matching: Matching[str], clock: FakeClock) -> None:
    for number in range(10):
        matching.offer(QUEUE, number, f"task {number}")
    tasks = await taken(matching, slow(2.0), 10)
    served = []
    for _ in range(10):
        served.append(sum(task.done() for task in tasks))
        clock.pass_time(SECOND // 2)
        await settle()
    assert served == [2, 3, 4, 5, 6, 7, 8, 9, 10, 10]
    assert [(await task)[1] for task in tasks] == [f"task {number}" for number in range(10)]


async def test_what_was_not_used_is_kept_for_a_second_and_no_longer(matching: Matching[str], clock: FakeClock) -> None:
    tasks = await taken(matching, slow(5.0), 20)
    clock.pass_time(60 * SECOND)
    for number in range(20):
        matching.offer(QUEUE, number, "task")
    await settle()
    assert sum(task.done() for task in tasks) == 5


async def test_a_rate_of_nothing_stops_a_queue_until_it_is_another(matching: Matching[str], clock: FakeClock) -> None:
    matching.offer(QUEUE, 1, "task")
    (waiting,) = await taken(matching, slow(0.0), 1)
    clock.pass_time(100 * SECOND)
    await settle()
    assert not waiting.done()
    await taken(matching, slow(None), 1)
    assert await waiting == (1, "task")


async def test_a_slow_rate_lets_one_go_at_once(matching: Matching[str], clock: FakeClock) -> None:
    for number in range(3):
        matching.offer(QUEUE, number, "task")
    tasks = await taken(matching, slow(0.1), 3)
    assert [task.done() for task in tasks] == [True, False, False]
    clock.pass_time(10 * SECOND - 1)
    await settle()
    assert sum(task.done() for task in tasks) == 1
    clock.pass_time(1)
    await settle()
    assert sum(task.done() for task in tasks) == 2


async def test_a_rate_that_was_set_counts_more_than_what_workers_ask_for(
    matching: Matching[str], clock: FakeClock
) -> None:
    matching.set_rate(QUEUE, 1.0)
    for number in range(4):
        matching.offer(QUEUE, number, "task")
    tasks = await taken(matching, slow(100.0), 4)
    assert sum(task.done() for task in tasks) == 1
    assert matching.rate(QUEUE) == 1.0
    assert matching.stats(QUEUE).limited
    matching.set_rate(QUEUE, None)
    clock.pass_time(SECOND)
    await settle()
    assert all(task.done() for task in tasks)
    assert matching.rate(QUEUE) == 100.0
    assert not matching.stats(QUEUE).limited


async def test_a_poller_whose_time_is_over_while_the_rate_holds_it_gets_nothing(
    matching: Matching[str], clock: FakeClock
) -> None:
    matching.offer(QUEUE, 1, "one")
    matching.offer(QUEUE, 2, "two")
    first = await matching.take(QUEUE, NOW + SECOND, slow(0.1))
    assert first == (1, "one")
    short = asyncio.ensure_future(matching.take(QUEUE, NOW + SECOND, slow(0.1)))
    await settle()
    clock.pass_time(SECOND)
    assert await short is None
    assert matching.backlog(QUEUE) == 1


# --- workers that shut down


async def test_a_worker_that_shut_down_gets_nothing_any_more(matching: Matching[str]) -> None:
    mine = asyncio.ensure_future(matching.take(QUEUE, NOW + 60 * SECOND, Poller("me", worker="mine")))
    other = asyncio.ensure_future(matching.take(QUEUE, NOW + 60 * SECOND, Poller("other", worker="other")))
    await settle()
    matching.shut_down("mine", "me")
    assert await mine is None
    matching.offer(QUEUE, 1, "task")
    assert await other == (1, "task")
    assert list(matching.seen(QUEUE)) == ["other"]
    matching.offer(QUEUE, 2, "task")
    assert await matching.take(QUEUE, NOW + 60 * SECOND, Poller("me", worker="mine")) is None
    assert matching.backlog(QUEUE) == 1


async def test_a_sticky_queue_that_is_forgotten_stays_forgotten_when_its_poll_ends(matching: Matching[str]) -> None:
    sticky = Poller("me", sticky=True)
    waiting = asyncio.ensure_future(matching.take(QUEUE, NOW + 60 * SECOND, sticky))
    await settle()
    assert matching.forget(QUEUE) == []
    assert await waiting is None
    assert not matching.polled(QUEUE, limits.STICKY_POLLED_WITHIN)
    assert await matching.take(QUEUE, NOW + 60 * SECOND, sticky) is None
    assert not matching.polled(QUEUE, limits.STICKY_POLLED_WITHIN)
    matching.offer(QUEUE, 1, "task")
    assert matching.backlog(QUEUE) == 1


async def test_a_queue_that_others_may_poll_is_not_forgotten(matching: Matching[str]) -> None:
    waiting = asyncio.ensure_future(matching.take(QUEUE, NOW + 60 * SECOND))
    await settle()
    assert matching.forget(QUEUE) == []
    assert matching.polled(QUEUE, limits.STICKY_POLLED_WITHIN)
    matching.offer(QUEUE, 1, "task")
    assert await waiting == (1, "task")


async def test_of_workers_that_shut_down_the_oldest_are_let_go(
    matching: Matching[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WORKERS_ENDED", 2)
    for number in range(3):
        matching.shut_down(f"worker-{number}", "me")
    matching.offer(QUEUE, 1, "task")
    assert await matching.take(QUEUE, NOW, Poller("me", worker="worker-1")) is None
    assert await matching.take(QUEUE, NOW, Poller("me", worker="worker-0")) == (1, "task")


# --- what is told of a queue


async def test_what_waits_is_told_with_its_age(matching: Matching[str], clock: FakeClock) -> None:
    matching.offer(QUEUE, 1, "task")
    clock.pass_time(7 * SECOND)
    matching.offer(QUEUE, 2, "task", since=NOW + 5 * SECOND)
    assert matching.stats(QUEUE)[:2] == (2, NOW)
    await matching.take(QUEUE, 0)
    assert matching.stats(QUEUE)[:2] == (1, NOW + 5 * SECOND)
    await matching.take(QUEUE, 0)
    assert matching.stats(QUEUE)[:2] == (0, 0)


async def test_rates_are_told_over_the_last_half_minute(matching: Matching[str], clock: FakeClock) -> None:
    for number in range(60):
        matching.offer(QUEUE, number, "task")
    for _ in range(30):
        await matching.take(QUEUE, 0)
    assert matching.stats(QUEUE)[2:4] == (2.0, 1.0)
    clock.pass_time(25 * SECOND)
    assert matching.stats(QUEUE)[2:4] == (2.0, 1.0)
    clock.pass_time(5 * SECOND)
    assert matching.stats(QUEUE)[2:4] == (0.0, 0.0)


async def test_who_polled_is_told_for_five_minutes(
    matching: Matching[str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLLERS_SEEN", 2)
    for identity in ("a", "b", "c"):
        waiting = asyncio.ensure_future(matching.take(QUEUE, clock.now() + SECOND, slow(3.0, identity)))
        await settle()
        clock.pass_time(SECOND)
        await waiting
    assert {identity: seen.rate for identity, seen in matching.seen(QUEUE).items()} == {"c": 3.0, "b": 3.0}
    clock.pass_time(limits.POLLER_REMEMBERED - SECOND)
    assert list(matching.seen(QUEUE)) == ["c"]
    clock.pass_time(SECOND)
    assert matching.seen(QUEUE) == {}
