"""The one thread that writes: it takes a group's statements, runs them in one transaction, and says how that went."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, NamedTuple

from nexuskit.backend.store.checkpoints import MOVE, Checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexuskit.backend.store.group import Statement


log = logging.getLogger("nexuskit.backend.store")


class Work(NamedTuple):
    """A group's statements, and who is told how far they are."""

    statements: list[Statement]
    syncing: Callable[[], None]
    done: Callable[[BaseException | None], None]


class _Finish:
    """The log was moved into the file, but for what has been committed meanwhile."""


class Writer:
    """A thread with one connection; groups are written one after another.

    Args:
        connection: for the thread.
        connect: opens another one, for the thread that moves the log.
    """

    def __init__(self, connection: sqlite3.Connection, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connection = connection
        self._work: queue.SimpleQueue[Work | _Finish | None] = queue.SimpleQueue()
        self._checkpoints = Checkpoints(connect, lambda: self._work.put(_Finish()))
        self._thread = threading.Thread(target=self._run, name="nexuskit-writer", daemon=True)
        self._thread.start()

    def write(
        self, statements: list[Statement], syncing: Callable[[], None], done: Callable[[BaseException | None], None]
    ) -> None:
        """Commit these.

        Args:
            statements: what to run, in one transaction.
            syncing: called on the writer's thread when only the commit, and so the wait for the disk, is left.
            done: called on the writer's thread: with None once they are on disk, else the error.
        """
        self._work.put(Work(statements, syncing, done))

    def close(self) -> None:
        """Write what is there, then end."""
        self._checkpoints.close()
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, _Finish):
                self._finish()
                continue
            error: BaseException | None = None
            try:
                self._commit(work)
            except Exception as caught:  # noqa: BLE001, handed to `done`, which fails the group with it
                error = caught
            work.done(error)
            self._checkpoints.wrote(self._connection.total_changes)

    def _finish(self) -> None:
        try:
            self._connection.execute(MOVE).fetchall()
        except sqlite3.Error as error:  # the next commit meets the same fault, if it is one of the disk, and tells
            log.warning("the rest of the write-ahead log could not be moved into the database: %s", error)

    def _commit(self, work: Work) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for sql, parameters in work.statements:
                if len(parameters) == 1:
                    execute(sql, parameters[0])
                else:
                    self._connection.executemany(sql, parameters)
            work.syncing()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
