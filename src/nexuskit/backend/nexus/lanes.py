"""Lanes: the calls of one caller namespace to one destination, a few at a time, behind a circuit breaker.

Thousands of calls may be ready at once: a workflow fans out, a backend starts again, a worker comes back. They wait in
line here, in memory and in the order of their coming; the rows say what waits, and are looked at again when a call is
made. While the breaker of a lane is open nobody leaves it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from nexuskit.backend.nexus.breaker import Breaker, Fault, Verdict
from nexuskit.backend.times import SECOND, timestamp

if TYPE_CHECKING:
    from nexuskit.backend.agenda import Agenda, Waiting
    from nexuskit.backend.clock import Alarm, Clock
    from nexuskit.backend.settings import Limits


class Place(NamedTuple):
    """Which lane.

    Attributes:
        kind: of the rows whose calls they are: starts, cancellations and callbacks do not get in each other's way.
        namespace_id: the caller's.
        destination: an endpoint's id, however the caller names it; scheme, host and port of a callback's URL.
    """

    kind: str
    namespace_id: str
    destination: str


class Said(NamedTuple):
    """What a call says of its destination, and why, where it is unwell."""

    verdict: Verdict
    fault: Fault | None = None


NOTHING_SAID = Said(Verdict.NOTHING)

Call = Callable[["Waiting"], Awaitable[Said]]


class _Lane:
    __slots__ = ("alarm", "breaker", "call", "line", "under_way")

    def __init__(self, call: Call, breaker: Breaker) -> None:
        self.call = call
        self.breaker = breaker
        self.line: deque[Waiting] = deque()
        self.under_way = 0
        self.alarm: Alarm | None = None


class Lanes:
    """All lanes of a backend. In memory only: after a crash every breaker is closed."""

    def __init__(self, agenda: Agenda, clock: Clock, limits: Limits) -> None:
        self._agenda = agenda
        self._clock = clock
        self._limits = limits
        self._lanes: dict[Place, _Lane] = {}
        self._known: set[Waiting] = set()
        """What is in line or under way: it is entered once, however often it is offered."""

    def enter(self, place: Place, waiting: Waiting, call: Call) -> None:
        """Put a row's call in line; `call` makes it when its turn comes, and looks whether it still waits."""
        if waiting in self._known:
            return
        self._known.add(waiting)
        lane = self._lanes.get(place)
        if lane is None:
            breaker = Breaker(self._limits.BREAKER_FAILURES, self._limits.BREAKER_PAUSE)
            lane = self._lanes[place] = _Lane(call, breaker)
        lane.line.append(waiting)
        self._forget()
        self._move(place, lane)

    def _forget(self) -> None:
        """Let go of the oldest lanes on which nothing waits, if there are too many."""
        spare = len(self._lanes) - self._limits.BREAKERS
        if spare > 0:
            empty = (place for place, lane in self._lanes.items() if not lane.line and not lane.under_way)
            for place in list(islice(empty, spare)):
                del self._lanes[place]

    def holds(self, waiting: Waiting) -> bool:
        """Whether a row's call is in line or under way."""
        return waiting in self._known

    def blocked(self, place: Place, shown: str = "") -> str:
        """Why calls of this lane are not made just now; empty if they are.

        Args:
            place: which lane.
            shown: what its destination is called, if not as in its place.
        """
        lane = self._lanes.get(place)
        if lane is None or lane.breaker.closed:
            return ""
        breaker = lane.breaker
        whose = sorted({repr(fault.whose) for fault in breaker.faults})
        until = timestamp(breaker.open_until)
        when = until.ToJsonString() if until is not None else "now"
        return (
            f"The circuit breaker is open. {shown or place.destination!r} was unwell {breaker.failures} times in a row,"
            f" for {', '.join(whose)}; the last time: {breaker.faults[-1].why}. One call is tried at {when},"
            f" {self._limits.BREAKER_PAUSE // SECOND} s after the last failure; when it comes through, all are made."
        )

    def _move(self, place: Place, lane: _Lane) -> None:
        """Let those go whose turn it is."""
        now = self._clock.now()
        while lane.line and lane.under_way < self._limits.NEXUS_CALLS_IN_FLIGHT:
            admitted = lane.breaker.admit(now)
            if admitted is None:
                if lane.alarm is None and lane.breaker.open_until > now:
                    lane.alarm = self._clock.at(lane.breaker.open_until, lambda: self._again(place, lane))
                break
            waiting = lane.line.popleft()
            lane.under_way += 1
            what = f"{place.kind} {waiting.key} of execution {waiting.execution}"
            self._agenda.spawn(self._make(place, lane, waiting, admitted), what)
        if not lane.line and not lane.under_way and lane.breaker.idle and self._lanes.get(place) is lane:
            del self._lanes[place]

    def _again(self, place: Place, lane: _Lane) -> None:
        lane.alarm = None
        self._move(place, lane)

    async def _make(self, place: Place, lane: _Lane, waiting: Waiting, admitted: int) -> None:
        said = NOTHING_SAID

        async def make(waiting: Waiting) -> None:
            nonlocal said
            said = await lane.call(waiting)

        try:
            await self._agenda.carry_out(make, waiting)
        finally:
            self._known.discard(waiting)
            lane.under_way -= 1
            lane.breaker.report(admitted, said.verdict, self._clock.now(), said.fault)
            self._move(place, lane)
