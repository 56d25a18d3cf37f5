"""Task queues in memory: tasks that wait for a poller, pollers that wait for a task.

Unless a rate limit holds them apart, a queue holds either tasks or pollers: whoever comes second is served at once, in
the order of coming. A task here is only a hint that something waits; the execution itself decides whether it still
does. So nothing is lost when a poller goes away or the process dies: what waits is in the execution's rows, and
start-up offers it again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from nexuskit.backend.matching.rates import Counter, Limit
from nexuskit.backend.settings import Limits

if TYPE_CHECKING:
    from nexuskit.backend.clock import Alarm, Clock
    from nexuskit.backend.history.state import Destination

T = TypeVar("T")


class Poller(NamedTuple):
    """Who polls.

    Attributes:
        identity: as the worker calls itself.
        worker: the key of the worker's instance; empty where it sends none.
        rate: tasks a second that the worker asks for, for its whole queue; None for no limit.
        sticky: the queue is the worker's own: nobody else polls it.
    """

    identity: str = ""
    worker: str = ""
    rate: float | None = None
    sticky: bool = False


NOBODY = Poller()


class Seen(NamedTuple):
    """When somebody polled last (ns), and the rate that was asked for."""

    time: int
    rate: float | None


class Stats(NamedTuple):
    """What is told of a queue: how many tasks wait, since when (ns, 0 for none), and how many come and go a second."""

    backlog: int
    oldest: int
    added: float
    dispatched: float
    limited: bool


class _Offered(NamedTuple, Generic[T]):
    number: int
    """Of two with the same key the one with the higher number is the newer one."""
    key: Hashable
    task: T
    since: int


class _Waiting(NamedTuple, Generic[T]):
    """A poller that waits."""

    handed: asyncio.Future[_Offered[T] | None]
    worker: str


class _Queue(Generic[T]):
    __slots__ = ("added", "alarm", "dispatched", "limit", "polled", "pollers", "seen", "sticky", "tasks")

    def __init__(self) -> None:
        self.tasks: OrderedDict[Hashable, _Offered[T]] = OrderedDict()
        self.pollers: deque[_Waiting[T]] = deque()
        self.polled = 0
        self.sticky = False
        self.seen: OrderedDict[str, Seen] = OrderedDict()
        self.added = Counter()
        self.dispatched = Counter()
        self.limit: Limit | None = None
        self.alarm: Alarm | None = None

    @property
    def idle(self) -> bool:
        """Nobody and nothing waits in it."""
        return not self.tasks and not self.pollers


class Matching(Generic[T]):
    """All task queues of a backend. Of one key, a queue holds at most one task: the newest."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._limits = limits
        self._clock = clock
        self._closed = False
        self._count = 0
        self._queues: dict[Destination, _Queue[T]] = {}
        self._sweep_at = 0
        self._rates: dict[Destination, float] = {}
        # Workers that have shut down, by their keys, and the queues that were theirs alone; the oldest are let go.
        self._ended: OrderedDict[Hashable, None] = OrderedDict()

    # --- tasks

    def offer(
        self, destination: Destination, key: Hashable, task: T, *, first: bool = False, since: int | None = None
    ) -> None:
        """A task waits: the poller that has waited longest gets it, or it queues.

        Args:
            destination: the queue.
            key: names the task; it takes the place of an older one of that name.
            task: what the poller gets.
            first: it is given back: it goes before the others, unless a newer one of its key waits.
            since: when it began to wait (ns); now, by default.
        """
        self._count += 1
        now = self._clock.now()
        queue = self._queue(destination)
        if not first:
            queue.added.add(now)
        offered = _Offered(0 if first else self._count, key, task, now if since is None else since)
        self._place(destination, queue, offered, first=first)

    def _place(self, destination: Destination, queue: _Queue[T], offered: _Offered[T], *, first: bool) -> None:
        if queue.limit is None and self._hand(queue, offered):
            return
        there = queue.tasks.get(offered.key)
        if there is None or there.number <= offered.number:
            queue.tasks[offered.key] = offered
            queue.tasks.move_to_end(offered.key, last=not first)
        if queue.limit is not None:
            self._match(destination, queue)

    def _hand(self, queue: _Queue[T], offered: _Offered[T]) -> bool:
        while queue.pollers:
            handed = queue.pollers.popleft().handed
            if not handed.done():
                handed.set_result(offered)
                queue.dispatched.add(self._clock.now())
                return True
        return False

    def _match(self, destination: Destination, queue: _Queue[T]) -> None:
        """Bring together whom the queue's rate limit lets; the rest follows by an alarm."""
        while queue.tasks and queue.pollers:
            if queue.pollers[0].handed.done():
                queue.pollers.popleft()
                continue
            if not self._may_go(destination, queue):
                return
            _, offered = queue.tasks.popitem(last=False)
            self._hand(queue, offered)

    def _may_go(self, destination: Destination, queue: _Queue[T]) -> bool:
        """Whether the rate limit lets one more go, which is counted then; if not, an alarm is set."""
        if queue.limit is None:
            return True
        now = self._clock.now()
        moment = queue.limit.ready()
        if moment <= now:
            queue.limit.take(now)
            return True
        if queue.alarm is None:
            queue.alarm = self._clock.at(moment, lambda: self._again(destination, queue))
        return False

    def _again(self, destination: Destination, queue: _Queue[T]) -> None:
        queue.alarm = None
        self._match(destination, queue)

    def withdraw(self, destination: Destination, key: Hashable) -> None:
        """The task of that key waits no more; nothing happens if it does not."""
        queue = self._queues.get(destination)
        if queue is not None:
            queue.tasks.pop(key, None)

    # --- pollers

    async def take(self, destination: Destination, until: int, poller: Poller = NOBODY) -> tuple[Hashable, T] | None:
        """The next task of a queue; None if there is none until the moment `until` (ns), or the worker has shut down.

        A caller that is cancelled while it waits gives back what it was just handed.
        """
        if self._closed or destination in self._ended or (poller.worker and poller.worker in self._ended):
            return None
        queue = self._queue(destination)
        self._remember(queue, poller)
        if poller is not NOBODY:
            self._set_limit(destination, queue, poller.rate)
        if queue.tasks and not queue.pollers and self._may_go(destination, queue):
            _, offered = queue.tasks.popitem(last=False)
            queue.dispatched.add(self._clock.now())
            return offered.key, offered.task
        waiting = _Waiting[T](asyncio.get_running_loop().create_future(), poller.worker)
        queue.pollers.append(waiting)
        if queue.tasks:
            self._match(destination, queue)
        alarm = self._clock.at(until, lambda: _expire(waiting))
        try:
            handed = await waiting.handed
            return (handed.key, handed.task) if handed is not None else None
        except asyncio.CancelledError:
            future = waiting.handed
            if future.done() and not future.cancelled() and (handed := future.result()) is not None:
                self._place(destination, self._queue(destination), handed, first=True)
            raise
        finally:
            alarm.cancel()
            if destination not in self._ended and not (poller.worker and poller.worker in self._ended):
                self._remember(queue, poller)
            if waiting in queue.pollers:
                queue.pollers.remove(waiting)

    def _remember(self, queue: _Queue[T], poller: Poller) -> None:
        now = self._clock.now()
        queue.polled = now
        queue.sticky = queue.sticky or poller.sticky
        if poller is not NOBODY:
            queue.seen[poller.identity] = Seen(now, poller.rate)
            queue.seen.move_to_end(poller.identity)
            if len(queue.seen) > self._limits.POLLERS_SEEN:
                queue.seen.popitem(last=False)

    def polled(self, destination: Destination, within: int) -> bool:
        """Whether somebody polls a queue, or did within that span (ns)."""
        queue = self._queues.get(destination)
        return queue is not None and (bool(queue.pollers) or queue.polled > self._clock.now() - within)

    def forget(self, destination: Destination) -> list[T]:
        """The worker whose queue this is has shut down: whoever waits there gets nothing, and nobody will.

        Returns:
            The tasks that wait in it. Empty, and nothing happens, if it was never polled as the queue of one worker.
        """
        queue = self._queues.get(destination)
        if queue is None or not queue.sticky:
            return []
        self._end(destination)
        queue.polled = 0
        queue.seen.clear()
        for waiting in queue.pollers:
            _expire(waiting)
        queue.pollers.clear()
        return [offered.task for offered in queue.tasks.values()]

    def shut_down(self, worker: str, identity: str) -> None:
        """A worker has shut down: its polls get nothing, now and from now on.

        Args:
            worker: the key of its instance.
            identity: what it called itself; no longer shown among the pollers of queues where it waited.
        """
        self._end(worker)
        for queue in self._queues.values():
            if any(waiting.worker == worker for waiting in queue.pollers):
                for waiting in queue.pollers:
                    if waiting.worker == worker:
                        _expire(waiting)
                queue.seen.pop(identity, None)

    def _end(self, who: Hashable) -> None:
        self._ended[who] = None
        self._ended.move_to_end(who)
        if len(self._ended) > self._limits.WORKERS_ENDED:
            self._ended.popitem(last=False)

    def close(self) -> None:
        """Every poller gets nothing, now and from now on."""
        self._closed = True
        for queue in self._queues.values():
            if queue.alarm is not None:
                queue.alarm.cancel()
            for waiting in queue.pollers:
                _expire(waiting)

    # --- rates

    def set_rate(self, destination: Destination, rate: float | None) -> None:
        """A limit (tasks a second) for a queue that counts more than what its workers ask for; None for none."""
        if rate is None:
            self._rates.pop(destination, None)
        else:
            self._rates[destination] = rate
        queue = self._queue(destination)
        newest = next(reversed(queue.seen.values()), None)
        self._set_limit(destination, queue, newest.rate if newest is not None else None)

    def _set_limit(self, destination: Destination, queue: _Queue[T], asked: float | None) -> None:
        """The newest poll's rate counts, and one that was set counts more."""
        rate = self._rates.get(destination, asked)
        if rate is None or rate >= self._limits.TASKS_PER_SECOND:
            if queue.limit is None:
                return
            queue.limit = None
        elif queue.limit is None:
            queue.limit = Limit(rate, self._clock.now())
        elif queue.limit.rate == rate:
            return
        else:
            queue.limit.change(rate, self._clock.now())
        if queue.alarm is not None:
            queue.alarm.cancel()
            queue.alarm = None
        self._match(destination, queue)

    # --- what is told of a queue

    def rate(self, destination: Destination) -> float | None:
        """At most so many tasks a second leave a queue; None for no limit of its own."""
        queue = self._queues.get(destination)
        if queue is None or queue.limit is None:
            return self._rates.get(destination)
        return queue.limit.rate

    def stats(self, destination: Destination) -> Stats:
        """What waits in a queue, and how it moves."""
        queue = self._queues.get(destination)
        if queue is None:
            return Stats(0, 0, 0.0, 0.0, limited=False)
        now = self._clock.now()
        oldest = min((each.since for each in queue.tasks.values()), default=0)
        limited = queue.limit is not None and bool(queue.tasks) and queue.limit.ready() > now
        return Stats(len(queue.tasks), oldest, queue.added.rate(now), queue.dispatched.rate(now), limited)

    def seen(self, destination: Destination) -> dict[str, Seen]:
        """Who polled a queue lately, by identity, the newest first."""
        queue = self._queues.get(destination)
        if queue is None:
            return {}
        lately = self._clock.now() - self._limits.POLLER_REMEMBERED
        return {identity: seen for identity, seen in reversed(queue.seen.items()) if seen.time > lately}

    def pollers(self, destination: Destination) -> int:
        """How many pollers wait at a queue."""
        queue = self._queues.get(destination)
        return len(queue.pollers) if queue else 0

    def backlog(self, destination: Destination) -> int:
        """How many tasks wait in a queue."""
        queue = self._queues.get(destination)
        return len(queue.tasks) if queue else 0

    # --- memory

    def _queue(self, destination: Destination) -> _Queue[T]:
        queue = self._queues.get(destination)
        if queue is None:
            if len(self._queues) >= max(self._sweep_at, self._limits.POLLED_QUEUES):
                self._sweep()
            queue = self._queues[destination] = _Queue()
            if destination in self._rates:
                queue.limit = Limit(self._rates[destination], self._clock.now())
        return queue

    def _sweep(self) -> None:
        """Let go of queues in which nothing waits and that nobody polled lately."""
        lately = self._clock.now() - self._limits.STICKY_POLLED_WITHIN
        self._queues = {
            destination: queue for destination, queue in self._queues.items() if not queue.idle or queue.polled > lately
        }
        self._sweep_at = 2 * len(self._queues)


def _expire(waiting: _Waiting[Any]) -> None:
    if not waiting.handed.done():
        waiting.handed.set_result(None)
