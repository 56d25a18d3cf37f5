"""Task queues: whoever has waited longest is served first, and nothing that is handed over gets lost on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexuskit.backend import limits
from nexuskit.backend.history.state import Destination
from nexuskit.backend.matching.queues import Matching, Poller
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import SECOND
from tests.support.clock import NOW, FakeClock, settle

QUEUE = Destination("workflow", "ns", "orders")
OTHERS = [
    Destination("activity", "ns", "orders"),
    Destination("workflow", "other", "orders"),
    Destination("workflow", "ns", "x"),
]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def matching(clock: FakeClock) -> Matching[str]:
    return Matching(clock, limits=DEFAULTS)


async def poll(matching: Matching[str], queue: Destination = QUEUE, seconds: float = 60) -> asyncio.Task[Any]:
    """A poller that waits, or has been served."""
    task = asyncio.ensure_future(matching.take(queue, NOW + int(seconds * SECOND)))
    await settle()
    return task


async def at_once(matching: Matching[str], queue: Destination = QUEUE) -> tuple[Hashable, str] | None:
    """What a poller gets that does not wait."""
    return await asyncio.wait_for(matching.take(queue, 0), timeout=10)


async def take_all(matching: Matching[str], queue: Destination = QUEUE) -> list[str]:
    """Everything that waits in a queue, in order."""
    found = []
    while matching.backlog(queue):
        taken = await at_once(matching, queue)
        assert taken is not None
        found.append(taken[1])
    return found


# --- tasks that wait


async def test_tasks_are_taken_in_the_order_in_which_they_came(matching: Matching[str]) -> None:
    for number in range(3):
        matching.offer(QUEUE, number, f"task {number}")
    assert [await at_once(matching) for _ in range(3)] == [(number, f"task {number}") for number in range(3)]


async def test_a_task_waits_in_its_own_queue_alone(matching: Matching[str]) -> None:
    matching.offer(QUEUE, 1, "task")
    for other in OTHERS:
        assert matching.backlog(other) == 0
        waiting = await poll(matching, other)
        assert not waiting.done()
        waiting.cancel()
    assert await at_once(matching) == (1, "task")


async def test_of_one_key_the_newest_task_waits_behind_the_others(matching: Matching[str]) -> None:
    matching.offer(QUEUE, 1, "old")
    matching.offer(QUEUE, 2, "other")
    matching.offer(QUEUE, 1, "new")
    assert matching.backlog(QUEUE) == 2
    assert await take_all(matching) == ["other", "new"]


async def test_one_that_is_given_back_is_the_first(matching: Matching[str]) -> None:
    matching.offer(QUEUE, 1, "one")
    matching.offer(QUEUE, 2, "two", first=True)
    assert await take_all(matching) == ["two", "one"]


async def test_one_that_is_given_back_does_not_replace_a_newer_one_of_its_key(matching: Matching[str]) -> None:
    """A hint that is stale would be dropped, and with it the newer one that says what waits."""
    matching.offer(QUEUE, 1, "old")
    taken = await at_once(matching)
    assert taken is not None
    matching.offer(QUEUE, 2, "other")
    matching.offer(QUEUE, 1, "new")
    matching.offer(QUEUE, *taken, first=True)
    assert sorted(await take_all(matching)) == ["new", "other"]


async def test_what_is_withdrawn_is_not_taken(matching: Matching[str]) -> None:
    matching.offer(QUEUE, 1, "one")
    matching.offer(QUEUE, 2, "two")
    matching.withdraw(QUEUE, 1)
    matching.withdraw(QUEUE, "unknown")
    matching.withdraw(OTHERS[0], 2)
    assert await take_all(matching) == ["two"]


# --- pollers that wait


async def test_who_waits_longest_is_served_first(matching: Matching[str]) -> None:
    pollers = [await poll(matching) for _ in range(3)]
    for number in range(3):
        matching.offer(QUEUE, number, f"task {number}")
    assert [(await poller)[1] for poller in pollers] == ["task 0", "task 1", "task 2"]
    assert matching.backlog(QUEUE) == 0


async def test_one_that_has_gone_is_passed_over(matching: Matching[str]) -> None:
    gone, stays = await poll(matching), await poll(matching)
    gone.cancel()
    matching.offer(QUEUE, 1, "task")  # before the one that has gone could say so
    assert await stays == (1, "task")
    assert gone.cancelled()


async def test_one_whose_time_is_over_gets_nothing_at_its_very_moment(
    matching: Matching[str], clock: FakeClock
) -> None:
    short, long = await poll(matching, seconds=5), await poll(matching, seconds=6)
    clock.pass_time(5 * SECOND - 1)
    await settle()
    assert not short.done()
    clock.pass_time(1)
    assert await short is None
    assert not long.done()
    matching.offer(QUEUE, 1, "task")
    assert await long == (1, "task")


async def test_one_whose_time_is_over_is_passed_over_before_it_could_say_so(
    matching: Matching[str], clock: FakeClock
) -> None:
    short, long = await poll(matching, seconds=5), await poll(matching, seconds=60)
    clock.pass_time(5 * SECOND)
    matching.offer(QUEUE, 1, "task")
    assert await short is None
    assert await long == (1, "task")


async def test_a_task_that_comes_when_all_time_is_over_waits_for_the_next_poller(
    matching: Matching[str], clock: FakeClock
) -> None:
    short = await poll(matching, seconds=5)
    clock.pass_time(5 * SECOND)
    matching.offer(QUEUE, 1, "task")
    assert await short is None
    assert await at_once(matching) == (1, "task")


async def test_one_that_was_served_is_not_called_again_when_its_time_is_over(
    matching: Matching[str], clock: FakeClock
) -> None:
    served = await poll(matching)
    matching.offer(QUEUE, 1, "task")
    clock.pass_time(120 * SECOND)
    assert await served == (1, "task")
    assert clock.asked == 0


async def test_one_that_is_cancelled_while_it_waits_leaves_nothing_behind(
    matching: Matching[str], clock: FakeClock
) -> None:
    poller = await poll(matching)
    assert matching.pollers(QUEUE) == 1
    poller.cancel()
    await settle()
    assert matching.pollers(QUEUE) == 0
    assert clock.asked == 0
    matching.offer(QUEUE, 1, "task")
    assert matching.backlog(QUEUE) == 1


async def test_one_that_is_cancelled_after_it_was_handed_a_task_gives_it_to_the_next_poller(
    matching: Matching[str],
) -> None:
    cancelled, next_one = await poll(matching), await poll(matching)
    matching.offer(QUEUE, 1, "task")
    cancelled.cancel()
    assert await next_one == (1, "task")
    assert cancelled.cancelled()


async def test_one_that_is_cancelled_after_it_was_handed_a_task_puts_it_before_all_others(
    matching: Matching[str],
) -> None:
    cancelled = await poll(matching)
    matching.offer(QUEUE, 1, "handed")
    matching.offer(QUEUE, 2, "later")
    cancelled.cancel()
    await settle()
    assert await take_all(matching) == ["handed", "later"]


async def test_one_that_is_cancelled_after_it_was_handed_a_task_keeps_a_newer_one_of_its_key(
    matching: Matching[str],
) -> None:
    cancelled = await poll(matching)
    matching.offer(QUEUE, 1, "old")
    matching.offer(QUEUE, 1, "new")
    cancelled.cancel()
    await settle()
    assert await take_all(matching) == ["new"]


async def test_one_that_gives_up_by_a_timeout_of_its_own_loses_no_task(matching: Matching[str]) -> None:
    async def impatient() -> Any:
        async with asyncio.timeout(0):
            return await matching.take(QUEUE, NOW + SECOND)

    task = asyncio.ensure_future(impatient())
    await asyncio.sleep(0)
    matching.offer(QUEUE, 1, "task")
    with pytest.raises(TimeoutError):
        await task
    assert await take_all(matching) == ["task"]


# --- who polls


async def test_a_queue_is_polled_while_somebody_waits_and_for_a_while_after(
    matching: Matching[str], clock: FakeClock
) -> None:
    span = limits.STICKY_POLLED_WITHIN
    assert not matching.polled(QUEUE, span)
    poller = await poll(matching, seconds=60)
    clock.pass_time(59 * SECOND)
    assert matching.polled(QUEUE, span)
    clock.pass_time(1 * SECOND)
    assert await poller is None
    clock.pass_time(span - 1)
    assert matching.polled(QUEUE, span)
    clock.pass_time(1)
    assert not matching.polled(QUEUE, span)
    assert not any(matching.polled(other, span) for other in OTHERS)


async def test_a_poll_that_was_served_at_once_counts_too(matching: Matching[str], clock: FakeClock) -> None:
    matching.offer(QUEUE, 1, "task")
    await at_once(matching)
    clock.pass_time(limits.STICKY_POLLED_WITHIN - 1)
    assert matching.polled(QUEUE, limits.STICKY_POLLED_WITHIN)


async def test_a_queue_that_is_forgotten_was_never_polled_and_tells_what_waits_in_it(matching: Matching[str]) -> None:
    matching.offer(QUEUE, 0, "taken")
    await matching.take(QUEUE, 0, Poller(sticky=True))
    matching.offer(QUEUE, 1, "one")
    matching.offer(QUEUE, 2, "two")
    assert matching.forget(QUEUE) == ["one", "two"]
    assert not matching.polled(QUEUE, limits.STICKY_POLLED_WITHIN)
    assert matching.forget(OTHERS[0]) == []


async def test_queues_that_were_not_polled_lately_are_forgotten_once_there_are_many(
    matching: Matching[str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLLED_QUEUES", 10)
    for number in range(50):
        matching.offer(Destination("workflow", "ns", f"sticky-{number}"), 1, "task")
        await at_once(matching, Destination("workflow", "ns", f"sticky-{number}"))
        clock.pass_time(SECOND)
    assert len(matching._queues) <= 22
    assert matching.polled(Destination("workflow", "ns", "sticky-49"), limits.STICKY_POLLED_WITHIN)
    assert not matching.polled(Destination("workflow", "ns", "sticky-1"), limits.STICKY_POLLED_WITHIN)


async def test_only_queues_in_which_somebody_waits_are_kept_however_many_there_are(
    matching: Matching[str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "POLLED_QUEUES", 4)
    waiting = await poll(matching)
    for other in OTHERS:
        matching.offer(other, 1, "task")
    clock.pass_time(limits.STICKY_POLLED_WITHIN)
    for number in range(50):
        matching.withdraw(Destination("workflow", "ns", f"idle-{number}"), 1)
        matching.offer(Destination("workflow", "ns", f"idle-{number}"), 1, "task")
        matching.withdraw(Destination("workflow", "ns", f"idle-{number}"), 1)
    assert len(matching._queues) <= 8
    assert [matching.backlog(other) for other in OTHERS] == [1, 1, 1]
    matching.offer(QUEUE, 1, "task")
    assert await waiting == (1, "task")


# --- the end


async def test_closing_answers_all_pollers_with_nothing_now_and_from_now_on(matching: Matching[str]) -> None:
    pollers = [await poll(matching), await poll(matching, OTHERS[0])]
    matching.close()
    assert await asyncio.gather(*pollers) == [None, None]
    assert await matching.take(QUEUE, NOW + 60 * SECOND) is None
    matching.offer(QUEUE, 1, "task")
    assert await matching.take(QUEUE, NOW + 60 * SECOND) is None
    assert matching.backlog(QUEUE) == 1


async def test_one_that_was_handed_a_task_before_the_end_still_has_it(matching: Matching[str]) -> None:
    poller = await poll(matching)
    matching.offer(QUEUE, 1, "task")
    matching.close()
    assert await poller == (1, "task")


# --- whatever happens, in whatever order

KEYS = st.sampled_from("ab")
DESTINATIONS = st.sampled_from([QUEUE, OTHERS[0]])


@dataclass
class Waiter:
    """One that waits: what it has been promised, and whether it will be there to take it."""

    queue: Destination
    until: int
    task: asyncio.Task[Any]
    handed: int = 0
    gone: bool = False


@dataclass
class Expected:
    """What must be true of a queue."""

    pollers: list[Waiter] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    """Key → the newest task of it that somebody must get."""


class Queues(RuleBasedStateMachine):
    """Tasks and pollers that come and go, with or without a turn of the loop in between; every task is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.matching: Matching[int] = Matching(self.clock, limits=DEFAULTS)
        self.count = 0
        self.queues = {queue: Expected() for queue in (QUEUE, OTHERS[0])}
        self.finished: list[Waiter] = []
        self.seen: set[int] = set()

    def teardown(self) -> None:
        try:
            self.let_the_loop_go_round()
            self.everything_that_waits_can_be_taken()
        finally:
            for poller in self.waiting():
                poller.task.cancel()
            self.let_the_loop_go_round()
            self.loop.close()

    def waiting(self) -> list[Waiter]:
        return [poller for queue in self.queues.values() for poller in queue.pollers]

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    @rule()
    def let_the_loop_go_round(self) -> None:
        self.run(settle(3))
        for queue in self.queues.values():
            for poller in [poller for poller in queue.pollers if poller.task.done()]:
                queue.pollers.remove(poller)
                self.check_outcome(queue, poller)

    def check_outcome(self, queue: Expected, poller: Waiter) -> None:
        if poller.task.cancelled():
            assert poller.gone
            return
        taken = poller.task.result()
        if taken is None:
            assert self.clock.now() >= poller.until
            assert not poller.handed
            return
        key, number = taken
        assert number not in self.seen, "given twice"
        self.seen.add(number)
        if poller.handed:
            assert number == poller.handed, "who waited longest gets it"
        if queue.newest.get(key) == number:
            del queue.newest[key]

    @rule(destination=DESTINATIONS, key=KEYS)
    def a_task_comes(self, destination: Destination, key: str) -> None:
        self.count += 1
        queue = self.queues[destination]
        queue.newest[key] = self.count
        now = self.clock.now()
        there = [each for each in queue.pollers if not each.gone and not each.handed and each.until > now]
        if there:
            there[0].handed = self.count
        self.matching.offer(destination, key, self.count)

    @rule(destination=DESTINATIONS, key=KEYS)
    def a_task_is_withdrawn(self, destination: Destination, key: str) -> None:
        self.matching.withdraw(destination, key)
        self.queues[destination].newest.pop(key, None)  # one that was handed over may still come

    @rule(destination=DESTINATIONS, seconds=st.integers(1, 3))
    def a_poller_comes(self, destination: Destination, seconds: int) -> None:
        until = self.clock.now() + seconds * SECOND
        task = self.loop.create_task(self.matching.take(destination, until))
        self.queues[destination].pollers.append(Waiter(destination, until, task))
        self.let_the_loop_go_round()

    @precondition(lambda self: any(not poller.gone for poller in self.waiting()))
    @rule(which=st.integers(0, 9))
    def a_poller_goes(self, which: int) -> None:
        there = [poller for poller in self.waiting() if not poller.gone]
        poller = there[which % len(there)]
        poller.gone = True
        poller.handed = 0
        poller.task.cancel()

    @rule(seconds=st.integers(1, 2))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_time(seconds * SECOND)

    @invariant()
    def nobody_waits_where_tasks_wait(self) -> None:
        for destination, queue in self.queues.items():
            backlog = self.matching.backlog(destination)
            now = self.clock.now()
            idle = [each for each in queue.pollers if not each.gone and not each.handed and each.until > now]
            assert not (backlog and idle)

    def everything_that_waits_can_be_taken(self) -> None:
        for destination, queue in self.queues.items():
            for poller in [each for each in queue.pollers if not each.gone]:
                poller.gone = True
                poller.task.cancel()
            self.let_the_loop_go_round()
            left: dict[Hashable, int] = {}
            while self.matching.backlog(destination):
                key, number = self.run(self.matching.take(destination, 0))
                assert number not in self.seen, "given twice"
                self.seen.add(number)
                assert key not in left, "two tasks of one key"
                left[key] = number
            for key, number in queue.newest.items():
                assert left.get(key) == number, f"task {number} is lost"


EXAMPLES = int(os.environ.get("NEXUSKIT_EXAMPLES", "60"))
"""How many walks; `make soak` asks for many more."""

Queues.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
TestQueues = Queues.TestCase
