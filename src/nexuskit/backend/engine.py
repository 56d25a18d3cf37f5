"""The engine: brings requests, executions, the store, queues and time together.

One request goes like this. Its execution is in the cache, or is loaded. `run` lets a `decide` function of the core
work on it, within a transaction: the core says what happens, and either all of it holds or nothing does. What changed
joins the open commit group, the indexes of changed rows go to the queues and alarms, and whoever has to answer waits
for the group to be on disk. There is no `await` between a loaded execution and its settled transaction: that is the
lock.

Effects are not a list of their own. What must happen next is what the rows' indexes say: a task waits in a queue, a
moment comes, a call is to be made. After a crash the indexes are read from disk and offered in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec
from temporalio.api.history.v1 import History, HistoryEvent

from nexuskit.backend import limits
from nexuskit.backend.alarms import Alarms
from nexuskit.backend.errors import Code, InvariantError, StatusError, not_found
from nexuskit.backend.history import workflow_task
from nexuskit.backend.history.rules import ROWS, RULES
from nexuskit.backend.history.state import NOTHING, Destination, Execution, Index, Info, Key
from nexuskit.backend.history.transaction import Transaction
from nexuskit.backend.matching.queues import Matching
from nexuskit.backend.store.group import Batch, batch
from nexuskit.backend.store.store import Store, Ticket
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import Any

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.history.transaction import Draw
    from nexuskit.backend.store.database import Database
    from nexuskit.backend.store.group import Group
    from nexuskit.backend.store.reader import Entry

log = logging.getLogger("nexuskit.backend.engine")

T = TypeVar("T")


class Waiting(NamedTuple):
    """A row that waits: what a queue or an effect's executor is given. The row itself says whether it still does."""

    execution: int
    kind: str
    key: Key
    stamp: int


class _Due(msgspec.Struct, frozen=True):
    """Key of an alarm: the row must be looked at."""

    execution: int
    kind: str
    key: Key


class _Ready(msgspec.Struct, frozen=True):
    """Key of an alarm: the row may be taken at its destination from now on."""

    execution: int
    kind: str
    key: Key


class Resident:
    """An execution in memory, with its newest events and those who wait for more."""

    __slots__ = (
        "__weakref__",
        "events",
        "events_size",
        "execution",
        "last_watchers",
        "lost",
        "new",
        "ticket",
        "watchers",
    )

    def __init__(self, execution: Execution, *, new: bool = False) -> None:
        self.execution = execution
        self.new = new
        self.lost = False
        self.ticket: Ticket | None = None
        self.events: deque[Batch] = deque()
        self.events_size = 0
        # Sets, but in the order of coming: nothing here depends on the order of hashes.
        self.watchers: dict[asyncio.Future[None], None] = {}
        self.last_watchers: dict[asyncio.Future[None], None] = {}

    @property
    def settled(self) -> bool:
        """All that happened to it is on disk."""
        return self.ticket is None or self.ticket.done

    @property
    def watched(self) -> bool:
        """Somebody waits for its events."""
        return bool(self.watchers or self.last_watchers)

    def remember(self, written: Batch) -> None:
        """Keep newly written events at hand, and let the oldest go when they are too many."""
        self.events.append(written)
        self.events_size += len(written.body)
        while self.events_size > limits.CACHED_EVENTS_SIZE and len(self.events) > 1:
            self.events_size -= len(self.events.popleft().body)


class Engine:
    """All executions of one backend."""

    def __init__(self, database: Database, clock: Clock, draw: Draw) -> None:
        self.clock = clock
        self.draw = draw
        self.store = Store(database, self._lost)
        self.tasks: Matching[Any] = Matching(clock)
        self.endpoints: Mapping[str, str] = {}
        """Name → id of every Nexus endpoint; kept by the registry."""
        self.effects: dict[str, Callable[[Waiting], Coroutine[Any, Any, None]]] = {}
        """Kind of destination that the backend serves by itself → what carries it out."""
        self._residents: OrderedDict[int, Resident] = OrderedDict()
        # An execution that left the cache while somebody works on it is found again, never loaded a second time.
        self._alive: WeakValueDictionary[int, Resident] = WeakValueDictionary()
        self._by_run: WeakValueDictionary[str, Resident] = WeakValueDictionary()
        self._loading: dict[int, asyncio.Future[Resident | None]] = {}
        self._currents: OrderedDict[tuple[str, str], int | None] = OrderedDict()
        self._alarms = Alarms(clock, self._ring)
        self._indexes: dict[_Ready, Index] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._fires = asyncio.Semaphore(limits.FIRES_IN_FLIGHT)
        self._next_execution = 1
        self.stopping = False
        """Whether long polls are to end."""
        self._closed = False

    # --- start and stop

    def resume(self, entries: Iterable[Entry], last_execution: int) -> None:
        """Go on with what is on disk: every index is offered as if it had just been written."""
        self._next_execution = last_execution + 1
        for execution, kind, key, index in entries:
            self._enlist(execution, kind, key, NOTHING, index)

    def end_polls(self) -> None:
        """Everybody who waits for something to happen is answered now, with what there is."""
        self.stopping = True
        self.tasks.close()
        for resident in list(self._alive.values()):
            self._wake(resident)

    async def close(self) -> None:
        """Stop what goes on by itself, then write what is there."""
        self._closed = True
        self._alarms.close()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.store.close()

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

    # --- finding executions

    async def get(self, number: int) -> Resident:
        """The execution of that number, loaded if it is not in memory.

        Raises:
            StatusError: NOT_FOUND, if there is none.
        """
        resident = self.at_hand(number)
        if resident is not None:
            return resident
        flight = self._loading.get(number)
        if flight is None:
            flight = asyncio.ensure_future(self._load(number))
            self._loading[number] = flight
            flight.add_done_callback(lambda _: self._loading.pop(number, None))
        loaded = await asyncio.shield(flight)
        if loaded is None:
            raise not_found(f"workflow execution not found: number {number}")
        return loaded

    async def _load(self, number: int) -> Resident | None:
        execution = await self.store.reader.execution(number)
        if execution is None:
            return None
        resident = Resident(execution)
        self._keep(resident)
        return resident

    def at_hand(self, number: int) -> Resident | None:
        """The execution of that number if it is in memory."""
        resident = self._residents.get(number)
        if resident is not None:
            self._residents.move_to_end(number)
            return resident
        resident = self._alive.get(number)
        if resident is not None:
            self._keep(resident)
        return resident

    async def current(self, namespace: str, workflow_id: str) -> int | None:
        """The number of the newest run of a workflow id; None if it never ran."""
        place = (namespace, workflow_id)
        if place not in self._currents:
            number = await self.store.reader.current_run(namespace, workflow_id)
            if place not in self._currents:  # a run may have been started meanwhile
                self._currents[place] = number
                while len(self._currents) > 2 * limits.CACHED_EXECUTIONS and self._forget_oldest_current():
                    pass
        return self._currents[place]

    def _forget_oldest_current(self) -> bool:
        place, number = next(iter(self._currents.items()))
        resident = self._residents.get(number) if number is not None else None
        if resident is not None and not resident.settled:
            self._currents.move_to_end(place)
            return False
        del self._currents[place]
        return True

    async def find(self, namespace: str, workflow_id: str, run_id: str = "") -> Resident:
        """A run by its ids; the newest one of the workflow id where no run is named.

        Raises:
            StatusError: NOT_FOUND, if there is none.
        """
        if not run_id:
            number = await self.current(namespace, workflow_id)
        else:
            resident = self._by_run.get(run_id)
            if resident is not None:
                info = resident.execution.info
                if (info.namespace_id, info.workflow_id) == (namespace, workflow_id):
                    return resident
            number = await self.store.reader.run_number(namespace, workflow_id, run_id)
        if number is None:
            run = f", run {run_id}" if run_id else ""
            raise not_found(f"workflow not found for ID: {workflow_id!r}{run}")
        return await self.get(number)

    # --- changing executions

    def create(self, info: Info, decide: Callable[[Transaction], T]) -> tuple[Resident, T]:
        """A new run of a workflow id, which from now on is its newest one. What `decide` answers comes along."""
        execution = Execution(self._next_execution, info)
        self._next_execution += 1
        resident = Resident(execution, new=True)
        answer = self.run(resident, decide)
        self._keep(resident)
        place = (info.namespace_id, info.workflow_id)
        before = self._currents.get(place)
        self._currents[place] = execution.id
        group, _ = self.store.group()
        group.set_current(*place, execution.id)
        group.on_failure(lambda: self._revert_current(place, before))
        return resident, answer

    def _revert_current(self, place: tuple[str, str], before: int | None) -> None:
        if before is None:
            self._currents.pop(place, None)
        else:
            self._currents[place] = before

    def run(self, resident: Resident, decide: Callable[[Transaction], T]) -> T:
        """Let `decide` work on an execution: all that it adds holds, or nothing if it raises.

        Raises:
            StatusError: UNAVAILABLE, if what is in memory was lost with a commit that failed; and what `decide` raises.
        """
        if resident.lost:
            raise StatusError(Code.UNAVAILABLE, "The database could not be written; ask again.")
        execution = resident.execution
        tx = Transaction(RULES, execution, self.clock.now(), self.draw, self.endpoints)
        try:
            answer = decide(tx)
        except BaseException:
            execution.discard()
            raise
        changes = execution.changes()
        written = batch(tx.events)
        if not changes and written is None and not resident.new:
            execution.discard()
            return answer
        info = execution.info
        info.transitions += 1
        group, ticket = self.store.group()
        group.add_execution(execution, changes, written, new=resident.new)
        before = [change.before.index(info) if change.before is not None else NOTHING for change in changes]
        execution.settle()
        resident.new = False
        resident.ticket = ticket
        if written is not None:
            resident.remember(written)
            group.after(lambda: self._wake(resident))
        for change, was in zip(changes, before, strict=True):
            self._enlist(
                execution.id, change.kind, change.key, was, change.after.index(info) if change.after else NOTHING
            )
        return answer

    @contextmanager
    def handing(self, destination: Destination, key: Hashable, waiting: Waiting) -> Generator[None]:
        """A task is on its way to a poller: should the poller go away, the task is the first in its queue again."""
        try:
            yield
        except asyncio.CancelledError:
            self.tasks.offer(destination, key, waiting, first=True)
            raise

    async def durable(self, resident: Resident) -> None:
        """Wait until all that has happened to an execution so far is on disk.

        Raises:
            StatusError: UNAVAILABLE, if it could not be written.
        """
        if resident.ticket is not None:
            await resident.ticket.wait()

    # --- events

    async def batches(self, resident: Resident, first_id: int, last_id: int, size: int) -> list[Batch]:
        """Batches that hold the events from `first_id` to `last_id`, up to about `size` bytes, at least one batch.

        Newly written ones are at hand; whoever shows them to somebody waits for `durable` first.
        """
        if first_id > last_id:
            return []
        if not resident.events or resident.events[0].first_id > first_id:
            await self.durable(resident)
            return await self.store.reader.batches(resident.execution.id, first_id, last_id, size)
        found: list[Batch] = []
        total = 0
        for each in resident.events:
            if each.last_id < first_id:
                continue
            if each.first_id > last_id or total >= size:
                break
            found.append(each)
            total += len(each.body)
        return found

    async def events(self, resident: Resident, first_id: int, last_id: int, size: int) -> list[HistoryEvent]:
        """The events from `first_id` to `last_id`, up to about `size` bytes, at least one."""
        found = await self.batches(resident, first_id, last_id, size)
        events = History.FromString(b"".join(each.body for each in found)).events
        return [event for event in events if first_id <= event.event_id <= last_id]

    async def event(self, resident: Resident, event_id: int) -> HistoryEvent:
        """One event of history."""
        events = await self.events(resident, event_id, event_id, 1)
        if not events:
            raise InvariantError(f"event {event_id} of execution {resident.execution.id} is not on disk")
        return events[0]

    async def more_events(self, resident: Resident, until: int, *, last: bool = False) -> None:
        """Wait until an event is added to history and on disk, or the moment `until` (ns) has come.

        Args:
            resident: the execution.
            until: when to stop waiting.
            last: wait for the event that closes the run, whatever comes before.
        """
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watchers = resident.last_watchers if last else resident.watchers
        watchers[watcher] = None
        alarm = self.clock.at(until, lambda: _resolve(watcher))
        try:
            await watcher
        finally:
            alarm.cancel()
            watchers.pop(watcher, None)

    def _wake(self, resident: Resident) -> None:
        for watcher in list(resident.watchers):
            _resolve(watcher)
        if self.stopping or resident.lost or not resident.execution.info.running:
            for watcher in list(resident.last_watchers):
                _resolve(watcher)

    # --- what must happen next

    def _enlist(self, execution: int, kind: str, key: Key, before: Index, after: Index) -> None:
        if after == before:
            return
        if after.due != before.due:
            self._alarms.set(_Due(execution, kind, key), after.due)
        old, new = (before.destination, before.ready, before.stamp), (after.destination, after.ready, after.stamp)
        if old == new:
            return
        place = _Ready(execution, kind, key)
        if before.destination is not None:
            self._indexes.pop(place, None)
            self._alarms.set(place, 0)
            self.tasks.withdraw(before.destination, place)
        if after.destination is not None:
            if after.ready > self.clock.now():
                self._indexes[place] = after
                self._alarms.set(place, after.ready)
            else:
                self._offer(place, after)

    def _offer(self, place: _Ready, index: Index) -> None:
        destination = index.destination
        if destination is None:
            return
        waiting = Waiting(place.execution, place.kind, place.key, index.stamp)
        effect = self.effects.get(destination.kind)
        resident = self._residents.get(place.execution)
        if effect is None:
            if resident is not None and index.due and self._is_left(resident, place, destination):
                self.run(resident, workflow_task.unstick)
            else:
                self.tasks.offer(destination, place, waiting)
            return
        if resident is None or resident.settled:
            self.spawn(self._carry_out(effect, waiting), f"{place.kind} {place.key} of execution {place.execution}")
        else:
            # Nothing leaves before the commit that made it is on disk.
            group, _ = self.store.group()
            what = f"{place.kind} {place.key} of execution {place.execution}"
            group.after(lambda: self.spawn(self._carry_out(effect, waiting), what))

    def _is_left(self, resident: Resident, place: _Ready, destination: Destination) -> bool:
        """Whether this is a workflow task for a sticky queue that nobody polls."""
        task = workflow_task.current(resident.execution) if place.kind == workflow_task.WorkflowTask.kind else None
        if task is None or task.started or not task.sticky_timeout:
            return False
        return not self.tasks.polled(destination, limits.STICKY_POLLED_WITHIN)

    async def _carry_out(self, effect: Callable[[Waiting], Coroutine[Any, Any, None]], waiting: Waiting) -> None:
        try:
            await effect(waiting)
        except Exception as error:
            # The disk failed, or we have a bug. What is on disk still says that this is to be done, so it is.
            log.error("%s %s of execution %d is tried again in %d s: %s", waiting.kind, waiting.key, waiting.execution,
                      limits.FAULT_PAUSE // SECOND, error, exc_info=not isinstance(error, StatusError))  # fmt: skip
            place = _Ready(waiting.execution, waiting.kind, waiting.key)
            self._indexes[place] = Index(0, Destination(waiting.kind, ""), 0, waiting.stamp)
            self._alarms.set(place, self.clock.now() + limits.FAULT_PAUSE)

    def _ring(self, key: Hashable) -> None:
        if isinstance(key, _Ready):
            index = self._indexes.pop(key, None)
            if index is not None:
                self._offer(key, index)
        elif isinstance(key, _Due):
            resident = self._residents.get(key.execution)
            if resident is not None:
                self._fire(resident, key)
            else:
                self.spawn(self._load_and_fire(key), f"due {key.kind} {key.key} of execution {key.execution}")

    async def _load_and_fire(self, key: _Due) -> None:
        async with self._fires:
            try:
                resident = await self.get(key.execution)
            except Exception as error:  # noqa: BLE001, logged, and looked at again
                self._fire_later(key, error)
                return
            self._fire(resident, key)

    def _fire(self, resident: Resident, key: _Due) -> None:
        row = resident.execution.of(ROWS[key.kind]).get(key.key)
        if row is None:
            return
        due = RULES.due[key.kind]
        try:
            self.run(resident, lambda tx: due(tx, row))
        except Exception as error:  # noqa: BLE001, logged, and looked at again
            self._fire_later(key, error)

    def _fire_later(self, key: _Due, error: Exception) -> None:
        log.error("%s %s of execution %d is due and looked at again in %d s: %s", key.kind, key.key, key.execution,
                  limits.FAULT_PAUSE // SECOND, error, exc_info=not isinstance(error, StatusError))  # fmt: skip
        self._alarms.set(key, self.clock.now() + limits.FAULT_PAUSE)

    # --- memory

    def _keep(self, resident: Resident) -> None:
        execution = resident.execution
        self._residents[execution.id] = self._alive[execution.id] = self._by_run[execution.info.run_id] = resident
        spare = len(self._residents) - limits.CACHED_EXECUTIONS
        if spare > 0:
            for number, oldest in list(islice(self._residents.items(), spare + 16)):
                if oldest.settled and not oldest.watched and oldest is not resident:
                    del self._residents[number]

    def _lost(self, group: Group) -> None:
        """A group failed: what was built on it is forgotten, and read again from disk when it is wanted."""
        for number, touched in group.executions.items():
            self._residents.pop(number, None)
            resident = self._alive.pop(number, None)
            for kind, key, row in list(touched.execution.rows()):
                self._enlist(number, kind, key, row.index(touched.execution.info), NOTHING)
            if resident is not None:
                resident.lost = True
                self._by_run.pop(resident.execution.info.run_id, None)
                self._wake(resident)
            if not touched.new:
                self.spawn(self._enlist_again(number), f"reading execution {number} again")

    async def _enlist_again(self, number: int) -> None:
        resident = await self.get(number)
        info = resident.execution.info
        for kind, key, row in list(resident.execution.rows()):
            self._enlist(number, kind, key, NOTHING, row.index(info))


def _resolve(watcher: asyncio.Future[None]) -> None:
    if not watcher.done():
        watcher.set_result(None)
