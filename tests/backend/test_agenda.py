"""What must happen next: offered when it is on disk, asked for again when it fails, and dropped when it is stale."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Callback as CallbackProto
from temporalio.api.failure.v1 import Failure

from nexuskit.backend import limits
from nexuskit.backend.agenda import Waiting
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import activity, nexus_operation, workflow_task
from nexuskit.backend.history.callback import Callback
from nexuskit.backend.history.nexus_operation import NexusOperation
from nexuskit.backend.history.state import Destination
from nexuskit.backend.limits import FAULT_PAUSE
from nexuskit.backend.times import SECOND
from tests.support import disk
from tests.support.clock import NOW, FakeClock, settle
from tests.support.engine import NAMESPACE, QUEUE, Orders, orders
from tests.support.world import complete_workflow, schedule_activity, schedule_operation, start_timer

STICKY = Destination("workflow", NAMESPACE, "sticky")
WORK = Destination("activity", NAMESPACE, "work")
OPERATION = 5
"""The event by which a workflow's first command schedules an operation."""


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Orders]:
    async with orders(tmp_path / "nexus.db") as made:
        yield made


class Calls:
    """An executor of effects that notes what it was called for, and does what it is told to."""

    def __init__(self, backend: Orders, kind: str = NexusOperation.kind) -> None:
        self.made: list[Waiting] = []
        self.then: Callable[[Waiting], None] = lambda _: None
        backend.engine.agenda.effects[kind] = self.call

    async def call(self, waiting: Waiting) -> None:
        self.made.append(waiting)
        self.then(waiting)


@pytest.fixture
def calls(backend: Orders) -> Calls:
    return Calls(backend)


async def pass_time(backend: Orders, span: int) -> None:
    backend.clock.pass_time(span)
    await backend.idle()


def fall(_: Waiting) -> None:
    raise RuntimeError("a bug")


# --- effects


async def test_an_effect_is_carried_out_once_its_reason_is_on_disk_and_not_before(
    backend: Orders, calls: Calls
) -> None:
    resident = backend.turn(backend.start(), schedule_operation())
    async with disk.held(backend.engine.store, backend.database):
        await settle()
        assert calls.made == []
    await backend.idle()
    assert calls.made == [Waiting(resident.execution.id, "nexus_operation", OPERATION, stamp=1)]


async def test_an_effect_whose_reason_was_lost_is_never_carried_out(backend: Orders, calls: Calls) -> None:
    number = await backend.started()
    with disk.broken(backend.database):
        backend.turn(await backend.engine.get(number), schedule_operation())
        await backend.idle()
    await pass_time(backend, 10 * SECOND)
    assert calls.made == []


async def test_an_effect_of_a_run_that_is_just_being_made_waits_for_the_disk_too(backend: Orders) -> None:
    """A workflow's first transaction has no effect today; the rule holds all the same."""
    calls = Calls(backend, QUEUE.kind)
    backend.start()
    async with disk.held(backend.engine.store, backend.database):
        await settle()
        assert calls.made == []
    await backend.idle()
    assert len(calls.made) == 1


async def test_an_effect_that_falls_is_carried_out_again_after_a_pause_until_it_does_not(
    backend: Orders, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    calls.then = fall
    number = await backend.started("order", schedule_operation())
    waiting = Waiting(number, "nexus_operation", OPERATION, stamp=1)
    assert calls.made == [waiting]
    await pass_time(backend, FAULT_PAUSE - 1)
    assert calls.made == [waiting]
    await pass_time(backend, 1)
    assert calls.made == [waiting] * 2
    calls.then = lambda _: None
    await pass_time(backend, FAULT_PAUSE)
    assert calls.made == [waiting] * 3
    await pass_time(backend, 10 * FAULT_PAUSE)
    assert calls.made == [waiting] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert "is tried again in 1 s: a bug" in caplog.text


async def test_an_effect_that_falls_is_not_carried_out_again_once_its_reason_is_gone(
    backend: Orders, calls: Calls
) -> None:
    calls.then = fall
    number = await backend.started("order", schedule_operation())
    resident = await backend.engine.get(number)
    row = resident.execution.of(NexusOperation).get(OPERATION)
    assert row is not None
    backend.engine.run(resident, lambda tx: nexus_operation.complete(tx, row, None))
    await pass_time(backend, 10 * FAULT_PAUSE)
    assert len(calls.made) == 1


async def test_an_effect_that_falls_after_it_saved_that_the_attempt_failed_waits_for_the_next_attempt(
    backend: Orders, calls: Calls
) -> None:
    """What the row says now comes before what was to be tried again."""
    number = await backend.started()
    resident = await backend.engine.get(number)

    def attempt(waiting: Waiting) -> None:
        row = resident.execution.of(NexusOperation).get(OPERATION)
        assert row is not None
        if row.attempt == waiting.stamp == 1:
            backend.engine.run(resident, lambda tx: nexus_operation.attempt_failed(tx, row, Failure(message="no")))
            raise RuntimeError("a bug")

    calls.then = attempt
    backend.turn(resident, schedule_operation())
    await backend.idle()
    await pass_time(backend, limits.NEXUS_RETRY_INTERVAL + FAULT_PAUSE)
    assert [waiting.stamp for waiting in calls.made if waiting.stamp != 1] == [2]


async def test_an_attempt_that_has_to_wait_is_made_at_its_moment(backend: Orders, calls: Calls) -> None:
    number = await backend.started("order", schedule_operation())
    resident = await backend.engine.get(number)
    row = resident.execution.of(NexusOperation).get(OPERATION)
    assert row is not None
    backend.engine.run(resident, lambda tx: nexus_operation.attempt_failed(tx, row, Failure(message="no")))
    changed = resident.execution.of(NexusOperation).get(OPERATION)
    assert changed is not None
    assert changed.ready > NOW
    await pass_time(backend, changed.ready - NOW - 1)
    assert [waiting.stamp for waiting in calls.made] == [1]
    await pass_time(backend, 1)
    assert [waiting.stamp for waiting in calls.made] == [1, 2]


# --- moments


async def test_a_timer_of_a_run_that_left_the_cache_fires_all_the_same(
    backend: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await backend.started("order", start_timer("t", 60))
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    await backend.started("another")
    gc.collect()
    assert backend.engine.at_hand(number) is None
    await pass_time(backend, 60 * SECOND)
    assert (await backend.event_names(number))[-2:] == ["timer_fired", "workflow_task_scheduled"]


async def test_many_timers_of_runs_that_are_not_at_hand_are_loaded_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with orders(tmp_path / "nexus.db") as backend:
        for each in range(20):
            backend.turn(backend.start(f"order-{each}"), start_timer("t", 60))
        await backend.idle()
    monkeypatch.setattr(limits, "FIRES_IN_FLIGHT", 3)
    async with orders(tmp_path / "nexus.db") as backend:
        read = backend.engine.store.reader.execution
        now, most = 0, 0

        async def noting(number: int) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await read(number)
            finally:
                now -= 1

        monkeypatch.setattr(backend.engine.store.reader, "execution", noting)
        await pass_time(backend, 60 * SECOND)
        assert most == 3
        for number in range(1, 21):
            assert "timer_fired" in await backend.event_names(number)


@pytest.mark.parametrize("at_hand", [True, False])
async def test_a_timer_that_cannot_fire_because_of_the_disk_fires_later(
    backend: Orders, at_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await backend.started("order", start_timer("t", 60))
    if not at_hand:
        monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
        await backend.started("another")
        gc.collect()
    with disk.gone(backend.database):
        await pass_time(backend, 60 * SECOND)
        for _ in range(3):
            await pass_time(backend, FAULT_PAUSE)
    for _ in range(2):
        await pass_time(backend, FAULT_PAUSE)
    assert (await backend.event_names(number))[-2:] == ["timer_fired", "workflow_task_scheduled"]


async def test_a_moment_of_what_is_no_more_is_passed_over(backend: Orders) -> None:
    number = await backend.started("order", start_timer("t", 60))
    resident = await backend.engine.get(number)
    ring = backend.engine.agenda._ring
    due = next(key for key in backend.engine.agenda._alarms._moments if getattr(key, "kind", "") == "timer")
    backend.turn_by_timer(resident, complete_workflow())
    await backend.idle()
    before = await backend.event_names(number)
    ring(due)
    await backend.idle()
    assert await backend.event_names(number) == before


# --- what is on disk when it starts


async def test_a_start_offers_everything_that_must_happen_next(tmp_path: Path) -> None:
    clock = FakeClock()
    async with orders(tmp_path / "nexus.db", clock) as backend:
        Calls(backend)
        await backend.started("waits for a worker")
        await backend.started("waits for time", start_timer("t", 60))
        await backend.started("waits for an activity", schedule_activity("a"))
        await backend.started("waits for a handler", schedule_operation())
        callback = CallbackProto(nexus=CallbackProto.Nexus(url="temporal://system"))
        backend.turn(backend.start("is to be told", completion_callbacks=[callback]), complete_workflow())
        await backend.idle()
    made = Orders.on(tmp_path / "nexus.db", clock)
    calls, callbacks = Calls(made), Calls(made, Callback.kind)
    try:
        await made.resume()
        assert (await take(made, QUEUE)).execution == 1
        assert (await take(made, WORK)).execution == 3
        assert [waiting.execution for waiting in calls.made] == [4]
        assert [waiting.execution for waiting in callbacks.made] == [5]
        assert not made.engine._residents.in_use()  # nothing had to be read for that
        await pass_time(made, 60 * SECOND)
        assert "timer_fired" in await made.event_names(2)
    finally:
        await made.engine.close()


async def take(backend: Orders, queue: Destination) -> Waiting:
    taken = await backend.engine.tasks.take(queue, 0)
    assert taken is not None
    return taken[1]


async def test_what_was_due_while_it_was_down_is_done_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with orders(tmp_path / "nexus.db", clock) as backend:
        number = await backend.started("order", start_timer("t", 60))
    clock.jump(3600 * SECOND)
    async with orders(tmp_path / "nexus.db", clock) as backend:
        await pass_time(backend, 0)
        assert "timer_fired" in await backend.event_names(number)


async def test_an_activity_that_waits_its_pause_out_waits_on_after_a_start(tmp_path: Path) -> None:
    clock = FakeClock()
    async with orders(tmp_path / "nexus.db", clock) as backend:
        resident = backend.turn(backend.start(), schedule_activity("a"))
        backend.engine.run(resident, lambda tx: activity.start(tx, activity.Start(OPERATION, 1, "worker")))
        row = resident.execution.of(activity.Activity).get(OPERATION)
        assert row is not None
        backend.engine.run(resident, lambda tx: activity.fail(tx, row, Failure(message="no"), "worker"))
        again = resident.execution.of(activity.Activity).get(OPERATION)
        assert again is not None
        pause = again.attempt_time - clock.now()
        assert pause > 0
    async with orders(tmp_path / "nexus.db", clock) as backend:
        await pass_time(backend, pause - 1)
        assert backend.engine.tasks.backlog(WORK) == 0
        await pass_time(backend, 1)
        assert (await take(backend, WORK)).stamp == 2


# --- hints


async def test_a_task_that_is_offered_twice_is_given_once(backend: Orders) -> None:
    number = await backend.started()
    waiting = await take(backend, QUEUE)
    resident = await backend.engine.get(number)
    start = workflow_task.Start(waiting.stamp, "worker")
    assert backend.engine.run(resident, lambda tx: workflow_task.start(tx, start)) is not None
    await backend.idle()
    before = await backend.event_names(number)
    assert backend.engine.run(resident, lambda tx: workflow_task.start(tx, start)) is None
    assert resident.settled
    assert await backend.event_names(number) == before


async def test_a_task_whose_run_has_closed_is_withdrawn_from_its_queue(backend: Orders) -> None:
    resident = backend.turn(backend.start(), schedule_activity("a"), start_timer("t", 1))
    assert backend.engine.tasks.backlog(WORK) == 1
    backend.turn_by_timer(resident, complete_workflow())
    assert backend.engine.tasks.backlog(WORK) == 0


async def test_a_task_for_a_sticky_queue_that_is_polled_waits_there(backend: Orders) -> None:
    poller = asyncio.ensure_future(backend.engine.tasks.take(STICKY, NOW + 2 * SECOND))
    await settle()
    resident = backend.turn(backend.start(), start_timer("t", 1), sticky="sticky")
    backend.clock.pass_time(SECOND)
    taken = await poller
    assert taken is not None
    assert taken[1].execution == resident.execution.id
    assert backend.engine.tasks.backlog(QUEUE) == 0


async def test_a_task_for_a_sticky_queue_that_nobody_polls_goes_to_any_worker_at_once(backend: Orders) -> None:
    resident = backend.turn(backend.start(), start_timer("t", 1), sticky="sticky")
    backend.clock.pass_time(SECOND)
    assert (backend.engine.tasks.backlog(STICKY), backend.engine.tasks.backlog(QUEUE)) == (0, 1)
    assert (await take(backend, QUEUE)).stamp == workflow_task.current(resident.execution).stamp


async def test_a_task_that_nobody_takes_from_a_sticky_queue_in_time_goes_to_any_worker(backend: Orders) -> None:
    poller = asyncio.ensure_future(backend.engine.tasks.take(STICKY, NOW + SECOND))
    await settle()
    backend.turn(backend.start(), start_timer("t", 2), sticky="sticky")
    backend.clock.pass_time(2 * SECOND)
    assert await poller is None
    assert (backend.engine.tasks.backlog(STICKY), backend.engine.tasks.backlog(QUEUE)) == (1, 0)
    backend.clock.pass_time(5 * SECOND)
    assert (backend.engine.tasks.backlog(STICKY), backend.engine.tasks.backlog(QUEUE)) == (0, 1)


@pytest.mark.parametrize(
    ("error", "at_once", "later"),
    [
        (asyncio.CancelledError(), 1, 1),
        (OSError("the disk could not be read"), 0, 1),
        (StatusError(Code.NOT_FOUND, "it never was"), 0, 0),
    ],
    ids=["who polled has gone", "the disk could not be read", "there is no such execution"],
)
async def test_a_task_on_its_way_to_a_poller_waits_again_if_it_does_not_get_there(
    backend: Orders, error: BaseException, at_once: int, later: int
) -> None:
    await backend.started()
    taken = await backend.engine.tasks.take(QUEUE, 0)
    assert taken is not None
    with pytest.raises(type(error)), backend.engine.handing(QUEUE, *taken):
        raise error
    assert backend.engine.tasks.backlog(QUEUE) == at_once
    backend.clock.pass_time(FAULT_PAUSE)
    assert backend.engine.tasks.backlog(QUEUE) == later


# --- what goes on by itself


async def test_what_falls_by_itself_is_logged_under_its_name(backend: Orders, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise RuntimeError("a bug")

    backend.engine.agenda.spawn(work(), "some work")
    await backend.idle()
    assert "some work failed" in caplog.text
    assert "a bug" in caplog.text


async def test_once_closed_nothing_goes_on_or_begins(backend: Orders) -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(name)

    backend.engine.agenda.spawn(work("goes on"), "work")
    await settle()
    await backend.engine.agenda.close()
    assert ended == ["goes on"]
    backend.engine.agenda.spawn(work("begins"), "work")
    await settle()
    assert ended == ["goes on"]
    backend.start(workflow_run_timeout={"seconds": 1})
    await pass_time(backend, 2 * SECOND)


# --- what waits for somebody to poll


def nobody_there(tx: Any, queue: str) -> None:
    row = tx.state.of(NexusOperation).get(OPERATION)
    nexus_operation.attempt_failed(tx, row, Failure(message="nobody there"), queue)


async def waiting_for(backend: Orders, *queues: str) -> list[int]:
    """Workflows whose operations wait for these queues, as `polled_queue` writes them."""
    numbers: list[int] = []
    for place, queue in enumerate(queues):
        number = await backend.started(f"order-{place}", schedule_operation())
        resident = await backend.engine.get(number)
        backend.engine.run(resident, lambda tx, queue=queue: nobody_there(tx, queue))
        numbers.append(number)
    await backend.idle()
    return numbers


async def test_who_polls_first_ends_the_pause_of_all_that_wait_for_the_queue(backend: Orders, calls: Calls) -> None:
    first, second, _ = await waiting_for(backend, "ns/work", "ns/work", "ns/other")
    calls.made.clear()
    backend.engine.agenda.wake("ns/work")
    await backend.idle()
    assert [(each.execution, each.stamp) for each in calls.made] == [(first, 2), (second, 2)]
    backend.engine.agenda.wake("ns/work")
    await backend.idle()
    assert len(calls.made) == 2


async def test_what_waits_for_a_queue_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "nexus.db"
    async with orders(path) as before:
        Calls(before)
        (number,) = await waiting_for(before, "ns/work")
    after = Orders.on(path)
    calls = Calls(after)
    await after.resume()
    assert calls.made == []
    after.engine.agenda.wake("ns/work")
    await after.idle()
    assert [(each.execution, each.stamp) for each in calls.made] == [(number, 2)]
    await after.engine.close()


async def test_what_no_longer_waits_is_not_woken(backend: Orders, calls: Calls) -> None:
    (number,) = await waiting_for(backend, "ns/work")
    resident = await backend.engine.get(number)
    row = resident.execution.of(NexusOperation).get(OPERATION)
    assert row is not None
    calls.made.clear()
    backend.engine.run(resident, lambda tx: nexus_operation.start(tx, row, "token", []))
    backend.engine.agenda.wake("ns/work")
    await pass_time(backend, 10 * SECOND)
    assert calls.made == []


async def test_so_many_effects_of_a_kind_are_carried_out_at_once_and_the_others_follow(backend: Orders) -> None:
    most = under_way = 0
    gate = asyncio.Event()
    made: list[int] = []

    async def call(waiting: Waiting) -> None:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        made.append(int(waiting.key))

    backend.engine.agenda.effects[NexusOperation.kind] = call
    backend.engine.agenda.at_once[NexusOperation.kind] = 2
    backend.turn(backend.start(), *[schedule_operation() for _ in range(7)])
    _, ticket = backend.engine.store.group()
    await ticket.wait()
    await settle()
    assert under_way == 2
    gate.set()
    await backend.idle()
    assert (most, sorted(made)) == (2, list(range(OPERATION, OPERATION + 7)))
