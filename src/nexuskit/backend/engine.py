"""The engine: brings requests, executions, the store, queues and time together.

One request goes like this. Its execution is in the cache, or is loaded. `run` lets a `decide` function of the core
work on it, within a transaction: the core says what happens, and either all of it holds or nothing does. What changed
joins the open commit group, the indexes of changed rows go to the queues and alarms, and whoever has to answer waits
for the group to be on disk. There is no `await` between a loaded execution and its settled transaction: that is the
lock.

What must happen next is what the rows' indexes say; see `agenda`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from temporalio.api.history.v1 import History, HistoryEvent

from nexuskit.backend.agenda import Agenda, Waiting
from nexuskit.backend.errors import Code, InvariantError, StatusError, invalid_argument, invariant, not_found
from nexuskit.backend.history import sizes
from nexuskit.backend.history.rules import RULES
from nexuskit.backend.history.state import NOTHING, Destination, Execution, Info, lasting
from nexuskit.backend.history.transaction import Successor, Transaction
from nexuskit.backend.matching.queues import Matching
from nexuskit.backend.residents import Resident, Residents
from nexuskit.backend.settings import Limits
from nexuskit.backend.store.group import Batch, batches
from nexuskit.backend.store.known import KnownIds
from nexuskit.backend.store.store import Store
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from nexuskit.backend.clock import Clock
    from nexuskit.backend.history.route import Route
    from nexuskit.backend.history.transaction import Catalogue, Draw
    from nexuskit.backend.nexus.tasks import NexusTask
    from nexuskit.backend.removal import Run
    from nexuskit.backend.store.database import Database
    from nexuskit.backend.store.group import Group
    from nexuskit.backend.store.reader import Entry

log = logging.getLogger("nexuskit.backend.engine")

T = TypeVar("T")


class Engine:
    """All executions of one backend."""

    def __init__(self, database: Database, clock: Clock, draw: Draw, limits: Limits) -> None:
        self.limits = limits
        self.clock = clock
        self.draw = draw
        self.store = Store(database, self._lost)
        self.tasks: Matching[Any] = Matching(clock, limits)
        self.endpoints: Mapping[str, Route] = {}
        """Name → id of every Nexus endpoint; kept by the registry."""
        self.namespaces: Mapping[str, str] = {}
        """Name → id of every namespace; likewise."""
        self.catalogues: Mapping[str, Catalogue] = {}
        """Id of every namespace → the search attributes it has; kept by the registry."""
        self.agenda = Agenda(self)
        self._residents = Residents(limits)
        self._loading: dict[int, asyncio.Future[Resident | None]] = {}
        self._currents: OrderedDict[tuple[str, str], int | None] = OrderedDict()
        self._parsed: tuple[bytes, History] = (b"", History())
        """The batch of which an event was wanted last, as it is stored and as a message."""
        self._known = KnownIds()
        self._removed: set[int] = set()
        """Runs that were removed, until the disk says so too."""
        self._removals = 0
        """How many runs the disk has said so of."""
        self._next_execution = 1
        self.stopping = False
        """Whether long polls are to end."""

    # --- start and stop

    def resume(self, entries: Iterable[Entry], last_execution: int) -> None:
        """Go on with what is on disk: every index is offered as if it had just been written."""
        self._next_execution = last_execution + 1
        self.agenda.spawn(self._learn_ids(), "learning which workflow ids ran")
        for execution, kind, key, index in entries:
            self.agenda.enter(execution, kind, key, NOTHING, index)

    async def _learn_ids(self) -> None:
        after = ("", "")
        while page := await self.store.reader.workflow_ids(after, self.limits.IDS_PAGE):
            for place in page:
                self._known.add(*place)
            after = page[-1]
        self._known.complete = True

    def end_polls(self) -> None:
        """Everybody who waits for something to happen is answered now, with what there is."""
        self.stopping = True
        self.tasks.close()
        for resident in self._residents.in_use():
            self._wake(resident)

    async def close(self) -> None:
        """Stop what goes on by itself, then write what is there."""
        await self.agenda.close()
        await self.store.close()

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
        if execution is None or number in self._removed:
            return None
        resident = Resident(execution)
        self._residents.keep(resident)
        return resident

    def at_hand(self, number: int) -> Resident | None:
        """The execution of that number if it is in memory."""
        return self._residents.get(number)

    async def current(self, namespace: str, workflow_id: str) -> int | None:
        """The number of the newest run of a workflow id; None if it never ran."""
        place = (namespace, workflow_id)
        if place not in self._currents:
            if not self._known.may_have_run(namespace, workflow_id):
                return None
            reading, number = -1, None
            while reading != self._removals:  # what was read may have been removed from the disk since
                reading = self._removals
                number = await self.store.reader.current_run(namespace, workflow_id)
            number = None if number in self._removed else number
            if place not in self._currents:  # a run may have been started meanwhile
                self._currents[place] = number
                while len(self._currents) > 2 * self.limits.CACHED_EXECUTIONS and self._forget_oldest_current():
                    pass
        return self._currents[place]

    def _forget_oldest_current(self) -> bool:
        place, number = next(iter(self._currents.items()))
        if number is not None and self._residents.unsettled(number):
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
            resident = self._residents.of_run(run_id)
            if resident is not None:
                info = resident.execution.info
                if (info.space, info.workflow_id) == (namespace, workflow_id):
                    return resident
            number = await self.store.reader.run_number(namespace, workflow_id, run_id)
        if number is None:
            if not run_id:
                raise not_found(f"workflow not found for ID: {workflow_id}")
            raise not_found(f'workflow execution not found for workflow ID "{workflow_id}" and run ID "{run_id}"')
        return await self.get(number)

    # --- changing executions

    def create(self, info: Info, decide: Callable[[Transaction], T]) -> tuple[Resident, T]:
        """A new run of a workflow id, which from now on is its newest one. What `decide` answers comes along."""
        resident = self.conceive(info)
        return resident, self.bear(resident, decide)

    def conceive(self, info: Info) -> Resident:
        """A new run that nobody can see yet, and that is gone if nothing comes of it."""
        return Resident(self._numbered(info), new=True)

    def copy(self, resident: Resident, decide: Callable[[Transaction], object]) -> None:
        """Give a run that was conceived a piece of history. Many pieces can be copied, while others work in between."""
        invariant(resident.new, "only a run that is still being made is given history")
        tx = self._transaction(resident.execution)
        decide(tx)
        resident.copied.extend(batches(tx.events))

    def bear(self, resident: Resident, decide: Callable[[Transaction], T]) -> T:
        """A run that was conceived begins, and from now on is the newest one of its workflow id."""
        answer = self.run(resident, decide)
        self._make_current(resident.execution)
        return answer

    def _make_current(self, execution: Execution) -> None:
        """This is the newest run of its workflow id."""
        info = execution.info
        place = (info.space, info.workflow_id)
        self._known.add(*place)
        before = self._currents.get(place)
        self._currents[place] = execution.id
        group, _ = self.store.group()
        group.set_current(*place, execution.id)
        group.on_failure(lambda: self._revert_current(place, before))

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
        if resident.removed:
            raise not_found(f"workflow execution not found: run {resident.execution.info.run_id} was deleted")
        tx = self._transaction(resident.execution)
        refusal: StatusError | None = None
        try:
            answer = decide(tx)
            if too_large := sizes.exceeded(tx):
                if resident.new:  # there is no run yet that could be ended
                    raise invalid_argument(too_large)
                resident.execution.discard()
                tx = self._transaction(resident.execution)
                refusal = sizes.end(tx, too_large)
            follower = self._begin(resident, tx.successor) if tx.successor is not None else None
        except BaseException:
            resident.execution.discard()
            raise
        self._settle(resident, tx.events)
        if follower is not None:
            self._settle(*follower)
            self._make_current(follower[0].execution)
        if resident.conversation is not None:
            resident.conversation.follow(tx)
        if refusal is not None:
            raise refusal
        return answer

    def _transaction(self, execution: Execution) -> Transaction:
        return Transaction(
            RULES, execution, self.clock.now(), self.draw, self.limits, self.endpoints, self.namespaces, self.catalogues
        )

    def _begin(self, ended: Resident, successor: Successor) -> tuple[Resident, list[HistoryEvent]]:
        """The run that follows one which has just ended: both are settled, or neither."""
        before = ended.execution.info
        info = Info(namespace_id=before.namespace_id, workflow_id=before.workflow_id, run_id=successor.run_id)
        execution = self._numbered(info)
        tx = self._transaction(execution)
        successor.begin(tx)
        return Resident(execution, new=True), tx.events

    def _numbered(self, info: Info) -> Execution:
        execution = Execution(self._next_execution, info)
        self._next_execution += 1
        return execution

    def _settle(self, resident: Resident, events: list[HistoryEvent]) -> None:
        """What a transaction changed is how things are, and joins the open commit group."""
        execution = resident.execution
        changes = execution.changes()
        written = [*resident.copied, *batches(events)]
        resident.copied.clear()
        info = execution.info
        before = [change.before.index(info) if change.before is not None else NOTHING for change in changes]
        kept = lasting(changes)
        if kept or written or resident.new or execution.info_changed:
            info.transitions += 1
            group, resident.ticket = self.store.group()
            group.add_execution(execution, kept, written, new=resident.new)
            resident.new = False
            if written:
                resident.remember(written, self.limits.CACHED_EVENTS_SIZE)
            if written or resident.watched:
                group.after(lambda: self._wake(resident))
        execution.settle()
        self._residents.keep(resident)  # it may have left while somebody had it; now it must stay
        for change, was in zip(changes, before, strict=True):
            self.agenda.enter(
                execution.id, change.kind, change.key, was, change.after.index(info) if change.after else NOTHING
            )

    def remove(self, run: Run) -> None:
        """A run is no more, for whoever asks from now on; what it had to do is not done. Its events go separately."""
        number, place = run.number, (run.space, run.workflow_id)
        group, ticket = self.store.group()
        group.remove_execution(number, *place)
        self._removed.add(number)
        if self._currents.get(place) == number:
            self._currents[place] = None
        resident = self.at_hand(number)
        if resident is not None:
            info = resident.execution.info
            for kind, key, row in list(resident.execution.rows()):
                self.agenda.enter(number, kind, key, row.index(info), NOTHING)
            resident.removed = True
            resident.ticket = ticket
            self._residents.drop(number)
            self._wake(resident)
        group.after(lambda: self._removal_ended(number))
        group.on_failure(lambda: self._revert_removal(place, number, resident))

    def _removal_ended(self, number: int) -> None:
        self._removals += 1
        flight = self._loading.get(number)
        if flight is None:
            self._removed.discard(number)
        else:  # it may have read the disk before
            flight.add_done_callback(lambda _: self._removed.discard(number))

    def _revert_removal(self, place: tuple[str, str], number: int, resident: Resident | None) -> None:
        self._removed.discard(number)
        if place in self._currents and self._currents[place] is None:
            del self._currents[place]
        if resident is not None:
            resident.lost = True
            self._read_again(number)

    @contextmanager
    def handing(self, destination: Destination, key: Hashable, waiting: Waiting | NexusTask) -> Generator[None]:
        """A task is on its way to a poller: should it not get there, it is the first in its queue again."""
        try:
            yield
        except asyncio.CancelledError:  # the poller went away
            self.tasks.offer(destination, key, waiting, first=True)
            raise
        except StatusError:  # there is no such execution, or it was lost and its tasks are offered again
            raise
        except Exception:  # it could not be read
            again = self.clock.now() + self.limits.FAULT_PAUSE
            self.clock.at(again, lambda: self.tasks.offer(destination, key, waiting, first=True))
            raise

    async def durable(self, resident: Resident) -> None:
        """Wait until all that has happened to an execution so far is on disk; what happens meanwhile may not be.

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

    async def read_history(self, resident: Resident, first_id: int, last_id: int, size: int, into: History) -> int:
        """Read the events from `first_id` to `last_id`, up to about `size` bytes, at least one, into a message.

        Returns:
            The id of the last one that was read; `first_id - 1` where there is nothing to read.
        """
        found = await self.batches(resident, first_id, last_id, size)
        if not found:
            return first_id - 1
        into.MergeFromString(b"".join(each.body for each in found))
        del into.events[: max(first_id - found[0].first_id, 0)]
        del into.events[last_id - first_id + 1 :]
        return min(found[-1].last_id, last_id)

    async def event(self, resident: Resident, event_id: int) -> HistoryEvent:
        """One event of history."""
        found = await self.batches(resident, event_id, event_id, 1)
        if not found or not found[0].first_id <= event_id <= found[0].last_id:
            raise InvariantError(f"event {event_id} of execution {resident.execution.id} is not on disk")
        first_id, _, body = found[0]
        # A task with thousands of commands makes an effect of each, and each of them wants its event of the same batch.
        if body != self._parsed[0]:
            self._parsed = (body, History.FromString(body))
        event = HistoryEvent()
        event.CopyFrom(self._parsed[1].events[event_id - first_id])
        return event

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
        if resident.conversation is not None and (self.stopping or resident.lost or resident.removed):
            resident.conversation.end()

    # --- memory

    def _lost(self, group: Group) -> None:
        """A group failed: what was built on it is forgotten, and read again from disk when it is wanted."""
        for number, touched in group.executions.items():
            resident = self._residents.drop(number)
            for kind, key, row in list(touched.execution.rows()):
                self.agenda.enter(number, kind, key, row.index(touched.execution.info), NOTHING)
            if resident is not None:
                resident.lost = True
                self._wake(resident)
            if not touched.new:
                self._read_again(number)

    def _read_again(self, number: int) -> None:
        self.agenda.spawn(self._enter_again(number), f"reading execution {number} again")

    async def _enter_again(self, number: int) -> None:
        try:
            resident = await self.get(number)
        except StatusError:
            return  # it was made by the group before the last one, which failed too: it never was
        except Exception as error:  # noqa: BLE001, logged, and tried again
            log.error("execution %d is read again in %d s: %s", number, self.limits.FAULT_PAUSE // SECOND, error)
            self.clock.at(self.clock.now() + self.limits.FAULT_PAUSE, lambda: self._read_again(number))
            return
        info = resident.execution.info
        for kind, key, row in list(resident.execution.rows()):
            self.agenda.enter(number, kind, key, NOTHING, row.index(info))


def _resolve(watcher: asyncio.Future[None]) -> None:
    if not watcher.done():
        watcher.set_result(None)
