"""A circuit breaker: a destination that is unwell is left alone for a while, and then tried with one call.

    CLOSED ── more failures in a row than the limit ──> OPEN ── its pause is over ──> HALF OPEN
      ^                                                  ^                               │
      └───────────── the one call came through ──────────┼───────────────────────────────┤
                                                         └─────── it failed, too ────────┘

Only failures that say that the destination is unwell count, and only an answer of the destination ends a row of them:
what says nothing of it (nobody was there to be asked, the call was not made after all) changes nothing. A call that
was let through before the breaker opened says nothing of how things are afterwards. Pure: the moment is handed in
(temporalio/temporal: common/circuitbreaker, with the defaults of sony/gobreaker).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What a call says of its destination."""

    WELL = "well"
    UNWELL = "unwell"
    NOTHING = "nothing"


class Fault(NamedTuple):
    """A failure that counted.

    Attributes:
        whose: whose call failed: the id of a workflow, or of an operation that stands alone.
        why: the failure, in words.
    """

    whose: str
    why: str


class Breaker:
    """One breaker. Moments and spans are in ns."""

    def __init__(self, tolerated: int, pause: int) -> None:
        """Closed.

        Args:
            tolerated: so many failures in a row leave it closed.
            pause: how long it stays open.
        """
        self._tolerated = tolerated
        self._pause = pause
        self._faults: deque[Fault] = deque(maxlen=tolerated + 1)
        self._failures = 0
        self._open_until = 0
        self._generation: int = 0
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether every call is let through."""
        return self._open_until == 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember."""
        return self.closed and not self._failures

    @property
    def open_until(self) -> int:
        """When the next call may be tried, if it is not closed."""
        return self._open_until

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The failures in a row that it knows of, the oldest first."""
        return tuple(self._faults)

    @property
    def failures(self) -> int:
        """How many failures there were in a row."""
        return self._failures

    def admit(self, now: int) -> int | None:
        """Let a call through; whoever makes it reports with the number that this answers. None: not now."""
        if self.closed:
            return self._generation
        if now < self._open_until or self._probing:
            return None
        self._probing = True
        return self._generation

    def report(self, admitted: int, verdict: Verdict, now: int, fault: Fault | None = None) -> None:
        """What became of a call that was let through."""
        if admitted != self._generation:
            return
        self._probing = False
        if verdict == Verdict.WELL:
            self._failures = 0
            self._faults.clear()
            if not self.closed:
                self._open_until = 0
                self._generation += 1
        elif verdict == Verdict.UNWELL:
            self._failures += 1
            if fault is not None:
                self._faults.append(fault)
            if not self.closed or self._failures > self._tolerated:
                self._open_until = now + self._pause
                self._generation += 1
