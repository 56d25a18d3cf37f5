"""The circuit breaker."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nexuskit.backend.nexus.breaker import Breaker, Fault, Verdict
from nexuskit.backend.times import SECOND

TOLERATED = 5
PAUSE = 60 * SECOND
NOW = 1_000 * SECOND


def fail(breaker: Breaker, now: int = NOW, whose: str = "order") -> None:
    admitted = breaker.admit(now)
    assert admitted is not None
    breaker.report(admitted, Verdict.UNWELL, now, Fault(whose, "away"))


def opened() -> Breaker:
    breaker = Breaker(TOLERATED, PAUSE)
    for number in range(TOLERATED + 1):
        fail(breaker, whose=f"order-{number}")
    return breaker


def test_so_many_failures_in_a_row_are_tolerated_and_one_more_opens_it() -> None:
    breaker = Breaker(TOLERATED, PAUSE)
    for _ in range(TOLERATED):
        fail(breaker)
        assert breaker.closed
    fail(breaker)
    assert not breaker.closed
    assert breaker.open_until == NOW + PAUSE
    assert breaker.admit(NOW + PAUSE - 1) is None


def test_it_knows_whose_failures_opened_it() -> None:
    assert [fault.whose for fault in opened().faults] == [f"order-{number}" for number in range(TOLERATED + 1)]


def test_an_answer_ends_a_row_of_failures() -> None:
    breaker = Breaker(TOLERATED, PAUSE)
    for _ in range(3):
        for _ in range(TOLERATED):
            fail(breaker)
        admitted = breaker.admit(NOW)
        assert admitted is not None
        breaker.report(admitted, Verdict.WELL, NOW)
    assert breaker.idle


def test_what_says_nothing_neither_counts_nor_ends_a_row() -> None:
    breaker = Breaker(TOLERATED, PAUSE)
    for _ in range(TOLERATED):
        fail(breaker)
    for _ in range(50):
        admitted = breaker.admit(NOW)
        assert admitted is not None
        breaker.report(admitted, Verdict.NOTHING, NOW)
    assert breaker.closed
    fail(breaker)
    assert not breaker.closed


def test_after_its_pause_one_call_is_tried_and_closes_it() -> None:
    breaker = opened()
    probe = breaker.admit(NOW + PAUSE)
    assert probe is not None
    assert breaker.admit(NOW + PAUSE) is None
    assert not breaker.closed
    breaker.report(probe, Verdict.WELL, NOW + PAUSE)
    assert breaker.idle
    assert breaker.admit(NOW + PAUSE) is not None


def test_the_one_call_opens_it_again_if_it_fails() -> None:
    breaker = opened()
    later = NOW + PAUSE
    fail(breaker, later)
    assert breaker.open_until == later + PAUSE
    assert breaker.admit(later) is None


def test_a_call_that_was_not_made_after_all_makes_way_for_another() -> None:
    breaker = opened()
    probe = breaker.admit(NOW + PAUSE)
    assert probe is not None
    breaker.report(probe, Verdict.NOTHING, NOW + PAUSE)
    assert not breaker.closed
    assert breaker.admit(NOW + PAUSE) is not None


def test_what_was_let_through_before_it_opened_says_nothing_of_it_afterwards() -> None:
    breaker = Breaker(TOLERATED, PAUSE)
    early = [breaker.admit(NOW) for _ in range(3)]
    for _ in range(TOLERATED + 1):
        fail(breaker)
    for admitted, verdict in zip(early, Verdict, strict=True):
        assert admitted is not None
        breaker.report(admitted, verdict, NOW)
    assert breaker.open_until == NOW + PAUSE


class Breakers(RuleBasedStateMachine):
    """Calls that overlap, and end in any way, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(TOLERATED, PAUSE)
        self.now = NOW
        self.under_way: list[int] = []

    @rule()
    def a_call_is_made(self) -> None:
        closed = self.breaker.closed
        admitted = self.breaker.admit(self.now)
        assert admitted is not None or not closed
        if admitted is not None:
            assert closed or self.now >= self.breaker.open_until
            self.under_way.append(admitted)

    @rule(which=st.integers(0, 9), verdict=st.sampled_from(Verdict))
    def a_call_ends(self, which: int, verdict: Verdict) -> None:
        if which < len(self.under_way):
            self.breaker.report(self.under_way.pop(which), verdict, self.now, Fault("order", "away"))

    @rule(span=st.sampled_from([1, SECOND, PAUSE]))
    def time_passes(self, span: int) -> None:
        self.now += span

    @invariant()
    def it_is_open_for_a_reason_and_never_for_ever(self) -> None:
        if self.breaker.closed:
            assert self.breaker.failures <= TOLERATED
        else:
            assert self.breaker.faults
            assert self.breaker.open_until <= self.now + PAUSE


Breakers.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakers = Breakers.TestCase
