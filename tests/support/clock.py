"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from nexuskit.backend.times import SECOND

NOW = 1_000_000 * SECOND
"""When a test begins: a moment like any other."""


class Asked:
    """A call that was asked for."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class FakeClock:
    """Time as a number. `nexuskit.backend.clock.Clock` says what a clock does."""

    def __init__(self) -> None:
        self._now = NOW
        self._count = itertools.count()
        self._asked: list[tuple[int, int, Asked]] = []

    def now(self) -> int:
        return self._now

    def at(self, moment: int, call: Callable[[], None]) -> Asked:
        asked = Asked(call)
        heapq.heappush(self._asked, (moment, next(self._count), asked))
        return asked

    def turn(self) -> bool:
        """One turn of the loop: makes the calls that are due now. Whether there were any."""
        due: list[Asked] = []
        while self._asked and self._asked[0][0] <= self._now:
            due.append(heapq.heappop(self._asked)[2])
        calls = [asked.call for asked in due if asked.call is not None]
        for call in calls:
            call()
        return bool(calls)

    def pass_time(self, span: int = 0) -> None:
        """Time passes: each call is made at its moment, the earliest first, until none is due any more."""
        end = self._now + span
        while self._asked and self._asked[0][0] <= end:
            self._now = max(self._now, self._asked[0][0])
            self.turn()
        self._now = end

    def jump(self, span: int) -> None:
        """Time passes, and nobody has been called yet."""
        self._now += span

    def call_too_early(self) -> None:
        """Makes the earliest call before its moment, as the machine's clock does with one that is far away."""
        call = heapq.heappop(self._asked)[2].call
        if call is not None:
            call()

    @property
    def asked(self) -> int:
        """Calls that were asked for, and neither made nor cancelled."""
        return sum(1 for *_, asked in self._asked if asked.call is not None)

    @property
    def next_moment(self) -> int | None:
        """The earliest moment that somebody asked for."""
        return min((moment for moment, _, asked in self._asked if asked.call is not None), default=None)


async def settle(turns: int = 20) -> None:
    """Let the loop go round until everything that can go on without the disk has done so."""
    for _ in range(turns):
        await asyncio.sleep(0)
