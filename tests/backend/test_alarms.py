"""Alarms: one moment for each key, the newest it was given."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend import alarms
from nexuskit.backend.alarms import AT_ONCE, LEFTOVERS, Alarms
from nexuskit.backend.times import DAY, HOUR, SECOND
from tests.support.clock import NOW, FakeClock


class Bells:
    """Alarms, the clock they go by, and what rang."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.rung: list[tuple[Hashable, int]] = []
        self.alarms = Alarms(self.clock, self.ring)

    def ring(self, key: Hashable) -> None:
        self.rung.append((key, self.clock.now() - NOW))

    def set(self, key: Hashable, after: int) -> None:
        self.alarms.set(key, NOW + after)

    @property
    def heap(self) -> int:
        return len(self.alarms._heap)


@pytest.fixture
def bells() -> Bells:
    return Bells()


def test_each_key_rings_once_at_its_moment_the_earliest_first(bells: Bells) -> None:
    bells.set("later", 3 * SECOND)
    bells.set("soon", 1 * SECOND)
    bells.set("between", 2 * SECOND)
    assert len(bells.alarms) == 3
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == [("soon", SECOND), ("between", 2 * SECOND), ("later", 3 * SECOND)]
    assert len(bells.alarms) == 0


def test_a_moment_that_has_passed_rings_in_the_next_turn_and_not_at_once(bells: Bells) -> None:
    bells.set("late", -HOUR)
    assert bells.rung == []
    bells.clock.pass_time()
    assert bells.rung == [("late", 0)]


def test_keys_of_one_moment_ring_in_the_order_in_which_they_were_set(bells: Bells) -> None:
    for key in ("b", ("a", 1), 3, None):  # they need not be comparable
        bells.set(key, SECOND)
    bells.clock.pass_time(SECOND)
    assert [key for key, _ in bells.rung] == ["b", ("a", 1), 3, None]


@pytest.mark.parametrize(("first", "then"), [(5, 1), (1, 5)])
def test_the_newest_moment_of_a_key_counts(bells: Bells, first: int, then: int) -> None:
    bells.set("key", first * SECOND)
    bells.set("key", then * SECOND)
    assert len(bells.alarms) == 1
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == [("key", then * SECOND)]


def test_a_key_that_is_set_to_nought_does_not_ring(bells: Bells) -> None:
    bells.set("key", SECOND)
    bells.set("other", 2 * SECOND)
    bells.alarms.set("key", 0)
    bells.alarms.set("unknown", 0)
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == [("other", 2 * SECOND)]


def test_a_key_that_is_taken_back_and_set_again_to_the_same_moment_rings_once(bells: Bells) -> None:
    bells.set("key", SECOND)
    bells.alarms.set("key", 0)
    bells.set("key", SECOND)
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == [("key", SECOND)]


def test_setting_the_same_moment_again_costs_nothing(bells: Bells) -> None:
    for _ in range(100):
        bells.set("key", SECOND)
    assert bells.heap == 1


def test_leftovers_are_cleared_away_once_they_are_most_of_the_heap(bells: Bells) -> None:
    bells.set("still", DAY)
    for after in range(1, 5 * LEFTOVERS):
        bells.set("moves", HOUR + after)
        assert bells.heap <= 2 * len(bells.alarms) + LEFTOVERS
    bells.clock.pass_time(2 * DAY)
    assert bells.rung == [("moves", HOUR + 5 * LEFTOVERS - 1), ("still", DAY)]
    assert bells.heap == 0


def test_many_at_once_are_spread_over_turns_of_the_loop(bells: Bells) -> None:
    count = 2 * AT_ONCE + 50
    for number in range(count):
        bells.set(number, number)  # within a microsecond
    bells.clock.jump(SECOND)
    sizes = []
    while bells.clock.turn():
        sizes.append(len(bells.rung) - sum(sizes))
    assert sizes == [AT_ONCE, AT_ONCE, 50]
    assert [key for key, _ in bells.rung] == list(range(count))


def test_leftovers_do_not_count_among_those_that_ring_in_one_turn(bells: Bells) -> None:
    for number in range(AT_ONCE):
        bells.set(number, SECOND)
        bells.set(number, SECOND + 1)
    bells.clock.jump(2 * SECOND)
    assert bells.clock.turn()
    assert len(bells.rung) == AT_ONCE


def test_what_is_set_while_one_rings_rings_too(bells: Bells) -> None:
    def again(key: Hashable) -> None:
        bells.ring(key)
        if len(bells.rung) < 3:
            bells.set(key, len(bells.rung) * SECOND)

    bells.alarms = Alarms(bells.clock, again)
    bells.set("key", 0)
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == [("key", 0), ("key", SECOND), ("key", 2 * SECOND)]


def test_one_that_sets_itself_to_now_for_ever_lets_the_loop_go_on(bells: Bells) -> None:
    def again(key: Hashable) -> None:
        bells.ring(key)
        bells.alarms.set(key, bells.clock.now())

    bells.alarms = Alarms(bells.clock, again)
    bells.set("key", 0)
    bells.clock.turn()
    assert len(bells.rung) == AT_ONCE


def test_it_asks_the_clock_for_the_earliest_moment_alone(bells: Bells) -> None:
    bells.set("a", 5 * SECOND)
    bells.set("b", 3 * SECOND)
    bells.set("c", 4 * SECOND)
    assert bells.clock.next_moment == NOW + 3 * SECOND
    assert bells.clock.asked == 1


def test_a_clock_that_calls_too_early_is_asked_again(bells: Bells) -> None:
    bells.set("far", DAY)
    bells.clock.call_too_early()
    assert bells.rung == []
    bells.clock.pass_time(DAY)
    assert bells.rung == [("far", DAY)]


def test_once_closed_nothing_rings(bells: Bells) -> None:
    bells.set("key", SECOND)
    bells.alarms.close()
    assert len(bells.alarms) == 0
    assert bells.clock.next_moment is None
    bells.clock.pass_time(10 * SECOND)
    assert bells.rung == []
    bells.alarms.close()


KEYS = st.sampled_from("abc")


@given(st.lists(st.one_of(st.tuples(KEYS, st.integers(0, 6)), st.integers(0, 3)), max_size=40))
def test_whatever_is_set_each_key_rings_at_the_newest_moment_it_was_given(
    steps: list[tuple[str, int] | int],
) -> None:
    bells = Bells()
    leftovers, alarms.LEFTOVERS = alarms.LEFTOVERS, 2
    expected: list[tuple[Hashable, int]] = []
    moments: dict[str, int] = {}

    def pass_time(span: int) -> None:
        end = bells.clock.now() - NOW + span
        due = sorted((max(when, bells.clock.now() - NOW), key) for key, when in moments.items() if when <= end)
        expected.extend((key, when) for when, key in due)
        for _, key in due:
            del moments[key]
        bells.clock.pass_time(span)

    try:
        for step in (*steps, 10):
            if isinstance(step, int):
                pass_time(step)
                continue
            key, when = step
            bells.alarms.set(key, NOW + when if when else 0)
            moments.pop(key, None)
            if when:
                moments[key] = when
        assert sorted(bells.rung, key=str) == sorted(expected, key=str)
        assert len(bells.alarms) == 0
    finally:
        alarms.LEFTOVERS = leftovers
