"""Task queues in memory: tasks that wait for a poller, pollers that wait for a task.

A queue holds either tasks or pollers, never both: whoever comes second is served at once, in the order of coming. A
task here is only a hint that something waits; the execution itself decides whether it still does. So nothing is lost
when a poller goes away or the process dies: what waits is in the execution's rows, and start-up offers it again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from nexuskit.backend import limits

if TYPE_CHECKING:
    from nexuskit.backend.clock import Clock
    from nexuskit.backend.history.state import Destination

T = TypeVar("T")


class _Offered(NamedTuple, Generic[T]):
    number: int
    """Of two with the same key the one with the higher number is the newer one."""
    key: Hashable
    task: T


class _Queue(Generic[T]):
    __slots__ = ("pollers", "tasks")

    def __init__(self) -> None:
        self.tasks: OrderedDict[Hashable, _Offered[T]] = OrderedDict()
        self.pollers: deque[asyncio.Future[_Offered[T] | None]] = deque()

    @property
    def empty(self) -> bool:
        return not self.tasks and not self.pollers


class Matching(Generic[T]):
    """All task queues of a backend. Of one key, a queue holds at most one task: the newest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._closed = False
        self._count = 0
        self._polled: dict[Destination, int] = {}
        self._queues: dict[Destination, _Queue[T]] = {}

    def offer(self, destination: Destination, key: Hashable, task: T, *, first: bool = False) -> None:
        """A task waits: the poller that has waited longest gets it, or it queues.

        With `first` it is one that is given back: it goes before the others, unless a newer one of its key waits.
        """
        self._count += 1
        self._place(destination, _Offered(0 if first else self._count, key, task), first=first)

    def _place(self, destination: Destination, offered: _Offered[T], *, first: bool) -> None:
        queue = self._queue(destination)
        while queue.pollers:
            poller = queue.pollers.popleft()
            if not poller.done():
                poller.set_result(offered)
                return
        there = queue.tasks.get(offered.key)
        if there is not None and there.number > offered.number:
            return
        queue.tasks[offered.key] = offered
        queue.tasks.move_to_end(offered.key, last=not first)

    def withdraw(self, destination: Destination, key: Hashable) -> None:
        """The task of that key waits no more; nothing happens if it does not."""
        queue = self._queues.get(destination)
        if queue is not None:
            queue.tasks.pop(key, None)
            self._drop_empty(destination, queue)

    async def take(self, destination: Destination, until: int) -> tuple[Hashable, T] | None:
        """The next task of a queue; None if there is none until the moment `until` (ns).

        A caller that is cancelled while it waits gives back what it was just handed.
        """
        if self._closed:
            return None
        self._remember_poll(destination)
        queue = self._queue(destination)
        if queue.tasks:
            _, offered = queue.tasks.popitem(last=False)
            self._drop_empty(destination, queue)
            return offered.key, offered.task
        poller: asyncio.Future[_Offered[T] | None] = asyncio.get_running_loop().create_future()
        queue.pollers.append(poller)
        alarm = self._clock.at(until, lambda: _expire(poller))
        try:
            handed = await poller
            return (handed.key, handed.task) if handed is not None else None
        except asyncio.CancelledError:
            if poller.done() and not poller.cancelled() and (handed := poller.result()) is not None:
                self._place(destination, handed, first=True)
            raise
        finally:
            alarm.cancel()
            self._remember_poll(destination)
            if poller in queue.pollers:
                queue.pollers.remove(poller)
            self._drop_empty(destination, queue)

    def polled(self, destination: Destination, within: int) -> bool:
        """Whether somebody polls a queue, or did within that span (ns)."""
        return self.pollers(destination) > 0 or self._polled.get(destination, 0) > self._clock.now() - within

    def forget(self, destination: Destination) -> list[T]:
        """Nobody will poll a queue any more. Returns the tasks that wait in it."""
        self._polled.pop(destination, None)
        queue = self._queues.get(destination)
        return [offered.task for offered in queue.tasks.values()] if queue else []

    def _remember_poll(self, destination: Destination) -> None:
        now = self._clock.now()
        self._polled[destination] = now
        if len(self._polled) > limits.POLLED_QUEUES:
            lately = now - limits.STICKY_POLLED_WITHIN
            self._polled = {queue: when for queue, when in self._polled.items() if when > lately}

    def close(self) -> None:
        """Every poller gets nothing, now and from now on."""
        self._closed = True
        for queue in list(self._queues.values()):
            for poller in queue.pollers:
                _expire(poller)

    def pollers(self, destination: Destination) -> int:
        """How many pollers wait at a queue."""
        queue = self._queues.get(destination)
        return len(queue.pollers) if queue else 0

    def backlog(self, destination: Destination) -> int:
        """How many tasks wait in a queue."""
        queue = self._queues.get(destination)
        return len(queue.tasks) if queue else 0

    def _queue(self, destination: Destination) -> _Queue[T]:
        queue = self._queues.get(destination)
        if queue is None:
            queue = self._queues[destination] = _Queue()
        return queue

    def _drop_empty(self, destination: Destination, queue: _Queue[T]) -> None:
        if queue.empty and self._queues.get(destination) is queue:
            del self._queues[destination]


def _expire(poller: asyncio.Future[Any]) -> None:
    if not poller.done():
        poller.set_result(None)
