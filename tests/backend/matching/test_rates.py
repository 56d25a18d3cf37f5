"""Rates: what is counted, and how many may go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexuskit.backend.matching.rates import NEVER, Counter, Limit
from nexuskit.backend.times import MILLISECOND, SECOND
from tests.support.clock import NOW


def test_a_counter_tells_the_last_half_minute() -> None:
    counter = Counter()
    for second in range(60):
        counter.add(NOW + second * SECOND)
    assert counter.rate(NOW + 59 * SECOND) == 1.0
    assert counter.rate(NOW + 1000 * SECOND) == 0.0


def test_a_faster_rate_does_not_wait_for_the_pause_of_a_slower_one() -> None:
    limit = Limit(0.001, NOW)
    limit.take(NOW)
    assert limit.ready() == NOW + 1000 * SECOND
    limit.change(10.0, NOW + SECOND)
    assert limit.ready() <= NOW + SECOND + 100 * MILLISECOND
    limit.change(0.0, NOW + SECOND)
    limit.take(NOW + SECOND)
    assert limit.ready() == NEVER


@given(
    rate=st.floats(0.1, 1000),
    pauses=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=200),
)
def test_no_span_sees_more_than_its_rate_and_what_one_second_left_over(rate: float, pauses: list[int]) -> None:
    limit = Limit(rate, NOW)
    now = NOW
    went: list[int] = []
    for pause in pauses:
        now += pause
        if limit.ready() <= now:
            limit.take(now)
            went.append(now)
    for first in range(0, len(went), 7):
        for last in range(first, len(went), 5):
            seconds = (went[last] - went[first]) / SECOND
            assert last - first + 1 <= seconds * rate + max(rate, 1) + 1e-3


@given(rate=st.floats(0.1, 1000))
def test_who_takes_whatever_it_may_gets_the_whole_rate(rate: float) -> None:
    limit = Limit(rate, NOW)
    count = 100
    now = NOW
    for _ in range(count):
        now = max(now, limit.ready())
        limit.take(now)
    assert (now - NOW) / SECOND <= count / rate
