"""When to try again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import RetryState

from nexuskit.backend import limits
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import retry
from nexuskit.backend.settings import DEFAULTS
from nexuskit.backend.times import MINUTE, SECOND, SPAN_MAX, duration


def policy(initial: int = SECOND, coefficient: float = 2.0, maximum: int = 0, attempts: int = 0) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=duration(initial),
        backoff_coefficient=coefficient,
        maximum_interval=duration(maximum),
        maximum_attempts=attempts,
    )


def test_an_empty_policy_is_temporals_default() -> None:
    assert retry.filled(None, limits=DEFAULTS) == retry.filled(RetryPolicy(), limits=DEFAULTS)
    assert retry.filled(None, limits=DEFAULTS) == policy(SECOND, 2.0, 100 * SECOND)


def test_pauses_grow_up_to_the_longest_one() -> None:
    default = retry.filled(None, limits=DEFAULTS)
    pauses = [retry.backoff(default, attempt) // SECOND for attempt in range(1, 10)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 100, 100]


@pytest.mark.parametrize("coefficient", [1.0, 1.5, 2.0, 3.0, 1e300, math.inf])
@pytest.mark.parametrize("attempt", [647, 1_001, 1_000_000])
def test_the_pause_after_very_many_attempts_is_the_longest_one(coefficient: float, attempt: int) -> None:
    given = retry.filled(policy(SECOND, coefficient, MINUTE), limits=DEFAULTS)
    assert retry.backoff(given, attempt) == (MINUTE if coefficient > 1 else SECOND)


@pytest.mark.parametrize("coefficient", [0.5, -1.0, math.nan, -math.inf])
def test_a_coefficient_that_is_no_number_from_1_on_is_refused(coefficient: float) -> None:
    with pytest.raises(StatusError, match="BackoffCoefficient") as refused:
        retry.filled(policy(coefficient=coefficient), limits=DEFAULTS)
    assert refused.value.code == Code.INVALID_ARGUMENT


@given(
    st.integers(0, 2 * SPAN_MAX),
    st.floats(1, allow_nan=False),
    st.integers(0, 2 * SPAN_MAX),
    st.integers(1, 2_000_000),
)
def test_no_pause_is_longer_than_any_span_nor_less_than_nothing(
    initial: int, coefficient: float, maximum: int, attempt: int
) -> None:
    try:
        given = retry.filled(policy(initial, coefficient, maximum), limits=DEFAULTS)
    except StatusError:
        return
    assert 0 <= retry.backoff(given, attempt) <= SPAN_MAX


def test_no_attempt_follows_the_last_one() -> None:
    given = retry.filled(policy(attempts=3), limits=DEFAULTS)
    assert retry.again(given, attempt=2, now=0, expires=0).after == 2 * SECOND
    assert retry.again(given, attempt=3, now=0, expires=0) == (None, RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED)


def test_no_attempt_starts_after_all_time_is_over() -> None:
    given = retry.filled(None, limits=DEFAULTS)
    assert retry.again(given, attempt=1, now=5 * SECOND, expires=6 * SECOND).after == SECOND
    late = retry.again(given, attempt=1, now=5 * SECOND, expires=6 * SECOND - 1)
    assert late == (None, RetryState.RETRY_STATE_TIMEOUT)


def test_a_pause_that_the_failure_asks_for_comes_before_the_policys() -> None:
    assert (
        retry.again(retry.filled(None, limits=DEFAULTS), attempt=1, now=0, expires=0, delay=7 * SECOND).after
        == 7 * SECOND
    )


def test_doubling_stops_at_its_longest_pause() -> None:
    pauses = [
        retry.doubling(SECOND, limits.NEXUS_RETRY_INTERVAL_MAX, attempt) // SECOND
        for attempt in (1, 2, 3, 12, 13, 9_999)
    ]
    assert pauses == [1, 2, 4, 2048, 3600, 3600]
