"""Lanes: calls that wait for their turn, a few at a time, behind a breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from nexuskit.backend.agenda import Waiting
from nexuskit.backend.nexus.breaker import Fault, Verdict
from nexuskit.backend.nexus.lanes import NOTHING_SAID, Lanes, Place, Said
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import SECOND
from tests.support.clock import FakeClock, settle

PLACE = Place("nexus_operation", "orders", "payments")
OTHER = Place("nexus_cancellation", "orders", "payments")
AT_ONCE = 3
TOLERATED = 1
PAUSE = 60 * SECOND
WELL = Said(Verdict.WELL)
UNWELL = Said(Verdict.UNWELL, Fault("order-1", "UNAVAILABLE: away"))


class Agenda:
    """What lanes ask of the agenda."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(work, name=what))

    async def carry_out(self, effect: Any, waiting: Waiting) -> None:
        try:
            await effect(waiting)
        except OSError:
            pass  # the agenda offers it again


class World:
    """Lanes, and calls that end when a test says so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        limits = Limits(
            {"NEXUS_CALLS_IN_FLIGHT": AT_ONCE, "BREAKER_FAILURES": TOLERATED, "BREAKER_PAUSE": PAUSE, "BREAKERS": 2}
        )
        self.agenda = Agenda()
        self.lanes = Lanes(self.agenda, self.clock, limits)
        self.under_way: dict[int, asyncio.Future[Said]] = {}
        self.made: list[int] = []

    async def _call(self, waiting: Waiting) -> Said:
        number = int(waiting.key)
        self.made.append(number)
        self.under_way[number] = asyncio.get_running_loop().create_future()
        try:
            return await self.under_way[number]
        finally:
            del self.under_way[number]

    async def enter(self, *numbers: int, place: Place = PLACE) -> None:
        for number in numbers:
            self.lanes.enter(place, Waiting(1, place.kind, number, 1), self._call)
        await settle()

    async def end(self, number: int, said: Said) -> None:
        self.under_way[number].set_result(said)
        await settle()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for task in made.agenda.tasks:
        task.cancel()
    await asyncio.gather(*made.agenda.tasks, return_exceptions=True)


async def test_a_few_are_under_way_and_the_others_follow_in_the_order_of_their_coming(world: World) -> None:
    await world.enter(1, 2, 3, 4, 5)
    assert list(world.under_way) == [1, 2, 3]
    await world.end(2, WELL)
    assert list(world.under_way) == [1, 3, 4]
    await world.end(1, NOTHING_SAID)
    await world.end(3, WELL)
    await world.end(4, WELL)
    assert list(world.under_way) == [5]
    assert world.made == [1, 2, 3, 4, 5]


async def test_what_is_offered_again_is_made_once(world: World) -> None:
    await world.enter(1, 1, 2, 3, 4, 4)
    await world.enter(1, 4)
    assert world.lanes.holds(Waiting(1, PLACE.kind, 4, 1))
    for number in (1, 2, 3, 4):
        await world.end(number, WELL)
    assert world.made == [1, 2, 3, 4]
    assert not world.lanes.holds(Waiting(1, PLACE.kind, 4, 1))
    await world.enter(1)
    assert world.made[-1] == 1


async def test_nobody_leaves_a_lane_whose_breaker_is_open_and_the_others_go_on(world: World) -> None:
    await world.enter(1, 2)
    await world.end(1, UNWELL)
    assert world.lanes.blocked(PLACE) == ""
    await world.end(2, UNWELL)
    await world.enter(3, 4)
    assert not world.under_way
    blocked = world.lanes.blocked(PLACE)
    assert blocked.startswith("The circuit breaker is open.")
    assert "'order-1'" in blocked
    assert "UNAVAILABLE: away" in blocked
    await world.enter(5, place=OTHER)
    assert list(world.under_way) == [5]
    assert world.lanes.blocked(OTHER) == ""


async def open_with(world: World, *numbers: int) -> None:
    await world.enter(101, 102)
    await world.end(101, UNWELL)
    await world.end(102, UNWELL)
    await world.enter(*numbers)
    assert not world.under_way


async def test_after_the_pause_one_is_tried_and_the_others_follow_when_it_came_through(world: World) -> None:
    await open_with(world, 1, 2, 3)
    world.clock.pass_time(PAUSE)
    await settle()
    assert list(world.under_way) == [1]
    await world.end(1, WELL)
    assert list(world.under_way) == [2, 3]
    assert world.lanes.blocked(PLACE) == ""


async def test_if_it_failed_the_others_wait_for_another_pause(world: World) -> None:
    await open_with(world, 1, 2, 3)
    world.clock.pass_time(PAUSE)
    await settle()
    await world.end(1, UNWELL)
    assert not world.under_way
    world.clock.pass_time(PAUSE - 1)
    await settle()
    assert not world.under_way
    world.clock.pass_time(1)
    await settle()
    assert list(world.under_way) == [2]


async def test_one_that_had_nothing_to_do_makes_way_for_the_next(world: World) -> None:
    await open_with(world, 1, 2, 3)
    world.clock.pass_time(PAUSE)
    await settle()
    await world.end(1, NOTHING_SAID)
    assert list(world.under_way) == [2]


async def test_one_that_could_not_be_saved_says_nothing_and_its_place_is_free(world: World) -> None:
    await world.enter(1, 2, 3, 4)
    world.under_way[1].set_exception(OSError("the disk is full"))
    await settle()
    assert list(world.under_way) == [2, 3, 4]
    assert not world.lanes.holds(Waiting(1, PLACE.kind, 1, 1))


async def test_nothing_is_remembered_of_a_lane_that_is_empty_and_well(world: World) -> None:
    await world.enter(1)
    await world.end(1, WELL)
    assert not world.lanes._lanes
    await world.enter(1)
    await world.end(1, UNWELL)
    assert world.lanes._lanes


async def test_of_too_many_that_were_unwell_once_those_of_longest_ago_are_forgotten(world: World) -> None:
    for number in range(5):
        await world.enter(number, place=PLACE._replace(destination=f"payments-{number}"))
        await world.end(number, UNWELL)
    assert [place.destination for place in world.lanes._lanes] == ["payments-3", "payments-4"]
