"""Failures nest: each has a cause, which has a cause. A message that nests too deep cannot be read by anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexuskit.backend.settings import Limits

if TYPE_CHECKING:
    from temporalio.api.failure.v1 import Failure


def cut_causes(failure: Failure, limits: Limits) -> None:
    """Let the causes beyond the limit go, in place; wherever a failure comes in from outside.

    Protobuf reads at most 100 levels, a history has some of its own, and each side that a failure crosses adds one.
    """
    last = failure
    for _ in range(limits.FAILURE_CAUSES):
        if not last.HasField("cause"):
            return
        last = last.cause
    last.ClearField("cause")
