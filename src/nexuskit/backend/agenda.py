"""What must happen next: the indexes of all rows, entered into queues and alarms.

There is no list of effects beside the rows. A row's index says that a task waits in a queue, that a moment comes, or
that a call is to be made; when a transaction is settled, what it changed is entered here. After a crash the indexes are
read from disk and entered in the same way, and that is all there is to recovery.

Everything here is a hint. Whoever acts on one asks the execution first, by the stamp, whether the row still says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nexuskit.backend.alarms import Alarms
from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import workflow_task
from nexuskit.backend.history.rules import ROWS, RULES
from nexuskit.backend.history.state import Destination, Index, Key
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from nexuskit.backend.engine import Engine, Resident

    Effect = Callable[["Waiting"], Coroutine[Any, Any, None]]

log = logging.getLogger("nexuskit.backend.agenda")


class Waiting(NamedTuple):
    """A row that waits: what a queue or an effect's executor is given. The row itself says whether it still does."""

    execution: int
    kind: str
    key: Key
    stamp: int


# Not tuples: two kinds of key for the same row must not be equal.


class Due(msgspec.Struct, frozen=True):
    """Key of an alarm: the row must be looked at."""

    execution: int
    kind: str
    key: Key


class Ready(msgspec.Struct, frozen=True):
    """Key of an alarm, and of a task in a queue: the row may be taken at its destination."""

    execution: int
    kind: str
    key: Key


class Agenda:
    """Enters indexes, and sees to it that what they say is done."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.effects: dict[str, Effect] = {}
        """Kind of destination that the backend serves by itself → what carries it out."""
        self.at_once: dict[str, int] = {}
        """Kind of destination → how many of it are carried out at once, where not all that are ready."""
        self._lines: dict[str, deque[Waiting]] = {}
        self._running: Counter[str] = Counter()
        self._alarms = Alarms(engine.clock, self._ring)
        self._later: dict[Ready, Index] = {}
        """Rows that may be taken only from a moment on."""
        self._awaiting: dict[str, dict[Ready, None]] = {}
        """Task queue that nobody polled → the rows whose next attempt need not wait once somebody does."""
        self._background: set[asyncio.Task[None]] = set()
        self._fires = asyncio.Semaphore(self._engine.limits.FIRES_IN_FLIGHT)
        self._closed = False

    def enter(self, execution: int, kind: str, key: Key, before: Index, after: Index) -> None:
        """A row's index was `before` and is `after`; `NOTHING` stands for a row that is not there."""
        if after == before:
            return
        if after.due != before.due:
            self._alarms.set(Due(execution, kind, key), after.due)
        old, new = (before.destination, before.ready, before.stamp), (after.destination, after.ready, after.stamp)
        if old == new:
            return
        place = Ready(execution, kind, key)
        if before.destination is not None:
            self._later.pop(place, None)
            self._alarms.set(place, 0)
            self._engine.tasks.withdraw(before.destination, place)
            if before.destination.kind in self.effects and before.destination.queue:
                self._await_no_more(before.destination.queue, place)
        if after.destination is not None:
            if after.destination.kind in self.effects and after.destination.queue:
                self._awaiting.setdefault(after.destination.queue, {})[place] = None
            if after.ready > self._engine.clock.now():
                self._later[place] = after
                self._alarms.set(place, after.ready)
            else:
                self._offer(place, after)

    def _await_no_more(self, queue: str, place: Ready) -> None:
        places = self._awaiting.get(queue)
        if places is not None:
            places.pop(place, None)
            if not places:
                del self._awaiting[queue]

    def wake(self, queue: str) -> None:
        """Somebody polls this task queue, or calls go elsewhere from now on: what waits for that waits no more."""
        for place in list(self._awaiting.get(queue, ())):
            index = self._later.pop(place, None)
            if index is not None:  # else its attempt is under way
                self._alarms.set(place, 0)
                self._offer(place, index)

    def _offer(self, place: Ready, index: Index) -> None:
        destination = index.destination
        if destination is None:
            return
        waiting = Waiting(place.execution, place.kind, place.key, index.stamp)
        effect = self.effects.get(destination.kind)
        resident = self._engine.at_hand(place.execution)
        if effect is None:
            if resident is not None and index.due and self._is_left(resident, place, destination):
                self._engine.run(resident, workflow_task.unstick)
            else:
                self._engine.tasks.offer(destination, place, waiting, since=index.ready or None)
            return
        if resident is None or resident.settled:
            self._begin(effect, waiting)
        else:
            # Nothing leaves before the commit that made it is on disk.
            group, _ = self._engine.store.group()
            group.after(lambda: self._begin(effect, waiting))

    def _begin(self, effect: Effect, waiting: Waiting) -> None:
        """Carry it out, or let it wait its turn."""
        kind = waiting.kind
        limit = self.at_once.get(kind)
        if limit is None:
            work = self.carry_out(effect, waiting)
        elif self._running[kind] < limit:
            self._running[kind] += 1
            work = self._next(effect, waiting)
        else:
            self._lines.setdefault(kind, deque()).append(waiting)
            return
        self.spawn(work, f"{kind} {waiting.key} of execution {waiting.execution}")

    async def _next(self, effect: Effect, waiting: Waiting) -> None:
        try:
            await self.carry_out(effect, waiting)
        finally:
            self._running[waiting.kind] -= 1
            line = self._lines.get(waiting.kind)
            if line:
                self._begin(effect, line.popleft())

    def _is_left(self, resident: Resident, place: Ready, destination: Destination) -> bool:
        """Whether this is a workflow task for a sticky queue that nobody polls."""
        task = workflow_task.current(resident.execution) if place.kind == workflow_task.WorkflowTask.kind else None
        if task is None or task.started or not task.sticky_timeout:
            return False
        return not self._engine.tasks.polled(destination, self._engine.limits.STICKY_POLLED_WITHIN)

    async def carry_out(self, effect: Effect, waiting: Waiting) -> None:
        """Carry out an effect; if the disk or we fail, it is offered again after a pause."""
        try:
            await effect(waiting)
        except Exception as error:
            gone = isinstance(error, StatusError) and error.code == Code.NOT_FOUND
            if gone and self._engine.at_hand(waiting.execution) is None:
                return  # it was deleted
            # The disk failed, or we have a bug. What is on disk still says that this is to be done, so it is.
            pause = self._engine.limits.FAULT_PAUSE
            log.error("%s %s of execution %d is tried again in %d s: %s", waiting.kind, waiting.key, waiting.execution,
                      pause // SECOND, error, exc_info=not isinstance(error, StatusError))  # fmt: skip
            place = Ready(waiting.execution, waiting.kind, waiting.key)
            if place not in self._later:  # else it saved something before it failed, and that is what comes next
                self._later[place] = Index(0, Destination(waiting.kind, ""), 0, waiting.stamp)
                self._alarms.set(place, self._engine.clock.now() + self._engine.limits.FAULT_PAUSE)

    def _ring(self, key: Hashable) -> None:
        if isinstance(key, Ready):
            index = self._later.pop(key, None)
            if index is not None:
                self._offer(key, index)
        elif isinstance(key, Due):
            resident = self._engine.at_hand(key.execution)
            if resident is not None:
                self._fire(resident, key)
            else:
                self.spawn(self._load_and_fire(key), f"due {key.kind} {key.key} of execution {key.execution}")

    async def _load_and_fire(self, key: Due) -> None:
        async with self._fires:
            try:
                resident = await self._engine.get(key.execution)
            except Exception as error:  # noqa: BLE001, logged, and looked at again
                if not (isinstance(error, StatusError) and error.code == Code.NOT_FOUND):  # else it was deleted
                    self._fire_later(key, error)
                return
            self._fire(resident, key)

    def _fire(self, resident: Resident, key: Due) -> None:
        row = resident.execution.of(ROWS[key.kind]).get(key.key)
        if row is None:
            return
        due = RULES.due[key.kind]
        try:
            self._engine.run(resident, lambda tx: due(tx, row))
        except Exception as error:  # noqa: BLE001, logged, and looked at again
            self._fire_later(key, error)

    def _fire_later(self, key: Due, error: Exception) -> None:
        pause = self._engine.limits.FAULT_PAUSE
        log.error("%s %s of execution %d is due and looked at again in %d s: %s", key.kind, key.key, key.execution,
                  pause // SECOND, error, exc_info=not isinstance(error, StatusError))  # fmt: skip
        self._alarms.set(key, self._engine.clock.now() + pause)

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Let something go on by itself; the engine owns it, and a fault in it is logged."""
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Nothing happens by itself any more."""
        self._closed = True
        self._alarms.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
