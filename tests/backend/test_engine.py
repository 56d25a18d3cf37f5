"""The engine: executions are found, changed and shown, and there is never more than one copy of any."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Memo, Payload

from nexuskit.backend import limits
from nexuskit.backend.engine import Resident
from nexuskit.backend.errors import Code, InvariantError, StatusError
from nexuskit.backend.history import activity, workflow
from nexuskit.backend.history.state import Info
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.times import SECOND
from tests.support import disk
from tests.support.clock import NOW, settle
from tests.support.engine import NAMESPACE, QUEUE, Orders, orders
from tests.support.world import complete_workflow, schedule_activity, start_timer


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Orders]:
    async with orders(tmp_path / "nexus.db") as made:
        yield made


@pytest.fixture
def loads(backend: Orders, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the executions that were read from disk."""
    numbers: list[int] = []
    read = backend.engine.store.reader.execution

    async def noting(number: int) -> Any:
        numbers.append(number)
        return await read(number)

    monkeypatch.setattr(backend.engine.store.reader, "execution", noting)
    return numbers


def fail_with(error: Exception) -> Any:
    def decide(tx: Transaction) -> None:
        workflow.terminate(tx, "a change that must not stay", "nobody")
        raise error

    return decide


def leave_alone(tx: Transaction) -> int:
    return tx.now


def forget(backend: Orders) -> None:
    """The cache is emptied, as far as it may be."""
    limit, limits.CACHED_EXECUTIONS = limits.CACHED_EXECUTIONS, 1
    try:
        backend.start("another that takes the last place")
    finally:
        limits.CACHED_EXECUTIONS = limit
    gc.collect()


async def not_found(work: Any, what: str) -> None:
    with pytest.raises(StatusError, match=what) as refused:
        await work
    assert refused.value.code == Code.NOT_FOUND


# --- finding executions


async def test_an_execution_that_is_not_there_is_not_found(backend: Orders) -> None:
    await not_found(backend.engine.get(99), "number 99")
    assert backend.engine.at_hand(99) is None
    await not_found(backend.engine.get(99), "number 99")


async def test_many_who_want_the_same_execution_share_one_load_and_one_copy(backend: Orders, loads: list[int]) -> None:
    number = await backend.started()
    forget(backend)
    assert backend.engine.at_hand(number) is None
    found = await asyncio.gather(*(backend.engine.get(number) for _ in range(10)))
    assert loads == [number]
    assert {id(resident) for resident in found} == {id(backend.engine.at_hand(number))}


async def test_one_who_goes_away_does_not_end_the_load_of_the_others(backend: Orders, loads: list[int]) -> None:
    number = await backend.started()
    forget(backend)
    first, second = (asyncio.ensure_future(backend.engine.get(number)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).execution.id == number
    assert first.cancelled()
    assert loads == [number]


async def test_a_load_that_fails_is_tried_again_by_whoever_comes_next(backend: Orders) -> None:
    number = await backend.started()
    forget(backend)
    await backend.idle()
    with disk.gone(backend.database):
        errors = await asyncio.gather(*(backend.engine.get(number) for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in errors] == ["no such table: executions"] * 3
    assert (await backend.engine.get(number)).execution.id == number


async def test_a_run_is_found_by_its_names_in_its_own_namespace_alone(backend: Orders) -> None:
    first = backend.turn(backend.start(), complete_workflow())
    second = backend.start()
    engine, runs = backend.engine, [resident.execution.info.run_id for resident in (first, second)]
    for cached in (True, False):
        if not cached:
            await backend.idle()
            del first, second
            forget(backend)
        assert [(await engine.find(NAMESPACE, "order", run)).execution.id for run in ("", *runs)] == [2, 1, 2]
        await not_found(engine.find("other", "order"), "for ID: order")
        await not_found(engine.find("other", "order", runs[0]), runs[0])
        await not_found(engine.find(NAMESPACE, "another", runs[0]), 'ID "another"')
        await not_found(engine.find(NAMESPACE, "order", "another"), 'run ID "another"')


async def test_a_run_that_starts_while_the_disk_is_asked_is_the_current_one(backend: Orders) -> None:
    backend.engine._known.complete = False  # as long as it is, the disk is asked
    asking = asyncio.ensure_future(backend.engine.current(NAMESPACE, "order"))
    await asyncio.sleep(0)
    number = backend.start().execution.id
    assert await asking == number


async def test_which_run_is_the_current_one_is_known_as_long_as_the_disk_does_not_know_it(
    backend: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    backend.engine._known.complete = False
    backend.start("a")
    async with disk.held(backend.engine.store, backend.database):
        for name in "bcdef":
            backend.start(name)
            assert await backend.engine.current(NAMESPACE, f"never {name}") is None
        assert [await backend.engine.current(NAMESPACE, name) for name in "abcdef"] == [1, 2, 3, 4, 5, 6]
    await backend.idle()
    for name in "ghi":
        assert await backend.engine.current(NAMESPACE, f"never {name}") is None
    assert [await backend.engine.current(NAMESPACE, name) for name in "abcdef"] == [1, 2, 3, 4, 5, 6]
    assert len(backend.engine._currents) <= 8


# --- memory


async def test_the_least_recently_used_leave_the_cache(
    backend: Orders, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 40)
    for number in range(60):
        await backend.started(f"order-{number}")
        backend.engine.at_hand(1)
    gc.collect()
    there = [number for number in range(1, 61) if backend.engine.at_hand(number) is not None]
    assert there[0] == 1
    assert 60 in there
    assert there[1:] == list(range(61 - len(there) + 1, 61))
    assert 20 < len(there) <= 40
    assert loads == []


async def test_large_ones_leave_the_cache_before_they_are_many(
    backend: Orders, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CACHED_SIZE", 1_000_000)
    memo = Memo(fields={"note": Payload(data=b"x" * 100_000)})
    for number in range(20):
        backend.start(f"order-{number}", memo=memo)
        await backend.idle()
    gc.collect()
    there = [number for number in range(1, 21) if backend.engine.at_hand(number) is not None]
    assert there == list(range(21 - len(there), 21))
    # Each is there with its memo, and with its started event, which has the memo too.
    assert 3 <= len(there) <= 5
    assert loads == []


async def test_one_that_somebody_holds_is_never_loaded_a_second_time(
    backend: Orders, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await backend.started()
    held = await backend.engine.get(number)
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    for other in range(5):
        await backend.started(f"other-{other}")
    assert number not in backend.engine._residents
    assert await backend.engine.get(number) is held
    assert await backend.engine.find(NAMESPACE, "order", held.execution.info.run_id) is held
    assert loads == []


async def test_one_that_nobody_holds_is_let_go(backend: Orders, loads: list[int]) -> None:
    number = await backend.started()
    alive = weakref.ref(await backend.engine.get(number))
    forget(backend)
    assert alive() is None
    assert (await backend.engine.get(number)).execution.id == number
    assert loads == [number]


async def test_one_with_changes_that_are_not_on_disk_is_never_let_go(
    backend: Orders, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    number = backend.start().execution.id
    async with disk.held(backend.engine.store, backend.database):
        for other in range(5):
            backend.start(f"other-{other}")
        gc.collect()
        assert backend.engine.at_hand(number) is not None
    assert loads == []


async def test_one_that_is_changed_after_it_left_the_cache_is_not_let_go_before_that_is_on_disk(
    backend: Orders, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await backend.started("order", schedule_activity("a", heartbeat=60))
    resident: Resident | None = await backend.engine.get(number)
    assert resident is not None
    (key,) = (key for key, _ in resident.execution.of(activity.Activity).items())
    backend.engine.run(resident, lambda tx: activity.start(tx, activity.Start(int(key), 1, "worker")))
    await backend.idle()
    monkeypatch.setattr(limits, "CACHED_EXECUTIONS", 1)
    await backend.started("another")
    assert number not in backend.engine._residents
    row = resident.execution.of(activity.Activity).get(key)
    assert row is not None
    backend.clock.jump(SECOND)
    backend.engine.run(resident, lambda tx: activity.heartbeat(tx, row, None))
    del resident
    gc.collect()
    again = await backend.engine.get(number)
    found = again.execution.of(activity.Activity).get(key)
    assert found is not None
    assert found.heartbeat_time == NOW + SECOND
    assert loads == []


async def test_one_whose_events_somebody_waits_for_is_not_let_go(backend: Orders) -> None:
    number = await backend.started()
    watching = asyncio.ensure_future(backend.engine.more_events(await backend.engine.get(number), NOW + SECOND))
    await asyncio.sleep(0)
    forget(backend)
    assert number in backend.engine._residents
    watching.cancel()


# --- changing executions


@pytest.mark.parametrize("error", [ValueError("a bug"), StatusError(Code.INVALID_ARGUMENT, "no")])
async def test_a_change_that_is_refused_leaves_nothing_behind(backend: Orders, error: Exception) -> None:
    number = await backend.started("order", start_timer("t", 60))
    resident = await backend.engine.get(number)
    before = (Info(**{name: getattr(resident.execution.info, name) for name in Info.__struct_fields__}),)
    rows = list(resident.execution.rows())
    with pytest.raises(type(error)):
        backend.engine.run(resident, fail_with(error))
    assert (resident.execution.info,) == before
    assert list(resident.execution.rows()) == rows
    assert resident.settled
    assert not backend.engine.store.group()[0]


async def test_a_run_whose_start_is_refused_was_never_there(backend: Orders) -> None:
    with pytest.raises(ValueError, match="a bug"):
        backend.engine.create(
            Info(namespace_id=NAMESPACE, workflow_id="order", run_id="run"), fail_with(ValueError("a bug"))
        )
    assert await backend.engine.current(NAMESPACE, "order") is None
    assert not backend.engine.store.group()[0]
    assert backend.engine.tasks.backlog(QUEUE) == 0


async def test_what_changes_nothing_is_not_written(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    transitions = resident.execution.info.transitions
    assert backend.engine.run(resident, leave_alone) == NOW
    assert not backend.engine.store.group()[0]
    assert resident.execution.info.transitions == transitions
    await backend.engine.durable(resident)


async def test_what_is_changed_is_on_disk_when_that_is_answered(backend: Orders, tmp_path: Path) -> None:
    number = await backend.started()
    resident = await backend.engine.get(number)
    backend.engine.run(resident, lambda tx: workflow.terminate(tx, "enough", "somebody"))
    assert not resident.settled
    await backend.engine.durable(resident)
    read = await backend.engine.store.reader.execution(number)
    assert read is not None
    assert read.info == resident.execution.info
    assert not read.info.running


async def test_changes_of_one_turn_of_the_loop_share_one_commit(backend: Orders) -> None:
    residents = [backend.start(f"order-{number}") for number in range(5)]
    assert len({resident.ticket for resident in residents}) == 1


async def test_numbers_go_on_where_they_were_when_it_is_started_again(tmp_path: Path) -> None:
    for numbers in ([1, 2], [3, 4]):
        async with orders(tmp_path / "nexus.db") as backend:
            assert [await backend.started(f"order-{number}") for number in numbers] == numbers
            assert [await backend.engine.current(NAMESPACE, f"order-{number}") for number in numbers] == numbers
    async with orders(tmp_path / "nexus.db") as backend:
        assert await backend.engine.current(NAMESPACE, "order-1") == 1
        assert await backend.event_names(1) == ["workflow_execution_started", "workflow_task_scheduled"]


async def test_a_timer_of_a_thousand_years_is_kept_like_any_other(tmp_path: Path) -> None:
    seconds = 1_000 * 365 * 24 * 3600
    async with orders(tmp_path / "nexus.db") as backend:
        number = await backend.started("order", start_timer("t", seconds), start_timer("longer", 1_000 * seconds))
        rows = sorted((await backend.engine.get(number)).execution.rows(), key=str)
    async with orders(tmp_path / "nexus.db") as backend:
        assert sorted((await backend.engine.get(number)).execution.rows(), key=str) == rows


# --- showing events


NAMES = [
    "workflow_execution_started",
    "workflow_task_scheduled",
    "workflow_task_started",
    "workflow_task_completed",
    "timer_started",
]


@pytest.mark.parametrize("where", ["in memory", "in part in memory", "on disk"])
async def test_events_are_the_same_wherever_they_come_from(
    backend: Orders, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "in part in memory":
        monkeypatch.setattr(limits, "CACHED_EVENTS_SIZE", 10)
    number = await backend.started("order", start_timer("t", 60))
    if where == "on disk":
        forget(backend)
    assert await backend.event_names(number) == NAMES
    resident = await backend.engine.get(number)
    assert [event.event_id for event in await backend.engine.events(resident, 2, 4, 10**9)] == [2, 3, 4]
    assert [event.event_id for event in await backend.engine.events(resident, 3, 3, 1)] == [3]
    assert [event.event_id for event in await backend.engine.events(resident, 5, 99, 1)] == [5]
    assert await backend.engine.events(resident, 4, 3, 10**9) == []
    assert (await backend.engine.event(resident, 5)).timer_started_event_attributes.timer_id == "t"


@pytest.mark.parametrize("at_hand", [True, False])
async def test_events_are_shown_up_to_a_size_and_at_least_one(backend: Orders, at_hand: bool) -> None:
    number = await backend.started()
    resident = await backend.engine.get(number)
    for _ in range(3):
        backend.turn(resident, start_timer(f"t{resident.execution.info.next_event_id}", 0))
        backend.clock.pass_time(1)
        await backend.idle()
    if not at_hand:
        del resident
        forget(backend)
    resident = await backend.engine.get(number)
    last = resident.execution.info.next_event_id - 1
    seen: list[int] = []
    pages = 0
    while len(seen) < last:
        page = await backend.engine.events(resident, len(seen) + 1, last, 1)
        seen += [event.event_id for event in page]
        pages += 1
    assert seen == list(range(1, last + 1))
    assert pages > 3


async def test_an_event_that_is_not_there_is_a_bug(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    with pytest.raises(InvariantError, match="event 99"):
        await backend.engine.event(resident, 99)


async def test_who_waits_for_events_is_woken_when_there_are_some_on_disk_and_not_before(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    waiting = asyncio.ensure_future(backend.engine.more_events(resident, NOW + SECOND))
    await asyncio.sleep(0)
    backend.turn(resident, start_timer("t", 60))
    async with disk.held(backend.engine.store, backend.database):
        await settle()
        assert not waiting.done()
    await waiting
    assert backend.clock.asked == 1  # for the timer; the one that was for the end of waiting was cancelled
    assert not resident.watched


async def test_who_waits_for_events_is_woken_when_the_time_is_over(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    waiting = asyncio.ensure_future(backend.engine.more_events(resident, NOW + SECOND))
    await settle()
    backend.clock.pass_time(SECOND - 1)
    await settle()
    assert not waiting.done()
    backend.clock.pass_time(1)
    await waiting


async def test_who_waits_for_the_last_event_is_woken_by_no_other(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    waiting = asyncio.ensure_future(backend.engine.more_events(resident, NOW + SECOND, last=True))
    backend.turn(resident, start_timer("t", 0))
    backend.clock.pass_time(1)
    await backend.idle()
    assert not waiting.done()
    backend.turn(resident, complete_workflow())
    await waiting


async def test_everybody_who_waits_is_woken_at_the_end(backend: Orders) -> None:
    resident = await backend.engine.get(await backend.started())
    waiting = [
        asyncio.ensure_future(backend.engine.more_events(resident, NOW + SECOND, last=last)) for last in (True, False)
    ]
    polling = asyncio.ensure_future(backend.engine.tasks.take(QUEUE._replace(queue="another"), NOW + SECOND))
    await settle()
    backend.engine.end_polls()
    assert backend.engine.stopping
    await asyncio.gather(*waiting)
    assert await polling is None
