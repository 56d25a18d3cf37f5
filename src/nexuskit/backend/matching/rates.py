"""How fast tasks come and go: what was counted lately, and at most how many may go. Pure; time is handed in (ns)."""

from __future__ import annotations

from nexuskit.backend.times import SECOND

SLOT = 5 * SECOND
"""Counts are kept for slots of this length."""
SLOTS = 6
"""So many slots make the span over which a rate is told: 30 s, as the API says."""
NEVER = 1 << 62
"""A moment that does not come: nothing may go at a rate of 0."""
BURST = 1 * SECOND
"""What was not used lately may be used at once, up to what this span allows; `defaultBurstDuration` there."""
RATE_MIN = 1e-9
"""A rate below this (tasks a second) is none at all, as there."""


class Counter:
    """How many lately."""

    __slots__ = ("_counts", "_slot")

    def __init__(self) -> None:
        self._slot = 0
        self._counts = [0] * SLOTS

    def add(self, now: int) -> None:
        """One more."""
        self._turn(now)
        self._counts[-1] += 1

    def rate(self, now: int) -> float:
        """So many a second, over the last half minute."""
        self._turn(now)
        return sum(self._counts) * SECOND / (SLOTS * SLOT)

    def _turn(self, now: int) -> None:
        slot = now // SLOT
        passed = slot - self._slot
        if passed > 0:
            kept = self._counts[passed:] if passed < SLOTS else []
            self._counts = kept + [0] * (SLOTS - len(kept))
            self._slot = slot


class Limit:
    """At most so many a second: a token bucket, kept as the moment from which the next may go."""

    __slots__ = ("_interval", "_ready", "rate")

    def __init__(self, rate: float, now: int) -> None:
        self.rate = rate
        """Tasks a second; 0 lets nothing go."""
        self._interval = 0
        self._ready = 0
        self.change(rate, now)

    def change(self, rate: float, now: int) -> None:
        """From now on at this rate; nobody waits longer for the next one than the new rate asks."""
        self.rate = rate
        if rate <= RATE_MIN:
            self._interval, self._ready = 0, NEVER
            return
        self._interval = int(SECOND / rate)
        self._ready = min(self._ready, now + self._interval)

    def ready(self) -> int:
        """When the next may go (ns)."""
        return self._ready

    def take(self, now: int) -> None:
        """One goes."""
        if self._ready != NEVER:
            unused = max(BURST - self._interval, 0)
            self._ready = max(self._ready, now - unused) + self._interval
