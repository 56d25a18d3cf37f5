"""The database file: opened by one process at a time, of a version that this code knows, on disk when it says so."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from nexuskit.backend.errors import StartError
from nexuskit.backend.store.schema import MIGRATIONS, VERSION
from nexuskit.backend.store.upgrades import add_functions

log = logging.getLogger("nexuskit.backend.store")

MEMORY = ":memory:"
"""In place of a file: keep nothing."""

CHECKPOINT_PAGES = 16_000
"""Pages (of 4 KiB) in the write-ahead log with which a commit itself moves them into the file; long before that
`checkpoints` does.
"""
LOG_BYTES = 4 * 1024 * 1024
"""How long the write-ahead log is made when the database is opened. A commit that writes over what is there is cheaper
than one that makes the file longer, since the file system has less to note down."""
LOG_ROOM = 32 * LOG_BYTES
"""What must be free on the disk for that: both the log and the file grow by more than once as much."""
PAGE_CACHE_KIB = 16_000
"""A connection's cache: holds the upper pages of all trees at a million runs."""


class Database(NamedTuple):
    """An open database.

    Attributes:
        path: the file.
        name: what a person called it.
        lock: held while this process owns the file.
        directory: the directory that goes with it, for one that keeps nothing.
        first: the connection that is open as long as the database is; for the writer.
    """

    path: Path
    name: str
    lock: FileLock
    directory: tempfile.TemporaryDirectory[str] | None
    first: sqlite3.Connection

    def connect(self) -> sqlite3.Connection:
        """One more connection, for one thread. Transactions are begun and ended by whoever uses it."""
        return _connect(self.path, durable=self.directory is None)

    def close(self) -> None:
        """Close the first connection, and give the file back."""
        self.first.close()
        _release(self.lock, self.directory)


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    # A file that keeps nothing need not survive anything, so it does not wait for the disk.
    synchronous = "FULL" if durable else "OFF"
    try:
        connection.executescript(
            f"PRAGMA synchronous={synchronous}; PRAGMA fullfsync=ON; PRAGMA checkpoint_fullfsync=ON;"
            f"PRAGMA cache_size=-{PAGE_CACHE_KIB}; PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES};"
            "PRAGMA busy_timeout=5000; PRAGMA temp_store=MEMORY;"
        )
    except BaseException:
        connection.close()
        raise
    return connection


def _release(lock: FileLock, directory: tempfile.TemporaryDirectory[str] | None) -> None:
    lock.release()
    if directory is not None:
        directory.cleanup()


def open_database(db: str | os.PathLike[str]) -> Database:
    """Open a database file, make it if there is none, and bring it to this version.

    Args:
        db: a path, or ":memory:" to keep nothing.

    Raises:
        StartError: another process holds it, it is of a newer version, or is no database of ours.
    """
    if os.fspath(db) == MEMORY:
        directory = tempfile.TemporaryDirectory(prefix="nexuskit-")
        path = Path(directory.name) / "memory.db"
    else:
        directory = None
        path = Path(db).expanduser().resolve()
    if not path.parent.is_dir():
        raise StartError(f"The database {path} cannot be made: there is no folder {path.parent}.")
    # Not of one thread: it is given back by another one than took it.
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600, thread_local=False)
    try:
        # First opened here: to filelock a file that cannot be made looks like one that somebody holds.
        os.close(os.open(lock.lock_file, os.O_RDWR | os.O_CREAT, 0o600))
        lock.acquire()
    except Timeout:
        raise StartError(
            f"The database {path} is held by another process; stop that one, or name another --db."
        ) from None
    except OSError as error:
        raise StartError(f"The database {path} cannot be opened: {error.strerror or error}.") from error
    try:
        connection = _prepare(path, durable=directory is None)
    except BaseException:
        _release(lock, directory)
        raise
    return Database(path, str(db), lock, directory, connection)


def _prepare(path: Path, *, durable: bool) -> sqlite3.Connection:
    try:
        # Made by us before SQLite does, so that nobody else may read it, whatever the umask.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = _connect(path, durable=durable)
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"The database {path} cannot be opened: {_reason(error)}.") from error
    try:
        _migrate(connection, path)
        _lengthen_log(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise StartError(f"The database {path} cannot be used: {_reason(error)}.") from error
    except StartError:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    # Not by the version: other programs count theirs in the same place.
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if tables and "current_runs" not in tables:
        raise StartError(f"The file {path} is an SQLite database of something else; name another --db.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StartError(
            f"The database {path} is of version {version}, and this nexuskit knows versions up to {VERSION}:"
            " update nexuskit."
        )
    connection.execute("PRAGMA journal_mode=WAL")
    add_functions(connection)
    for step in range(version, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[step]} PRAGMA user_version={step + 1}; COMMIT;")


def _lengthen_log(connection: sqlite3.Connection, path: Path) -> None:
    """Write something long into the log and take it back: from now on commits write over it, from its beginning.

    Where there is little room, that is not done: what is left of it is for what has to be kept.
    """
    if shutil.disk_usage(path.parent).free < LOG_ROOM:
        log.warning("there is little room for the database %s: its log is not made long beforehand", path)
        return
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    connection.execute("PRAGMA synchronous=OFF")
    try:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE IF NOT EXISTS lengthening (body BLOB)")  # there, if we died right here
        connection.execute("INSERT INTO lengthening VALUES (zeroblob(?))", (LOG_BYTES,))
        connection.execute("COMMIT")
        connection.execute("DROP TABLE lengthening")
    except sqlite3.OperationalError as error:  # a quota, or a limit of this process
        log.warning("there is little room for the database %s: its log could not be made long (%s)", path, error)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()


def _reason(error: Exception) -> Any:
    return getattr(error, "strerror", None) or error
