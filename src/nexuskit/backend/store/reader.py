"""Reading what is on disk, on a few threads of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from nexuskit.backend.history.rules import ROWS
from nexuskit.backend.history.state import Destination, Execution, Index, Info, Key, namespace_of
from nexuskit.backend.store.group import Batch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from nexuskit.backend.store.database import Database

T = TypeVar("T")

READERS = 2
"""Reader threads: reads are short, and the machine has other things to do."""

_decode_info = msgspec.msgpack.Decoder(Info).decode
_decode_row = {kind: msgspec.msgpack.Decoder(row).decode for kind, row in ROWS.items()}


_INDEX = """
SELECT pending.execution, executions.namespace, kind, key, due, destination, queue, ready, stamp
FROM pending JOIN executions ON executions.id = pending.execution
WHERE due > 0 OR destination IS NOT NULL
"""


# The events of a run that was removed may be there still, under its number.
_LAST = """
SELECT max(
    (SELECT coalesce(max(id), 0) FROM executions), (SELECT coalesce(max(execution), 0) FROM removals)
)
"""


class Entry(NamedTuple):
    """A pending row's place in the index."""

    execution: int
    kind: str
    key: Key
    next: Index


class Everything(NamedTuple):
    """What start-up reads."""

    namespaces: list[tuple[str, bytes]]
    endpoints: list[tuple[str, bytes]]
    task_queues: list[tuple[str, str, str, bytes]]
    meta: dict[str, bytes]
    entries: list[Entry]
    last_execution: int


class Reader:
    """Reads on threads of its own; each of them has a connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(READERS, "nexuskit-reader", initializer=self._connect)
        # Of their own: a list may take long, and executions must be loaded meanwhile.
        self._lists = ThreadPoolExecutor(1, "nexuskit-lists", initializer=self._connect)

    def _connect(self) -> None:
        self._local.connection = connection = self._database.connect()
        self._connections.append(connection)

    async def run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on a reader thread, with its connection."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: read(self._local.connection))

    async def list(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run `read` on the thread for lists, one after another."""
        return await asyncio.get_running_loop().run_in_executor(self._lists, lambda: read(self._local.connection))

    def close(self) -> None:
        """End the threads, after what they are reading."""
        self._pool.shutdown(wait=True)
        self._lists.shutdown(wait=True)
        for connection in self._connections:
            connection.close()

    async def execution(self, number: int) -> Execution | None:
        """One run with all its pending rows; None if there is none of that number."""
        return await self.run(lambda connection: read_execution(connection, number))

    async def current_run(self, namespace: str, workflow_id: str) -> int | None:
        """The number of the newest run of a workflow id."""
        sql = "SELECT execution FROM current_runs WHERE namespace = ? AND workflow_id = ?"
        return await self._one(sql, (namespace, workflow_id))

    async def run_number(self, namespace: str, workflow_id: str, run_id: str) -> int | None:
        """The number of one run of a workflow id."""
        sql = "SELECT id FROM executions WHERE run_id = ? AND namespace = ? AND workflow_id = ?"
        return await self._one(sql, (run_id, namespace, workflow_id))

    async def workflow_ids(self, after: tuple[str, str], count: int) -> list[tuple[str, str]]:
        """The next `count` pairs of namespace and workflow id that ran, in order, after that one."""
        sql = (
            "SELECT namespace, workflow_id FROM current_runs WHERE (namespace, workflow_id) > (?, ?)"
            " ORDER BY namespace, workflow_id LIMIT ?"
        )
        return await self.run(lambda connection: connection.execute(sql, (*after, count)).fetchall())

    async def _one(self, sql: str, parameters: tuple[str, ...]) -> int | None:
        row = await self.run(lambda connection: connection.execute(sql, parameters).fetchone())
        return None if row is None else row[0]

    async def batches(self, number: int, first_id: int, last_id: int, size: int) -> list[Batch]:
        """Batches that hold the events from `first_id` to `last_id`, up to about `size` bytes (at least one)."""
        return await self.run(lambda connection: read_batches(connection, number, first_id, last_id, size))


def read_execution(connection: sqlite3.Connection, number: int) -> Execution | None:
    """One run with all its pending rows."""
    connection.execute("BEGIN")
    try:
        found = connection.execute("SELECT info FROM executions WHERE id = ?", (number,)).fetchone()
        if found is None:
            return None
        execution = Execution(number, _decode_info(found[0]))
        rows = connection.execute("SELECT kind, key, body FROM pending WHERE execution = ?", (number,))
        for kind, key, body in rows:
            execution.of(ROWS[kind]).put(key, _decode_row[kind](body))
        execution.settle()
        return execution
    finally:
        connection.execute("COMMIT")


def read_batches(connection: sqlite3.Connection, number: int, first_id: int, last_id: int, size: int) -> list[Batch]:
    """Batches that hold the events from `first_id` to `last_id`, up to about `size` bytes (at least one)."""
    rows = connection.execute(
        "SELECT first_id, last_id, body FROM events WHERE execution = ? AND first_id <= ? AND first_id >= coalesce("
        "(SELECT max(first_id) FROM events WHERE execution = ? AND first_id <= ?), 0) ORDER BY first_id",
        (number, last_id, number, first_id),
    )
    batches: list[Batch] = []
    total = 0
    for row in rows:
        batches.append(Batch(*row))
        total += len(row[2])
        if total >= size:
            break
    return batches


def read_everything(connection: sqlite3.Connection) -> Everything:
    """What start-up needs: who and what there is, and what must happen next."""
    intern = sys.intern  # a hundred thousand rows name a handful of namespaces and queues
    entries: list[Entry] = []
    for execution, space, kind, key, due, destination, queue, ready, stamp in connection.execute(_INDEX):
        place = None
        if destination:
            place = Destination(intern(destination), intern(namespace_of(space)), intern(queue))
        entries.append(Entry(execution, intern(kind), key, Index(due, place, ready, stamp)))
    return Everything(
        namespaces=list(connection.execute("SELECT name, body FROM namespaces")),
        endpoints=list(connection.execute("SELECT name, body FROM endpoints")),
        task_queues=list(connection.execute("SELECT namespace, kind, queue, body FROM task_queues")),
        meta=dict(connection.execute("SELECT key, value FROM meta")),
        entries=entries,
        last_execution=connection.execute(_LAST).fetchone()[0],
    )
