"""When to try again: Temporal's retry policies, and the plain doubling that Nexus calls use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.common.v1 import RetryPolicy
from temporalio.api.enums.v1 import RetryState, TimeoutType

from nexuskit.backend.errors import invalid_argument
from nexuskit.backend.history.activity_failures import TIMEOUT_NAMES
from nexuskit.backend.settings import Limits
from nexuskit.backend.times import duration, fault, span

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure

TIMEOUT_PREFIX = "TemporalTimeout:"
"""Before the name of a timeout, in a policy's list of types that are not retried."""


class Again(NamedTuple):
    """What a policy says of a failed attempt.

    Attributes:
        after: the pause before the next attempt (ns); None for no further attempt.
        state: why there is none, as a `RetryState`; IN_PROGRESS where there is one.
    """

    after: int | None
    state: int


def filled(policy: RetryPolicy | None, limits: Limits) -> RetryPolicy:
    """The policy with Temporal's defaults for what it leaves out.

    Raises:
        StatusError: INVALID_ARGUMENT, if a number of it makes no sense.
    """
    given = RetryPolicy()
    if policy is not None:
        given.CopyFrom(policy)
    initial = span(given.initial_interval) or limits.ACTIVITY_RETRY_INTERVAL
    maximum = span(given.maximum_interval)
    if given.maximum_attempts != 1:  # with one attempt nothing else of it matters
        _check(given, initial, maximum)
    return RetryPolicy(
        initial_interval=duration(initial),
        backoff_coefficient=given.backoff_coefficient or limits.ACTIVITY_RETRY_COEFFICIENT,
        maximum_interval=duration(maximum or initial * limits.ACTIVITY_RETRY_INTERVAL_FACTOR),
        maximum_attempts=given.maximum_attempts,
        non_retryable_error_types=given.non_retryable_error_types,
    )


def _check(given: RetryPolicy, initial: int, maximum: int) -> None:
    if fault(given.initial_interval):
        raise invalid_argument(f"invalid InitialInterval set on retry policy: {fault(given.initial_interval)}")
    if given.backoff_coefficient and not given.backoff_coefficient >= 1:  # so that NaN is refused too
        raise invalid_argument("BackoffCoefficient cannot be less than 1 on retry policy.")
    if fault(given.maximum_interval):
        raise invalid_argument(f"invalid MaximumInterval set on retry policy: {fault(given.maximum_interval)}")
    if maximum and maximum < initial:
        raise invalid_argument("MaximumInterval cannot be less than InitialInterval on retry policy.")
    if given.maximum_attempts < 0:
        raise invalid_argument("MaximumAttempts cannot be negative on retry policy.")
    for name in given.non_retryable_error_types:
        timeout = name.removeprefix(TIMEOUT_PREFIX)
        if timeout != name and timeout not in TIMEOUT_NAMES.values():
            raise invalid_argument(f"Invalid timeout type value: {timeout}.")


def retryable(failure: Failure, policy: RetryPolicy) -> bool:
    """Whether a failure permits another attempt, by what it is and by the policy's list of types that do not."""
    kind = failure.WhichOneof("failure_info")
    types = policy.non_retryable_error_types
    if kind in ("canceled_failure_info", "terminated_failure_info"):
        return False
    if kind == "timeout_failure_info":
        timeout = failure.timeout_failure_info.timeout_type
        final = (TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START, TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE)
        return timeout not in final and TIMEOUT_PREFIX + TIMEOUT_NAMES.get(timeout, "") not in types
    if kind == "server_failure_info":
        return not failure.server_failure_info.non_retryable
    if kind == "application_failure_info":
        info = failure.application_failure_info
        return not info.non_retryable and info.type not in types
    return True


def backoff(policy: RetryPolicy, attempt: int) -> int:
    """The pause (ns) after attempt number `attempt`, from 1."""
    initial, maximum = span(policy.initial_interval), span(policy.maximum_interval)
    if initial == 0:
        return 0
    try:
        growth = policy.backoff_coefficient ** (attempt - 1)
    except OverflowError:  # a float holds 3 ** 646, and the attempts go on
        growth = math.inf
    growth = min(growth, maximum / initial if maximum else 1e9)
    return min(int(initial * growth), maximum) if maximum else int(initial * growth)


def again(policy: RetryPolicy, *, attempt: int, now: int, expires: int, delay: int = 0) -> Again:
    """Whether and when to try again after attempt number `attempt`.

    Args:
        policy: a filled policy.
        attempt: the attempt that failed, from 1.
        now: this moment (ns).
        expires: the moment after which no attempt may start (ns), 0 for never.
        delay: a pause that the failure itself asks for (ns), up to the policy's longest; 0 for the policy's.
    """
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return Again(None, RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED)
    longest = span(policy.maximum_interval)
    pause = (min(delay, longest) if longest else delay) or backoff(policy, attempt)
    if expires and now + pause > expires:
        return Again(None, RetryState.RETRY_STATE_TIMEOUT)
    return Again(pause, RetryState.RETRY_STATE_IN_PROGRESS)


def doubling(initial: int, maximum: int, attempt: int) -> int:
    """The pause (ns) after attempt number `attempt`: `initial`, doubled for each attempt after it, up to `maximum`."""
    return min(initial * 2 ** min(attempt - 1, 40), maximum)
