"""Moving the write-ahead log into the file, beside the writer, so that commits go on meanwhile.

SQLite would do it within a commit, and in a large file, where what changed lies far apart, whoever waits for that
commit waits for a tenth of a second. What is committed while the log is being moved stays in it, and the log cannot
begin anew; so the writer moves that rest, which is little, as soon as this is done. SQLite's own way stays, for a log
that grows beyond all that.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("nexuskit.backend.store")

CHANGES = 8_000
"""Rows that are written from one time to the next: some 300 workflows, or 8 MB of the log."""
MOVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpoints:
    """A thread that moves the log when there is enough of it.

    Args:
        connect: opens the thread's connection.
        finish: called on the thread when it is done: the writer is to move what has come meanwhile.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], finish: Callable[[], None]) -> None:
        self._connect = connect
        self._finish = finish
        self._moved = 0
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="nexuskit-checkpoints", daemon=True)
        self._thread.start()

    def wrote(self, changes: int) -> None:
        """The writer has changed so many rows since the database was opened; called on its thread."""
        if changes - self._moved >= CHANGES:
            self._moved = changes
            self._wanted.set()

    def close(self) -> None:
        """End the thread, after what it is doing."""
        self._closed = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                break
            try:
                connection = connection or self._connect()
                connection.execute(MOVE).fetchall()
            except sqlite3.Error as error:  # commits go on, and meet the same fault if it is one of the disk
                log.warning("the write-ahead log could not be moved into the database: %s", error)
            else:
                self._finish()
        if connection is not None:
            connection.close()
