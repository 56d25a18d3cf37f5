"""Failures that nest too deep."""

from __future__ import annotations

import pytest
from temporalio.api.failure.v1 import Failure

from nexuskit.backend import limits
from nexuskit.backend.history.causes import cut_causes
from nexuskit.backend.settings import DEFAULTS


def nested(causes: int) -> Failure:
    outermost = Failure(message="0")
    last = outermost
    for number in range(1, causes + 1):
        last = last.cause
        last.message = str(number)
    return outermost


def depth(failure: Failure) -> int:
    count = 0
    while failure.HasField("cause"):
        failure, count = failure.cause, count + 1
    return count


@pytest.mark.parametrize("causes", [0, 1, limits.FAILURE_CAUSES])
def test_causes_up_to_the_limit_stay(causes: int) -> None:
    failure = nested(causes)
    cut_causes(failure, limits=DEFAULTS)
    assert depth(failure) == causes


def test_what_nests_deeper_is_cut() -> None:
    failure = nested(limits.FAILURE_CAUSES + 40)
    cut_causes(failure, limits=DEFAULTS)
    assert depth(failure) == limits.FAILURE_CAUSES
    assert Failure.FromString(failure.SerializeToString()) == failure
