"""Removal of what is kept no longer: closed runs past their retention, runs and namespaces that somebody deletes.

It goes in small batches, each in a commit group with whatever else is written, so that nobody waits long for it. A run
with a long history disappears first, by a row in `removals` that stands for the events still to be removed; they
follow, some in each batch. What is to be removed can be read off the disk (closed when, deleted namespaces, rows of
`removals`), so a start-up goes on where the last process stopped. SQLite uses the space again for what comes.

A run whose callbacks wait stays until each was tried, whoever wants it gone. One that nobody took, at a URL where
perhaps nobody ever is again, holds up nothing: it goes with its run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from temporalio.api.enums.v1 import NamespaceState

from nexuskit.backend.errors import Code, StatusError
from nexuskit.backend.history import ends
from nexuskit.backend.history.callback import Callback
from nexuskit.backend.history.state import ACTIVITY, NOTHING, OPERATION, namespace_of, space
from nexuskit.backend.times import SECOND

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from nexuskit.backend.clock import Alarm
    from nexuskit.backend.engine import Engine, Resident
    from nexuskit.backend.history.transaction import Transaction
    from nexuskit.backend.namespaces import Namespaces
    from nexuskit.backend.store.group import Group
    from nexuskit.backend.task_queues import TaskQueues

log = logging.getLogger("nexuskit.backend.removal")

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "": "Delete workflow execution",
        ACTIVITY: "Delete activity execution",
        OPERATION: "Delete nexus operation execution",
    }
)
"""Archetype → why one that is deleted while it runs was terminated, in the real server's words."""

ASK = "INSERT OR REPLACE INTO removals (execution, whole) VALUES (?, 1)"
REMOVE_EVENTS = "DELETE FROM events WHERE execution = ?"
REMOVE_FIRST_EVENTS = "DELETE FROM events WHERE execution = ? AND first_id <= ?"
REMOVED = "DELETE FROM removals WHERE execution = ?"

# The stamp of a callback is the number of its attempts.
_WAITS = (
    "SELECT 1 FROM pending WHERE execution = executions.id AND (due > 0 OR destination IS NOT NULL)"
    f" AND NOT (kind = '{Callback.kind}' AND stamp > 0)"
)
_RUN = "SELECT id, namespace, workflow_id FROM executions"
_ASKED = f"{_RUN} WHERE id IN (SELECT execution FROM removals WHERE whole = 1) AND NOT EXISTS ({_WAITS}) LIMIT ?"
_WAITING = "SELECT 1 FROM removals WHERE whole = 1 LIMIT 1"
_OF_NAMESPACE = f"{_RUN} WHERE namespace IN (?, ?, ?) AND id > ? ORDER BY id LIMIT ?"
# `close_time > 0` is the condition of the index.
_EXPIRED = (
    f"{_RUN} WHERE namespace = ? AND close_time > 0 AND close_time <= ? AND NOT EXISTS ({_WAITS})"
    " ORDER BY close_time LIMIT ?"
)
_NEXT = "SELECT min(close_time) FROM executions WHERE namespace = ? AND close_time > ?"
_LEFT = "SELECT execution FROM removals WHERE whole = 0 ORDER BY execution LIMIT ?"
_SIZES = "SELECT first_id, length(body) FROM events WHERE execution = ? ORDER BY first_id LIMIT ?"


class Run(NamedTuple):
    """A run that is to be removed."""

    number: int
    space: str
    workflow_id: str

    @property
    def namespace(self) -> str:
        """The id of the namespace that it is in."""
        return namespace_of(self.space)


def spaces(namespace_id: str) -> tuple[str, str, str]:
    """Where a namespace's executions are: its workflows, and its activities and Nexus operations that stand alone."""
    return space(namespace_id), space(namespace_id, ACTIVITY), space(namespace_id, OPERATION)


class Part(NamedTuple):
    """Events of a run that fit into a batch: up to `last`, or all that there are (`whole`)."""

    number: int
    last: int
    whole: bool
    rows: int
    size: int


def read_part(connection: sqlite3.Connection, number: int, rows: int, size: int) -> Part:
    """The first events of a run, so many rows of so many bytes at most, but at least one row."""
    found = connection.execute(_SIZES, (number, rows + 1)).fetchall()
    total = count = last = 0
    for first_id, length in found[:rows]:
        if count and total + length > size:
            break
        total, count, last = total + length, count + 1, first_id
    return Part(number, last, count == len(found), count, total)


class Due(NamedTuple):
    """What the disk says is to be removed.

    Attributes:
        runs: with whether somebody deletes them; else their time is over.
        left: removed runs of which events are left.
        ended: deleted namespaces of which no run comes after the last one that was looked at.
        waiting: whether a run that somebody deletes is kept by something that must happen first.
    """

    runs: list[tuple[Run, bool]]
    left: list[int]
    ended: list[str]
    waiting: bool


class Remover:
    """Removes what is due, by an alarm; `wake` says that something is."""

    def __init__(self, engine: Engine, namespaces: Namespaces, task_queues: TaskQueues) -> None:
        self._engine = engine
        self._namespaces = namespaces
        self._task_queues = task_queues
        self._alarm: tuple[int, Alarm] | None = None
        self._under_way = False
        self._again = False
        self._scanned: dict[str, int] = {}
        """Deleted namespace → the last run that was looked at; those before it are gone, or wait for something."""
        self._kept: set[str] = set()
        """Deleted namespaces of which a run was passed over."""

    def wake(self) -> None:
        """There may be something to remove."""
        self._at(self._engine.clock.now())

    def delete(self, resident: Resident) -> None:
        """Somebody wants a run gone: it is terminated if it runs, and removed as soon as nothing waits."""
        if resident.execution.info.running:
            self._engine.run(resident, _terminate)
        group, _ = self._engine.store.group()
        if waits(resident):
            group.add(ASK, (resident.execution.id,))
        else:
            info = resident.execution.info
            self._engine.remove(Run(resident.execution.id, info.space, info.workflow_id))
        group.after(self.wake)

    def close(self) -> None:
        """Nothing is removed by itself any more."""
        self._under_way = True
        if self._alarm is not None:
            self._alarm[1].cancel()

    def _at(self, moment: int) -> None:
        if self._alarm is not None:
            if self._alarm[0] <= moment:
                return
            self._alarm[1].cancel()
        self._alarm = (moment, self._engine.clock.at(moment, self._ring))

    def _ring(self) -> None:
        self._alarm = None
        if self._under_way:
            self._again = True
            return
        self._under_way = True
        self._engine.agenda.spawn(self._go_on(), "removal")

    async def _go_on(self) -> None:
        self._again = False
        try:
            pause = await self._round()
        except Exception as error:
            pause = self._engine.limits.FAULT_PAUSE
            known = isinstance(error, StatusError)
            self._scanned.clear()  # what was looked at may be there still
            log.error("removal goes on in %d s: %s", pause // SECOND, error, exc_info=not known)
        self._under_way = False
        self._at(self._engine.clock.now() + (0 if self._again else pause))

    # --- one batch

    async def _round(self) -> int:
        """Remove a few. Returns how long to pause then (ns)."""
        due = await self._due(self._engine.limits.REMOVAL_RUNS)
        batch = _Batch(self._engine.limits.REMOVAL_ROWS, self._engine.limits.REMOVAL_SIZE)
        runs: list[tuple[Run, bool, Resident | None]] = []
        for run, deleted in due.runs:
            if batch.full:
                break
            resident = await self._resident(run) if deleted else self._engine.at_hand(run.number)
            batch.add(await self._engine.store.reader.run(batch.reading(run.number)))
            runs.append((run, deleted, resident))
        for number in due.left:
            if batch.full:
                break
            batch.add(await self._engine.store.reader.run(batch.reading(number)))
        # From here on nothing is awaited: a run and its events go in one group, or neither does.
        group, ticket = self._engine.store.group()
        for run, deleted, resident in runs:
            if run.namespace in self._scanned:
                self._scanned[run.namespace] = run.number
            if self._may_go(run, resident, deleted=deleted):
                self._engine.remove(run)
            else:
                batch.drop(run.number)
                self._kept.add(run.namespace)
        batch.write(group)
        if group:
            await ticket.wait()
        looked_again = await self._end_namespaces(due.ended)
        if due.runs or due.left:
            return self._engine.limits.REMOVAL_PAUSE
        return self._engine.limits.REMOVAL_WAITS if due.waiting or looked_again else await self._until_next()

    async def _resident(self, run: Run) -> Resident | None:
        try:
            return await self._engine.get(run.number)
        except StatusError as error:
            if error.code != Code.NOT_FOUND:
                raise
            return None

    def _may_go(self, run: Run, resident: Resident | None, *, deleted: bool) -> bool:
        """What the disk said of a run is still so; one that somebody deletes is terminated first."""
        resident = resident or self._engine.at_hand(run.number)
        if resident is None:
            return not deleted
        if resident.removed or resident.lost:
            return False
        if deleted and resident.execution.info.running:
            self._engine.run(resident, _terminate)
        return not resident.execution.info.running and not waits(resident)

    async def _due(self, count: int) -> Due:
        now = self._engine.clock.now()
        cutoffs: list[tuple[str, int]] = []
        scans: list[tuple[str, int]] = []
        for namespace in self._namespaces.all():
            if namespace.state == NamespaceState.NAMESPACE_STATE_DELETED:
                scans.append((namespace.id, self._scanned.setdefault(namespace.id, 0)))
            else:
                cutoffs += [(space, now - namespace.retention) for space in spaces(namespace.id)]

        def read(connection: sqlite3.Connection) -> Due:
            runs = [(Run(*row), True) for row in connection.execute(_ASKED, (count,))]
            ended: list[str] = []
            for namespace, after in scans:
                found = [
                    (Run(*row), True) for row in connection.execute(_OF_NAMESPACE, (*spaces(namespace), after, count))
                ]
                runs += found
                if not found:
                    ended.append(namespace)
            for namespace, before in cutoffs:
                runs += [(Run(*row), False) for row in connection.execute(_EXPIRED, (namespace, before, count))]
            left = [number for (number,) in connection.execute(_LEFT, (count,))]
            waiting = connection.execute(_WAITING).fetchone() is not None
            return Due(runs[:count], left, ended, waiting)

        return await self._engine.store.reader.run(read)

    async def _end_namespaces(self, ended: list[str]) -> bool:
        """Deleted namespaces go with their last run. Returns whether one is to be looked through again."""
        again = False
        for id in ended:
            del self._scanned[id]
            if id in self._kept:
                self._kept.discard(id)
                again = True
            else:
                self._task_queues.forget(id)
                await self._namespaces.remove(id).wait()
        return again

    async def _until_next(self) -> int:
        """How long it is until the next run's time is over (ns), at most an hour."""
        now = self._engine.clock.now()
        kept = [(space, each.retention) for each in self._namespaces.all() for space in spaces(each.id)]

        def read(connection: sqlite3.Connection) -> list[int]:
            closed = [
                (connection.execute(_NEXT, (namespace, max(now - retention, 0))).fetchone()[0], retention)
                for namespace, retention in kept
            ]
            return [closed_at + retention for closed_at, retention in closed if closed_at is not None]

        moments = await self._engine.store.reader.run(read)
        # A run that closes from now on is kept for an hour at least, so nothing is missed.
        return max(
            min([self._engine.limits.RETENTION_MIN, *(moment - now for moment in moments)]),
            self._engine.limits.REMOVAL_WAITS,
        )


class _Batch:
    """Events that go with one commit group: so many rows and bytes may still be added."""

    def __init__(self, rows: int, size: int) -> None:
        self._rows = rows
        self._size = size
        self._parts: dict[int, Part] = {}

    @property
    def full(self) -> bool:
        return self._rows <= 0 or self._size <= 0

    def reading(self, number: int) -> Callable[[sqlite3.Connection], Part]:
        """What finds out how much of a run's events still fits."""
        rows, size = self._rows, self._size
        return lambda connection: read_part(connection, number, rows, size)

    def add(self, part: Part) -> None:
        self._rows -= part.rows + 1
        self._size -= part.size
        self._parts[part.number] = part

    def drop(self, number: int) -> None:
        """That run stays."""
        del self._parts[number]

    def write(self, group: Group) -> None:
        for part in self._parts.values():
            if part.whole:
                group.add(REMOVE_EVENTS, (part.number,))
                group.add(REMOVED, (part.number,))
            else:
                group.add(REMOVE_FIRST_EVENTS, (part.number, part.last))


def _terminate(tx: Transaction) -> None:
    ends.terminate(tx, REASONS[tx.state.info.archetype])


def waits(resident: Resident) -> bool:
    """Whether something must still happen to a run, such as the first attempt at a callback."""
    execution = resident.execution
    return any(
        row.index(execution.info) != NOTHING
        for _, _, row in execution.rows()
        if not (isinstance(row, Callback) and row.attempt)
    )
