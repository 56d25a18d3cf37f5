"""What is due when: the moments that the rows' indexes name, in one heap, and a call for each that comes.

Of one row at most one moment counts, the newest it named; older ones are left in the heap and passed over, and the
heap is built anew when most of it is such leftovers.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.clock import Alarm, Clock

LEFTOVERS = 1_000
"""Leftovers in the heap that are not worth building it anew."""
AT_ONCE = 200
"""Moments that are called in one turn of the loop; the rest follows in the next."""


class Alarms:
    """Moments by key; `ring` is called with the key when its moment has come."""

    def __init__(self, clock: Clock, ring: Callable[[Hashable], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._moments: dict[Hashable, int] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._count = 0
        self._armed: tuple[int, Alarm] | None = None

    def __len__(self) -> int:
        return len(self._moments)

    def set(self, key: Hashable, moment: int) -> None:
        """From now on the moment of `key` is this one (ns); 0 for none."""
        if moment == 0:
            self._moments.pop(key, None)
            return
        if self._moments.get(key) == moment:
            return
        self._moments[key] = moment
        self._count += 1  # keys need not be comparable
        heapq.heappush(self._heap, (moment, self._count, key))
        if len(self._heap) > 2 * len(self._moments) + LEFTOVERS:
            self._heap = [entry for entry in self._heap if self._moments.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._arm()

    def close(self) -> None:
        """Nothing rings any more."""
        self._moments.clear()
        self._heap.clear()
        if self._armed is not None:
            self._armed[1].cancel()
            self._armed = None

    def _arm(self) -> None:
        if not self._heap:
            return
        first = self._heap[0][0]
        if self._armed is not None:
            if self._armed[0] <= first:
                return
            self._armed[1].cancel()
        self._armed = (first, self._clock.at(first, self._come))

    def _come(self) -> None:
        self._armed = None
        now = self._clock.now()
        called = 0
        while self._heap and self._heap[0][0] <= now and called < AT_ONCE:
            moment, _, key = heapq.heappop(self._heap)
            if self._moments.get(key) == moment:
                del self._moments[key]
                called += 1
                self._ring(key)
        self._arm()
